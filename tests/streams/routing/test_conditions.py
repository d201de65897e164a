"""What a route's `match` means, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.ticket import Priority, TicketMetadata, TicketStatus, TicketType
from streams.routing.conditions import ConditionError, compile_match

TICKET = TicketMetadata(
    tenant_id="acme",
    ticket_id="4711",
    type=TicketType.INCIDENT,
    priority=Priority.HIGH,
    status=TicketStatus.OPEN,
    subject="Printer on floor 3 is on fire [again]",
    requester="Ana@Acme.example",
    tags=("VIP", "printer"),
    custom_fields={"region": "EMEA", "seats": 12, "cost": "99.5", "board": True, "sites": ["Bonn", "Oslo"], "a.b": 1},
    device={"model": "LX-9"},
    updated_at=1_790_000_000_000_000,  # 2026-09-21T14:13:20Z
    extra={"queue": "hardware"},
)


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ({}, True),
        ({"type": "incident"}, True),
        ({"type": "Incident"}, True),
        ({"type": "change"}, False),
        ({"type": ["change", "incident"]}, True),
        ({"type": "inc*"}, True),
        ({"priority": "P2"}, True),
        ({"priority": "p2"}, True),
        ({"priority": "HIGH"}, True),
        ({"priority": "P1"}, False),
        ({"priority": ["P1", "P2"]}, True),
        ({"priority": {"gte": "high"}}, True),
        ({"priority": {"gt": "P2"}}, False),
        ({"priority": {"lte": "P2", "gte": "P3"}}, True),
        ({"priority": {"lt": "high"}}, False),
        ({"priority": {"min": "medium", "max": "high"}}, True),
        ({"type": "incident", "priority": "P2", "status": "open"}, True),
        ({"type": "incident", "priority": "P2", "status": "closed"}, False),
        ({"subject": "*printer*"}, True),
        ({"subject": "printer"}, False),
        ({"subject": "PRINTER ON FLOOR ? IS ON FIRE *"}, True),
        ({"subject": ["nothing", "*on fire*"]}, True),
        ({"subject": "printer on floor 3 is on fire [again]"}, True),
        ({"requester": "ana@acme.example"}, True),
        ({"requester": "*@ACME.example"}, True),
        ({"assignee": None}, True),
        ({"requester": None}, False),
        ({"tags": "vip"}, True),
        ({"tags": ["board", "printer"]}, True),
        ({"tags": "print*"}, True),
        ({"tags": "board"}, False),
        ({"tags": None}, False),
        ({"custom_fields.region": "emea"}, True),
        ({"custom_fields.region": ["APAC", "EMEA"]}, True),
        ({"custom_fields.seats": 12}, True),
        ({"custom_fields.seats": "12"}, True),
        ({"custom_fields.seats": {"gte": 10, "lt": 12}}, False),
        ({"custom_fields.seats": {"gt": 11, "lte": 12}}, True),
        ({"custom_fields.cost": {"gt": 99}}, True),
        ({"custom_fields.region": {"gt": 1}}, False),
        ({"custom_fields.board": True}, True),
        ({"custom_fields.board": {"gte": 0}}, False),
        ({"custom_fields.sites": "oslo"}, True),
        ({"custom_fields.sites": "Rome"}, False),
        ({"custom_fields.a.b": 1}, True),
        ({"custom_fields.absent": "x"}, False),
        ({"custom_fields.absent": None}, True),
        ({"custom_fields.absent": {"gte": 0}}, False),
        ({"device.model": "lx-?"}, True),
        ({"extra.queue": "hardware"}, True),
        ({"updated_at": {"gte": "2026-09-21"}}, True),
        ({"updated_at": {"gte": "2026-09-21T16:13:20+02:00", "lte": "2026-09-21T14:13:20Z"}}, True),
        ({"updated_at": {"lt": "2026-09-21T14:13:20Z"}}, False),
        ({"created_at": {"gte": "1970-01-01"}}, False),
        ({"ticket_id": 4711}, True),
    ],
)
def test_a_match_holds_or_not(match: dict[str, Any], holds: bool) -> None:
    """One row a form: what an admin writes against what a ticket has."""
    assert compile_match(match)(TICKET) is holds


@pytest.mark.parametrize("priority", [{"gte": "low"}, {"lte": "urgent"}])
def test_an_unknown_priority_is_in_no_range(priority: dict[str, str]) -> None:
    """Unknown is not "below low": a rule for minor tickets must not swallow what we could not read."""
    assert not compile_match({"priority": priority})(TicketMetadata(tenant_id="acme", ticket_id="1"))


@pytest.mark.parametrize(
    ("match", "says"),
    [
        ({"colour": "red"}, "no such field"),
        ({"custom_fields": "x"}, r"custom_fields.NAME"),
        ({"custom_fields.": "x"}, r"NAME|no such field"),
        ({"tenant_id": "acme"}, "no such field"),
        ({"priority": "P5"}, "'P5' is not a priority; use p1"),
        ({"priority": 1}, "1 is not a priority"),
        ({"type": []}, "empty list"),
        ({"type": {"gte": "incident"}}, "only priority has an order"),
        ({"priority": {"gte": "P1", "lte": "P4"}}, "no priority is in this range"),
        ({"priority": {"gte": "unknown"}}, "no place in the order"),
        ({"priority": {"about": "high"}}, "gte, gt, lte or lt"),
        ({"subject": {"gte": "a"}}, "takes no range"),
        ({"subject": [["a"]]}, "not lists"),
        ({"custom_fields.seats": {"gte": "many"}}, "needs numbers"),
        ({"custom_fields.seats": {"gte": True}}, "needs numbers"),
        ({"custom_fields.seats": {}}, "a range has"),
        ({"updated_at": {"gte": "yesterday"}}, "ISO 8601"),
    ],
)
def test_a_condition_that_can_never_be_evaluated_is_refused_when_compiled(match: dict[str, Any], says: str) -> None:
    """A typing error must be found by `tenant apply`, not by tickets that go astray."""
    with pytest.raises(ConditionError, match=says):
        compile_match(match)
