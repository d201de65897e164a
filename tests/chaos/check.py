"""After the faults: inputs, topics, the sandboxes' ledgers and the tables say the same. Pure: evidence in, verdict out."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass, field
from typing import Any

from plugins.marker import find_marker
from schemas.events import DedupScope, FailureReason, TicketProcessed, WebhookReceived
from tests.chaos.evidence import Evidence, Place
from tests.chaos.people import act_of
from tests.chaos.tenant import wanted_effects

WRITES = {"mirror": ("create_ticket", "update_ticket"), "note": ("add_note",), "enrich": ("add_note",)}
SEARCHES = ("find_by_external_id", "has_update", "has_note")
ALLOWED_TO_FAIL = frozenset({FailureReason.RETRIES_EXHAUSTED})
"""What the faults may lead to; a tool that refuses, or a plugin that cannot, is a fault of ours."""


@dataclass(slots=True)
class Verdict:
    """What was compared, and each thing that is wrong, by name."""

    tools: list[str] = field(default_factory=list)
    acts: int = 0
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
    found: dict[str, int] = field(default_factory=dict)
    """By tool, effects whose answer or whose worker was lost: found by a search, and not done again."""
    failed_because: dict[str, int] = field(default_factory=dict)
    call_facts: int = 0
    wrong: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """For the terminal."""
        return json.dumps(asdict(self), indent=2)


def check(evidence: Evidence) -> Verdict:
    """Compares everything."""
    verdict = Verdict(tools=evidence.ring, acts=len(evidence.acts), delivered=len(evidence.deliveries), wrong=list(evidence.refused))
    finished = finished_once(event for _, event in evidence.processed)
    dead = {letter.event_id: letter.reason for _, letter in evidence.letters if letter.event_id is not None}
    _check_inputs(evidence, finished, dead, verdict)
    _check_audit(evidence, verdict)
    happened = _check_ledgers(evidence, verdict)
    _check_outcomes(evidence.ring, finished, dead, happened, verdict)
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


def _check_inputs(evidence: Evidence, finished: Mapping[str, Any], dead: Mapping[str, Any], verdict: Verdict) -> None:
    """0 lost: what was answered 2xx is on the topic, byte for byte, under the id it was answered with; and each act has its effects.

    What a webhook brings that tells of our own writes, or repeats another, has none.
    """
    ids_of: dict[tuple[str, bytes], set[str]] = defaultdict(set)
    for _, event in evidence.received:
        ids_of[event.tool, event.body].add(event.event_id)
    verdict.accepted = len({event.event_id for _, event in evidence.received})
    answered: dict[tuple[str, bytes], set[str]] = defaultdict(set)
    for d in evidence.deliveries:
        answered[d.tool, d.body] |= d.event_ids
        lost = sorted(d.event_ids - ids_of[d.tool, d.body])
        verdict.wrong += [f"lost: delivery {d.number} was answered with {i}, which is not on the topic with its body" for i in lost]
    verdict.unanswered = sum(len(ids - answered[what]) for what, ids in ids_of.items())
    _check_acts(evidence, ids_of, finished.keys() | dead.keys(), verdict)


def _check_acts(evidence: Evidence, ids_of: Mapping[tuple[str, bytes], set[str]], worked_on: Set[str], verdict: Verdict) -> None:
    """Of all webhooks that name an act, one was the act's own; every event of it that was new went on to process, and no other."""
    new = new_events(evidence.received)
    bodies: dict[int, list[bytes]] = defaultdict(list)
    for (tool, body), ids in ids_of.items():
        if not ids & worked_on:
            continue
        if (act := act_of(evidence.acts, tool, body)) is None:
            verdict.wrong.append(f"echo: {sorted(ids & worked_on)} of {tool} tells of nobody's act and went on to process")
            continue
        bodies[act.number].append(body)
        verdict.wrong += [f"double: {i} of {tool} repeats an event and went on to process" for i in sorted((ids & worked_on) - new)]
        verdict.wrong += [f"lost: {i} of {tool} is new and did not go on to process" for i in sorted((ids & new) - worked_on)]
    for act in evidence.acts:
        if not bodies[act.number]:
            verdict.wrong.append(f"lost: {act.text} in {act.tool} went on to process in no form")
        elif len(bodies[act.number]) > 1:
            verdict.wrong.append(f"echo: {act.text} in {act.tool} went on to process {len(bodies[act.number])} times in different words")


