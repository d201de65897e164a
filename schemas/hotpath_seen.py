"""BatchSeen by hand: written in the hot path, read whole when a partition is caught up, and searched without reading it. Pure.

Equal to what `Codec` does; a record in another writer's schema, or in a shape no writer of ours makes, goes through the Codec.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from schemas.codec import HEADER_BYTES, MAGIC, Codec, Undecodable, current
from schemas.events import BatchSeen, DedupScope, SeenOutcome
from schemas.hotpath import decode_long, encode_long

_WIDE = 1 << 62
SEEN_HEADER = MAGIC + current(BatchSeen.__name__).fingerprint

_OUTCOMES = tuple(SeenOutcome)
_OUTCOME_BYTES: dict[str, bytes] = {o.value: encode_long(i) for i, o in enumerate(_OUTCOMES)}
_REPEATED = {_OUTCOME_BYTES[SeenOutcome.DUPLICATE], _OUTCOME_BYTES[SeenOutcome.REPEAT]}
_SCOPES = tuple(DedupScope)
_SCOPE_BYTES: dict[str, bytes] = {s.value: encode_long(i) for i, s in enumerate(_SCOPES)}

_LONG = rb"([\x80-\xff]{0,9}[\x00-\x7f])"
_ID = rb"(?:\x20(.{16})|\x00)"
_REST = rb"([\x00\x02])" + _LONG + rb"([\x00-\x0c])(?:\x00|\x02\x20(.{16}))"
_SEEN_RECORD = re.compile(_LONG + _ID + _ID + _REST, re.DOTALL)
_SEEN_RECORD_FROM_ID = re.compile(rb"()\x20(.{16})\x20(.{16})" + _REST, re.DOTALL)


class SeenPart(NamedTuple):
    """One SeenRecord's fields as they stand in a BatchSeen; numbers still encoded. Absent ids are None."""

    offset_part: bytes
    event_id: bytes | None
    dedup_key: bytes | None
    scope_byte: bytes
    received_at_part: bytes
    outcome_byte: bytes
    original: bytes | None

    @property
    def offset(self) -> int:
        return decode_long(self.offset_part, 0)[0]

    @property
    def received_at(self) -> int:
        return decode_long(self.received_at_part, 0)[0]

    @property
    def outcome(self) -> SeenOutcome:
        return _OUTCOMES[self.outcome_byte[0] >> 1]

    @property
    def repeated(self) -> bool:
        """Whether it was a duplicate or a repeat."""
        return self.outcome_byte in _REPEATED


BODY_SCOPE = _SCOPE_BYTES["body"]


def encode_seen_record(
    offset: int, event_id: bytes, dedup_key: bytes, scope: str, received_at_part: bytes, outcome: str, original: bytes | None = None
) -> bytes:
    """One SeenRecord's part of a BatchSeen; ids are 16 bytes, or empty when the record could not be decoded."""
    return b"".join(
        (
            encode_long(offset),
            b"\x20" + event_id if event_id else b"\x00",
            b"\x20" + dedup_key if dedup_key else b"\x00",
            _SCOPE_BYTES[scope],
            received_at_part,
            _OUTCOME_BYTES[outcome],
            b"\x00" if original is None else b"\x02\x20" + original,
        )
    )


def encode_batch_seen(first_offset: int, next_offset: int, parts: list[bytes]) -> bytes:
    """A BatchSeen of these SeenRecords, each already encoded."""
    count = encode_long(len(parts)) if parts else b""
    return b"".join((SEEN_HEADER, encode_long(first_offset), encode_long(next_offset), count, *parts, b"\x00"))


def decode_batch_seen(data: bytes, codec: Codec) -> tuple[int, int, list[SeenPart]]:
    """(first offset, next offset, records) of a BatchSeen. Raises Undecodable or UnknownFingerprint, as the Codec does."""
    if data[:HEADER_BYTES] != SEEN_HEADER:
        data = codec.encode(codec.decode_as(BatchSeen, data))
    try:
        first, at = decode_long(data, HEADER_BYTES)
        after, at = decode_long(data, at)
        count, at = decode_long(data, at)
    except IndexError:
        raise Undecodable("torn BatchSeen") from None
    if not 0 <= first <= after < _WIDE:
        raise Undecodable("the offsets of a BatchSeen make no sense")
    parts: list[SeenPart] = []
    for found in _SEEN_RECORD.finditer(data, at):
        if found.start() != at or len(parts) == count:
            break
        parts.append(SeenPart(*found.groups()))
        at = found.end()
    if len(parts) != count or data[at:] != (b"\x00" if count else b""):
        return _slowly(codec.decode_as(BatchSeen, data))
    return first, after, parts


def _slowly(event: BatchSeen) -> tuple[int, int, list[SeenPart]]:
    """A BatchSeen in a shape no writer of ours makes: several blocks, or ids of another length, which take part in nothing."""
    parts = [
        SeenPart(
            encode_long(r.offset),
            r.event_id if len(r.event_id) == 16 else None,
            r.dedup_key if len(r.dedup_key) == 16 else None,
            _SCOPE_BYTES[r.scope],
            encode_long(r.received_at),
            _OUTCOME_BYTES[r.outcome],
            r.original,
        )
        for r in event.records
    ]
    return event.first_offset, event.next_offset, parts


def newest_received_at(parts: Iterable[SeenPart]) -> int:
    """The latest received_at among the records that could be decoded; 0 without one."""
    times = (part.received_at_part for part in parts if part.event_id)
    newest = max(times, key=lambda part: (len(part), part[::-1]), default=b"\x00")  # compared as encoded: high bits are last
    return min(decode_long(newest, 0)[0], _WIDE)


def find_seen_by_event(data: bytes, event_id: bytes) -> Iterator[SeenPart]:
    """The records of a BatchSeen with this event_id, without decoding the others. Their `offset_part` is empty."""
    return _search(data, b"\x20" + event_id + b"\x20", 0)


def find_seen_by_key(data: bytes, beginning: bytes) -> Iterator[SeenPart]:
    """The records of a BatchSeen whose dedup_key begins so, likewise."""
    return _search(data, b"\x20" + beginning, 17)


def _search(data: bytes, wanted: bytes, into: int) -> Iterator[SeenPart]:
    at = data.find(wanted)
    while at >= 0:
        if at >= into and (found := _SEEN_RECORD_FROM_ID.match(data, at - into)):
            yield SeenPart(*found.groups())
        at = data.find(wanted, at + 1)
