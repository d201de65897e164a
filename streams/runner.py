"""Runs a stage on what a consumer fetches: lanes, the chain of each partition, what may be committed, health and the watchdog.

What is committed is decided here, by one rule: the end of the unbroken, finished beginning of what was delivered to the stage
(streams/tracker.py). A stage that stands still is ended rather than left to look healthy. No Kafka and no Faust in this room.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.codec import UnknownFingerprint
from streams.collector import spare_the_collector
from streams.health import PartitionHealth, StageHealth, write_health
from streams.settings import Settings
from streams.stage import Assignment, Batch, Record, Stage
from streams.tracker import PrefixTracker, Unit

log = logging.getLogger("ai_agents.runner")

JOIN_SECONDS = 90.0
REBALANCE_SECONDS = 60.0


class Place(NamedTuple):
    """A topic's partition; equal to Faust's and aiokafka's own tuples of the same."""

    topic: str
    partition: int


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
    """Runs one stage: lanes, what may be committed, drains, health and the watchdog. The consumer calls it (streams/batching.py).

    `end` is called once, with what ended the work; `highwater` answers a partition's end offset as far as it is known, else 0.
    """

    def __init__(
        self,
        stage: Stage,
        settings: Settings,
        end: Callable[[BaseException], Awaitable[None]],
        highwater: Callable[[Place], int] = lambda place: 0,
    ) -> None:
        self.stage = stage
        self.settings = settings
        self.lanes: dict[Place, _Lane] = {}
        self.read_to: dict[Place, int] = {}
        """Where lanes that are gone had come to."""
        self.alarms: deque[str] = deque(maxlen=20)
        self.counters: dict[str, int] = {}
        self.latencies: deque[float] = deque(maxlen=2000)
        """Seconds from a batch's arrival to its end, or its records' ends; the newest."""
        self.state = "starting"
        self.room = asyncio.Event()
        self._telling = asyncio.Lock()
        self._started_at = time.time_ns() // 1000
        self.crashed = False
        self._started = False
        self._beat = time.monotonic()
        self._joined_by = time.monotonic() + JOIN_SECONDS
        stage.runner = self
        self._end = end
        self._highwater = highwater

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
        if self.crashed:
            return
        self.crashed = True
        self.state = "crashed"
        self.alarm(f"stops after {type(exc).__name__}: {exc}")
        log.error("stage %s crashed", self.stage.name, exc_info=exc)
        _exit_later(10.0, 70)  # an orderly stop that hangs must not become a silent stall
        await self.tell()
        await self._end(exc)

    # --- lanes -----------------------------------------------------------------------------------------------------------

    async def ensure_started(self) -> None:
        """Starts the stage, once."""
        if not self._started:
            self._started = True
            await self.stage.start()
            spare_the_collector()

    def dispatch(self, batch: Batch) -> None:
        """Puts an accepted batch into its lane; one of an assignment that ended is dropped, it is read again."""
        lane = self.lanes.get(Place(batch.topic, batch.partition))
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

    async def begin(self, starts: Mapping[Place, tuple[int, int]]) -> None:
        """New lanes for an assignment: {Place: (first offset to read, end offset now)}."""
        await self.ensure_started()
        await self.forget()
        now = time.time_ns() // 1000
        for tp, (start, end) in starts.items():
            assignment = Assignment(tp.topic, tp.partition, start, end, now)
            lane = _Lane(assignment, PrefixTracker(start), asyncio.Queue())
            lane.task = asyncio.get_running_loop().create_task(self._feed(lane), name=f"lane {tp.topic}[{tp.partition}]")
            self.lanes[tp] = lane
        self.state = "running"

    def accept(self, tp: Place, records: list[Record]) -> Batch | int | None:
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

    def expected(self, tp: Place) -> int:
        """The offset the partition's chain continues with."""
        lane = self.lanes.get(tp)
        return lane.tracker.expected if lane is not None else 0

    def has_room(self, tp: Place) -> bool:
        """Whether this partition may deliver more."""
        lane = self.lanes.get(tp)
        return lane is not None and lane.tracker.pending < self.stage.max_pending

    def committable(self) -> dict[Place, int]:
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

    def committed(self, offsets: Mapping[Place, int]) -> None:
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
        while not self.crashed:
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

    def watch_the_loop(self) -> None:
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
            lane = self.lanes[Place(health.topic, health.partition)]
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
            end = max(self._highwater(tp), lane.assignment.end, lane.tracker.expected)
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


def dump_tasks() -> None:
    """Every task's stack to the log: what it was waiting for when progress stopped."""
    for task in asyncio.all_tasks():
        frames = "".join(f"\n    {f.f_code.co_filename}:{f.f_lineno} {f.f_code.co_name}" for f in task.get_stack(limit=8))
        log.error("task %s%s", task.get_name(), frames)


def _exit_later(seconds: float, code: int) -> None:
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()
