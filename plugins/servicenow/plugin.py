"""The ServiceNow plugin: what differs here from other tools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from plugins.api import (
    ApiError,
    Attachment,
    BatchResult,
    ConfigurationItem,
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
    TornAnswer,
    ValidationRefused,
    Verified,
)
from plugins.mapping import to_micros
from plugins.marker import same_marker
from plugins.servicenow import journal
from plugins.servicenow.api_client import BOTH_VALUES, Row, ServiceNowClient, escaped, servicenow_error
from plugins.servicenow.columns import Columns
from plugins.servicenow.locating import Locator, chunks, missing
from plugins.servicenow.payload import ServiceNowPayload, id_of, shown, text_of
from plugins.servicenow.webhook_validator import ServiceNowValidator
from plugins.servicenow.writing import EXTERNAL_ID_FIELD, ServiceNowWriter, check_kept, columns_sent

if TYPE_CHECKING:
    import httpx

    from plugins.http.client import ApiClient
    from plugins.servicenow.cmdb_client import CmdbClient

MAX_ATTACHMENT = 50 << 20
"""The product itself takes 1 GiB (com.glide.attachment.max_size); more than this is taken when a tenant says so."""
MAX_PEOPLE = 50
SLA_FIELDS = ("sla", "stage", "has_breached", "planned_end_time", "end_time")
PERSON_FIELDS = ("sys_id", "name", "email", "user_name", "title", "phone", "department", "location")


class ServiceNowPlugin(TicketingToolPlugin):
    """ServiceNow: a ticket is a record of a table derived from `task`, known by its sys_id; a number such as CHG0030003 serves too."""

    tool_type = "servicenow"
    version = "1.0.0"
    search_lag = 30.0
    kept_headers = ("x-servicenow-delivery",)
    capabilities = frozenset({"cmdb", "changes", "problems", "sla", "directory"})

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._validator = ServiceNowValidator(settings.get("webhook") or {}, context.secrets)
        self._payload = ServiceNowPayload(context.tenant, settings)
        self._writer = ServiceNowWriter(settings)
        self._columns = Columns(lambda: self._api)
        self._locator = Locator(lambda: self._api, self._writer.event_field)
        self._base_url = str(settings.get("base_url") or "").rstrip("/")

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        return self._validator.validate(delivery)

    def identify(self, delivery: Delivery) -> DeliveryIdentity | None:
        """The id our script puts into the body, else the one in its header, which the signature does not cover."""
        if (signed := self._payload.delivery_id(delivery)) is not None:
            return DeliveryIdentity(signed, signed=True)
        told = delivery.headers.get("x-servicenow-delivery")
        return DeliveryIdentity(told, signed=False) if told else None

    def ticket_key(self, delivery: Delivery) -> str | None:
        return self._payload.ticket_key(delivery)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        return self._payload.metadata(delivery)

    # connection ------------------------------------------------------------------------------------------------------
    @cached_property
    def _http(self) -> ApiClient:
        headers = {"Accept": "application/json"}  # without it some endpoints answer XML
        return self.context.http().bound(base_url=self._base_url, auth=self._auth(), headers=headers, error_for=servicenow_error)

    @cached_property
    def _api(self) -> ServiceNowClient:
        version = self.context.settings.get("api_version", "v2")
        if version not in ("", "v2"):  # v1 answers an empty list with 404, which a gateway's 404 could not be told from
            raise PluginConfigError('api_version must be v2, or "" for the instance\'s newest')
        return ServiceNowClient(self._http, version)

    @cached_property
    def _cmdb(self) -> CmdbClient:
        from plugins.servicenow.cmdb_client import CmdbClient  # only `enrich` needs it

        return CmdbClient(self._http, self._api, self._base_url)

    def _auth(self) -> httpx.Auth:
        """By what `auth` holds: an API key, OAuth (client_id with a refresh token, a private key, a user or nothing more), or Basic."""
        from plugins.http import auth as flows  # with the first call, not with the plugin: the door only reads

        auth = self.context.settings.get("auth") or {}

        def secret(name: str) -> Callable[[], str]:
            return lambda: self.context.secret(str(auth[name]))

        if auth.get("api_key"):
            return flows.HeaderAuth("x-sn-apikey", secret("api_key"))
        if auth.get("client_id"):
            token_url, client_id = f"{self._base_url}/oauth_token.do", secret("client_id")
            client_secret = secret("client_secret") if auth.get("client_secret") else ""
            if auth.get("refresh_token"):
                return flows.RefreshToken(token_url, client_id, client_secret, secret("refresh_token"))
            if auth.get("private_key"):
                issuer = self.context.secret(str(auth["client_id"]))
                claims = {"iss": issuer, "aud": str(auth.get("audience") or issuer), "sub": str(auth.get("subject") or "")}
                key_id = str(auth["key_id"]) if auth.get("key_id") else None
                return flows.JwtBearer(token_url, client_id, client_secret, key=secret("private_key"), claims=claims, key_id=key_id)
            if auth.get("user"):
                return flows.PasswordGrant(token_url, client_id, client_secret, str(auth["user"]), secret("password"))
            return flows.ClientCredentials(token_url, client_id, client_secret)
        if auth.get("user") and auth.get("password"):
            return flows.BasicAuth(str(auth["user"]), secret("password"))
        raise PluginConfigError("auth of a servicenow tool needs user and password, client_id and client_secret, or api_key")

    # reading ---------------------------------------------------------------------------------------------------------
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        sys_id, table = await self._locator.where(ticket_id)
        return self._read(await self._api.row(table, sys_id, display=BOTH_VALUES), table)

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        """By hundreds: one query finds their tables, one batch reads each table's records; what is in neither answer is NotFound."""
        for asked in chunks(ticket_ids):
            try:
                located = await self._locator.some(asked)
                tables: dict[str, list[str]] = {}
                for at in located.values():
                    tables.setdefault(at.table, []).append(at.sys_id)
                rows = {text_of(row.get("sys_id")): (table, row) for table, row in await self._api.records(tables)}
            except ApiError as exc:
                for ticket_id in asked:
                    yield BatchResult(ticket_id, error=exc)
                continue
            for ticket_id in asked:
                found = rows.get(located[ticket_id].sys_id) if ticket_id in located else None
                if found is None:
                    yield BatchResult(ticket_id, error=missing(ticket_id))
                else:
                    yield BatchResult(ticket_id, ticket=self._read(found[1], found[0]))

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        """The oldest record with our id in correlation_id; each row is looked at, since an instance may ignore a condition."""
        query = f"{EXTERNAL_ID_FIELD}={escaped(external_id)}^ORDERBYsys_created_on^ORDERBYsys_id"
        fields = ("sys_id", "number", "sys_class_name", "sys_updated_on", EXTERNAL_ID_FIELD)
        rows, _ = await self._api.rows("task", query, fields, limit=10)
        for row in rows:
            if text_of(row.get(EXTERNAL_ID_FIELD)) == external_id:
                return self._ref(row, text_of(row.get("sys_class_name")) or "task")
        return None

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        """By the event column, which holds the newest events alone; older ones are past doubt, as a ticket's events come one by one."""
        return event_id in (await self._locator.one(ticket_id)).events.split()

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        """In the record's own journal fields first, which need no right beyond the record's, then in sys_journal_field by pages."""
        sys_id, table = await self._locator.where(ticket_id)
        row = await self._api.row(table, sys_id, ("sys_id", "work_notes", "comments"), display="true")
        if any(same_marker(text_of(row.get(name)), marker) for name in ("work_notes", "comments")):
            return True
        return await self._journal_entry(sys_id, marker) is not None

    # writing ---------------------------------------------------------------------------------------------------------
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        table, values = self._writer.new(ticket)
        values.update(await self._columns.resolve(table, ticket.custom_fields))
        row = await self._api.create(table, values, columns_sent([values]))
        ref = self._ref(row, table)
        check_kept(text_of(row.get("number")) or ref.ticket_id, values, row, self._writer.event_field)
        return ref

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        """Through every state that lies between, one write each. A record's type is its table and stays: `type` is not written."""
        at = await self._locator.one(ticket_id)
        custom = await self._columns.resolve(at.table, changes.custom_fields)
        row: Row = {}
        for values in self._writer.update(at, changes, custom):
            row = await self._api.update(at.table, at.sys_id, values, columns_sent([values]))
            check_kept(at.number, values, row, self._writer.event_field)
        return self._ref(row, at.table)

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """Through the Batch API, judged request by request; what it had no time for is looked at and sent again."""
        from plugins.servicenow.batches import BatchUpdate  # few hosts need it, and it takes time to load

        return await BatchUpdate(self, self._locator, self._api, self._writer, self._columns).run(changes)

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        """Answers the journal entry's sys_id, or the note's marker where the journal is closed to our account.

        A user who may not write the field is answered 200 and the note is gone: so the answer is searched for it.
        """
        sys_id, table = await self._locator.where(ticket_id)
        field = "comments" if note.public else "work_notes"
        text = journal.written(note.text, note.marker, rich=self.context.settings.get("rich_notes") is True)
        row = await self._api.update(table, sys_id, {field: text}, ("sys_id", field), display="true")
        entry = await self._journal_entry(sys_id, note.marker)
        if entry is None and not same_marker(text_of(row.get(field)), note.marker):
            raise ValidationRefused(f"the note was taken and not kept: our account may not write {field} of {table}")
        return entry or note.marker

    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        sys_id, table = await self._locator.where(ticket_id)
        row = await self._api.attach(table, sys_id, filename, content_type, content, self._max_attachment)
        attachment_id = id_of(row.get("sys_id"))
        if attachment_id is None:
            raise TornAnswer("ServiceNow took a file and did not say its id", in_doubt=True)
        return attachment_id

    async def list_attachments(self, ticket_id: str) -> Sequence[Attachment]:
        sys_id, _ = await self._locator.where(ticket_id)
        found = []
        for row in await self._api.attachments(sys_id):
            size = text_of(row.get("size_bytes"))
            found.append(
                Attachment(
                    attachment_id=text_of(row.get("sys_id")),
                    filename=text_of(row.get("file_name")),
                    content_type=text_of(row.get("content_type")).partition(" ")[0] or "application/octet-stream",
                    size=int(size) if size.isdecimal() else None,
                )
            )
        return found

    async def download_attachment(self, ticket_id: str, attachment_id: str) -> AsyncIterator[bytes]:
        """Only a file of this ticket, and only one that the virus scan has let pass."""
        sys_id, _ = await self._locator.where(ticket_id)
        row = await self._api.attachment(attachment_id)
        if text_of(row.get("table_sys_id")) != sys_id:
            raise NotFound(f"attachment {attachment_id[:40]} is not on this ticket", status=404)
        if text_of(row.get("state")) not in ("", "available"):
            raise ValidationRefused(f"attachment {attachment_id} is {text_of(row.get('state'))}: not free to be read")
        async for chunk in self._api.download(attachment_id, self._max_attachment):
            yield chunk

    @property
    def _max_attachment(self) -> int:
        return int(self.context.settings.get("max_attachment_bytes") or MAX_ATTACHMENT)

    # capabilities ----------------------------------------------------------------------------------------------------
    async def device_context(self, ticket: TicketMetadata) -> DeviceContext | None:
        """The configuration items a ticket is about, their relations and the services that lean on them; None when it names none."""
        sys_id, table = await self._locator.where(ticket.ticket_id)
        return await self._cmdb.context(table, sys_id, ticket.device or {})

    async def configuration_item(self, class_name: str, item_id: str) -> ConfigurationItem:
        """One item with all its class's attributes."""
        return await self._cmdb.item(class_name, item_id)

    async def sla_targets(self, ticket_id: str) -> Sequence[SlaTarget]:
        """The SLAs on a record, the one due first before the others; cancelled ones are left out."""
        sys_id, _ = await self._locator.where(ticket_id)
        query = f"task={sys_id}^stage!=cancelled^ORDERBYplanned_end_time"
        rows, _ = await self._api.rows("task_sla", query, SLA_FIELDS, display=BOTH_VALUES)
        return [
            SlaTarget(
                name=shown(row.get("sla")) or text_of(row.get("sla")),
                due_at=to_micros(text_of(row.get("planned_end_time"))),
                completed_at=to_micros(text_of(row.get("end_time"))),
                breached=text_of(row.get("has_breached")) == "true",
                paused=text_of(row.get("stage")) == "paused",
            )
            for row in rows
        ]

    async def find_people(self, text: str) -> Sequence[Person]:
        wanted = escaped(text.strip())
        if not wanted:
            return []
        query = f"active=true^emailSTARTSWITH{wanted}^ORuser_nameSTARTSWITH{wanted}^ORnameSTARTSWITH{wanted}^ORDERBYname^ORDERBYsys_id"
        rows, _ = await self._api.rows("sys_user", query, PERSON_FIELDS, limit=MAX_PEOPLE, display=BOTH_VALUES)
        return [
            Person(
                person_id=text_of(row.get("sys_id")),
                name=text_of(row.get("name")),
                email=text_of(row.get("email")) or None,
                attributes={name: value for name in PERSON_FIELDS[3:] if (value := shown(row.get(name)) or text_of(row.get(name)))},
            )
            for row in rows
        ]

    async def change_tasks(self, ticket_id: str) -> Sequence[TicketMetadata]:
        """The tasks of a change, by number; each is a ticket of its own."""
        sys_id, _ = await self._locator.where(ticket_id)
        tasks = self._api.every_row("change_task", f"change_request={sys_id}^ORDERBYnumber^ORDERBYsys_id", display=BOTH_VALUES)
        return [self._read(row, "change_task") async for row in tasks]

    # health ----------------------------------------------------------------------------------------------------------
    async def health_check(self) -> Health:
        """Sees through a sleeping instance's page, and through ACLs that hide every row under status 200."""
        try:
            query = "user_name=javascript:gs.getUserName()"
            mine, _ = await self._api.rows("sys_user", query, ("sys_id", "user_name"), limit=1)
            actor = text_of(mine[0].get("user_name")) if len(mine) == 1 else ""
            if not actor:
                return Health(False, "the instance does not show us our own user; give the account a role that reads sys_user")
            rows, total = await self._api.rows("incident", "ORDERBYsys_id", ("sys_id",), limit=1)
        except (ApiError, PluginConfigError) as exc:
            return Health(False, str(exc))
        if total and not rows:
            return Health(False, f"our account sees none of {total} incidents; give it the role itil", actor)
        return Health(True, actor=actor)

    async def _journal_entry(self, sys_id: str, marker: str) -> str | None:
        """The journal entry that carries a marker; None also where the journal is closed to our account."""
        query = f"element_id={sys_id}^ORDERBYDESCsys_created_on^ORDERBYsys_id"
        try:
            async for row in self._api.every_row("sys_journal_field", query, ("sys_id", "element_id", "value")):
                if text_of(row.get("element_id")) == sys_id and same_marker(text_of(row.get("value")), marker):
                    return id_of(row.get("sys_id"))
        except CredentialsRefused as exc:
            if exc.status != 403:
                raise
        return None

    def _read(self, row: Row, table: str) -> TicketMetadata:
        try:
            return self._payload.record(row, text_of(row.get("sys_class_name")) or table)
        except NotADelivery as exc:
            raise TornAnswer(f"ServiceNow: {exc}") from None

    def _ref(self, row: Row, table: str) -> TicketRef:
        sys_id = id_of(row.get("sys_id"))
        if sys_id is None:
            raise TornAnswer("ServiceNow answered a record without its sys_id", in_doubt=True)
        self._locator.remember(sys_id, table)
        url = f"{self._base_url}/{table}.do?sys_id={sys_id}" if self._base_url else None
        return TicketRef(ticket_id=sys_id, url=url, updated_at=to_micros(text_of(row.get("sys_updated_on"))))
