"""`ai-agents bench route`: received events on a topic to their routed records, dedup on.

Zendesk events of 2 KB of one tenant with ten rules, one in a hundred a redelivery. The stage runs as it always does, in a process
of its own; so do the baselines, on the same bytes and calling the same functions (cli/bench/route_baselines.py). Each waits at its
gate before the first fetch and is measured from there to the last acknowledged record; between them the outputs are made anew.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from cli.bench.child import Measured, gated, records_on
from cli.bench.load import a_delivery
from cli.bench.measure import Baseline, BenchResult
from cli.output import say
from schemas.codec import Codec
from schemas.events import TenantConfigured, WebhookReceived
from schemas.hotpath import encode_received
from schemas.ids import delivery_dedup_key, new_event_id, ticket_key
from streams.topics import RECEIVED, ROUTED, SEEN, TENANTS

TARGET_US = 26.0
PARTITIONS = 4
TICKETS = 400
REDELIVERED_EVERY = 100
FAUST_EVENTS = 20_000
"""The Faust agent is given fewer: at its speed more would only take longer."""
SEND_AT_ONCE = 500
POLL_SECONDS = 0.05
CONFIG = {
    "tenant": "bench",
    "tools": {
        "desk": {"type": "zendesk", "actor": "8447000000000", "webhook": {"secret": "${secret:hook}"}},
        "jira": {"type": "jira"},
    },
    "routes": [
        {"name": "changes", "match": {"type": "change"}, "to": "jira", "do": ["mirror"]},
        {"name": "P1 incidents", "match": {"type": "incident", "priority": "P1"}, "to": "jira", "do": ["mirror", "note"]},
        {"name": "the board", "match": {"requester": "*@board.example"}, "to": "jira", "do": ["mirror"]},
        {"name": "spam", "match": {"tags": "spam"}, "do": ["drop"]},
        {"name": "printers", "match": {"subject": "*printer*", "status": ["new", "open"]}, "to": "desk", "do": ["note"]},
        {"name": "resolved", "match": {"status": "resolved"}, "to": "desk", "do": ["note"]},
        {"name": "Bonn", "match": {"custom_fields.site": "Bonn"}, "to": "jira", "do": ["mirror"]},
        {"name": "many seats", "match": {"custom_fields.seats": {"min": 100}}, "to": "jira", "do": ["mirror"]},
        {"name": "problems", "match": {"type": "problem"}, "to": "jira", "do": ["mirror"]},
        {"name": "incidents", "match": {"type": "incident"}, "to": "jira", "do": ["mirror"]},
    ],
    "default": {"to": "desk", "do": ["note"]},
}


def run(events: int) -> BenchResult:
    """Measures `events` received events, each way in turn."""
    from streams.broker.embedded import EmbeddedBroker

    some = min(events, FAUST_EVENTS)
    with tempfile.TemporaryDirectory(prefix="ai-agents-bench-") as folder:
        broker = EmbeddedBroker(Path(folder) / "kafka", ephemeral=True)
        brokers = broker.start()
        try:
            say(f"writing {some} received events, then {events}")
            asyncio.run(_fill(brokers, some))
            manual = _measure("faust", brokers, Path(folder) / "faust", some)
            asyncio.run(_fill(brokers, events))
            bare = _measure("bare", brokers, Path(folder) / "bare", events)
            asyncio.run(_renew(brokers, [ROUTED.name, SEEN.name]))
            ours = _measure("stage", brokers, Path(folder) / "stage", events)
        finally:
            broker.stop()
    return BenchResult(
        step="route",
        events=events,
        cpu_us_per_event=ours.cpu_us_per_event,
        events_per_s=ours.events_per_s,
        p50_ms=ours.p50_ms,
        p99_ms=ours.p99_ms,
        rss_mb=ours.rss_mb,
        target=TARGET_US,
        baselines=[
            Baseline("bare aiokafka loop, same functions", bare.cpu_us_per_event, bare.events_per_s),
            Baseline("Faust agent as its manual shows it, same functions", manual.cpu_us_per_event, manual.events_per_s),
        ],
        details={"faust_events": some, "redelivered": events - to_route(events), "idle_rss_mb": ours.idle_rss_mb},
    )


def a_record(n: int, now: int) -> tuple[bytes, bytes]:
    """Key and value of an event as the door makes it; every hundredth is the redelivery of one before it, on the same partition."""
    number = n - PARTITIONS if n and n % REDELIVERED_EVERY == 0 else n
    ticket_id, delivery = str(1 + number % TICKETS), f"6f0ae7bc-33b8-4b6f-9f3c-{number:012d}"
    key = ticket_key("bench", "desk", ticket_id).encode()
    event = WebhookReceived(
        event_id=new_event_id(),
        dedup_key=delivery_dedup_key("bench", "desk", delivery),
        dedup_scope="delivery",
        delivery_id=delivery,
        tenant="bench",
        tool="desk",
        tool_type="zendesk",
        ticket_id=ticket_id,
        content_type="application/json",
        headers={
            "x-zendesk-account-id": "12514403",
            "x-zendesk-webhook-id": "01HWEBHOOK",
            "x-zendesk-webhook-invocation-id": f"01HCALL{n:010d}",
        },
        received_at=now + n * 100,
        verified_by="zendesk-hmac:ab12cd34",
        validation_us=41,
        body=a_delivery(number),
    )
    return key, encode_received(event)


def to_route(events: int) -> int:
    """How many of so many events are no redeliveries."""
    return events - (events - 1) // REDELIVERED_EVERY


async def _renew(brokers: str, names: list[str]) -> None:
    """Deletes topics and makes every missing one."""
    from streams.broker.admin import ensure_topics

    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        there = set(await admin.list_topics())
        if gone := [name for name in names if name in there]:
            await admin.delete_topics(gone)
            while set(gone) & set(await admin.list_topics()):  # noqa: ASYNC110 - the broker tells nobody when it is done
                await asyncio.sleep(POLL_SECONDS)
    finally:
        await admin.close()
    await ensure_topics(brokers, PARTITIONS)


async def _fill(brokers: str, events: int) -> None:
    from streams.producer import Outgoing, StageProducer

    await _renew(brokers, [RECEIVED.name, ROUTED.name, SEEN.name])
    now = time.time_ns() // 1000
    producer = StageProducer(brokers)
    await producer.start()
    try:
        configured = TenantConfigured(tenant="bench", version=1, effective_at=1, applied_at=1, config=json.dumps(CONFIG))
        await producer.send([Outgoing(TENANTS.name, 0, b"bench/1", Codec().encode(configured))])
        for begin in range(0, events, SEND_AT_ONCE):
            numbers = range(begin, min(begin + SEND_AT_ONCE, events))
            await producer.send([Outgoing(RECEIVED.name, n % PARTITIONS, *a_record(n, now)) for n in numbers])
    finally:
        await producer.stop()


def _measure(mode: str, brokers: str, folder: Path, events: int) -> Measured:
    """Runs one way in a process of its own, from its gate until the broker has every routed record."""
    say(f"measuring: {mode}, {events} events")
    with gated("cli.bench.route_baselines", mode, brokers, folder) as child, records_on(brokers, ROUTED.name, PARTITIONS) as routed:
        return child.measure(events, routed, wanted=to_route(events))
