"""Many calls in flight, one event at a time per ticket. `KeyedSchedule` decides and is pure; `KeyedRunner` is the asyncio around it.

An event *begins* when it is the first of its key. From then on it holds a place only while it calls: what waits (for a retry, for
a search to be believable) keeps its ticket but lets others call. Places are limited in all and for each lane, a tenant's tool.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum, auto
from functools import partial
from typing import Any, Generic, TypeVar

from streams.clock import Clock
from streams.effects import Turn, Withdrawn

IN_FLIGHT = 64
PER_LANE = 16
OVERDUE_SECONDS = 30.0
"""How long a begun job may take from one step to its next, waiting apart: longer than any call, and than the broker's ack."""
T = TypeVar("T")


class State(Enum):
    """Where a job stands."""

    FOLLOWING = auto()
    """An earlier event of its key is not finished."""
    READY = auto()
    """Wants a place."""
    PLACED = auto()
    """Has a place."""
    WAITING = auto()
    """Begun, and lets others have its place."""
    FINISHED = auto()


class Job(Generic[T]):
    """One event in the schedule."""

    __slots__ = ("begun", "item", "key", "lane", "partition", "state")

    def __init__(self, partition: int, key: bytes, lane: str, item: T) -> None:
        self.partition = partition
        self.key = key
        self.lane = lane
        self.item = item
        self.state = State.FOLLOWING
        self.begun = False


class _Lane(Generic[T]):
    __slots__ = ("placed", "queued", "ready")

    def __init__(self) -> None:
        self.ready: deque[Job[T]] = deque()
        self.placed = 0
        self.queued = False
        """Whether the lane stands in the round of those that could use a place."""


class KeyedSchedule(Generic[T]):
    """Gives places: to the first unfinished job of each key only, in the order submitted, lane after lane in turn.

    Every method is O(1) amortised but `withdraw`, which looks at all jobs of a partition.
    """

    def __init__(self, in_flight: int = IN_FLIGHT, per_lane: int = PER_LANE) -> None:
        self._limit = in_flight
        self._per_lane = per_lane
        self._placed = 0
        self._keys: dict[tuple[int, bytes], deque[Job[T]]] = {}
        self._lanes: dict[str, _Lane[T]] = {}
        self._round: deque[str] = deque()

    def submit(self, job: Job[T]) -> None:
        """Takes a job in; jobs of a key are submitted in their order."""
        jobs = self._keys.setdefault((job.partition, job.key), deque())
        jobs.append(job)
        if len(jobs) == 1:
            self._want(job)

    def take(self) -> list[Job[T]]:
        """The jobs that get a place now; a job that waited gets its place back here too."""
        taken = []
        while self._round and self._placed < self._limit:
            name = self._round.popleft()
            lane = self._lanes[name]
            job = lane.ready.popleft()
            job.state, job.begun = State.PLACED, True
            lane.placed += 1
            self._placed += 1
            taken.append(job)
            lane.queued = False
            self._queue(name, lane)
        return taken

    def pause(self, job: Job[T]) -> None:
        """The job gives up its place and keeps its key."""
        self._leave(job)
        job.state = State.WAITING

    def resume(self, job: Job[T]) -> None:
        """The job wants a place again; it comes before those of its lane that have not begun."""
        self._want(job, first=True)

    def finish(self, job: Job[T]) -> None:
        """The job is over, from whichever state; the next of its key may begin."""
        if job.state is State.PLACED:
            self._leave(job)
        elif job.state is State.READY:
            self._unwant(job)
        job.state = State.FINISHED
        jobs = self._keys[job.partition, job.key]
        jobs.popleft()
        if jobs:
            self._want(jobs[0])
        else:
            del self._keys[job.partition, job.key]

    def withdraw(self, partition: int | None = None) -> list[Job[T]]:
        """Takes out the jobs of a partition (None: of all) that have not begun, and answers them."""
        out: list[Job[T]] = []
        for place in [p for p in self._keys if partition is None or p[0] == partition]:
            jobs = self._keys[place]
            first = jobs.popleft()
            out.extend(jobs)
            jobs.clear()
            if first.begun:
                jobs.append(first)
            else:
                self._unwant(first)
                out.append(first)
                del self._keys[place]
        for job in out:
            job.state = State.FINISHED
        return out

    def has(self, partition: int) -> bool:
        """Whether a job of the partition is unfinished."""
        return any(number == partition for number, _ in self._keys)

    def _want(self, job: Job[T], *, first: bool = False) -> None:
        job.state = State.READY
        lane = self._lanes.setdefault(job.lane, _Lane())
        if first:
            lane.ready.appendleft(job)
        else:
            lane.ready.append(job)
        self._queue(job.lane, lane)

    def _unwant(self, job: Job[T]) -> None:
        lane = self._lanes[job.lane]
        lane.ready.remove(job)
        if not lane.ready and lane.queued:
            self._round.remove(job.lane)
            lane.queued = False
        self._drop_if_idle(job.lane, lane)

    def _leave(self, job: Job[T]) -> None:
        lane = self._lanes[job.lane]
        lane.placed -= 1
        self._placed -= 1
        self._queue(job.lane, lane)
        self._drop_if_idle(job.lane, lane)

    def _queue(self, name: str, lane: _Lane[T]) -> None:
        if lane.ready and not lane.queued and lane.placed < self._per_lane:
            lane.queued = True
            self._round.append(name)

    def _drop_if_idle(self, name: str, lane: _Lane[T]) -> None:
        if not lane.ready and not lane.placed:
            del self._lanes[name]


