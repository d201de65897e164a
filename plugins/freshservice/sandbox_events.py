"""The bodies a small Freshservice sends: templates of automator rules, their placeholders pasted as text, as the tool does. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from plugins.freshservice.records import TICKET, Record

PRIORITIES = {1: "Low", 2: "Medium", 3: "High", 4: "Urgent"}
STATUSES: Mapping[str, Mapping[int, str]] = {
    "ticket": {2: "Open", 3: "Pending", 4: "Resolved", 5: "Closed", 6: "Waiting on Customer", 7: "Waiting on Third Party"},
    "problem": {1: "Open", 2: "Change Requested", 3: "Closed"},
    "change": {1: "Open", 2: "Planning", 3: "Awaiting Approval", 4: "Pending Release", 5: "Pending Review", 6: "Closed"},
    "release": {1: "Open", 2: "On hold", 3: "In progress", 4: "Incomplete", 5: "Completed"},
}


def display_id(record: Record, document: Mapping[str, Any]) -> str:
    """An id as a placeholder shows it."""
    prefix = record.prefix or ("SR" if document.get("type") == "Service Request" else "INC")
    return f"{prefix}-{document['id']}"


def template_body(record: Record, document: Mapping[str, Any], event: str, actor: str, note: Mapping[str, Any] | None) -> bytes:
    """The template the README recommends: every placeholder in quotes, free text last."""
    values = {
        "event": event,
        "ticket_id": display_id(record, document),
        "ticket_type": document.get("type") or record.name.capitalize(),
        "ticket_status": STATUSES[record.name].get(document["status"], ""),
        "ticket_priority": PRIORITIES.get(document["priority"], ""),
        "ticket_tags": ", ".join(document.get("tags") or ()),
        "requester_email": document.get("_requester_email", ""),
        "ticket_due_by_time": document.get("due_by") or "",
        "workspace_id": document.get("workspace_id") or "",
        "created_at": document["created_at"],
        "updated_at": document["updated_at"],
        "actor_email": actor,
        "ticket_subject": document["subject"],
        "ticket_description_text": document["description_text"],
    }
    if note is not None:
        values |= {"comment_public": str(not note.get("private", True)).lower(), "comment_text": note["body_text"]}
    return _pasted({"freshservice_webhook": values})


def simple_body(record: Record, document: Mapping[str, Any], event: str, actor: str, note: Mapping[str, Any] | None) -> bytes:
    """Simple mode: ticked fields under the sister product's name, codes as they are, and nothing of what happened."""
    values = {
        "ticket_id": str(document["id"]),
        "ticket_subject": document["subject"],
        "ticket_status": document["status"],
        "ticket_priority": document["priority"],
    }
    return json.dumps({"freshdesk_webhook": values}).encode()


def unquoted_body(record: Record, document: Mapping[str, Any], event: str, actor: str, note: Mapping[str, Any] | None) -> bytes:
    """A rule by somebody who forgot the quotes."""
    status, priority = STATUSES[record.name].get(document["status"], ""), PRIORITIES.get(document["priority"], "")
    subject = document["subject"].replace(" ", "%20")
    return (
        f'{{"event_type":"{event}","actor_email":"{actor}","{record.name}":{{"id": {display_id(record, document)},"subject":"{subject}",'
        f'"priority": {priority},"status": {status}}}}}\n'
    ).encode()


def app_body(record: Record, document: Mapping[str, Any], event: str, actor: str, note: Mapping[str, Any] | None) -> bytes:
    """A marketplace app's envelope."""
    named = {"created": "Create", "updated": "Update", "noted": "Update"}[event.rpartition("_")[2]]
    shown = {name: value for name, value in document.items() if not name.startswith("_")}
    data: dict[str, Any] = {record.name: shown, "actor": {"email": actor}, "requester": {"email": document.get("_requester_email")}}
    if note is not None:
        data["conversation"] = {name: value for name, value in note.items() if not name.startswith("_")}
    return json.dumps({"event": f"on{record.name.capitalize()}{named}", "data": data, "region": "EU", "timestamp": 1772442005.25}).encode()


BODIES = {None: template_body, "template": template_body, "simple": simple_body, "unquoted": unquoted_body, "app": app_body}


def _pasted(template: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Values between quotes as they are: what breaks the JSON breaks it here too."""
    ((wrapper, values),) = template.items()
    return ("{" + f'"{wrapper}": {{' + ", ".join(f'"{name}": "{value}"' for name, value in values.items()) + "}}").encode()


CANONICAL: Mapping[str, Mapping[str, Any]] = {
    "priority": {"low": 1, "medium": 2, "high": 3, "urgent": 4},
    "type": {"incident": "Incident", "request": "Service Request"},
    "status": {str(status): code for status, code in TICKET.codes.items()},
}


def in_codes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Canonical words, as the control calls take them, in Freshservice's codes; what it has none for is left out."""
    given: dict[str, Any] = {name: fields[name] for name in ("subject", "tags") if name in fields}
    return given | {name: codes[fields[name]] for name, codes in CANONICAL.items() if fields.get(name) in codes}
