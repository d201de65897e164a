"""What surrounds a record, in this project's values: its assets, its clocks, who approves it, people. Pure.

An asset has two ids: paths and links use the small `display_id`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from plugins.api import ConfigurationItem, Person, SlaTarget
from plugins.freshservice.records import APPROVALS
from plugins.mapping import to_id, to_micros, to_text

MAX_ITEMS: Final = 20
MAX_ATTRIBUTES: Final = 40
_TYPE_SUFFIX = re.compile(r"_[0-9]{5,}$")
"""A type's own fields end in the type's id: serial_number_21001397559."""
_NOT_SHOWN: Final = frozenset(
    {"id", "display_id", "name", "description", "created_at", "updated_at", "author_type", "deleted", "type_fields"}
)


def item_of(display_id: str, asset: Mapping[str, Any], base_url: str) -> ConfigurationItem:
    """An asset with whatever of it people read: its own fields, then those of its type without the type's id in their names."""
    type_fields = asset.get("type_fields")
    own = {_TYPE_SUFFIX.sub("", name): value for name, value in type_fields.items()} if isinstance(type_fields, dict) else {}
    shown = {name: value for name, value in asset.items() if name not in _NOT_SHOWN} | own
    attributes = {name: text[:200] for name, value in shown.items() if (text := to_text(value))}
    return ConfigurationItem(
        item_id=display_id,
        name=to_text(asset.get("name")),
        kind=to_text(own.get("product") or asset.get("asset_type_id") or asset.get("ci_type_id")),
        status=to_text(own.get("asset_state") or asset.get("asset_state")),
        url=f"{base_url}/cmdb/items/{display_id}" if base_url else None,
        attributes=dict(list(attributes.items())[:MAX_ATTRIBUTES]),
    )


def person_of(person: Mapping[str, Any]) -> Person:
    """An agent, whose address is `email`, or a requester, whose is `primary_email`."""
    name = " ".join(part for part in (to_text(person.get("first_name")), to_text(person.get("last_name"))) if part)
    email = to_id(person.get("primary_email")) or to_id(person.get("email"))
    kept = {
        key: text for key in ("job_title", "work_phone_number", "mobile_phone_number", "time_zone") if (text := to_text(person.get(key)))
    }
    return Person(person_id=str(person["id"]), name=name or email or str(person["id"]), email=email, attributes=kept)


def approval_of(approval: Mapping[str, Any]) -> Mapping[str, str]:
    """What people want to know of an approval; the tool writes its status as {id, name}."""
    status = approval.get("approval_status")
    found = {
        "approval_id": approval.get("id"),
        "approver": approval.get("approver_name") or approval.get("approver_id"),
        "status": status.get("name") if isinstance(status, dict) else APPROVALS.get(to_text(status), status),
        "level": approval.get("level"),
        "remark": approval.get("latest_remark"),
        "updated_at": approval.get("updated_at"),
    }
    return {name: text for name, value in found.items() if (text := to_text(value))}


_CLOCKS: Final = (
    ("first response", "fr_due_by", "first_responded_at", "fr_escalated"),
    ("resolution", "due_by", "resolved_at", "is_escalated"),
)


def clocks_of(document: Mapping[str, Any], *, pending: bool) -> list[SlaTarget]:
    """The clocks a record has a time for. A ticket's `stats` tell when they were met; one that is met no longer stands still."""
    stats = document.get("stats")
    met = {done: to_micros(stats.get(done)) if isinstance(stats, dict) else None for _, _, done, _ in _CLOCKS}
    return [
        SlaTarget(
            name=name,
            due_at=due_at,
            completed_at=met[done],
            breached=document.get(breached) is True,
            paused=pending and met[done] is None,
        )
        for name, due, done, breached in _CLOCKS
        if (due_at := to_micros(document.get(due))) is not None
    ]


def linked_in(document: Mapping[str, Any]) -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    """(assets by display id, names of services) of a record, each bounded."""
    linked = {found: asset for asset in dicts(document.get("assets")) if (found := to_id(asset.get("display_id")))}
    services = tuple(name for service in dicts(document.get("impacted_services")) if (name := to_text(service.get("name"))))
    return dict(list(linked.items())[:MAX_ITEMS]), services[:MAX_ITEMS]


def dicts(value: Any) -> list[Mapping[str, Any]]:
    """The objects of what should be a list of them."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
