"""The marker is how a note of ours is known again, in whatever form the tool keeps it."""

from __future__ import annotations

import pytest

from plugins.marker import find_marker, note_marker, same_marker
from plugins.richtext import Document, from_adf, from_html, from_markdown, to_adf, to_html, to_markdown, to_plain, to_wiki, with_marker

MARKER = note_marker("0199f3f2-8a41-7c3e-9d54-3f1b2c4d5e6f", 2)


@pytest.mark.parametrize(
    "stored",
    [
        to_plain(with_marker(from_markdown("hello"), MARKER)),
        to_html(with_marker(from_markdown("hello"), MARKER)),
        to_markdown(with_marker(from_markdown("hello"), MARKER)),
        to_wiki(with_marker(from_markdown("hello"), MARKER)),
        to_plain(from_adf(to_adf(with_marker(from_markdown("hello"), MARKER)))),
        to_plain(from_html("<div class='zd'>" + to_html(with_marker(Document(), MARKER)) + "</div>")),
    ],
)
def test_a_marker_is_found_in_every_stored_form(stored: str) -> None:
    """Each tool keeps another form, and wiki notation escapes brackets."""
    assert find_marker(stored) == ("0199f3f2-8a41-7c3e-9d54-3f1b2c4d5e6f", 2)
    assert same_marker(stored, MARKER)


def test_the_last_marker_counts_and_any_can_be_asked_for() -> None:
    """A reply quotes our note above its own text."""
    text = note_marker("old", 1) + "\nquoted\n" + MARKER
    assert find_marker(text) == ("0199f3f2-8a41-7c3e-9d54-3f1b2c4d5e6f", 2)
    assert same_marker(text, note_marker("old", 1))
    assert not same_marker(text, note_marker("old", 2))


@pytest.mark.parametrize("text", ["", "aia:", "[aia:x]", "[aia::1]", "[aia:x:1000000]", "[aia:" + "x" * 65 + ":1]"])
def test_what_only_looks_like_a_marker_is_none(text: str) -> None:
    """People write brackets too."""
    assert find_marker(text) is None
