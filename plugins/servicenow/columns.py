"""Custom fields by the name people see or by their column, and their choices by label or by value, as the instance itself tells them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from plugins.api import ValidationRefused
from plugins.servicenow.api_client import ServiceNowClient, escaped
from plugins.servicenow.payload import text_of

COLUMN = re.compile(r"[a-z][a-z0-9_]{0,79}")
FRESH_SECONDS = 600.0
"""How long what the instance told is believed; a name not found is asked for again after a minute."""
AGAIN_SECONDS = 60.0


class Columns:
    """What sys_dictionary and sys_choice tell of a table, read once and kept for ten minutes. Where they are closed to our account,
    names that look like columns pass as they are, and the answer to the write shows whether they exist."""

    def __init__(self, api: Callable[[], ServiceNowClient], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._api, self._monotonic = api, monotonic
        self._known: dict[str, tuple[float, dict[str, str]]] = {}
        self._choices: dict[tuple[str, str], tuple[float, dict[str, str]]] = {}

    async def resolve(self, table: str, fields: Mapping[str, Any]) -> dict[str, str]:
        """Columns and values for fields given by column or label; raises ValidationRefused that names a field there is not."""
        found: dict[str, str] = {}
        for name, value in fields.items():
            column = await self._column(table, name)
            found[column] = await self._value(table, column, value)
        return found

    async def _column(self, table: str, name: str) -> str:
        known = await self._columns(table, FRESH_SECONDS)
        if name.casefold() not in known and known:
            known = await self._columns(table, AGAIN_SECONDS)
        if not known and COLUMN.fullmatch(name):
            return name
        column = known.get(name.casefold())
        if column is None:
            closed = "" if known else " (sys_dictionary is closed to our account: give columns, not labels)"
            raise ValidationRefused(f"{table} has no field {name[:80]}{closed}")
        return column

    async def _columns(self, table: str, fresh: float) -> dict[str, str]:
        at, known = self._known.get(table, (float("-inf"), {}))
        if self._monotonic() - at > fresh:
            query = f"nameIN{escaped(table)},task^elementISNOTEMPTY^ORDERBYsys_id"
            labels: dict[str, str] = {}
            columns: dict[str, str] = {}
            async for row in self._api().every_row("sys_dictionary", query, ("element", "column_label")):
                column = text_of(row.get("element"))
                columns[column.casefold()] = column
                labels.setdefault(text_of(row.get("column_label")).casefold(), column)
            known = {**labels, **columns}
            self._known[table] = (self._monotonic(), known)
        return known

    async def _value(self, table: str, column: str, value: Any) -> str:
        text = _text(value)
        if not text or not isinstance(value, str):
            return text
        choices = await self._choices_of(table, column)
        return text if text in choices.values() else choices.get(text.casefold(), text)

    async def _choices_of(self, table: str, column: str) -> dict[str, str]:
        at, choices = self._choices.get((table, column), (float("-inf"), {}))
        if self._monotonic() - at > FRESH_SECONDS:
            query = f"nameIN{escaped(table)},task^element={escaped(column)}^inactive=false^ORDERBYsys_id"
            rows, _ = await self._api().rows("sys_choice", query, ("label", "value"))
            choices = {text_of(row.get("label")).casefold(): text_of(row.get("value")) for row in rows}
            self._choices[table, column] = (self._monotonic(), choices)
        return choices


def _text(value: Any) -> str:
    """A value as the Table API takes it: everything is text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(_text(item) for item in value)
    return "" if value is None else str(value)
