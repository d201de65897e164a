"""The canonical ticket: what every tool's words are mapped to. Unknown words become UNKNOWN, never an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class TicketType(StrEnum):
    """What a ticket is about. A vendor's "question" is a request, its "task" an incident."""

    UNKNOWN = "unknown"
    INCIDENT = "incident"
    REQUEST = "request"
    PROBLEM = "problem"
    CHANGE = "change"


class Priority(StrEnum):
    """How soon a ticket matters: urgent is P1, low is P4. A vendor's "critical" is urgent; no value is UNKNOWN."""

    UNKNOWN = "unknown"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"


PRIORITY_ALIASES: Mapping[str, Priority] = MappingProxyType(
    {"p1": Priority.URGENT, "p2": Priority.HIGH, "p3": Priority.MEDIUM, "p4": Priority.LOW, **{p.value: p for p in Priority}}
)
"""The spellings a rule may use, in lower case."""


class TicketStatus(StrEnum):
    """Where a ticket stands."""

    UNKNOWN = "unknown"
    NEW = "new"
    OPEN = "open"
    PENDING = "pending"
    RESOLVED = "resolved"
    CLOSED = "closed"


class TicketChange(StrEnum):
    """What one delivery says happened to the ticket."""

    UNKNOWN = "unknown"
    CREATED = "created"
    UPDATED = "updated"
    COMMENTED = "commented"
    RESOLVED = "resolved"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True)
class TicketMetadata:
    """One ticket as one delivery shows it, in canonical words.

    Times are UTC, in microseconds since the epoch; None where the tool did not say. `description` is plain text.
    `requester`, `assignee` and `actor` are whatever the tool identifies a person by in its webhooks (an e-mail address where
    it gives one, else its id). `extra` holds what has no field here and is never routed on by default.
    """

    tenant_id: str
    ticket_id: str
    type: TicketType = TicketType.UNKNOWN
    priority: Priority = Priority.UNKNOWN
    status: TicketStatus = TicketStatus.UNKNOWN
    change: TicketChange = TicketChange.UNKNOWN
    subject: str = ""
    description: str = ""
    requester: str | None = None
    assignee: str | None = None
    actor: str | None = None
    tags: tuple[str, ...] = ()
    custom_fields: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    device: Mapping[str, Any] | None = None
    sla_due_at: int | None = None
    created_at: int | None = None
    updated_at: int | None = None
    url: str | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)


_DEFAULTS = {
    f.name: f.default if f.default is not MISSING else _EMPTY for f in fields(TicketMetadata) if f.name not in {"tenant_id", "ticket_id"}
}
_FIELDS = len(_DEFAULTS) + 2
_generated = TicketMetadata.__init__


def _fill(self: TicketMetadata, **given: Any) -> None:
    """Sets all fields at once: the generated __init__ of a frozen dataclass sets them one by one, which is 3 us a ticket."""
    values = {**_DEFAULTS, **given}
    if len(values) == _FIELDS and "tenant_id" in given and "ticket_id" in given:
        self.__dict__.update(values)
    else:
        _generated(self, **given)  # a field is missing or unknown: it says which


TicketMetadata.__init__ = _fill  # type: ignore[method-assign]  # the same parameters, checked by the same rules
