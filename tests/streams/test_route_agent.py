"""The stage route on a real broker: killed, moved and given empty folders, it loses nothing and drops no more than it should."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from cli.bench.load import a_delivery
from schemas.codec import Codec
from schemas.events import BatchSeen, ProcessingFailed, SeenOutcome, TenantConfigured, TicketRouted, WebhookReceived
from schemas.ids import delivery_dedup_key
from streams.broker.admin import ensure_topics
from streams.broker.embedded import EmbeddedBroker
from streams.producer import Outgoing, StageProducer
from streams.topics import DEAD_LETTER, RECEIVED, ROUTED, SEEN, TENANTS

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PARTITIONS = 4
NOW = 1_790_000_000_000_000
CODEC = Codec()
CONFIG = {
    "tenant": "acme",
    "tools": {
        "desk": {"type": "zendesk", "actor": "900", "webhook": {"secret": "${secret:hook}"}},
        "jira": {"type": "jira"},
    },
    "routes": [
        {"name": "spam is dropped", "match": {"tags": "spam"}, "to": None, "do": ["drop"]},
        {"name": "incidents", "match": {"type": "incident"}, "to": "jira", "do": ["mirror"]},
    ],
    "default": {"to": "desk", "do": ["note"]},
}


def a_body(number: int, **detail: object) -> bytes:
    body = json.loads(a_delivery(number))
    body["detail"].update(detail)
    return json.dumps(body).encode()


class Door:
    """Appends events as the door would, and keeps the ledger of what each must become."""

    def __init__(self, producer: StageProducer, rng: random.Random) -> None:
        self.producer = producer
        self.rng = rng
        self.sent = 0
        self.deliveries: list[tuple[int, str, bytes]] = []
        self.expected: dict[str, SeenOutcome] = {}
        self.garbage = 0

    async def open(self, count: int, *, redelivered: float = 0.1) -> None:
        """So many records: new ones, redeliveries, the door's own re-sends, echoes, dropped ones, and bytes that are nothing."""
        for begin in range(0, count, 1000):
            await self.producer.send([self._record(redelivered) for _ in range(min(1000, count - begin))])

    def _record(self, redelivered: float) -> Outgoing:
        self.sent += 1
        dice = self.rng.random()
        if dice < 0.005:
            self.garbage += 1
            return Outgoing(RECEIVED.name, self.rng.randrange(PARTITIONS), b"noise", self.rng.randbytes(20))
        event_id = str(uuid.UUID(int=(NOW // 1000) << 80 | 7 << 76 | 2 << 62 | self.sent))
        if dice < 0.005 + redelivered and self.deliveries:
            partition, delivery, body = self.rng.choice(self.deliveries)
            outcome = SeenOutcome.DUPLICATE
        else:
            partition, delivery = self.rng.randrange(PARTITIONS), f"d{self.sent}"
            outcome = self.rng.choices([SeenOutcome.ROUTED, SeenOutcome.ECHO, SeenOutcome.DROPPED], [90, 5, 5])[0]
            detail: dict[str, object] = {"id": str(self.sent)}
            if outcome is SeenOutcome.ECHO:
                detail["actor_id"] = "900"
            elif outcome is SeenOutcome.DROPPED:
                detail["tags"] = ["spam"]
            body = a_body(self.sent, **detail)
            self.deliveries.append((partition, delivery, body))
        self.expected[event_id] = outcome
        event = WebhookReceived(
            event_id=event_id,
            dedup_key=delivery_dedup_key("acme", "desk", delivery),
            dedup_scope="delivery",
            delivery_id=delivery,
            tenant="acme",
            tool="desk",
            tool_type="zendesk",
            ticket_id=delivery,
            received_at=NOW + self.sent * 1000,
            verified_by="zendesk:ab",
            body=body,
        )
        return Outgoing(RECEIVED.name, partition, delivery.encode(), CODEC.encode(event))


class Outcome:
    """Follows what the stage writes."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self.consumer = consumer
        self.decided: dict[tuple[int, int], tuple[str, str]] = {}
        """(partition, received offset) -> (event_id, outcome), the first decision on the topic."""
        self.routed: dict[str, list[tuple[int, bool]]] = {}
        self.letters: list[ProcessingFailed] = []

    async def until(self, records: int, timeout: float = 60.0) -> None:
        """Reads on until so many received records are decided."""
        async with asyncio.timeout(timeout):
            while len(self.decided) < records:
                await self._read(500)

    async def rest(self) -> None:
        """Reads what is still to be read."""
        while await self._read(1000):
            pass

    async def _read(self, timeout_ms: int) -> int:
        read = 0
        for place, records in (await self.consumer.getmany(timeout_ms=timeout_ms)).items():
            read += len(records)
            for record in records:
                event = CODEC.decode(record.value)
                if isinstance(event, BatchSeen):
                    for seen in event.records:
                        event_id = str(uuid.UUID(bytes=seen.event_id)) if seen.event_id else ""
                        self.decided.setdefault((place.partition, seen.offset), (event_id, seen.outcome))
                elif isinstance(event, TicketRouted):
                    self.routed.setdefault(event.event_id, []).append((event.received_offset, event.possible_repeat))
                elif isinstance(event, ProcessingFailed):
                    self.letters.append(event)
        return read


@asynccontextmanager
async def a_world(broker: EmbeddedBroker, seed: int) -> AsyncIterator[tuple[str, Door, Outcome]]:
    """Topics, a tenant, a door and a reader of the outcome."""
    servers = broker.brokers
    await ensure_topics(servers, PARTITIONS)
    producer = StageProducer(servers)
    await producer.start()
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", max_partition_fetch_bytes=4 << 20)
    await consumer.start()
    try:
        configured = TenantConfigured(tenant="acme", version=1, effective_at=1, applied_at=1, config=json.dumps(CONFIG))
        await producer.send([Outgoing(TENANTS.name, 0, b"acme/1", CODEC.encode(configured))])
        consumer.assign([TopicPartition(t.name, p) for t in (ROUTED, DEAD_LETTER, SEEN) for p in range(PARTITIONS)])
        yield servers, Door(producer, random.Random(seed)), Outcome(consumer)
    finally:
        await consumer.stop()
        await producer.stop()


def start_stage(servers: str, folder: Path, instance: str = "0") -> subprocess.Popen[bytes]:
    """`ai-agents worker --stage route`, as the supervisor runs it."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cli.main", "--data-dir", str(folder), "--brokers", servers, "worker", "--stage", "route"]
    with (folder / f"route-{instance}.log").open("ab") as log:
        return subprocess.Popen([*command, "--instance", instance], stdout=log, stderr=log, cwd=Path(__file__).parents[2])


def check(door: Door, outcome: Outcome, seed: int) -> None:
    """Everything that came in came out, as what it must."""
    found = {event_id: what for event_id, what in outcome.decided.values() if event_id}
    assert found.keys() == door.expected.keys(), f"seed {seed}"
    wrong = {i: (found[i], door.expected[i]) for i in found if found[i] != door.expected[i]}
    assert not wrong, f"seed {seed}: {len(wrong)} wrong, as {next(iter(wrong.items()))}"
    to_route = {i for i, what in door.expected.items() if what is SeenOutcome.ROUTED}
    assert outcome.routed.keys() == to_route, f"seed {seed}: lost {len(to_route - outcome.routed.keys())}"
    assert len({(x.origin_partition, x.origin_offset) for x in outcome.letters}) == door.garbage
    assert {x.reason for x in outcome.letters} <= {"undecodable"}
    assert len(outcome.decided) == door.sent


@pytest.mark.timeout(240)
async def test_killed_in_mid_stream_it_loses_nothing_and_decides_each_event_once(fresh_broker: EmbeddedBroker, tmp_path: Path) -> None:
    """kill -9 again and again, once with the cache lost as well, while redeliveries of everything before keep coming."""
    seed = 5
    async with a_world(fresh_broker, seed) as (servers, door, outcome):
        await door.open(12_000)
        folder = tmp_path / "0"
        stage = start_stage(servers, folder)
        try:
            for kill in range(4):
                await outcome.until(len(outcome.decided) + 800 + door.rng.randrange(2500))
                stage.send_signal(signal.SIGKILL)
                stage.wait()
                if kill == 1:
                    await door.open(6_000, redelivered=0.4)
                if kill == 2:
                    (folder / "seen-0.db").unlink()
                stage = start_stage(servers, folder)
            await outcome.until(door.sent)
            stage.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(stage.wait, 15) == 0
        finally:
            stage.kill()
            stage.wait()
        await outcome.rest()
        check(door, outcome, seed)
        again = sum(len(places) - 1 for places in outcome.routed.values())
        assert again < 4 * 4 * 2000, "more than what can be in flight was routed again"


@pytest.mark.timeout(240)
async def test_partitions_that_move_to_an_empty_data_directory_know_what_was_seen(fresh_broker: EmbeddedBroker, tmp_path: Path) -> None:
    """A second worker joins with nothing but the topics, then the first one leaves: redeliveries are told from news all the time."""
    seed = 6
    async with a_world(fresh_broker, seed) as (servers, door, outcome):
        first = start_stage(servers, tmp_path / "a", "1")
        second = None
        try:
            await door.open(3_000)
            await outcome.until(door.sent)
            second = start_stage(servers, tmp_path / "b", "2")
            for _ in range(6):
                await door.open(500, redelivered=0.4)
                await outcome.until(door.sent)
            first.send_signal(signal.SIGKILL)
            await door.open(1_000, redelivered=0.4)
            await outcome.until(door.sent, 90)
        finally:
            for stage in (first, second):
                if stage is not None:
                    stage.kill()
                    stage.wait()
        await outcome.rest()
        check(door, outcome, seed)
