"""Partition batches through Faust: the one room that knows Faust's insides (pinned ==0.15.3, guarded by a test).

The App, the agent, the worker and its group are Faust's. The unit that travels through its stream is one partition's fetched
batch, because a Faust event costs about 100 us of machinery. Faust's own acknowledgement loses records when an agent raises, when
it runs concurrently, and when offsets jump; none of it is used: streams/runner.py decides what is committed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

import faust
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from streams.runner import REBALANCE_SECONDS, Place, Runner
from streams.settings import Settings
from streams.stage import Stage

SESSION_SECONDS = 20.0
THIN = 0.25
"""A fetch with less than this share of the records it may bring is thin."""


def build_app(stage: Stage, settings: Settings) -> tuple[faust.App, Runner]:
    """The Faust App of a stage, its group named after it, and the runner that decides what it commits."""
    app = faust.App(
        f"ai-agents-{stage.name}",
        broker="kafka://" + settings.brokers.replace(",", ";kafka://"),
        datadir=str(settings.data_dir / "faust" / stage.name),
        store="memory://",
        autodiscover=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=16,
        broker_commit_interval=0.25,
        broker_commit_livelock_soft_timeout=3600.0,  # ours is the watchdog below
        stream_processing_timeout=3600.0,
        broker_max_poll_records=stage.max_poll_records,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=3.0,
        broker_rebalance_timeout=REBALANCE_SECONDS,
        broker_request_timeout=90.0,
        broker_max_poll_interval=600.0,
        consumer_max_fetch_size=4 << 20,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{stage.name}-{settings.instance}",
        consumer_metadata_max_age_ms=30_000,
    )
    runner = Runner(stage, settings, app.crash, partial(_highwater, app))
    app.transport = _Transport(app.conf.broker_consumer, app, runner)
    app.producer_transport = _Transport(app.conf.broker_producer, app, runner)

    async def dispatch(batches: Any) -> None:
        async for event in batches.noack().events():
            runner.dispatch(event.message.value)

    app.agent(app.topic(*stage.topics, schema=_BatchSchema(), acks=False), name=stage.name)(dispatch)
    return app, runner


def run_stage(stage: Stage, settings: Settings, *, log_level: str = "INFO") -> int:
    """Runs a stage in this process until a signal or a crash; answers the process's exit code."""
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)-7s %(name)s %(message)s")
    for noisy in ("aiokafka", "faust", "mode", __name__):  # Faust's services log under the module of their class
        logging.getLogger(noisy).setLevel("WARNING")
    logging.getLogger("mode.timers").setLevel("ERROR")  # a commit that takes longer than its interval is no news
    (settings.data_dir / "faust" / stage.name).mkdir(parents=True, exist_ok=True)  # Faust makes only the last folder
    app, runner = build_app(stage, settings)
    threading.Thread(target=runner.watch_the_loop, name="loop watchdog", daemon=True).start()
    worker = faust.Worker(app, loglevel="WARN", quiet=True, override_logging=False, redirect_stdouts=False, debug=False)
    try:
        worker.execute_from_commandline()
    except SystemExit as exc:
        return 70 if runner.crashed else int(exc.code or 0)
    return 70 if runner.crashed else 0


def _highwater(app: faust.App, place: Place) -> int:
    try:
        return int(app.consumer.highwater(TP(*place)) or 0)
    except Exception:  # noqa: BLE001 - between assignments Faust and aiokafka raise whatever they find missing
        return 0


def _overrun(tp: TP, position: int, first: int) -> str:
    lost = first - position
    return f"RetentionOverrun: {tp.topic}[{tp.partition}] lost {lost} records to retention before they were read, from offset {position} on"


def _made_anew(tp: TP, position: int, end: int) -> str:
    return f"{tp.topic}[{tp.partition}] was made anew: position {position} is past its end {end}; it is read from its start"


class _BatchSchema(faust.Schema):  # type: ignore[misc]  # Faust ships no types we follow
    """The message's value already is a Batch; nothing to decode."""

    def compile(
        self, app: Any, *, on_key_decode_error: Any = None, on_value_decode_error: Any = None, default_propagate: bool = False
    ) -> Any:
        make = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return make(None, message.value, message.headers, message)

        return decode


