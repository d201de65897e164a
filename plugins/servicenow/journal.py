"""Journal fields (comments, work notes) as text: what is written into one, and what stands in its display value. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from plugins.richtext import from_html, from_markdown, to_html, to_plain, with_marker

_HEAD = re.compile(
    r"^\d{2,4}[-/.]\d{2}[-/.]\d{2,4} \d{2}:\d{2}:\d{2} - .{1,200}\((?:Work notes|Additional comments|Comments)\)[ \t]*\r?$", re.M
)
_CODE = re.compile(r"\[(/?)code\]", re.IGNORECASE)
_RICH = re.compile(r"\[code\](.*?)\[/code\]", re.IGNORECASE | re.DOTALL)


def written(markdown: str, marker: str, *, rich: bool) -> str:
    """A note as the field takes it: plain text, or HTML between [code] tags where the instance renders those.

    A [code] in the note's own words is defused: an instance that renders it would take the ticket's text for HTML.
    """
    document = with_marker(from_markdown(markdown), marker) if marker else from_markdown(markdown)
    if rich:
        return f"[code]{_defused(to_html(document))}[/code]"
    return _defused(to_plain(document))


def read(text: str) -> str:
    """An entry as plain text, whichever way it was written."""
    return _RICH.sub(lambda found: to_plain(from_html(found[1])), text).strip()


def entries(display: str) -> Iterator[str]:
    """The entries in a journal's display value, newest first; none where it does not look like one."""
    heads = list(_HEAD.finditer(display))
    ends = [*(head.start() for head in heads[1:]), len(display)]
    for head, end in zip(heads, ends, strict=False):  # without a head there is one end too many
        yield read(display[head.end() : end])


def _defused(text: str) -> str:
    return _CODE.sub(r"(\1code)", text)
