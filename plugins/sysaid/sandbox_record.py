"""How the sandbox keeps and shows its records: `info` lists with captions, value lists, and the deliveries of each write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plugins.mapping import to_text

Json = dict[str, Any]

BOT, AGENT, CUSTOMER = "integration", "CORP\\ada", "CORP\\cora"
USERS: Mapping[str, Json] = {
    "2": {"name": BOT, "display_name": "Integration", "email_address": "integration@desk.example", "admin": True, "department": ""},
    "3": {"name": AGENT, "display_name": "Ada Agent", "email_address": "ada@desk.example", "admin": True, "department": "Service"},
    "12": {
        "name": CUSTOMER,
        "display_name": "Cora Customer",
        "email_address": "cora@customer.example",
        "admin": False,
        "department": "Yard",
    },
}
USER_IDS = {user["name"]: user_id for user_id, user in USERS.items()}
LISTS: Mapping[str, Mapping[str, str]] = {
    "status": {
        "1": "New", "2": "Open", "3": "Closed", "5": "Pending", "6": "In progress", "7": "Resolved", "8": "Merge closed", "18": "Deleted",
    },
    "priority": {"1": "Highest", "2": "Very High", "3": "High", "4": "Normal", "5": "Low"},
    "urgency": {"1": "Urgent", "3": "High", "4": "Normal", "5": "Low"},
    "impact": {"1": "Highest", "3": "High", "4": "Low"},
    "sr_type": {"1": "Incident", "4": "Change", "6": "Problem", "10": "Request"},
    "responsibility": {"2": "Integration", "3": "Ada Agent"},
    "asset_status": {"1": "On order", "2": "In stock", "3": "In use", "4": "In repair", "5": "Lost", "6": "Retired", "7": "Disposed"},
}  # fmt: skip
CLOSED = frozenset({"3", "8", "18"})
KINDS = {"incident": "1", "change": "4", "problem": "6", "request": "10"}
PRIORITY = {"urgent": "1", "high": "3", "medium": "4", "low": "5"}
STATUS = {"new": "1", "open": "2", "pending": "5", "resolved": "7", "closed": "3"}
CAPTIONS: Mapping[str, str] = {
    "title": "Title",
    "description": "Description",
    "status": "Status",
    "priority": "Priority",
    "urgency": "Urgency",
    "impact": "Impact",
    "sr_type": "Service Record Type",
    "problem_type": "Category",
    "problem_sub_type": "Sub-Category",
    "third_level_category": "Third Level Category",
    "responsibility": "Assigned to",
    "assigned_group": "Admin group",
    "request_user": "Request user",
    "submit_user": "Submit user",
    "company": "Company",
    "department": "Department",
    "location": "Location",
    "computer_id": "Main asset",
    "due_date": "Due date",
    "insert_time": "Request time",
    "update_time": "Modify time",
    "close_time": "Close time",
    "solution": "Solution",
    "resolution": "Resolution",
    "agreement": "Agreement",
    "source": "Source",
    "notes": "Notes",
    "cust_notes": "Customer notes",
    "cust_text1": "Outside reference",
    "cust_text2": "Outside event",
    "cust_text3": "Building",
    "cust_list1": "Shift",
    "sr_version": "Version",
    "attachments": "Attachments",
}
"""Every field of a record; a write to another is dropped without a word, as SysAid does."""
FORM = tuple(key for key in CAPTIONS if key not in ("sr_version", "attachments"))
READ_ONLY = frozenset({"insert_time", "update_time", "close_time", "sr_version", "attachments", "submit_user"})


def shown(record: Json, fields: Sequence[str] = ()) -> Json:
    """A record as the API answers it, with the fields asked for, else its form's."""
    keys = [key for key in (fields or FORM) if key in CAPTIONS and key in record]
    closed = record["status"] in CLOSED
    return {
        "id": record["id"],
        "canUpdate": True,
        "canDelete": True,
        "canArchive": closed,
        "hasChildren": False,
        "info": [field(key, record[key]) for key in keys],
    }


