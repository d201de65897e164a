"""What is known to be finished, and where it is known from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.events import Call, TicketProcessed
from schemas.ids import new_event_id, ticket_key
from streams import finished as finished_module
from streams.doubt import PartitionDoubts
from streams.finished import FinishedEvents, catch_up, take_in
from streams.producer import Outgoing, StageProducer
from streams.topics import PROCESSED


def some_doubts() -> PartitionDoubts:
    return PartitionDoubts(assigned_at=0, committed=0, end=0)


def a_processed(event_id: str, outcome: str = "processed", ticket_id: str = "7", step: str = "mirror") -> TicketProcessed:
    call = Call(
        step=step, method="create_ticket", tool="jira", plugin="jira", plugin_version="1.0.0", outcome="ok", latency_us=1, started_at=1
    )
    return TicketProcessed(
        event_id=event_id,
        tenant="acme",
        tool="desk",
        tool_type="zendesk",
        ticket_id=ticket_id,
        outcome=outcome,
        target="jira",
        received_at=1,
        processed_at=42,
        received_offset=1,
        routed_offset=1,
        calls=[call],
    )


@given(st.lists(st.integers(0, 20), max_size=60), st.integers(1, 10))
def test_the_last_so_many_are_known_and_no_older_ones(events: list[int], kept: int) -> None:
    """Memory is bounded; what is forgotten is searched for, by its mark as a possible repeat."""
    finished = FinishedEvents(kept)
    order: list[int] = []
    for event in events:
        finished.add(str(event))
        if event not in order:
            order = [*order, event][-kept:]
    assert [event for event in range(21) if finished.has(str(event))] == sorted(order)
    assert len(finished) == len(order)


def test_a_failed_event_leaves_its_link_in_doubt_until_a_later_one_is_mirrored() -> None:
    """What it may have left behind in the tool is not told by its record, so the next event of the ticket searches."""
    finished, doubts = FinishedEvents(), some_doubts()
    key = ticket_key("acme", "desk", "7")
    take_in(a_processed("1", "failed"), finished, doubts)
    assert doubts.of_link(key, "jira") == 42
    take_in(a_processed("2", step="note"), finished, doubts)
    assert doubts.of_link(key, "jira") == 42
    take_in(a_processed("3"), finished, doubts)
    assert doubts.of_link(key, "jira") is None
    assert all(finished.has(name) for name in "123")


@pytest.mark.broker
async def test_a_worker_without_memory_learns_what_is_finished_from_the_topic(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the topic is asked, its tail only, and garbage on it does no harm."""
    monkeypatch.setattr(finished_module, "KEPT", 2500)
    codec, partition, ids = Codec(), 3, [new_event_id() for _ in range(3000)]
    producer = StageProducer(broker)
    await producer.start()
    try:
        await producer.send([Outgoing(PROCESSED.name, partition, b"k", codec.encode(a_processed(i))) for i in ids])
        await producer.send([Outgoing(PROCESSED.name, partition, b"k", b"garbage")])
    finally:
        await producer.stop()
    known = FinishedEvents()
    assert await catch_up(broker, partition, known, some_doubts(), codec) == 2499
    assert [known.has(i) for i in (ids[0], ids[500], ids[501], ids[-1])] == [False, False, True, True]
    assert not FinishedEvents().has(ids[-1])
