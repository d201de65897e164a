"""What goes wrong in the loss test, drawn by the seed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from plugins.sandbox.process import SandboxProcess
from streams.effects import CALL_TIMEOUT
from tests.chaos.world import World

LONG_S = 100.0
Fault = Callable[[], Awaitable[bool]]
"""Does it; answers whether it happened."""
BESIDE = ("redeliveries arrive", "joins", "leaves")
"""Faults that take their time: others happen meanwhile."""


class Faults:
    """One fault after the other until the time is up, each kind once before any comes again.

    `log` says what was done and when; `happened` counts the kinds that took place; `killed` the children's lives that were ended.
    """

    def __init__(self, world: World, turn: int = 0) -> None:
        """`turn` rotates the order of the kinds, so that few runs in a row see them all."""
        self.world = world
        self.turn = turn
        self.log: list[str] = []
        self.happened: Counter[str] = Counter()
        self.killed: Counter[str] = Counter()
        self.long = False
        self._moving = {"route": asyncio.Lock(), "process": asyncio.Lock()}
        self._begun = time.monotonic()
        # in an order that leaves a worker the time to join before it leaves, and the broker alive meanwhile
        self.kinds: dict[str, Fault] = {
            "route moves to an empty worker while redeliveries arrive": self._move_route,
            "kill process between a call and its record": self._kill_after_an_effect,
            "kill materialize": lambda: self._kill("materialize"),
            "hang a tool": self._hang_a_tool,
            "kill ingestion": lambda: self._kill("ingestion"),
            "the second route worker leaves": lambda: self._leave("route"),
            "kill process inside a call": self._kill_inside_a_call,
            "pause broker": self._pause_broker,
            "a second process worker joins": lambda: self._move("process"),
            "kill route": lambda: self._kill("route"),
            "tear all answers": self._tear_answers,
            "the second process worker leaves": lambda: self._leave("process"),
            "kill broker": lambda: self._kill("broker"),
        }

    async def run(self, seconds: float) -> None:
        """Until the time is up; a fault that is begun is finished."""
        end = time.monotonic() + seconds
        self.long = seconds >= LONG_S
        names = list(self.kinds)
        first = self.turn * 5 % len(names)
        bag = names[first:] + names[:first]
        beside: set[asyncio.Task[None]] = set()
        while time.monotonic() < end:
            name = bag.pop(0)
            bag.append(name)
            doing = asyncio.create_task(self._do(name))
            if name.endswith(BESIDE):
                beside.add(doing)
            else:
                await doing
            await asyncio.sleep(self.world.rng.uniform(0.5, 2.0))
        await asyncio.gather(*beside)

    async def _do(self, name: str) -> None:
        begun = time.monotonic()
        happened = await self.kinds[name]()
        self.happened[name] += happened
        took = time.monotonic() - begun
        self.log.append(f"{begun - self._begun:5.1f} s  {name}{'' if happened else ': no occasion'} ({took:.1f} s)")

    async def _kill(self, name: str) -> bool:
        """SIGKILL. Waits for a child that is between two lives."""
        pid = await self._alive(name)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        self.killed[name] += 1
        return True

    async def _alive(self, name: str) -> int | None:
        for _ in range(50):
            if (pid := self.world.running_pid(name)) is not None:
                try:
                    os.kill(pid, 0)
                    return pid
                except ProcessLookupError:  # killed a moment ago, and the supervisor has not said so yet
                    pass
            await asyncio.sleep(0.1)
        return None

    async def _kill_after_an_effect(self) -> bool:
        """Between a call and its record: the tool has it, the topic does not yet."""
        pid, tools = await self._alive("process"), list(self.world.sandboxes.values())
        before = {tool: len(await asyncio.to_thread(tool.ledger)) for tool in tools}
        self.world.rng.shuffle(tools)
        end = time.monotonic() + 10  # a worker that has just got its partitions waits for its searches first
        while pid is not None and time.monotonic() < end:
            for tool in tools:
                if any(row["actor"] == "api" for row in await asyncio.to_thread(tool.ledger, before[tool])):
                    return await self._kill("process")
            await asyncio.sleep(0.005)
        return False

    async def _kill_inside_a_call(self) -> bool:
        """The requests are under way and will be carried out after their worker is gone."""
        if await self._alive("process") is None:
            return False
        self._arm(delay=1.5, times=8, when="before")
        await asyncio.sleep(0.5)
        return await self._kill("process")

    def _a_tool(self) -> SandboxProcess:
        return self.world.rng.choice(list(self.world.sandboxes.values()))

    def _arm(self, **fault: Any) -> None:
        for sandbox in self.world.sandboxes.values():
            sandbox.fault(**fault)

    async def _pause_broker(self) -> bool:
        pid = await self._alive("broker")
        if pid is None:
            return False
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.world.rng.uniform(2.0, 5.0))
        finally:
            os.kill(pid, signal.SIGCONT)
        return True

    async def _hang_a_tool(self) -> bool:
        """In a long run also for longer than a call may take: then it is given up, and carried out all the same."""
        tool = self._a_tool()
        tool.pause()
        try:
            await asyncio.sleep(self.world.rng.choice((2.0, CALL_TIMEOUT + 2.0) if self.long else (1.5, 3.0)))
        finally:
            tool.resume()
        return True

    async def _tear_answers(self) -> bool:
        """Done, but not told: the answer is torn, the connection breaks, or the answer is that it failed. And not done, and told."""
        self._arm(half_body=True, times=3)
        self._arm(reset=True, times=3)
        self._arm(status=502, when="after", times=2)
        self._arm(status=503, times=2)
        self._arm(status=429, retry_after=1, times=3)
        return True

    async def _move_route(self) -> bool:
        """Half of the partitions go to a worker that knows nothing, while old deliveries are repeated all the time."""
        repeating = asyncio.create_task(self._repeat())
        try:
            return await self._move("route")
        finally:
            repeating.cancel()
            await asyncio.gather(repeating, return_exceptions=True)

    async def _repeat(self) -> None:
        while True:
            self.world.people.redeliver(2)
            await asyncio.sleep(0.1)

    async def _move(self, stage: str) -> bool:
        """A second worker joins and gets its share; True once it has worked on it for a second."""
        async with self._moving[stage]:
            if stage in self.world.extra:
                return False
            self.world.join(stage)
            if not await self._has_partitions(stage):
                return False
            await asyncio.sleep(1.0)
            return True

    async def _has_partitions(self, stage: str) -> bool:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.world.partitions_of_second(stage):
                return True
            if self.world.extra[stage].poll() is not None:  # it found no broker, and has no supervisor
                self.world.join(stage)
            await asyncio.sleep(0.1)
        return False

    async def _leave(self, stage: str) -> bool:
        """Orderly or not, as the dice say."""
        async with self._moving[stage]:
            if stage not in self.world.extra:
                return False
            await asyncio.to_thread(self.world.leave, stage, self.world.rng.choice((signal.SIGTERM, signal.SIGKILL)))
            return True
