"""The modules of ServiceDesk Plus that hold tickets: requests, changes and problems. Pure.

Each counts its ids by itself, so an id of a change or a problem is told from a request's by a prefix of ours, `CH-` or `PR-`, before
the id the API takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from plugins.api import PluginConfigError, TicketType


@dataclass(frozen=True, slots=True)
class Module:
    """`name` in paths, `item` around one of them, `subject` as its title is called, `type` of what it holds (None: told by a field)."""

    name: str
    item: str
    prefix: str
    subject: str
    type: TicketType | None = None


REQUESTS: Final = Module("requests", "request", "", "subject")
CHANGES: Final = Module("changes", "change", "CH-", "title", TicketType.CHANGE)
PROBLEMS: Final = Module("problems", "problem", "PR-", "title", TicketType.PROBLEM)
MODULES: Final = (REQUESTS, CHANGES, PROBLEMS)


def module_of(ticket_id: str) -> tuple[Module, str]:
    """The module an id of ours belongs to, and the id as the API takes it."""
    for module in (CHANGES, PROBLEMS):
        if ticket_id.startswith(module.prefix):
            return module, ticket_id[len(module.prefix) :]
    return REQUESTS, ticket_id


def used_modules(settings: Mapping[str, Any]) -> tuple[Module, ...]:
    """The modules a tenant writes to and searches: its setting `modules`, requests always among them."""
    given = settings.get("modules") or ()
    names = {module.name for module in MODULES}
    strange = sorted({str(name) for name in given} - names) if isinstance(given, (list, tuple)) else [str(given)]
    if strange:
        raise PluginConfigError(f"modules: {strange[0][:40]!r} is not one of {', '.join(sorted(names))}")
    return tuple(module for module in MODULES if module is REQUESTS or module.name in given)
