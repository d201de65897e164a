"""The route step: every record of a batch comes out once, as a routed event, a dead letter with its reason, or a counted decision."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.api import PluginConfigError
from plugins.marker import note_marker
from schemas.codec import MAGIC, UnknownFingerprint, current
from schemas.events import FailureReason, SeenOutcome, WebhookReceived
from streams.route_step import MAX_VALUE_BYTES, route_batch
from streams.topics import MAX_RECORD_BYTES
from tests.streams.route_building import (
    NOON,
    ARecord,
    OneTenant,
    SeenTopic,
    a_context,
    a_received,
    a_route,
    letters_of,
    records_of,
    routed_of,
    seen_of,
)

EVENT = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_a_ticket_goes_where_the_rules_say_with_the_received_bytes_inside() -> None:
    """Process reads the delivery itself again; nothing of it may be changed on the way."""
    tenant = OneTenant([a_route("urgent", {"priority": "P1"}, to="snow", do=["mirror", "note"])])
    event = a_received(ticket_id="9", body={"id": "9", "type": "incident", "priority": "urgent", "change": "created"})
    records = records_of([event], first=40)

    out = route_batch(0, records, a_context(tenant))

    (routed,) = routed_of(out.outgoing)
    assert (routed.event_id, routed.tenant, routed.tool, routed.ticket_id) == (event.event_id, "acme", "desk", "9")
    assert (routed.ticket_type, routed.priority, routed.change) == ("incident", "urgent", "created")
    assert (routed.decision.target, routed.decision.actions, routed.decision.rule) == ("snow", ["mirror", "note"], "urgent")
    assert (routed.decision.rule_set_version, routed.received_offset, routed.received_at) == (7, 40, NOON)
    assert (routed.hop, routed.possible_repeat) == (0, False)
    assert routed.received == records[0].value
    assert out.outgoing[0].key == records[0].key
    assert out.outgoing[0].partition == 0


def test_a_batch_says_of_every_record_what_became_of_it() -> None:
    """One BatchSeen, in offset order: audit counts from it."""
    tenant = OneTenant([a_route("tests", {"subject": "test*"}, do=["drop"])], settings={"actor": "bot"})
    batch: list[WebhookReceived | bytes | None] = [
        a_received(number=1, delivery_id="a"),
        a_received(number=2, delivery_id="a"),
        a_received(number=3, delivery_id="b", body={"id": 1, "actor": "bot"}),
        a_received(number=4, delivery_id="c", body={"id": 1, "subject": "Test of the webhook"}),
        b"garbage",
        a_received(number=1, delivery_id="a"),
        a_received(number=5, delivery_id="d"),
    ]

    out = route_batch(0, records_of(batch, first=10), a_context(tenant))

    (seen,) = seen_of(out.outgoing)
    assert (seen.first_offset, seen.next_offset) == (10, 17)
    assert [(r.offset, r.outcome) for r in seen.records] == [
        (10, "routed"),
        (11, "duplicate"),
        (12, "echo"),
        (13, "dropped"),
        (14, "dead_letter"),
        (15, "repeat"),
        (16, "routed"),
    ]
    assert seen.records[1].original == seen.records[0].event_id
    assert [r.received_offset for r in routed_of(out.outgoing)] == [10, 16]
    assert out.counts == {"routed": 2, "duplicate": 1, "echo": 1, "dropped": 1, "dead_letter": 1, "repeat": 1}


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (b"garbage", FailureReason.UNDECODABLE),
        (b"", FailureReason.UNDECODABLE),
        (None, FailureReason.UNDECODABLE),
        (a_received(raw=b"not json {"), FailureReason.NOT_JSON),
        (a_received(raw=b'{"ticket": "none"}'), FailureReason.UNREADABLE),
        (a_received(raw=b"[" * 100_000), FailureReason.PLUGIN_FAULT),
        (a_received(tool="gone"), FailureReason.UNKNOWN_TOOL),
        (a_received(body={"id": 1, "fault": "the secret is 42"}), FailureReason.PLUGIN_FAULT),
        (a_received(body={"id": 1, "priority": "no such word"}), FailureReason.PLUGIN_FAULT),
        (a_received(body={"id": 1, "comment": f"copied: {note_marker(EVENT, 3)} by another tool"}), FailureReason.HOP_LIMIT),
    ],
)
def test_what_cannot_be_routed_is_a_dead_letter_with_its_reason(event: WebhookReceived | bytes | None, reason: FailureReason) -> None:
    """Poison of every kind: set aside with its bytes and its place, and the rest of the batch goes on."""
    fine = a_received(number=77, delivery_id="fine")

    out = route_batch(0, records_of([event, fine], first=5), a_context())

    (letter,) = letters_of(out.outgoing)
    assert (letter.stage, letter.reason) == ("route", reason)
    assert (letter.origin_topic, letter.origin_partition, letter.origin_offset) == ("tickets.received.v1", 0, 5)
    assert letter.original == records_of([event])[0].value
    assert letter.detail
    assert "42" not in letter.detail
    assert "ticket" not in letter.detail or reason is not FailureReason.NOT_JSON
    assert [r.event_id for r in routed_of(out.outgoing)] == [fine.event_id]


def test_without_a_matching_route_and_without_a_default_it_is_unroutable() -> None:
    """Said so, instead of going to a tool nobody named."""
    out = route_batch(0, records_of([a_received()]), a_context(OneTenant(default=None)))
    assert [letter.reason for letter in letters_of(out.outgoing)] == ["unroutable"]


class BrokenRule:
    """A rule in code with a mistake."""

    name = "broken"

    def should_route_to(self, metadata: Any) -> str | None:
        raise LookupError("the body says hunter2")


@pytest.mark.parametrize(
    "tenant",
    [OneTenant([BrokenRule()]), OneTenant(fault=PluginConfigError("auth needs email")), OneTenant(fault=ImportError("x"))],
)
def test_a_rule_or_a_plugin_that_fails_costs_its_events_and_not_the_stream(tenant: OneTenant) -> None:
    """An exception out of the step would stop the partition for everybody."""
    out = route_batch(0, records_of([a_received()]), a_context(tenant))
    (letter,) = letters_of(out.outgoing)
    assert letter.reason == "plugin_fault"
    assert "hunter2" not in letter.detail


def test_an_unknown_fingerprint_is_raised_before_anything_is_decided() -> None:
    """The record may be fine: its partition waits for the schema, and the same batch comes again whole."""
    context = a_context()
    newer = MAGIC + bytes(8) + b"body"
    batch = records_of([a_received(delivery_id="a"), newer])

    with pytest.raises(UnknownFingerprint):
        route_batch(0, batch, context)

    assert route_batch(0, batch[:1], context).counts == {"routed": 1}


@pytest.mark.parametrize("size", [MAX_VALUE_BYTES - 250, MAX_RECORD_BYTES - 100])
def test_an_event_that_outgrows_its_record_is_set_aside_with_a_pointer(size: int) -> None:
    """The decision makes it longer; a record too large would poison the producer for all that follow."""
    event = a_received(raw=json.dumps({"id": 1, "subject": "x" * size}).encode())

    out = route_batch(0, records_of([event], first=3), a_context())

    (letter,) = letters_of(out.outgoing)
    assert (letter.reason, letter.origin_offset, letter.original) == ("too_large", 3, None)
    assert letter.original_size > size
    assert all(len(o.value) < MAX_VALUE_BYTES for o in out.outgoing)


def test_garbage_as_large_as_a_record_may_be_becomes_a_small_dead_letter() -> None:
    """The letter must fit where the garbage only just did."""
    out = route_batch(0, [ARecord(0, b"x" * (MAX_RECORD_BYTES - 100), key=b"k" * 5000)], a_context())
    (letter,) = letters_of(out.outgoing)
    assert (letter.reason, letter.original, letter.origin_key) == ("undecodable", None, None)


def test_a_batch_read_again_keeps_its_decisions_and_routes_again_as_a_possible_repeat() -> None:
    """After a crash between the BatchSeen's ack and the commit. What was routed may not be stored; what was dropped stays so."""
    topic = SeenTopic()
    tenant = OneTenant(settings={"actor": "bot"})
    batch = records_of(
        [
            a_received(number=1, delivery_id="a"),
            a_received(number=2, delivery_id="a"),
            a_received(number=3, delivery_id="b", body={"id": 1, "actor": "bot"}),
            b"garbage",
        ]
    )
    first = route_batch(0, batch, a_context(tenant, topic=topic))
    topic.append(first.outgoing[-1].value)

    no_actor_any_more = OneTenant()
    again = route_batch(
        0, [*batch, *records_of([a_received(number=4, delivery_id="c")], first=4)], a_context(no_actor_any_more, topic=topic)
    )

    assert [(r.received_offset, r.possible_repeat) for r in routed_of(again.outgoing)] == [(0, True), (4, False)]
    assert again.counts == {"routed": 2, "duplicate": 1, "echo": 1, "dead_letter": 1}
    assert [letter.origin_offset for letter in letters_of(again.outgoing)] == [3]
    (seen,) = seen_of(again.outgoing)
    assert [(r.offset, r.outcome) for r in seen.records] == [(4, "routed")]


