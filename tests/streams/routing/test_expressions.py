"""`when`: CEL over a ticket, bounded before it runs, and never the end of a stream."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ticket import Priority, TicketMetadata, TicketType
from streams.routing.conditions import ConditionError
from streams.routing.expressions import MAX_ITEMS, MAX_TEXT, When

TICKET = TicketMetadata(
    tenant_id="acme",
    ticket_id="7",
    type=TicketType.INCIDENT,
    priority=Priority.URGENT,
    subject="VPN down in the lobby",
    requester="ana@board.acme.example",
    tags=("vip", "vpn"),
    created_at=1_767_261_600_000_000,  # 2026-01-01T10:00:00Z
    custom_fields={"region": "EMEA", "seats": 5, "score": 5.5, "sites": ["A1", "B2"], "nothing": None},
)


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ('ticket.requester.endsWith("@board.acme.example")', True),
        ('ticket.priority == "urgent" && ticket.type in ["incident", "problem"]', True),
        ('ticket.assignee == ""', True),
        ("ticket.sla_due_at == null", True),
        ('ticket.created_at > timestamp("2025-12-31T00:00:00Z")', True),
        ("ticket.created_at.getHours() == 10", True),
        ("ticket.tags.exists(tag, tag.startsWith('vi'))", True),
        ("'vpn' in ticket.tags", True),
        ('ticket.custom_fields.region == "EMEA" && ticket.custom_fields.seats > 4', True),
        ("ticket.custom_fields.seats < 5.5", True),
        ("'B2' in ticket.custom_fields.sites", True),
        ("has(ticket.custom_fields.absent) && ticket.custom_fields.absent == 1", False),
        ("ticket.custom_fields.nothing == null", True),
        ('ticket["subject"].contains("VPN")', True),
        ("ticket.subject.matches('^vpn')", False),
        ("ticket.subject.matches('(?i)^vpn')", True),
        ("size(ticket.subject) > 500", False),
    ],
)
def test_an_expression_holds_or_not(source: str, holds: bool) -> None:
    """Fields as TicketMetadata has them; absent texts are empty, absent times null."""
    assert When(source)(TICKET) is holds


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "is empty"),
        ("ticket.", "is not CEL: column 8"),
        ("ticket.colour == 1", "no field 'colour'"),
        ("tenant == 'x'", "'tenant' is not known"),
        ("ticket.subject.lower() == 'x'", "no function lower"),
        ("ticket.subject", "gives str; it must give true or false"),
        ("ticket.tags.map(t, t)", "gives list"),
        ("ticket.tags.all(a, ticket.tags.all(b, a == b))", "more than one"),
        ("(" * 65 + "true" + ")" * 65, "deeper than 64"),
        ("!" * 200 + "true", "deeper than 64"),
        ("ticket.subject == '" + "x" * 2048 + "'", "longer than 2048"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_written(source: str, says: str) -> None:
    """At apply, with the place in the file; not at night, one ticket at a time."""
    with pytest.raises(ConditionError, match=says):
        When(source)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("ticket.custom_fields.absent == 1", "there is no absent; ask has"),
        ("ticket.custom_fields.region > 1", "not"),
        ("1 / (ticket.custom_fields.seats - 5) == 0", "zero"),
    ],
)
def test_a_fault_is_no_match_and_is_told(source: str, says: str) -> None:
    """The ticket goes on to the next rule; the operator sees how often, and why."""
    when = When(source)
    assert when(TICKET) is False
    assert when.faults == 1
    assert says in when.last_fault or says in str(when.ask(TICKET))


def test_quoted_words_are_no_fields() -> None:
    """A text that speaks of ticket.colour asks for no field."""
    assert When("ticket.subject != 'ticket.colour tenant.exists(x, y).all(z, z)'")(TICKET)


def test_only_what_is_asked_for_is_handed_over() -> None:
    """Turning a whole ticket into CEL's values costs ten times the evaluation."""
    assert When("ticket.subject.contains('x') || 'a' in ticket.tags").fields == {"subject", "tags"}
    assert "description" in When("ticket['subject'] == ''").fields


def test_a_huge_ticket_does_not_hold_up_the_stream() -> None:
    """CEL has no budget and keeps the interpreter's lock: lists and texts are cut first, so the worst is milliseconds."""
    many: Any = [f"tag{n}" for n in range(100_000)]
    ticket = TicketMetadata(tenant_id="a", ticket_id="1", tags=tuple(many), description="x" * 1_000_000, custom_fields={"l": many, "d": {}})
    when = When("ticket.tags.exists(tag, tag == 'no' || ticket.description.contains('xy'))")
    started = time.perf_counter()
    assert when(ticket) is False
    assert time.perf_counter() - started < 2
    assert When(f"size(ticket.tags) == {MAX_ITEMS}")(ticket)
    assert When(f"size(ticket.description) == {MAX_TEXT}")(ticket)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4), st.text(max_size=10))
def test_whatever_a_tool_sends_an_expression_answers(fields: dict[str, Any], subject: str) -> None:
    """Integers beyond 64 bits, NaN, deep nesting: an answer, or a counted fault, and nothing raised."""
    ticket = TicketMetadata(tenant_id="a", ticket_id="1", subject=subject, custom_fields=fields)
    assert When("ticket.custom_fields == ticket.custom_fields && ticket.subject == ticket.subject")(ticket) in (True, False)


@given(st.text(alphabet="ticke.()[]\"'=!&|?:,0159 abexists", max_size=60))
def test_any_text_is_compiled_or_refused(source: str) -> None:
    """The parser's panics are no exceptions of Python's usual kind; they must not end `apply` either."""
    try:
        When(source)
    except ConditionError:
        return


def test_the_library_comes_without_its_command_line() -> None:
    """Importing that too costs half a second at a worker's start."""
    code = (
        "import sys; from streams.routing.expressions import When; assert 'cel' not in sys.modules; When('true'); assert 'typer' not in"
        " sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
