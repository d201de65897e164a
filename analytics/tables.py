"""The analytics tables as data: what a row is, its key, and how two rows of one key become one. Pure.

Facts are written once under an id made from the event, so that a record read or sent twice adds nothing. Rollups hold measures
that merge (sums, maxima, counts of buckets; never an average) and are folded from the facts that were new. All times are
microseconds since the epoch, UTC; `day` is YYYY-MM-DD and `minute` YYYY-MM-DDTHH:MMZ, as text, so that the same SQL reads them
in every database.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a column holds, in words every database has a type for."""

    INTEGER = "integer"
    TEXT = "text"
    BYTES = "bytes"


class Merge(StrEnum):
    """How a measure of two rows with the same key becomes one."""

    SUM = "sum"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `merge` is set on a rollup's measures only."""

    name: str
    kind: Kind = Kind.INTEGER
    merge: Merge | None = None
    nullable: bool = False
    doc: str = ""


@dataclass(frozen=True, slots=True, eq=False)  # compared as itself: a hash over every column cost a small batch a quarter of its time
class Table:
    """One table. Rows are tuples in the order of `columns`; the first `key` columns are the primary key."""

    name: str
    doc: str
    key: int
    columns: tuple[Column, ...]
    indexes: tuple[tuple[str, ...], ...] = ()

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The primary key's columns, in order."""
        return self.columns[: self.key]

    @property
    def measures(self) -> tuple[Column, ...]:
        """The columns that merge."""
        return tuple(c for c in self.columns if c.merge is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(c.name for c in self.columns)


def _text(*names: str, nullable: bool = False) -> tuple[Column, ...]:
    return tuple(Column(name, Kind.TEXT, nullable=nullable) for name in names)


def _sums(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, merge=Merge.SUM) for name in names)


_ORIGIN = (
    Column("part", doc="Partition of the record that brought this row first."),
    Column("off", doc="Offset of that record."),
)

SERIES = Table(
    "series",
    "What calls are counted by. The id is a hash of the row, so a rebuild gives the same ids.",
    1,
    (
        Column("series_id"),
        *_text("tenant", "tool", "plugin", "method", "plugin_version", "variant", "outcome", "error_class"),
    ),
)
CALL_FACT = Table(
    "call_fact",
    "One plugin call. Kept until the retention horizon, by the event's received_at.",
    2,
    (
        Column("received_at", doc="When the event was received."),
        Column("fact_id", doc="Hash of event_id, injection_id, step, attempt and the call's place among the event's calls."),
        Column("series_id"),
        Column("started_at", doc="When the call began: the time that rollups and prices go by."),
        Column("latency_us"),
        Column("attempt"),
        Column("api_calls"),
        Column("cost_micros"),
        Column("replayed", doc="1 for a requeue or a replay: such calls stay out of the rollups."),
        *_ORIGIN,
    ),
)
ROUTING_SERIES = Table(
    "routing_series",
    "What finished events are counted by. `rule` is empty for the tenant's default, `failed_over_from` where nothing failed over.",
    1,
    (
        Column("routing_id"),
        *_text("tenant", "tool", "target", "rule", "ticket_type", "priority", "outcome", "failed_over_from"),
        Column("rule_set_version"),
    ),
)
EVENT_FACT = Table(
    "event_fact",
    "One finished event. Its calls are the call_fact rows with the same received_at, part and off.",
    3,
    (
        Column("received_at"),
        Column("event_id", Kind.BYTES, doc="The 16 bytes of the event's UUID."),
        Column("injection_id", Kind.TEXT, doc="Empty for an event's first life."),
        Column("routing_id"),
        Column("ticket_id", Kind.TEXT, nullable=True),
        Column("target_ticket_id", Kind.TEXT, nullable=True),
        Column("processed_at"),
        *_ORIGIN,
    ),
)
DEAD_LETTER = Table(
    "dead_letter",
    "One event set aside. `at` is its received_at, or failed_at where that is unknown.",
    1,
    (
        Column("letter_id", Kind.BYTES, doc="Hash of event, injection, stage and origin topic; of the origin when there is no event id."),
        Column("at"),
        Column("failed_at"),
        Column("event_id", Kind.BYTES, nullable=True),
        Column("injection_id", Kind.TEXT),
        *_text("tenant", "tool", "ticket_id", nullable=True),
        *_text("stage", "reason", "detail", "origin_topic"),
        Column("attempts"),
        Column("origin_partition"),
        Column("origin_offset"),
        Column("original_size"),
        *_ORIGIN,
    ),
    indexes=(("at",),),
)
INGESTION_WINDOW = Table(
    "ingestion_window",
    "What one door accepted for one tool in one window.",
    4,
    (Column("window_start"), *_text("tenant", "tool", "instance"), Column("window_us"), Column("accepted"), Column("spooled")),
)
REFUSED_WINDOW = Table(
    "refused_window",
    "What one door refused for one tool in one window, by reason.",
    5,
    (Column("window_start"), *_text("tenant", "tool", "instance", "reason"), Column("refused")),
)

