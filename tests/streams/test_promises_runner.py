"""No silent stall and no silent jump, on a real broker: what cannot go on ends and says so, what was lost is counted."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from streams.health import StageHealth, read_health
from tests.streams.copying import Ledger, fill, start_stage, two_topics

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(180)]
LIMIT = 4.0
"""The watchdog's, as copy_stage.py sets it."""


class Copying:
    """Processes of the copying stage over one pair of topics with one partition."""

    def __init__(self, broker: str, source: str, target: str, folder: Path) -> None:
        self.broker, self.source, self.target, self.folder = broker, source, target, folder
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, mode: str = "batch", instance: str = "0") -> subprocess.Popen[bytes]:
        self.running.append(start_stage(self.broker, self.folder, self.source, self.target, instance, mode))
        return self.running[-1]

    async def fill(self, first: int, count: int, size: int = 0) -> None:
        await fill(self.broker, self.source, first, count, partitions=1, size=size)

    def health(self, instance: str = "0") -> StageHealth | None:
        return next((h for h in read_health(self.folder) if h.instance == instance), None)

    async def until(self, reached: Callable[[StageHealth], bool], instance: str = "0", seconds: float = 60.0) -> StageHealth:
        """The stage's health once it is so; there is no event across processes."""
        async with asyncio.timeout(seconds):
            while (health := self.health(instance)) is None or not reached(health):
                await asyncio.sleep(0.05)
        return health


@pytest.fixture
async def copying(broker: str, tmp_path: Path) -> AsyncIterator[Copying]:
    async with two_topics(broker, partitions=1) as (source, target):
        made = Copying(broker, source, target, tmp_path)
        yield made
        for process in made.running:
            process.kill()
            process.wait()


@pytest.fixture
async def admin(broker: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=broker)
    await client.start()
    yield client
    await client.close()


@pytest.mark.parametrize(("mode", "words"), [("stuck", "no progress"), ("uncoordinated", "group coordination ended")])
async def test_a_stage_that_stands_still_ends_within_the_limit_and_says_why(copying: Copying, mode: str, words: str) -> None:
    """A process that is up and does nothing is the worst of faults: nobody is told. Ended, the supervisor starts it again."""
    await copying.fill(0, 10)
    since = time.monotonic()
    process = copying.start(mode)
    assert await asyncio.to_thread(process.wait, 60) == 70
    assert time.monotonic() - since < LIMIT + 25, "the start included"
    health = copying.health()
    assert health is not None
    assert any(words in alarm for alarm in health.alarms), health.alarms


async def test_a_stage_whose_event_loop_stands_still_is_ended_from_a_thread(copying: Copying) -> None:
    """It cannot say anything itself any more."""
    await copying.fill(0, 10)
    process = copying.start("frozen")
    assert await asyncio.to_thread(process.wait, 40) == 70
    assert "the event loop stands still" in (copying.folder / "0.log").read_text()


async def test_a_stage_without_a_partition_is_idle_and_well(copying: Copying) -> None:
    """One worker more than partitions is a reserve, not a fault."""
    await copying.fill(0, 10)
    copying.start(instance="0")
    await copying.until(lambda h: bool(h.partitions))
    reserve = copying.start(instance="1")
    await copying.until(lambda h: h.state == "idle", instance=_idle_one(copying))
    await asyncio.sleep(LIMIT * 1.5)
    assert reserve.poll() is None
    idle = copying.health(_idle_one(copying))
    assert idle is not None
    assert (idle.state, idle.partitions, idle.alarms) == ("idle", [], [])


def _idle_one(copying: Copying) -> str:
    """Either may have been given the partition."""
    idle = [h.instance for h in read_health(copying.folder) if h.state == "idle"]
    return idle[0] if idle else "1"


async def test_records_that_retention_took_before_they_were_read_are_counted_at_the_start(
    copying: Copying, admin: AIOKafkaAdminClient
) -> None:
    """A worker that was down too long goes on with what there is, and says how much there is not."""
    await copying.fill(0, 100)
    process = copying.start()
    await copying.until(lambda h: any(p.committed == 100 for p in h.partitions))
    process.terminate()
    await asyncio.to_thread(process.wait, 20)
    await copying.fill(100, 100)
    await admin.delete_records({TopicPartition(copying.source, 0): RecordsToDelete(150)})
    copying.start()
    async with Ledger(copying.broker, copying.target, partitions=1) as ledger:
        await ledger.until(150, 60)
        assert sorted(ledger.seen) == [*range(100), *range(150, 200)]
    health = await copying.until(lambda h: bool(h.alarms))
    assert f"RetentionOverrun: {copying.source}[0] lost 50 records" in health.alarms[0]


async def test_records_that_retention_took_from_under_a_running_stage_are_counted(copying: Copying, admin: AIOKafkaAdminClient) -> None:
    """A worker that falls behind while it runs must not jump in silence either."""
    total, size = 300, 100_000
    await copying.fill(0, total, size)
    copying.start("held")
    await copying.until(lambda h: any(p.pending for p in h.partitions))
    await admin.delete_records({TopicPartition(copying.source, 0): RecordsToDelete(200)})
    (copying.folder / "open").touch()
    async with Ledger(copying.broker, copying.target, partitions=1) as ledger:
        async with asyncio.timeout(60):
            while total - 1 not in ledger.seen:
                await ledger.until(len(ledger.seen) + 1, 60)
        lost = total - len(ledger.seen)
        assert lost > 100, "the log was read before it was cut; the test shows nothing"
        assert sorted(ledger.seen) == [*range(200 - lost), *range(200, total)]
    health = await copying.until(lambda h: bool(h.alarms))
    assert f"RetentionOverrun: {copying.source}[0] lost {lost} records" in health.alarms[0]


async def test_a_topic_made_anew_under_a_running_stage_is_read_from_its_start(copying: Copying, admin: AIOKafkaAdminClient) -> None:
    """Its offsets begin again below what was read; passed over until they have caught up, the new events would be missing."""
    await copying.fill(0, 100)
    copying.start()
    await copying.until(lambda h: any(p.committed == 100 for p in h.partitions))
    await admin.delete_topics([copying.source])
    await asyncio.sleep(1.0)  # a broker deletes by and by, and tells nobody when it has
    await admin.create_topics([NewTopic(copying.source, 1, 1)])
    await copying.fill(100, 50)
    async with Ledger(copying.broker, copying.target, partitions=1) as ledger:
        await ledger.until(150, 90)
        assert sorted(ledger.seen) == list(range(150))
    await copying.until(lambda h: any("made anew: position 100 is past its end" in alarm for alarm in h.alarms))
