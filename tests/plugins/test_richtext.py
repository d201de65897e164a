"""Rich text keeps its meaning between tools, and nobody's text becomes another tool's markup."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.richtext import (
    Document,
    from_adf,
    from_html,
    from_markdown,
    from_plain,
    from_wiki,
    to_adf,
    to_html,
    to_markdown,
    to_plain,
    to_wiki,
)
from plugins.richtext.model import CodeBlock, Heading, List, Paragraph, Quote, Text

RICH = """# Printer *down*

It **burns** on floor `3`, see [the photo](https://files.example/a_b.png),
second line

- unplug
- wait
  1. a minute
  2. or two

> said Ann

```
toner = 0 < 1
```

---
"""


@pytest.mark.parametrize(("write", "read"), [(to_markdown, from_markdown), (to_html, from_html), (to_adf, from_adf)])
def test_a_rich_text_survives_the_way_out_and_back(write: Any, read: Any) -> None:
    """A note that went through a tool must read as it was written."""
    document = from_markdown(RICH)
    assert len(document.blocks) == 6
    assert read(write(document)) == document


def test_wiki_notation_keeps_headings_lists_code_marks_and_links() -> None:
    """Data Center takes nothing else."""
    wiki = to_wiki(from_markdown("## Title\n\n**b** and _i_ and `c` [x](https://a.example)\n\n- one\n- two\n\n```py\nx\n```"))
    assert wiki == "h2. Title\n\n*b* and _i_ and {{c}} [x|https://a.example]\n\n* one\n* two\n\n{code:py}\nx\n{code}"
    assert from_wiki(wiki) == from_markdown("## Title\n\n**b** and _i_ and `c` [x](https://a.example)\n\n- one\n- two\n\n```py\nx\n```")


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("*_[]()<>&`#-+!~^{}|\\.1 \"'"), min_size=1, max_size=40)


@given(texts)
def test_plain_text_written_as_markdown_or_html_reads_back_as_that_text(text: str) -> None:
    """The escaping is whole when no text can turn into markup."""
    document = Document((Paragraph((Text(text.strip() or "x"),)),))
    assert to_plain(from_html(to_html(document))).split() == (text.strip() or "x").split()
    assert to_plain(from_markdown(to_markdown(document))).split() == (text.strip() or "x").split()


@pytest.mark.parametrize("text", ["`{color:red}`", "`~x~ |y|`", "**a_b**", "*c|d*", "[e_f](https://a.example)"])
def test_wiki_escapes_inside_a_mark_are_read_back(text: str) -> None:
    """What we wrote with a backslash must not come back with one, or each reading adds another."""
    document = from_markdown(text)
    assert from_wiki(to_wiki(document)) == document


@given(texts)
def test_no_text_opens_a_tag_or_a_wiki_macro(text: str) -> None:
    """A ticket's words come from strangers."""
    html = to_html(from_plain(text))
    assert "<" not in html.replace("<p>", "").replace("</p>", "").replace("<br>", "")
    assert "{" not in to_wiki(from_plain(text)).replace("\\{", "")


@pytest.mark.parametrize(
    "hostile",
    ["<script>alert(1)</script>", "[x](javascript:alert(1))", '<a href="javascript:alert(1)">x</a>', "<img src=x onerror=alert(1)>"],
)
def test_scripts_do_not_pass(hostile: str) -> None:
    """Neither as Markdown nor as HTML, into any form a browser renders."""
    for document in (from_markdown(hostile), from_html(hostile)):
        html = to_html(document)
        assert "<script" not in html
        assert "<img" not in html
        assert 'href="javascript' not in html
        assert "javascript" not in str([n for b in to_adf(document)["content"] for n in b["content"] if n.get("marks")])


@given(st.text(max_size=300))
@settings(max_examples=150)
def test_any_text_is_read_by_every_reader_and_written_by_every_writer(text: str) -> None:
    """Comments hold whatever people paste; a reader that raised would stop a ticket."""
    for document in (from_plain(text), from_markdown(text), from_html(text), from_wiki(text)):
        for write in (to_plain, to_markdown, to_html, to_wiki):
            assert isinstance(write(document), str)
        assert all("text" not in node or node["text"] for node in _nodes(to_adf(document)))


def _nodes(node: Any) -> list[Any]:
    return [node, *(inner for child in node.get("content", []) for inner in _nodes(child))]


adf = st.recursive(
    st.none() | st.text("ab", max_size=3) | st.integers(0, 9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries(
            {"type": st.sampled_from(["doc", "paragraph", "text", "bulletList", "listItem", "heading", "codeBlock", "table", "mention"])},
            optional={"content": inner, "text": inner, "marks": inner, "attrs": inner},
        )
    ),
    max_leaves=25,
)


@given(adf)
def test_any_value_is_read_as_adf(node: Any) -> None:
    """Jira adds node types; a shape nobody knows must give what text it has."""
    assert isinstance(from_adf(node), Document)


def test_adf_unknown_nodes_keep_their_text() -> None:
    """Tables and panels have no form here, their words matter."""
    cell = {"type": "tableCell", "content": [{"type": "paragraph", "content": [{"type": "text", "text": "cell"}]}]}
    node = {"type": "doc", "content": [{"type": "table", "content": [{"type": "tableRow", "content": [cell]}]}]}
    assert to_plain(from_adf(node)) == "cell"


def test_broken_html_is_read_as_far_as_it_goes() -> None:
    """Mail clients write HTML nobody closed."""
    assert to_plain(from_html("<div><b>one<ul><li>two<li>three</div>four")).split() == ["one", "-", "two", "-", "three", "four"]
    assert to_plain(from_html("a<br>b &amp; c<p>d")) == "a\nb & c\n\nd"


def test_deep_nesting_is_bounded() -> None:
    """A note of ten thousand brackets must not use up the stack."""
    assert from_html("<ul><li>" * 5000 + "x")
    assert from_markdown("> " * 5000 + "x")
    node: Any = {"type": "text", "text": "x"}
    for _ in range(900):
        node = {"type": "panel", "content": [node]}
    assert isinstance(from_adf({"type": "doc", "content": [node]}), Document)


def test_the_model_is_what_the_readers_make() -> None:
    """One look at the words of the model."""
    assert from_markdown("# a\n\n> b\n\n1. c\n\n    d").blocks == (
        Heading(1, (Text("a"),)),
        Quote((Paragraph((Text("b"),)),)),
        List(True, ((Paragraph((Text("c"),)), Paragraph((Text("d"),))),)),
    )
    assert from_markdown("```\nx\n```").blocks == (CodeBlock("x"),)


@pytest.mark.parametrize("unit", ["<a ", "<", "</a ", "<!--", "<![", '<a b="', "<?", "<![CDATA["])
@pytest.mark.parametrize("end", ["", ">"])
def test_html_that_never_ends_a_tag_is_read_in_bounded_time(unit: str, end: str) -> None:
    """The standard parser looks for a tag's end from each "<" on: a hundred kilobytes of "<a " took it three minutes."""
    began = time.process_time()
    from_html(unit * 30_000 + end)
    assert time.process_time() - began < 2


def test_words_conditional_comments_are_left_out() -> None:
    """Mail from Office is full of them, and the standard parser raises over a broken one."""
    assert to_plain(from_html("<p>before <![if !supportLists]>between<![endif]> <![ after</p>")).startswith("before between")
