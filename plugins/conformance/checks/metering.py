"""Every request to the tool is counted, timed and priced: what is not counted is paid for by nobody."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from plugins.api import ApiError, TicketingToolPlugin
from plugins.conformance.builders import a_change, a_note
from plugins.conformance.check import check, require
from plugins.conformance.proxy import ProxyFault
from plugins.conformance.stand import Stand
from plugins.metering import metered
from schemas.events import Call, CallOutcome


class _Clock:
    def now(self) -> int:
        return time.time_ns() // 1000


Step = Callable[[], Awaitable[object]]


async def counted(stand: Stand, plugin: TicketingToolPlugin, method: str, step: Step) -> Call:
    """One call, metered as the stream does; its requests as counted and as seen on the wire must agree."""
    calls: list[Call] = []
    seen = len(stand.proxy.seen)
    try:
        with metered(calls, step="check", method=method, plugin=plugin, tool="target", clock=_Clock(), price=price):
            await step()
    except ApiError:
        pass  # a failure is counted like a success; whether it is one is another check's business
    sent = len(stand.proxy.seen) - seen
    require(calls[0].api_calls == sent, f"{method} made {sent} requests, {calls[0].api_calls} are counted")
    return calls[0]


def price(tool_type: str, method: str, api_calls: int, started_at: int) -> int:
    return 250 * api_calls


async def all_of(batch: AsyncIterator[object]) -> list[object]:
    return [item async for item in batch]


@check(
    "metering.counted", "Each request a method makes goes through the host's client and is counted: token fetches, pages and look-ups too."
)
async def counted_calls(stand: Stand) -> None:
    plugin = stand.plugin()
    asked = stand.a_ticket()
    await counted(stand, plugin, "create_ticket", lambda: plugin.create_ticket(asked))
    ref = await stand.created(plugin)
    note, change = a_note(), a_change(subject="x")
    steps: dict[str, Step] = {
        "get_ticket": lambda: plugin.get_ticket(ref.ticket_id),
        "update_ticket": lambda: plugin.update_ticket(ref.ticket_id, change),
        "add_note": lambda: plugin.add_note(ref.ticket_id, note),
        "has_note": lambda: plugin.has_note(ref.ticket_id, note.marker),
        "has_update": lambda: plugin.has_update(ref.ticket_id, change.event_id),
        "find_by_external_id": lambda: plugin.find_by_external_id(asked.external_id),
        "health_check": plugin.health_check,
    }
    for method, step in steps.items():
        call = await counted(stand, plugin, method, step)
        require(call.api_calls > 0, f"{method} made no request at all")


@check("metering.batches", "The requests of a batch are counted as well, whichever task makes them.")
async def batches(stand: Stand) -> None:
    plugin = stand.plugin()
    ids = [(await stand.created(plugin)).ticket_id for _ in range(5)]
    changes = {ticket_id: a_change(subject="x") for ticket_id in ids}
    await counted(stand, plugin, "batch_update_tickets", lambda: plugin.batch_update_tickets(changes))
    await counted(stand, plugin, "get_ticket_batch", lambda: all_of(plugin.get_ticket_batch(ids)))


@check("metering.failures", "A call that fails has cost what it cost: its repeats are counted, its error's name is kept.")
async def failures(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    stand.proxy.arm(ProxyFault(kind="status", status=503, times=50))
    call = await counted(stand, plugin, "get_ticket", lambda: plugin.get_ticket(ref.ticket_id))
    require(call.outcome is CallOutcome.ERROR and call.error_class, "a failed call is metered as a good one")


@check("metering.timed_and_priced", "A call's time holds the tool's, and its price follows from its requests.")
async def timed_and_priced(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    stand.proxy.latency = 0.05
    call = await counted(stand, plugin, "get_ticket", lambda: plugin.get_ticket(ref.ticket_id))
    require(call.latency_us >= 45_000, f"get_ticket is metered with {call.latency_us} us, the tool took 50 000")
    require(call.cost_micros == 250 * call.api_calls, f"{call.api_calls} requests are priced {call.cost_micros}")
