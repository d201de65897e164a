"""What a SysAid record or delivery says, in canonical words. Pure.

A record is `{"id", "info": [{"key", "value", "valueCaption"}]}`: `value` is a code, number or text as it pleases the version,
`valueCaption` its text in the account's language. Deliveries come in three shapes: the newer API's events, whose keys the vendor
shows in part only; a record as the API answers it; and flat bodies an admin wrote with `${…}` placeholders. All are folded into
one table by names without case or underscores, and read from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, TypeVar

from plugins.api import (
    Attachment,
    Delivery,
    NotADelivery,
    Person,
    PluginConfigError,
    Priority,
    TicketChange,
    TicketMetadata,
    TicketStatus,
    TicketType,
)
from plugins.mapping import FieldMap, WordMap, tenant_words, to_id, to_micros, to_tags, to_text
from plugins.repair import object_or_form
from plugins.richtext import from_html, to_plain
from plugins.sysaid.words import CANONICAL, CHANGES, KNOWN, NAMES, PRIORITIES, RECORDS, STATUSES, TYPES

Json = dict[str, Any]

MOST_FIELDS = 2000
"""Fields read of one object; a form has a hundred."""
_PLACEHOLDER = re.compile(r"\s*\$\{[^{}]*\}\s*")
_MARKUP = re.compile(r"\s*<(p|div|html|body|table)\b[^>]*>.*</\1>\s*", re.IGNORECASE | re.DOTALL)
_CUSTOM = re.compile(r"(sr_)?cust_\w+")
E = TypeVar("E", Priority, TicketStatus, TicketType)


def fold(record: Mapping[str, Any]) -> tuple[Json, dict[str, str]]:
    """A record's fields as {key: value} and {key: caption}; the order of `info` means nothing."""
    values: Json = {}
    captions: dict[str, str] = {}
    info = record.get("info")
    if isinstance(info, dict):
        return dict(islice(info.items(), MOST_FIELDS)), captions
    for item in info[:MOST_FIELDS] if isinstance(info, list) else ():
        if isinstance(item, dict) and isinstance(key := item.get("key"), str):
            values[key] = item.get("value")
            if (caption := to_text(item.get("valueCaption", item.get("value_caption")))) and caption != to_text(item.get("value")):
                captions[key] = caption
    return values, captions


def notes_of(values: Mapping[str, Any]) -> list[Json]:
    """The notes in a record's folded fields, as the tool orders them; one note may stand there by itself."""
    found = values.get("notes")
    found = found if isinstance(found, list) else [found]
    return [note for note in found if isinstance(note, dict) and "text" in note]


def person_of(row: Mapping[str, Any]) -> Person | None:
    """A user of SysAid itself; the name is DOMAIN\\account."""
    person_id = to_id(row.get("id"))
    if person_id is None:
        return None
    values, captions = fold(row)
    account = to_text(row.get("name"))
    more = {
        "account": account,
        "department": captions.get("department") or to_text(values.get("department")),
        "phone": to_text(values.get("phone")),
    }
    return Person(
        person_id=person_id,
        name=to_text(values.get("display_name")) or account,
        email=to_text(values.get("email_address")) or None,
        attributes={name: value for name, value in more.items() if value},
    )


def attachment_of(row: Any) -> Attachment | None:
    """A file on a record; its keys are not in the manual, so the spellings in use are all read."""
    if not isinstance(row, dict):
        return None
    file_id = to_id(row.get("fileId")) or to_id(row.get("id"))
    if file_id is None:
        return None
    size = next((row[name] for name in ("fileSize", "size") if name in row), None)
    return Attachment(
        attachment_id=file_id,
        filename=to_text(row.get("fileName") or row.get("name")) or file_id,
        content_type=to_text(row.get("contentType")) or "application/octet-stream",
        size=int(size) if isinstance(size, (int, float)) or (isinstance(size, str) and size.isdigit()) else None,
    )


