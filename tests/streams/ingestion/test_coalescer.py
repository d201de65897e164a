"""Every waiter is answered, what was promised is on the topic, and each ticket's first copies stand in order, on the real broker."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from streams.broker.admin import ensure_topics
from streams.broker.embedded import EmbeddedBroker
from streams.ingestion.coalescer import Coalescer, Durable, Refused, Unavailable
from streams.ingestion.outlet import Outlet, partition_of
from streams.ingestion.spool import Record, Spool
from streams.topics import DEAD_LETTER, RECEIVED
from tests.streams.ingestion.reading import read_raw

pytestmark = pytest.mark.broker


@given(key=st.binary(min_size=1, max_size=60), partitions=st.integers(1, 50))
def test_a_key_goes_where_kafkas_own_partitioner_sends_it(key: bytes, partitions: int) -> None:
    """Other producers of the same keys, in any language, must agree on the partition."""
    everywhere = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everywhere, everywhere)


@asynccontextmanager
async def coalescer_on(brokers: str, directory: Path, **options: Any) -> AsyncIterator[Coalescer]:
    spool = Spool(directory, options.pop("spool_bytes", 1 << 30), min_free=0)
    spool.open()
    outlet = Outlet(brokers, [RECEIVED.name, DEAD_LETTER.name])
    coalescer = Coalescer(outlet, spool, lambda r: Record(DEAD_LETTER.name, r.key, b"set aside", r.timestamp_ms), **options)
    coalescer.start()
    try:
        yield coalescer
    finally:
        await coalescer.close(5)


@pytest.fixture
def tenant() -> str:
    """A key prefix of the test's own on the shared broker."""
    return uuid.uuid4().hex


def records_of(tenant: str, tickets: int = 7) -> Iterator[Record]:
    """Endless records, numbered, going round the tickets."""
    for number in itertools.count():
        yield Record(RECEIVED.name, f"{tenant}/{number % tickets}".encode(), b"%09d" % number, 1_700_000_000_000)


async def until_direct(coalescer: Coalescer) -> None:
    async with asyncio.timeout(60):
        while coalescer.spooling:
            await asyncio.sleep(0.01)  # nothing signals it, on purpose: the request path pays for every signal


def assert_first_copies_in_order(found: Sequence[tuple[int, bytes, bytes]], promised: Sequence[Record]) -> None:
    """All that was promised is there, and within a ticket each record's first copy stands in the order it was offered in."""
    firsts: dict[bytes, list[bytes]] = defaultdict(list)
    for _, key, value in found:
        if value not in firsts[key]:
            firsts[key].append(value)
    expected: dict[bytes, list[bytes]] = defaultdict(list)
    for record in promised:
        expected[record.key].append(record.value)
    for key, values in expected.items():
        assert [value for value in firsts[key] if value in set(values)] == values


async def test_what_is_answered_is_on_the_topic_once_in_order(broker: str, tmp_path: Path, tenant: str) -> None:
    """The everyday way: no spool, no second copy."""
    async with coalescer_on(broker, tmp_path) as coalescer:
        await until_direct(coalescer)
        sent = list(itertools.islice(records_of(tenant), 2000))
        assert set(await asyncio.gather(*map(coalescer.offer, sent))) == {Durable.BROKER}
        found = await read_raw(broker, RECEIVED.name, tenant)
        assert len(found) == len(sent)
        assert_first_copies_in_order(found, sent)


async def test_before_the_broker_is_reached_events_are_already_taken(broker: str, tmp_path: Path, tenant: str) -> None:
    """The door opens at once; what came before the connection is on the topic soon after it."""
    async with coalescer_on(broker, tmp_path) as coalescer:
        first = next(records_of(tenant))
        assert await coalescer.offer(first) is Durable.SPOOL
        await until_direct(coalescer)
        assert [value for _, _, value in await read_raw(broker, RECEIVED.name, tenant)] == [first.value]


