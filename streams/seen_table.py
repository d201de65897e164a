"""The dedup cache's file: BatchSeen records of the window as they are, and a slim index into them, in SQLite.

The index maps 64 bits of a key to the record that speaks of it; a hit is confirmed in the record on all 128 bits, because a
mistaken one would lose an event. Random keys cost a B-tree a page each, so index rows are slim and written many at a time, in
key order. Everything written goes with the position in one transaction. A corrupt file is removed: it is only a cache.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger("ai_agents.seen")

VERSION = 1
LOOK_UP = 500
SWEEPS = 512
_TABLES = ("batch", "seen", "position")

_SCHEMA = """
DROP TABLE IF EXISTS batch; DROP TABLE IF EXISTS seen; DROP TABLE IF EXISTS position; DROP TABLE IF EXISTS kept;
CREATE TABLE batch (id INTEGER PRIMARY KEY, part INTEGER, first_offset INTEGER, next_offset INTEGER, received_max INTEGER, value BLOB)
    STRICT;
CREATE INDEX batch_next ON batch (part, next_offset);
CREATE TABLE seen (part INTEGER, head INTEGER, batch INTEGER, PRIMARY KEY (part, head)) STRICT, WITHOUT ROWID;
CREATE TABLE position (part INTEGER PRIMARY KEY, next_offset INTEGER) STRICT;
CREATE TABLE kept (delivery_us INTEGER) STRICT;
"""


class SeenCacheUnusable(Exception):
    """The cache cannot go on; where its file was corrupt it is removed. Start again: it is rebuilt from the topic."""


class SeenCacheFull(Exception):
    """Nothing was written: the disk is full, or the file is locked or read-only."""


class BatchRow(NamedTuple):
    """One BatchSeen as stored: its offset on the seen topic, the received offsets it spans, its newest received_at, its bytes."""

    seen_offset: int
    first_offset: int
    next_offset: int
    received_max: int
    value: bytes


class SeenTable:
    """One file, one thread. `path` None keeps it in memory. A file made for a shorter window than `delivery_us` is begun anew."""

    def __init__(self, path: Path | None, delivery_us: int) -> None:
        self.path = path
        self._delivery_us = delivery_us
        self._blobs: OrderedDict[int, tuple[int, bytes]] = OrderedDict()
        self._sweep = 0
        self._db = self._open()

    # --- reading ---------------------------------------------------------------------------------------------------------

    def position(self, partition: int) -> int | None:
        """The offset on the seen topic the table goes on from; None for a partition it does not know."""
        row = self._query("SELECT next_offset FROM position WHERE part = ?", (partition,)).fetchone()
        return row[0] if row is not None else None

    def decided_upto(self, partition: int) -> int:
        """One past the highest received offset any record speaks of; 0 without one."""
        row = self._query("SELECT max(next_offset) FROM batch WHERE part = ?", (partition,)).fetchone()
        return row[0] or 0

    def value_at(self, partition: int, seen_offset: int) -> bytes | None:
        """The record at this offset of the seen topic."""
        row = self._query("SELECT value FROM batch WHERE id = ?", (_batch_id(partition, seen_offset),)).fetchone()
        return row[0] if row is not None else None

    def values_about(self, partition: int, first: int, after: int, reach: int) -> list[bytes]:
        """Records that speak of received offsets in [first, after), in the topic's order; `reach` bounds how long one may be."""
        rows = self._query(
            "SELECT value FROM batch WHERE part = ? AND next_offset > ? AND next_offset <= ? AND first_offset < ? ORDER BY id",
            (partition, first, after + reach, after),
        )
        return [value for (value,) in rows]

    def find(self, partition: int, heads: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """By those heads that the index has: (first received offset, bytes) of the record it points at."""
        hits: dict[int, int] = {}
        for at in range(0, len(heads), LOOK_UP):
            some = tuple(heads[at : at + LOOK_UP])
            if len(some) < LOOK_UP:  # few different statements, so that each is prepared once
                some += some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some))
            holes = ",".join("?" * len(some))
            hits.update(self._query(f"SELECT head, batch FROM seen WHERE part = ? AND head IN ({holes})", (partition, *some)))  # noqa: S608 - placeholders only
        found = {}
        for head, seen_offset in hits.items():
            if (blob := self._blob(_batch_id(partition, seen_offset))) is not None:
                found[head] = blob
        return found

    def _blob(self, id_: int) -> tuple[int, bytes] | None:
        if (blob := self._blobs.get(id_)) is None:
            row = self._query("SELECT first_offset, value FROM batch WHERE id = ?", (id_,)).fetchone()
            if row is None:
                return None  # the record left the window before its index row did
            blob = self._blobs[id_] = (row[0], row[1])
            if len(self._blobs) > 64:
                self._blobs.popitem(last=False)
        return blob

    # --- writing ---------------------------------------------------------------------------------------------------------

    def write(self, updates: Mapping[int, tuple[Mapping[int, int], Iterable[BatchRow], int]], horizon: Mapping[int, int]) -> None:
        """By partition: index rows {head: seen offset}, records, and the new position; all or nothing.

        Then, for partitions with a horizon (a received_at), some of what is older than it is dropped. Raises SeenCacheFull when
        nothing could be written, SeenCacheUnusable when the file is corrupt.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for partition, (rows, batches, position) in updates.items():
                self._db.executemany(
                    "INSERT OR REPLACE INTO batch VALUES (?, ?, ?, ?, ?, ?)",
                    [(_batch_id(partition, b.seen_offset), partition, *b[1:]) for b in batches],
                )
                self._db.executemany(f"INSERT OR REPLACE INTO seen VALUES ({int(partition)}, ?, ?)", sorted(rows.items()))  # noqa: S608 - a number of ours
                self._db.execute("INSERT OR REPLACE INTO position VALUES (?, ?)", (partition, position))
            for partition, received_at in horizon.items():
                self._prune(partition, received_at)
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as exc:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise SeenCacheFull(str(exc)) from exc
        except sqlite3.DatabaseError as exc:
            raise self._corrupt(exc) from exc

    def _prune(self, partition: int, horizon: int) -> None:
        """Drops the oldest records while they are out of the window, and, slice by slice, index rows that point at dropped ones."""
        low, high = _batch_id(partition, 0), _batch_id(partition + 1, 0)
        self._db.execute(
            "DELETE FROM batch WHERE id IN (SELECT id FROM batch WHERE id >= ? AND id < ? ORDER BY id LIMIT 2000) AND received_max < ?",
            (low, high, horizon),
        )
        oldest = self._db.execute("SELECT min(id) FROM batch WHERE id >= ? AND id < ?", (low, high)).fetchone()[0]
        size = (1 << 64) // SWEEPS
        floor = -(1 << 63) + size * self._sweep
        self._sweep = (self._sweep + 1) % SWEEPS
        self._db.execute(
            "DELETE FROM seen WHERE part = ? AND head >= ? AND head <= ? AND batch < ?",
            (partition, floor, floor + size - 1, (oldest or low) - low),
        )

    def wipe(self, partition: int) -> None:
        """Forgets a partition."""
        self._blobs.clear()
        for table in _TABLES:
            self._query(f"DELETE FROM {table} WHERE part = ?", (partition,))  # noqa: S608 - names of ours

    def close(self) -> None:
        """Lets the file go."""
        self._db.close()

    def _query(self, sql: str, parameters: tuple[int, ...]) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, parameters)
        except sqlite3.OperationalError as exc:
            raise SeenCacheUnusable(f"the dedup cache {self.path} cannot be read: {exc}") from exc
        except sqlite3.DatabaseError as exc:
            raise self._corrupt(exc) from exc

    # --- the file --------------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError as exc:
            raise SeenCacheUnusable(f"the dedup cache {self.path} cannot be opened: {exc}") from exc
        except sqlite3.DatabaseError as exc:
            log.warning("the dedup cache %s is corrupt (%s); it is rebuilt from the topic", self.path, exc)
            self._remove()
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path or ":memory:", isolation_level=None, timeout=5.0, cached_statements=64)
        try:
            db.executescript("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
            db.executescript("PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 8000;")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            kept = db.execute("SELECT delivery_us FROM kept").fetchone() if version == VERSION else None
            if kept is None or kept[0] < self._delivery_us:
                db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
                db.execute("INSERT INTO kept VALUES (?)", (self._delivery_us,))
        except BaseException:
            db.close()
            raise
        return db

    def _corrupt(self, exc: sqlite3.DatabaseError) -> SeenCacheUnusable:
        log.error("the dedup cache %s is corrupt (%s); it is removed and will be rebuilt from the topic", self.path, exc)
        self._db.close()
        self._remove()
        return SeenCacheUnusable(f"the dedup cache is corrupt: {exc}")

    def _remove(self) -> None:
        if self.path is not None:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def _batch_id(partition: int, seen_offset: int) -> int:
    return partition << 44 | seen_offset
