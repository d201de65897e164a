"""What a ServiceDesk Plus body says, in canonical words, whoever built it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.api import Delivery, NotADelivery, PluginConfigError, Priority, TicketChange, TicketMetadata, TicketStatus, TicketType
from plugins.marker import find_marker
from plugins.richtext import from_html, to_plain
from plugins.servicedesk_plus.modules import CHANGES, REQUESTS, module_of
from plugins.servicedesk_plus.payload import RequestReader, plain

FIXTURES = Path(__file__).parents[3] / "plugins" / "servicedesk_plus" / "fixtures"
READER = RequestReader({})

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no fault of the parser."""


def read(body: Any, reader: RequestReader = READER, query: str = "") -> TicketMetadata:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return reader.metadata_of_delivery(Delivery(tenant="acme", tool="desk", body=raw, headers={}, query=query))


def a_form(body: bytes) -> Delivery:
    return Delivery(tenant="acme", tool="desk", body=body, headers={}, content_type="application/x-www-form-urlencoded")


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "ticket_id", "kind", "change", "status", "priority"),
    [
        ("v3_complete_created", "4100000000077231905", "incident", "created", "new", "high"),
        ("v3_complete_updated", "4100000000077231905", "incident", "updated", "pending", "unknown"),
        ("v3_complete_resolved", "4100000000077231905", "incident", "resolved", "resolved", "medium"),
        ("v3_note_added", "4100000000077231905", "incident", "commented", "resolved", "medium"),
        ("v1_complete", "2217", "request", "unknown", "open", "unknown"),
        ("flat_created", "REQ-2217", "unknown", "created", "unknown", "urgent"),
        ("flat_resolved", "REQ-2217", "unknown", "resolved", "unknown", "low"),
        ("nested_data_ticket", "2217", "unknown", "unknown", "unknown", "unknown"),
    ],
)
def test_each_known_shape_is_read_without_configuration(
    name: str, ticket_id: str, kind: str, change: str, status: str, priority: str
) -> None:
    """There is no vendor-defined body: these are the shapes found in the field."""
    metadata = read(fixture(f"{name}.json"))
    assert (metadata.ticket_id, metadata.type, metadata.change) == (ticket_id, kind, change)
    assert (metadata.status, metadata.priority) == (status, priority)
    assert metadata.tenant_id == "acme"
    assert READER.ticket_id_of(fixture(f"{name}.json")) == ticket_id


def test_a_complete_request_is_read_whole() -> None:
    """Every canonical field a rule may ask for is filled where the tool tells it; ids keep all their digits."""
    assert read(fixture("v3_complete_created.json")) == TicketMetadata(
        tenant_id="acme",
        ticket_id="4100000000077231905",
        type=TicketType.INCIDENT,
        priority=Priority.HIGH,
        status=TicketStatus.NEW,
        change=TicketChange.CREATED,
        subject="Badge reader 12 rejects every badge",
        description="Rejects all badges & blinks red.\nSince 07:40.",
        requester="olga.brandt@harbour.example",
        actor="olga.brandt@harbour.example",
        tags=("access",),
        custom_fields={"udf_pick_5": "Gate 2"},
        device={"name": "badge-reader-12", "id": "512"},
        sla_due_at=1772470800775000,
        created_at=1772433729775000,
        extra={"key": "2217"},
    )


def test_who_changed_it_is_the_actor() -> None:
    """Echoes are told by the technician whose key we use."""
    assert read(fixture("v3_complete_updated.json")).actor == "davi.reis@harbour.example"
    noted = read(fixture("v3_note_added.json"))
    assert noted.actor == "davi.reis@harbour.example"
    assert find_marker(noted.extra["comment"]) == ("0195f00d-7a11-7c3e-9d6f-1f2e3d4c5b6a", 1)
    assert noted.extra["comment_public"] is False
    assert noted.extra["comment"].startswith("Swapped the reader.")


OWN = RequestReader(
    {
        "webhook": {
            "fields": {
                "ticket_id": "$.what.number",
                "subject": "$.what.title",
                "status": "state",
                "event": "$.kind",
                "actor": "$.who.changed_by",
                "updated_at": "$.when",
            }
        },
        "words": {"status": {"Wartet": "pending"}, "event": {"CHG": "updated"}},
        "default_priority": "low",
    }
)


