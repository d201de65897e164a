"""The codec: what goes in comes out, what is foreign waits, what is broken is named and never guessed at."""

from __future__ import annotations

import contextlib
import json
import types
import typing
from io import BytesIO
from typing import Any

import msgspec
import pytest
from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from schemas import events, ticket
from schemas.codec import HEADER_BYTES, MAGIC, Codec, Undecodable, UnknownFingerprint, current, schema_version
from schemas.events import EVENT_TYPES, IngestionCounts, TenantConfigured, TicketRouted
from tests.schemas.avro_values import values

CODEC = Codec()


def an_event(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    return values(json.loads(current(kind.__name__).json)).map(lambda data: msgspec.convert(data, kind, builtin_types=(bytes,)))


ANY_EVENT = st.sampled_from(EVENT_TYPES).flatmap(an_event)
ONE = TenantConfigured(tenant="acme", version=1, effective_at=2, applied_at=1, config="{}")


@given(ANY_EVENT)
def test_every_event_comes_back_as_it_was(event: events.Event) -> None:
    assert CODEC.decode(CODEC.encode(event)) == event


@given(ANY_EVENT, st.data())
def test_torn_bytes_and_bytes_left_over_are_never_an_event(event: events.Event, data: st.DataObject) -> None:
    """fastavro itself takes what follows a record for nothing; here it means that something is wrong."""
    whole = CODEC.encode(event)
    with pytest.raises(Undecodable):
        CODEC.decode(whole + b"\x00")
    with pytest.raises(Undecodable):
        CODEC.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=200), st.sampled_from([b"", MAGIC, MAGIC + current("TicketRouted").fingerprint]))
def test_any_bytes_are_an_event_or_one_of_two_errors(noise: bytes, start: bytes) -> None:
    """Nothing else may come out of the codec, whatever is on a topic."""
    with contextlib.suppress(Undecodable, UnknownFingerprint):
        CODEC.decode(start + noise)


@pytest.mark.parametrize("data", [None, b"", b"{}", MAGIC, b"\x01\xc3" + bytes(30)])
def test_what_has_no_single_object_header_is_undecodable(data: bytes | None) -> None:
    with pytest.raises(Undecodable):
        CODEC.decode(data)


def test_an_unknown_fingerprint_says_which_and_is_read_once_it_is_learnt() -> None:
    """The record of a newer writer is fine; only its schema is not known here yet."""
    newer = json.loads(current("TenantConfigured").json)
    newer["fields"].append({"name": "note", "type": ["null", "string"], "default": None, "doc": "new"})
    text = json.dumps(newer)
    record = MAGIC + schema_version(text).fingerprint + CODEC.encode(ONE)[HEADER_BYTES:] + b"\x02\x0ahello"
    codec = Codec()
    with pytest.raises(UnknownFingerprint) as caught:
        codec.decode(record)
    assert caught.value.fingerprint == schema_version(text).fingerprint
    assert not codec.knows(caught.value.fingerprint)
    assert codec.learn(text) == codec.learn(text) == caught.value.fingerprint
    assert codec.decode(record) == ONE


def test_a_new_word_of_a_newer_writer_reads_as_unknown() -> None:
    """Avro's enum default: an old reader meets a new reason and goes on."""
    newer = json.loads(current("ProcessingFailed").json)
    reason = next(field for field in newer["fields"] if field["name"] == "reason")
    reason["type"]["symbols"].append("solar_flare")
    version = schema_version(json.dumps(newer))
    event = events.ProcessingFailed(
        stage="route", reason="undecodable", detail="", failed_at=0, origin_topic="t", origin_partition=0, origin_offset=0, original_size=0
    )
    out = BytesIO()
    schemaless_writer(out, version.parsed, {**msgspec.to_builtins(event), "reason": "solar_flare"})
    codec = Codec()
    codec.learn(version.json)
    decoded = codec.decode(MAGIC + version.fingerprint + out.getvalue())
    assert isinstance(decoded, events.ProcessingFailed)
    assert decoded.reason == "unknown"


def test_the_wrong_kind_of_event_is_undecodable_for_who_expects_another() -> None:
    with pytest.raises(Undecodable, match="expected a TicketRouted, found a TenantConfigured"):
        CODEC.decode_as(TicketRouted, CODEC.encode(ONE))


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_the_header_is_the_specified_fingerprint_little_endian(kind: type[msgspec.Struct]) -> None:
    """Readers in other languages find the schema by it: CRC-64-AVRO of the parsing canonical form, low byte first."""
    version = current(kind.__name__)
    assert version.fingerprint == _crc64(_canonical(json.loads(version.json)).encode()).to_bytes(8, "little")


def test_the_header_stands_before_every_record() -> None:
    assert CODEC.encode(ONE)[:HEADER_BYTES] == b"\xc3\x01" + current("TenantConfigured").fingerprint


