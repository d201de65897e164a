"""What every analytics store promises: one class of tests, inherited for each database, which provides the fixture `store`."""

from __future__ import annotations

import pytest

from analytics import tables
from analytics.buckets import bucket_of
from analytics.materializer import DAY_US, fold, merge, prepare
from analytics.store import AnalyticsStore, Applied, PositionLost
from schemas.events import Event
from tests.analytics.building import (
    COUNTS,
    DEAD_LETTER,
    NOON,
    PROCESSED,
    SEEN,
    a_call,
    a_dead_letter,
    a_log,
    a_processed,
    a_seen,
    a_window,
)


def give(store: AnalyticsStore, topic: str, *events: Event, at: int = 0) -> Applied:
    """Applies events at offsets from `at` on."""
    records = list(enumerate(events, at))
    return store.apply(prepare(topic, 0, records, at + len(records)))


class StoreContract:
    """The fixture `store` is an empty store; `second` another connection to the same tables."""

    @pytest.fixture(autouse=True)
    def _assigned(self, store: AnalyticsStore) -> None:
        for topic in (PROCESSED, DEAD_LETTER, COUNTS, SEEN):
            store.assign(topic, 0)

    def test_each_call_becomes_one_fact_and_is_counted(self, store: AnalyticsStore) -> None:
        """The first promise: what a plugin did is in the tables, once, with its numbers."""
        give(store, PROCESSED, a_processed(calls=[a_call(latency_us=100), a_call(latency_us=300, cost_micros=5)]))
        facts = store.rows(tables.CALL_FACT)
        assert sorted(fact[4] for fact in facts) == [100, 300]
        (series,) = store.rows(tables.SERIES)
        assert series[1:] == ("acme", "jira", "jira", "create_ticket", "1.0.0", "stable", "ok", "")
        assert store.rows(tables.USAGE_DAILY) == [("2026-11-01", series[0], 2, 2, 105, 400, 300)]
        assert store.rows(tables.LATENCY_DAILY) == [
            ("2026-11-01", series[0], bucket_of(100), 1),
            ("2026-11-01", series[0], bucket_of(300), 1),
        ]

    def test_a_record_read_twice_counts_once(self, store: AnalyticsStore) -> None:
        """Kafka redelivers after a crash; the position makes the second time a no-op."""
        give(store, PROCESSED, a_processed())
        again = give(store, PROCESSED, a_processed())
        assert again == Applied(1)
        assert [row[2] for row in store.rows(tables.USAGE_DAILY)] == [1]

    def test_a_batch_that_begins_below_the_position_adds_only_its_rest(self, store: AnalyticsStore) -> None:
        """A re-read batch rarely has the old boundaries."""
        give(store, PROCESSED, a_processed(1), a_processed(2))
        applied = give(store, PROCESSED, a_processed(1), a_processed(2), a_processed(3))
        assert (applied.next_offset, applied.records, applied.duplicates) == (3, 1, 0)
        assert [row[2] for row in store.rows(tables.USAGE_DAILY)] == [3]

    def test_a_record_sent_twice_counts_once(self, store: AnalyticsStore) -> None:
        """A producer that dies between the ack and its commit sends the same event again, at a new offset."""
        give(store, PROCESSED, a_processed())
        applied = give(store, PROCESSED, a_processed(), at=1)
        assert applied.duplicates == 1
        assert [row[2] for row in store.rows(tables.USAGE_DAILY)] == [1]
        assert [row[2] for row in store.rows(tables.ROUTING_DAILY)] == [1]

    def test_a_record_sent_twice_in_one_batch_counts_once(self, store: AnalyticsStore) -> None:
        """The second copy may lie right behind the first."""
        applied = give(store, PROCESSED, a_processed(), a_processed(), a_processed(2))
        assert applied.duplicates == 1
        assert [row[2] for row in store.rows(tables.USAGE_DAILY)] == [2]

    def test_calls_that_only_the_second_copy_knows_are_added(self, store: AnalyticsStore) -> None:
        """Work done again after a crash may have made further calls; those happened and are paid for."""
        give(store, PROCESSED, a_processed(calls=[a_call()]))
        give(store, PROCESSED, a_processed(calls=[a_call(), a_call(method="add_note")]), at=1)
        assert len(store.rows(tables.CALL_FACT)) == 2
        assert sum(row[2] for row in store.rows(tables.USAGE_DAILY)) == 2

    def test_replayed_events_are_kept_but_not_counted(self, store: AnalyticsStore) -> None:
        """A replay must not make last month's figures larger."""
        give(store, PROCESSED, a_processed(), a_processed(injection_id="replay-1"))
        assert len(store.rows(tables.EVENT_FACT)) == 2
        assert [row[2] for row in store.rows(tables.USAGE_DAILY)] == [1]
        assert sum(row[3] for row in store.rows(tables.THROUGHPUT_MINUTE)) == 1
        assert [row[2] for row in store.rows(tables.ROUTING_DAILY)] == [1]

    def test_rollups_go_by_the_calls_own_time(self, store: AnalyticsStore) -> None:
        """An event received before midnight whose call began after it belongs to the next day."""
        give(store, PROCESSED, a_processed(calls=[a_call(started_at=NOON + DAY_US)]))
        assert [row[0] for row in store.rows(tables.USAGE_DAILY)] == ["2026-11-02"]
        assert [row[0] for row in store.rows(tables.ROUTING_DAILY)] == ["2026-11-01"]

    def test_dead_letters_keep_reason_detail_and_origin_once(self, store: AnalyticsStore) -> None:
        """The operator finds the event again by these; a letter sent twice is one letter."""
        give(store, DEAD_LETTER, a_dead_letter(), a_dead_letter(failed_at=NOON + 99), a_dead_letter(event_id=None, received_at=None))
        letters = {row[8:12] + row[13:15] for row in store.rows(tables.DEAD_LETTER)}
        assert letters == {("process", "tool_refused", "jira refused the values", "tickets.routed.v1", 0, 1)}
        assert len(store.rows(tables.DEAD_LETTER)) == 2

    def test_refusals_at_the_door_are_counted_once(self, store: AnalyticsStore) -> None:
        """The counts are the only trace of a refused request."""
        assert give(store, COUNTS, a_window(), a_window()).duplicates == 1
        assert [row[5:] for row in store.rows(tables.INGESTION_WINDOW)] == [(7, 2)]
        assert [row[4:] for row in store.rows(tables.REFUSED_WINDOW)] == [("signature_mismatch", 3)]

    def test_routes_decisions_written_again_count_once(self, store: AnalyticsStore) -> None:
        """After a crash route decides a batch again, and its boundaries may differ."""
        give(store, SEEN, a_seen(0, ["routed", "duplicate"]), a_seen(1, ["duplicate", "echo"]))
        assert [row[1:] for row in store.rows(tables.SEEN_MINUTE)] == [("duplicate", 1), ("echo", 1), ("routed", 1)]

    def test_routes_decisions_stored_out_of_order_all_count(self, store: AnalyticsStore) -> None:
        """A batch sent again after a broken connection lands behind its successor; both are decisions, and each is one."""
        give(store, SEEN, a_seen(2, ["echo", "echo"]), a_seen(0, ["routed", "routed"]), a_seen(1, ["routed", "echo", "echo"]))
        assert [row[1:] for row in store.rows(tables.SEEN_MINUTE)] == [("echo", 2), ("routed", 2)]
        assert store.rows(tables.SEEN_SPAN) == [(SEEN, 0, 0, 4)]

    def test_a_second_materializer_cannot_count_twice(self, store: AnalyticsStore, second: AnalyticsStore) -> None:
        """After a rebalance the old owner may not know yet; its batch must come to nothing and it must be told."""
        second.assign(PROCESSED, 0)
        give(store, PROCESSED, a_processed(1), a_processed(2))
        with pytest.raises(PositionLost):
            give(second, PROCESSED, a_processed(1))
        assert [row[2] for row in store.rows(tables.USAGE_DAILY)] == [2]
        assert second.assign(PROCESSED, 0).next_offset == 2
        assert give(second, PROCESSED, a_processed(3), at=2).records == 1

    def test_an_unstorable_record_is_answered_and_does_not_hold_the_others(self, store: AnalyticsStore) -> None:
        """A value the tables cannot keep is a dead letter, never a stopped stream."""
        batch = prepare(PROCESSED, 0, list(enumerate([a_processed(1), a_processed(2, received_at=1 << 62), a_processed(3)])), 3)
        assert [refusal.offset for refusal in batch.refused] == [1]
        assert store.apply(batch).next_offset == 3
        assert [row[2] for row in store.rows(tables.USAGE_DAILY)] == [2]
        (position,) = [row for row in store.rows(tables.STREAM_POSITION) if row[0] == PROCESSED]
        assert position[2:] == (3, NOON, 3, 0, 0, 1)

    def test_facts_older_than_the_horizon_are_refused_and_counted(self, store: AnalyticsStore) -> None:
        """Once its facts are deleted, an old event sent again could not be told from a new one, and would count twice."""
        give(store, PROCESSED, a_processed(1), a_processed(2, received_at=NOON + DAY_US))
        give(store, DEAD_LETTER, a_dead_letter(1))
        assert store.keep_from(NOON + 1) == 3
        assert store.horizon() == NOON + 1
        assert give(store, PROCESSED, a_processed(1), at=2).late == 1
        assert [row[2] for row in store.rows(tables.USAGE_DAILY)] == [2], "rollups outlive the facts"
        assert len(store.rows(tables.EVENT_FACT)) == 1

    def test_old_facts_can_be_deleted_a_little_at_a_time(self, store: AnalyticsStore) -> None:
        """Batches are written in between; nothing that is to go can count again meanwhile."""
        give(store, PROCESSED, *(a_processed(n) for n in range(5)))
        assert [store.keep_from(NOON + 1, at_most=3) for _ in range(5)] == [3, 3, 3, 1, 0]
        assert store.horizon() == NOON + 1
        assert store.rows(tables.CALL_FACT) == store.rows(tables.EVENT_FACT) == []

    def test_the_horizon_never_moves_back(self, store: AnalyticsStore) -> None:
        """What was deleted cannot come back by keeping more from now on."""
        store.keep_from(NOON)
        store.keep_from(NOON - DAY_US)
        assert store.horizon() == NOON

    def test_a_topic_made_anew_is_read_from_its_start(self, store: AnalyticsStore) -> None:
        """Its offsets begin again below the position; passing them over would lose them in silence."""
        give(store, PROCESSED, a_processed(1), a_processed(2))
        give(store, SEEN, a_seen(0, ["routed", "routed"]))
        for topic in (PROCESSED, SEEN):
            store.restart(topic, 0, 0)
        applied = give(store, PROCESSED, a_processed(2), a_processed(3))
        assert (applied.records, applied.duplicates) == (2, 1)
        assert [row[2] for row in store.rows(tables.USAGE_DAILY)] == [3]
        give(store, SEEN, a_seen(0, ["routed"]))
        assert [row[2] for row in store.rows(tables.SEEN_MINUTE)] == [3]

    def test_a_rebuild_after_retention_changes_no_rollup(self, store: AnalyticsStore) -> None:
        """Facts before the horizon are gone, so they are refused; later ones are known. Either way nothing counts again."""
        records = a_log(seed=5, length=200)[PROCESSED, 0]
        whole = prepare(PROCESSED, 0, records, records[-1][0] + 1)
        store.apply(whole)
        rollups = {table: store.rows(table) for table in tables.ROLLUPS}
        store.keep_from(NOON + DAY_US)
        facts = store.rows(tables.CALL_FACT)
        assert 0 < len(facts) < len(whole.rows.calls)
        store.restart(PROCESSED, 0, 0)
        applied = store.apply(whole)
        assert applied.late + applied.duplicates == applied.records
        assert {table: store.rows(table) for table in tables.ROLLUPS} == rollups
        assert store.rows(tables.CALL_FACT) == facts

    def test_any_batching_of_a_log_gives_the_same_tables(self, store: AnalyticsStore) -> None:
        """Batches are whatever Kafka hands out; the tables must only depend on the records."""
        log = a_log(seed=7, length=300)
        for (topic, part), records in log.items():
            for begin in range(0, len(records), 37):
                batch = records[begin : begin + 37]
                store.apply(prepare(topic, part, batch, batch[-1][0] + 1))
        expected: dict[tables.Table, list[tuple[object, ...]]] = {}
        seen_calls, seen_events, calls, events = set(), set(), [], []
        whole = prepare(PROCESSED, 0, log[PROCESSED, 0], 1 << 40)
        for row in whole.rows.calls:
            if row[:2] not in seen_calls:
                seen_calls.add(row[:2])
                calls.append(row)
        for row in whole.rows.events:
            if row[:3] not in seen_events:
                seen_events.add(row[:3])
                events.append(row)
        for table, rows in fold(whole.rows, calls, events).items():
            expected[table] = merge(table, rows)
        for table, rows in expected.items():
            assert store.rows(table) == rows, table.name
