"""Rules at the command line: checked, tested, explained, and tried on what was received, on a real broker."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.bench.load import a_delivery
from cli.main import cli
from plugins.manager import PluginManager
from plugins.registry import PluginRegistry
from schemas.codec import Codec
from schemas.events import TicketRouted, WebhookReceived
from schemas.ids import delivery_dedup_key, new_event_id, ticket_key
from streams.clock import SystemClock
from streams.links import LinkTable
from streams.producer import Outgoing, StageProducer
from streams.route_history import PastEvent, Reader, explain
from streams.route_step import RouteContext, route_batch
from streams.seen import SeenCache
from streams.tenants.apply import read_tenants
from streams.topics import RECEIVED
from tests.streams.route_building import ARecord, SeenTopic, at_once

CODEC = Codec()

FILE = """\
tenant: {tenant}
tools:
  desk: {{type: zendesk, base_url: "https://acme.zendesk.example", auth: {{email: bot@acme.example, api_token: "${{secret:token}}"}},
         webhook: {{secret: "${{secret:hook}}"}}, actor: "900"}}
  jira: {{type: jira, base_url: "https://acme.jira.example", auth: {{email: bot@acme.example, api_token: "${{secret:token}}"}},
         project: OPS}}
routes:
  - {{name: urgent, match: {{priority: P1}}, to: jira, do: [mirror, note], continue: true}}
  - {{name: a fifth, match: {{type: incident}}, percent: 20, to: jira, do: [mirror]}}
  - {{name: by expression, when: 'ticket.priority == "high" && "spam" in ticket.tags', do: [drop]}}
  - {{name: problems, match: {{type: {problems}}}, to: jira, do: [mirror]}}
default: {{to: desk, do: [note]}}
examples:
  - {{name: urgent goes to both, ticket: {{priority: P1, type: problem}}, tool: desk, to: jira}}
  - {{name: spam, ticket: {{priority: P2, tags: [spam]}}, tool: desk, dropped: true, route: by expression}}
  - {{name: the rest, ticket: {{subject: printer}}, tool: desk, route: default}}
"""


def run(data_dir: Path, brokers: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--data-dir", str(data_dir), "--brokers", brokers, *arguments])


def a_file(folder: Path, tenant: str, problems: str = "problem") -> str:
    file = folder / f"{tenant}-{problems}.yaml"
    file.write_text(FILE.format(tenant=tenant, problems=problems))
    return str(file)


def test_a_file_is_checked_without_a_broker(tmp_path: Path) -> None:
    """Whoever writes rules has no broker at hand."""
    good = a_file(tmp_path, "acme")
    assert run(tmp_path, "nowhere:1", "route", "lint", good, "-o", "json").exit_code == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text(Path(good).read_text().replace("match: {priority: P1}", "match: {priority: P9}"))
    told = run(tmp_path, "nowhere:1", "route", "lint", str(bad), "-o", "json")
    assert told.exit_code == 1
    (problem,) = json.loads(told.stdout)
    assert (problem["level"], problem["line"], problem["path"]) == ("error", 8, "routes[0].match.priority")
    bad.write_text(Path(good).read_text().replace("match: {priority: P1}", "match: {}").replace(", continue: true", ""))
    warned = run(tmp_path, "nowhere:1", "route", "lint", str(bad), "-o", "json")
    assert warned.exit_code == 0
    assert [row["path"] for row in json.loads(warned.stdout)] == ["routes[1]", "routes[2]", "routes[3]"]
    assert run(tmp_path, "nowhere:1", "route", "lint", "--strict", str(bad)).exit_code == 1


def test_a_tenants_own_examples_are_run(tmp_path: Path) -> None:
    """The table is the tenant's test of its rules; a miss says what came instead."""
    good = Path(a_file(tmp_path, "acme"))
    assert run(tmp_path, "nowhere:1", "route", "test", str(good)).exit_code == 0
    good.write_text(good.read_text().replace("tags: [spam]}", "tags: [eggs]}"))
    missed = run(tmp_path, "nowhere:1", "route", "test", str(good), "-o", "json")
    assert missed.exit_code == 1
    assert [row["why"] for row in json.loads(missed.stdout) if row["result"] == "wrong"] == [
        "went by default, not by by expression; was not dropped"
    ]


def test_a_delivery_in_a_file_is_explained(tmp_path: Path) -> None:
    """Before the first event ever came."""
    rules = a_file(tmp_path, "acme")
    body = tmp_path / "delivery.json"
    body.write_bytes(a_delivery(1))
    told = json.loads(run(tmp_path, "nowhere:1", "route", "explain", str(body), "--rules", rules, "--tool", "desk", "-o", "json").stdout)
    assert [trace["rule"] for trace in told["trace"]] == ["urgent", "a fifth", "by expression", "problems", "default"]
    assert all(trace["reasons"] for trace in told["trace"] if trace["outcome"] == "not matched")
    assert run(tmp_path, "nowhere:1", "route", "explain", str(body), "--rules", rules, "--tool", "nope").exit_code == 2


