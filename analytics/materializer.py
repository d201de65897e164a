"""Events to rows, and rows to rollups. Pure: no clock, no database.

A store writes a batch in two steps, because only it knows which facts are new: `prepare` makes every row a batch may add; the
store inserts the facts and says which were new; `fold` turns those into the rollups' rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from analytics import tables
from analytics.buckets import bucket_of
from analytics.tables import Table
from schemas.events import BatchSeen, CallOutcome, Event, IngestionCounts, ProcessingFailed, ProcessOutcome, TicketProcessed

Row = tuple[Any, ...]
Span = tuple[int, int]
"""Offsets from the first to below the second."""

DAY_US = 86_400_000_000
MINUTE_US = 60_000_000
MINUTES_A_DAY = 1440
MAX_TIME = 4_102_444_800_000_000
"""2100-01-01: a later time is a broken clock, and would be kept for ever."""
MAX_LATENCY_US = 1 << 36
MAX_COST_MICROS = 1 << 40
MAX_COUNT = (1 << 31) - 1
MAX_NAME_CHARS = 256
MAX_ID_CHARS = 1024
MAX_DETAIL_CHARS = 2000
MAX_SPANS = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EFFECT_STEPS = ("mirror", "note")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record the tables cannot take, and why, in a sentence without its values."""

    offset: int
    detail: str


class Unstorable(ValueError):
    """A value no store may be asked to keep; the text names the field."""


@dataclass(slots=True)
class Rows:
    """What records add to the tables if all of it is new. Rows are tuples in the order of their table's columns."""

    series: dict[int, Row] = field(default_factory=dict)
    routing: dict[int, Row] = field(default_factory=dict)
    calls: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    letters: list[Row] = field(default_factory=list)
    windows: list[Row] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)
    seen: list[tuple[Span, list[tuple[int, int, str]]]] = field(default_factory=list)
    """Of each BatchSeen: the received offsets it covers, and (offset, received_at, outcome) of its records."""
    last_at: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """One partition's batch as rows. `records` are (offset, event) in offset order; None stands for one already set aside."""

    topic: str
    partition: int
    next_offset: int
    records: Sequence[tuple[int, Event | None]]
    rows: Rows
    refused: tuple[Refusal, ...]

    def without(self, offsets: Collection[int]) -> Prepared:
        """The same batch with these records set aside: still counted and passed, but adding no rows."""
        kept = [(offset, None if offset in offsets else event) for offset, event in self.records]
        return prepare(self.topic, self.partition, kept, self.next_offset)

    def since(self, offset: int) -> Prepared:
        """The part of the batch from this offset on."""
        if not self.records or self.records[0][0] >= offset:
            return self
        return prepare(self.topic, self.partition, [r for r in self.records if r[0] >= offset], self.next_offset)


def prepare(topic: str, partition: int, records: Sequence[tuple[int, Event | None]], next_offset: int) -> Prepared:
    """The rows of one partition's batch. A record that cannot be stored becomes a Refusal and adds nothing."""
    rows = Rows()
    refused: list[Refusal] = []
    for offset, event in records:
        try:
            if isinstance(event, TicketProcessed):
                _processed(rows, partition, offset, event)
            elif isinstance(event, BatchSeen):
                _seen(rows, event)
            elif isinstance(event, IngestionCounts):
                _counts(rows, event)
            elif isinstance(event, ProcessingFailed):
                _failed(rows, partition, offset, event)
            elif event is not None:
                raise Unstorable(f"no table is made of {type(event).__name__}")
        except Unstorable as exc:
            refused.append(Refusal(offset, str(exc)))
    return Prepared(topic, partition, next_offset, records, rows, tuple(refused))


# --- rows of one event -----------------------------------------------------------------------------------------------------


