"""Dedup through crashes, moves and lost files: whatever happens to a worker, each event is judged as if nothing had.

The model is the naive one: the whole log in memory and a look at everything before an event.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.events import SeenOutcome, WebhookReceived
from schemas.hotpath_seen import encode_batch_seen, encode_seen_record
from streams.route_step import RouteContext, RoutedBatch, route_batch
from streams.routing.dedup import DedupWindow
from streams.seen import SeenCache, SeenCacheUnusable
from streams.seen_table import SeenTable
from streams.topics import SEEN
from tests.streams.route_building import (
    CODEC,
    HOUR,
    MINUTE,
    NOON,
    ARecord,
    SeenTopic,
    a_context,
    a_received,
    at_once,
    records_of,
    routed_of,
)

WINDOW = DedupWindow()


def expected(log: list[WebhookReceived]) -> list[SeenOutcome]:
    """What each event of a partition is, by looking at every event before it."""
    answers: list[SeenOutcome] = []
    first_of: list[str] = []
    for i, event in enumerate(log):
        before = range(i)
        if event.dedup_scope == "delivery":
            same = [j for j in before if log[j].dedup_key == event.dedup_key]
            near = [j for j in same if log[j].received_at >= event.received_at - WINDOW.delivery_us]
            first = first_of[same[-1]] if near else None
        elif any(log[j].event_id == event.event_id for j in before):
            first = event.event_id
        else:
            ticket = event.dedup_key[:8]
            new = [
                j for j in before if log[j].dedup_key[:8] == ticket and log[j].dedup_scope == "body" and answers[j] is SeenOutcome.ROUTED
            ]
            latest = log[new[-1]] if new else None
            equal = latest is not None and latest.dedup_key == event.dedup_key
            first = latest.event_id if latest and equal and abs(event.received_at - latest.received_at) <= WINDOW.body_us else None
        first_of.append(first or event.event_id)
        answers.append(SeenOutcome.ROUTED if first is None else SeenOutcome.REPEAT if first == event.event_id else SeenOutcome.DUPLICATE)
    return answers


@dataclass
class Worker:
    """One process that has the partition: its cache file, its context, and its batches in flight."""

    folder: Path
    context: RouteContext
    position: int
    flying: list[RoutedBatch] = field(default_factory=list)


class DedupMachine(RuleBasedStateMachine):
    """Doors append, a worker decides, acknowledgements come late, and at any moment the worker is gone."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.log: list[WebhookReceived] = []
        self.topic = SeenTopic()
        self.now = NOON
        self.committed = 0
        self.folders = 0
        self.routed: dict[int, list[bool]] = {}
        self.hire(self.new_folder())

    def teardown(self) -> None:
        self.worker.context.seen.close()
        shutil.rmtree(self.root)

    def new_folder(self) -> Path:
        self.folders += 1
        return self.root / str(self.folders)

    def hire(self, folder: Path) -> None:
        seen = SeenCache(folder / "seen.db", CODEC, WINDOW)
        self.worker = Worker(folder, a_context(seen=seen, topic=self.topic), self.committed)

    # --- the doors -------------------------------------------------------------------------------------------------------

    @rule(minutes=st.sampled_from([0, 1, 6, 11, 13 * 60, 25 * 60]))
    def time_passes(self, minutes: int) -> None:
        self.now += minutes * MINUTE

    def receive(self, late: int, **how: Any) -> None:
        self.log.append(a_received(number=len(self.log) + 1, received_at=self.now - late, **how))

    @rule(delivery=st.integers(1, 6), late=st.sampled_from([0, 0, 0, 5 * MINUTE, 6 * HOUR]))
    def a_named_delivery_comes(self, delivery: int, late: int) -> None:
        self.receive(late, delivery_id=f"d{delivery}")

    @rule(ticket=st.integers(1, 2), body=st.sampled_from("AB"), late=st.sampled_from([0, 0, 0, 5 * MINUTE]))
    def a_nameless_delivery_comes(self, ticket: int, body: str, late: int) -> None:
        self.receive(late, ticket_id=str(ticket), body={"id": str(ticket), "subject": body})

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def a_door_sends_again(self, data: st.DataObject) -> None:
        """A first copy that arrived after all: the same bytes at a higher offset, soon after."""
        recent = [e for e in self.log[-4:] if e.received_at > self.now - HOUR]
        if recent:
            self.log.append(data.draw(st.sampled_from(recent)))

    # --- the worker ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.worker.position < len(self.log) and len(self.worker.flying) < 4)
    @rule(size=st.integers(1, 5))
    def decide(self, size: int) -> None:
        start = self.worker.position
        events = self.log[start : start + size]
        routed = route_batch(0, records_of(events, start), self.worker.context)
        self.worker.position += len(events)
        self.worker.flying.append(routed)
        for event in routed_of(routed.outgoing):
            self.routed.setdefault(event.received_offset, []).append(event.possible_repeat)

    @precondition(lambda self: self.worker.flying)
    @rule(count=st.integers(1, 4))
    def acknowledge(self, count: int) -> None:
        """The broker stores BatchSeen records in the order sent; the worker may learn of it in any order."""
        learnt = []
        for routed in self.worker.flying[:count]:
            if routed.flight is not None:
                learnt.append((routed.flight, self.topic.append(routed.outgoing[-1].value, self.now)))
        del self.worker.flying[:count]
        for flight, offset in reversed(learnt):
            self.worker.context.seen.acked(flight, offset)
        if not self.worker.flying:
            self.committed = self.worker.position

    @rule()
    def write_the_table(self) -> None:
        self.worker.context.seen.flush()

    # --- what goes wrong -------------------------------------------------------------------------------------------------

    def lose_the_worker(self, stored: int) -> None:
        """It is gone without a word; the broker may have stored what it never learnt of."""
        for routed in self.worker.flying[:stored]:
            if routed.flight is not None:
                self.topic.append(routed.outgoing[-1].value, self.now)
        self.worker.context.seen._table.close()

    @rule(stored=st.integers(0, 4))
    def it_starts_again(self, stored: int) -> None:
        self.lose_the_worker(stored)
        self.hire(self.worker.folder)

    @rule(stored=st.integers(0, 4))
    def the_partition_moves_to_an_empty_data_directory(self, stored: int) -> None:
        self.lose_the_worker(stored)
        self.hire(self.new_folder())

    @rule(stored=st.integers(0, 4), data=st.data())
    def the_partition_moves_back_to_an_old_worker(self, stored: int, data: st.DataObject) -> None:
        self.lose_the_worker(stored)
        self.hire(self.root / str(data.draw(st.integers(1, self.folders))))

    @rule()
    def the_partition_is_taken_and_given_back(self) -> None:
        if not self.worker.flying:
            self.worker.context.seen.forget(0)
            at_once(self.worker.context.seen.catch_up(0, self.topic))

    @rule()
    def somebody_else_writes_to_the_topic(self) -> None:
        """Garbage, or a worker that does not know yet that the partition is not its own any more."""
        self.topic.append(encode_batch_seen(0, 0, []), self.now)

    # --- what must hold --------------------------------------------------------------------------------------------------

    @invariant()
    def every_decision_is_the_naive_one(self) -> None:
        answers = expected(self.log)
        for offset, record in self.topic.decisions().items():
            assert record.outcome == answers[offset], (offset, self.log[offset])

    @invariant()
    def what_is_new_was_routed_and_nothing_else(self) -> None:
        answers = expected(self.log)
        assert {o for o in range(self.worker.position) if answers[o] is SeenOutcome.ROUTED} <= self.routed.keys()
        assert all(answers[offset] is SeenOutcome.ROUTED for offset in self.routed)

    @invariant()
    def each_offset_is_decided_once_on_the_topic(self) -> None:
        assert sum(len(CODEC.decode(v).records) for _, v in self.topic.records) == len(self.topic.decisions())


DedupMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
TestDedupThroughEverything = DedupMachine.TestCase


# --- single promises -------------------------------------------------------------------------------------------------------


def decide_and_store(context: RouteContext, records: list[ARecord], topic: SeenTopic) -> RoutedBatch:
    routed = route_batch(0, records, context)
    if routed.flight is not None:
        context.seen.acked(routed.flight, topic.append(routed.outgoing[-1].value))
    return routed


def test_dedup_does_not_forget_on_restart(tmp_path: Path) -> None:
    """A redelivery comes minutes or hours later; a worker that was restarted in between must know it."""
    topic = SeenTopic()
    context = a_context(seen=SeenCache(tmp_path / "seen.db", CODEC), topic=topic)
    decide_and_store(context, records_of([a_received(delivery_id="d")]), topic)
    context.seen.close()

    again = a_context(seen=SeenCache(tmp_path / "seen.db", CODEC), topic=topic)
    routed = decide_and_store(again, records_of([a_received(number=2, delivery_id="d")], first=1), topic)

    assert routed.counts == {SeenOutcome.DUPLICATE: 1}


def test_a_partition_moved_to_an_empty_data_directory_knows_what_was_seen(tmp_path: Path) -> None:
    """The cache may be lost, the topic is not."""
    topic = SeenTopic()
    decide_and_store(a_context(topic=topic), records_of([a_received(delivery_id="d")]), topic)

    moved = a_context(seen=SeenCache(tmp_path / "seen.db", CODEC), topic=topic)

    assert decide_and_store(moved, records_of([a_received(number=2, delivery_id="d")], first=1), topic).counts == {"duplicate": 1}


