"""Who and what a small Freshservice begins with: three people, two workspaces, two assets. All invented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SINCE = "2026-01-05T08:00:00Z"


def _person(number: int, email: str, first: str, last: str, *, agent: bool) -> Mapping[str, Any]:
    return {
        "id": number,
        "email": email,
        "first_name": first,
        "last_name": last,
        "is_agent": agent,
        "active": True,
        "occasional": False,
        "job_title": None,
        "work_phone_number": None,
        "mobile_phone_number": None,
        "time_zone": "Berlin",
        "language": "en",
        "department_ids": [],
        "role_ids": [21_000_010_001] if agent else [],
        "group_ids": [],
        "custom_fields": {},
        "created_at": SINCE,
        "updated_at": SINCE,
    }


INTEGRATION = _person(21_001_397_501, "integration@desk.example", "Integration", "Account", agent=True)
AGENT = _person(21_001_397_502, "ada@desk.example", "Ada", "Agent", agent=True)
CUSTOMER = _person(21_001_397_503, "cora@customer.example", "Cora", "Customer", agent=False)


def first_people() -> list[dict[str, Any]]:
    return [dict(INTEGRATION), dict(AGENT), dict(CUSTOMER)]


def new_asset(display_id: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """An asset with what is given, and nothing else filled."""
    unset = ("description", "user_id", "department_id", "location_id", "agent_id", "group_id", "assigned_on", "end_of_life")
    usual = {"impact": "low", "author_type": "User", "usage_type": "permanent", "asset_tag": f"ASSET-{display_id}", "workspace_id": 2}
    times = {"created_at": SINCE, "updated_at": SINCE}
    return {
        "id": 21_000_900_000 + display_id,
        "display_id": display_id,
        **dict.fromkeys(unset),
        **usual,
        **times,
        "type_fields": {},
        **given,
    }


def first_assets() -> list[dict[str, Any]]:
    """A laptop with the fields of its type, and a printer without."""
    fields = {"serial_number_21002421001": "SN-7F3A-0417", "asset_state_21002421001": "In Use", "product_21002421001": "Notebook 14"}
    laptop = new_asset(1, {"name": "LT-0417", "asset_type_id": 21_002_421_001, "type_fields": fields})
    return [laptop, new_asset(2, {"name": "PR-0003", "asset_type_id": 21_002_421_002})]


def matches(asset: Mapping[str, Any], name: str, wanted: str, *, whole: bool) -> bool:
    """Whether a field is a value, or begins with it, without case."""
    found = str(asset.get(name) or "").casefold()
    return found == wanted.casefold() if whole else found.startswith(wanted.casefold())


def workspaces() -> list[dict[str, Any]]:
    """The primary one, and one for another department."""
    shared = {"restricted": False, "state": "active", "created_at": SINCE, "updated_at": SINCE}
    return [
        {"id": 2, "name": "IT", "primary": True, "template_name": "it", **shared},
        {"id": 3, "name": "Facilities", "primary": False, "template_name": "facilities", **shared},
    ]


def approval(ticket: Mapping[str, Any]) -> dict[str, Any]:
    """What a service request waits for."""
    return {
        "id": 21_000_140_000 + int(ticket["id"]),
        "approver_id": AGENT["id"],
        "approver_name": "Ada Agent",
        "approval_type": 2,
        "level": 1,
        "user_id": ticket["requester_id"],
        "approval_status": {"id": 0, "name": "requested"},
        "delegatee": None,
        "latest_remark": None,
        "created_at": ticket["created_at"],
        "updated_at": ticket["created_at"],
    }
