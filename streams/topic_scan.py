"""Reads stretches of topics, whole and in order, without a group: nothing is committed, no stage notices, live traffic goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.codec import Codec, CodecError
from schemas.events import SchemaPublished
from streams import topics
from streams.broker.admin import named_errors
from streams.security import client_options

POLL_MS = 1000
SILENCE_SECONDS = 30.0

Position = tuple[str, int]
"""A topic and a partition."""


@asynccontextmanager
async def scanning(brokers: str, security: Mapping[str, Any]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer to scan with. Raises BrokerError when no broker answers."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=topics.MAX_RECORD_BYTES,
        **client_options(security),
    )
    async with named_errors(brokers):
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


async def ends_of(consumer: AIOKafkaConsumer, positions: Sequence[Position]) -> dict[Position, int]:
    """Where each partition ends now."""
    found = await consumer.end_offsets([TopicPartition(*p) for p in positions])
    return {(tp.topic, tp.partition): offset for tp, offset in found.items()}


async def offsets_at(consumer: AIOKafkaConsumer, positions: Sequence[Position], moment: int) -> dict[Position, int]:
    """The first offset of each partition whose record was written at or after `moment` (epoch microseconds); its end where none was."""
    ends = await ends_of(consumer, positions)
    found = await consumer.offsets_for_times({TopicPartition(*p): max(moment // 1000, 0) for p in positions})
    told = {(tp.topic, tp.partition): answer.offset for tp, answer in found.items() if answer is not None}
    return {position: told.get(position, end) for position, end in ends.items()}


async def each_record(consumer: AIOKafkaConsumer, source: Position, start: int, end: int, tell: Callable[[Any], None]) -> None:
    """Tells every record from start to below end. A position may pass offsets without a record: retention, compaction.

    Raises TimeoutError when the broker gives nothing more for SILENCE_SECONDS.
    """
    if start >= end:
        return
    tp = TopicPartition(*source)
    consumer.assign([tp])
    consumer.seek(tp, start)
    position = start
    while position < end:
        async with asyncio.timeout(SILENCE_SECONDS):
            while (now := await consumer.position(tp)) == position:
                for record in (await consumer.getmany(tp, timeout_ms=POLL_MS)).get(tp, ()):
                    if record.offset < end:
                        tell(record)
        position = now


async def learn_schemas(consumer: AIOKafkaConsumer, codec: Codec, ends: Mapping[Position, int], starts: Mapping[Position, int]) -> None:
    """Takes in every schema published so far; what cannot be read there is passed over."""

    def learn(record: Any) -> None:
        try:
            codec.learn(codec.decode_as(SchemaPublished, record.value).schema)
        except CodecError:
            return  # not a schema this build can read: the records that need it will say so

    for source, end in ends.items():
        await each_record(consumer, source, starts[source], end, learn)
