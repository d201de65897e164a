"""The chain of a partition as the runner keeps it, without a broker: what a fetch drops is fetched again, never passed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar, cast

import pytest
from faust.types import TP

from schemas.codec import UnknownFingerprint
from streams.runner import Runner
from streams.settings import Settings
from streams.stage import Batch, Record, Stage
from tests.streams.route_building import ARecord

PLACE = TP("tickets.received.v1", 3)


class Collecting(Stage):
    """Keeps its batches; those of an unknown schema once more when it is known."""

    name: ClassVar[str] = "collecting"
    topics: ClassVar[tuple[str, ...]] = (PLACE.topic,)
    stall_after: ClassVar[float] = 0.05

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.known = asyncio.Event()
        self.unknown = False

    async def handle(self, batch: Batch) -> None:
        if self.unknown and not self.known.is_set():
            raise UnknownFingerprint(b"\1" * 8)
        self.batches.append(batch)

    async def ready_again(self, fingerprint: bytes) -> None:
        await self.known.wait()


@pytest.fixture
async def runner(tmp_path: Path) -> AsyncIterator[Runner]:
    async def end(exc: BaseException) -> None:
        raise exc

    runner = Runner(Collecting(), Settings(data_dir=tmp_path), end)
    await runner.begin({PLACE: (10, 100)})
    yield runner
    await runner.forget()


def fetched(first: int, after: int) -> list[Record]:
    return cast("list[Record]", [ARecord(offset, b"") for offset in range(first, after)])


def accepted(runner: Runner, first: int, after: int) -> Batch:
    batch = runner.accept(PLACE, fetched(first, after))
    assert isinstance(batch, Batch)
    return batch


async def test_what_a_fetch_dropped_is_asked_for_again(runner: Runner) -> None:
    """Faust drops what it has fetched at a rebalance or a pause; the next fetch then begins behind it."""
    accepted(runner, 10, 20)
    assert runner.accept(PLACE, fetched(25, 30)) == 20
    assert [r.offset for r in accepted(runner, 20, 30).records] == list(range(20, 30))


async def test_a_hole_is_taken_for_one_only_when_the_broker_says_it_twice(runner: Runner) -> None:
    """A compacted record or a transaction's marker has no record to fetch; waiting for it would stop the partition."""
    assert runner.accept(PLACE, fetched(12, 15)) == 10
    assert accepted(runner, 12, 15).records[0].offset == 12
    assert runner.expected(PLACE) == 15


async def test_what_was_read_already_is_left_out(runner: Runner) -> None:
    """Delivered twice, it would be routed twice."""
    accepted(runner, 10, 20)
    assert [r.offset for r in accepted(runner, 15, 25).records] == list(range(20, 25))
    assert runner.accept(PLACE, fetched(11, 22)) is None


async def test_only_the_finished_beginning_is_committed(runner: Runner) -> None:
    """However the batches behind it end."""
    first, second = accepted(runner, 10, 20), accepted(runner, 20, 30)
    second.done()
    assert runner.committable() == {}
    first.done()
    assert runner.committable() == {PLACE: 30}
    runner.committed({PLACE: 30})
    assert runner.committable() == {}


async def test_batches_of_an_assignment_that_ended_change_nothing(runner: Runner) -> None:
    """The partition came back meanwhile: an acknowledgement of its last time must not commit for this one."""
    before = accepted(runner, 10, 20)
    await runner.begin({PLACE: (10, 100)})
    before.done()
    runner.dispatch(before)
    await asyncio.sleep(0.01)
    assert runner.committable() == {}
    assert isinstance(runner.stage, Collecting)
    assert runner.stage.batches == []


async def test_a_partition_that_stands_still_with_work_waiting_is_noticed(runner: Runner) -> None:
    """The silent stall: the process is up, the lag grows, and nothing says so."""
    assert runner._stalled() == []
    await asyncio.sleep(0.1)
    assert runner._stalled() == ["tickets.received.v1[3] (lag 90)"]


async def test_a_partition_that_waits_for_a_schema_is_shown_and_is_no_stall(runner: Runner) -> None:
    """Ending the process would not bring the schema; the batch waits, the operator is told, and then it comes again whole."""
    stage = runner.stage
    assert isinstance(stage, Collecting)
    stage.unknown = True
    batch = accepted(runner, 10, 20)
    runner.dispatch(batch)
    await asyncio.sleep(0.1)
    assert runner._stalled() == []
    (health,) = runner.partition_health()
    assert health.paused == "unknown schema " + "01" * 8
    assert any("waits" in alarm for alarm in runner.alarms)
    stage.known.set()
    await asyncio.sleep(0.01)
    assert stage.batches == [batch]
    assert runner.partition_health()[0].paused == ""