def test_what_is_not_acknowledged_is_not_in_the_file(tmp_path: Path) -> None:
    """Else a crash before the broker stored it would leave an event known that nobody routed: lost."""
    topic = SeenTopic()
    context = a_context(seen=SeenCache(tmp_path / "seen.db", CODEC), topic=topic)
    route_batch(0, records_of([a_received(delivery_id="d")]), context)
    context.seen.flush()
    context.seen.close()

    again = a_context(seen=SeenCache(tmp_path / "seen.db", CODEC), topic=topic)

    assert route_batch(0, records_of([a_received(delivery_id="d")]), again).counts == {"routed": 1}


@pytest.mark.parametrize("damage", [b"not a database at all, but long enough to be looked at" * 40, b""])
def test_a_corrupt_file_is_rebuilt_from_the_topic(tmp_path: Path, damage: bytes) -> None:
    """A cache must never be the reason that a worker does not start."""
    topic = SeenTopic()
    context = a_context(seen=SeenCache(tmp_path / "seen.db", CODEC), topic=topic)
    decide_and_store(context, records_of([a_received(delivery_id="d")]), topic)
    context.seen.close()
    (tmp_path / "seen.db").write_bytes(damage)

    again = a_context(seen=SeenCache(tmp_path / "seen.db", CODEC), topic=topic)

    assert decide_and_store(again, records_of([a_received(number=2, delivery_id="d")], first=1), topic).counts == {"duplicate": 1}


def test_a_file_that_turns_bad_while_open_is_removed_so_that_the_next_start_rebuilds_it(tmp_path: Path) -> None:
    """Pages in the middle may rot; found on use, the process ends once instead of for ever."""
    topic = SeenTopic()
    path = tmp_path / "seen.db"
    context = a_context(seen=SeenCache(path, CODEC), topic=topic)
    events = [a_received(number=n, delivery_id=f"d{n}") for n in range(1, 3000)]
    decide_and_store(context, records_of(events), topic)
    context.seen.close()
    rotten = bytearray(path.read_bytes())
    rotten[12 * 4096 :] = b"\xa5" * (len(rotten) - 12 * 4096)
    path.write_bytes(rotten)

    with pytest.raises(SeenCacheUnusable):
        a_context(seen=SeenCache(path, CODEC), topic=topic)

    again = a_context(seen=SeenCache(path, CODEC), topic=topic)
    routed = decide_and_store(again, records_of([a_received(number=9000, delivery_id="d7")], first=5000), topic)
    assert routed.counts == {"duplicate": 1}


def about(number: int, subject: str, minutes: int = 0) -> WebhookReceived:
    """A delivery without an id, about one ticket."""
    return a_received(number=number, body={"id": "1", "subject": subject}, received_at=NOON + minutes * MINUTE)


def test_a_caught_up_worker_compares_with_the_tickets_latest_accepted_event() -> None:
    """A duplicate in between is not what the next one is measured by."""
    topic = SeenTopic()
    context = a_context(topic=topic)
    for number, minutes in ((1, 0), (2, 9)):
        decide_and_store(context, records_of([about(number, "A", minutes)], first=number), topic)

    moved = a_context(topic=topic)

    for number, minutes, outcome in ((3, 10, "duplicate"), (4, 11, "routed")):
        assert decide_and_store(moved, records_of([about(number, "A", minutes)], first=number), topic).counts == {outcome: 1}


def test_writing_an_older_batch_does_not_hide_a_newer_one_in_flight() -> None:
    """The ticket went A, then B and A again: the second A is news, whichever of the batches is on disk already."""
    topic = SeenTopic()
    context = a_context(topic=topic)
    first = route_batch(0, records_of([about(1, "A")]), context)
    route_batch(0, records_of([about(2, "B")], first=1), context)
    assert first.flight is not None
    context.seen.acked(first.flight, topic.append(first.outgoing[-1].value))
    context.seen.flush()

    assert route_batch(0, records_of([about(3, "A")], first=2), context).counts == {"routed": 1}


def test_a_late_redelivery_does_not_shorten_the_window() -> None:
    """A spooled copy of yesterday morning must not make us forget that the delivery was seen at noon."""
    for catch_up in (False, True):
        topic = SeenTopic()
        context = a_context(topic=topic)
        for number, hours in ((1, 13), (2, 7)):
            event = a_received(number=number, delivery_id="d", received_at=NOON + hours * HOUR)
            decide_and_store(context, records_of([event], first=number), topic)
        if catch_up:
            context = a_context(topic=topic)
        event = a_received(number=3, delivery_id="d", received_at=NOON + 33 * HOUR)
        assert decide_and_store(context, records_of([event], first=3), topic).counts == {"duplicate": 1}


