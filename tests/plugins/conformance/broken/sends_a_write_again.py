"""Repeats a write whose answer did not come: the first try had arrived, and now there are two tickets."""

from __future__ import annotations

from plugins.api import NewTicket, RetriableApiError, TicketRef
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {
    "calls.timeout",
    "calls.reset",
    "calls.half_written",
    "calls.server_error",
    "calls.slow_loris",
    "effects.create_twice",
}


class Broken(ExampleDeskPlugin):
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        try:
            return await super().create_ticket(ticket)
        except RetriableApiError as exc:
            if exc.in_doubt:
                return await super().create_ticket(ticket)
            raise
