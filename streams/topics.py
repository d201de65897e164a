"""Every topic: its name, its record, its partitions, how long it is kept and how large its records may be."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.events import (
    BatchSeen,
    IngestionCounts,
    LinkSet,
    ProcessingFailed,
    RetryScheduled,
    SchemaPublished,
    TenantConfigured,
    TicketProcessed,
    TicketRouted,
    WebhookReceived,
)

DAY_MS = 86_400_000
MAX_BODY_BYTES = 1 << 20
MAX_RECORD_BYTES = 4 << 20
DEFAULT_PARTITIONS = 12


@dataclass(frozen=True, slots=True)
class TopicDefinition:
    """One topic. `partitions` 0 means the co-partitioned count fixed at creation; `record` None: reserved."""

    name: str
    record: type | None
    doc: str
    partitions: int = 0
    compacted: bool = False
    retention_ms: int = 14 * DAY_MS
    max_record_bytes: int = MAX_RECORD_BYTES


RECEIVED = TopicDefinition("tickets.received.v1", WebhookReceived, "Verified deliveries, exact bytes, keyed by ticket.")
ROUTED = TopicDefinition("tickets.routed.v1", TicketRouted, "Where each ticket goes, with the received record inside.")
PROCESSED = TopicDefinition("tickets.processed.v1", TicketProcessed, "What was done, with every plugin call.")
DEAD_LETTER = TopicDefinition("tickets.dead-letter.v1", ProcessingFailed, "Events set aside, with their reason and original bytes.")
SEEN = TopicDefinition("tickets.seen.v1", BatchSeen, "What route decided for each record: source of dedup and audit.")
COUNTS = TopicDefinition(
    "ingestion.counts.v1", IngestionCounts, "What the doors accepted, spooled and refused, by 10 s window.", partitions=1
)
TENANTS = TopicDefinition("tenants.v1", TenantConfigured, "Tenant configurations, every version.", partitions=1, compacted=True)
PLUGINS = TopicDefinition("plugins.v1", None, "Plugin lifecycle; reserved.", partitions=1, compacted=True)
LINKS = TopicDefinition("links.v1", LinkSet, "Source ticket to target ticket.", compacted=True)
SCHEMAS = TopicDefinition("schemas.v1", SchemaPublished, "Schemas by fingerprint.", partitions=1, compacted=True)
RETRY_DELAYS = {"30s": 30, "5m": 300, "1h": 3600, "6h": 21600}
RETRIES = tuple(
    TopicDefinition(f"tickets.retry.{name}.v1", RetryScheduled, f"Events waiting {name} for their next attempt.") for name in RETRY_DELAYS
)

ALL: tuple[TopicDefinition, ...] = (RECEIVED, ROUTED, PROCESSED, DEAD_LETTER, SEEN, COUNTS, TENANTS, PLUGINS, LINKS, SCHEMAS, *RETRIES)
BY_NAME = {t.name: t for t in ALL}
CO_PARTITIONED = tuple(t for t in ALL if t.partitions == 0)
