"""A batch is many tickets of many people: each has its own outcome."""

from __future__ import annotations

import asyncio
import time

from plugins.api import ApiError, BatchResult, NotFound, TicketingToolPlugin, TicketMetadata
from plugins.conformance.builders import MANY, a_change
from plugins.conformance.check import CheckFailed, check, require
from plugins.conformance.stand import Stand

LATENCY = 0.05
"""Seconds an answer takes, as over a network."""
ENOUGH = 5
TRIES = 3


async def tickets(stand: Stand, plugin: TicketingToolPlugin, count: int) -> list[str]:
    """Ids of new tickets whose subjects are "ticket 0" and so on."""
    made = []
    for start in range(0, count, 15):
        numbers = range(start, min(start + 15, count))
        refs = await asyncio.gather(*(stand.created(plugin, subject=f"ticket {n}") for n in numbers))
        made += [ref.ticket_id for ref in refs]
    return made


def by_id(results: list[BatchResult]) -> dict[str, BatchResult]:
    found = {result.ticket_id: result for result in results}
    require(len(found) == len(results), f"{len(results)} results for {len(found)} tickets: one is answered twice")
    return found


async def read(plugin: TicketingToolPlugin, ids: list[str]) -> dict[str, BatchResult]:
    try:
        return by_id([result async for result in plugin.get_ticket_batch(ids)])
    except ApiError as exc:
        raise CheckFailed(f"get_ticket_batch raises {type(exc).__name__} in place of answering each item") from exc


async def update(plugin: TicketingToolPlugin, ids: list[str]) -> dict[str, BatchResult]:
    try:
        return by_id(list(await plugin.batch_update_tickets({i: a_change(subject="swept") for i in ids})))
    except ApiError as exc:
        raise CheckFailed(f"batch_update_tickets raises {type(exc).__name__} in place of answering each item") from exc


@check("batch.reads_all", "Each asked ticket is answered once, a missing one with NotFound, over as many bulk calls as it takes.")
async def reads_all(stand: Stand) -> None:
    plugin, absent = stand.plugin(), stand.told.missing_id
    ids = await tickets(stand, plugin, MANY)
    results = await read(plugin, [*ids[:50], absent, *ids[50:]])
    lost = {*ids, absent} - set(results)
    require(not lost, f"{len(lost)} of {MANY + 1} asked tickets are not answered")
    require(isinstance(results[absent].error, NotFound), f"the missing ticket is answered {results[absent].error!r}, not NotFound")
    for number, ticket_id in enumerate(ids):
        ticket = results[ticket_id].ticket
        require(isinstance(ticket, TicketMetadata), f"ticket {number} is answered {results[ticket_id].error!r}")
        assert isinstance(ticket, TicketMetadata)
        require(ticket.subject == f"ticket {number}", f"ticket {number} is answered with the subject {ticket.subject!r}")


@check("batch.one_bad_item", "One failure in a batch stops no other: it is one person's ticket.")
async def one_bad_item(stand: Stand) -> None:
    plugin, absent = stand.plugin(), stand.told.missing_id
    ids = await tickets(stand, plugin, 4)
    asked = [absent, *ids[:2], "../x", *ids[2:]]
    results = await update(plugin, asked)
    require(set(results) == set(asked), f"{len(set(asked) - set(results))} items are not answered")
    require(isinstance(results[absent].error, NotFound), f"the missing ticket is answered {results[absent].error!r}, not NotFound")
    require(isinstance(results["../x"].error, ApiError), "an id that is none is answered without an error")
    for ticket_id in ids:
        require(results[ticket_id].error is None, f"a good item is answered {results[ticket_id].error!r} because of a bad one")
        require((await plugin.get_ticket(ticket_id)).subject == "swept", "a good item's change is not in the tool")


@check("batch.marked", "Each update of a batch carries its own event's id: after a doubt each is asked for by itself.")
async def marked(stand: Stand) -> None:
    plugin = stand.plugin()
    ids = await tickets(stand, plugin, 3)
    changes = {ticket_id: a_change(subject="swept") for ticket_id in ids}
    await plugin.batch_update_tickets(changes)
    for ticket_id, change in changes.items():
        require(await plugin.has_update(ticket_id, change.event_id), "has_update does not know an update made in a batch")


@check("batch.nothing", "Nothing asked is nothing sent, nothing answered, and no error.")
async def nothing(stand: Stand) -> None:
    plugin = stand.plugin()
    require(await read(plugin, []) == {}, "an empty batch of reads answers something")
    require(await update(plugin, []) == {}, "an empty batch of updates answers something")


@check("batch.quicker_than_one_by_one", "A batch is at least five times quicker than its items one by one, or it is only a loop.")
async def quicker_than_one_by_one(stand: Stand) -> None:
    stand.needs_method("batch_update_tickets")
    plugin = stand.plugin()
    ids = await tickets(stand, plugin, 60)
    stand.proxy.latency = LATENCY
    ratio = 0.0
    for attempt in range(TRIES):  # a machine that is busy with something else for a moment says nothing of the plugin
        began = time.perf_counter()
        for ticket_id in ids[:3]:
            await plugin.update_ticket(ticket_id, a_change(subject=f"one {attempt}"))
        one = (time.perf_counter() - began) / 3
        began = time.perf_counter()
        await update(plugin, ids)
        ratio = max(ratio, one * len(ids) / (time.perf_counter() - began))
        if ratio >= ENOUGH:
            break
    told = f"{len(ids)} updates in a batch are {ratio:.1f} times quicker than one by one, at {LATENCY * 1000:.0f} ms a call"
    require(ratio >= ENOUGH, told)
