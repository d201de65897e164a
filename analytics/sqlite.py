"""The analytics store in one SQLite file: raw sqlite3 where every event passes, sqlite-utils for opening, migrations and views.

WAL with synchronous=NORMAL: a power cut may lose the last transactions, whole, and the positions in them; they are read from
Kafka again. SIGKILL loses nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database, Migrations

from analytics import tables, views
from analytics.materializer import Prepared, Refusal, Row, Span, fold, fold_seen, prepare
from analytics.store import (
    Applied,
    Position,
    PositionLost,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreTooNew,
    StoreUnavailable,
)
from analytics.tables import Kind, Merge, Table

CACHE_KIB = 65_536
CHECKPOINT_PAGES = 4000
WAL_KEPT_BYTES = 64 << 20
BUSY_SECONDS = 5.0
DELETE_CHUNK = 10_000
VACUUM_PAGES = 2000

_TYPES = {Kind.INTEGER: "INTEGER", Kind.TEXT: "TEXT", Kind.BYTES: "BLOB"}
_VALUE_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeEncodeError,
)
"""What sqlite3 raises for the value's sake: repeating it would not help."""

MIGRATIONS = Migrations("analytics")


def _create_tables(db: Database) -> None:
    for table in tables.ALL:
        for statement in ddl(table):
            db.execute(statement)
    db.execute("INSERT INTO retention (id, horizon) VALUES (1, 0)")


MIGRATIONS(name="0001_tables")(_create_tables)


def ddl(table: Table) -> list[str]:
    """The statements that create a table and its indexes."""
    columns = [f"{c.name} {_TYPES[c.kind]}{'' if c.nullable else ' NOT NULL'}" for c in table.columns]
    key = ", ".join(c.name for c in table.key_columns)
    integer_key = table.key == 1 and table.columns[0].kind is Kind.INTEGER
    create = f"CREATE TABLE {table.name} ({', '.join(columns)}, PRIMARY KEY ({key})) STRICT{'' if integer_key else ', WITHOUT ROWID'}"
    indexes = [f"CREATE INDEX {table.name}_{'_'.join(names)} ON {table.name} ({', '.join(names)})" for names in table.indexes]
    return [create, *indexes]


def _insert(table: Table) -> str:
    return f"INSERT INTO {table.name} VALUES ({', '.join('?' * len(table.columns))}) ON CONFLICT DO NOTHING"  # noqa: S608 - our names


def _merge(table: Table) -> str:
    rules = {Merge.SUM: "{0} = {0} + excluded.{0}", Merge.MAX: "{0} = max({0}, excluded.{0})"}
    updates = ", ".join(rules[c.merge].format(c.name) for c in table.measures if c.merge is not None)
    key = ", ".join(c.name for c in table.key_columns)
    values = ", ".join("?" * len(table.columns))
    return f"INSERT INTO {table.name} VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {updates}"  # noqa: S608 - our names


def _is_known(table: Table) -> str:
    return f"SELECT 1 FROM {table.name} WHERE {' AND '.join(f'{c.name} = ?' for c in table.key_columns)}"  # noqa: S608 - our names


_INSERT = {t: _insert(t) for t in (tables.SERIES, tables.ROUTING_SERIES, *tables.FACTS)}
_MERGE = {t: _merge(t) for t in tables.ROLLUPS}
_KNOWN = {t: _is_known(t) for t in tables.FACTS}
_MOVE = "UPDATE stream_position SET next_offset = ? WHERE topic = ? AND part = ? AND next_offset = ?"
_COUNT = """
UPDATE stream_position SET last_received_at = max(last_received_at, ?), records = records + ?, duplicates = duplicates + ?,
       late = late + ?, refused = refused + ?
WHERE topic = ? AND part = ?"""
_TIME_COLUMN = {
    tables.CALL_FACT: "received_at",
    tables.EVENT_FACT: "received_at",
    tables.DEAD_LETTER: "at",
    tables.INGESTION_WINDOW: "window_start",
    tables.REFUSED_WINDOW: "window_start",
}


