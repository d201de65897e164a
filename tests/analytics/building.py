"""Events for the analytics tests, built from few words, and whole logs built from a seed."""

from __future__ import annotations

import random
import uuid
from typing import Any

from analytics.materializer import DAY_US
from schemas.events import (
    BatchSeen,
    Call,
    Event,
    IngestionCounts,
    ProcessingFailed,
    SeenRecord,
    TicketProcessed,
)

NOON = 1_793_534_400_000_000
"""2026-11-01T12:00Z"""
PROCESSED, DEAD_LETTER, COUNTS, SEEN = "tickets.processed.v1", "tickets.dead-letter.v1", "ingestion.counts.v1", "tickets.seen.v1"


def an_id(n: int) -> str:
    return str(uuid.UUID(int=n))


def a_call(**fields: Any) -> Call:
    base: dict[str, Any] = {
        "step": "mirror",
        "method": "create_ticket",
        "tool": "jira",
        "plugin": "jira",
        "plugin_version": "1.0.0",
        "outcome": "ok",
        "latency_us": 120_000,
        "api_calls": 1,
        "cost_micros": 100,
        "started_at": NOON,
    }
    return Call(**base | fields)


def a_processed(n: int = 1, **fields: Any) -> TicketProcessed:
    base: dict[str, Any] = {
        "event_id": an_id(n),
        "tenant": "acme",
        "tool": "desk",
        "tool_type": "zendesk",
        "ticket_id": str(n),
        "outcome": "processed",
        "target": "jira",
        "target_ticket_id": f"OPS-{n}",
        "rule": "all",
        "rule_set_version": 1,
        "ticket_type": "incident",
        "priority": "urgent",
        "received_at": NOON,
        "processed_at": NOON + 900,
        "received_offset": n,
        "routed_offset": n,
        "calls": [a_call()],
    }
    return TicketProcessed(**base | fields)


def a_dead_letter(n: int = 1, **fields: Any) -> ProcessingFailed:
    base: dict[str, Any] = {
        "event_id": an_id(n),
        "tenant": "acme",
        "tool": "desk",
        "ticket_id": str(n),
        "stage": "process",
        "reason": "tool_refused",
        "detail": "jira refused the values",
        "failed_at": NOON + 5,
        "received_at": NOON,
        "origin_topic": "tickets.routed.v1",
        "origin_partition": 0,
        "origin_offset": n,
        "original_size": 2048,
    }
    return ProcessingFailed(**base | fields)


def a_window(**fields: Any) -> IngestionCounts:
    base: dict[str, Any] = {
        "tenant": "acme",
        "tool": "desk",
        "instance": "0",
        "window_start": NOON,
        "window_us": 10_000_000,
        "accepted": 7,
        "spooled": 2,
        "refused": {"signature_mismatch": 3},
    }
    return IngestionCounts(**base | fields)


def a_seen(first: int, outcomes: list[str]) -> BatchSeen:
    records = [
        SeenRecord(offset=first + i, event_id=bytes(16), dedup_key=bytes(16), scope="delivery", received_at=NOON + i, outcome=outcome)
        for i, outcome in enumerate(outcomes)
    ]
    return BatchSeen(first_offset=first, next_offset=first + len(outcomes), records=records)


def a_log(seed: int, length: int, first: int = 0) -> dict[tuple[str, int], list[tuple[int, Event]]]:
    """A partition's records on each source topic: several days, tools and methods, some sent twice, some offsets missing.

    Event ids count from `first`, so that the logs of several partitions can be of different events.
    """
    rng = random.Random(seed)
    sources: dict[str, list[Event]] = {PROCESSED: [], DEAD_LETTER: [], COUNTS: [], SEEN: []}
    for n in range(first, first + length):
        at = NOON + rng.randrange(3 * DAY_US)
        calls = [
            a_call(
                method=rng.choice(["create_ticket", "update_ticket", "add_note"]),
                tool=(tool := rng.choice(["jira", "snow"])),
                plugin=tool,
                outcome=(outcome := rng.choice(["ok", "ok", "ok", "error"])),
                error_class="ServerError" if outcome == "error" else None,
                latency_us=rng.randrange(50, 3_000_000),
                api_calls=rng.randrange(1, 4),
                cost_micros=rng.randrange(500),
                started_at=at + rng.randrange(1_000_000),
            )
            for _ in range(rng.randrange(1, 4))
        ]
        injection = f"replay-{seed}" if rng.random() < 0.02 else None
        processed = a_processed(n, received_at=at, processed_at=at + 1_000_000, calls=calls, injection_id=injection)
        sources[PROCESSED].append(processed)
        if rng.random() < 0.05:
            sources[DEAD_LETTER].append(a_dead_letter(n, received_at=at))
        if rng.random() < 0.05:
            sources[COUNTS].append(a_window(window_start=at - at % 10_000_000))
    seen = 0
    while seen < length:
        size = rng.randrange(1, 40)
        sources[SEEN].append(a_seen(seen, rng.choices(["routed", "duplicate", "echo"], k=size)))
        seen += size
    log: dict[tuple[str, int], list[tuple[int, Event]]] = {}
    for topic, events in sources.items():
        offset, records = 0, log.setdefault((topic, 0), [])
        for event in events:
            records.append((offset, event))
            offset += 1 + (rng.random() < 0.01)
            if rng.random() < 0.02:
                records.append((offset, records[rng.randrange(len(records))][1]))
                offset += 1
    return log
