"""Writers: Document -> Markdown, HTML, Jira's ADF and wiki, plain text. Every writer escapes the document's own text. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

from plugins.richtext.model import MARKS, Block, CodeBlock, Document, Heading, Inlines, List, Paragraph, Quote, Rule, Text

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]<>~|])")
_MARKDOWN_LINE_START = re.compile(r"^(\s*)([#+\-=]|\d{1,9}[.)])", re.MULTILINE)
_WIKI_SPECIAL = re.compile(r"([\\*_{}\[\]|^~!]|(?<!\w)[-+?#])")


# --- plain ---------------------------------------------------------------------------------------------------------------


def to_plain(document: Document) -> str:
    """Text alone: blocks parted by a blank line, list items by a newline."""
    return "\n\n".join(filter(None, (_plain(block) for block in document.blocks)))


def _plain(block: Block, indent: str = "") -> str:
    match block:
        case Paragraph(content) | Heading(_, content):
            return "".join(run.text for run in content)
        case CodeBlock(text):
            return text
        case Quote(blocks):
            return "\n".join("> " + line for inner in blocks for line in _plain(inner).split("\n"))
        case List(ordered, items):
            lines = []
            for number, item in enumerate(items, 1):
                mark = f"{number}. " if ordered else "- "
                text = "\n".join(_plain(inner) for inner in item)
                lines.append(mark + text.replace("\n", "\n" + " " * len(mark)))
            return "\n".join(lines)
        case Rule():
            return "---"


# --- Markdown ------------------------------------------------------------------------------------------------------------


def to_markdown(document: Document) -> str:
    """CommonMark with strikethrough."""
    return "\n\n".join(_markdown(block) for block in document.blocks)


def _markdown(block: Block) -> str:
    match block:
        case Paragraph(content):
            return _inline(content, _markdown_run)
        case Heading(level, content):
            return "#" * level + " " + _inline(content, _markdown_run).replace("\\\n", " ").replace("\n", " ")
        case CodeBlock(text, language):
            fence = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
            return f"{fence}{re.sub(r'[^0-9A-Za-z+#-]', '', language)}\n{text}\n{fence}"
        case Quote(blocks):
            return "\n>\n".join("> " + _markdown(inner).replace("\n", "\n> ") for inner in blocks)
        case List(ordered, items):
            lines = []
            for number, item in enumerate(items, 1):
                mark = f"{number}. " if ordered else "- "
                text = "\n\n".join(_markdown(inner) for inner in item)
                lines.append(mark + text.replace("\n", "\n" + " " * len(mark)))
            return "\n".join(lines)
        case Rule():
            return "---"


def _markdown_run(run: Text) -> str:
    if "code" in run.marks:
        fence = "`" * (max((len(ticks) for ticks in re.findall("`+", run.text)), default=0) + 1)
        pad = " " if run.text.startswith("`") or run.text.endswith("`") else ""
        return _wrapped(run.text, f"{fence}{pad}", f"{pad}{fence}", run)
    text = _MARKDOWN_SPECIAL.sub(r"\\\1", run.text.replace("&", "&amp;"))
    text = _MARKDOWN_LINE_START.sub(_escape_line_start, text)
    for mark, sign in (("strike", "~~"), ("em", "*"), ("strong", "**")):
        if mark in run.marks:
            text = _wrapped(text, sign, sign, run)
    text = text.replace("\n", "\\\n")
    return f"[{text}](<{run.href}>)" if run.href else text


def _escape_line_start(match: re.Match[str]) -> str:
    space, sign = match.groups()
    return f"{space}\\{sign}" if not sign[0].isdigit() else f"{space}{sign[:-1]}\\{sign[-1]}"


def _wrapped(text: str, before: str, after: str, run: Text) -> str:
    """Marks close to the words: `** a**` would be no emphasis."""
    core = text.strip()
    if not core:
        return text
    start = text.index(core)
    return text[:start] + before + core + after + text[start + len(core) :]


# --- HTML ----------------------------------------------------------------------------------------------------------------

_HTML_TAGS = {"strong": "strong", "em": "em", "code": "code", "strike": "s"}


def to_html(document: Document) -> str:
    """HTML of the few tags every tool keeps."""
    return "".join(_html(block) for block in document.blocks)


def _html(block: Block) -> str:
    match block:
        case Paragraph(content):
            return f"<p>{_inline(content, _html_run)}</p>"
        case Heading(level, content):
            return f"<h{level}>{_inline(content, _html_run)}</h{level}>"
        case CodeBlock(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Quote(blocks):
            return f"<blockquote>{''.join(_html(inner) for inner in blocks)}</blockquote>"
        case List(ordered, items):
            tag = "ol" if ordered else "ul"
            return f"<{tag}>{''.join('<li>' + ''.join(_html(inner) for inner in item) + '</li>' for item in items)}</{tag}>"
        case Rule():
            return "<hr>"


def _html_run(run: Text) -> str:
    text = html.escape(run.text).replace("\n", "<br>")
    for mark in reversed(MARKS):
        if mark in run.marks:
            text = f"<{_HTML_TAGS[mark]}>{text}</{_HTML_TAGS[mark]}>"
    return f'<a href="{html.escape(run.href)}">{text}</a>' if run.href else text


# --- ADF -----------------------------------------------------------------------------------------------------------------


def to_adf(document: Document) -> dict[str, Any]:
    """Atlassian Document Format, version 1; never an empty text node, which Jira refuses."""
    return {"type": "doc", "version": 1, "content": [_adf(block) for block in document.blocks]}


def _adf(block: Block) -> dict[str, Any]:
    match block:
        case Paragraph(content):
            return {"type": "paragraph", "content": _adf_inlines(content)}
        case Heading(level, content):
            return {"type": "heading", "attrs": {"level": level}, "content": _adf_inlines(content)}
        case CodeBlock(text, language):
            node: dict[str, Any] = {"type": "codeBlock", "content": [{"type": "text", "text": text}] if text else []}
            return {**node, "attrs": {"language": language}} if language else node
        case Quote(blocks):
            return {"type": "blockquote", "content": [_adf(_as_paragraph(inner)) for inner in blocks] or [_adf(Paragraph(()))]}
        case List(ordered, items):
            rows = [{"type": "listItem", "content": _adf_item(item)} for item in items]
            return {"type": "orderedList" if ordered else "bulletList", "content": rows}
        case Rule():
            return {"type": "rule"}


def _adf_item(item: Sequence[Block]) -> list[dict[str, Any]]:
    """A list item begins with a paragraph and holds only paragraphs, code and lists."""
    blocks = [inner if isinstance(inner, (Paragraph, CodeBlock, List)) else _as_paragraph(inner) for inner in item]
    if not blocks or not isinstance(blocks[0], Paragraph):
        blocks.insert(0, Paragraph(()))
    return [_adf(block) for block in blocks]


def _as_paragraph(block: Block) -> Block:
    """ADF quotes take paragraphs and lists only."""
    match block:
        case Paragraph() | List() | CodeBlock():
            return block
        case Heading(_, content):
            return Paragraph(content)
        case _:
            return Paragraph((Text(_plain(block)),))


def _adf_inlines(content: Inlines) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = []
    for run in content:
        marks: list[dict[str, Any]] = [{"type": "link", "attrs": {"href": run.href}}] if run.href else []
        if "code" in run.marks:  # ADF lets code stand with a link alone
            marks.append({"type": "code"})
        else:
            marks.extend({"type": mark} for mark in MARKS if mark in run.marks)
        for number, line in enumerate(run.text.split("\n")):
            if number:
                nodes.append({"type": "hardBreak"})
            if line:
                nodes.append({"type": "text", "text": line, **({"marks": marks} if marks else {})})
    return nodes


# --- Jira wiki -----------------------------------------------------------------------------------------------------------


def to_wiki(document: Document) -> str:
    """Jira's wiki notation, as Data Center and REST v2 take it."""
    return "\n\n".join(_wiki(block) for block in document.blocks)


