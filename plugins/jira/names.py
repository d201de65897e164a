"""A site's names for our words, for writing: the tenant's over Jira's usual ones. What is read is in payload.py."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from plugins.api import PluginConfigError, Priority, TicketStatus, TicketType

PRIORITY_NAMES: Final[Mapping[str, str]] = {"urgent": "Highest", "high": "High", "medium": "Medium", "low": "Low"}
ISSUE_TYPES: Final[Mapping[str, str]] = {
    "incident": "Incident",
    "request": "Service request",
    "problem": "Problem",
    "change": "Change",
    "unknown": "Task",
}


class SiteNames:
    """Settings priority_names, issue_types and status_names; raises PluginConfigError for a word that is none of ours."""

    __slots__ = ("priorities", "statuses", "types")

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.priorities = _names(settings, "priority_names", Priority, PRIORITY_NAMES)
        self.types = _names(settings, "issue_types", TicketType, ISSUE_TYPES)
        self.statuses = _names(settings, "status_names", TicketStatus, {})


def _names(settings: Mapping[str, Any], setting: str, kind: type[StrEnum], usual: Mapping[str, str]) -> Mapping[str, str]:
    given = settings.get(setting) or {}
    strange = sorted(set(given) - set(kind))
    if strange:
        raise PluginConfigError(f"{setting}: {strange[0]!r} is not one of {', '.join(kind)}")
    return {**usual, **given}
