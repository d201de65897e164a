"""The audit on a real broker: topics written by hand, so that what must come out is known."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata
from click.testing import CliRunner

from cli.main import cli
from schemas.codec import Codec
from schemas.events import BatchSeen, Decision, Event, RetryScheduled, SeenRecord, TicketRouted, WebhookReceived
from streams import topics
from streams.audit import PROCESS_GROUP, ROUTE_GROUP, AuditReport, id_of, list_events, run_audit, uuid_text
from streams.broker.admin import ensure_topics
from streams.broker.embedded import EmbeddedBroker
from streams.ledger import State
from streams.producer import Outgoing, StageProducer
from tests.analytics.building import NOON, a_dead_letter, a_processed, an_id

pytestmark = pytest.mark.broker
CODEC = Codec()
PARTITION = 1


@pytest.fixture
def brokers(fresh_broker: EmbeddedBroker) -> Iterator[str]:
    yield fresh_broker.brokers


def received(n: int, tool: str = "desk") -> WebhookReceived:
    return WebhookReceived(
        event_id=an_id(n),
        dedup_key=bytes(16),
        dedup_scope="delivery",
        tenant="acme",
        tool=tool,
        tool_type="zendesk",
        received_at=NOON,
        verified_by="hmac:1",
        body=b"{}",
    )


def routed(n: int) -> TicketRouted:
    return TicketRouted(
        event_id=an_id(n),
        tenant="acme",
        tool="desk",
        tool_type="zendesk",
        decision=Decision(target="jira"),
        received_at=NOON,
        received_offset=n,
        received=b"",
    )


def seen(offset: int, n: int | None, outcome: str, original: int | None = None) -> SeenRecord:
    return SeenRecord(
        offset=offset,
        event_id=b"" if n is None else id_of(an_id(n)),
        dedup_key=bytes(16),
        scope="delivery",
        received_at=NOON,
        outcome=outcome,
        original=None if original is None else id_of(an_id(original)),
    )


class Topics:
    """Writes records to one partition of the topics, and commits as a stage would."""

    def __init__(self, brokers: str, producer: StageProducer) -> None:
        self.brokers = brokers
        self.producer = producer

    async def write(self, topic: topics.TopicDefinition, *events: Event | bytes) -> None:
        values = [event if isinstance(event, bytes) else CODEC.encode(event) for event in events]
        await self.producer.send([Outgoing(topic.name, PARTITION, b"k", value) for value in values])

    async def commit(self, group: str, topic: topics.TopicDefinition, offset: int) -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.brokers, group_id=group, enable_auto_commit=False)
        await consumer.start()
        tp = TopicPartition(topic.name, PARTITION)
        consumer.assign([tp])
        await consumer.commit({tp: OffsetAndMetadata(offset, "")})
        await consumer.stop()


async def filled(brokers: str) -> Topics:
    """Every fate once: offsets 0-9, the door's repeat at 5, garbage at 6, and 7-9 not decided yet."""
    await ensure_topics(brokers, 2)
    producer = StageProducer(brokers)
    await producer.start()
    made = Topics(brokers, producer)
    await made.write(
        topics.RECEIVED,
        *(received(n) for n in range(5)),
        received(0),
        b"garbage",
        received(7, tool="snow"),
        received(8),
        received(9),
    )
    records = [
        seen(0, 0, "routed"),
        seen(1, 1, "duplicate", 0),
        seen(2, 2, "echo"),
        seen(3, 3, "routed"),
        seen(4, 4, "routed"),
        seen(5, 0, "repeat", 0),
        seen(6, None, "dead_letter"),
    ]
    await made.write(topics.SEEN, BatchSeen(first_offset=0, next_offset=7, records=records))
    await made.write(topics.ROUTED, routed(0), routed(3), routed(4))
    await made.write(
        topics.DEAD_LETTER,
        a_dead_letter(event_id=None, stage="route", origin_topic=topics.RECEIVED.name, origin_partition=PARTITION, origin_offset=6),
        a_dead_letter(3),
        a_dead_letter(0, stage="materialize"),
    )
    retry = RetryScheduled(event_id=an_id(4), tenant="acme", attempt=2, due_at=NOON, in_doubt=False, routed=b"")
    await made.write(topics.RETRIES[0], retry)
    await made.write(topics.PROCESSED, a_processed(0), a_processed(3, outcome="failed"), b"garbage")
    await made.commit(ROUTE_GROUP, topics.RECEIVED, 7)
    await made.commit(PROCESS_GROUP, topics.ROUTED, 3)
    return made


