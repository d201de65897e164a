"""The installation's own names of priorities, statuses, stages and types, for writing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from plugins.api import PluginConfigError, Priority, TicketStatus, TicketType
from plugins.servicedesk_plus.modules import CHANGES, REQUESTS, Module

Json = dict[str, Any]

PRIORITY_NAMES: Final[Mapping[str, str]] = {"urgent": "Urgent", "high": "High", "medium": "Medium", "low": "Low"}
"""Many installations have no Urgent: High is their top, and what is written once they have refused the other."""
STATUS_NAMES: Final[Mapping[str, str]] = {"new": "Open", "open": "Open", "pending": "Onhold", "resolved": "Resolved", "closed": "Closed"}
TYPE_NAMES: Final[Mapping[str, str]] = {"incident": "Incident", "request": "Service Request"}
"""Problems and changes are other modules of the tool: their type is not written to a request."""
CHANGE_STAGES: Final[Mapping[str, tuple[str, str]]] = {
    "new": ("Submission", "Requested"),
    "open": ("Implementation", "In Progress"),
    "pending": ("Implementation", "On Hold"),
    "resolved": ("Review", "Completed"),
    "closed": ("Close", "Completed"),
}
"""A change moves by pairs of stage and status; each installation may name its own."""


class SiteNames:
    """A tenant's settings `priority_names`, `urgency_names`, `impact_names`, `status_names`, `type_names` and `change_stages`, over the
    names of a default installation. What has no name is left out of a write."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._priorities = _names(settings, "priority_names", Priority, PRIORITY_NAMES)
        self._urgencies = _names(settings, "urgency_names", Priority, {})
        self._impacts = _names(settings, "impact_names", Priority, {})
        self._statuses = _names(settings, "status_names", TicketStatus, STATUS_NAMES)
        self._types = _names(settings, "type_names", TicketType, TYPE_NAMES)
        self._stages = _stages(settings)

    def priority(self, priority: Priority) -> Json:
        """The priority and, where the tenant names them, urgency and impact: the tool's matrix may overwrite a priority alone."""
        return {
            **_named("priority", self._priorities, priority),
            **_named("urgency", self._urgencies, priority),
            **_named("impact", self._impacts, priority),
        }

    def status(self, module: Module, status: TicketStatus) -> Json:
        """The status; of a change with the stage it is of."""
        if module is not CHANGES:
            return _named("status", self._statuses, status)
        if status not in self._stages:
            return {}
        stage, name = self._stages[status]
        return {"stage": {"name": stage}, "status": {"name": name}}

    def type(self, module: Module, type_: TicketType) -> Json:
        return _named("request_type", self._types, type_) if module is REQUESTS else {}


def _named(field: str, names: Mapping[str, str], word: StrEnum) -> Json:
    return {field: {"name": names[word]}} if word in names else {}


def _names(settings: Mapping[str, Any], setting: str, kind: type[StrEnum], default: Mapping[str, str]) -> Mapping[str, str]:
    """The tool's names for canonical words, the tenant's over the default; raises PluginConfigError for a word that is none."""
    given = settings.get(setting) or {}
    strange = sorted(set(given) - set(kind))
    if strange:
        raise PluginConfigError(f"{setting}: {strange[0]!r} is not one of {', '.join(kind)}")
    return {**default, **given}


def _stages(settings: Mapping[str, Any]) -> Mapping[str, tuple[str, str]]:
    """The setting `change_stages`: canonical status to {stage, status}, over the usual ones."""
    given = settings.get("change_stages") or {}
    try:
        own = {str(TicketStatus(word)): (str(pair["stage"]), str(pair["status"])) for word, pair in given.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PluginConfigError("change_stages maps a canonical status to {stage: …, status: …}") from None
    return {**CHANGE_STAGES, **own}
