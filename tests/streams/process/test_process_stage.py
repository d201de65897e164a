"""The stage process on a real broker, against a real sandbox over HTTP, its worker killed where it hurts most."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from plugins.marker import note_marker
from plugins.sandbox.process import SandboxProcess
from schemas.events import ProcessOutcome
from streams import topics
from streams.broker.embedded import EmbeddedBroker
from streams.producer import Outgoing, StageProducer
from tests.streams.process.live import PARTITIONS, Live, a_routed

pytestmark = pytest.mark.broker
INDEX_LAG = 1.0
SEARCH_LAG = 4.0


@pytest.fixture
async def live(fresh_broker: EmbeddedBroker, tmp_path: Path) -> AsyncIterator[Live]:
    with SandboxProcess("jira", index_lag=INDEX_LAG) as jira:
        world = Live(fresh_broker.brokers, jira, tmp_path)
        await world.prepare(search_lag=SEARCH_LAG)
        try:
            yield world
        finally:
            world.stop()


async def test_routed_events_become_one_mirror_with_its_updates_and_notes_in_order(live: Live) -> None:
    """The whole way: create, link, update, note over HTTP, each call in the record, and what cannot be decoded set aside."""
    await live.start_working()
    events = [a_routed("35436", n, ["mirror", "note"]) for n in range(4)]
    await live.route(events)
    producer = StageProducer(live.brokers)
    await producer.start()
    await producer.send([Outgoing(topics.ROUTED.name, 0, b"k", b"no event at all")])
    await producer.stop()

    processed = await live.until(topics.PROCESSED.name, PARTITIONS + 4)
    assert [p.event_id for p in processed] == [e.event_id for e in events]
    assert {p.outcome for p in processed} == {ProcessOutcome.PROCESSED}
    assert [c.method for c in processed[0].calls] == ["validate_webhook", "extract_metadata", "create_ticket", "add_note"]
    assert [c.method for c in processed[1].calls] == ["validate_webhook", "extract_metadata", "update_ticket", "add_note"]
    wanted = [(kind, e.event_id if kind != "note" else note_marker(e.event_id, 1)) for e in events for kind in ("update", "note")]
    assert live.effects() == [("create", events[0].event_id), *wanted[1:]]
    links = await live.read(topics.LINKS.name)
    assert {link.target_ticket_id for link in links} == {processed[0].target_ticket_id}
    letters = await live.until(topics.DEAD_LETTER.name, 1)
    assert [(d.reason, d.original) for d in letters] == [("undecodable", b"no event at all")]


async def test_a_worker_killed_inside_a_call_leaves_one_effect(live: Live) -> None:
    """The tool carries out what it was asked although nobody waits any more; the next worker must find that, and not repeat it."""
    await live.start_working()
    live.jira.fault(delay=1.5, method="POST", path="/rest/api/3/issue", times=1)
    events = [a_routed("2", 1, ["mirror", "note"]), a_routed("2", 2, ["mirror"]), a_routed("3", 3)]
    await live.route(events)
    live.until_sandbox(lambda: not live.jira._control("GET", "/_faults"))  # the call is under way
    live.kill_worker()
    live.start_worker()

    await live.until(topics.PROCESSED.name, PARTITIONS + 3)
    assert max(Counter(live.effects()).values()) == 1
    assert Counter(kind for kind, _ in live.effects()) == {"create": 2, "update": 1, "note": 1}


async def test_a_worker_killed_between_a_call_and_its_record_leaves_one_effect(live: Live, fresh_broker: EmbeddedBroker) -> None:
    """The broker stands still while the call succeeds, so nothing about it can have been recorded when the worker dies."""
    await live.start_working()
    live.jira.fault(delay=1.5, method="POST", path="/rest/api/3/issue", times=1)
    await live.route([a_routed("2", 1, ["mirror", "note"])])
    live.until_sandbox(lambda: not live.jira._control("GET", "/_faults"))
    pid = fresh_broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        live.until_sandbox(lambda: len(live.effects()) == 1)
        live.kill_worker()
    finally:
        os.kill(pid, signal.SIGCONT)
    live.start_worker()

    await live.until(topics.PROCESSED.name, PARTITIONS + 1)
    assert Counter(kind for kind, _ in live.effects()) == {"create": 1, "note": 1}


async def test_an_orderly_stop_lets_calls_end_and_loses_none(live: Live) -> None:
    """SIGTERM: what was called for is recorded, so that the next worker repeats nothing and goes on with the rest."""
    await live.start_working()
    await live.route([a_routed(str(n), n) for n in range(1, 41)])
    live.until_sandbox(lambda: len(live.effects()) >= 3)
    live.kill_worker(signal.SIGTERM)
    begun, recorded = len(live.effects()), await live.read(topics.PROCESSED.name)
    assert len(recorded) == PARTITIONS + begun
    live.start_worker()
    processed = await live.until(topics.PROCESSED.name, PARTITIONS + 40)
    assert Counter(p.outcome for p in processed) == {ProcessOutcome.PROCESSED: 40}
    assert Counter(kind for kind, _ in live.effects()) == {"create": 40}
