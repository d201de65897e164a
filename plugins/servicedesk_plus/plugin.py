"""ServiceDesk Plus: webhooks as an admin built them in, API v3 out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from plugins.api import (
    ApiError,
    BatchResult,
    CredentialsRefused,
    Delivery,
    Health,
    NewNote,
    NewTicket,
    NotADelivery,
    NotFound,
    PluginConfigError,
    PluginContext,
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
from plugins.mapping import to_id
from plugins.marker import same_marker
from plugins.richtext import from_markdown, to_html, with_marker
from plugins.servicedesk_plus.payload import RequestReader, plain
from plugins.servicedesk_plus.webhook_validator import validator_of

if TYPE_CHECKING:
    from plugins.servicedesk_plus.api_client import SdpClient

Json = dict[str, Any]

PRIORITY_NAMES: Final[Mapping[str, str]] = {"urgent": "Urgent", "high": "High", "medium": "Medium", "low": "Low"}
"""Many installations have no Urgent: High is their top, and what is written once they have refused the other."""
STATUS_NAMES: Final[Mapping[str, str]] = {"new": "Open", "open": "Open", "pending": "Onhold", "resolved": "Resolved", "closed": "Closed"}
TYPE_NAMES: Final[Mapping[str, str]] = {"incident": "Incident", "request": "Service Request"}
"""Problems and changes are other modules of the tool: their type is not written to a request."""

READ_FIELDS: Final = (
    "id", "display_id", "subject", "description", "status", "priority", "request_type", "is_service_request", "requester", "technician",
    "created_time", "last_updated_time", "due_by_time", "created_by", "last_updated_by", "udf_fields", "primary_asset", "tags",
    "is_trashed",
)  # fmt: skip
FALLBACK_PRIORITY: Final = "High"
MAX_SUBJECT: Final = 250
MAX_ATTACHMENT: Final = 32 << 20
CONCURRENT_UPDATES: Final = 8

log = logging.getLogger(__name__)


class ServiceDeskPlusPlugin(TicketingToolPlugin):
    """One tenant's ServiceDesk Plus. Two single-line custom fields hold our ids: `external_id_field` and `event_field`."""

    tool_type = "servicedesk_plus"
    version = "1.0.0"
    search_lag = 60.0

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._webhook: Mapping[str, Any] = settings.get("webhook") or {}
        self._validator = validator_of(self._webhook)
        self._reader = RequestReader(settings)
        self._external_id_field = str(settings.get("external_id_field") or "udf_sline_1")
        self._event_field = str(settings.get("event_field") or "udf_sline_2")
        self._priority_names = _names(settings, "priority_names", Priority, PRIORITY_NAMES)
        self._urgency_names = _names(settings, "urgency_names", Priority, {})
        self._impact_names = _names(settings, "impact_names", Priority, {})
        self._refused_priorities: set[str] = set()
        self._status_names = _names(settings, "status_names", TicketStatus, STATUS_NAMES)
        self._type_names = _names(settings, "type_names", TicketType, TYPE_NAMES)

    @cached_property
    def _api(self) -> SdpClient:
        from plugins.servicedesk_plus.api_client import SdpClient  # the doors verify and read only: they never load the HTTP client

        return SdpClient.of(self.context)

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        secret = self._webhook.get("secret")
        return self._validator.validate(delivery, self.context.secrets(str(secret)) if secret else ())

    def ticket_key(self, delivery: Delivery) -> str | None:
        return self._reader.ticket_id_of(delivery.body)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        return self._reader.metadata_of_delivery(delivery)

    # reads -----------------------------------------------------------------------------------------------------------
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        return self._metadata(await self._api.request(ticket_id))

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        from plugins.servicedesk_plus.api_client import ROWS_MAX

        for start in range(0, len(ticket_ids), ROWS_MAX):
            chunk = list(dict.fromkeys(ticket_ids[start : start + ROWS_MAX]))
            criteria = [{"field": "id", "condition": "is", "values": chunk}]
            try:
                found = {to_id(row.get("id")): row async for row in self._api.requests(criteria, READ_FIELDS)}
            except ApiError as exc:
                for ticket_id in chunk:
                    yield BatchResult(ticket_id, error=exc)
                continue
            for ticket_id in chunk:
                if ticket_id in found:
                    yield BatchResult(ticket_id, ticket=self._metadata(found[ticket_id]))
                else:
                    yield BatchResult(ticket_id, error=NotFound(f"request {ticket_id} does not exist, or is in the trash"))

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        """By our custom field. Each row is read again in full and compared: a build that does not know the field answers every row."""
        criteria = [{"field": f"udf_fields.{self._external_id_field}", "condition": "is", "value": external_id}]
        async for row in self._api.requests(criteria, ("id", "udf_fields", "last_updated_time")):
            if "udf_fields" not in row:
                row = await self._api.request(_id_in(row, "the request"))
            if self._udf(row, self._external_id_field) == external_id:
                return self._ref(row)
        return None

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        return bool(self._udf(await self._api.request(ticket_id), self._event_field) == event_id)

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        async for note in self._api.notes(ticket_id):
            text = note.get("description")
            if isinstance(text, str) and same_marker(plain(text), marker):
                return True
        return False

    # writes ----------------------------------------------------------------------------------------------------------
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        """Creates the request with our ids in their fields; new and open are left to the tool, its own first status."""
        fields: Json = {
            "subject": _subject(ticket.subject),
            "udf_fields": {**ticket.custom_fields, self._external_id_field: ticket.external_id, self._event_field: ticket.event_id},
            **self._priority(ticket.priority),
            **self._named("request_type", self._type_names, ticket.type),
        }
        if ticket.description.strip():
            fields["description"] = to_html(from_markdown(ticket.description))
        if ticket.status not in (TicketStatus.NEW, TicketStatus.OPEN):
            fields.update(self._named("status", self._status_names, ticket.status))
        return self._ref(await self._with_fallback_priority(self._api.create, fields))

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        """Sets the fields and our event's id in one act; with them a resolution, the setting's text, where closing demands one."""
        fields: Json = {"udf_fields": {**changes.custom_fields, self._event_field: changes.event_id}}
        if changes.subject is not None:
            fields["subject"] = _subject(changes.subject)
        if changes.priority is not None:
            fields.update(self._priority(changes.priority))
        if changes.status is not None:
            fields.update(self._named("status", self._status_names, changes.status))
        if changes.type is not None:
            fields.update(self._named("request_type", self._type_names, changes.type))

        async def edit(given: Json) -> Json:
            return await self._api.edit(ticket_id, given)

        try:
            return self._ref(await self._with_fallback_priority(edit, fields))
        except ValidationRefused as exc:
            if changes.status not in (TicketStatus.RESOLVED, TicketStatus.CLOSED) or not _wants_resolution(exc):
                raise
        text = str(self.context.settings.get("resolution") or "Resolved in the linked ticket.")
        fields["resolution"] = {"content": to_html(from_markdown(text))}
        return self._ref(await self._with_fallback_priority(edit, fields))

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """Single edits, a few at a time: API v3 has no bulk edit."""
        turn = asyncio.Semaphore(CONCURRENT_UPDATES)

        async def one(ticket_id: str, change: TicketChanges) -> BatchResult:
            async with turn:
                try:
                    return BatchResult(ticket_id, ticket=await self.update_ticket(ticket_id, change))
                except ApiError as exc:
                    return BatchResult(ticket_id, error=exc)

        return await asyncio.gather(*(one(ticket_id, change) for ticket_id, change in changes.items()))

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        text = to_html(with_marker(from_markdown(note.text), note.marker))
        return _id_in(await self._api.note(ticket_id, text, public=note.public), "the note")

    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        held = bytearray()
        async for chunk in content:
            held += chunk
            if len(held) > MAX_ATTACHMENT:
                raise ValidationRefused(f"the attachment is larger than {MAX_ATTACHMENT >> 20} MiB")
        return _id_in(await self._api.attach(ticket_id, filename, content_type, bytes(held)), "the attachment")

    async def health_check(self) -> Health:
        """Reads one row. A login page and an error under status 200 are told from an answer; no call tells whose key it is."""
        actor = self.context.settings.get("actor")
        try:
            await self._api.one_row()
        except CredentialsRefused:
            return Health(False, "the tool refuses auth.technician_key: its technician's login may be disabled, or the key has expired")
        except ApiError as exc:
            return Health(False, str(exc))
        if actor is None:
            return Health(True, "set actor to the e-mail address of the key's technician, so that echoes are recognised by it")
        return Health(True, actor=str(actor))

    # parts -----------------------------------------------------------------------------------------------------------
    def _priority(self, priority: Priority) -> Json:
        """The priority and, where the tenant names them, urgency and impact: the tool's matrix may overwrite a priority alone."""
        return {
            **self._named("priority", self._priority_names, priority),
            **self._named("urgency", self._urgency_names, priority),
            **self._named("impact", self._impact_names, priority),
        }

    @staticmethod
    def _named(field: str, names: Mapping[str, str], word: Priority | TicketStatus | TicketType) -> Json:
        return {field: {"name": names[word]}} if word in names else {}

    async def _with_fallback_priority(self, write: Callable[[Json], Awaitable[Json]], fields: Json) -> Json:
        """A priority the tool does not have becomes High, and the log says so once; the refused try wrote nothing."""
        from plugins.servicedesk_plus.api_client import RequestRefused

        wanted = fields.get("priority", {}).get("name")
        high = {**fields, "priority": {"name": FALLBACK_PRIORITY}}
        if wanted in self._refused_priorities:
            return await write(high)
        try:
            return await write(fields)
        except RequestRefused as exc:
            if exc.field != "priority" or wanted in (None, FALLBACK_PRIORITY):
                raise
        self._refused_priorities.add(wanted)
        log.warning("%s/%s refuses priority %s; High is written instead", self.context.tenant, self.context.tool, wanted)
        return await write(high)

    def _metadata(self, request: Json) -> TicketMetadata:
        try:
            return self._reader.metadata_of_request(self.context.tenant, request)
        except NotADelivery as exc:
            raise TornAnswer(str(exc)) from None

    def _ref(self, request: Json) -> TicketRef:
        metadata = self._metadata(request)
        return TicketRef(ticket_id=metadata.ticket_id, updated_at=metadata.updated_at or metadata.created_at)

    @staticmethod
    def _udf(request: Json, field: str) -> Any:
        fields = request.get("udf_fields")
        return fields.get(field) if isinstance(fields, dict) else None


def _names(settings: Mapping[str, Any], setting: str, kind: type[StrEnum], default: Mapping[str, str]) -> Mapping[str, str]:
    """The tool's names for canonical words, the tenant's over the default; raises PluginConfigError for a word that is none."""
    given = settings.get(setting) or {}
    strange = sorted(set(given) - set(kind))
    if strange:
        raise PluginConfigError(f"{setting}: {strange[0]!r} is not one of {', '.join(kind)}")
    return {**default, **given}


def _subject(subject: str) -> str:
    return " ".join(subject.split())[:MAX_SUBJECT] or "(no subject)"


def _wants_resolution(refused: ValidationRefused) -> bool:
    """Whether the closure rules ask for a resolution: by field where the build names it, else by the message."""
    return getattr(refused, "field", None) == "resolution" or "resolution" in getattr(refused, "about", "")


def _id_in(answer: Json, what: str) -> str:
    found = to_id(answer.get("id"))
    if found is None:
        raise TornAnswer(f"servicedesk_plus did not answer the id of {what}", in_doubt=True)
    return found
