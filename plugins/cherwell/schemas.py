"""Names to ids: business objects, their fields and relationships, read once and kept a while. Every tenant's ids are its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from plugins.api import NotFound, ValidationRefused
from plugins.cherwell.api_client import CherwellClient, short_id
from plugins.cherwell.objects import is_record_id

Json = dict[str, Any]

KEPT_SECONDS: Final = 900.0
PAUSE_SECONDS: Final = 30.0
"""A name that is not there is looked for again after this: an admin may just have made it."""
MAX_OBJECTS: Final = 200


@dataclass(frozen=True, slots=True)
class Schema:
    """One business object: its id, its fields by name and by display name, its relationships by display name."""

    name: str
    object_id: str
    fields: Mapping[str, Json]
    relationships: Mapping[str, str]
    read_at: float

    def field(self, name: str) -> Json | None:
        """A field by its name, its display name or its id, however spelt."""
        return self.fields.get(name.casefold()) or self.fields.get(short_id(name))

    def value(self, name: str, value: Any) -> Json:
        """A field to save, marked as changed: what is not marked is left out in silence. Raises ValidationRefused for no field."""
        found = self.field(name)
        if found is None:
            raise ValidationRefused(f"the business object {self.name} has no field called {name[:80]!r}")
        return {
            "dirty": True,
            "displayName": found.get("displayName"),
            "fieldId": found["fieldId"],
            "html": None,
            "name": found.get("name"),
            "value": as_text(value),
        }


class Schemas:
    """The schemas of a server, each read when it is first asked for."""

    def __init__(self, api: CherwellClient) -> None:
        self._api = api
        self._kept: dict[str, Schema] = {}
        self._missing: dict[str, float] = {}
        self._reading = asyncio.Lock()

    async def of(self, name: str) -> Schema:
        """The schema of a business object, by its name, display name or id; many who wait share one reading. Raises NotFound for none."""
        key = name.casefold()
        async with self._reading:
            now = time.monotonic()
            kept = self._kept.get(key)
            if kept is not None and now - kept.read_at < KEPT_SECONDS:
                return kept
            if key in self._missing and now - self._missing[key] < PAUSE_SECONDS:
                raise _no_object(name)
            try:
                return await self._read(name, now)
            except NotFound:
                if len(self._missing) >= MAX_OBJECTS:
                    self._missing.clear()
                self._missing[key] = now
                raise

    async def with_fields(self, name: str, wanted: Mapping[str, Any]) -> Schema:
        """The schema, read anew where it lacks one of the fields and is no longer fresh."""
        schema = await self.of(name)
        if any(schema.field(field) is None for field in wanted) and time.monotonic() - schema.read_at > PAUSE_SECONDS:
            self._kept.pop(name.casefold(), None)
            schema = await self.of(name)
        return schema

    async def _object_id(self, name: str) -> str:
        """A business object's id by its name or display name; the members of a group go by their own names."""
        rows = await self._api.summaries(name)
        members = [member for row in rows for member in (row, *(m for m in row.get("groupSummaries") or () if isinstance(m, dict)))]
        exact = [row for row in members if name.casefold() in (str(row.get("name")).casefold(), str(row.get("displayName")).casefold())]
        object_id = str((exact or [{}])[0].get("busObId") or "").lower()
        if not object_id:
            raise _no_object(name)
        return object_id

    async def _read(self, name: str, now: float) -> Schema:
        object_id = name.lower() if is_record_id(name) else await self._object_id(name)
        answer = await self._api.schema(object_id)
        fields: dict[str, Json] = {}
        for row in answer.get("fieldDefinitions") or ():
            if isinstance(row, dict) and row.get("fieldId"):
                short = short_id(str(row["fieldId"]))
                self._api.errors.names[short] = str(row.get("name") or short)
                fields.setdefault(short, row)
                fields.setdefault(str(row.get("displayName") or "").casefold(), row)
                fields[str(row.get("name") or "").casefold()] = row
        relationships = {
            str(row.get("displayName")).casefold(): str(row["relationshipId"])
            for row in answer.get("relationships") or ()
            if isinstance(row, dict) and row.get("relationshipId")
        }
        if len(self._kept) >= MAX_OBJECTS:
            self._kept.pop(next(iter(self._kept)))
        schema = Schema(name, object_id, fields, relationships, now)
        self._kept[name.casefold()] = schema
        return schema


def _no_object(name: str) -> NotFound:
    return NotFound(f"Cherwell has no business object called {name[:80]!r}, or hides it from our account", status=404)


def as_text(value: Any) -> str:
    """A value as Cherwell takes it: everything is text."""
    if isinstance(value, bool):
        return "True" if value else "False"
    return "" if value is None else str(value)
