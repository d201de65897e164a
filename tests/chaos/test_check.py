"""The loss test's comparison finds what it is there for: each kind of wrong, planted into evidence that is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from plugins.marker import note_marker
from schemas.events import Call, ProcessingFailed, TicketProcessed, WebhookReceived
from schemas.ids import new_event_id
from streams import topics
from streams.audit import AuditReport
from tests.chaos.check import check, new_events
from tests.chaos.evidence import Evidence, rebuild
from tests.chaos.people import Act, Delivery, act_of
from tests.chaos.tenant import ROUND, TOOL_TYPES, drawn, wanted_effects

AT = 1_790_000_000_000_000
FIRST, SECOND, REPEAT, ECHO = (new_event_id() for _ in range(4))
RING = ["zendesk", "jira", "sysaid"]
ONE, TWO = b"chaos 000000", b"chaos 000001"


def call(method: str, step: str) -> Call:
    return Call(step=step, method=method, tool="jira", plugin="jira", plugin_version="1", outcome="ok", latency_us=900, started_at=AT)


def received(event_id: str, body: bytes) -> WebhookReceived:
    return WebhookReceived(
        event_id=event_id, dedup_key=body.ljust(16), dedup_scope="delivery", tenant="chaos", tool="zendesk", tool_type="zendesk",
        ticket_id="1", received_at=AT, verified_by="hmac", body=body,
    )  # fmt: skip


def processed(event_id: str, write: str, outcome: str = "processed") -> TicketProcessed:
    return TicketProcessed(
        event_id=event_id, tenant="chaos", tool="zendesk", tool_type="zendesk", ticket_id="1", outcome=outcome, target="jira",
        rule="zendesk urgent", received_at=AT, processed_at=AT + 5, received_offset=0, routed_offset=0,
        calls=[call(write, "mirror"), call("add_note", "note")],
    )  # fmt: skip


def effects(event_id: str, kind: str) -> list[dict[str, Any]]:
    mirror = {"kind": kind, "ticket_id": "OPS-1", "external_id": "x-1" if kind == "create" else None, "marker": event_id, "actor": "api"}
    return [mirror, {"kind": "note", "ticket_id": "OPS-1", "external_id": None, "marker": note_marker(event_id, 1), "actor": "api"}]


def right() -> Evidence:
    """Two deliveries of one ticket, the first delivered twice; the second ended in a ticket's change."""
    finished = [((0, 0), processed(FIRST, "create_ticket")), ((0, 1), processed(SECOND, "update_ticket"))]
    tables = rebuild({topics.PROCESSED.name: list(finished)}, {(topics.PROCESSED.name, 0): 2})
    report = AuditReport(tools=[], problems=[], unaccounted=0, repeats=0, injected=0, not_in_tables=0, balanced=True)
    return Evidence(
        ring=RING,
        acts=[Act(0, "zendesk"), Act(1, "zendesk")],
        deliveries=[Delivery(0, "zendesk", ONE, event_ids={FIRST, REPEAT}), Delivery(1, "zendesk", TWO, event_ids={SECOND})],
        refused=[],
        received=[((0, 0), received(FIRST, ONE)), ((0, 1), received(SECOND, TWO)), ((0, 2), received(REPEAT, ONE))],
        processed=finished,
        letters=[],
        ledgers={"jira": [*effects(FIRST, "create"), *effects(SECOND, "update")], "zendesk": []},
        audit=report,
        stored={name: list(rows) for name, rows in tables.items()},
        rebuilt=tables,
        spool_records=0,
    )


def with_ledger(evidence: Evidence, rows: list[dict[str, Any]]) -> Evidence:
    return replace(evidence, ledgers={"jira": rows, "zendesk": []})


def lacking(evidence: Evidence, table: str) -> Evidence:
    return replace(evidence, stored={**evidence.stored, table: evidence.stored[table][1:]})


def counted_twice(evidence: Evidence) -> Evidence:
    day, series, calls, *rest = evidence.stored["usage_daily"][0]
    doubled = [(day, series, calls * 2, *rest), *evidence.stored["usage_daily"][1:]]
    return replace(evidence, stored={**evidence.stored, "usage_daily": doubled})


def failed(evidence: Evidence, letters: list[tuple[tuple[int, int], ProcessingFailed]]) -> Evidence:
    gone = msgspec.structs.replace(evidence.processed[1][1], outcome="failed")
    return replace(evidence, processed=[evidence.processed[0], ((0, 1), gone)], letters=letters)


def letter(event_id: str) -> ProcessingFailed:
    return ProcessingFailed(
        event_id=event_id, stage="process", reason="tool_refused", detail="422", failed_at=AT, origin_topic="tickets.routed.v1",
        origin_partition=0, origin_offset=1, original_size=0,
    )  # fmt: skip


def at_another_time(event: WebhookReceived) -> WebhookReceived:
    return msgspec.structs.replace(event, dedup_key=b"another".ljust(16))


def with_echo(evidence: Evidence, body: bytes) -> Evidence:
    acts = [*evidence.acts, Act(2, "jira")]
    there = [*evidence.received, ((0, 3), received(ECHO, body))]
    return replace(evidence, acts=acts, received=there, processed=[*evidence.processed, ((0, 3), processed(ECHO, "update_ticket"))])


