"""The views and readers, on a store with known rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics.adhoc import QueryRefused, query
from analytics.buckets import bucket_of, middle
from analytics.materializer import DAY_US, prepare
from analytics.open import open_reader, open_store
from analytics.store import StoreUnavailable
from analytics.views import Reader, Scope, definitions
from tests.analytics.building import (
    COUNTS,
    DEAD_LETTER,
    NOON,
    PROCESSED,
    SEEN,
    a_call,
    a_dead_letter,
    a_processed,
    a_seen,
    a_window,
    an_id,
)

BY_DESIGN = {
    "method_usage",
    "method_latency",
    "plugin_errors",
    "api_costs",
    "throughput",
    "freshness",
    "routing",
    "failovers",
    "dead_letters",
    "ingestion",
    "outcomes",
    "events",
    "calls",
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Ten calls of jira's create_ticket by acme's events (two failed); borg's fail over on that day, and go on the next."""
    url = f"sqlite:///{tmp_path}/analytics.db"
    store = open_store(url)
    processed = [
        a_processed(
            n,
            calls=[a_call(latency_us=n * 1000, outcome="error" if n < 2 else "ok", error_class="ServerError" if n < 2 else None)],
        )
        for n in range(10)
    ]
    next_day = [
        a_call(method="add_note", started_at=NOON + DAY_US, cost_micros=7),
        a_call(started_at=NOON + DAY_US, latency_us=900_000),
    ]
    processed.append(a_processed(10, tenant="borg", calls=next_day))
    failed_over = [a_call(tool="snow", plugin="servicenow", outcome="error", error_class="CallTimedOut"), a_call()]
    processed.append(a_processed(11, tenant="borg", calls=failed_over))
    for topic, events in (
        (PROCESSED, processed),
        (DEAD_LETTER, [a_dead_letter(1), a_dead_letter(2, reason="credentials")]),
        (COUNTS, [a_window()]),
        (SEEN, [a_seen(0, ["routed", "echo"])]),
    ):
        store.assign(topic, 0)
        store.apply(prepare(topic, 0, list(enumerate(events)), len(events)))
    store.close()
    return url


@pytest.fixture
def reader(url: str) -> Iterator[Reader]:
    with open_reader(url) as reader:
        yield reader


def test_every_view_can_be_read_and_says_what_it_answers(url: str) -> None:
    """The views are the analyst's interface: these names stay, on every database."""
    assert set(definitions()) == BY_DESIGN
    for name, text in definitions().items():
        assert text.startswith("-- "), name
        assert query(url, f"SELECT * FROM {name}", limit=1, timeout=5).rows, name


def test_methods_have_counts_percentiles_and_cost(reader: Reader) -> None:
    """The first question: which methods, how often, how slow, how dear."""
    (row,) = reader.methods(Scope(tenant="acme"))
    assert {k: row[k] for k in ("tool", "method", "calls", "errors", "avg_us", "max_us", "api_calls", "cost_micros")} == {
        "tool": "jira",
        "method": "create_ticket",
        "calls": 10,
        "errors": 2,
        "avg_us": 4500,
        "max_us": 9000,
        "api_calls": 10,
        "cost_micros": 1000,
    }
    assert [row["p50_us"], row["p95_us"], row["p99_us"]] == [middle(bucket_of(v)) for v in (4000, 9000, 9000)]


def test_a_range_holds_for_counts_and_percentiles_alike(reader: Reader) -> None:
    """A p99 over other days than its count would mislead."""
    first = reader.methods(Scope(until=NOON + 1, tenant="borg", tool="jira"))
    assert [(r["method"], r["calls"], r["p99_us"]) for r in first] == [("create_ticket", 1, middle(bucket_of(120_000)))]
    rows = reader.methods(Scope(since=NOON + DAY_US, until=NOON + 2 * DAY_US))
    assert [(r["method"], r["calls"], r["p50_us"]) for r in rows] == [
        ("add_note", 1, middle(bucket_of(120_000))),
        ("create_ticket", 1, middle(bucket_of(900_000))),
    ]
    assert reader.methods(Scope(since=NOON + 5 * DAY_US)) == []


def test_errors_stand_beside_all_calls_of_their_method(reader: Reader) -> None:
    """Two of ten is another matter than two of two."""
    rows = reader.errors(Scope(tenant="acme"))
    assert [(r["error_class"], r["errors"], r["calls"]) for r in rows] == [("ServerError", 2, 10)]


