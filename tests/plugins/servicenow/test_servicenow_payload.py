"""What ServiceNow deliveries say, whatever shape a script gave them."""

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

import plugins.servicenow
from plugins.api import Delivery, NotADelivery, PluginConfigError, Priority, TicketChange, TicketStatus, TicketType
from plugins.servicenow.payload import ServiceNowPayload

FIXTURES = Path(plugins.servicenow.__file__).parent / "fixtures"
EXPECTED: dict[str, Any] = yaml.safe_load((FIXTURES / "expected.yaml").read_text(encoding="utf-8"))
PAYLOAD = ServiceNowPayload("acme", {"base_url": "https://lumen.service-now.example/"})
SYS_ID = "9d385017c611228701d22104cc95c371"


def a_delivery(body: bytes | dict[str, Any]) -> Delivery:
    return Delivery(tenant="acme", tool="snow", body=body if isinstance(body, bytes) else json.dumps(body).encode(), headers={})


def fixture(name: str) -> Delivery:
    return a_delivery((FIXTURES / name).read_bytes())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_kept_delivery_yields_what_is_written_beside_it(name: str) -> None:
    """The table a reader can check against the bodies."""
    told = EXPECTED[name]
    payload = ServiceNowPayload("acme", told.get("settings") or {})
    if "error" in told:
        with pytest.raises(NotADelivery):
            payload.metadata(fixture(name))
        payload.ticket_key(fixture(name))  # it may name a record, and must not raise
        return
    ticket = payload.metadata(fixture(name))
    assert {field: getattr(ticket, field) for field in told["expect"]} == told["expect"]
    assert payload.ticket_key(fixture(name)) == ticket.ticket_id


def test_every_kept_delivery_is_described() -> None:
    """A fixture nobody said anything about proves nothing."""
    assert set(EXPECTED) == {path.name for path in FIXTURES.iterdir()} - {"expected.yaml"}


def test_a_subscriptions_sys_id_is_never_the_tickets() -> None:
    """Beside record_id it names the subscription: events of all its records would fall on one ticket."""
    ticket = PAYLOAD.metadata(fixture("subscription_state.json"))
    assert ticket.ticket_id == SYS_ID
    assert (ticket.extra["table"], ticket.extra["number"]) == ("incident", "INC0012345")
    assert ticket.extra["changed"] == ("status",)


def test_state_three_is_read_by_its_table() -> None:
    """On Hold for an incident, Closed for a change and for a task."""
    states = {
        table: PAYLOAD.metadata(a_delivery({"sys_id": SYS_ID, "table": table, "state": "3"})).status
        for table in ("incident", "change_request", "sc_task", "u_something")
    }
    assert states == {
        "incident": TicketStatus.PENDING,
        "change_request": TicketStatus.CLOSED,
        "sc_task": TicketStatus.CLOSED,
        "u_something": TicketStatus.UNKNOWN,
    }
    assess = {"sys_id": SYS_ID, "table": "problem", "state": "Assess"}
    assert PAYLOAD.metadata(a_delivery(assess)).status is TicketStatus.OPEN


@pytest.mark.parametrize("written", ["1", 1, 1.0, "1 - Critical", "Critical", {"value": "1", "display_value": "1 - Critical"}])
def test_a_priority_is_read_from_its_code_its_label_and_both(written: Any) -> None:
    """Scripts send whichever getValue or getDisplayValue gave them."""
    assert PAYLOAD.metadata(a_delivery({"sys_id": SYS_ID, "priority": written})).priority is Priority.URGENT


def test_the_table_is_known_by_its_label_too() -> None:
    """getDisplayValue('sys_class_name') says Change Request."""
    body = {"sys_id": SYS_ID, "sys_class_name": "Change Request", "state": "-4"}
    ticket = PAYLOAD.metadata(a_delivery(body))
    assert (ticket.type, ticket.status) == (TicketType.CHANGE, TicketStatus.PENDING)


def test_a_comment_is_read_from_a_plain_field_and_from_a_journals_text() -> None:
    """getJournalEntry(1) puts a line with the time and the author before the words, and both journals may come."""
    noted = PAYLOAD.metadata(fixture("recommended_work_note.json"))
    assert (noted.extra["comment"], noted.extra["comment_public"]) == ("Roller ordered, two days.", False)
    said = PAYLOAD.metadata(fixture("recommended_comment.json"))
    assert (said.extra["comment"], said.extra["comment_public"]) == ("Use hall 2 until tomorrow.", True)
    journal = "2026-03-02 09:55:00 - Omar Voss (Work notes)\nnewest\n\n2026-03-01 09:55:00 - Mara Lind (Work notes)\nolder\n\n"
    both = PAYLOAD.metadata(a_delivery({"sys_id": SYS_ID, "event": "work_notes", "work_notes": journal}))
    assert (both.extra["comment"], both.extra["comment_public"], both.change) == ("newest", False, TicketChange.COMMENTED)


