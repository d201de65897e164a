"""How a small Zendesk shows its documents: without what is its own, by cursor or by offset. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

MAX_OFFSET = 10_000


def shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without what is the sandbox's own."""
    document = {name: value for name, value in document.items() if not name.startswith("_")}
    if "events" in document:
        document["events"] = [shown(event) for event in document["events"]]
    return document


def page(items: list[dict[str, Any]], query: Mapping[str, str], name: str, url: str) -> dict[str, Any]:
    """By cursor when asked with page[size] (zenpy's own way is page[size] too), else by offset; ValueError for a page that is none."""
    if "page[size]" not in query and "page[after]" not in query:
        return by_offset(items, query, name, url)
    size, start = min(int(query.get("page[size]") or 100), 100), int(query.get("page[after]") or 0)
    end = start + size
    more = end < len(items)
    meta = {"has_more": more, "after_cursor": str(end) if more else None, "before_cursor": str(start)}
    kept = {key: value for key, value in query.items() if key != "page[after]"}
    following = f"{url}?{urlencode({**kept, 'page[size]': size, 'page[after]': end})}" if more else None
    return {name: items[start:end], "meta": meta, "links": {"next": following, "prev": None}}


def by_offset(items: list[dict[str, Any]], query: Mapping[str, str], name: str, url: str) -> dict[str, Any]:
    """The older form: page and per_page, with a count and the next page's address; refused beyond 10 000 items."""
    size, number = min(int(query.get("per_page") or 100), 100), int(query.get("page") or 1)
    start = (number - 1) * size
    if size < 1 or number < 1 or start >= MAX_OFFSET:
        raise ValueError("no such page")

    def address(of: int) -> str:
        return f"{url}?{urlencode({**query, 'page': of, 'per_page': size})}"

    following = address(number + 1) if start + size < len(items) else None
    before = address(number - 1) if number > 1 else None
    return {name: items[start : start + size], "next_page": following, "previous_page": before, "count": len(items)}
