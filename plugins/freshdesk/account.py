"""What an admin made of one Freshdesk account: its custom fields, statuses and brands, by name and by id, read once and kept a while."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from plugins.api import CredentialsRefused, PluginConfigError, Priority, TicketStatus, TicketType
from plugins.freshdesk.api_client import FreshdeskClient, Json
from plugins.mapping import to_id, to_text
from plugins.name_cache import NameCache

PRIORITY_CODES: Final[Mapping[Priority, int]] = {Priority.LOW: 1, Priority.MEDIUM: 2, Priority.HIGH: 3, Priority.URGENT: 4}
STATUS_CODES: Final[Mapping[TicketStatus, str]] = {
    TicketStatus.NEW: "2",
    TicketStatus.OPEN: "2",
    TicketStatus.PENDING: "3",
    TicketStatus.RESOLVED: "4",
    TicketStatus.CLOSED: "5",
}
TYPE_NAMES: Final[Mapping[TicketType, str]] = {
    TicketType.INCIDENT: "Incident",
    TicketType.REQUEST: "Question",
    TicketType.PROBLEM: "Problem",
}
"""Stock words; Freshdesk has none for a change, whose type is left empty unless `type_names` has one."""
STOCK_STATUSES: Final = frozenset("234567")
_NO_PRODUCT: Final = "0"

log = logging.getLogger(__name__)
E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Brand:
    """A product and the mailbox its mail leaves from; what is None is the account's own."""

    product_id: int | None = None
    email_config_id: int | None = None
    reply_email: str | None = None


class Account:
    """Names to what the API wants, by one tool's settings: `status_codes`, `type_names`, `products`, `product`."""

    def __init__(self, api: FreshdeskClient, settings: Mapping[str, Any]) -> None:
        self._api = api
        self._fields: NameCache[str] = NameCache("custom field", self._load_fields)
        self._statuses: NameCache[str] = NameCache("status", self._load_statuses)
        self._products: NameCache[int] = NameCache("product", self._load_products)
        self._mailboxes: NameCache[tuple[Json, ...]] = NameCache("mailbox", self._load_mailboxes)
        self._status_codes = _names(settings, "status_codes", TicketStatus, STATUS_CODES)
        self._type_names = _names(settings, "type_names", TicketType, TYPE_NAMES)
        self._aliases = {str(alias).casefold(): str(product) for alias, product in (settings.get("products") or {}).items()}
        self.default_product = to_text(settings.get("product"))

    # fields ------------------------------------------------------------------------------------------------------------
    async def field_key(self, name: str) -> str:
        """A custom field's key by its key, name, label or id; raises ValidationRefused for one the account does not have."""
        return name if name.startswith("cf_") else await self._fields.get(name)

    async def has_field(self, key: str) -> bool:
        return await self._fields.find(key) is not None

    async def _load_fields(self) -> Mapping[str, str]:
        known: dict[str, str] = {}
        for field in await self._api.ticket_fields():
            key = to_text(field.get("name"))
            if not key or field.get("default") is True:
                continue
            for name in (to_text(field.get("label")), to_text(field.get("id")), key.removeprefix("cf_"), key):
                known[name] = key
        return known

    # words -------------------------------------------------------------------------------------------------------------
    async def status_label(self, code: Any) -> str | None:
        """The agents' name of a status of the account's own; None for a stock one, or one it does not list."""
        text = to_text(code)
        if not text or text in STOCK_STATUSES:
            return None
        return await self._statuses.find(f"code {text}")

    async def words(self, priority: Priority | None, status: TicketStatus | None, type_: TicketType | None) -> Json:
        """Canonical words as Freshdesk wants them: the tenant's own first; what is unknown is left to the tool."""
        found: Json = {}
        if priority is not None and priority in PRIORITY_CODES:
            found["priority"] = PRIORITY_CODES[priority]
        if status is not None and status in self._status_codes:
            word = self._status_codes[status]
            found["status"] = int(word if word.isdecimal() else await self._statuses.get(word))
        if type_ is not None and type_ in self._type_names:
            found["type"] = self._type_names[type_]
        return found

    async def _load_statuses(self) -> Mapping[str, str]:
        """Labels to codes, and `code N` to labels."""
        known: dict[str, str] = {}
        for field in await self._api.ticket_fields():
            choices = field.get("choices")
            if field.get("type") != "default_status" or not isinstance(choices, dict):
                continue
            for code, labels in choices.items():
                label = to_text(labels[0]) if isinstance(labels, list) and labels else to_text(labels)
                known[label], known[f"code {code}"] = str(code), label
        return known

    # brands ------------------------------------------------------------------------------------------------------------
    async def brand(self, name: Any) -> Brand:
        """The brand by the tenant's name of it, the product's name or its id; the account's own for an empty name or 0."""
        text = to_text(name).strip()
        text = self._aliases.get(text.casefold(), text)
        if text in ("", _NO_PRODUCT):
            return Brand()
        product_id = int(text) if text.isdecimal() else await self._products.get(text)
        return await self.brand_of(product_id)

    async def brand_of(self, product_id: int, email_config_id: int | None = None) -> Brand:
        """A product with the mailbox given, where that is one of its own, else with its first: primary before others, active only."""
        mailboxes = await self._mailboxes.find(str(product_id)) or ()
        own = next((m for m in mailboxes if email_config_id is not None and m.get("id") == email_config_id), None)
        mailbox = own or (mailboxes[0] if mailboxes else {})
        return Brand(product_id, _number(mailbox.get("id")), to_text(mailbox.get("reply_email")) or None)

    async def _load_products(self) -> Mapping[str, int]:
        found = ((to_text(product.get("name")), _number(product.get("id"))) for product in await self._api.products())
        return {name: product_id for name, product_id in found if name and product_id is not None}

    async def _load_mailboxes(self) -> Mapping[str, tuple[Json, ...]]:
        """By product. An agent that may not read them still writes: Freshdesk then picks the product's first mailbox by itself."""
        try:
            mailboxes = await self._api.email_configs()
        except CredentialsRefused:
            log.warning("the agent of auth.api_key may not read mailboxes: Freshdesk chooses those of each brand")
            return {}
        by_product: dict[str, list[Json]] = {}
        for mailbox in mailboxes:
            if (product_id := to_id(mailbox.get("product_id"))) is not None and mailbox.get("active") is not False:
                by_product.setdefault(product_id, []).append(mailbox)
        return {product: tuple(sorted(found, key=lambda m: m.get("primary_role") is not True)) for product, found in by_product.items()}


def _names(settings: Mapping[str, Any], setting: str, kind: type[E], stock: Mapping[E, str]) -> Mapping[E, str]:
    """What is written for each canonical value: the tenant's words over the stock ones; PluginConfigError for a value that is none."""
    try:
        return {**stock, **{kind(value): str(word) for value, word in (settings.get(setting) or {}).items()}}
    except (ValueError, AttributeError):
        raise PluginConfigError(f"{setting} must map some of {', '.join(kind)} to words of the account") from None


def _number(value: Any) -> int | None:
    return value if type(value) is int else int(value) if type(value) is str and value.isdecimal() else None
