"""The Freshdesk plugin: its tickets, and what differs here from other tools."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from plugins.api import (
    ApiError,
    Attachment,
    BatchResult,
    ConnectionLost,
    CredentialsRefused,
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
    TicketMetadata,
    TicketRef,
    TornAnswer,
    ValidationRefused,
    Verified,
)
from plugins.freshdesk.api_client import API, MAX_IDS, Json, id_in
from plugins.freshdesk.forum import ForumCalls
from plugins.freshdesk.payload import EXTERNAL_ID_FIELD, STATUSES, FreshdeskPayload
from plugins.freshdesk.portal import PortalCalls
from plugins.freshdesk.sla import targets_of
from plugins.freshdesk.text import html
from plugins.freshdesk.webhook_validator import validator_of
from plugins.http.gather import each_bounded
from plugins.http.limits import segment
from plugins.mapping import to_id, to_micros, to_text
from plugins.marker import same_marker

EVENT_FIELD: Final = "cf_external_event"
PLAIN_FIELDS: Final = frozenset(
    {
        *("group_id", "responder_id", "source", "company_id", "due_by", "fr_due_by", "tags", "cc_emails", "email", "name", "phone"),
        *("requester_id", "unique_external_id", "parent_id", "related_ticket_ids", "internal_agent_id", "internal_group_id"),
    }
)
"""Fields of Freshdesk's own that `custom_fields` may set too; "product" is one more, by name or id."""
SINGLE_ONLY: Final = (
    "subject",
    "cc_emails",
    "email",
    "name",
    "phone",
    "requester_id",
    "unique_external_id",
    "parent_id",
    "related_ticket_ids",
)
"""Changes a bulk job does not take, or not surely."""
CONCURRENT: Final = 16
MAX_ATTACHMENT: Final = 20 << 20
"""Bytes; accounts of old and free plans take 15 MB only, and say so."""


