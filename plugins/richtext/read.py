"""Readers: Markdown, HTML, Jira's ADF and wiki, plain text -> Document. Any input gives a document; none raises. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from plugins.richtext.model import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    Block,
    CodeBlock,
    Document,
    Heading,
    Inlines,
    List,
    Mark,
    Paragraph,
    Quote,
    Rule,
    Text,
    joined,
    safe_link,
    trimmed,
)

if TYPE_CHECKING:
    from markdown_it import MarkdownIt


def from_plain(text: str) -> Document:
    """Blank lines part paragraphs; single newlines are line breaks."""
    parts = re.split(r"\n[ \t]*\n\s*", text[:MAX_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n").strip())
    return Document(tuple(Paragraph((Text(part),)) for part in parts if part.strip()))


def from_markdown(text: str) -> Document:
    """CommonMark with strikethrough; raw HTML in it is text."""
    return Document(_markdown_blocks(iter(_markdown_parser().parse(text[:MAX_CHARACTERS]))))


@cache
def _markdown_parser() -> MarkdownIt:
    """Made once, on first use: making one costs more than reading a note."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_DEPTH})
    return parser.enable("strikethrough").disable(["html_block", "html_inline"])


def _markdown_blocks(tokens: Iterator[Any], end: str = "") -> tuple[Block, ...]:
    blocks: list[Block] = []
    for token in tokens:
        kind = token.type
        if kind == end:
            break
        if kind == "inline":
            blocks.append(Paragraph(_markdown_inlines(token.children or ())))
        elif kind == "heading_open":
            inner = _markdown_blocks(tokens, "heading_close")
            content = inner[0].content if inner and isinstance(inner[0], Paragraph) else ()
            blocks.append(Heading(int(token.tag[1]), content))
        elif kind in ("fence", "code_block"):
            blocks.append(CodeBlock(token.content.removesuffix("\n"), (token.info or "").split(" ")[0]))
        elif kind == "blockquote_open":
            blocks.append(Quote(_markdown_blocks(tokens, "blockquote_close")))
        elif kind in ("bullet_list_open", "ordered_list_open"):
            close = kind.replace("_open", "_close")
            items = []
            for inner_token in tokens:
                if inner_token.type == close:
                    break
                if inner_token.type == "list_item_open":
                    items.append(_markdown_blocks(tokens, "list_item_close"))
            blocks.append(List(kind == "ordered_list_open", tuple(items)))
        elif kind == "hr":
            blocks.append(Rule())
    return tuple(blocks)


_MARKDOWN_MARKS: Mapping[str, Mark] = {"strong": "strong", "em": "em", "s": "strike"}


def _markdown_inlines(tokens: Sequence[Any]) -> Inlines:
    runs: list[Text] = []
    marks: list[Mark] = []
    href: str | None = None
    for token in tokens:
        name, _, edge = token.type.rpartition("_")
        if token.type == "text":
            runs.append(Text(token.content, frozenset(marks), href))
        elif token.type == "code_inline":
            runs.append(Text(token.content, frozenset([*marks, "code"]), href))
        elif token.type in ("softbreak", "hardbreak"):
            runs.append(Text("\n", frozenset(marks), href))
        elif token.type == "image":
            runs.append(Text(token.content, frozenset(marks), href))
        elif name == "link":
            href = safe_link(str(token.attrs.get("href", ""))) if edge == "open" else None
        elif name in _MARKDOWN_MARKS:
            mark = _MARKDOWN_MARKS[name]
            if edge == "open":
                marks.append(mark)
            elif mark in marks:
                marks.remove(mark)
    return joined(runs)


