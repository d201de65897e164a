"""Each kind of thing Zendesk shows, field for field: a field that is read from a wrong place is found here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plugins.api import Delivery, NotADelivery, Priority, SlaTarget, TicketChange, TicketMetadata, TicketStatus, TicketType
from plugins.zendesk.payload import ZendeskPayload
from plugins.zendesk.sla import next_breach, sla_targets

PAYLOAD = ZendeskPayload("acme", {"base_url": "https://lumen.zendesk.example/"})
MADE, CHANGED, DUE = "2026-03-02T08:15:41Z", "2026-03-02T09:40:05Z", "2026-03-02T12:00:00Z"
MADE_AT, CHANGED_AT, DUE_AT = 1_772_439_341_000_000, 1_772_444_405_000_000, 1_772_452_800_000_000
HOUR = 3_600_000_000


def a_delivery(document: Any, content_type: str = "application/json") -> Delivery:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Delivery(tenant="acme", tool="desk", body=body, headers={}, content_type=content_type)


def an_event(kind: str, event: Any = None, **more: Any) -> dict[str, Any]:
    detail = {
        "id": "12",
        "subject": "Crane 4",
        "description": "It stands.",
        "status": "PENDING",
        "priority": "URGENT",
        "type": "PROBLEM",
        "tags": ["crane"],
        "requester_id": "21",
        "assignee_id": "22",
        "actor_id": "23",
        "brand_id": "31",
        "form_id": "32",
        "group_id": "33",
        "custom_status": "34",
        "external_id": "A-7",
        "created_at": MADE,
        "updated_at": CHANGED,
    }
    envelope = {"type": f"zen:event-type:ticket.{kind}", "id": "e-1", "subject": "zen:ticket:12", "time": CHANGED}
    return {**envelope, "detail": {**detail, **more}, "event": event}


EVENT_EXTRA = {"event_time": CHANGED, "external_id": "A-7", "brand_id": "31", "form_id": "32", "group_id": "33", "custom_status_id": "34"}
EVENT = TicketMetadata(
    tenant_id="acme",
    ticket_id="12",
    type=TicketType.PROBLEM,
    priority=Priority.URGENT,
    status=TicketStatus.PENDING,
    change=TicketChange.UPDATED,
    subject="Crane 4",
    description="It stands.",
    requester="21",
    assignee="22",
    actor="23",
    tags=("crane",),
    created_at=MADE_AT,
    updated_at=CHANGED_AT,
    url="https://lumen.zendesk.example/agent/tickets/12",
    extra=EVENT_EXTRA,
)


def changed(ticket: TicketMetadata, **fields: Any) -> TicketMetadata:
    return TicketMetadata(**{**vars(ticket), **fields})


def test_a_ticket_from_rest_is_read_whole() -> None:
    """What a route or a rule asks for is the same for every way a ticket comes by."""
    fields = [{"id": 61, "value": "3"}, {"id": 62}, {"value": "no id"}, "no field", None]
    ids = {"requester_id": 21, "assignee_id": 22, "brand_id": 31, "ticket_form_id": 32, "group_id": 33, "custom_status_id": 34}
    words = {"type": "question", "priority": "low", "status": "new", "subject": "Crane 4", "description": "It stands.", "tags": ["crane"]}
    times = {"created_at": MADE, "updated_at": CHANGED, "due_at": DUE}
    assert PAYLOAD.ticket({"id": 12, "external_id": "A-7", "custom_fields": fields, **ids, **words, **times}) == TicketMetadata(
        tenant_id="acme",
        ticket_id="12",
        type=TicketType.REQUEST,
        priority=Priority.LOW,
        status=TicketStatus.NEW,
        subject="Crane 4",
        description="It stands.",
        requester="21",
        assignee="22",
        tags=("crane",),
        custom_fields={"61": "3", "62": None},
        sla_due_at=DUE_AT,
        created_at=MADE_AT,
        updated_at=CHANGED_AT,
        url="https://lumen.zendesk.example/agent/tickets/12",
        extra={"external_id": "A-7", "brand_id": "31", "form_id": "32", "group_id": "33", "custom_status_id": "34"},
    )
    assert PAYLOAD.ticket({"id": 12, "custom_fields": None}).custom_fields == {}
    with pytest.raises(NotADelivery):
        PAYLOAD.ticket({"subject": "Crane 4"})


def test_an_event_is_read_whole() -> None:
    """The envelope every subscription sends."""
    merged = an_event("merged", {"target_ticket_id": "13", "meta": {"sequence": {"id": "s-1", "position": 1}}})
    expected = changed(EVENT, extra={**EVENT_EXTRA, "event": "merged", "target_ticket_id": "13", "sequence": "s-1"})
    assert PAYLOAD.metadata(a_delivery(merged)) == expected
    as_one = json.dumps(merged).encode().replace(b"It stands.", b"It \nstands.")  # no JSON as the standard has it
    assert PAYLOAD.metadata(a_delivery(as_one)) == changed(expected, description="It \nstands.")
    assert PAYLOAD.ticket_key(a_delivery(as_one)) == PAYLOAD.ticket_key(a_delivery(merged)) == "12"
    assert PAYLOAD.ticket_key(a_delivery(as_one.replace(b"zen:ticket:12", b"zen:other:12"))) == "12"
    assert PAYLOAD.delivery_id(a_delivery(merged)) == "e-1"


@pytest.mark.parametrize(
    ("told", "kind", "change"),
    [
        ("Status Changed", "status_changed", TicketChange.RESOLVED),
        (" ticket_merged ", "merged", TicketChange.UPDATED),
        ("Comment Created", "comment_added", TicketChange.COMMENTED),
        ("CCs Changed", "email_ccs_changed", TicketChange.UPDATED),
    ],
)
def test_an_integration_services_event_is_the_same_event(told: str, kind: str, change: TicketChange) -> None:
    """Flows name the kind in words and nest it; what came of it must not depend on the way."""
    subscribed = an_event(kind)
    given = {"type": told, "ticket": subscribed["detail"], "current": "SOLVED", "meta": {"occurred_at": CHANGED, "sequence": {"id": "s-1"}}}
    expected = changed(EVENT, change=change, extra={**EVENT_EXTRA, "event": kind, "current": "SOLVED", "sequence": "s-1"})
    if kind == "status_changed":
        expected = changed(expected, extra={**expected.extra, "changed": ("status",)})
    for body in ({"ticket_event": given}, {"input": {"ticket_event": given}}):
        assert PAYLOAD.metadata(a_delivery(body)) == expected
        assert PAYLOAD.ticket_key(a_delivery(body)) == "12"


def test_a_comments_event_names_its_author_where_no_actor_is_told() -> None:
    """Echoes are known by who wrote them."""
    comment = {"id": 41, "body": "Done.", "is_public": True, "author": {"id": 24}}
    told = PAYLOAD.metadata(a_delivery(an_event("comment_added", {"comment": comment}, actor_id=None)))
    extra = {**EVENT_EXTRA, "event": "comment_added", "comment": "Done.", "comment_public": True, "comment_id": "41"}
    assert told == changed(EVENT, actor="24", change=TicketChange.COMMENTED, extra=extra)
    assert (
        PAYLOAD.metadata(a_delivery(an_event("comment_added", {"comment": {**comment, "is_public": "true"}}))).extra["comment_public"]
        is False
    )
    for odd in ("text", ["text"], 7):
        assert PAYLOAD.metadata(a_delivery(an_event("comment_added", odd))).extra == {**EVENT_EXTRA, "event": "comment_added"}
    for odd in ("text", None, {"author": "x"}):
        assert PAYLOAD.metadata(a_delivery(an_event("comment_added", {"comment": odd}))).actor == "23"


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ({"custom_field": {"id": 61, "title": "Berth"}, "current": "N3"}, {"61": "N3", "Berth": "N3"}),
        ({"custom_field": {"id": 61}, "current": {"value": "N3", "id": 5}}, {"61": "N3"}),
        ({"custom_field": {"title": "Berth"}, "current": {"id": 5}}, {"Berth": 5}),
        ({"custom_field": None, "current": "N3"}, {}),
    ],
)
def test_a_custom_field_is_told_under_its_id_and_its_title(event: Any, fields: dict[str, Any]) -> None:
    """A rule may name it either way."""
    told = PAYLOAD.metadata(a_delivery(an_event("custom_field_changed", event)))
    assert told.custom_fields == fields
    assert told.extra["current"] == event["current"]
    assert "previous" not in told.extra
    assert PAYLOAD.metadata(a_delivery(an_event("custom_field_changed", {**event, "previous": "N2"}))).extra["previous"] == "N2"
    assert PAYLOAD.metadata(a_delivery(an_event("priority_changed", event))).custom_fields == {}


@pytest.mark.parametrize("kind", ["next_sla_breach_changed", "task_due_at_changed"])
def test_a_due_time_comes_with_the_event_that_changed_it(kind: str) -> None:
    """No other event's `current` is a time to be due."""
    assert PAYLOAD.metadata(a_delivery(an_event(kind, {"current": DUE, "previous": None}))).sla_due_at == DUE_AT
    assert PAYLOAD.metadata(a_delivery(an_event("subject_changed", {"current": DUE}))).sla_due_at is None


