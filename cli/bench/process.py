"""`ai-agents bench process`: routed events on a topic, one call each to a sandbox in another process, and their records.

Every event creates a ticket of its own in one of four Jira tools, so 64 calls are in flight. The stage runs as it always does, in a
process of its own; the baseline is a bare aiokafka loop that calls the same functions on the same records. Both get their
partitions while these are empty, as a worker in service does, wait at their gate until the topic is filled, and are measured from
there. CPU is that of the measured process; the sandbox stands for a tool that is somebody else's.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from cli.bench.child import Measured, gated, records_on
from cli.bench.load import a_delivery
from cli.bench.measure import Baseline, BenchResult, cpu_us_between, percentile_ms, usage
from cli.output import CommandError, say
from plugins.sandbox.process import SandboxProcess
from schemas.codec import Codec
from schemas.events import Decision, TenantConfigured, TicketProcessed, TicketRouted, WebhookReceived
from schemas.hotpath import encode_received
from schemas.ids import new_event_id, ticket_key
from streams.topics import PROCESSED, ROUTED, TENANTS

TARGET_US = 350.0
PARTITIONS = 4
TOOLS = 4
SEND_AT_ONCE = 500


def run(events: int) -> BenchResult:
    """Measures `events` routed events, each way in turn."""
    with tempfile.TemporaryDirectory(prefix="ai-agents-bench-") as folder:
        bare, _ = _measure("bare", Path(folder) / "bare", events)
        ours, details = _measure("stage", Path(folder) / "stage", events)
    return BenchResult(
        step="process",
        events=events,
        cpu_us_per_event=ours.cpu_us_per_event,
        events_per_s=ours.events_per_s,
        p50_ms=ours.p50_ms,
        p99_ms=ours.p99_ms,
        rss_mb=ours.rss_mb,
        target=TARGET_US,
        baselines=[Baseline("bare aiokafka loop, same functions", bare.cpu_us_per_event, bare.events_per_s)],
        details=details,
    )


def a_record(n: int, now: int) -> tuple[bytes, bytes]:
    """Key and value of an event about a ticket of its own, as route makes it."""
    ticket_id = str(35_000 + n)
    detail = json.loads(a_delivery(n))
    detail["detail"]["id"], detail["subject"] = ticket_id, f"zen:ticket:{ticket_id}"
    known: dict[str, Any] = {"event_id": new_event_id(), "tenant": "bench", "tool": "desk", "tool_type": "zendesk", "ticket_id": ticket_id}
    received = WebhookReceived(
        **known,
        dedup_key=n.to_bytes(16, "big"),
        dedup_scope="delivery",
        content_type="application/json",
        received_at=now + n * 100,
        verified_by="zendesk-hmac:ab12cd34",
        validation_us=41,
        body=json.dumps(detail).encode(),
    )
    routed = TicketRouted(
        **known,
        ticket_type="incident",
        priority="high",
        change="updated",
        decision=Decision(target=f"jira{n % TOOLS}", actions=["mirror"], rule="incidents", rule_set_version=1),
        extraction_us=25,
        received_at=received.received_at,
        received_offset=n,
        received=encode_received(received),
    )
    return ticket_key("bench", "desk", ticket_id).encode(), Codec().encode(routed)


def _tenant(sandbox: SandboxProcess) -> bytes:
    auth = {"email": sandbox.credentials["auth"]["email"], "api_token": "${secret:token}"}
    jira = {"type": "jira", "base_url": sandbox.base_url, "auth": auth, "project": "OPS", "webhook": {"secret": "${secret:hook}"}}
    desk = {"type": "zendesk", "base_url": "https://bench.zendesk.example", "webhook": {"secret": "${secret:hook}"}}
    config = {
        "tenant": "bench",
        "tools": {"desk": desk, **{f"jira{n}": jira for n in range(TOOLS)}},
        "routes": [],
        "default": {"to": "desk", "do": ["note"]},
    }
    return Codec().encode(TenantConfigured(tenant="bench", version=1, effective_at=1, applied_at=1, config=json.dumps(config)))


async def _fill(brokers: str, events: int) -> None:
    from streams.producer import Outgoing, StageProducer

    now, producer = time.time_ns() // 1000, StageProducer(brokers)
    await producer.start()
    try:
        for begin in range(0, events, SEND_AT_ONCE):
            numbers = range(begin, min(begin + SEND_AT_ONCE, events))
            await producer.send([Outgoing(ROUTED.name, n % PARTITIONS, *a_record(n, now)) for n in numbers])
    finally:
        await producer.stop()


async def _prepare(brokers: str, sandbox: SandboxProcess) -> None:
    from streams.broker.admin import ensure_topics
    from streams.producer import Outgoing, StageProducer

    await ensure_topics(brokers, PARTITIONS)
    producer = StageProducer(brokers)
    await producer.start()
    try:
        await producer.send([Outgoing(TENANTS.name, 0, b"bench/1", _tenant(sandbox))])
    finally:
        await producer.stop()


def _measure(mode: str, folder: Path, events: int) -> tuple[Measured, dict[str, float]]:
    """Runs one way on a broker and a sandbox of its own; answers the figures, and those of the calls."""
    from streams.broker.embedded import EmbeddedBroker

    say(f"measuring: {mode}")
    broker = EmbeddedBroker(folder / "kafka", ephemeral=True)
    brokers = broker.start()
    try:
        with SandboxProcess("jira") as sandbox:
            asyncio.run(_prepare(brokers, sandbox))
            return _measured(mode, brokers, sandbox, folder / "data", events)
    finally:
        broker.stop()


def _measured(mode: str, brokers: str, sandbox: SandboxProcess, folder: Path, events: int) -> tuple[Measured, dict[str, float]]:
    secrets = {"AI_AGENTS_SECRET_BENCH__TOKEN": str(sandbox.credentials["auth"]["api_token"]), "AI_AGENTS_SECRET_BENCH__HOOK": "bench-hook"}
    with (
        gated("cli.bench.process_worker", mode, brokers, folder, secrets) as child,
        records_on(brokers, PROCESSED.name, PARTITIONS) as processed,
    ):
        asyncio.run(_fill(brokers, events))
        before = usage([sandbox.pid])
        measured = child.measure(events, processed)
        sandbox_us = cpu_us_between(before, usage([sandbox.pid]), events)
    if (effects := len(sandbox.ledger())) != events:
        raise CommandError(f"{events} events had {effects} effects")
    calls = asyncio.run(_latencies(brokers))
    return measured, {
        "sandbox_cpu_us_per_event": sandbox_us,
        "call_p50_ms": percentile_ms(calls, 50) or 0.0,
        "call_p99_ms": percentile_ms(calls, 99) or 0.0,
        "idle_rss_mb": measured.idle_rss_mb,
    }


async def _latencies(brokers: str) -> list[float]:
    """How long each call of the target took, in seconds, from the processed records."""
    from streams.topic_tail import tail

    return [
        call.latency_us / 1e6
        async for record in tail(brokers, PROCESSED.name, records=1_000_000)
        if isinstance(record.event, TicketProcessed)
        for call in record.event.calls
        if call.step == "mirror"
    ]