def _crc64(data: bytes) -> int:
    """The Rabin fingerprint of the Avro specification, bit by bit."""
    empty = 0xC15D213AA4D7A795
    result = empty
    for byte in data:
        result ^= byte
        for _ in range(8):
            result = (result >> 1) ^ (empty if result & 1 else 0)
    return result


def _canonical(schema: Any, namespace: str = "") -> str:
    """The parsing canonical form of the Avro specification, for the kinds of schema used here."""
    if isinstance(schema, str):
        return json.dumps(schema)
    if isinstance(schema, list):
        return "[" + ",".join(_canonical(branch, namespace) for branch in schema) + "]"
    namespace = schema.get("namespace", namespace)
    kind = schema["type"]
    if kind in {"record", "enum"}:
        name = json.dumps(schema["name"] if "." in schema["name"] or not namespace else f"{namespace}.{schema['name']}")
        if kind == "enum":
            return f'{{"name":{name},"type":"enum","symbols":{json.dumps(schema["symbols"], separators=(",", ":"))}}}'
        fields = ",".join(f'{{"name":{json.dumps(f["name"])},"type":{_canonical(f["type"], namespace)}}}' for f in schema["fields"])
        return f'{{"name":{name},"type":"record","fields":[{fields}]}}'
    if kind == "array":
        return f'{{"type":"array","items":{_canonical(schema["items"], namespace)}}}'
    if kind == "map":
        return f'{{"type":"map","values":{_canonical(schema["values"], namespace)}}}'
    return _canonical(kind, namespace)


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_class_and_schema_agree_field_by_field(kind: type[msgspec.Struct]) -> None:
    """The meaning of a field stands in its .avsc; the class must have the same fields, in the same order, of the same types."""
    _agree(kind, json.loads(current(kind.__name__).json))


def _agree(kind: type[msgspec.Struct], schema: dict[str, Any]) -> None:
    hints = typing.get_type_hints(kind)
    defaults = {field.name: field for field in msgspec.structs.fields(kind)}
    assert schema["doc"]
    assert list(hints) == [field["name"] for field in schema["fields"]]
    for field in schema["fields"]:
        name = field["name"]
        assert field["doc"], f"{kind.__name__}.{name} has no doc"
        _agree_type(hints[name], field["type"], f"{kind.__name__}.{name}")
        if "default" in field:
            known = defaults[name]
            ours = known.default if known.default is not msgspec.NODEFAULT else known.default_factory()  # type: ignore[operator]  # one of both is set
            assert ours == field["default"], f"{kind.__name__}.{name}"
            first = field["type"][0] if isinstance(field["type"], list) else None
            assert first in {None, "null"}, f"{kind.__name__}.{name}: the default's branch comes first"


def _agree_type(hint: Any, schema: Any, where: str) -> None:
    if isinstance(schema, list):
        assert schema[0] == "null", where
        assert isinstance(hint, types.UnionType), where
        inner = [arg for arg in hint.__args__ if arg is not type(None)]
        assert len(inner) == 1, where
        _agree_type(inner[0], schema[1], where)
    elif isinstance(schema, dict) and schema["type"] == "record":
        _agree(hint, schema)
    elif isinstance(schema, dict) and schema["type"] == "array":
        assert typing.get_origin(hint) is list, where
        _agree_type(hint.__args__[0], schema["items"], where)
    elif isinstance(schema, dict) and schema["type"] == "map":
        assert typing.get_origin(hint) is dict, where
        assert hint.__args__[0] is str, where
        _agree_type(hint.__args__[1], schema["values"], where)
    elif isinstance(schema, dict) and schema["type"] == "enum":
        assert hint is str, where
        words = getattr(events, schema["name"], None) or getattr(ticket, schema["name"], None) or _ENUMS[schema["name"]]
        assert [str(word) for word in words] == schema["symbols"], where
        assert schema["default"] in schema["symbols"], where
    elif isinstance(schema, dict):
        assert schema.get("logicalType") in {None, "timestamp-micros"}, where
        assert hint is int, where
    elif "." in schema:
        assert hint is getattr(events, schema.rpartition(".")[2]), where  # a record met before, by its full name
    else:
        assert hint is {"string": str, "bytes": bytes, "boolean": bool, "int": int, "long": int}[schema], where


_ENUMS = {"SeenScope": events.DedupScope}


def test_a_count_survives_at_the_edges_of_a_long() -> None:
    event = IngestionCounts(
        tenant="a", tool="b", instance="0", window_start=(1 << 63) - 1, window_us=-(1 << 63), accepted=0, spooled=0, refused={"": -1}
    )
    assert CODEC.decode(CODEC.encode(event)) == event
