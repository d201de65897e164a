"""Many senders, one producer: shipped together, answered apart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from streams.outbox import Outbox
from streams.producer import Outgoing, RecordRefused


class Shipper:
    """Takes shipments one at a time, each acknowledged when `ack` is set; refuses records of value b"huge"."""

    def __init__(self) -> None:
        self.shipments: list[list[bytes]] = []
        self.ack = asyncio.Event()
        self.fails: Exception | None = None
        self.stored: list[bytes] = []

    async def send(self, records: Sequence[Outgoing]) -> list[int]:
        self.shipments.append([r.value for r in records])
        await self.ack.wait()
        if self.fails is not None:
            raise self.fails
        for record in records:
            if record.value == b"huge":
                raise RecordRefused(record, "too large")
        first = len(self.stored)
        self.stored.extend(r.value for r in records)
        return list(range(first, first + len(records)))


def out(*values: bytes) -> list[Outgoing]:
    return [Outgoing("t", 0, None, value) for value in values]


async def test_what_waits_during_a_shipment_goes_out_together_in_order() -> None:
    """One request to the broker for many events, and each sender learns its own offsets."""
    shipper = Shipper()
    outbox = Outbox(shipper)
    sends = [asyncio.create_task(outbox.send(out(*values))) for values in ([b"a"], [b"b", b"c"], [b"d"])]
    while not shipper.shipments:
        await asyncio.sleep(0)
    late = [asyncio.create_task(outbox.send(out(value))) for value in (b"e", b"f")]
    await asyncio.sleep(0)
    shipper.ack.set()
    assert await asyncio.gather(*sends, *late) == [[0], [1, 2], [3], [4], [5]]
    assert shipper.shipments == [[b"a", b"b", b"c", b"d"], [b"e", b"f"]]


async def test_a_record_too_large_hurts_its_sender_only() -> None:
    """The others of its shipment are stored all the same."""
    shipper = Shipper()
    shipper.ack.set()
    outbox = Outbox(shipper)
    results = await asyncio.gather(*(outbox.send(out(v)) for v in (b"a", b"huge", b"b")), return_exceptions=True)
    assert isinstance(results[1], RecordRefused)
    assert shipper.stored == [b"a", b"b"]


async def test_a_failure_of_the_producer_reaches_everyone_who_waits() -> None:
    """No event may count as finished whose record was not acknowledged."""
    shipper = Shipper()
    shipper.ack.set()
    shipper.fails = ConnectionError("fenced")
    outbox = Outbox(shipper)
    results = await asyncio.gather(outbox.send(out(b"a")), outbox.send(out(b"b")), return_exceptions=True)
    assert [type(r) for r in results] == [ConnectionError, ConnectionError]
    shipper.fails = None
    assert await outbox.send(out(b"c")) == [0]


async def test_a_sender_that_is_cancelled_does_not_cancel_the_others() -> None:
    """Its record may be stored; the rest of the shipment goes on."""
    shipper = Shipper()
    outbox = Outbox(shipper)
    first, second = asyncio.create_task(outbox.send(out(b"a"))), asyncio.create_task(outbox.send(out(b"b")))
    while not shipper.shipments:
        await asyncio.sleep(0)
    first.cancel()
    shipper.ack.set()
    assert await second == [1]
    with pytest.raises(asyncio.CancelledError):
        await first