def test_a_body_of_the_admins_own_shape_is_read_by_the_tenants_paths() -> None:
    """What an admin chose is described in the tool's settings, not in code."""
    metadata = read(fixture("own_template.json"), OWN)
    assert (metadata.ticket_id, metadata.subject, metadata.status) == ("2217", "Replace badge reader 12", TicketStatus.PENDING)
    assert (metadata.change, metadata.actor, metadata.updated_at) == (TicketChange.UPDATED, "davi.reis@harbour.example", 1772437329000000)
    assert metadata.priority is Priority.LOW
    assert OWN.ticket_id_of(fixture("own_template.json")) == "2217"
    with pytest.raises(NotADelivery, match=r"webhook\.fields\.ticket_id"):
        read(fixture("own_template.json"))


def test_a_mapped_id_is_the_only_one() -> None:
    """A stray `id` elsewhere in the body must not become a ticket."""
    with pytest.raises(NotADelivery):
        read({"id": "7", "what": {}}, OWN)
    assert OWN.ticket_id_of(b'{"id": "7", "what": {}}') is None


def test_fields_the_tenant_did_not_map_are_found_where_they_usually_are() -> None:
    """Mapping one field does not mean having to map them all."""
    reader = RequestReader({"webhook": {"fields": {"priority": "$.severity"}}})
    metadata = read({"request": {"id": "7", "subject": "s", "priority": {"name": "Low"}}, "severity": "High"}, reader)
    assert (metadata.ticket_id, metadata.subject, metadata.priority) == ("7", "s", Priority.HIGH)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"webhook": {"fields": {"ticket": "$.id"}}}, "ticket"),
        ({"webhook": {"fields": {"ticket_id": "$.["}}}, "JSONPath"),
        ({"words": {"status": {"Open": "opened"}}}, "status"),
        ({"default_priority": "P9"}, "default_priority"),
    ],
)
def test_wrong_settings_are_told_at_once(settings: dict[str, Any], named: str) -> None:
    """A typing error in the settings must not be found in the tables later."""
    with pytest.raises(PluginConfigError, match=named):
        RequestReader(settings)


@pytest.mark.parametrize(
    ("body", "query", "change"),
    [
        ({"event": "ticket_created"}, "event=updated", "created"),
        ({}, "event=updated", "updated"),
        ({}, "a=b&event=note_added", "commented"),
        ({"event": "Request_Closed"}, "", "resolved"),
        ({"event": "trashed"}, "", "deleted"),
        ({"event": "teleported"}, "", "unknown"),
        ({"last_updated_time": None}, "", "created"),
        ({"last_updated_time": {"value": "1772437329000"}}, "", "updated"),
        ({"last_updated_time": {"value": "1772437329000"}, "status": "Closed"}, "", "resolved"),
        ({"is_trashed": True, "last_updated_time": None}, "", "deleted"),
        ({"note": {"description": "x"}}, "", "commented"),
        ({}, "", "unknown"),
        ({}, "event=" + "&" * 100, "unknown"),
    ],
)
def test_what_happened_is_told_or_inferred(body: dict[str, Any], query: str, change: str) -> None:
    """The body's word counts, then the address the admin typed, then what the request itself gives away."""
    assert read({"id": "7", **body}, query=query).change == change


@pytest.mark.parametrize("word", ["", "-", "Not Assigned", "not specified", None, {"name": None}])
def test_words_for_nothing_are_no_priority(word: Any) -> None:
    """The tool writes several words for an empty field; none is an unknown priority worth counting."""
    assert read({"id": "7", "priority": word}).priority is Priority.UNKNOWN
    assert "unknown" not in read({"id": "7", "priority": word}).extra
    assert read({"id": "7", "priority": word}, RequestReader({"default_priority": "medium"})).priority is Priority.MEDIUM


