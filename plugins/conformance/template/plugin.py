"""Example Desk: signed webhooks in, REST out.

Heavy imports wait for the first call: whoever only verifies and reads never pays for an HTTP client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from plugins.api import (
    ApiError,
    Attachment,
    BatchResult,
    CredentialsRefused,
    Delivery,
    DeliveryIdentity,
    Health,
    NewNote,
    NewTicket,
    NotADelivery,
    NotFound,
    Priority,
    TicketChanges,
    TicketingToolPlugin,
    TicketMetadata,
    TicketRef,
    TicketStatus,
    TicketType,
    TornAnswer,
    ValidationRefused,
    Verified,
)
from plugins.conformance.template.payload import TicketReader, ticket_id_of
from plugins.conformance.template.webhook_validator import VALIDATOR
from plugins.mapping import to_id, to_micros
from plugins.marker import same_marker
from plugins.richtext import from_html, from_markdown, to_html, to_plain, with_marker

if TYPE_CHECKING:
    from plugins.api import PluginContext
    from plugins.conformance.template.api_client import ExampleDeskClient

DELIVERY: Final = "x-example-desk-delivery"
BULK_MAX: Final = 50

PRIORITY_NAMES: Final[Mapping[Priority, str]] = {
    Priority.LOW: "low",
    Priority.MEDIUM: "normal",
    Priority.HIGH: "high",
    Priority.URGENT: "critical",
}
STATUS_NAMES: Final[Mapping[TicketStatus, str]] = {
    TicketStatus.NEW: "new",
    TicketStatus.OPEN: "open",
    TicketStatus.PENDING: "waiting",
    TicketStatus.RESOLVED: "solved",
    TicketStatus.CLOSED: "closed",
}
TYPE_NAMES: Final[Mapping[TicketType, str]] = {
    TicketType.INCIDENT: "incident",
    TicketType.REQUEST: "service request",
    TicketType.PROBLEM: "problem",
    TicketType.CHANGE: "change",
}
"""Canonical words as the tool writes them; UNKNOWN is never written."""


class ExampleDeskPlugin(TicketingToolPlugin):
    """One tenant's Example Desk. The tool keeps our `external_id` and `event_id` in fields of their own."""

    tool_type = "example_desk"
    version = "0.1.0"
    search_lag = 60.0
    kept_headers = (DELIVERY,)

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        self._reader = TicketReader(context.settings)

    @cached_property
    def _api(self) -> ExampleDeskClient:
        from plugins.conformance.template.api_client import ExampleDeskClient

        return ExampleDeskClient.of(self.context)

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        secret = (self.context.settings.get("webhook") or {}).get("secret")
        return VALIDATOR.validate(delivery, self.context.secrets(str(secret)) if secret else ())

    def identify(self, delivery: Delivery) -> DeliveryIdentity | None:
        """The delivery's number, the same when it is repeated. It is a header, which the signature does not cover."""
        number = delivery.headers.get(DELIVERY)
        return DeliveryIdentity(number) if number else None

    def ticket_key(self, delivery: Delivery) -> str | None:
        return ticket_id_of(delivery.body)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        return self._reader.of_delivery(delivery)

    # reads -----------------------------------------------------------------------------------------------------------
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        return self._metadata(await self._api.ticket(ticket_id))

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        asked = list(dict.fromkeys(ticket_ids))
        for start in range(0, len(asked), BULK_MAX):
            chunk = asked[start : start + BULK_MAX]
            try:
                found = {to_id(ticket.get("id")): ticket async for ticket in self._api.tickets(ids=",".join(chunk))}
            except ApiError as exc:
                for ticket_id in chunk:
                    yield BatchResult(ticket_id, error=exc)
                continue
            for ticket_id in chunk:
                if ticket_id in found:
                    yield BatchResult(ticket_id, ticket=self._metadata(found[ticket_id]))
                else:
                    yield BatchResult(ticket_id, error=NotFound(f"ticket {ticket_id} does not exist"))

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        async for ticket in self._api.tickets(external_id=external_id):
            if ticket.get("external_id") == external_id:  # a search may be looser than we ask
                return self._ref(ticket)
        return None

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        return (await self._api.ticket(ticket_id)).get("event_id") == event_id

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        async for note in self._api.notes(ticket_id):
            if same_marker(to_plain(from_html(str(note.get("text")))), marker):
                return True
        return False

    # writes ----------------------------------------------------------------------------------------------------------
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        fields = {
            "subject": ticket.subject,
            "description": to_html(from_markdown(ticket.description)),
            "tags": list(ticket.tags),
            "external_id": ticket.external_id,
            "event_id": ticket.event_id,
            "custom_fields": dict(ticket.custom_fields),
            **_words(ticket.priority, ticket.status, ticket.type),
        }
        return self._ref(await self._api.create(fields))

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        return self._ref(await self._api.update(ticket_id, _fields(changes)))

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """By the tool's bulk call, which answers for each item by itself."""
        items, results = list(changes.items()), list[BatchResult]()
        for start in range(0, len(items), BULK_MAX):
            chunk = items[start : start + BULK_MAX]
            try:
                outcomes = await self._api.bulk_update([{"id": ticket_id, **_fields(change)} for ticket_id, change in chunk])
            except ApiError as exc:
                results += [BatchResult(ticket_id, error=exc) for ticket_id, _ in chunk]
                continue
            results += [self._outcome(ticket_id, outcome) for (ticket_id, _), outcome in zip(chunk, outcomes, strict=True)]
        return results

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        html = to_html(with_marker(from_markdown(note.text), note.marker))
        return _id_in(await self._api.add_note(ticket_id, html, public=note.public))

    # files -----------------------------------------------------------------------------------------------------------
    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        return _id_in(await self._api.attach(ticket_id, filename or "file", content_type, content))

    async def list_attachments(self, ticket_id: str) -> Sequence[Attachment]:
        return [
            Attachment(
                attachment_id=_id_in(row),
                filename=str(row.get("filename")),
                content_type=str(row.get("content_type")),
                size=row["size"] if isinstance(row.get("size"), int) else None,
            )
            async for row in self._api.attachments(ticket_id)
        ]

    def download_attachment(self, ticket_id: str, attachment_id: str) -> AsyncIterator[bytes]:
        return self._api.download(ticket_id, attachment_id)

    # health ----------------------------------------------------------------------------------------------------------
    async def health_check(self) -> Health:
        try:
            actor = to_id((await self._api.me()).get("account"))
        except CredentialsRefused:
            return Health(False, "Example Desk refuses auth.token; make a new one for this account")
        except ApiError as exc:
            return Health(False, str(exc))
        own = self.context.settings.get("actor")
        if own is not None and str(own) != actor:
            return Health(False, f"the setting actor is not this account, {actor}: echoes would not be recognised", actor)
        return Health(actor is not None, "" if actor else "Example Desk does not say whose token this is", actor)

    # parts -----------------------------------------------------------------------------------------------------------
    def _metadata(self, ticket: Any) -> TicketMetadata:
        try:
            return self._reader.of_ticket(self.context.tenant, ticket)
        except NotADelivery as exc:
            raise TornAnswer(str(exc)) from None

    def _ref(self, ticket: Mapping[str, Any]) -> TicketRef:
        url = ticket.get("url")
        return TicketRef(
            ticket_id=_id_in(ticket), url=url if isinstance(url, str) else None, updated_at=to_micros(ticket.get("updated_at"))
        )

    def _outcome(self, ticket_id: str, outcome: Mapping[str, Any]) -> BatchResult:
        error = outcome.get("error")
        if error is None:
            return BatchResult(ticket_id, ticket=self._ref(outcome))
        status = error.get("status") if isinstance(error, dict) else None
        kind = NotFound if status == 404 else ValidationRefused
        return BatchResult(ticket_id, error=kind(f"the bulk update answered {status} for ticket {ticket_id}"))


def _words(priority: Priority | None, status: TicketStatus | None, kind: TicketType | None) -> dict[str, str]:
    """What is to be set, in the tool's words."""
    words = {
        "priority": PRIORITY_NAMES.get(priority) if priority else None,
        "status": STATUS_NAMES.get(status) if status else None,
        "type": TYPE_NAMES.get(kind) if kind else None,
    }
    return {name: word for name, word in words.items() if word is not None}


def _fields(changes: TicketChanges) -> dict[str, Any]:
    """A change as the API takes it; what is None stays out, and so as it is."""
    fields: dict[str, Any] = {"event_id": changes.event_id, **_words(changes.priority, changes.status, changes.type)}
    if changes.subject is not None:
        fields["subject"] = changes.subject
    if changes.custom_fields:
        fields["custom_fields"] = dict(changes.custom_fields)
    return fields


def _id_in(answer: Mapping[str, Any]) -> str:
    found = to_id(answer.get("id"))
    if found is None:
        raise TornAnswer("example_desk answered without an id", in_doubt=True)
    return found
