"""The Freshservice plugin: tickets, problems, changes and releases, the assets they are about, and their service levels."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

from plugins.api import (
    ApiError,
    Attachment,
    BatchResult,
    CredentialsRefused,
    Delivery,
    DeliveryIdentity,
    DeviceContext,
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
    TicketType,
    TornAnswer,
    ValidationRefused,
    Verified,
)
from plugins.freshservice.api_client import FreshserviceClient, freshservice_error
from plugins.freshservice.context import approval_of, clocks_of, dicts, item_of, linked_in, person_of
from plugins.freshservice.payload import FreshservicePayload
from plugins.freshservice.records import CHANGE, PROBLEM, RECORDS, RELEASE, TICKET, Record, located
from plugins.freshservice.webhook_validator import validator_of
from plugins.freshservice.writing import Writing, reference_to
from plugins.mapping import to_id, to_micros, to_text
from plugins.marker import same_marker
from plugins.richtext import from_markdown, to_html, with_marker

if TYPE_CHECKING:
    import httpx

    from plugins.name_cache import NameCache

Json = dict[str, Any]

MAX_FILE: Final = 40 << 20
"""What Freshservice takes as attachments of one record, all together."""
MANY_AT_ONCE: Final = 8
"""Calls at a time where the tool has no bulk endpoint: the limit is a hundred a minute and up, shared by the whole account."""
LOOK_BACK_PAGES: Final = 10
"""How far the lists of problems, changes and releases, which cannot be searched for our id, are read back: a thousand records."""


class FreshservicePlugin(TicketingToolPlugin):
    """Freshservice, API v2. A ticket_id is a number, or PRB-, CHN- or REL- and a number for a problem, a change or a release.

    An effect happens once by two marks: a ticket carries our id as a tag, which the tool can search for, another record at the end of
    its description; every record carries the event of our last update in the custom field `event_field`.
    """

    tool_type = "freshservice"
    version = "1.0.0"
    capabilities = frozenset({"assets", "problems", "changes", "releases", "sla", "directory", "approvals"})
    search_lag = 300.0

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        settings = context.settings
        webhook = settings.get("webhook") or {}
        self._secret_reference = str(webhook.get("secret") or "")
        self._validator = validator_of(webhook)
        self._payload = FreshservicePayload(context.tenant, settings)
        self._workspace = _workspace(settings.get("workspace_id"))
        self._writing = Writing(settings, self._workspace)
        self._base_url = str(settings.get("base_url") or "").rstrip("/")
        self._requesters: dict[str, Json] = {}

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        live = self.context.secrets(self._secret_reference) if self._secret_reference else ()
        return self._validator.validate(delivery, live)

    def identify(self, delivery: Delivery) -> DeliveryIdentity | None:
        """The tool names no delivery; one whose body tells the record's last change is known by its bytes, which a retry repeats."""
        found = self._payload.delivery_id(delivery)
        return None if found is None else DeliveryIdentity(found, signed=False)

    def ticket_key(self, delivery: Delivery) -> str | None:
        return self._payload.ticket_key(delivery)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        return self._payload.metadata(delivery)

    def is_own_actor(self, metadata: TicketMetadata) -> bool:
        """Our agent by e-mail address or id, whichever `actor` holds and the template sends."""
        own = str(self.context.settings.get("actor") or "").casefold()
        return bool(own) and any(own == str(name).casefold() for name in (metadata.actor, metadata.extra.get("actor_id")) if name)

    # calls -----------------------------------------------------------------------------------------------------------
    @cached_property
    def _api(self) -> FreshserviceClient:
        http = self.context.http().bound(base_url=self._base_url, auth=self._auth(), error_for=freshservice_error)
        return FreshserviceClient(http, self._workspace)

    def _auth(self) -> httpx.Auth:
        from plugins.http.auth import BasicAuth, RefreshToken  # with the first call, not with the plugin: the door only reads

        auth = {name: str(value) for name, value in (self.context.settings.get("auth") or {}).items()}
        if auth.get("api_key"):
            return BasicAuth(lambda: self.context.secret(auth["api_key"]), "X")
        if auth.get("refresh_token") and auth.get("token_url") and auth.get("client_id"):
            client_secret, refresh_token = auth.get("client_secret"), auth["refresh_token"]
            return RefreshToken(
                auth["token_url"],
                auth["client_id"],
                (lambda: self.context.secret(client_secret)) if client_secret else "",
                lambda: self.context.secret(refresh_token),
            )
        raise PluginConfigError("auth of a freshservice tool needs api_key, or token_url, client_id, client_secret and refresh_token")

    # reads -----------------------------------------------------------------------------------------------------------
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        """Tags are not in an answer unless asked for."""
        record, number = located(ticket_id)
        return self._read(record, await self._api.record(record, number, "tags" if record is TICKET else ""))

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        """A few at a time, as they come: the tool has no call for many."""
        from plugins.http.gather import each_bounded

        async with aclosing(each_bounded(dict.fromkeys(ticket_ids), self.get_ticket, MANY_AT_ONCE)) as results:
            async for ticket_id, found in results:
                yield BatchResult(ticket_id, error=found) if isinstance(found, ApiError) else BatchResult(ticket_id, ticket=found)

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        """A ticket by its tag, the oldest should there be several; else a recent problem, change or release by its description."""
        if not re.fullmatch(r"[\w.:-]{1,200}", external_id):
            raise ValidationRefused("an external id with quotes or spaces cannot be searched for")
        found: dict[int, Mapping[str, Any]] = {}
        async with aclosing(self._api.search_tickets(f"tag:'{external_id}'")) as tickets:
            async for ticket in tickets:
                number = to_id(ticket.get("id"))
                tags = ticket.get("tags")
                if number and number.isdecimal() and (not isinstance(tags, list) or external_id in tags):
                    found[int(number)] = ticket
        if found:
            return self._ref(TICKET, found[min(found)])
        for record in (CHANGE, PROBLEM, RELEASE):
            if (ref := await self._recent(record, external_id)) is not None:
                return ref
        return None

    async def _recent(self, record: Record, external_id: str) -> TicketRef | None:
        try:
            async for document in self._api.newest(record, LOOK_BACK_PAGES):
                if reference_to(external_id) in (to_text(document.get("description_text")) or to_text(document.get("description"))):
                    return self._ref(record, document)
        except (CredentialsRefused, NotFound):
            return None  # the account's plan, or our agent's role, has no such records: then none of them is ours
        return None

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        """Whether this was the last of our updates: the field holds one."""
        record, number = located(ticket_id)
        return _custom(await self._api.record(record, number), self._writing.event_field) == event_id

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        async for note in self._api.notes(*located(ticket_id)):
            if same_marker(to_text(note.get("body_text")) or to_text(note.get("body")), marker):
                return True
        return False

    # writes ----------------------------------------------------------------------------------------------------------
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        """A problem or a change for these types, else a ticket; what the tool insists on and nobody gave is filled in."""
        record = {TicketType.PROBLEM: PROBLEM, TicketType.CHANGE: CHANGE}.get(ticket.type, TICKET)
        return await self._create(record, ticket)

    async def create_release(self, subject: str, description: str, external_id: str, event_id: str) -> TicketRef:
        """A release; no canonical type stands for one."""
        return await self._create(RELEASE, NewTicket(subject=subject, description=description, external_id=external_id, event_id=event_id))

    async def _create(self, record: Record, ticket: NewTicket) -> TicketRef:
        description = to_html(from_markdown(ticket.description or ticket.subject))
        fields = await self._writing.new(record, ticket, description, await self._requester(record), self._field_name)
        return self._ref(record, await self._api.create(record, fields))

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        """Sets the fields and the event in one call. A record stays of its kind: a ticket asked to be a change keeps its type."""
        record, number = located(ticket_id)
        fields = await self._writing.changed(record, changes, self._field_name)
        bypass = self.context.settings.get("bypass_mandatory") is True
        return self._ref(record, await self._api.update(record, number, fields, bypass_mandatory=bypass))

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """A few at a time: API v2 has no bulk update."""
        from plugins.http.gather import each_bounded

        results: list[BatchResult] = []

        async def update(ticket_id: str) -> TicketRef:
            return await self.update_ticket(ticket_id, changes[ticket_id])

        async with aclosing(each_bounded(changes, update, MANY_AT_ONCE)) as done:
            async for ticket_id, found in done:
                results.append(BatchResult(ticket_id, error=found) if isinstance(found, ApiError) else BatchResult(ticket_id, ticket=found))
        return results

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        """A ticket's note says each time who may read it; those of other records are for agents only."""
        record, number = located(ticket_id)
        document = from_markdown(note.text)
        if not same_marker(note.text, note.marker):
            document = with_marker(document, note.marker)
        fields: Json = {"body": to_html(document)}
        if record is TICKET:
            fields["private"] = not note.public
        note_id = to_id((await self._api.add_note(record, number, fields)).get("id"))
        if note_id is None:
            raise TornAnswer("Freshservice took a note and did not say its id", in_doubt=True)
        return note_id

    # files -----------------------------------------------------------------------------------------------------------
    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        """Uploads the file, with an internal note to a ticket, whose requester would see it on the ticket itself. At most 40 MB."""
        from plugins.http.multipart import Multipart

        record, number = located(ticket_id)
        fields: Json = {"body": "Attached file", "private": "true"} if record is TICKET else {}
        holder = await self._api.add_file(record, number, Multipart(fields, "attachments[]", filename, content_type, content, MAX_FILE))
        for attachment in reversed(_attachments(holder)):
            return str(attachment["id"])
        raise TornAnswer("Freshservice took a file and did not say its id", in_doubt=True)

    async def list_attachments(self, ticket_id: str) -> Sequence[Attachment]:
        found = [attachment async for attachment in self._files(ticket_id)]
        found.sort(key=lambda attachment: to_micros(attachment.get("created_at")) or 0)
        return [
            Attachment(
                attachment_id=str(attachment["id"]),
                filename=to_text(attachment.get("name")),
                content_type=to_text(attachment.get("content_type")) or "application/octet-stream",
                size=size if isinstance(size := attachment.get("size"), int) else None,
            )
            for attachment in found
        ]

    async def download_attachment(self, ticket_id: str, attachment_id: str) -> AsyncIterator[bytes]:
        """The list is read first: an attachment's address is signed anew each time, and good for minutes only."""
        async for attachment in self._files(ticket_id):
            if str(attachment["id"]) == attachment_id and (url := to_text(attachment.get("attachment_url"))).startswith("http"):
                async with aclosing(self._api.download(url, MAX_FILE)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
        raise NotFound(f"ticket {ticket_id} has no attachment {attachment_id[:40]}", status=404)

    async def _files(self, ticket_id: str) -> AsyncIterator[Mapping[str, Any]]:
        record, number = located(ticket_id)
        for attachment in _attachments(await self._api.record(record, number)):
            yield attachment
        async for note in self._api.notes(record, number):
            for attachment in _attachments(note):
                yield attachment

    # beyond tickets --------------------------------------------------------------------------------------------------
    async def device_context(self, ticket: TicketMetadata) -> DeviceContext | None:
        """The assets linked with the record, each with the fields of its type, and the services a change says it touches."""
        from plugins.http.gather import each_bounded

        record, number = located(ticket.ticket_id)
        linked, services = linked_in(await self._api.record(record, number, "assets" if record is TICKET else ""))
        if not linked and not services:
            return None
        items = {}
        async with aclosing(each_bounded(linked, self._api.asset, MANY_AT_ONCE)) as assets:
            async for asset_id, asset in assets:
                if isinstance(asset, ApiError) and not isinstance(asset, (NotFound, CredentialsRefused)):
                    raise asset
                items[asset_id] = item_of(asset_id, linked[asset_id] if isinstance(asset, ApiError) else asset, self._base_url)
        return DeviceContext(items=tuple(items[asset_id] for asset_id in linked), services=services)

    async def sla_targets(self, ticket_id: str) -> Sequence[SlaTarget]:
        """First response and resolution of a ticket; a problem's due time. Whether a clock stands still is told by the status alone."""
        record, number = located(ticket_id)
        document = await self._api.record(record, number, "stats" if record is TICKET else "")
        return clocks_of(document, pending=self._read(record, document).status is TicketStatus.PENDING)

    async def approvals(self, ticket_id: str) -> Sequence[Mapping[str, str]]:
        """Who was asked to approve a ticket, and what they said: {approval_id, approver, status, …}; of a change its status alone."""
        record, number = located(ticket_id)
        if record is TICKET:
            return [approval_of(approval) async for approval in self._api.approvals(number)]
        status = self._read(record, await self._api.record(record, number)).extra.get("approval_status")
        return [{"status": str(status)}] if status is not None else []

    async def find_people(self, text: str) -> Sequence[Person]:
        """Agents and requesters by e-mail address, requesters also by name; the tool's answer counts once for each person."""
        text = text.strip()[:200]
        if not text:
            return []
        if "@" in text:
            found = [*await self._api.people("agents", {"email": text}), *await self._api.people("requesters", {"email": text})]
        else:
            found = await self._api.people("requesters", {"query": f"\"name:'{text.translate(_NO_QUOTES)}'\""})
        people = {str(person["id"]): person_of(person) for person in found if to_id(person.get("id"))}
        return list(people.values())[:50]

    async def health_check(self) -> Health:
        """Sees through an address that answers a login page, a key of an agent who was switched off, and a workspace out of reach."""
        try:
            try:
                agent = await self._api.me()
            except (NotFound, CredentialsRefused) as exc:
                if exc.status == 401:
                    raise
                await self._api.tries_tickets()  # a role that may not look at itself may still work
                return Health(True, "Freshservice does not tell whose key this is: set actor by hand")
            actor = to_id(agent.get("email")) or to_id(agent.get("id"))
            if actor is None:
                return Health(False, "Freshservice does not say whose key this is; use an agent's api_key")
            if agent.get("active") is False:
                return Health(False, "the agent of auth.api_key is deactivated; use another agent's key", actor)
            return await self._in_workspace(actor)
        except (ApiError, PluginConfigError) as exc:
            return Health(False, str(exc))

    async def _in_workspace(self, actor: str) -> Health:
        if self._workspace is not None:
            try:
                await self._api.workspace(self._workspace)
            except (NotFound, CredentialsRefused):
                return Health(False, f"our agent cannot see workspace {self._workspace}; check workspace_id and the agent's role", actor)
        return Health(True, actor=actor)

    # helpers ---------------------------------------------------------------------------------------------------------
    async def _requester(self, record: Record) -> Json:
        """Whom a record is opened for: the setting `requester`, else our own agent. Problems and changes want an id, releases nobody."""
        if record is RELEASE:
            return {}
        wanted = str(self.context.settings.get("requester") or "")
        if record is TICKET and wanted:
            return {"email": wanted}
        if wanted not in self._requesters:
            self._requesters[wanted] = {"requester_id": await self._person_id(wanted)}
        return self._requesters[wanted]

    async def _person_id(self, email: str) -> int:
        """The id behind an address; our own agent's for none."""
        if email:
            found = await self._api.people("requesters", {"email": email}) or await self._api.people("agents", {"email": email})
        else:
            found = [await self._api.me()]
        number = next((person.get("id") for person in found), None)
        if not isinstance(number, int):
            raise PluginConfigError(
                "set requester: Freshservice opens nothing without somebody it is for, and knows nobody by this address"
            )
        return number

    async def _field_name(self, record: Record, name: str) -> str:
        return await self._field_names[record.name].get(name)

    @cached_property
    def _field_names(self) -> Mapping[str, NameCache[str]]:
        from plugins.name_cache import NameCache

        return {record.name: NameCache(f"{record.name} field", partial(self._form, record)) for record in RECORDS.values()}

    async def _form(self, record: Record) -> Mapping[str, str]:
        """API names of a form's fields, by label and by id."""
        names: dict[str, str] = {}
        try:
            fields = await self._api.form_fields(record)
        except (NotFound, CredentialsRefused):
            raise ValidationRefused(
                f"Freshservice does not list a {record.name}'s fields to us: name custom fields by their API names"
            ) from None
        for field in fields:
            names |= {to_text(field.get(key)): to_text(field.get("name")) for key in ("label", "id") if field.get(key)}
        return names

    def _read(self, record: Record, document: Mapping[str, Any]) -> TicketMetadata:
        try:
            return self._payload.record(record, document)
        except NotADelivery as exc:
            raise TornAnswer(f"Freshservice: {exc}") from None

    def _ref(self, record: Record, document: Mapping[str, Any]) -> TicketRef:
        number = to_id(document.get("id"))
        if number is None:
            raise TornAnswer(f"Freshservice answered a {record.name} without its id", in_doubt=True)
        url = f"{self._base_url}/a/{record.plural}/{number}"
        return TicketRef(ticket_id=record.id_of(number), url=url, updated_at=to_micros(document.get("updated_at")))


_NO_QUOTES = str.maketrans({"'": " ", '"': " ", "\\": " "})


def _custom(document: Mapping[str, Any], name: str) -> str | None:
    custom = document.get("custom_fields")
    return to_id(custom.get(name)) if isinstance(custom, dict) else None


def _attachments(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [attachment for attachment in dicts(document.get("attachments")) if to_id(attachment.get("id"))]


def _workspace(value: Any) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not str(value).isdecimal():
        raise PluginConfigError("workspace_id must be a workspace's number; leave it out for an account without workspaces")
    return int(value)
