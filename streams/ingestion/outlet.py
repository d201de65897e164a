"""The door's way to Kafka: one idempotent producer, made anew when it is broken, and the partition of each key.

Everything private that ingestion needs of aiokafka (0.14) is in this file: `_sender` and `_message_accumulator`, because its
`stop()` waits for batches that a dead broker will never acknowledge.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import murmur2

from streams.ingestion.spool import Record

log = logging.getLogger("ai_agents.ingestion")

BATCH_BYTES = 256 << 10
RECORD_OVERHEAD = 64
REFUSED_FOR_SIZE = (MessageSizeTooLargeError, RecordListTooLargeError)
"""What a broker answers when a record is over the topic's max.message.bytes; it also breaks the partition's sequence."""

Lane = tuple[str, int]
"""A topic and a partition."""


@lru_cache(maxsize=1 << 16)
def _hash(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition Kafka's default partitioner gives this key."""
    return _hash(key) % partitions


class Outlet:
    """Sends batches; `connected` says whether it can. Not for use from several tasks at once."""

    def __init__(
        self, brokers: str, topics: Sequence[str], security: Mapping[str, Any] | None = None, client_id: str = "ai-agents-door"
    ) -> None:
        self._settings: dict[str, Any] = {
            "bootstrap_servers": brokers,
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 0,
            "max_batch_size": BATCH_BYTES,
            "request_timeout_ms": 15_000,
            **(security or {}),
        }
        self._topics = tuple(topics)
        self._partitions: dict[str, int] = {}
        self._producer: AIOKafkaProducer | None = None
        self.last_error = ""

    @property
    def connected(self) -> bool:
        """Whether a producer is up and every topic's partitions are known."""
        return self._producer is not None

    def lane(self, record: Record) -> Lane:
        """Where the record belongs; only once connected."""
        topic = record.topic
        return topic, _hash(record.key) % self._partitions[topic]

    async def connect(self) -> None:
        """Returns when connected, however long the broker is away."""
        delay = 0.1
        while self._producer is None:
            producer = AIOKafkaProducer(**self._settings)
            try:
                await producer.start()
                for topic in self._topics:
                    self._partitions[topic] = len(await producer.partitions_for(topic))
            except (KafkaError, OSError) as exc:
                await _discard(producer)
                self._trouble(f"no broker yet: {type(exc).__name__}: {exc}")
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
            except asyncio.CancelledError:
                await _discard(producer)
                raise
            else:
                self._producer, self.last_error = producer, ""

    def _trouble(self, text: str) -> None:
        if text != self.last_error:
            log.warning(text)
        self.last_error = text

    async def send(self, lane: Lane, records: Sequence[Record]) -> asyncio.Future[Any]:
        """Hands over one batch; the future ends with the broker's ack. The caller keeps to BATCH_BYTES unless it is one record.

        aiokafka retries what can be retried for as long as it takes; an error means this producer is to be renewed.
        """
        producer = self._producer
        if producer is None:
            raise KafkaError("not connected")
        batch = producer.create_batch()
        for record in records:
            if batch.append(timestamp=record.timestamp_ms, key=record.key, value=record.value) is None:
                raise AssertionError("a batch over its bound; the caller counts")
        future: asyncio.Future[Any] = await producer.send_batch(batch, lane[0], partition=lane[1])
        return future

    def give_up(self, why: str) -> None:
        """Fails everything handed over and not acknowledged; the producer is to be renewed."""
        if self._producer is not None:
            self._producer._message_accumulator.fail_all(KafkaError(why))

    async def renew(self, why: str) -> None:
        """Replaces a producer that failed; what it still held counts as failed. Returns when connected again."""
        self._trouble(f"producer renewed: {why}")
        broken, self._producer = self._producer, None
        if broken is not None:
            await _discard(broken)
        await self.connect()

    async def close(self, timeout: float) -> None:
        """Waits up to `timeout` seconds for what was handed over, then disconnects."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(producer.flush(), timeout)
            await _discard(producer)


async def _discard(producer: AIOKafkaProducer) -> None:
    """Ends a producer without waiting for its batches."""
    producer._closed = True
    producer._message_accumulator.fail_all(KafkaError("the producer was given up"))
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    try:
        await asyncio.wait_for(producer.client.close(), 5)
        if sender is not None:
            await asyncio.wait([sender], timeout=5)
    except (TimeoutError, KafkaError, OSError) as exc:
        log.warning("a producer did not close cleanly: %s", type(exc).__name__)


def error_of(future: asyncio.Future[Any]) -> BaseException | None:
    """What became of a batch: None when it was acknowledged. Also marks the error as seen, for asyncio's sake."""
    return asyncio.CancelledError() if future.cancelled() else future.exception()
