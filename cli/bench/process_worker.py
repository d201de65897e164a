"""The measured processes of `bench process`: the stage itself, and a bare aiokafka loop that calls the same functions.

The loop has what the stage has for each event (the links, the finished events, the doubts, the plugins), and nothing around it: no
scheduling by ticket, no limits by tool, no coalescing of sends, no drain. It takes what a poll gives, 64 calls at once, and commits.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from analytics.prices import price
from cli.bench.child import gate
from cli.bench.process import PARTITIONS
from plugins.manager import PluginManager
from plugins.registry import PluginRegistry
from schemas.codec import Codec
from schemas.events import Event, TenantConfigured, TicketRouted
from streams.agents.process import ProcessStage
from streams.clock import SystemClock
from streams.collector import spare_the_collector
from streams.control import ControlReader
from streams.doubt import PartitionDoubts
from streams.keyed import IN_FLIGHT
from streams.links import LinkTable
from streams.process_step import PartitionState, ProcessContext, process_one
from streams.producer import BATCH_BYTES, Outgoing
from streams.secrets.store import open_store, resolver
from streams.settings import Settings
from streams.stage import Assignment
from streams.tenants.registry import TenantRegistry
from streams.topics import MAX_RECORD_BYTES, ROUTED, TENANTS


class _GatedStage(ProcessStage):
    """The stage, waiting with its partitions assigned."""

    name: ClassVar[str] = "bench-process"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._assigned = 0
        self._go = asyncio.Event()

    async def assigned(self, assignment: Assignment) -> None:
        await super().assigned(assignment)
        self._assigned += 1
        if self._assigned == PARTITIONS:
            await gate()
            self._go.set()
        await self._go.wait()


class _OwnTurn:
    """Nobody else wants the place, and nobody takes it away."""

    def check(self) -> None:
        return

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _PlainSender:
    """aiokafka's producer as its manual shows it."""

    def __init__(self, brokers: str) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=brokers, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES, max_request_size=MAX_RECORD_BYTES
        )

    async def start(self) -> None:
        await self._producer.start()

    async def send(self, records: Sequence[Outgoing]) -> list[int]:
        sent = [await self._producer.send(r.topic, value=r.value, key=r.key, partition=r.partition) for r in records]
        return [(await acknowledged).offset for acknowledged in sent]


async def _bare(settings: Settings) -> None:
    codec, tenants, secrets = Codec(), TenantRegistry(), open_store(settings)

    def on_event(topic: str, partition: int, offset: int, key: bytes | None, event: Event) -> None:
        if isinstance(event, TenantConfigured):
            tenants.apply(event)

    control = ControlReader(settings.brokers, [TENANTS.name], on_event, codec)
    await control.start()
    await control.caught_up(30.0)
    await control.stop()
    producer = _PlainSender(settings.brokers)
    await producer.start()
    ctx = ProcessContext(
        codec=codec,
        plugins=PluginManager(PluginRegistry.discover(), tenants.binding, lambda tenant: resolver(secrets, tenant)),
        links=LinkTable(),
        producer=producer,
        clock=SystemClock(),
        price=price,
    )
    now = time.time_ns() // 1000
    states = {p: PartitionState(partition=p, doubts=PartitionDoubts(assigned_at=now, committed=0, end=0)) for p in range(PARTITIONS)}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.brokers, group_id="bench-bare", enable_auto_commit=False, max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    places = [TopicPartition(ROUTED.name, p) for p in range(PARTITIONS)]
    consumer.assign(places)
    for place in places:
        consumer.seek(place, 0)
    spare_the_collector()
    await gate()

    async def work(partition: int, record: Any) -> None:
        routed = codec.decode_as(TicketRouted, record.value)
        await process_one(routed, record.offset, record.key, states[partition], ctx, _OwnTurn())

    while True:
        for place, records in (await consumer.getmany(timeout_ms=100, max_records=IN_FLIGHT)).items():
            await asyncio.gather(*(work(place.partition, record) for record in records))
            await consumer.commit({place: records[-1].offset + 1})


def main(mode: str, brokers: str, folder: str) -> None:
    """One of the two ways, as a process."""
    from streams.batching import run_stage

    settings = Settings(data_dir=Path(folder), brokers=brokers)
    if mode == "bare":
        asyncio.run(_bare(settings))
    else:
        run_stage(_GatedStage(settings), settings, log_level="WARNING")


if __name__ == "__main__":
    main(*sys.argv[1:])
