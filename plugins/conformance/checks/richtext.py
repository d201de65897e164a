"""Words survive the way from Markdown to the tool's own form and back to plain text."""

from __future__ import annotations

from plugins.api import NewNote, ValidationRefused
from plugins.conformance.builders import a_note
from plugins.conformance.check import check, require
from plugins.conformance.stand import Stand
from plugins.marker import find_marker

FORMATTED = """# Reader twelve

It **blinks** red, *slowly*, ~~rarely~~ often.

- pulled the `fuse`
- asked [the maker](https://maker.example/kb/7?a=1&b=2)

1. first
2. second

> quoted words

```
literal <b> & [x]
```
"""
WORDS = (
    "Reader twelve",
    "blinks",
    "slowly",
    "rarely",
    "often",
    "fuse",
    "the maker",
    "first",
    "second",
    "quoted words",
    "literal <b> & [x]",
)
LITERAL = (
    "<b>bold</b>",
    "&amp;",
    "&",
    "a < b > c",
    "{color:red}",
    "h1. no heading",
    "~tilde~",
    "|cell|",
    "<script>alert(1)</script>",
    "{{macro}}",
)
SCRIPTS = "Türschließer · 門が開かない · باب · дверь · 🚪 · é"


async def read_back(stand: Stand, description: str) -> str:
    """A description as it is read again from the tool."""
    plugin = stand.plugin()
    ref = await stand.created(plugin, description=description)
    return (await plugin.get_ticket(ref.ticket_id)).description


@check(
    "richtext.words_survive",
    "Headings, lists, emphasis, links, quotes and code lose their form at worst, never their words or their order.",
)
async def words_survive(stand: Stand) -> None:
    text, at = await read_back(stand, FORMATTED), 0
    for word in WORDS:
        found = text.find(word, at)
        require(found >= 0, f"{word!r} is lost, or out of order, in the description read back: {text[:300]!r}")
        at = found


@check(
    "richtext.text_is_no_markup",
    "What looks like markup and was meant as text stays text: a customer's words can neither format nor script a page.",
)
async def text_is_no_markup(stand: Stand) -> None:
    escaped = "\n\n".join(f"`{text}`" for text in LITERAL)
    text = await read_back(stand, escaped)
    for literal in LITERAL:
        require(literal in text, f"{literal!r} is not what is read back: {text[:300]!r}")


@check("richtext.scripts", "Every script people write in comes back as it went.")
async def scripts(stand: Stand) -> None:
    text = await read_back(stand, SCRIPTS)
    require(SCRIPTS in text, f"read back is {text[:120]!r}")


@check(
    "richtext.long_text",
    "A text longer than the tool takes is cut or refused by name: it does not come back again and again as a server error.",
)
async def long_text(stand: Stand) -> None:
    description = "It fails every morning at seven. " * 6_000
    try:
        text = await read_back(stand, description)
    except ValidationRefused:
        return
    require(text.startswith("It fails every morning"), "of a text of 200 kB not even the beginning is read back")


@check("richtext.note", "A note's words and its marker are both there in what the tool tells of it.")
async def note(stand: Stand) -> None:
    receiver, plugin = await stand.listen(), stand.plugin()
    ref = await stand.created(plugin)
    await receiver.next()
    written = a_note()
    await plugin.add_note(ref.ticket_id, NewNote(text=FORMATTED, marker=written.marker))
    told = plugin.extract_metadata(await receiver.next())
    comment = str(told.extra.get("comment"))
    for word in WORDS:
        require(word in comment, f"{word!r} is lost in the note as the tool tells it: {comment[:300]!r}")
    require(find_marker(comment) == find_marker(written.marker), "the note's marker is not at the end of what the tool tells")
    require(await plugin.has_note(ref.ticket_id, written.marker), "has_note does not find a note with rich text")
