"""Asks a second time by a client of its own, which nobody counts, limits or closes with the others."""

from __future__ import annotations

from plugins.api import TicketMetadata
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"metering.counted", "metering.timed_and_priced"}


class Broken(ExampleDeskPlugin):
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        import httpx

        ticket = await super().get_ticket(ticket_id)
        headers = {"Authorization": f"Bearer {self.context.settings['auth']['token']}"}
        async with httpx.AsyncClient(base_url=self.context.settings["base_url"], headers=headers) as client:
            await client.get("/api/me")
        return ticket
