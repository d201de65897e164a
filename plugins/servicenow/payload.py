"""What a ServiceNow delivery says, in canonical words.

There is no webhook body of the vendor's: a script on the instance builds one. Read are the body the README recommends, flat bodies
with display words, whole records with raw values or with `{"display_value", "value"}` pairs, and any of them wrapped. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from plugins.api import Delivery, NotADelivery, PluginConfigError, Priority, TicketChange, TicketMetadata, TicketStatus, TicketType
from plugins.mapping import FieldMap, WordMap, tenant_words, to_micros, to_tags, to_text
from plugins.repair import object_or_form
from plugins.servicenow.journal import entries
from plugins.servicenow.tables import (
    LABELS,
    PRIORITY_WORDS,
    PROBLEM,
    PROBLEM_WORDS,
    STATE_WORDS,
    STATES,
    TYPES,
    code,
    table_of_number,
)

WRAPPERS = (
    "record",
    "records",
    "data",
    "result",
    "current",
    "payload",
    "incident",
    "change_request",
    "change",
    "problem",
    "task",
    "ticket",
)
NO_TICKETS = ("sys_", "cmdb_", "kb_")
"""What the tables begin with whose records are users, items and articles."""
WITHIN = ("value", "display_value", "email", "sys_id", "id", "name")
SYS_ID = re.compile(r"[0-9a-f]{32}")
NUMBER = re.compile(r"[A-Z]{2,10}[0-9]{4,}")

IDS = (
    *("record_id", "sys_id", "ticket_id", "change_sys_id", "incident_sys_id", "sysId"),
    *("number", "change_number", "incident_number", "task_number", "ticket_number", "external_reference"),
)
"""Where a body may name its record, ids before numbers."""

FIELDS = FieldMap(
    ticket_id=IDS[:6],
    number=IDS[6:],
    table=("table", "sys_class_name", "record_type", "table_name"),
    change=("event", "event_occurred", "event_type", "operation", "action"),
    subject=("short_description", "subject", "title"),
    description=("description",),
    status=("state", "incident_state", "status"),
    state_label=("state_label",),
    priority=("priority",),
    requester=("caller_email", "caller_id", "caller", "requested_for", "requested_by", "opened_by"),
    assignee=("assigned_to_email", "assigned_to"),
    actor=("updated_by", "sys_updated_by", "actor", "user_name", "triggered_by"),
    tags=("tags", "sys_tags"),
    created_at=("sys_created_on", "created_at", "opened_at"),
    updated_at=("sys_updated_on", "updated_at"),
    sla_due_at=("sla_due", "sla_due_at"),
    external_id=("correlation_id",),
    comment=("comment", "comments", "work_notes"),
    comment_public=("comment_public",),
    changed=("changed", "changed_fields"),
    device=("cmdb_ci", "component_sys_id"),
    url=("url", "link"),
)
"""Where each field may stand. `sys_id` is only read where there is no `record_id`: beside one, it is the id of a subscription."""

CHANGES: Mapping[str, TicketChange] = {
    **{change.value: change for change in TicketChange if change is not TicketChange.UNKNOWN},
    **dict.fromkeys(("insert", "inserted", "create", "new", "opened"), TicketChange.CREATED),
    **dict.fromkeys(("update", "changed", "state", "priority", "assigned_to", "assignment_group", "assigned"), TicketChange.UPDATED),
    **dict.fromkeys(("short_description", "description", "approval", "approve", "reject"), TicketChange.UPDATED),
    **dict.fromkeys(("comment", "comments", "work_note", "work_notes", "note"), TicketChange.COMMENTED),
    **dict.fromkeys(("resolve", "closed", "close"), TicketChange.RESOLVED),
    "delete": TicketChange.DELETED,
}
CHANGED_FIELDS: Mapping[str, str] = {
    "state": "status",
    "incident_state": "status",
    "status": "status",
    "priority": "priority",
    "impact": "priority",
    "urgency": "priority",
    "short_description": "subject",
    "subject": "subject",
    "description": "description",
    "assigned_to": "assignee",
    "caller_id": "requester",
    "requested_by": "requester",
}
"""A record's columns by the canonical field they are."""

COMMENT_WORDS = frozenset({"comment", "comments", "note", "notes", "work_note", "work_notes"})
_PARTS = re.compile(r"[a-z]+")

