"""What goes wrong in the loss test, drawn by the seed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

from tests.chaos.world import World


class Faults:
    """Draws a fault every few seconds until the time is up; `done` says what was done, in order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.done: list[str] = []
        self._begun = time.monotonic()
        self._all: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("kill ingestion", lambda: self._kill("ingestion")),
            ("kill route", lambda: self._kill("route")),
            ("kill process", lambda: self._kill("process")),
            ("kill materialize", lambda: self._kill("materialize")),
            ("kill process right after an effect", self._kill_after_an_effect),
            ("kill process inside a slow call", self._kill_inside_a_call),
            ("pause broker", self._pause_broker),
            ("kill broker", lambda: self._kill("broker")),
            ("hang jira", self._hang_jira),
            ("break jira's answers", self._break_answers),
            ("second process worker joins", lambda: self._join("process")),
            ("second route worker joins", lambda: self._join("route")),
            ("second workers leave", self._leave),
        ]

    async def run(self, seconds: float) -> None:
        """One fault after the other, each kind once before any comes again."""
        end = time.monotonic() + seconds
        bag: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        while time.monotonic() < end:
            if not bag:
                bag = self.world.rng.sample(self._all, len(self._all))
            name, fault = bag.pop()
            self.done.append(f"{time.monotonic() - self._begun:5.1f} s  {name}")
            await fault()
            await asyncio.sleep(self.world.rng.uniform(0.5, 3.0))
        for stage in list(self.world.extra):
            self.world.leave(stage, signal.SIGKILL)

    def _signal(self, name: str, number: int) -> int | None:
        pid = self.world.pid(name)
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return None  # it died of an earlier fault this moment
        return pid

    async def _kill(self, name: str) -> None:
        self._signal(name, signal.SIGKILL)

    async def _kill_after_an_effect(self) -> None:
        """Between a call and its record: the tool has it, the topic does not yet."""
        before = len(self.world.jira.ledger())
        end = time.monotonic() + 4
        while time.monotonic() < end and len(await asyncio.to_thread(self.world.jira.ledger, before)) == 0:
            await asyncio.sleep(0.01)
        await self._kill("process")

    async def _kill_inside_a_call(self) -> None:
        """The request is under way and will be carried out after its worker is gone."""
        self.world.jira.fault(delay=1.5, times=8, when="before")
        await asyncio.sleep(0.5)
        await self._kill("process")

    async def _pause_broker(self) -> None:
        if (pid := self._signal("broker", signal.SIGSTOP)) is not None:
            await asyncio.sleep(self.world.rng.uniform(2.0, 6.0))
            os.kill(pid, signal.SIGCONT)

    async def _hang_jira(self) -> None:
        self.world.jira.pause()
        await asyncio.sleep(2.5)
        self.world.jira.resume()

    async def _break_answers(self) -> None:
        """Done, but not told: the answer is torn, or the connection breaks."""
        self.world.jira.fault(half_body=True, times=3)
        self.world.jira.fault(reset=True, times=3)
        self.world.jira.fault(status=429, retry_after=1, times=3)

    async def _join(self, stage: str) -> None:
        if stage not in self.world.extra:
            self.world.join(stage)
            await asyncio.sleep(2.0)

    async def _leave(self) -> None:
        for stage in list(self.world.extra):
            await asyncio.to_thread(self.world.leave, stage)
