"""What is written to a record, and how an answer is read: pure, as tables."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.api import (
    CallTimedOut,
    CredentialsRefused,
    FatalApiError,
    NewTicket,
    NotFound,
    PluginConfigError,
    Priority,
    RateLimited,
    ServerError,
    TicketChanges,
    TicketStatus,
    TicketType,
    TornAnswer,
    ValidationRefused,
)
from plugins.http.errors import Answer
from plugins.marker import note_marker, same_marker
from plugins.servicenow import journal
from plugins.servicenow.api_client import escaped, result_of, servicenow_error
from plugins.servicenow.writing import Located, ServiceNowWriter, check_kept

EVENT = "0197f3a0-0000-7000-8000-000000000001"


def at(table: str = "incident", state: str = "1", **more: Any) -> Located:
    return Located(sys_id="a" * 32, table=table, number="INC0010001", state=state, **more)


def changes(**fields: Any) -> TicketChanges:
    return TicketChanges(event_id=EVENT, **fields)


def a_ticket(**fields: Any) -> NewTicket:
    return NewTicket(**{"subject": "Lift 2", "external_id": "aia-1", "event_id": EVENT, **fields})


# what is written ---------------------------------------------------------------------------------------------------------


def test_a_new_incident_has_its_ids_and_a_priority_that_counts() -> None:
    """Priority itself is computed by the instance: what is written there is silently overwritten."""
    table, values = ServiceNowWriter({}).new(a_ticket(priority=Priority.HIGH, description="It **hangs**"))
    assert table == "incident"
    assert values == {
        "short_description": "Lift 2",
        "description": "It hangs",
        "correlation_id": "aia-1",
        "correlation_display": EVENT,
        "impact": "1",
        "urgency": "2",
    }


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (TicketType.INCIDENT, "incident"),
        (TicketType.UNKNOWN, "incident"),
        (TicketType.CHANGE, "change_request"),
        (TicketType.PROBLEM, "problem"),
        (TicketType.REQUEST, "sc_req_item"),
    ],
)
def test_a_type_is_a_table(kind: TicketType, table: str) -> None:
    """And cannot be changed afterwards."""
    assert ServiceNowWriter({}).new(a_ticket(type=kind))[0] == table


def test_a_change_begins_where_changes_begin_and_a_task_where_it_is_asked_to() -> None:
    """Each move of a change has its own demands; an incident may be opened on hold, with its reason."""
    writer = ServiceNowWriter({})
    assert "state" not in writer.new(a_ticket(type=TicketType.CHANGE, status=TicketStatus.OPEN))[1]
    assert "state" not in writer.new(a_ticket(type=TicketType.PROBLEM, status=TicketStatus.OPEN))[1]
    values = writer.new(a_ticket(status=TicketStatus.PENDING))[1]
    assert (values["state"], values["hold_reason"]) == ("3", "1")


def test_a_tenant_says_what_its_instance_wants() -> None:
    """Close codes, groups and lookups differ from instance to instance."""
    writer = ServiceNowWriter(
        {
            "tables": {"request": "sc_task"},
            "create_fields": {"sc_task": {"assignment_group": "g1"}},
            "required_fields": {"incident": {"6": {"close_code": "Solved (Permanently)"}}},
            "priority_fields": {"urgent": {"impact": "1", "urgency": "1", "u_major": "true"}},
            "tags_field": "u_tags",
            "words": {"status": {"incident:11": "pending"}},
        }
    )
    table, values = writer.new(a_ticket(type=TicketType.REQUEST, priority=Priority.URGENT, tags=("a", "b")))
    assert (table, values["assignment_group"], values["u_major"], values["u_tags"]) == ("sc_task", "g1", "true", "a,b")
    (resolved,) = writer.update(at(), changes(status=TicketStatus.RESOLVED), {})
    assert (resolved["close_code"], resolved["close_notes"]) == ("Solved (Permanently)", "Resolved in the connected tool.")
    (held,) = writer.update(at(), changes(status=TicketStatus.PENDING), {})
    assert held["state"] == "11"


@pytest.mark.parametrize(
    "settings",
    [
        {"tables": {"request": "u_cases"}},
        {"tables": {"requests": "sc_task"}},
        {"tables": ["sc_task"]},
        {"create_fields": {"incident": "g1"}},
        {"required_fields": ["6"]},
        {"required_fields": {"incident": {"6": "x"}}},
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, Any]) -> None:
    """Before the first ticket is lost to them."""
    with pytest.raises(PluginConfigError):
        ServiceNowWriter(settings)


def test_an_update_goes_through_the_states_between_and_names_its_event_last() -> None:
    """has_update must not be true while the record is half way."""
    writes = ServiceNowWriter({}).update(at(), changes(status=TicketStatus.CLOSED, subject="Done"), {"u_site": "b1"})
    first, last = writes
    assert (first["state"], first["short_description"], first["u_site"]) == ("6", "Done", "b1")
    assert "close_code" in first and "correlation_display" not in first
    assert last == {"state": "7", "correlation_display": EVENT}


def test_what_stands_already_is_not_moved() -> None:
    """A write that changes nothing but the event's id."""
    writer = ServiceNowWriter({})
    assert writer.update(at(state="2"), changes(status=TicketStatus.OPEN), {}) == ({"correlation_display": EVENT},)
    assert writer.update(at("problem", "103"), changes(status=TicketStatus.PENDING), {}) == ({"correlation_display": EVENT},)
    assert writer.update(at("change_request", "3"), changes(status=TicketStatus.RESOLVED), {}) == ({"correlation_display": EVENT},)
    with pytest.raises(ValidationRefused, match="no way to new"):
        writer.update(at(state="7"), changes(status=TicketStatus.NEW), {})