async def test_a_cancelled_request_cancels_nothing_else(broker: str, tmp_path: Path, tenant: str) -> None:
    """A client that goes away must not take its neighbours' batch with it, nor its own verified event."""
    async with coalescer_on(broker, tmp_path, ack_timeout=5.0) as coalescer:  # a slow broker's spool is another test's matter
        await until_direct(coalescer)
        sent = list(itertools.islice(records_of(tenant), 20))
        waiters = [coalescer.offer(record) for record in sent]
        for waiter in waiters[::3]:
            waiter.cancel()
        results = await asyncio.gather(*waiters, return_exceptions=True)
        assert [r for r in results if not isinstance(r, asyncio.CancelledError)] == [Durable.BROKER] * 13
        assert coalescer.pending == 0
        assert_first_copies_in_order(await read_raw(broker, RECEIVED.name, tenant), sent)


async def test_records_over_the_batch_size_go_alone_and_in_order(broker: str, tmp_path: Path, tenant: str) -> None:
    """A megabyte between small ones: each arrives, order kept."""
    async with coalescer_on(broker, tmp_path) as coalescer:
        await until_direct(coalescer)
        key = f"{tenant}/1".encode()
        sent = [Record(RECEIVED.name, key, b"%d" % n + b"x" * (1_100_000 if n % 3 == 1 else 100_000), 1) for n in range(9)]
        assert set(await asyncio.gather(*map(coalescer.offer, sent))) <= {Durable.BROKER, Durable.SPOOL}
        await until_direct(coalescer)
        assert_first_copies_in_order(await read_raw(broker, RECEIVED.name, tenant), sent)


async def test_a_record_the_broker_refuses_hurts_nobody_after_it(broker: str, tmp_path: Path, tenant: str) -> None:
    """Refused for its size, it is answered as such; the partition's broken sequence is mended by a new producer."""
    async with coalescer_on(broker, tmp_path) as coalescer:
        await until_direct(coalescer)
        key = f"{tenant}/1".encode()
        with pytest.raises(Refused):
            await coalescer.offer(Record(RECEIVED.name, key, b"x" * (5 << 20), 1))
        after = [Record(RECEIVED.name, key, b"%d" % n, 1) for n in range(50)]
        await asyncio.gather(*map(coalescer.offer, after))
        await until_direct(coalescer)
        assert_first_copies_in_order(await read_raw(broker, RECEIVED.name, tenant), after)


async def test_a_refused_record_in_the_spool_becomes_a_dead_letter(broker: str, tmp_path: Path, tenant: str) -> None:
    """It was answered 2xx, so it may not vanish; and it may not block those behind it."""
    spool = Spool(tmp_path, 1 << 30, min_free=0)
    spool.open()
    key = f"{tenant}/1".encode()
    spool.append([Record(RECEIVED.name, key, value, 1) for value in (b"before", b"x" * (5 << 20), b"after")])
    spool.close()
    async with coalescer_on(broker, tmp_path) as coalescer:
        await until_direct(coalescer)
    found = [value for _, _, value in await read_raw(broker, RECEIVED.name, tenant)]
    assert list(dict.fromkeys(found)) == [b"before", b"after"]
    assert [value for _, _, value in await read_raw(broker, DEAD_LETTER.name, tenant)] == [b"set aside"]


async def test_too_many_pending_are_refused_at_once(tmp_path: Path, tenant: str) -> None:
    """Overload is told, never queued without bound."""
    async with coalescer_on("127.0.0.1:1", tmp_path, max_pending=10) as coalescer:
        waiters = [coalescer.offer(record) for record in itertools.islice(records_of(tenant), 10)]
        with pytest.raises(Unavailable):
            coalescer.offer(next(records_of(tenant)))
        assert set(await asyncio.gather(*waiters)) == {Durable.SPOOL}


async def test_without_broker_and_room_the_answer_is_no_not_silence(tmp_path: Path, tenant: str) -> None:
    """A full spool and no broker: every request learns it at once."""
    async with coalescer_on("127.0.0.1:1", tmp_path, spool_bytes=3000) as coalescer:
        async with asyncio.timeout(5):
            results = []
            for record in itertools.islice(records_of(tenant), 200):
                results += await asyncio.gather(coalescer.offer(record), return_exceptions=True)
        assert results[0] is Durable.SPOOL
        assert isinstance(results[-1], Unavailable)


