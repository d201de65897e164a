"""What this project writes to Freshservice: canonical words as the account's codes and names, custom fields by name, label or id, and
whatever the tool's forms insist on. No calls of its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from plugins.api import NewTicket, PluginConfigError, Priority, TicketChanges, TicketStatus, TicketType
from plugins.freshservice.records import CHANGE, PRIORITY_CODES, PROBLEM, TICKET, TYPE_NAMES, Record

Json = dict[str, Any]
FieldName = Callable[[Record, str], Awaitable[str]]
"""Finds a custom field's API name by its label or id."""
Word = TypeVar("Word", bound=StrEnum)

PLANNED_SECONDS: Final = 7 * 86_400
"""When a problem is due, or a change ends, that nobody gave a time."""
NATIVE: Final = frozenset(
    {
        "impact", "urgency", "category", "sub_category", "item_category", "department_id", "group_id", "responder_id", "agent_id",
        "source", "requester_id", "requested_for_id", "cc_emails", "assets", "problem", "risk", "change_type", "release_type",
        "planned_start_date", "planned_end_date", "due_by", "fr_due_by", "known_error", "maintenance_window", "impacted_services",
        "planning_fields", "workspace_id",
    }
)  # fmt: skip
"""Fields of the tool's own that a rule may set as if they were custom ones."""
_API_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Writing:
    """Bodies to send, by one tool's settings: `status_codes`, `priority_codes`, `type_names`, `event_field`."""

    def __init__(self, settings: Mapping[str, Any], workspace: int | None) -> None:
        self._workspace = workspace
        self.event_field = str(settings.get("event_field") or "external_event")
        self._priorities = _codes(settings, "priority_codes", Priority, PRIORITY_CODES)
        self._statuses = _codes(settings, "status_codes", TicketStatus, TICKET.codes)
        self._types = _names(settings, "type_names", TicketType, TYPE_NAMES)

    async def new(self, record: Record, ticket: NewTicket, description: str, requester: Json, field_name: FieldName) -> Json:
        """A record to create. `description` is HTML, `requester` whom it is for.

        A ticket carries our id as a tag, which can be searched for. Lists of the others show neither tags nor custom fields: there it
        stands at the end of the description.
        """
        fields: Json = {
            "subject": ticket.subject,
            "description": description,
            **requester,
            "priority": self._priorities.get(ticket.priority, PRIORITY_CODES[Priority.LOW]),
            "status": self._status(record, ticket.status) or record.codes[TicketStatus.OPEN],
        }
        custom: Json = {self.event_field: ticket.event_id}
        if record is TICKET:
            fields["type"] = self._types.get(ticket.type, TYPE_NAMES[TicketType.INCIDENT])
            fields["tags"] = [*ticket.tags, ticket.external_id]
        else:
            fields["description"] += f"<p>{reference_to(ticket.external_id)}</p>"
            fields |= _planned(record, fields["priority"])
        if self._workspace is not None:
            fields["workspace_id"] = self._workspace
        return await _with_fields(record, fields, custom, ticket.custom_fields, field_name)

    async def changed(self, record: Record, changes: TicketChanges, field_name: FieldName) -> Json:
        """Fields to set. A record stays of its kind: only between the types of a ticket can it move."""
        fields: Json = {} if changes.subject is None else {"subject": changes.subject}
        if changes.priority in self._priorities:
            fields["priority"] = self._priorities[changes.priority]
        if (status := self._status(record, changes.status)) is not None:
            fields["status"] = status
        if record is TICKET and changes.type in self._types:
            fields["type"] = self._types[changes.type]
        return await _with_fields(record, fields, {self.event_field: changes.event_id}, changes.custom_fields, field_name)

    def _status(self, record: Record, status: TicketStatus | None) -> int | None:
        codes = self._statuses if record is TICKET else record.codes
        return codes.get(status) if status is not None else None


def reference_to(external_id: str) -> str:
    """Our id as it stands in a description."""
    return f"[{external_id}]"


async def _with_fields(record: Record, fields: Json, custom: Json, given: Mapping[str, Any], field_name: FieldName) -> Json:
    """Adds what a rule sets: a field of the tool's own by its name, a custom one by its API name, its label or its id."""
    for name, value in given.items():
        if name in NATIVE:
            fields[name] = value
        else:
            custom[name if _API_NAME.fullmatch(name) else await field_name(record, name)] = value
    return {**fields, "custom_fields": custom}


def _planned(record: Record, priority: int) -> Json:
    """What the forms of problems, changes and releases insist on: the least of each, and a week."""
    now = time.time()
    start, end = (datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (now, now + PLANNED_SECONDS))
    if record is PROBLEM:
        return {"impact": min(priority, 3), "due_by": end}
    planned = {"planned_start_date": start, "planned_end_date": end}
    return planned | ({"impact": min(priority, 3), "risk": 1, "change_type": 1} if record is CHANGE else {"release_type": 1})


def _names(settings: Mapping[str, Any], setting: str, kind: type[Word], usual: Mapping[Word, Any]) -> dict[Word, Any]:
    """A tenant's own names put over the tool's, keyed by canonical words."""
    given = settings.get(setting) or {}
    try:
        return {**usual, **{kind(word): str(name) for word, name in given.items()}}
    except (ValueError, AttributeError):
        raise PluginConfigError(f"{setting} must be keyed by words of: {', '.join(kind)}") from None


def _codes(settings: Mapping[str, Any], setting: str, kind: type[Word], usual: Mapping[Word, int]) -> dict[Word, int]:
    """The same for codes: `status_codes: {pending: 7}`."""
    try:
        return {word: int(code) for word, code in _names(settings, setting, kind, usual).items()}
    except ValueError:
        raise PluginConfigError(f"{setting} must map to the account's codes, which are numbers") from None
