"""The marker in a note of ours: which event wrote it, and after how many hops. It tells an echo from a person's note. Pure."""

from __future__ import annotations

import re

_MARKER = re.compile(r"\\?\[aia:([0-9A-Za-z._-]{1,64}):([0-9]{1,3})\\?\]")  # a wiki field keeps the brackets escaped


def note_marker(event_id: str, hop: int) -> str:
    """The line that ends a note of ours."""
    return f"[aia:{event_id}:{hop}]"


def find_marker(text: str) -> tuple[str, int] | None:
    """(event_id, hop) of the last marker in a note's text, as stored in plain text, HTML or wiki form; None without one.

    The last one counts: a person's reply may quote ours above it, but our own line is always the end of our note.
    """
    if "aia:" not in text:
        return None
    found = None
    for found in _MARKER.finditer(text):  # noqa: B007 - the last match is wanted
        pass
    return (found[1], int(found[2])) if found else None


def same_marker(text: str, marker: str) -> bool:
    """Whether the marker is anywhere in the text, however the tool escapes it."""
    wanted = find_marker(marker)
    if wanted is None:
        return marker in text
    return any((m[1], int(m[2])) == wanted for m in _MARKER.finditer(text))
