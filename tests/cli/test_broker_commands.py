"""`ai-agents broker` and `ai-agents topics`, as a person runs them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result

from cli.main import cli
from cli.output import FAILED, IN_USE, INCOMPATIBLE, NOT_FOUND
from schemas.codec import Codec
from schemas.events import Decision, TicketRouted, WebhookReceived
from streams.broker.embedded import EmbeddedBroker
from streams.ports import free_port
from streams.topics import BY_NAME, DEAD_LETTER, ROUTED


def ai_agents(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`broker start` in the foreground, accepting connections."""
    port = free_port()
    command = [sys.executable, "-m", "cli.main", "--data-dir", str(tmp_path), "broker", "start", "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "accepts connections" in line:
            break
    yield process, port
    process.kill()
    process.wait()
    process.stderr.close()


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_foreground_broker_ends_cleanly(started: tuple[subprocess.Popen[str], int], tmp_path: Path, number: int) -> None:
    """Ctrl-C and a service manager's SIGTERM are the ways to stop it; neither is a failure, and nothing stays behind."""
    process, port = started
    shown = json.loads(ai_agents("--data-dir", str(tmp_path), "broker", "status", "-o", "json").stdout)
    assert shown["brokers"] == f"127.0.0.1:{port}"
    os.kill(process.pid, number)
    assert process.wait(10) == 0
    assert ai_agents("--data-dir", str(tmp_path), "broker", "status").exit_code == NOT_FOUND


@pytest.mark.broker
def test_broker_stop_ends_the_foreground_one_and_a_second_is_refused(started: tuple[subprocess.Popen[str], int], tmp_path: Path) -> None:
    """Stopping from another terminal is the same as Ctrl-C in its own."""
    process, _ = started
    second = ai_agents("--data-dir", str(tmp_path), "broker", "start")
    assert (second.exit_code, "another broker" in second.stderr) == (IN_USE, True)
    assert ai_agents("--data-dir", str(tmp_path), "broker", "stop", "--dry-run").exit_code == 0
    assert process.poll() is None
    assert ai_agents("--data-dir", str(tmp_path), "broker", "stop").exit_code == 0
    assert process.wait(10) == 0


def test_a_dry_run_starts_nothing(tmp_path: Path) -> None:
    """Whatever changes something can be asked what it would do."""
    result = ai_agents("--data-dir", str(tmp_path), "broker", "start", "--dry-run")
    assert result.exit_code == 0
    assert "would start" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.broker
def test_tail_shows_what_is_inside_a_record(broker: str) -> None:
    """A routed record carries the received one as bytes; a person wants to see the ticket, not the bytes."""
    codec = Codec()
    received = WebhookReceived(
        event_id="e-1",
        dedup_key=b"\x01\xff",
        dedup_scope="body",
        tenant="acme",
        tool="desk",
        tool_type="zendesk",
        received_at=1,
        verified_by="hmac",
        body=b'{"subject": "printer"}',
    )
    routed = TicketRouted(
        event_id="e-1",
        tenant="acme",
        tool="desk",
        tool_type="zendesk",
        decision=Decision(target="jira"),
        received_at=1,
        received_offset=0,
        received=codec.encode(received),
    )
    end = asyncio.run(_send(broker, ROUTED.name, codec.encode(routed), b"not avro at all"))
    arguments = ["topics", "tail", ROUTED.name, "--partition", "0", "--from", str(end - 2), "-n", "2"]
    whole = json.loads(ai_agents("--brokers", broker, *arguments, "-o", "json").stdout)
    assert whole[0]["fields"]["received"]["body"] == '{"subject": "printer"}'
    assert whole[0]["fields"]["received"]["dedup_key"] == "01ff"
    assert (whole[1]["event"], whole[1]["problem"]) == (None, "not in Avro single-object encoding")
    table = ai_agents("--brokers", broker, *arguments).stdout
    assert "TicketRouted" in table and "jira" in table


async def _send(brokers: str, topic: str, *values: bytes) -> int:
    """Sends to partition 0 and answers its next offset."""
    async with AIOKafkaProducer(bootstrap_servers=brokers) as producer:
        for value in values:
            last = await producer.send_and_wait(topic, value, partition=0)
    next_offset: int = last.offset + 1
    return next_offset


@pytest.mark.broker
def test_topics_are_listed_and_described_even_when_empty(broker: str) -> None:
    """An operator looks here first when nothing arrives."""
    listed = {row["topic"]: row for row in json.loads(ai_agents("--brokers", broker, "topics", "list", "-o", "json").stdout)}
    assert listed[DEAD_LETTER.name]["partitions"] == 4
    described = json.loads(ai_agents("--brokers", broker, "topics", "describe", DEAD_LETTER.name, "-o", "json").stdout)
    assert [row["partition"] for row in described] == [0, 1, 2, 3]
    assert ai_agents("--brokers", broker, "topics", "describe", "no.such.topic").exit_code == NOT_FOUND
    assert ai_agents("--brokers", broker, "topics", "tail", "no.such.topic").exit_code == NOT_FOUND


@pytest.mark.broker
def test_topics_are_made_once_on_brokers_of_ones_own(fresh_broker: EmbeddedBroker) -> None:
    """Without `up` somebody must make them, with the right settings; a second time, and with another count, nothing may change."""
    create = ("--brokers", fresh_broker.brokers, "topics", "create", "--partitions", "3", "-o", "json")
    assert len(json.loads(ai_agents(*create, "--dry-run").stdout)) == len(BY_NAME)
    assert {row["topic"]: row["partitions"] for row in json.loads(ai_agents(*create).stdout)}[ROUTED.name] == 3
    assert json.loads(ai_agents(*create).stdout) == []
    refused = ai_agents("--brokers", fresh_broker.brokers, "topics", "create")
    assert (refused.exit_code, "has 3 partitions" in refused.stderr) == (INCOMPATIBLE, True)


def test_no_kafka_is_one_line() -> None:
    """A traceback would hide that the broker is simply not up."""
    result = ai_agents("--brokers", "127.0.0.1:1", "topics", "list")
    assert result.exit_code == FAILED
    assert result.stderr.splitlines() == [
        "error: Kafka at 127.0.0.1:1 does not answer (KafkaConnectionError); is it up, and are --brokers right?"
    ]
