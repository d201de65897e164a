"""What TOPdesk's cards say, in canonical words: both languages, every shape of template, and whatever else may come."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import plugins.topdesk
from plugins.api import Delivery, NotADelivery, PluginConfigError, Priority, TicketChange, TicketStatus, TicketType
from plugins.richtext import from_html, from_markdown, to_plain
from plugins.topdesk.memo import brief, find_update_tag, first_request, memo_text, to_memo, update_tag
from plugins.topdesk.payload import TopdeskReader, kind_of_number, to_unid
from plugins.topdesk.trail import change_trail, changes_since, field_changes
from plugins.topdesk.words import fault_of

FIXTURES = Path(plugins.topdesk.__file__).parent / "fixtures"
EXPECTED: dict[str, Any] = yaml.safe_load((FIXTURES / "expected.yaml").read_text())
REFERENCE = os.environ.get("AI_AGENTS_REFERENCE")
READER = TopdeskReader("acme", {"base_url": "https://gemeente.topdesk.example/tas/api"})
UNID = "5d0f6a1e-3c55-4b7e-9a31-7f1f0c2b9e10"


def a_delivery(body: bytes | dict[str, Any], content_type: str = "application/json") -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(tenant="acme", tool="desk", body=raw, headers={}, content_type=content_type)


def fixture(name: str) -> Delivery:
    headers = EXPECTED[name].get("headers", {})
    return a_delivery((FIXTURES / name).read_bytes(), headers.get("content-type", "application/json"))


@pytest.mark.parametrize("name", [name for name, told in EXPECTED.items() if "expect" in told])
def test_each_kept_delivery_names_one_ticket_in_both_readings(name: str) -> None:
    """The topic key and the metadata must agree, or a ticket's events go to two partitions."""
    reader = TopdeskReader("acme", EXPECTED[name].get("settings", {}))
    ticket = reader.delivery(fixture(name))
    assert reader.ticket_key(fixture(name)) == ticket.ticket_id == EXPECTED[name]["expect"]["ticket_id"]


@pytest.mark.parametrize("name", [name for name, told in EXPECTED.items() if told.get("error")])
def test_what_names_no_card_is_set_aside(name: str) -> None:
    """A dead letter can be read again once the template is mended; a guess cannot be taken back."""
    assert READER.ticket_key(fixture(name)) is None
    with pytest.raises(NotADelivery):
        READER.delivery(fixture(name))


@pytest.mark.parametrize(
    ("english", "dutch", "priority", "status", "type_"),
    [
        ("P1", "Kritiek", Priority.URGENT, TicketStatus.NEW, TicketType.INCIDENT),
        ("High", "Hoog", Priority.HIGH, TicketStatus.OPEN, TicketType.INCIDENT),
        ("P3", "Normaal", Priority.MEDIUM, TicketStatus.PENDING, TicketType.REQUEST),
        ("Low", "Laag", Priority.LOW, TicketStatus.RESOLVED, TicketType.REQUEST),
        ("P5", "Gepland", Priority.LOW, TicketStatus.CLOSED, TicketType.REQUEST),
    ],
)
def test_both_languages_mean_the_same(english: str, dutch: str, priority: Priority, status: TicketStatus, type_: TicketType) -> None:
    """A Dutch tenant and an English one write the same rules."""
    statuses = {
        TicketStatus.NEW: ("Logged", "Geregistreerd"),
        TicketStatus.OPEN: ("In progress", "In behandeling"),
        TicketStatus.PENDING: ("Waiting for supplier", "Wacht op leverancier"),
        TicketStatus.RESOLVED: ("Completed", "Gereed"),
        TicketStatus.CLOSED: ("Closed", "Afgemeld"),
    }
    types = {TicketType.INCIDENT: ("Failure", "Storing"), TicketType.REQUEST: ("Request", "Aanvraag")}
    in_english = {"number": "I 1", "priority": english, "processingStatus": statuses[status][0], "callType": types[type_][0]}
    in_dutch = {"nummer": "I 1", "prioriteit": dutch, "behandelstatus": statuses[status][1], "soortMelding": types[type_][1]}
    for body in (in_english, in_dutch):
        ticket = READER.delivery(a_delivery(body))
        assert (ticket.priority, ticket.status, ticket.type) == (priority, status, type_)
        assert "unknown" not in ticket.extra


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ({"closed": "Ja", "completed": "Nee"}, TicketStatus.CLOSED),
        ({"closed": False, "completed": 1}, TicketStatus.RESOLVED),
        ({"onHold": "true"}, TicketStatus.PENDING),
        ({"status": "firstLineArchived"}, TicketStatus.CLOSED),
        ({"operator": "Servicedesk"}, TicketStatus.OPEN),
        ({}, TicketStatus.NEW),
    ],
)
def test_flags_tell_more_than_a_status_name(flags: dict[str, Any], status: TicketStatus) -> None:
    """Tenants rename statuses; the flags stay what they are. A registered card that is somebody's is no longer new."""
    assert READER.delivery(a_delivery({"number": "I 1", "processingStatus": "Geregistreerd", **flags})).status is status


