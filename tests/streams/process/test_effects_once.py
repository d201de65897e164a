"""Effects happen once, whatever dies when: process run against a model of the world by a state machine, without Kafka.

The tool's index lags, calls that timed out or whose worker died land later, workers are killed at any await and between any two
records, the partition moves to workers that remember nothing, routed records come again. Time is virtual.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from plugins.marker import find_marker, note_marker
from schemas.events import ProcessOutcome
from schemas.ids import external_id, ticket_key
from tests.streams.process.model import (
    SEARCH_LAG,
    SOURCE,
    TARGET,
    TENANT,
    Fate,
    Log,
    T,
    ToolModel,
    Worker,
    a_routed,
)
from tests.streams.process.virtual_time import VirtualLoop

POINTS = ("landed", "link stored", "link acknowledged", "dead stored", "dead acknowledged", "processed stored", "processed acknowledged")


class EffectsOnce(RuleBasedStateMachine):
    """What may happen to a partition, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.log = Log()
        self.tool = ToolModel(self.loop)
        self.tool.on_landing = lambda: self.at_point("landed")
        self.published = 0
        self.armed: list[str] = []
        self.worker: Worker | None = None
        self.dying: asyncio.Task[None] | None = None

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    def at_point(self, point: str) -> None:
        """Dies here, if that was armed: before anything that would follow in the worker."""
        if point in self.armed and self.worker is not None:
            self.armed.remove(point)
            self.worker.producer.alive = False
            self.dying = self.loop.create_task(self.worker.kill())
            self.worker = None

    def new_worker(self) -> Worker:
        return Worker(self.log, self.tool, self.loop, self.at_point)

    @initialize()
    def start(self) -> None:
        self.worker = self.new_worker()

    @rule(
        ticket=st.sampled_from("ABC"),
        actions=st.sampled_from([["mirror"], ["mirror"], ["mirror", "note"], ["note"], ["mirror", "note", "enrich"], ["enrich"]]),
        events=st.integers(1, 4),
    )
    def an_event_is_routed(self, ticket: str, actions: list[str], events: int) -> None:
        for _ in range(events):
            self.published += 1
            self.log.routed.append(a_routed(self.published, ticket, actions, received_offset=self.published))

    @rule(data=st.data(), told=st.booleans())
    def a_routed_record_comes_again(self, data: st.DataObject, told: bool) -> None:
        if self.log.routed:
            again = data.draw(st.sampled_from(self.log.routed))
            fields = {name: getattr(again, name) for name in again.__struct_fields__}
            self.log.routed.append(type(again)(**{**fields, "possible_repeat": told or again.possible_repeat}))

    @rule(fates=st.lists(st.sampled_from(Fate), min_size=1, max_size=3))
    def the_next_writes_go_wrong(self, fates: list[Fate]) -> None:
        self.tool.fates.extend(fates)

    @rule(seconds=st.sampled_from([0.01, 0.04, 0.06, 0.1, 0.5, 2.0, 5.0, 16.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule()
    def offsets_are_committed(self) -> None:
        if self.worker is not None:
            self.worker.commit()

    @rule(point=st.sampled_from(POINTS))
    def the_worker_will_die_at(self, point: str) -> None:
        self.armed.append(point)

    @rule()
    def the_worker_is_killed(self) -> None:
        worker, self.worker = self.worker, None
        if worker is not None:
            self.run(worker.kill())

    @rule(seconds=st.sampled_from([0.0, 0.05, 7.0, 20.0]))
    def the_partition_is_given_up_in_order(self, seconds: float) -> None:
        worker, self.worker = self.worker, None
        if worker is not None:
            self.run(worker.give_up(seconds))

    @rule(gap=st.sampled_from([0.0, 0.0, 1.0, 20.0]))
    def a_worker_without_memory_takes_over(self, gap: float) -> None:
        if self.worker is None:
            self.finish_dying()
            self.run(asyncio.sleep(gap))
            self.worker = self.new_worker()

    def finish_dying(self) -> None:
        if self.dying is not None:
            self.run(self.dying)
            self.dying = None

    @invariant()
    def no_effect_is_doubled(self) -> None:
        creates = Counter(e.external_id for e in self.tool.effects if e.kind == "create")
        assert all(n == 1 for n in creates.values()), f"more than one ticket for a link: {creates}"
        writes = Counter(e.event_id for e in self.tool.effects if e.kind != "note")
        assert all(n == 1 for n in writes.values()), f"an event applied twice: {writes}"
        notes = Counter(e.event_id for e in self.tool.effects if e.kind == "note")
        assert all(n == 1 for n in notes.values()), f"a note written twice: {notes}"

    @invariant()
    def no_older_event_is_applied_after_a_newer_one(self) -> None:
        for kinds in (("create", "update"), ("note",)):
            order: dict[str, list[str]] = {}
            for effect in self.tool.effects:
                if effect.kind in kinds:
                    mark = find_marker(effect.event_id) or (effect.event_id, 0)
                    order.setdefault(effect.ticket_id, []).append(mark[0].removesuffix(".enrich"))
            assert all(ids == sorted(ids) for ids in order.values()), f"out of order: {order}"

    @invariant()
    def no_fault_of_ours(self) -> None:
        assert self.worker is None or self.worker.crashed is None, repr(self.worker.crashed)

    def teardown(self) -> None:
        try:
            self.settle_and_compare()
        finally:
            self.finish_dying()
            if self.worker is not None:
                self.run(self.worker.kill())
            self.loop.close()

    def settle_and_compare(self) -> None:
        """In the end, with everything well again: each event ended once, and its effects are there once."""
        self.armed.clear()
        self.tool.fates.clear()
        self.finish_dying()
        if self.worker is None:
            self.worker = self.new_worker()
        for _ in range(60):
            self.run(asyncio.sleep(SEARCH_LAG))
            self.worker.commit()
            self.no_fault_of_ours()
            if self.log.committed == len(self.log.routed):
                break
        assert self.log.committed == len(self.log.routed), "work is stuck"
        self.no_effect_is_doubled()
        self.no_older_event_is_applied_after_a_newer_one()
        ends = Counter(p.event_id for p in self.log.processed)
        events = {r.event_id: r for r in self.log.routed}
        assert ends == Counter(dict.fromkeys(events, 1)), "an event is lost, or ended twice"
        done = Counter((e.kind if e.kind == "note" else "mirror", e.event_id) for e in self.tool.effects)
        for end in self.log.processed:
            routed = events[end.event_id]
            if end.outcome == ProcessOutcome.FAILED:
                assert any(d.event_id == end.event_id for d in self.log.dead), f"{end.event_id} failed without a dead letter"
                continue
            for action in routed.decision.actions:
                kind, mark = ("mirror" if action == "mirror" else "note"), routed.event_id + (".enrich" if action == "enrich" else "")
                name = mark if action == "mirror" else note_marker(mark, routed.hop + 1)
                assert done[kind, name] == 1, f"{action} of {routed.event_id} is recorded as done and is not there"
            link = next((x for x in reversed(self.log.links) if x.source_key == ticket_key(TENANT, SOURCE, routed.ticket_id or "")), None)
            assert link is None or link.external_id == external_id(link.source_key, TARGET)


TestEffectsOnce = EffectsOnce.TestCase
TestEffectsOnce.settings = settings(max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