def test_an_event_is_named_by_its_word_or_by_what_a_record_can_only_say_then() -> None:
    """A whole record without an event's name was created when it was never updated."""
    kinds = {
        json.dumps(more): PAYLOAD.metadata(a_delivery({"sys_id": SYS_ID, **more})).change
        for more in (
            {},
            {"sys_mod_count": 0},
            {"sys_mod_count": "7"},
            {"event": "INSERT"},
            {"event": "incident.commented"},
            {"event_occurred": "priority"},
            {"action": "delete"},
            {"operation": "levitate"},
            {"event": "updated", "changed": ["state"], "state": "Resolved"},
            {"event": "updated", "changed": ["priority"], "state": "Resolved"},
            {"event": "updated", "changed": [], "comment": "Look here"},
            {"event": "commented", "changed": ["state"], "state": "Resolved", "comment": "New roller"},
            {"event": "commented", "changed": ["priority"], "state": "Resolved", "comment": "New roller"},
        )
    }
    assert list(kinds.values()) == [
        TicketChange.UNKNOWN,
        TicketChange.CREATED,
        TicketChange.UPDATED,
        TicketChange.CREATED,
        TicketChange.COMMENTED,
        TicketChange.UPDATED,
        TicketChange.DELETED,
        TicketChange.UNKNOWN,
        TicketChange.RESOLVED,
        TicketChange.UPDATED,
        TicketChange.COMMENTED,
        TicketChange.RESOLVED,
        TicketChange.COMMENTED,
    ]


@pytest.mark.parametrize(
    ("event", "kind", "changed"),
    [
        ("incident_created", TicketChange.CREATED, None),
        ("Incident Updated", TicketChange.UPDATED, None),
        ("change-request.deleted", TicketChange.DELETED, None),
        ("state_changed", TicketChange.UPDATED, ("status",)),
        ("incident.priority.changed", TicketChange.UPDATED, ("priority",)),
        ("comment_added", TicketChange.COMMENTED, None),
        ("new_comment", TicketChange.COMMENTED, None),
        ("work_notes", TicketChange.COMMENTED, None),
        ("comment_deleted", TicketChange.UPDATED, None),
        ("incident resolved", TicketChange.RESOLVED, None),
        ("unknown", TicketChange.UNKNOWN, None),
        ("levitated", TicketChange.UNKNOWN, None),
    ],
)
def test_an_events_name_is_read_by_its_parts(event: str, kind: TicketChange, changed: tuple[str, ...] | None) -> None:
    """Every script has its own way to say the same; a comment's deletion is not the ticket's."""
    ticket = PAYLOAD.metadata(a_delivery({"event_type": event, "sys_id": SYS_ID}))
    assert (ticket.change, ticket.extra.get("changed")) == (kind, changed)


def test_what_stands_beside_a_record_counts_where_both_name_one() -> None:
    """The id outside is the ticket's; the fields inside are all there is of them."""
    body = {"sys_id": SYS_ID, "event": "update", "record": {"sys_id": "f" * 32, "short_description": "Lift", "priority": "2"}}
    ticket = PAYLOAD.metadata(a_delivery(body))
    assert (ticket.ticket_id, ticket.subject, ticket.priority) == (SYS_ID, "Lift", Priority.HIGH)
    assert PAYLOAD.ticket_key(a_delivery(body)) == SYS_ID


def test_changed_columns_are_told_by_their_canonical_names() -> None:
    """A mirror writes only what changed: impact is the priority, close_code is nobody's."""
    ticket = PAYLOAD.metadata(fixture("recommended_updated.json"))
    assert ticket.extra["changed"] == ("status", "priority", "assignee")
    assert PAYLOAD.metadata(fixture("recommended_resolved.json")).extra["changed"] == ("status",)
    assert "changed" not in PAYLOAD.metadata(fixture("problem_updated.json")).extra


def test_what_nobody_knows_is_unknown_and_named() -> None:
    """A customer's own words must be noticed, never stop the stream."""
    ticket = PAYLOAD.metadata(fixture("unknown_words.json"))
    assert ticket.extra["unknown"] == {"priority": "Kritisch", "status": "17", "type": "u_facility_case", "change": "sentiment_measured"}
    assert "unknown" not in PAYLOAD.metadata(fixture("recommended_created.json")).extra


