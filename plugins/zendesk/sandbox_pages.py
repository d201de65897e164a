"""How a small Zendesk shows its documents: without what is its own, by cursor or by offset. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without what is the sandbox's own."""
    document = {name: value for name, value in document.items() if not name.startswith("_")}
    if "events" in document:
        document["events"] = [shown(event) for event in document["events"]]
    return document


def page(items: list[dict[str, Any]], query: Mapping[str, str], name: str) -> dict[str, Any]:
    """By cursor when asked with page[size], else by offset."""
    if "page[size]" not in query:
        return by_offset(items, query, name)
    size, start = min(int(query["page[size]"]), 100), int(query.get("page[after]") or 0)
    end = start + size
    more = end < len(items)
    meta = {"has_more": more, "after_cursor": str(end) if more else None, "before_cursor": str(start)}
    return {name: items[start:end], "meta": meta, "links": {"next": None, "prev": None}}


def by_offset(items: list[dict[str, Any]], query: Mapping[str, str], name: str) -> dict[str, Any]:
    """The older form: page and per_page, with a count."""
    size, number = min(int(query.get("per_page") or 100), 100), int(query.get("page") or 1)
    start = (number - 1) * size
    more = start + size < len(items)
    return {name: items[start : start + size], "next_page": str(number + 1) if more else None, "previous_page": None, "count": len(items)}
