"""Journal fields (comments, work notes) as text: what is written into one, and what stands in its display value. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from plugins.marker import same_marker
from plugins.richtext import from_html, from_markdown, to_html, to_plain, with_marker

LONGEST = 30_000
"""Characters of a note; a journal's entry holds more on every release, but not without end."""
_HEAD = re.compile(
    r"^\d{2,4}[-/.]\d{2}[-/.]\d{2,4} \d{2}:\d{2}:\d{2} - .{1,200}\((?:Work notes|Additional comments|Comments)\)[ \t]*\r?$", re.M
)
_CODE = re.compile(r"\[(/?)code\]", re.IGNORECASE)
_RICH = re.compile(r"\[code\](.*?)\[/code\]", re.IGNORECASE | re.DOTALL)


def written(markdown: str, marker: str, *, rich: bool) -> str:
    """A note as the field takes it, ending in its marker: plain text, or HTML between [code] tags where the instance renders those.

    A [code] in the note's own words is defused: an instance that renders it would take the ticket's text for HTML. What is longer than
    the field surely holds is cut before the marker, without which the note could not be found again.
    """
    document = from_markdown(markdown)
    if rich:
        html = to_html(document if same_marker(markdown, marker) else with_marker(document, marker))
        if len(html) <= LONGEST:
            return f"[code]{_defused(html)}[/code]"
    text = _defused(to_plain(document))
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 1]}…"
    return text if same_marker(text, marker) else f"{text}\n\n{marker}"


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