class SysAidPayload:
    """Reads deliveries and records by one tool's settings: `webhook.fields`, `words`, `default_priority`, `base_url`, field names."""

    def __init__(self, tenant: str, settings: Mapping[str, Any]) -> None:
        self._tenant = tenant
        own = (settings.get("webhook") or {}).get("fields") or {}
        self._own = FieldMap(own) if own else None
        self._priorities = PRIORITIES.with_words(tenant_words(settings, "priority", Priority))
        self.statuses = STATUSES.with_words(tenant_words(settings, "status", TicketStatus))
        self._types = TYPES.with_words(tenant_words(settings, "type", TicketType))
        try:
            self._no_priority = Priority(settings.get("default_priority", Priority.UNKNOWN))
        except ValueError:
            raise PluginConfigError(f"default_priority must be one of: {', '.join(Priority)}") from None
        self._external_id_key = str(settings.get("external_id_field") or "cust_text1")
        self._html = settings.get("text_format") == "html"
        base_url = str(settings.get("base_url") or "").rstrip("/").removesuffix("/api/v1")
        self._url = f"{base_url}/SREdit.jsp?id=" if base_url else None

    # deliveries --------------------------------------------------------------------------------------------------------
    def ticket_key(self, delivery: Delivery) -> str | None:
        try:
            document = object_or_form(delivery.body, delivery.content_type)
        except NotADelivery:
            return None
        return self._ticket_id(document, _Table(document))

    def version(self, delivery: Delivery) -> str | None:
        """`account/record/version/event` of a delivery that carries a record's version: the same when it is sent again."""
        try:
            document = object_or_form(delivery.body, delivery.content_type)
        except NotADelivery:
            return None
        table = _Table(document)
        ticket_id, version = self._ticket_id(document, table), to_id(table.value("version"))
        if ticket_id is None or version is None:
            return None
        return f"{to_text(table.value('account'))}/{ticket_id}/{version}/{to_text(table.value('event'))}"[:200]

    def metadata(self, delivery: Delivery) -> TicketMetadata:
        """The delivery in canonical words; raises NotADelivery when it is no JSON object or names no service record."""
        document = object_or_form(delivery.body, delivery.content_type)
        table = _Table(document)
        own = {name: value for name, value in (self._own.read(document) if self._own else {}).items() if value is not None}
        ticket_id = self._ticket_id(document, table)
        if ticket_id is None:
            raise NotADelivery("the body names no service record; put sr_id into the call's JSON, or set webhook.fields.ticket_id")
        event = to_text(own.get("change", table.value("event")))
        metadata = self._read(ticket_id, table, own, self._change(event))
        extra = metadata.extra
        assert isinstance(extra, dict)  # made below, by _read
        extra["event"] = event
        if (version := to_id(table.value("version"))) is not None:
            extra["sr_version"] = version
        elif event.startswith("sr."):
            extra["partial"] = True  # one field at a time while somebody edits; the one with the version follows
        return metadata

    def record(self, record: Mapping[str, Any]) -> TicketMetadata:
        """A service record as the API answers it; raises NotADelivery without an id."""
        table = _Table(dict(record))
        ticket_id = to_id(record.get("id"))
        if ticket_id is None:
            raise NotADelivery("the service record has no id")
        return self._read(ticket_id, table, {}, TicketChange.UNKNOWN)

    # words -------------------------------------------------------------------------------------------------------------
    def _ticket_id(self, document: Json, table: _Table) -> str | None:
        own = self._own.get(document, "ticket_id") if self._own else None
        ticket_id = to_id(own if own is not None else table.value("ticket_id"))
        return ticket_id.removeprefix("#") or None if ticket_id else None

    def _change(self, event: str) -> TicketChange:
        word = re.sub(r"[^a-z]", "", event.lower())
        for name in (word, word.removeprefix("servicerecord"), word.removeprefix("sr")):
            if name in CHANGES:
                return CHANGES[name]
        return TicketChange.UNKNOWN

    def _read(self, ticket_id: str, table: _Table, own: Json, change: TicketChange) -> TicketMetadata:
        extra: Json = {}
        unknown: dict[str, str] = {}

        def word(name: str, words: WordMap[E]) -> E:
            given = (own[name],) if name in own else (table.caption(name), table.value(name))
            for spelling in given:
                if spelling not in (None, "") and (found := words(to_text(spelling))) is not words.unknown:
                    return found
            if named := next((to_text(s) for s in given if s not in (None, "")), ""):
                unknown[name] = named[:80]
            return words.unknown

        def text(name: str) -> str:
            return to_text(own[name] if name in own else table.value(name))

        status, type_ = word("status", self.statuses), word("type", self._types)
        no_priority = own.get("priority", table.value("priority")) in (None, "")
        priority = self._no_priority if no_priority else word("priority", self._priorities)
        changed = _changed(table.value("changed"))
        note = _note(own.get("comment", table.raw("comment", "note", "notes")))
        if changed:
            extra["changed"] = changed
        if note is not None and change is not TicketChange.CREATED and (not changed or "comment" in changed):
            extra["comment"], said_public = self._plain(to_text(note.get("text"))), note.get("public", table.value("comment_public"))
            extra["comment_public"] = said_public is True or to_text(said_public).lower() in ("true", "yes", "1")
            if change is TicketChange.UPDATED and not (changed and set(changed) - {"comment"}):
                change = TicketChange.COMMENTED
        if change is TicketChange.UPDATED and "status" in changed and status in (TicketStatus.RESOLVED, TicketStatus.CLOSED):
            change = TicketChange.RESOLVED
        if table.strange and not all(table.value(name) for name in ("type", "priority", "status")):
            unknown["fields"] = ", ".join(table.strange)[:200]  # a field we look for may stand there under a name of its own
        if unknown:
            extra["unknown"] = unknown
        if (caption := table.caption("requester")) is not None:
            extra["requester_name"] = caption
        for name in ("company", "department", "location", "agreement"):
            if (caption := table.captions.get(name) or to_text(table.names.get(name))) not in ("", "0"):
                extra[name] = caption
        extra["external_id"] = to_text(table.names.get(_plainest(self._external_id_key)) or table.value("external_id")) or None
        actor = note.get("userName") if note and "comment" in extra and table.value("actor") is None else table.value("actor")
        device = to_id(own.get("device", table.value("device")))
        return TicketMetadata(
            tenant_id=self._tenant,
            ticket_id=ticket_id,
            type=type_,
            priority=priority,
            status=status,
            change=change,
            subject=text("subject").strip(),
            description=self._plain(text("description")),
            requester=to_id(own.get("requester", table.value("requester"))),
            assignee=to_id(own.get("assignee", table.value("assignee"))),
            actor=to_id(own.get("actor", actor)),
            tags=to_tags(own.get("tags", table.value("tags"))),
            custom_fields=table.custom,
            device={"asset_id": device, "name": table.caption("device") or device} if device else None,
            sla_due_at=to_micros(own.get("sla_due_at", table.value("sla_due_at"))),
            created_at=to_micros(own.get("created_at", table.value("created_at"))),
            updated_at=to_micros(own.get("updated_at", table.value("updated_at"))),
            url=text("url") or (self._url + ticket_id if self._url else None),
            extra=extra,
        )

    def _plain(self, text: str) -> str:
        """Plain text of what an account keeps as plain text or as HTML."""
        return to_plain(from_html(text)) if text and (self._html or _MARKUP.fullmatch(text)) else text