def test_a_decision_about_another_event_at_the_same_offset_is_not_taken_over() -> None:
    """tickets.received.v1 was made anew and tickets.seen.v1 was not: what was dropped at offset 1 once must not drop what is there now."""
    topic = SeenTopic()
    first = route_batch(
        0, records_of([a_received(number=1, delivery_id="a"), a_received(number=2, delivery_id="a")]), a_context(topic=topic)
    )
    topic.append(first.outgoing[-1].value)

    anew = records_of([a_received(number=8, delivery_id="h"), a_received(number=9, delivery_id="i")])
    again = route_batch(0, anew, a_context(topic=topic))

    assert again.counts == {"routed": 2}
    (seen,) = seen_of(again.outgoing)
    assert [(r.offset, r.outcome) for r in seen.records] == [(0, "routed"), (1, "routed")]


def test_a_requeued_event_is_routed_although_it_was_seen() -> None:
    """Its injection_id makes it another life of the same event; twice the same injection is one."""
    context = a_context()
    plain = a_received(delivery_id="a")
    injected = a_received(delivery_id="a", injection_id="requeue-1", received_at=NOON)

    out = route_batch(0, records_of([plain, injected, injected]), context)

    assert [(r.received_offset, r.injection_id) for r in routed_of(out.outgoing)] == [(0, None), (1, "requeue-1")]
    assert out.counts["repeat"] == 1