def an_event(tenant: str, number: int) -> WebhookReceived:
    body = json.loads(a_delivery(number))
    body["detail"].update(
        id=str(number),
        priority=["URGENT", "HIGH", "NORMAL", "LOW"][number % 4],
        type=["INCIDENT", "PROBLEM", "QUESTION"][number % 3],
        tags=["spam"] if number % 8 == 1 else [],
    )
    return WebhookReceived(
        event_id=new_event_id(),
        dedup_key=delivery_dedup_key(tenant, "desk", f"d{number}"),
        dedup_scope="delivery",
        delivery_id=f"d{number}",
        tenant=tenant,
        tool="desk",
        tool_type="zendesk",
        ticket_id=str(number),
        received_at=time.time_ns() // 1000,
        verified_by="zendesk:ab",
        body=json.dumps(body).encode(),
    )


@pytest.mark.broker
def test_yesterday_is_explained_and_asked_again(tmp_path: Path, broker: str) -> None:
    """What route stored, explain says again; what a new file would change, diff counts, and nothing else."""
    tenant, count = f"t{uuid.uuid4().hex[:8]}", 400
    assert run(tmp_path, broker, "tenant", "apply", a_file(tmp_path, tenant)).exit_code == 0
    registry = asyncio.run(read_tenants(broker))
    wait = registry.records(tenant)[-1].effective_at - time.time_ns() // 1000
    time.sleep(max(wait, 0) / 1e6 + 0.01)  # the version is in force at a time, and no event tells of it

    events = [an_event(tenant, number) for number in range(count)]
    records = [
        ARecord(n, CODEC.encode(event), ticket_key(tenant, "desk", event.ticket_id or "").encode()) for n, event in enumerate(events)
    ]
    seen = SeenCache(None, CODEC)
    at_once(seen.catch_up(0, SeenTopic()))
    plugins = PluginManager(PluginRegistry.discover(), registry.binding, lambda tenant: lambda reference: ())
    ctx = RouteContext(codec=CODEC, seen=seen, tenants=registry, plugins=plugins, links=LinkTable(), clock=SystemClock())
    routed = route_batch(0, records, ctx)

    async def publish() -> None:
        producer = StageProducer(broker, {}, client_id="test")
        await producer.start()
        await producer.send([Outgoing(RECEIVED.name, 0, record.key, record.value or b"") for record in records])
        await producer.send([out for out in routed.outgoing if "seen" not in out.topic])  # its offsets are those of this list
        await producer.stop()

    asyncio.run(publish())

    stored = {event.event_id: event for out in routed.outgoing if isinstance(event := CODEC.decode(out.value), TicketRouted)}
    version = registry.at(tenant, events[0].received_at)
    assert version is not None
    reader = Reader(registry)
    for record, event in zip(records, events, strict=True):
        told = explain(PastEvent(0, record.offset, record.key or b"", event), reader, version.rules)
        assert told is not None
        known = stored.get(event.event_id)
        assert told.answer == (known.decision, *known.also) if known is not None else not isinstance(told.answer, tuple)

    some = next(event for event in events if len(stored.get(event.event_id, _none).also) == 0 and event.event_id in stored)
    answer = run(tmp_path, broker, "route", "explain", some.event_id, "-o", "json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["answer"] == json.loads(answer.stdout)["stored"]
    assert run(tmp_path, broker, "route", "explain", new_event_id()).exit_code == 3

    same = json.loads(run(tmp_path, broker, "route", "diff", "--rules", a_file(tmp_path, tenant), "--since", "1h", "-o", "json").stdout)
    assert (same["asked"], same["changed"], same["changes"]) == (count, 0, [])
    other = a_file(tmp_path, tenant, "request")
    changed = json.loads(run(tmp_path, broker, "route", "diff", "--rules", other, "--since", "1h", "-o", "json").stdout)
    moved = {(row["by"], row["then_by"]): row["events"] for row in changed["changes"]}
    assert changed["changed"] == sum(moved.values()) > 0
    assert set(moved) <= {("problems", "default"), ("default", "problems"), ("urgent, problems", "urgent"), ("urgent", "urgent, problems")}
    assert run(tmp_path, broker, "route", "diff", "--rules", other, "--since", "1m", "--until", "2m").exit_code == 2


class _Nothing:
    also: tuple[Any, ...] = (None,)


_none: Any = _Nothing()
