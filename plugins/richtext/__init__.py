"""Rich text between tools: one small document model, read from Markdown, HTML, Jira's ADF and wiki, and plain text, written to each.

What the model has no word for (tables, images, mentions) keeps its text and loses its form. Text is always escaped for the form it
is written to, so a ticket's words can neither format nor script another tool's page. Pure.
"""

from plugins.richtext.model import Document, with_marker
from plugins.richtext.read import from_adf, from_html, from_markdown, from_plain, from_wiki
from plugins.richtext.write import to_adf, to_html, to_markdown, to_plain, to_wiki

__all__ = [
    "Document",
    "from_adf",
    "from_html",
    "from_markdown",
    "from_plain",
    "from_wiki",
    "to_adf",
    "to_html",
    "to_markdown",
    "to_plain",
    "to_wiki",
    "with_marker",
]
