"""The measured processes of `bench route`: the stage itself, a bare aiokafka loop, and a Faust agent as Faust's manual shows it.

All call `route_batch`, with the same cache on disk, the same registry of tenants and the same plugin. The loop does what the stage
does and nothing more: fetch, decide, produce in batches, await the acks, commit. The agent gets one event at a time, which is what
Faust gives, and sends each routed record with `topic.send`; it is let off sending what was seen, which only flatters it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from cli.bench.child import gate
from cli.bench.route import PARTITIONS
from plugins.manager import PluginManager
from plugins.registry import PluginRegistry
from schemas.codec import Codec
from schemas.events import Event, TenantConfigured
from streams.agents.route import RouteStage
from streams.clock import SystemClock
from streams.collector import spare_the_collector
from streams.control import ControlReader
from streams.links import LinkTable
from streams.route_step import RouteContext, route_batch
from streams.seen import SeenCache
from streams.settings import Settings
from streams.tenants.registry import TenantRegistry
from streams.topics import RECEIVED, ROUTED, TENANTS


class _GatedStage(RouteStage):
    """The stage, waiting before its first fetch."""

    name: ClassVar[str] = "bench-route"

    async def positions(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int | None]:
        await gate()
        return await super().positions(partitions)


class _NothingSeen:
    """The seen topic as it is before the bench: empty."""

    async def bounds(self) -> tuple[int, int]:
        return 0, 0

    async def offset_at(self, time_us: int) -> int | None:
        return None

    async def read(self, start: int, end: int) -> AsyncIterator[Sequence[tuple[int, bytes | None]]]:
        nothing: list[Sequence[tuple[int, bytes | None]]] = []
        for chunk in nothing:
            yield chunk


async def a_context(settings: Settings) -> RouteContext:
    """What the stage has, built by hand, with the tenants read and every partition caught up."""
    codec, tenants = Codec(), TenantRegistry()

    def on_event(topic: str, partition: int, offset: int, key: bytes | None, event: Event) -> None:
        if isinstance(event, TenantConfigured):
            tenants.apply(event)

    control = ControlReader(settings.brokers, [TENANTS.name], on_event, codec)
    await control.start()
    await control.caught_up(30.0)
    await control.stop()
    seen = SeenCache(settings.data_dir / "seen.db", codec)
    for partition in range(PARTITIONS):
        await seen.catch_up(partition, _NothingSeen())
    return RouteContext(
        codec=codec,
        seen=seen,
        tenants=tenants,
        plugins=PluginManager(PluginRegistry.discover(), tenants.binding, lambda tenant: lambda name: []),
        links=LinkTable(),
        clock=SystemClock(),
    )


async def bare(settings: Settings) -> None:
    """The loop: up to four batches on their way, an offset committed when everything before it is acknowledged."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from streams.producer import StageProducer

    ctx = await a_context(settings)
    producer = StageProducer(settings.brokers)
    await producer.start()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.brokers, group_id="bench-bare", enable_auto_commit=False, max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    places = [TopicPartition(RECEIVED.name, p) for p in range(PARTITIONS)]
    consumer.assign(places)
    await gate()
    for place in places:
        consumer.seek(place, 0)
    spare_the_collector()
    flying: list[tuple[Any, Any, int, asyncio.Task[list[int]]]] = []
    while True:
        for place, records in (await consumer.getmany(timeout_ms=100, max_records=RouteStage.max_poll_records)).items():
            routed = route_batch(place.partition, records, ctx)
            flying.append((place, routed.flight, records[-1].offset + 1, await producer.ship(routed.outgoing)))
        while flying and (len(flying) > 4 or flying[0][3].done()):
            place, flight, offset, shipped = flying.pop(0)
            offsets = await shipped
            if flight is not None:
                ctx.seen.acked(flight, offsets[-1])
            await consumer.commit({place: offset})


def manual(settings: Settings) -> None:
    """The Faust agent."""
    import faust

    app = faust.App(
        "bench-faust",
        broker=f"kafka://{settings.brokers}",
        datadir=str(settings.data_dir),
        store="memory://",
        value_serializer="raw",
        key_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 << 20,
        producer_acks=-1,
    )
    received = app.topic(RECEIVED.name, key_type=bytes, value_type=bytes)
    routed_topic = app.topic(ROUTED.name, key_type=bytes, value_type=bytes)

    @app.agent(received)  # type: ignore[untyped-decorator]  # Faust ships no types we follow
    async def route(events: Any) -> None:
        ctx = await a_context(settings)
        await gate()
        acknowledged = 0
        async for event in events.events():
            message = event.message
            routed = route_batch(message.partition, [_Record(message)], ctx)
            if routed.flight is not None:
                ctx.seen.acked(routed.flight, acknowledged)
                acknowledged += 1
            for outgoing in routed.outgoing:
                if outgoing.topic == ROUTED.name:
                    await routed_topic.send(key=outgoing.key, value=outgoing.value, partition=outgoing.partition)

    faust.Worker(app, loglevel="WARN", quiet=True, override_logging=False, redirect_stdouts=False).execute_from_commandline()


class _Record:
    """A Faust message as the record it came from."""

    __slots__ = ("key", "offset", "timestamp", "value")

    def __init__(self, message: Any) -> None:
        self.key, self.value, self.offset = message.key, message.value, message.offset
        self.timestamp = int(message.timestamp * 1000)


def main(mode: str, brokers: str, folder: str) -> None:
    """One of the three ways, as a process."""
    settings = Settings(data_dir=Path(folder), brokers=brokers)
    if mode == "bare":
        asyncio.run(bare(settings))
    elif mode == "faust":
        manual(settings)
    else:
        from streams.batching import run_stage

        run_stage(_GatedStage(settings), settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
