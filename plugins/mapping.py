"""From a payload's paths and words to canonical values, as data: getters, field maps, word maps, times. Pure, and never raising
on a payload: what is not there is None, a word nobody knows is the map's UNKNOWN.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec
from jsonpath_rfc9535 import JSONPathEnvironment
from jsonpath_rfc9535.exceptions import JSONPathError
from jsonpath_rfc9535.query import JSONPathQuery
from jsonpath_rfc9535.selectors import IndexSelector, NameSelector

from plugins.api import NotADelivery, PluginConfigError

Getter = Callable[[Any], Any]
E = TypeVar("E", bound=StrEnum)

MAX_PATH_LENGTH = 512
_ENVIRONMENT = JSONPathEnvironment()
_decode = msgspec.json.Decoder().decode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# --- bodies --------------------------------------------------------------------------------------------------------------


def json_object(body: bytes) -> dict[str, Any]:
    """A delivery's body as a JSON object; raises NotADelivery for anything else.

    Bodies an admin wrote with placeholders hold bare newlines and tabs, those of some scripts begin with a byte order mark; they are
    read too, by the slower standard library, and half surrogate pairs are replaced, which no store and no topic could take.
    """
    try:
        document = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            loose = json.loads(body.decode("utf-8-sig", "replace"), strict=False)
            document = json.loads(json.dumps(loose, ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise NotADelivery("the body is not JSON; where it is made from placeholders, these must be escaped") from None
    if type(document) is not dict:
        raise NotADelivery("the body is JSON, but no object")
    return document


# --- paths ---------------------------------------------------------------------------------------------------------------


def getter(path: str) -> Getter:
    """A function that reads a JSONPath (RFC 9535) from a decoded document: its first match, or None.

    A singular path becomes plain indexing, some fifty times quicker than the library; a text without `$` is the name of a
    top-level member. Raises PluginConfigError for what is not a path.
    """
    if not path.startswith("$"):
        return _from_steps((path,))
    if len(path) > MAX_PATH_LENGTH:
        raise PluginConfigError(f"a JSONPath is longer than {MAX_PATH_LENGTH} characters")
    try:
        query = _ENVIRONMENT.compile(path)
    except (JSONPathError, RecursionError) as exc:
        raise PluginConfigError(f"not a JSONPath: {path!r}: {str(exc).splitlines()[0]}") from None
    if query.singular_query():
        return _from_steps(tuple(_step(segment.selectors[0]) for segment in query.segments))
    return _first_match(query)


def _step(selector: object) -> str | int:
    if isinstance(selector, NameSelector):
        return selector.name
    if isinstance(selector, IndexSelector):
        return selector.index
    raise AssertionError("a singular query has names and indexes only")


def _from_steps(steps: tuple[str | int, ...]) -> Getter:
    """Indexing, guarded by exact types: a name must not match in a text, nor an index in an object."""
    if all(isinstance(step, str) for step in steps):
        if len(steps) == 1:
            (only,) = steps

            def member(document: Any) -> Any:
                return document.get(only) if type(document) is dict else None

            return member
        if len(steps) == 2:
            first, second = steps

            def member_of_member(document: Any) -> Any:
                if type(document) is not dict:
                    return None
                inner = document.get(first)
                return inner.get(second) if type(inner) is dict else None

            return member_of_member

    def walk(document: Any) -> Any:
        for step in steps:
            if isinstance(step, str):
                if type(document) is not dict:
                    return None
                document = document.get(step)
            else:
                if type(document) is not list:
                    return None
                try:
                    document = document[step]
                except IndexError:
                    return None
        return document

    return walk


def _first_match(query: JSONPathQuery) -> Getter:
    def find(document: Any) -> Any:
        try:
            node = query.find_one(document)
        except (JSONPathError, RecursionError):  # a document deeper than the library follows has no match for us
            return None
        return None if node is None else node.value

    return find


class FieldMap:
    """Where each canonical field stands in a payload: a path, or several of which the first that has a value counts.

    Empty text counts as no value, as tools send it for fields nobody filled.
    """

    __slots__ = ("_getters", "_members", "_others", "paths")

    def __init__(self, fields: Mapping[str, str | Sequence[str]] | None = None, /, **more: str | Sequence[str]) -> None:
        given = {**(fields or {}), **more}
        self.paths: Mapping[str, tuple[str, ...]] = {name: (p,) if isinstance(p, str) else tuple(p) for name, p in given.items()}
        self._getters = {name: _first_of([getter(p) for p in paths]) for name, paths in self.paths.items()}
        self._members = [(name, paths) for name, paths in self.paths.items() if not any(path.startswith("$") for path in paths)]
        members = dict(self._members)
        self._others = {name: get for name, get in self._getters.items() if name not in members}

    def with_fields(self, fields: Mapping[str, str | Sequence[str]]) -> FieldMap:
        """This map with a tenant's own paths put in place of, or beside, these."""
        return FieldMap({**self.paths, **fields})

    def read(self, document: Any) -> dict[str, Any]:
        """Every mapped field; None where the payload has none. Top-level members, most of a flat body, are read without a call each."""
        if type(document) is not dict:
            return {name: get(document) for name, get in self._getters.items()}
        found: dict[str, Any] = {}
        for name, members in self._members:
            for member in members:
                value = document.get(member)
                if value is not None and value != "":
                    break
            else:
                value = None
            found[name] = value
        for name, get in self._others.items():
            found[name] = get(document)
        return found

    def get(self, document: Any, name: str) -> Any:
        """One mapped field; None where the payload, or the map, has none."""
        get = self._getters.get(name)
        return None if get is None else get(document)


