"""The moments of the switch to the spool and back, step by step, with a broker whose every ack is given by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaError

from streams.ingestion.coalescer import Coalescer, Durable
from streams.ingestion.outlet import Lane, Outlet
from streams.ingestion.spool import Record, Spool

pytestmark = pytest.mark.timeout(20)


class HandOutlet:
    """Keeps what it was sent; `ack` and `fail` end the oldest batch that is under way."""

    last_error = ""
    connected = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.renewed = 0
        self._under_way: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def connect(self) -> None: ...

    def lane(self, record: Record) -> Lane:
        return record.topic, 0

    async def send(self, lane: Lane, records: Sequence[Record]) -> asyncio.Future[Any]:
        self.sent += [record.value for record in records]
        future = asyncio.get_running_loop().create_future()
        self._under_way.put_nowait(future)
        return future

    async def ack(self) -> None:
        (await asyncio.wait_for(self._under_way.get(), 5)).set_result(None)

    async def fail(self) -> None:
        (await asyncio.wait_for(self._under_way.get(), 5)).set_exception(KafkaError("the sequence is broken"))

    def give_up(self, why: str) -> None: ...

    async def renew(self, why: str) -> None:
        self.renewed += 1

    async def close(self, timeout: float) -> None: ...


def record(number: int) -> Record:
    return Record("tickets.received.v1", b"acme/desk/1", b"%d" % number, 1)


@asynccontextmanager
async def opened(directory: Path, outlet: HandOutlet, ack_timeout: float = 0.05) -> AsyncIterator[Coalescer]:
    spool = Spool(directory, 1 << 20, min_free=0)
    spool.open()
    coalescer = Coalescer(cast(Outlet, outlet), spool, lambda r: r, ack_timeout=ack_timeout)
    coalescer.start()
    try:
        yield coalescer
    finally:
        await coalescer.close(0.2)


async def direct(coalescer: Coalescer) -> None:
    async with asyncio.timeout(5):
        while coalescer.spooling or coalescer._work is None:
            await asyncio.sleep(0.001)


def left_in(directory: Path) -> list[bytes]:
    spool = Spool(directory, 1 << 20, min_free=0)
    spool.open()
    try:
        return [stored.record.value for stored in spool.read(1000, 1 << 20)]
    finally:
        spool.close()


async def test_nobody_is_answered_before_the_ack(tmp_path: Path) -> None:
    """The first promise, seen from both sides of the ack."""
    outlet = HandOutlet()
    async with opened(tmp_path, outlet, ack_timeout=5) as coalescer:
        await direct(coalescer)
        waiter = coalescer.offer(record(1))
        await asyncio.sleep(0.05)
        assert outlet.sent == [b"1"]
        assert not waiter.done()
        await outlet.ack()
        assert await waiter is Durable.BROKER


async def test_while_a_shipment_is_under_way_the_next_is_collected(tmp_path: Path) -> None:
    """No timer: sent at once when idle, together when not."""
    outlet = HandOutlet()
    async with opened(tmp_path, outlet, ack_timeout=5) as coalescer:
        await direct(coalescer)
        waiters = [coalescer.offer(record(1))]
        await asyncio.sleep(0.01)
        waiters += [coalescer.offer(record(n)) for n in (2, 3)]
        await asyncio.sleep(0.01)
        assert outlet.sent == [b"1"]
        await outlet.ack()
        await outlet.ack()
        assert set(await asyncio.gather(*waiters)) == {Durable.BROKER}
        assert outlet.sent == [b"1", b"2", b"3"]


async def test_the_spool_drains_only_after_the_shipment_under_way_has_ended(tmp_path: Path) -> None:
    """aiokafka may still deliver the first copies: a later event must not overtake them. Acknowledged late, they are not sent again."""
    outlet = HandOutlet()
    async with opened(tmp_path, outlet) as coalescer:
        await direct(coalescer)
        first = coalescer.offer(record(1))
        await asyncio.sleep(0.01)
        second = coalescer.offer(record(2))  # collected behind the first
        assert await asyncio.gather(first, second) == [Durable.SPOOL, Durable.SPOOL]
        assert await coalescer.offer(record(3)) is Durable.SPOOL
        await asyncio.sleep(0.05)
        assert outlet.sent == [b"1"]
        await outlet.ack()
        await outlet.ack()
        await direct(coalescer)
    assert outlet.sent == [b"1", b"2", b"3"]
    assert left_in(tmp_path) == []


async def test_a_failed_shipment_is_sent_again_from_the_spool_in_order(tmp_path: Path) -> None:
    """An error aiokafka gives up on: everything unanswered goes to the spool, the producer is made anew, nothing is skipped."""
    outlet = HandOutlet()
    async with opened(tmp_path, outlet, ack_timeout=5) as coalescer:
        await direct(coalescer)
        waiters = [coalescer.offer(record(n)) for n in (1, 2)]
        await asyncio.sleep(0.01)
        waiters.append(coalescer.offer(record(3)))
        await outlet.fail()
        assert await asyncio.gather(*waiters) == [Durable.SPOOL] * 3
        await outlet.ack()
        await direct(coalescer)
    assert outlet.renewed == 1
    assert outlet.sent == [b"1", b"2", b"1", b"2", b"3"]


async def test_what_comes_at_the_end_of_a_drain_waits_behind_it(tmp_path: Path) -> None:
    """The way back: a new event may not overtake the spool's last ones."""
    spool = Spool(tmp_path, 1 << 20, min_free=0)
    spool.open()
    spool.append([record(1), record(2)])
    spool.close()
    outlet = HandOutlet()
    async with opened(tmp_path, outlet, ack_timeout=5) as coalescer:
        async with asyncio.timeout(5):
            while coalescer.spooling:
                await asyncio.sleep(0.001)
        waiter = coalescer.offer(record(3))
        await asyncio.sleep(0.05)
        assert outlet.sent == [b"1", b"2"]
        await outlet.ack()
        await outlet.ack()
        assert await waiter is Durable.BROKER
    assert outlet.sent == [b"1", b"2", b"3"]