class _Consumer(driver.Consumer):  # type: ignore[misc]  # Faust ships no types we follow
    """Faust's consumer with our batches, our chain and our commits."""

    runner: Runner
    _fetch_at = 0.0

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """One message for each partition's fetched records; called by Faust's fetcher for ever."""
        await asyncio.sleep(max(0.0, self._fetch_at - time.monotonic()))
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        active = self._get_active_partitions()
        open_ = {tp for tp in active if self.runner.has_room(tp)}
        if not open_:
            self.runner.room.clear()
            await self.wait_first(self.runner.room.wait(), self.suspend_flow.wait(), timeout=0.25)
            return
        records = await self._getmany(active_partitions=open_, timeout=timeout if len(open_) == len(active) else 0.1)
        stage, fetched_now = self.runner.stage, sum(map(len, (records or {}).values()))
        if 0 < fetched_now < stage.max_poll_records * THIN:  # what comes meanwhile waits at the broker, and is one fetch
            self._fetch_at = time.monotonic() + stage.linger
        for atp, fetched in (records or {}).items():
            tp = TP(atp.topic, atp.partition)
            if self.should_stop or not self.flow_active or not fetched:
                continue
            want = self.runner.expected(tp)
            batch = self.runner.accept(tp, list(fetched))
            if isinstance(batch, int):
                await self._thread.seek_wait({tp: batch})
            elif batch is None:
                await self._look_for_a_topic_made_anew(tp, want)
            else:
                if batch.records[0].offset > want:
                    await self._explain_gap(tp, want, batch.records[0].offset)
                message = self._to_message(tp, fetched[-1])
                message.key, message.value, message.headers = None, batch, None
                yield tp, message

    async def _explain_gap(self, tp: TP, want: int, got: int) -> None:
        """A hole in the offsets is a compacted record or a transaction's marker, unless the log begins behind what was wanted."""
        try:
            first = (await self.earliest_offsets(tp))[tp]
        except KafkaError:
            first = got  # not to be learnt now: said once too often rather than not at all
        if first > want:
            self.runner.alarm(_overrun(tp, want, got))

    async def _look_for_a_topic_made_anew(self, tp: TP, want: int) -> None:
        """Records below what is wanted are left over from before a seek, unless the log itself ends there: then all is new."""
        try:
            end = (await self.highwaters(tp))[tp]
        except KafkaError:
            return  # they come again
        if end < want:
            await self.runner.crash(RuntimeError(_made_anew(tp, want, end)))

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        offsets = self.runner.committable()
        if offsets and await self._commit(offsets):
            self.runner.committed(offsets)
            return True
        return False

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await self.runner.drain(self.runner.stage.drain_on_revoke)
        await self.force_commit()
        await self.runner.forget()
        self.runner.left()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.runner.joined(len(assigned))
        await super().on_partitions_assigned(assigned, generation_id)

    @Service.task  # type: ignore[untyped-decorator]  # mode ships no types we follow
    async def _watch(self) -> None:
        await self.runner.watch(self._coordinator_ended)

    def _coordinator_ended(self) -> bool:
        """Whether aiokafka's coordination task died: it logs an unexpected error and is never started again."""
        consumer = self._thread._consumer
        task = getattr(getattr(consumer, "_coordinator", None), "_coordination_task", None)
        return not self.should_stop and task is not None and task.done()

    async def perform_seek(self) -> None:
        """Called when an assignment is complete, before fetching begins."""
        await super().perform_seek()
        tps = [TP(tp.topic, tp.partition) for tp in self.assignment()]
        if not tps:
            return
        first = await self.earliest_offsets(*tps)
        ends = await self.highwaters(*tps)
        known = await self._known_positions(tps)
        starts: dict[TP, tuple[int, int]] = {}
        for tp in tps:
            position = known.get((tp.topic, tp.partition), self._read_offset[tp])
            start = first[tp] if position is None else position
            read_to = self.runner.read_to.get(tp, 0) if position is None else position
            if position is not None and position < first[tp]:
                self.runner.alarm(_overrun(tp, position, first[tp]))
                start = first[tp]
            elif read_to > ends[tp]:  # the broker forgets a group's offsets with the topic; the store and this process do not
                self.runner.alarm(_made_anew(tp, read_to, ends[tp]))
                start = first[tp]
            starts[tp] = (start, ends[tp])
        await self._thread.seek_wait({tp: start for tp, (start, _) in starts.items()})
        for tp in starts:
            self._read_offset[tp] = None  # else Faust drops what it thinks it has read
        await self.runner.begin(starts)

    async def _known_positions(self, tps: Sequence[TP]) -> Mapping[tuple[str, int], int | None]:
        await self.runner.ensure_started()
        return await self.runner.stage.positions([(tp.topic, tp.partition) for tp in tps])

    async def on_stop(self) -> None:
        await self.runner.drain(self.runner.stage.drain_on_stop)
        await self.force_commit()
        await self.runner.forget()
        await self.runner.stage.stop()
        self.runner.state = "stopped"
        await self.runner.tell()
        await super().on_stop()


class _Transport(driver.Transport):  # type: ignore[misc]  # Faust ships no types we follow
    """Hands our consumer its runner."""

    def __init__(self, url: Any, app: Any, runner: Runner) -> None:
        super().__init__(url, app)
        self._runner = runner

    def create_consumer(self, callback: Any, **kwargs: Any) -> Any:
        consumer = _Consumer(self, callback=callback, loop=self.loop, **kwargs)
        consumer.runner = self._runner
        return consumer
