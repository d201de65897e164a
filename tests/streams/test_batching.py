"""Batches through Faust on a real broker: nothing is passed over, whatever dies."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streams.producer import Outgoing, RecordRefused, StageProducer
from tests.streams.copying import Ledger, fill, start_stage, two_topics

pytestmark = pytest.mark.broker


@pytest.fixture
async def topics(broker: str) -> AsyncIterator[tuple[str, str]]:
    """Two fresh topics with the same partitions."""
    async with two_topics(broker) as names:
        yield names


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
            await fill(broker, source, total, 100)  # the last stage has work of its own: it is up when it is told to end
            await ledger.until(total + 100, 90)
            assert sorted(ledger.seen) == list(range(total + 100)), f"lost records with seed {seed}"
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
