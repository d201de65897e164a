"""What SysAid's deliveries and records say, in canonical words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

import plugins.sysaid
from plugins.api import Delivery, NotADelivery, PluginConfigError, Priority, TicketChange, TicketMetadata, TicketStatus, TicketType
from plugins.sysaid.payload import SysAidPayload, fold, notes_of

FIXTURES = Path(plugins.sysaid.__file__).parent / "fixtures"
EXPECTED: dict[str, dict[str, Any]] = yaml.safe_load((FIXTURES / "expected.yaml").read_text())


def read(body: Any, settings: dict[str, Any] | None = None, content_type: str = "application/json") -> TicketMetadata:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return SysAidPayload("acme", settings or {}).metadata(
        Delivery(tenant="acme", tool="desk", body=raw, headers={}, content_type=content_type)
    )


def record(**fields: Any) -> dict[str, Any]:
    return {"id": "25", "info": [{"key": key, "value": value} for key, value in fields.items()]}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_kept_delivery_is_read_as_written_down(name: str) -> None:
    """The conformance kit reads the same file; here a difference shows the field."""
    told = EXPECTED[name]
    arguments = ((FIXTURES / name).read_bytes(), told.get("settings"), told.get("headers", {}).get("content-type", "application/json"))
    if "error" in told:
        with pytest.raises(NotADelivery):
            read(*arguments)
        return
    metadata = read(*arguments)
    assert {field: getattr(metadata, field) for field in told["expect"]} == told["expect"]


def test_every_kept_delivery_has_its_expectation() -> None:
    """A fixture nobody looks at proves nothing."""
    assert {path.name for path in FIXTURES.iterdir()} - {"expected.yaml"} == set(EXPECTED)


def test_info_is_read_by_key_and_never_by_place() -> None:
    """The order of `info` differs from record to record."""
    fields = [{"key": "title", "value": "A"}, {"key": "priority", "value": "3"}, {"key": "status", "value": 2}]
    for order in (fields, fields[::-1]):
        metadata = read({"data": {"id": 7, "info": order}})
        assert (metadata.subject, metadata.priority, metadata.status) == ("A", Priority.HIGH, TicketStatus.OPEN)


def test_a_caption_counts_before_its_code() -> None:
    """Accounts renumber their lists; what people read is what they mean."""
    item = {"key": "status", "value": 1, "valueCaption": "Closed"}
    assert read({"id": "1", "info": [item]}).status is TicketStatus.CLOSED


@pytest.mark.parametrize(
    ("code", "priority"),
    [(1, Priority.URGENT), ("2", Priority.URGENT), (3, Priority.HIGH), ("4", Priority.MEDIUM), (5, Priority.LOW), (6, Priority.UNKNOWN)],
)
def test_codes_flip_between_number_and_text(code: Any, priority: Priority) -> None:
    """The same field comes as 1 and as "1"."""
    assert read({"sr_id": "1", "priority": code}).priority is priority


@pytest.mark.parametrize(
    ("word", "change"),
    [
        ("sr.created", TicketChange.CREATED),
        ("sr_created", TicketChange.CREATED),
        ("New", TicketChange.CREATED),
        ("sr.updated", TicketChange.UPDATED),
        ("serviceRecord.updated", TicketChange.UPDATED),
        ("sr_escalated", TicketChange.UPDATED),
        ("sr.note_added", TicketChange.COMMENTED),
        ("sr_closed", TicketChange.RESOLVED),
        ("sr.deleted", TicketChange.DELETED),
        ("sr.teleported", TicketChange.UNKNOWN),
        ("", TicketChange.UNKNOWN),
    ],
)
def test_event_names_are_read_in_any_spelling(word: str, change: TicketChange) -> None:
    """Admins write what they like, and a new event must not stop the stream."""
    assert read({"event": word, "sr_id": "9"}).change is change


def test_words_nobody_knows_are_named() -> None:
    """Operators see which captions to map, and the ticket flows on."""
    metadata = read({"sr_id": "9", "status": "Liegt herum", "priority": "Kritisch", "sr_type": "Wunsch"})
    assert (metadata.status, metadata.priority, metadata.type) == (TicketStatus.UNKNOWN, Priority.UNKNOWN, TicketType.UNKNOWN)
    assert metadata.extra["unknown"] == {"status": "Liegt herum", "type": "Wunsch", "priority": "Kritisch"}


def test_a_tenants_words_are_taken_for_captions_and_for_codes() -> None:
    """Only code 1 is the same everywhere."""
    words = {"words": {"status": {"27": "pending", "Zu": "closed"}, "priority": {"Kritisch": "urgent"}, "type": {"Wunsch": "request"}}}
    assert read({"sr_id": "9", "status": 27}, words).status is TicketStatus.PENDING
    metadata = read({"sr_id": "9", "status": "zu", "priority": "KRITISCH", "sr_type": "Wunsch"}, words)
    assert (metadata.status, metadata.priority, metadata.type) == (TicketStatus.CLOSED, Priority.URGENT, TicketType.REQUEST)
    with pytest.raises(PluginConfigError, match=r"words\.status"):
        SysAidPayload("acme", {"words": {"status": {"27": "parked"}}})


def test_no_priority_is_what_the_tenant_says() -> None:
    """An empty field is no unknown word."""
    assert read({"sr_id": "1", "priority": ""}).priority is Priority.UNKNOWN
    assert "unknown" not in read({"sr_id": "1", "priority": "${Priority}"}).extra
    assert read({"sr_id": "1"}, {"default_priority": "low"}).priority is Priority.LOW
    with pytest.raises(PluginConfigError, match="default_priority"):
        SysAidPayload("acme", {"default_priority": "soon"})


def test_a_note_makes_a_comment_and_says_who_may_read_it() -> None:
    """A public answer and an internal note are routed apart."""
    body = json.loads((FIXTURES / "event_note.json").read_text())
    assert read(body).extra["comment"] == "Load cell ordered." and read(body).extra["comment_public"] is False
    body["note"]["public"] = "true"
    assert read(body).extra["comment_public"] is True
    notes = {
        "key": "notes",
        "value": [{"userName": "a", "createDate": 2, "text": "new"}, {"userName": "b", "createDate": 1, "text": "old"}],
    }
    metadata = read({"event": "sr.updated", "data": {"id": 1, "info": [notes]}})
    assert (metadata.change, metadata.extra["comment"], metadata.actor) == (TicketChange.COMMENTED, "new", "a")


def test_other_changes_beside_a_note_stay_an_update() -> None:
    """And an old note in a record is no comment of an event that changed something else."""
    body = json.loads((FIXTURES / "event_note.json").read_text())
    body["changed"] = ["notes", "priority"]
    assert read(body).change is TicketChange.UPDATED and read(body).extra["changed"] == ("comment", "priority")
    body["changed"] = ["priority"]
    assert read(body).change is TicketChange.UPDATED and "comment" not in read(body).extra


def test_edits_in_the_web_interface_are_partial_until_their_version_comes() -> None:
    """One field at a time while somebody types, then all of it once: rules may wait for the last."""
    partial = read((FIXTURES / "event_updated_partial.json").read_bytes())
    final = read((FIXTURES / "event_updated_final.json").read_bytes())
    assert partial.extra["partial"] is True and partial.extra["changed"] == ("assignee",)
    assert "partial" not in final.extra and final.extra["sr_version"] == "7"
    assert final.extra["changed"] == ("status", "priority", "custom_fields")


def test_device_people_and_our_own_id_are_kept() -> None:
    """What enrichment and echoes need of a record."""
    metadata = read((FIXTURES / "event_created.json").read_bytes(), {"external_id_field": "cust_text3", "base_url": "https://a.example/"})
    assert metadata.device == {"asset_id": "0A-3E-E9-13-2B-E4", "name": "WEIGH-PC-03"}
    assert metadata.extra["external_id"] == "Yard 2" and metadata.extra["requester_name"] == "Cora Customer"
    assert metadata.url == "https://a.example/SREdit.jsp?id=412"


def test_text_is_plain_unless_the_account_keeps_html() -> None:
    """In plain text `<both>` are two words somebody typed; a whole HTML document is one in any account."""
    assert read({"sr_id": "1", "description": "<both> & 'more'"}).description == "<both> & 'more'"
    assert read({"sr_id": "1", "description": "a <b>b</b>"}, {"text_format": "html"}).description == "a b"
    assert read({"sr_id": "1", "description": "<p>a</p><p>b</p>"}).description == "a\n\nb"


def test_records_in_a_list_of_one_and_notes_alone_are_understood() -> None:
    """Some versions answer so."""
    assert read({"data": [{"id": 5, "info": []}]}).ticket_id == "5"
    assert [n["text"] for n in notes_of({"notes": {"text": "only"}})] == ["only"] and notes_of({"notes": ""}) == []
    assert fold({"info": {"title": "A"}}) == ({"title": "A"}, {}) and fold({"info": "?"}) == ({}, {})


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"text"', b"{}", b'{"event": "sr.updated"}', b'{"data": {"info": []}}', b"\xff", b"[" * 5000]
)
def test_what_names_no_record_is_a_dead_letter(body: bytes) -> None:
    """One kind of error, whatever came."""
    with pytest.raises(NotADelivery):
        read(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@example_settings(deadline=None)  # a busy machine is no fault of the parser
@given(JSON, JSON, JSON, JSON)
def test_any_shape_is_read_or_set_aside(status: Any, note: Any, changed: Any, info: Any) -> None:
    """No body from outside may raise anything else."""
    body = {"sr_id": "1", "status": status, "note": note, "changed": changed, "data": {"info": info, "priority": status}, "custom": info}
    assert read(body).ticket_id == "1"


@pytest.mark.skipif("AI_AGENTS_REFERENCE" not in os.environ, reason="AI_AGENTS_REFERENCE does not name the reference folder")
def test_real_records_are_read() -> None:
    """Recorded answers of a real account, and a real update's body; no real webhook is known."""
    folder = Path(os.environ["AI_AGENTS_REFERENCE"]) / "payloads" / "sysaid"
    first, second = (SysAidPayload("acme", {}).record(r) for r in json.loads((folder / "xsoar_service_records.json").read_text()))
    assert (first.ticket_id, first.type, first.status) == ("25", TicketType.INCIDENT, TicketStatus.NEW)
    assert first.subject == "Cannot access email - Test" and first.updated_at == 1_647_338_000_987_000
    assert (second.priority, second.created_at) == (Priority.MEDIUM, None)
    update = read((folder / "xsoar_update_request.json").read_bytes())
    assert (update.ticket_id, update.priority, update.assignee) == ("6", Priority.LOW, "1")
