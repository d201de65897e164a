"""JSON as automation rules write it: placeholders pasted as text, so that a quote, a newline or a missing value breaks it.

What can be read in one way only is read; anything else raises NotADelivery, for a wrong ticket is worse than a dead letter. Pure,
and linear in the size of the body.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import parse_qsl

from plugins.api import NotADelivery
from plugins.mapping import json_object

MAX_DEPTH: Final = 32
MAX_BARE: Final = 500
"""Characters of a value nobody quoted: a number, a word, an id. Free text must stand in quotes."""

MAX_FIELDS: Final = 256
"""Fields of a form."""
ENVELOPES: Final = frozenset({"payload", "data", "json", "body", "input_data"})
"""Fields of a form that scripts put a whole document into."""
_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{")
_SPACE = re.compile(r"\s*")
_STOP = re.compile(r'["\\]')
_KEY = re.compile(r'"((?:[^"\\]|\\.){0,200})"\s*:')
_BARE_KEY = re.compile(r"([A-Za-z_]\w{0,100})\s*:")
_AFTER_MEMBER = re.compile(r'\s*(?:,\s*(?:"(?:[^"\\]|\\.){0,200}"\s*:|\}|$)|\}\s*(?:[,}\]]|$))')
_AFTER_BARE_MEMBER = re.compile(r"\s*(?:,\s*[A-Za-z_]\w{0,100}\s*:|\}\s*(?:[,}\]]|$))")
_AFTER_ITEM = re.compile(r"\s*(?:,|\]\s*(?:[,}\]]|$))")
"""What may follow a value's end in an object, in an object whose names have no quotes, and in an array."""
_END_OF_BARE = re.compile(r'[,}\]"{\[\n]')
_ESCAPE = re.compile(r'["\\/bfnrt]|u[0-9A-Fa-f]{4}')


def object_or_form(body: bytes, content_type: str) -> dict[str, Any]:
    """A delivery's body as an object: JSON, repaired where it must be, or a form; scripts post JSON as a form's only field, or as its
    `payload`. What is JSON is read as such under a form's content type too, which some senders leave at their library's default.

    Raises NotADelivery. Other fields of a form stay text, whatever they look like: people write into them.
    """
    if "form-urlencoded" not in content_type or _OBJECT.match(body):
        return lenient_object(body)
    try:
        form = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=MAX_FIELDS))
    except ValueError:
        raise NotADelivery(f"the form has more than {MAX_FIELDS} fields") from None
    for name in form if len(form) == 1 else ENVELOPES & form.keys():
        if _OBJECT.match(held := form[name].encode()):
            return {**form, **lenient_object(held)}
    return dict(form)


def lenient_object(body: bytes) -> dict[str, Any]:
    """A delivery's body as an object, repaired where an admin's template broke it.

    Read besides JSON: values without quotes (`"id": INC-372`, `"priority": Low`, nothing at all), names without quotes inside a
    value (`{status:{from:4,to:6}}`), bare newlines, tabs and quotes in a text, a trailing comma. Raises NotADelivery for what stays
    unclear, a name that comes twice above all: somebody may have written it into a ticket's subject. That holds for JSON that is
    whole, too: where a template does not escape what it pastes, a subject such as `x", "ticket_id": "7` makes no fault, only another
    ticket. The same value twice is no contradiction.
    """
    try:
        document = json_object(body)
    except NotADelivery:
        text = body.decode("utf-8-sig", "replace")
        start = _skip(text, 0)
        if text[start : start + 1] != "{":
            raise
    else:
        _refuse_contradictions(body)
        return document
    reader = _Reader(text)
    document, end = reader.object(start, 0)
    if _skip(text, end) != len(text):
        raise _unclear("there is more behind its end")
    return document


def _unclear(why: str) -> NotADelivery:
    return NotADelivery(f"the body is broken JSON and cannot be repaired for sure: {why}; put every placeholder in quotes, free text last")


def _one_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        for name, value in pairs:
            if found[name] != value:
                raise _Contradiction(name)
    return found


_contradictions = json.JSONDecoder(object_pairs_hook=_one_of_each, strict=False).decode