def field(key: str, value: Any) -> Json:
    caption = caption_of(key, value)
    number = int(value) if key in LISTS and isinstance(value, str) and value.isdigit() else value
    status_class: Any = (1 if value in CLOSED else 0) if key == "status" else ""
    return {"key": key, "keyCaption": CAPTIONS.get(key, key), "value": number, "valueCaption": caption, "valueClass": status_class}


def caption_of(key: str, value: Any) -> Any:
    if key in LISTS:
        return LISTS[key].get(str(value), "")
    if key in ("request_user", "submit_user", "responsibility"):
        return USERS.get(str(value), {}).get("display_name", "")
    if key.endswith("_time") or key == "due_date":
        return "" if not value else "03/07/2022 08:56:35 AM"  # in the user's own form: nobody should read it
    return value


def value_list(name: str, rows: Mapping[str, str], *, with_all: bool = False) -> Json:
    """A list, or a filter, whose first entry is then "All"."""
    values = [{"id": code, "caption": caption} for code, caption in rows.items()]
    everything = [{"id": "${list.all}", "caption": "All"}] if with_all else []
    return {
        "id": name,
        "caption": CAPTIONS.get(name, name),
        "type": "list",
        "values": [*everything, *values],
        "metadata": {"offset": 0, "limit": 500, "total": len(values)},
    }


def written(body: Any) -> dict[str, Any] | None:
    """The `info` of a write as {key: value}; None where a scalar is no text, which versions in use answer with 500."""
    info = body.get("info") if isinstance(body, dict) else None
    found: dict[str, Any] = {}
    for item in info if isinstance(info, list) else ():
        if not isinstance(item, dict) or not isinstance(item.get("key"), str):
            continue
        if isinstance(value := item.get("value"), (int, float)):
            return None
        found[item["key"]] = value
    return found


def in_sysaid_words(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A person's work, from canonical words."""
    found: dict[str, Any] = {}
    for ours, key, words in (("priority", "priority", PRIORITY), ("status", "status", STATUS), ("type", "sr_type", KINDS)):
        if (word := fields.get(ours)) is not None:
            found[key] = words[str(word)]
    for ours, key in (("subject", "title"), ("description", "description")):
        if ours in fields:
            found[key] = fields[ours]
    return found


def user_shown(user_id: str) -> Json:
    user = USERS[user_id]
    keys = (("display_name", "Display name"), ("email_address", "E-mail"), ("department", "Department"))
    info = [{"key": key, "keyCaption": caption, "value": user[key], "valueCaption": user[key]} for key, caption in keys]
    return {"id": user_id, "name": user["name"], "isAdmin": user["admin"], "info": info}


def asset_shown(asset: Json) -> Json:
    """An asset; its captions are spelt another way than a record's, in some versions."""
    info = [
        {
            "key": key,
            "key_caption": key.replace("_", " ").capitalize(),
            "value": value,
            "value_caption": LISTS["asset_status"].get(str(value), "") if key == "status" else value,
        }
        for key, value in asset["info"].items()
    ]
    return {"id": asset["id"], "name": asset["name"], "group": "\\", "info": info}


def event_body(account: str, event: str, record: Json, actor: str, changed: Iterable[str], note: Json | None) -> Json:
    """A delivery of the newer API, as far as its manual shows it: `sr_version` and a record; what else is in it is our guess."""
    body: Json = {
        "event": event,
        "accountId": account,
        "sr_version": record["sr_version"],
        "updatedBy": actor,
        "changed": list(changed),
        "data": shown(record, [key for key in FORM if key != "notes"]),
    }
    if note is not None:
        body["note"] = note
    return body


def workflow_body(event: str, record: Json, actor: str, note: Json | None) -> Json:
    """A body an admin wrote for an escalation rule or a workflow's web service call."""
    body = {
        "event": event.replace("sr.", "sr_"),
        "sr_id": record["id"],
        "sr_type": caption_of("sr_type", record["sr_type"]),
        "status": caption_of("status", record["status"]),
        "priority": caption_of("priority", record["priority"]),
        "title": record["title"],
        "description": record["description"],
        "request_user": record["request_user"],
        "update_user": actor,
        "update_time": to_text(record["update_time"]),
        "due_date": "${DueDate}",
    }
    return body if note is None else {**body, "comment": note["text"], "comment_public": to_text(note.get("public", False))}
