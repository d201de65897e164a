"""ServiceDesk Plus bodies read into canonical words: whatever an admin built for a webhook, and the requests API v3 answers. Pure.

There is no vendor-defined webhook body. Four shapes are known without configuration: the complete v3 object of a request, a change or
a problem, the complete v1 object (keys in capitals, all text), flat JSON, and a ticket nested in `data.ticket`, `ticket` or `data`; each
as JSON, as a form, or as JSON in a form's field. A tenant's `webhook.fields` comes before all of them, field by field.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from plugins.api import Delivery, NotADelivery, PluginConfigError, Priority, TicketChange, TicketMetadata, TicketStatus, TicketType
from plugins.mapping import FieldMap, WordMap, tenant_words, to_id, to_micros, to_tags, to_text
from plugins.repair import object_or_form
from plugins.richtext import from_html, to_plain
from plugins.servicedesk_plus.modules import CHANGES, PROBLEMS, REQUESTS, Module

Json = dict[str, Any]

NO_VALUE: Final = frozenset({"", "-", "not assigned", "not specified", "null"})
"""Words that stand for an empty field, in lower case."""

PRIORITIES: Final = WordMap(
    {
        **dict.fromkeys(("Urgent", "Critical", "P1"), Priority.URGENT),
        **dict.fromkeys(("High", "P2"), Priority.HIGH),
        **dict.fromkeys(("Medium", "Normal", "P3"), Priority.MEDIUM),
        **dict.fromkeys(("Low", "P4"), Priority.LOW),
    },
    Priority.UNKNOWN,
)
STATUSES: Final = WordMap(
    {
        **dict.fromkeys(("New", "Requested", "Submission"), TicketStatus.NEW),
        **dict.fromkeys(("Open", "Assigned", "In Progress", "InProgress"), TicketStatus.OPEN),
        **dict.fromkeys(("Planning", "Implementation", "UAT", "Release", "Review"), TicketStatus.OPEN),
        **dict.fromkeys(("Onhold", "On Hold", "Pending", "Approval", "Approval Pending", "CAB Evaluation"), TicketStatus.PENDING),
        **dict.fromkeys(("Resolved", "Completed"), TicketStatus.RESOLVED),
        **dict.fromkeys(("Closed", "Close", "Cancelled", "Canceled", "Rejected"), TicketStatus.CLOSED),
    },
    TicketStatus.UNKNOWN,
)
TYPES: Final = WordMap(
    {
        **dict.fromkeys(("Incident", "Task"), TicketType.INCIDENT),
        **dict.fromkeys(("Service Request", "Request For Information", "Request", "Question"), TicketType.REQUEST),
        "Problem": TicketType.PROBLEM,
        "Change": TicketType.CHANGE,
    },
    TicketType.UNKNOWN,
)
EVENTS: Final = WordMap(
    {
        **dict.fromkeys(("created", "create", "new", "added", "add"), TicketChange.CREATED),
        **dict.fromkeys(("updated", "update", "edited", "edit", "changed", "assigned", "reopened"), TicketChange.UPDATED),
        **dict.fromkeys(("commented", "comment", "noted", "note_added", "note", "replied"), TicketChange.COMMENTED),
        **dict.fromkeys(("resolved", "resolve", "closed", "close", "completed"), TicketChange.RESOLVED),
        **dict.fromkeys(("deleted", "delete", "trashed"), TicketChange.DELETED),
    },
    TicketChange.UNKNOWN,
)
"""Words an admin may send as `event`, in the body or as a query parameter of the webhook's address; `ticket_` and `request_` may lead."""

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "ticket_id": ("id", "WORKORDERID", "workorderid", "ticket_id", "request_id", "requestId", "requestid", "display_id"),
    "subject": ("subject", "SUBJECT", "title"),
    "description": ("description", "DESCRIPTION", "short_description", "SHORTDESCRIPTION"),
    "priority": ("priority", "PRIORITY"),
    "status": ("status", "STATUS"),
    "type": ("request_type", "REQUESTTYPE", "type"),
    "requester": ("requester", "REQUESTER", "change_requester", "reported_by"),
    "assignee": ("technician", "TECHNICIAN", "assignee", "change_owner"),
    "created_at": ("created_time", "CREATEDTIME", "created_at", "created"),
    "updated_at": ("last_updated_time", "LASTUPDATEDTIME", "updated_at", "updated", "resolved_date"),
    "sla_due_at": ("due_by_time", "DUEBYTIME", "due_by"),
    "tags": ("tags",),
    "custom_fields": ("udf_fields",),
}
"""Where the known shapes hold each canonical field, looked for in this order in the unwrapped ticket."""

