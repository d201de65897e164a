"""The pure half of materializing: rows, ids, refusals, folding."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.materializer import MAX_SPANS, Row, fold, fold_seen, merge, prepare
from analytics.tables import Table
from schemas.events import WebhookReceived
from tests.analytics.building import (
    COUNTS,
    DEAD_LETTER,
    NOON,
    PROCESSED,
    a_call,
    a_dead_letter,
    a_log,
    a_processed,
    a_window,
)


def rows_of(*events: Any) -> Any:
    return prepare(PROCESSED, 0, list(enumerate(events)), len(events)).rows


@given(st.integers(0, 1000), st.lists(st.integers(0, 60), max_size=6))
def test_folding_in_parts_is_folding_the_whole(seed: int, cuts: list[int]) -> None:
    """Batches may be cut anywhere, so merging parts must give what one batch gives: for every rollup, every key."""
    records = a_log(seed, 40)[PROCESSED, 0]
    whole = prepare(PROCESSED, 0, records, 1 << 30).rows
    parts: dict[Table, list[Row]] = defaultdict(list)
    edges = [0, *sorted(min(c, len(records)) for c in cuts), len(records)]
    for begin, end in itertools.pairwise(edges):
        rows = prepare(PROCESSED, 0, records[begin:end], 1 << 30).rows
        for table, folded in fold(rows, rows.calls, rows.events).items():
            parts[table] += folded
    for table, folded in fold(whole, whole.calls, whole.events).items():
        assert merge(table, folded) == merge(table, parts[table])


@given(st.integers(0, 1000), st.randoms())
def test_the_order_of_records_does_not_change_the_sums(seed: int, random: Any) -> None:
    """Partitions are folded in any order."""
    records = a_log(seed, 30)[PROCESSED, 0]
    shuffled = list(records)
    random.shuffle(shuffled)
    ordered, mixed = (prepare(PROCESSED, 0, r, 1 << 30).rows for r in (records, shuffled))
    for table, folded in fold(ordered, ordered.calls, ordered.events).items():
        assert merge(table, folded) == merge(table, fold(mixed, mixed.calls, mixed.events)[table])


def test_a_facts_id_tells_event_injection_step_attempt_and_place_apart() -> None:
    """Two different calls with one id would lose one of them."""
    events = [
        a_processed(1, calls=[a_call(), a_call()]),
        a_processed(1, calls=[a_call(attempt=2)]),
        a_processed(1, calls=[a_call(step="note")]),
        a_processed(2),
        a_processed(1, injection_id="replay-1"),
    ]
    ids = [row[1] for row in rows_of(*events).calls]
    assert len(set(ids)) == len(ids) == 6


def test_series_ids_are_the_same_in_every_build() -> None:
    """A rebuild must give the same rows: pinned here, since a silent change would split every series in two."""
    rows = rows_of(a_processed())
    assert list(rows.series) == [SERIES_ID]
    assert list(rows.routing) == [ROUTING_ID]


SERIES_ID = 5045253070954994123
ROUTING_ID = 4802497259692329352


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (a_processed(event_id="not-a-uuid"), "event_id"),
        (a_processed(received_at=-1), "time"),
        (a_processed(processed_at=1 << 60), "time"),
        (a_processed(calls=[a_call(latency_us=1 << 50)]), "create_ticket"),
        (a_processed(calls=[a_call(cost_micros=-1)]), "create_ticket"),
        (a_processed(calls=[a_call(error_class="x" * 500)]), "longer"),
        (a_processed(ticket_id="a\0b"), "NUL"),
        (a_processed(rule_set_version=1 << 62), "rule_set_version"),
        (a_dead_letter(origin_offset=-4), "out of range"),
        (a_dead_letter(event_id="zz"), "event_id"),
        (a_window(accepted=1 << 40), "count"),
        (
            WebhookReceived(
                event_id="", dedup_key=b"", dedup_scope="body", tenant="", tool="", tool_type="", received_at=0, verified_by="", body=b""
            ),
            "WebhookReceived",
        ),
    ],
)
def test_what_no_table_can_keep_is_refused_by_name(event: Any, words: str) -> None:
    """The dead letter's detail names the field, and never holds the value."""
    batch = prepare(PROCESSED, 0, [(4, event)], 5)
    (refusal,) = batch.refused
    assert refusal.offset == 4
    assert words in refusal.detail
    assert not (batch.rows.calls or batch.rows.events or batch.rows.letters or batch.rows.windows or batch.rows.series)


def test_a_long_detail_is_cut_and_kept() -> None:
    """A dead letter is the last place to refuse something."""
    (letter,) = prepare(DEAD_LETTER, 0, [(0, a_dead_letter(detail="why\0" * 5000))], 1).rows.letters
    assert len(letter[10]) == 2000
    assert "\0" not in letter[10]


def test_an_event_that_another_tool_took_says_from_which_it_failed_over() -> None:
    """So that failovers can be counted without reading calls."""
    calls = [a_call(tool="snow", outcome="error", error_class="ServerError"), a_call(tool="jira")]
    (routing,) = rows_of(a_processed(calls=calls, target="jira")).routing.values()
    assert routing[8] == "snow"
    (usual,) = rows_of(a_processed(target="jira")).routing.values()
    assert usual[8] == ""


def test_a_window_counts_at_its_end() -> None:
    """Freshness is how far the tables are, and a window is known when it ends."""
    assert prepare(COUNTS, 0, [(0, a_window())], 1).rows.last_at == NOON + 10_000_000


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=12))
def test_each_received_offset_is_counted_once_however_it_is_told(batches: list[tuple[int, int]]) -> None:
    """In any order, overlapping in any way, with the spans kept between two transactions or not."""
    told = [((first, first + size), [(n, NOON, "routed") for n in range(first, first + size)]) for first, size in batches]
    offsets = {n for (first, after), _ in told for n in range(first, after)}
    whole, spans = fold_seen(told, [])
    assert sum(row[2] for row in whole) == len(offsets)
    assert {n for first, after in spans for n in range(first, after)} == offsets
    kept: list[tuple[int, int]] = []
    total = 0
    for one in told:
        rows, kept = fold_seen([one], kept)
        total += sum(row[2] for row in rows)
    assert (total, kept) == (len(offsets), spans)


def test_spans_are_bounded() -> None:
    """Gaps that never fill must not make every transaction slower for ever."""
    _, spans = fold_seen([((n * 2, n * 2 + 1), []) for n in range(MAX_SPANS + 5)], [])
    assert len(spans) == MAX_SPANS
    assert spans[0] == (0, 11)