def new_events(received: Iterable[tuple[Place, WebhookReceived]]) -> set[str]:
    """The events that repeat none before them: by the tool's own delivery id, else as the latest of their ticket, word for word."""
    named: set[tuple[str, bytes]] = set()
    latest: dict[tuple[int, str, str | None], bytes] = {}
    seen: set[str] = set()
    new: set[str] = set()
    for (partition, _), event in received:
        if event.event_id in seen:
            continue
        seen.add(event.event_id)
        if event.dedup_scope == DedupScope.DELIVERY:
            repeats = (event.tool, event.dedup_key) in named
            named.add((event.tool, event.dedup_key))
        else:
            ticket = (partition, event.tool, event.ticket_id)
            repeats = latest.get(ticket) == event.body
            latest[ticket] = event.body
        if not repeats:
            new.add(event.event_id)
    return new


def _check_audit(evidence: Evidence, verdict: Verdict) -> None:
    verdict.wrong += [f"audit: {problem}" for problem in evidence.audit.problems]
    verdict.duplicates = sum(row.duplicates for row in evidence.audit.tools)
    verdict.echoes = sum(row.echoes for row in evidence.audit.tools)


def _check_ledgers(evidence: Evidence, verdict: Verdict) -> Counter[tuple[str, str, str]]:
    """0 double effects, and on each ticket, whatever was done to it, the order of the received offsets."""
    place: dict[str, Place] = {}
    source: dict[str, tuple[str, str | None]] = {}
    for at, event in evidence.received:
        place[event.event_id] = min(at, place.get(event.event_id, at))
        source[event.event_id] = (event.tool, event.ticket_id)
    happened: Counter[tuple[str, str, str]] = Counter()
    creates: Counter[tuple[str, str]] = Counter()
    last: dict[tuple[Any, ...], Place] = {}
    for tool, row in ((tool, row) for tool, rows in evidence.ledgers.items() for row in rows if row["actor"] == "api"):
        if row["kind"] == "create":
            creates[tool, row["external_id"]] += 1
        elif row["kind"] == "update" and row["marker"] is None:
            continue  # a step on the way, as a state that is reached over others
        verdict.effects += 1
        kind, event_id = effect_of(row)
        happened[tool, kind, event_id] += 1
        if event_id not in place:
            verdict.wrong.append(f"stranger: {tool} {kind} on {row['ticket_id']} by {event_id}, which was never received")
            continue
        at, ticket = place[event_id], (tool, row["ticket_id"], *source[event_id])
        if ticket in last and last[ticket] > at:
            verdict.wrong.append(f"order: {tool} {kind} of {event_id} on {row['ticket_id']} at {at}, after {last[ticket]}")
        last[ticket] = max(at, last.get(ticket, at))
    verdict.wrong += [f"double: {tool} {kind} of {event_id} happened {n} times" for (tool, kind, event_id), n in happened.items() if n > 1]
    verdict.wrong += [
        f"double: a ticket for {external_id} was made {n} times in {tool}" for (tool, external_id), n in creates.items() if n > 1
    ]
    return happened


def effect_of(row: dict[str, Any]) -> tuple[str, str]:
    """What a ledger's row did, and for which event."""
    marker = str(row["marker"] or "")
    if row["kind"] == "note":
        found = find_marker(marker)
        event_id, _, enrich = (found[0] if found else marker).partition(".")
        return enrich or "note", event_id
    if marker.endswith("/fields"):  # Jira edits fields and moves a ticket in two calls; the second is the effect's end
        return "edit", marker.removesuffix("/fields")
    return "mirror", marker


def _check_outcomes(
    ring: list[str],
    finished: dict[str, TicketProcessed],
    dead: Mapping[str, FailureReason | str],
    happened: Counter[tuple[str, str, str]],
    verdict: Verdict,
) -> None:
    """0 lost: what is recorded as done was done; what was given up has its dead letter."""
    found: Counter[str] = Counter()
    for event in finished.values():
        verdict.searched += sum(call.method in SEARCHES for call in event.calls)
        if event.outcome == "failed":
            verdict.failed += 1
            if event.event_id not in dead:
                verdict.wrong.append(f"lost: {event.event_id} failed without a dead letter")
            continue
        verdict.processed += 1
        for target, kind in wanted_effects(ring, event.tool, event.rule):
            wrote = any(
                (call.tool, call.step, call.outcome) == (target, kind, "ok") and call.method in WRITES[kind] for call in event.calls
            )
            if not happened[target, kind, event.event_id]:
                verdict.wrong.append(f"lost: {kind} of {event.event_id} in {target} did not happen")
            elif not wrote:
                found[target] += 1
    verdict.found = dict(found)
    verdict.failed_because = dict(Counter(str(reason) for reason in dead.values()))
    verdict.wrong += [f"refused: {i} ended as {reason}" for i, reason in dead.items() if reason not in ALLOWED_TO_FAIL]


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