PLANTED: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "an answered delivery is not on the topic": (lambda e: replace(e, received=e.received[:1] + e.received[2:]), "lost: delivery 1"),
    "a delivery is on the topic with another body": (
        lambda e: replace(e, received=[*e.received[:1], ((0, 1), received(SECOND, b"tw")), *e.received[2:]]),
        "lost: delivery 1",
    ),
    "a delivery is not taken": (lambda e: replace(e, refused=["refused: delivery 1"]), "refused: delivery 1"),
    "both copies of a delivery are worked on": (
        lambda e: replace(e, processed=[*e.processed, ((0, 2), processed(REPEAT, "update_ticket"))]),
        f"double: {REPEAT} of zendesk repeats",
    ),
    "what a person did is worked on in no form": (lambda e: replace(e, processed=e.processed[:1]), "lost: chaos 000001 in zendesk"),
    "the same words under another delivery id are not worked on": (
        lambda e: replace(e, received=[*e.received[:2], ((0, 2), at_another_time(received(REPEAT, ONE)))]),
        f"lost: {REPEAT} of zendesk is new",
    ),
    "a webhook about our own note is taken as news": (lambda e: with_echo(e, ONE + b" noted"), "echo: chaos 000000"),
    "a webhook about a mirror of ours is taken as news": (lambda e: with_echo(e, b"chaos 000002"), "tells of nobody's act"),
    "an effect happens twice": (lambda e: with_ledger(e, [*e.ledgers["jira"], e.ledgers["jira"][3]]), "double: jira note"),
    "a ticket is made twice": (lambda e: with_ledger(e, [e.ledgers["jira"][0], *e.ledgers["jira"]]), "double: a ticket for x-1"),
    "an effect is recorded and did not happen": (lambda e: with_ledger(e, e.ledgers["jira"][:3]), f"lost: note of {SECOND}"),
    "an older event's note comes after a newer event's change": (
        lambda e: with_ledger(e, [e.ledgers["jira"][n] for n in (0, 2, 1, 3)]),
        "order: jira note",
    ),
    "an effect of nobody's": (lambda e: with_ledger(e, [*e.ledgers["jira"], *effects("nobody", "update")]), "stranger: jira"),
    "an effect of nobody's without a mark": (
        lambda e: with_ledger(e, [*e.ledgers["jira"], {**e.ledgers["jira"][1], "marker": None}]),
        "stranger: jira note",
    ),
    "a tool refused what a plugin wrote": (lambda e: failed(e, [((0, 0), letter(SECOND))]), f"refused: {SECOND} ended as tool_refused"),
    "a failed event has no dead letter": (lambda e: failed(e, []), f"lost: {SECOND} failed without"),
    "a finished event is not in the tables": (lambda e: lacking(e, "event_fact"), "is missing"),
    "a call is not in the tables": (lambda e: lacking(e, "call_fact"), "call facts for 4 calls"),
    "a rollup counts a call twice": (counted_twice, "table: usage_daily has"),
    "the spool is not empty": (lambda e: replace(e, spool_records=1), "left in the spool"),
}


def test_what_is_right_is_called_right() -> None:
    """A comparison that cries wolf would be switched off."""
    assert check(right()).wrong == []


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_wrong_is_named(name: str) -> None:
    """Each promise of the loss test can be broken, and is then said to be."""
    plant, said = PLANTED[name]
    assert any(said in text for text in check(plant(right())).wrong), check(plant(right())).wrong


def test_a_step_on_the_way_is_no_effect() -> None:
    """A tool whose state is reached over others is written several times for one event; only the last one carries its mark."""
    step = {**effects(SECOND, "update")[0], "marker": None}
    rows = right().ledgers["jira"]
    assert check(with_ledger(right(), [*rows[:2], step, *rows[2:]])).wrong == []


def test_what_people_do_is_not_counted_as_ours() -> None:
    """They work in the same tickets, and in no order with us."""
    rows = [{**row, "actor": "person"} for row in effects(FIRST, "create")]
    assert check(with_ledger(right(), [*right().ledgers["jira"], *rows])).wrong == []


def test_without_delivery_ids_only_the_latest_words_of_a_ticket_are_repeated() -> None:
    """A ticket that goes there, back and there again is told all three times; only a second copy in a row is a repeat."""
    words = [ONE, ONE, TWO, ONE]
    told = [((0, n), msgspec.structs.replace(received(str(n), body), dedup_scope="body")) for n, body in enumerate(words)]
    assert new_events([*told, ((0, 9), told[2][1])]) == {"0", "2", "3"}


def test_an_echo_is_told_from_an_act_by_its_tool() -> None:
    """A mirror bears the words of the act in the tool it came from; what tells of it there is ours."""
    acts = [Act(0, "zendesk"), Act(1, "jira")]
    assert act_of(acts, "zendesk", b"was chaos 000000") == acts[0]
    assert act_of(acts, "zendesk", b"chaos 000000, now chaos 000001") is None
    assert act_of(acts, "zendesk", b"no act") is None


@pytest.mark.parametrize("first", [1, 6, 11])
def test_five_seeds_in_a_row_play_every_tool(first: int) -> None:
    """As a source and as a target of both kinds: in a ring each tool is all of that."""
    rings = [drawn(seed) for seed in range(first, first + ROUND)]
    assert {tool for ring in rings for tool in ring} == set(TOOL_TYPES)
    for ring in rings:
        assert len(set(ring)) == len(ring)
        assert {target for tool in ring for target, _ in wanted_effects(ring, tool, f"{tool} high")} == set(ring)
    assert set(drawn(first, len(TOOL_TYPES))) == set(TOOL_TYPES)