def test_a_status_that_became_solved_is_a_resolution() -> None:
    """And nothing else is: not another field's `current`, nor a status that is left."""
    for kind, event, change in (
        ("status_changed", {"current": "SOLVED", "previous": "OPEN"}, TicketChange.RESOLVED),
        ("status_changed", {"current": "OPEN", "previous": "SOLVED"}, TicketChange.UPDATED),
        ("subject_changed", {"current": "SOLVED"}, TicketChange.UPDATED),
        ("status_changed", {}, TicketChange.UPDATED),
    ):
        assert PAYLOAD.metadata(a_delivery(an_event(kind, event))).change is change


@pytest.mark.parametrize(("subject", "ticket_id"), [("zen:ticket:12", "12"), ("zen:user:12", None), ("zen:ticket:", None), (12, None)])
def test_the_subject_names_the_ticket_where_the_detail_does_not(subject: Any, ticket_id: str | None) -> None:
    """Both ways of reading say the same, or a ticket's events would be parted from each other."""
    for detail in ({}, {"id": None}, {"id": "0"}):
        event = {"type": "zen:event-type:ticket.merged", "subject": subject, "detail": detail, "note": "a\nb"}
        for body in (json.dumps(event).encode(), json.dumps(event).encode().replace(b"\\n", b"\n")):
            assert PAYLOAD.ticket_key(a_delivery(body)) == ticket_id
            if ticket_id is None:
                with pytest.raises(NotADelivery):
                    PAYLOAD.metadata(a_delivery(body))
            else:
                assert PAYLOAD.metadata(a_delivery(body)).ticket_id == ticket_id


