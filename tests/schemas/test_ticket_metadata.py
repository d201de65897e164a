"""TicketMetadata fills its fields in one go; it must still be the dataclass an author knows."""

from __future__ import annotations

import dataclasses

import pytest

from schemas.ticket import Priority, TicketMetadata, TicketStatus


def test_fields_left_out_have_their_defaults() -> None:
    """An author names what the tool told and nothing else."""
    ticket = TicketMetadata(tenant_id="acme", ticket_id="1", priority=Priority.HIGH)
    assert (ticket.priority, ticket.status, ticket.tags, dict(ticket.custom_fields)) == (Priority.HIGH, TicketStatus.UNKNOWN, (), {})
    assert ticket == TicketMetadata(ticket_id="1", tenant_id="acme", priority=Priority.HIGH)
    assert dataclasses.replace(ticket, subject="x").subject == "x"
    assert {f.name for f in dataclasses.fields(ticket)} == set(vars(ticket))


@pytest.mark.parametrize(
    "given", [{}, {"tenant_id": "acme"}, {"tenant_id": "a", "ticket_id": "1", "colour": "red"}, {"ticket_id": "1", "colour": "red"}]
)
def test_a_missing_or_unknown_field_is_a_type_error(given: dict[str, str]) -> None:
    """As from any dataclass: a plugin's mistake is found where it is made."""
    with pytest.raises(TypeError):
        TicketMetadata(**given)


def test_it_cannot_be_changed() -> None:
    """It is shared between rules."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        TicketMetadata(tenant_id="acme", ticket_id="1").subject = "x"
