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
from tests.chaos.check import check
from tests.chaos.evidence import Evidence, rebuild
from tests.chaos.world import Delivery

AT = 1_790_000_000_000_000
FIRST, SECOND, REPEAT = (new_event_id() for _ in range(3))


def call(method: str, step: str) -> Call:
    return Call(step=step, method=method, tool="jira", plugin="jira", plugin_version="1", outcome="ok", latency_us=900, started_at=AT)


def received(event_id: str, body: bytes) -> WebhookReceived:
    return WebhookReceived(
        event_id=event_id, dedup_key=b"k" * 16, dedup_scope="delivery", tenant="chaos", tool="support", tool_type="zendesk",
        received_at=AT, verified_by="hmac", body=body,
    )  # fmt: skip


def processed(event_id: str, write: str, outcome: str = "processed") -> TicketProcessed:
    return TicketProcessed(
        event_id=event_id, tenant="chaos", tool="support", tool_type="zendesk", ticket_id="1", outcome=outcome, target="jira",
        rule="urgent", received_at=AT, processed_at=AT + 5, received_offset=0, routed_offset=0,
        calls=[call(write, "mirror"), call("add_note", "note")],
    )  # fmt: skip


def effects(event_id: str, kind: str) -> list[dict[str, Any]]:
    mirror = {"kind": kind, "ticket_id": "OPS-1", "external_id": "x-1" if kind == "create" else None, "marker": event_id}
    return [mirror, {"kind": "note", "ticket_id": "OPS-1", "external_id": None, "marker": note_marker(event_id, 1)}]


def right() -> Evidence:
    """Two deliveries of one ticket, the first delivered twice; the second ended in a ticket's change."""
    finished = [((0, 0), processed(FIRST, "create_ticket")), ((0, 1), processed(SECOND, "update_ticket"))]
    tables = rebuild({topics.PROCESSED.name: list(finished)}, {(topics.PROCESSED.name, 0): 2})
    report = AuditReport(tools=[], problems=[], unaccounted=0, repeats=0, injected=0, not_in_tables=0, balanced=True)
    return Evidence(
        deliveries=[Delivery(0, "1", b"one", {FIRST, REPEAT}), Delivery(1, "1", b"two", {SECOND})],
        received=[((0, 0), received(FIRST, b"one")), ((0, 1), received(SECOND, b"two")), ((0, 2), received(REPEAT, b"one"))],
        processed=finished,
        letters=[],
        ledgers={"jira": [*effects(FIRST, "create"), *effects(SECOND, "update")], "support": []},
        audit=report,
        stored={name: list(rows) for name, rows in tables.items()},
        rebuilt=tables,
        spool_records=0,
    )


def with_ledger(evidence: Evidence, rows: list[dict[str, Any]]) -> Evidence:
    return replace(evidence, ledgers={"jira": rows, "support": []})


def lacking(evidence: Evidence, table: str) -> Evidence:
    return replace(evidence, stored={**evidence.stored, table: evidence.stored[table][1:]})


def counted_twice(evidence: Evidence) -> Evidence:
    day, series, calls, *rest = evidence.stored["usage_daily"][0]
    doubled = [(day, series, calls * 2, *rest), *evidence.stored["usage_daily"][1:]]
    return replace(evidence, stored={**evidence.stored, "usage_daily": doubled})


def failed(evidence: Evidence, letters: list[tuple[tuple[int, int], ProcessingFailed]]) -> Evidence:
    gone = msgspec.structs.replace(evidence.processed[1][1], outcome="failed")
    return replace(evidence, processed=[evidence.processed[0], ((0, 1), gone)], letters=letters)


PLANTED: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "an answered delivery is not on the topic": (lambda e: replace(e, received=e.received[:1] + e.received[2:]), "lost: delivery 1"),
    "a delivery is on the topic with another body": (
        lambda e: replace(e, received=[*e.received[:1], ((0, 1), received(SECOND, b"tw")), *e.received[2:]]),
        "lost: delivery 1",
    ),
    "both copies of a delivery are worked on": (
        lambda e: replace(e, processed=[*e.processed, ((0, 2), processed(REPEAT, "update_ticket"))]),
        "double: of delivery 0's 2 events",
    ),
    "no copy of a delivery is worked on": (lambda e: replace(e, processed=e.processed[:1]), "lost: of delivery 1's 1 events"),
    "an effect happens twice": (lambda e: with_ledger(e, [*e.ledgers["jira"], e.ledgers["jira"][3]]), "double: jira note"),
    "a ticket is made twice": (lambda e: with_ledger(e, [e.ledgers["jira"][0], *e.ledgers["jira"]]), "double: a ticket for x-1"),
    "an effect is recorded and did not happen": (lambda e: with_ledger(e, e.ledgers["jira"][:3]), f"lost: note of {SECOND}"),
    "an older event's note comes after a newer event's change": (
        lambda e: with_ledger(e, [e.ledgers["jira"][n] for n in (0, 2, 1, 3)]),
        "order: jira note",
    ),
    "an effect of nobody's": (lambda e: with_ledger(e, [*e.ledgers["jira"], *effects("nobody", "update")]), "stranger: jira"),
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
