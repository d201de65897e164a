"""Batches through Faust on a real broker: nothing is passed over, whatever dies."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.producer import Outgoing, RecordRefused, StageProducer

pytestmark = pytest.mark.broker
PARTITIONS = 4


@pytest.fixture
async def topics(broker: str) -> AsyncIterator[tuple[str, str]]:
    """Two fresh topics with the same partitions."""
    name = uuid.uuid4().hex[:8]
    source, target = f"copy-in-{name}", f"copy-out-{name}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await admin.create_topics([NewTopic(t, PARTITIONS, 1, topic_configs={"max.message.bytes": str(1 << 20)}) for t in (source, target)])
    yield source, target
    await admin.delete_topics([source, target])
    await admin.close()


def start_stage(broker: str, data_dir: Path, source: str, target: str, instance: str, mode: str) -> subprocess.Popen[bytes]:
    """One process of the copying stage; its log goes to the data directory."""
    log = (data_dir / f"{instance}.log").open("ab")
    script = Path(__file__).with_name("copy_stage.py")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, str(script), broker, str(data_dir), source, target, instance, mode], stderr=log, stdout=log, env=environment
    )


async def fill(broker: str, topic: str, first: int, count: int) -> None:
    """Numbered records, spread over the partitions."""
    producer = AIOKafkaProducer(bootstrap_servers=broker, enable_idempotence=True)
    await producer.start()
    for n in range(first, first + count):
        await producer.send(topic, key=str(n).encode(), value=str(n).encode(), partition=n % PARTITIONS)
    await producer.stop()


class Ledger:
    """Reads the target topic on and on."""

    def __init__(self, broker: str, topic: str) -> None:
        self.consumer = AIOKafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest")
        self.topic = topic
        self.seen: dict[int, list[int]] = {}

    async def __aenter__(self) -> Ledger:
        await self.consumer.start()
        self.consumer.assign([TopicPartition(self.topic, p) for p in range(PARTITIONS)])
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.consumer.stop()

    async def until(self, count: int, timeout: float) -> None:
        """Reads until so many different numbers were copied."""
        async with asyncio.timeout(timeout):
            while len(self.seen) < count:
                for records in (await self.consumer.getmany(timeout_ms=500)).values():
                    for r in records:
                        self.seen.setdefault(int(r.value), []).append(r.offset)

    def inversions(self) -> int:
        """Numbers of a partition whose first copy stands before a smaller number's first copy."""
        found = 0
        for p in range(PARTITIONS):
            firsts = [self.seen[n][0] for n in sorted(self.seen) if n % PARTITIONS == p]
            found += sum(1 for a, b in itertools.pairwise(firsts) if b < a)
        return found


@pytest.mark.parametrize("mode", ["batch", "record"])
@pytest.mark.timeout(240)
async def test_no_record_is_passed_over_when_the_stage_is_killed(broker: str, topics: tuple[str, str], tmp_path: Path, mode: str) -> None:
    """kill -9 in mid-stream, again and again: each record is copied at least once, in order per partition."""
    source, target = topics
    seed = 11
    rng = random.Random(seed)
    total = 40_000
    await fill(broker, source, 0, total // 2)
    stage = start_stage(broker, tmp_path, source, target, "0", mode)
    try:
        async with Ledger(broker, target) as ledger:
            for kill in range(5):
                await ledger.until((kill + 1) * 3_000 + rng.randrange(2_000), 60)
                stage.send_signal(signal.SIGKILL)
                stage.wait()
                if kill == 1:
                    await fill(broker, source, total // 2, total // 2)
                stage = start_stage(broker, tmp_path, source, target, "0", mode)
            await ledger.until(total, 90)
            assert sorted(ledger.seen) == list(range(total)), f"lost records with seed {seed}"
            assert ledger.inversions() == 0
            stage.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(stage.wait, 15) == 0
    finally:
        stage.kill()


@pytest.mark.timeout(240)
async def test_a_second_worker_may_join_and_leave(broker: str, topics: tuple[str, str], tmp_path: Path) -> None:
    """Partitions move, batches in flight finish first, and nothing is passed over."""
    source, target = topics
    total = 30_000
    first = start_stage(broker, tmp_path, source, target, "0", "batch")
    second = None
    try:
        async with Ledger(broker, target) as ledger:
            await fill(broker, source, 0, 10_000)
            await ledger.until(10_000, 60)
            second = start_stage(broker, tmp_path, source, target, "1", "batch")
            await fill(broker, source, 10_000, 10_000)
            await ledger.until(20_000, 60)
            second.send_signal(signal.SIGTERM)
            await asyncio.to_thread(second.wait, 15)
            await fill(broker, source, 20_000, 10_000)
            await ledger.until(total, 90)
            assert sorted(ledger.seen) == list(range(total))
    finally:
        first.kill()
        if second:
            second.kill()


async def test_an_oversized_record_hurts_nobody_after_it(broker: str, topics: tuple[str, str]) -> None:
    """aiokafka takes a first record of any size into a batch and the broker's refusal breaks the partition's sequence for good."""
    _, target = topics
    producer = StageProducer(broker)
    await producer.start()
    try:
        small = [Outgoing(target, 0, b"k", b"x" * 100)] * 3
        assert await producer.send(small) == [0, 1, 2]
        with pytest.raises(RecordRefused):
            await producer.send([Outgoing(target, 0, b"k", b"x" * (5 << 20))])
        with pytest.raises(RecordRefused):
            await producer.send([Outgoing(target, 0, b"k", b"x" * (3 << 20))])  # above this topic's own limit of 1 MiB
        assert await producer.send(small) == [3, 4, 5]
    finally:
        await producer.stop()