class _Table:
    """A document's fields by name without case and underscores: the envelope's, over them the record's own, over them its `info`."""

    __slots__ = ("captions", "custom", "names", "strange")

    def __init__(self, document: Json) -> None:
        self.names: Json = {}
        self.captions: dict[str, str] = {}
        self.custom: Json = {}
        self.strange: list[str] = []
        self._add(document)
        data = document.get("data")
        for holder, name in [(document, name) for name in RECORDS] + [(data, name) for name in RECORDS if isinstance(data, dict)]:
            inner = holder.get(name)
            if isinstance(inner, list) and len(inner) == 1:  # some versions answer one record in a list
                inner = inner[0]
            if isinstance(inner, dict):
                self._add(inner)

    def _add(self, part: Json) -> None:
        for key, value in islice(part.items(), MOST_FIELDS):
            if key != "info":
                self._put(key, value)
        values, captions = fold(part)
        for key, value in values.items():
            if key.lower() == "id":  # a field of that name would hide the record's own
                continue
            self._put(key, value)
            if _plainest(key) not in KNOWN and not _CUSTOM.fullmatch(key) and len(self.strange) < 10:
                self.strange.append(key[:40])
        for key, caption in captions.items():
            self.captions[_plainest(key)] = caption

    def _put(self, key: str, value: Any) -> None:
        if isinstance(value, str) and _PLACEHOLDER.fullmatch(value):
            return  # a placeholder nothing was put in for
        name = _plainest(key)
        if isinstance(value, dict) and (caption := to_text(value.get("valueCaption") or value.get("caption") or value.get("name"))):
            self.captions[name] = caption
            value = value.get("value", value.get("id"))
        self.names[name] = value
        if _CUSTOM.fullmatch(key):
            self.custom[key] = value

    def value(self, name: str) -> Any:
        """The first spelling of a canonical field that has a value."""
        for spelling in NAMES[name]:
            value = self.names.get(spelling)
            if value is not None and value != "":
                return value
        return None

    def caption(self, name: str) -> str | None:
        for spelling in NAMES[name]:
            if caption := self.captions.get(spelling):
                return caption
        return None

    def raw(self, *names: str) -> Any:
        return next((value for name in names if (value := self.names.get(name)) not in (None, "", [])), None)


def _plainest(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "").replace(" ", "")


def _note(found: Any) -> Json | None:
    """One note: an object, the newest of a list, or its bare text."""
    if isinstance(found, list):
        notes = [note for note in found if isinstance(note, dict) and "text" in note]
        return max(notes, key=lambda note: to_micros(note.get("createDate")) or 0) if notes else None
    if isinstance(found, dict):
        return found if "text" in found else None
    return {"text": found} if isinstance(found, str) and found else None


def _changed(found: Any) -> tuple[str, ...]:
    """Canonical names of changed fields, from a list of keys, of objects with a key, or an object by key."""
    items = list(found) if isinstance(found, (list, dict)) else to_text(found).replace(";", ",").split(",")
    names = []
    for item in items:
        key = item.get("key") or item.get("field") or item.get("fieldName") if isinstance(item, dict) else item
        key = to_text(key).strip()
        name = "custom_fields" if _CUSTOM.fullmatch(key) else CANONICAL.get(_plainest(key), key)
        if name and name not in names:
            names.append(name)
    return tuple(names[:50])
