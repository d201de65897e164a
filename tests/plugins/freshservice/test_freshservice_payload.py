"""What Freshservice's deliveries say, in canonical words: every shape it is known to send, and whatever else may come."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import plugins.freshservice
from plugins.api import Delivery, NotADelivery, Priority, TicketChange, TicketMetadata, TicketStatus, TicketType
from plugins.freshservice.payload import FreshservicePayload
from plugins.freshservice.records import CHANGE, PROBLEM, RECORDS, RELEASE, TICKET, Record, located, parse_id

FIXTURES = Path(plugins.freshservice.__file__).parent / "fixtures"
EXPECTED: dict[str, Any] = yaml.safe_load((FIXTURES / "expected.yaml").read_text(encoding="utf-8"))
PAYLOAD = FreshservicePayload("acme", {"base_url": "https://frostline.freshservice.example"})
REFERENCE = os.environ.get("AI_AGENTS_REFERENCE")


def a_delivery(body: bytes | str | dict[str, Any]) -> Delivery:
    raw = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    return Delivery(tenant="acme", tool="desk", body=raw, headers={})


def read(body: bytes | str | dict[str, Any], **settings: Any) -> TicketMetadata:
    payload = FreshservicePayload("acme", settings) if settings else PAYLOAD
    metadata = payload.metadata(a_delivery(body))
    assert payload.ticket_key(a_delivery(body)) == metadata.ticket_id
    return metadata


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_fixture_says_what_its_author_says(name: str) -> None:
    """Every kind of body there is an example of; the conformance kit reads the same file."""
    told, body = EXPECTED[name], (FIXTURES / name).read_bytes()
    if told.get("error"):
        with pytest.raises(NotADelivery):
            PAYLOAD.metadata(a_delivery(body))
        return
    metadata = read(body, **told.get("settings", {}))
    for path, wanted in told["expect"].items():
        field, _, member = path.partition(".")
        found = getattr(metadata, field)
        found = found.get(member) if member else found
        assert (list(found) if isinstance(found, tuple) else found) == wanted, path


@pytest.mark.skipif(REFERENCE is None, reason="AI_AGENTS_REFERENCE names no folder with real deliveries")
def test_each_real_delivery_is_read() -> None:
    """Bodies seen in the field; two of them broken by their templates."""
    folder = Path(str(REFERENCE)) / "payloads" / "freshservice"
    found = {path.name: read(path.read_bytes()) for path in folder.glob("webhook_*")}
    assert len(found) >= 5
    assert {m.ticket_id for m in found.values()} <= {"99001", "99002", "372", "12345"}
    broken = found["webhook_malformed_unquoted.txt"]
    assert (broken.priority, broken.status, broken.subject) == (Priority.LOW, TicketStatus.OPEN, "[dine3d] pls ignore")
    assert found["webhook_note_added.json"].change is TicketChange.COMMENTED
    assert found["webhook_ticket_created.json"].change is TicketChange.CREATED
    assert found["webhook_legacy_wrapper.json"].status is TicketStatus.PENDING


@pytest.mark.skipif(REFERENCE is None, reason="AI_AGENTS_REFERENCE names no folder with real answers")
def test_each_real_answer_is_read() -> None:
    """Records as the API answered them to others."""
    seen = 0
    for path in (Path(str(REFERENCE)) / "payloads" / "freshservice").glob("[rx]*.json"):
        document = json.loads(path.read_bytes())
        for record in RECORDS.values():
            for shown in [document.get(record.name), *(document.get(record.plural) or [])]:
                if isinstance(shown, dict):
                    metadata = PAYLOAD.record(record, shown)
                    assert metadata.status is not TicketStatus.UNKNOWN and metadata.priority is not Priority.UNKNOWN and metadata.subject
                    seen += 1
    assert seen >= 8


@pytest.mark.parametrize(
    ("shown", "prefix", "number"),
    [
        (372, "", "372"),
        ("372", "", "372"),
        ("#INC-372", "INC", "372"),
        (" sr-12 ", "SR", "12"),
        ("PRB 5", "PRB", "5"),
        ("CHN-007", "CHN", "7"),
    ],
)
def test_an_id_is_read_in_each_form_the_tool_shows(shown: Any, prefix: str, number: str) -> None:
    """The same ticket must have one key, or its events are out of order."""
    assert parse_id(shown) == (prefix, number)


@pytest.mark.parametrize("nothing", [None, "", 0, "0", "INC", "INC-", -4, True, 3.5, [], {}, "12 or 13", "INC-3/../4", "９", "9" * 40])
def test_what_is_no_id_is_none(nothing: Any) -> None:
    """An id from outside ends up in a path."""
    assert parse_id(nothing) is None


@pytest.mark.parametrize(
    ("ticket_id", "record", "number"),
    [
        ("418", TICKET, "418"),
        ("SR-418", TICKET, "418"),
        ("PRB-3", PROBLEM, "3"),
        ("CHN-3", CHANGE, "3"),
        ("REL-3", RELEASE, "3"),
        ("../x", TICKET, "../x"),
    ],
)
def test_an_id_names_its_kind_of_record(ticket_id: str, record: Record, number: str) -> None:
    """Each kind counts from one: 3 alone is a ticket."""
    assert located(ticket_id) == (record, number)


@pytest.mark.parametrize(
    ("body", "ticket_id", "type_"),
    [
        ({"ticket_id": 3, "ticket_type": "Change"}, "3", TicketType.CHANGE),
        ({"change_id": 3}, "CHN-3", TicketType.CHANGE),
        ({"problem": {"id": "3"}}, "PRB-3", TicketType.PROBLEM),
        ({"module": "releases", "id": 3}, "REL-3", TicketType.CHANGE),
        ({"kind": "problem", "ticket_id": "INC-3"}, "3", TicketType.INCIDENT),
        ({"freshservice_webhook": {"problem": {"id": 3}}}, "PRB-3", TicketType.PROBLEM),
        ({"id": 9, "ticket": {"id": 3, "type": "Request"}}, "3", TicketType.REQUEST),
        ({"data": {"ticket": {"id": 21001, "display_id": 3}}, "event": "onTicketCreate"}, "3", TicketType.UNKNOWN),
        ({"ticket": {"id": 3, "problem_id": 8, "problem": {"display_id": 8}}}, "3", TicketType.UNKNOWN),
        ({"change": {"id": 3}, "release": {"id": 8}, "release_id": 8}, "CHN-3", TicketType.CHANGE),
        ({"incident": {"id": "INC-3"}}, "3", TicketType.INCIDENT),
        ({"payload": {"body": {"ticketId": 3, "ticketType": "Incident"}}}, "3", TicketType.INCIDENT),
        ({"Ticket ID": "3", "Ticket Type": "Service Request"}, "3", TicketType.REQUEST),
    ],
)
def test_a_body_names_its_record_by_id_prefix_module_or_wrapper(body: dict[str, Any], ticket_id: str, type_: TicketType) -> None:
    """A change written into a ticket of the same number would be somebody else's."""
    metadata = read(body)
    assert (metadata.ticket_id, metadata.type) == (ticket_id, type_)