def test_a_tenants_words_count_for_every_table_or_for_one() -> None:
    """Instances add states; the same code means different things in two tables."""
    words = {
        "status": {"incident:17": "pending", "17": "resolved"},
        "priority": {"kritisch": "urgent"},
        "type": {"u_facility_case": "request"},
    }
    payload = ServiceNowPayload("acme", {"words": words})
    ticket = payload.metadata(fixture("unknown_words.json"))
    assert (ticket.status, ticket.priority, ticket.type) == (TicketStatus.RESOLVED, Priority.URGENT, TicketType.REQUEST)
    assert payload.metadata(a_delivery({"sys_id": SYS_ID, "table": "incident", "state": 17})).status is TicketStatus.PENDING
    with pytest.raises(PluginConfigError, match="words"):
        ServiceNowPayload("acme", {"words": {"status": {"17": "asleep"}}})


def test_a_tenants_paths_begin_at_the_top_of_the_body_and_the_rest_is_read_as_ever() -> None:
    """One odd field is no reason to describe the whole body."""
    payload = ServiceNowPayload(
        "acme", {"webhook": {"fields": {"priority": "$.record.u_severity"}}, "words": {"priority": {"S1": "urgent"}}}
    )
    delivery = a_delivery(
        {"event": "update", "record": {"sys_id": SYS_ID, "u_severity": "S1", "priority": "4", "short_description": "Lift"}}
    )
    ticket = payload.metadata(delivery)
    assert (ticket.ticket_id, ticket.priority, ticket.subject) == (SYS_ID, Priority.URGENT, "Lift")
    assert payload.ticket_key(delivery) == SYS_ID


def test_what_a_ticket_is_about_is_its_configuration_item() -> None:
    """`enrich` begins there."""
    assert PAYLOAD.metadata(fixture("recommended_created.json")).device == {"id": "b4fd7c8437201000deeabfc8bcbe5dc1", "name": "LP-3-07"}
    assert PAYLOAD.metadata(fixture("whole_record_both_values.json")).device == {"id": "b4fd7c8437201000deeabfc8bcbe5dc3", "name": "UPS-2"}
    assert PAYLOAD.metadata(fixture("change_check.json")).device == {"id": "9c83c5cabb38997787462211005551eb", "type": "mid_server"}


def test_custom_columns_are_kept_and_ours_is_found() -> None:
    """Rules may be written over u_ and x_ columns."""
    ticket = PAYLOAD.metadata(fixture("whole_record_raw.json"))
    assert ticket.custom_fields == {"u_site": "b1", "u_vip": "false"}
    assert ticket.extra["external_id"] == "aia-0001"


def test_a_link_leads_to_the_record() -> None:
    """By sys_id, or by the number where that is all there is."""
    assert PAYLOAD.metadata(fixture("recommended_created.json")).url == f"https://lumen.service-now.example/incident.do?sys_id={SYS_ID}"
    by_number = "https://lumen.service-now.example/change_request.do?sysparm_query=number=CHG0031010"
    assert PAYLOAD.metadata(fixture("approval_vote.json")).url == by_number
    assert ServiceNowPayload("acme", {}).metadata(fixture("approval_vote.json")).url is None


def test_a_default_priority_stands_in_for_none() -> None:
    """The tenant's choice, not ours."""
    assert ServiceNowPayload("acme", {"default_priority": "low"}).metadata(fixture("minimal.json")).priority is Priority.LOW
    with pytest.raises(PluginConfigError, match="default_priority"):
        ServiceNowPayload("acme", {"default_priority": "normalish"})


def test_the_delivery_has_an_id_where_the_script_gave_one() -> None:
    """Inside the body the signature covers it."""
    assert PAYLOAD.delivery_id(fixture("recommended_created.json")) == "5b0d6e6a1b2c3d4e5f60718293a4b5c6"
    assert PAYLOAD.delivery_id(fixture("minimal.json")) is None
    assert PAYLOAD.delivery_id(a_delivery(b"<html>")) is None


