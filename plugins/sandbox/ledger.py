"""The ledger: every effect a sandbox had, in order, whoever caused it. What tests of "exactly once" count."""

from __future__ import annotations

import time
from typing import Any, Literal

from plugins.sandbox.http import Request
from plugins.sandbox.state import Journal

Kind = Literal["create", "update", "note"]


class Ledger:
    """Rows {at, kind, ticket_id, external_id, marker, method, path, actor}; `at` in epoch microseconds."""

    def __init__(self, journal: Journal) -> None:
        self._table = journal.table("ledger")
        self._rows: list[dict[str, Any]] = self._table.values()

    def write(self, kind: Kind, ticket_id: str, request: Request, *, external_id: str | None = None, marker: str | None = None) -> None:
        """`marker` is the event_id stored with a create or an update, the marker itself of a note."""
        row = {
            "at": time.time_ns() // 1000,
            "kind": kind,
            "ticket_id": ticket_id,
            "external_id": external_id,
            "marker": marker,
            "method": request.method,
            "path": request.path,
            "actor": "person" if request.actor is not None and request.actor.person else "api",
        }
        self._rows.append(row)
        self._table.put(str(len(self._rows)), row)

    def rows(self, after: int = 0) -> list[dict[str, Any]]:
        """The rows behind the first `after`."""
        return self._rows[after:]
