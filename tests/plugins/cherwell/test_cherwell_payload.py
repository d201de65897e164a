"""What Cherwell's records say, in canonical words: every shape a One-Step may send, times of any culture, tables of the tenant's own."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import plugins.cherwell
from plugins.api import Delivery, NotADelivery, PluginConfigError, Priority, TicketChange, TicketStatus, TicketType
from plugins.cherwell.objects import is_record_id, object_maps, reference, ticket_id_of
from plugins.cherwell.payload import CherwellReader
from plugins.cherwell.times import CultureTimes

FIXTURES = Path(plugins.cherwell.__file__).parent / "fixtures"
EXPECTED: dict[str, Any] = yaml.safe_load((FIXTURES / "expected.yaml").read_text())
REFERENCE = os.environ.get("AI_AGENTS_REFERENCE")
READER = CherwellReader("acme", {"base_url": "https://cherwell.example/CherwellAPI"})
RECORD = "9446e3f0a1b2c3d4e5f60718293a4b5c6d7e8f9001"


def a_delivery(body: bytes | dict[str, Any], content_type: str = "application/json") -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(tenant="acme", tool="desk", body=raw, headers={}, content_type=content_type)


def fixture(name: str) -> Delivery:
    return a_delivery((FIXTURES / name).read_bytes(), EXPECTED[name].get("headers", {}).get("content-type", "application/json"))


@pytest.mark.parametrize("name", [name for name, told in EXPECTED.items() if "expect" in told])
def test_each_kept_delivery_names_one_ticket_in_both_readings(name: str) -> None:
    """The topic key and the metadata must agree, or a ticket's events go to two partitions."""
    reader = CherwellReader("acme", EXPECTED[name].get("settings", {}))
    assert reader.ticket_key(fixture(name)) == reader.delivery(fixture(name)).ticket_id == EXPECTED[name]["expect"]["ticket_id"]


@pytest.mark.parametrize("name", [name for name, told in EXPECTED.items() if told.get("error")])
def test_what_names_no_record_is_set_aside(name: str) -> None:
    """A dead letter can be read again once the One-Step is mended."""
    assert READER.ticket_key(fixture(name)) is None
    with pytest.raises(NotADelivery):
        READER.delivery(fixture(name))


@pytest.mark.parametrize(
    "body", [b"762431", b'"762431"', b" 762431\r\n", RECORD.encode(), f"RecID={RECORD}".encode(), f"x {RECORD} y {RECORD}".encode()]
)
def test_a_text_with_one_id_is_a_delivery(body: bytes) -> None:
    """Older integrations post a text parameter with nothing else; everything more is read back."""
    ticket = READER.delivery(a_delivery(body, "text/plain"))
    assert ticket.ticket_id in ("762431", RECORD)


@pytest.mark.parametrize("body", [b"hello", f"{RECORD} {RECORD[::-1]}".encode(), b"", b"x" * 5000])
def test_a_text_with_none_or_several_ids_is_not(body: bytes) -> None:
    """A guess would write to somebody else's ticket."""
    with pytest.raises(NotADelivery):
        READER.delivery(a_delivery(body, "text/plain"))


@pytest.mark.parametrize(
    ("culture", "zone", "text", "iso"),
    [
        ("en-US", "UTC", "6/2/2020 10:00:00 AM", "2020-06-02T10:00:00+00:00"),
        ("en-US", "UTC", "6/2/2020 12:05 AM", "2020-06-02T00:05:00+00:00"),
        ("en-US", "UTC", "12/31/2025 12:00:01 PM", "2025-12-31T12:00:01+00:00"),
        ("en-US", "America/New_York", "6/2/2020 10:00:00 AM", "2020-06-02T14:00:00+00:00"),
        ("en-GB", "UTC", "02/06/2020 10:00:00", "2020-06-02T10:00:00+00:00"),
        ("de-DE", "Europe/Berlin", "02.06.2020 10:00", "2020-06-02T08:00:00+00:00"),
        ("nl-NL", "Europe/Amsterdam", "2-1-2026 9:05:00", "2026-01-02T08:05:00+00:00"),
        ("sv-SE", "UTC", "2020-06-02 10:00:00", "2020-06-02T10:00:00+00:00"),
        ("en-US", "Europe/Berlin", "2020-06-02T10:00:00", "2020-06-02T08:00:00+00:00"),
        ("en-US", "Europe/Berlin", "2020-06-02T10:00:00Z", "2020-06-02T10:00:00+00:00"),
        ("en-US", "UTC", "6/2/2020", "2020-06-02T00:00:00+00:00"),
    ],
)
def test_times_are_read_as_a_person_there_writes_them(culture: str, zone: str, text: str, iso: str) -> None:
    """March the second and the third of February are the same text in two cultures; nothing in it tells."""
    from datetime import datetime

    assert CultureTimes(culture, zone).micros(text) == int(datetime.fromisoformat(iso).timestamp() * 1_000_000)


