"""The stage materialize as a process, on a real broker: killed, doubled, poisoned, and the tables are right in the end."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from analytics.materializer import prepare
from analytics.sqlite import SqliteStore
from schemas.codec import MAGIC, Codec, current, schema_version
from schemas.events import Event, SchemaPublished
from streams import topics
from streams.broker.admin import ensure_topics
from streams.broker.embedded import EmbeddedBroker
from streams.health import read_health
from streams.producer import Outgoing, StageProducer
from tests.analytics.building import PROCESSED, a_log, a_processed

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
CODEC = Codec()


class Materializers:
    """Processes of the stage on one broker and one store, ended with the test."""

    def __init__(self, brokers: str, data_dir: Path) -> None:
        self.brokers = brokers
        self.data_dir = data_dir
        self.store = data_dir / "analytics.db"
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, instance: str = "0") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cli.main", "--data-dir", str(self.data_dir), "--brokers", self.brokers]
        with (self.data_dir / f"materialize-{instance}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "materialize", "--instance", instance, "--keep-days", "36500"],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.running.append(process)
        return process

    def asked(self, sql: str) -> list[tuple[Any, ...]]:
        """The answer, or nothing while there is no such table yet."""
        if not self.store.exists():
            return []
        with sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=5) as db:
            try:
                return db.execute(sql).fetchall()
            except sqlite3.OperationalError:
                return []

    async def until(self, reached: Callable[[], bool], seconds: float = 60.0) -> None:
        """Waits for something to be in the tables or the health file; there is no event across processes."""
        async with asyncio.timeout(seconds):
            while not reached():
                await asyncio.sleep(0.02)

    def next_offsets(self) -> dict[tuple[str, int], int]:
        return {(t, p): n for t, p, n in self.asked("SELECT topic, part, next_offset FROM stream_position")}


@pytest.fixture
def materializers(fresh_broker: EmbeddedBroker, tmp_path: Path) -> Iterator[Materializers]:
    """A broker of its own with one partition a topic: the logs of building.py are of one partition."""
    asyncio.run(ensure_topics(fresh_broker.brokers, 1))
    made = Materializers(fresh_broker.brokers, tmp_path)
    yield made
    for process in made.running:
        process.kill()
        process.wait()


async def send(brokers: str, topic: str, values: list[bytes], partition: int = 0) -> None:
    producer = StageProducer(brokers)
    await producer.start()
    for begin in range(0, len(values), 500):
        await producer.send([Outgoing(topic, partition, b"k", value) for value in values[begin : begin + 500]])
    await producer.stop()


def built_from_zero(path: Path, logs: dict[tuple[str, int], list[Event]]) -> dict[str, Any]:
    """What the tables must be: every record applied once, in order, by one process."""
    store = SqliteStore(path)
    for source, events in logs.items():
        store.assign(*source)
        store.apply(prepare(*source, list(enumerate(events)), len(events)))
    store.close()
    return dumped(path)


def dumped(path: Path) -> dict[str, Any]:
    db = sqlite3.connect(path)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\'")]
    rows = {name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}
    db.close()
    del rows["retention"]  # the clock's
    return rows


async def test_killed_again_and_again_the_tables_are_those_of_a_build_from_zero(materializers: Materializers, tmp_path: Path) -> None:
    """kill -9 between fetch, commit and the group's commit: nothing lost, nothing counted twice, on every table."""
    seed, rng = 3, random.Random(3)
    logs = {topic: [event for _, event in records] for (topic, _), records in a_log(seed, 6000).items()}
    process = materializers.start()
    for part in range(4):
        for topic, events in logs.items():
            quarter = len(events) // 4
            chunk = events[part * quarter :] if part == 3 else events[part * quarter : (part + 1) * quarter]
            await send(materializers.brokers, topic, [CODEC.encode(event) for event in chunk])
        wanted = part * len(logs[PROCESSED]) // 4 + rng.randrange(1, 500)
        await materializers.until(lambda n=wanted: materializers.next_offsets().get((PROCESSED, 0), 0) >= n)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = materializers.start()
    ends = {(topic, 0): len(events) for topic, events in logs.items()}
    await materializers.until(lambda: materializers.next_offsets() == ends)
    await materializers.until(lambda: any(h.pid == process.pid and h.state == "running" for h in read_health(materializers.data_dir)))
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 15) == 0
    assert dumped(materializers.store) == built_from_zero(tmp_path / "zero.db", {(t, 0): e for t, e in logs.items()}), f"seed {seed}"


