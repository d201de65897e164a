"""What the small Freshdesk takes as a ticket, and what it makes of it: checks in the tool's words, times due, forms. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from plugins.freshdesk.sandbox_seed import CUSTOM_FIELDS, PRIORITIES, SOURCES, STATUSES, TYPES
from plugins.sandbox.multipart import Part
from plugins.sandbox.server import iso

Json = dict[str, Any]
Fault = tuple[str, str, str]
REQUESTERS = ("requester_id", "email", "phone", "twitter_id", "facebook_id", "unique_external_id")
FIELDS = {
    **dict.fromkeys(("subject", "description", "type", "name", "due_by", "fr_due_by", *REQUESTERS[1:]), str),
    **dict.fromkeys(("status", "priority", "source", "requester_id", "responder_id", "group_id", "company_id"), int),
    **dict.fromkeys(("product_id", "email_config_id", "parent_id", "internal_agent_id", "internal_group_id"), int),
    **dict.fromkeys(("tags", "cc_emails", "related_ticket_ids"), list),
    "custom_fields": dict,
}
CUSTOM_TYPES: Mapping[str, type] = {"custom_text": str, "custom_paragraph": str, "custom_number": int, "custom_checkbox": bool}
HOURS_DUE = {1: 72, 2: 24, 3: 12, 4: 4}
EMPTY: Json = {
    **dict.fromkeys(("type", "responder_id", "group_id", "company_id", "product_id", "email_config_id", "support_email", "to_emails")),
    **dict.fromkeys(("nr_due_by", "internal_agent_id", "internal_group_id", "association_type")),
    "cc_emails": [],
    "fwd_emails": [],
    "reply_cc_emails": [],
    "ticket_cc_emails": [],
    "spam": False,
    "tags": [],
    "source": 2,
    "fr_escalated": False,
    "is_escalated": False,
    "nr_escalated": False,
    "form_id": 7100,
}
STATS = (
    "agent_responded_at",
    "requester_responded_at",
    "first_responded_at",
    "status_updated_at",
    "reopened_at",
    "resolved_at",
    "closed_at",
)
NOT_LISTED = ("description", "description_text", "attachments")


def faults_of(given: Mapping[str, Any], *, new: bool, known: Mapping[str, Collection[int]]) -> list[Fault]:
    """What the tool would refuse; `known` are the ids there are of products, mailboxes, contacts, …"""
    found: list[Fault] = []
    for name, value in given.items():
        kind = FIELDS.get(name)
        if kind is None:
            found.append((name, "Unexpected/invalid field in request", "invalid_field"))
        elif value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            found.append((name, f"Value set is of type {type(value).__name__}. It should be a/an {kind.__name__}", "datatype_mismatch"))
        elif name in known and value is not None and value not in known[name]:
            found.append((name, f"There is no {name.removesuffix('_id')} matching the given {name}", "invalid_value"))
    for name, choices in (("status", map(int, STATUSES)), ("priority", PRIORITIES.values()), ("source", SOURCES.values()), ("type", TYPES)):
        if given.get(name) is not None and given[name] not in (allowed := list(choices)):
            found.append((name, f"It should be one of these values: '{','.join(map(str, allowed))}'", "invalid_value"))
    found += _custom_faults(given.get("custom_fields"))
    if new:
        found += [(name, "It should be a/an String", "missing_field") for name in ("subject", "description") if not given.get(name)]
        if not any(given.get(name) for name in REQUESTERS):
            found.append(("requester_id", f"One of these is mandatory: {', '.join(REQUESTERS)}", "missing_field"))
    if given.get("subject") is not None and len(str(given["subject"])) > 255:
        found.append(("subject", "Has 256 characters, it can have maximum of 255 characters", "too_long"))
    return found


def _custom_faults(fields: Any) -> Iterable[Fault]:
    for name, value in (fields or {}).items() if isinstance(fields, dict) else ():
        kind = CUSTOM_TYPES.get(CUSTOM_FIELDS.get(name, ""))
        if kind is None:
            yield name, "Unexpected/invalid field in request", "invalid_field"
        elif value is not None and type(value) is not kind:
            yield name, f"Value set is of type {type(value).__name__}. It should be a/an {kind.__name__}", "datatype_mismatch"
        elif CUSTOM_FIELDS[name] == "custom_text" and len(str(value)) > 255:
            yield name, "It can have maximum of 255 characters", "too_long"


def due_times(created_at: int, priority: int) -> Json:
    hours = HOURS_DUE[priority]
    return {"due_by": iso(created_at + hours * 3_600_000_000), "fr_due_by": iso(created_at + hours * 900_000_000)}


def shown_ticket(ticket: Mapping[str, Any], *, listed: bool, include: Collection[str] = ()) -> Json:
    """A ticket as the API shows it; lists leave the long texts out."""
    found = {name: value for name, value in ticket.items() if not name.startswith("_")}
    if listed:
        found = {
            name: value for name, value in found.items() if name not in NOT_LISTED or (name != "attachments" and "description" in include)
        }
    if "stats" in include:
        found["stats"] = {**dict.fromkeys((*STATS, "pending_since")), **ticket["_stats"]}
    return found


def from_form(parts: Iterable[Part]) -> Json:
    """A multipart form's fields as JSON has them: `tags[]` repeats, `custom_fields[cf_x]` nests, digits become the numbers wanted."""
    given: Json = {}
    for part in parts:
        if part.filename is not None:
            continue
        if part.name.endswith("[]"):
            given.setdefault(part.name[:-2], []).append(part.text)
        elif nested := re.fullmatch(r"custom_fields\[(\w+)\]", part.name):
            kind = CUSTOM_TYPES.get(CUSTOM_FIELDS.get(nested[1], ""))
            given.setdefault("custom_fields", {})[nested[1]] = int(part.text) if kind is int and part.text.isdecimal() else part.text
        elif FIELDS.get(part.name) is int and part.text.isdecimal():
            given[part.name] = int(part.text)
        elif part.name in ("private", "incoming"):
            given[part.name] = part.text == "true"
        else:
            given[part.name] = part.text
    return given


def a_file(number: int, part: Part, base_url: str, token: str, at: int) -> tuple[Json, Json]:
    """A file as tickets show it, and as the storage keeps it."""
    told = {
        "id": number,
        "name": part.filename,
        "content_type": part.content_type,
        "size": len(part.content),
        "attachment_url": f"{base_url}/storage/{number}?signature={token}",
        "created_at": iso(at),
        "updated_at": iso(at),
    }
    return told, {"token": token, "type": part.content_type, "content": base64.b64encode(part.content).decode()}
