"""Event <-> bytes: Avro single-object encoding (0xC3 0x01, 8-byte fingerprint, body). The only room that knows both forms.

Decoding resolves the writer's schema, found by fingerprint, to ours, so an old or a newer writer is read by the rules of Avro.
An unknown fingerprint is not a fault of the record: `UnknownFingerprint` says "wait for schemas.v1", `Undecodable` says
"dead letter". No I/O but reading our own .avsc files, once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any, TypeVar, cast

import msgspec
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.events import EVENT_TYPES, Call, Decision, Event, SeenRecord, WebhookReceived

MAGIC = b"\xc3\x01"
HEADER_BYTES = 10

E = TypeVar("E", bound=msgspec.Struct)


class CodecError(ValueError):
    """Bytes that cannot be turned into an event now."""


class Undecodable(CodecError):
    """These bytes will never be an event: no header, a torn body, or bytes left over."""


class UnknownFingerprint(CodecError):
    """The writer's schema is not known here yet; its bytes may be fine. `fingerprint` is the 8 header bytes."""

    def __init__(self, fingerprint: bytes) -> None:
        super().__init__(f"schema fingerprint {fingerprint.hex()} is not known; it should be on schemas.v1")
        self.fingerprint = fingerprint


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One released form of one record: its JSON as published, and the form fastavro reads with (times stay integers)."""

    record: str
    fingerprint: bytes
    json: str
    parsed: Any


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _without_logical_types(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _without_logical_types(v) for k, v in node.items() if k != "logicalType"}
    return [_without_logical_types(v) for v in node] if isinstance(node, list) else node


def schema_version(text: str) -> SchemaVersion:
    """Reads one schema from its JSON text; raises ValueError (fastavro's own) when it is not one."""
    raw = json.loads(text)
    plain = _without_logical_types(raw)
    canonical = to_parsing_canonical_form(plain)
    return SchemaVersion(raw["name"], bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO")), text, parse_schema(plain))


@cache
def _files() -> Mapping[str, str]:
    folder = resources.files("schemas") / "avro"
    return {p.name: p.read_text(encoding="utf-8") for p in sorted(folder.iterdir(), key=lambda p: p.name) if p.name.endswith(".avsc")}


@cache
def current(record: str) -> SchemaVersion:
    """The schema this build writes for a record, by its class name."""
    return schema_version(_files()[f"{_snake(record)}.avsc"])


@cache
def released() -> tuple[SchemaVersion, ...]:
    """Every schema shipped with this build: the current ones and every released version kept beside them."""
    versions = [schema_version(text) for text in _files().values()]
    return tuple({(v.record, v.fingerprint): v for v in versions}.values())


class Codec:
    """Encodes and decodes events, and learns the schemas of other builds' writers with `learn`."""

    def __init__(self) -> None:
        self._types = {t.__name__: t for t in EVENT_TYPES}
        self._writers = {t: (MAGIC + current(t.__name__).fingerprint, current(t.__name__).parsed) for t in EVENT_TYPES}
        self._readers: dict[bytes, tuple[type[msgspec.Struct], Any, Any]] = {}
        for version in released():
            self._add(version)

    def _add(self, version: SchemaVersion) -> None:
        if (kind := self._types.get(version.record)) is not None:
            ours = current(version.record)
            reader = None if ours.fingerprint == version.fingerprint else ours.parsed
            self._readers[version.fingerprint] = (kind, version.parsed, reader)

    def learn(self, schema_json: str) -> bytes:
        """Makes a writer's schema known; returns its fingerprint. Idempotent. Raises ValueError when it is not a schema."""
        version = schema_version(schema_json)
        if version.fingerprint not in self._readers:
            self._add(version)
        return version.fingerprint

    def knows(self, fingerprint: bytes) -> bool:
        """Whether records with this fingerprint can be decoded."""
        return fingerprint in self._readers

    def encode(self, event: Event) -> bytes:
        """The event in single-object encoding."""
        header, schema = self._writers[type(event)]
        out = BytesIO()
        out.write(header)
        schemaless_writer(out, schema, msgspec.to_builtins(event, builtin_types=(bytes,)))
        return out.getvalue()

    def decode(self, data: bytes | None) -> Event:
        """The event in these bytes, whichever it is. Raises Undecodable or UnknownFingerprint."""
        kind, fields = self._read(data)
        return cast(Event, _BUILDERS.get(kind, _build)(kind, fields))

    def decode_as(self, kind: type[E], data: bytes | None) -> E:
        """As `decode`, and Undecodable when it is another kind of event."""
        event = self.decode(data)
        if not isinstance(event, kind):
            raise Undecodable(f"expected a {kind.__name__}, found a {type(event).__name__}")
        return event

    def _read(self, data: bytes | None) -> tuple[type[msgspec.Struct], dict[str, Any]]:
        if data is None or len(data) < HEADER_BYTES or data[:2] != MAGIC:
            raise Undecodable("not in Avro single-object encoding")
        try:
            kind, writer, reader = self._readers[data[2:HEADER_BYTES]]
        except KeyError:
            raise UnknownFingerprint(data[2:HEADER_BYTES]) from None
        body = BytesIO(data)
        body.seek(HEADER_BYTES)
        try:
            fields = schemaless_reader(body, writer, reader)
        except Exception as exc:
            raise Undecodable(f"torn {kind.__name__}: {type(exc).__name__}") from exc
        if body.tell() != len(data):
            raise Undecodable(f"{len(data) - body.tell()} bytes after the {kind.__name__}")
        return kind, cast("dict[str, Any]", fields)


def _build(kind: type[msgspec.Struct], fields: dict[str, Any]) -> msgspec.Struct:
    return kind(**fields)


def _build_routed(kind: type[msgspec.Struct], fields: dict[str, Any]) -> msgspec.Struct:
    fields["decision"] = Decision(**fields["decision"])
    fields["also"] = [Decision(**decision) for decision in fields["also"]]
    return kind(**fields)


def _build_processed(kind: type[msgspec.Struct], fields: dict[str, Any]) -> msgspec.Struct:
    fields["calls"] = [Call(**call) for call in fields["calls"]]
    return kind(**fields)


def _build_seen(kind: type[msgspec.Struct], fields: dict[str, Any]) -> msgspec.Struct:
    fields["records"] = [SeenRecord(**record) for record in fields["records"]]
    return kind(**fields)


_BUILDERS = {
    t: b
    for t in EVENT_TYPES
    for n, b in {"TicketRouted": _build_routed, "TicketProcessed": _build_processed, "BatchSeen": _build_seen}.items()
    if t.__name__ == n
}

__all__ = [
    "HEADER_BYTES",
    "MAGIC",
    "Codec",
    "CodecError",
    "SchemaVersion",
    "Undecodable",
    "UnknownFingerprint",
    "WebhookReceived",
    "current",
    "released",
    "schema_version",
]
