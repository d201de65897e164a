"""After the faults: inputs, topics, the sandboxes' ledgers and the tables say the same. Pure: evidence in, verdict out."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from plugins.marker import find_marker
from schemas.events import TicketProcessed
from tests.chaos.evidence import Evidence, Place

WRITES = {"mirror": ("create_ticket", "update_ticket"), "note": ("add_note",)}
SEARCHES = ("find_by_external_id", "has_update", "has_note")


@dataclass(slots=True)
class Verdict:
    """What was compared, and each thing that is wrong, by name."""

    delivered: int = 0
    accepted: int = 0
    unanswered: int = 0
    """Accepted, though the answer was lost: the client delivered again."""
    duplicates: int = 0
    echoes: int = 0
    processed: int = 0
    failed: int = 0
    effects: int = 0
    searched: int = 0
    """Calls made in doubt."""
    found: int = 0
    """Effects of a worker that died between the call and its record: found by a search, and not done again."""
    call_facts: int = 0
    wrong: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """For the terminal."""
        return json.dumps(asdict(self), indent=2)


def check(evidence: Evidence) -> Verdict:
    """Compares everything."""
    verdict = Verdict(delivered=len(evidence.deliveries))
    finished = finished_once(event for _, event in evidence.processed)
    dead = {letter.event_id for _, letter in evidence.letters if letter.event_id is not None}
    _check_inputs(evidence, finished, dead, verdict)
    _check_audit(evidence, verdict)
    happened = _check_ledgers(evidence, verdict)
    _check_outcomes(finished, dead, happened, verdict)
    _check_tables(evidence, finished, verdict)
    if evidence.spool_records:
        verdict.wrong.append(f"lost: {evidence.spool_records} records are left in the spool")
    return verdict


def finished_once(processed: Iterable[TicketProcessed]) -> dict[str, TicketProcessed]:
    """Each finished event by its first record: a worker may have died between its record and its commit."""
    first: dict[str, TicketProcessed] = {}
    for event in processed:
        first.setdefault(event.event_id, event)
    return first


def _check_inputs(evidence: Evidence, finished: dict[str, TicketProcessed], dead: set[str], verdict: Verdict) -> None:
    """0 lost: what was answered 2xx is on the topic, byte for byte, under the id it was answered with. One copy of it has effects."""
    ids_of: dict[bytes, set[str]] = defaultdict(set)
    for _, event in evidence.received:
        ids_of[event.body].add(event.event_id)
    verdict.accepted = len({event.event_id for _, event in evidence.received})
    for d in evidence.deliveries:
        there = ids_of[d.body]
        verdict.unanswered += len(there - d.event_ids)
        verdict.wrong += [
            f"lost: delivery {d.number} was answered with {i}, which is not on the topic with its body" for i in d.event_ids - there
        ]
        worked_on = sorted(i for i in there if i in finished or i in dead)
        if len(worked_on) != 1:
            kind = "double" if worked_on else "lost"
            verdict.wrong.append(f"{kind}: of delivery {d.number}'s {len(there)} events, {worked_on or 'none'} went on to process")


def _check_audit(evidence: Evidence, verdict: Verdict) -> None:
    verdict.wrong += [f"audit: {problem}" for problem in evidence.audit.problems]
    verdict.duplicates = sum(row.duplicates for row in evidence.audit.tools)
    verdict.echoes = sum(row.echoes for row in evidence.audit.tools)


def _check_ledgers(evidence: Evidence, verdict: Verdict) -> Counter[tuple[str, str, str]]:
    """0 double effects, and on each ticket, whatever was done to it, the order of the received offsets."""
    place: dict[str, Place] = {}
    for at, event in evidence.received:
        place[event.event_id] = min(at, place.get(event.event_id, at))
    happened: Counter[tuple[str, str, str]] = Counter()
    creates: Counter[str] = Counter()
    last: dict[tuple[str, str], Place] = {}
    for tool, rows in evidence.ledgers.items():
        for row in rows:
            verdict.effects += 1
            kind, event_id = effect_of(row)
            happened[tool, kind, event_id] += 1
            if row["kind"] == "create":
                creates[row["external_id"]] += 1
            if event_id not in place:
                verdict.wrong.append(f"stranger: {tool} {kind} on {row['ticket_id']} by {event_id}, which was never received")
                continue
            at, ticket = place[event_id], (tool, row["ticket_id"])
            if ticket in last and last[ticket] > at:
                verdict.wrong.append(f"order: {tool} {kind} of {event_id} on {row['ticket_id']} at {at}, after {last[ticket]}")
            last[ticket] = max(at, last.get(ticket, at))
    verdict.wrong += [f"double: {tool} {kind} of {event_id} happened {n} times" for (tool, kind, event_id), n in happened.items() if n > 1]
    verdict.wrong += [f"double: a ticket for {external_id} was made {n} times" for external_id, n in creates.items() if n > 1]
    return happened


def effect_of(row: dict[str, Any]) -> tuple[str, str]:
    """What a ledger's row did, and for which event."""
    marker = str(row["marker"] or "")
    if row["kind"] == "note":
        found = find_marker(marker)
        return "note", found[0] if found else marker
    if marker.endswith("/fields"):  # Jira edits fields and moves a ticket in two calls; the second is the effect's end
        return "edit", marker.removesuffix("/fields")
    return "mirror", marker


