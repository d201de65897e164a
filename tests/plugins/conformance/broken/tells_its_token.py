"""Puts its token into an error's text, and so into a dead letter that a whole team reads."""

from __future__ import annotations

from plugins.api import CredentialsRefused, TicketMetadata
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"redaction.errors"}


class Broken(ExampleDeskPlugin):
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        try:
            return await super().get_ticket(ticket_id)
        except CredentialsRefused as exc:
            token = self.context.settings["auth"]["token"]
            raise CredentialsRefused(f"{exc}; the token was {token}", status=exc.status) from None