@pytest.mark.parametrize(
    ("document", "delivery_id"),
    [
        ({"type": "zen:event-type:ticket.created", "id": "e-1"}, "e-1"),
        ({"type": "zen:event-type:ticket.created", "id": ""}, None),
        ({"type": "zen:event-type:ticket.created", "id": 7}, None),
        ({"type": "incident", "id": "12"}, None),
        ({"id": "12"}, None),
        (b"{", None),
    ],
)
def test_only_an_envelopes_id_recognises_a_delivery(document: Any, delivery_id: str | None) -> None:
    """A trigger's `id` is its ticket's: taken for the delivery's, every later event of the ticket would be dropped as a repeat."""
    assert PAYLOAD.delivery_id(a_delivery(document)) == delivery_id


def test_a_trigger_is_read_whole() -> None:
    """Every placeholder an admin may put into a body."""
    body = {
        "ticket_id": "12",
        "event": "comment",
        "subject": "Crane 4",
        "description": "It stands.",
        "status": "Pending",
        "priority": "Urgent",
        "type": "Problem",
        "requester": "ann@lumen.example",
        "assignee": "bo@lumen.example",
        "actor_id": "23",
        "tags": "crane gate",
        "due_date": DUE,
        "created_at": MADE,
        "updated_at": CHANGED,
        "external_id": "A-7",
        "latest_comment": "Done.",
        "brand": "Lumen",
        "form": "Faults",
    }
    expected = changed(
        EVENT,
        change=TicketChange.COMMENTED,
        requester="ann@lumen.example",
        assignee="bo@lumen.example",
        tags=("crane", "gate"),
        sla_due_at=DUE_AT,
        extra={"external_id": "A-7", "comment": "Done.", "brand": "Lumen", "form": "Faults"},
    )
    assert PAYLOAD.metadata(a_delivery(body)) == expected
    assert PAYLOAD.metadata(a_delivery({**body, "url": "https://lumen.example/12"})).url == "https://lumen.example/12"
    bare = PAYLOAD.metadata(a_delivery({"ticket_id": 12, "requester": "", "assignee": None, "priority": "-", "type": "-"}))
    assert bare == TicketMetadata(tenant_id="acme", ticket_id="12", url=EVENT.url, extra={"external_id": None})


