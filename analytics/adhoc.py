"""One SELECT of a person's own: it cannot write, is stopped in time, and answers a bounded number of rows."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analytics.open import sqlite_path
from analytics.sqlite import read_only

_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_FORBIDDEN_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit"}
_STEPS_BETWEEN_LOOKS = 10_000
MAX_CELL_BYTES = 1 << 20


class QueryRefused(Exception):
    """The statement is wrong, not allowed, or took too long; the text says which."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Columns in order, rows as mappings; `cut` when there were more rows than the limit."""

    columns: Sequence[str]
    rows: Sequence[dict[str, Any]]
    cut: bool


def query(url: str, statement: str, *, limit: int, timeout: float) -> Answer:
    """Runs the statement on the store. Bytes are answered as hexadecimal text. Raises QueryRefused, and StoreError without a store."""
    db = read_only(sqlite_path(url))
    try:
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL_BYTES)
        db.set_authorizer(_authorize)
        stop_at = time.monotonic() + timeout
        db.set_progress_handler(lambda: time.monotonic() > stop_at, _STEPS_BETWEEN_LOOKS)
        return _run(db, statement, limit, timeout)
    finally:
        db.close()


def _run(db: sqlite3.Connection, statement: str, limit: int, timeout: float) -> Answer:
    try:
        cursor = db.execute(statement)
        found = cursor.fetchmany(limit + 1)
    except sqlite3.ProgrammingError as exc:
        raise QueryRefused(f"one SELECT at a time, without parameters: {exc}") from exc
    except sqlite3.Error as exc:
        if exc.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise QueryRefused(f"stopped after {timeout:g} s; narrow the range, or raise --timeout") from exc
        if exc.sqlite_errorcode == sqlite3.SQLITE_AUTH:
            raise QueryRefused("only SELECT is allowed here") from exc
        raise QueryRefused(str(exc)) from exc
    if cursor.description is None:
        raise QueryRefused("that answers no rows; write a SELECT")
    columns = _distinct([column[0] for column in cursor.description])
    return Answer(columns, [dict(zip(columns, map(_plain, row), strict=True)) for row in found[:limit]], len(found) > limit)


def _authorize(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    if action not in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and second in _FORBIDDEN_FUNCTIONS):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _distinct(names: Sequence[str]) -> list[str]:
    """Column names as given, a number added to repeated ones: rows are mappings."""
    distinct: list[str] = []
    for name in names:
        unique, n = name, 1
        while unique in distinct:
            n += 1
            unique = f"{name}_{n}"
        distinct.append(unique)
    return distinct


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
