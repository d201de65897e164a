"""Route and process over foreign bytes on a real broker: an unknown schema pauses its partition alone, garbage stops nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from plugins.sandbox.process import SandboxProcess
from schemas.codec import HEADER_BYTES, MAGIC, Codec, SchemaVersion, current, schema_version
from schemas.events import SchemaPublished, TenantConfigured
from streams import topics
from streams.broker.embedded import EmbeddedBroker
from streams.health import StageHealth, read_health
from streams.producer import Outgoing, StageProducer
from tests.streams.process.live import Live, a_routed
from tests.streams.test_route_agent import CONFIG, Door, a_world, start_stage

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(240)]
CODEC = Codec()
GARBAGE = b"bytes that are no event"


def of_a_newer_build(value: bytes, record: str) -> tuple[bytes, SchemaVersion]:
    """The record as a writer with one field more would have written it, and that writer's schema."""
    newer = json.loads(current(record).json)
    newer["fields"].append({"name": "mood", "type": "string", "default": "", "doc": "Not known to this build."})
    version = schema_version(json.dumps(newer))
    return MAGIC + version.fingerprint + value[HEADER_BYTES:] + b"\x08glad", version


async def publish(producer: StageProducer, version: SchemaVersion) -> None:
    """The newer writer's schema, as it publishes it at its start."""
    event = SchemaPublished(fingerprint=version.fingerprint, name=version.record, schema=version.json)
    await producer.send([Outgoing(topics.SCHEMAS.name, 0, version.fingerprint.hex().encode(), CODEC.encode(event))])


async def until_health(folder: Path, reached: Callable[[StageHealth], bool], seconds: float = 60.0) -> StageHealth:
    """The stage's health once it is so; there is no event across processes."""
    async with asyncio.timeout(seconds):
        while True:
            for health in read_health(folder):
                if reached(health):
                    return health
            await asyncio.sleep(0.05)


def paused(health: StageHealth) -> dict[int, str]:
    return {p.partition: p.paused for p in health.partitions if p.paused}


def a_record(door: Door, partition: int) -> Outgoing:
    """A new delivery, on a partition of the test's choice."""
    while (record := door._record(0.0)).key == b"noise":
        continue
    return Outgoing(record.topic, partition, record.key, record.value)


async def test_route_waits_for_a_schema_on_its_partition_alone_and_then_goes_on(fresh_broker: EmbeddedBroker, tmp_path: Path) -> None:
    """Doors are upgraded before workers: their events are fine, only not readable yet. Nothing may be set aside, or be silent."""
    async with a_world(fresh_broker, seed=1) as (servers, door, outcome):
        ordinary, after, elsewhere = a_record(door, 0), a_record(door, 0), a_record(door, 1)
        foreign, version = of_a_newer_build(ordinary.value, "WebhookReceived")
        await door.producer.send([Outgoing(ordinary.topic, 0, ordinary.key, foreign), after, elsewhere])
        stage = start_stage(servers, tmp_path)
        try:
            await outcome.until(1)
            health = await until_health(tmp_path, lambda h: bool(paused(h)))
            assert list(paused(health)) == [0]
            assert version.fingerprint.hex() in paused(health)[0]
            assert health.state == "paused"
            assert any(f"{topics.RECEIVED.name}[0] waits" in alarm for alarm in health.alarms)
            await door.producer.send([a_record(door, 1)])
            await outcome.until(2)
            assert {place for place, _ in outcome.decided} == {1}
            await publish(door.producer, version)
            await outcome.until(4)
            assert [outcome.decided[0, offset][1] for offset in (0, 1)] == list(door.expected.values())[:2]
            health = await until_health(tmp_path, lambda h: not paused(h) and h.state == "running")
            assert any("goes on" in alarm for alarm in health.alarms)
            assert outcome.letters == []
            assert stage.poll() is None
        finally:
            stage.kill()
            stage.wait()


