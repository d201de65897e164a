"""TOPdesk: action sequences' deliveries in, REST out; incidents of both lines and operator changes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from plugins.api import (
    ApiError,
    Attachment,
    BatchResult,
    CredentialsRefused,
    Delivery,
    DeviceContext,
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
    TicketStatus,
    TicketType,
    TornAnswer,
    ValidationRefused,
    Verified,
)
from plugins.mapping import to_id, to_micros
from plugins.marker import same_marker
from plugins.richtext import from_markdown, to_plain, with_marker
from plugins.topdesk.memo import find_update_tag, memo_text, to_memo
from plugins.topdesk.payload import TopdeskReader, kind_of_number, to_unid
from plugins.topdesk.trail import change_trail, changes_since
from plugins.topdesk.webhook_validator import validator_of

if TYPE_CHECKING:
    import httpx

    from plugins.topdesk.api_client import TopdeskClient
    from plugins.topdesk.desk import Desk

Json = dict[str, Any]
T = TypeVar("T")

IDS_AT_ONCE: Final = 50
CONCURRENCY: Final = 8
MAX_ATTACHMENT: Final = 50 << 20
KINDS_KEPT: Final = 10_000


class TopdeskPlugin(TicketingToolPlugin):
    """One tenant's TOPdesk. A ticket_id is a UUID or a number, of an incident or of an operator change."""

    tool_type = "topdesk"
    version = "1.0.0"
    search_lag = 60.0
    capabilities = frozenset({"changes", "assets", "sla"})

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._webhook: Mapping[str, Any] = settings.get("webhook") or {}
        self._validator = validator_of(self._webhook)
        self._reader = TopdeskReader(context.tenant, settings)
        self._kinds: dict[str, TicketType] = {}

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        secret = self._webhook.get("secret")
        return self._validator.validate(delivery, self.context.secrets(str(secret)) if secret else ())

    def ticket_key(self, delivery: Delivery) -> str | None:
        return self._reader.ticket_key(delivery)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        return self._reader.delivery(delivery)

    def is_own_actor(self, metadata: TicketMetadata) -> bool:
        """By the operator's id, or by the name where a template sends no id."""
        own = self.context.settings.get("actor")
        return own is not None and str(own) in (metadata.actor, metadata.extra.get("actor_name"))

    # calls -----------------------------------------------------------------------------------------------------------
    @cached_property
    def _desk(self) -> Desk:
        from plugins.topdesk.desk import Desk  # with the first call, not with the plugin: the door only reads

        return Desk(self.context.http(), self._auth(), self.context.settings, self._reader)

    @property
    def _api(self) -> TopdeskClient:
        return self._desk.api

    def _auth(self) -> httpx.Auth:
        from plugins.http.auth import BasicAuth

        auth = self.context.settings.get("auth") or {}
        if not auth.get("user") or not auth.get("application_password"):
            raise PluginConfigError("auth of a topdesk tool needs user and application_password")
        return BasicAuth(str(auth["user"]), lambda: self.context.secret(str(auth["application_password"])))

    # reads -----------------------------------------------------------------------------------------------------------
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        """By UUID, number, or the first eight or more digits of an incident's UUID where these are one incident's."""
        try:
            return await self._either(ticket_id, self._incident, self._change)
        except NotFound:
            whole = await self._desk.completed(ticket_id)
            if whole is None:
                raise
            return await self._incident(whole)

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        """Incidents by fifties; whatever these answers leave out is looked for one by one, as a change."""
        from plugins.http.gather import each_bounded

        asked = list(dict.fromkeys(ticket_ids))
        incidents = [i for i in asked if self._kinds.get(i) is not TicketType.CHANGE]
        rest = [i for i in asked if self._kinds.get(i) is TicketType.CHANGE]
        for start in range(0, len(incidents), IDS_AT_ONCE):
            chunk = incidents[start : start + IDS_AT_ONCE]
            try:
                found = await self._desk.incidents_by_id(chunk)
            except ValidationRefused:
                rest += chunk  # one id that no query takes: each is asked for by itself
                continue
            except ApiError as exc:
                for ticket_id in chunk:
                    yield BatchResult(ticket_id, error=exc)
                continue
            for ticket_id in chunk:
                if ticket_id in found:
                    yield BatchResult(ticket_id, ticket=self._read(self._reader.incident, found[ticket_id]))
                else:
                    rest.append(ticket_id)
        async for ticket_id, outcome in each_bounded(rest, self.get_ticket, CONCURRENCY):
            yield BatchResult(ticket_id, error=outcome) if isinstance(outcome, ApiError) else BatchResult(ticket_id, ticket=outcome)

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        """By the external number. Changes cannot be searched by it: the newest hundred that are open are looked into."""
        if incident := await self._desk.incident_of(external_id):
            return self._ref(incident, TicketType.INCIDENT)
        change = await self._desk.change_of(external_id) if self._takes_changes else None
        return self._ref(change, TicketType.CHANGE) if change else None

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        return await self._told(ticket_id, lambda text: find_update_tag(text) == event_id)

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        return await self._told(ticket_id, lambda text: same_marker(text, marker))

    async def change_trail(self, ticket_id: str) -> list[Json]:
        """Who changed what on the card, from what to what and when, oldest first; what each row holds is said in trail.py."""

        async def incident(ticket_id: str) -> list[Json]:
            card = await self._api.incident(ticket_id)
            entries = [entry async for entry in self._api.progress(ticket_id)]
            return change_trail(card, entries, [entry async for entry in self._api.requests(ticket_id)])

        async def change(ticket_id: str) -> list[Json]:
            card = await self._api.change(ticket_id)
            entries, requests = await self._api.change_progress(ticket_id), await self._api.change_requests(ticket_id)
            return change_trail(card, entries, requests, await self._desk.activities_of(ticket_id))

        return await self._either(ticket_id, incident, change)

    async def changes_since(self, ticket_id: str, since: int | str) -> list[Json]:
        """The rows of `change_trail` after a time: epoch microseconds, or a time as text."""
        moment = to_micros(since)
        if moment is None:
            raise ValidationRefused("`since` is no time: give epoch microseconds or an ISO 8601 time")
        return changes_since(await self.change_trail(ticket_id), moment)

    async def sla_targets(self, ticket_id: str) -> Sequence[SlaTarget]:
        """The target date, which TOPdesk sets from priority, duration and service level; none where the card has none."""
        ticket = await self.get_ticket(ticket_id)
        if ticket.sla_due_at is None:
            return []
        done = ticket.status in (TicketStatus.RESOLVED, TicketStatus.CLOSED)
        at = to_micros(ticket.extra.get("completedDate")) if done else None
        breached = (at or time.time_ns() // 1000) > ticket.sla_due_at if at or not done else False
        paused = ticket.status is TicketStatus.PENDING
        return [SlaTarget(name="target date", due_at=ticket.sla_due_at, completed_at=at, breached=breached, paused=paused)]

    async def device_context(self, ticket: TicketMetadata) -> DeviceContext | None:
        """The assets linked to the card, with their own links. None where there are none, or no asset management."""
        from plugins.topdesk.assets import assets_of

        return await assets_of(self._api, ticket)

    # writes ----------------------------------------------------------------------------------------------------------
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        if ticket.type is TicketType.CHANGE and self._takes_changes:
            made = self._ref(await self._desk.create_change(ticket), TicketType.CHANGE)
            self._remember(made.ticket_id, TicketType.CHANGE)
            return made
        return self._ref(await self._desk.create_incident(ticket), TicketType.INCIDENT)

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        """With an internal entry that carries the event's id; on a change, a memo that tells what was changed."""

        async def incident(ticket_id: str) -> TicketRef:
            return self._ref(await self._desk.update_incident(ticket_id, changes), TicketType.INCIDENT)

        async def change(ticket_id: str) -> TicketRef:
            await self._desk.update_change(ticket_id, changes)
            return TicketRef(ticket_id=ticket_id)

        return await self._either(ticket_id, incident, change)

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """TOPdesk has no bulk call: eight at a time."""
        from plugins.http.gather import each_bounded

        calls = each_bounded(changes, lambda ticket_id: self.update_ticket(ticket_id, changes[ticket_id]), CONCURRENCY)
        return [
            BatchResult(ticket_id, error=outcome) if isinstance(outcome, ApiError) else BatchResult(ticket_id, ticket=outcome)
            async for ticket_id, outcome in calls
        ]

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        document = from_markdown(note.text)
        if not same_marker(note.text, note.marker):
            document = with_marker(document, note.marker)

        async def incident(ticket_id: str) -> str:
            await self._desk.patch(ticket_id, {"action": to_memo(document), "actionInvisibleForCaller": not note.public})
            with suppress(ApiError):  # the note is written: whatever goes wrong from here on leaves no more than doubt
                async for entry in self._api.actions(ticket_id):
                    if same_marker(memo_text(entry.get("memoText")), note.marker) and (entry_id := to_id(entry.get("id"))):
                        return entry_id
            raise TornAnswer("TOPdesk took a note and does not list it", in_doubt=True)

        async def change(ticket_id: str) -> str:
            return await self._desk.notes_on_changes.add(self._api, ticket_id, to_plain(document), hidden=not note.public)

        return await self._either(ticket_id, incident, change)

    async def escalate(self, ticket_id: str, reason: str = "") -> TicketRef:
        """First line to second line; `reason` is the tenant's name of one, where it asks for it."""
        return self._ref(await self._api.move_incident(ticket_id, "escalate", {"name": reason} if reason else None), TicketType.INCIDENT)

    async def deescalate(self, ticket_id: str, reason: str = "") -> TicketRef:
        """Second line back to first line."""
        return self._ref(await self._api.move_incident(ticket_id, "deescalate", {"name": reason} if reason else None), TicketType.INCIDENT)

    # files -----------------------------------------------------------------------------------------------------------
    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        """At most 50 MB, invisible to the caller. An incident is asked for first: a file can be sent only once."""
        from plugins.http.multipart import Multipart

        to_change = await self._kind_of(ticket_id) is TicketType.CHANGE
        form = Multipart({} if to_change else {"invisibleForCaller": "true"}, "file", filename, content_type, content, MAX_ATTACHMENT)
        entry_id = to_id((await self._api.upload(ticket_id, form.stream(), form.headers, to_change=to_change)).get("id"))
        if entry_id is None:
            raise TornAnswer("TOPdesk took a file and did not say its id", in_doubt=True)
        return entry_id

    async def list_attachments(self, ticket_id: str) -> Sequence[Attachment]:
        async def incident(ticket_id: str) -> list[Json]:
            return [entry async for entry in self._api.attachments(ticket_id)]

        async def change(ticket_id: str) -> list[Json]:
            return [entry for entry in await self._api.change_progress(ticket_id) if entry.get("fileName")]

        entries = await self._either(ticket_id, incident, change)
        entries.sort(key=lambda entry: to_micros(entry.get("entryDate")) or 0)
        return [
            Attachment(attachment_id=str(entry["id"]), filename=str(entry.get("fileName") or ""), size=entry.get("size"))
            for entry in entries
            if entry.get("id")
        ]

    async def download_attachment(self, ticket_id: str, attachment_id: str) -> AsyncIterator[bytes]:
        of_change = await self._kind_of(ticket_id) is TicketType.CHANGE
        async for chunk in self._api.download(ticket_id, attachment_id, of_change=of_change, max_bytes=MAX_ATTACHMENT):
            yield chunk

    async def health_check(self) -> Health:
        """Sees through a person's account, which may read and is refused nearly every field, and a web page under status 200."""
        try:
            await self._api.version()
            operator = await self._api.current_operator()
        except (NotFound, CredentialsRefused) as exc:
            if exc.status == 401:
                return Health(False, str(exc))
            return Health(False, "our account is no operator's, or may not use the API, or base_url is wrong: TOPdesk does not know us")
        except (ApiError, PluginConfigError) as exc:
            return Health(False, str(exc))
        actor = to_id(operator.get("id"))
        if actor is None or str(operator.get("status") or "operator") == "operatorArchived":
            return Health(False, "our operator is archived in TOPdesk", actor)
        return Health(True, actor=actor)

    # which kind of card ----------------------------------------------------------------------------------------------
    @property
    def _takes_changes(self) -> bool:
        return self.context.settings.get("changes") is not False

    async def _either(self, ticket_id: str, incident: Callable[[str], Awaitable[T]], change: Callable[[str], Awaitable[T]]) -> T:
        """Asks for the likelier kind of card first, and for the other where there is none; what it was is remembered."""
        if not self._takes_changes:
            return await incident(ticket_id)
        calls = [(TicketType.INCIDENT, incident), (TicketType.CHANGE, change)]
        known = self._kinds.get(ticket_id)
        if known is not None:
            return await dict(calls)[known](ticket_id)
        if to_unid(ticket_id) is None and kind_of_number(ticket_id) is TicketType.CHANGE:
            calls.reverse()
        missing: NotFound | None = None
        for kind, call in calls:
            try:
                result = await call(ticket_id)
            except NotFound as exc:
                missing = missing or exc
            except (CredentialsRefused, ValidationRefused):
                if missing is None:
                    raise
                raise missing from None  # the other module is closed to us, or takes no such id
            else:
                self._remember(ticket_id, kind)
                return result
        assert missing is not None
        raise missing

    async def _kind_of(self, ticket_id: str) -> TicketType:
        if ticket_id not in self._kinds and self._takes_changes:
            await self._either(ticket_id, self._api.incident, self._api.change)
        return self._kinds.get(ticket_id, TicketType.INCIDENT)

    def _remember(self, ticket_id: str, kind: TicketType) -> None:
        if len(self._kinds) >= KINDS_KEPT:
            self._kinds.pop(next(iter(self._kinds)))
        self._kinds[ticket_id] = kind

    async def _incident(self, ticket_id: str) -> TicketMetadata:
        return self._read(self._reader.incident, await self._api.incident(ticket_id))

    async def _change(self, ticket_id: str) -> TicketMetadata:
        card = await self._api.change(ticket_id)
        requests = await self._api.change_requests(ticket_id)
        oldest = min(requests, key=lambda entry: to_micros(entry.get("entryDate")) or 0, default={})
        return self._read(lambda document: self._reader.change(document, memo_text(oldest.get("memoText"))), card)

    async def _told(self, ticket_id: str, tells: Callable[[str], bool]) -> bool:
        async def incident(ticket_id: str) -> bool:
            async for entry in self._api.actions(ticket_id):
                if tells(memo_text(entry.get("memoText"))):
                    return True
            return False

        async def change(ticket_id: str) -> bool:
            return any(tells(memo_text(entry.get("memoText"))) for entry in await self._api.change_progress(ticket_id))

        return await self._either(ticket_id, incident, change)

    def _read(self, read: Callable[[Json], TicketMetadata], document: Json) -> TicketMetadata:
        try:
            return read(document)
        except NotADelivery as exc:
            raise TornAnswer(f"TOPdesk: {exc}") from None

    def _ref(self, document: Json, kind: TicketType) -> TicketRef:
        ticket_id = self._reader.id_of(document)
        if ticket_id is None:
            raise TornAnswer("TOPdesk answered a card without its id", in_doubt=True)
        updated = document.get("modificationDate") or document.get("lastModificationDate")
        return TicketRef(ticket_id=ticket_id, url=self._reader.url_of(document, kind), updated_at=to_micros(updated))