def test_names_of_fields_are_read_however_they_are_spelt() -> None:
    """The template is typed by hand."""
    body = {
        "Incident Number": "I 2603 118",
        "brief_description": "Lift",
        "PRIORITEIT": "P1",
        "Processing-Status": "Gereed",
        "Caller": {"E-mail": 1},
    }
    ticket = READER.delivery(a_delivery(body))
    assert (ticket.ticket_id, ticket.type, ticket.subject) == ("I 2603 118", TicketType.INCIDENT, "Lift")
    assert (ticket.priority, ticket.status) == (Priority.URGENT, TicketStatus.RESOLVED)


def test_a_tenants_own_words_win() -> None:
    """Names are free text: only the tenant knows that red is urgent and that "parked" is closed."""
    reader = TopdeskReader("acme", {"words": {"priority": {"Rood": "urgent", "P4": "medium"}, "status": {"Geparkeerd": "closed"}}})
    ticket = reader.delivery(a_delivery({"number": "I 1", "priority": "rood", "processingStatus": {"id": "x", "name": "Geparkeerd"}}))
    assert (ticket.priority, ticket.status) == (Priority.URGENT, TicketStatus.CLOSED)
    assert reader.delivery(a_delivery({"number": "I 1", "priority": "P4"})).priority is Priority.MEDIUM


def test_unknown_words_are_listed_and_stop_nothing() -> None:
    """They are counted and mapped later; the event goes on."""
    ticket = READER.delivery(fixture("incident_unknown_words.json"))
    assert ticket.extra["unknown"] == {"priority": "Zeer zeldzaam", "type": "Gunst", "status": "Onderweg"}
    assert (ticket.priority, ticket.status, ticket.change) == (Priority.UNKNOWN, TicketStatus.UNKNOWN, TicketChange.UNKNOWN)


@pytest.mark.parametrize("spelling", [UNID, UNID.upper(), f"{{{UNID}}}", UNID.replace("-", ""), f" {UNID} "])
def test_a_uuid_is_one_id_in_any_spelling(spelling: str) -> None:
    """Templates, exports and people write it in four ways; two keys for one ticket would break its order."""
    assert to_unid(spelling) == UNID
    assert READER.ticket_key(a_delivery({"unid": spelling})) == UNID


@pytest.mark.parametrize("other", ["I 2301 103", "", None, 7, UNID[:-1], "200410-004"])
def test_what_is_no_uuid_is_none(other: Any) -> None:
    """A number must not be looked for among UUIDs."""
    assert to_unid(other) is None


def test_a_tenant_may_go_by_numbers() -> None:
    """Where templates send the number alone, the API's documents must be named by it too."""
    by_number = TopdeskReader("acme", {"ticket_ids": "number"})
    document = json.loads((FIXTURES / "api_incident.json").read_bytes())
    assert by_number.id_of(document) == by_number.incident(document).ticket_id == "I 2603 118"
    assert READER.id_of(document) == READER.incident(document).ticket_id == UNID
    with pytest.raises(PluginConfigError, match="ticket_ids"):
        TopdeskReader("acme", {"ticket_ids": "both"})


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        ("I 2301 103", TicketType.INCIDENT),
        ("I-240205-0956", TicketType.INCIDENT),
        ("C2603-34823", TicketType.CHANGE),
        ("W 2603 001", TicketType.CHANGE),
        ("CA2603-0007", TicketType.CHANGE),
        ("P2603-001", TicketType.PROBLEM),
        ("M2001-001", TicketType.UNKNOWN),
        ("200410-004", TicketType.UNKNOWN),
        ("Incident", TicketType.UNKNOWN),
    ],
)
def test_a_numbers_letter_tells_its_kind_where_it_is_sure(number: str, kind: TicketType) -> None:
    """Number formats are the tenant's; a letter that means two things in two tenants means nothing here."""
    assert kind_of_number(number) is kind