def test_a_recreated_topic_is_noticed(tmp_path: Path) -> None:
    """An embedded broker begun anew starts at offset 0 again: what an old file knows is another topic's."""
    topic = SeenTopic()
    context = a_context(seen=SeenCache(tmp_path / "seen.db", CODEC), topic=topic)
    decide_and_store(context, records_of([a_received(delivery_id="old")]), topic)
    context.seen.close()
    anew = SeenTopic()
    decide_and_store(a_context(topic=anew), records_of([a_received(delivery_id="new")]), anew)

    again = a_context(seen=SeenCache(tmp_path / "seen.db", CODEC), topic=anew)

    assert decide_and_store(again, records_of([a_received(number=2, delivery_id="old")], first=1), anew).counts == {"routed": 1}


def test_what_left_the_window_is_dropped_from_the_file_and_what_is_in_it_stays() -> None:
    """Bounded: a day of traffic, not all of it."""
    topic = SeenTopic()
    context = a_context(topic=topic)
    for n in range(1, 80):
        event = a_received(number=n, delivery_id=f"d{n}", received_at=NOON + n * HOUR)
        decide_and_store(context, records_of([event], first=n), topic)
        context.seen.flush()
    table: SeenTable = context.seen._table

    assert table._db.execute("SELECT count(*) FROM batch").fetchone()[0] <= 33
    for n, outcome in ((79, "duplicate"), (60, "duplicate"), (50, "routed")):
        event = a_received(number=1000 + n, delivery_id=f"d{n}", received_at=NOON + 80 * HOUR)
        assert decide_and_store(context, records_of([event], first=1000 + n), topic).counts == {outcome: 1}


def test_index_rows_of_dropped_records_are_swept_out(tmp_path: Path) -> None:
    """The index would grow for ever otherwise: its keys are random, so the old ones lie everywhere."""
    topic = SeenTopic()
    context = a_context(seen=SeenCache(tmp_path / "seen.db", CODEC), topic=topic)
    for n in range(1, 1400):
        event = a_received(number=n, delivery_id=f"d{n}", received_at=NOON + n * HOUR)
        decide_and_store(context, records_of([event], first=n), topic)
        context.seen.flush()

    assert context.seen._table._db.execute("SELECT count(*) FROM seen").fetchone()[0] < 600


def test_a_rebuild_reads_the_window_and_not_the_whole_topic() -> None:
    """The topic keeps 14 days; a moved partition should not wait for all of them."""
    topic = SeenTopic()
    for n in range(1, 200):
        part = encode_seen_record(n, n.to_bytes(16, "big"), n.to_bytes(16, "little"), "delivery", _time(NOON + n * HOUR), "routed")
        topic.append(encode_batch_seen(n, n + 1, [part]), NOON + n * HOUR)

    caught_up = at_once(SeenCache(None, CODEC).catch_up(0, topic))

    assert caught_up.rebuilt
    assert 30 <= caught_up.records <= 32
    assert caught_up.decided_upto == 200


def test_garbage_on_the_seen_topic_is_passed_over() -> None:
    """Anything may be on a topic; what is no BatchSeen decides nothing and stops nothing."""
    topic = SeenTopic()
    context = a_context(topic=topic)
    decide_and_store(context, records_of([a_received(delivery_id="d")]), topic)
    for noise in (b"", None, b"{}", b"\x00" * 40):
        topic.append(noise)

    moved = a_context(topic=topic)

    assert decide_and_store(moved, records_of([a_received(number=2, delivery_id="d")], first=1), topic).counts == {"duplicate": 1}


def test_a_full_disk_does_not_stop_decisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is only a cache: while it cannot be written, what was seen stays in memory, and is written later."""
    topic = SeenTopic()
    context = a_context(seen=SeenCache(tmp_path / "seen.db", CODEC), topic=topic)
    context.seen._table._db.execute("PRAGMA query_only = 1")
    decide_and_store(context, records_of([a_received(delivery_id="d")]), topic)
    context.seen.flush()

    assert decide_and_store(context, records_of([a_received(number=2, delivery_id="d")], first=1), topic).counts == {"duplicate": 1}

    context.seen._table._db.execute("PRAGMA query_only = 0")
    context.seen.flush()
    assert context.seen._table.position(0) == 2


def test_the_seen_topic_is_named_as_the_step_sends_to_it() -> None:
    """A guard for the tests above, which take the last outgoing record for the BatchSeen."""
    routed = route_batch(0, records_of([a_received()]), a_context())
    assert routed.outgoing[-1].topic == SEEN.name


def _time(micros: int) -> bytes:
    from schemas.hotpath import encode_long

    return encode_long(micros)
