"""What Freshdesk's deliveries say, in canonical words: rules' bodies of every shape, apps' events, and whatever else may come."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plugins.freshdesk
from plugins.api import Delivery, NotADelivery, PluginConfigError, Priority, SlaTarget, TicketChange, TicketStatus, TicketType
from plugins.freshdesk.payload import FreshdeskPayload
from plugins.freshdesk.sla import targets_of
from plugins.freshdesk.text import html, markdown, plain
from plugins.freshdesk.triggered_event import Part, changed_field, parts_of

FIXTURES = Path(plugins.freshdesk.__file__).parent / "fixtures"
PAYLOAD = FreshdeskPayload("acme", {"base_url": "https://lumen.freshdesk.example"})


def a_delivery(body: Any, content_type: str = "application/json") -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(tenant="acme", tool="desk", body=raw, headers={}, content_type=content_type)


@pytest.mark.parametrize(
    ("event", "parts"),
    [
        ("{ticket_action:created}", (Part("ticket_action", "created"),)),
        ("{note_type:private}", (Part("note_type", "private"),)),
        ("{status:{from:4,to:6}}", (Part("status", "6", True, "4"),)),
        ('{"status":{"from":4,"to":6}}', (Part("status", "6", True, "4"),)),
        ("{ status : { from : 4 , to : 6 } }", (Part("status", "6", True, "4"),)),
        ("{type:{from:,to:Feature Request}}", (Part("type", "Feature Request", True, ""),)),
        ("{status:{from:2,to:3},priority:{from:1,to:4}}", (Part("status", "3", True, "2"), Part("priority", "4", True, "1"))),
        ({"status": {"from": 4, "to": 6}}, (Part("status", "6", True, "4"),)),
        ({"ticket_action": "created"}, (Part("ticket_action", "created"),)),
        ("Ticket created", (Part("ticket_action", "created"),)),
        ("", ()),
        (None, ()),
        (["x"], ()),
        ("{}", ()),
    ],
)
def test_the_triggered_event_is_read_though_it_is_no_json(event: Any, parts: tuple[Part, ...]) -> None:
    """It is the only word of what happened."""
    assert parts_of(event) == parts


def test_changed_fields_have_canonical_names() -> None:
    """Echoes are told by them, across tools."""
    names = ("responder_id", "ticket_type", "cf_floor", "tag_names", "status", "something_new")
    assert [changed_field(name) for name in names] == ["assignee", "type", "custom_fields", "tags", "status", "something_new"]


def test_of_several_things_the_weightier_names_the_change() -> None:
    """One body tells one change; a resolved ticket that also got a new priority is resolved."""
    ticket = PAYLOAD.metadata(a_delivery({"ticket_id": 1, "triggered_event": "{priority:{from:1,to:2},status:{from:2,to:5}}"}))
    assert ticket.change is TicketChange.RESOLVED
    assert ticket.extra["changed"] == ("priority", "status")


@pytest.mark.parametrize(
    ("body", "ticket_id"),
    [
        ({"ticket_id": "11"}, "11"),
        ({"ticketId": 11}, "11"),
        ({"id": 11}, "11"),
        ({"id": "delivery-7", "ticket_id": 11}, "11"),
        ({"ticket_display_id": 11}, "11"),
        ({"ticket_id": 11, "ticket_display_id": 7, "TICKET_ID": 8}, "11"),
        ({"ticket": {"id": "11"}}, "11"),
        ({"freshdesk_webhook": {"ticket_id": 11}}, "11"),
        ({"freshdesk_webhook": {"ticket_id": None, "ticket_url": "http://a.example/helpdesk/tickets/11"}}, "11"),
        ({"TICKET_ID": 11}, "11"),
        ({"ticket_id": "{{ticket.id}}"}, None),
        ({"ticket_id": ""}, None),
        ({"ticket_id": True}, None),
        ({"ticket_id": 1.5}, None),
        ({"ticket_url": "http://a.example/x"}, None),
        ({"freshdesk_webhook": "text"}, None),
        ({}, None),
    ],
)
def test_the_tickets_number_is_found_wherever_an_admin_put_it(body: dict[str, Any], ticket_id: str | None) -> None:
    """The key decides the order of events; the door and the stream must agree on it."""
    delivery = a_delivery(body)
    assert PAYLOAD.ticket_key(delivery) == ticket_id
    if ticket_id is None:
        with pytest.raises(NotADelivery, match="names no ticket"):
            PAYLOAD.metadata(delivery)
    else:
        assert PAYLOAD.metadata(delivery).ticket_id == ticket_id


@pytest.mark.parametrize(
    "subject",
    [
        'x", "ticket_id": "7',
        'x", "ticket_priority": "Urgent',
        'x", "actor": "integration@desk.example',
        'x", "freshdesk_webhook": {"ticket_id": "7"}, "y": "',
        'x", "ticket": {"id": 7}, "y": "',
        'x", "ticket_id": "7", "triggered_event": "{ticket_action:deleted}',
    ],
)
def test_a_customers_subject_cannot_say_what_the_template_says(subject: str) -> None:
    """Advanced content does not escape what it pastes: a subject may close its quotes and go on as JSON."""
    body = (
        '{"triggered_event": "{ticket_action:created}", "ticket_id": "11", "actor": "people", "ticket_priority": "Low", '
        f'"ticket_subject": "{subject}", "ticket_status": "Open"}}'
    )
    with pytest.raises(NotADelivery):
        PAYLOAD.metadata(a_delivery(body.encode()))
    assert PAYLOAD.ticket_key(a_delivery(body.encode())) is None


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *[("2", TicketStatus.OPEN), (3, TicketStatus.PENDING), ("Waiting on Third Party", TicketStatus.PENDING), (5, TicketStatus.CLOSED)],
        *[
            ("OPEN ", TicketStatus.OPEN),
            ("Awaiting your Reply", TicketStatus.PENDING),
            ("8", TicketStatus.UNKNOWN),
            ([], TicketStatus.UNKNOWN),
        ],
    ],
)
def test_statuses_come_as_names_and_as_codes(word: Any, status: TicketStatus) -> None:
    """A word of the account's own is UNKNOWN and listed, never an error."""
    ticket = PAYLOAD.metadata(a_delivery({"ticket_id": 1, "ticket_status": word}))
    assert ticket.status is status
    assert ("unknown" in ticket.extra) == (word == "8")


