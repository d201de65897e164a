"""How a small Freshservice shows documents and cuts lists into pages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SEARCH_PAGE = 30


def shown(document: Mapping[str, Any], without: Iterable[str] = ()) -> dict[str, Any]:
    """A document without what is the sandbox's own, and without what an answer leaves out unless asked for it."""
    left_out = frozenset(without)
    return {name: value for name, value in document.items() if not name.startswith("_") and name not in left_out}


def page(items: list[Any], query: Mapping[str, str], url: str) -> tuple[list[Any], str, dict[str, str] | None]:
    """(the page, the Link header or "", what is wrong with the asked page): thirty at a time, a hundred at most."""
    number, size = _number(query.get("page"), 1), _number(query.get("per_page"), 30)
    if number is None or number < 1:
        return [], "", {"field": "page", "message": "It should be a Positive Integer", "code": "invalid_value"}
    if size is None or not 1 <= size <= 100:
        return (
            [],
            "",
            {"field": "per_page", "message": "It should be a Positive Integer less than or equal to 100", "code": "invalid_value"},
        )
    start = (number - 1) * size
    link = f'<{url}?page={number + 1}&per_page={size}>; rel="next"' if start + size < len(items) else ""
    return items[start : start + size], link, None


def searched(items: list[Any], number: int) -> list[Any]:
    """A search's page."""
    return [shown(item, ("tags", "assets", "attachments")) for item in items[(number - 1) * SEARCH_PAGE : number * SEARCH_PAGE]]


def _number(text: str | None, usual: int) -> int | None:
    return usual if text is None else int(text) if text.isdecimal() else None
