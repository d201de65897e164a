"""What is asked of any Kafka, embedded or not: its topics as `streams.topics` wants them, offsets, and each group's lag."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
    TopicAlreadyExistsError,
    for_code,
)

from streams.broker.errors import BrokerError, PartitionMismatch
from streams.security import client_options
from streams.topics import ALL, DEFAULT_PARTITIONS, TopicDefinition

Position = tuple[str, int]
_SLACK_BYTES = 64 << 10
_READY_TIMEOUT_S = 20.0
_REQUEST_TIMEOUT_MS = 15_000


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the brokers have it."""

    name: str
    partitions: int
    replicas: int
    ready: bool
    """Whether each partition has a leader."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind in one partition. `committed` is None where it has committed nothing; `lag` then counts from the start."""

    group: str
    topic: str
    partition: int
    committed: int | None
    start: int
    end: int

    @property
    def lag(self) -> int:
        return self.end - max(self.start, self.committed or 0)


def topic_config(topic: TopicDefinition, replicas: int) -> dict[str, str]:
    """A topic's settings in Kafka's words."""
    config = {"max.message.bytes": str(topic.max_record_bytes + _SLACK_BYTES), "min.insync.replicas": "2" if replicas > 2 else "1"}
    if topic.compacted:
        return config | {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.2"}
    return config | {"cleanup.policy": "delete", "retention.ms": str(topic.retention_ms)}


async def ensure_topics(
    brokers: str, partitions: int = DEFAULT_PARTITIONS, security: Mapping[str, Any] | None = None, topics: Sequence[TopicDefinition] = ALL
) -> list[str]:
    """Creates the topics that are missing, three replicas where there are three brokers; answers the names it created.

    Safe to call from several processes at a time, and again. Raises PartitionMismatch when a topic exists with another number of
    partitions (keys would change partition and order per ticket would be gone), and BrokerError when no broker answers.
    """
    async with _admin(brokers, security) as admin:
        existing = {t.name: t for t in await _describe(admin)}
        _refuse_mismatch(existing, topics, partitions)
        missing = [t for t in topics if t.name not in existing]
        if missing:
            replicas = min(3, len((await admin.describe_cluster())["brokers"]))
            wanted = [NewTopic(t.name, t.partitions or partitions, replicas, topic_configs=topic_config(t, replicas)) for t in missing]
            for name, code, detail in (await admin.create_topics(wanted)).topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise BrokerError(f"topic {name} could not be created: {detail or for_code(code).__name__}")
        await _await_leaders(admin, topics, partitions)
    if missing:
        with _quiet_fetcher():
            await offsets(brokers, [t.name for t in missing], security)
    return [t.name for t in missing]


def _refuse_mismatch(existing: Mapping[str, TopicState], topics: Sequence[TopicDefinition], partitions: int) -> None:
    for topic in topics:
        found, wanted = existing.get(topic.name), topic.partitions or partitions
        if found is not None and found.partitions != wanted:
            raise PartitionMismatch(
                f"topic {topic.name} has {found.partitions} partitions and this start asks for {wanted}; the number is fixed when topics "
                "are created, so ask for the same, or drain into new topics"
            )


async def _await_leaders(admin: AIOKafkaAdminClient, topics: Sequence[TopicDefinition], partitions: int) -> None:
    """A topic can be used once its partitions have leaders, a moment after it was created."""
    names = {t.name for t in topics}
    async with asyncio.timeout(_READY_TIMEOUT_S):
        while True:
            states = {t.name: t for t in await _describe(admin) if t.name in names}
            if len(states) == len(names) and all(t.ready for t in states.values()):
                _refuse_mismatch(states, topics, partitions)
                return
            await asyncio.sleep(0.05)


@contextmanager
def _quiet_fetcher() -> Iterator[None]:
    """A leader is named a moment before its log is made; aiokafka asks again until it is, and logs each time as an error."""
    logger = logging.getLogger("aiokafka.consumer.fetcher")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


async def describe(brokers: str, security: Mapping[str, Any] | None = None) -> list[TopicState]:
    """Every topic but Kafka's own, by name."""
    async with _admin(brokers, security) as admin:
        return await _describe(admin)


async def _describe(admin: AIOKafkaAdminClient) -> list[TopicState]:
    found = [
        TopicState(
            name=topic["topic"],
            partitions=len(topic["partitions"]),
            replicas=max((len(p["replicas"]) for p in topic["partitions"]), default=0),
            ready=bool(topic["partitions"]) and all(p["leader"] >= 0 and not p["error_code"] for p in topic["partitions"]),
        )
        for topic in await admin.describe_topics()
        if not topic["is_internal"]
    ]
    return sorted(found, key=lambda t: t.name)


async def end_offsets(brokers: str, topics: Iterable[str], security: Mapping[str, Any] | None = None) -> dict[Position, int]:
    """The offset after the last record, for each partition of the topics that exist."""
    return (await offsets(brokers, topics, security))[1]


async def beginning_offsets(brokers: str, topics: Iterable[str], security: Mapping[str, Any] | None = None) -> dict[Position, int]:
    """The offset of the oldest record still kept, for each partition of the topics that exist."""
    return (await offsets(brokers, topics, security))[0]


async def offsets(
    brokers: str, topics: Iterable[str], security: Mapping[str, Any] | None = None
) -> tuple[dict[Position, int], dict[Position, int]]:
    """The beginning and the end of each partition of the topics that exist."""
    names = set(topics)
    wanted = [TopicPartition(t.name, p) for t in await describe(brokers, security) if t.name in names for p in range(t.partitions)]
    if not wanted:
        return {}, {}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        retry_backoff_ms=20,
        enable_auto_commit=False,
        **client_options(security or {}),
    )
    async with named_errors(brokers):
        try:
            await consumer.start()
            consumer.assign(wanted)  # tells the client which topics' leaders to learn, at once; paused, it fetches nothing
            consumer.pause(*wanted)
            first = await consumer.beginning_offsets(wanted)
            last = await consumer.end_offsets(wanted)
        finally:
            await consumer.stop()
    return {(tp.topic, tp.partition): o for tp, o in first.items()}, {(tp.topic, tp.partition): o for tp, o in last.items()}


