"""Encoded queries (`state=1^ORstate=2^ORDERBYnumber`) over a small ServiceNow's rows. Pure.

https://github.com/ServiceNow/ServiceNowDocs, "Operators available for filters and queries". A condition on a column there is not is
dropped, as the instance does unless it is told otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

_OPERATORS = "!=|>=|<=|=|>|<|NOT IN|IN|DOES NOT CONTAIN|NOT LIKE|LIKE|CONTAINS|STARTSWITH|ENDSWITH|ISNOTEMPTY|ISEMPTY"
_TERM = re.compile(rf"(OR)?([a-z][a-z0-9_.]*?)({_OPERATORS})(.*)", re.DOTALL)
_ORDER = re.compile(r"ORDERBY(DESC)?([a-z][a-z0-9_.]*)")
_CARET = "\0"

Value = Callable[[dict[str, Any], str], str | None]
"""A row's column as text, dot-walked; None where there is no such column."""


@dataclass(slots=True)
class Query:
    """Parsed: groups (`^NQ`) of conditions, each a list of alternatives (`^OR`); and the order."""

    groups: list[list[list[tuple[str, str, str]]]] = field(default_factory=lambda: [[]])
    order: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def columns(self) -> frozenset[str]:
        """Every column a condition is about."""
        return frozenset(name for group in self.groups for alternatives in group for name, _, _ in alternatives)

    def equals(self, name: str) -> list[str] | None:
        """The values a column must be one of, where the query says so by itself: what an index answers."""
        if len(self.groups) != 1:
            return None
        for alternatives in self.groups[0]:
            if len(alternatives) == 1 and alternatives[0][0] == name and alternatives[0][1] in ("=", "IN"):
                return alternatives[0][2].split(",") if alternatives[0][1] == "IN" else [alternatives[0][2]]
        return None


def parse(text: str) -> Query:
    """Reads an encoded query; `^^` is a caret. What it cannot read it leaves out."""
    query = Query()
    for raw in text.replace("^^", _CARET).split("^"):
        term = raw.replace(_CARET, "^")
        if (order := _ORDER.fullmatch(term)) is not None:
            query.order.append((order[2], order[1] is not None))
        elif term.startswith("NQ"):
            query.groups.append([])
            _add(query, term[2:])
        elif term not in ("", "EQ"):
            _add(query, term)
    return query


def _add(query: Query, term: str) -> None:
    found = _TERM.fullmatch(term)
    if found is None:
        return
    condition = (found[2], found[3], found[4])
    if found[1] and query.groups[-1]:
        query.groups[-1][-1].append(condition)
    else:
        query.groups[-1].append([condition])


def matching(rows: Iterable[dict[str, Any]], query: Query, value: Value) -> list[dict[str, Any]]:
    """The rows a query selects, in its order."""
    found = [row for row in rows if any(all(_any(row, alternatives, value) for alternatives in group) for group in query.groups)]
    for name, descending in reversed(query.order):
        found.sort(key=lambda row: value(row, name) or "", reverse=descending)
    return found


def _any(row: dict[str, Any], alternatives: list[tuple[str, str, str]], value: Value) -> bool:
    known = [(held, operator, wanted) for name, operator, wanted in alternatives if (held := value(row, name)) is not None]
    return not known or any(_holds(*condition) for condition in known)


def _holds(held: str, operator: str, wanted: str) -> bool:
    match operator:
        case "=":
            return held.casefold() == wanted.casefold()
        case "!=":
            return held.casefold() != wanted.casefold()
        case "IN":
            return held in wanted.split(",")
        case "NOT IN":
            return held not in wanted.split(",")
        case "LIKE" | "CONTAINS":
            return wanted.casefold() in held.casefold()
        case "NOT LIKE" | "DOES NOT CONTAIN":
            return wanted.casefold() not in held.casefold()
        case "STARTSWITH":
            return held.casefold().startswith(wanted.casefold())
        case "ENDSWITH":
            return held.casefold().endswith(wanted.casefold())
        case "ISEMPTY":
            return held == ""
        case "ISNOTEMPTY":
            return held != ""
        case ">=":
            return held >= wanted
        case "<=":
            return held <= wanted
        case ">":
            return held > wanted
        case _:
            return held < wanted
