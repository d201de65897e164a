"""From payloads to values: the quick getters must agree with the standard, and nothing a tool sends may raise."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonpath_rfc9535 import JSONPathEnvironment

from plugins.api import NotADelivery, PluginConfigError, Priority
from plugins.mapping import (
    MAX_PATH_LENGTH,
    FieldMap,
    WordMap,
    getter,
    json_object,
    squeezed,
    tenant_words,
    to_id,
    to_micros,
    to_tags,
    to_text,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("abc", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=4),
    max_leaves=20,
)
singular_paths = st.lists(st.sampled_from([".a", ".b", "['c']", "[0]", "[1]", "[-1]"]), min_size=1, max_size=5).map(
    lambda s: "$" + "".join(s)
)


@given(path=singular_paths, document=json_values)
def test_a_quick_getter_answers_what_the_library_answers(path: str, document: Any) -> None:
    """Plain indexing is fifty times quicker and must not differ: a name never matches in a text, an index never in an object."""
    node = JSONPathEnvironment().compile(path).find_one(document)
    assert getter(path)(document) == (None if node is None else node.value)


@given(document=json_values)
@pytest.mark.parametrize("path", ["$..a", "$.a[?@.b==1].c", "$.*", "$.a[1:3]", "$[?match(@.a, 'a.*')]"])
def test_other_paths_give_their_first_match_and_never_raise(path: str, document: Any) -> None:
    """Tenants may write any JSONPath; a payload decides what it meets."""
    node = JSONPathEnvironment().compile(path).find_one(document)
    assert getter(path)(document) == (None if node is None else node.value)


def test_a_document_deeper_than_the_library_follows_has_no_match() -> None:
    """A hostile body must not stop the stream with a RecursionError."""
    document: Any = {}
    for _ in range(5000):
        document = {"b": document}
    assert getter("$..a")(document) is None


@pytest.mark.parametrize("path", ["$.", "$[", "$.a[", "$..", "$[?@.a ==]", "$" + ".a" * 300])
def test_what_is_no_path_is_a_settings_error(path: str) -> None:
    """It is said when the tenant is applied, not on the first delivery."""
    with pytest.raises(PluginConfigError):
        getter(path)


def test_the_first_path_with_a_value_counts_and_empty_text_is_none() -> None:
    """Tools send empty text for fields nobody filled."""
    fields = FieldMap({"id": ("$.a", "$.b.c", "d")}, other="$.x")
    assert fields.read({"a": "", "b": {"c": 0}, "d": "late"}) == {"id": 0, "other": None}
    assert fields.read([]) == {"id": None, "other": None}
    assert fields.with_fields({"other": "$.a"}).get({"a": "z"}, "other") == "z"
    assert fields.get({}, "no such field") is None


def test_a_flat_body_is_read_by_its_members_names() -> None:
    """Most bodies are flat; what is no object has no members, and a nested path beside them is read all the same."""
    fields = FieldMap(id=("ticket_id", "id"), title="subject", deep="$.a.b", listed="$.rows[-1].n")
    assert fields.read({"ticket_id": "", "id": 7, "subject": ""}) == {"id": 7, "title": None, "deep": None, "listed": None}
    assert fields.read({"ticket_id": 0, "id": 7, "a": {"b": "x"}}) == {"id": 0, "title": None, "deep": "x", "listed": None}
    assert fields.read({"id": None, "rows": [{"n": 1}, {"n": 2}]}) == {"id": None, "title": None, "deep": None, "listed": 2}
    assert fields.read(["id"]) == fields.read("id") == dict.fromkeys(("id", "title", "deep", "listed"))
    assert fields.get({"ticket_id": "", "id": 7}, "id") == 7
    assert fields.get({"subject": ""}, "title") is None
    assert fields.get({"a": {"b": ""}}, "deep") is None


def test_a_path_may_be_as_long_as_promised_and_no_longer() -> None:
    """A bound that anybody relies on is exact."""
    longest = "$." + "a" * (MAX_PATH_LENGTH - 2)
    assert len(longest) == MAX_PATH_LENGTH == 512
    assert getter(longest)({longest[2:]: 1}) == 1
    with pytest.raises(PluginConfigError):
        getter(longest + "a")


def test_words_are_compared_without_case_or_space_and_any_other_is_unknown() -> None:
    """One field comes as `open`, `OPEN` and `Open` from the same tool."""
    words = WordMap({"Very High": Priority.URGENT}, Priority.UNKNOWN)
    assert [words(w) for w in ("Very High", " very high ", "VERY HIGH")] == [Priority.URGENT] * 3
    assert [words(w) for w in ("higher", None, 3, ["Very High"], {})] == [Priority.UNKNOWN] * 5
    own = words.with_words(tenant_words({"words": {"priority": {"Sehr hoch": "urgent"}}}, "priority", Priority))
    assert own("sehr hoch") is Priority.URGENT
    redefined = words.with_words({"very high": Priority.LOW})
    assert [redefined(w) for w in ("Very High", "very high", "VERY HIGH")] == [Priority.LOW] * 3
    with pytest.raises(PluginConfigError):
        tenant_words({"words": {"priority": {"Hoch": "very"}}}, "priority", Priority)


def test_names_are_one_however_an_admin_spells_them() -> None:
    """A template's author writes `Brief description`, the API `briefDescription`."""
    assert {squeezed(n) for n in ("briefDescription", "brief_description", "Brief description", "BRIEF-DESCRIPTION")} == {
        "briefdescription"
    }
    assert squeezed("Geëscaleerd") == "geëscaleerd"
    assert len(squeezed("x" * 1_000_000)) == 100


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        ("2026-03-02T09:40:05Z", 1_772_444_405_000_000),
        ("2026-03-02T09:40:05.123456789Z", 1_772_444_405_123_456),
        ("2026-03-02T01:40:05.971-0800", 1_772_444_405_971_000),
        ("2026-03-02 10:40:05+01:00", 1_772_444_405_000_000),
        ("2026-03-02T09:40:05", 1_772_444_405_000_000),
        ("1772444405", 1_772_444_405_000_000),
        ("1772444405123", 1_772_444_405_123_000),
        (1_772_444_405, 1_772_444_405_000_000),
        (1_772_444_405_123, 1_772_444_405_123_000),
        (1_772_444_405_123_456, 1_772_444_405_123_456),
        (1_772_444_405_123_456_789, 1_772_444_405_123_456),
        (1_772_444_405.5, 1_772_444_405_500_000),
        (" 2026-03-02T09:40:05Z\n", 1_772_444_405_000_000),
        ("123456789", 123_456_789_000_000),
        ("20260302", 1_772_409_600_000_000),
        ("17724444051234567890", 17_724_444_051_234_567),
        (1, 1_000_000),
        (99_999_999_999, 99_999_999_999_000_000),
        (100_000_000_000, 100_000_000_000_000),
        (99_999_999_999_999, 99_999_999_999_999_000),
        (100_000_000_000_000, 100_000_000_000_000),
        (99_999_999_999_999_999, 99_999_999_999_999_999),
        (100_000_000_000_000_000, 100_000_000_000_000),
    ],
)
def test_times_of_every_tool_become_microseconds(value: Any, micros: int) -> None:
    """Nanoseconds, offsets without a colon, epoch in three units: each is some tool's habit."""
    assert to_micros(value) == micros


