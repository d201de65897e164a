"""The SQLite store: the contract, and what only a file can suffer."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics import tables
from analytics.materializer import prepare
from analytics.sqlite import SqliteStore, read_only
from analytics.store import AnalyticsStore, StoreBusy, StoreFull, StoreTooNew, StoreUnavailable
from tests.analytics.building import PROCESSED, a_call, a_log, a_processed
from tests.contracts.store_contract import StoreContract, give

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "analytics.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, busy_timeout=0.05)
    yield store
    store.close()


@pytest.fixture
def second(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, busy_timeout=0.05)
    yield store
    store.close()


def everything(store: AnalyticsStore) -> dict[str, object]:
    return {table.name: store.rows(table) for table in tables.ALL}


class TestSqliteKeepsTheContract(StoreContract):
    pass


def test_a_killed_materializer_leaves_the_tables_of_a_build_from_zero(path: Path, tmp_path: Path) -> None:
    """SIGKILL at any moment, again and again, in mid-transaction too: nothing lost, nothing counted twice."""
    seed, length, rng = 11, 4000, random.Random(5)
    kills = 0
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.analytics.materialize_child", str(path), str(seed), str(length)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert child.stdout is not None
        for _ in range(rng.randrange(1, 60)):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.stdout.close()
        kills += child.wait() == -signal.SIGKILL
    assert kills >= 6, "the log was too short to be killed in it often"
    survivor = SqliteStore(path)
    fresh = SqliteStore(tmp_path / "fresh.db")
    for source, records in a_log(seed, length).items():
        for target in (survivor, fresh):
            target.assign(*source)
            target.apply(prepare(*source, records, records[-1][0] + 1))
    assert everything(survivor) == everything(fresh)
    survivor.close()
    fresh.close()


def test_a_lock_held_by_another_process_is_an_error_that_leaves_nothing_behind(store: SqliteStore, path: Path) -> None:
    """The materializer waits and tries again; until then no row may be half there."""
    store.assign(PROCESSED, 0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy):
        give(store, PROCESSED, a_processed())
    other.execute("ROLLBACK")
    other.close()
    assert give(store, PROCESSED, a_processed()).records == 1


def test_a_full_disk_is_rolled_back_and_goes_on_when_there_is_room(store: SqliteStore, path: Path) -> None:
    """Nothing lost, nothing twice, and the error names the disk. (A page limit stands in for the disk: the same SQLITE_FULL.)"""
    store.assign(PROCESSED, 0)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    batch = prepare(PROCESSED, 0, list(enumerate(a_processed(n) for n in range(500))), 500)
    with pytest.raises(StoreFull, match="no room left"):
        store.apply(batch)
    assert store.rows(tables.CALL_FACT) == []
    store._db.execute("PRAGMA max_page_count = 100000").fetchall()
    assert store.apply(batch).records == 500


def test_a_value_only_the_database_refuses_is_answered_and_the_rest_is_applied(store: SqliteStore) -> None:
    """A sum that leaves 64 bits cannot be foreseen from one record; it must not stop the stream either."""
    store.assign(PROCESSED, 0)
    give(store, PROCESSED, a_processed(1))
    store._db.execute("UPDATE usage_daily SET cost_micros = 9223372036854775807")
    free = a_processed(3, calls=[a_call(cost_micros=0)])
    batch = prepare(PROCESSED, 0, [(1, a_processed(2)), (2, free)], 3)
    applied = store.apply(batch)
    assert [refusal.offset for refusal in applied.refused] == [1]
    assert applied.next_offset == 1
    assert store.apply(batch.without({1})).next_offset == 3
    assert [row[2] for row in store.rows(tables.USAGE_DAILY)] == [2]


def test_a_file_of_a_newer_release_is_refused(store: SqliteStore, path: Path) -> None:
    """An old process must not write rows into tables whose meaning it does not know."""
    store._db.execute("INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('analytics', '9999_later', '')")
    with pytest.raises(StoreTooNew, match="9999_later"):
        SqliteStore(path)


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    """The wrong --store must not end in a traceback, nor be overwritten."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but longer than a header of one hundred bytes would be, to be sure that it is read" * 3)
    with pytest.raises(StoreUnavailable, match=r"notes\.txt"):
        SqliteStore(path)
    assert path.read_text().startswith("not a database")


def test_a_reader_cannot_write(store: SqliteStore, path: Path) -> None:
    """Readers are handed to people: no statement of theirs may change the tables."""
    reader = read_only(path)
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM call_fact")
    reader.close()


def test_a_path_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """Said in one line, with the path."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="analytics"):
        SqliteStore(tmp_path / "file" / "analytics.db")