def test_a_rule_of_another_module_is_no_ticket() -> None:
    """Assets and tasks have automators too, and numbers like tickets."""
    for module in ("asset", "Tasks"):
        delivery = a_delivery({"module": module, "id": 3})
        with pytest.raises(NotADelivery):
            PAYLOAD.metadata(delivery)
        assert PAYLOAD.ticket_key(delivery) is None


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            TICKET,
            {
                2: "open",
                "Pending": "pending",
                "4": "resolved",
                5.0: "closed",
                "Waiting on Customer": "pending",
                9: "pending",
                "Frozen": "unknown",
            },
        ),
        (PROBLEM, {1: "open", "Change Requested": "pending", 3: "closed", 9: "unknown"}),
        (CHANGE, {1: "open", 2: "open", "Awaiting Approval": "pending", 4: "pending", "Pending Review": "resolved", 6: "closed"}),
        (RELEASE, {1: "open", "On hold": "pending", 3: "open", "incomplete": "pending", 5: "closed"}),
    ],
)
def test_a_status_is_read_by_name_and_by_code_of_its_kind(record: Record, words: dict[Any, str]) -> None:
    """3 is pending for a ticket and closed for a problem."""
    for word, wanted in words.items():
        metadata = read({record.name: {"id": 1, "status": word}})
        assert metadata.status == wanted, word
        assert ("status" in metadata.extra.get("unknown", {})) is (word in (9, "Frozen"))


@pytest.mark.parametrize(
    ("event", "change"),
    [
        ("ticket_created", "created"), ("Ticket is raised", "created"), ("{ticket_action:created}", "created"),
        ("onTicketCreate", "created"),
        ("ticket.updated", "updated"), ("priority_changed", "updated"), ("{priority:{from:1,to:2}}", "updated"), (None, "updated"),
        ("note_created", "commented"), ("{note_type:private}", "commented"), ("REPLY_SENT", "commented"),
        ("onConversationCreate", "commented"),
        ("ticket_closed", "resolved"), ("ticket deleted", "deleted"), ("marked as spam", "deleted"),
        ("survey_answered", "unknown"), (7, "unknown"),
    ],
)  # fmt: skip
def test_an_event_is_known_by_its_words(event: Any, change: str) -> None:
    """Its name is whatever an admin typed."""
    assert read({"ticket_id": 1, "event": event}).change == change


def test_an_update_to_the_end_is_a_resolution_unless_it_says_what_else_changed() -> None:
    """Rules for updates send a snapshot; an app also tells the fields."""
    done = {"event": "ticket_updated", "ticket": {"id": 1, "status": 4}}
    assert read(done).change is TicketChange.RESOLVED
    assert read({**done, "changes": {"priority": [1, 2]}}).change is TicketChange.UPDATED
    changed = read({**done, "changes": {"status": [2, 4], "responder_id": [None, 5]}})
    assert (changed.change, changed.extra["changed"]) == (TicketChange.RESOLVED, ("status", "assignee"))