class _Contradiction(Exception):
    """A name with two values."""


def _refuse_contradictions(body: bytes) -> None:
    """Raises NotADelivery where one object says two things of one name; some 4 us for an ordinary body."""
    try:
        _contradictions(body.decode("utf-8-sig", "replace"))
    except _Contradiction as exc:
        raise _unclear(f"the name {str(exc)[:40]!r} comes twice") from None
    except (ValueError, RecursionError):
        raise _unclear("it is read in two ways") from None


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


class _Reader:
    """Recursive descent over one text; each method answers a value and where it ends."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def object(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        if depth >= MAX_DEPTH:
            raise _unclear("it is nested too deeply")
        text, found = self._text, dict[str, Any]()
        at = _skip(text, at + 1)
        bare = bool(_BARE_KEY.match(text, at))
        key_form, after = (_BARE_KEY, _AFTER_BARE_MEMBER) if bare else (_KEY, _AFTER_MEMBER)
        while True:
            if text[at : at + 1] == "}":
                return found, at + 1
            key = key_form.match(text, at)
            if key is None:
                raise _unclear("a name is missing")
            name = _plain(key[1])
            if name in found:
                raise _unclear(f"the name {name[:40]!r} comes twice")
            found[name], at = self._value(key.end(), after, depth)
            at = _skip(text, at)
            if text[at : at + 1] == ",":
                at = _skip(text, at + 1)
            elif text[at : at + 1] != "}":
                raise _unclear(f"the value of {name[:40]!r} has no clear end")

    def _array(self, at: int, depth: int) -> tuple[list[Any], int]:
        if depth >= MAX_DEPTH:
            raise _unclear("it is nested too deeply")
        text, found = self._text, list[Any]()
        at = _skip(text, at + 1)
        while text[at : at + 1] != "]":
            value, at = self._value(at, _AFTER_ITEM, depth)
            found.append(value)
            at = _skip(text, at)
            if text[at : at + 1] == ",":
                at = _skip(text, at + 1)
            elif text[at : at + 1] != "]":
                raise _unclear("a list has no clear end")
        return found, at + 1

    def _value(self, at: int, after: re.Pattern[str], depth: int) -> tuple[Any, int]:
        at = _skip(self._text, at)
        match self._text[at : at + 1]:
            case "{":
                return self.object(at, depth + 1)
            case "[":
                return self._array(at, depth + 1)
            case '"':
                return self._string(at + 1, after)
        return self._bare(at, after)

    def _string(self, at: int, after: re.Pattern[str]) -> tuple[str, int]:
        """A text in quotes: it ends at the first quote behind which its object or list goes on."""
        text, parts = self._text, list[str]()
        while stop := _STOP.search(text, at):
            parts.append(text[at : stop.start()])
            at = stop.end()
            if stop[0] == '"':
                if after.match(text, at):
                    return _plain("".join(parts)), at
                parts.append('\\"')
            elif escape := _ESCAPE.match(text, at):
                parts.append("\\" + escape[0])
                at = escape.end()
            else:
                parts.append("\\\\")
        raise _unclear("a text has no end")

    def _bare(self, at: int, after: re.Pattern[str]) -> tuple[Any, int]:
        """A value without quotes: a JSON literal as such, nothing as null, anything else short as text."""
        text = self._text
        stop = _END_OF_BARE.search(text, at, at + MAX_BARE + 1)
        while stop and stop[0] in ",\n" and not after.match(text, stop.start()):
            stop = _END_OF_BARE.search(text, stop.end(), at + MAX_BARE + 1)
        if stop is None or stop[0] in '"{[' or not after.match(text, stop.start()):
            raise _unclear("a value without quotes has no clear end")
        word = text[at : stop.start()].strip()
        try:
            return (json.loads(word, parse_constant=str) if word else None), stop.start()
        except ValueError:
            return word, stop.start()


def _plain(escaped: str) -> str:
    """The text of a JSON string's inside, control characters allowed; half surrogate pairs are replaced, as no store takes them."""
    if "\\" in escaped:
        escaped = str(json.loads(f'"{escaped}"', strict=False))
    return escaped.encode("utf-8", "replace").decode("utf-8")
