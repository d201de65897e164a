"""Every plugin call is on record, however it ends: the tables are made from nothing else."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from plugins.api import RateLimited, TicketingToolPlugin
from plugins.metering import count_api_call, metered
from schemas.events import Call


class Clock:
    def now(self) -> int:
        return 1_772_444_405_000_000


class Desk:
    tool_type, version = "desk", "1.2.0"


PLUGIN = cast(TicketingToolPlugin, Desk())


def test_a_call_that_ends_well_is_recorded_with_its_requests_and_price() -> None:
    """Cost follows requests, at the price of the moment the call began."""
    calls: list[Call] = []
    with metered(
        calls, step="mirror", method="create_ticket", plugin=PLUGIN, tool="d", clock=Clock(), price=lambda t, m, n, at: n * 10
    ) as counter:
        count_api_call()
        count_api_call()
    assert counter.count == 2
    (call,) = calls
    assert (call.outcome, call.error_class, call.api_calls, call.cost_micros) == ("ok", None, 2, 20)
    assert (call.plugin, call.plugin_version, call.started_at) == ("desk", "1.2.0", Clock().now())
    assert call.latency_us >= 0


def test_a_call_that_fails_is_recorded_and_its_error_goes_on() -> None:
    """Errors by class are what operators look at first."""
    calls: list[Call] = []
    with (
        pytest.raises(RateLimited),
        metered(calls, step="note", method="add_note", plugin=PLUGIN, tool="d", clock=Clock(), attempt=2),
    ):
        raise RateLimited("x")
    assert (calls[0].outcome, calls[0].error_class, calls[0].attempt) == ("error", "RateLimited", 2)


async def test_a_cancelled_call_is_recorded_too() -> None:
    """At shutdown a call may have had its effect; the record says it was made."""
    calls: list[Call] = []
    entered = asyncio.Event()

    async def work() -> None:
        with metered(calls, step="mirror", method="update_ticket", plugin=PLUGIN, tool="d", clock=Clock()):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls[0].error_class == "CancelledError"


async def test_calls_at_the_same_time_count_their_own_requests() -> None:
    """Sixty-four run at once in a worker."""
    calls: list[Call] = []

    async def work(requests: int) -> None:
        with metered(calls, step="s", method=str(requests), plugin=PLUGIN, tool="d", clock=Clock()):
            for _ in range(requests):
                await asyncio.sleep(0)
                count_api_call()

    await asyncio.gather(*(work(n) for n in range(6)))
    assert sorted((int(c.method), c.api_calls) for c in calls) == [(n, n) for n in range(6)]
    count_api_call()  # outside any call: counted nowhere, and no error
