"""One producer for a process: what aiokafka cannot go on after does not stop those who send next. aiokafka is a stand-in here; the
same against the real broker is in test_batching.py."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

import streams.producer
from streams.producer import Outgoing, RecordRefused, StageProducer

LIMIT = 1000


class Builder:
    """A batch in the making, as aiokafka's: a first record is taken at any size."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def size(self) -> int:
        return sum(map(len, self.values))

    def append(self, *, key: bytes | None, value: bytes, timestamp: int | None) -> object:
        self.values.append(value)
        return object()


class BrokenByOversize:
    """aiokafka's producer in what matters: after a batch refused for its size, its sequence is broken for good."""

    stored: list[bytes]
    made = 0

    def __init__(self, **settings: Any) -> None:
        type(self).made += 1
        self.broken = False

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def create_batch(self) -> Builder:
        return Builder()

    async def send_batch(self, builder: Builder, topic: str, *, partition: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.broken:
            future.set_exception(KafkaError("out of order sequence"))
        elif builder.size() > LIMIT:
            self.broken = True
            future.set_exception(MessageSizeTooLargeError("too large"))
        else:
            future.set_result(SimpleNamespace(offset=len(self.stored)))
            self.stored += builder.values
        return future


@pytest.fixture
async def producer(monkeypatch: pytest.MonkeyPatch) -> StageProducer:
    BrokenByOversize.stored, BrokenByOversize.made = [], 0
    monkeypatch.setattr(streams.producer, "AIOKafkaProducer", BrokenByOversize)
    producer = StageProducer("127.0.0.1:1")
    await producer.start()
    return producer


def of_size(*sizes: int) -> list[Outgoing]:
    return [Outgoing("t", 0, None, bytes([65 + n]) * size) for n, size in enumerate(sizes)]


async def test_after_an_oversized_record_the_next_ones_are_stored(producer: StageProducer) -> None:
    """One record too large must not stop a partition until somebody restarts the process."""
    with pytest.raises(RecordRefused):
        await producer.send(of_size(LIMIT + 1))
    assert await producer.send(of_size(10, 20)) == [0, 1]
    assert BrokenByOversize.made == 2


async def test_those_in_one_batch_with_an_oversized_record_are_stored_before_it_is_told(producer: StageProducer) -> None:
    """The batch is refused as a whole; each of its records then speaks for itself, in order."""
    with pytest.raises(RecordRefused) as refused:
        await producer.send(of_size(10, LIMIT + 1, 20))
    assert len(refused.value.outgoing.value) == LIMIT + 1
    assert BrokenByOversize.stored == [b"A" * 10]
