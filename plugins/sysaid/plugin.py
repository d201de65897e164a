"""SysAid: service records of every type in and out, people from the directory, assets through their life."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from plugins.api import (
    ApiError,
    Attachment,
    BatchResult,
    ConfigurationItem,
    Delivery,
    DeliveryIdentity,
    DeviceContext,
    FatalApiError,
    Health,
    NewNote,
    NewTicket,
    NotADelivery,
    NotFound,
    Person,
    PluginConfigError,
    PluginContext,
    SlaTarget,
    TicketChanges,
    TicketingToolPlugin,
    TicketMetadata,
    TicketRef,
    TicketStatus,
    TornAnswer,
    ValidationRefused,
    Verified,
)
from plugins.mapping import to_id, to_micros, to_text
from plugins.marker import same_marker
from plugins.richtext import from_markdown, to_html, to_plain, with_marker
from plugins.sysaid.codes import KINDS, AccountCodes
from plugins.sysaid.notes import Notebook
from plugins.sysaid.payload import SysAidPayload, attachment_of, fold, person_of
from plugins.sysaid.webhook_validator import validator_of

if TYPE_CHECKING:
    from plugins.sysaid.api_client import SysAidClient
    from plugins.sysaid.asset_desk import AssetDesk
    from plugins.sysaid.directory import Directory

Json = dict[str, Any]

READ_FIELDS: Final = (
    "title", "description", "status", "priority", "sr_type", "request_user", "responsibility", "submit_user", "insert_time",
    "update_time", "close_time", "due_date", "computer_id", "company", "department", "location", "agreement", "sr_version",
)  # fmt: skip
MAX_ATTACHMENT: Final = 50 << 20
AT_ONCE: Final = 12


class SysAidPlugin(TicketingToolPlugin):
    """One tenant's SysAid. Two custom text fields hold our ids: `external_id_field` and `event_field`."""

    tool_type: ClassVar[str] = "sysaid"
    version: ClassVar[str] = "1.0.0"
    search_lag: ClassVar[float] = 120.0
    capabilities: ClassVar[frozenset[str]] = frozenset({"assets", "changes", "problems", "directory", "sla"})

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._webhook: Mapping[str, Any] = settings.get("webhook") or {}
        self._validator = validator_of(self._webhook)
        self._payload = SysAidPayload(context.tenant, settings)
        self._external_id_key = str(settings.get("external_id_field") or "cust_text1")
        self._event_key = str(settings.get("event_field") or "cust_text2")
        self._codes = AccountCodes(settings, self._payload.statuses, lambda: self._api)

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        secret = self._webhook.get("secret")
        return self._validator.validate(delivery, self.context.secrets(str(secret)) if secret else ())

    def identify(self, delivery: Delivery) -> DeliveryIdentity | None:
        """A record's version names what happened to it; only a signature over the body (scheme hmac) covers it."""
        version = self._payload.version(delivery)
        return DeliveryIdentity(version, signed=self._webhook.get("scheme") == "hmac") if version else None

    def ticket_key(self, delivery: Delivery) -> str | None:
        return self._payload.ticket_key(delivery)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        return self._payload.metadata(delivery)

    # reads -----------------------------------------------------------------------------------------------------------
    @cached_property
    def _api(self) -> SysAidClient:
        from plugins.sysaid.api_client import SysAidClient  # the doors verify and read only: they never load the HTTP client

        return SysAidClient.of(self.context)

    @cached_property
    def _notebook(self) -> Notebook:
        return Notebook(self._api)

    @property
    def _fields(self) -> tuple[str, ...]:
        """What a record is read with: only fields asked for are in the answer."""
        return tuple(dict.fromkeys((*READ_FIELDS, self._external_id_key, self._event_key, *self._codes.custom_keys)))

    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        """The record; with `directory.enrich` its requester's address and department too, in extra."""
        ticket = self._metadata(await self._api.record(ticket_id, self._fields))
        if (self.context.settings.get("directory") or {}).get("enrich") is True and (person := await self.requester_of(ticket)):
            told = {"requester_email": person.email, "requester_department": person.attributes.get("department")}
            return replace(ticket, extra={**ticket.extra, **{name: value for name, value in told.items() if value}})
        return ticket

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        """By hundreds; whatever the answer leaves out is NotFound."""
        from plugins.sysaid.api_client import MAX_IDS

        asked = [ticket_id for ticket_id in dict.fromkeys(ticket_ids) if ticket_id.isascii() and ticket_id.isdigit()]
        for ticket_id in dict.fromkeys(ticket_ids):
            if ticket_id not in asked:
                yield BatchResult(ticket_id, error=NotFound(f"service record ids are numbers; this is none: {ticket_id[:40]!r}"))
        for start in range(0, len(asked), MAX_IDS):
            chunk = asked[start : start + MAX_IDS]
            try:
                found = {to_id(row.get("id")): row async for row in self._api.records(self._fields, ids=",".join(chunk))}
            except ApiError as exc:
                for ticket_id in chunk:
                    yield BatchResult(ticket_id, error=exc)
                continue
            for ticket_id in chunk:
                if ticket_id in found:
                    yield BatchResult(ticket_id, ticket=self._metadata(found[ticket_id]))
                else:
                    yield BatchResult(
                        ticket_id, error=NotFound(f"service record {ticket_id} is gone, or hidden from our account", status=404)
                    )

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        """The oldest with our id in its field, by a filter on the field; where an account does not filter by it, by free text.

        Each row is compared: a filter the account does not know is answered with every record.
        """
        fields = (self._external_id_key, "update_time")
        async with aclosing(self._api.records(fields, **{self._external_id_key: external_id})) as rows:
            first = await anext(rows, None)  # where the filter was not applied, the rest of the list would be the whole desk
        if first is not None and self._value(first, self._external_id_key) == external_id:
            return self._ref(first)
        found = [row async for row in self._api.searched(external_id, fields) if self._value(row, self._external_id_key) == external_id]
        return self._ref(min(found, key=lambda row: int(to_id(row.get("id")) or 0))) if found else None

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        return bool(self._value(await self._api.record(ticket_id, (self._event_key,)), self._event_key) == event_id)

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        return any(same_marker(to_text(note.get("text")), marker) for note in await self._notebook.read(ticket_id))

    async def list_notes(self, ticket_id: str) -> list[Json]:
        """The record's notes as {text, author, created_at}; times in epoch microseconds."""
        return [
            {"text": to_text(n.get("text")), "author": to_text(n.get("userName")), "created_at": to_micros(n.get("createDate"))}
            for n in await self._notebook.read(ticket_id)
        ]

    async def health_check(self) -> Health:
        """A read with the session there is; logs in only when there is none, since logins are few."""
        try:
            await self._api.probe()
        except (ApiError, PluginConfigError) as exc:
            return Health(False, str(exc))
        return Health(True, actor=getattr(self._api.entrance, "user", None) or to_id(self.context.settings.get("actor")))

    # writes ----------------------------------------------------------------------------------------------------------
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        """Makes a record of the ticket's type (an incident without one); new and open are left to the account's own template."""
        info: Json = {
            "title": ticket.subject,
            "description": self._text(ticket.description or ticket.subject),
            self._external_id_key: ticket.external_id,
            self._event_key: ticket.event_id,
        }
        if code := self._codes.priority(ticket.priority):
            info["priority"] = code
        if ticket.status not in (TicketStatus.UNKNOWN, TicketStatus.NEW, TicketStatus.OPEN):
            info["status"] = await self._codes.status(ticket.status)
        if requester := self.context.settings.get("requester"):
            info["request_user"] = str(requester)
        kind = KINDS.get(ticket.type, "incident")
        info.update(await self._codes.custom(ticket.custom_fields, kind))
        template = self.context.settings.get("template")
        record = await self._api.create(kind, info, self._fields, str(template) if template else None)
        self._see_kept(record, self._external_id_key, ticket.external_id)
        return self._ref(record)

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        """Sets the fields with our event's id in one act, then reads the record again: a field the account does not have is dropped
        by the tool without a word."""
        info: Json = {self._event_key: changes.event_id}
        if changes.subject is not None:
            info["title"] = changes.subject
        if code := self._codes.priority(changes.priority):
            info["priority"] = code
        if type_code := self._codes.type(changes.type):
            info["sr_type"] = type_code
        if changes.status not in (None, TicketStatus.UNKNOWN):
            info["status"] = await self._codes.status(changes.status)
        info.update(await self._codes.custom(changes.custom_fields, "incident"))
        await self._api.write(ticket_id, info)
        record = await self._api.record(ticket_id, (*self._fields, *info))
        self._see_kept(record, self._event_key, changes.event_id)
        return self._ref(record)

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """SysAid has no bulk update: several at a time, each judged by itself."""
        from plugins.http.gather import each_bounded

        async def apply(ticket_id: str) -> TicketRef:
            return await self.update_ticket(ticket_id, changes[ticket_id])

        return [
            BatchResult(ticket_id, error=outcome) if isinstance(outcome, ApiError) else BatchResult(ticket_id, ticket=outcome)
            async for ticket_id, outcome in each_bounded(changes, apply, AT_ONCE)
        ]

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        """Adds an internal note. A public one is mailed to the requester from the record first, then kept as a note.

        A note's id is its time: SysAid's notes have no other.
        """
        document = from_markdown(note.text)
        text = self._said(document if same_marker(note.text, note.marker) else with_marker(document, note.marker))
        author = to_text(self.context.settings.get("actor")) or to_text((self.context.settings.get("auth") or {}).get("user_name"))
        if note.public:
            await self._mail(ticket_id, text)
        written: Json = {"userName": author or "ai-agents", "createDate": time.time_ns() // 1_000_000, "text": text}
        await self._notebook.add(ticket_id, written)
        return str(written["createDate"])

    async def add_activity(self, ticket_id: str, text: str, minutes: int = 0) -> None:
        """Logs work that ends now on a record, in the name of `activity_user` (a numeric user id)."""
        user = to_id(self.context.settings.get("activity_user"))
        if user is None:
            raise PluginConfigError("activity_user is not set; give the numeric id of the user who logs work")
        now = time.time_ns() // 1_000_000
        await self._api.activity(ticket_id, user, now - 60_000 * max(0, int(minutes)), now, text)

    # files -----------------------------------------------------------------------------------------------------------
    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        """Streams the file up, 50 MB at most; its id is found again on the record where the answer does not tell it."""
        from plugins.http.multipart import Multipart

        before = {file.attachment_id for file in await self.list_attachments(ticket_id)}  # and a live session: a stream goes out once
        form = Multipart({}, "file", filename, content_type, content, MAX_ATTACHMENT)
        answer = await self._api.attach(ticket_id, form.stream(), form.headers)
        told = answer if isinstance(answer, dict) else {}
        if file_id := to_id(told.get("fileId")) or to_id(told.get("id")):
            return file_id
        new = [file.attachment_id for file in await self.list_attachments(ticket_id) if file.attachment_id not in before]
        if not new:
            raise TornAnswer("SysAid took a file and does not list it", in_doubt=True)
        return new[-1]

    async def list_attachments(self, ticket_id: str) -> Sequence[Attachment]:
        values, _ = fold(await self._api.record(ticket_id, ("attachments",)))
        found = values.get("attachments")
        return [file for row in (found if isinstance(found, list) else ()) if (file := attachment_of(row)) is not None]

    def download_attachment(self, ticket_id: str, attachment_id: str) -> AsyncIterator[bytes]:
        return self._api.download(ticket_id, attachment_id, MAX_ATTACHMENT)

    # capability sla --------------------------------------------------------------------------------------------------
    async def sla_targets(self, ticket_id: str) -> Sequence[SlaTarget]:
        """The one clock SysAid shows: the due date its service level agreement set."""
        values, captions = fold(await self._api.record(ticket_id, ("due_date", "close_time", "agreement")))
        due_at, closed_at = to_micros(values.get("due_date")), to_micros(values.get("close_time"))
        if due_at is None:
            return ()
        end = closed_at if closed_at is not None else time.time_ns() // 1000
        return (SlaTarget(name=captions.get("agreement") or "due date", due_at=due_at, completed_at=closed_at, breached=end > due_at),)

    # capability directory --------------------------------------------------------------------------------------------
    @cached_property
    def _directory(self) -> Directory | None:
        settings = self.context.settings.get("directory")
        if not settings or not settings.get("url"):
            return None
        from plugins.sysaid.directory import Directory

        return Directory(settings, lambda reference: _newest(self.context, reference))

    async def find_people(self, text: str) -> Sequence[Person]:
        """From the directory where one is set, else from SysAid's own users; at most 50."""
        if self._directory is not None:
            return await self._directory.find(text)
        if len(text.strip()) < 2:
            return []
        return [person for row in await self._api.users(text.strip(), 50) if (person := person_of(row)) is not None][:50]

    async def requester_of(self, ticket: TicketMetadata) -> Person | None:
        """Who asked, by the ticket's requester (an address, or a user's id in SysAid), as the directory knows them."""
        requester = ticket.requester
        if not requester:
            return None
        if "@" not in requester and requester.isdigit():
            try:
                user = person_of(await self._api.user(requester))
            except NotFound:
                return None
            if user is None or self._directory is None:
                return user
            requester = user.email or user.attributes.get("account") or user.name
            return await self._directory.one(requester) or user
        return await self._directory.one(requester) if self._directory is not None else None

    # capability assets -----------------------------------------------------------------------------------------------
    @cached_property
    def _assets(self) -> AssetDesk:
        from plugins.sysaid.asset_desk import AssetDesk

        return AssetDesk(self.context.settings, self._api)

    async def device_context(self, ticket: TicketMetadata) -> DeviceContext | None:
        """The record's main asset with its relations, and its requester's address and department where a directory is set."""
        asset_id = to_id((ticket.device or {}).get("asset_id"))
        if asset_id is None or (item := await self._assets.shown(asset_id)) is None:
            return None
        if self._directory is not None and (person := await self.requester_of(ticket)):
            told = {"requester_email": person.email or "", "requester_department": person.attributes.get("department", "")}
            item = replace(item, attributes={**item.attributes, **{name: value for name, value in told.items() if value}})
        return DeviceContext(items=(item,))

    async def list_assets(self, text: str = "") -> Sequence[ConfigurationItem]:
        """Assets whose fields hold the text, or all of them; at most 500."""
        return await self._assets.listed(text)

    async def move_asset(self, asset_id: str, state: str) -> ConfigurationItem:
        """Moves an asset to another state of its life; raises ValidationRefused for a move that is not legal, or that SysAid drops."""
        return await self._assets.move(asset_id, state)

    # how ---------------------------------------------------------------------------------------------------------------
    async def _mail(self, ticket_id: str, text: str) -> None:
        values, _ = fold(await self._api.record(ticket_id, ("request_user", "title")))
        to_user, sender = to_id(values.get("request_user")), to_id(self.context.settings.get("activity_user"))
        if to_user is None:
            raise ValidationRefused(f"service record {ticket_id} has no request_user to tell")
        await self._api.message(ticket_id, sender or "", to_user, f"#{ticket_id}: {to_text(values.get('title'))}", text)

    def _text(self, markdown: str) -> str:
        return self._said(from_markdown(markdown))

    def _said(self, document: Any) -> str:
        return to_html(document) if self.context.settings.get("text_format") == "html" else to_plain(document)

    def _see_kept(self, record: Mapping[str, Any], key: str, wanted: str) -> None:
        values, _ = fold(record)
        if key in values and to_text(values[key]) != wanted:
            raise FatalApiError(f"SysAid did not keep {key}; it must be a text field of our own that our account may write", in_doubt=True)

    def _value(self, record: Mapping[str, Any], key: str) -> str:
        return to_text(fold(record)[0].get(key))

    def _metadata(self, record: Mapping[str, Any]) -> TicketMetadata:
        try:
            return self._payload.record(record)
        except NotADelivery as exc:
            raise TornAnswer(f"SysAid: {exc}") from None

    def _ref(self, record: Mapping[str, Any]) -> TicketRef:
        ticket_id = to_id(record.get("id"))
        if ticket_id is None:
            raise TornAnswer("SysAid answered a record without its id", in_doubt=True)
        ticket = self._metadata(record)
        return TicketRef(ticket_id=ticket_id, url=ticket.url, updated_at=ticket.updated_at)


def _newest(context: PluginContext, reference: str) -> str:
    live = context.secrets(reference)
    if not live:
        raise PluginConfigError("directory.bind_password names a secret that is not set; set it with: ai-agents secret set")
    return live[0].decode("utf-8", "replace")
