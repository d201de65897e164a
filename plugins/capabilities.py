"""What some tools can do beyond tickets: named capabilities, and the values they answer with.

A plugin names its capabilities in its manifest and its class; each name promises the methods listed here:

    cmdb, assets     device_context(ticket)            the configuration items or assets a ticket is about
    sla              sla_targets(ticket_id)            the clocks that run on a ticket
    directory        find_people(text)                 people by e-mail, account or name
    approvals        approvals(ticket_id)              what waits for somebody's yes: one mapping an approval
    changes, problems, releases                        a ticket_id also names such a record; create_ticket makes one by its type

forum, portal, custom_objects and workflow differ from tool to tool: their methods are in the plugin's README and its manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from schemas.ticket import TicketMetadata

CAPABILITIES = frozenset(
    {"cmdb", "assets", "changes", "problems", "releases", "sla", "forum", "portal", "custom_objects", "workflow", "directory", "approvals"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """How one item is tied to another: `kind` in the tool's words ("runs on"), the other's name and id."""

    kind: str
    name: str
    item_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationItem:
    """A device, asset or service as the tool knows it; `attributes` hold what people read (serial number, location, owner)."""

    item_id: str
    name: str
    kind: str = ""
    status: str = ""
    url: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    relations: tuple[Relation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceContext:
    """What a ticket is about, and which services it touches. Bounded by the plugin: at most 20 items, 20 relations each."""

    items: tuple[ConfigurationItem, ...]
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlaTarget:
    """One clock on a ticket; times in epoch microseconds, None where the tool does not tell."""

    name: str
    due_at: int | None = None
    completed_at: int | None = None
    breached: bool = False
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person as a directory knows them."""

    person_id: str
    name: str
    email: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class TellsDevices(Protocol):
    """Capability cmdb or assets."""

    async def device_context(self, ticket: TicketMetadata) -> DeviceContext | None:
        """The items the ticket is about; None when it names none. Raises ApiError's kinds."""
        ...


@runtime_checkable
class TellsSla(Protocol):
    """Capability sla."""

    async def sla_targets(self, ticket_id: str) -> Sequence[SlaTarget]: ...


@runtime_checkable
class FindsPeople(Protocol):
    """Capability directory."""

    async def find_people(self, text: str) -> Sequence[Person]:
        """At most 50, whose e-mail address, account or name is, or begins with, `text`. Raises ApiError's kinds."""
        ...