class _HtmlReader(HTMLParser):
    """Builds blocks from the tags ticket tools write; other tags are transparent, scripts and styles vanish."""

    MARKS: Mapping[str, Mark] = {
        **dict.fromkeys(("b", "strong"), "strong"),
        **dict.fromkeys(("i", "em"), "em"),
        **dict.fromkeys(("code", "tt"), "code"),
        **dict.fromkeys(("s", "del", "strike"), "strike"),
    }
    HIDDEN = frozenset({"script", "style", "head", "title"})
    BREAKS = frozenset({"p", "div", "tr", "table", "section", "article", "header", "footer", "dl", "dt", "dd", "form"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.frames: list[tuple[str, list[Any]]] = [("", [])]
        self.runs: list[Text] = []
        self.marks: list[Mark] = []
        self.hrefs: list[str | None] = []
        self.hidden = 0
        self.pre: list[str] | None = None
        self.heading = 0

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """Word's conditional comments and whatever else begins with "<![": left out; the parser's own reading of them raises."""
        return self.parse_bogus_comment(i, bool(report))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.HIDDEN:
            self.hidden += 1
        elif tag == "br":
            self.handle_data("\n") if self.pre is not None else self.runs.append(Text("\n", frozenset(self.marks)))
        elif tag == "hr":
            self.flush()
            self.frames[-1][1].append(Rule())
        elif tag == "pre":
            self.flush()
            self.pre = []
        elif tag in self.MARKS:
            self.marks.append(self.MARKS[tag])
        elif tag == "a":
            self.hrefs.append(safe_link(dict(attrs).get("href") or ""))
        elif re.fullmatch("h[1-6]", tag):
            self.flush()
            self.heading = int(tag[1])
        elif tag in ("ul", "ol", "blockquote", "li"):
            self.flush()
            if tag == "li" and self.frames[-1][0] == "li":
                self.close_frame()  # HTML lets a list item end where the next begins
            if len(self.frames) < MAX_DEPTH:
                self.frames.append((tag, []))
        elif tag in self.BREAKS:
            self.flush()

    def handle_endtag(self, tag: str) -> None:
        if tag in self.HIDDEN:
            self.hidden = max(0, self.hidden - 1)
        elif tag == "pre":
            if self.pre is not None:
                self.frames[-1][1].append(CodeBlock("".join(self.pre).strip("\n")))
            self.pre = None
        elif tag in self.MARKS:
            if self.MARKS[tag] in self.marks:
                self.marks.remove(self.MARKS[tag])
        elif tag == "a":
            if self.hrefs:
                self.hrefs.pop()
        elif tag in ("ul", "ol", "blockquote", "li"):
            self.flush()
            if any(name == tag for name, _ in self.frames[1:]):
                while self.frames[-1][0] != tag:
                    self.close_frame()
                self.close_frame()
        elif tag in self.BREAKS or re.fullmatch("h[1-6]", tag):
            self.flush()

    def handle_data(self, data: str) -> None:
        if self.hidden:
            return
        if self.pre is not None:
            self.pre.append(data)
            return
        text = re.sub(r"[ \t\r\n\f]+", " ", data)
        if text:
            self.runs.append(Text(text, frozenset(self.marks), self.hrefs[-1] if self.hrefs else None))

    def flush(self) -> None:
        content, self.runs, level, self.heading = trimmed(joined(self.runs)), [], self.heading, 0
        if content:
            self.frames[-1][1].append(Heading(level, content) if level else Paragraph(content))

    def close_frame(self) -> None:
        name, blocks = self.frames.pop()
        if name == "li":
            self.frames[-1][1].append(("li", tuple(blocks)))
        elif name == "blockquote":
            self.frames[-1][1].append(Quote(_loose(blocks)))
        else:
            items = tuple(block[1] if isinstance(block, tuple) else (block,) for block in blocks)
            if items:
                self.frames[-1][1].append(List(name == "ol", tuple(_loose(item) for item in items)))

    def document(self) -> Document:
        self.flush()
        while len(self.frames) > 1:
            self.close_frame()
        return Document(_loose(self.frames[0][1]))


def _loose(blocks: Iterable[Any]) -> tuple[Block, ...]:
    """Blocks with list items that stood outside any list taken as blocks of their own."""
    found: list[Block] = []
    for block in blocks:
        if isinstance(block, tuple):
            found.extend(_loose(block[1]))
        else:
            found.append(block)
    return tuple(found)


def from_html(text: str) -> Document:
    """HTML as ticket tools write it; broken markup is read as far as it goes."""
    reader = _HtmlReader()
    text = text[:MAX_CHARACTERS]
    end = text.rfind(">") + 1  # no tag ends after it; the parser would look for one's end from each "<" on, in quadratic time
    reader.feed(text[:end] + text[end:].replace("<", "&lt;"))
    reader.close()
    return reader.document()


def from_adf(node: Any) -> Document:
    """Atlassian Document Format, decoded; a node of an unknown type is read through to its content."""
    return Document(_adf_blocks(node.get("content"), 0)) if isinstance(node, dict) else Document()


def _adf_blocks(nodes: Any, depth: int) -> tuple[Block, ...]:
    blocks: list[Block] = []
    loose: list[Text] = []
    for node in nodes if isinstance(nodes, list) and depth < MAX_DEPTH else ():
        if not isinstance(node, dict):
            continue
        kind, inner = node.get("type"), node.get("content")
        attrs = _object(node.get("attrs"))
        if not isinstance(kind, str):  # from outside: anything may stand there
            kind = ""
        if kind in _ADF_INLINE:
            loose.extend(_adf_inlines([node]))
            continue
        if loose:
            blocks.append(Paragraph(joined(loose)))
            loose = []
        if kind == "paragraph":
            blocks.append(Paragraph(_adf_inlines(inner)))
        elif kind == "heading":
            level = attrs.get("level")
            blocks.append(Heading(level if isinstance(level, int) and 1 <= level <= 6 else 1, _adf_inlines(inner)))
        elif kind == "codeBlock":
            blocks.append(CodeBlock("".join(run.text for run in _adf_inlines(inner)), str(attrs.get("language") or "")))
        elif kind in ("blockquote", "panel"):
            blocks.append(Quote(_adf_blocks(inner, depth + 1)))
        elif kind in ("bulletList", "orderedList"):
            items = [item.get("content") for item in inner if isinstance(item, dict)] if isinstance(inner, list) else []
            blocks.append(List(kind == "orderedList", tuple(_adf_blocks(item, depth + 2) for item in items)))
        elif kind == "rule":
            blocks.append(Rule())
        else:
            blocks.extend(_adf_blocks(inner, depth + 1))
    if loose:
        blocks.append(Paragraph(joined(loose)))
    return tuple(blocks)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


_ADF_INLINE = frozenset({"text", "hardBreak", "mention", "emoji", "inlineCard", "date", "status"})
_ADF_MARKS: Mapping[Any, Mark] = {"strong": "strong", "em": "em", "code": "code", "strike": "strike"}


def _adf_inlines(nodes: Any) -> Inlines:
    runs: list[Text] = []
    for node in nodes if isinstance(nodes, list) else ():
        if not isinstance(node, dict):
            continue
        attrs = _object(node.get("attrs"))
        if node.get("type") == "text":
            given = [m for m in node.get("marks") or () if isinstance(m, dict)] if isinstance(node.get("marks"), list) else []
            marks = frozenset(_ADF_MARKS[m["type"]] for m in given if isinstance(m.get("type"), str) and m["type"] in _ADF_MARKS)
            links = [m.get("attrs") for m in given if m.get("type") == "link"]
            href = safe_link(str(links[0].get("href") or "")) if links and isinstance(links[0], dict) else None
            runs.append(Text(str(node.get("text") or ""), marks, href))
        elif node.get("type") == "hardBreak":
            runs.append(Text("\n"))
        elif node.get("type") == "inlineCard":
            url = str(attrs.get("url") or "")
            runs.append(Text(url, frozenset(), safe_link(url)))
        else:
            runs.append(Text(str(attrs.get("text") or attrs.get("shortName") or "")))
    return joined(runs)


def from_wiki(text: str) -> Document:
    """Jira's wiki notation, as far as comments use it: headings, lists, quotes, code, emphasis and links."""
    blocks: list[Block] = []
    lines = iter(text[:MAX_CHARACTERS].replace("\r\n", "\n").split("\n"))
    held: list[str] = []
    for line in lines:
        fence = re.match(r"\{(code|noformat)(?::([^}]*))?\}(.*)", line)
        item = re.match(r"\s*([*#-])[*#-]{0,5}\s+(.*)", line)
        heading = re.match(r"h([1-6])\.\s+(.*)", line)
        if not (fence or item or heading or not line.strip() or line.startswith(("bq. ", "----"))):
            held.append(line)
            continue
        if held:
            blocks.append(Paragraph(_wiki_inlines("\n".join(held))))
            held = []
        if fence:
            blocks.append(
                CodeBlock(
                    _until(lines, fence[3], "{" + fence[1] + "}"), (fence[2] or "").split("|")[0] if "=" not in (fence[2] or "") else ""
                )
            )
        elif heading:
            blocks.append(Heading(int(heading[1]), _wiki_inlines(heading[2])))
        elif line.startswith("----"):
            blocks.append(Rule())
        elif item:
            ordered, content = item[1] == "#", (Paragraph(_wiki_inlines(item[2])),)
            last = blocks[-1] if blocks else None
            if isinstance(last, List) and last.ordered == ordered:
                blocks[-1] = List(ordered, (*last.items, content))
            else:
                blocks.append(List(ordered, (content,)))
        elif line.startswith("bq. "):
            blocks.append(Quote((Paragraph(_wiki_inlines(line[4:])),)))
    if held:
        blocks.append(Paragraph(_wiki_inlines("\n".join(held))))
    return Document(tuple(blocks))


def _until(lines: Iterator[str], first: str, end: str) -> str:
    found = []
    line: str | None = first
    while line is not None:
        before, closed, _ = line.partition(end)
        if before or not closed:
            found.append(before)
        if closed:
            break
        line = next(lines, None)
    return "\n".join(found).strip("\n")


_WIKI_ESCAPE = re.compile(r"\\([*_\-{}\[\]|+^~!#\\])")
_WIKI_RUN = re.compile(
    _WIKI_ESCAPE.pattern + r"|\{\{((?:\\.|[^{}\\\n])+)\}\}|\[(?:((?:\\.|[^\]|\\\n])*)\|)?((?:https?://|mailto:)[^\]\s|]+)\]"
    r"|(?<!\w)\*(?=\S)((?:\\.|[^*\\\n])+)(?<=\S)\*(?!\w)|(?<!\w)_(?=\S)((?:\\.|[^_\\\n])+)(?<=\S)_(?!\w)"
)


def _wiki_inlines(text: str) -> Inlines:
    runs: list[Text] = []
    at = 0
    for match in _WIKI_RUN.finditer(text):
        runs.append(Text(text[at : match.start()]))
        escaped, code, label, url, strong, em = match.groups()
        if url is not None:
            runs.append(Text(_unescaped(label) if label else url, frozenset(), safe_link(url)))
        elif code is not None:
            runs.append(Text(_unescaped(code), frozenset({"code"})))
        elif strong is not None:
            runs.append(Text(_unescaped(strong), frozenset({"strong"})))
        elif em is not None:
            runs.append(Text(_unescaped(em), frozenset({"em"})))
        else:
            runs.append(Text(escaped))
        at = match.end()
    runs.append(Text(text[at:]))
    return joined(runs)


def _unescaped(text: str) -> str:
    return _WIKI_ESCAPE.sub(r"\1", text)
