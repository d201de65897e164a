"""Names to ids, asked of the tool once and kept a while: custom fields, statuses, brands, forms."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from plugins.api import ValidationRefused

V = TypeVar("V")


class NameCache(Generic[V]):
    """What a tool calls something, to what its API wants; names are compared without case or surrounding space.

    `load` reads the whole list; it runs at the first name, again after `seconds`, and at most every `pause` seconds for a name that
    is not there: an admin may just have made it. Many waiting callers share one read. `what` names the kind of thing in the error.
    """

    def __init__(
        self,
        what: str,
        load: Callable[[], Awaitable[Mapping[str, V]]],
        *,
        seconds: float = 900.0,
        pause: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._load, self._seconds, self._pause, self._monotonic = what, load, seconds, pause, monotonic
        self._known: dict[str, V] = {}
        self._loaded_at: float | None = None
        self._turn = asyncio.Lock()

    async def get(self, name: str) -> V:
        """The value of a name; raises ValidationRefused when the tool has no such name, or ApiError when it cannot be asked."""
        found = await self.find(name)
        if found is None:
            raise ValidationRefused(f"the tool has no {self._what} called {name[:80]!r}")
        return found

    async def find(self, name: str) -> V | None:
        """As `get`; None for a name the tool does not have."""
        wanted = name.strip().casefold()
        if (found := self._known.get(wanted)) is not None and self._younger_than(self._seconds):
            return found
        async with self._turn:
            if not self._younger_than(self._seconds if wanted in self._known else self._pause):
                given = await self._load()
                self._known = {key.strip().casefold(): value for key, value in given.items()}
                self._loaded_at = self._monotonic()
        return self._known.get(wanted)

    def _younger_than(self, seconds: float) -> bool:
        return self._loaded_at is not None and self._monotonic() - self._loaded_at < seconds