def test_words_nobody_knows_are_unknown_and_shown() -> None:
    """A new word must neither stop the stream nor vanish: it is kept to be counted."""
    assert read(fixture("nested_data_ticket.json")).extra["unknown"] == {"priority": "Sehr dringend"}
    assert read({"id": "7", "status": {"name": "Waiting for parts"}}).status is TicketStatus.PENDING


def test_a_tenant_named_in_the_body_is_not_believed() -> None:
    """The tenant comes from our own address; a body may say anything."""
    assert read(fixture("flat_created.json")).tenant_id == "acme"


def test_the_id_the_api_wants_comes_before_the_one_people_see() -> None:
    """Cloud shows a short display_id, and its API refuses it."""
    assert read({"request": {"display_id": "12", "id": "4100000000077231905"}}).ticket_id == "4100000000077231905"
    assert read({"request": {"display_id": "12"}}).ticket_id == "12"


def test_a_template_broken_by_a_quotation_mark_is_read_where_there_is_one_way_to() -> None:
    """The plainest mistake: a variable with quotes in it, inside quotes. What stays unclear is a dead letter that says what to do."""
    assert read(fixture("broken_template.txt")).subject == 'He said "no badge" at the gate'
    assert READER.ticket_id_of(fixture("broken_template.txt")) == "2217"
    with pytest.raises(NotADelivery, match="placeholder"):
        read(fixture("hopeless_template.txt"))
    assert READER.ticket_id_of(fixture("hopeless_template.txt")) is None


def test_changes_and_problems_are_told_from_requests() -> None:
    """Each module counts by itself: request 77410 and change 77410 are two tickets, and must not share a key."""
    change, request = {"change": {"id": "77410", "title": "x"}}, {"request": {"id": "77410", "subject": "x"}}
    assert (read(change).ticket_id, read(request).ticket_id) == ("CH-77410", "77410")
    assert READER.metadata_of_request("acme", change["change"], CHANGES).ticket_id == "CH-77410"
    assert module_of("CH-77410") == (CHANGES, "77410") and module_of("77410") == (REQUESTS, "77410")


def test_a_flat_bodys_word_for_what_happened_is_no_change_record() -> None:
    """`change` is a word admins use for the event."""
    assert read({"id": "7", "change": {"from": "Open", "to": "Closed"}}).ticket_id == "7"
    assert read({"id": "7", "change": "updated"}).type is TicketType.UNKNOWN


@pytest.mark.parametrize(
    ("told", "changed"),
    [
        ("status, technician", ("status", "assignee")),
        (["PRIORITY", "udf_sline_4", "udf_pick_5"], ("priority", "custom_fields")),
        ([{"field": "subject"}, {"name": "due_by_time"}, 7], ("subject", "sla_due_at", "7")),
        ({"stage": {"old": "a", "new": "b"}}, ("stage",)),
        ("", ()),
        (None, ()),
    ],
)
def test_what_a_script_says_changed_is_told_in_our_words(told: Any, changed: tuple[str, ...]) -> None:
    """Rules ask for "assignee", whatever a script calls it."""
    assert read({"id": "7", "changed": told}).extra.get("changed", ()) == changed


@pytest.mark.parametrize("wrapped", [{"data": {"request": {"id": "7"}}}, {"INPUT_DATA": {"request": {"id": 7}}}, {"requestId": 7}])
def test_a_request_is_found_where_scripts_put_it(wrapped: Any) -> None:
    """Custom functions pass on what they got, in their own wrapping."""
    assert read(wrapped).ticket_id == "7"


def test_what_somebody_wrote_into_a_forms_field_is_no_document() -> None:
    """A requester who types JSON into a description must not choose another request."""
    body = urlencode({"request_id": "7", "description": '{"request": {"id": "8"}}'}).encode()
    assert READER.metadata_of_delivery(a_form(body)).ticket_id == "7"


def test_a_form_of_many_fields_is_no_webhook() -> None:
    """Bounded, as everything from outside."""
    with pytest.raises(NotADelivery, match="fields"):
        READER.metadata_of_delivery(a_form(b"&".join(b"a%d=1" % n for n in range(300))))


