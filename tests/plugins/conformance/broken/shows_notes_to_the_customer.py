"""Writes every note for the customer's eyes, as the tool's API does unless it is told otherwise."""

from __future__ import annotations

from dataclasses import replace

from plugins.api import NewNote
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"webhooks.note_internal"}


class Broken(ExampleDeskPlugin):
    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        return await super().add_note(ticket_id, replace(note, public=True))