_FIELDS: Final = tuple((field, tuple(n for n in names if not n.isupper())) for field, names in FIELDS.items() if field != "ticket_id")
_V1_FIELDS: Final = tuple((field, names) for field, names in FIELDS.items() if field != "ticket_id")

CHANGED: Final[Mapping[str, str]] = {
    **{name: field for field, names in FIELDS.items() for name in names if field not in ("ticket_id", "type")},
    "request_type": "type",
    "notes": "comment",
}
"""What a changed field is called here."""

MAPPABLE: Final = frozenset({*FIELDS, "event", "actor", "comment"})
"""Names that `webhook.fields` may map."""

_DONE = (TicketStatus.RESOLVED, TicketStatus.CLOSED)
_CREATED, _UPDATED, _COMMENTED, _RESOLVED, _DELETED, _NO_CHANGE = (
    TicketChange.CREATED, TicketChange.UPDATED, TicketChange.COMMENTED, TicketChange.RESOLVED, TicketChange.DELETED, TicketChange.UNKNOWN,
)  # fmt: skip
_NO_PRIORITY, _NO_STATUS, _NO_TYPE, _OPEN = Priority.UNKNOWN, TicketStatus.UNKNOWN, TicketType.UNKNOWN, TicketStatus.OPEN
"""A member of an enum costs 0.2 us a look by its class; every event makes several."""


