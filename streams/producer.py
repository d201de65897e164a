"""Sending to topics so that nothing is lost and order per partition holds: one idempotent producer, whole batches, every ack awaited.

aiokafka retries for ever while the broker is away (idempotence never expires a batch). An error it gives up on means the
partition's sequence is broken: the producer is made anew. A record the broker refuses for its size is told apart, so that one
oversized record hurts nobody after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from streams.topics import MAX_RECORD_BYTES

BATCH_BYTES = 256 << 10
LINGER_MS = 5
"""From one request to the next at the least: the first of a thin stream goes at once, and those after it share requests."""


class Outgoing(msgspec.Struct, frozen=True):
    """A record to send, to a partition the sender chose."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


class RecordRefused(Exception):
    """The broker, or the size check before it, refuses this record for good; `outgoing` is the record."""

    def __init__(self, outgoing: Outgoing, why: str) -> None:
        super().__init__(f"{outgoing.topic}[{outgoing.partition}] refuses a record of {len(outgoing.value)} bytes: {why}")
        self.outgoing = outgoing


class StageProducer:
    """The producer of one process. `send` answers offsets in the order given once all are acknowledged (acks=all)."""

    def __init__(self, brokers: str, security: Mapping[str, Any] | None = None, client_id: str = "ai-agents") -> None:
        self._settings: dict[str, Any] = {
            "bootstrap_servers": brokers,
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": LINGER_MS,
            "max_batch_size": BATCH_BYTES,
            "max_request_size": MAX_RECORD_BYTES,
            "compression_type": None,
            **(security or {}),
        }
        self._producer: AIOKafkaProducer | None = None
        self._renewing = asyncio.Lock()

    async def start(self) -> None:
        """Connects; waits for the broker."""
        self._producer = AIOKafkaProducer(**self._settings)
        await self._producer.start()

    async def stop(self) -> None:
        """Sends what is buffered and disconnects."""
        if self._producer is not None:
            await self._producer.stop()

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has."""
        return len(await self._connected().partitions_for(topic))

    async def send(self, records: Sequence[Outgoing]) -> list[int]:
        """The records' offsets, once the broker has them all; order within a partition is kept.

        Raises RecordRefused for the first record that is too large for its topic (the others may be stored all the same), and
        KafkaError when the broker refuses for good; what was sent may then be sent again.
        """
        return await (await self.ship(records))

    async def ship(self, records: Sequence[Outgoing]) -> asyncio.Task[list[int]]:
        """Hands the records over in order, and answers the task that waits for their acknowledgement, as `send` does."""
        for record in records:
            if len(record.value) + len(record.key or b"") + 512 > MAX_RECORD_BYTES:
                raise RecordRefused(record, f"larger than {MAX_RECORD_BYTES}")
        producer = self._connected()
        groups: dict[tuple[str, int], list[int]] = {}
        for index, record in enumerate(records):
            groups.setdefault((record.topic, record.partition), []).append(index)
        shipped: list[tuple[list[int], asyncio.Future[Any]]] = []
        for (topic, partition), indexes in groups.items():
            builder = producer.create_batch()
            inside: list[int] = []
            for index in indexes:
                record = records[index]
                full = inside and builder.size() + len(record.value) + len(record.key or b"") + 64 > BATCH_BYTES
                if full or builder.append(key=record.key, value=record.value, timestamp=None) is None:
                    shipped.append((inside, await producer.send_batch(builder, topic, partition=partition)))
                    builder, inside = producer.create_batch(), []
                    builder.append(key=record.key, value=record.value, timestamp=None)  # a first record is taken at any size
                inside.append(index)
            shipped.append((inside, await producer.send_batch(builder, topic, partition=partition)))
        return asyncio.ensure_future(self._settle(producer, records, shipped))

    async def _settle(
        self, producer: AIOKafkaProducer, records: Sequence[Outgoing], shipped: Sequence[tuple[list[int], asyncio.Future[Any]]]
    ) -> list[int]:
        offsets = [-1] * len(records)
        results = await asyncio.gather(*(future for _, future in shipped), return_exceptions=True)
        for (inside, _), result in zip(shipped, results, strict=True):
            if isinstance(result, (MessageSizeTooLargeError, RecordListTooLargeError)):
                await self._renew(producer)
                if len(inside) == 1:
                    raise RecordRefused(records[inside[0]], "larger than the topic's max.message.bytes")
                for index in inside:  # one of them is too large: alone, each speaks for itself
                    offsets[index] = (await self.send([records[index]]))[0]
            elif isinstance(result, BaseException):
                if isinstance(result, KafkaError):
                    await self._renew(producer)
                raise result
            else:
                for place, index in enumerate(inside):
                    offsets[index] = result.offset + place
        return offsets

    async def _renew(self, broken: AIOKafkaProducer) -> None:
        """Replaces a producer whose sequences are broken; once for all who met it."""
        async with self._renewing:
            current = self._producer
            if current is not None and current is broken:
                await self.start()
                await current.stop()

    def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise RuntimeError("the producer is not started")
        return self._producer