def test_costs_by_month_and_by_day(reader: Reader) -> None:
    """The bill, and where it came from."""
    assert [(r["month"], r["tenant"], r["cost_micros"]) for r in reader.costs(Scope(tenant="acme"))] == [("2026-11", "acme", 1000)]
    assert [r["day"] for r in reader.costs(Scope(tenant="borg", tool="jira"), "day")] == ["2026-11-02", "2026-11-01"]


def test_throughput_counts_calls_where_they_went_and_events_where_they_came_from(reader: Reader) -> None:
    """Calls belong to the tool called, events to the tool that sent them."""
    rows = {(r["minute"], r["tool"]): (r["calls"], r["errors"], r["events"]) for r in reader.throughput(Scope(tenant="acme"))}
    assert rows == {("2026-11-01T12:00Z", "jira"): (10, 2, 0), ("2026-11-01T12:00Z", "desk"): (0, 0, 10)}


def test_routing_and_failovers(reader: Reader) -> None:
    """By rule and target; an event that another tool took says from which."""
    assert [(r["rule"], r["target"], r["priority"], r["events"]) for r in reader.routing(Scope(tenant="acme"))] == [
        ("all", "jira", "urgent", 10)
    ]
    assert [(r["tenant"], r["failed_over_from"], r["target"], r["events"]) for r in reader.failovers(Scope())] == [
        ("borg", "snow", "jira", 1)
    ]


def test_dead_letters_are_listed_and_counted_by_reason(reader: Reader) -> None:
    """What to mend first."""
    assert {r["reason"] for r in reader.dead_letters(Scope())} == {"tool_refused", "credentials"}
    assert [(r["reason"], r["letters"]) for r in reader.dead_letter_reasons(Scope())] == [("credentials", 1), ("tool_refused", 1)]


def test_ingestion_tells_accepted_spooled_and_refused_apart(reader: Reader) -> None:
    """A forged signature leaves no event, only this count."""
    assert [(r["outcome"], r["reason"], r["requests"]) for r in reader.ingestion(Scope())] == [
        ("accepted", "", 7),
        ("refused", "signature_mismatch", 3),
        ("spooled", "", 2),
    ]


def test_an_event_is_found_with_its_calls(reader: Reader) -> None:
    """From the event_id a webhook's sender was given to what was done for it."""
    wanted = bytes.fromhex(an_id(11).replace("-", ""))
    events, calls = reader.event(wanted, (NOON - 1, NOON + 1))
    assert [(e["ticket_id"], e["target_ticket_id"]) for e in events] == [("11", "OPS-11")]
    assert [(c["tool"], c["outcome"]) for c in calls] == [("snow", "error"), ("jira", "ok")]
    assert reader.event(wanted, (0, 1)) == ([], [])


def test_freshness_shows_each_partition(reader: Reader) -> None:
    """How far the tables are."""
    assert {r["topic"]: r["next_offset"] for r in reader.freshness()} == {PROCESSED: 12, DEAD_LETTER: 2, COUNTS: 1, SEEN: 1}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM call_fact", "only SELECT"),
        ("DROP VIEW calls", "only SELECT"),
        ("PRAGMA query_only = OFF", "only SELECT"),
        ("ATTACH 'x.db' AS x", "only SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("SELECT * FROM nowhere", "no such table"),
        ("SELECT :a", "without parameters"),
        ("", "SELECT"),
    ],
)
def test_a_query_of_ones_own_can_only_read(url: str, statement: str, words: str) -> None:
    """A person's typo must not cost data, and is answered in one line."""
    with pytest.raises(QueryRefused, match=words):
        query(url, statement, limit=10, timeout=5)


def test_a_query_of_ones_own_is_bounded_in_time_rows_and_size(url: str) -> None:
    """It runs beside the materializer, on the same machine."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    with pytest.raises(QueryRefused, match="stopped after"):
        query(url, f"{endless} SELECT COUNT(*) FROM n", limit=10, timeout=0.1)
    answer = query(url, f"{endless} SELECT i, i FROM n", limit=3, timeout=5)
    assert answer.cut
    assert answer.rows == [{"i": 1, "i_2": 1}, {"i": 2, "i_2": 2}, {"i": 3, "i_2": 3}]
    with pytest.raises(QueryRefused, match="too big"):
        query(url, "SELECT zeroblob(100000000)", limit=1, timeout=5)


def test_other_kinds_of_store_are_named(tmp_path: Path) -> None:
    """What was asked for, and what there is."""
    with pytest.raises(StoreUnavailable, match="postgresql"):
        open_store("postgresql://db.example/analytics")
    with pytest.raises(StoreUnavailable, match="does not exist"), open_reader(f"sqlite:///{tmp_path}/none.db"):
        pass
