"""What route does to one partition's batch of received records: decide each, and say what is to be sent. Callable without Kafka.

The order of decisions is the order of offsets. Nothing here raises for a record's sake, but for one whose schema is not known
yet, before anything is decided. What was decided before this assignment is not decided again: a duplicate stays one, and what
was routed is routed again as a possible repeat, because only its record on the seen topic is known to be stored.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import msgspec

from plugins.api import Delivery, NotADelivery, PluginError, TicketingToolPlugin, TicketMetadata
from schemas.codec import Codec, Undecodable
from schemas.events import FailureReason, LinkSet, ProcessingFailed, SeenOutcome, Stage, WebhookReceived
from schemas.hotpath import ReceivedRecord, decode_received, encode_decisions, encode_long, encode_routed
from schemas.hotpath_seen import SeenPart, encode_batch_seen, encode_seen_record
from streams.clock import Clock
from streams.producer import Outgoing
from streams.routing.decision import Decisions, Dropped
from streams.routing.dedup import Mark, effective_key, keys_of, outcome_of
from streams.routing.echo import HOP_LIMIT, echo_of, hop_of
from streams.routing.rules import RuleError, RuleSet
from streams.seen import Flight, SeenCache
from streams.topics import DEAD_LETTER, MAX_RECORD_BYTES, RECEIVED, ROUTED, SEEN

MAX_VALUE_BYTES = MAX_RECORD_BYTES - (8 << 10)
"""What a record's key and value may have together, so that it fits the topics with its framing."""
_ROOM_FOR_THE_REST = 64 << 10


class Record(Protocol):
    """What route reads of a fetched record; `timestamp` in milliseconds."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def timestamp(self) -> int: ...


class TenantVersion(Protocol):
    """A tenant's configuration in force at some time."""

    @property
    def rules(self) -> RuleSet: ...


class Tenants(Protocol):
    """The tenant registry, as far as route needs it."""

    def at(self, tenant: str, received_at: int) -> TenantVersion | None: ...


class Plugins(Protocol):
    """The plugin manager, as far as route needs it."""

    def peek(self, tenant: str, tool: str, at: int) -> TicketingToolPlugin | None: ...


class Links(Protocol):
    """The links, as far as route needs them."""

    def by_target(self, tenant: str, tool: str, ticket_id: str) -> LinkSet | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteContext:
    """What every event's routing needs; one a process. `nanoseconds` measures how long the extraction takes."""

    codec: Codec
    seen: SeenCache
    tenants: Tenants
    plugins: Plugins
    links: Links
    clock: Clock
    nanoseconds: Callable[[], int] = time.perf_counter_ns
    decision_parts: dict[int, tuple[Decisions, bytes]] = field(default_factory=dict)
    """Decisions already encoded, by identity: a rule gives the same object again."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Why an event cannot be routed; `detail` is for the operator and holds nothing of the body."""

    reason: FailureReason
    detail: str


Answer = bytes | SetAside | SeenOutcome
"""A TicketRouted, encoded; or why not; or that it is an echo, or dropped."""


@dataclass(frozen=True, slots=True)
class RoutedBatch:
    """What is to be sent for a batch, by outcome how many, and what is to be remembered; `flight` None: all was decided before."""

    outgoing: list[Outgoing]
    flight: Flight | None
    counts: Counter[str]


def route_batch(partition: int, records: Sequence[Record], ctx: RouteContext) -> RoutedBatch:
    """Decides a batch, which must not be empty: its TicketRouted and ProcessingFailed records, then, last, its BatchSeen.

    What the batch leaves to remember is in the cache when this returns; the caller owes it `SeenCache.acked` for the flight, with
    the BatchSeen's offset. Raises UnknownFingerprint, with nothing decided.
    """
    decoded = [_decode(record.value, ctx.codec) for record in records]
    seen = ctx.seen
    first_seen, decided_upto = seen.window.first_seen, seen.decided_upto(partition)
    recorded = seen.recorded(partition, records[0].offset, records[-1].offset + 1)
    identities = [None if isinstance(received, Undecodable) else _identity(received) for received in decoded]
    known = seen.known(partition, [key for identity in identities if identity is not None for key in keys_of(*identity)])
    batch = _BatchInTheMaking(partition, ctx)

    for record, received, identity in zip(records, decoded, identities, strict=True):
        offset = record.offset
        before = recorded.get(offset) if recorded else None
        if before is not None and before.event_id != (identity[0] if identity is not None else None):
            before = None  # the topic was made anew, and another event stands at that offset now
        if isinstance(received, Undecodable) or identity is None or record.value is None:
            why = str(received) if isinstance(received, Undecodable) else "its dedup key is not 16 bytes"
            batch.add(record, None, SetAside(FailureReason.UNDECODABLE, why))
            if before is None:
                batch.remember(offset, b"", b"", "body", encode_long(record.timestamp * 1000), SeenOutcome.DEAD_LETTER, None)
        elif before is not None:
            batch.add(record, received.event, _again(before, received, record, ctx))
        else:
            received_at = received.event.received_at
            original = first_seen(known, batch.marks, offset, *identity, received_at)
            if original is None:
                answer = route_one(received, record, ctx, possible_repeat=offset < decided_upto)
            else:
                answer = outcome_of(original, received.event_id)
            outcome = batch.add(record, received.event, answer)
            batch.remember(offset, *identity, received.received_at_part, outcome, original)
            if received_at > batch.newest:
                batch.newest = received_at
    return batch.finish()