async def test_garbage_on_what_route_reads_is_set_aside_or_told_and_route_goes_on(fresh_broker: EmbeddedBroker, tmp_path: Path) -> None:
    """Anything may be on a topic. Of events there is a dead letter; a control record has no event to set aside, so it is told."""
    async with a_world(fresh_broker, seed=2) as (servers, door, outcome):
        control = [topics.TENANTS.name, topics.LINKS.name, topics.SCHEMAS.name, topics.SEEN.name]
        await door.producer.send([Outgoing(topic, 0, b"noise", GARBAGE) for topic in control])
        configured = TenantConfigured(tenant="acme", version=2, effective_at=2, applied_at=2, config=json.dumps(CONFIG))
        await door.producer.send([Outgoing(topics.TENANTS.name, 0, b"acme/2", CODEC.encode(configured))])
        good = a_record(door, 0)
        await door.producer.send([Outgoing(topics.RECEIVED.name, 0, b"noise", GARBAGE), good])
        outcome.consumer.seek(next(tp for tp in outcome.consumer.assignment() if (tp.topic, tp.partition) == (topics.SEEN.name, 0)), 1)
        stage = start_stage(servers, tmp_path)
        try:
            await outcome.until(2)
            await outcome.rest()
            assert [(x.reason, x.origin_topic, x.origin_offset, x.original) for x in outcome.letters] == [
                ("undecodable", topics.RECEIVED.name, 0, GARBAGE)
            ]
            assert outcome.decided[0, 1][1] == next(iter(door.expected.values()))
            await until_health(tmp_path, lambda h: any("control topic" in alarm for alarm in h.alarms))
            assert stage.poll() is None
        finally:
            stage.kill()
            stage.wait()


@pytest.fixture
async def live(fresh_broker: EmbeddedBroker, tmp_path: Path) -> AsyncIterator[Live]:
    with SandboxProcess("jira") as jira:
        world = Live(fresh_broker.brokers, jira, tmp_path)
        await world.prepare(search_lag=1.0)
        try:
            yield world
        finally:
            world.stop()


async def test_process_waits_for_a_schema_on_its_partition_alone_and_passes_garbage_by(live: Live) -> None:
    """As route: what is unknown waits and shows, what is nothing becomes a dead letter, the other partition works on."""
    producer = StageProducer(live.brokers)
    await producer.start()
    try:
        read_at_the_start = [topics.TENANTS.name, topics.LINKS.name, topics.PROCESSED.name]
        await producer.send([Outgoing(topic, 0, b"noise", GARBAGE) for topic in read_at_the_start])
        live.start_worker()
        waiting, behind, elsewhere = a_routed("1", 1), a_routed("1", 2), a_routed("2", 1)
        foreign, version = of_a_newer_build(CODEC.encode(waiting), "TicketRouted")
        await producer.send([Outgoing(topics.ROUTED.name, 0, b"acme/desk/1", value) for value in (GARBAGE, foreign, CODEC.encode(behind))])
        await live.route([elsewhere], partition=1)

        folder = live.folder / "worker-0"
        health = await until_health(folder, lambda h: bool(paused(h)))
        assert list(paused(health)) == [0]
        assert version.fingerprint.hex() in paused(health)[0]
        live.until_sandbox(lambda: live.effects() == [("create", elsewhere.event_id)])
        await publish(producer, version)
        live.until_sandbox(lambda: len(live.effects()) == 3)
        assert live.effects()[1:] == [("create", waiting.event_id), ("update", behind.event_id)]
        (letter,) = await live.until(topics.DEAD_LETTER.name, 1)
        assert (letter.stage, letter.reason, letter.origin_offset, letter.original) == ("process", "undecodable", 0, GARBAGE)
        health = await until_health(folder, lambda h: not paused(h))
        assert any("goes on" in alarm for alarm in health.alarms)
        assert any("control topic" in alarm for alarm in health.alarms)
        assert live.workers[0].poll() is None
    finally:
        await producer.stop()