class _Turn(Turn):
    """One job's turn, as effects see it."""

    __slots__ = ("_placed", "_runner", "_stopping", "job", "overdue_at")

    def __init__(self, runner: KeyedRunner[Any], job: Job[Any], stopping: asyncio.Event) -> None:
        self.job = job
        self.overdue_at = time.monotonic() + OVERDUE_SECONDS
        self._runner = runner
        self._stopping = stopping
        self._placed = asyncio.Event()

    def check(self) -> None:
        if self._stopping.is_set() or not self._runner.may_call():
            raise Withdrawn
        self.overdue_at = time.monotonic() + OVERDUE_SECONDS

    async def wait(self, seconds: float) -> None:
        self.check()
        self.overdue_at = math.inf
        schedule = self._runner.schedule
        schedule.pause(self.job)
        self._runner.begin_ready()
        await self._unless_stopping(self._runner.clock.sleep(seconds))
        self._placed.clear()
        schedule.resume(self.job)
        self._runner.begin_ready()
        await self._unless_stopping(self._placed.wait())

    def place(self) -> None:
        """The job has its place back."""
        self._placed.set()

    async def _unless_stopping(self, waiting: Coroutine[Any, Any, object]) -> None:
        awaited, stop = asyncio.ensure_future(waiting), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({awaited, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            awaited.cancel()
            stop.cancel()
        self.check()


class KeyedRunner(Generic[T]):
    """Runs `work(item, turn)` for each submitted item, as the schedule allows.

    `work` marks its item done itself. Withdrawn ends it quietly; any other exception is a fault of ours and goes to `crash`.
    `may_call` is asked before each call: False means that this worker may have lost its partitions without knowing yet.
    """

    def __init__(
        self,
        work: Callable[[T, Turn], Awaitable[None]],
        *,
        clock: Clock,
        crash: Callable[[BaseException], None],
        may_call: Callable[[], bool] = lambda: True,
        schedule: KeyedSchedule[T] | None = None,
    ) -> None:
        self.schedule: KeyedSchedule[T] = schedule or KeyedSchedule()
        self.clock = clock
        self.may_call = may_call
        self._work = work
        self._crash = crash
        self._turns: dict[Job[T], tuple[_Turn, asyncio.Task[None]]] = {}
        self._stopping: dict[int, asyncio.Event] = {}

    def opened(self, partition: int) -> None:
        """The partition is ours, anew; called once nothing of its last time is left (see `drain`)."""
        self._stopping[partition] = asyncio.Event()

    def submit(self, partition: int, key: bytes, lane: str, item: T) -> None:
        """Takes an item in; those of one key in their order. Items of a partition that is being given up are not taken."""
        if self._stop_of(partition).is_set():
            return
        self.schedule.submit(Job(partition, key, lane, item))
        self.begin_ready()

    def begin_ready(self) -> None:
        """Starts, or wakes, what got a place."""
        for job in self.schedule.take():
            if job in self._turns:
                self._turns[job][0].place()
                continue
            turn = _Turn(self, job, self._stop_of(job.partition))
            task = asyncio.get_running_loop().create_task(self._run(job, turn))
            self._turns[job] = (turn, task)
            task.add_done_callback(partial(self._over, job))

    async def drain(self, timeout: float, partition: int | None = None) -> None:
        """Gives up a partition (None: all): nothing begins, calls under way may end within `timeout`, then they are cancelled."""
        for number, event in self._stopping.items():
            if partition is None or number == partition:
                event.set()
        self.schedule.withdraw(partition)
        tasks = {task for job, (_, task) in self._turns.items() if partition is None or job.partition == partition}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=0.5)

    def is_moving(self, partition: int) -> bool:
        """Whether the partition has work, and all that is begun goes on or waits for a time that will come; the rest waits for a place."""
        now = time.monotonic()
        return self.schedule.has(partition) and all(
            turn.overdue_at > now for job, (turn, _) in self._turns.items() if job.partition == partition
        )

    def _stop_of(self, partition: int) -> asyncio.Event:
        return self._stopping.setdefault(partition, asyncio.Event())

    async def _run(self, job: Job[T], turn: _Turn) -> None:
        try:
            await self._work(job.item, turn)
        except Withdrawn:
            return
        except Exception as exc:  # noqa: BLE001 - a fault of ours: the process ends and the event is done again
            for event in self._stopping.values():  # nor may its followers begin
                event.set()
            self._crash(exc)

    def _over(self, job: Job[T], _: asyncio.Task[None]) -> None:
        del self._turns[job]
        if self._stop_of(job.partition).is_set():
            self.schedule.withdraw(job.partition)
        self.schedule.finish(job)
        self.begin_ready()
