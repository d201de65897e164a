"""Reads the first page of a list and no other: the newest notes of a long ticket are not there."""

from __future__ import annotations

from plugins.conformance.template.plugin import ExampleDeskPlugin
from plugins.marker import same_marker

FAILS = {"calls.pagination"}


class Broken(ExampleDeskPlugin):
    async def has_note(self, ticket_id: str, marker: str) -> bool:
        seen = 0
        async for note in self._api.notes(ticket_id):
            if same_marker(str(note.get("text")), marker):
                return True
            seen += 1
            if seen == 50:
                break
        return False