async def test_a_hanging_disk_is_answered_not_waited_for(tmp_path: Path, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An fsync that never returns: requests are told within moments, and taken again once the disk answers."""
    monkeypatch.setattr("streams.ingestion.coalescer.DISK_SECONDS", 0.1)
    disk = threading.Event()
    real = os.fdatasync

    def hang(descriptor: int) -> None:
        disk.wait(20)
        real(descriptor)

    async with coalescer_on("127.0.0.1:1", tmp_path) as coalescer:
        source = records_of(tenant)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", hang)
            async with asyncio.timeout(5):
                with pytest.raises(Unavailable):
                    await coalescer.offer(next(source))
                with pytest.raises(Unavailable):
                    await coalescer.offer(next(source))
            disk.set()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await coalescer.offer(next(source)) is Durable.SPOOL
                    break
                except Unavailable:
                    await asyncio.sleep(0.01)  # the hanging call is on its way back


async def test_while_the_broker_sleeps_order_and_promises_hold(fresh_broker: EmbeddedBroker, tmp_path: Path, tenant: str) -> None:
    """Paused twice under steady load, with records in flight at each switch: nothing lost, first copies in order, waits short."""
    await ensure_topics(fresh_broker.brokers, 4)
    async with coalescer_on(fresh_broker.brokers, tmp_path / "spool") as coalescer:
        await until_direct(coalescer)
        sent: list[Record] = []
        waits: list[float] = []
        waiting: set[asyncio.Task[None]] = set()

        async def offer(record: Record) -> None:
            started = asyncio.get_running_loop().time()
            await coalescer.offer(record)
            waits.append(asyncio.get_running_loop().time() - started)

        async def load(seconds: float) -> None:
            for record in itertools.islice(source, int(seconds * 500)):
                sent.append(record)
                waiting.add(task := asyncio.create_task(offer(record)))
                task.add_done_callback(waiting.discard)
                await asyncio.sleep(0.002)

        source = records_of(tenant)
        for _ in range(2):
            await load(0.5)
            fresh_broker.pause()
            await load(1.5)
            fresh_broker.resume()
            await load(0.5)
        await asyncio.gather(*waiting)
        await until_direct(coalescer)
        assert coalescer.switches >= 2
        assert len(waits) == len(sent)
        assert sorted(waits)[int(len(waits) * 0.99)] < 0.3
        assert_first_copies_in_order(await read_raw(fresh_broker.brokers, RECEIVED.name, tenant), sent)


async def test_the_way_back_opens_under_steady_load(broker: str, tmp_path: Path, tenant: str) -> None:
    """A drain that never quite catches up with the newest arrivals would leave the door on its disk for ever."""
    async with coalescer_on(broker, tmp_path) as coalescer:
        source = records_of(tenant)
        sent = []

        async def client() -> None:
            while not done:
                sent.append(record := next(source))
                await coalescer.offer(record)

        done = False
        clients = [asyncio.create_task(client()) for _ in range(32)]
        await until_direct(coalescer)
        await asyncio.sleep(0.3)
        assert not coalescer.spooling
        done = True
        await asyncio.gather(*clients)
        assert_first_copies_in_order(await read_raw(broker, RECEIVED.name, tenant), sent)


async def test_a_broker_killed_and_restarted_loses_nothing_answered(fresh_broker: EmbeddedBroker, tmp_path: Path, tenant: str) -> None:
    """SIGKILL of the broker in mid-stream; its data survive, and the producer finds it again."""
    await ensure_topics(fresh_broker.brokers, 4)
    async with coalescer_on(fresh_broker.brokers, tmp_path / "spool") as coalescer:
        await until_direct(coalescer)
        sent = list(itertools.islice(records_of(tenant), 600))
        waiters = [coalescer.offer(record) for record in sent[:200]]
        fresh_broker.kill()
        waiters += [coalescer.offer(record) for record in sent[200:400]]
        await asyncio.gather(*waiters)
        await asyncio.to_thread(fresh_broker.start)
        await asyncio.gather(*map(coalescer.offer, sent[400:]))
        await until_direct(coalescer)
        assert_first_copies_in_order(await read_raw(fresh_broker.brokers, RECEIVED.name, tenant), sent)