async def test_held_at_the_end_of_a_drain_too_long_it_is_spooled_behind(tmp_path: Path) -> None:
    """The broker stalls again while the last ones drain: the held event is answered in time all the same, in its place."""
    spool = Spool(tmp_path, 1 << 20, min_free=0)
    spool.open()
    spool.append([record(1)])
    spool.close()
    outlet = HandOutlet()
    async with opened(tmp_path, outlet) as coalescer:
        async with asyncio.timeout(5):
            while coalescer.spooling:
                await asyncio.sleep(0.001)
        assert await coalescer.offer(record(2)) is Durable.SPOOL
        assert outlet.sent == [b"1"]
        await outlet.ack()
        await outlet.ack()
        await direct(coalescer)
    assert outlet.sent == [b"1", b"2"]


async def test_a_door_that_ends_in_the_middle_of_a_drain_keeps_what_is_not_acknowledged(tmp_path: Path) -> None:
    """A record leaves the spool after its ack, never when it is sent."""
    spool = Spool(tmp_path, 1 << 20, min_free=0)
    spool.open()
    spool.append([record(1), record(2)])
    spool.close()
    outlet = HandOutlet()
    async with opened(tmp_path, outlet):
        async with asyncio.timeout(5):
            while not outlet.sent:
                await asyncio.sleep(0.001)
    assert left_in(tmp_path) == [b"1", b"2"]


async def test_an_answer_that_fails_does_not_touch_its_neighbours(tmp_path: Path) -> None:
    """One connection's fault in writing its answer is logged; the batch's other requests get theirs."""
    outlet = HandOutlet()
    async with opened(tmp_path, outlet, ack_timeout=5) as coalescer:
        await direct(coalescer)

        def broken(how: object) -> None:
            raise RuntimeError("a fault of the caller")

        coalescer.take(record(1), broken)
        waiter = coalescer.offer(record(2))
        await outlet.ack()
        assert await waiter is Durable.BROKER
        assert coalescer.pending == 0


@pytest.mark.parametrize("how_many", [1, 5000])
async def test_a_clean_end_answers_everyone_first(tmp_path: Path, how_many: int) -> None:
    """Closing with a silent broker: the waiting ones are spooled and answered, not dropped."""
    outlet = HandOutlet()
    async with opened(tmp_path, outlet) as coalescer:
        await direct(coalescer)
        waiters = [coalescer.offer(record(n)) for n in range(how_many)]
        await asyncio.sleep(0)
    assert {await waiter for waiter in waiters} == {Durable.SPOOL}
    assert left_in(tmp_path)[:1000] == [b"%d" % n for n in range(how_many)][:1000]


async def test_what_is_too_much_for_one_batch_goes_with_the_next(tmp_path: Path) -> None:
    """Collected behind a slow ack, more than one batch may hold: the rest is sent, and answered, after it."""
    outlet = HandOutlet()
    async with opened(tmp_path, outlet, ack_timeout=5) as coalescer:
        await direct(coalescer)
        large = [Record("tickets.received.v1", b"acme/desk/1", b"%d" % n + b"x" * 100_000, 1) for n in range(6)]
        waiters = [coalescer.offer(one) for one in large]
        for _ in range(3):
            await outlet.ack()
        async with asyncio.timeout(5):
            assert set(await asyncio.gather(*waiters)) == {Durable.BROKER}
        assert outlet.sent == [one.value for one in large]