def test_free_fields_have_their_path_and_their_name() -> None:
    """Rules say Building; the API says optionalFields1.text1."""
    reader = TopdeskReader("acme", {"fields": {"Pier": "optionalFields1.text1"}, "base_url": "https://gemeente.topdesk.example"})
    ticket = reader.incident(json.loads((FIXTURES / "api_incident.json").read_bytes()))
    assert ticket.custom_fields == {"optionalFields1.text1": "Pier 3", "Pier": "Pier 3", "optionalFields1.searchlist1": "North"}
    assert ticket.device == {"id": "1c", "name": "BRG-007", "serialNumber": "SN-7"}
    assert ticket.url == f"https://gemeente.topdesk.example/tas/secure/incident?unid={UNID}"


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ([{"field": "priority", "from": "P3", "to": {"id": "x", "name": "P1"}}], [{"field": "priority", "from": "P3", "to": "P1"}]),
        ([{"veld": "Behandelaar", "van": "A", "naar": "B"}], [{"field": "assignee", "from": "A", "to": "B"}]),
        ({"prioriteit": {"from": "P3", "to": "P1"}, "text1": "x"},
         [{"field": "priority", "from": "P3", "to": "P1"}, {"field": "text1", "from": None, "to": "x"}]),
        (["status", "korteOmschrijving"], [{"field": "status"}, {"field": "subject"}]),
        ("priority, targetDate", [{"field": "priority"}, {"field": "sla_due_at"}]),
        ("Prioriteit: P3 -> P1", [{"field": "priority", "from": "P3", "to": "P1"}]),
    ],
)  # fmt: skip
def test_who_composed_the_template_chose_how_changes_are_told(given: Any, changed: list[dict[str, Any]]) -> None:
    """Echo detection reads `changed`; people read old and new values."""
    ticket = READER.delivery(a_delivery({"number": "C1", "event": "change.updated", "changes": given}))
    assert ticket.extra["changes"] == changed
    assert ticket.extra["changed"] == tuple(row["field"] for row in changed)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Prioriteit: P3 -> P1", ("priority", "P3", "P1")),
        ("- Status: => Gereed", ("status", None, "Gereed")),
        ("Behandelaar: Jansen → ", ("assignee", "Jansen", None)),
        ("Status gewijzigd van In behandeling naar Gereed.", ("status", "In behandeling", "Gereed")),
        ("Priority was changed from P2 to P3", ("priority", "P2", "P3")),
        ("Kleur: rood -> groen", ("Kleur", "rood", "groen")),
        ("Call me: now", None),
        ("a -> b", None),
        ("[aia:x:1]: a -> b", None),
    ],
)
def test_lines_of_a_memo_that_tell_a_change(line: str, found: tuple[str, str | None, str | None] | None) -> None:
    """A person's sentence must not become a change, nor a change a sentence."""
    assert [tuple(row.values()) for row in field_changes(f"Hello\n{line}\n")] == ([found] if found else [])


def test_a_trail_tells_who_did_what_and_when_oldest_first() -> None:
    """The question an auditor asks of a change."""
    card = {
        "creationDate": "2026-03-03T10:00:00Z",
        "lastModificationDate": "2026-03-03T15:00:00Z",
        "requester": {"id": "p1", "name": "Visser, Daan"},
        "phases": {"rfc": {"endDate": "2026-03-03T11:00:00Z", "authorizer": {"id": "m1", "name": "Smit, Eva"}}},
        "simple": {"startDate": "2026-03-03T12:00:00Z", "assignee": {"id": "o1", "name": "Bakker, Femke"}},
    }
    entries: list[dict[str, Any]] = [
        {"id": "e2", "entryDate": "2026-03-03T14:00:00Z", "operator": {"id": "o1", "name": "Bakker, Femke"}, "fileName": "plan.pdf"},
        {"id": "e1", "entryDate": "2026-03-03T13:00:00Z", "operator": {"id": "o1", "name": "Bakker, Femke"},
         "memoText": "Prioriteit: P3 -&gt; P1<br>Streefdatum: a -&gt; b", "invisibleForCaller": True},
        {"id": "e3", "entryDate": "2026-03-03T14:30:00Z", "person": {"id": "p1", "name": "Visser, Daan"}, "memoText": "Thanks"},
    ]  # fmt: skip
    requests = [{"id": "r1", "entryDate": "2026-03-03T10:00:00Z", "person": {"id": "p1", "name": "Visser, Daan"}, "memoText": "Please"}]
    trail = change_trail(card, entries, requests)
    assert [(row["what"], row["field"], row["from"], row["to"], row["who"]) for row in trail] == [
        ("created", None, None, None, "Visser, Daan"),
        ("requested", None, None, None, "Visser, Daan"),
        ("phase ended", "status", "rfc", None, "Smit, Eva"),
        ("moved on", "status", None, "simple_inProgress", "Bakker, Femke"),
        ("changed", "priority", "P3", "P1", "Bakker, Femke"),
        ("changed", "sla_due_at", "a", "b", "Bakker, Femke"),
        ("attached", None, None, "plan.pdf", "Bakker, Femke"),
        ("noted", None, None, None, "Visser, Daan"),
        ("last touched", None, None, None, None),
    ]
    assert trail[4]["internal"] is True and trail[4]["entry_id"] == "e1"
    assert [row["what"] for row in changes_since(trail, trail[6]["at"])] == ["noted", "last touched"]


