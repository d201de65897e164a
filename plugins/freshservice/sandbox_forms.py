"""The forms of a small Freshservice: which fields a record takes, which it insists on, and what is wrong with a given one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugins.freshservice.records import RECORDS

TEXT = (str,)
NUMBER = (int,)
LIST = (list,)
_SHARED: Mapping[str, tuple[type, ...]] = {
    "subject": TEXT, "description": TEXT, "priority": NUMBER, "status": NUMBER, "impact": NUMBER,
    "group_id": NUMBER, "department_id": NUMBER, "category": TEXT, "sub_category": TEXT, "item_category": TEXT, "custom_fields": (dict,),
    "assets": LIST, "due_by": TEXT, "workspace_id": NUMBER,
}  # fmt: skip
FIELDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "ticket": {
        **_SHARED, "email": TEXT, "requester_id": NUMBER, "type": TEXT, "source": NUMBER, "responder_id": NUMBER, "tags": LIST,
        "cc_emails": LIST, "urgency": NUMBER, "phone": TEXT,
        "name": TEXT, "fr_due_by": TEXT, "requested_for_id": NUMBER, "problem": (dict,), "email_config_id": NUMBER,
    },
    "problem": {**_SHARED, "requester_id": NUMBER, "agent_id": NUMBER, "known_error": (bool,)},
    "change": {
        **_SHARED, "requester_id": NUMBER, "agent_id": NUMBER, "risk": NUMBER, "change_type": NUMBER, "planned_start_date": TEXT,
        "planned_end_date": TEXT, "planning_fields": (dict,), "maintenance_window": (dict,), "impacted_services": LIST,
    },
    "release": {**_SHARED, "agent_id": NUMBER, "release_type": NUMBER, "planned_start_date": TEXT, "planned_end_date": TEXT},
}  # fmt: skip
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "ticket": ("subject", "description", "status", "priority"),
    "problem": ("requester_id", "subject", "description", "status", "priority", "impact", "due_by"),
    "change": ("requester_id", "subject", "description", "status", "priority", "impact", "risk", "change_type", "planned_start_date"),
    "release": ("subject", "description", "status", "priority", "release_type", "planned_start_date", "planned_end_date"),
}
CHOICES: Mapping[str, range] = {
    "priority": range(1, 5), "impact": range(1, 4), "urgency": range(1, 4), "risk": range(1, 5), "change_type": range(1, 5),
    "release_type": range(1, 5),
}  # fmt: skip
STATUSES: Mapping[str, range] = {"ticket": range(2, 8), "problem": range(1, 4), "change": range(1, 7), "release": range(1, 6)}
"""Tickets have two statuses of the account's own: 6 and 7."""
TYPES = ("Incident", "Service Request")
CUSTOM: tuple[Mapping[str, Any], ...] = (
    {"id": 21_000_500_001, "name": "external_event", "label": "External event", "field_type": "custom_text"},
    {"id": 21_000_500_003, "name": "cost_centre", "label": "Cost centre", "field_type": "custom_text"},
)
Fault = dict[str, str]


def faults_in(kind: str, given: Mapping[str, Any], *, creates: bool) -> list[Fault]:
    """What the tool would refuse, in its own codes."""
    found = [_fault(name, "missing_field", "It should not be blank") for name in REQUIRED[kind] if creates and not given.get(name)]
    if kind == "ticket" and creates and not any(given.get(name) for name in ("email", "requester_id", "phone")):
        found.append(_fault("requester_id", "missing_field", "One of requester_id, email, phone should be present"))
    for name, value in given.items():
        if (kinds := FIELDS[kind].get(name)) is None:
            found.append(_fault(name, "invalid_field", "Unexpected/invalid field in request"))
        elif value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            found.append(_fault(name, "datatype_mismatch", f"It should be a/an {kinds[0].__name__}"))
        elif (choices := STATUSES[kind] if name == "status" else CHOICES.get(name)) and value is not None and value not in choices:
            found.append(_fault(name, "invalid_value", f"It should be one of these values: '{','.join(map(str, choices))}'"))
    if given.get("type") is not None and given["type"] not in TYPES:
        found.append(_fault("type", "invalid_value", f"It should be one of these values: '{','.join(TYPES)}'"))
    custom = given.get("custom_fields")
    known = {field["name"] for field in CUSTOM}
    found += [
        _fault(name, "invalid_field", "Unexpected/invalid field in request")
        for name in (custom if isinstance(custom, dict) else ())
        if name not in known
    ]
    return found


def _fault(field: str, code: str, message: str) -> Fault:
    return {"field": field, "message": message, "code": code}


def form_fields(kind: str) -> list[dict[str, Any]]:
    """A record's form, the tool's own fields first."""
    own = [
        {"id": 21_000_400_000 + n, "name": name, "label": name.replace("_", " ").capitalize(), "field_type": f"default_{name}"}
        for n, name in enumerate(FIELDS[kind])
        if name != "custom_fields"
    ]
    return [*own, *(dict(field) for field in CUSTOM)]


def blank(kind: str) -> dict[str, Any]:
    """The fields of a new record that nobody filled, as the tool shows them."""
    shared = {"group_id": None, "department_id": None, "category": None, "sub_category": None, "item_category": None}
    if kind == "ticket":
        return {
            **shared, "type": "Incident", "source": 2, "responder_id": None, "requested_for_id": None, "urgency": 1, "impact": 1,
            "spam": False, "deleted": False, "is_escalated": False, "fr_escalated": False, "email_config_id": None, "to_emails": None,
            "cc_emails": [], "fwd_emails": [], "reply_cc_emails": [], "tags": [], "attachments": [],
        }  # fmt: skip
    more: Mapping[str, dict[str, Any]] = {
        "problem": {"agent_id": None, "known_error": False},
        "change": {
            "agent_id": None, "approval_status": 4, "change_window_id": None, "maintenance_window": {}, "blackout_window": {},
            "impacted_services": [], "planning_fields": {},
        },
        "release": {"agent_id": None},
    }  # fmt: skip
    return {**shared, **more[kind], "assets": []}


assert set(FIELDS) == set(RECORDS)
