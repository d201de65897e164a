"""Says that the tool is busy and not for how long: the stream asks again at once, and is refused again."""

from __future__ import annotations

from plugins.api import NewTicket, RateLimited, TicketRef
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"calls.rate_limited"}


class Broken(ExampleDeskPlugin):
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        try:
            return await super().create_ticket(ticket)
        except RateLimited as exc:
            raise RateLimited(str(exc), status=exc.status) from None
