"""Keeps a connection of its own, for speed, and forgets it when it is closed: one more at every new version."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from plugins.api import TicketMetadata
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"lifecycle.leaves_nothing"}


class Broken(ExampleDeskPlugin):
    _kept: asyncio.StreamWriter | None = None

    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        ticket = await super().get_ticket(ticket_id)
        if self._kept is None:
            address = urlsplit(self.context.settings["base_url"])
            _, self._kept = await asyncio.open_connection(address.hostname, address.port)
        return ticket
