"""A process worker as it runs, on a real broker and against a real sandbox; routed events are written to it by hand."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition

from plugins.sandbox.process import SandboxProcess
from schemas.codec import Codec
from schemas.events import Decision, TicketRouted, WebhookReceived
from schemas.ids import new_event_id, ticket_key
from streams import topics
from streams.broker.admin import ensure_topics
from streams.producer import Outgoing, StageProducer
from streams.tenants.apply import apply
from streams.tenants.config import parse

ROOT = Path(__file__).resolve().parents[3]
TENANT = "acme"
PARTITIONS = 2


class Live:
    """One broker, one Jira sandbox as the target, and workers that are started and killed."""

    def __init__(self, brokers: str, jira: SandboxProcess, folder: Path) -> None:
        self.brokers = brokers
        self.jira = jira
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []
        self.codec = Codec()
        self.routed_offset = 0

    async def prepare(self, **jira_settings: Any) -> None:
        """Topics, and a tenant whose `jira` is the sandbox."""
        await ensure_topics(self.brokers, PARTITIONS)
        config = {
            "tenant": TENANT,
            "tools": {
                "desk": {
                    "type": "zendesk",
                    "base_url": "https://acme.zendesk.example",
                    "auth": {"email": "bot@acme.example", "api_token": "${secret:token}"},
                    "webhook": {"secret": "${secret:hook}"},
                },
                "jira": {
                    "type": "jira",
                    "base_url": self.jira.base_url,
                    "auth": {"email": self.jira.credentials["auth"]["email"], "api_token": "${secret:token}"},
                    "webhook": {"secret": "${secret:hook}"},
                    "project": "OPS",
                    **jira_settings,
                },
            },
            "routes": [],
            "default": {"to": "jira", "do": ["mirror"]},
        }
        await apply(self.brokers, [parse(yaml.safe_dump(config, sort_keys=False), "acme.yaml")])
        await asyncio.sleep(1.1)  # a configuration takes effect one second after its apply; there is no event to wait for

    def start_worker(self, instance: str = "0") -> subprocess.Popen[bytes]:
        """A worker with an empty data directory."""
        folder = self.folder / f"worker-{len(self.workers)}"
        folder.mkdir()
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AI_AGENTS_SECRET_ACME__TOKEN": str(self.jira.credentials["auth"]["api_token"]),
            "AI_AGENTS_SECRET_ACME__HOOK": "invented-hook-secret",
        }
        command = [sys.executable, "-m", "cli.main", "--data-dir", str(folder), "--brokers", self.brokers]
        with (folder / "worker.log").open("wb") as log:
            child = subprocess.Popen(
                [*command, "worker", "--stage", "process", "--instance", instance], stdout=log, stderr=log, env=environment
            )
        self.workers.append(child)
        return child

    async def start_working(self) -> None:
        """The first worker, with its partitions assigned: what is routed from now on was in nobody's hands before."""
        self.start_worker()
        for partition in range(PARTITIONS):
            await self.route([a_routed("warm-up", -1, actions=())], partition)
        await self.until(topics.PROCESSED.name, PARTITIONS)

    def kill_worker(self, number: int = signal.SIGKILL) -> None:
        """Ends the newest worker and waits until it is gone."""
        self.workers[-1].send_signal(number)
        self.workers[-1].wait(30)

    def stop(self) -> None:
        for child in self.workers:
            if child.poll() is None:
                child.kill()
                child.wait()

    async def route(self, events: Sequence[TicketRouted], partition: int = 0) -> None:
        """Writes routed events, as the stage before would."""
        producer = StageProducer(self.brokers)
        await producer.start()
        try:
            keys = [ticket_key(e.tenant, e.tool, e.ticket_id or "").encode() for e in events]
            records = [Outgoing(topics.ROUTED.name, partition, k, self.codec.encode(e)) for k, e in zip(keys, events, strict=True)]
            await producer.send(records)
        finally:
            await producer.stop()

    async def read(self, topic: str) -> list[Any]:
        """Every event of a topic, by partition and offset."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.brokers, enable_auto_commit=False)
        await consumer.start()
        try:
            places = [TopicPartition(topic, n) for n in range(PARTITIONS)]
            ends = await consumer.end_offsets(places)
            consumer.assign(places)
            for place in places:
                consumer.seek(place, 0)
            found: list[Any] = []
            for place in places:
                while await consumer.position(place) < ends[place]:
                    found += [self.codec.decode(r.value) for r in (await consumer.getmany(place, timeout_ms=500)).get(place, [])]
            return found
        finally:
            await consumer.stop()

    async def until(self, topic: str, count: int, seconds: float = 60.0) -> list[Any]:
        """The topic's events, the warm-up's apart, once there are `count` in all."""
        async with asyncio.timeout(seconds):
            while len(found := await self.read(topic)) < count:
                await asyncio.sleep(0.2)
        return [event for event in found if getattr(event, "ticket_id", None) != "warm-up"]

    def until_sandbox(self, what: Callable[[], bool], seconds: float = 30.0) -> None:
        """Asks the sandbox until it says so."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "the sandbox never got there"
            time.sleep(0.02)

    def effects(self) -> list[tuple[str, str | None]]:
        """(kind, event id or note marker) of every effect at the target."""
        return [(row["kind"], row["marker"]) for row in self.jira.ledger()]


def a_routed(ticket: str, number: int, actions: Sequence[str] = ("mirror",), **fields: Any) -> TicketRouted:
    """An event about a Zendesk ticket that a rule sent to jira; `number` is its received offset."""
    event_id, received_at = new_event_id(), time.time_ns() // 1000
    body = {
        "ticket_id": ticket,
        "event": "updated",
        "title": f"Printer {ticket} offline, report {number}",
        "status": "Open",
        "priority": "High",
        "type": "Incident",
    }
    received = WebhookReceived(
        event_id=event_id,
        dedup_key=bytes(16),
        dedup_scope="delivery",
        tenant=TENANT,
        tool="desk",
        tool_type="zendesk",
        ticket_id=ticket,
        content_type="application/json",
        received_at=received_at,
        verified_by="hmac:k1",
        validation_us=40,
        body=json.dumps(body).encode(),
    )
    known = {
        "event_id": event_id,
        "tenant": TENANT,
        "tool": "desk",
        "tool_type": "zendesk",
        "ticket_id": ticket,
        "ticket_type": "incident",
        "priority": "high",
        "decision": Decision(target="jira", actions=list(actions), rule="all", rule_set_version=1),
        "received_at": received_at,
        "received_offset": number,
        "received": Codec().encode(received),
    }
    return TicketRouted(**{**known, **fields})
