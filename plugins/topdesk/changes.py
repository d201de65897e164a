"""Operator changes: how they are made, changed and led through their phases, which is unlike incidents in every point."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from plugins.api import ApiError, NewTicket, PluginConfigError, TicketChanges, TicketStatus, TornAnswer, ValidationRefused
from plugins.mapping import to_id
from plugins.richtext import from_markdown, to_plain
from plugins.topdesk.api_client import TopdeskClient, quoted
from plugins.topdesk.lists import TenantLists
from plugins.topdesk.memo import brief, update_tag
from plugins.topdesk.payload import to_unid
from plugins.topdesk.words import PROCESSING_STATUSES

Json = dict[str, Any]

ORDER: Final = (TicketStatus.NEW, TicketStatus.OPEN, TicketStatus.RESOLVED, TicketStatus.CLOSED)
NEXT_ACTION: Final[Mapping[str, str]] = {
    "simple_notStarted": "start",
    "simple_inProgress": "implement",
    "simple_done": "close",
    "extensive_done": "close",
    "extensive_evaluated": "close",
}
"""The one action that leads on. Submitting and approving are decisions of people: never taken for them."""
POSSIBLE: Final[Mapping[TicketStatus, str]] = {
    TicketStatus.NEW: "notStarting",
    TicketStatus.OPEN: "starting",
    TicketStatus.RESOLVED: "implementing",
    TicketStatus.CLOSED: "closing",
}
"""Where the tenant lets a change's status move it: the list of statuses that do."""
MAX_MOVES: Final = 4


async def new_change(api: TopdeskClient, settings: Mapping[str, Any], lists: TenantLists, ticket: NewTicket) -> Json:
    """Makes the change and answers its document. Lookups are plain text here; a requester is a must."""
    body: Json = {
        "requester": {"id": await requester_id(api, settings)},
        "briefDescription": brief(ticket.subject),
        "request": to_plain(from_markdown(ticket.description or ticket.subject)),
        "action": update_tag(ticket.event_id),
        "changeType": str(settings.get("change_type") or "simple"),
        "externalNumber": ticket.external_id,
        **ticket.custom_fields,
    }
    if template := settings.get("change_template"):
        body["template"] = {"id": str(template)} if to_unid(template) else {"number": str(template)}
    if ticket.priority and (name := lists.priority(ticket.priority)):
        body["priority"] = name
    return await api.create_change(body)


async def requester_id(api: TopdeskClient, settings: Mapping[str, Any]) -> str:
    """The person changes are requested by: the setting `requester`, an id or an e-mail address."""
    given = str(settings.get("requester") or "")
    if unid := to_unid(given):
        return unid
    if not given:
        raise PluginConfigError("a TOPdesk change needs a requester; set `requester` of this tool to a person's e-mail address or id")
    people = await api.people("persons", f"email=={quoted(given)}")
    if len(people) != 1 or not people[0].get("id"):
        raise PluginConfigError(f"`requester` must be the address of one person in TOPdesk; {len(people)} have it")
    return str(people[0]["id"])


async def change_change(api: TopdeskClient, lists: TenantLists, identifier: str, changes: TicketChanges) -> None:
    """Applies the changes with a memo that tells them: one patch, all or nothing. Where phases are moved too, the memo comes last: an
    update cut off in between does not count as applied, and doing it again completes it."""
    card = await api.change(identifier)
    steps: list[Json] = []
    told: list[str] = []

    def put(path: str, value: object, label: str, before: object) -> None:
        steps.append({"op": "replace", "path": f"/{path}", "value": value})
        told.append(f"{label}: {before or ''} -> {value}")

    if changes.subject is not None:
        put("briefDescription", brief(changes.subject), "Subject", card.get("briefDescription"))
    if changes.priority and (name := lists.priority(changes.priority)):
        put("priority", name, "Priority", (card.get("priority") or {}).get("name"))
    for path, value in changes.custom_fields.items():
        put(path.replace(".", "/"), value, path, None)
    moves = changes.status if changes.status and changes.status is not PROCESSING_STATUSES.get(str(card.get("processingStatus"))) else None
    status_ids = ((card.get("simple") or {}).get("possibleStatusValues") or {}).get(POSSIBLE.get(moves, "")) if moves else None
    if moves and status_ids:
        status = status_ids[0]
        steps.append({"op": "replace", "path": "/status", "value": status["id"]})
        told.append(f"Status: {(card.get('status') or {}).get('name') or ''} -> {status.get('name') or status['id']}")
        moves = None
    if moves:
        _check_move(str(card.get("processingStatus")), moves)
        told.append(f"Status: {card.get('processingStatus')} -> {moves.value}")
    memo = {"op": "add", "path": "/progressTrail", "value": "\n".join([*told, update_tag(changes.event_id)])}
    if moves is None:
        await api.patch_change(identifier, [*steps, memo])
        return
    if steps:
        await api.patch_change(identifier, steps)
    await _lead(api, identifier, str(card.get("processingStatus")), moves)
    await api.patch_change(identifier, [memo])


def _check_move(processing: str, wanted: TicketStatus) -> None:
    """Refuses before anything is written what the phases do not allow."""
    if wanted not in ORDER:
        raise ValidationRefused(f"a TOPdesk change cannot be {wanted.value}")
    now = PROCESSING_STATUSES.get(processing, TicketStatus.UNKNOWN)
    if now not in ORDER or ORDER.index(wanted) < ORDER.index(now):
        raise ValidationRefused(f"a TOPdesk change does not go back from {processing} to {wanted.value}")
    if now is TicketStatus.NEW and wanted is not TicketStatus.OPEN:
        raise ValidationRefused(f"a TOPdesk change in {processing} must be approved by people before it can be {wanted.value}")


async def _lead(api: TopdeskClient, identifier: str, processing: str, wanted: TicketStatus) -> None:
    for _ in range(MAX_MOVES):
        now = PROCESSING_STATUSES.get(processing, TicketStatus.UNKNOWN)
        if now is TicketStatus.NEW or now is wanted:
            return  # what waits for an approval stays there: opening it is the approver's
        action = NEXT_ACTION.get(processing)
        if action is None:
            raise ValidationRefused(f"a TOPdesk change in {processing} is led on by its activities, not by us")
        processing = str((await api.move_change(identifier, processing, action)).get("to"))


class ChangeNotes:
    """Notes on changes. The API does not promise that a memo can be hidden from the requester: each internal one is looked at after it
    was written, and where TOPdesk shows it all the same, no further one is written unless that is meant to be."""

    def __init__(self, *, shown_is_meant: bool) -> None:
        self._shown_is_meant = shown_is_meant
        self._shows = False

    async def add(self, api: TopdeskClient, identifier: str, text: str, *, hidden: bool) -> str:
        """Adds the memo, plain text, and answers its id."""
        if hidden and self._shows:
            raise ValidationRefused("this TOPdesk shows notes on changes to requesters; set change_notes: visible if that is meant to be")
        change_id = to_unid(identifier) or str((await api.change(identifier)).get("id"))
        entry_id = to_id((await api.add_memo(change_id, text, hidden=hidden)).get("id"))
        if entry_id is None:
            raise TornAnswer("TOPdesk took a note and did not say its id", in_doubt=True)
        if hidden and not self._shown_is_meant:
            with suppress(ApiError):  # the note is written: a look that fails must not have it written again
                entries = await api.change_progress(change_id)
                self._shows = any(row.get("id") == entry_id and row.get("invisibleForCaller") is False for row in entries)
        return entry_id