def by_tool(report: AuditReport) -> dict[str | None, dict[str, int]]:
    names = ("accepted", "duplicates", "echoes", "processed", "in_flight", "retrying", "dead_lettered", "undecodable", "unaccounted")
    return {row.tool: {name: getattr(row, name) for name in names if getattr(row, name)} for row in report.tools}


async def test_every_accepted_event_is_counted_once_and_what_is_lost_is_named(brokers: str) -> None:
    """First a balance with every fate in it; then an offset passed without a result, and the audit says whose."""
    made = await filled(brokers)
    report = await run_audit(brokers)
    assert by_tool(report) == {
        "desk": {
            "accepted": 7,
            "duplicates": 1,
            "echoes": 1,
            "processed": 1,
            "in_flight": 2,
            "retrying": 1,
            "dead_lettered": 1,
        },
        "snow": {"accepted": 1, "in_flight": 1},
        None: {"undecodable": 1},
    }
    assert report.balanced
    assert (report.repeats, report.not_in_tables) == (1, 1)

    duplicates = await list_events(brokers, [State.DUPLICATE])
    assert [(d.event_id, d.offset, d.original) for d in duplicates] == [(an_id(1), 1, an_id(0))]
    assert [e.event_id for e in await list_events(brokers, [State.IN_FLIGHT], tool="snow")] == [an_id(7)]
    assert len(await list_events(brokers, list(State), limit=2)) == 2

    await made.write(topics.SEEN, BatchSeen(first_offset=7, next_offset=9, records=[seen(7, 7, "routed"), seen(8, 8, "dropped")]))
    await made.commit(ROUTE_GROUP, topics.RECEIVED, 10)
    broken = await run_audit(brokers)
    assert not broken.balanced
    assert {(p.event_id, p.tool, p.partition, p.offset) for p in broken.problems} == {
        (an_id(7), "snow", PARTITION, 7),
        (an_id(9), "desk", PARTITION, 9),
    }
    assert broken.unaccounted == 2
    await made.producer.stop()


async def test_the_command_answers_rows_and_ends_with_1_when_not_balanced(brokers: str) -> None:
    """What a script builds on."""
    made = await filled(brokers)

    async def run(*words: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, cli, ["--brokers", brokers, "audit", *words])
        return result.exit_code, result.stdout

    code, output = await run("run", "-o", "json")
    rows = {row["tool"]: row for row in json.loads(output)}
    assert code == 0
    assert (rows["desk"]["accepted"], rows["desk"]["balanced"], rows["desk"]["ids"]) == (7, True, [])
    code, output = await run("list", "--outcome", "echo", "-o", "json")
    assert [row["event_id"] for row in json.loads(output)] == [an_id(2)]
    await made.commit(ROUTE_GROUP, topics.RECEIVED, 10)
    code, output = await run("run", "-o", "json")
    assert code == 1
    assert {row["tool"]: row["ids"] for row in json.loads(output)} == {"desk": [an_id(8), an_id(9)], "snow": [an_id(7)], None: []}
    await made.producer.stop()


async def test_a_broker_that_is_not_there_is_one_line() -> None:
    """And no hang."""
    result = await asyncio.to_thread(CliRunner().invoke, cli, ["--brokers", "127.0.0.1:1", "audit", "run"])
    assert result.exit_code == 1
    assert "does not answer" in result.output


def test_ids_are_spelt_as_they_came() -> None:
    """So that they can be searched for."""
    assert uuid_text(id_of(an_id(12345))) == an_id(12345)
    assert id_of("nonsense") == b"nonsense"
