"""The query language of `/search/…`: `(type:'Question' OR type:'Problem') AND priority:>2 AND tag:null`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Record = Mapping[str, Any]
Test = Callable[[Record], bool]
_TOKEN = re.compile(r"\s*(?:([()])|(AND|OR)\b|(\w+)\s*:\s*([<>]?)\s*('[^']*'|[^\s()']+))", re.IGNORECASE)
ALIASES = {"agent_id": "responder_id", "tag": "tags"}
UNTOUCHED = frozenset({"description", "subject"})
"""Texts nobody can search by."""


class BadQuery(ValueError):
    """What the language does not know; the text names it."""


def compiled(query: str) -> Test:
    """A query between its double quotes as a function of a record; raises BadQuery."""
    if len(query) < 3 or len(query) > 514 or query[0] != '"' or query[-1] != '"':
        raise BadQuery("It should be a valid query in double quotes")
    tokens: list[tuple[str, ...]] = []
    at, text = 0, query[1:-1].rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise BadQuery("It is not a valid query")
        tokens.append(found.groups(""))
        at = found.end()
    test, rest = _either(tokens)
    if rest:
        raise BadQuery("It is not a valid query")
    return test


def _either(tokens: list[tuple[str, ...]]) -> tuple[Test, list[tuple[str, ...]]]:
    test, tokens = _both(tokens)
    while tokens and tokens[0][1].upper() == "OR":
        other, tokens = _both(tokens[1:])
        test = _or(test, other)
    return test, tokens


def _both(tokens: list[tuple[str, ...]]) -> tuple[Test, list[tuple[str, ...]]]:
    test, tokens = _one(tokens)
    while tokens and tokens[0][1].upper() == "AND":
        other, tokens = _one(tokens[1:])
        test = _and(test, other)
    return test, tokens


def _one(tokens: list[tuple[str, ...]]) -> tuple[Test, list[tuple[str, ...]]]:
    if not tokens:
        raise BadQuery("It is not a valid query")
    bracket, _, field, comparison, value = tokens[0]
    if bracket == "(":
        test, rest = _either(tokens[1:])
        if not rest or rest[0][0] != ")":
            raise BadQuery("It is not a valid query")
        return test, rest[1:]
    if not field or field in UNTOUCHED:
        raise BadQuery("It is not a field that can be searched by")
    return _compares(field, comparison, value), tokens[1:]


def _or(one: Test, other: Test) -> Test:
    return lambda record: one(record) or other(record)


def _and(one: Test, other: Test) -> Test:
    return lambda record: one(record) and other(record)


def _compares(field: str, comparison: str, value: str) -> Test:
    wanted = None if value == "null" else value.strip("'")

    def test(record: Record) -> bool:
        held = record.get(ALIASES.get(field, field), (record.get("custom_fields") or {}).get(field))
        if isinstance(held, list):
            return wanted in held if wanted is not None else not held
        if wanted is None or held is None:
            return held is None and wanted is None
        if not comparison:
            return str(held).casefold() == wanted.casefold()
        pair = (str(held)[: len(wanted)], wanted) if not isinstance(held, (int, float)) else (float(held), float(wanted))
        return pair[0] >= pair[1] if comparison == ">" else pair[0] <= pair[1]  # type: ignore[operator]  # both texts or both numbers

    return test
