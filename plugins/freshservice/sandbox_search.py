"""The query language of `tickets/filter`: `"tag:'vip' AND (status:2 OR priority:>3)"`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[[Mapping[str, Any]], bool]

FIELDS = {"agent_id": "responder_id", "tag": "tags"} | {
    name: name
    for name in (
        "workspace_id", "requester_id", "group_id", "priority", "status", "impact", "urgency", "type", "due_by", "fr_due_by", "created_at",
        "updated_at",
    )
}  # fmt: skip
"""What can be searched for, and where it stands in a ticket. A single-line custom field cannot."""
MAX_QUERY = 512
_TOKEN = re.compile(r"\s*(?:(\(|\))|(AND|OR)\b|([a-z_]+)\s*:\s*([<>]?)\s*('[^']*'|null|true|false|-?[0-9]+))")


class BadQuery(ValueError):
    """The query cannot be read; the text names the field at fault, or says invalid."""


def compiled(quoted: str) -> Test:
    """A test of tickets; the query stands in double quotes. Raises BadQuery."""
    if len(quoted) < 2 or quoted[0] != '"' or quoted[-1] != '"' or len(quoted) > MAX_QUERY + 2:
        raise BadQuery("query")
    tokens = _tokens(quoted[1:-1])
    test, rest = _either(tokens)
    if rest:
        raise BadQuery("query")
    return test


def _tokens(text: str) -> list[tuple[str, ...]]:
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadQuery("query")
        found.append(tuple(group or "" for group in match.groups()))
        at = match.end()
    return found


def _either(tokens: list[tuple[str, ...]]) -> tuple[Test, list[tuple[str, ...]]]:
    test, tokens = _both(tokens)
    tests = [test]
    while tokens and tokens[0][1] == "OR":
        test, tokens = _both(tokens[1:])
        tests.append(test)
    return (lambda ticket: any(each(ticket) for each in tests)), tokens


def _both(tokens: list[tuple[str, ...]]) -> tuple[Test, list[tuple[str, ...]]]:
    test, tokens = _one(tokens)
    tests = [test]
    while tokens and tokens[0][1] == "AND":
        test, tokens = _one(tokens[1:])
        tests.append(test)
    return (lambda ticket: all(each(ticket) for each in tests)), tokens


def _one(tokens: list[tuple[str, ...]]) -> tuple[Test, list[tuple[str, ...]]]:
    if not tokens:
        raise BadQuery("query")
    bracket, _, field, operator, value = tokens[0]
    if bracket == "(":
        test, rest = _either(tokens[1:])
        if not rest or rest[0][0] != ")":
            raise BadQuery("query")
        return test, rest[1:]
    if field not in FIELDS:
        raise BadQuery(field or "query")
    wanted: Any = value[1:-1] if value[0] == "'" else {"null": None, "true": True, "false": False}.get(value, value)
    if isinstance(wanted, str) and value[0] != "'":
        wanted = int(wanted)
    return _compared(FIELDS[field], operator, wanted), tokens[1:]


def _compared(name: str, operator: str, wanted: Any) -> Test:
    def test(ticket: Mapping[str, Any]) -> bool:
        found = ticket.get(name)
        if isinstance(found, list):
            return wanted in found if wanted is not None else not found
        if operator and type(found) is type(wanted) and found is not None:
            return bool(found >= wanted if operator == ">" else found <= wanted)  # both include the value itself
        return bool(found == wanted)

    return test