scalars = st.none() | st.booleans() | st.integers(-6, 8) | st.floats(allow_nan=False, width=16) | st.text(max_size=5)
cells = (
    scalars
    | st.lists(scalars, max_size=2)
    | st.fixed_dictionaries({}, optional={"value": scalars, "display_value": scalars, "link": scalars})
)
names = (
    "record_id sys_id ticket_id change_sys_id number change_number external_reference table sys_class_name event changed state priority "
    "short_description comments work_notes comment comment_public cmdb_ci sys_created_on sys_updated_on sys_mod_count u_x x_y decision "
    "tags assigned_to caller_id updated_by correlation_id sla_due delivery_id"
)
records = st.dictionaries(st.sampled_from(names.split()), cells, max_size=10)
bodies = records | st.builds(
    lambda name, inner, rest: {**rest, name: inner}, st.sampled_from(["record", "data", "result"]), records | cells, records
)


@given(bodies)
def test_any_body_of_this_shape_is_a_ticket_or_no_delivery(body: dict[str, Any]) -> None:
    """Any field may hold any type; and the topic key is always the ticket the metadata names."""
    delivery = a_delivery(body)
    key = PAYLOAD.ticket_key(delivery)
    PAYLOAD.delivery_id(delivery)
    try:
        ticket = PAYLOAD.metadata(delivery)
    except NotADelivery:
        return
    assert ticket.ticket_id == key
    hash(ticket.ticket_id)
    for text in (ticket.subject, ticket.description, *ticket.custom_fields.values()):
        assert isinstance(text, str)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_ticket_or_no_delivery(body: bytes) -> None:
    """Signed garbage becomes a dead letter with its reason."""
    PAYLOAD.ticket_key(a_delivery(body))
    PAYLOAD.delivery_id(a_delivery(body))
    with contextlib.suppress(NotADelivery):
        PAYLOAD.metadata(a_delivery(body))


@pytest.mark.skipif("AI_AGENTS_REFERENCE" not in os.environ, reason="AI_AGENTS_REFERENCE names no folder of recorded payloads")
def test_recorded_payloads_are_read() -> None:
    """Bodies of real scripts, kept outside this project, as a second opinion on our own fixtures."""
    folder = Path(os.environ["AI_AGENTS_REFERENCE"]) / "payloads" / "servicenow"
    expected = {
        "mattermost_incident_priority": ("3072d01d07a552f6d0ea83ef29c936be", "incident", "urgent", "open", "updated"),
        "mattermost_change_request_state": ("c83c5e5347c12200e0ef563dbb9a7190", "change", "low", "pending", "updated"),
        "hmac_minimal": ("3072d01d07a552f6d0ea83ef29c936be", "incident", "unknown", "unknown", "unknown"),
        "wrapped_record": ("snow-uuid-1", "unknown", "unknown", "unknown", "unknown"),
        "change_validation": ("c83c5e5347c12200e0ef563dbb9a7190", "change", "unknown", "unknown", "unknown"),
        "approval_vote": ("CHG0012345", "change", "unknown", "unknown", "updated"),
        "whole_record_values": ("ef43c6d40a0a0b5700c77f9bf387afe3", "incident", "urgent", "open", "updated"),
        "whole_record_display_all": ("25a42de31b582010593876a61a4bcbc8", "change", "low", "new", "created"),
    }
    found = {}
    for path in folder.glob("*.json"):
        ticket = PAYLOAD.metadata(a_delivery(path.read_bytes()))
        assert PAYLOAD.ticket_key(a_delivery(path.read_bytes())) == ticket.ticket_id
        found[path.stem] = (ticket.ticket_id, ticket.type.value, ticket.priority.value, ticket.status.value, ticket.change.value)
    assert {name: found.get(name) for name in expected} == expected
    rows = [json.loads(path.read_bytes()).get("result") for path in (folder / "api_responses").glob("*.json")]
    records = [
        row for result in rows for row in (result if isinstance(result, list) else [result]) if isinstance(row, dict) and "number" in row
    ]
    assert len(records) > 5
    for row in records:
        assert PAYLOAD.record(row, "").ticket_id


def test_extraction_and_key_are_quick_enough_for_the_hot_path() -> None:
    """Route extracts each event once; the bound is wide for a busy machine, the target is measured by the bench."""
    document = json.loads((FIXTURES / "recommended_created.json").read_bytes())
    document["description"] = "x" * 1000
    delivery = a_delivery(document)
    assert min(_timed(PAYLOAD.metadata, delivery) for _ in range(5)) < 150e-6
    assert min(_timed(PAYLOAD.ticket_key, delivery) for _ in range(5)) < 50e-6


def _timed(function: Any, delivery: Delivery) -> float:
    """CPU seconds of one call: other work on the machine does not count."""
    began = time.process_time()
    for _ in range(200):
        function(delivery)
    return (time.process_time() - began) / 200
