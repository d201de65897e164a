"""An asset's life, and an asset or configuration item as people read it. Pure.

SysAid keeps an asset's state in a list each account fills by itself; the states here are ours, and a tenant maps its captions to
them (`words.asset_state`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from plugins.api import ConfigurationItem, Relation, ValidationRefused
from plugins.mapping import WordMap, to_id, to_text
from plugins.sysaid.payload import fold

MAX_ITEMS = 20
MAX_RELATIONS = 20


class AssetState(StrEnum):
    """Where an asset stands in its life."""

    UNKNOWN = "unknown"
    ORDERED = "ordered"
    IN_STOCK = "in_stock"
    IN_USE = "in_use"
    IN_REPAIR = "in_repair"
    LOST = "lost"
    RETIRED = "retired"
    DISPOSED = "disposed"


LEGAL_MOVES: Mapping[AssetState, frozenset[AssetState]] = {
    AssetState.UNKNOWN: frozenset(AssetState) - {AssetState.UNKNOWN},  # an account's first word for it
    AssetState.ORDERED: frozenset({AssetState.IN_STOCK, AssetState.IN_USE, AssetState.RETIRED}),
    AssetState.IN_STOCK: frozenset({AssetState.IN_USE, AssetState.IN_REPAIR, AssetState.LOST, AssetState.RETIRED}),
    AssetState.IN_USE: frozenset({AssetState.IN_STOCK, AssetState.IN_REPAIR, AssetState.LOST, AssetState.RETIRED}),
    AssetState.IN_REPAIR: frozenset({AssetState.IN_STOCK, AssetState.IN_USE, AssetState.LOST, AssetState.RETIRED}),
    AssetState.LOST: frozenset({AssetState.IN_STOCK, AssetState.IN_USE, AssetState.RETIRED}),  # found again, or written off
    AssetState.RETIRED: frozenset({AssetState.IN_STOCK, AssetState.DISPOSED}),  # brought back, or gone for good
    AssetState.DISPOSED: frozenset(),
}
STATES = WordMap(
    {
        **{state.value: state for state in AssetState},
        **dict.fromkeys(("on order", "requested", "purchased"), AssetState.ORDERED),
        **dict.fromkeys(("in stock", "stock", "available", "in storage", "received"), AssetState.IN_STOCK),
        **dict.fromkeys(("in use", "active", "deployed", "assigned", "in production", "installed"), AssetState.IN_USE),
        **dict.fromkeys(("in repair", "repair", "under repair", "maintenance", "in maintenance"), AssetState.IN_REPAIR),
        **dict.fromkeys(("lost", "stolen", "missing"), AssetState.LOST),
        **dict.fromkeys(("inactive", "end of life", "decommissioned"), AssetState.RETIRED),
        **dict.fromkeys(("scrapped", "sold", "donated"), AssetState.DISPOSED),
    },
    AssetState.UNKNOWN,
)


def checked_move(current: AssetState, wanted: AssetState) -> None:
    """Raises ValidationRefused for a move that has no sense, and names the ones that have. Staying is no move, and legal."""
    if wanted is current or wanted in LEGAL_MOVES[current]:
        return
    legal = ", ".join(sorted(LEGAL_MOVES[current])) or "nothing: it is the end"
    raise ValidationRefused(f"an asset that is {current} cannot become {wanted}; from there it may become {legal}")


def item_of(asset: Mapping[str, Any], state_key: str, relations: Iterable[Mapping[str, Any]] = ()) -> ConfigurationItem:
    """An asset of the API; attributes are its fields under the account's captions, those without a value left out."""
    values, captions = fold(asset)
    labels = _labels(asset)
    attributes = {
        labels.get(key, key): captions.get(key) or to_text(value)
        for key, value in values.items()
        if key != state_key and (captions.get(key) or to_text(value))
    }
    item_id = to_id(asset.get("id")) or ""
    kind = captions.get("ci_type") or captions.get("type") or to_text(values.get("ci_type") or values.get("type"))
    return ConfigurationItem(
        item_id=item_id,
        name=to_text(asset.get("name")) or item_id,
        kind=kind,
        status=captions.get(state_key) or to_text(values.get(state_key)),
        attributes=dict(list(attributes.items())[:40]),
        relations=tuple(_relation(relation) for relation in list(relations)[:MAX_RELATIONS]),
    )


def _labels(record: Mapping[str, Any]) -> dict[str, str]:
    info = record.get("info")
    rows = info if isinstance(info, list) else []
    return {row["key"]: to_text(row.get("keyCaption", row.get("key_caption"))) or row["key"] for row in rows if _named(row)}


def _named(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("key"), str)


def _relation(relation: Mapping[str, Any]) -> Relation:
    other = relation.get("dest", relation.get("destId"))
    name = to_text(relation.get("destName") or relation.get("name") or other)
    kind = to_text(relation.get("relationName") or relation.get("ciRelationTypeCaption") or relation.get("ciRelationType"))
    return Relation(kind=kind, name=name, item_id=to_text(other))
