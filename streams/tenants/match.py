"""What a route's `match` may say: the fields of a ticket and the forms of their values. Pure; routing compiles the same forms.

type: incident                     equality; enumerated fields take their own words, priority also P1..P4
subject: "*printer*"               a glob
tags: [vip, board]                 any of them
priority: {min: high}              a range, ends included; also for times and for numbers in custom fields
custom_fields.region: EMEA         one custom field; `device.` and `extra.` alike
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from schemas.ticket import PRIORITY_ALIASES, TicketChange, TicketMetadata, TicketStatus, TicketType

WORDS: Mapping[str, frozenset[str]] = {
    "type": frozenset(TicketType),
    "priority": frozenset(PRIORITY_ALIASES),
    "status": frozenset(TicketStatus),
    "change": frozenset(TicketChange),
}
TIMES = frozenset({"sla_due_at", "created_at", "updated_at"})
NESTED = frozenset({"custom_fields", "device", "extra"})
FIELDS = tuple(f.name for f in fields(TicketMetadata) if f.name not in NESTED | {"tenant_id"})
MAX_VALUES = 1000
MAX_VALUE_CHARS = 512


class ConditionError(ValueError):
    """A condition that can never be evaluated as it is written."""


def check_match(field: str, value: Any) -> None:
    """Raises ConditionError when a ticket has no such field, or the value has no form this field takes."""
    root, dot, rest = field.partition(".")
    if dot and root in NESTED and rest:
        _check(field, value, ranges=True)
    elif field in NESTED:
        raise ConditionError(f"name the one you mean: `{field}.NAME`")
    elif field not in FIELDS:
        raise ConditionError(
            f"a ticket has no such field; it has {', '.join(FIELDS)}, and {', '.join(sorted(f'{n}.NAME' for n in NESTED))}"
        )
    elif field in WORDS:
        _check_words(field, value)
    else:
        _check(field, value, ranges=field in TIMES)


def _check_words(field: str, value: Any) -> None:
    if isinstance(value, dict) and field == "priority":
        _check_bounds(value)
        items = list(value.values())
    else:
        items = value if isinstance(value, list) else [value]
    if not items:
        raise ConditionError("an empty list matches nothing; take the condition out")
    for item in items:
        if not isinstance(item, str) or item.lower() not in WORDS[field]:
            raise ConditionError(f"{item!r} is not a {field}; use {', '.join(sorted(WORDS[field]))}")


def _check(field: str, value: Any, *, ranges: bool) -> None:
    if isinstance(value, dict):
        if not ranges:
            raise ConditionError("takes no range; use a value, a list or a glob")
        _check_bounds(value)
        for bound in value.values():
            _check_bound(field, bound)
        return
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ConditionError("an empty list matches nothing; take the condition out")
    if len(items) > MAX_VALUES:
        raise ConditionError(f"more than {MAX_VALUES} values")
    for item in items:
        if isinstance(item, (dict, list)):
            raise ConditionError("a list holds values, not lists or maps")
        if isinstance(item, str) and len(item) > MAX_VALUE_CHARS:
            raise ConditionError(f"a value is longer than {MAX_VALUE_CHARS} characters")


def _check_bounds(value: dict[str, Any]) -> None:
    if not value or value.keys() - {"min", "max"}:
        raise ConditionError("a range has `min`, `max` or both, ends included")


def _check_bound(field: str, bound: Any) -> None:
    if field in TIMES and isinstance(bound, str):
        try:
            datetime.fromisoformat(bound)
        except ValueError:
            raise ConditionError(f"{bound!r} is not an ISO 8601 time") from None
    elif isinstance(bound, bool) or not isinstance(bound, (int, float)):
        raise ConditionError("a range needs numbers" + (" or ISO 8601 times" if field in TIMES else ""))