@pytest.mark.parametrize(("state", "written"), [("2", None), ("3", "2"), ("6", "2")])
def test_new_is_taken_for_open_where_work_has_begun(state: str, written: str | None) -> None:
    """A tool's word that a ticket is new may come late or twice; what else it says must not be lost to a state that never returns."""
    (values,) = ServiceNowWriter({}).update(at(state=state), changes(status=TicketStatus.NEW, subject="Late"), {})
    assert (values.get("state"), values["short_description"]) == (written, "Late")


@given(st.lists(st.integers(0, 9), max_size=6), st.integers(0, 9))
def test_the_newest_events_are_kept_as_far_as_the_column_goes(earlier: list[int], newest: int) -> None:
    """The one in doubt is the newest or the one before it; the column must never be cut in the middle of an id."""
    ids = [f"0197f3a0-0000-7000-8000-{n:012d}" for n in range(10)]
    writer, held = ServiceNowWriter({}), ""
    for number in [*earlier, newest]:
        (values,) = writer.update(at(events=held), TicketChanges(event_id=ids[number]), {})
        held = values["correlation_display"]
    kept = held.split()
    assert len(held) <= 100
    assert kept[0] == ids[newest]
    assert len(set(kept)) == len(kept)
    assert set(kept) <= set(ids)
    others = [n for n in earlier if n != newest]
    assert not others or kept[1] == ids[others[-1]]


def test_what_the_instance_dropped_is_told() -> None:
    """An ACL answers 200 and keeps its own value."""
    sent = {"short_description": "New", "correlation_display": EVENT, "u_site": "b1", "state": "2"}
    kept = {"short_description": "New ", "correlation_display": EVENT, "u_site": {"value": "b1"}, "state": "2"}
    check_kept("INC1", sent, kept, "correlation_display")
    with pytest.raises(FatalApiError, match="our id in correlation_display"):
        check_kept("INC1", sent, {**kept, "correlation_display": ""}, "correlation_display")
    with pytest.raises(FatalApiError, match="our id in correlation_id"):
        check_kept("INC1", {"correlation_id": "aia-1"}, {}, "correlation_display")
    with pytest.raises(ValidationRefused, match="stays at state 1"):
        check_kept("INC1", sent, {**kept, "state": "1"}, "correlation_display")
    with pytest.raises(ValidationRefused, match="short_description, u_site"):
        check_kept("INC1", sent, {**kept, "short_description": "Old", "u_site": ""}, "correlation_display")
    check_kept("INC1", {"u_when": "2026-03-02"}, {"u_when": "2026-03-02 00:00:00"}, "correlation_display")


# notes -------------------------------------------------------------------------------------------------------------------


def test_a_note_is_plain_text_or_html_between_tags() -> None:
    """A journal shows HTML only between [code] tags, and only where an instance allows it."""
    marker = note_marker(EVENT, 1)
    plain = journal.written("Look at *it*", marker, rich=False)
    rich = journal.written("Look at *it*", marker, rich=True)
    assert plain.startswith("Look at it") and same_marker(plain, marker)
    assert rich.startswith("[code]<p>Look at <em>it</em></p>") and rich.endswith("[/code]") and same_marker(rich, marker)
    assert journal.read(rich).startswith("Look at it")


@pytest.mark.parametrize("rich", [False, True])
def test_a_long_note_keeps_its_marker_and_a_marked_one_gets_no_second(rich: bool) -> None:
    """Cut at its end by the field, it would be written again at each doubt."""
    marker = note_marker(EVENT, 1)
    long = journal.written("word " * 20_000 + marker, marker, rich=rich)
    assert len(long) < 31_000 and long.endswith(f"…\n\n{marker}")
    assert journal.written(f"short\n\n{marker}", marker, rich=rich).count(marker) == 1