def test_a_memo_keeps_the_words_in_the_tags_a_memo_takes() -> None:
    """Any other tag would be stripped, or shown to the caller as text."""
    said = "# Head\n\nIt **blinks** *red* & <beeps>, see [kb](https://kb.example/7)\n\n- one\n- two\n\n1. a\n\n"
    html = to_memo(from_markdown(said + "> said\n\n```\nx < y\n```\n\n---"))
    assert html == (
        "<h5>Head</h5><br><br>It <b>blinks</b> <i>red</i> &amp; &lt;beeps&gt;, see kb (https://kb.example/7)<br><br>- one<br>- two"
        "<br><br>1. a<br><br>&gt; said<br><br>x &lt; y<br><br>-----"
    )
    assert "<beeps>" in to_plain(from_html(html)) == memo_text(html)


def test_a_callers_first_words_are_the_description() -> None:
    """`request` holds every later addition too, newest first, each under a line of its own."""
    newer = "27-01-2026 18:10 [GMT +0:00] Bakker, Femke: \nStill broken\n\n"
    text = newer + "25-01-2026 14:40 [GMT +0:00] Visser, Daan: \nIt broke.\nAt 9:00: bang\n"
    assert first_request(text) == "It broke.\nAt 9:00: bang"
    assert first_request("no head at all") == "no head at all"
    assert first_request(None) == ""


def test_a_subject_fits_a_brief_description() -> None:
    """One character too many, and the whole incident is refused."""
    assert len(brief("x" * 200)) == 80 and brief("x" * 200).endswith("…")
    assert brief("short") == "short"


def test_an_updates_mark_is_no_notes_marker() -> None:
    """Each is searched for by itself after a doubt."""
    assert find_update_tag(f"seen {update_tag('0195-e')} there") == "0195-e"
    assert find_update_tag("[aia:0195-e:1]") is None


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("The value for the field 'operator.id' cannot be found.", "operator.id: value not found"),
        ("De waarde voor het veld 'priority.name' kan niet worden gevonden.", "priority.name: value not found"),
        ("Het veld 'caller' is verplicht.", "caller: mandatory"),
        ("Het veld 'gebouw' bestaat niet.", "gebouw: no such field or value"),
        ("De melding is gearchiveerd.", "the card is archived"),
        ("Mrs Smit's secret plan", ""),
    ],
)
def test_messages_of_both_languages_become_one_reason(message: str, fault: str) -> None:
    """Who reads the dead letter sees the field and the reason, and nothing of the card."""
    assert fault_of(message) == fault


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_any_value_anywhere_is_read_or_refused(value: Any) -> None:
    """A template's mistake must never stop the stream."""
    body = json.loads((FIXTURES / "incident_updated.json").read_bytes())
    for name in ("priority", "processingStatus", "changes", "action", "operator", "unid", "event", "request", "caller"):
        ticket = READER.delivery(a_delivery({**body, "number": "I 1", name: value}))
        assert ticket.ticket_id


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever comes, the key raises nothing, and the reading only what it says."""
    READER.ticket_key(a_delivery(body))
    with contextlib.suppress(NotADelivery):
        READER.delivery(a_delivery(body))


@pytest.mark.skipif(REFERENCE is None, reason="AI_AGENTS_REFERENCE names no folder of recorded payloads")
def test_recorded_cards_are_read() -> None:
    """Cards of other people's tenants: the delivery that sends the number alone, and whole incidents as the API shows them."""
    folder = Path(str(REFERENCE)) / "payloads" / "topdesk"
    ticket = READER.delivery(a_delivery((folder / "webhook_katie_style.json").read_bytes()))
    assert (ticket.ticket_id, ticket.type) == ("I-240205-0956", TicketType.INCIDENT)
    cards = [json.loads(path.read_bytes()) for path in sorted(folder.glob("*incident*.json")) if "templates" not in path.name]
    cards = [card for found in cards for card in (found if isinstance(found, list) else [found]) if "briefDescription" in card]
    assert len(cards) >= 6
    for card in cards:
        for ticket in (READER.incident(card), READER.delivery(a_delivery({"event": "incident.updated", "incident": card}))):
            assert ticket.ticket_id == card["id"]
            assert "unknown" not in ticket.extra
            assert ticket.status is not TicketStatus.UNKNOWN
            assert ticket.created_at
