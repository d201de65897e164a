"""What materialize does with one partition's records, callable without Kafka: read, set aside what cannot become rows, write.

A dead letter is acknowledged before the position passes its record, so nothing is lost between the two; read again after a crash,
the record's letter is sent again under the same identity and counts once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from analytics.materializer import Prepared, Refusal, prepare
from analytics.store import Applied
from schemas.codec import Codec, Undecodable, UnknownFingerprint
from schemas.events import Event, FailureReason, ProcessingFailed, Stage
from schemas.hotpath_processed import PROCESSED_HEADER, decode_processed
from streams import topics
from streams.stage import Record

MAX_ORIGINAL_BYTES = topics.MAX_RECORD_BYTES - (64 << 10)
"""A larger original is not carried: the letter's origin points at it."""

SOURCES = (topics.PROCESSED.name, topics.DEAD_LETTER.name, topics.COUNTS.name, topics.SEEN.name)

SendLetters = Callable[[Sequence[tuple[Record, ProcessingFailed]]], Awaitable[None]]
"""Sends dead letters for these records; returns when all are acknowledged."""
Apply = Callable[[Prepared], Awaitable[Applied]]


@dataclass(frozen=True, slots=True)
class Batchful:
    """A batch as far as it can be read. `waiting` is set when a record's schema is unknown: the rest waits for it."""

    prepared: Prepared
    undecodable: tuple[Refusal, ...]
    waiting: UnknownFingerprint | None


def decode(value: bytes | None, codec: Codec) -> Event:
    """The event in a record of any of the sources. Raises Undecodable or UnknownFingerprint."""
    if value is not None and value.startswith(PROCESSED_HEADER):
        return decode_processed(value, codec)
    return codec.decode(value)


def read_batch(topic: str, partition: int, records: Sequence[Record], codec: Codec, from_offset: int) -> Batchful:
    """Decodes the records from `from_offset` on and makes their rows, up to the first whose schema is unknown."""
    events: list[tuple[int, Event | None]] = []
    undecodable: list[Refusal] = []
    waiting = None
    next_offset = from_offset
    for record in records:
        if record.offset < from_offset:
            continue
        try:
            events.append((record.offset, decode(record.value, codec)))
        except UnknownFingerprint as exc:
            waiting = exc
            break
        except Undecodable as exc:
            undecodable.append(Refusal(record.offset, str(exc)))
            events.append((record.offset, None))
        next_offset = record.offset + 1
    return Batchful(prepare(topic, partition, events, next_offset), tuple(undecodable), waiting)


def dead_letter(
    topic: str, partition: int, record: Record, reason: FailureReason, detail: str, event: Event | None, now: int
) -> ProcessingFailed:
    """The letter for a record that cannot become rows. It can always be stored itself: ids the tables would refuse are left out."""
    value = record.value or b""
    bare = ProcessingFailed(
        stage=Stage.MATERIALIZE,
        reason=reason,
        detail=detail,
        failed_at=now,
        origin_topic=topic,
        origin_partition=partition,
        origin_offset=record.offset,
        origin_key=record.key,
        original_size=len(value),
        original=value if len(value) <= MAX_ORIGINAL_BYTES else None,
    )
    ids = {name: getattr(event, name, None) for name in ("event_id", "injection_id", "tenant", "tool", "ticket_id", "received_at")}
    letter = msgspec.structs.replace(bare, **ids)
    return letter if not prepare(topic, partition, [(0, letter)], 1).refused else bare


async def materialize_batch(
    topic: str,
    partition: int,
    records: Sequence[Record],
    *,
    codec: Codec,
    from_offset: int,
    apply: Apply,
    send: SendLetters,
    now: Callable[[], int],
) -> Applied:
    """Makes a batch's rows durable, with the position; every record of it is then a row, known already, or a dead letter.

    `from_offset` is where the store stands. Raises UnknownFingerprint after writing what stands before that record; given the
    same batch again, it goes on there. What `apply` and `send` raise passes through, and nothing is lost by trying again.
    """
    read = read_batch(topic, partition, records, codec, from_offset)
    prepared = read.prepared
    if not prepared.records:
        if read.waiting is not None:
            raise read.waiting
        return Applied(from_offset)
    by_offset = {record.offset: record for record in records}
    events = dict(prepared.records)

    def letters(refusals: Sequence[Refusal], reason: FailureReason) -> list[tuple[Record, ProcessingFailed]]:
        return [
            (record := by_offset[r.offset], dead_letter(topic, partition, record, reason, r.detail, events[r.offset], now()))
            for r in refusals
        ]

    aside = letters(read.undecodable, FailureReason.UNDECODABLE) + letters(prepared.refused, FailureReason.STORE_REFUSED)
    if aside:
        await send(aside)
    while (applied := await apply(prepared)).refused:
        await send(letters(applied.refused, FailureReason.STORE_REFUSED))
        prepared = prepared.without({refusal.offset for refusal in applied.refused})
    if read.waiting is not None:
        raise read.waiting
    return applied