@given(st.text(max_size=60), st.booleans())
def test_a_notes_own_words_can_never_open_a_code_tag(text: str, rich: bool) -> None:
    """An instance that renders [code] would run a customer's HTML in an agent's browser."""
    hostile = f"{text}[code]<img src=x onerror=alert(1)>[/CODE]{text}"
    written = journal.written(hostile, note_marker(EVENT, 1), rich=rich)
    inside = written.removeprefix("[code]").removesuffix("[/code]") if rich else written
    assert "[code]" not in inside.lower() and "[/code]" not in inside.lower()


# answers -----------------------------------------------------------------------------------------------------------------


def an_answer(status: int, body: bytes, method: str = "PATCH", **headers: str) -> Answer:
    return Answer(method=method, path="/api/now/v2/table/incident", status=status, headers=headers, body=body)


@pytest.mark.parametrize(
    ("status", "body", "kind", "in_doubt"),
    [
        (200, b"<html>hibernating</html>", ServerError, True),
        (200, b'{"result":[],"error":{"message":"Transaction cancelled: maximum execution time exceeded"}}', CallTimedOut, True),
        (201, b'{"error":"something"}', FatalApiError, False),
        (400, b'{"error":{"message":"Invalid table x","detail":null},"status":"failure"}', ValidationRefused, False),
        (401, b'{"error":{"message":"User Not Authenticated","detail":"Required to provide Auth information"}}', CredentialsRefused, False),
        (401, b'{"error":"server_error","error_description":"access_denied"}', CredentialsRefused, False),
        (403, b'{"error":{"message":"User Not Authorized","detail":"Failed ACL check"}}', CredentialsRefused, False),
        (403, b'{"error":{"message":"Operation Failed","detail":"was aborted by Business Rule \'x\'"}}', ValidationRefused, False),
        (
            403,
            b'{"error":{"message":"Operation Failed","detail":"Data Policy Exception: mandatory: Close code"}}',
            ValidationRefused,
            False,
        ),
        (404, b'{"error":{"message":"No Record found","detail":"Record doesn\'t exist"}}', NotFound, False),
        (404, b'{"error":{"message":"Requested URI does not represent any resource","detail":null}}', FatalApiError, False),
        (404, b"<html>nginx</html>", NotFound, False),
        (429, b'{"error":{"message":"Rate limit exceeded","detail":"Rate limit of 100"}}', RateLimited, False),
        (500, b'{"error":{"message":"Exception while executing request: null","detail":""}}', ServerError, True),
        (502, b"<html>bad gateway</html>", ServerError, True),
    ],
)
def test_an_answer_is_named_by_what_to_do(status: int, body: bytes, kind: type[Exception], in_doubt: bool) -> None:
    """Also the failures that come under a success."""
    error = servicenow_error(an_answer(status, body))
    assert type(error) is kind
    assert error is not None and error.in_doubt is in_doubt


def test_the_end_of_a_rate_limits_hour_is_told() -> None:
    """Without Retry-After the header with the end of the window is all there is; a queue on the instance tells nothing."""
    body = b'{"error":{"message":"Rate limit exceeded"}}'
    soon = servicenow_error(an_answer(429, body, **{"x-ratelimit-reset": str(int(time.time()) + 90)}))
    assert soon is not None and soon.retry_after is not None and 60 < soon.retry_after <= 90
    told = servicenow_error(an_answer(429, body, **{"retry-after": "7", "x-ratelimit-reset": "1"}))
    assert told is not None and told.retry_after == 7
    busy = servicenow_error(an_answer(429, b"<html>"))
    assert type(busy) is RateLimited and busy.retry_after is None


def test_a_success_is_no_error_and_nothing_of_the_record_is_quoted() -> None:
    """A text may hold a customer's words: only field names after `mandatory` are told."""
    assert servicenow_error(an_answer(200, b'{"result":{}}')) is None
    assert servicenow_error(an_answer(204, b"")) is None
    detail = 'Error during update of incident / "My secret text" / Data Policy Exception: The following fields are mandatory: Close code'
    body = json.dumps({"error": {"message": "Operation Failed", "detail": detail}}).encode()
    text = str(servicenow_error(an_answer(403, body)))
    assert "mandatory: Close code" in text and "secret" not in text
    assert "second factor" in str(servicenow_error(an_answer(401, b'{"error":{"message":"x"}}', **{"x-mfa_token": "invalid"})))


def test_a_success_without_a_record_is_torn() -> None:
    """pysnow-like surprises: 200 and nothing in it."""
    for body in (None, [], {"result": []}, {"result": None}):
        with pytest.raises(TornAnswer) as caught:
            result_of(body, writes=True)
        assert caught.value.in_doubt


def test_a_value_in_a_query_stays_a_value() -> None:
    """A caret would end the condition, and a dropped condition answers every record."""
    assert escaped("a^ORstate=1") == "a^^ORstate=1"
    for hostile in ("javascript:gs.x()", " JavaScript:1", "a\nb", "a\x00"):
        with pytest.raises(ValidationRefused):
            escaped(hostile)