def test_what_a_ticket_lacks_is_what_the_tenant_says() -> None:
    """Accounts without types mean the same by all their tickets."""
    payload = FreshdeskPayload("acme", {"default_type": "request", "default_priority": "low"})
    ticket = payload.metadata(a_delivery({"ticket_id": 1, "ticket_type": None}))
    assert (ticket.type, ticket.priority) == (TicketType.REQUEST, Priority.LOW)
    assert "unknown" not in ticket.extra


@pytest.mark.parametrize(
    "settings", [{"default_type": "epic"}, {"default_priority": "P0"}, {"words": {"status": {"x": "y"}}}, {"products": ["phones"]}]
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, Any]) -> None:
    """Not with the first ticket."""
    with pytest.raises(PluginConfigError):
        FreshdeskPayload("acme", settings)


def test_the_latest_comment_is_told_only_of_a_comments_event() -> None:
    """Every body carries it: a person's change of priority must not pass for the echo of our last note."""
    body = {"ticket_id": 1, "ticket_latest_public_comment": "Ada : <p>old [aia:e:1]</p>", "triggered_event": "{priority:{from:1,to:2}}"}
    assert "comment" not in PAYLOAD.metadata(a_delivery(body)).extra
    said = PAYLOAD.metadata(a_delivery({**body, "triggered_event": "{reply_sent:sent}"}))
    assert (said.extra["comment"], said.extra["comment_author"], said.extra["comment_public"]) == ("old [aia:e:1]", "Ada", True)


