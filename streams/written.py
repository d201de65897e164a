"""What is written to a target for one event: the fields of a mirror, the text of a note, the text of a ticket's context. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from plugins.api import ConfigurationItem, DeviceContext, Priority, TicketChange, TicketChanges, TicketMetadata, TicketStatus, TicketType

MAX_ITEMS = 20
MAX_VALUE_CHARS = 200
"""Of one value in a context: what a tool's field holds may be a page."""
MAX_CONTEXT_CHARS = 16_000
"""Of a whole context: below what each tool takes as a note."""


def fields_of(metadata: TicketMetadata) -> dict[str, str]:
    """The mirrored fields that the delivery tells, as the link remembers them."""
    known = {
        "subject": metadata.subject,
        "priority": "" if metadata.priority is Priority.UNKNOWN else metadata.priority.value,
        "status": "" if metadata.status is TicketStatus.UNKNOWN else metadata.status.value,
        "type": "" if metadata.type is TicketType.UNKNOWN else metadata.type.value,
    }
    return {name: value for name, value in known.items() if value}


def changes_of(metadata: TicketMetadata, event_id: str) -> tuple[TicketChanges, dict[str, str]]:
    """What an event changes on an existing mirror, and the same as text; no fields when there is nothing to change.

    Where the tool tells which fields this delivery changed, only those are written, so that what people set on the mirror stays.
    """
    fields = fields_of(metadata)
    if metadata.change is TicketChange.DELETED:
        fields = {"status": TicketStatus.CLOSED.value}
    elif (told := metadata.extra.get("changed")) is not None:
        fields = {name: value for name, value in fields.items() if name in told}
    changes = TicketChanges(
        event_id=event_id,
        subject=fields.get("subject"),
        priority=Priority(fields["priority"]) if "priority" in fields else None,
        status=TicketStatus(fields["status"]) if "status" in fields else None,
        type=TicketType(fields["type"]) if "type" in fields else None,
    )
    return changes, fields


def note_text(tool: str, metadata: TicketMetadata) -> str:
    """What a note says, in Markdown: the delivery's comment where it has one, else what happened to the ticket."""
    who = f" by {metadata.actor}" if metadata.actor else ""
    what = "changed" if metadata.change is TicketChange.UNKNOWN else metadata.change.value
    lines = [f"{tool} ticket {metadata.ticket_id} was {what}{who}: {metadata.subject}".rstrip(": ")]
    if comment := metadata.extra.get("comment"):
        lines += ["", str(comment)]
    else:
        state = [f"{name} {value}" for name, value in fields_of(metadata).items() if name != "subject"]
        lines += ["", ", ".join(state)] if state else []
    if metadata.url:
        lines += ["", metadata.url]
    return "\n".join(lines)


def context_text(tool: str, ticket: TicketMetadata, devices: DeviceContext | None) -> str:
    """What an enriching note says, in Markdown: the ticket's core facts, then the items and services it is about.

    What nobody knows is left out. Bounded as the constants above say.
    """
    facts = {
        "requester": ticket.requester,
        "assignee": ticket.assignee,
        **{name: value for name, value in fields_of(ticket).items() if name != "subject"},
        "SLA due": _time(ticket.sla_due_at),
        "tags": ", ".join(ticket.tags[:MAX_ITEMS]),
        "device": _pairs(ticket.device or {}),
        "link": ticket.url,
    }
    lines = [f"Context of {tool} ticket {ticket.ticket_id}: {_line(ticket.subject)}".rstrip(": "), "", *_listed(facts)]
    for item in devices.items[:MAX_ITEMS] if devices is not None else ():
        lines += ["", *_item(item)]
    if devices is not None and devices.services:
        lines += ["", f"Services touched: {_several(devices.services)}"]
    text = "\n".join(lines).rstrip()
    return text if len(text) <= MAX_CONTEXT_CHARS else text[: MAX_CONTEXT_CHARS - 2].rpartition("\n")[0] + "\n…"


def _item(item: ConfigurationItem) -> Iterator[str]:
    about = ", ".join(_line(word) for word in (item.kind, item.status) if word)
    yield f"**{_line(item.name)}**{f' ({about})' if about else ''}"
    yield ""
    related: dict[str, list[str]] = {}
    for relation in item.relations[:MAX_ITEMS]:
        related.setdefault(_line(relation.kind), []).append(relation.name)
    attributes = dict(list(item.attributes.items())[:MAX_ITEMS])
    yield from _listed({**attributes, **{kind: _several(names) for kind, names in related.items()}, "link": item.url})


def _listed(facts: Mapping[str, Any]) -> Iterator[str]:
    return (f"- {_line(name)}: {_line(value)}" for name, value in facts.items() if value not in (None, ""))


def _pairs(device: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_line(value)}" for name, value in list(device.items())[:MAX_ITEMS] if value not in (None, ""))


def _several(names: Iterable[str]) -> str:
    return ", ".join([_line(name) for name in names][:MAX_ITEMS])


def _time(micros: int | None) -> str:
    return "" if micros is None else datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _line(value: Any) -> str:
    """One line of bounded length: a value must not make headings or lists of its own."""
    text = " ".join(str(value).split())
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"
