"""`ai-agents bench process`: routed events on a topic, one call each to a sandbox in another process, and their records.

Every event creates a ticket of its own in one of four Jira tools, so 64 calls are in flight. The stage runs as it always does, in a
process of its own; the baseline is a bare aiokafka loop that calls the same functions on the same records. Both get their
partitions while these are empty, as a worker in service does, wait at their gate until the topic is filled, and are measured from
there. CPU is that of the measured process; the sandbox stands for a tool that is somebody else's.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from cli.bench.load import a_delivery
from cli.bench.measure import Baseline, BenchResult, cpu_us_between, percentile_ms, usage
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
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 60.0


def run(events: int) -> BenchResult:
    """Measures `events` routed events, each way in turn."""
    with tempfile.TemporaryDirectory(prefix="ai-agents-bench-") as folder:
        bare, _ = _measure("bare", Path(folder) / "bare", events)
        ours, latencies = _measure("stage", Path(folder) / "stage", events)
    return BenchResult(
        step="process",
        events=events,
        cpu_us_per_event=ours.cpu_us_per_event,
        events_per_s=ours.events_per_s,
        p50_ms=percentile_ms(latencies, 50),
        p99_ms=percentile_ms(latencies, 99),
        rss_mb=ours.rss_mb,
        target=TARGET_US,
        baselines=[Baseline("bare aiokafka loop, same functions", bare.cpu_us_per_event, bare.events_per_s)],
        details={"sandbox_cpu_us_per_event": ours.details["sandbox_cpu_us_per_event"]},
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


def _measure(mode: str, folder: Path, events: int) -> tuple[BenchResult, list[float]]:
    """Runs one way on a broker and a sandbox of its own; answers the figures and the calls' latencies in seconds."""
    from streams.broker.embedded import EmbeddedBroker

    folder.mkdir(parents=True)
    broker = EmbeddedBroker(folder / "kafka", ephemeral=True)
    brokers = broker.start()
    try:
        with SandboxProcess("jira") as sandbox:
            asyncio.run(_prepare(brokers, sandbox))
            return _measured(mode, brokers, sandbox, folder, events)
    finally:
        broker.stop()


def _measured(mode: str, brokers: str, sandbox: SandboxProcess, folder: Path, events: int) -> tuple[BenchResult, list[float]]:
    secrets = {"AI_AGENTS_SECRET_BENCH__TOKEN": str(sandbox.credentials["auth"]["api_token"]), "AI_AGENTS_SECRET_BENCH__HOOK": "bench-hook"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, "-m", "cli.bench.process_worker", mode, brokers, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | secrets,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not process.stdout.readline().endswith(b"ready\n"):  # Faust shows the cursor first
            raise RuntimeError(f"the {mode} process did not start: {(folder / 'log').read_text()[-2000:]}")
        asyncio.run(_fill(brokers, events))
        before, tool_before, began = usage([process.pid]), usage([sandbox.pid]), time.monotonic()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        try:
            asyncio.run(_until_processed(brokers, events, process))
        except RuntimeError as exc:
            raise RuntimeError(f"the {mode} process stopped at {exc}: {(folder / 'log').read_text()[-2000:]}") from exc
        seconds, after, tool_after = time.monotonic() - began, usage([process.pid]), usage([sandbox.pid])
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    if len(sandbox.ledger()) != events:
        raise RuntimeError(f"{events} events had {len(sandbox.ledger())} effects")
    result = BenchResult(
        step=mode,
        events=events,
        cpu_us_per_event=cpu_us_between(before, after, events),
        events_per_s=round(events / seconds, 1),
        rss_mb=round(after.rss / 1e6, 1),
        target=TARGET_US,
        details={"sandbox_cpu_us_per_event": cpu_us_between(tool_before, tool_after, events)},
    )
    return result, asyncio.run(_latencies(brokers))


async def _until_processed(brokers: str, records: int, process: subprocess.Popen[bytes]) -> None:
    """Returns once the processed topic has so many records, by its end offsets. Raises RuntimeError when they stop coming."""
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers)
    await consumer.start()
    try:
        places = [TopicPartition(PROCESSED.name, p) for p in range(PARTITIONS)]
        last, moved = -1, time.monotonic()
        while (done := sum((await consumer.end_offsets(places)).values())) < records:
            if done != last:
                last, moved = done, time.monotonic()
            if process.poll() is not None or time.monotonic() - moved > PATIENCE_SECONDS:
                raise RuntimeError(f"{done} of {records}")
            await asyncio.sleep(POLL_SECONDS)
    finally:
        await consumer.stop()


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