def test_the_older_notes_body_is_read() -> None:
    """Webhooks made by the API name a note's author, whom rules do not."""
    body = {"ticket_display_id": 4, "note_comment": "Hello", "note_private": "true", "note_commenter_email": "ada@desk.example"}
    ticket = PAYLOAD.metadata(a_delivery({**body, "triggered_event": "{note_action:create}"}))
    assert (ticket.change, ticket.extra["comment"], ticket.extra["comment_public"]) == (TicketChange.COMMENTED, "Hello", False)
    assert ticket.actor == "ada@desk.example"
    assert PAYLOAD.metadata(a_delivery(body)).change is TicketChange.COMMENTED


@pytest.mark.parametrize(
    ("products", "record", "brand"),
    [
        ({}, {"ticket_product_name": "Lumen Lamps"}, "Lumen Lamps"),
        ({"lamps": "Lumen Lamps"}, {"ticket_product_description": "LUMEN LAMPS"}, "lamps"),
        ({"lamps": 8002}, {"product_id": 8002}, "lamps"),
        ({"lamps": 8002}, {"product_id": 8001}, None),
        ({}, {}, None),
    ],
)
def test_a_brand_is_called_as_the_tenant_calls_it(products: dict[str, Any], record: dict[str, Any], brand: str | None) -> None:
    """Rules match on it, and a product renamed in the tool must not change where its tickets go."""
    extra = FreshdeskPayload("acme", {"products": products}).metadata(a_delivery({"ticket_id": 1, **record})).extra
    assert extra.get("product") == brand


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"[1]", "application/json"),
        (b'"x"', ""),
        (b"<ticket>", "application/xml"),
        (b"<ticket/>", "application/xml"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a><id>1</id></a>', "text/xml"),
        (b"&&&", "application/x-www-form-urlencoded"),
        (b"a=1&" * 2000, "application/x-www-form-urlencoded"),
        (b"\xff\xfe", ""),
    ],
)
def test_a_body_that_cannot_be_read_is_no_delivery(body: bytes, kind: str) -> None:
    """It becomes a dead letter, with a reason; nothing raises another error."""
    with pytest.raises(NotADelivery):
        PAYLOAD.metadata(a_delivery(body, kind))
    assert PAYLOAD.ticket_key(a_delivery(body, kind)) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        *(
            "ticket_id",
            "id",
            "ticket",
            "freshdesk_webhook",
            "triggered_event",
            "event",
            "data",
            "ticket_status",
            "ticket_priority",
            "ticket_type",
        ),
        *(
            "ticket_tags",
            "ticket_description",
            "custom_fields",
            "note_comment",
            "note_private",
            "ticket_latest_public_comment",
            "agent",
            "actor",
        ),
        *("conversation", "changes", "product_id", "timestamp", "updated_at", "ticket_url"),
    ]
)


@given(document=st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON, max_size=6), max_size=10))
def test_no_shape_of_a_body_raises_anything_but_its_refusal(document: dict[str, Any]) -> None:
    """Admins write these; a surprise must end as a dead letter."""
    with contextlib.suppress(NotADelivery):
        ticket = PAYLOAD.metadata(a_delivery(document))
        assert ticket.ticket_id == PAYLOAD.ticket_key(a_delivery(document))
        assert isinstance(ticket.description, str) and isinstance(ticket.tags, tuple)


@given(body=st.binary(max_size=200))
def test_no_bytes_raise_anything_but_their_refusal(body: bytes) -> None:
    """Whoever knows the secret may still send nonsense."""
    for kind in ("application/json", "application/x-www-form-urlencoded", "application/xml"):
        with contextlib.suppress(NotADelivery):
            PAYLOAD.metadata(a_delivery(body, kind))


