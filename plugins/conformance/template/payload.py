"""What Example Desk's bodies say, in canonical words. Pure.

One reader serves webhooks and API answers: a webhook is `{"event": ..., "actor": ..., "ticket": {...}, "note": {...}}`, and the
ticket in it has the API's own form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from plugins.api import Delivery, NotADelivery, Priority, TicketChange, TicketMetadata, TicketStatus, TicketType
from plugins.mapping import WordMap, json_object, tenant_words, to_id, to_micros, to_tags, to_text
from plugins.richtext import from_html, to_plain

Json = dict[str, Any]

PRIORITY_WORDS: Final = {"low": Priority.LOW, "normal": Priority.MEDIUM, "high": Priority.HIGH, "critical": Priority.URGENT}
STATUS_WORDS: Final = {
    "new": TicketStatus.NEW,
    "open": TicketStatus.OPEN,
    "waiting": TicketStatus.PENDING,
    "solved": TicketStatus.RESOLVED,
    "closed": TicketStatus.CLOSED,
}
TYPE_WORDS: Final = {
    "incident": TicketType.INCIDENT,
    "service request": TicketType.REQUEST,
    "problem": TicketType.PROBLEM,
    "change": TicketType.CHANGE,
}
CHANGE_WORDS: Final = {
    "ticket.created": TicketChange.CREATED,
    "ticket.updated": TicketChange.UPDATED,
    "ticket.deleted": TicketChange.DELETED,
    "note.added": TicketChange.COMMENTED,
}
"""The tool's words. One that is not here becomes UNKNOWN and is told in `extra["unknown"]`."""


class TicketReader:
    """Reads one tenant's tickets: the tool's words, and those the tenant's `words` add."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._priority = WordMap(PRIORITY_WORDS, Priority.UNKNOWN).with_words(tenant_words(settings, "priority", Priority))
        self._status = WordMap(STATUS_WORDS, TicketStatus.UNKNOWN).with_words(tenant_words(settings, "status", TicketStatus))
        self._type = WordMap(TYPE_WORDS, TicketType.UNKNOWN).with_words(tenant_words(settings, "type", TicketType))
        self._change = WordMap(CHANGE_WORDS, TicketChange.UNKNOWN)

    def of_delivery(self, delivery: Delivery) -> TicketMetadata:
        """A webhook's ticket; raises NotADelivery when there is none in it."""
        body = json_object(delivery.body)
        note, changed = body.get("note"), body.get("changed")
        extra: Json = {}
        if isinstance(note, dict):
            extra = {"comment": to_plain(from_html(to_text(note.get("text")))), "comment_public": note.get("public") is True}
        if isinstance(changed, list):
            extra["changed"] = [name for name in changed if isinstance(name, str)]
        return self.of_ticket(
            delivery.tenant, body.get("ticket"), change=self._change(body.get("event")), actor=to_id(body.get("actor")), extra=extra
        )

    def of_ticket(
        self,
        tenant: str,
        ticket: Any,
        *,
        change: TicketChange = TicketChange.UNKNOWN,
        actor: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> TicketMetadata:
        """A ticket in the API's form; raises NotADelivery when it has no id."""
        ticket_id = to_id(ticket.get("id")) if isinstance(ticket, dict) else None
        if ticket_id is None:
            raise NotADelivery("the body holds no ticket with an id")
        words = {
            "priority": self._priority(ticket.get("priority")),
            "status": self._status(ticket.get("status")),
            "type": self._type(ticket.get("type")),
        }
        unknown = {name: to_text(ticket.get(name)) for name, word in words.items() if word == "unknown" and ticket.get(name)}
        fields = ticket.get("custom_fields")
        return TicketMetadata(
            tenant_id=tenant,
            ticket_id=ticket_id,
            type=TicketType(words["type"]),
            priority=Priority(words["priority"]),
            status=TicketStatus(words["status"]),
            change=change,
            subject=to_text(ticket.get("subject")),
            description=to_plain(from_html(to_text(ticket.get("description")))),
            requester=to_id(ticket.get("requester")),
            assignee=to_id(ticket.get("assignee")),
            actor=actor,
            tags=to_tags(ticket.get("tags")),
            custom_fields=fields if isinstance(fields, dict) else {},
            sla_due_at=to_micros(ticket.get("due_at")),
            created_at=to_micros(ticket.get("created_at")),
            updated_at=to_micros(ticket.get("updated_at")),
            url=ticket.get("url") if isinstance(ticket.get("url"), str) else None,
            extra={**(extra or {}), **({"unknown": unknown} if unknown else {})},
        )


def ticket_id_of(body: bytes) -> str | None:
    """The ticket's id of a webhook's body; None when it does not tell."""
    try:
        ticket = json_object(body).get("ticket")
    except NotADelivery:
        return None
    return to_id(ticket.get("id")) if isinstance(ticket, dict) else None