@pytest.mark.parametrize(
    "value", [0, -1, 1e20, "0" * 21, "１７７２４４４４０５", "12345678", "soon", "", True, None, {"value": 1_772_444_405}]
)
def test_what_is_no_time_is_none(value: Any) -> None:
    """A due time of 1970 would be worse than none."""
    assert to_micros(value) is None


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers()), st.datetimes().map(str)))
def test_any_value_is_a_time_or_none(value: Any) -> None:
    """A field that should hold a time may hold anything."""
    assert isinstance(to_micros(value), (int, type(None)))


@given(json_values)
def test_any_value_becomes_text_an_id_and_tags(value: Any) -> None:
    """Admins map fields to whatever they like."""
    assert isinstance(to_text(value), str)
    assert isinstance(to_id(value), (str, type(None)))
    assert isinstance(to_tags(value), tuple)


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), ("", ""), (7, "7"), (0, "0"), (1.5, "1.5"), (True, "true"), (False, "false"), (None, ""), ({"a": 1}, ""), (["a"], "")],
)
def test_scalars_become_text_and_all_else_none(value: Any, text: str) -> None:
    """`None` or `{'a': 1}` in a subject would be our own words, not the tool's."""
    assert to_text(value) == text


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (["gate", "", None, 3, "crane 4"], ("gate", "crane 4")),
        ("gate crane", ("gate", "crane")),
        ("gate,crane, pier", ("gate", "crane", "pier")),
        ("", ()),
        (None, ()),
        ({"gate": 1}, ()),
    ],
)
def test_tags_come_as_a_list_or_as_one_text(value: Any, tags: tuple[str, ...]) -> None:
    """A list's tags are kept as they are; in a text, spaces and commas part them."""
    assert to_tags(value) == tags


def test_absent_ids_are_none_however_written() -> None:
    """Else a ticket would be assigned to person "0"."""
    assert [to_id(v) for v in ("", " ", "0", 0, None, "null", "-", True)] == [None] * 8
    assert to_id(9007199254740993) == "9007199254740993"
    assert to_id(" INC-7 ") == "INC-7"


@given(st.binary())
def test_any_bytes_are_an_object_or_no_delivery(body: bytes) -> None:
    """What is signed need not be JSON."""
    with contextlib.suppress(NotADelivery):
        assert isinstance(json_object(body), dict)


def test_a_byte_order_mark_is_passed_over() -> None:
    """Some script hosts write one before everything."""
    assert json_object(b'\xef\xbb\xbf{"id": 7}') == {"id": 7}


def test_bare_newlines_are_read_and_half_surrogates_replaced() -> None:
    """Placeholders hold raw text; and what no topic can encode must not come out of the parser."""
    document = json_object(b'{"a": "one\ntwo\t", "b": "\\ud800x"}')
    assert document["a"] == "one\ntwo\t"
    json.dumps(document, ensure_ascii=False).encode()


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"null", b'{"a":}', b"{" * 100_000, b"[" * 100_000, b'{"a": "he said "no""}'])
def test_what_is_no_object_is_no_delivery(body: bytes) -> None:
    """Each becomes a dead letter with its reason."""
    with pytest.raises(NotADelivery):
        json_object(body)
