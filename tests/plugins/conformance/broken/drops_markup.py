"""Sends a customer's words as they are into a field of HTML: what looks like a tag is one, and is gone."""

from __future__ import annotations

from plugins.api import NewTicket, TicketRef
from plugins.conformance.template.plugin import ExampleDeskPlugin, _words

FAILS = {"richtext.text_is_no_markup", "richtext.words_survive"}


class Broken(ExampleDeskPlugin):
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        fields = {
            "subject": ticket.subject,
            "description": ticket.description,
            "tags": list(ticket.tags),
            "external_id": ticket.external_id,
            "event_id": ticket.event_id,
            "custom_fields": dict(ticket.custom_fields),
            **_words(ticket.priority, ticket.status, ticket.type),
        }
        return self._ref(await self._api.create(fields))
