"""The document model: blocks of inlines, and nothing a ticket tool could not show. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MAX_CHARACTERS = 262_144
"""Longer texts are cut before they are read: time and nesting stay bounded."""
MAX_DEPTH = 24

Mark = Literal["strong", "em", "code", "strike"]
MARKS: tuple[Mark, ...] = ("strong", "em", "code", "strike")
SAFE_SCHEMES = ("http://", "https://", "mailto:")


@dataclass(frozen=True, slots=True)
class Text:
    """A run of text with its marks; `href` makes it a link. A newline in it is a line break."""

    text: str
    marks: frozenset[Mark] = frozenset()
    href: str | None = None


Inlines = tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    content: Inlines


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    content: Inlines


@dataclass(frozen=True, slots=True)
class CodeBlock:
    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class List:
    ordered: bool
    items: tuple[tuple[Block, ...], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    pass


Block = Paragraph | Heading | CodeBlock | Quote | List | Rule


@dataclass(frozen=True, slots=True)
class Document:
    """A text in blocks."""

    blocks: tuple[Block, ...] = ()


def with_marker(document: Document, marker: str) -> Document:
    """The document with a note's marker as its last paragraph, as text in any form."""
    return Document((*document.blocks, Paragraph((Text(marker),))))


def joined(runs: Iterable[Text]) -> Inlines:
    """Runs with equal marks made one, empty ones left out: ADF refuses an empty text."""
    found: list[Text] = []
    for run in runs:
        if not run.text:
            continue
        if found and (found[-1].marks, found[-1].href) == (run.marks, run.href):
            found[-1] = Text(found[-1].text + run.text, run.marks, run.href)
        else:
            found.append(run)
    return tuple(found)


def trimmed(content: Inlines) -> Inlines:
    """Inlines without space at their two ends and around line breaks."""
    runs = [Text(re.sub(r" *\n *", "\n", run.text), run.marks, run.href) for run in content]
    if runs:
        runs[0] = Text(runs[0].text.lstrip(), runs[0].marks, runs[0].href)
        runs[-1] = Text(runs[-1].text.rstrip(), runs[-1].marks, runs[-1].href)
    return joined(runs)


def safe_link(href: str) -> str | None:
    """A link only where it leads to a page or a mailbox; `javascript:` and its kin are dropped."""
    href = href.strip()
    return href if href.lower().startswith(SAFE_SCHEMES) and not re.search(r"[\s\x00-\x1f]", href) else None