class RequestReader:
    """One tenant's way to read requests: its words, and its paths for a body its admin chose."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._priority = PRIORITIES.with_words(tenant_words(settings, "priority", Priority))
        self._status = STATUSES.with_words(tenant_words(settings, "status", TicketStatus))
        self._type = TYPES.with_words(tenant_words(settings, "type", TicketType))
        self._event = EVENTS.with_words(tenant_words(settings, "event", TicketChange))
        try:
            self._default_priority = Priority(settings.get("default_priority") or Priority.UNKNOWN)
        except ValueError:
            raise PluginConfigError(f"default_priority must be one of: {', '.join(Priority)}") from None
        paths = (settings.get("webhook") or {}).get("fields") or {}
        strange = sorted(set(paths) - MAPPABLE)
        if strange:
            raise PluginConfigError(f"webhook.fields: {strange[0]!r} is not one of {', '.join(sorted(MAPPABLE))}")
        self._paths = FieldMap(paths) if paths else None

    def status(self, value: Any) -> TicketStatus:
        """A status by its name, alone or in its object."""
        return self._status(_name(value))

    def ticket_id_of(self, body: bytes, content_type: str = "") -> str | None:
        """The request's id in a webhook body; None when there is none, or the body cannot be read."""
        try:
            document = object_or_form(body, content_type)
        except NotADelivery:
            return None
        return self._ticket_id(document, *_unwrapped(document))

    def metadata_of_delivery(self, delivery: Delivery) -> TicketMetadata:
        """A webhook body as TicketMetadata; raises NotADelivery for what is not JSON or holds no request's id."""
        document = object_or_form(delivery.body, delivery.content_type)
        module, ticket = _unwrapped(document)
        ticket_id = self._ticket_id(document, module, ticket)
        if ticket_id is None:
            raise NotADelivery("no request id in the body; name its place in the tool's setting webhook.fields.ticket_id")
        mapped = {name: value for name, value in self._paths.read(document).items() if value is not None} if self._paths else {}
        note = document.get("note") or document.get(f"{module.item}_note")
        comment = mapped.get("comment")
        if comment is None and type(note) is dict:
            comment = note.get("description")
        extra: Json = {}
        if type(comment) is str:
            extra["comment"] = plain(comment)
            extra["comment_public"] = _member(note, "show_to_requester") is True
        if changed := _changed(_first(document, ("changed", "changes", "diff", "DIFF"))):
            extra["changed"] = changed
        event = mapped.get("event") or document.get("event") or document.get("event_type") or _query_event(delivery.query)
        actor = mapped.get("actor") or _first(document, ("last_updated_by", "updated_by", "actor")) or _member(note, "added_by")
        noted = "comment" in extra
        return self._metadata(delivery.tenant, ticket_id, ticket, mapped, module, event=event, actor=actor, noted=noted, extra=extra)

    def metadata_of_request(self, tenant: str, request: Any, module: Module = REQUESTS) -> TicketMetadata:
        """A request, change or problem as API v3 answers it; raises NotADelivery when it has no id."""
        ticket_id = to_id(_member(request, "id"))
        if ticket_id is None:
            raise NotADelivery(f"the answer holds no {module.item}")
        return self._metadata(tenant, module.prefix + ticket_id, request, {}, module)

    def _ticket_id(self, document: Any, module: Module, ticket: Json) -> str | None:
        if self._paths is not None and "ticket_id" in self._paths.paths:
            return to_id(self._paths.get(document, "ticket_id"))
        for name in FIELDS["ticket_id"]:
            found = to_id(ticket.get(name))
            if found is not None:
                return found if found.startswith(module.prefix) else module.prefix + found
        return None

    def _metadata(
        self,
        tenant: str,
        ticket_id: str,
        ticket: Json,
        mapped: Json,
        module: Module,
        *,
        event: Any = None,
        actor: Any = None,
        noted: bool = False,
        extra: Json | None = None,
    ) -> TicketMetadata:
        extra = {} if extra is None else extra
        found = {field: _first(ticket, names) for field, names in (_V1_FIELDS if "WORKORDERID" in ticket else _FIELDS)}
        if mapped:
            found.update(mapped)
        priority_word, status_word, type_word = _name(found["priority"]), _name(found["status"]), _name(found["type"])
        priority = self._default_priority if priority_word is None else self._priority(priority_word)
        if type_word is None and module is REQUESTS and (named := _name(ticket.get("module"))) is not None:
            type_word = None if named.casefold() in (REQUESTS.item, REQUESTS.name) else named
        status = self._status_of(status_word, ticket)
        if module is not REQUESTS and (stage := _name(ticket.get("stage"))) is not None:
            extra["stage"] = stage
            status = self._status(stage) if status is _NO_STATUS else status
        kind = module.type or self._type(type_word)
        if kind is _NO_TYPE and ticket.get("is_service_request") is True:
            kind = TicketType.REQUEST
        if priority is _NO_PRIORITY or status is _NO_STATUS or kind is _NO_TYPE:
            words = (("priority", priority_word, priority), ("status", status_word, status), ("type", type_word, kind))
            unknown = {field: word[:64] for field, word, value in words if word is not None and value == "unknown"}
            if unknown:
                extra["unknown"] = unknown
        display_id = to_id(ticket.get("display_id"))
        if display_id is not None and module.prefix + display_id != ticket_id:
            extra["key"] = display_id
        change = self._change(event, ticket, status, noted)
        actor = actor or _first(ticket, ("last_updated_by", "updated_by"))
        if actor is None and change is _CREATED:
            actor = _first(ticket, ("created_by", "CREATEDBY"))
        custom, device = found["custom_fields"], ticket.get("primary_asset") or _sole(ticket.get("assets"))
        return TicketMetadata(
            tenant_id=tenant,
            ticket_id=ticket_id,
            type=kind,
            priority=priority,
            status=status,
            change=change,
            subject=to_text(found["subject"]),
            description=plain(to_text(found["description"])),
            requester=_person(found["requester"]),
            assignee=_person(found["assignee"]),
            actor=_person(actor),
            tags=_tags(found["tags"]),
            custom_fields={name: value for name, value in custom.items() if value is not None} if type(custom) is dict else {},
            device=device if type(device) is dict else None,
            sla_due_at=_time(found["sla_due_at"]),
            created_at=_time(found["created_at"]),
            updated_at=_time(found["updated_at"]),
            extra=extra,
        )

    def _status_of(self, word: str | None, ticket: Json) -> TicketStatus:
        """The word's status; Open is new while nobody has the request and nobody has touched it."""
        if word is None:
            return _NO_STATUS
        status = self._status(word)
        if status is _NO_STATUS and word.casefold().startswith("waiting"):
            return TicketStatus.PENDING
        untouched = "technician" in ticket and ticket["technician"] is None
        if status is _OPEN and untouched and "last_updated_time" in ticket and ticket["last_updated_time"] is None:
            return TicketStatus.NEW
        return status

    def _change(self, event: Any, ticket: Json, status: TicketStatus, noted: bool) -> TicketChange:
        """What the sender says happened; else what the request itself gives away: one never updated was just created."""
        if type(event) is str and event:
            word = event.strip().casefold()
            return self._event(word.removeprefix("ticket_").removeprefix("request_"))
        if noted:
            return _COMMENTED
        if ticket.get("is_trashed") is True:
            return _DELETED
        if "last_updated_time" in ticket and ticket["last_updated_time"] is None:
            return _CREATED
        if status in _DONE or _name(_first(ticket, ("resolved_date",))) is not None:
            return _RESOLVED
        return _UPDATED if ticket.get("last_updated_time") is not None else _NO_CHANGE


