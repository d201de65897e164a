"""Rich text on its way: Freshdesk speaks HTML, this project Markdown and plain text. The document model is loaded with the first text."""

from __future__ import annotations


def html(markdown: str, marker: str = "") -> str:
    """Markdown as HTML; with a marker as its last paragraph, unless it is there already."""
    from plugins.marker import same_marker
    from plugins.richtext import from_markdown, to_html, with_marker

    document = from_markdown(markdown)
    return to_html(with_marker(document, marker) if marker and not same_marker(markdown, marker) else document)


def markdown(html: str) -> str:
    """HTML as Markdown."""
    from plugins.richtext import from_html, to_markdown

    return to_markdown(from_html(html))


def plain(text: str) -> str:
    """Plain text of HTML; what holds no markup as it is."""
    if "<" not in text and "&" not in text:
        return text
    from plugins.richtext import from_html, to_plain

    return to_plain(from_html(text))
