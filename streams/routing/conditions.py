"""A route's `match`, compiled to closures: one small function a field, asked in the order written, all must hold. Pure.

type: incident                     equality; enumerated fields by their own words in any case, priority also P1..P4
requester: ana@acme.example        equality in any case; numbers and booleans equal their text, null means "has none"
subject: "*printer*"               a glob: text with * or ?; [abc] is a class then
tags: [vip, board]                 any of them; for tags and for a list in a custom field, of any element
priority: {gte: high}              a range by gte, gt, lte, lt (min and max are gte and lte): of words by their order, of times
                                   (ISO 8601), of numbers in custom fields; a value that is unknown or absent is in no range
custom_fields.region: EMEA         one custom field by its own name; `device.` and `extra.` alike
tool: desk                         the tenant's tool the delivery came from; a list or a glob too
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any

from schemas.ticket import PRIORITY_ALIASES, Priority, TicketChange, TicketMetadata, TicketStatus, TicketType

Condition = Callable[[TicketMetadata], bool]
Test = Callable[[Any], bool]

ENUMS: Mapping[str, Mapping[str, StrEnum]] = {
    "type": {w.value: w for w in TicketType},
    "priority": PRIORITY_ALIASES,
    "status": {w.value: w for w in TicketStatus},
    "change": {w.value: w for w in TicketChange},
}
TEXTS = frozenset({"ticket_id", "subject", "description", "requester", "assignee", "actor", "url"})
TIMES = frozenset({"sla_due_at", "created_at", "updated_at"})
MAPS = frozenset({"custom_fields", "device", "extra"})
BOUNDS = {"gte": "gte", "gt": "gt", "lte": "lte", "lt": "lt", "min": "gte", "max": "lte"}


class ConditionError(ValueError):
    """A condition that cannot be evaluated as it is written."""


def compile_match(match: Mapping[str, Any]) -> Condition:
    """One function for a whole `match`. Raises ConditionError for the first field that cannot be compiled."""
    conditions = []
    for field, value in match.items():
        try:
            conditions.append(compile_condition(field, value))
        except ConditionError as exc:
            raise ConditionError(f"match.{field}: {exc}") from None
    return _all(conditions)


def compile_condition(field: str, value: Any) -> Condition:
    """The function for one field. Raises ConditionError."""
    root, dot, name = field.partition(".")
    if dot and name and root in MAPS:
        return _of_map(root, name, _test(value))
    if field in ENUMS:
        return _enum(field, value)
    if field == "tags":
        return _tags(_test(value))
    if field in TIMES:
        return _of(field, _range(value, _time) if isinstance(value, Mapping) else _test(value))
    if field in TEXTS:
        if isinstance(value, Mapping):
            raise ConditionError("takes no range; use a value, a list or a glob")
        return _of(field, _test(value))
    if field in MAPS:
        raise ConditionError(f"name the one you mean: {field}.NAME")
    known = ", ".join(sorted({*ENUMS, *TEXTS, *TIMES, "tags", "tool", *(f"{m}.NAME" for m in MAPS)}))
    raise ConditionError(f"a ticket has no such field; it has {known}")


def compile_tool(value: Any) -> Callable[[str], bool]:
    """The function for `tool`, which is asked with the name of the tool a delivery came from. Raises ConditionError."""
    if isinstance(value, Mapping):
        raise ConditionError("takes no range; use a tool's name, a list or a glob")
    return _test(value)


def shown(field: str, ticket: TicketMetadata) -> str:
    """The value a condition on `field` looks at, for people; shortened."""
    root, dot, name = field.partition(".")
    value = getattr(ticket, root, None)
    if dot:
        value = value.get(name) if value else None
    if value is None or value == "":
        return "absent"
    if root in TIMES and isinstance(value, int):
        return datetime.fromtimestamp(value / 1e6, UTC).isoformat(timespec="seconds")
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _all(conditions: list[Condition]) -> Condition:
    if not conditions:
        return lambda ticket: True
    if len(conditions) == 1:
        return conditions[0]
    if len(conditions) == 2:
        first, second = conditions
        return lambda ticket: first(ticket) and second(ticket)
    head, *rest = conditions
    tail = _all(rest)
    return lambda ticket: head(ticket) and tail(ticket)


def _of(field: str, test: Test) -> Condition:
    read = attrgetter(field)
    return lambda ticket: test(read(ticket))


def _of_map(root: str, name: str, test: Test) -> Condition:
    read = attrgetter(root)

    absent = bool(test(None))

    def holds(ticket: TicketMetadata) -> bool:
        values = read(ticket)
        value = values.get(name) if values else None
        if value is None:
            return absent
        return any(map(test, value)) if isinstance(value, (list, tuple)) else test(value)

    return holds


def _tags(test: Test) -> Condition:
    return lambda ticket: any(map(test, ticket.tags)) if ticket.tags else test(None)


# --- enumerated words ----------------------------------------------------------------------------------------------------


def _enum(field: str, value: Any) -> Condition:
    words = ENUMS[field]
    if isinstance(value, Mapping):
        if field != "priority":
            raise ConditionError("takes no range; only priority has an order")
        allowed = _priorities(value)
    else:
        allowed = []
        for item in _items(value):
            allowed += _words(field, item, words)
    read = attrgetter(field)
    if len(allowed) == 1:
        only = allowed[0]
        return lambda ticket: read(ticket) == only
    some = tuple(dict.fromkeys(allowed))
    return lambda ticket: read(ticket) in some


def _words(field: str, item: Any, words: Mapping[str, StrEnum]) -> list[StrEnum]:
    text = item.strip().casefold() if isinstance(item, str) else ""
    found = [word for spelling, word in words.items() if (fnmatch.fnmatchcase(spelling, text) if _is_glob(text) else spelling == text)]
    if not found:
        raise ConditionError(f"{item!r} is not a {field}; use {', '.join(words)}")
    return found


def _priorities(value: Mapping[str, Any]) -> list[StrEnum]:
    order = [Priority.LOW, Priority.MEDIUM, Priority.HIGH, Priority.URGENT]

    def place(bound: Any) -> float:
        (word,) = _words("priority", bound, PRIORITY_ALIASES)
        if word is Priority.UNKNOWN:
            raise ConditionError("unknown has no place in the order of priorities")
        return order.index(Priority(word))

    test = _range(value, place)
    allowed: list[StrEnum] = [p for i, p in enumerate(order) if test(i)]
    if not allowed:
        raise ConditionError("no priority is in this range")
    return allowed


# --- values --------------------------------------------------------------------------------------------------------------


def _items(value: Any) -> list[Any]:
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    if not items:
        raise ConditionError("an empty list matches nothing; take the condition out")
    return items


def _is_glob(text: str) -> bool:
    return "*" in text or "?" in text


def _test(value: Any) -> Test:
    """The function for a value of free form: equality, a glob, a list of them, or a range of numbers."""
    if isinstance(value, Mapping):
        return _range(value, _bound_number)
    exact: set[str] = set()
    globs: list[Callable[[str], Any]] = []
    for item in _items(value):
        if isinstance(item, (Mapping, list, tuple)):
            raise ConditionError("a list holds values, not lists or maps")
        text = as_text(item)
        if isinstance(item, str) and _is_glob(text):
            globs.append(re.compile(fnmatch.translate(text)).match)
        else:
            exact.add(text)
    if not globs and len(exact) == 1:
        (only,) = exact
        return lambda found: as_text(found) == only
    if not globs:
        return lambda found: as_text(found) in exact

    if not exact and len(globs) == 1:
        (glob,) = globs
        return lambda found: glob(as_text(found)) is not None

    def matches(found: Any) -> bool:
        text = as_text(found)
        return text in exact or any(glob(text) for glob in globs)

    return matches


def as_text(value: Any) -> str:
    """A value as conditions compare it: text in lower case; absent is empty; true, 5 and 5.0 are "true", "5" and "5"."""
    if isinstance(value, str):
        return value.casefold()
    if type(value) is int:
        return str(value)
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).casefold()


def _range(value: Mapping[str, Any], bound: Callable[[Any], float]) -> Test:
    if not value or value.keys() - BOUNDS.keys():
        raise ConditionError("a range has gte, gt, lte or lt (or min, max: ends included)")
    limits = {BOUNDS[name]: bound(limit) for name, limit in value.items()}
    low, high = limits.get("gte", -float("inf")), limits.get("lte", float("inf"))
    above, below = limits.get("gt", -float("inf")), limits.get("lt", float("inf"))

    def within(found: Any) -> bool:
        number = _number(found)
        return number is not None and low <= number <= high and (number > above) and (number < below)

    return within


def _number(found: Any) -> float | None:
    """A number a tool gave as a number or as text; None for anything else. NaN is in no range."""
    if isinstance(found, bool) or found is None:
        return None
    if isinstance(found, (int, float)):
        return found
    if isinstance(found, str):
        try:
            return float(found)
        except ValueError:
            return None
    return None


def _bound_number(bound: Any) -> float:
    if isinstance(bound, bool) or not isinstance(bound, (int, float)):
        raise ConditionError("a range needs numbers")
    return bound


def _time(bound: Any) -> float:
    """Epoch microseconds of an ISO 8601 time (UTC where it names no zone), or of a number that already is."""
    if isinstance(bound, str):
        try:
            moment = datetime.fromisoformat(bound)
        except ValueError:
            raise ConditionError(f"{bound!r} is not an ISO 8601 time") from None
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1_000_000)
    if isinstance(bound, datetime):
        return round((bound if bound.tzinfo is not None else bound.replace(tzinfo=UTC)).timestamp() * 1_000_000)
    return _bound_number(bound)
