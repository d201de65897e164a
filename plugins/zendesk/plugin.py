"""The Zendesk plugin: what differs here from other tools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from plugins.api import (
    ApiError,
    BatchResult,
    ConnectionLost,
    Delivery,
    DeliveryIdentity,
    FatalApiError,
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
from plugins.mapping import to_id, to_micros
from plugins.marker import same_marker
from plugins.richtext import from_markdown, to_html, with_marker
from plugins.zendesk.api_client import MAX_IDS, ZendeskClient, zendesk_error
from plugins.zendesk.payload import ZendeskPayload
from plugins.zendesk.webhook_validator import ZendeskValidator

if TYPE_CHECKING:
    import httpx

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
    TicketStatus.CLOSED: "solved",  # `closed` cannot be undone and refuses every later update
}
TYPE_WORDS: Mapping[TicketType, str] = {
    TicketType.INCIDENT: "incident",
    TicketType.PROBLEM: "problem",
    TicketType.REQUEST: "question",
    TicketType.CHANGE: "task",  # Zendesk has no change
}
EVENT_KEY = "ai_agents_event"
"""Where an update carries its event_id: custom metadata, kept in the update's audit."""
MAX_UPLOAD = 50 << 20


class ZendeskPlugin(TicketingToolPlugin):
    """Zendesk Support, API v2."""

    tool_type = "zendesk"
    version = "1.0.0"
    kept_headers = ("x-zendesk-webhook-invocation-id", "x-zendesk-webhook-id", "x-zendesk-account-id")

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        self._validator = ZendeskValidator(context.settings.get("webhook") or {}, context.secrets)
        self._payload = ZendeskPayload(context.tenant, context.settings)

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        return self._validator.validate(delivery)

    def identify(self, delivery: Delivery) -> DeliveryIdentity | None:
        """The envelope's id, which the signature covers; else the invocation's, in a header that it does not cover."""
        if (signed := self._payload.delivery_id(delivery)) is not None:
            return DeliveryIdentity(signed, signed=True)
        invocation = delivery.headers.get("x-zendesk-webhook-invocation-id")
        return DeliveryIdentity(invocation, signed=False) if invocation else None

    def ticket_key(self, delivery: Delivery) -> str | None:
        return self._payload.ticket_key(delivery)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        return self._payload.metadata(delivery)

    # calls -----------------------------------------------------------------------------------------------------------
    @cached_property
    def _api(self) -> ZendeskClient:
        return ZendeskClient(self.context.http().bound(auth=self._auth(), error_for=zendesk_error))

    def _auth(self) -> httpx.Auth:
        from plugins.http.auth import BasicAuth, HeaderAuth  # with the first call, not with the plugin: the door only reads

        auth = self.context.settings.get("auth") or {}
        if auth.get("access_token"):
            return HeaderAuth("Authorization", lambda: self._secret(auth["access_token"]), prefix="Bearer ")
        if auth.get("email") and auth.get("api_token"):
            return BasicAuth(f"{auth['email']}/token", lambda: self._secret(auth["api_token"]))
        raise PluginConfigError("auth of a zendesk tool needs email and api_token, or access_token")

    def _secret(self, reference: str) -> str:
        live = self.context.secrets(reference)
        if not live:
            raise PluginConfigError(f"{reference} has no value; set it with: ai-agents secret set")
        try:
            return live[0].decode()
        except UnicodeDecodeError:
            raise PluginConfigError(f"{reference} is not text; set it again") from None

    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        return self._read(await self._api.ticket(ticket_id))

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        """By hundreds; whatever the answer leaves out is NotFound."""
        for asked in _chunks(ticket_ids):
            try:
                found = {str(ticket.get("id")): ticket for ticket in await self._api.tickets(asked)}
            except ApiError as exc:
                for ticket_id in asked:
                    yield BatchResult(ticket_id, error=exc)
                continue
            for ticket_id in asked:
                if ticket_id in found:
                    yield BatchResult(ticket_id, ticket=self._read(found[ticket_id]))
                else:
                    yield BatchResult(ticket_id, error=NotFound(f"ticket {ticket_id} is gone, or hidden from our account", status=404))

    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        body: dict[str, Any] = {
            "subject": ticket.subject,
            "comment": {"html_body": to_html(from_markdown(ticket.description or ticket.subject)), "public": True},
            "external_id": ticket.external_id,
            "metadata": {EVENT_KEY: ticket.event_id},
            **_words(ticket.priority, ticket.status, ticket.type),
        }
        if ticket.tags:
            body["tags"] = list(ticket.tags)
        if ticket.custom_fields:
            body["custom_fields"] = _custom_fields(ticket.custom_fields)
        if requester := self.context.settings.get("requester"):
            body["requester"] = {"email": str(requester), "name": str(requester)}
        return self._ref(await self._api.create(body))

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        return self._ref((await self._api.update(ticket_id, _update(changes)))["ticket"])

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """In jobs of a hundred, each row judged by itself; a row the job does not mention is in doubt."""
        results: list[BatchResult] = []
        for asked in _chunks(list(changes)):
            try:
                rows = await self._api.update_many([{"id": _number(ticket_id), **_update(changes[ticket_id])} for ticket_id in asked])
            except ApiError as exc:
                results.extend(BatchResult(ticket_id, error=exc) for ticket_id in asked)
                continue
            by_id = {str(row.get("id")): row for row in rows}
            results.extend(self._row(ticket_id, by_id.get(ticket_id)) for ticket_id in asked)
        return results

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        document = from_markdown(note.text)
        if not same_marker(note.text, note.marker):
            document = with_marker(document, note.marker)
        answer = await self._api.update(ticket_id, {"comment": {"html_body": to_html(document), "public": note.public}})
        audit = answer.get("audit")
        for event in (audit.get("events") or ()) if isinstance(audit, dict) else ():
            if isinstance(event, dict) and event.get("type") == "Comment" and (comment_id := to_id(event.get("id"))):
                return comment_id
        raise TornAnswer("Zendesk took a note and did not say its id", in_doubt=True)

    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        """Uploads the file, then ties it to the ticket with an internal note. At most 50 MB."""
        data = bytearray()
        async for chunk in content:
            data += chunk
            if len(data) > MAX_UPLOAD:
                raise ValidationRefused(f"{filename} is larger than the {MAX_UPLOAD >> 20} MB Zendesk takes")
        upload = await self._api.upload(filename, content_type, bytes(data))
        attachment = upload.get("attachment")
        attachment_id = to_id(attachment.get("id")) if isinstance(attachment, dict) else None
        if not upload.get("token") or attachment_id is None:
            raise TornAnswer("Zendesk took a file and did not say its token", in_doubt=True)
        comment = {"html_body": to_html(from_markdown("Attached file")), "public": False, "uploads": [upload["token"]]}
        await self._api.update(ticket_id, {"comment": comment})
        return attachment_id

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        """The oldest, should there be several."""
        tickets = await self._api.tickets_by_external_id(external_id)
        found = {int(i): t for t in tickets if t.get("external_id") == external_id and (i := to_id(t.get("id"))) and i.isdecimal()}
        return self._ref(found[min(found)]) if found else None

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        async for audit in self._api.audits(ticket_id):
            metadata = audit.get("metadata")
            custom = metadata.get("custom") if isinstance(metadata, dict) else None
            if isinstance(custom, dict) and custom.get(EVENT_KEY) == event_id:
                return True
        return False

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        async for comment in self._api.comments(ticket_id):
            if same_marker(str(comment.get("plain_body") or comment.get("body") or ""), marker):
                return True
        return False

    async def health_check(self) -> Health:
        """Sees through the anonymous user that a wrong token is answered with under status 200."""
        try:
            user = await self._api.me()
        except (ApiError, PluginConfigError) as exc:
            return Health(False, str(exc))
        actor = to_id(user.get("id"))
        if actor is None:
            return Health(False, "Zendesk sees us as anonymous; renew auth.api_token and check auth.email")
        if user.get("role") == "end-user" or user.get("suspended") is True:
            return Health(False, "our account is an end user or suspended; it must be an agent", actor)
        return Health(True, actor=actor)

    def _read(self, ticket: Mapping[str, Any]) -> TicketMetadata:
        try:
            return self._payload.ticket(ticket)
        except NotADelivery as exc:
            raise TornAnswer(f"Zendesk: {exc}") from None

    def _ref(self, ticket: Mapping[str, Any]) -> TicketRef:
        ticket_id = to_id(ticket.get("id"))
        if ticket_id is None:
            raise TornAnswer("Zendesk answered a ticket without its id", in_doubt=True)
        base_url = str(self.context.settings.get("base_url") or "").rstrip("/")
        return TicketRef(ticket_id=ticket_id, url=f"{base_url}/agent/tickets/{ticket_id}", updated_at=to_micros(ticket.get("updated_at")))

    def _row(self, ticket_id: str, row: Mapping[str, Any] | None) -> BatchResult:
        if row is None:
            return BatchResult(ticket_id, error=ConnectionLost(f"the job says nothing of ticket {ticket_id}", in_doubt=True))
        if row.get("success") is True or (row.get("status") == "Updated" and not row.get("error")):
            return BatchResult(ticket_id, ticket=TicketRef(ticket_id=ticket_id))
        code = str(row.get("error") or "failed")[:100]
        kind = NotFound if "NotFound" in code else ValidationRefused if "Invalid" in code or "UpdateFailed" in code else FatalApiError
        return BatchResult(ticket_id, error=kind(f"ticket {ticket_id}: {code}"))


def _update(changes: TicketChanges) -> dict[str, Any]:
    body: dict[str, Any] = {"metadata": {EVENT_KEY: changes.event_id}, **_words(changes.priority, changes.status, changes.type)}
    if changes.subject is not None:
        body["subject"] = changes.subject
    if changes.custom_fields:
        body["custom_fields"] = _custom_fields(changes.custom_fields)
    return body


def _words(priority: Priority | None, status: TicketStatus | None, type_: TicketType | None) -> dict[str, str]:
    """Canonical words as Zendesk writes them; what is unknown is left to the tool."""
    found = {
        "priority": PRIORITY_WORDS.get(priority) if priority else None,
        "status": STATUS_WORDS.get(status) if status else None,
        "type": TYPE_WORDS.get(type_) if type_ else None,
    }
    return {name: word for name, word in found.items() if word is not None}


def _custom_fields(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"id": _number(name), "value": value} for name, value in fields.items()]


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValidationRefused(f"Zendesk ids are numbers; this is none: {text[:40]!r}")
    return int(text)


def _chunks(items: Sequence[str]) -> list[list[str]]:
    iterator = iter(dict.fromkeys(items))
    return list(iter(lambda: list(islice(iterator, MAX_IDS)), []))
