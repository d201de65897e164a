"""The bodies a small Zendesk sends out, and its words. Pure, but for the moment's nanoseconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from plugins.sandbox.server import Actor, iso

WORDS: Mapping[str, tuple[str, ...]] = {
    "priority": ("low", "normal", "high", "urgent"),
    "status": ("new", "open", "pending", "hold", "solved", "closed"),
    "type": ("incident", "problem", "question", "task"),
}
FROM_CANONICAL: Mapping[str, Mapping[str, str]] = {
    "priority": {"low": "low", "medium": "normal", "high": "high", "urgent": "urgent"},
    "status": {"new": "new", "open": "open", "pending": "pending", "resolved": "solved", "closed": "closed"},
    "type": {"incident": "incident", "problem": "problem", "request": "question", "change": "task"},
}


def event_body(account_id: int, ticket: Mapping[str, Any], actor: Actor, kind: str, event: Mapping[str, Any]) -> dict[str, Any]:
    """An event subscription's envelope: ids as text, closed words in upper case, nanoseconds in its time."""
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return {
        "account_id": account_id,
        "detail": {
            "actor_id": actor.id,
            "assignee_id": text_id(ticket["assignee_id"]),
            "brand_id": text_id(ticket["brand_id"]),
            "created_at": ticket["created_at"],
            "custom_status": text_id(ticket["custom_status_id"]),
            "description": ticket["description"],
            "external_id": ticket["external_id"],
            "form_id": text_id(ticket["ticket_form_id"]),
            "group_id": text_id(ticket["group_id"]),
            "id": str(ticket["id"]),
            "is_public": ticket["is_public"],
            "organization_id": "",
            "priority": in_events("priority", ticket["priority"]),
            "requester_id": str(ticket["requester_id"]),
            "status": in_events("status", ticket["status"]),
            "subject": ticket["subject"],
            "submitter_id": str(ticket["submitter_id"]),
            "tags": ticket["tags"],
            "type": in_events("type", ticket["type"]),
            "updated_at": ticket["updated_at"],
            "via": {"channel": "web_service"},
        },
        "event": event,
        "id": str(uuid4()),
        "subject": f"zen:ticket:{ticket['id']}",
        "time": f"{iso(seconds * 1_000_000)[:-1]}.{nanos:09d}Z",
        "type": f"zen:event-type:ticket.{kind}",
        "zendesk_event_version": "2022-11-06",
    }


def trigger_body(ticket: Mapping[str, Any], actor: Actor, kind: str) -> dict[str, str]:
    """The template the README recommends, rendered: every value a text, words in their display form."""
    words = {"created": "created", "comment_added": "commented"}
    return {
        "ticket_id": str(ticket["id"]),
        "event": words.get(kind, "updated"),
        "title": str(ticket["subject"]),
        "description": str(ticket["description"]),
        "status": str(ticket["status"]).capitalize(),
        "priority": str(ticket["priority"] or "-").capitalize(),
        "type": str(ticket["type"] or "-").capitalize(),
        "tags": " ".join(ticket["tags"]),
        "external_id": str(ticket["external_id"] or ""),
        "actor_id": actor.id,
        "updated_at": str(ticket["updated_at"]),
    }


def comment_event(said: Mapping[str, Any], actor: Actor, customers: frozenset[str]) -> dict[str, Any]:
    """A comment as `comment_added` tells it; an author outside `customers` is staff."""
    author = {"id": actor.id, "is_staff": actor.id not in customers, "name": actor.name}
    return {"id": str(said["id"]), "body": said["plain_body"], "is_public": said["public"], "author": author}


def attachment_event(attachment: Mapping[str, Any], public: bool) -> dict[str, Any]:
    """A file as `attachment_linked_to_comment` tells it."""
    told = {name: attachment[name] for name in ("content_type", "content_url")}
    return {"id": str(attachment["id"]), "filename": attachment["file_name"], "is_public": public, **told}


def in_events(name: str, value: Any) -> Any:
    """Events write the closed words in upper case and ids as text."""
    if name in WORDS:
        return value.upper() if isinstance(value, str) else None
    return text_id(value) if name.endswith("_id") and name != "external_id" else value


def text_id(value: Any) -> str:
    """An id as events write it; an unset one is empty text."""
    return "" if value is None else str(value)


def in_zendesk_words(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Canonical words, as the control calls take them, in Zendesk's; what it has no word for is left out."""
    given = {name: fields[name] for name in ("subject", "tags") if name in fields}
    for name, words in FROM_CANONICAL.items():
        if fields.get(name) in words:
            given[name] = words[fields[name]]
    return given
