"""What is left when the faults are over: the topics, the sandboxes' ledgers, the tables, and the same tables made anew from the topics."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
import time
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from analytics.materializer import prepare
from analytics.sqlite import SqliteStore
from analytics.tables import FACTS, ROLLUPS, ROUTING_SERIES, SERIES
from schemas.codec import Codec
from schemas.events import Event, ProcessingFailed, TicketProcessed, WebhookReceived
from streams import topics
from streams.audit import AuditReport, run_audit
from streams.broker.errors import BrokerError
from streams.materialize_step import SOURCES
from tests.chaos.people import Act, Delivery
from tests.chaos.world import World

COMPARED = (SERIES, ROUTING_SERIES, *FACTS, *ROLLUPS)
Place = tuple[int, int]
"""Partition and offset."""
Tables = dict[str, list[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that is compared. Events stand in the order of their places."""

    ring: list[str]
    acts: list[Act]
    deliveries: list[Delivery]
    refused: list[str]
    """Deliveries that the door did not take."""
    received: list[tuple[Place, WebhookReceived]]
    processed: list[tuple[Place, TicketProcessed]]
    letters: list[tuple[Place, ProcessingFailed]]
    ledgers: dict[str, list[dict[str, Any]]]
    """By tool; what our account did there, oldest first."""
    audit: AuditReport
    stored: Tables
    rebuilt: Tables
    spool_records: int


async def settle(world: World, timeout: float) -> None:
    """Waits until nothing is in flight and the tables have read to the end of the topics."""
    end = time.monotonic() + timeout
    why = ""
    while time.monotonic() < end:
        try:
            why = await _under_way(world)
            if not why:
                return
        except (BrokerError, KafkaError, sqlite3.Error, OSError, TimeoutError) as exc:  # one of them is on its way back
            why = f"{type(exc).__name__}: {exc}"
        await asyncio.sleep(0.5)
    raise TimeoutError(f"not settled after {timeout:.0f} s: {why}")


async def _under_way(world: World) -> str:
    """What is not finished yet, in words; empty when all is."""
    before = len(world.people.deliveries)
    if why := _told(world):
        return why
    if spooled := _spool_records(world):
        return f"{spooled} records in the spool"
    tools = (await run_audit(world.settings.brokers)).tools
    if in_flight := sum(row.in_flight + row.retrying for row in tools):
        return f"{in_flight} events in flight"
    ends = await _ends(world, [topics.PROCESSED.name, topics.DEAD_LETTER.name, topics.SEEN.name])
    with closing(_database(world)) as db:
        known = _positions(db)
    late = [f"{topic}[{part}]" for (topic, part), end in ends.items() if known.get((topic, part), 0) < end]
    if late:
        return f"the tables are behind on {', '.join(late)}"
    return _told(world) or ("" if len(world.people.deliveries) == before else "a webhook came meanwhile")


def _told(world: World) -> str:
    """Webhooks on their way, from a tool to the people or from them to the door."""
    waiting = {name: pending for name, s in world.sandboxes.items() if (pending := s.health()["webhooks"]["pending"])}
    if waiting or world.people.pending:
        return f"webhooks pending in {waiting}, {world.people.pending} deliveries"
    return ""


async def gather_evidence(world: World) -> Evidence:
    """Reads everything; call it when settled."""
    audit = await run_audit(world.settings.brokers)
    stored, positions = _stored(world)
    events = {name: await _read(world, name) for name in SOURCES}
    received = await _read(world, topics.RECEIVED.name)
    return Evidence(
        ring=world.ring,
        acts=world.people.acts,
        deliveries=world.people.deliveries,
        refused=world.people.problems,
        received=[(place, e) for place, e in received if isinstance(e, WebhookReceived)],
        processed=[(place, e) for place, e in events[topics.PROCESSED.name] if isinstance(e, TicketProcessed)],
        letters=[(place, e) for place, e in events[topics.DEAD_LETTER.name] if isinstance(e, ProcessingFailed)],
        ledgers={tool: [row for row in s.ledger() if row["actor"] == "api"] for tool, s in world.sandboxes.items()},
        audit=audit,
        stored=stored,
        rebuilt=rebuild(events, positions),
        spool_records=_spool_records(world),
    )


def rebuild(events: dict[str, list[tuple[Place, Event]]], positions: dict[tuple[str, int], int]) -> Tables:
    """The tables that the topics' records give, each partition read once and in order, up to these positions."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "rebuilt.db")
        try:
            for (topic, part), upto in positions.items():
                records = [(offset, event) for (p, offset), event in events.get(topic, ()) if p == part and offset < upto]
                store.assign(topic, part)
                store.apply(prepare(topic, part, records, upto))
            return {table.name: sorted(map(tuple, store.rows(table)), key=repr) for table in COMPARED}
        finally:
            store.close()


def _stored(world: World) -> tuple[Tables, dict[tuple[str, int], int]]:
    """All tables and positions as of one moment."""
    with closing(_database(world)) as db:
        db.execute("BEGIN")
        positions = _positions(db)
        tables = {t.name: sorted(db.execute(f"SELECT {', '.join(t.names)} FROM {t.name}"), key=repr) for t in COMPARED}
        db.rollback()
    return tables, positions


def _database(world: World) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{world.settings.data_dir / 'analytics.db'}?mode=ro", uri=True)


def _positions(db: sqlite3.Connection) -> dict[tuple[str, int], int]:
    return {(t, p): n for t, p, n in db.execute("SELECT topic, part, next_offset FROM stream_position")}


def _spool_records(world: World) -> int:
    with urllib.request.urlopen(world.runtime().admin_url + "/health", timeout=5) as answer:
        return int(json.load(answer)["spool_records"])


async def _ends(world: World, names: list[str]) -> dict[tuple[str, int], int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=world.settings.brokers)
    await consumer.start()
    try:
        parts = [TopicPartition(name, p) for name in names for p in range(world.settings.partitions)]
        return {(tp.topic, tp.partition): end for tp, end in (await consumer.end_offsets(parts)).items()}
    finally:
        await consumer.stop()


async def _read(world: World, name: str) -> list[tuple[Place, Event]]:
    """Every record of a topic, by partition and offset."""
    codec, found = Codec(), []
    consumer = AIOKafkaConsumer(bootstrap_servers=world.settings.brokers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        count = next(t.partitions for t in topics.ALL if t.name == name) or world.settings.partitions
        parts = [TopicPartition(name, p) for p in range(count)]
        ends = {tp: end for tp, end in (await consumer.end_offsets(parts)).items() if end > 0}
        if not ends:
            return []
        consumer.assign(list(ends))
        left = dict(ends)
        async with asyncio.timeout(60):
            while left:
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    found += [((tp.partition, r.offset), codec.decode(r.value)) for r in records if r.offset < ends[tp]]
                left = {tp: end for tp, end in left.items() if await consumer.position(tp) < end}
    finally:
        await consumer.stop()
    return sorted(found, key=lambda item: item[0])