@pytest.mark.slow
async def test_materializers_that_come_and_go_share_the_partitions_without_counting_twice(
    fresh_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    """A second one joins in mid-stream and is killed there; the first takes over what it left, from the store's position."""
    partitions, length = 3, 2500
    await ensure_topics(fresh_broker.brokers, partitions)
    logs: dict[tuple[str, int], list[Event]] = {}
    for p in range(partitions):
        for (topic, _), records in a_log(20 + p, length, first=p * length).items():
            if topic != topics.COUNTS.name:
                logs[topic, p] = [event for _, event in records]
    made = Materializers(fresh_broker.brokers, tmp_path)

    async def send_part(part: int) -> None:
        for (topic, p), events in logs.items():
            chunk = events[part * len(events) // 3 : (part + 1) * len(events) // 3]
            await send(made.brokers, topic, [CODEC.encode(event) for event in chunk], p)

    def share(pid: int) -> int:
        return sum(len(h.partitions) for h in read_health(tmp_path) if h.pid == pid and h.state == "running")

    try:
        await send_part(0)
        made.start("0")
        await made.until(lambda: bool(made.next_offsets()))
        second = made.start("1")
        await made.until(lambda: share(second.pid) > 0)
        await send_part(1)
        await made.until(lambda: sum(made.next_offsets().values()) > sum(map(len, logs.values())) // 2)
        second.kill()
        second.wait()
        await send_part(2)
        ends = {source: len(events) for source, events in logs.items()} | {(topics.COUNTS.name, 0): 0}
        await made.until(lambda: made.next_offsets() == ends, 90)
    finally:
        for process in made.running:
            process.kill()
            process.wait()
    expected = built_from_zero(tmp_path / "zero.db", logs)
    found = dumped(made.store)
    del found["stream_position"], expected["stream_position"]  # the empty topic's row
    assert found == expected


async def test_garbage_on_any_topic_becomes_a_dead_letter_and_an_unknown_schema_is_waited_for(materializers: Materializers) -> None:
    """Bytes that are nothing are set aside with their reason; bytes of a newer writer pause their partition, visibly, until the
    schema is known."""
    sources = [topics.PROCESSED.name, topics.COUNTS.name, topics.SEEN.name, topics.DEAD_LETTER.name]
    for topic in sources:
        await send(materializers.brokers, topic, [b"garbage"])
    process = materializers.start()
    letters = "SELECT origin_topic FROM dead_letters WHERE reason = 'undecodable' ORDER BY 1"
    await materializers.until(lambda: [t for (t,) in materializers.asked(letters)] == sorted(sources))

    newer = json.loads(current("TicketProcessed").json)
    newer["fields"].append({"name": "mood", "type": "string", "default": "", "doc": "Not known to this build."})
    version = schema_version(json.dumps(newer))
    ours = CODEC.encode(a_processed(1))
    later = MAGIC + version.fingerprint + ours[10:] + b"\x08glad"
    await send(materializers.brokers, topics.PROCESSED.name, [later, CODEC.encode(a_processed(2))])

    def paused() -> list[str]:
        return [p.paused for h in read_health(materializers.data_dir) for p in h.partitions if p.paused]

    await materializers.until(lambda: bool(paused()))
    assert version.fingerprint.hex() in paused()[0]
    assert materializers.asked("SELECT COUNT(*) FROM events") == [(0,)]
    schema = SchemaPublished(fingerprint=version.fingerprint, name="TicketProcessed", schema=version.json)
    await send(materializers.brokers, topics.SCHEMAS.name, [CODEC.encode(schema)])
    await materializers.until(lambda: materializers.asked("SELECT COUNT(*) FROM events") == [(2,)])
    assert process.poll() is None


async def test_a_store_that_is_locked_is_waited_for(materializers: Materializers) -> None:
    """The alarm is visible, and the rows come when the lock is gone."""
    await send(materializers.brokers, topics.PROCESSED.name, [CODEC.encode(a_processed(1))])
    materializers.start()
    await materializers.until(lambda: materializers.asked("SELECT COUNT(*) FROM events") == [(1,)])
    lock = sqlite3.connect(materializers.store, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    await send(materializers.brokers, topics.PROCESSED.name, [CODEC.encode(a_processed(2))])
    await materializers.until(lambda: any("locked" in a for h in read_health(materializers.data_dir) for a in h.alarms))
    lock.execute("ROLLBACK")
    lock.close()
    await materializers.until(lambda: materializers.asked("SELECT COUNT(*) FROM events") == [(2,)])


async def test_a_partition_that_another_materializer_moved_on_is_let_go(materializers: Materializers) -> None:
    """A process that slept through a rebalance must not count what its successor counted; started anew, it goes on from there."""
    events = [a_processed(n) for n in range(1, 7)]
    await send(materializers.brokers, topics.PROCESSED.name, [CODEC.encode(event) for event in events[:2]])
    process = materializers.start()
    await materializers.until(lambda: materializers.asked("SELECT COUNT(*) FROM events") == [(2,)])
    successor = SqliteStore(materializers.store)
    successor.assign(PROCESSED, 0)
    successor.apply(prepare(PROCESSED, 0, list(enumerate(events[:4])), 4))
    successor.close()
    await send(materializers.brokers, topics.PROCESSED.name, [CODEC.encode(event) for event in events[2:]])
    await materializers.until(lambda: any("another materializer" in a for h in read_health(materializers.data_dir) for a in h.alarms))
    assert materializers.next_offsets()[PROCESSED, 0] == 4
    process.kill()
    process.wait()
    materializers.start()
    await materializers.until(lambda: materializers.asked("SELECT SUM(calls) FROM method_usage") == [(6,)])
    assert materializers.asked("SELECT SUM(duplicates) FROM freshness") == [(0,)]


async def test_a_topic_made_anew_is_read_from_its_start_and_said(materializers: Materializers) -> None:
    """Its offsets begin again below the store's position: passed over in silence, everything new would be missing."""
    await send(materializers.brokers, topics.PROCESSED.name, [CODEC.encode(a_processed(n)) for n in range(5)])
    process = materializers.start()
    await materializers.until(lambda: materializers.asked("SELECT COUNT(*) FROM events") == [(5,)])
    process.kill()
    process.wait()
    admin = AIOKafkaAdminClient(bootstrap_servers=materializers.brokers)
    await admin.start()
    await admin.delete_topics([topics.PROCESSED.name])
    await admin.close()
    await ensure_topics(materializers.brokers, 1)
    await send(materializers.brokers, topics.PROCESSED.name, [CODEC.encode(a_processed(n)) for n in (4, 77)])
    materializers.start()
    await materializers.until(lambda: materializers.asked("SELECT COUNT(*) FROM events") == [(6,)])
    assert materializers.asked("SELECT SUM(calls) FROM method_usage") == [(6,)]
    await materializers.until(lambda: any("made anew" in a for h in read_health(materializers.data_dir) for a in h.alarms))
