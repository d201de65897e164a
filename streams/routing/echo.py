"""Whether a delivery tells us of our own write, and how many writes of ours led to it. Pure.

A tool calls us back for what we write there. Without a stop, two linked tickets would answer each other for ever. Three signs
make an echo, each of them about this delivery and not about the ticket:

    own_actor   the delivery's actor is our API account;
    marker      the note of this delivery, or the description of a ticket this delivery says is created, ends with our marker;
    own_write   the ticket is a mirror of ours, the tool's updated_at is that of our last write, and all it says changed (or, where
                it does not say, all we wrote) has the values we wrote.

Our id in an external-id field, or a marker in the description of an old ticket, stays there for ever; people's later edits bear
it too and must pass. The same for equal values at another time: somebody set them again.

A marker that is *not* at the end of the text, or in a text whose actor is known to be somebody else, is a copy: a reply that
quotes our note, or another integration that carried it to another ticket. It is news and passes, but it was led to by our
writing: its hop is the marker's, the note we then write carries one more, and at HOP_LIMIT it is set aside as a dead letter.
So a foreign loop through us ends after three notes, and so does a loop made by a wrong `actor` setting; neither ends in silence.
"""

from __future__ import annotations

from typing import Any

from plugins.marker import find_marker, note_marker
from schemas.events import LinkSet
from schemas.ticket import TicketChange, TicketMetadata

HOP_LIMIT = 3
SECOND_US = 1_000_000


def echo_of(metadata: TicketMetadata, own_actor: bool | None, link: LinkSet | None) -> str | None:
    """The sign by which this delivery is an echo, or None.

    `own_actor`: whether the actor is our API account; None where that cannot be told, because the delivery names nobody or the
    tenant's tool has no `actor` setting. `link`: the link whose mirror this ticket is.
    """
    if own_actor:
        return "own_actor"
    if own_actor is None and _ends_with_marker(_text_of_delivery(metadata)):
        return "marker"
    if link is not None and _is_own_write(metadata, link):
        return "own_write"
    return None


def hop_of(metadata: TicketMetadata) -> int:
    """How many of our own writes led to this delivery: what the marker in its text says; 0 without one."""
    found = find_marker(_text_of_delivery(metadata))
    return found[1] if found is not None else 0


def _text_of_delivery(metadata: TicketMetadata) -> str:
    comment = metadata.extra.get("comment")
    if isinstance(comment, str) and comment:
        return comment
    return metadata.description if metadata.change is TicketChange.CREATED else ""


def _ends_with_marker(text: str) -> bool:
    if "aia:" not in text:
        return False
    last_line = text.rstrip().rpartition("\n")[2].replace("\\", "").strip()
    found = find_marker(last_line)
    return found is not None and last_line.endswith(note_marker(*found)) and not last_line.startswith((">", "|"))


def _is_own_write(metadata: TicketMetadata, link: LinkSet) -> bool:
    if not link.fields or not _same_time(metadata.updated_at, link.target_updated_at) or metadata.extra.get("comment"):
        return False  # what we mirror carries no comment, so a person's came with it
    changed = metadata.extra.get("changed")
    if not isinstance(changed, (tuple, list)) or not changed:
        changed = tuple(link.fields)
    return all(name in link.fields and _value(metadata, name) == link.fields[name] for name in changed)


def _same_time(one: int | None, other: int | None) -> bool:
    """Whether two of the tool's times are the same; where one of them has no fraction of a second, to the second."""
    if one is None or other is None:
        return False
    if one % SECOND_US == 0 or other % SECOND_US == 0:
        return one // SECOND_US == other // SECOND_US
    return one == other


def _value(metadata: TicketMetadata, name: str) -> str | None:
    root, dot, key = name.partition(".")
    if dot and root == "custom_fields":
        value: Any = metadata.custom_fields.get(key)
    else:
        value = getattr(metadata, name, None)
    return None if value is None else str(value)
