"""Who changed what on a card, and when: from its record, its requests and its progress trail to one list of changes. Pure.

TOPdesk's own audit trail is not in its API. What a card tells is: who made it, each phase that ended and who let it, each activity and
authorisation with its assignee, each memo and file with its author, and who touched it last. Field by field (from what to what) it tells
where a memo says so: our own updates write such memos, and the README shows the action by which operators' edits write them too
("Prioriteit: P3 -> P1").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from plugins.mapping import squeezed, to_micros
from plugins.topdesk.memo import memo_text
from plugins.topdesk.words import FIELD_NAMES

Json = Mapping[str, Any]
Change = dict[str, Any]
"""{"what", "field", "from", "to", "who", "who_id", "at", "text", "internal", "entry_id"}; `at` in epoch microseconds. `what` is one of
created, requested, changed, moved on, phase ended, activity, noted, attached, mailed, linked, last touched."""

MAX_TEXT: Final = 4000
MAX_LINES: Final = 50
_ARROWS: Final = ("->", "=>", "→")
_CHANGED_FROM: Final = (
    r"(.{2,60}?) (?:was |is )?(?:changed from|gewijzigd van|veranderd van|aangepast van) (.{1,200}?) (?:to|naar) (.{1,200}?)\.?"
)
_PHASES: Final = ("prfc", "rfc", "progress", "evaluation")
_MOMENTS: Final = (
    ("startDate", "simple_inProgress"),
    ("implementationDate", "simple_done"),
    ("closedDate", "simple_closed"),
)


def field_changes(text: str) -> list[dict[str, str | None]]:
    """The lines of a memo that say a field changed, in Dutch or English: "Prioriteit: P3 -> P1", "Status gewijzigd van A naar B"."""
    found = []
    for line in text[:MAX_TEXT].splitlines()[:MAX_LINES]:
        line = line.strip().lstrip("-*• ")
        name, _, rest = line.partition(":")
        arrow = next((arrow for arrow in _ARROWS if arrow in rest), None)
        if arrow is not None and 2 <= len(name.strip()) <= 60 and "[" not in name:
            before, _, after = rest.partition(arrow)
        elif match := re.fullmatch(_CHANGED_FROM, line[:500], re.IGNORECASE):
            name, before, after = match.groups()
        else:
            continue
        found.append({"field": field_name(name), "from": before.strip() or None, "to": after.strip() or None})
    return found


def field_name(name: str) -> str:
    """A field in canonical words where it has some, else as it came."""
    name = name.strip()
    return FIELD_NAMES.get(squeezed(name), name)


def change_trail(card: Json, entries: Iterable[Json], requests: Iterable[Json] = (), activities: Iterable[Json] = ()) -> list[Change]:
    """Every change the card tells of, oldest first."""
    found = [*_of_the_card(card)]
    for activity in activities:
        found.extend(_of_an_activity(activity))
    for entry in requests:
        found.append(_entry("requested", entry))
    for entry in reversed(list(entries)):  # they come newest first; what happened within a millisecond keeps its order
        found.extend(_of_an_entry(entry))
    return sorted(found, key=lambda change: change["at"] or 0)


def changes_since(trail: Iterable[Change], since: int) -> list[Change]:
    """The changes after a time in epoch microseconds; what has no time is left out."""
    return [change for change in trail if change["at"] is not None and change["at"] > since]


def _of_the_card(card: Json) -> Iterator[Change]:
    creator = card.get("creator") or card.get("requester")
    yield _change("created", creator, card.get("creationDate"))
    phases = _object(card.get("phases"))
    for name in _PHASES:
        phase = _object(phases.get(name))
        if phase.get("endDate"):
            yield _change("phase ended", phase.get("authorizer"), phase["endDate"], field="status", before=name)
    simple = _object(card.get("simple"))
    for name, status in _MOMENTS:
        if simple.get(name):
            yield _change("moved on", simple.get("assignee"), simple[name], field="status", after=status)
    for flag, name in (("completed", "completedDate"), ("closed", "closedDate"), ("onHold", "onHoldDate")):
        if card.get(flag) and card.get(name):
            yield _change("moved on", None, card[name], field="status", after=flag)
    modified = card.get("modificationDate") or card.get("lastModificationDate")
    if modified and modified != card.get("creationDate"):
        yield _change("last touched", card.get("modifier"), modified)


def _of_an_activity(activity: Json) -> Iterator[Change]:
    """Its start and its end; an authorisation ends as authorized or rejected, by its assignee."""
    name = f"activity {activity.get('number') or activity.get('id')}"
    for moment, status in (("startDate", "in_progress"), ("finalDate", str(activity.get("processingStatus") or "finished"))):
        if activity.get(moment):
            change = _change("activity", activity.get("assignee"), activity[moment], field=name, after=status)
            change["text"] = str(activity.get("briefDescription") or "")[:MAX_TEXT]
            yield change


def _of_an_entry(entry: Json) -> Iterator[Change]:
    if entry.get("fileName"):
        change = _entry("attached", entry)
        change["to"] = str(entry["fileName"])
        yield change
        return
    text = memo_text(entry.get("memoText")) or str(entry.get("plainText") or "")
    changes = field_changes(text)
    if not changes:
        yield _entry("linked" if entry.get("linkUrl") else "mailed" if entry.get("sender") else "noted", entry, text)
    for change in changes:
        row = _entry("changed", entry, text)
        row.update(change)
        yield row


def _entry(what: str, entry: Json, text: str | None = None) -> Change:
    who = entry.get("operator") or entry.get("person") or entry.get("user")
    change = _change(what, who, entry.get("entryDate") or entry.get("creationDate"))
    change["text"] = (memo_text(entry.get("memoText")) if text is None else text)[:MAX_TEXT]
    change["internal"] = entry.get("invisibleForCaller") is True
    change["entry_id"] = entry.get("id")
    return change


def _change(what: str, who: object, at: object, *, field: str | None = None, before: str | None = None, after: str | None = None) -> Change:
    person = _object(who)
    return {
        "what": what,
        "field": field,
        "from": before,
        "to": after,
        "who": person.get("name") or person.get("dynamicName"),
        "who_id": person.get("id"),
        "at": to_micros(at),
        "text": "",
        "internal": False,
        "entry_id": None,
    }


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
