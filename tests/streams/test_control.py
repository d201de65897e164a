"""Following the control topics on a real broker."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest

from schemas.codec import MAGIC, Codec, current, released
from schemas.events import Event, LinkSet, SchemaPublished, TenantConfigured
from streams import topics
from streams.broker.admin import ensure_topics
from streams.broker.embedded import EmbeddedBroker
from streams.control import ControlReader, ListenerError, publish_schemas
from streams.producer import Outgoing, StageProducer

pytestmark = pytest.mark.broker


class Heard:
    """Keeps what a reader was fed, and lets a test wait for a number of events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, int, Event]] = []
        self._changed = asyncio.Event()

    def __call__(self, topic: str, partition: int, offset: int, key: bytes | None, event: Event) -> None:
        self.events.append((topic, partition, offset, event))
        self._changed.set()

    async def wait_for(self, condition: object, timeout: float = 30) -> None:
        assert callable(condition)
        async with asyncio.timeout(timeout):
            while not condition(self.events):
                self._changed.clear()
                await self._changed.wait()


def tenant_named(name: str, version: int = 1) -> TenantConfigured:
    return TenantConfigured(tenant=name, version=version, effective_at=version, applied_at=0, config="{}")


def a_link(source: str, offset: int) -> LinkSet:
    return LinkSet(
        tenant="acme",
        source_key=source,
        target_tool="jira",
        target_ticket_id="1",
        external_id="x",
        event_id="e",
        applied_partition=0,
        applied_offset=offset,
        set_at=0,
    )


async def send(brokers: str, *records: Outgoing) -> list[int]:
    producer = StageProducer(brokers)
    await producer.start()
    try:
        return await producer.send(records)
    finally:
        await producer.stop()


def configured(name: str, version: int = 1) -> Outgoing:
    return Outgoing(topics.TENANTS.name, 0, f"{name}/{version}".encode(), Codec().encode(tenant_named(name, version)))


async def test_caught_up_means_everything_there_at_the_call_on_every_partition_has_been_fed(broker: str) -> None:
    """A worker decides nothing before it knows every tenant and every link."""
    mark = uuid.uuid4().hex
    codec = Codec()
    links = [Outgoing(topics.LINKS.name, p, b"k", codec.encode(a_link(f"{mark}/{p}/{n}", n))) for p in range(4) for n in range(3)]
    await send(broker, *links, configured(mark, 1), configured(mark, 2))
    heard = Heard()
    reader = ControlReader(broker, [topics.TENANTS.name, topics.LINKS.name], heard, codec)
    await reader.start()
    try:
        await reader.caught_up(30)
        found = [e for _, _, _, e in heard.events if isinstance(e, LinkSet) and e.source_key.startswith(mark)]
        assert {e.source_key for e in found} == {f"{mark}/{p}/{n}" for p in range(4) for n in range(3)}
        assert [e.version for _, _, _, e in heard.events if isinstance(e, TenantConfigured) and e.tenant == mark] == [1, 2]
        await send(broker, configured(mark, 3))
        await reader.caught_up(30)
        assert [e.version for _, _, _, e in heard.events if isinstance(e, TenantConfigured) and e.tenant == mark] == [1, 2, 3]
    finally:
        await reader.stop()


async def test_a_record_before_its_schema_is_held_and_garbage_is_counted(broker: str) -> None:
    """An unknown fingerprint may be fine; undecodable bytes never are, and neither stops the others."""
    mark = uuid.uuid4().hex
    newer = json.loads(current("TenantConfigured").json)
    newer["fields"].append({"name": f"note_{mark}", "type": ["null", "string"], "default": None})
    event = Codec().encode(tenant_named(mark))
    writer = Codec()
    fingerprint = writer.learn(json.dumps(newer))
    foreign = MAGIC + fingerprint + event[10:] + b"\x00"
    heard, codec = Heard(), Codec()
    reader = ControlReader(broker, [topics.SCHEMAS.name, topics.TENANTS.name], heard, codec)
    await reader.start()
    try:
        key = mark.encode()
        await send(
            broker,
            Outgoing(topics.TENANTS.name, 0, key, foreign),
            Outgoing(topics.TENANTS.name, 0, key + b"x", b"garbage"),
            configured(mark + "-after"),
        )
        await reader.caught_up(30)
        assert [e.tenant for _, _, _, e in heard.events if isinstance(e, TenantConfigured) and e.tenant.startswith(mark)] == [
            mark + "-after"
        ]
        assert reader.held == 1
        assert reader.undecodable >= 1
        schema = SchemaPublished(fingerprint=fingerprint, name="TenantConfigured", schema=json.dumps(newer))
        await send(broker, Outgoing(topics.SCHEMAS.name, 0, fingerprint, codec.encode(schema)))
        await heard.wait_for(lambda events: any(isinstance(e, TenantConfigured) and e.tenant == mark for _, _, _, e in events))
        assert reader.held == 0
    finally:
        await reader.stop()


async def test_every_schema_of_this_build_is_published_once_per_key(broker: str) -> None:
    """A reader of another build learns from schemas.v1 how to read what this one writes."""
    producer = StageProducer(broker)
    await producer.start()
    try:
        await publish_schemas(producer, Codec())
        await publish_schemas(producer, Codec())
    finally:
        await producer.stop()
    heard = Heard()
    reader = ControlReader(broker, [topics.SCHEMAS.name], heard, Codec())
    await reader.start()
    try:
        await reader.caught_up(30)
    finally:
        await reader.stop()
    published = {e.fingerprint for _, _, _, e in heard.events if isinstance(e, SchemaPublished)}
    assert published >= {version.fingerprint for version in released()}


async def test_caught_up_gives_up_in_time_when_there_is_no_broker() -> None:
    reader = ControlReader("127.0.0.1:1", [topics.TENANTS.name], Heard(), Codec())
    await reader.start()
    try:
        with pytest.raises(TimeoutError):
            await reader.caught_up(0.5)
    finally:
        await reader.stop()


async def test_an_error_of_the_listener_is_raised_not_swallowed(broker: str) -> None:
    """A table that silently stopped following would route by old rules for ever."""
    mark = uuid.uuid4().hex
    await send(broker, configured(mark))

    def fails(topic: str, partition: int, offset: int, key: bytes | None, event: Event) -> None:
        raise OSError("not the broker's")

    reader = ControlReader(broker, [topics.TENANTS.name], fails, Codec())
    await reader.start()
    try:
        with pytest.raises(ListenerError):
            await reader.caught_up(30)
        assert reader.failed
    finally:
        await reader.stop()


@pytest.mark.slow
async def test_a_reader_goes_on_after_the_broker_was_away(fresh_broker: EmbeddedBroker) -> None:
    """Tenants applied after a restart of the broker reach workers that were not restarted; nothing is fed twice."""
    brokers = fresh_broker.brokers
    await ensure_topics(brokers, 4)
    heard = Heard()
    reader = ControlReader(brokers, [topics.TENANTS.name], heard, Codec())
    await reader.start()
    try:
        await send(brokers, configured("acme", 1))
        await reader.caught_up(30)
        await asyncio.to_thread(fresh_broker.kill)
        await asyncio.to_thread(fresh_broker.start)
        await send(brokers, configured("acme", 2))
        await heard.wait_for(lambda events: len(events) >= 2, timeout=60)
        assert [e.version for _, _, _, e in heard.events if isinstance(e, TenantConfigured)] == [1, 2]
    finally:
        await reader.stop()