def route_one(
    received: ReceivedRecord,
    record: Record,
    ctx: RouteContext,
    *,
    possible_repeat: bool = False,
    look_for_echo: bool = True,
) -> Answer:
    """Where one event goes that is no duplicate. `record` is it as fetched; its value is carried along. Raises nothing."""
    data = record.value or b""
    event = received.event
    tenant, tool, received_at = event.tenant, event.tool, event.received_at
    version = ctx.tenants.at(tenant, received_at)
    try:
        plugin = ctx.plugins.peek(tenant, tool, received_at) if version is not None else None
    except PluginError as exc:
        return SetAside(FailureReason.PLUGIN_FAULT, str(exc))
    except Exception as exc:  # noqa: BLE001 - whatever a plugin's code does wrong is this event's dead letter, not the stream's end
        return SetAside(FailureReason.PLUGIN_FAULT, f"the plugin for {event.tool_type} cannot be made: {type(exc).__name__}")
    if version is None or plugin is None:
        return SetAside(FailureReason.UNKNOWN_TOOL, f"tenant {tenant} had no tool {tool} when this was received")

    started = ctx.nanoseconds()
    try:
        metadata = plugin.extract_metadata(
            Delivery(
                tenant=tenant,
                tool=tool,
                body=event.body,
                headers=event.headers,
                content_type=event.content_type,
                query=event.query,
                received_at=received_at,
            )
        )
        extraction_us = (ctx.nanoseconds() - started) // 1000
        if look_for_echo:
            link = ctx.links.by_target(tenant, tool, metadata.ticket_id)
            if echo_of(metadata, _own_actor(plugin, metadata), link) is not None:
                return SeenOutcome.ECHO
        hop = hop_of(metadata)
    except NotADelivery as exc:
        reason = FailureReason.UNREADABLE if _is_json(event.body) else FailureReason.NOT_JSON
        return SetAside(reason, str(exc))
    except Exception as exc:  # noqa: BLE001 - as above
        return SetAside(FailureReason.PLUGIN_FAULT, f"{event.tool_type} could not read this delivery: {type(exc).__name__}")
    if hop >= HOP_LIMIT:
        return SetAside(FailureReason.HOP_LIMIT, f"{hop} of our own notes led to this one; is the tool's `actor` setting right?")

    try:
        decision = version.rules.decide(metadata, tool, record.key or b"", received_at)
    except RuleError as exc:
        return SetAside(FailureReason.UNROUTABLE, str(exc))
    except Exception as exc:  # noqa: BLE001 - a rule in code is the tenant's
        return SetAside(FailureReason.PLUGIN_FAULT, f"a rule of tenant {tenant} failed: {type(exc).__name__}")
    if decision is None:
        return SetAside(FailureReason.UNROUTABLE, f"no route of tenant {tenant} matches, and it has no default")
    if isinstance(decision, Dropped):
        return SeenOutcome.DROPPED
    try:
        return encode_routed(
            received,
            data,
            record.offset,
            (metadata.type, metadata.priority, metadata.change),
            _decision_part(decision, ctx),
            hop,
            extraction_us,
            possible_repeat,
        )
    except KeyError:
        return SetAside(FailureReason.PLUGIN_FAULT, f"{event.tool_type} gave a type, priority or change that is no word of ours")


def _again(before: SeenPart, received: ReceivedRecord, record: Record, ctx: RouteContext) -> Answer:
    """What an event that was decided before comes to now. A dead letter is made again, for it may not be stored; should the event
    turn out to be routable meanwhile, it goes on."""
    outcome = before.outcome
    if outcome in (SeenOutcome.ROUTED, SeenOutcome.DEAD_LETTER, SeenOutcome.UNKNOWN):
        return route_one(received, record, ctx, possible_repeat=True, look_for_echo=False)
    return outcome