_Head = msgspec.defstruct("_Head", [(name, Any, None) for name in (*IDS, *WRAPPERS)])
"""As little of a body as names its record; the rest is skipped without building it."""
_head = msgspec.json.Decoder(_Head).decode

_NO_STATUS, _NO_PRIORITY, _NO_TYPE, _NO_CHANGE = TicketStatus.UNKNOWN, Priority.UNKNOWN, TicketType.UNKNOWN, TicketChange.UNKNOWN
_CREATED, _COMMENTED = TicketChange.CREATED, TicketChange.COMMENTED
"""Members of an enum by name cost 0.2 us a look."""


class ServiceNowPayload:
    """Reads deliveries and records by one tool's settings: `webhook.fields`, `words`, `default_priority`, `base_url`, `event_field`."""

    def __init__(self, tenant: str, settings: Mapping[str, Any]) -> None:
        self._tenant = tenant
        own = (settings.get("webhook") or {}).get("fields") or {}
        self._own = FieldMap(own) if own else None
        self._fields = FieldMap({name: paths for name, paths in FIELDS.paths.items() if name not in own}) if own else FIELDS
        self._priorities = WordMap(PRIORITY_WORDS, Priority.UNKNOWN).with_words(tenant_words(settings, "priority", Priority))
        self._statuses = _status_maps(tenant_words(settings, "status", TicketStatus))
        self._types = WordMap(TYPES, TicketType.UNKNOWN).with_words(tenant_words(settings, "type", TicketType))
        try:
            self._no_priority = Priority(settings.get("default_priority", Priority.UNKNOWN))
        except ValueError:
            raise PluginConfigError(f"default_priority must be one of: {', '.join(Priority)}") from None
        self._base_url = str(settings.get("base_url") or "").rstrip("/")

    def ticket_key(self, delivery: Delivery) -> str | None:
        """The record's sys_id, or its number where the body has none; None when it does not tell."""
        if self._own is None:
            try:
                head = _head(delivery.body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # an unusual shape; the whole document may still tell
            else:
                return _ticket_id(FIELDS.read(_unwrapped(msgspec.structs.asdict(head))))
        try:
            return _ticket_id(self._read(object_or_form(delivery.body, delivery.content_type), self._own)[1])
        except NotADelivery:
            return None

    def delivery_id(self, delivery: Delivery) -> str | None:
        """The id the recommended script puts into the body, where the signature covers it."""
        try:
            return id_of(object_or_form(delivery.body, delivery.content_type).get("delivery_id"))
        except NotADelivery:
            return None

    def metadata(self, delivery: Delivery) -> TicketMetadata:
        """The delivery in canonical words; raises NotADelivery when it is no JSON object or names no record."""
        return self._metadata(*self._read(object_or_form(delivery.body, delivery.content_type), self._own))

    def record(self, record: Mapping[str, Any], table: str) -> TicketMetadata:
        """A record as the Table API shows it, with `sysparm_display_value=all` or raw."""
        return self._metadata({**record, "table": table}, FIELDS.read({**record, "table": table}))

    def _read(self, body: dict[str, Any], own: FieldMap | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The record in a body and its fields; a tenant's own paths begin at the body's top, also where it wraps the record."""
        document = _unwrapped(body)
        found = self._fields.read(document)
        return document, found if own is None else {**found, **own.read(body)}

    def _metadata(self, document: dict[str, Any], found: dict[str, Any]) -> TicketMetadata:
        ticket_id = _ticket_id(found)
        if ticket_id is None:
            raise NotADelivery("the body names no record; put sys_id or number into the script's JSON, or set webhook.fields.ticket_id")
        number = id_of(found["number"])
        table = _table(found["table"]) or (table_of_number(number) if number else None) or table_of_number(ticket_id) or ""
        if table.startswith(NO_TICKETS):
            raise NotADelivery(f"a record of {table[:40]} is no ticket; let the rule run on tables derived from task")
        status = self._status(table, found["status"], found["state_label"])
        priority, type_ = self._priority(found["priority"]), self._types(table)
        word = text_of(found["change"]).strip()
        changed = _changed(found["changed"], word)
        extra: dict[str, Any] = {"table": table, "number": number, "external_id": id_of(found["external_id"])}
        comment = _comment(document, found)
        if comment is not None:
            extra["comment"], extra["comment_public"] = comment
        if changed is not None:
            extra["changed"] = changed
        for name in ("decision", "approval", "sys_mod_count", "delivery_id"):
            if (value := text_of(document.get(name))) != "":
                extra[name] = value
        if name := shown(found["assignee"]):
            extra["assignee_name"] = name
        kind = _change(word)
        if priority is _NO_PRIORITY or status is _NO_STATUS or type_ is _NO_TYPE or kind is _NO_CHANGE:
            named = table or number or ("" if SYS_ID.fullmatch(ticket_id) else ticket_id)
            told = (
                ("priority", found["priority"], priority is _NO_PRIORITY),
                ("status", found["status"], status is _NO_STATUS),
                ("type", named, type_ is _NO_TYPE),
                ("change", word, kind is _NO_CHANGE),
            )
            if unknown := {name: text_of(value)[:80] for name, value, is_unknown in told if is_unknown and text_of(value)}:
                extra["unknown"] = unknown
        return TicketMetadata(
            tenant_id=self._tenant,
            ticket_id=ticket_id,
            type=type_,
            priority=priority,
            status=status,
            change=kind if kind is _CREATED else _kind(word, kind, document, changed, status, comment is not None),
            subject=text_of(found["subject"]),
            description=text_of(found["description"]),
            requester=id_of(found["requester"]),
            assignee=id_of(found["assignee"]),
            actor=id_of(found["actor"]),
            tags=to_tags(found["tags"] if type(found["tags"]) is list else text_of(found["tags"])),
            custom_fields={n: text_of(v) for n, v in document.items() if n[:2] in ("u_", "x_")},
            device=_device(document, found["device"]),
            sla_due_at=_time(found["sla_due_at"]),
            created_at=_time(found["created_at"]),
            updated_at=_time(found["updated_at"]),
            url=to_text(found["url"]) or self._url_of(table, ticket_id),
            extra=extra,
        )

    def _status(self, table: str, state: Any, label: Any) -> TicketStatus:
        words = self._statuses.get(table) or self._statuses[""]
        status = words(text_of(state))
        if status is _NO_STATUS:
            status = words(shown(state) or text_of(label))
        return status

    def _priority(self, value: Any) -> Priority:
        text = text_of(value)
        if text == "":
            return self._no_priority
        priority = self._priorities(text)
        return self._priorities(shown(value)) if priority is _NO_PRIORITY else priority

    def _url_of(self, table: str, ticket_id: str) -> str | None:
        if not self._base_url:
            return None
        if not SYS_ID.fullmatch(ticket_id):
            return f"{self._base_url}/{table or 'task'}.do?sysparm_query=number={ticket_id}" if NUMBER.fullmatch(ticket_id) else None
        return f"{self._base_url}/{table or 'task'}.do?sys_id={ticket_id}"


def _status_maps(own: Mapping[str, TicketStatus]) -> dict[str, WordMap[TicketStatus]]:
    """A word map a table; `""` is for a table nobody knows, where only labels can be read. A tenant's `incident:11` is one table's."""
    everywhere = {word: status for word, status in own.items() if ":" not in word}
    maps = {"": WordMap({**STATE_WORDS, **everywhere}, TicketStatus.UNKNOWN)}
    for table in {*STATES, *(word.partition(":")[0] for word in own if ":" in word)}:
        words = {**STATE_WORDS, **(PROBLEM_WORDS if table == PROBLEM else {}), **STATES.get(table, {}), **everywhere}
        words.update({word.partition(":")[2]: status for word, status in own.items() if word.startswith(f"{table}:")})
        maps[table] = WordMap(words, TicketStatus.UNKNOWN)
    return maps


def _unwrapped(document: dict[str, Any]) -> dict[str, Any]:
    """The record within, where a body wraps it (also as the one of a list), and what stands beside it: the event's name, the ids.

    Where both sides name a record, the outer one is meant.
    """
    for name in WRAPPERS:
        inner = document.get(name)
        if type(inner) is list and len(inner) == 1:
            inner = inner[0]
        if type(inner) is dict and not inner.keys() <= {"value", "display_value", "link"}:
            outer = {n: v for n, v in document.items() if n != name}
            return {**inner, **outer} if any(outer.get(n) is not None for n in IDS) else {**outer, **inner}
    return document


def _ticket_id(found: Mapping[str, Any]) -> str | None:
    return id_of(found.get("ticket_id")) or id_of(found.get("number"))


def _plain(value: Any) -> Any:
    """A field's value: itself, or the first that says something of a reference, of a pair, or of a person somebody spelt out."""
    if type(value) is dict:
        return next((inner for name in WITHIN if (inner := value.get(name)) not in (None, "")), None)
    return value


def text_of(value: Any) -> str:
    """A field's value as text, whichever form it has; empty for what has none."""
    if type(value) is str:
        return value
    plain = _plain(value)
    return code(plain) if type(plain) is float else to_text(plain)


def shown(value: Any) -> str:
    """What people see of a pair; empty for a plain value."""
    return to_text(value.get("display_value")) if type(value) is dict else ""


def id_of(value: Any) -> str | None:
    """A field's value as an id; None for what scripts send when there is none."""
    if value is None:
        return None
    text = text_of(value).strip()
    return text if text not in ("", "0", "null", "undefined", "-") else None


def _table(value: Any) -> str | None:
    text = text_of(value).strip().lower()
    return LABELS.get(text, text) or None


def _device(document: Mapping[str, Any], value: Any) -> dict[str, Any] | None:
    item = id_of(value)
    if item is None:
        return None
    name = shown(document.get("cmdb_ci")) or text_of(document.get("cmdb_ci_name") or document.get("ci_name"))
    kind = text_of(document.get("component_type"))
    return {"id": item, **({"name": name} if name else {}), **({"type": kind} if kind else {})}


def _words(event: str) -> tuple[str, ...]:
    """An event's name and its parts, the last first: `incident.state_changed`, `work_notes`, `Incident Created`."""
    event = event.lower()
    return (event, *reversed(_PARTS.findall(event)))


def _change(event: str) -> TicketChange:
    """The kind of event a name tells; what happens to a comment is no deletion of the ticket."""
    if (change := CHANGES.get(event)) is not None:
        return change
    words = _words(event)
    change = next((CHANGES[word] for word in words if word in CHANGES), TicketChange.UNKNOWN)
    if change is TicketChange.DELETED and not COMMENT_WORDS.isdisjoint(words):
        return TicketChange.UPDATED
    return TicketChange.COMMENTED if change is TicketChange.CREATED and not COMMENT_WORDS.isdisjoint(words) else change


def _time(value: Any) -> int | None:
    return to_micros(text) if (text := text_of(value)) else None


def _kind(
    word: str, kind: TicketChange, document: Mapping[str, Any], changed: tuple[str, ...] | None, status: TicketStatus, commented: bool
) -> TicketChange:
    """What happened, by the event's word; without one, by what a body can only say after that happened."""
    if word == "":
        if "decision" in document:
            return TicketChange.UPDATED
        count = code(_plain(document.get("sys_mod_count")))
        kind = TicketChange.UNKNOWN if count == "" else TicketChange.CREATED if count == "0" else TicketChange.UPDATED
    if status is TicketStatus.RESOLVED and changed is not None and "status" in changed and kind in (TicketChange.UPDATED, _COMMENTED):
        return TicketChange.RESOLVED  # also where it was said why in the same save
    if kind is TicketChange.UPDATED and commented and changed == ():
        return _COMMENTED
    return kind


def _changed(value: Any, event: str) -> tuple[str, ...] | None:
    """Canonical names of the changed fields; None where the body does not tell."""
    if type(value) is list:
        columns = [name for name in value if type(name) is str]
    elif type(value) is str:
        columns = value.replace(",", " ").split()
    else:
        told = next((CHANGED_FIELDS[part] for part in _words(event) if part in CHANGED_FIELDS), None)
        return None if told is None else (told,)
    return tuple(dict.fromkeys(CHANGED_FIELDS[name] for name in columns if name in CHANGED_FIELDS))


def _comment(document: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, bool] | None:
    """The newest comment's text, and whether the caller sees it: `comments` are public, `work_notes` are not."""
    raw = text_of(found["comment"])
    if not raw.strip():
        return None
    told = text_of(found["comment_public"]).lower()
    public = told in ("true", "1", "yes") if told else not text_of(document.get("comment")) and text_of(document.get("comments")) != ""
    first = next(entries(raw), None)
    return (raw.strip() if first is None else first), public