def test_unknown_words_are_named_and_placeholders_for_none_are_not() -> None:
    """What is named is counted and mapped by somebody; a dash is what Zendesk prints for nothing."""
    long = "x" * 200
    named = PAYLOAD.metadata(a_delivery({"id": 12, "priority": "asap", "status": long, "type": "-"})).extra["unknown"]
    assert named == {"priority": "asap", "status": "x" * 80}
    event = PAYLOAD.metadata(a_delivery(an_event("merged", {}, priority="ASAP", status=None, type="EPIC")))
    assert event.extra["unknown"] == {"priority": "ASAP", "type": "EPIC"}
    for field in ("priority", "status", "type"):
        assert PAYLOAD.metadata(a_delivery(an_event("merged", {}, **{field: "odd"}))).extra["unknown"] == {field: "odd"}
    assert "unknown" not in PAYLOAD.metadata(a_delivery(an_event("merged", {}, priority="-", status="", type=None))).extra


@pytest.mark.parametrize("nothing", [None, "", "-"])
def test_a_default_priority_stands_in_for_each_word_for_none(nothing: str | None) -> None:
    """Triggers print a dash, forms an empty text, events null."""
    own = ZendeskPayload("acme", {"default_priority": "medium"})
    assert own.metadata(a_delivery(an_event("merged", {}, priority=nothing))).priority is Priority.MEDIUM
    assert own.metadata(a_delivery(an_event("merged", {}, priority="odd"))).priority is Priority.UNKNOWN


def test_a_tenants_own_words_count_for_each_field() -> None:
    """An account in another language, or with statuses of its own."""
    words = {"priority": {"Dringend": "urgent"}, "status": {"Offen": "open"}, "type": {"Störung": "incident"}}
    own = ZendeskPayload("acme", {"words": words})
    ticket = own.metadata(a_delivery({"id": 12, "priority": "dringend", "status": "OFFEN", "type": "störung"}))
    assert (ticket.priority, ticket.status, ticket.type) == (Priority.URGENT, TicketStatus.OPEN, TicketType.INCIDENT)
    assert ticket.url is None


def test_a_tenants_own_paths_name_the_ticket_for_the_key_too() -> None:
    """The key decides the partition: read elsewhere than the ticket's id, it would part a ticket's events."""
    own = ZendeskPayload("acme", {"webhook": {"fields": {"ticket_id": "$.case.number"}}})
    body = {"ticket_id": "99", "id": "98", "case": {"number": 12}}
    assert own.ticket_key(a_delivery(body)) == own.metadata(a_delivery(body)).ticket_id == "12"
    assert own.ticket_key(a_delivery(an_event("merged"))) == own.metadata(a_delivery(an_event("merged"))).ticket_id == "12"
    assert PAYLOAD.ticket_key(a_delivery({"ticket_id": "99", "id": "98"})) == "99"
    assert PAYLOAD.ticket_key(a_delivery(b"ticket_id=99", "application/x-www-form-urlencoded")) == "99"


