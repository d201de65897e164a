"""An event loop whose time passes only when nothing is left to do: hours of waiting in milliseconds, and the same every time."""

from __future__ import annotations

import asyncio
import heapq
from typing import Any

EPOCH = 1_800_000_000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of sleeping until it."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = EPOCH
        self._clock_resolution = 1e-6  # a float of today's epoch seconds is not finer

    def time(self) -> float:
        return self._virtual

    def _run_once(self) -> None:
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]  # asyncio's own heap; a test may look
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
            self._timer_cancelled_count = max(self._timer_cancelled_count - 1, 0)
        if not self._ready and timers:
            self._virtual = max(self._virtual, timers[0]._when)
        super()._run_once()


class LoopClock:
    """The virtual loop's time as the project's Clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> int:
        return round(self._loop.time() * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
