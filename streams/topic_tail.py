"""Reads the last records of a topic for a person: decoded where that is possible, named as undecodable where it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.codec import Codec, CodecError, UnknownFingerprint
from schemas.events import Event, SchemaPublished
from streams.broker.admin import named_errors, offsets
from streams.broker.errors import NoSuchTopic
from streams.security import client_options
from streams.topics import SCHEMAS

_POLL_MS = 500
_SHOWN_BYTES = 2000


@dataclass(frozen=True, slots=True)
class TailedRecord:
    """One record as a person wants to see it. `timestamp` in epoch milliseconds, as Kafka keeps it; `event` None: see `problem`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str | None
    event: Event | None
    problem: str = ""


async def tail(
    brokers: str,
    topic: str,
    *,
    records: int,
    partition: int | None = None,
    start: int | None = None,
    follow: bool = False,
    security: Mapping[str, Any] | None = None,
) -> AsyncIterator[TailedRecord]:
    """The last `records` of a topic, oldest first, or those from offset `start` on; then, with `follow`, each new one for ever.

    Reads without a group, so nothing is committed and no stage notices. Raises NoSuchTopic, and
    BrokerError when no broker answers.
    """
    begins, ends = await offsets(brokers, [topic], security)
    wanted = {TopicPartition(t, p): (begins[t, p], end) for (t, p), end in ends.items() if partition in (None, p)}
    if not wanted:
        raise NoSuchTopic(f"there is no topic {topic}" if not ends else f"topic {topic} has no partition {partition}")
    first = {tp: max(begin, end - records) if start is None else min(max(begin, start), end) for tp, (begin, end) in wanted.items()}
    codec = Codec()
    async with named_errors(brokers):
        consumer = AIOKafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False, **client_options(security or {}))
        try:
            await consumer.start()
            consumer.assign(list(wanted))
            for tp, offset in first.items():
                consumer.seek(tp, offset)
            gathered: list[Any] = []
            while any([await consumer.position(tp) < end for tp, (_, end) in wanted.items()]):
                for batch in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                    gathered.extend(batch)
            gathered.sort(key=lambda r: (r.timestamp, r.partition, r.offset))
            await _learn_missing(brokers, codec, gathered, security)
            for record in gathered[-records:] if start is None else gathered[:records]:
                yield _shown(codec, record)
            while follow:
                for batch in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                    await _learn_missing(brokers, codec, batch, security)
                    for record in batch:
                        yield _shown(codec, record)
        finally:
            await asyncio.sleep(0)  # aiokafka's stop() fails when its coordinator has not had a turn yet, as after an empty topic
            await consumer.stop()


async def _learn_missing(brokers: str, codec: Codec, records: list[Any], security: Mapping[str, Any] | None) -> None:
    """Reads schemas.v1 when a record names a schema that this build does not ship."""
    if not any(_fingerprint_unknown(codec, r.value) for r in records):
        return
    _, ends = await offsets(brokers, [SCHEMAS.name], security)
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False, **client_options(security or {}))
    try:
        await consumer.start()
        partitions = {TopicPartition(t, p): end for (t, p), end in ends.items()}
        consumer.assign(list(partitions))
        await consumer.seek_to_beginning()
        while any([await consumer.position(tp) < end for tp, end in partitions.items()]):
            for batch in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in batch:
                    published = _shown(codec, record).event
                    if isinstance(published, SchemaPublished):
                        codec.learn(published.schema)
    finally:
        await consumer.stop()


def _fingerprint_unknown(codec: Codec, value: bytes | None) -> bool:
    try:
        codec.decode(value)
    except UnknownFingerprint:
        return True
    except CodecError:
        return False
    return False


def _shown(codec: Codec, record: Any) -> TailedRecord:
    key = None if record.key is None else record.key.decode(errors="replace")
    event, problem = None, ""
    try:
        event = codec.decode(record.value)
    except CodecError as exc:
        problem = str(exc)
    return TailedRecord(record.topic, record.partition, record.offset, record.timestamp, key, event, problem)


def readable(event: Event, codec: Codec | None = None) -> dict[str, Any]:
    """An event's fields with its bytes made readable: an encoded event inside as its fields, text as text, the rest as hex."""
    decoder = codec or Codec()
    fields: dict[str, Any] = msgspec.to_builtins(event, builtin_types=(bytes,))
    return {name: _readable(value, decoder) for name, value in fields.items()}


def _readable(value: Any, codec: Codec) -> Any:
    if isinstance(value, dict):
        return {k: _readable(v, codec) for k, v in value.items()}
    if isinstance(value, list):
        return [_readable(v, codec) for v in value]
    if not isinstance(value, bytes):
        return value
    try:
        return readable(codec.decode(value), codec)
    except CodecError:
        pass  # not an event: then it is text or plain bytes
    shown = value[:_SHOWN_BYTES]
    try:
        text = shown.decode() if len(value) <= _SHOWN_BYTES else shown.decode(errors="ignore")
    except UnicodeDecodeError:
        return shown.hex()
    return text if len(value) <= _SHOWN_BYTES else f"{text}… ({len(value)} bytes)"
