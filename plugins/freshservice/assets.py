"""Assets as configuration items, people as a directory shows them, and approvals. An asset has two ids: paths and links use the small
`display_id`. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from plugins.api import ConfigurationItem, Person
from plugins.freshservice.records import APPROVALS
from plugins.mapping import to_id, to_text

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
