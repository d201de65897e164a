"""After the faults: inputs, topics, the sandboxes' ledgers and the tables say the same."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from plugins.marker import find_marker
from schemas.codec import Codec
from schemas.events import ProcessingFailed, TicketProcessed, WebhookReceived
from streams import topics
from streams.audit import run_audit
from streams.broker.errors import BrokerError
from tests.chaos.world import World


@dataclass(slots=True)
class Verdict:
    """What was compared, and each thing that is wrong, by name."""

    delivered: int = 0
    accepted: int = 0
    processed: int = 0
    failed: int = 0
    effects: int = 0
    wrong: list[str] = field(default_factory=list)


async def settle(world: World, timeout: float) -> None:
    """Waits until nothing is in flight and the tables have read to the end of the topics."""
    end = time.monotonic() + timeout
    why = ""
    while time.monotonic() < end:
        try:
            report = await run_audit(world.settings.brokers)
            under_way = sum(row.in_flight + row.retrying for row in report.tools)
            webhooks = sum(s.health()["webhooks"]["pending"] for s in (world.support, world.jira))
            if under_way == 0 and webhooks == 0 and await _tables_caught_up(world):
                return
            why = f"{under_way} events in flight, {webhooks} webhooks pending"
        except (BrokerError, KafkaError, sqlite3.Error) as exc:  # the broker, or the store, is on its way back
            why = str(exc)
        await asyncio.sleep(1.0)
    raise TimeoutError(f"not settled after {timeout:.0f} s: {why}")


async def _tables_caught_up(world: World) -> bool:
    names = [topics.PROCESSED.name, topics.DEAD_LETTER.name]
    ends = await _ends(world, names)
    with sqlite3.connect(f"file:{world.settings.data_dir / 'analytics.db'}?mode=ro", uri=True) as db:
        known = {(t, p): n for t, p, n in db.execute("SELECT topic, part, next_offset FROM stream_position")}
    return all(known.get(at, 0) >= end for at, end in ends.items())


async def _ends(world: World, names: list[str]) -> dict[tuple[str, int], int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=world.settings.brokers)
    await consumer.start()
    try:
        parts = [TopicPartition(name, p) for name in names for p in range(world.settings.partitions)]
        return {(tp.topic, tp.partition): end for tp, end in (await consumer.end_offsets(parts)).items()}
    finally:
        await consumer.stop()


async def _read(world: World, name: str) -> list[tuple[int, int, Any]]:
    """Every record of a topic: partition, offset, event."""
    codec, found = Codec(), []
    ends = await _ends(world, [name])
    if not any(ends.values()):
        return []
    consumer = AIOKafkaConsumer(bootstrap_servers=world.settings.brokers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(name, p) for (_, p), end in ends.items() if end > 0])
        wanted = sum(ends.values())
        while len(found) < wanted:
            for tp, records in (await consumer.getmany(timeout_ms=1000)).items():
                found += [(tp.partition, r.offset, codec.decode(r.value)) for r in records]
    finally:
        await consumer.stop()
    return found


async def check(world: World) -> Verdict:
    """Compares everything; call it when settled."""
    verdict = Verdict(delivered=len(world.deliveries))
    received = await _read(world, topics.RECEIVED.name)
    processed = await _read(world, topics.PROCESSED.name)
    letters = [e for _, _, e in await _read(world, topics.DEAD_LETTER.name)]
    _check_inputs(world, received, verdict)
    await _check_audit(world, verdict)
    _check_effects(world, received, processed, letters, verdict)
    _check_tables(world, processed, verdict)
    return verdict


def _check_inputs(world: World, received: list[tuple[int, int, WebhookReceived]], verdict: Verdict) -> None:
    """0 lost: what was answered 2xx is on the topic, with the id it was answered with."""
    ids = {e.event_id for _, _, e in received}
    verdict.accepted = len(ids)
    for d in world.deliveries:
        verdict.wrong += [f"lost: delivery {d.number} answered 202 as {i} is not on {topics.RECEIVED.name}" for i in d.event_ids - ids]


async def _check_audit(world: World, verdict: Verdict) -> None:
    report = await run_audit(world.settings.brokers)
    verdict.wrong += [f"audit: {problem}" for problem in report.problems]


def _check_effects(
    world: World,
    received: list[tuple[int, int, WebhookReceived]],
    processed: list[tuple[int, int, TicketProcessed]],
    letters: list[ProcessingFailed],
    verdict: Verdict,
) -> None:
    """0 lost and 0 double effects, and the order per ticket by received offset."""
    ledgers = {"support": world.support.ledger(), "jira": world.jira.ledger()}
    places = defaultdict(list)
    for partition, offset, event in received:
        places[event.event_id].append((partition, offset))
    happened: Counter[tuple[str, str, str]] = Counter()
    creates: Counter[str] = Counter()
    last: dict[tuple[str, str, str], tuple[int, int]] = {}
    for tool, rows in ledgers.items():
        for row in rows:
            if row["actor"] != "api":
                continue
            kind = "note" if row["kind"] == "note" else "mirror"
            found = find_marker(row["marker"] or "")
            event_id = found[0] if found else row["marker"]
            if event_id.endswith("/fields"):  # Jira edits fields and moves a ticket in two calls; the second is the effect's end
                event_id, kind = event_id.removesuffix("/fields"), "edit"
            happened[(tool, kind, event_id)] += 1
            verdict.effects += 1
            if row["kind"] == "create":
                creates[row["external_id"]] += 1
            if event_id in places:
                at = min(places[event_id])
                key = (tool, kind, row["ticket_id"])
                if key in last and last[key] > at and last[key][0] == at[0]:
                    verdict.wrong.append(f"order: {tool} {kind} on {row['ticket_id']} applied {at} after {last[key]}")
                last[key] = at
    verdict.wrong += [f"double: {tool} {kind} of {event_id} happened {n} times" for (tool, kind, event_id), n in happened.items() if n > 1]
    verdict.wrong += [f"double: external id {external_id} was created {n} times" for external_id, n in creates.items() if n > 1]
    dead = {letter.event_id for letter in letters}
    finished: dict[str, TicketProcessed] = {}
    for _, _, event in processed:
        finished.setdefault(event.event_id, event)
    verdict.processed = sum(1 for e in finished.values() if e.outcome == "processed")
    verdict.failed = sum(1 for e in finished.values() if e.outcome == "failed")
    for event in finished.values():
        if event.outcome == "failed":
            if event.event_id not in dead:
                verdict.wrong.append(f"lost: {event.event_id} failed without a dead letter")
            continue
        wanted = ["mirror", "note"] if event.target == "jira" and event.tool != "jira" else ["note"]
        verdict.wrong += [
            f"lost: {kind} of {event.event_id} in {event.target} did not happen"
            for kind in wanted
            if event.rule != "urgent" or event.tool != "jira"
            if happened[(str(event.target), kind, event.event_id)] == 0
        ]


def _check_tables(world: World, processed: list[tuple[int, int, TicketProcessed]], verdict: Verdict) -> None:
    """0 double counts: the tables hold each finished event once, and each of its calls once."""
    first: dict[str, TicketProcessed] = {}
    for _, _, event in sorted(processed, key=lambda item: item[:2]):
        first.setdefault(event.event_id, event)
    with sqlite3.connect(f"file:{world.settings.data_dir / 'analytics.db'}?mode=ro", uri=True) as db:
        events = dict(db.execute("SELECT lower(hex(event_id)), COUNT(*) FROM event_fact GROUP BY event_id"))
        facts, rolled = db.execute("SELECT (SELECT COUNT(*) FROM call_fact), (SELECT SUM(calls) FROM usage_daily)").fetchone()
    wanted = {event_id.replace("-", "") for event_id in first}
    verdict.wrong += [f"table: event {e} has {n} rows" for e, n in events.items() if n != 1]
    verdict.wrong += [f"table: event {e} is missing" for e in wanted - set(events)]
    verdict.wrong += [f"table: event {e} was never finished" for e in set(events) - wanted]
    if facts != rolled:
        verdict.wrong.append(f"table: {facts} call facts, but the rollups count {rolled}")


def as_json(verdict: Verdict) -> str:
    """For the terminal."""
    return json.dumps({k: getattr(verdict, k) for k in Verdict.__slots__}, indent=2)  # type: ignore[attr-defined]  # dataclass slots
