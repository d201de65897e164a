"""The records of a small ServiceNow: kept, found by encoded queries, and shown raw, as labels, or as both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from plugins.sandbox.state import Table
from plugins.servicenow.sandbox_query import Query, matching, parse
from plugins.servicenow.sandbox_schema import (
    DATES,
    JOURNALS,
    LABELS,
    choice_rows,
    choices,
    columns,
    derives,
    dictionary,
    reference,
)

Row = dict[str, Any]
USER_ZONE = timedelta(hours=-8)
"""The API user's time zone: display values are in it, raw values in UTC."""
INDEXED = ("sys_id", "number", "correlation_id", "element_id", "table_sys_id", "name")
KEYS = frozenset({"sys_id", "number"})


def utc(micros: int) -> str:
    """A time as the Table API writes it: UTC, whole seconds."""
    return datetime.fromtimestamp(micros // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


class Records:
    """Rows of every table in one place, by sys_id: `{"_table": …, "_at": written, column: text}`."""

    def __init__(self, kept: Table, indexed: Callable[[int], bool]) -> None:
        self._kept, self._indexed = kept, indexed
        self._index: dict[tuple[str, str], dict[str, None]] = {}
        self._virtual = {"sys_dictionary": dictionary(), "sys_choice": choice_rows()}
        for row in kept.values():
            self._note(row)

    def put(self, row: Row) -> None:
        self._kept.put(row["sys_id"], row)
        self._note(row)

    def drop(self, sys_id: str) -> None:
        self._kept.drop(sys_id)

    def get(self, table: str, sys_id: str) -> Row | None:
        row: Row | None = self._kept.get(sys_id)
        return row if row is not None and derives(row["_table"], table) else None

    def any(self, sys_id: str) -> Row | None:
        row: Row | None = self._kept.get(sys_id)
        return row

    def find(self, table: str, encoded: str) -> list[Row]:
        """Every row of the table that the query selects, in the query's order. What was just written is found by its key at once, by
        anything else when the index lag is over."""
        query = parse(encoded)
        rows = self._virtual.get(table)
        if rows is not None:
            return matching(rows, query, lambda row, name: self.text(row, table, name))
        by_key = not KEYS.isdisjoint(query.columns)
        candidates = (row for row in self._candidates(query) if derives(row["_table"], table) and (by_key or self._indexed(row["_at"])))
        return matching(candidates, query, lambda row, name: self.text(row, table, name))

    def text(self, row: Row, table: str, name: str) -> str | None:
        """A column's raw text, through references where it has dots; None for a column there is not."""
        first, _, rest = name.partition(".")
        if first not in columns(row.get("_table", table)):
            return None
        value = str(row.get(first) or "")
        if not rest:
            return value
        target = self._kept.get(value)
        return "" if target is None else self.text(target, target["_table"], rest)

    def shown(self, row: Row, table: str, query: Mapping[str, str], base_url: str) -> dict[str, Any]:
        """A row as an answer shows it, by sysparm_fields, sysparm_display_value and sysparm_exclude_reference_link.

        Read through a parent table it shows the parent's columns only; a column there is not is left out.
        """
        asked = [name for name in (query.get("sysparm_fields") or "").split(",") if name]
        own = columns(table)
        mode, bare = query.get("sysparm_display_value", "false"), query.get("sysparm_exclude_reference_link") == "true"
        found = {}
        for name in asked or own:
            if name.partition(".")[0] in own and (raw := self.text(row, table, name)) is not None:
                found[name] = self._cell(row, name, raw, mode, bare, base_url)
        return found

    def display(self, row: Row, name: str, raw: str) -> str:
        """What people see of a column."""
        table, column = row.get("_table", ""), name.rpartition(".")[2]
        if column in JOURNALS:
            return self.journal(row["sys_id"], column)
        if column in DATES and raw:
            return (datetime.fromisoformat(raw) + USER_ZONE).strftime("%Y-%m-%d %H:%M:%S")
        if column == "sys_class_name":
            return LABELS.get(raw, raw)
        if (target := self._kept.get(raw)) is not None and reference(table, name) is not None:
            return str(target.get("name") or target.get("number") or "")
        return choices(table, column).get(raw, raw)

    def journal(self, sys_id: str, element: str) -> str:
        """A journal column's display value: every entry, newest first."""
        head = "Work notes" if element == "work_notes" else "Additional comments"
        entries = [row for i in self._index.get(("element_id", sys_id), ()) if (row := self._kept.get(i)) and row["element"] == element]
        return "".join(f"{row['sys_created_on']} - {row['_by']} ({head})\n{row['value']}\n\n" for row in reversed(entries))

    def _cell(self, row: Row, name: str, raw: str, mode: str, bare: bool, base_url: str) -> Any:
        target = reference(row.get("_table", ""), name)
        link = f"{base_url}/api/now/table/{target}/{raw}" if target and raw and not bare else None
        if mode == "all":
            pair = {"display_value": self.display(row, name, raw), "value": raw}
            if name in DATES:
                pair["display_value_internal"] = pair["display_value"]
            return {**pair, "link": link} if link else pair
        if mode == "true":
            shown = self.display(row, name, raw)
            return {"display_value": shown, "link": link} if link else shown
        return {"link": link, "value": raw} if link else raw

    def _candidates(self, query: Query) -> Iterable[Row]:
        for name in INDEXED:
            if (values := query.equals(name)) is not None:
                ids = dict.fromkeys(i for value in values for i in self._index.get((name, value), ()))
                return [row for i in ids if (row := self._kept.get(i)) is not None]
        rows: Sequence[Row] = self._kept.values()
        return rows

    def _note(self, row: Row) -> None:
        for name in INDEXED:
            if value := row.get(name):
                self._index.setdefault((name, str(value)), {})[row["sys_id"]] = None