async def committed(brokers: str, group: str, security: Mapping[str, Any] | None = None) -> dict[Position, int]:
    """What a group has committed; partitions it never committed are absent."""
    async with _admin(brokers, security) as admin:
        return await _committed(admin, group)


async def _committed(admin: AIOKafkaAdminClient, group: str) -> dict[Position, int]:
    async with asyncio.timeout(_READY_TIMEOUT_S):
        while True:
            try:
                found = await admin.list_consumer_group_offsets(group)
            except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
                await asyncio.sleep(0.1)  # the first question about any group makes the topic that holds the answers
            else:
                break
    return {(tp.topic, tp.partition): o.offset for tp, o in found.items() if o.offset >= 0}


async def lag(brokers: str, groups: Sequence[str] = (), security: Mapping[str, Any] | None = None) -> list[Lag]:
    """How far each group is behind, for every partition of each topic it has committed anything of; all groups when none is named."""
    async with _admin(brokers, security) as admin:
        names = sorted(groups) or sorted(name for name, *_ in await admin.list_consumer_groups())
        done = {name: await _committed(admin, name) for name in names}
    topics = {topic for positions in done.values() for topic, _ in positions}
    starts, ends = await offsets(brokers, topics, security)
    return [
        Lag(name, topic, partition, positions.get((topic, partition)), starts[topic, partition], end)
        for name, positions in done.items()
        for (topic, partition), end in sorted(ends.items())
        if topic in {t for t, _ in positions}
    ]


@asynccontextmanager
async def _admin(brokers: str, security: Mapping[str, Any] | None) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers, request_timeout_ms=_REQUEST_TIMEOUT_MS, **client_options(security or {}))
    async with named_errors(brokers):
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


@asynccontextmanager
async def named_errors(brokers: str) -> AsyncIterator[None]:
    """Turns what the client raises when no broker answers into one sentence."""
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as exc:
        raise BrokerError(f"Kafka at {brokers} does not answer ({type(exc).__name__}); is it up, and are --brokers right?") from exc
