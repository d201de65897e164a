"""The schedule of calls: order within a ticket, limits, no ticket forgotten; and its runner when partitions are given up."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.clock import SystemClock
from streams.effects import Turn, Withdrawn
from streams.keyed import Job, KeyedRunner, KeyedSchedule, State

IN_FLIGHT, PER_LANE = 4, 2


class Scheduling(RuleBasedStateMachine):
    """Jobs come, get places, wait, go on and end, in any order; a partition may be withdrawn at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule: KeyedSchedule[int] = KeyedSchedule(in_flight=IN_FLIGHT, per_lane=PER_LANE)
        self.jobs: list[Job[int]] = []
        self.begun: dict[tuple[int, bytes], list[int]] = defaultdict(list)

    def alive(self, *states: State) -> list[Job[int]]:
        return [job for job in self.jobs if job.state in states]

    @rule(partition=st.integers(0, 1), key=st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), lane=st.sampled_from("xyz"))
    def submit(self, partition: int, key: bytes, lane: str) -> None:
        job = Job(partition, key, lane, len(self.jobs))
        self.jobs.append(job)
        self.schedule.submit(job)

    @rule()
    def take(self) -> None:
        waited = {id(job) for job in self.jobs if job.begun}
        for job in self.schedule.take():
            assert job.state is State.PLACED
            if id(job) not in waited:
                self.begun[job.partition, job.key].append(job.item)

    @precondition(lambda self: self.alive(State.PLACED))
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        self.schedule.pause(data.draw(st.sampled_from(self.alive(State.PLACED))))

    @precondition(lambda self: self.alive(State.WAITING))
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        self.schedule.resume(data.draw(st.sampled_from(self.alive(State.WAITING))))

    @precondition(lambda self: any(job.begun for job in self.alive(State.PLACED, State.WAITING, State.READY)))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        begun = [job for job in self.alive(State.PLACED, State.WAITING, State.READY) if job.begun]
        self.schedule.finish(data.draw(st.sampled_from(begun)))

    @rule(partition=st.sampled_from([0, 1, None]))
    def withdraw(self, partition: int | None) -> None:
        out = {id(job) for job in self.schedule.withdraw(partition)}
        for job in self.jobs:
            if job.state is not State.FINISHED and not job.begun:
                assert partition is not None and job.partition != partition
            assert not (id(job) in out and job.begun)

    @invariant()
    def limits_hold(self) -> None:
        placed = self.alive(State.PLACED)
        assert len(placed) <= IN_FLIGHT
        assert all(sum(job.lane == lane for job in placed) <= PER_LANE for lane in "xyz")

    @invariant()
    def one_at_a_time_and_in_order_per_key(self) -> None:
        going_on = [(job.partition, job.key) for job in self.jobs if job.begun and job.state is not State.FINISHED]
        assert len(going_on) == len(set(going_on))
        assert all(items == sorted(items) for items in self.begun.values())

    def teardown(self) -> None:
        """Whatever happened, everything ends when waits end and calls return: nothing is stuck."""
        for _ in range(2 * len(self.jobs) + 1):
            for job in self.alive(State.WAITING):
                self.schedule.resume(job)
            self.take()
            self.limits_hold()
            for job in self.alive(State.PLACED):
                self.schedule.finish(job)
        assert not self.alive(State.FOLLOWING, State.READY, State.PLACED, State.WAITING)
        assert not self.schedule.has(0) and not self.schedule.has(1)


TestScheduling = Scheduling.TestCase
TestScheduling.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def test_a_busy_tool_leaves_places_to_the_others() -> None:
    """One tenant's slow tool must not hold every place of the worker."""
    schedule: KeyedSchedule[int] = KeyedSchedule(in_flight=64, per_lane=16)
    for n in range(1000):
        schedule.submit(Job(0, str(n).encode(), "acme/slow", n))
    quick = Job(0, b"quick", "globex/quick", -1)
    schedule.submit(quick)
    taken = schedule.take()
    assert quick in taken
    assert len(taken) == 17


