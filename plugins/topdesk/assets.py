"""Asset management: what a card is about, and what that is linked to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from plugins.api import (
    ConfigurationItem,
    CredentialsRefused,
    DeviceContext,
    NotFound,
    Relation,
    TicketMetadata,
    TicketType,
    ValidationRefused,
)
from plugins.mapping import to_id, to_text
from plugins.topdesk.api_client import TopdeskClient
from plugins.topdesk.payload import to_unid

MAX_ITEMS: Final = 20
MAX_RELATIONS: Final = 20
MAX_ATTRIBUTES: Final = 30
SERVICES: Final = frozenset({"service", "dienst", "business service", "application", "applicatie"})


async def assets_of(api: TopdeskClient, ticket: TicketMetadata) -> DeviceContext | None:
    """The card's own asset first, then those linked to the card; None for none, or where asset management is closed to us."""
    own = ticket.extra.get("asset")
    ids = [unid for unid in (to_unid(own.get("id")) if isinstance(own, Mapping) else None,) if unid]
    try:
        card = to_unid(ticket.extra.get("unid")) or to_unid(ticket.ticket_id)
        if card:
            kind = "change" if ticket.type is TicketType.CHANGE else "incident"
            linked = await api.assets(linkedTo=f"{kind}/{card}", pageSize=MAX_ITEMS)
            ids += [unid for row in linked if (unid := to_unid(row.get("unid") or row.get("id")))]
        if not ids and ticket.device and (name := to_text(ticket.device.get("name"))):
            named = await api.assets(nameFragment=name, pageSize=MAX_ITEMS)
            ids = [unid for row in named if row.get("name") == name and (unid := to_unid(row.get("unid") or row.get("id")))]
    except (CredentialsRefused, NotFound, ValidationRefused):
        if not ids:
            return None
    items = []
    for asset_id in list(dict.fromkeys(ids))[:MAX_ITEMS]:
        try:
            items.append(await _item(api, asset_id))
        except NotFound:
            continue  # the link outlived its asset
    if not items:
        return None
    services = {r.name for item in items for r in item.relations if r.kind.casefold() in SERVICES}
    return DeviceContext(items=tuple(items), services=tuple(sorted(services)))


async def _item(api: TopdeskClient, asset_id: str) -> ConfigurationItem:
    asset = await api.asset(asset_id)
    data, metadata = _object(asset.get("data")), _object(asset.get("metadata"))
    relations = tuple(
        Relation(
            kind=to_text(link.get("type") or link.get("capabilityName")),
            name=to_text(link.get("name")),
            item_id=to_id(link.get("assetId")) or "",
        )
        for link in (await api.asset_links(asset_id))[:MAX_RELATIONS]
    )
    shown = {name: to_text(_shown(value)) for name, value in data.items() if not name.startswith("@") and name not in ("unid", "id")}
    return ConfigurationItem(
        item_id=asset_id,
        name=to_text(data.get("name")),
        kind=to_text(metadata.get("templateName")),
        status=to_text(data.get("@status")),
        attributes={name: value[:200] for name, value in list(shown.items())[:MAX_ATTRIBUTES] if value},
        relations=relations,
    )


def _shown(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else value


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
