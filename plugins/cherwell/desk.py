"""One tenant's Cherwell as the plugin uses it: records by name, in the tenant's words, with what a single call does not do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from plugins.api import (
    ApiError,
    FatalApiError,
    NewTicket,
    NotFound,
    PluginConfigError,
    TicketChanges,
    TicketStatus,
    TornAnswer,
    ValidationRefused,
)
from plugins.cherwell.api_client import BATCH, CherwellClient, CherwellErrors
from plugins.cherwell.objects import ObjectMap, is_record_id
from plugins.cherwell.schemas import Schema, Schemas
from plugins.mapping import to_id
from plugins.richtext import from_markdown, to_html, to_plain

if TYPE_CHECKING:
    import httpx

    from plugins.http.client import ApiClient

Json = dict[str, Any]

MAX_SUBJECT: Final = 255
RECORDS_KEPT: Final = 10_000
DONE: Final = frozenset({TicketStatus.RESOLVED, TicketStatus.CLOSED})


class Desk:
    """Records of business objects by the object's name."""

    def __init__(self, http: ApiClient, auth: httpx.Auth, settings: Mapping[str, Any]) -> None:
        errors = CherwellErrors()
        base = str(settings.get("base_url") or "").rstrip("/").removesuffix("/CherwellAPI")
        bound = http.bound(base_url=base, auth=auth, headers={"Accept": "application/json"}, error_for=errors)
        self.api = CherwellClient(bound, errors, str(settings.get("culture") or "en-US"))
        self.schemas = Schemas(self.api)
        self._settings = settings
        self._external_id_field = str(settings.get("external_id_field") or "ExternalReference")
        self._event_field = str(settings.get("event_field") or "ExternalEvent")
        self._record_ids: dict[tuple[str, str], str] = {}
        self._customer_found: Json = {}

    # records ---------------------------------------------------------------------------------------------------------
    async def read(self, name: str, record: str) -> Json:
        schema = await self.schemas.of(name)
        answer = await self.api.read(schema.object_id, key_of(record))
        self._remember(name, answer)
        return answer

    async def record_id(self, name: str, record: str) -> str:
        """The record's own id, which relationships and files want; known or read."""
        if is_record_id(record):
            return record
        known = self._record_ids.get((name, record))
        if known is None:
            known = to_id((await self.read(name, record)).get("busObRecId"))
            if known is None:
                raise TornAnswer(f"Cherwell answered a record of {name} without its id")
        return known

    async def read_many(self, name: str, records: Sequence[str]) -> list[tuple[str, Json | ApiError]]:
        """Each asked record of one object, by fifties."""
        schema, found = await self.schemas.of(name), list[tuple[str, Json | ApiError]]()
        for start in range(0, len(records), BATCH):
            chunk = records[start : start + BATCH]
            try:
                rows = await self.api.read_many([{"busObId": schema.object_id, **key_of(record)} for record in chunk])
            except ApiError as exc:
                found += [(record, exc) for record in chunk]
                continue
            for record, row in zip(chunk, rows, strict=True):
                error = self.api.errors.of_item(row, f"{name} {record}")
                found.append((record, error if error is not None else row))
        return found

    async def save(self, name: str, fields: Mapping[str, Any], record: str = "") -> Json:
        """Makes a record, or changes one; fields by name, display name or id."""
        answer = await self.api.save(await self.request(name, fields, record))
        self._remember(name, answer)
        return answer

    async def save_many(self, saves: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[Json | ApiError]:
        """(object, record, fields) by fifties, each with its own outcome, in order."""
        outcomes: list[Json | ApiError] = []
        for start in range(0, len(saves), BATCH):
            chunk, requests = saves[start : start + BATCH], dict[int, Json]()
            results: dict[int, Json | ApiError] = {}
            for at, (name, record, fields) in enumerate(chunk):
                try:
                    requests[at] = await self.request(name, fields, record)
                except ApiError as exc:
                    results[at] = exc
            try:
                rows: Sequence[Json | ApiError] = await self.api.save_many(list(requests.values())) if requests else ()
            except ApiError as exc:
                rows = [exc] * len(requests)
            for at, row in zip(requests, rows, strict=True):
                error = row if isinstance(row, ApiError) else self.api.errors.of_item(row, f"{chunk[at][0]} {chunk[at][1]}")
                results[at] = row if error is None else error
            outcomes += [results[at] for at in range(len(chunk))]
        return outcomes

    async def request(self, name: str, fields: Mapping[str, Any], record: str = "") -> Json:
        """The body of a save; raises ValidationRefused for a field the object does not have."""
        schema = await self.schemas.with_fields(name, fields)
        key = key_of(record) if record else {}
        return {
            "busObId": schema.object_id,
            "busObPublicId": key.get("busObPublicId", ""),
            "busObRecId": key.get("busObRecId", ""),
            "cacheKey": "",
            "cacheScope": "Tenant",
            "persist": True,
            "fields": [schema.value(field, value) for field, value in fields.items()],
        }

    async def delete(self, name: str, record: str) -> None:
        schema = await self.schemas.of(name)
        await self.api.delete(schema.object_id, key_of(record))

    async def search(self, name: str, filters: Mapping[str, Any], limit: int | None = None) -> AsyncIterator[Json]:
        """Records whose fields equal the filters; a list of values for one field means any of them."""
        schema = await self.schemas.with_fields(name, filters)
        told = []
        for field, wanted in filters.items():
            for value in wanted if isinstance(wanted, list) else [wanted]:
                made = schema.value(field, value)
                told.append({"fieldId": made["fieldId"], "operator": "eq", "value": made["value"]})
        async for row in self.api.search({"busObId": schema.object_id, "filters": told, "includeAllFields": True}, limit):
            yield row

    async def related(self, name: str, record: str, relationship: str) -> AsyncIterator[Json]:
        schema = await self.schemas.of(name)
        async for row in self.api.related(schema.object_id, await self.record_id(name, record), _relationship(schema, relationship)):
            yield row

    # tickets ---------------------------------------------------------------------------------------------------------
    async def created(self, made: ObjectMap, ticket: NewTicket) -> Json:
        """The fields of a new ticket by name: the tenant's defaults under what is asked for."""
        status = ticket.status if ticket.status is not TicketStatus.UNKNOWN else TicketStatus.NEW
        fields: Json = {
            **made.defaults,
            **_told(made, "subject", ticket.subject[:MAX_SUBJECT]),
            **_told(made, "description", _text(made, "description", ticket.description or ticket.subject)),
            **_told(made, "status", made.status_names.get(status)),
            **_told(made, "priority", made.priority_names.get(ticket.priority)),
            **_told(made, "type", made.type_names.get(ticket.type)),
            **ticket.custom_fields,
            self._external_id_field: ticket.external_id,
            self._event_field: ticket.event_id,
        }
        return {**fields, **(await self._customer())}

    def changed(self, made: ObjectMap, changes: TicketChanges) -> Json:
        """The fields an update sets, by name, with the event's id."""
        subject = None if changes.subject is None else changes.subject[:MAX_SUBJECT]
        status = None if changes.status is None or made.lifecycle else made.status_names.get(changes.status)
        return {
            **(made.on_close if changes.status in DONE else {}),
            **_told(made, "subject", subject),
            **_told(made, "status", status),
            **_told(made, "priority", None if changes.priority is None else made.priority_names.get(changes.priority)),
            **_told(made, "type", None if changes.type is None else made.type_names.get(changes.type)),
            **changes.custom_fields,
            self._event_field: changes.event_id,
        }

    async def update(self, made: ObjectMap, record: str, changes: TicketChanges) -> Json:
        """Where the object has a lifecycle its status is moved first: a move that is not open refuses before anything is written."""
        if made.lifecycle and changes.status is not None:
            await self.lead(made, record, made.status_names.get(changes.status, changes.status.value))
        return await self.save(made.name, self.changed(made, changes), record)

    async def lead(self, made: ObjectMap, record: str, status: str) -> None:
        """Takes the transition that leads to a status; none where it is there already."""
        schema, record_id = await self.schemas.of(made.name), await self.record_id(made.name, record)
        now = next(
            (f.get("value") for f in (await self.read(made.name, record_id)).get("fields") or () if f.get("name") == made.fields["status"]),
            "",
        )
        if str(now).casefold() == status.casefold():
            return
        options = await self.api.transition_options(schema.object_id, record_id)
        for option in options:
            if status.casefold() in str(option.get("name")).casefold() and option.get("isAvailable") is not False:
                await self.api.transition(schema.object_id, record_id, str(option.get("id")))
                return
        names = ", ".join(str(option.get("name")) for option in options[:8])
        raise ValidationRefused(f"no transition leads {made.name} from {now} to {status}; open are: {names or 'none'}")

    async def by_external_id(self, made: ObjectMap, external_id: str) -> list[Json]:
        """The records with our id; none where the object has no field for it."""
        schema = await self.schemas.of(made.name)
        if schema.field(self._external_id_field) is None:
            return []
        rows = [row async for row in self.search(made.name, {self._external_id_field: external_id})]
        return [row for row in rows if value_in(row, self._external_id_field) == external_id]

    async def last_event(self, made: ObjectMap, record: str) -> str:
        """The event_id of the last update of ours."""
        return value_in(await self.read(made.name, record), self._event_field)

    async def missing_fields(self, made: ObjectMap) -> list[str]:
        """Mapped fields that the object does not have; our own two are a must, of the others those a tenant named."""
        schema = await self.schemas.of(made.name)
        wanted = [made.fields.get(key, "") for key in ("subject", "status", "priority")]
        return [name for name in (*wanted, self._external_id_field, self._event_field) if name and schema.field(name) is None]

    async def _customer(self) -> Json:
        """The record of the customer that new tickets are for: the setting `requester`, an e-mail address."""
        address = str(self._settings.get("requester") or "")
        if not address or self._customer_found:
            return self._customer_found
        name = str(self._settings.get("customer_object") or "CustomerInternal")
        rows = [row async for row in self.search(name, {"Email": address}, limit=2)]
        if len(rows) != 1:
            raise PluginConfigError(f"`requester` must be the address of one {name} in Cherwell; {len(rows) or 'none'} has it")
        self._customer_found = {"CustomerRecID": rows[0].get("busObRecId"), "CustomerTypeID": (await self.schemas.of(name)).object_id}
        return self._customer_found

    # journals --------------------------------------------------------------------------------------------------------
    async def add_journal(self, made: ObjectMap, record: str, text: str, *, public: bool) -> str:
        """A journal note on the record; a public one needs the field that shows it."""
        schema, journal = await self.schemas.of(made.name), await self.schemas.of(made.journal_object)
        fields: Json = {made.journal_text: text}
        if journal.field(made.journal_public) is not None:
            fields[made.journal_public] = public
        elif public:
            raise ValidationRefused(f"{made.journal_object} has no field {made.journal_public}: a note cannot be shown to the customer")
        key = key_of(record)
        answer = await self.api.save_related(
            {
                "parentBusObId": schema.object_id,
                "parentBusObRecId": key.get("busObRecId", ""),
                "parentBusObPublicId": key.get("busObPublicId", ""),
                "relationshipId": _relationship(schema, made.journal),
                "busObId": journal.object_id,
                "persist": True,
                "fields": [journal.value(name, value) for name, value in fields.items()],
            }
        )
        note_id = to_id(answer.get("busObRecId")) or to_id(answer.get("busObPublicId"))
        if note_id is None:
            raise TornAnswer("Cherwell took a note and did not say its id", in_doubt=True)
        return note_id

    # workflow --------------------------------------------------------------------------------------------------------
    async def one_steps(self) -> list[Json]:
        """Every One-Step Action we may run: {name, key, object_id, folder}."""
        answer = await self.api.one_steps()
        found: list[Json] = []

        def walk(folder: Mapping[str, Any], path: str, depth: int) -> None:
            for item in folder.get("childItems") or ():
                name = str(item.get("displayName") or item.get("name") or "")
                found.append({"name": name, "key": item.get("standInKey"), "object_id": item.get("association"), "folder": path})
            for child in folder.get("childFolders") or () if depth < 16 else ():
                walk(child, f"{path}/{child.get('name') or ''}", depth + 1)

        walk(answer.get("root") or {}, "", 0)
        return found

    async def one_step_key(self, name: str) -> str:
        """A One-Step's key by its name or by itself; raises NotFound, or ValidationRefused where a name is not one."""
        if ":" in name:
            return name
        found = [row for row in await self.one_steps() if name.casefold() in (str(row["name"]).casefold(), str(row["key"]).casefold())]
        if not found:
            raise NotFound(f"Cherwell has no One-Step called {name[:80]!r} for our account")
        if len({row["key"] for row in found}) > 1:
            raise ValidationRefused(f"several One-Steps are called {name[:80]!r}; give the key of one")
        return str(found[0]["key"])

    async def run_one_step(self, key: str, record: tuple[str, str] | None, prompts: Mapping[str, Any]) -> Json:
        body: Json = {"oneStepActionStandInKey": key, "acquireLicense": True}
        if record is not None:
            name, record_id = record
            body |= {"busObId": (await self.schemas.of(name)).object_id, "busObRecId": await self.record_id(name, record_id)}
        body["promptValues"] = [{"promptId": prompt, "value": value} for prompt, value in prompts.items()]
        answer = await self.api.run_one_step(body)
        if answer.get("completed") is False:
            raise FatalApiError("the One-Step did not run to its end; it may wait for somebody at a screen", in_doubt=True)
        return answer

    def _remember(self, name: str, answer: Mapping[str, Any]) -> None:
        public, record_id = to_id(answer.get("busObPublicId")), to_id(answer.get("busObRecId"))
        if public and record_id:
            if len(self._record_ids) >= RECORDS_KEPT:
                self._record_ids.pop(next(iter(self._record_ids)))
            self._record_ids[name, public] = record_id


def key_of(record: str) -> dict[str, str]:
    """A record by its own id or by its public one, as calls name it."""
    return {"busObRecId": record.lower()} if is_record_id(record) else {"busObPublicId": record}


def value_in(answer: Mapping[str, Any], name: str) -> str:
    """A field's value in a record as read; empty where it has none."""
    for row in answer.get("fields") or ():
        if isinstance(row, dict) and str(row.get("name")).casefold() == name.casefold():
            return str(row.get("value") or "")
    return ""


def _told(made: ObjectMap, canonical: str, value: str | None) -> Json:
    return {made.fields[canonical]: value} if value is not None and made.fields.get(canonical) else {}


def _text(made: ObjectMap, canonical: str, markdown: str) -> str:
    document = from_markdown(markdown)
    return to_html(document) if made.fields.get(canonical) in made.rich_text else to_plain(document)


def _relationship(schema: Schema, name: str) -> str:
    found = schema.relationships.get(name.casefold())
    if found is None and re.fullmatch(r"[0-9a-f]{32,42}", name, re.IGNORECASE):
        found = name
    if found is None:
        raise ValidationRefused(f"the business object {schema.name} has no relationship called {name[:80]!r}")
    return found
