"""Believes its search, which finds by the beginning of a word: another ticket is taken for ours and written over."""

from __future__ import annotations

from plugins.api import TicketRef
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"effects.found_by_external_id"}


class Broken(ExampleDeskPlugin):
    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        found = await super().find_by_external_id(external_id)
        for letter in "0123456789abcdef" if found is None and len(external_id) == 27 else "":
            found = found or await super().find_by_external_id(external_id + letter)
        return found
