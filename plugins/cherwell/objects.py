"""Which business objects are tickets here, and what their fields are called: a tenant's tables, over the ones Cherwell ships with. Pure.

Cherwell has no ticket, only business objects with fields an admin chose. A ticket_id is the public id of the first object ("762421"),
or names the object too ("ChangeRequest:10021"): public ids are counted for each object by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from plugins.api import PluginConfigError, Priority, TicketStatus, TicketType

FIELDS: Final[Mapping[str, str]] = {
    "subject": "ShortDescription",
    "description": "Description",
    "status": "Status",
    "priority": "Priority",
    "assignee": "OwnedBy",
    "team": "OwnedByTeam",
    "requester": "CustomerDisplayName",
    "created_at": "CreatedDateTime",
    "updated_at": "LastModifiedDateTime",
    "actor": "LastModifiedBy",
    "due_at": "SLAResolveByDeadline",
}
"""Canonical name to the field's name in default content; `type` beside them for incidents."""
STATUS_NAMES: Final[Mapping[TicketStatus, str]] = {
    TicketStatus.NEW: "New",
    TicketStatus.OPEN: "In Progress",
    TicketStatus.PENDING: "Pending",
    TicketStatus.RESOLVED: "Resolved",
    TicketStatus.CLOSED: "Closed",
}
PRIORITY_NAMES: Final[Mapping[Priority, str]] = {Priority.URGENT: "1", Priority.HIGH: "2", Priority.MEDIUM: "3", Priority.LOW: "4"}
TYPE_NAMES: Final[Mapping[TicketType, str]] = {TicketType.INCIDENT: "Incident", TicketType.REQUEST: "Service Request"}

_REFERENCE = re.compile(r"([A-Za-z]\w{0,63}):(.+)", re.DOTALL)
_RECORD_ID = re.compile(r"[0-9a-f]{42}|[0-9a-f]{32}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMap:
    """One kind of ticket: its business object, its fields by canonical name, its words, how its journal is reached."""

    kind: TicketType
    name: str
    fields: Mapping[str, str]
    status_names: Mapping[TicketStatus, str]
    priority_names: Mapping[Priority, str]
    type_names: Mapping[TicketType, str]
    journal: str
    """The display name of the relationship to its journals."""
    journal_object: str
    journal_text: str
    journal_public: str
    """The yes-or-no field of a journal that shows it to the customer."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Fields, by name, that a new record gets besides; those a tenant's rules demand."""
    on_close: Mapping[str, str] = field(default_factory=dict)
    """Fields, by name, written with a status of resolved or closed."""
    rich_text: frozenset[str] = frozenset()
    lifecycle: bool = False


DEFAULTS: Final[Mapping[TicketType, str]] = {
    TicketType.INCIDENT: "Incident",
    TicketType.PROBLEM: "Problem",
    TicketType.CHANGE: "ChangeRequest",
}


def object_maps(settings: Mapping[str, Any]) -> Mapping[TicketType, ObjectMap]:
    """The kinds of ticket, incidents first: what Cherwell ships with, under the tenant's `objects`; raises PluginConfigError.

    `objects: {change: {name: ChangeRequest, fields: {subject: Title}, status_names: {open: Plan}, …}}`; `objects: {problem: null}`
    takes a kind away.
    """
    given = settings.get("objects") or {}
    try:
        told = {TicketType(kind): table for kind, table in given.items()}
    except (ValueError, AttributeError):
        raise PluginConfigError("objects must map incident, problem or change to a table: {name: …, fields: {…}}") from None
    found = {}
    for kind, name in DEFAULTS.items():
        if kind in told and told[kind] is None:
            continue
        found[kind] = _map(kind, name, told.get(kind) or {})
    if not found:
        raise PluginConfigError("objects leaves no kind of ticket")
    return found


def _map(kind: TicketType, default: str, told: Mapping[str, Any]) -> ObjectMap:
    name = str(told.get("name") or default)
    fields = {**FIELDS, **({"type": "IncidentType"} if kind is TicketType.INCIDENT else {}), **(told.get("fields") or {})}
    journal = told.get("journal") or {}
    return ObjectMap(
        kind=kind,
        name=name,
        fields={key: str(value) for key, value in fields.items() if value},
        status_names=_names(told, "status_names", TicketStatus, STATUS_NAMES),
        priority_names=_names(told, "priority_names", Priority, PRIORITY_NAMES),
        type_names=_names(told, "type_names", TicketType, TYPE_NAMES),
        journal=str(journal.get("relationship") or f"{name} Owns Journals"),
        journal_object=str(journal.get("object") or "JournalNote"),
        journal_text=str(journal.get("text") or "Details"),
        journal_public=str(journal.get("public") or "ShowInSelfService"),
        defaults={str(key): str(value) for key, value in (told.get("defaults") or {}).items()},
        on_close={str(key): str(value) for key, value in (told.get("on_close") or {}).items()},
        rich_text=frozenset(str(field) for field in told.get("rich_text") or ()),
        lifecycle=told.get("lifecycle") is True,
    )


def _names(told: Mapping[str, Any], setting: str, kind: Any, usual: Mapping[Any, str]) -> Mapping[Any, str]:
    try:
        return {**usual, **{kind(word): str(name) for word, name in (told.get(setting) or {}).items()}}
    except (ValueError, AttributeError):
        raise PluginConfigError(f"objects.….{setting} must map {', '.join(kind)} to the tenant's own word") from None


def is_record_id(value: str) -> bool:
    """Whether a text is a record's id, 42 hex digits in newer systems, and no public id."""
    return _RECORD_ID.fullmatch(value) is not None


def reference(ticket_id: str, first: str) -> tuple[str, str]:
    """The business object's name and the id within it."""
    found = _REFERENCE.fullmatch(ticket_id)
    return (found[1], found[2]) if found else (first, ticket_id)


def ticket_id_of(name: str, record: str, first: str) -> str:
    """The other way round: the object is named unless it is the first one."""
    return record if name.casefold() == first.casefold() else f"{name}:{record}"
