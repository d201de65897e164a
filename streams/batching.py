"""Partition batches through Faust: the one room that knows Faust's insides (pinned ==0.15.3, guarded by a test).

The App, the agent, the worker and its group are Faust's. The unit that travels through its stream is one partition's fetched
batch, because a Faust event costs about 100 us of machinery. What is committed is decided here, by one rule: the end of the
unbroken, finished beginning of what was delivered to the stage (streams/tracker.py). Faust's own acknowledgement loses records
when an agent raises, when it runs concurrently, and when offsets jump; none of it is used.

A `Stage` is what runs on top: it is told of each assigned partition before that partition's first batch (the gate, where caches
are caught up), gets batches in order, one partition at a time, and marks them done. It never raises for a record's sake.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, cast

import faust
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from schemas.codec import UnknownFingerprint
from streams.collector import spare_the_collector
from streams.health import PartitionHealth, StageHealth, write_health
from streams.settings import Settings
from streams.tracker import PrefixTracker, Unit

log = logging.getLogger("ai_agents.batching")

STALL_SECONDS = 30.0
JOIN_SECONDS = 90.0
SESSION_SECONDS = 20.0
REBALANCE_SECONDS = 60.0
THIN = 0.25
"""A fetch with less than this share of the records it may bring is thin."""


class Record(Protocol):
    """What a stage reads of a fetched record."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...
    @property
    def timestamp(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Assignment:
    """A partition given to this process. `start` is the first offset to read; `assigned_at` in epoch microseconds."""

    topic: str
    partition: int
    start: int
    end: int
    assigned_at: int


@dataclass(slots=True, eq=False)
class Batch:
    """One partition's fetched records, in offset order."""

    assignment: Assignment
    records: list[Record]
    _units: Mapping[int, Unit] | Unit
    _latencies: deque[float] = field(default_factory=deque)
    _begun: float = field(default_factory=time.perf_counter)

    @property
    def topic(self) -> str:
        return self.assignment.topic

    @property
    def partition(self) -> int:
        return self.assignment.partition

    def done(self) -> None:
        """Everything in the batch is durable downstream."""
        self._latencies.append(time.perf_counter() - self._begun)
        if isinstance(self._units, Unit):
            self._units.done = True
        else:
            for unit in self._units.values():
                unit.done = True

    def record_done(self, offset: int) -> None:
        """One record is durable downstream; only for stages that are `per_record`."""
        self._latencies.append(time.perf_counter() - self._begun)
        cast("Mapping[int, Unit]", self._units)[offset].done = True


class Stage:
    """What a process does with batches; subclassed by streams/agents. Called on one event loop."""

    name: ClassVar[str]
    topics: ClassVar[tuple[str, ...]]
    per_record: ClassVar[bool] = False
    max_poll_records: ClassVar[int] = 2000
    max_pending: ClassVar[int] = 8000
    """Records of one partition that may be delivered and unfinished before its fetching waits."""
    linger: ClassVar[float] = 0.02
    """Seconds from a fetch that brought little to the next, else a thin stream costs a round trip and a commit for every record."""
    drain_on_revoke: ClassVar[float] = 20.0
    drain_on_stop: ClassVar[float] = 7.0
    stall_after: ClassVar[float] = STALL_SECONDS
    """Seconds without progress, with work waiting, after which the process ends."""

    runner: Runner
    """Set before `start`: alarms, counters, `crash`."""

    async def start(self) -> None:
        """Connect what the stage needs; the broker is reachable."""

    async def stop(self) -> None:
        """Let go of what `start` took."""

    async def positions(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int | None]:
        """First offsets to read where the stage, not the group, knows them; others start at the group's committed offset.

        None means the log's start, wherever that is: a partition the stage has never read.
        """
        return {}

    async def assigned(self, assignment: Assignment) -> None:
        """The gate: returns when this partition's first batch may come. Others go on meanwhile."""

    async def handle(self, batch: Batch) -> None:
        """Work on a batch, or hand it on; mark it done later. Batches of a partition come one after the other.

        UnknownFingerprint pauses the partition until `ready_again`; the same batch then comes again. Any other exception is a
        fault of ours: the process ends, and the batch is read again.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Called each second: alarms what an operator must see; what it raises ends the process."""

    async def ready_again(self, fingerprint: bytes) -> None:
        """Returns when records with this schema fingerprint can be decoded."""
        await asyncio.Event().wait()

    async def drain(self, timeout: float) -> None:
        """Begin nothing new; return when what was begun is finished, or when `timeout` seconds have passed."""


@dataclass(slots=True, eq=False)
class _Lane:
    """One assigned partition: its chain, its queue and the task that feeds the stage."""

    assignment: Assignment
    tracker: PrefixTracker
    queue: asyncio.Queue[Batch]
    task: asyncio.Task[None] | None = None
    working: bool = False
    sent: int = -1
    hole: int = -1
    paused: str = ""
    progressed: float = field(default_factory=time.monotonic)


class Runner:
    """Runs one stage in a Faust worker: lanes, commits, drains, health and the watchdog."""

    def __init__(self, stage: Stage, settings: Settings) -> None:
        self.stage = stage
        self.settings = settings
        self.lanes: dict[TP, _Lane] = {}
        self.read_to: dict[TP, int] = {}
        """Where lanes that are gone had come to."""
        self.alarms: deque[str] = deque(maxlen=20)
        self.counters: dict[str, int] = {}
        self.latencies: deque[float] = deque(maxlen=2000)
        """Seconds from a batch's arrival to its end, or its records' ends; the newest."""
        self.state = "starting"
        self.room = asyncio.Event()
        self._telling = asyncio.Lock()
        self._started_at = time.time_ns() // 1000
        self._crashed = False
        self._started = False
        self._beat = time.monotonic()
        self._joined_by = time.monotonic() + JOIN_SECONDS
        stage.runner = self
        self.app = self._build_app()

    # --- what a stage uses -----------------------------------------------------------------------------------------------

    def alarm(self, text: str) -> None:
        """Says something an operator must see: in the log, and in the health file until the process ends."""
        log.error("%s: %s", self.stage.name, text)
        if text not in self.alarms:
            self.alarms.append(text)

    def count(self, name: str, n: int = 1) -> None:
        """Adds to a counter of the health file."""
        self.counters[name] = self.counters.get(name, 0) + n

    async def crash(self, exc: BaseException) -> None:
        """Ends the process with what is unfinished uncommitted; the supervisor starts it again. Never returns to normal work."""
        if self._crashed:
            return
        self._crashed = True
        self.state = "crashed"
        self.alarm(f"stops after {type(exc).__name__}: {exc}")
        log.error("stage %s crashed", self.stage.name, exc_info=exc)
        _exit_later(10.0, 70)  # an orderly stop that hangs must not become a silent stall
        await self.tell()
        await self.app.crash(exc)

    # --- the Faust side --------------------------------------------------------------------------------------------------

    def _build_app(self) -> faust.App:
        stage, settings = self.stage, self.settings
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
            broker_commit_interval=0.1,
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
        app.transport = _Transport(app.conf.broker_consumer, app, self)
        app.producer_transport = _Transport(app.conf.broker_producer, app, self)

        async def dispatch(batches: Any) -> None:
            async for event in batches.noack().events():
                self._dispatch(event.message.value)

        app.agent(app.topic(*stage.topics, schema=_BatchSchema(), acks=False), name=stage.name)(dispatch)
        return app

    def run(self) -> int:
        """Runs until a signal or a crash; answers the process's exit code."""
        (self.settings.data_dir / "faust" / self.stage.name).mkdir(parents=True, exist_ok=True)  # Faust makes only the last folder
        threading.Thread(target=self._watch_the_loop, name="loop watchdog", daemon=True).start()
        worker = faust.Worker(self.app, loglevel="WARN", quiet=True, override_logging=False, redirect_stdouts=False, debug=False)
        try:
            worker.execute_from_commandline()
        except SystemExit as exc:
            return 70 if self._crashed else int(exc.code or 0)
        return 70 if self._crashed else 0

    async def ensure_started(self) -> None:
        """Starts the stage, once."""
        if not self._started:
            self._started = True
            await self.stage.start()
            spare_the_collector()

    def _dispatch(self, batch: Batch) -> None:
        lane = self.lanes.get(TP(batch.topic, batch.partition))
        if lane is not None and lane.assignment is batch.assignment:
            lane.queue.put_nowait(batch)

    async def _feed(self, lane: _Lane) -> None:
        """A lane's task: the gate, then batch after batch."""
        try:
            await self.stage.assigned(lane.assignment)
            while True:
                batch = await lane.queue.get()
                while self.state != "draining":
                    try:
                        lane.working = True
                        await self.stage.handle(batch)
                    except UnknownFingerprint as exc:
                        lane.working = False
                        lane.paused = f"unknown schema {exc.fingerprint.hex()}"
                        self.alarm(
                            f"{batch.topic}[{batch.partition}] waits: {exc}; publish the writer's schema "
                            "(any current writer does so when it starts)"
                        )
                        await self.stage.ready_again(exc.fingerprint)
                        self.alarm(f"{batch.topic}[{batch.partition}] goes on: schema {exc.fingerprint.hex()} is known now")
                        lane.paused = ""
                    else:
                        break
                    finally:
                        lane.working = False
                        self.room.set()
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it was, the batch must not count as done
            await self.crash(exc)

    # --- called by the consumer ------------------------------------------------------------------------------------------

    async def begin(self, starts: Mapping[TP, tuple[int, int]]) -> None:
        """New lanes for an assignment: {TP: (first offset to read, end offset now)}."""
        await self.ensure_started()
        await self.forget()
        now = time.time_ns() // 1000
        for tp, (start, end) in starts.items():
            assignment = Assignment(tp.topic, tp.partition, start, end, now)
            lane = _Lane(assignment, PrefixTracker(start), asyncio.Queue())
            lane.task = asyncio.get_running_loop().create_task(self._feed(lane), name=f"lane {tp.topic}[{tp.partition}]")
            self.lanes[tp] = lane
        self.state = "running"

    def accept(self, tp: TP, records: list[Record]) -> Batch | int | None:
        """The batch if it continues the chain; an offset to fetch again from when something was dropped; None to ignore it."""
        lane = self.lanes.get(tp)
        if lane is None:
            return None
        want = lane.tracker.expected
        if records[0].offset > want and lane.hole != records[0].offset:
            lane.hole = records[0].offset  # only the same answer twice is a real gap: a compacted record, a transaction marker
            return want
        if records[0].offset < want:
            records = [r for r in records if r.offset >= want]
            if not records:
                return None
        if self.stage.per_record:
            units: Mapping[int, Unit] | Unit = {r.offset: lane.tracker.add(r.offset + 1, 1) for r in records}
        else:
            units = lane.tracker.add(records[-1].offset + 1, len(records))
        return Batch(lane.assignment, records, units, self.latencies)

    def expected(self, tp: TP) -> int:
        """The offset the partition's chain continues with."""
        lane = self.lanes.get(tp)
        return lane.tracker.expected if lane is not None else 0

    def has_room(self, tp: TP) -> bool:
        """Whether this partition may deliver more."""
        lane = self.lanes.get(tp)
        return lane is not None and lane.tracker.pending < self.stage.max_pending

    def committable(self) -> dict[TP, int]:
        """Offsets that moved since they were last committed."""
        moved = {}
        for tp, lane in self.lanes.items():
            before = lane.tracker.pending
            offset = lane.tracker.committable()
            if lane.tracker.pending != before:
                lane.progressed = time.monotonic()
                self.room.set()
            if offset != lane.sent and offset > lane.assignment.start:
                moved[tp] = offset
        return moved

    def committed(self, offsets: Mapping[TP, int]) -> None:
        """The broker has these commits."""
        for tp, offset in offsets.items():
            if (lane := self.lanes.get(tp)) is not None:
                lane.sent = offset

    async def drain(self, timeout: float) -> None:
        """No new batch begins; what was begun may finish within `timeout`."""
        self.state = "draining"
        try:
            async with asyncio.timeout(timeout + 1.0):
                while any(lane.working for lane in self.lanes.values()):
                    self.room.clear()
                    await self.room.wait()
                await self.stage.drain(timeout)
        except TimeoutError:
            log.warning("stage %s: not all finished within %.0f s; the rest is read again", self.stage.name, timeout)

    async def forget(self) -> None:
        """Drops the lanes; batches still marked done later change nothing."""
        tasks = [lane.task for lane in self.lanes.values() if lane.task is not None]
        self.read_to.update({tp: lane.tracker.committable() for tp, lane in self.lanes.items()})
        self.lanes.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- health and the watchdog -----------------------------------------------------------------------------------------

    def joined(self, partitions: int) -> None:
        """The group gave this process its partitions; none is a healthy answer when there are more workers than partitions."""
        self._joined_by = float("inf")
        if partitions == 0:
            self.state = "idle"

    def left(self) -> None:
        """The group takes its partitions back to share them anew; an answer must come in time."""
        self._joined_by = time.monotonic() + JOIN_SECONDS + REBALANCE_SECONDS

    async def watch(self, coordinator_ended: Callable[[], bool]) -> None:
        """Writes the health file each second, and ends the process rather than let it stand still in silence."""
        while not self._crashed:
            self._beat = now = time.monotonic()
            await self.tell()
            try:
                self.stage.check()
            except Exception as exc:  # noqa: BLE001 - whatever it is, the process cannot do its work
                await self.crash(exc)
            if stalled := self._stalled():
                dump_tasks()
                await self.crash(RuntimeError(f"no progress for {self.stage.stall_after:.0f} s with work waiting on {', '.join(stalled)}"))
            elif coordinator_ended():
                await self.crash(RuntimeError("the group coordination ended; without it nothing would be read, and nothing would say so"))
            elif now > self._joined_by:
                dump_tasks()
                await self.crash(RuntimeError(f"the group gave no assignment within {JOIN_SECONDS:.0f} s"))
            await asyncio.sleep(1.0)

    def _watch_the_loop(self) -> None:
        """From a thread: an event loop that stands still cannot report itself."""
        while True:
            time.sleep(1.0)
            started = self._beat
            if time.monotonic() - started > self.stage.stall_after + JOIN_SECONDS * (self.state == "starting"):
                log.critical("stage %s: the event loop stands still; the process ends", self.stage.name)
                faulthandler.dump_traceback()
                os._exit(70)

    def _stalled(self) -> list[str]:
        now = time.monotonic()
        found = []
        for health in self.partition_health():
            lane = self.lanes[TP(health.topic, health.partition)]
            if health.lag == 0 or health.paused:
                lane.progressed = now
            elif now - lane.progressed > self.stage.stall_after and self.state == "running":
                found.append(f"{health.topic}[{health.partition}] (lag {health.lag})")
        return found

    def partition_health(self) -> list[PartitionHealth]:
        """How each assigned partition stands."""
        found = []
        for tp, lane in self.lanes.items():
            committed = max(lane.sent, lane.assignment.start)
            end = max(_highwater(self.app, tp), lane.assignment.end, lane.tracker.expected)
            found.append(
                PartitionHealth(
                    topic=tp.topic,
                    partition=tp.partition,
                    committed=committed,
                    end=end,
                    lag=end - committed,
                    pending=lane.tracker.pending,
                    last_progress=int((time.time() - (time.monotonic() - lane.progressed)) * 1e6),
                    paused=lane.paused,
                )
            )
        return found

    async def tell(self) -> None:
        """Writes the health file, on a thread: replacing a file waits for the disk, for a tenth of a second when that is busy."""
        async with self._telling:
            await asyncio.to_thread(self._write_health, self._health())

    def _health(self) -> StageHealth:
        ordered = sorted(self.latencies)
        return StageHealth(
            stage=self.stage.name,
            instance=self.settings.instance,
            pid=os.getpid(),
            at=time.time_ns() // 1000,
            started_at=self._started_at,
            state="paused" if any(lane.paused for lane in self.lanes.values()) and self.state == "running" else self.state,
            partitions=self.partition_health(),
            alarms=list(self.alarms),
            counters=dict(self.counters),
            p50_ms=_nearest_rank_ms(ordered, 50),
            p99_ms=_nearest_rank_ms(ordered, 99),
        )

    def _write_health(self, health: StageHealth) -> None:
        try:
            write_health(self.settings.data_dir, health)
        except OSError as exc:  # a full disk must not stop the stream; the broker's data may be elsewhere
            log.warning("cannot write the health file: %s", exc)


def _nearest_rank_ms(ordered: Sequence[float], percent: int) -> float | None:
    return round(ordered[len(ordered) * percent // 100] * 1000, 2) if ordered else None


def _highwater(app: faust.App, tp: TP) -> int:
    try:
        return int(app.consumer.highwater(tp) or 0)
    except Exception:  # noqa: BLE001 - between assignments Faust and aiokafka raise whatever they find missing
        return 0


def _overrun(tp: TP, position: int, first: int) -> str:
    lost = first - position
    return f"RetentionOverrun: {tp.topic}[{tp.partition}] lost {lost} records to retention before they were read, from offset {position} on"


def _made_anew(tp: TP, position: int, end: int) -> str:
    return f"{tp.topic}[{tp.partition}] was made anew: position {position} is past its end {end}; it is read from its start"


def dump_tasks() -> None:
    """Every task's stack to the log: what it was waiting for when progress stopped."""
    for task in asyncio.all_tasks():
        frames = "".join(f"\n    {f.f_code.co_filename}:{f.f_lineno} {f.f_code.co_name}" for f in task.get_stack(limit=8))
        log.error("task %s%s", task.get_name(), frames)


def _exit_later(seconds: float, code: int) -> None:
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()


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


def run_stage(stage: Stage, settings: Settings, *, log_level: str = "INFO") -> int:
    """Runs a stage in this process until a signal or a crash; answers the exit code."""
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)-7s %(name)s %(message)s")
    for noisy in ("aiokafka", "faust", "mode", __name__):  # Faust's services log under the module of their class
        logging.getLogger(noisy).setLevel("WARNING")
    logging.getLogger("mode.timers").setLevel("ERROR")  # a commit that takes longer than its interval is no news
    return Runner(stage, settings).run()


__all__ = ["Assignment", "Batch", "Record", "Runner", "Stage", "run_stage"]