def test_our_note_comes_back_as_an_echo_and_a_reply_to_it_does_not() -> None:
    """Dropped is only what we wrote; the person's answer goes on, with the hop it carries."""
    ours = f"Priority went to high.\n{note_marker(EVENT, 1)}"
    bodies = [{"id": 1, "comment": ours}, {"id": 1, "comment": f"{ours}\nThank you"}, {"id": 1, "comment": ours, "actor": "ana"}]
    events = [a_received(number=n, delivery_id=str(n), body=b) for n, b in enumerate(bodies, 1)]

    out = route_batch(0, records_of(events), a_context(OneTenant(settings={"actor": "bot"})))

    assert [r.outcome for r in seen_of(out.outgoing)[0].records] == ["echo", "routed", "routed"]
    assert [r.hop for r in routed_of(out.outgoing)] == [1, 1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.none() | st.integers(1, 5), min_size=1, max_size=12), st.data())
def test_every_record_of_any_batch_comes_out_exactly_once(contents: list[bytes | int | None], data: st.DataObject) -> None:
    """However a log is cut into batches: nothing lost, the last record included, nothing twice."""
    header = MAGIC + current("WebhookReceived").fingerprint
    log = records_of(
        [a_received(number=n, delivery_id=str(c)) if isinstance(c, int) else header + c if c else c for n, c in enumerate(contents, 1)]
    )
    context, topic = a_context(), SeenTopic()
    told: list[int] = []
    moved: list[int] = []
    while log:
        size = data.draw(st.integers(1, len(log)))
        out = route_batch(0, log[:size], context)
        topic.append(out.outgoing[-1].value)
        told += [r.offset for batch in seen_of(out.outgoing) for r in batch.records]
        moved += [r.received_offset for r in routed_of(out.outgoing)] + [letter.origin_offset for letter in letters_of(out.outgoing)]
        log = log[size:]

    assert told == list(range(len(contents)))
    kept = {o for o, r in topic.decisions().items() if r.outcome in (SeenOutcome.ROUTED, SeenOutcome.DEAD_LETTER)}
    assert sorted(moved) == sorted(kept)
