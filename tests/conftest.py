"""The real broker for tests marked `broker`: one for the session, and one of its own for a test that kills or pauses it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from streams.broker.admin import ensure_topics
from streams.broker.embedded import EmbeddedBroker
from streams.broker.jars import KAFKA_VERSION
from streams.broker.properties import server_properties
from streams.ports import free_port

TEST_PARTITIONS = 4

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that starts this in the background ignores Ctrl-C, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Timings are never asserted here: a busy machine makes any example slow. Examples are drawn anew each run, printed when they fail.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


LONG_FIRST = (
    "tests/chaos/test_chaos.py",
    "tests/plugins/conformance/test_broken_plugins.py",
    "tests/streams/test_materialize_stage.py",
    "tests/cli/test_demo.py",
    "tests/streams/test_promises_runner.py",
    "tests/streams/ingestion/test_outage.py",
    "tests/streams/process/test_process_stage.py",
    "tests/streams/test_route_agent.py",
    "tests/streams/process/test_effects_once.py",
    "tests/streams/broker/test_quick_start.py",
    "tests/streams/ingestion/test_door.py",
    "tests/streams/test_promises_stages.py",
    "tests/test_readme.py",
    "tests/streams/ingestion/test_coalescer.py",
    "tests/streams/test_control.py",
    "tests/cli/test_up.py",
    "tests/test_wheel.py",
    "tests/streams/test_batching.py",
    "tests/streams/broker/test_embedded.py",
    "tests/planted/test_planted.py",
    "tests/streams/test_supervisor.py",
    "tests/cli/test_broker_commands.py",
)
"""Files of ten seconds and more, the longest first: `make test` gives whole files to its workers, and the last to begin ends last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long files first; within and after them the order stays."""
    rank = {name: number for number, name in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a Kafka with every topic of ours in 4 partitions; shared, so tests use tickets or groups of their own.
    Each worker of a parallel run has one to itself, unless one that runs is named.

    AI_AGENTS_TEST_BROKER=container takes one from Docker, AI_AGENTS_TEST_BROKER=host:port one that runs; otherwise it is embedded.
    """
    chosen = os.environ.get("AI_AGENTS_TEST_BROKER", "")
    if chosen == "container":
        with _kafka_container() as brokers:
            yield _with_topics(brokers)
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


@contextmanager
def _kafka_container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs

    port = free_port()
    container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}").with_bind_ports(port, port)
    settings = server_properties(log_dir=Path("/var/lib/kafka/data"), port=port, controller_port=free_port(), fsync=False)
    for line in settings.splitlines():
        name, _, value = line.partition("=")
        # the image reads settings from the environment; from outside, its listener must not be bound to its own loopback
        container.with_env(f"KAFKA_{name.replace('.', '_').upper()}", value.replace("127.0.0.1", "") if name == "listeners" else value)
    with container:
        wait_for_logs(container, "Kafka Server started", timeout=60)
        yield f"127.0.0.1:{port}"


def _with_topics(brokers: str) -> str:
    asyncio.run(ensure_topics(brokers, TEST_PARTITIONS))
    return brokers
