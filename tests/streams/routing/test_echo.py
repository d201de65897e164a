"""Our own writes come back as webhooks: they are recognised, and nothing that a person did is."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.marker import note_marker
from schemas.events import LinkSet
from schemas.ticket import Priority, TicketChange, TicketMetadata
from streams.routing.echo import echo_of, hop_of

EVENT = "01890a5d-ac96-774b-bcce-b302099a8057"
OURS = f"Priority went to high.\n\n{note_marker(EVENT, 1)}"
WRITTEN_AT = 1_790_000_000_250_000


def a_ticket(**fields: Any) -> TicketMetadata:
    return TicketMetadata(**{"tenant_id": "acme", "ticket_id": "OPS-1", "change": TicketChange.UPDATED, **fields})


def a_link(**fields: Any) -> LinkSet:
    return LinkSet(
        **{
            "tenant": "acme",
            "source_key": "acme/desk/1",
            "target_tool": "jira",
            "target_ticket_id": "OPS-1",
            "external_id": "aia-1",
            "event_id": EVENT,
            "applied_partition": 0,
            "applied_offset": 1,
            "fields": {"priority": "high", "subject": "Printer"},
            "target_updated_at": WRITTEN_AT,
            "set_at": WRITTEN_AT,
            **fields,
        }
    )


def test_our_account_as_the_actor_is_an_echo() -> None:
    """The plainest sign."""
    assert echo_of(a_ticket(actor="bot"), True, None) == "own_actor"


@pytest.mark.parametrize(
    "comment", [OURS, OURS + "\n  \n", note_marker(EVENT, 1), f"text {note_marker(EVENT, 2)}", rf"wiki \[aia:{EVENT}:1\]"]
)
def test_a_note_that_ends_with_our_marker_is_an_echo_where_nobody_is_named(comment: str) -> None:
    """An admin's own webhook template often leaves the actor out; the note speaks for itself."""
    assert echo_of(a_ticket(extra={"comment": comment}), None, None) == "marker"


@pytest.mark.parametrize(
    ("comment", "own_actor"),
    [
        (f"Thanks!\n> Priority went to high.\n> {note_marker(EVENT, 1)}", None),
        (f"{OURS}\n\nThank you, that helped", None),
        (f"Thanks!\n\nOn Monday the helpdesk wrote:\n{OURS}", False),
    ],
)
def test_a_persons_reply_that_quotes_our_note_passes_and_carries_its_hop(comment: str, own_actor: bool | None) -> None:
    """It is news. Should it come from a loop instead, the hop grows with each round and ends it."""
    ticket = a_ticket(extra={"comment": comment})
    assert echo_of(ticket, own_actor, None) is None
    assert hop_of(ticket) == 1


def test_the_ticket_we_created_is_an_echo_and_its_later_life_is_not() -> None:
    """Our text stays in the description for ever; only the delivery that says "created" is ours."""
    assert echo_of(a_ticket(change=TicketChange.CREATED, description=OURS), None, None) == "marker"
    later = a_ticket(change=TicketChange.UPDATED, description=OURS)
    assert echo_of(later, None, None) is None
    assert hop_of(later) == 0


@pytest.mark.parametrize(
    ("ticket", "link", "echo"),
    [
        ({"priority": Priority.HIGH, "updated_at": WRITTEN_AT, "extra": {"changed": ("priority",)}}, {}, True),
        ({"priority": Priority.HIGH, "subject": "Printer", "updated_at": WRITTEN_AT}, {}, True),
        ({"priority": Priority.HIGH, "updated_at": WRITTEN_AT // 10**6 * 10**6, "extra": {"changed": ("priority",)}}, {}, True),
        # what people do passes:
        ({"priority": Priority.HIGH, "updated_at": WRITTEN_AT + 1_000_000, "extra": {"changed": ("priority",)}}, {}, False),
        ({"priority": Priority.LOW, "updated_at": WRITTEN_AT, "extra": {"changed": ("priority",)}}, {}, False),
        ({"priority": Priority.HIGH, "updated_at": WRITTEN_AT, "extra": {"changed": ("priority", "assignee")}}, {}, False),
        ({"priority": Priority.HIGH, "subject": "Printer!", "updated_at": WRITTEN_AT}, {}, False),
        ({"priority": Priority.HIGH, "updated_at": WRITTEN_AT, "extra": {"changed": ("priority",), "comment": "why?"}}, {}, False),
        # nothing can be told without both times, or when we wrote nothing:
        ({"priority": Priority.HIGH, "extra": {"changed": ("priority",)}}, {}, False),
        ({"priority": Priority.HIGH, "updated_at": WRITTEN_AT, "extra": {"changed": ("priority",)}}, {"target_updated_at": None}, False),
        ({"updated_at": WRITTEN_AT}, {"fields": {}}, False),
    ],
)
def test_an_echo_of_an_update_has_our_values_and_our_time(ticket: dict[str, Any], link: dict[str, Any], echo: bool) -> None:
    """Values alone prove nothing: somebody may set them again."""
    assert (echo_of(a_ticket(**ticket), None, a_link(**link)) == "own_write") is echo


def test_our_external_id_on_a_ticket_is_never_a_sign() -> None:
    """It stays there for ever, and people go on working on that ticket."""
    ticket = a_ticket(
        extra={"external_id": "aia-1"}, custom_fields={"external_id": "aia-1"}, priority=Priority.LOW, updated_at=WRITTEN_AT + 5
    )
    assert echo_of(ticket, False, a_link()) is None