_SIMPLE_TAG: Final = re.compile(r"</?(div|p|br|b|i|strong|em|span|u|font)(?:\s[^<>]*)?/?>", re.IGNORECASE)
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")


def plain(text: str) -> str:
    """Plain text of a field that is HTML.

    What an editor writes for a few lines, and text without markup, is read without a parser: some ten times quicker, and a test
    holds the two ways together.
    """
    if "<" not in text and "&" not in text:
        return text
    pieces = _SIMPLE_TAG.split(text)
    if "\0" in text or any("<" in piece for piece in pieces[::2]):
        return to_plain(from_html(text))
    joined = _SPACE.sub(" ", html.unescape(pieces[0]))
    for tag, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        tag = tag.lower()
        joined += "\n" if tag == "br" else "\0" if tag in ("div", "p") else ""
        joined += _SPACE.sub(" ", html.unescape(piece))
    blocks = ("\n".join(line.strip(" ") for line in block.split("\n")).strip() for block in joined.split("\0"))
    return "\n\n".join(block for block in blocks if block)


def _unwrapped(document: Json) -> tuple[Module, Json]:
    """The object that holds the ticket's fields, and the module it is of."""
    for name in ("request", "REQUEST", "ticket", "data", "input_data", "INPUT_DATA"):
        inner = document.get(name)
        if type(inner) is dict:
            nested = [held for within in ("request", "ticket") if type(held := inner.get(within)) is dict]
            return REQUESTS, nested[0] if nested else inner
    for module in (CHANGES, PROBLEMS):
        inner = document.get(module.item)  # `change` may also be a flat body's word for what happened
        if type(inner) is dict and to_id(inner.get("id")) is not None:
            return module, inner
    named = document.get("module")
    if type(named) is str and named:
        for module in (CHANGES, PROBLEMS):
            if named.casefold() in (module.item, module.name):
                return module, document
    return REQUESTS, document


def _changed(found: Any) -> tuple[str, ...]:
    """Canonical names of the fields a script says changed: their names as a list, a text, or the keys of what changed."""
    items = found if type(found) is list else list(found) if type(found) is dict else to_text(found).replace(";", ",").split(",")
    names: list[str] = []
    for item in items[:50]:
        key = to_text(_first(item, ("field", "name", "key")) if type(item) is dict else item).strip()
        name = "custom_fields" if key.startswith("udf_") else CHANGED.get(key, key)
        if name and name not in names:
            names.append(name)
    return tuple(names)


def _query_event(query: str) -> str | None:
    """`event` in the address the admin typed, for bodies that cannot carry it."""
    if "event=" not in query:
        return None
    try:
        return dict(parse_qsl(query, max_num_fields=32)).get("event")
    except ValueError:  # more parameters than any admin types
        return None


def _sole(assets: Any) -> Any:
    """The first of a request's assets, where none is called primary."""
    return assets[0] if type(assets) is list and assets else None


def _first(ticket: Json, names: tuple[str, ...]) -> Any:
    for name in names:
        value = ticket.get(name)
        if value is not None and value != "":
            return value
    return None


def _name(value: Any) -> str | None:
    """The word of a lookup field: text, or the name in its object; None for what stands for nothing."""
    if type(value) is dict:
        value = value.get("name") or value.get("display_value")
    text = (value if type(value) is str else to_text(value)).strip()
    return None if not text or text.casefold() in NO_VALUE else text


def _time(value: Any) -> int | None:
    """A time object's `value`, epoch milliseconds as text; its display_value is localised and not read."""
    return to_micros(value.get("value") if type(value) is dict else value)


def _person(value: Any) -> str | None:
    """A user's e-mail address, else its id, else the name a flat body gives."""
    if type(value) is dict:
        return to_id(value.get("email_id")) or to_id(value.get("id")) or _name(value)
    return _name(value)


def _tags(value: Any) -> tuple[str, ...]:
    if type(value) is list:
        return tuple(name for item in value if (name := _name(item)) is not None)
    return to_tags(value)


def _member(value: Any, name: str) -> Any:
    return value.get(name) if type(value) is dict else None