class FreshdeskPlugin(ForumCalls, PortalCalls):
    """Freshdesk, API v2. Two custom ticket fields hold our ids: `external_id_field` (one line) and `event_field` (several lines)."""

    tool_type = "freshdesk"
    version = "1.0.0"
    search_lag = 180.0
    capabilities = frozenset({"sla", "forum", "portal", "directory"})

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        self._webhook: Mapping[str, Any] = context.settings.get("webhook") or {}
        self._validator = validator_of(self._webhook)
        self._payload = FreshdeskPayload(context.tenant, context.settings)
        self._external_id_field = str(context.settings.get("external_id_field") or EXTERNAL_ID_FIELD)
        self._event_field = str(context.settings.get("event_field") or EVENT_FIELD)
        self._own_address = ""

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        secret = self._webhook.get("secret")
        return self._validator.validate(delivery, self.context.secrets(str(secret)) if secret else ())

    def identify(self, delivery: Delivery) -> DeliveryIdentity | None:
        """The body's hash where such a body comes once only; Freshdesk gives its deliveries no ids."""
        name = self._payload.delivery_id(delivery)
        return None if name is None else DeliveryIdentity(name, signed=False)

    def ticket_key(self, delivery: Delivery) -> str | None:
        return self._payload.ticket_key(delivery)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        return self._payload.metadata(delivery)

    def is_own_actor(self, metadata: TicketMetadata) -> bool:
        """By the agent's e-mail address, without case, or id: rules and apps name people differently."""
        own = to_text(self.context.settings.get("actor")).casefold()
        return bool(own) and own in (to_text(metadata.actor).casefold(), to_text(metadata.extra.get("actor_id")))

    # reads -----------------------------------------------------------------------------------------------------------
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        return await self._read(await self._api.ticket(ticket_id))

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        """Single reads, several at a time: no call reads many by id."""
        async with contextlib.aclosing(each_bounded(dict.fromkeys(ticket_ids), self.get_ticket, CONCURRENT)) as found:
            async for ticket_id, outcome in found:
                if isinstance(outcome, ApiError):
                    yield BatchResult(ticket_id, error=outcome)
                else:
                    yield BatchResult(ticket_id, ticket=outcome)

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        """By our custom field, in an index minutes behind; the oldest, should there be several."""
        rows = await self._api.search("tickets", f"{self._external_id_field}:'{_quotable(external_id)}'")
        ours = [row for row in rows if _custom(row, self._external_id_field) == external_id and to_id(row.get("id"))]
        return self._ref(min(ours, key=lambda row: int(row["id"]))) if ours else None

    async def search_tickets(self, query: str, limit: int = 100) -> list[Json]:
        """Tickets by Freshdesk's query language (`priority:4 AND tag:'vip'`), at most 300, from an index minutes behind."""
        return await self._api.search("tickets", query, limit)

    async def tickets_changed_since(self, since: str, limit: int = 1000) -> list[Json]:
        """Tickets whose last change is not before `since` (RFC 3339), that changed longest ago first; without descriptions.

        To go on, ask again from the last one's `updated_at`: deep pages are refused, a later start is not.
        """
        params: dict[str, str | int] = {"updated_since": since, "order_by": "updated_at", "order_type": "asc"}
        return await self._api.rows(f"{API}/tickets", params, limit=limit)

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        """Read from the ticket itself, without the index; a later update of ours has taken this one's place."""
        return event_id in to_text(_custom(await self._api.ticket(ticket_id), self._event_field)).split()

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        async with contextlib.aclosing(self._api.conversations(ticket_id)) as said:
            async for comment in said:
                if same_marker(to_text(comment.get("body_text")) or to_text(comment.get("body")), marker):
                    return True
        return False

    async def sla_targets(self, ticket_id: str) -> Sequence[SlaTarget]:
        ticket = await self._api.ticket(ticket_id, include="stats")
        return targets_of(ticket, STATUSES(to_text(ticket.get("status"))))

    async def list_products(self) -> list[Json]:
        """The account's brands with their mailboxes."""
        mailboxes = await self._api.email_configs()
        return [
            {**product, "email_configs": [m for m in mailboxes if m.get("product_id") == product.get("id")]}
            for product in await self._api.products()
        ]

    # writes ----------------------------------------------------------------------------------------------------------
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        """Freshdesk wants a requester, a priority and a status: the setting's or our own agent, Low, and Open, where none is given."""
        fields = {
            "subject": _subject(ticket.subject),
            "description": html(ticket.description or ticket.subject),
            "priority": 1,
            "status": 2,
            "source": 2,
            **await self._account.words(ticket.priority, ticket.status, ticket.type),
            **await self._fields(ticket.custom_fields, ticket.event_id, {self._external_id_field: ticket.external_id}),
        }
        if "product_id" not in fields and self._account.default_product:
            fields.update(await self._brand(self._account.default_product))
        if ticket.tags:
            fields["tags"] = [*ticket.tags, *(fields.get("tags") or ())]
        if not fields.keys() & {"requester_id", "email", "phone", "unique_external_id"}:
            fields["email"] = await self._requester()
        return self._ref(await self._api.create(fields))

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        return self._ref(await self._api.update(ticket_id, await self._changes(changes)))

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """Tickets with the same change in bulk jobs of a hundred, the others one by one, several at a time; no failure stops another.

        A job sets one value on all its tickets: their event field holds the event ids of the whole job, so that each finds its own.
        """
        alike: dict[str, list[str]] = {}
        for ticket_id, change in changes.items():
            alike.setdefault(repr(_shape(change)), []).append(ticket_id)
        chunks = [ids[start : start + MAX_IDS] for ids in alike.values() for start in range(0, len(ids), MAX_IDS)]
        results: list[BatchResult] = []
        alone: list[str] = []
        for ids in chunks:
            outcome = await self._in_bulk({ticket_id: changes[ticket_id] for ticket_id in ids}) if len(ids) > 1 else None
            if outcome is None:
                alone += ids
            else:
                results += outcome

        async def one(ticket_id: str) -> TicketRef:
            return await self.update_ticket(ticket_id, changes[ticket_id])

        async for ticket_id, updated in each_bounded(alone, one, CONCURRENT):
            if isinstance(updated, ApiError):
                results.append(BatchResult(ticket_id, error=updated))
            else:
                results.append(BatchResult(ticket_id, ticket=updated))
        return results

    async def _in_bulk(self, changes: Mapping[str, TicketChanges]) -> list[BatchResult] | None:
        """One job; None when these changes must be made one by one, because a job cannot make them or the account refuses jobs."""
        first = next(iter(changes.values()))
        try:
            properties = await self._changes(first, " ".join(change.event_id for change in changes.values()))
            if properties.keys() & set(SINGLE_ONLY):
                return None
            rows = await self._api.update_many(list(changes), properties)
        except CredentialsRefused as exc:
            return [BatchResult(ticket_id, error=exc) for ticket_id in changes]
        except FatalApiError:  # nothing was done: the job itself was refused, and each ticket may still be told its own reason
            return None
        except ApiError as exc:
            return [BatchResult(ticket_id, error=exc) for ticket_id in changes]
        results = []
        for ticket_id, change in changes.items():
            results.append(await self._row(ticket_id, change, rows.get(ticket_id)))
        return results

    async def _row(self, ticket_id: str, change: TicketChanges, row: Json | None) -> BatchResult:
        """What became of one ticket of a job; one the job does not mention is read, and what cannot be told stays in doubt."""
        success = None if row is None else row.get("success", row.get("succeeded"))
        if success is True:
            return BatchResult(ticket_id, ticket=TicketRef(ticket_id=ticket_id, url=self._url(ticket_id)))
        try:
            if await self.has_update(ticket_id, change.event_id):
                return BatchResult(ticket_id, ticket=TicketRef(ticket_id=ticket_id, url=self._url(ticket_id)))
        except NotFound as exc:
            return BatchResult(ticket_id, error=exc)
        except ApiError as exc:
            return BatchResult(ticket_id, error=ConnectionLost(f"the job says nothing of ticket {ticket_id}: {exc}", in_doubt=True))
        if success is False:
            return BatchResult(ticket_id, error=ValidationRefused(f"ticket {ticket_id}: the bulk job refused the change"))
        return BatchResult(ticket_id, error=ConnectionLost(f"the job says nothing of ticket {ticket_id}", in_doubt=True))

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        """A private note; a public one is a reply, mailed from the mailbox of the ticket's brand (setting public_notes: a public note)."""
        text = html(note.text, note.marker)
        if not note.public or self.context.settings.get("public_notes") == "note":
            return id_in(await self._api.note(ticket_id, text, public=note.public), "the note")
        ticket = await self._api.ticket(ticket_id)
        sender = None
        if isinstance(product_id := ticket.get("product_id"), int):
            sender = (await self._account.brand_of(product_id, ticket.get("email_config_id"))).reply_email
        return id_in(await self._api.reply(ticket_id, text, sender), "the reply")

    # files -----------------------------------------------------------------------------------------------------------
    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        """Uploads the file with a private note, so that no customer is told of it. At most 20 MB, streamed."""
        from plugins.http.multipart import Multipart

        fields = {"body": "Attached file", "private": "true"}
        form = Multipart(fields, "attachments[]", filename, content_type, content, MAX_ATTACHMENT)
        path = f"{API}/tickets/{segment(ticket_id)}/notes"
        note = await self._api.http.request("POST", path, content=form.stream(), headers=form.headers)
        files = note.get("attachments") if isinstance(note, dict) else None
        if not isinstance(files, list) or not files or not isinstance(files[0], dict):
            raise TornAnswer("Freshdesk took a file and did not say its id", in_doubt=True)
        return id_in(files[0], "the file")

    async def list_attachments(self, ticket_id: str) -> Sequence[Attachment]:
        return [_attachment(file) for file in await self._files(ticket_id)]

    async def download_attachment(self, ticket_id: str, attachment_id: str) -> AsyncIterator[bytes]:
        """From the storage the tool names, without our key; its addresses last minutes, so each download asks anew."""
        address = next((to_text(f.get("attachment_url")) for f in await self._files(ticket_id) if to_id(f.get("id")) == attachment_id), "")
        base_url = to_text(self.context.settings.get("base_url"))
        if not address.startswith(("https://", base_url or "https://")):
            raise NotFound(f"ticket {ticket_id} has no file {attachment_id}", status=404)
        async with contextlib.aclosing(self._api.http.stream("GET", address, max_bytes=MAX_ATTACHMENT)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _files(self, ticket_id: str) -> list[Json]:
        ticket = await self._api.ticket(ticket_id)
        found = _files_of(ticket)
        async with contextlib.aclosing(self._api.conversations(ticket_id)) as said:
            async for comment in said:
                found += _files_of(comment)
        return sorted(found, key=lambda file: to_text(file.get("created_at")))

    # health ----------------------------------------------------------------------------------------------------------
    async def health_check(self) -> Health:
        """Sees through what a working key hides: a switched-off agent, Freshservice's address, custom fields that are not there."""
        try:
            me = await self._api.me()
            contact = me.get("contact")
            actor = (to_text(contact.get("email")) if isinstance(contact, dict) else "") or to_id(me.get("id"))
            if not isinstance(contact, dict) or actor is None:
                return Health(False, "the answer is no Freshdesk agent's (Freshservice wraps its own); check base_url and auth.api_key")
            if contact.get("active") is False or me.get("deactivated") is True:
                return Health(False, "the agent of auth.api_key is deactivated; its key still answers for a while", actor)
            missing = [key for key in (self._external_id_field, self._event_field) if not await self._account.has_field(key)]
        except (ApiError, PluginConfigError) as exc:
            return Health(False, str(exc))
        if missing:
            return Health(False, f"the account has no custom ticket field {' and no '.join(missing)}: every write would be refused", actor)
        if me.get("ticket_scope") not in (1, None):
            return Health(True, "the agent sees only tickets of its groups or its own: the others will be not found", actor)
        return Health(True, actor=actor)

    # parts -----------------------------------------------------------------------------------------------------------
    async def _read(self, ticket: Json) -> TicketMetadata:
        try:
            return self._payload.ticket(ticket, await self._account.status_label(ticket.get("status")))
        except NotADelivery as exc:
            raise TornAnswer(f"Freshdesk: {exc}") from None

    async def _changes(self, changes: TicketChanges, event_ids: str | None = None) -> Json:
        fields = await self._account.words(changes.priority, changes.status, changes.type)
        if changes.subject is not None:
            fields["subject"] = _subject(changes.subject)
        return {**fields, **await self._fields(changes.custom_fields, event_ids or changes.event_id, {})}

    async def _fields(self, given: Mapping[str, Any], event_ids: str, ours: Mapping[str, str]) -> Json:
        """Fields by key, name, label or id; "product" is the brand, with its mailbox. Null clears a field, so nothing is left out."""
        fields: Json = {}
        custom: Json = {}
        for name, value in given.items():
            if name in ("product", "product_id"):
                fields.update(await self._brand(value))
            elif name in PLAIN_FIELDS:
                fields[name] = value
            else:
                custom[await self._account.field_key(name)] = value
        return {**fields, "custom_fields": {**custom, **ours, self._event_field: event_ids}}

    async def _brand(self, name: Any) -> Json:
        """A brand's product and mailbox together: a product alone would leave the ticket's mail with another brand."""
        brand = await self._account.brand(name)
        found = {"product_id": brand.product_id, "email_config_id": brand.email_config_id}
        return {key: value for key, value in found.items() if value is not None or key == "product_id"}

    async def _requester(self) -> str:
        """Whom tickets are opened for: the setting, else our own agent, asked for where `actor` is not its address."""
        if requester := to_text(self.context.settings.get("requester")):
            return requester
        if "@" in (actor := to_text(self.context.settings.get("actor"))):
            return actor
        if not self._own_address:
            contact = (await self._api.me()).get("contact")
            self._own_address = to_text(contact.get("email")) if isinstance(contact, dict) else ""
        if not self._own_address:
            raise PluginConfigError("the agent of auth.api_key has no e-mail address; set requester, for whom tickets are opened")
        return self._own_address

    def _url(self, ticket_id: str) -> str:
        return f"{to_text(self.context.settings.get('base_url')).rstrip('/').removesuffix(API)}/a/tickets/{ticket_id}"

    def _ref(self, ticket: Json) -> TicketRef:
        ticket_id = id_in(ticket, "the ticket")
        return TicketRef(ticket_id=ticket_id, url=self._url(ticket_id), updated_at=to_micros(ticket.get("updated_at")))


def _shape(change: TicketChanges) -> tuple[Any, ...]:
    """A change without its event: equal shapes go into one job."""
    return change.subject, change.priority, change.status, change.type, sorted(change.custom_fields.items(), key=lambda item: item[0])


def _custom(ticket: Mapping[str, Any], key: str) -> Any:
    fields = ticket.get("custom_fields")
    return fields.get(key) if isinstance(fields, dict) else None


def _quotable(value: str) -> str:
    """A value of a query; its language has no escapes."""
    if "'" in value or '"' in value:
        raise ValidationRefused("a query's value cannot hold quotes")
    return value


def _subject(subject: str) -> str:
    return " ".join(subject.split())[:255] or "(no subject)"


def _files_of(holder: Mapping[str, Any]) -> list[Json]:
    files = holder.get("attachments")
    return [file for file in files if isinstance(file, dict) and to_id(file.get("id"))] if isinstance(files, list) else []


def _attachment(file: Json) -> Attachment:
    size = file.get("size")
    return Attachment(
        attachment_id=to_text(file.get("id")),
        filename=to_text(file.get("name")),
        content_type=to_text(file.get("content_type")) or "application/octet-stream",
        size=size if type(size) is int else None,
    )