def _processed(rows: Rows, part: int, offset: int, event: TicketProcessed) -> None:
    received_at = event.received_at
    injection = event.injection_id or ""
    replayed = 1 if injection else 0
    _times(received_at, event.processed_at)
    _texts(event.ticket_id, event.target_ticket_id, injection)
    event_id = id_bytes(event.event_id)
    event_hash = int.from_bytes(blake2b(event_id + injection.encode(), digest_size=8).digest(), "big") >> 1
    calls, series = [], []
    for index, call in enumerate(event.calls):
        if not (
            0 <= call.latency_us <= MAX_LATENCY_US
            and 0 <= call.started_at < MAX_TIME
            and 0 <= call.cost_micros <= MAX_COST_MICROS
            and 0 <= call.api_calls <= MAX_COUNT
            and 0 <= call.attempt <= MAX_COUNT
        ):
            raise Unstorable(f"a number of call {index} ({call.method}) is out of range"[:MAX_NAME_CHARS])
        dimensions = _series(
            event.tenant, call.tool, call.plugin, call.method, call.plugin_version, call.variant, call.outcome, call.error_class or ""
        )
        series.append(dimensions)
        calls.append(
            (
                received_at,
                event_hash ^ _place_hash(call.step, call.attempt, index),
                dimensions[0],
                call.started_at,
                call.latency_us,
                call.attempt,
                call.api_calls,
                call.cost_micros,
                replayed,
                part,
                offset,
            )
        )
    routing = _routing(
        event.tenant,
        event.tool,
        event.target or "",
        event.rule or "",
        event.ticket_type,
        event.priority,
        event.outcome,
        _failed_over_from(event),
        event.rule_set_version,
    )
    for row in series:
        rows.series[row[0]] = row
    rows.routing[routing[0]] = routing
    rows.calls += calls
    rows.events.append(
        (received_at, event_id, injection, routing[0], event.ticket_id, event.target_ticket_id, event.processed_at, part, offset)
    )
    rows.last_at = max(rows.last_at, received_at)


def _failed_over_from(event: TicketProcessed) -> str:
    """The tool whose effect was tried first, where another one took the event in the end."""
    if event.target is None or event.outcome != ProcessOutcome.PROCESSED:
        return ""
    first = next((call for call in event.calls if call.step in _EFFECT_STEPS), None)
    return first.tool if first is not None and first.outcome != CallOutcome.OK and first.tool != event.target else ""


def _failed(rows: Rows, part: int, offset: int, event: ProcessingFailed) -> None:
    at = event.failed_at if event.received_at is None else event.received_at
    injection = event.injection_id or ""
    _times(at, event.failed_at)
    _names(event.tenant, event.tool, event.stage, event.reason, event.origin_topic)
    _texts(event.ticket_id, injection)
    if not (
        0 <= event.attempts <= MAX_COUNT
        and 0 <= event.origin_partition <= MAX_COUNT
        and 0 <= event.origin_offset < 1 << 62
        and 0 <= event.original_size < 1 << 62
    ):
        raise Unstorable("a number of the dead letter is out of range")
    event_id = None if event.event_id is None else id_bytes(event.event_id)
    named = b"%d\0%d" % (event.origin_partition, event.origin_offset) if event_id is None else event_id + injection.encode()
    letter_id = blake2b(b"\0".join((event.stage.encode(), event.origin_topic.encode(), named)), digest_size=16).digest()
    rows.letters.append(
        (
            letter_id,
            at,
            event.failed_at,
            event_id,
            injection,
            event.tenant,
            event.tool,
            event.ticket_id,
            event.stage,
            event.reason,
            event.detail.replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_DETAIL_CHARS],
            event.origin_topic,
            event.attempts,
            event.origin_partition,
            event.origin_offset,
            event.original_size,
            part,
            offset,
        )
    )
    rows.last_at = max(rows.last_at, at)


def _counts(rows: Rows, event: IngestionCounts) -> None:
    _times(event.window_start, event.window_start + event.window_us)
    _names(event.tenant, event.tool, event.instance, *event.refused)
    if not all(0 <= n <= MAX_COUNT for n in (event.accepted, event.spooled, *event.refused.values())):
        raise Unstorable("a count is out of range")
    window = (event.window_start, event.tenant, event.tool, event.instance)
    rows.windows.append((*window, event.window_us, event.accepted, event.spooled))
    rows.refused += [(*window, reason, count) for reason, count in event.refused.items()]
    rows.last_at = max(rows.last_at, event.window_start + event.window_us)


