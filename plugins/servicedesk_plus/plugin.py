"""ServiceDesk Plus: webhooks as an admin built them in, API v3 out: requests, and changes and problems where a tenant uses them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

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
    TornAnswer,
    ValidationRefused,
    Verified,
)
from plugins.mapping import to_id, to_text
from plugins.marker import same_marker
from plugins.richtext import from_markdown, to_html, with_marker
from plugins.servicedesk_plus.answers import attachment_of, clocks_of, item_of, worklog_of
from plugins.servicedesk_plus.modules import CHANGES, REQUESTS, Module, module_of, used_modules
from plugins.servicedesk_plus.names import SiteNames
from plugins.servicedesk_plus.payload import RequestReader, plain
from plugins.servicedesk_plus.webhook_validator import validator_of

if TYPE_CHECKING:
    from plugins.servicedesk_plus.api_client import SdpClient

Json = dict[str, Any]

READ_FIELDS: Final = (
    "id", "display_id", "subject", "description", "status", "priority", "request_type", "is_service_request", "requester", "technician",
    "created_time", "last_updated_time", "due_by_time", "created_by", "last_updated_by", "udf_fields", "primary_asset", "tags",
    "is_trashed",
)  # fmt: skip
CHANGE_FIELDS: Final = (
    "id", "display_id", "title", "description", "stage", "status", "priority", "change_requester", "reported_by", "change_owner",
    "technician", "created_time", "last_updated_time", "due_by_time", "created_by", "udf_fields",
)  # fmt: skip
FALLBACK_PRIORITY: Final = "High"
MAX_SUBJECT: Final = 250
MAX_ATTACHMENT: Final = 32 << 20
CONCURRENT_UPDATES: Final = 12
MOST_ASSETS: Final = 20

UDF: Final = re.compile(r"(udf|txt|num|date|dt|bool|dbl)_\w+")
"""Names of custom fields as the API takes them, on premises and in the cloud; any other is a label."""

log = logging.getLogger(__name__)


class ServiceDeskPlusPlugin(TicketingToolPlugin):
    """One tenant's ServiceDesk Plus. Two single-line custom fields hold our ids: `external_id_field` and `event_field`."""

    tool_type = "servicedesk_plus"
    version = "1.0.0"
    search_lag = 60.0
    capabilities: ClassVar[frozenset[str]] = frozenset({"assets", "changes", "problems", "sla"})

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._webhook: Mapping[str, Any] = settings.get("webhook") or {}
        self._validator = validator_of(self._webhook)
        self._reader = RequestReader(settings)
        self._external_id_field = str(settings.get("external_id_field") or "udf_sline_1")
        self._event_field = str(settings.get("event_field") or "udf_sline_2")
        self._names = SiteNames(settings)
        self._refused_priorities: set[str] = set()
        self._modules = used_modules(settings)
        self._labels: dict[Module, dict[str, str]] = {}

    @cached_property
    def _api(self) -> SdpClient:
        from plugins.servicedesk_plus.api_client import SdpClient  # the doors verify and read only: they never load the HTTP client

        return SdpClient.of(self.context)

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        secret = self._webhook.get("secret")
        return self._validator.validate(delivery, self.context.secrets(str(secret)) if secret else ())

    def ticket_key(self, delivery: Delivery) -> str | None:
        return self._reader.ticket_id_of(delivery.body, delivery.content_type)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        return self._reader.metadata_of_delivery(delivery)

    # reads -----------------------------------------------------------------------------------------------------------
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        module, item_id = module_of(ticket_id)
        return self._metadata(await self._api.item(module, item_id), module)

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        """By hundreds of one module; whatever a list leaves out is NotFound."""
        from plugins.servicedesk_plus.api_client import ROWS_MAX

        by_module: dict[Module, list[str]] = {}
        for ticket_id in dict.fromkeys(ticket_ids):
            module, item_id = module_of(ticket_id)
            by_module.setdefault(module, []).append(item_id)
        for module, item_ids in by_module.items():
            for start in range(0, len(item_ids), ROWS_MAX):
                chunk = item_ids[start : start + ROWS_MAX]
                criteria = [{"field": "id", "condition": "is", "values": chunk}]
                try:
                    found = {to_id(row.get("id")): row async for row in self._api.items(module, criteria, _read_fields(module))}
                except ApiError as exc:
                    for item_id in chunk:
                        yield BatchResult(module.prefix + item_id, error=exc)
                    continue
                for item_id in chunk:
                    ticket_id = module.prefix + item_id
                    if item_id in found:
                        yield BatchResult(ticket_id, ticket=self._metadata(found[item_id], module))
                    else:
                        yield BatchResult(ticket_id, error=NotFound(f"{module.item} {item_id} does not exist, or is in the trash"))

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        """By our custom field, in each module in use. Each row is compared: a build that does not know the field answers every row."""
        criteria = [{"field": f"udf_fields.{self._external_id_field}", "condition": "is", "value": external_id}]
        for module in self._modules:
            async for row in self._api.items(module, criteria, ("id", "udf_fields", "last_updated_time")):
                if "udf_fields" not in row:
                    row = await self._api.item(module, _id_in(row, f"the {module.item}"))
                if self._udf(row, self._external_id_field) == external_id:
                    return self._ref(row, module)
        return None

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        return bool(self._udf(await self._api.item(*module_of(ticket_id)), self._event_field) == event_id)

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        async for note in self._api.notes(*module_of(ticket_id)):
            text = note.get("description")
            if isinstance(text, str) and same_marker(plain(text), marker):
                return True
        return False

    # writes ----------------------------------------------------------------------------------------------------------
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        """Creates a request, or a change or problem where that module is in use, with our ids in their fields; new and open are left
        to the tool, its own first status."""
        module = next((m for m in self._modules if m.type is ticket.type and m.type is not None), REQUESTS)
        own = {self._external_id_field: ticket.external_id, self._event_field: ticket.event_id}
        fields: Json = {
            module.subject: _subject(ticket.subject),
            "udf_fields": {**await self._custom(module, ticket.custom_fields), **own},
            **self._names.priority(ticket.priority),
            **self._names.type(module, ticket.type),
        }
        if ticket.description.strip():
            fields["description"] = to_html(from_markdown(ticket.description))
        if ticket.status not in (TicketStatus.NEW, TicketStatus.OPEN):
            fields.update(self._names.status(module, ticket.status))

        async def create(given: Json) -> Json:
            return await self._api.create(module, given)

        return self._ref(await self._with_fallback_priority(create, fields), module)

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        """Sets the fields and our event's id in one act; with them a resolution, the setting's text, where closing demands one."""
        module, item_id = module_of(ticket_id)
        fields: Json = {"udf_fields": {**await self._custom(module, changes.custom_fields), self._event_field: changes.event_id}}
        if changes.subject is not None:
            fields[module.subject] = _subject(changes.subject)
        if changes.priority is not None:
            fields.update(self._names.priority(changes.priority))
        if changes.status is not None:
            fields.update(self._names.status(module, changes.status))
        if changes.type is not None:
            fields.update(self._names.type(module, changes.type))

        async def edit(given: Json) -> Json:
            return await self._api.edit(module, item_id, given)

        try:
            return self._ref(await self._with_fallback_priority(edit, fields), module)
        except ValidationRefused as exc:
            if module is not REQUESTS or changes.status not in (TicketStatus.RESOLVED, TicketStatus.CLOSED) or not _wants_resolution(exc):
                raise
        text = str(self.context.settings.get("resolution") or "Resolved in the linked ticket.")
        fields["resolution"] = {"content": to_html(from_markdown(text))}
        return self._ref(await self._with_fallback_priority(edit, fields), module)

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """Single edits, several at a time: API v3 has no bulk edit."""
        from plugins.http.gather import each_bounded

        async def apply(ticket_id: str) -> TicketRef:
            return await self.update_ticket(ticket_id, changes[ticket_id])

        return [
            BatchResult(ticket_id, error=outcome) if isinstance(outcome, ApiError) else BatchResult(ticket_id, ticket=outcome)
            async for ticket_id, outcome in each_bounded(changes, apply, CONCURRENT_UPDATES)
        ]

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        """Adds a note; on a change or a problem all notes are internal, and a public one is refused before it is written."""
        module, item_id = module_of(ticket_id)
        if note.public and module is not REQUESTS:
            raise ValidationRefused(f"notes of a {module.item} are internal; there is no requester to show one to")
        text = to_html(with_marker(from_markdown(note.text), note.marker))
        return _id_in(await self._api.note(module, item_id, text, public=note.public), "the note")

    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        """Streams the file up, 32 MiB at most."""
        from plugins.http.multipart import Multipart

        module, item_id = module_of(ticket_id)
        fields = {"addtoattachment": "true"} if self._api.file_field == "input_file" else {}
        form = Multipart(fields, self._api.file_field, filename, content_type, content, MAX_ATTACHMENT)
        return _id_in(await self._api.attach(module, item_id, form.stream(), form.headers), "the attachment")

    async def list_attachments(self, ticket_id: str) -> Sequence[Attachment]:
        """The files of the request, change or problem itself."""
        return [file for row in await self._files(ticket_id) if (file := attachment_of(row)) is not None]

    async def download_attachment(self, ticket_id: str, attachment_id: str) -> AsyncIterator[bytes]:
        """The file by the address the tool gives with it."""
        for row in await self._files(ticket_id):
            if to_id(row.get("id")) == attachment_id:
                async for chunk in self._api.download(to_text(row.get("content_url")), MAX_ATTACHMENT):
                    yield chunk
                return
        raise NotFound(f"{ticket_id} has no attachment {attachment_id}", status=404)

    async def _files(self, ticket_id: str) -> list[Json]:
        found = (await self._api.item(*module_of(ticket_id))).get("attachments")
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []

    # beyond tickets ----------------------------------------------------------------------------------------------------
    async def set_resolution(self, ticket_id: str, text: str) -> None:
        """Writes a request's resolution, Markdown, in place of the one before; its status stays."""
        await self._api.resolve(_request_id(ticket_id), to_html(from_markdown(text)))

    async def get_resolution(self, ticket_id: str) -> str:
        """A request's resolution as plain text; empty when there is none."""
        return plain(to_text((await self._api.resolution(_request_id(ticket_id))).get("content")))

    async def add_worklog(self, ticket_id: str, text: str, minutes: int, owner: str | None = None) -> str:
        """Logs work that ends now, in the name of a technician's e-mail address (the setting `worklog_owner`, or the key's own).
        Answers the worklog's id."""
        module, item_id = module_of(ticket_id)
        spent, now = max(1, int(minutes)), time.time_ns() // 1_000_000
        worklog: Json = {
            "description": text,
            "start_time": {"value": str(now - spent * 60_000)},
            "end_time": {"value": str(now)},
            "time_spent": {"hours": str(spent // 60), "minutes": str(spent % 60)},
            "include_nonoperational_hours": False,
        }
        if email := owner or self.context.settings.get("worklog_owner"):
            worklog["owner"] = {"email_id": str(email)}
        return _id_in(await self._api.log_work(module, item_id, worklog), "the worklog")

    async def list_worklogs(self, ticket_id: str) -> list[Json]:
        """Work logged, as {text, owner, minutes, started_at}; minutes None where the build tells none, times in epoch microseconds."""
        return [worklog_of(row) async for row in self._api.worklogs(*module_of(ticket_id))]

    async def sla_targets(self, ticket_id: str) -> Sequence[SlaTarget]:
        """A request's two clocks, response and resolution, where a policy set them."""
        return clocks_of(await self._api.item(*module_of(ticket_id)))

    async def device_context(self, ticket: TicketMetadata) -> DeviceContext | None:
        """A request's assets, 20 at most; one that is gone is left out."""
        request = await self._api.item(*module_of(ticket.ticket_id))
        rows = [request.get("primary_asset"), *(found if isinstance(found := request.get("assets"), list) else ())]
        ids = dict.fromkeys(asset_id for row in rows if isinstance(row, dict) and (asset_id := to_id(row.get("id"))))
        items = []
        for asset_id in list(ids)[:MOST_ASSETS]:
            try:
                items.append(item_of(await self._api.asset(asset_id)))
            except NotFound:
                continue
        return DeviceContext(items=tuple(items)) if items else None

    async def list_changes(self, text: str = "") -> list[str]:
        """Ids of changes whose title holds the text, the newest last; at most 100."""
        criteria = [{"field": "title", "condition": "contains", "value": text}] if text else []
        found: list[str] = []
        async for row in self._api.items(CHANGES, criteria, ("id", "title")):
            found.append(CHANGES.prefix + _id_in(row, "the change"))
            if len(found) == 100:
                break
        return found

    async def health_check(self) -> Health:
        """Reads one row. A login page and an error under status 200 are told from an answer; no call tells whose key it is."""
        actor = self.context.settings.get("actor")
        try:
            await self._api.one_row()
        except CredentialsRefused:
            return Health(False, "the tool refuses our key or token: its technician's login may be disabled, or it has expired")
        except (ApiError, PluginConfigError) as exc:
            return Health(False, str(exc))
        if actor is None:
            return Health(True, "set actor to the e-mail address of the key's technician, so that echoes are recognised by it")
        return Health(True, actor=str(actor))

    # parts -----------------------------------------------------------------------------------------------------------
    async def _custom(self, module: Module, fields: Mapping[str, Any]) -> Json:
        """Custom fields by the names the API takes; labels, as people see them, are looked up once."""
        if not fields:
            return {}
        if module not in self._labels and not all(UDF.fullmatch(name) for name in fields):
            labels = await self._api.labels(module)
            self._labels[module] = {label.casefold(): name for name, label in labels.items()}
        known = self._labels.get(module, {})
        return {name if UDF.fullmatch(name) else known.get(name.casefold(), name): value for name, value in fields.items()}

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

    def _metadata(self, item: Json, module: Module) -> TicketMetadata:
        try:
            return self._reader.metadata_of_request(self.context.tenant, item, module)
        except NotADelivery as exc:
            raise TornAnswer(str(exc)) from None

    def _ref(self, item: Json, module: Module) -> TicketRef:
        metadata = self._metadata(item, module)
        return TicketRef(ticket_id=metadata.ticket_id, updated_at=metadata.updated_at or metadata.created_at)

    @staticmethod
    def _udf(request: Json, field: str) -> Any:
        fields = request.get("udf_fields")
        return fields.get(field) if isinstance(fields, dict) else None


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


def _read_fields(module: Module) -> tuple[str, ...]:
    return READ_FIELDS if module is REQUESTS else CHANGE_FIELDS


def _request_id(ticket_id: str) -> str:
    module, item_id = module_of(ticket_id)
    if module is not REQUESTS:
        raise ValidationRefused(f"a {module.item} has no resolution of its own")
    return item_id
