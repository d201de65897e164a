"""How a small ServiceNow takes a write: what it drops, computes, refuses and silently keeps. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from plugins.servicenow.sandbox_schema import DATES, JOURNALS, READ_ONLY, chain, choices, columns, derives
from plugins.servicenow.tables import LOOKED_UP, PRIORITY_CODES, moves_of

VERSION = re.compile(r"^(/api/(?:now|sn_chg_rest))/v\d+/")
NUMBERS = frozenset({"state", "impact", "urgency", "priority", "risk", "sys_mod_count"})
FAULTS: Mapping[int, tuple[str, str | None]] = {
    400: ("Exception while reading request", "The payload is not valid JSON."),
    401: ("User Not Authenticated", "Required to provide Auth information"),
    403: ("User Not Authorized", "Failed ACL check"),
    404: ("No Record found", "Record doesn't exist or ACL restricts the record retrieval"),
    405: ("Method not supported", None),
    429: ("Rate limit exceeded", "Rate limit of 100 requests per hour for Table API exceeded"),
}
TABLE_OF: Mapping[str, str] = {"incident": "incident", "request": "sc_req_item", "problem": "problem", "change": "change_request"}
MANDATORY: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("incident", "3"): {"hold_reason": "On hold reason"},
    ("incident", "6"): {"close_code": "Resolution code", "close_notes": "Resolution notes"},
    ("incident", "7"): {"close_code": "Resolution code", "close_notes": "Resolution notes"},
    ("change_request", "3"): {"close_code": "Close code", "close_notes": "Close notes"},
    ("problem", "104"): {"cause_notes": "Cause notes", "fix_notes": "Fix notes"},
    ("problem", "106"): {"resolution_code": "Resolution code", "cause_notes": "Cause notes", "fix_notes": "Fix notes"},
}
LOOKUP = {
    ("1", "1"): "1",
    ("1", "2"): "2",
    ("2", "1"): "2",
    ("1", "3"): "3",
    ("2", "2"): "3",
    ("3", "1"): "3",
    ("2", "3"): "4",
    ("3", "2"): "4",
    ("3", "3"): "5",
}
"""Priority by impact and urgency, the base product's."""
LENGTHS = {"short_description": 160, "correlation_id": 100, "correlation_display": 100}
_STATES: Mapping[str, Mapping[str, str]] = {
    "incident": {"new": "1", "open": "2", "pending": "3", "resolved": "6", "closed": "7"},
    "change_request": {"new": "-5", "pending": "-4", "open": "-1", "resolved": "3", "closed": "3"},
    "problem": {"new": "101", "open": "103", "resolved": "106", "closed": "107"},
    "task": {"new": "1", "open": "2", "pending": "-5", "resolved": "3", "closed": "3"},
}
_IMPACTS = {"urgent": ("1", "1"), "high": ("1", "2"), "medium": ("2", "2"), "low": ("2", "3")}


def apply(
    row: dict[str, Any], given: Mapping[str, Any], query: Mapping[str, str], *, new: bool, anything_goes: bool
) -> tuple[str | None, tuple[str, ...]]:
    """Writes into the row; answers why not, and the columns that changed. `anything_goes` for a person, who fills in a form."""
    table, before = row["_table"], dict(row)
    own = set(columns(table)) - READ_ONLY - JOURNALS
    values = {name: _raw(table, name, value, query) for name, value in given.items() if name in own}
    if table in LOOKED_UP:
        values.pop("priority", None)
    wanted = values.pop("state", None)
    row.update({name: value[: LENGTHS.get(name, 4000)] for name, value in values.items()})
    if wanted is not None and wanted != row.get("state"):
        if not anything_goes and not new and (refused := _move_refused(row, wanted)):
            return refused, ()
        if not _kept_back(row, wanted, anything_goes):
            row["state"] = wanted
    if not anything_goes and (new or row.get("state") != before.get("state")):
        missing = [label for name, label in MANDATORY.get((table, str(row.get("state"))), {}).items() if not row.get(name)]
        if missing:
            return f"Data Policy Exception: The following fields are mandatory: {', '.join(missing)}", ()
    if table in LOOKED_UP:
        row["priority"] = LOOKUP.get((str(row.get("impact")), str(row.get("urgency"))), "5")
    if derives(table, "task"):
        row["active"] = (
            "false" if str(row.get("state")) in ("7", "8") or (table != "incident" and row.get("state") in ("3", "4")) else "true"
        )
        if "incident_state" in own:
            row["incident_state"] = row["state"]
    return None, tuple(name for name in columns(table) if row.get(name, "") != before.get(name, "") and name != "incident_state")


def in_columns(table: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Canonical words, as the control calls take them, in ServiceNow's columns and codes."""
    given: dict[str, Any] = {}
    for name, column in (("subject", "short_description"), ("description", "description")):
        if name in fields:
            given[column] = fields[name]
    if fields.get("priority") in _IMPACTS:
        if table in LOOKED_UP:
            given["impact"], given["urgency"] = _IMPACTS[fields["priority"]]
        else:
            given["priority"] = next(code for word, code in PRIORITY_CODES.items() if word.value == fields["priority"])
    states = next((_STATES[name] for name in chain(table) if name in _STATES), {})
    if fields.get("status") in states:
        given["state"] = states[fields["status"]]
    if fields.get("tags"):
        given["u_tags"] = ",".join(fields["tags"])
    return given


def _raw(table: str, name: str, value: Any, query: Mapping[str, str]) -> str:
    """What is stored for a value as sent: everything is text, a label becomes its value where the caller says it sends labels."""
    if isinstance(value, dict):
        value = value.get("value", "")
    text = ("true" if value else "false") if isinstance(value, bool) else "" if value is None else str(value)
    if query.get("sysparm_input_display_value") == "true" and name not in DATES:
        return next((v for v, label in choices(table, name).items() if label.casefold() == text.casefold()), text)
    return text


def _move_refused(row: Mapping[str, Any], wanted: str) -> str | None:
    model = moves_of(row["_table"], str(row.get("type") or "normal"))
    if model is None or wanted in model.get(str(row.get("state")), ()):
        return None
    return f"Operation against file '{row['_table']}' was aborted by Business Rule 'State model - can change state'"


def _kept_back(row: Mapping[str, Any], wanted: str, anything_goes: bool) -> bool:
    """A change without its approval stays where it is, and nobody says so."""
    return row["_table"] == "change_request" and wanted == "-2" and row.get("approval") != "approved" and not anything_goes
