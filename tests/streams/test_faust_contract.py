"""streams/batching.py stands on private parts of Faust and aiokafka: when they change, this says which, before a stream loses a record."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import faust
import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver


def test_faust_is_the_version_the_overrides_were_written_for() -> None:
    """Read streams/batching.py against the new source before this pin moves."""
    assert version("faust-streaming") == "0.15.3"


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (driver.Consumer, "getmany", ["self", "timeout"]),
        (driver.Consumer, "_getmany", ["self", "active_partitions", "timeout"]),
        (driver.Consumer, "_get_active_partitions", ["self"]),
        (driver.Consumer, "_to_message", ["self", "tp", "record"]),
        (driver.Consumer, "_commit", ["self", "offsets"]),
        (driver.Consumer, "force_commit", ["self", "topics", "start_new_transaction"]),
        (driver.Consumer, "perform_seek", ["self"]),
        (driver.Consumer, "earliest_offsets", ["self", "partitions"]),
        (driver.Consumer, "highwaters", ["self", "partitions"]),
        (driver.Consumer, "highwater", ["self", "tp"]),
        (driver.Consumer, "on_partitions_revoked", ["self", "revoked"]),
        (driver.Consumer, "on_partitions_assigned", ["self", "assigned", "generation_id"]),
        (driver.Consumer, "stop_flow", ["self"]),
        (driver.AIOKafkaConsumerThread, "seek_wait", ["self", "partitions"]),
        (driver.Transport, "create_consumer", ["self", "callback", "kwargs"]),
        (faust.App, "crash", ["self", "reason"]),
    ],
)
def test_the_private_part_is_still_there(owner: type, name: str, parameters: list[str]) -> None:
    """A renamed method would be overridden in vain, and Faust's own lossy one would run instead."""
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters, f"{owner.__name__}.{name} changed"


def test_fetching_still_goes_through_getmany_and_the_commit_timer_through_force_commit() -> None:
    """The two places where Faust calls us."""
    assert "getmany(timeout=" in inspect.getsource(base.Consumer._drain_messages)
    assert "self.force_commit(" in inspect.getsource(base.Consumer.commit)
    assert "await self.commit()" in inspect.getsource(base.Consumer._commit_handler.fun)


def test_an_assignment_still_ends_in_perform_seek_before_fetching_begins() -> None:
    """Lanes are made there."""
    from faust.tables.recovery import Recovery

    source = inspect.getsource(Recovery._resume_streams)
    assert source.index("perform_seek") < source.index("resume_flow")


def test_aiokafka_still_names_its_coordination_task() -> None:
    """Its death is silent; the watchdog looks at it by this name."""
    assert "self._coordination_task = create_task" in inspect.getsource(GroupCoordinator)