def test_a_template_with_bare_line_breaks_is_read() -> None:
    """Variables bring their line breaks along; that alone is no reason to lose a ticket."""
    body = b'{"id": "7", "description": "first\nsecond\tthird", "event": "created"}'
    assert read(body).description == "first\nsecond\tthird"
    assert READER.ticket_id_of(body) == "7"


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
names = st.sampled_from(
    [
        "request", "ticket", "data", "id", "WORKORDERID", "ticket_id", "subject", "status", "priority", "name", "value", "display_value",
        "created_time", "last_updated_time", "due_by_time", "technician", "requester", "email_id", "udf_fields", "tags", "event", "note",
        "description", "is_trashed", "is_service_request", "last_updated_by", "added_by", "primary_asset", "resolved_date", "request_type",
    ]
) | st.text(max_size=4)  # fmt: skip
values = st.recursive(
    scalars | st.sampled_from(["<p>x</p>", "&amp;", "1772437329000", "Open", "High", "created"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
    max_leaves=24,
)


@pytest.mark.parametrize("reader", [READER, OWN], ids=["known shapes", "own paths"])
@unhurried
@given(body=values | st.dictionaries(names, values, max_size=12).map(lambda d: {"request": {**d, "id": "7"}}), query=st.text(max_size=12))
def test_any_json_is_metadata_or_no_delivery(reader: RequestReader, body: Any, query: str) -> None:
    """Nothing raises out of the parser but NotADelivery, and the topic key is the ticket's id whenever there is one."""
    raw = msgspec.json.encode(body)
    try:
        metadata = read(raw, reader, query)
    except NotADelivery:
        assert reader.ticket_id_of(raw) is None
    else:
        assert reader.ticket_id_of(raw) == metadata.ticket_id
        hash((metadata.change, metadata.priority, metadata.status, metadata.actor, metadata.tags, metadata.subject))


@unhurried
@given(st.binary(max_size=64))
def test_any_bytes_are_metadata_or_no_delivery(body: bytes) -> None:
    """A signed body of noise is a dead letter, not a crash."""
    assert READER.ticket_id_of(body) is None
    with pytest.raises(NotADelivery):
        read(body)


pieces = st.sampled_from(
    """<p> </p> <div~class='x~y'> </DIV> <br> <br/> <BR~/> <b> </b> <span~style="a:b"> </span> &amp; &lt; &nbsp; &#10; ~ ~~ a bc~d <ul><li>
    </li></ul> <script> </script> <~ > < <!--~x~--> é <pre> \0""".replace("\n", " ")
    .replace("~", "\t")
    .split(" ")
)


@unhurried
@given(st.lists(pieces, max_size=14).map("".join))
def test_the_quick_way_from_html_says_the_same_words_as_the_parser(text: str) -> None:
    """A shortcut that reads another text than the parser would let a rule decide by chance."""
    expected = to_plain(from_html(text)) if "<" in text or "&" in text else text
    assert plain(text).split() == expected.split()


REFERENCE = os.environ.get("AI_AGENTS_REFERENCE")


@pytest.mark.skipif(REFERENCE is None, reason="AI_AGENTS_REFERENCE names no folder of recorded payloads")
def test_recorded_bodies_are_read() -> None:
    """Complete requests of a real server, and bodies of a public receiver: each names its request and when it was made or changed."""
    bodies = sorted((Path(str(REFERENCE)) / "payloads" / "servicedesk_plus").glob("*.json"))
    assert len(bodies) >= 6
    for path in bodies:
        metadata = read(path.read_bytes())
        assert metadata.ticket_id and metadata.description, path.name
        assert metadata.priority is not Priority.UNKNOWN, path.name
        assert metadata.created_at or metadata.updated_at, path.name
        assert READER.ticket_id_of(path.read_bytes()) == metadata.ticket_id
    answers = sorted((Path(str(REFERENCE)) / "payloads" / "servicedesk_plus" / "api_responses").glob("*.json"))
    read_requests = [a["request"] for path in answers if isinstance((a := msgspec.json.decode(path.read_bytes())).get("request"), dict)]
    assert read_requests
    for request in read_requests:
        assert READER.metadata_of_request("acme", request).status is not TicketStatus.UNKNOWN