@pytest.mark.parametrize("text", ["", "soon", "13/13/2020 1:00:00 AM", "6/2/2020 99:00", None, [], "1/2"])
def test_what_is_no_time_is_none(text: Any) -> None:
    """A wrong culture shows as missing times, not as an error."""
    assert CultureTimes("en-US", "UTC").micros(text) is None


def test_a_zone_nobody_knows_is_a_settings_error() -> None:
    """Silence here would put every time hours off."""
    with pytest.raises(PluginConfigError, match="time_zone"):
        CultureTimes("en-US", "Europe/Atlantis").micros("6/2/2020 10:00:00 AM")


def test_public_ids_are_told_apart_by_their_object() -> None:
    """Incident 10021 and change 10021 are two tickets."""
    for name, ticket_id, type_ in (
        ("Incident", "10021", TicketType.INCIDENT),
        ("incident", "10021", TicketType.INCIDENT),
        ("ChangeRequest", "ChangeRequest:10021", TicketType.CHANGE),
        ("problem", "Problem:10021", TicketType.PROBLEM),
        ("Change Request", "ChangeRequest:10021", TicketType.CHANGE),
        ("Loaner Device", "LoanerDevice:10021", TicketType.UNKNOWN),
    ):
        ticket = READER.delivery(a_delivery({"busObName": name, "busObPublicId": "10021", "event": "updated"}))
        assert (ticket.ticket_id, ticket.type) == (ticket_id, type_)
    assert READER.ticket_key(a_delivery({"event": "change.updated", "publicId": "10021"})) == "ChangeRequest:10021"
    assert reference("ChangeRequest:10021", "Incident") == ("ChangeRequest", "10021")
    assert reference("10021", "Incident") == ("Incident", "10021")
    assert ticket_id_of("INCIDENT", "7", "Incident") == "7"


def test_names_of_fields_are_read_however_they_are_spelt() -> None:
    """The One-Step's body is typed by hand."""
    ticket = READER.delivery(
        a_delivery({"Incident ID": 762431, "short_description": "Leak", "PRIORITY": "2", "Incident Type": "Service Request"})
    )
    assert (ticket.ticket_id, ticket.subject, ticket.priority, ticket.type) == ("762431", "Leak", Priority.HIGH, TicketType.REQUEST)


def test_a_tenant_may_go_by_record_ids() -> None:
    """Where public ids are reused or hidden."""
    reader = CherwellReader("acme", {"ticket_ids": "record"})
    assert reader.ticket_key(fixture("incident_created.json")) == RECORD
    assert reader.id_of({"busObPublicId": "1", "busObRecId": RECORD}, reader.first) == RECORD
    with pytest.raises(PluginConfigError, match="ticket_ids"):
        CherwellReader("acme", {"ticket_ids": "both"})
    assert is_record_id(RECORD) and is_record_id(RECORD[:32]) and not is_record_id("762431") and not is_record_id(RECORD[:40])


