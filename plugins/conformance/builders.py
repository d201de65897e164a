"""The tickets, changes and notes that checks write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from plugins.api import NewNote, NewTicket, Priority, TicketChanges, TicketType
from plugins.marker import note_marker
from schemas.ids import external_id, new_event_id

MANY = 105
"""More than one page, or one bulk call, of any known tool."""


def a_ticket(**fields: Any) -> NewTicket:
    """A ticket nobody else made: its ids are new each time."""
    event_id = new_event_id()
    return NewTicket(
        **{
            "subject": "Badge reader 12 rejects every badge",
            "description": "It **blinks** red & <beeps>.\n\n- since 07:40",
            "type": TicketType.INCIDENT,
            "priority": Priority.HIGH,
            "external_id": external_id(f"acme/desk/{event_id}", "target"),
            "event_id": event_id,
            **fields,
        }
    )


def a_change(**fields: Any) -> TicketChanges:
    """A change with an event id of its own."""
    return TicketChanges(**{"event_id": new_event_id(), **fields})


def a_note(text: str = "Looked at it.", *, public: bool = False) -> NewNote:
    """A note with a marker of its own."""
    return NewNote(text=text, marker=note_marker(new_event_id(), 1), public=public)


async def chunks(content: bytes, size: int = 1 << 16) -> AsyncIterator[bytes]:
    """A file's content as it would be streamed."""
    for at in range(0, len(content), size):
        yield content[at : at + size]
