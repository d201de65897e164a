"""The audit: reads the topics up to a cut and counts every accepted event once, by what became of it last.

It reads without a group, so no stage notices; it may run beside live traffic. Events of a requeue or a replay (injection_id) are
left out. One partition is looked at after the other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from schemas.codec import Codec, CodecError
from schemas.events import ProcessingFailed, RetryScheduled, TicketRouted
from schemas.hotpath import ROUTED_HEADER, decode_received
from schemas.hotpath_processed import decode_processed
from schemas.hotpath_seen import decode_batch_seen
from streams import topics
from streams.broker.admin import committed, offsets
from streams.ledger import Entry, PartitionLedger, State
from streams.topic_scan import each_record, ends_of, learn_schemas, scanning

ROUTE_GROUP, PROCESS_GROUP = "ai-agents-route", "ai-agents-process"
MAX_PROBLEMS = 1000
_RETRIES = tuple(topic.name for topic in topics.RETRIES)


class ToolAudit(msgspec.Struct, kw_only=True):
    """The account of one tenant's tool. `unaccounted` and `ids` are what does not add up; the row without a tenant holds
    received records that are no events, and ids that were never received."""

    tenant: str | None
    tool: str | None
    accepted: int = 0
    duplicates: int = 0
    echoes: int = 0
    dropped: int = 0
    processed: int = 0
    in_flight: int = 0
    retrying: int = 0
    dead_lettered: int = 0
    undecodable: int = 0
    unaccounted: int = 0
    balanced: bool = True
    ids: list[str] = []


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One event that does not add up, and why. Offset on tickets.received.v1, -1 when it is not there."""

    event_id: str
    tenant: str | None
    tool: str | None
    partition: int
    offset: int
    why: str


class AuditReport(msgspec.Struct, kw_only=True):
    """The whole account. `problems` holds the first 1000 of what does not add up; `unaccounted` counts all of it.

    `repeats`: copies the doors' producers sent again; `injected`: records of requeues and replays, left out; `not_in_tables`:
    records the analytics store refused.
    """

    tools: list[ToolAudit]
    problems: list[Problem]
    unaccounted: int
    repeats: int
    injected: int
    not_in_tables: int
    balanced: bool


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a listing. `original` is the event that a duplicate repeats."""

    event_id: str
    tenant: str | None
    tool: str | None
    state: str
    partition: int
    offset: int
    original: str | None = None


_COLUMN = {
    State.DUPLICATE: "duplicates",
    State.ECHO: "echoes",
    State.DROPPED: "dropped",
    State.PROCESSED: "processed",
    State.IN_FLIGHT: "in_flight",
    State.RETRYING: "retrying",
    State.DEAD_LETTERED: "dead_lettered",
    State.UNACCOUNTED: "unaccounted",
}


async def run_audit(brokers: str, security: Mapping[str, Any] | None = None) -> AuditReport:
    """Counts every event that was on tickets.received.v1 at the call. Raises BrokerError when no broker answers."""
    rows: dict[tuple[str | None, str | None], ToolAudit] = {}
    problems: list[Problem] = []
    repeats = injected = not_in_tables = 0

    def row(who: tuple[str, str] | None) -> ToolAudit:
        tenant, tool = who or (None, None)
        return rows.setdefault((tenant, tool), ToolAudit(tenant=tenant, tool=tool, ids=[]))

    def count(partition: int, entry: Entry, column: str) -> None:
        found = row(entry.who)
        setattr(found, column, getattr(found, column) + 1)
        if entry.state is State.UNACCOUNTED:
            found.balanced = False
            if len(problems) < MAX_PROBLEMS:
                name = uuid_text(entry.event_id)
                found.ids.append(name)
                problems.append(
                    Problem(event_id=name, tenant=found.tenant, tool=found.tool, partition=partition, offset=entry.offset, why=entry.why)
                )

    async for partition, ledger in _ledgers(brokers, security or {}):
        for entry in ledger.entries():
            row(entry.who).accepted += entry.who is not None
            count(partition, entry, _COLUMN[entry.state])
        for entry in ledger.undecodable_entries():
            row(None).undecodable += entry.state is not State.UNACCOUNTED
            if entry.state is State.UNACCOUNTED:
                count(partition, entry, "unaccounted")
        repeats += ledger.repeats
        injected += ledger.injected
        not_in_tables += ledger.not_in_tables

    tools = sorted(rows.values(), key=lambda r: (r.tenant is None, r.tenant or "", r.tool or ""))
    return AuditReport(
        tools=tools,
        problems=problems,
        unaccounted=sum(r.unaccounted for r in tools),
        repeats=repeats,
        injected=injected,
        not_in_tables=not_in_tables,
        balanced=all(r.balanced for r in tools),
    )


async def list_events(
    brokers: str,
    states: Sequence[State],
    *,
    tenant: str | None = None,
    tool: str | None = None,
    limit: int = 100,
    security: Mapping[str, Any] | None = None,
) -> list[Listed]:
    """The events now in one of these states, by partition and received offset, at most `limit`. Raises BrokerError."""
    found: list[Listed] = []
    async for partition, ledger in _ledgers(brokers, security or {}):
        for entry in ledger.entries():
            name, of_tool = entry.who or (None, None)
            if entry.state not in states or (tenant is not None and name != tenant) or (tool is not None and of_tool != tool):
                continue
            if len(found) == limit:
                return found
            found.append(
                Listed(
                    event_id=uuid_text(entry.event_id),
                    tenant=name,
                    tool=of_tool,
                    state=entry.state,
                    partition=partition,
                    offset=entry.offset,
                    original=uuid_text(entry.original) if entry.original else None,
                )
            )
    return found


def uuid_text(event_id: bytes) -> str:
    """The usual spelling of an id's bytes."""
    text = event_id.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:])) if len(text) == 32 else text


