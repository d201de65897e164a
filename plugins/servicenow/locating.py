"""Where a ticket stands: a sys_id does not tell its table, and a state means nothing without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from plugins.api import NotFound
from plugins.servicenow.api_client import Row, ServiceNowClient
from plugins.servicenow.payload import NUMBER, SYS_ID, text_of
from plugins.servicenow.tables import CHANGE, code
from plugins.servicenow.writing import EVENT_FIELD, Located

MAX_ASKED = 100
"""Records asked for in one query; some two hundred ids make an address that is cut on the way."""
REMEMBERED = 20_000


class Locator:
    """Asks the parent table `task`, which every ticket's table is derived from, and remembers tables: a record never changes its own."""

    def __init__(self, api: Callable[[], ServiceNowClient], event_field: str) -> None:
        self._api, self._event_field = api, event_field
        self._table_of: dict[str, str] = {}

    def remember(self, sys_id: str, table: str) -> None:
        if len(self._table_of) >= REMEMBERED:
            self._table_of.clear()
        self._table_of[sys_id] = table

    async def where(self, ticket_id: str) -> tuple[str, str]:
        """A ticket's sys_id and table."""
        table = self._table_of.get(ticket_id)
        if table is not None:
            return ticket_id, table
        at = await self.one(ticket_id)
        return at.sys_id, at.table

    async def one(self, ticket_id: str) -> Located:
        """Where a ticket stands now; raises NotFound."""
        found = (await self.some([ticket_id])).get(ticket_id)
        if found is None:
            raise missing(ticket_id)
        return found

    async def every(self, ticket_ids: Sequence[str]) -> dict[str, Located]:
        """Where each ticket stands now, by the id it was asked with; what is missing is left out."""
        found: dict[str, Located] = {}
        for asked in chunks(ticket_ids):
            found.update(await self.some(asked))
        return found

    async def some(self, asked: Sequence[str]) -> dict[str, Located]:
        """The same for up to a hundred, in one query, and one more for each table that has columns `task` lacks.

        Only what has the form of a sys_id or a number is asked for: ids come from outside, and a query is a language.
        """
        ids, numbers = [i for i in asked if SYS_ID.fullmatch(i)], [i for i in asked if NUMBER.fullmatch(i)]
        conditions = [f"{name}IN{','.join(wanted)}" for name, wanted in (("sys_id", ids), ("number", numbers)) if wanted]
        if not conditions:
            return {}
        fields = ("sys_id", "number", "sys_class_name", "state", *((EVENT_FIELD,) if self._event_field == EVENT_FIELD else ()))
        rows, _ = await self._api().rows("task", "^OR".join(conditions) + "^ORDERBYsys_id", fields, limit=len(asked))
        by_table: dict[str, list[Row]] = {}
        for row in rows:
            by_table.setdefault(text_of(row.get("sys_class_name")) or "task", []).append(row)
        found: dict[str, Located] = {}
        for table, of_table in by_table.items():
            more = await self._more(table, of_table)
            for row in of_table:
                sys_id, number = text_of(row.get("sys_id")), text_of(row.get("number"))
                told = more.get(sys_id, row)
                at = Located(
                    sys_id=sys_id,
                    table=table,
                    number=number,
                    state=code(row.get("state")),
                    events=text_of(told.get(self._event_field)),
                    kind=text_of(told.get("type")),
                )
                self.remember(sys_id, table)
                found.update({name: at for name in (sys_id, number) if name in asked})
        return found

    async def _more(self, table: str, rows: Iterable[Row]) -> dict[str, Row]:
        """Columns that `task` does not have: a change's type, and an event column of the tenant's own."""
        wanted = [*(["type"] if table == CHANGE else []), *([self._event_field] if self._event_field != EVENT_FIELD else [])]
        if not wanted:
            return {}
        ids = ",".join(text_of(row.get("sys_id")) for row in rows)
        fields = ("sys_id", EVENT_FIELD, *wanted)
        told, _ = await self._api().rows(table, f"sys_idIN{ids}^ORDERBYsys_id", fields, limit=MAX_ASKED)
        return {text_of(row.get("sys_id")): row for row in told}


def missing(ticket_id: str) -> NotFound:
    """What a ticket is that no answer shows."""
    return NotFound(f"ticket {ticket_id[:40]} is gone, or hidden from our account", status=404)


def chunks(items: Sequence[str]) -> list[list[str]]:
    """Each item once, in lists of what one query can ask for."""
    iterator = iter(dict.fromkeys(items))
    return list(iter(lambda: list(islice(iterator, MAX_ASKED)), []))
