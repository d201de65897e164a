"""The account's own codes and fields, as a record is written with them.

Only code 1, New, is the same everywhere: a status is looked up in the account's list by its caption, once. Priorities and types have
stock codes, so that a new record needs no call before it. A tenant's `codes` count before both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from plugins.api import Priority, TicketStatus, TicketType, ValidationRefused
from plugins.mapping import WordMap

if TYPE_CHECKING:
    from plugins.sysaid.api_client import SysAidClient

Json = dict[str, Any]

KINDS: Final[Mapping[TicketType, str]] = {
    TicketType.INCIDENT: "incident",
    TicketType.REQUEST: "request",
    TicketType.PROBLEM: "problem",
    TicketType.CHANGE: "change",
}
TYPE_CODES: Final[Mapping[TicketType, str]] = {
    TicketType.INCIDENT: "1",
    TicketType.REQUEST: "10",
    TicketType.PROBLEM: "6",
    TicketType.CHANGE: "4",
}
PRIORITY_CODES: Final[Mapping[Priority, str]] = {Priority.URGENT: "1", Priority.HIGH: "3", Priority.MEDIUM: "4", Priority.LOW: "5"}
NEAREST: Final[Mapping[TicketStatus, TicketStatus]] = {
    TicketStatus.RESOLVED: TicketStatus.CLOSED,
    TicketStatus.NEW: TicketStatus.OPEN,
    TicketStatus.PENDING: TicketStatus.OPEN,
}
"""What an account without the one status has in its place."""


class AccountCodes:
    """One tenant's codes, learnt from the account when they are first needed."""

    def __init__(self, settings: Mapping[str, Any], statuses: WordMap[TicketStatus], api: Callable[[], SysAidClient]) -> None:
        self._own: Mapping[str, Mapping[str, Any]] = settings.get("codes") or {}
        self._names = {str(name): str(key) for name, key in (settings.get("custom_fields") or {}).items()}
        self._statuses, self._api = statuses, api
        self._status_codes: dict[TicketStatus, str] = {}
        self._captions: dict[str, str] = {}

    @property
    def custom_keys(self) -> tuple[str, ...]:
        """The custom fields known so far."""
        return tuple(key for key in (*self._names.values(), *self._captions) if key.startswith(("cust_", "sr_cust_")))

    def priority(self, priority: Priority | None) -> str | None:
        return self._code("priority", priority, PRIORITY_CODES)

    def type(self, type_: TicketType | None) -> str | None:
        return self._code("type", type_, TYPE_CODES)

    async def status(self, status: TicketStatus) -> str:
        """The first of the account's statuses that means this one; raises ValidationRefused when none comes near."""
        if own := self._code("status", status, {}):
            return own
        if not self._status_codes:
            for code, caption in (await self._api().words("status")).items():
                if (means := self._statuses(caption)) is not TicketStatus.UNKNOWN:
                    self._status_codes.setdefault(means, code)
        for wanted in (status, NEAREST.get(status)):
            if wanted in self._status_codes:
                return self._status_codes[wanted]
        raise ValidationRefused(f"no status of this account means {status}; map one in codes.status")

    async def custom(self, fields: Mapping[str, Any], kind: str) -> Json:
        """Custom fields under their keys: a name of the setting `custom_fields`, a key, or the caption of the account's own field.

        What the account does not have is refused here; SysAid would drop it without a word.
        """
        found: Json = {}
        for name, value in fields.items():
            if (key := self._names.get(name)) is None:
                if not self._captions:
                    self._captions = await self._api().fields(kind)
                by_caption = {caption.casefold(): key for key, caption in self._captions.items()}
                key = name if name in self._captions else by_caption.get(name.casefold())
            if key is None:
                raise ValidationRefused(
                    f"this SysAid has no field {name[:80]}; give a key (cust_text3), its caption, or a name of custom_fields"
                )
            found[key] = value
        return found

    def _code(self, name: str, value: Any, stock: Mapping[Any, str]) -> str | None:
        own = (self._own.get(name) or {}).get(str(value))
        return str(own) if own is not None else stock.get(value)