# --- reading ---------------------------------------------------------------------------------------------------------------


async def _ledgers(brokers: str, security: Mapping[str, Any]) -> AsyncIterator[tuple[int, PartitionLedger]]:
    """Each partition's ledger, filled; the one before is let go."""
    routed_upto = await committed(brokers, ROUTE_GROUP, security)
    processed_upto = await committed(brokers, PROCESS_GROUP, security)
    async with scanning(brokers, security) as consumer:
        received = topics.RECEIVED.name
        starts, known = await offsets(brokers, [received, *(t.name for t in topics.CO_PARTITIONED), topics.SCHEMAS.name], security)
        ends = await ends_of(consumer, [p for p in known if p[0] == received])
        cuts: dict[tuple[str, int], int] = {}
        for step in ((topics.PROCESSED.name,), (topics.DEAD_LETTER.name, *_RETRIES), (topics.ROUTED.name,), (topics.SEEN.name,)):
            cuts |= await ends_of(consumer, [p for p in known if p[0] in step])
        later_ends = await ends_of(consumer, list(ends))

        codec = Codec()
        await learn_schemas(consumer, codec, {p: end for p, end in known.items() if p[0] == topics.SCHEMAS.name}, starts)
        for source, end in sorted(ends.items()):
            partition = source[1]
            ledger = PartitionLedger(
                starts[source], end, routed_upto.get(source, 0), processed_upto.get((topics.ROUTED.name, partition), 0)
            )
            await each_record(consumer, source, starts[source], later_ends[source], _received(ledger, codec))
            tellers = {topics.SEEN.name: _seen, topics.ROUTED.name: _routed, topics.PROCESSED.name: _processed}
            tellers |= {topics.DEAD_LETTER.name: _dead_letter} | dict.fromkeys(_RETRIES, _retry)
            for name, tell in tellers.items():
                at = (name, partition)
                if at in cuts:
                    await each_record(consumer, at, starts[at], cuts[at], tell(ledger, codec))
            yield partition, ledger


T = TypeVar("T", bound=msgspec.Struct)
Teller = Callable[[Any], None]
_ROUTED_BEGINS = ROUTED_HEADER + b"\x48"
"""A TicketRouted of this build's writer with an id of 36 characters."""


def _received(ledger: PartitionLedger, codec: Codec) -> Teller:
    def tell(record: Any) -> None:
        try:
            received = decode_received(record.value, codec)
        except CodecError:
            ledger.undecodable(record.offset)
        else:
            event = received.event
            ledger.received(record.offset, received.event_id, (event.tenant, event.tool), event.injection_id is not None)

    return tell


def _seen(ledger: PartitionLedger, codec: Codec) -> Teller:
    def tell(record: Any) -> None:
        try:
            _, _, parts = decode_batch_seen(record.value or b"", codec)
        except CodecError:
            return
        for part in parts:
            ledger.seen(part.offset, part.outcome, part.original)

    return tell


def _routed(ledger: PartitionLedger, codec: Codec) -> Teller:
    def tell(record: Any) -> None:
        value = record.value
        if value is not None and value.startswith(_ROUTED_BEGINS):
            # Only the first two fields are needed, and the rest holds a whole delivery: id and injection_id, read where they stand.
            begin = len(_ROUTED_BEGINS)
            ledger.routed(record.offset, id_of(value[begin : begin + 36].decode(errors="replace")), value[begin + 36 : begin + 37] != b"\0")
        elif (event := _decoded(codec, value, TicketRouted)) is not None:
            ledger.routed(record.offset, id_of(event.event_id), event.injection_id is not None)

    return tell


def _processed(ledger: PartitionLedger, codec: Codec) -> Teller:
    def tell(record: Any) -> None:
        try:
            event = decode_processed(record.value, codec)
        except CodecError:
            return
        ledger.processed(id_of(event.event_id), event.outcome, event.injection_id is not None)

    return tell


def _dead_letter(ledger: PartitionLedger, codec: Codec) -> Teller:
    def tell(record: Any) -> None:
        if (event := _decoded(codec, record.value, ProcessingFailed)) is not None:
            origin = (
                event.origin_offset if (event.origin_topic, event.origin_partition) == (topics.RECEIVED.name, record.partition) else None
            )
            event_id = None if event.event_id is None else id_of(event.event_id)
            ledger.dead_letter(event.stage, event_id, origin, event.injection_id is not None)

    return tell


def _retry(ledger: PartitionLedger, codec: Codec) -> Teller:
    def tell(record: Any) -> None:
        if (event := _decoded(codec, record.value, RetryScheduled)) is not None:
            ledger.retry(id_of(event.event_id), event.injection_id is not None)

    return tell


def _decoded(codec: Codec, value: bytes | None, kind: type[T]) -> T | None:
    """The event, or None for bytes that are none: their own stage sets them aside, and what they stood for shows as missing."""
    try:
        return codec.decode_as(kind, value)
    except CodecError:
        return None


def id_of(event_id: str) -> bytes:
    """The 16 bytes of an event id; other text as it is, so that it shows among the ids that were never received."""
    try:
        return bytes.fromhex(event_id.replace("-", ""))
    except ValueError:
        return event_id.encode()