def test_what_waits_lets_others_of_its_lane_call() -> None:
    """A ticket held for a retry holds its followers only."""
    schedule: KeyedSchedule[int] = KeyedSchedule(in_flight=1, per_lane=1)
    first, follower, other = Job(0, b"a", "x", 1), Job(0, b"a", "x", 2), Job(0, b"b", "x", 3)
    for job in (first, follower, other):
        schedule.submit(job)
    assert schedule.take() == [first]
    schedule.pause(first)
    assert schedule.take() == [other]
    schedule.resume(first)
    schedule.finish(other)
    assert schedule.take() == [first]
    schedule.finish(first)
    assert schedule.take() == [follower]


class Calls:
    """Work that calls and waits as it is told, and remembers what it did."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.withdrawn: list[str] = []
        self.cancelled: list[str] = []
        self.answer = asyncio.Event()
        self.crashes: list[BaseException] = []
        self.runner: KeyedRunner[str] = KeyedRunner(self.work, clock=SystemClock(), crash=self.crashes.append)

    async def work(self, item: str, turn: Turn) -> None:
        try:
            turn.check()
            self.started.append(item)
            if item.startswith("fault"):
                raise ValueError(item)
            if item.startswith("wait"):
                await turn.wait(3600)
            await self.answer.wait()
            turn.check()
            self.ended.append(item)
        except Withdrawn:
            self.withdrawn.append(item)
            raise
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise


async def until_started(calls: Calls, count: int) -> None:
    while len(calls.started) < count:
        await asyncio.sleep(0)


async def test_a_revoke_lets_calls_end_and_begins_none() -> None:
    """A call that ends after the revoke is recorded by us, not repeated by the next owner; the ones behind it are the next owner's."""
    calls = Calls()
    for key, item in ((b"a", "call a"), (b"a", "follows a"), (b"b", "wait b"), (b"b", "follows b")):
        calls.runner.submit(0, key, "x", item)
    await until_started(calls, 2)
    draining = asyncio.ensure_future(calls.runner.drain(5.0, 0))
    await asyncio.sleep(0)
    calls.runner.submit(0, b"c", "x", "too late")
    calls.answer.set()
    await draining
    assert calls.started == ["call a", "wait b"]
    assert sorted(calls.withdrawn) == ["call a", "wait b"]  # the call ended; what would have come after it did not begin
    assert not calls.cancelled
    assert not calls.crashes
    assert not calls.runner.schedule.has(0)


async def test_calls_that_do_not_end_in_time_are_cancelled() -> None:
    """A worker that is told to stop stops; the event stays unrecorded and is searched for by whoever comes next."""
    calls = Calls()
    calls.runner.submit(0, b"a", "x", "hangs")
    await until_started(calls, 1)
    await calls.runner.drain(0.01)
    assert calls.cancelled == ["hangs"]
    assert not calls.runner.schedule.has(0)


async def test_a_partition_that_comes_back_works_again() -> None:
    """Nothing of its last time is left over."""
    calls = Calls()
    calls.answer.set()
    await calls.runner.drain(1.0, 0)
    calls.runner.opened(0)
    calls.runner.submit(0, b"a", "x", "again")
    while not calls.ended:
        await asyncio.sleep(0)
    assert calls.ended == ["again"]


async def test_after_a_fault_of_ours_no_follower_begins() -> None:
    """The event is not done; were its follower done first, the ticket's order would be lost."""
    calls = Calls()
    calls.answer.set()
    calls.runner.opened(0)
    calls.runner.submit(0, b"a", "x", "fault a")
    calls.runner.submit(0, b"a", "x", "follows a")
    while not calls.crashes:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert isinstance(calls.crashes[0], ValueError)
    assert calls.started == ["fault a"]


async def test_a_worker_that_stood_still_makes_no_call() -> None:
    """Stopped for longer than its session, it may go on for a moment before it learns that its partitions are another's."""
    stopped = False
    withdrawn = asyncio.Event()

    async def work(item: str, turn: Turn) -> None:
        with pytest.raises(Withdrawn):
            turn.check()
        withdrawn.set()

    runner: KeyedRunner[str] = KeyedRunner(work, clock=SystemClock(), crash=lambda _: None, may_call=lambda: not stopped)
    stopped = True
    runner.submit(0, b"a", "x", "a")
    await asyncio.wait_for(withdrawn.wait(), 5)