def test_what_was_said_counts_as_internal_unless_it_says_otherwise() -> None:
    """A wrong guess the other way would show it to people outside."""
    public = {
        json.dumps(body): read({"ticket_id": 1, **body}).extra["comment_public"]
        for body in (
            {"comment": "x"}, {"note": {"body": "x"}}, {"latest_private_note": "x"}, {"note": {"body": "x", "private": "true"}},
            {"comment": "x", "comment_public": "false"}, {"latest_public_comment": "x"}, {"note": {"body": "x", "private": False}},
            {"comment": "x", "comment_public": "true"}, {"comment_text": "x", "public": True},
        )
    }  # fmt: skip
    assert list(public.values()) == [False] * 5 + [True] * 4
    assert "comment" not in read({"ticket_id": 1, "comment": ""}).extra
    assert read({"ticket_id": 1, "comment_text": "a <b> c</b>"}).extra["comment"] == "a <b> c</b>"


def test_our_id_is_found_among_the_tags_or_at_the_end_of_the_description() -> None:
    """Links are found again by it."""
    assert read({"ticket_id": 1, "tags": "dock, aia-0f1e"}).extra["external_id"] == "aia-0f1e"
    assert read({"ticket": {"id": 1, "tags": ["aia-1"], "external_ref": "K-1"}}).extra["external_id"] == "K-1"
    assert read({"change": {"id": 1, "description": "<p>New motor</p><p>[aia-2b]</p>"}}).extra["external_id"] == "aia-2b"
    assert read({"change": {"id": 1, "description": "[aia-2b] is another's"}}).extra["external_id"] is None


def test_a_ticket_nobody_touched_is_new() -> None:
    """The tool has no such status; who waits for a first look wants to know."""
    ticket = {
        "id": 1,
        "status": 2,
        "priority": 1,
        "responder_id": None,
        "created_at": "2026-03-02T09:00:00Z",
        "updated_at": "2026-03-02T09:00:00Z",
    }
    assert PAYLOAD.record(TICKET, ticket).status is TicketStatus.NEW
    assert PAYLOAD.record(TICKET, {**ticket, "responder_id": 7}).status is TicketStatus.OPEN
    assert PAYLOAD.record(TICKET, {**ticket, "updated_at": "2026-03-02T09:00:01Z"}).status is TicketStatus.OPEN
    assert PAYLOAD.record(CHANGE, {**ticket, "status": 1, "approval_status": 4}).extra["approval_status"] == "not requested"
    assert PAYLOAD.record(TICKET, {**ticket, "deleted": True}).change is TicketChange.DELETED
    with pytest.raises(NotADelivery):
        PAYLOAD.record(TICKET, {})


def test_a_record_has_its_page() -> None:
    """People go there from a note."""
    assert read({"change_id": 3}).url == "https://frostline.freshservice.example/a/changes/3"
    assert read({"ticket_id": 3, "ticket_url": "https://help.frostline.example/t/3"}).url == "https://help.frostline.example/t/3"
    assert read({"ticket_id": 3}, tenant="x").url is None


_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
_values = st.recursive(_scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3), max_leaves=8)
_names = st.sampled_from(
    [
        "ticket_id", "id", "ticket", "freshdesk_webhook", "freshservice_webhook", "problem", "data", "event", "changes", "actor", "note",
        "status", "comment", "priority", "type", "tags", "assets", "custom_fields", "updated_at", "requester",
        "kind", "conversation", "url",
    ]
)  # fmt: skip


@given(st.dictionaries(_names, _values | st.dictionaries(_names, _values, max_size=4), max_size=6))
def test_no_value_makes_reading_fail_in_another_way(document: dict[str, Any]) -> None:
    """Any member may be of any kind: an admin typed the template."""
    delivery = a_delivery(document)
    key = PAYLOAD.ticket_key(delivery)
    PAYLOAD.delivery_id(delivery)
    with contextlib.suppress(NotADelivery):
        assert PAYLOAD.metadata(delivery).ticket_id == key


@given(st.binary(max_size=120) | st.text('%7B{}=&[]":,ticket_id payload 12', max_size=80).map(str.encode))
def test_no_body_makes_reading_fail_in_another_way(body: bytes) -> None:
    """Forms inside JSON inside forms, torn anywhere."""
    with contextlib.suppress(NotADelivery):
        PAYLOAD.metadata(a_delivery(body))


def test_reading_takes_microseconds() -> None:
    """The door and the route step read every delivery; the target given is a millisecond."""
    delivery = a_delivery((FIXTURES / "template_created.json").read_bytes())
    for call in (PAYLOAD.metadata, PAYLOAD.ticket_key, PAYLOAD.delivery_id):
        began = time.perf_counter()
        for _ in range(300):
            call(delivery)
        assert (time.perf_counter() - began) / 300 < 500e-6
