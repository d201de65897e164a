"""Which events of a partition are finished: the tail of tickets.processed.v1, so that a repeat is skipped.

Read by a consumer without a group before the partition's first call, from the topic alone: a worker with an empty data directory
knows as much as the one before it. The same records tell which links earlier events left in doubt.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.codec import Codec, Undecodable
from schemas.events import ProcessOutcome, TicketProcessed
from schemas.hotpath_processed import decode_processed
from schemas.ids import ticket_key
from streams.doubt import PartitionDoubts
from streams.security import client_options
from streams.topics import MAX_RECORD_BYTES, PROCESSED

KEPT = 50_000


class FinishedEvents:
    """The last `kept` finished events of one partition, by event_id and injection_id. 80 bytes an event."""

    __slots__ = ("_kept", "_known", "_order")

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._order: deque[int] = deque()
        self._known: set[int] = set()

    def __len__(self) -> int:
        return len(self._order)

    def add(self, event_id: str, injection_id: str | None = None) -> None:
        """The event is finished; the oldest is forgotten when there are too many. Idempotent."""
        name = hash((event_id, injection_id))  # 64 bits: among 50 000, a false repeat once in 10^14 events
        if name in self._known:
            return
        self._known.add(name)
        self._order.append(name)
        if len(self._order) > self._kept:
            self._known.discard(self._order.popleft())

    def has(self, event_id: str, injection_id: str | None = None) -> bool:
        """Whether the event is among them."""
        return hash((event_id, injection_id)) in self._known


def take_in(event: TicketProcessed, finished: FinishedEvents, doubts: PartitionDoubts) -> None:
    """What one finished event says. One that failed may have left a write behind: its link is in doubt since then."""
    finished.add(event.event_id, event.injection_id)
    if event.target is None or event.ticket_id is None:
        return
    source_key = ticket_key(event.tenant, event.tool, event.ticket_id)
    mirrored = {call.tool for call in event.calls if call.step == "mirror"}  # an event may have several targets
    if event.outcome == ProcessOutcome.FAILED:
        for target in {event.target, *mirrored}:
            doubts.raise_link(source_key, target, event.processed_at)
    else:
        for target in mirrored:
            doubts.settle_link(source_key, target)


async def catch_up(
    brokers: str,
    partition: int,
    finished: FinishedEvents,
    doubts: PartitionDoubts,
    codec: Codec,
    security: Mapping[str, Any] | None = None,
) -> int:
    """Reads the partition's last `KEPT` records of tickets.processed.v1, to the end as of this call; answers how many.

    Bytes that are no TicketProcessed tell nothing and are passed over; UnknownFingerprint is raised.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        enable_auto_commit=False,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
        **client_options(security or {}),
    )
    await consumer.start()
    try:
        place = TopicPartition(PROCESSED.name, partition)
        first, end = (await consumer.beginning_offsets([place]))[place], (await consumer.end_offsets([place]))[place]
        start = max(first, end - KEPT)
        consumer.assign([place])
        consumer.seek(place, start)  # with no await since the assignment: aiokafka would begin to look up a position of its own
        read = 0
        while start < end:
            for record in (await consumer.getmany(place, timeout_ms=1000, max_records=2000)).get(place, []):
                start = record.offset + 1
                try:
                    take_in(decode_processed(record.value, codec), finished, doubts)
                    read += 1
                except Undecodable:
                    continue
            start = max(start, await consumer.position(place))
            await asyncio.sleep(0)  # decoding thousands must not hold up the calls of other partitions
        return read
    finally:
        await consumer.stop()