@contextmanager
def named_errors(path: Path | str) -> Iterator[None]:
    """SQLite's errors in the store's words."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise _named(exc, path) from exc
    except sqlite3.DatabaseError as exc:
        if type(exc) is not sqlite3.DatabaseError:
            raise
        raise _named(exc, path) from exc


def _named(exc: sqlite3.Error, path: Path | str) -> StoreError:
    code = (getattr(exc, "sqlite_errorcode", None) or 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(f"{path} is locked by another process for longer than its timeout; trying again will do")
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"no room left on the disk of {path}; free some and it goes on")
    return StoreUnavailable(f"{path}: {exc}")


class SqliteStore:
    """AnalyticsStore in a file. Opening creates the tables, brings them to this release's form and renews the views.

    One writer at a time holds the lock, readers never wait. Not for use by two threads at once.
    """

    def __init__(self, path: Path, *, busy_timeout: float = BUSY_SECONDS) -> None:
        self.path = path
        self._positions: dict[tuple[str, int], int] = {}
        self._known: dict[Table, set[int]] = {tables.SERIES: set(), tables.ROUTING_SERIES: set()}
        with named_errors(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise StoreUnavailable(f"{path}: {exc.strerror}") from exc
            self._db = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
            try:
                self._prepare_file()
            except BaseException:
                self._db.close()
                raise

    def _prepare_file(self) -> None:
        for setting in (
            "auto_vacuum = INCREMENTAL",  # only takes in a file without tables
            "journal_mode = WAL",
            "synchronous = NORMAL",
            f"cache_size = -{CACHE_KIB}",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            f"journal_size_limit = {WAL_KEPT_BYTES}",
            "temp_store = MEMORY",
        ):
            self._db.execute(f"PRAGMA {setting}").fetchall()
        db = Database(self._db, execute_plugins=False)
        ours = {m.name for m in MIGRATIONS.pending(db)} | {m.name for m in MIGRATIONS.applied(db)}
        registered = {m.name for m in MIGRATIONS._migrations}  # sqlite-utils tells what is applied and pending, not what it knows
        if unknown := sorted(ours - registered):
            raise StoreTooNew(f"{self.path} was made by a newer release ({unknown[-1]}); use that release, or another --store")
        with self._transaction():
            MIGRATIONS.apply(db)
            for name, sql in views.definitions().items():
                db.create_view(name, sql, replace=True)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE … COMMIT; rolled back on any error, also one of COMMIT itself."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLITE_FULL and others may have rolled back already
                self._db.execute("ROLLBACK")
            raise

    # --- writing ---------------------------------------------------------------------------------------------------------

    def assign(self, topic: str, partition: int) -> Position:
        with named_errors(self.path), self._transaction():
            self._db.execute("INSERT INTO stream_position VALUES (?, ?, 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING", (topic, partition))
            (offset,) = self._db.execute(
                "SELECT next_offset FROM stream_position WHERE topic = ? AND part = ?", (topic, partition)
            ).fetchone()
        self._positions[topic, partition] = offset
        return Position(topic, partition, offset)

    def restart(self, topic: str, partition: int, next_offset: int) -> None:
        source = (topic, partition)
        with named_errors(self.path), self._transaction():
            self._db.execute("UPDATE stream_position SET next_offset = ? WHERE topic = ? AND part = ?", (next_offset, *source))
            self._db.execute("DELETE FROM seen_span WHERE topic = ? AND part = ?", source)
        self._positions[source] = next_offset

    def apply(self, batch: Prepared) -> Applied:
        expected = self._positions[batch.topic, batch.partition]
        if batch.next_offset <= expected:
            return Applied(expected)
        batch = batch.since(expected)
        with named_errors(self.path):
            try:
                with self._transaction():
                    moved = self._db.execute(_MOVE, (batch.next_offset, batch.topic, batch.partition, expected)).rowcount
                    if moved != 1:
                        raise PositionLost(batch.topic, batch.partition, expected)
                    applied, new_series = self._write(batch)
            except _VALUE_ERRORS as exc:
                if not (refused := self._refused_values(batch)):
                    raise StoreUnavailable(f"{self.path}: {exc}") from exc
                return Applied(expected, refused=refused)
        self._positions[batch.topic, batch.partition] = batch.next_offset
        for table, ids in new_series.items():
            self._known[table].update(ids)
        return applied

    def _write(self, batch: Prepared) -> tuple[Applied, dict[Table, Collection[int]]]:
        """Every row of the batch and its counters, inside the caller's transaction."""
        rows = batch.rows
        new_series: dict[Table, Collection[int]] = {}
        for table, given in ((tables.SERIES, rows.series), (tables.ROUTING_SERIES, rows.routing)):
            new_series[table] = given.keys() - self._known[table]
            self._db.executemany(_INSERT[table], [given[i] for i in new_series[table]])

        horizon = self.horizon()
        calls, _ = self._insert_new(tables.CALL_FACT, rows.calls, horizon)
        events, late_events = self._insert_new(tables.EVENT_FACT, rows.events, horizon)
        letters, late_letters = self._insert_new(tables.DEAD_LETTER, rows.letters, horizon)
        windows, late_windows = self._insert_new(tables.INGESTION_WINDOW, rows.windows, horizon)
        self._insert_new(tables.REFUSED_WINDOW, rows.refused, horizon)

        for table, folded in fold(rows, calls, events).items():
            self._db.executemany(_MERGE[table], folded)
        if rows.seen:
            self._count_seen(batch)

        late = late_events + late_letters + late_windows
        given_facts = len(rows.events) + len(rows.letters) + len(rows.windows)
        duplicates = given_facts - late - len(events) - len(letters) - len(windows)
        refused = len(batch.refused) + sum(event is None for _, event in batch.records)
        counts = (rows.last_at, len(batch.records), duplicates, late, refused, batch.topic, batch.partition)
        self._db.execute(_COUNT, counts)
        return Applied(batch.next_offset, len(batch.records), duplicates, late), new_series

    def _insert_new(self, table: Table, rows: Sequence[Row], horizon: int) -> tuple[Sequence[Row], int]:
        """Inserts the facts; answers those that were new, and how many are from before the horizon and were left out."""
        if not rows:
            return rows, 0
        late = 0
        if horizon:
            at = table.names.index(_TIME_COLUMN[table])
            timely = [row for row in rows if row[at] >= horizon]
            late, rows = len(rows) - len(timely), timely
        self._db.execute("SAVEPOINT facts")
        before = self._db.total_changes
        self._db.executemany(_INSERT[table], rows)
        if self._db.total_changes - before != len(rows):
            # Some were there, or are twice in this batch: undone, and inserted again without them.
            self._db.execute("ROLLBACK TO facts")
            known, new = _KNOWN[table], {}
            for row in rows:
                key = row[: table.key]
                if key not in new and self._db.execute(known, key).fetchone() is None:
                    new[key] = row
            rows = list(new.values())
            self._db.executemany(_INSERT[table], rows)
        self._db.execute("RELEASE facts")
        return rows, late

    def _count_seen(self, batch: Prepared) -> None:
        source = (batch.topic, batch.partition)
        counted: list[Span] = self._db.execute(
            "SELECT first_offset, next_offset FROM seen_span WHERE topic = ? AND part = ? ORDER BY first_offset", source
        ).fetchall()
        rows, spans = fold_seen(batch.rows.seen, counted)
        self._db.executemany(_MERGE[tables.SEEN_MINUTE], rows)
        self._db.execute("DELETE FROM seen_span WHERE topic = ? AND part = ?", source)
        self._db.executemany("INSERT INTO seen_span VALUES (?, ?, ?, ?)", [(*source, *span) for span in spans])

    def _refused_values(self, batch: Prepared) -> tuple[Refusal, ...]:
        """Which records the database will not take, found by trying each on top of the others, then undoing all of it."""
        refused = []
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for offset, event in batch.records:
                self._db.execute("SAVEPOINT one")
                try:
                    self._write(prepare(batch.topic, batch.partition, [(offset, event)], offset + 1))
                except _VALUE_ERRORS as exc:
                    self._db.execute("ROLLBACK TO one")
                    refused.append(Refusal(offset, f"the database refuses a value: {type(exc).__name__}"))
                self._db.execute("RELEASE one")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        return tuple(refused)

    # --- keeping it bounded ----------------------------------------------------------------------------------------------

    def horizon(self) -> int:
        (horizon,) = self._db.execute("SELECT horizon FROM retention WHERE id = 1").fetchone()
        return int(horizon)

    def keep_from(self, horizon: int, at_most: int | None = None) -> int:
        deleted = 0
        with named_errors(self.path):
            # First the horizon, then the deletions: a fact deleted must never be able to count again.
            self._db.execute("UPDATE retention SET horizon = max(horizon, ?) WHERE id = 1", (horizon,))
            for table in tables.FACTS:
                at, key = _TIME_COLUMN[table], ", ".join(c.name for c in table.key_columns)
                chunk = f"SELECT {key} FROM {table.name} WHERE {at} < ? LIMIT ?"  # noqa: S608 - our own names
                statement = f"DELETE FROM {table.name} WHERE ({key}) IN ({chunk})"  # noqa: S608 - our own names
                # In chunks, each its own transaction: another process that writes waits milliseconds, not for the whole.
                while (room := DELETE_CHUNK if at_most is None else min(DELETE_CHUNK, at_most - deleted)) > 0:
                    if (count := self._db.execute(statement, (horizon, room)).rowcount) <= 0:
                        break
                    deleted += count
            if deleted:
                self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")  # execute() would stop after the first page
        return deleted

    def rows(self, table: Table) -> Sequence[Row]:
        key = ", ".join(c.name for c in table.key_columns)
        found: list[Row] = self._db.execute(f"SELECT * FROM {table.name} ORDER BY {key}").fetchall()  # noqa: S608 - our own names
        return found

    def close(self) -> None:
        self._db.close()


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for readers beside the materializer. Raises StoreUnavailable when there is no such file."""
    if not path.exists():
        raise StoreUnavailable(f"{path} does not exist yet; it is made by: ai-agents materialize, or ai-agents up")
    with named_errors(path):
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        db.execute("PRAGMA query_only = ON")
        db.row_factory = sqlite3.Row
        return db


__all__ = ["MIGRATIONS", "SqliteStore", "ddl", "named_errors", "read_only"]