def test_clocks_of_a_ticket_are_told() -> None:
    """First response, next response and resolution run apart."""
    ticket = {
        "fr_due_by": "2026-03-02T10:00:00Z",
        "due_by": "2026-03-02T12:00:00Z",
        "nr_due_by": None,
        "fr_escalated": False,
        "is_escalated": True,
        "stats": {"first_responded_at": "2026-03-02T10:30:00Z", "resolved_at": None},
    }
    first, resolution = targets_of(ticket, TicketStatus.PENDING)
    hour = 3_600_000_000
    assert first == SlaTarget(
        name="first response", due_at=1_772_445_600_000_000, completed_at=1_772_445_600_000_000 + hour // 2, breached=True
    )
    assert resolution == SlaTarget(name="resolution", due_at=1_772_445_600_000_000 + 2 * hour, breached=True, paused=True)
    assert targets_of({}, TicketStatus.OPEN) == ()


def test_texts_go_both_ways() -> None:
    """Freshdesk keeps HTML."""
    assert plain("no markup") == "no markup"
    assert plain("<div>a &amp; b</div>") == "a & b"
    assert "<strong>" in html("**b**") and html("x", "[aia:e:1]").count("[aia:e:1]") == 1
    assert html("x [aia:e:1]", "[aia:e:1]").count("[aia:e:1]") == 1
    assert markdown("<p>a <b>b</b></p>").strip() == "a **b**"


def test_reading_is_fast_enough_for_the_door() -> None:
    """A millisecond is the promise. The best of many tries: a busy machine only ever adds."""
    delivery = a_delivery((FIXTURES / "simple_created.json").read_bytes())

    def once() -> float:
        started = time.process_time()
        PAYLOAD.metadata(delivery)
        return time.process_time() - started

    assert min(once() for _ in range(200)) < 0.001


@pytest.mark.skipif("AI_AGENTS_REFERENCE" not in os.environ, reason="AI_AGENTS_REFERENCE does not name the reference folder")
def test_every_recorded_delivery_is_read() -> None:
    """Real ones, as others recorded them. One is cut short by who recorded it, and names no ticket any more."""
    folder = Path(os.environ["AI_AGENTS_REFERENCE"]) / "payloads" / "freshdesk"
    found = {path.stem: a_delivery(path.read_bytes()) for path in folder.glob("webhook_*.json")}
    assert len(found) >= 3
    created = PAYLOAD.metadata(found["webhook_ticket_created"])
    assert (created.ticket_id, created.change, created.type, created.priority, created.status) == (
        *("11", TicketChange.CREATED, TicketType.INCIDENT, Priority.HIGH),
        TicketStatus.PENDING,
    )
    changed = PAYLOAD.metadata(found["webhook_status_changed"])
    assert (changed.change, changed.status, changed.extra["changed"]) == (TicketChange.UPDATED, TicketStatus.PENDING, ("status",))
    images = PAYLOAD.metadata(found["webhook_inline_images"])
    assert "guinea pigs" in images.subject and "<" not in images.description
    for delivery in found.values():
        assert PAYLOAD.metadata(delivery).requester == "requester-bob@example.com"
    with pytest.raises(NotADelivery, match="names no ticket"):
        PAYLOAD.metadata(a_delivery((folder / "app_event_onTicketCreate.json").read_bytes()))


@pytest.mark.skipif("AI_AGENTS_REFERENCE" not in os.environ, reason="AI_AGENTS_REFERENCE does not name the reference folder")
def test_every_recorded_ticket_is_read() -> None:
    """As the API answered them to others; 8 is a status of that account's own."""
    seen = 0
    for path in (Path(os.environ["AI_AGENTS_REFERENCE"]) / "payloads" / "freshdesk").glob("*ticket*.json"):
        document = json.loads(path.read_bytes())
        rows = document if isinstance(document, list) else document.get("results", [document])
        for shown in rows:
            if "requester_id" not in shown:
                continue
            seen += 1
            ticket = PAYLOAD.ticket(shown)
            assert ticket.priority is not Priority.UNKNOWN and ticket.sla_due_at and ticket.created_at
            assert ticket.subject == (shown.get("subject") or "")
            assert (ticket.status is TicketStatus.UNKNOWN) == (shown["status"] == 8)
            labelled = FreshdeskPayload("acme", {"words": {"status": {"xyz test status": "pending"}}}).ticket(shown, "xyz test status")
            assert labelled.status is TicketStatus.PENDING
    assert seen > 20
