"""What each stage waits for before it calls a batch done, or a partition open: without a broker, each ack given by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaError

import streams.agents.process as process_agent
from analytics.materializer import Prepared
from analytics.sqlite import SqliteStore
from analytics.store import Applied
from schemas.codec import Codec
from streams import topics
from streams.agents.materialize import MaterializeStage
from streams.agents.process import ProcessStage
from streams.agents.route import RouteStage
from streams.doubt import PartitionDoubts
from streams.finished import FinishedEvents
from streams.producer import Outgoing, StageProducer
from streams.runner import Runner
from streams.settings import Settings
from streams.stage import Assignment, Batch, Record, Stage
from streams.tracker import Unit
from tests.analytics.building import a_processed
from tests.streams.route_building import CODEC, ARecord, a_context, a_received, records_of


class QuietRunner:
    """What a stage uses of its runner; `crashed` ends with what the stage could not go on after."""

    def __init__(self) -> None:
        self.lanes: dict[Any, Any] = {}
        self.state = "running"
        self.alarms: list[str] = []
        self.crashed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def alarm(self, text: str) -> None:
        self.alarms.append(text)

    def count(self, name: str, n: int = 1) -> None: ...

    async def crash(self, exc: BaseException) -> None:
        self.crashed.set_result(exc)


class HandProducer:
    """Takes records at once; `stored` is the broker's word on all of them."""

    def __init__(self) -> None:
        self.shipped: list[Outgoing] = []
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ship(self, records: Sequence[Outgoing]) -> asyncio.Task[list[int]]:
        self.shipped += records
        return asyncio.create_task(self._offsets(len(records)))

    async def _offsets(self, count: int) -> list[int]:
        await self.stored
        return list(range(count))


def run_by(runner: QuietRunner, stage: Stage) -> None:
    stage.runner = cast(Runner, runner)


def a_batch(topic: str, records: Sequence[Any]) -> tuple[Batch, Unit]:
    unit = Unit(len(records), len(records))
    return Batch(Assignment(topic, 0, 0, len(records), 0), cast("list[Record]", list(records)), unit), unit


async def turns() -> None:
    """Lets everything that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def routing(tmp_path: Path) -> tuple[RouteStage, HandProducer, QuietRunner]:
    stage, producer, runner = RouteStage(Settings(data_dir=tmp_path)), HandProducer(), QuietRunner()
    stage._ctx = a_context()
    stage._seen = stage._ctx.seen
    stage._producer = cast(StageProducer, producer)
    run_by(runner, stage)
    return stage, producer, runner


Routing = tuple[RouteStage, HandProducer, QuietRunner]


async def test_route_calls_a_batch_done_when_the_broker_has_all_that_came_of_it(routing: Routing) -> None:
    """Its offset is committed from then on: a crash between the two would lose the whole batch."""
    stage, producer, _ = routing
    batch, unit = a_batch(topics.RECEIVED.name, records_of([a_received()]))
    await stage.handle(batch)
    await turns()
    assert [outgoing.topic for outgoing in producer.shipped] == [topics.ROUTED.name, topics.SEEN.name]
    assert not unit.done
    producer.stored.set_result(None)
    await turns()
    assert unit.done


async def test_a_batch_the_broker_does_not_take_is_never_done(routing: Routing) -> None:
    """The process ends instead, and reads the batch again."""
    stage, producer, runner = routing
    batch, unit = a_batch(topics.RECEIVED.name, records_of([a_received()]))
    await stage.handle(batch)
    producer.stored.set_exception(KafkaError("refused for good"))
    assert isinstance(await asyncio.wait_for(runner.crashed, 5), KafkaError)
    assert not unit.done


class WatchedStore(SqliteStore):
    """Says what it was asked before each batch is applied."""

    before_apply: Callable[[], None]

    def apply(self, batch: Prepared) -> Applied:
        self.before_apply()
        return super().apply(batch)


async def test_materialize_calls_a_batch_done_when_its_rows_are_committed(tmp_path: Path) -> None:
    """Lag tools read the group's offset: it must never be ahead of the tables."""
    stage, store = MaterializeStage(Settings(data_dir=tmp_path)), WatchedStore(tmp_path / "analytics.db")
    run_by(QuietRunner(), stage)
    stage._store = store
    await stage.positions([(topics.PROCESSED.name, 0)])
    batch, unit = a_batch(topics.PROCESSED.name, [ARecord(0, CODEC.encode(a_processed(1)))])
    done_before: list[bool] = []
    store.before_apply = lambda: done_before.append(unit.done)
    await stage.handle(batch)
    stage._thread.shutdown()
    store.close()
    assert done_before == [False]
    assert unit.done


async def test_process_knows_the_links_and_what_is_finished_before_the_first_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with an empty folder would otherwise call the tool again for what another one has done."""
    order: list[str] = []

    async def caught_up() -> None:
        order.append("links")

    async def catch_up(
        brokers: str, partition: int, finished: FinishedEvents, doubts: PartitionDoubts, codec: Codec, security: Mapping[str, Any]
    ) -> int:
        order.append("finished")
        finished.add("an event of a worker before us")
        return 1

    monkeypatch.setattr(process_agent, "catch_up", catch_up)
    stage = ProcessStage(Settings(data_dir=tmp_path))
    monkeypatch.setattr(stage._following, "caught_up", caught_up)
    monkeypatch.setattr(stage._keyed, "opened", lambda partition: order.append("opened"))
    await stage.assigned(Assignment(topics.ROUTED.name, 3, 40, 60, 1))
    assert order == ["links", "finished", "opened"]
    assert stage._states[3].finished.has("an event of a worker before us")
