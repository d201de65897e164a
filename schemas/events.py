"""The events: facts, named in the past tense, one class for each record in schemas/avro.

Field meanings and units stand in the .avsc files, once; a test holds the two together. All times are microseconds since the
epoch, UTC. Instances are immutable and cheap to make (msgspec); those made by the thousand are kept from the garbage collector's
rounds (gc=False), since none can be part of a cycle.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class DedupScope(StrEnum):
    """What makes two deliveries the same: the tool's delivery id, or only their bodies."""

    DELIVERY = "delivery"
    BODY = "body"


class CallOutcome(StrEnum):
    """How one plugin call ended."""

    UNKNOWN = "unknown"
    OK = "ok"
    ERROR = "error"


class ProcessOutcome(StrEnum):
    """How an event's work ended."""

    UNKNOWN = "unknown"
    PROCESSED = "processed"
    FAILED = "failed"


class Stage(StrEnum):
    """Where events are worked on."""

    UNKNOWN = "unknown"
    INGESTION = "ingestion"
    ROUTE = "route"
    PROCESS = "process"
    MATERIALIZE = "materialize"


class FailureReason(StrEnum):
    """Why an event was set aside: a closed list, each reason with its remedy in docs/dead-letters.md."""

    UNKNOWN = "unknown"
    UNDECODABLE = "undecodable"
    NOT_JSON = "not_json"
    UNREADABLE = "unreadable"
    UNKNOWN_TOOL = "unknown_tool"
    UNROUTABLE = "unroutable"
    HOP_LIMIT = "hop_limit"
    TOO_LARGE = "too_large"
    TOOL_REFUSED = "tool_refused"
    RETRIES_EXHAUSTED = "retries_exhausted"
    CREDENTIALS = "credentials"
    PLUGIN_FAULT = "plugin_fault"
    STORE_REFUSED = "store_refused"


class SeenOutcome(StrEnum):
    """What route decided for one received record."""

    UNKNOWN = "unknown"
    ROUTED = "routed"
    DUPLICATE = "duplicate"
    REPEAT = "repeat"
    ECHO = "echo"
    DROPPED = "dropped"
    DEAD_LETTER = "dead_letter"


class WebhookReceived(msgspec.Struct, frozen=True, kw_only=True):
    """A verified delivery, exactly as the tool sent it."""

    event_id: str
    dedup_key: bytes
    dedup_scope: str
    delivery_id: str | None = None
    tenant: str
    tool: str
    tool_type: str
    ticket_id: str | None = None
    content_type: str = ""
    headers: dict[str, str] = {}
    query: str = ""
    received_at: int
    verified_by: str
    validation_us: int = 0
    injection_id: str | None = None
    body: bytes


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules said, and by which rule of which version."""

    target: str
    failover: list[str] = []
    actions: list[str] = []
    rule: str | None = None
    rule_set_version: int = 0


class TicketRouted(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's rules chose where a received ticket goes; `received` holds the WebhookReceived, encoded."""

    event_id: str
    injection_id: str | None = None
    tenant: str
    tool: str
    tool_type: str
    ticket_id: str | None = None
    ticket_type: str = "unknown"
    priority: str = "unknown"
    change: str = "unknown"
    decision: Decision
    also: list[Decision] = []
    hop: int = 0
    extraction_us: int = 0
    possible_repeat: bool = False
    received_at: int
    received_offset: int
    received: bytes


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call of one plugin method."""

    step: str
    method: str
    tool: str
    plugin: str
    plugin_version: str
    variant: str = "stable"
    outcome: str
    error_class: str | None = None
    latency_us: int
    attempt: int = 1
    api_calls: int = 0
    cost_micros: int = 0
    started_at: int


class TicketProcessed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event's work is finished: every step done, or given up after its dead letter was stored."""

    event_id: str
    injection_id: str | None = None
    tenant: str
    tool: str
    tool_type: str
    ticket_id: str | None = None
    outcome: str
    target: str | None = None
    target_ticket_id: str | None = None
    rule: str | None = None
    rule_set_version: int = 0
    ticket_type: str = "unknown"
    priority: str = "unknown"
    received_at: int
    processed_at: int
    received_offset: int
    routed_offset: int
    calls: list[Call] = []


class ProcessingFailed(msgspec.Struct, frozen=True, kw_only=True):
    """An event set aside, with its reason and its original bytes: a dead letter."""

    event_id: str | None = None
    injection_id: str | None = None
    tenant: str | None = None
    tool: str | None = None
    ticket_id: str | None = None
    stage: str
    reason: str
    detail: str
    attempts: int = 1
    failed_at: int
    received_at: int | None = None
    origin_topic: str
    origin_partition: int
    origin_offset: int
    origin_key: bytes | None = None
    original_size: int
    original: bytes | None = None


class RetryScheduled(msgspec.Struct, frozen=True, kw_only=True):
    """An event waits on a delay topic for its next attempt."""

    event_id: str
    injection_id: str | None = None
    tenant: str
    steps_done: list[str] = []
    attempt: int
    due_at: int
    in_doubt: bool
    routed: bytes


class SeenRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What route decided for one record; ids are the UUID's 16 bytes."""

    offset: int
    event_id: bytes
    dedup_key: bytes
    scope: str
    received_at: int
    outcome: str
    original: bytes | None = None


class BatchSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What route decided for each record of one batch: the source for dedup and audit."""

    first_offset: int
    next_offset: int
    records: list[SeenRecord] = []


class LinkSet(msgspec.Struct, frozen=True, kw_only=True):
    """A source ticket and its mirror in a target tool, and what we wrote there last."""

    tenant: str
    source_key: str
    target_tool: str
    target_ticket_id: str
    external_id: str
    event_id: str
    applied_partition: int
    applied_offset: int
    fields: dict[str, str] = {}
    target_updated_at: int | None = None
    set_at: int


class IngestionCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One door's counts for a window: the only record of refusals."""

    tenant: str
    tool: str
    instance: str
    window_start: int
    window_us: int
    accepted: int
    spooled: int
    refused: dict[str, int] = {}


class TenantConfigured(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a tenant's configuration takes effect."""

    tenant: str
    version: int
    effective_at: int
    applied_at: int
    removed: bool = False
    config: str


class SchemaPublished(msgspec.Struct, frozen=True, kw_only=True):
    """A writer made a schema known, so that any reader can decode its records."""

    fingerprint: bytes
    name: str
    schema: str


Event = (
    WebhookReceived
    | TicketRouted
    | TicketProcessed
    | ProcessingFailed
    | RetryScheduled
    | BatchSeen
    | LinkSet
    | IngestionCounts
    | TenantConfigured
    | SchemaPublished
)
EVENT_TYPES: tuple[type[msgspec.Struct], ...] = (
    WebhookReceived,
    TicketRouted,
    TicketProcessed,
    ProcessingFailed,
    RetryScheduled,
    BatchSeen,
    LinkSet,
    IngestionCounts,
    TenantConfigured,
    SchemaPublished,
)
