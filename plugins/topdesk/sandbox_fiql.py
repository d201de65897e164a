"""A small FIQL: what `GET /incidents?query=` understands, over documents. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from plugins.mapping import to_micros

Json = dict[str, Any]
Test = Callable[[Json], bool]

_TERM = re.compile(
    r"([A-Za-z][A-Za-z0-9.]*)(==|!=|=lt=|=le=|=gt=|=ge=|=in=|=out=|=sw=)(\((?:'(?:[^'\\]|\\.)*'|[^'()])*\)|'(?:[^'\\]|\\.)*'|[^;,()]*)"
)
_VALUE = re.compile(r"'((?:[^'\\]|\\.)*)'|([^,()]+)")


class BadQuery(Exception):
    """The expression is none, or names what no incident has."""


def fiql(query: str, known: frozenset[str]) -> Test:
    """A test for documents: `;` is and, `,` is or, and binds less. Raises BadQuery."""
    alternatives: list[list[Test]] = [[]]
    at = 0
    while True:
        term = _TERM.match(query, at)
        if term is None or term[1].split(".")[0] not in known:
            raise BadQuery(query[at : at + 60])
        alternatives[-1].append(_term(term[1], term[2], _values(term[3])))
        at = term.end()
        if at == len(query):
            return lambda document: any(all(test(document) for test in tests) for tests in alternatives)
        if query[at] == ",":
            alternatives.append([])
        elif query[at] != ";":
            raise BadQuery(query[at : at + 60])
        at += 1


def _values(text: str) -> list[str]:
    inside = text[1:-1] if text.startswith("(") else text
    return [re.sub(r"\\(.)", r"\1", quoted) if quoted or not plain else plain.strip() for quoted, plain in _VALUE.findall(inside)]


def _term(path: str, operator: str, values: list[str]) -> Test:
    first = values[0] if values else ""

    def value_of(document: Json) -> Any:
        found: Any = document
        for step in path.split("."):
            found = found.get(step) if isinstance(found, dict) else None
        return found

    def text_of(document: Json) -> str:
        found = value_of(document)
        return str(found).lower() if isinstance(found, bool) else "" if found is None else str(found)

    def compared(document: Json) -> int:
        found = text_of(document)
        left, right = to_micros(found), to_micros(first)
        if left is not None and right is not None:
            return (left > right) - (left < right)
        return (found > first) - (found < first)

    tests: dict[str, Test] = {
        "==": lambda d: text_of(d) == first,
        "!=": lambda d: text_of(d) != first,
        "=in=": lambda d: text_of(d) in values,
        "=out=": lambda d: text_of(d) not in values,
        "=sw=": lambda d: text_of(d).lower().startswith(first.lower()),
        "=lt=": lambda d: compared(d) < 0,
        "=le=": lambda d: compared(d) <= 0,
        "=gt=": lambda d: compared(d) > 0,
        "=ge=": lambda d: compared(d) >= 0,
    }
    return tests[operator]
