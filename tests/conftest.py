"""The real broker for tests marked `broker`: one for the session, and one of its own for a test that kills or pauses it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker.admin import ensure_topics
from streams.broker.embedded import EmbeddedBroker

TEST_PARTITIONS = 4


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a Kafka with every topic of ours in 4 partitions; shared, so tests use tickets or groups of their own.

    AI_AGENTS_TEST_BROKER=container takes one from Docker, AI_AGENTS_TEST_BROKER=host:port one that runs; otherwise it is embedded.
    """
    chosen = os.environ.get("AI_AGENTS_TEST_BROKER", "")
    if chosen == "container":
        from testcontainers.kafka import KafkaContainer

        with KafkaContainer("apache/kafka:4.3.1").with_kraft() as container:
            yield _with_topics(container.get_bootstrap_server())
    elif chosen:
        yield _with_topics(chosen)
    else:
        embedded = EmbeddedBroker(tmp_path_factory.mktemp("broker"), ephemeral=True)
        try:
            yield _with_topics(embedded.start())
        finally:
            embedded.stop()


@pytest.fixture
def fresh_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """An embedded broker of the test's own, started, without topics, its data kept across kill and start."""
    embedded = EmbeddedBroker(tmp_path / "kafka", ephemeral=True)
    embedded.start()
    try:
        yield embedded
    finally:
        embedded.stop()


def _with_topics(brokers: str) -> str:
    asyncio.run(ensure_topics(brokers, TEST_PARTITIONS))
    return brokers