def _check_outcomes(
    finished: dict[str, TicketProcessed], dead: set[str], happened: Counter[tuple[str, str, str]], verdict: Verdict
) -> None:
    """0 lost: what is recorded as done was done; what was given up has its dead letter."""
    for event in finished.values():
        verdict.searched += sum(call.method in SEARCHES for call in event.calls)
        if event.outcome == "failed":
            verdict.failed += 1
            if event.event_id not in dead:
                verdict.wrong.append(f"lost: {event.event_id} failed without a dead letter")
            continue
        verdict.processed += 1
        target = str(event.target)
        for kind in wanted_effects(event):
            wrote = any(call.method in WRITES[kind] and call.outcome == "ok" for call in event.calls)
            if not happened[target, kind, event.event_id]:
                verdict.wrong.append(f"lost: {kind} of {event.event_id} in {target} did not happen")
            elif not wrote:
                verdict.found += 1


def wanted_effects(event: TicketProcessed) -> tuple[str, ...]:
    """What the world's rules ask for: `urgent` mirrors to Jira and notes there, all else is noted where it came from."""
    if event.rule == "urgent":
        return ("mirror", "note") if event.tool != "jira" else ("note",)
    return ("note",)


def _check_tables(evidence: Evidence, finished: dict[str, TicketProcessed], verdict: Verdict) -> None:
    """0 double counts: each finished event and each of its calls is one row, and every table is what the topics give."""
    rows = Counter(row[1].hex() for row in evidence.stored["event_fact"])
    wanted = {event_id.replace("-", "") for event_id in finished}
    verdict.wrong += [f"table: event {e} has {n} rows" for e, n in rows.items() if n != 1]
    verdict.wrong += [f"table: event {e} is missing" for e in wanted - set(rows)]
    verdict.wrong += [f"table: event {e} was never finished" for e in set(rows) - wanted]
    calls = sum(len(event.calls) for event in finished.values())
    verdict.call_facts = len(evidence.stored["call_fact"])
    if verdict.call_facts != calls:
        verdict.wrong.append(f"table: {verdict.call_facts} call facts for {calls} calls on the topic")
    for name, rebuilt in evidence.rebuilt.items():
        there, again = Counter(evidence.stored[name]), Counter(rebuilt)
        verdict.wrong += [f"table: {name} has {row}, which the topics do not give" for row in list(there - again)[:5]]
        verdict.wrong += [f"table: {name} lacks {row}, which the topics give" for row in list(again - there)[:5]]
