"""An effect happens once. No tool has keys for that: our ids, stored with what we write, are what tells."""

from __future__ import annotations

import asyncio

from plugins.api import ApiError, Priority, RetriableApiError, TicketStatus
from plugins.conformance.builders import a_change, a_note
from plugins.conformance.check import CheckFailed, check, require
from plugins.conformance.proxy import ProxyFault
from plugins.conformance.stand import Stand, until
from plugins.marker import note_marker
from schemas.ids import new_event_id


@check("effects.found_by_external_id", "Our id in a field the tool can search stands between us and a second ticket; it is compared whole.")
async def found_by_external_id(stand: Stand) -> None:
    plugin, asked = stand.plugin(), stand.a_ticket()
    require(await plugin.find_by_external_id(asked.external_id) is None, "a ticket is found before it was created")
    ref = await plugin.create_ticket(asked)
    found = await plugin.find_by_external_id(asked.external_id)
    require(found is not None and found.ticket_id == ref.ticket_id, f"find_by_external_id answers {found}, {ref.ticket_id} was created")
    require(await plugin.find_by_external_id(asked.external_id[:-1]) is None, "a part of our id finds the ticket too")


@check("effects.create_twice", "The first try was lost on the way back; whoever searches before the second makes one ticket, not two.")
async def create_twice(stand: Stand) -> None:
    write = await stand.creating(stand.plugin())
    plugin, asked = stand.plugin(), stand.a_ticket()
    stand.proxy.arm(ProxyFault(kind="reset", method=write.method, path=write.path, carried_out=True))
    try:
        await plugin.create_ticket(asked)
    except RetriableApiError as exc:
        require(exc.in_doubt, "a create whose answer was lost is not in doubt, so nobody would search")
    except ApiError as exc:
        raise CheckFailed(f"a create whose answer was lost is {type(exc).__name__}, which is not tried again") from exc
    if await plugin.find_by_external_id(asked.external_id) is None:
        await plugin.create_ticket(asked)
    made = stand.effects(asked.external_id)
    require(made == ["create"], f"one ticket was asked for, the tool has {len(made)}")


@check(
    "effects.search_lag",
    "A search index runs behind: what was written is found in the end, and until then the answer is None, not an error.",
)
async def search_lag(stand: Stand) -> None:
    plugin, asked = stand.plugin(), stand.a_ticket()
    stand.sandbox.fault(index_lag=0.15)
    await plugin.create_ticket(asked)
    try:
        await until(lambda: plugin.find_by_external_id(asked.external_id))
    except TimeoutError:
        raise CheckFailed("a ticket is not found although the index has caught up") from None
    require(stand.subject.kind.search_lag > 0, "search_lag is 0: no tool's search is that quick")


@check("effects.late_success", "A tool carries out what has arrived, whether or not anybody waits for the answer.")
async def late_success(stand: Stand) -> None:
    plugin, asked = stand.plugin(), stand.a_ticket()
    await stand.created(plugin)
    stand.sandbox.fault(delay=0.2)
    try:
        await asyncio.wait_for(plugin.create_ticket(asked), 0.1)
    except TimeoutError:
        pass  # given up: what this check is about
    else:
        return
    try:
        await until(lambda: plugin.find_by_external_id(asked.external_id))
    except TimeoutError:
        raise CheckFailed("a create that was given up is not found by its external_id") from None
    made = stand.effects(asked.external_id)
    require(made == ["create"], f"one ticket was asked for, the tool has {len(made)}")


@check("effects.has_update", "The event's id in the ticket is what tells an applied update from a lost one.")
async def has_update(stand: Stand) -> None:
    plugin, asked = stand.plugin(), stand.a_ticket()
    ref = await plugin.create_ticket(asked)
    require(await plugin.has_update(ref.ticket_id, asked.event_id), "has_update does not know the event that created the ticket")
    change = a_change(subject="New reader ordered", status=TicketStatus.PENDING)
    require(not await plugin.has_update(ref.ticket_id, change.event_id), "has_update knows an update that was not made")
    seen = len(stand.sandbox.ledger())
    await plugin.update_ticket(ref.ticket_id, change)
    require(await plugin.has_update(ref.ticket_id, change.event_id), "has_update does not know an update that was made")
    markers = [row["marker"] for row in stand.sandbox.ledger(seen) if row["kind"] == "update"]
    require(change.event_id in markers, f"the tool's ledger has {markers} for the update, not its event's id")


@check("effects.update_twice", "After a doubt the same change may be sent again: the second time is no fault and changes nothing.")
async def update_twice(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    change = a_change(status=stand.done, priority=stand.priority(Priority.MEDIUM))
    await plugin.update_ticket(ref.ticket_id, change)
    await plugin.update_ticket(ref.ticket_id, change)
    metadata = await plugin.get_ticket(ref.ticket_id)
    require(
        (metadata.status, metadata.priority) == (change.status, change.priority),
        f"then it is {metadata.status}, {metadata.priority}; {change.status}, {change.priority} was asked",
    )


@check("effects.has_note", "No tool has a key for notes: the marker in the text is all there is to tell a note that was written.")
async def has_note(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    seen, note = len(stand.sandbox.ledger()), a_note("Looked at *it* [twice](https://kb.example/7).")
    require(not await plugin.has_note(ref.ticket_id, note.marker), "has_note finds a note before it was written")
    require(await plugin.add_note(ref.ticket_id, note), "add_note answers no id")
    require(await plugin.has_note(ref.ticket_id, note.marker), "has_note does not find a note that was written")
    require(not await plugin.has_note(ref.ticket_id, note_marker(new_event_id(), 1)), "has_note finds a marker nobody wrote")
    rows = [(row["kind"], row["marker"]) for row in stand.sandbox.ledger(seen)]
    require(rows == [("note", note.marker)], f"the tool's ledger has {rows} for one note")


@check("effects.note_written_once", "A note whose answer was lost is found by its marker, so nobody writes it twice.")
async def note_written_once(stand: Stand) -> None:
    plugin = stand.plugin()
    ref = await stand.created(plugin)
    seen = len(stand.sandbox.ledger())
    await plugin.add_note(ref.ticket_id, a_note())
    write = next(row for row in stand.sandbox.ledger(seen) if row["kind"] == "note")
    note, seen = a_note(), len(stand.sandbox.ledger())
    stand.proxy.arm(ProxyFault(kind="reset", method=write["method"], path=write["path"], carried_out=True))
    try:
        await plugin.add_note(ref.ticket_id, note)
    except RetriableApiError as exc:
        require(exc.in_doubt, "a note whose answer was lost is not in doubt, so nobody would look for it")
    stand.proxy.calm()
    require(await plugin.has_note(ref.ticket_id, note.marker), "a note whose answer was lost is not found by its marker")
    written = [row for row in stand.sandbox.ledger(seen) if row["kind"] == "note"]
    require(len(written) == 1, f"one note was asked for, the tool has {len(written)}")


@check("effects.connections_not_mixed", "Two tenants of one tool share code and nothing else: neither sees what is the other's.")
async def connections_not_mixed(stand: Stand) -> None:
    ours, theirs = stand.plugin(), stand.plugin(base_url="http://127.0.0.1:9")
    first = await stand.created(ours)
    try:
        await theirs.get_ticket(first.ticket_id)
    except ApiError:
        pass  # their tool does not answer, as it should be
    else:
        raise CheckFailed("a second connection of the same plugin calls the first one's tool")
    require((await ours.get_ticket(first.ticket_id)).ticket_id == first.ticket_id, "the first connection no longer works")
