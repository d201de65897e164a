"""The tool's own account of what happened, as its sandbox tells it: the whole way in, and our own echoes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from plugins.api import NewNote, Priority, TicketChange, TicketingToolPlugin, TicketMetadata
from plugins.conformance.builders import a_change
from plugins.conformance.check import check, require, same
from plugins.conformance.receiver import Receiver
from plugins.conformance.stand import Stand, sandbox_of
from plugins.marker import find_marker, note_marker
from schemas.ids import new_event_id


async def told(plugin: TicketingToolPlugin, receiver: Receiver) -> TicketMetadata:
    """The next delivery, verified and read."""
    delivery = await receiver.next()
    plugin.validate_webhook(delivery)
    metadata = plugin.extract_metadata(delivery)
    require(plugin.ticket_key(delivery) == metadata.ticket_id, "ticket_key and extract_metadata name different tickets")
    return metadata


@check("webhooks.peoples_work", "What a person does in the tool arrives in canonical words: created, changed, commented on.")
async def peoples_work(stand: Stand) -> None:
    receiver, plugin = await stand.listen(), stand.reader()
    urgent, low = stand.priority(Priority.URGENT), stand.priority(Priority.LOW)
    ticket_id = stand.sandbox.person_creates(
        subject="Crane 4 stands still", description="No *power*", priority=urgent.value, type=stand.first_type.value, tags=["crane"]
    )
    created = await told(plugin, receiver)
    same((created.ticket_id, created.change), (ticket_id, TicketChange.CREATED), "a ticket a person opened")
    same((created.subject, created.priority, created.type), ("Crane 4 stands still", urgent, stand.first_type), "its words")
    require("power" in created.description, "the description is lost on the way")
    stand.sandbox.person_updates(ticket_id, priority=low.value)
    updated = await told(plugin, receiver)
    same((updated.change, updated.priority), (TicketChange.UPDATED, low), "a priority a person changed")
    stand.sandbox.person_updates(ticket_id, comment="On my way", public=True)
    commented = await told(plugin, receiver)
    same((commented.ticket_id, commented.change), (ticket_id, TicketChange.COMMENTED), "a person's comment")
    require("On my way" in str(commented.extra.get("comment")), "extra['comment'] does not hold the comment's text")
    same(commented.extra.get("comment_public"), True, "extra['comment_public'] of a public comment")
    for metadata in (created, updated, commented):
        require(metadata.actor, f"a delivery about {metadata.change} does not say who did it")
        require(not plugin.is_own_actor(metadata), f"a person's work ({metadata.change}) is taken for our own")


@check("webhooks.echoes", "Our own writes come back as webhooks and are known: without this two tools answer each other for ever.")
async def echoes(stand: Stand) -> None:
    receiver, plugin = await stand.listen(), stand.plugin()
    ref = await stand.created(plugin)
    told_of = [await told(plugin, receiver)]
    await plugin.update_ticket(ref.ticket_id, a_change(priority=stand.priority(Priority.LOW)))
    told_of.append(await told(plugin, receiver))
    for metadata in told_of:
        same(metadata.ticket_id, ref.ticket_id, "the ticket of our own write's echo")
        require(plugin.is_own_actor(metadata), f"our own write ({metadata.change}) is taken for a person's: actor {metadata.actor!r}")


@check("webhooks.own_note", "Our note comes back with its marker, by which it is known even where the account is shared with people.")
async def own_note(stand: Stand) -> None:
    receiver, plugin = await stand.listen(), stand.plugin()
    ref = await stand.created(plugin)
    await told(plugin, receiver)
    event_id = new_event_id()
    await plugin.add_note(ref.ticket_id, noted(event_id, public=False))
    metadata = await told(plugin, receiver)
    same(metadata.change, TicketChange.COMMENTED, "the change of a note's echo")
    same(find_marker(str(metadata.extra.get("comment"))), (event_id, 2), "the marker in a note's echo")
    require(plugin.is_own_actor(metadata), "our own note is taken for a person's")


def noted(event_id: str, *, public: bool) -> NewNote:
    return NewNote(text="seen", marker=note_marker(event_id, 2), public=public)


@check(
    "webhooks.note_internal",
    "A note is internal unless it is meant to be public: what engineers write to each other is not for the customer.",
)
async def note_internal(stand: Stand) -> None:
    receiver, plugin = await stand.listen(), stand.plugin()
    ref = await stand.created(plugin)
    await told(plugin, receiver)
    for public in (False, True):
        await plugin.add_note(ref.ticket_id, noted(new_event_id(), public=public))
        metadata = await told(plugin, receiver)
        same(metadata.extra.get("comment_public"), public, f"extra['comment_public'] of a note with public={public}")


@check(
    "webhooks.told_again", "A delivery that was not taken comes again unchanged and is known by its id; a tool that never repeats says so."
)
async def told_again(stand: Stand) -> None:
    receiver, plugin = await stand.listen(), stand.reader()
    receiver.answers = [503]
    stand.sandbox.person_creates(subject="told twice")
    first = await receiver.next()
    if not stand.told.retries_webhooks:
        stand.sandbox.person_creates(subject="the next")
        require(json.loads((await receiver.next()).body) != json.loads(first.body), "retries_webhooks = false, and yet it came again")
        return
    second = await receiver.next()
    require(second.body == first.body, "the repeated delivery has another body")
    identity = plugin.identify(first)
    require(identity is not None, "identify answers None for a tool that repeats its deliveries")
    same(plugin.identify(second), identity, "the identity of a repeated delivery")
    plugin.validate_webhook(second)


@check("webhooks.ids_differ", "Two deliveries have two identities: one that is shared would make us drop a person's work as a repeat.")
async def ids_differ(stand: Stand) -> None:
    receiver, plugin = await stand.listen(), stand.reader()
    identities = []
    for number in range(3):
        stand.sandbox.person_creates(subject=f"number {number}")
        identities.append(plugin.identify(await receiver.next()))
    known = [identity.delivery_id for identity in identities if identity is not None]
    require(len(set(known)) == len(known), "different deliveries have the same identity")


@check(
    "webhooks.sandbox_survives", "A tool that is killed keeps what was done, and so does its sandbox: what is tested against it is true."
)
async def sandbox_survives(stand: Stand) -> None:
    with tempfile.TemporaryDirectory() as folder:
        state, asked = Path(folder) / "state.jsonl", stand.a_ticket()
        sandbox = sandbox_of(stand.subject, state=state).start()
        try:
            async with Stand(stand.subject, sandbox) as before:
                ref = await before.plugin().create_ticket(asked)
            known = sandbox.credentials
        finally:
            sandbox.kill()
        with sandbox_of(stand.subject, state=state) as again:
            same(again.credentials, known, "credentials after the kill")
            async with Stand(stand.subject, again) as after:
                found = await after.plugin().find_by_external_id(asked.external_id)
                require(found is not None and found.ticket_id == ref.ticket_id, "a ticket made before the kill is not there after it")
                other = await after.created(after.plugin())
                require(other.ticket_id != ref.ticket_id, "an id is given out twice")