def _wiki(block: Block, bullets: str = "") -> str:
    match block:
        case Paragraph(content):
            return _inline(content, _wiki_run)
        case Heading(level, content):
            return f"h{level}. " + _inline(content, _wiki_run).replace("\n", " ")
        case CodeBlock(text, language):
            name = re.sub(r"[^0-9A-Za-z+#-]", "", language)
            body = text.replace("{code}", "{ code}")
            return f"{{code{':' + name if name else ''}}}\n{body}\n{{code}}"
        case Quote(blocks):
            return "{quote}\n" + "\n\n".join(_wiki(inner) for inner in blocks) + "\n{quote}"
        case List(ordered, items):
            mark = bullets + ("#" if ordered else "*")
            lines = []
            for item in items:
                first = True
                for inner in item:
                    if isinstance(inner, List):
                        lines.append(_wiki(inner, mark))
                    else:
                        lines.append((f"{mark} " if first else "") + _wiki(inner))
                    first = False
            return "\n".join(lines)
        case Rule():
            return "----"


def _wiki_run(run: Text) -> str:
    text = _WIKI_SPECIAL.sub(r"\\\1", run.text)
    if "code" in run.marks:
        text = _wrapped(text, "{{", "}}", run)
    else:
        for mark, sign in (("strike", "-"), ("em", "_"), ("strong", "*")):
            if mark in run.marks:
                text = _wrapped(text, sign, sign, run)
    return f"[{text}|{run.href}]" if run.href else text


def _inline(content: Inlines, write: Callable[[Text], str]) -> str:
    return "".join(write(run) for run in content)
