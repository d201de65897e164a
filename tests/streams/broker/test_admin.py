"""The topics, offsets and lag of a real Kafka."""

from __future__ import annotations

import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streams.broker.admin import beginning_offsets, committed, describe, end_offsets, ensure_topics, lag, topic_config
from streams.broker.errors import BrokerError, PartitionMismatch
from streams.topics import ALL, LINKS, RECEIVED, TopicDefinition


def a_topic(partitions: int = 2) -> TopicDefinition:
    return TopicDefinition(f"test.{uuid.uuid4().hex}", None, "of one test", partitions=partitions)


@pytest.mark.broker
async def test_creating_the_topics_again_changes_nothing(broker: str) -> None:
    """Every process ensures the topics at its start, so the second to come must find them in order."""
    assert await ensure_topics(broker, 4) == []
    found = {t.name: t.partitions for t in await describe(broker)}
    assert found.items() >= {t.name: t.partitions or 4 for t in ALL}.items()


@pytest.mark.broker
async def test_another_number_of_partitions_is_refused(broker: str) -> None:
    """With another count a ticket's key would change partition, and its events their order."""
    with pytest.raises(PartitionMismatch, match=r"has 4 partitions and this start asks for 5"):
        await ensure_topics(broker, 5)


@pytest.mark.broker
async def test_lag_counts_what_a_group_has_not_committed(broker: str) -> None:
    """Lag is what an operator and the watchdog look at: the end minus the committed offset, per partition."""
    topic, group = a_topic(), f"group-{uuid.uuid4().hex}"
    await ensure_topics(broker, topics=[topic])
    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        for _ in range(3):
            await producer.send_and_wait(topic.name, b"x", partition=1)
    async with AIOKafkaConsumer(topic.name, bootstrap_servers=broker, group_id=group, auto_offset_reset="earliest") as consumer:
        record = await consumer.getone()
        await consumer.commit({next(iter(p for p in consumer.assignment() if p.partition == 1)): record.offset + 1})
    assert await end_offsets(broker, [topic.name, "no.such.topic"]) == {(topic.name, 0): 0, (topic.name, 1): 3}
    assert await beginning_offsets(broker, [topic.name]) == {(topic.name, 0): 0, (topic.name, 1): 0}
    assert (await committed(broker, group))[topic.name, 1] == 1
    assert {(row.partition, row.lag) for row in await lag(broker, [group])} == {(0, 0), (1, 2)}


@pytest.mark.broker
async def test_the_largest_record_passes(broker: str) -> None:
    """A body may have 1 MiB and records up to 4 MiB; a broker that refuses them would lose what was answered 2xx."""
    topic = a_topic(1)
    await ensure_topics(broker, topics=[topic])
    async with AIOKafkaProducer(bootstrap_servers=broker, max_request_size=8 << 20) as producer:
        await producer.send_and_wait(topic.name, b"x" * (4 << 20))


async def test_a_broker_that_is_not_there_is_one_sentence() -> None:
    """A wrong --brokers is the commonest mistake; it must not be a traceback."""
    with pytest.raises(BrokerError, match=r"Kafka at 127\.0\.0\.1:1 does not answer"):
        await describe("127.0.0.1:1")


def test_compacted_topics_keep_the_latest_and_others_their_time() -> None:
    """A control topic that lost its oldest record would lose a tenant; a ticket topic that never ended would fill the disk."""
    assert topic_config(LINKS, 1)["cleanup.policy"] == "compact"
    assert topic_config(RECEIVED, 3) == {
        "max.message.bytes": str((4 << 20) + (64 << 10)),
        "min.insync.replicas": "2",
        "cleanup.policy": "delete",
        "retention.ms": str(14 * 86_400_000),
    }
