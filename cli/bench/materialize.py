"""`ai-agents bench materialize`: processed events on a topic to committed rows.

An event is one fact here: one plugin call. A record carries three, as an event that was verified, read and mirrored does. The
stage runs as it always does, in its own process; the baseline is a bare aiokafka loop that calls the same functions on the same
records, into a store of its own. Both are started, wait at their gate before the first fetch, and are measured from there.
"""

from __future__ import annotations

import asyncio
import math
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from analytics.materializer import DAY_US
from cli.bench.child import Measured, gate, gated
from cli.bench.measure import Baseline, BenchResult
from cli.output import say
from schemas.codec import Codec
from schemas.events import Call, TicketProcessed
from schemas.ids import new_event_id
from streams.agents.materialize import MaterializeStage
from streams.collector import spare_the_collector
from streams.settings import Settings
from streams.topics import PROCESSED

TARGET_US = 12.0
PARTITIONS = 4
CALLS = 3
SEND_AT_ONCE = 500


def run(events: int) -> BenchResult:
    """Measures `events` facts; about a third as many records."""
    from streams.broker.admin import ensure_topics
    from streams.broker.embedded import EmbeddedBroker

    records = -(-events // CALLS)
    with tempfile.TemporaryDirectory(prefix="ai-agents-bench-") as folder:
        broker = EmbeddedBroker(Path(folder) / "kafka", ephemeral=True)
        brokers = broker.start()
        try:
            asyncio.run(ensure_topics(brokers, PARTITIONS))
            say(f"writing {records} processed events of {CALLS} calls each")
            asyncio.run(_fill(brokers, records))
            bare = _measure("bare", brokers, Path(folder) / "bare", records)
            ours = _measure("stage", brokers, Path(folder) / "stage", records)
        finally:
            broker.stop()
    return BenchResult(
        step="materialize",
        events=records * CALLS,
        cpu_us_per_event=ours.cpu_us_per_event,
        events_per_s=ours.events_per_s,
        p50_ms=ours.p50_ms,
        p99_ms=ours.p99_ms,
        rss_mb=ours.rss_mb,
        target=TARGET_US,
        baselines=[Baseline("bare aiokafka loop, same functions", bare.cpu_us_per_event, bare.events_per_s)],
        details={"facts_per_record": CALLS, "records": records, "cpu_us_per_record": round(ours.cpu_us_per_event * CALLS, 1)},
    )


def a_record(rng: random.Random, n: int, now: int) -> TicketProcessed:
    """An event of one of three tenants, verified, read and mirrored; 300 a second, latencies as tools have them (log-normal)."""
    tenant, target = f"tenant-{n % 3}", rng.choice(["jira", "desk"])
    at = now + n * 3333 + rng.randrange(3333)
    calls = [
        Call(
            step=step,
            method=method,
            tool=tool,
            plugin=tool,
            plugin_version="1.0.0",
            outcome="ok" if rng.random() < 0.98 else "error",
            latency_us=int(rng.lognormvariate(math.log(median), 0.35)),
            api_calls=api_calls,
            cost_micros=100 * api_calls,
            started_at=at + rng.randrange(100_000),
        )
        for step, method, tool, median, api_calls in (
            ("ingest", "validate_webhook", "zendesk", 40, 0),
            ("route", "extract_metadata", "zendesk", 25, 0),
            ("mirror", "create_ticket", target, 180_000, 1),
        )
    ]
    return TicketProcessed(
        event_id=new_event_id(),
        tenant=tenant,
        tool="support",
        tool_type="zendesk",
        ticket_id=str(n),
        outcome="processed",
        target=target,
        target_ticket_id=f"OPS-{n}",
        rule=rng.choice(["P1 incidents", "changes", "everything else"]),
        rule_set_version=1,
        ticket_type="incident",
        priority=rng.choice(["urgent", "high", "low"]),
        received_at=at,
        processed_at=at + 500_000,
        received_offset=n,
        routed_offset=n,
        calls=calls,
    )


async def _fill(brokers: str, records: int) -> None:
    from streams.producer import Outgoing, StageProducer

    rng, codec, now = random.Random(1), Codec(), time.time_ns() // 1000 - DAY_US  # noqa: S311 - test data
    producer = StageProducer(brokers)
    await producer.start()
    try:
        for begin in range(0, records, SEND_AT_ONCE):
            numbers = range(begin, min(begin + SEND_AT_ONCE, records))
            await producer.send(
                [Outgoing(PROCESSED.name, n % PARTITIONS, str(n).encode(), codec.encode(a_record(rng, n, now))) for n in numbers]
            )
    finally:
        await producer.stop()


def _measure(mode: str, brokers: str, folder: Path, records: int) -> Measured:
    """Runs one way in a process of its own, from its gate to the last committed row."""
    say(f"measuring: {mode}")
    with gated("cli.bench.materialize", mode, brokers, folder) as child:
        return child.measure(records * CALLS, lambda: _materialized(folder / "analytics.db"), wanted=records)


def _materialized(store: Path) -> int:
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5) as db:
        (records,) = db.execute("SELECT COALESCE(SUM(records), 0) FROM stream_position").fetchone()
    return int(records)


# --- the measured processes ------------------------------------------------------------------------------------------------


class _GatedStage(MaterializeStage):
    """The stage, waiting before its first fetch."""

    name: ClassVar[str] = "bench-materialize"
    topics: ClassVar[tuple[str, ...]] = (PROCESSED.name,)

    async def positions(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int | None]:
        found = await super().positions(partitions)
        await gate()
        return found


async def _bare(settings: Settings) -> None:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from analytics.open import open_store
    from streams.materialize_step import read_batch

    store, codec = open_store(settings.store_url), Codec()
    positions = {p: store.assign(PROCESSED.name, p).next_offset for p in range(PARTITIONS)}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.brokers, group_id="bench-bare", enable_auto_commit=False, max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    consumer.assign([TopicPartition(PROCESSED.name, p) for p in positions])
    spare_the_collector()
    await gate()
    for partition, offset in positions.items():
        consumer.seek(TopicPartition(PROCESSED.name, partition), offset)
    while True:
        for tp, records in (await consumer.getmany(timeout_ms=200, max_records=MaterializeStage.max_poll_records)).items():
            batch = read_batch(tp.topic, tp.partition, records, codec, positions[tp.partition])
            positions[tp.partition] = store.apply(batch.prepared).next_offset
            await consumer.commit({tp: positions[tp.partition]})


def main(mode: str, brokers: str, folder: str) -> None:
    """One of the two ways, as a process."""
    from streams.batching import run_stage

    settings = Settings(data_dir=Path(folder), brokers=brokers)
    if mode == "bare":
        asyncio.run(_bare(settings))
    else:
        run_stage(_GatedStage(settings), settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