def test_a_tenants_table_lies_over_the_shipped_one() -> None:
    """Names of objects, fields and words are all the tenant's."""
    told = {
        "incident": {"name": "Ticket", "fields": {"subject": "Title", "assignee": None}, "status_names": {"open": "Working"}},
        "problem": None,
        "change": {"journal": {"relationship": "Change Has Notes", "text": "Body"}, "lifecycle": True, "on_close": {"Outcome": "Done"}},
    }
    maps = object_maps({"objects": told})
    assert list(maps) == [TicketType.INCIDENT, TicketType.CHANGE]
    incident, change = maps[TicketType.INCIDENT], maps[TicketType.CHANGE]
    assert (incident.name, incident.fields["subject"], incident.fields["status"]) == ("Ticket", "Title", "Status")
    assert "assignee" not in incident.fields and "type" not in change.fields
    assert (incident.status_names[TicketStatus.OPEN], incident.status_names[TicketStatus.NEW]) == ("Working", "New")
    assert (change.journal, change.journal_text, change.lifecycle, change.on_close) == (
        "Change Has Notes",
        "Body",
        True,
        {"Outcome": "Done"},
    )
    assert incident.journal == "Ticket Owns Journals"
    ticket = CherwellReader("acme", {"objects": told}).delivery(a_delivery({"busObName": "Ticket", "publicid": "7", "TITLE": "Leak"}))
    assert (ticket.ticket_id, ticket.subject) == ("7", "Leak")


@pytest.mark.parametrize(
    "told",
    [{"task": {}}, {"incident": {"status_names": {"working": "X"}}}, {"incident": None, "problem": None, "change": None}, ["Incident"]],
)
def test_a_table_that_cannot_be_is_a_settings_error(told: Any) -> None:
    """Found when the tenant's file is applied, not with the first ticket."""
    with pytest.raises(PluginConfigError, match="objects"):
        object_maps({"objects": told})


def test_a_tenants_own_words_win() -> None:
    """Statuses are the tenant's lists."""
    reader = CherwellReader("acme", {"words": {"status": {"Parked": "pending", "closed": "resolved"}, "priority": {"1": "high"}}})
    ticket = reader.delivery(a_delivery({"publicid": "7", "status": "PARKED", "priority": 1}))
    assert (ticket.status, ticket.priority) == (TicketStatus.PENDING, Priority.HIGH)
    assert reader.delivery(a_delivery({"publicid": "7", "status": "Closed"})).status is TicketStatus.RESOLVED


def test_a_whole_record_without_a_mapped_field_says_so() -> None:
    """A field of another name would else be an unknown status for ever."""
    record = {"busObPublicId": "7", "fields": [{"name": "State", "value": "New"}, {"name": "Priority", "value": "2"}]}
    ticket = READER.record(record, READER.first)
    assert ticket.extra["unknown"]["status"] == "(no field Status)"
    assert ticket.custom_fields == {"State": "New"}


@settings(max_examples=40)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_any_value_anywhere_is_read(value: Any) -> None:
    """A template's mistake must never stop the stream."""
    body = json.loads((FIXTURES / "incident_updated.json").read_bytes())
    for name in ("Status", "CreatedDateTime", "changed", "comment", "fields", "busObName", "event", "LastModifiedBy"):
        assert READER.delivery(a_delivery({**body, name: value})).ticket_id


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever comes, the key raises nothing, and the reading only what it says."""
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        READER.ticket_key(a_delivery(body, kind))
        with contextlib.suppress(NotADelivery):
            READER.delivery(a_delivery(body, kind))


@pytest.mark.skipif(REFERENCE is None, reason="AI_AGENTS_REFERENCE names no folder of recorded payloads")
def test_recorded_answers_are_read() -> None:
    """Saves and reads of other people's clients, which are also what a One-Step can be made to send."""
    folder = Path(str(REFERENCE)) / "payloads" / "cherwell"
    for name, ticket_id in (
        ("r7_create_incident_success.json", "762421"),
        ("r7_lookup_incident_success.json", "762421"),
        ("save_response_pycherwell.json", "293126"),
        ("get_business_object_gocherwell.json", "pub_id_1"),
    ):
        body = (folder / name).read_bytes()
        assert READER.delivery(a_delivery(body)).ticket_id == ticket_id
        assert READER.id_of(json.loads(body), READER.first) == ticket_id
    asked = READER.delivery(a_delivery((folder / "r7_update_incident_success.json").read_bytes()))
    assert (asked.ticket_id, asked.change) == ("1", TicketChange.UNKNOWN)
    with pytest.raises(NotADelivery):
        READER.delivery(a_delivery((folder / "save_incident_request.json").read_bytes()))