class _BatchInTheMaking:
    """Collects what a batch's decisions send and leave to remember."""

    def __init__(self, partition: int, ctx: RouteContext) -> None:
        self.partition = partition
        self.ctx = ctx
        self.marks: dict[bytes, Mark] = {}
        self.newest = 0
        self._outgoing: list[Outgoing] = []
        self._outcomes: list[str] = []
        self._parts: list[bytes] = []
        self._first = self._after = 0

    def add(self, record: Record, event: WebhookReceived | None, answer: Answer) -> SeenOutcome:
        """Takes an answer's record in, or the dead letter that it is too large; answers the outcome."""
        if type(answer) is bytes and len(answer) + len(record.key or b"") > MAX_VALUE_BYTES:
            answer = SetAside(FailureReason.TOO_LARGE, f"{len(answer)} bytes with its decision; a record may have {MAX_VALUE_BYTES}")
        if type(answer) is bytes:
            outcome = SeenOutcome.ROUTED
            self._outgoing.append(Outgoing(ROUTED.name, self.partition, record.key, answer))
        elif type(answer) is SetAside:
            outcome = SeenOutcome.DEAD_LETTER
            self._outgoing.append(_dead_letter(answer, event, record, self.partition, self.ctx))
        else:
            outcome = cast("SeenOutcome", answer)
        self._outcomes.append(outcome)
        return outcome

    def remember(
        self, offset: int, event_id: bytes, dedup_key: bytes, scope: str, received_at_part: bytes, outcome: str, original: bytes | None
    ) -> None:
        """Adds what the BatchSeen says of a record decided now."""
        if not self._parts:
            self._first = offset
        self._after = offset + 1
        self._parts.append(encode_seen_record(offset, event_id, dedup_key, scope, received_at_part, outcome, original))

    def finish(self) -> RoutedBatch:
        flight = None
        if self._parts:
            value = encode_batch_seen(self._first, self._after, self._parts)
            flight = Flight(value, self._first, self._after, self.newest, self.marks)
            self.ctx.seen.begin(self.partition, flight)
            self._outgoing.append(Outgoing(SEEN.name, self.partition, None, value))
        return RoutedBatch(self._outgoing, flight, Counter(self._outcomes))


def _decode(value: bytes | None, codec: Codec) -> ReceivedRecord | Undecodable:
    try:
        return decode_received(value, codec)
    except Undecodable as exc:
        return exc


def _identity(received: ReceivedRecord) -> tuple[bytes, bytes, str] | None:
    """(event_id, dedup key, scope) as dedup judges it; None where the dedup key is not 16 bytes: no writer of ours makes such."""
    event = received.event
    if len(event.dedup_key) != 16:
        return None
    if event.injection_id is None:
        return received.event_id, event.dedup_key, event.dedup_scope
    return received.event_id, *effective_key(event.dedup_key, event.dedup_scope, received.event_id, event.injection_id)


def _own_actor(plugin: TicketingToolPlugin, metadata: TicketMetadata) -> bool | None:
    """Whether our API account did it; None where that cannot be told."""
    if plugin.is_own_actor(metadata):
        return True
    return None if metadata.actor is None or plugin.context.settings.get("actor") is None else False


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _decision_part(decisions: Decisions, ctx: RouteContext) -> bytes:
    known = ctx.decision_parts.get(id(decisions))
    if known is None:
        if len(ctx.decision_parts) >= 10_000:
            ctx.decision_parts.clear()
        known = ctx.decision_parts[id(decisions)] = (decisions, encode_decisions(decisions))  # kept alive, or its id could be another's
    return known[1]


def _dead_letter(why: SetAside, event: WebhookReceived | None, record: Record, partition: int, ctx: RouteContext) -> Outgoing:
    value = record.value or b""
    key = record.key if record.key is None or len(record.key) <= 4096 else None
    letter = ProcessingFailed(
        event_id=event.event_id if event is not None else None,
        injection_id=event.injection_id if event is not None else None,
        tenant=event.tenant if event is not None else None,
        tool=event.tool if event is not None else None,
        ticket_id=event.ticket_id if event is not None else None,
        stage=Stage.ROUTE,
        reason=why.reason,
        detail=why.detail[:1000],
        failed_at=ctx.clock.now(),
        received_at=event.received_at if event is not None else None,
        origin_topic=RECEIVED.name,
        origin_partition=partition,
        origin_offset=record.offset,
        origin_key=key,
        original_size=len(value),
        original=record.value if len(value) <= MAX_VALUE_BYTES - _ROOM_FOR_THE_REST else None,
    )
    return Outgoing(DEAD_LETTER.name, partition, key, ctx.codec.encode(letter))
