"""Bodies that no tool should send and that will come all the same: made of a plugin's own fixtures, one part spoilt at a time. Pure."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from typing import Any

STRANGE: tuple[Any, ...] = (None, True, 0, -1, 10**30, 1e308, "", "\x00\ud800", [], {}, [[]], {"": None}, "x" * 5_000)
MAX_PLACES = 400


def as_json(body: bytes) -> Any:
    """The decoded body; None when it is no JSON object or list."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def encoded(value: Any) -> bytes:
    """JSON bytes, lone surrogates escaped."""
    return json.dumps(value).encode()


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every member of a document, the outer before the inner."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in inner:
        yield (*at, name)
        yield from places(member, (*at, name))


def at_place(value: Any, place: tuple[str | int, ...]) -> Any:
    for name in place:
        value = value[name]
    return value


def put(document: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """The document with another value at this place; what lies beside its path is shared with the original."""
    if not place:
        return value
    made = copy.copy(document)
    made[place[0]] = put(made[place[0]], place[1:], value)
    return made


def cut(document: Any, place: tuple[str | int, ...]) -> Any:
    """The document without this place; what lies beside its path is shared with the original."""
    made = copy.copy(document)
    if len(place) == 1:
        del made[place[0]]
    else:
        made[place[0]] = cut(made[place[0]], place[1:])
    return made


def strings(document: Any) -> Iterator[tuple[str | int, ...]]:
    """The places that hold text."""
    yield from (place for place in places(document) if isinstance(at_place(document, place), str))


def spoilt(document: Any, among: Iterable[tuple[str | int, ...]]) -> Iterator[tuple[str, bytes]]:
    """The document with one of these members replaced by a value of each wrong type; (what was done, body)."""
    for place in among:
        kind = type(at_place(document, place))
        for value in STRANGE:
            if type(value) is not kind or value in ("", "\x00\ud800", -1, 10**30):
                yield f"{'.'.join(map(str, place))} = {str(value)[:12]!r}", encoded(put(document, place, value))


def shortened(document: Any) -> Iterator[tuple[str, bytes]]:
    """The document with one member left out."""
    for place in list(places(document))[:MAX_PLACES]:
        yield f"without {'.'.join(map(str, place))}", encoded(cut(document, place))


def nested(depth: int) -> Iterator[tuple[str, bytes]]:
    """Documents that are deep and nothing else."""
    yield "lists", b"[" * depth + b"]" * depth
    yield "objects", b'{"a":' * depth + b"1" + b"}" * depth
    yield "unclosed lists", b"[" * depth
    yield "a deep member", b'{"ticket":{"id":"1","subject":' + b"[" * depth + b"]" * depth + b"}}"


RUNS = (
    "<",
    "<a ",
    "<!--",
    "&",
    "&#",
    "[",
    "](",
    "*",
    "_",
    "`",
    "\n",
    " ",
    "> ",
    "- ",
    "\\",
    "\t",
    "{{",
    "|",
    "~~",
    "aia:",
    "[aia:",
    "a@",
    "é",
)
"""What a naive reader of rich text takes quadratic time over, when it is repeated."""
