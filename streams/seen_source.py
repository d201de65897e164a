"""tickets.seen.v1 read from Kafka, one partition at a time, for the dedup cache to catch up. No group, nothing committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.security import client_options
from streams.topics import MAX_RECORD_BYTES, SEEN

POLL_MS = 1000
MAX_RECORDS = 500


class KafkaSeenSource:
    """One partition of the topic, over a consumer of its own; made by `seen_source`. Raises KafkaError when the broker is away."""

    def __init__(self, consumer: AIOKafkaConsumer, partition: int, on_read: Callable[[], None]) -> None:
        self._consumer = consumer
        self._on_read = on_read
        self._place = TopicPartition(SEEN.name, partition)
        consumer.assign([self._place])

    async def bounds(self) -> tuple[int, int]:
        begin = (await self._consumer.beginning_offsets([self._place]))[self._place]
        end = (await self._consumer.end_offsets([self._place]))[self._place]
        return begin, end

    async def offset_at(self, time_us: int) -> int | None:
        found = (await self._consumer.offsets_for_times({self._place: max(0, time_us // 1000)}))[self._place]
        return found.offset if found is not None else None

    async def read(self, start: int, end: int) -> AsyncIterator[Sequence[tuple[int, bytes | None]]]:
        if start >= end:
            return
        self._consumer.seek(self._place, start)
        while start < end:
            records = (await self._consumer.getmany(self._place, timeout_ms=POLL_MS, max_records=MAX_RECORDS)).get(self._place, [])
            wanted = [(r.offset, r.value) for r in records if r.offset < end]
            if wanted:
                self._on_read()
                yield wanted
            start = max(start, await self._consumer.position(self._place))
            await asyncio.sleep(0)  # reading back a day must not hold up the batches of other partitions


@asynccontextmanager
async def seen_source(
    brokers: str, partition: int, on_read: Callable[[], None], security: Mapping[str, Any] | None = None
) -> AsyncIterator[KafkaSeenSource]:
    """A source for one partition, connected while the context lasts; `on_read` hears of each chunk that arrives."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
        **client_options(security or {}),
    )
    await consumer.start()
    try:
        yield KafkaSeenSource(consumer, partition, on_read)
    finally:
        await consumer.stop()