def _first_of(getters: Sequence[Getter]) -> Getter:
    if len(getters) == 1:
        only = getters[0]

        def one(document: Any) -> Any:
            value = only(document)
            return None if value == "" else value

        return one

    def first(document: Any) -> Any:
        for get in getters:
            value = get(document)
            if value is not None and value != "":
                return value
        return None

    return first


# --- words ---------------------------------------------------------------------------------------------------------------


class WordMap(Generic[E]):
    """A tool's words for one canonical field, compared without case or surrounding space; any other word is `unknown`."""

    __slots__ = ("_words", "unknown")

    def __init__(self, words: Mapping[str, E], unknown: E) -> None:
        self._words: dict[str, E] = {}
        for word, value in words.items():
            self._words[word] = self._words[word.upper()] = self._words[word.casefold()] = value  # the usual spellings at one look
        self.unknown = unknown

    def __call__(self, value: Any) -> E:
        if type(value) is not str:
            return self.unknown
        found = self._words.get(value)
        return found if found is not None else self._words.get(value.strip().casefold(), self.unknown)

    def with_words(self, words: Mapping[str, E]) -> WordMap[E]:
        """This map with a tenant's own words added; they win, however they are spelt."""
        if not words:
            return self
        theirs = {word.casefold() for word in words}
        return WordMap({**{word: value for word, value in self._words.items() if word.casefold() not in theirs}, **words}, self.unknown)


def tenant_words(settings: Mapping[str, Any], name: str, kind: type[E]) -> dict[str, E]:
    """A tenant's `words: {priority: {"Sehr hoch": urgent}}` for one field; raises PluginConfigError for a value that is not one."""
    given = (settings.get("words") or {}).get(name) or {}
    try:
        return {str(word): kind(value) for word, value in given.items()}
    except (ValueError, AttributeError):
        raise PluginConfigError(f"words.{name} must map words to one of: {', '.join(kind)}") from None


# --- values --------------------------------------------------------------------------------------------------------------


def squeezed(name: str) -> str:
    """A name's letters and digits in lower case: `briefDescription`, `brief_description` and `Brief description` are one. Of a name
    longer than any field's the beginning."""
    return _squeezed(name[:100])


@lru_cache(maxsize=8192)
def _squeezed(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def to_micros(value: Any) -> int | None:
    """Epoch microseconds of a tool's time; None for what is no time.

    Reads ISO 8601 with any number of decimals (cut to six), with an offset with or without a colon, `Z` or none (taken as UTC),
    and epoch seconds, milliseconds, microseconds or nanoseconds, as a number or as text, told apart by their size.
    """
    kind = type(value)
    if kind is str:
        if value.isdigit() and len(value) >= 9:
            return _epoch(int(value)) if len(value) <= 20 and value.isascii() else None
        try:
            moment = datetime.fromisoformat(value)
            since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH
        except (ValueError, OverflowError):
            stripped = value.strip()
            return None if stripped == value else to_micros(stripped)
        return since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
    if kind is int or kind is float:
        return _epoch(value) if 0 < value < 1e20 else None
    return None


def _epoch(value: float) -> int:
    """By size: seconds reach 1e11 in the year 5138, milliseconds begin there in 1973, and so on up."""
    if value < 1e11:
        return int(value * 1_000_000)
    if value < 1e14:
        return int(value * 1_000)
    if value < 1e17:
        return int(value)
    return int(value) // 1_000


def to_text(value: Any) -> str:
    """A scalar as text; empty for null and for what is no scalar."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, (dict, list)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def to_id(value: Any) -> str | None:
    """A tool's id as text; None for what tools send when there is none: null, empty, "0", 0, "null"."""
    if type(value) is str:
        text = value.strip()
    elif type(value) is int:
        text = str(value)
    else:
        return None
    return None if text in ("", "0", "null", "-") else text


def to_tags(value: Any) -> tuple[str, ...]:
    """Tags from a list of texts or one text with spaces or commas between them."""
    if type(value) is list:
        return tuple([tag for tag in value if type(tag) is str and tag])  # a list first: twice as quick as a generator
    if type(value) is str:
        return tuple(value.replace(",", " ").split())
    return ()
