"""Writes its token to the log, at level DEBUG, for somebody who once looked for a fault."""

from __future__ import annotations

import logging

from plugins.api import TicketMetadata
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"redaction.logs"}


class Broken(ExampleDeskPlugin):
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        logging.getLogger(__name__).debug("GET %s with %s", ticket_id, self.context.settings["auth"])
        return await super().get_ticket(ticket_id)