USAGE_DAILY = Table(
    "usage_daily",
    "Calls of each series by day of started_at.",
    2,
    (
        Column("day", Kind.TEXT),
        Column("series_id"),
        *_sums("calls", "api_calls", "cost_micros", "latency_us_sum"),
        Column("latency_us_max", merge=Merge.MAX),
    ),
)
LATENCY_DAILY = Table(
    "latency_daily",
    "Latencies of each series by day of started_at, as bucket counts (analytics/buckets.py).",
    3,
    (Column("day", Kind.TEXT), Column("series_id"), Column("bucket"), *_sums("n")),
)
THROUGHPUT_MINUTE = Table(
    "throughput_minute",
    "Calls of a tenant's tool by minute of started_at, and events that came from it by minute of processed_at.",
    3,
    (*_text("minute", "tenant", "tool"), *_sums("calls", "errors", "events")),
)
ROUTING_DAILY = Table(
    "routing_daily",
    "Finished events of each routing series by day of received_at.",
    2,
    (Column("day", Kind.TEXT), Column("routing_id"), *_sums("events")),
)
SEEN_MINUTE = Table(
    "seen_minute",
    "What route decided, by minute of received_at. It knows no tenant: the audit does.",
    2,
    (*_text("minute", "outcome"), *_sums("events")),
)

STREAM_POSITION = Table(
    "stream_position",
    "How far each partition is in these tables, and what of it did not become rows.",
    2,
    (
        Column("topic", Kind.TEXT),
        Column("part"),
        Column("next_offset"),
        Column("last_received_at", doc="Latest received_at (a window's end for counts) that was read; 0 before the first."),
        Column("records", doc="Records read, each once."),
        Column("duplicates", doc="Records that were sent twice: all they say was known."),
        Column("late", doc="Records from before the retention horizon, refused because they could not be told from repeats."),
        Column("refused", doc="Records set aside as dead letters."),
    ),
)
SEEN_SPAN = Table(
    "seen_span",
    "Which received offsets route's decisions are counted for, by partition of the topic that tells them: one span, but for gaps.",
    3,
    (Column("topic", Kind.TEXT), Column("part"), Column("first_offset"), Column("next_offset")),
)
RETENTION = Table(
    "retention",
    "From when on facts are kept: everything older was deleted, and is refused.",
    1,
    (Column("id"), Column("horizon")),
)

FACTS = (CALL_FACT, EVENT_FACT, DEAD_LETTER, INGESTION_WINDOW, REFUSED_WINDOW)
ROLLUPS = (USAGE_DAILY, LATENCY_DAILY, THROUGHPUT_MINUTE, ROUTING_DAILY, SEEN_MINUTE)
ALL = (SERIES, ROUTING_SERIES, *FACTS, *ROLLUPS, STREAM_POSITION, SEEN_SPAN, RETENTION)
