"""Texts of a card: what TOPdesk's memo fields take and what they answer. Pure.

A memo takes i, em, b, strong, u, br, h5, h6 and inline images; any other tag is stripped or shown as text. An incident's `request`
comes back as plain text of all its entries, newest first, each under a line with its time and author.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape, unescape
from typing import Final

from plugins.richtext import Document, from_html, to_plain
from plugins.richtext.model import Block, CodeBlock, Heading, Inlines, List, Paragraph, Quote

MAX_SUBJECT: Final = 80
"""Characters of a brief description."""

_ENTRY_HEAD = re.compile(
    r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4},? \d{1,2}:\d{2}(?::\d{2})?(?: \[[^\]\n]{0,40}\])?[^\n]{0,200}?:[ \t]*\r?$", re.MULTILINE
)
_FORMATTED = re.compile(r"<(?:/(?:i|em|b|strong|u|h5|h6|p|div|span)|br ?/?|img [^<>]*)>", re.IGNORECASE)
_UPDATE = re.compile(r"\[aiu:([0-9A-Za-z._-]{1,64})\]")


def to_memo(document: Document) -> str:
    """The document in the tags a memo field takes: paragraphs by line breaks, lists by dashes, links with their address beside."""
    return "<br><br>".join(_blocks(document.blocks))


def memo_text(html: object) -> str:
    """The plain text of an entry's memoText: HTML where it holds a memo's own tags, else text with its line breaks."""
    if not isinstance(html, str):
        return ""
    return to_plain(from_html(html)) if is_formatted(html) else unescape(html)


def is_formatted(text: str) -> bool:
    """Whether a text holds a memo's own tags; other words in angle brackets are a person's."""
    return _FORMATTED.search(text) is not None


def first_request(text: object) -> str:
    """What a caller first wrote: the oldest entry of an incident's `request`, without the line above it."""
    if not isinstance(text, str):
        return ""
    heads = list(_ENTRY_HEAD.finditer(text))
    return text[heads[-1].end() :].strip() if heads else text.strip()


def brief(subject: str) -> str:
    """A subject cut to what a brief description holds."""
    return subject if len(subject) <= MAX_SUBJECT else subject[: MAX_SUBJECT - 1].rstrip() + "…"


def update_tag(event_id: str) -> str:
    """The mark of an applied update in a card's trail: another form than a note's marker, so neither is taken for the other."""
    return f"[aiu:{event_id}]"


def find_update_tag(text: str) -> str | None:
    """The event_id of an update's mark, where the text has one."""
    found = _UPDATE.search(text)
    return found[1] if found else None


def _blocks(blocks: Iterable[Block]) -> list[str]:
    return [text for text in map(_block, blocks) if text]


def _block(block: Block) -> str:
    match block:
        case Paragraph(content):
            return _inlines(content)
        case Heading(_, content):
            return f"<h5>{_inlines(content)}</h5>"
        case CodeBlock(text):
            return _lines(text)
        case Quote(inner):
            return "<br>".join(f"&gt; {line}" for text in _blocks(inner) for line in text.split("<br>"))
        case List(ordered, items):
            rows = (("<br>".join(_blocks(item))).replace("<br>", "<br>&nbsp;&nbsp;") for item in items)
            return "<br>".join(f"{f'{number}.' if ordered else '-'} {row}" for number, row in enumerate(rows, 1))
        case _:
            return "-----"


def _inlines(content: Inlines) -> str:
    parts = []
    for run in content:
        text = _lines(run.text)
        if run.href and run.href != run.text:
            text += f" ({escape(run.href, quote=False)})"
        for mark, tag in (("em", "i"), ("strong", "b")):
            if mark in run.marks:
                text = f"<{tag}>{text}</{tag}>"
        parts.append(text)
    return "".join(parts)


def _lines(text: str) -> str:
    return escape(text, quote=False).replace("\n", "<br>")
