"""A record's notes: one field that holds all of them, which versions write in two ways."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from plugins.sysaid.payload import fold, notes_of

if TYPE_CHECKING:
    from plugins.sysaid.api_client import SysAidClient

Json = dict[str, Any]
MOST_TURNS = 1000


class Notebook:
    """Some versions append the note that is written, others put it in place of all. The second note a connection writes on a record
    finds out which, and gives the others back where they were lost; until then each is written with care. One at a time per record.
    """

    def __init__(self, api: SysAidClient) -> None:
        self._api = api
        self._appends: bool | None = None
        self._turns: dict[str, asyncio.Lock] = {}

    async def read(self, ticket_id: str) -> list[Json]:
        """The notes as the tool orders them."""
        return notes_of(fold(await self._api.record(ticket_id, ("notes",)))[0])

    async def add(self, ticket_id: str, note: Json) -> None:
        """Adds a note {userName, createDate in epoch milliseconds, text}."""
        async with self._turns.setdefault(ticket_id, asyncio.Lock()):
            try:
                await self._add(ticket_id, note)
            finally:
                if len(self._turns) > MOST_TURNS:
                    self._turns = {name: turn for name, turn in self._turns.items() if turn.locked()}

    async def _add(self, ticket_id: str, note: Json) -> None:
        if self._appends is True:
            await self._api.write(ticket_id, {"notes": note})
            return
        before = await self.read(ticket_id)
        if self._appends is False:
            await self._api.write(ticket_id, {"notes": [*before, note]})
            return
        await self._api.write(ticket_id, {"notes": note})
        if not before:
            return  # one note tells nothing
        self._appends = len(await self.read(ticket_id)) > len(before)
        if not self._appends:
            await self._api.write(ticket_id, {"notes": [*before, note]})