def a_metric(metric: str, stage: str, **left: Any) -> dict[str, Any]:
    return {"metric": metric, "stage": stage, "breach_at": DUE, **left}


def test_the_clocks_of_a_ticket_are_told_one_by_one() -> None:
    """A target that is met is never broken again; one that waits is paused; one past its time is broken, whatever events say."""
    metrics = [
        a_metric("first_reply_time", "achieved", minutes=-3),
        a_metric("requester_wait_time", "paused", hours=2),
        a_metric("agent_work_time", "active", days=-1),
        a_metric("total_resolution_time", "active", minutes=0),
        a_metric("periodic_update_time", "active", minutes=5),
        a_metric("pausable_update_time", "active", minutes=-1),
        a_metric("agent_work_time_2", "active", hours=-1),
        a_metric("agent_work_time_3", "active", minutes=0),
        "no metric",
    ]
    events = [
        {"metric": "reply_time", "type": "fulfill", "time": CHANGED},
        {"metric": "requester_wait_time", "type": "fulfill", "time": CHANGED},
        {"metric": "resolution_time", "type": "breach", "time": CHANGED},
        {"metric": "periodic_update_time", "type": "breach", "time": CHANGED, "deleted": True},
        {"metric": "periodic_update_time", "type": "measure", "time": CHANGED},
    ]
    ticket = {"slas": {"policy_metrics": metrics}}
    assert sla_targets(ticket, events) == (
        SlaTarget(name="first_reply_time", due_at=DUE_AT, completed_at=CHANGED_AT, breached=False, paused=False),
        SlaTarget(name="requester_wait_time", due_at=DUE_AT, completed_at=None, breached=False, paused=True),
        SlaTarget(name="agent_work_time", due_at=DUE_AT, completed_at=None, breached=True, paused=False),
        SlaTarget(name="total_resolution_time", due_at=DUE_AT, completed_at=None, breached=True, paused=False),
        SlaTarget(name="periodic_update_time", due_at=DUE_AT, completed_at=None, breached=False, paused=False),
        SlaTarget(name="pausable_update_time", due_at=DUE_AT, completed_at=None, breached=True, paused=False),
        SlaTarget(name="agent_work_time_2", due_at=DUE_AT, completed_at=None, breached=True, paused=False),
        SlaTarget(name="agent_work_time_3", due_at=DUE_AT, completed_at=None, breached=False, paused=False),
    )
    next_reply = {"slas": {"policy_metrics": [a_metric("next_reply_time", "achieved")]}}
    assert sla_targets(next_reply, events)[0].completed_at == CHANGED_AT
    many = {"slas": {"policy_metrics": [a_metric(f"m{n}", "active") for n in range(60)]}}
    assert len(sla_targets(many, [])) == 50
    for odd in ({}, {"slas": None}, {"slas": {"policy_metrics": None}}, {"slas": []}):
        assert sla_targets(odd, []) == ()


def test_a_ticket_is_due_when_its_next_running_clock_breaks() -> None:
    """Met targets are past; the earliest of the rest counts, before the ticket's own due date."""
    metrics = [{**a_metric("a", "achieved"), "breach_at": MADE}, a_metric("b", "active"), {**a_metric("c", "paused"), "breach_at": CHANGED}]
    ticket = {"id": 12, "slas": {"policy_metrics": [*metrics, {"metric": "d", "stage": "active", "breach_at": None}]}, "due_at": MADE}
    assert next_breach(ticket) == CHANGED_AT
    assert PAYLOAD.ticket(ticket).sla_due_at == CHANGED_AT
    assert next_breach({"slas": {"policy_metrics": [a_metric("a", "achieved")]}}) is None
