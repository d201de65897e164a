"""What is written to Zendesk: our words in its words, names of fields, statuses, brands and forms in its ids."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from plugins.api import NewNote, NewTicket, PluginConfigError, Priority, TicketChanges, TicketStatus, TicketType, ValidationRefused
from plugins.mapping import to_id, to_micros
from plugins.marker import same_marker
from plugins.name_cache import NameCache
from plugins.richtext import from_html, from_markdown, to_html, to_markdown, with_marker
from plugins.zendesk.api_client import ZendeskClient
from plugins.zendesk.words import EVENT_KEY

PRIORITY_WORDS: Mapping[Priority, str] = {
    Priority.LOW: "low",
    Priority.MEDIUM: "normal",
    Priority.HIGH: "high",
    Priority.URGENT: "urgent",
}
STATUS_WORDS: Mapping[TicketStatus, str] = {
    TicketStatus.NEW: "new",
    TicketStatus.OPEN: "open",
    TicketStatus.PENDING: "pending",
    TicketStatus.RESOLVED: "solved",
    TicketStatus.CLOSED: "solved",  # `closed` cannot be undone and refuses every later update: it takes the setting final_close
}
TYPE_WORDS: Mapping[TicketType, str] = {
    TicketType.INCIDENT: "incident",
    TicketType.PROBLEM: "problem",
    TicketType.REQUEST: "question",
    TicketType.CHANGE: "task",  # Zendesk has no change
}


@dataclass(frozen=True, slots=True)
class Field:
    """A custom ticket field; `options` holds the tag of each option, by its tag and by its title in lower case."""

    number: int
    title: str
    kind: str
    options: Mapping[str, str]
    ambiguous: bool = False

    def value(self, given: Any) -> Any:
        """A value as the field takes it; ValidationRefused for an option it does not have, which Zendesk would drop in silence."""
        if self.kind == "multiselect":
            return [self._option(one) for one in (given if isinstance(given, list | tuple) else [given])]
        return self._option(given) if self.kind == "tagger" and given not in (None, "") else given

    def _option(self, given: Any) -> str:
        found = self.options.get(str(given).strip().casefold())
        if found is None:
            raise ValidationRefused(f"the ticket field {self.title[:80]!r} has no option {str(given)[:80]!r}")
        return found


class TicketWriter:
    """Bodies of tickets to create and to change, by one tool's settings; asks the account for names it has not met."""

    def __init__(self, settings: Mapping[str, Any], api: ZendeskClient) -> None:
        self._settings = settings
        self._fields: NameCache[Field] = NameCache("ticket field", lambda: _fields_of(api))
        self._statuses: NameCache[int] = NameCache("custom status", lambda: _labels_of(api))
        self._brands: NameCache[int] = NameCache("brand", lambda: _names_of(api.brands))
        self._forms: NameCache[int] = NameCache("ticket form", lambda: _names_of(api.forms))
        self._groups: NameCache[int] = NameCache("group", lambda: _names_of(api.groups))
        chosen = settings.get("custom_statuses") or {}
        try:
            self._chosen_statuses = {TicketStatus(word): str(name) for word, name in chosen.items()}
        except (ValueError, AttributeError):
            raise PluginConfigError(f"custom_statuses must map any of {', '.join(TicketStatus)} to a custom status") from None

    async def new(self, ticket: NewTicket) -> dict[str, Any]:
        """The body of a ticket to create: settings brand, form, group and requester are given to each."""
        body: dict[str, Any] = {
            "subject": ticket.subject,
            "comment": {"html_body": to_html(from_markdown(ticket.description or ticket.subject)), "public": True},
            "external_id": ticket.external_id,
            "metadata": {EVENT_KEY: ticket.event_id},
            **await self._words(ticket.priority, ticket.status, ticket.type),
        }
        if ticket.tags:
            body["tags"] = list(ticket.tags)
        if ticket.custom_fields:
            body["custom_fields"] = await self._custom_fields(ticket.custom_fields)
        if requester := self._settings.get("requester"):
            body["requester"] = {"email": str(requester), "name": str(requester)}
        for setting, name, known in (
            ("brand", "brand_id", self._brands),
            ("form", "ticket_form_id", self._forms),
            ("group", "group_id", self._groups),
        ):
            if wanted := self._settings.get(setting):
                body[name] = await _id_of(str(wanted), known)
        return body

    async def changed(self, changes: TicketChanges) -> dict[str, Any]:
        """The body of an update; what is None or unknown is left as it is."""
        words = await self._words(changes.priority, changes.status, changes.type)
        body: dict[str, Any] = {"metadata": {EVENT_KEY: changes.event_id}, **words}
        if changes.subject is not None:
            body["subject"] = changes.subject
        if changes.custom_fields:
            body["custom_fields"] = await self._custom_fields(changes.custom_fields)
        return body

    def comment(self, note: NewNote) -> dict[str, Any]:
        """A note as a comment, its marker a line of its own; internal unless public, for Zendesk's own default is public."""
        document = from_markdown(note.text)
        if not same_marker(note.text, note.marker):
            document = with_marker(document, note.marker)
        return {"html_body": to_html(document), "public": note.public}

    def shown(self, comment: Mapping[str, Any]) -> dict[str, Any]:
        """A comment as people read it."""
        text = comment.get("html_body")
        return {
            "comment_id": to_id(comment.get("id")),
            "public": comment.get("public") is True,
            "author": to_id(comment.get("author_id")),
            "created_at": to_micros(comment.get("created_at")),
            "text": to_markdown(from_html(text)) if isinstance(text, str) else str(comment.get("body") or ""),
        }

    async def _words(self, priority: Priority | None, status: TicketStatus | None, type_: TicketType | None) -> dict[str, Any]:
        """Canonical words as Zendesk writes them; a custom status the tenant chose stands for its category."""
        found: dict[str, Any] = {
            "priority": PRIORITY_WORDS.get(priority) if priority else None,
            "type": TYPE_WORDS.get(type_) if type_ else None,
        }
        if status is not None and (chosen := self._chosen_statuses.get(status)):
            found["custom_status_id"] = await _id_of(chosen, self._statuses)
        elif status is TicketStatus.CLOSED and self._settings.get("final_close") is True:
            found["status"] = "closed"
        elif status is not None:
            found["status"] = STATUS_WORDS.get(status)
        return {name: word for name, word in found.items() if word is not None}

    async def _custom_fields(self, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
        """By id, as given; by title, with an option's title in place of its tag."""
        body = []
        for name, value in fields.items():
            if (number := _number(name)) is not None:
                body.append({"id": number, "value": value})
                continue
            field = await self._fields.get(name)
            if field.ambiguous:
                raise ValidationRefused(f"several ticket fields are called {name[:80]!r}; name the one by its id")
            body.append({"id": field.number, "value": field.value(value)})
        return body


async def _id_of(wanted: str, known: NameCache[int]) -> int:
    number = _number(wanted)
    return number if number is not None else await known.get(wanted)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


async def _fields_of(api: ZendeskClient) -> dict[str, Field]:
    found: dict[str, Field] = {}
    async for given in api.fields():
        number, title = given.get("id"), given.get("title")
        if type(number) is not int or type(title) is not str or given.get("active") is False:
            continue
        options = given.get("custom_field_options")
        tags: dict[str, str] = {}
        for option in options if isinstance(options, list) else ():
            if isinstance(option, dict) and type(tag := option.get("value")) is str:
                tags.setdefault(tag.casefold(), tag)
                tags.setdefault(str(option.get("name")).strip().casefold(), tag)
        key = title.strip().casefold()
        found[key] = Field(number, title, str(given.get("type")), tags, ambiguous=key in found)
    return found


async def _labels_of(api: ZendeskClient) -> dict[str, int]:
    statuses = [status for status in await api.custom_statuses() if status.get("active") is not False]
    return {str(status.get("agent_label")): number for status in statuses if type(number := status.get("id")) is int}


async def _names_of(listed: Callable[[], AsyncIterator[Mapping[str, Any]]]) -> dict[str, int]:
    return {str(item.get("name")): number async for item in listed() if type(number := item.get("id")) is int}
