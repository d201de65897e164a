"""From a store's URL to the store. SQLite for now: sqlite:///relative/path or sqlite:////absolute/path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analytics.sqlite import SqliteStore, named_errors, read_only
from analytics.store import AnalyticsStore, StoreUnavailable
from analytics.views import Reader

_SQLITE = "sqlite:///"


def sqlite_path(url: str) -> Path:
    """The file behind a sqlite URL; raises StoreUnavailable for any other kind of store."""
    if not url.startswith(_SQLITE) or len(url) == len(_SQLITE):
        scheme = url.partition(":")[0]
        raise StoreUnavailable(f"a store of kind {scheme!r} is not known; use sqlite:///path/to/analytics.db")
    return Path(url.removeprefix(_SQLITE))


def open_store(url: str) -> AnalyticsStore:
    """The store for writing, its tables and views brought up to date."""
    return SqliteStore(sqlite_path(url))


@contextmanager
def open_reader(url: str) -> Iterator[Reader]:
    """The views of a store that exists, without the right to write; closed at the end. Raises StoreError, also from its methods."""
    path = sqlite_path(url)
    db = read_only(path)

    def query(sql: str, parameters: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        with named_errors(path):
            found: list[Mapping[str, Any]] = db.execute(sql, parameters).fetchall()
        return found

    try:
        yield Reader(query)
    finally:
        db.close()
