"""A tenant's own words for what we write: its lists of statuses, priorities and call types, read once and kept for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

from plugins.api import CredentialsRefused, NotFound, PluginConfigError, Priority, TicketStatus, TicketType
from plugins.topdesk.api_client import TopdeskClient
from plugins.topdesk.payload import TopdeskReader
from plugins.topdesk.words import CALL_TYPE_NAMES, PRIORITY_NAMES, STATUS_NAMES, is_yes

LISTS: Final = ("priorities", "statuses", "call_types")
KEPT_SECONDS: Final = 600.0
LANGUAGES: Final = ("en", "nl")
E = TypeVar("E", bound=StrEnum)
Json = dict[str, Any]


def language_of(settings: Mapping[str, Any]) -> str:
    """The setting `language`: en or nl."""
    language = str(settings.get("language") or "en").lower()[:2]
    if language not in LANGUAGES:
        raise PluginConfigError(f"language must be one of {', '.join(LANGUAGES)}: TOPdesk's words are known in these")
    return language


class TenantLists:
    """Which of the tenant's words says what we mean.

    The setting `priority_names`, `status_names` or `type_names` decides where it has the value. Else TOPdesk's own word in the tenant's
    `language` is written, unseen, as long as it is taken; after a refusal the tenant's lists are read (`read`) and decide: that word
    before any other that means the same.
    """

    def __init__(self, settings: Mapping[str, Any], reader: TopdeskReader) -> None:
        language = language_of(settings)
        self._reader = reader
        self._priority_names = _own_names(settings, "priority_names", Priority)
        self._status_names = _own_names(settings, "status_names", TicketStatus)
        self._type_names = _own_names(settings, "type_names", TicketType)
        self._usual_statuses, self._usual_types = STATUS_NAMES[language], CALL_TYPE_NAMES[language]
        self._rows: Mapping[str, list[Json]] = {}
        self._until = 0.0
        self.readings = 0
        """How often the lists were read: who was refused before a reading may be taken after it."""
        self._reading = asyncio.Lock()

    async def read(self, api: TopdeskClient) -> None:
        """Reads the lists unless they are fresh, once for all who wait. A list closed to our account stays unseen."""
        async with self._reading:
            if time.monotonic() < self._until:
                return
            found = await asyncio.gather(*(_read(api, name) for name in LISTS))
            rows = {name: rows for name, rows in zip(LISTS, found, strict=True) if rows is not None}
            self._rows, self._until = rows, time.monotonic() + KEPT_SECONDS
            self.readings += 1

    def priority(self, wanted: Priority) -> str | None:
        """The name to write; None when the tenant has none for it."""
        usual = self._priority_names.get(wanted) or PRIORITY_NAMES.get(wanted)
        return self._best(
            "priorities", usual, wanted in self._priority_names, lambda row: self._reader.priorities(row.get("name")) is wanted
        )

    def status(self, wanted: TicketStatus) -> str | None:
        usual = self._status_names.get(wanted) or self._usual_statuses.get(wanted)
        return self._best("statuses", usual, wanted in self._status_names, lambda row: self._meaning(row) is wanted)

    def call_type(self, wanted: TicketType) -> str | None:
        usual = self._type_names.get(wanted) or self._usual_types.get(wanted)
        return self._best("call_types", usual, wanted in self._type_names, lambda row: self._reader.types(row.get("name")) is wanted)

    def _best(self, name: str, usual: str | None, decided: bool, means: Callable[[Json], bool]) -> str | None:
        if decided or name not in self._rows:
            return usual
        names = [str(row["name"]) for row in self._rows[name] if row.get("name") and means(row)]
        return next((found for found in names if usual and found.casefold() == usual.casefold()), names[0] if names else None)

    def _meaning(self, row: Json) -> TicketStatus:
        if is_yes(row.get("onHold")):
            return TicketStatus.PENDING
        by_name = self._reader.statuses(row.get("name"))
        return self._reader.statuses(row.get("processingState")) if by_name is TicketStatus.UNKNOWN else by_name


async def _read(api: TopdeskClient, name: str) -> list[Json] | None:
    try:
        return await api.words(name)
    except (CredentialsRefused, NotFound):
        return None


def _own_names(settings: Mapping[str, Any], setting: str, kind: type[E]) -> dict[E, str]:
    given = settings.get(setting) or {}
    try:
        return {kind(word): str(name) for word, name in given.items()}
    except (ValueError, AttributeError):
        raise PluginConfigError(f"{setting} must map one of {', '.join(kind)} to the tenant's own word") from None