def _seen(rows: Rows, event: BatchSeen) -> None:
    if not 0 <= event.first_offset <= event.next_offset < 1 << 62:
        raise Unstorable("the offsets of the batch are out of range")
    decisions = []
    for record in event.records:
        # An undecodable record has no received_at of its own; whatever stands there must not stop the others.
        at = record.received_at if 0 <= record.received_at < MAX_TIME else 0
        decisions.append((record.offset, at, record.outcome))
        rows.last_at = max(rows.last_at, at)
    rows.seen.append(((event.first_offset, event.next_offset), decisions))


# --- values and ids --------------------------------------------------------------------------------------------------------


def id_bytes(event_id: str) -> bytes:
    """The 16 bytes of an event id; raises Unstorable when it is not a UUID."""
    try:
        value = bytes.fromhex(event_id.replace("-", ""))
    except ValueError:
        value = b""
    if len(value) != 16:
        raise Unstorable("event_id is not a UUID")
    return value


def _times(*times: int) -> None:
    if not all(0 <= at < MAX_TIME for at in times):
        raise Unstorable("a time is before 1970 or after 2100")


def _texts(*values: str | None) -> None:
    for value in values:
        if value is not None and (len(value) > MAX_ID_CHARS or "\0" in value):
            raise Unstorable(f"an id is longer than {MAX_ID_CHARS} characters or holds a NUL")


def _names(*values: str | None) -> None:
    for value in values:
        if value is not None and (len(value) > MAX_NAME_CHARS or "\0" in value):
            raise Unstorable(f"a name is longer than {MAX_NAME_CHARS} characters or holds a NUL")


@lru_cache(maxsize=65_536)
def _series(*values: str) -> Row:
    """The series row of these dimensions: its id first."""
    _names(*values)
    return (_row_id(values), *values)


@lru_cache(maxsize=65_536)
def _routing(*values: str | int) -> Row:
    """The routing series row of these dimensions: its id first, the rule set's version last."""
    _names(*(v for v in values if isinstance(v, str)))
    if not 0 <= int(values[-1]) < 1 << 62:
        raise Unstorable("rule_set_version is out of range")
    return (_row_id(values), *values)


@lru_cache(maxsize=65_536)
def _place_hash(step: str, attempt: int, index: int) -> int:
    """Tells an event's calls apart; few different ones, so each is made once. Both halves of a fact's id are random 63-bit numbers."""
    return _row_id((step, attempt, index))


def _row_id(values: tuple[str | int, ...]) -> int:
    return int.from_bytes(blake2b("\0".join(map(str, values)).encode(), digest_size=8).digest(), "big") >> 1


@lru_cache(maxsize=4096)
def day_text(day: int) -> str:
    """YYYY-MM-DD of a day counted from 1970."""
    return f"{_EPOCH + timedelta(days=day):%Y-%m-%d}"


@lru_cache(maxsize=65_536)
def minute_text(minute: int) -> str:
    """YYYY-MM-DDTHH:MMZ of a minute counted from 1970."""
    return f"{_EPOCH + timedelta(minutes=minute):%Y-%m-%dT%H:%MZ}"


# --- folding ---------------------------------------------------------------------------------------------------------------


