"""Cherwell Service Management: One-Steps' deliveries in, the REST API out; any business object, and the workflows on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from plugins.api import (
    ApiError,
    Attachment,
    BatchResult,
    Delivery,
    Health,
    NewNote,
    NewTicket,
    NotADelivery,
    NotFound,
    PluginConfigError,
    PluginContext,
    TicketChanges,
    TicketingToolPlugin,
    TicketMetadata,
    TicketRef,
    TicketType,
    TornAnswer,
    ValidationRefused,
    Verified,
)
from plugins.cherwell.objects import ObjectMap, reference
from plugins.cherwell.payload import CherwellReader
from plugins.cherwell.webhook_validator import validator_of
from plugins.mapping import to_id
from plugins.marker import same_marker
from plugins.richtext import from_markdown, to_plain, with_marker

if TYPE_CHECKING:
    from plugins.cherwell.desk import Desk
    from plugins.http.auth import PasswordGrant

Json = dict[str, Any]

MODES: Final = ("Internal", "Windows", "LDAP", "SAML", "Auto")
MAX_ATTACHMENT: Final = 50 << 20
MAX_FOUND: Final = 500


class CherwellPlugin(TicketingToolPlugin):
    """One tenant's Cherwell. `objects` says which business objects are tickets; any other is reached by its name."""

    tool_type = "cherwell"
    version = "1.0.0"
    search_lag = 60.0
    capabilities = frozenset({"custom_objects", "workflow", "changes", "problems"})

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        self._webhook: Mapping[str, Any] = context.settings.get("webhook") or {}
        self._validator = validator_of(self._webhook)
        self._reader = CherwellReader(context.tenant, context.settings)

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        secret = self._webhook.get("secret")
        return self._validator.validate(delivery, self.context.secrets(str(secret)) if secret else ())

    def ticket_key(self, delivery: Delivery) -> str | None:
        return self._reader.ticket_key(delivery)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        return self._reader.delivery(delivery)

    # calls -----------------------------------------------------------------------------------------------------------
    @cached_property
    def _auth(self) -> PasswordGrant:
        from plugins.http.auth import PasswordGrant

        settings = self.context.settings
        auth, base = settings.get("auth") or {}, str(settings.get("base_url") or "").rstrip("/").removesuffix("/CherwellAPI")
        if not base:
            raise PluginConfigError("base_url is not set; give this tool its address")
        missing = [name for name in ("client_id", "username", "password") if not auth.get(name)]
        if missing:
            raise PluginConfigError(f"auth of a cherwell tool lacks {', '.join(missing)}")
        mode = str(auth.get("mode") or "Internal")
        if mode not in MODES:
            raise PluginConfigError(f"auth.mode {mode[:40]!r} is not one of {', '.join(MODES)}")
        return PasswordGrant(
            f"{base}/CherwellAPI/token?auth_mode={mode}",
            lambda: self.context.secret(str(auth["client_id"])),
            lambda: self.context.secret(str(auth["client_secret"])) if auth.get("client_secret") else "",
            str(auth["username"]),
            lambda: self.context.secret(str(auth["password"])),
            early=30.0,
        )

    @cached_property
    def _desk(self) -> Desk:
        from plugins.cherwell.desk import Desk  # with the first call, not with the plugin: the door only reads

        return Desk(self.context.http(), self._auth, self.context.settings)

    def _split(self, ticket_id: str) -> tuple[ObjectMap, str]:
        """The kind of ticket and the record; raises NotFound for an object that is no kind of ticket here."""
        name, record = reference(ticket_id, self._reader.first.name)
        made = self._reader.object_named(name)
        if made is None:
            raise NotFound(f"{name[:80]!r} is no kind of ticket here; it is reached with get_object")
        return made, record

    # tickets ---------------------------------------------------------------------------------------------------------
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        made, record = self._split(ticket_id)
        return self._read(await self._desk.read(made.name, record), made)

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        """By fifties of each business object."""
        by_object: dict[str, tuple[ObjectMap, dict[str, str]]] = {}
        for ticket_id in dict.fromkeys(ticket_ids):
            try:
                made, record = self._split(ticket_id)
            except NotFound as exc:
                yield BatchResult(ticket_id, error=exc)
            else:
                by_object.setdefault(made.name, (made, {}))[1][record] = ticket_id
        for made, asked in by_object.values():
            try:
                outcomes = await self._desk.read_many(made.name, list(asked))
            except ApiError as exc:
                outcomes = [(record, exc) for record in asked]
            for record, outcome in outcomes:
                if isinstance(outcome, ApiError):
                    yield BatchResult(asked[record], error=outcome)
                else:
                    yield BatchResult(asked[record], ticket=self._read(outcome, made))

    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        """A record of the object its type is kept in; of the first object where there is none."""
        made = self._reader.objects.get(ticket.type, self._reader.first)
        return self._ref(await self._desk.save(made.name, await self._desk.created(made, ticket)), made)

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        made, record = self._split(ticket_id)
        answer = await self._desk.update(made, record, changes)
        return self._ref({**_named(record), **{name: value for name, value in answer.items() if value}}, made)

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """By fifties in Cherwell's batch call; objects with a lifecycle one by one, as their status is moved and not written."""
        results: dict[str, BatchResult] = {}
        saves: list[tuple[str, str, Json]] = []
        ids: list[str] = []
        for ticket_id, change in changes.items():
            try:
                made, record = self._split(ticket_id)
                if made.lifecycle and change.status is not None:
                    results[ticket_id] = BatchResult(ticket_id, ticket=await self.update_ticket(ticket_id, change))
                    continue
            except ApiError as exc:
                results[ticket_id] = BatchResult(ticket_id, error=exc)
                continue
            saves.append((made.name, record, self._desk.changed(made, change)))
            ids.append(ticket_id)
        for ticket_id, outcome in zip(ids, await self._desk.save_many(saves), strict=True):
            if isinstance(outcome, ApiError):
                results[ticket_id] = BatchResult(ticket_id, error=outcome)
            else:
                results[ticket_id] = BatchResult(ticket_id, ticket=TicketRef(ticket_id=ticket_id))
        return [results[ticket_id] for ticket_id in changes]

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        """A journal note, as plain text."""
        made, record = self._split(ticket_id)
        document = from_markdown(note.text)
        if not same_marker(note.text, note.marker):
            document = with_marker(document, note.marker)
        return await self._desk.add_journal(made, record, to_plain(document), public=note.public)

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        """In every kind of ticket that is there; the oldest, by its record's public id, should there be several."""
        for made in self._reader.objects.values():
            try:
                rows = await self._desk.by_external_id(made, external_id)
            except NotFound:
                if made is self._reader.first:
                    raise
                continue  # a kind of ticket this Cherwell does not have
            if rows:
                return self._ref(min(rows, key=lambda row: (len(str(row.get("busObPublicId"))), str(row.get("busObPublicId")))), made)
        return None

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        """By the field that holds the last event of ours; an older one is not remembered."""
        made, record = self._split(ticket_id)
        return await self._desk.last_event(made, record) == event_id

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        from plugins.cherwell.desk import value_in

        made, record = self._split(ticket_id)
        async for row in self._desk.related(made.name, record, made.journal):
            if same_marker(value_in(row, made.journal_text), marker):
                return True
        return False

    # files -----------------------------------------------------------------------------------------------------------
    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        """At most 50 MB. Cherwell wants the size before the first part: a file is kept on disk on its way, beyond a megabyte."""
        from tempfile import SpooledTemporaryFile

        from plugins.cherwell.api_client import CHUNK

        made, record = self._split(ticket_id)
        filename = filename if filename.strip(". ") else "attachment"  # the name is a part of the path
        schema, record_id = await self._desk.schemas.of(made.name), await self._desk.record_id(made.name, record)
        with SpooledTemporaryFile(max_size=CHUNK) as kept:
            async for chunk in content:
                kept.write(chunk)
                if kept.tell() > MAX_ATTACHMENT:
                    raise ValidationRefused(f"{filename[:100]} is larger than the {MAX_ATTACHMENT >> 20} MB this tool takes")
            total, file_id = kept.tell(), ""
            kept.seek(0)
            for offset in range(0, max(total, 1), CHUNK):
                part = kept.read(CHUNK)
                file_id = await self._desk.api.upload(schema.object_id, record_id, filename, part, offset, total, file_id)
        return file_id

    async def list_attachments(self, ticket_id: str) -> Sequence[Attachment]:
        made, record = self._split(ticket_id)
        schema, record_id = await self._desk.schemas.of(made.name), await self._desk.record_id(made.name, record)
        rows = await self._desk.api.attachments(schema.object_id, record_id)
        rows.sort(key=lambda row: str(row.get("created") or ""))
        return [
            Attachment(attachment_id=str(row["attachmentId"]), filename=str(row.get("attachmentFileName") or row.get("displayText") or ""))
            for row in rows
            if row.get("attachmentId")
        ]

    async def download_attachment(self, ticket_id: str, attachment_id: str) -> AsyncIterator[bytes]:
        made, record = self._split(ticket_id)
        schema, record_id = await self._desk.schemas.of(made.name), await self._desk.record_id(made.name, record)
        async for chunk in self._desk.api.download(schema.object_id, record_id, attachment_id, MAX_ATTACHMENT):
            yield chunk

    # business objects of any kind --------------------------------------------------------------------------------------
    async def get_object(self, object_name: str, record: str) -> Json:
        """A record of any business object, by public id or record id: {object, public_id, record_id, fields: {name: value}}."""
        return _plain(object_name, await self._desk.read(object_name, record))

    async def save_object(self, object_name: str, fields: Mapping[str, Any], record: str = "") -> Json:
        """Makes a record, or changes the one named; answers {object, public_id, record_id}."""
        answer = await self._desk.save(object_name, fields, record)
        return {"object": object_name, "public_id": answer.get("busObPublicId"), "record_id": answer.get("busObRecId")}

    async def delete_object(self, object_name: str, record: str) -> None:
        """Deletes a record for good."""
        await self._desk.delete(object_name, record)

    async def search_objects(self, object_name: str, filters: Mapping[str, Any], limit: int = 100) -> list[Json]:
        """Records whose fields equal the filters, at most 500; a list of values for one field means any of them."""
        most = max(1, min(limit, MAX_FOUND))
        return [_plain(object_name, row) async for row in self._desk.search(object_name, filters, most)]

    async def related_objects(self, object_name: str, record: str, relationship: str) -> list[Json]:
        """The records at the other end of a relationship, by its display name or id; at most 500."""
        found: list[Json] = []
        async for row in self._desk.related(object_name, record, relationship):
            found.append(_plain("", row))
            if len(found) == MAX_FOUND:
                break
        return found

    # workflow --------------------------------------------------------------------------------------------------------
    async def one_steps(self) -> list[Json]:
        """The One-Step Actions our account may run: {name, key, object_id, folder}."""
        return await self._desk.one_steps()

    async def run_one_step(self, one_step: str, ticket_id: str = "", prompts: Mapping[str, Any] | None = None) -> Json:
        """Runs a One-Step by name or key, for a ticket or another record ("Name:id"); never repeated by itself."""
        key = await self._desk.one_step_key(one_step)
        record = reference(ticket_id, self._reader.first.name) if ticket_id else None
        return await self._desk.run_one_step(key, record, prompts or {})

    async def transitions(self, ticket_id: str) -> list[Json]:
        """What the lifecycle lets this ticket do now: {id, name, isAvailable}."""
        made, record = self._split(ticket_id)
        schema = await self._desk.schemas.of(made.name)
        return await self._desk.api.transition_options(schema.object_id, await self._desk.record_id(made.name, record))

    async def transition(self, ticket_id: str, status: str) -> None:
        """Leads the ticket to a status by the transition whose name has it."""
        made, record = self._split(ticket_id)
        await self._desk.lead(made, record, status)

    # the tool itself ---------------------------------------------------------------------------------------------------
    async def health_check(self) -> Health:
        """A token proves little: the first object and every one a tenant named must be readable and have the fields we use."""
        named = {TicketType(kind) for kind in self.context.settings.get("objects") or {}}
        try:
            await self._desk.api.service_info()
            for made in self._reader.objects.values():
                if made is not self._reader.first and made.kind not in named:
                    continue
                if missing := await self._desk.missing_fields(made):
                    return Health(
                        False, f"the business object {made.name} has no field {', '.join(missing)}; make it, or name another in objects"
                    )
                await self._desk.by_external_id(made, "aia-health")
            login = str((self.context.settings.get("auth") or {}).get("username") or "")
            user = await self._desk.api.user(login.rpartition("\\")[2])
        except (ApiError, PluginConfigError) as exc:
            return Health(False, str(exc))
        return Health(True, actor=to_id(user.get("displayName")))

    async def aclose(self) -> None:
        """Gives the session back: each token holds a licence until it ends."""
        if "_desk" in self.__dict__ and self._auth.held:
            with suppress(ApiError):  # it ends by itself within minutes; closing must not fail for it
                await self._desk.api.logout()

    def _read(self, answer: Mapping[str, Any], made: ObjectMap) -> TicketMetadata:
        try:
            return self._reader.record(answer, made)
        except NotADelivery as exc:
            raise TornAnswer(f"Cherwell: {exc}") from None

    def _ref(self, answer: Mapping[str, Any], made: ObjectMap) -> TicketRef:
        ticket_id = self._reader.id_of(answer, made)
        if ticket_id is None:
            raise TornAnswer("Cherwell answered a record without its id", in_doubt=True)
        return TicketRef(ticket_id=ticket_id, url=self._reader.url_of(to_id(answer.get("busObRecId")), made))


def _named(record: str) -> Json:
    from plugins.cherwell.desk import key_of

    return dict(key_of(record))


def _plain(object_name: str, answer: Mapping[str, Any]) -> Json:
    fields = {str(f.get("name")): f.get("value") for f in answer.get("fields") or () if isinstance(f, dict)}
    return {
        "object": object_name or answer.get("busObId"),
        "public_id": answer.get("busObPublicId"),
        "record_id": answer.get("busObRecId"),
        "fields": fields,
    }
