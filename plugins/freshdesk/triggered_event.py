"""`triggered_event`, the one field of a rule's body that says what happened. It looks like JSON and is none. Pure.

`{ticket_action:created}`, `{note_type:private}`, `{reply_sent:sent}`, `{status:{from:4,to:6}}`: names and codes without quotes, one event
a rule run even when several fields changed at once. A repaired body may hold the same as an object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from plugins.api import TicketChange
from plugins.mapping import to_text

MAX_LENGTH = 500
_PART = re.compile(r"([A-Za-z_][\w ]*?)\s*:\s*(?:\{\s*from\s*:\s*([^,{}]*?)\s*,\s*to\s*:\s*([^{}]*?)\s*\}|([^,{}]*))")

ACTIONS: Mapping[str, TicketChange] = {
    **dict.fromkeys(("created", "create", "new", "opened"), TicketChange.CREATED),
    **dict.fromkeys(("update", "updated", "changed"), TicketChange.UPDATED),
    **dict.fromkeys(("deleted", "delete", "spam", "marked_spam", "marked_as_spam"), TicketChange.DELETED),
    **dict.fromkeys(("comment", "commented", "comment_added", "note_added", "replied", "reply_sent", "reply"), TicketChange.COMMENTED),
    **dict.fromkeys(("resolved", "closed", "solved"), TicketChange.RESOLVED),
}
"""Also the words an admin may write into a template of their own."""
COMMENTS: Mapping[str, bool | None] = {"note_type": None, "reply_sent": True, "comment_added": None, "note_action": None}
"""Kinds that tell of a comment, and whether it is public; None: their value says so."""
CANONICAL: Mapping[str, str] = {
    **dict.fromkeys(("responder_id", "agent", "agent_id", "responder", "internal_agent_id"), "assignee"),
    **dict.fromkeys(("type", "ticket_type"), "type"),
    **dict.fromkeys(("tag", "tags", "tag_names", "add_tag"), "tags"),
    **dict.fromkeys(("group_id", "group"), "group"),
    **dict.fromkeys(("product_id", "product"), "product"),
    **dict.fromkeys(("requester_id", "requester"), "requester"),
    **dict.fromkeys(("due_by", "fr_due_by", "nr_due_by"), "sla_due_at"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that happened: a kind with its value, or a field with its codes before and after."""

    kind: str
    value: str = ""
    changed: bool = False
    before: str = ""


def parts_of(event: Any) -> tuple[Part, ...]:
    """What `triggered_event` tells; nothing for what is in no form it has."""
    if type(event) is dict:
        return tuple(_of_object(event))
    text = to_text(event)[:MAX_LENGTH].replace('"', "").strip()
    if not text.startswith("{"):
        return (Part("ticket_action", text.lower().removeprefix("ticket ").replace(" ", "_")),) if text else ()
    return tuple(
        Part(found[1].strip(), found[3], True, found[2]) if found[2] is not None else Part(found[1].strip(), found[4].strip())
        for found in _PART.finditer(text)
    )


def _of_object(event: Mapping[str, Any]) -> Iterator[Part]:
    for kind, value in list(event.items())[:20]:
        if type(value) is dict:
            yield Part(kind, to_text(value.get("to")), True, to_text(value.get("from")))
        else:
            yield Part(kind, to_text(value))


def changed_field(name: str) -> str:
    """A field's canonical name, its own where there is none."""
    name = name.lower().removeprefix("ticket_") if name.lower() != "ticket_type" else "type"
    return "custom_fields" if name.startswith("cf_") else CANONICAL.get(name, name)