def fold(rows: Rows, calls: Iterable[Row], events: Iterable[Row]) -> dict[Table, list[Row]]:
    """The rollup rows of new facts: one row a key, to be merged into what the table has. Replayed facts add nothing.

    `rows` gives the facts' series; folding two halves and merging them is the same as folding the whole.
    """
    by_minute: dict[tuple[int, int], list[int]] = {}
    latency: dict[tuple[int, int, int], int] = {}
    for _, _, series, started_at, latency_us, _, api_calls, cost, replayed, _, _ in calls:
        if replayed:
            continue
        minute = started_at // MINUTE_US
        if (sums := by_minute.get((minute, series))) is None:
            by_minute[minute, series] = [1, api_calls, cost, latency_us, latency_us]
        else:
            sums[0] += 1
            sums[1] += api_calls
            sums[2] += cost
            sums[3] += latency_us
            if latency_us > sums[4]:
                sums[4] = latency_us
        bucket = (minute // MINUTES_A_DAY, series, bucket_of(latency_us))
        latency[bucket] = latency.get(bucket, 0) + 1

    usage: list[Row] = []
    minutes: dict[tuple[int, str, str], list[int]] = {}
    for (minute, series), sums in by_minute.items():
        usage.append((day_text(minute // MINUTES_A_DAY), series, *sums))
        _, tenant, tool, _, _, _, _, outcome, _ = rows.series[series]
        counts = minutes.setdefault((minute, tenant, tool), [0, 0, 0])
        counts[0] += sums[0]
        counts[1] += 0 if outcome == CallOutcome.OK else sums[0]

    routed: dict[tuple[int, int], int] = {}
    for received_at, _, injection, routing, _, _, processed_at, _, _ in events:
        if injection:
            continue
        day = (received_at // DAY_US, routing)
        routed[day] = routed.get(day, 0) + 1
        source = rows.routing[routing]
        minutes.setdefault((processed_at // MINUTE_US, source[1], source[2]), [0, 0, 0])[2] += 1

    return {
        tables.USAGE_DAILY: merge(tables.USAGE_DAILY, usage),
        tables.LATENCY_DAILY: sorted((day_text(day), series, bucket, n) for (day, series, bucket), n in latency.items()),
        tables.THROUGHPUT_MINUTE: [(minute_text(minute), *tool, *sums) for (minute, *tool), sums in minutes.items()],
        tables.ROUTING_DAILY: [(day_text(day), routing, n) for (day, routing), n in routed.items()],
    }


def fold_seen(seen: Iterable[tuple[Span, Sequence[tuple[int, int, str]]]], counted: Sequence[Span]) -> tuple[list[Row], list[Span]]:
    """The rows for seen_minute of decisions not counted yet, and the spans that are counted then.

    After a crash route decides again, in other batches, and now and then one batch is stored before an earlier one: what counts
    once is the received offset.
    """
    counts: Counter[tuple[int, str]] = Counter()
    spans = list(counted)
    for span, decisions in seen:
        known = [s for s in spans if s[0] < span[1] and span[0] < s[1]]
        for offset, received_at, outcome in decisions:
            if not any(first <= offset < after for first, after in known):
                counts[received_at // MINUTE_US, outcome] += 1
        spans = _joined([*spans, span])
    return [(minute_text(minute), outcome, n) for (minute, outcome), n in counts.items()], spans


def _joined(spans: list[Span]) -> list[Span]:
    """The same offsets in as few spans as can be, in order; beyond MAX_SPANS, the lowest gaps are taken for counted."""
    joined: list[Span] = []
    for first, after in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(after, joined[-1][1]))
        else:
            joined.append((first, after))
    surplus = len(joined) - MAX_SPANS
    return joined if surplus <= 0 else [(joined[0][0], joined[surplus][1]), *joined[surplus + 1 :]]


def merge(table: Table, rows: Iterable[Row]) -> list[Row]:
    """Rows with equal keys merged by their measures' rules, in key order: what a store's upserts must amount to."""
    merged: dict[Row, list[Any]] = {}
    for row in rows:
        key, values = row[: table.key], row[table.key :]
        if (known := merged.get(key)) is None:
            merged[key] = list(values)
            continue
        for i, column in enumerate(table.columns[table.key :]):
            known[i] = max(known[i], values[i]) if column.merge is tables.Merge.MAX else known[i] + values[i]
    return [(*key, *values) for key, values in sorted(merged.items())]
