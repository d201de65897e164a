"""What is written of an incident: canonical words and Markdown as the body of a POST or a PATCH. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from plugins.api import NewTicket, Priority, TicketChanges, TicketStatus, TicketType
from plugins.richtext import from_markdown
from plugins.topdesk.lists import TenantLists
from plugins.topdesk.memo import brief, to_memo, update_tag
from plugins.topdesk.payload import to_unid

Json = dict[str, Any]

LOOKUPS: Final = frozenset(
    {
        "category", "subcategory", "callType", "entryType", "object", "location", "branch", "impact", "urgency", "priority", "duration",
        "sla", "operator", "operatorGroup", "supplier", "processingStatus", "closureCode",
    }
)  # fmt: skip
FLAGS: Final[Mapping[TicketStatus, Mapping[str, bool]]] = {
    TicketStatus.NEW: {"onHold": False, "completed": False, "closed": False},
    TicketStatus.OPEN: {"onHold": False, "completed": False, "closed": False},
    TicketStatus.PENDING: {"onHold": True, "completed": False, "closed": False},
    TicketStatus.RESOLVED: {"onHold": False, "completed": True, "closed": False},
    TicketStatus.CLOSED: {"onHold": False, "completed": True, "closed": True},
}


def new_incident(settings: Mapping[str, Any], lists: TenantLists, ticket: NewTicket) -> Json:
    """A new incident, with an internal entry that carries the event's id. TOPdesk has no tags: they are left out."""
    status = ticket.status if ticket.status is not TicketStatus.NEW else None
    return {
        "status": str(settings.get("line") or "firstLine"),
        "briefDescription": brief(ticket.subject),
        "request": to_memo(from_markdown(ticket.description or ticket.subject)),
        "action": update_tag(ticket.event_id),
        "actionInvisibleForCaller": True,
        "externalNumber": ticket.external_id,
        **_caller(settings),
        **_values(settings, lists, ticket.priority, status, ticket.type, ticket.custom_fields),
    }


def changed_incident(settings: Mapping[str, Any], lists: TenantLists, changes: TicketChanges) -> Json:
    """What an update sets, with an internal entry that carries the event's id; the rest of the incident stays."""
    subject = {} if changes.subject is None else {"briefDescription": brief(changes.subject)}
    values = _values(settings, lists, changes.priority, changes.status, changes.type, changes.custom_fields)
    return {**values, **subject, "action": update_tag(changes.event_id), "actionInvisibleForCaller": True}


def _values(
    settings: Mapping[str, Any],
    lists: TenantLists,
    priority: Priority | None,
    status: TicketStatus | None,
    kind: TicketType | None,
    custom: Mapping[str, Any],
) -> Json:
    body: Json = {}
    if priority and (name := lists.priority(priority)):
        body["priority"] = {"name": name}
    if kind in (TicketType.INCIDENT, TicketType.REQUEST) and (name := lists.call_type(kind)):
        body["callType"] = {"name": name}
    if status is not None and status in FLAGS:
        name = None if settings.get("status_by") == "flags" else lists.status(status)
        body |= {"processingStatus": {"name": name}} if name else FLAGS[status]
    paths = settings.get("fields") or {}
    for field, value in custom.items():
        _put(body, str(paths.get(field, field)), value)
    return body


def _caller(settings: Mapping[str, Any]) -> Json:
    requester = str(settings.get("requester") or "")
    if unid := to_unid(requester):
        return {"callerLookup": {"id": unid}}
    if requester:
        return {"callerLookup": {"email": requester}}
    branch = {"branch": {"id": str(settings["branch"])}} if settings.get("branch") else {}
    return {"caller": {"dynamicName": str(settings.get("caller_name") or "Integration"), **branch}}


def _put(body: Json, path: str, value: Any) -> None:
    """A field by its path; a lookup by name or id, as its value says."""
    tab, _, name = path.partition(".")
    if name:
        if name.startswith("searchlist") and isinstance(value, str):
            value = {"id": value}
        body.setdefault(tab, {})[name] = value
    elif path in LOOKUPS and isinstance(value, str):
        body[path] = {"id": to_unid(value)} if to_unid(value) else {"name": value}
    else:
        body[path] = value
