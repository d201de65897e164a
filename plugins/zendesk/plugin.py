"""The Zendesk plugin: what differs here from other tools."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from plugins.api import (
    ApiError,
    Attachment,
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
    SlaTarget,
    TicketChanges,
    TicketingToolPlugin,
    TicketMetadata,
    TicketRef,
    TornAnswer,
    ValidationRefused,
    Verified,
)
from plugins.http.limits import bounded
from plugins.mapping import to_id, to_micros, to_text
from plugins.marker import same_marker
from plugins.zendesk.payload import ZendeskPayload
from plugins.zendesk.sla import sla_targets
from plugins.zendesk.webhook_validator import ZendeskValidator, token_of
from plugins.zendesk.words import EVENT_KEY

if TYPE_CHECKING:  # what only calls need comes with the first call, not with the plugin: the door verifies and reads
    import httpx

    from plugins.zendesk.api_client import ZendeskClient
    from plugins.zendesk.writes import TicketWriter

MAX_IDS = 100
"""Tickets in one bulk request."""

MAX_UPLOAD = 50 << 20
MAX_LISTED = 1000
"""Tickets or events one call answers at most."""


class ZendeskPlugin(TicketingToolPlugin):
    """Zendesk Support, API v2."""

    tool_type = "zendesk"
    version = "1.1.0"
    capabilities = frozenset({"sla"})
    kept_headers = ("x-zendesk-webhook-invocation-id", "x-zendesk-webhook-id", "x-zendesk-account-id")

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        self._webhook: Mapping[str, Any] = context.settings.get("webhook") or {}
        self._connection = f"{context.tenant}/{context.tool}"
        self._validator = ZendeskValidator(self._webhook, context.secrets, self._connection)
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
        from plugins.zendesk.api_client import ZendeskClient, zendesk_error

        return ZendeskClient(self.context.http().bound(auth=self._auth(), error_for=zendesk_error))

    @cached_property
    def _writer(self) -> TicketWriter:
        from plugins.zendesk.writes import TicketWriter

        return TicketWriter(self.context.settings, self._api)

    def _auth(self) -> httpx.Auth:
        from plugins.http.auth import BasicAuth, HeaderAuth, RefreshToken

        auth = self.context.settings.get("auth") or {}
        if auth.get("refresh_token"):
            secret, refresh = (lambda: self.context.secret(auth["client_secret"])), (lambda: self.context.secret(auth["refresh_token"]))
            base_url = str(self.context.settings.get("base_url") or "").rstrip("/")
            return RefreshToken(f"{base_url}/oauth/tokens", str(auth.get("client_id") or ""), secret, refresh)
        if auth.get("access_token"):
            return HeaderAuth("Authorization", lambda: self.context.secret(auth["access_token"]), prefix="Bearer ")
        if auth.get("email") and auth.get("api_token"):
            return BasicAuth(f"{auth['email']}/token", lambda: self.context.secret(auth["api_token"]))
        raise PluginConfigError("auth of a zendesk tool needs email and api_token, access_token, or refresh_token with its client")

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
        """With our id as `external_id`, and the event as Idempotency-Key: the tool makes one ticket of a request that comes twice."""
        key = f"{ticket.external_id}/{ticket.event_id}"[:255]
        return self._ref(await self._api.create(await self._writer.new(ticket), key))

    async def batch_create_tickets(self, tickets: Sequence[NewTicket]) -> Sequence[BatchResult]:
        """In jobs of a hundred; a result's ticket_id is the external_id asked for, its `ticket` names the new one."""
        results: list[BatchResult] = []
        for start in range(0, len(tickets), MAX_IDS):
            bodies: list[tuple[str, dict[str, Any]]] = []
            for ticket in tickets[start : start + MAX_IDS]:
                try:
                    bodies.append((ticket.external_id, await self._writer.new(ticket)))
                except ApiError as exc:
                    results.append(BatchResult(ticket.external_id, error=exc))
            results += await self._made(bodies)
        return results

    async def _made(self, bodies: Sequence[tuple[str, Mapping[str, Any]]]) -> list[BatchResult]:
        try:
            rows = await self._api.create_many([body for _, body in bodies]) if bodies else ()
        except ApiError as exc:
            return [BatchResult(external_id, error=exc) for external_id, _ in bodies]
        by_index, results = {row.get("index"): row for row in rows}, []
        for number, (external_id, _) in enumerate(bodies):
            row = by_index.get(number)
            made = to_id(row.get("id")) if row is not None and not row.get("error") else None
            if made is not None:
                results.append(BatchResult(external_id, ticket=TicketRef(ticket_id=made, url=self._url(made))))
            else:
                results.append(self._row(external_id, row))
        return results

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        return self._ref((await self._api.update(ticket_id, await self._writer.changed(changes)))["ticket"])

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """In jobs of a hundred, each row judged by itself; a row the job does not mention is in doubt."""
        results: list[BatchResult] = []
        for asked in _chunks(list(changes)):
            bodies: dict[str, dict[str, Any]] = {}
            for ticket_id in asked:
                try:
                    bodies[ticket_id] = {"id": _number(ticket_id), **await self._writer.changed(changes[ticket_id])}
                except ApiError as exc:
                    results.append(BatchResult(ticket_id, error=exc))
            results += await self._updated(bodies)
        return results

    async def _updated(self, bodies: Mapping[str, Mapping[str, Any]]) -> list[BatchResult]:
        try:
            rows = await self._api.update_many(list(bodies.values())) if bodies else ()
        except ApiError as exc:
            return [BatchResult(ticket_id, error=exc) for ticket_id in bodies]
        by_id = {str(row.get("id")): row for row in rows}
        return [self._row(ticket_id, by_id.get(ticket_id)) for ticket_id in bodies]

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        answer = await self._api.update(ticket_id, {"comment": self._writer.comment(note)})
        audit = answer.get("audit")
        for event in (audit.get("events") or ()) if isinstance(audit, dict) else ():
            if isinstance(event, dict) and event.get("type") == "Comment" and (comment_id := to_id(event.get("id"))):
                return comment_id
        raise TornAnswer("Zendesk took a note and did not say its id", in_doubt=True)

    async def comments(self, ticket_id: str) -> Sequence[Mapping[str, Any]]:
        """The ticket's comments, oldest first: comment_id, public, author, created_at (epoch microseconds), text as Markdown."""
        return [self._writer.shown(comment) async for comment in self._api.comments(ticket_id)]

    # files -----------------------------------------------------------------------------------------------------------
    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        """Uploads the file as it comes, then ties it to the ticket with an internal note. At most 50 MB."""
        upload = await self._api.upload(filename, content_type, bounded(content, MAX_UPLOAD, filename))
        attachment = upload.get("attachment")
        attachment_id = to_id(attachment.get("id")) if isinstance(attachment, dict) else None
        if not upload.get("token") or attachment_id is None:
            raise TornAnswer("Zendesk took a file and did not say its token", in_doubt=True)
        comment = {"body": "Attached file", "public": False, "uploads": [upload["token"]]}
        await self._api.update(ticket_id, {"comment": comment})
        return attachment_id

    async def list_attachments(self, ticket_id: str) -> Sequence[Attachment]:
        """The files of the ticket's comments: Zendesk ties each to the comment it came with."""
        found = []
        async for comment in self._api.comments(ticket_id):
            given = comment.get("attachments")
            for file in given if isinstance(given, list) else ():
                if isinstance(file, dict) and (attachment_id := to_id(file.get("id"))) is not None:
                    size, kind = file.get("size"), to_text(file.get("content_type")) or "application/octet-stream"
                    name = to_text(file.get("file_name"))
                    found.append(
                        Attachment(attachment_id=attachment_id, filename=name, content_type=kind, size=size if type(size) is int else None)
                    )
        return found

    async def download_attachment(self, ticket_id: str, attachment_id: str) -> AsyncGenerator[bytes, None]:
        """The file in chunks, at most 50 MB. Zendesk finds it by its own id: the ticket's is not asked."""
        url = (await self._api.attachment(attachment_id)).get("content_url")
        if not isinstance(url, str):
            raise TornAnswer("Zendesk named a file and not its address")
        async with aclosing(self._api.content(url, MAX_UPLOAD)) as chunks:
            async for chunk in chunks:
                yield chunk

    # clocks ----------------------------------------------------------------------------------------------------------
    async def sla_targets(self, ticket_id: str) -> Sequence[SlaTarget]:
        """Each SLA target on the ticket; none where the account's plan has no SLAs, or no policy applies."""
        return sla_targets(*await self._api.clocks(ticket_id))

    async def sla_policies(self) -> Sequence[Mapping[str, Any]]:
        """The account's SLA policies as Zendesk tells them: filter, and a target in minutes for each priority and metric."""
        return [policy async for policy in self._api.sla_policies()]

    async def custom_statuses(self) -> Sequence[Mapping[str, Any]]:
        """The account's custom statuses: id, agent_label, and the status_category each belongs to."""
        return await self._api.custom_statuses()

    # finding ---------------------------------------------------------------------------------------------------------
    async def search_tickets(self, query: str, limit: int = 100) -> Sequence[TicketMetadata]:
        """Tickets by Zendesk's own search syntax ("status<solved tags:gate"); at most the 1000 a search gives."""
        return [self._read(ticket) for ticket in await self._api.search(query, min(limit, MAX_LISTED))]

    async def changed_tickets(self, since: int, limit: int = MAX_LISTED) -> Sequence[TicketMetadata]:
        """Tickets changed since `since` (epoch seconds, over a minute ago), oldest first: what a lost webhook left out."""
        return [self._read(ticket) for ticket in await self._api.changed_since(since, min(limit, MAX_LISTED))]

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

    async def issue_webhook_token(self, days: int = 365) -> str:
        """A token for scheme `jwt`, to be stored as the webhook's bearer token; signed with the newest value of webhook.secret.

        Needs a shared key: where webhook.secret holds public keys, `plugins.webhook_jwt.issue` signs beside the private one.
        """
        from plugins.webhook_jwt import SHARED, issue

        wanted = token_of(self._webhook, self._connection)
        algorithm = next((name for name in wanted.algorithms if name in SHARED), None)
        live = self.context.secrets(str(self._webhook.get("secret") or ""))
        if self._webhook.get("scheme") != "jwt" or algorithm is None or not live:
            raise PluginConfigError("a token is issued for webhook.scheme jwt with a shared key (HS256) in webhook.secret")
        issuer, audience = wanted.issuer or "", wanted.audience or ""
        return issue(live[0], issuer=issuer, audience=audience, issued_at=int(time.time()), seconds=days * 86_400, algorithm=algorithm)

    def _read(self, ticket: Mapping[str, Any]) -> TicketMetadata:
        try:
            return self._payload.ticket(ticket)
        except NotADelivery as exc:
            raise TornAnswer(f"Zendesk: {exc}") from None

    def _ref(self, ticket: Mapping[str, Any]) -> TicketRef:
        ticket_id = to_id(ticket.get("id"))
        if ticket_id is None:
            raise TornAnswer("Zendesk answered a ticket without its id", in_doubt=True)
        return TicketRef(ticket_id=ticket_id, url=self._url(ticket_id), updated_at=to_micros(ticket.get("updated_at")))

    def _url(self, ticket_id: str) -> str:
        base_url = str(self.context.settings.get("base_url") or "").rstrip("/")
        return f"{base_url}/agent/tickets/{ticket_id}"

    def _row(self, ticket_id: str, row: Mapping[str, Any] | None) -> BatchResult:
        if row is None:
            return BatchResult(ticket_id, error=ConnectionLost(f"the job says nothing of ticket {ticket_id}", in_doubt=True))
        if row.get("success") is True or (row.get("status") == "Updated" and not row.get("error")):
            return BatchResult(ticket_id, ticket=TicketRef(ticket_id=ticket_id))
        code = str(row.get("error") or "failed")[:100]
        kind = (
            NotFound
            if "NotFound" in code
            else ValidationRefused
            if "Invalid" in code or code.endswith(("UpdateFailed", "CreateFailed"))
            else FatalApiError
        )
        return BatchResult(ticket_id, error=kind(f"ticket {ticket_id}: {code}"))


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise NotFound(f"Zendesk's ticket ids are numbers, and {text[:40]!r} is none", status=404)
    return int(text)


def _chunks(items: Sequence[str]) -> list[list[str]]:
    iterator = iter(dict.fromkeys(items))
    return list(iter(lambda: list(islice(iterator, MAX_IDS)), []))
