"""The people of the loss test: they work in the sandboxes, and carry to the door what those tell, with a ledger of each of its answers.

A sandbox's webhooks come here first, so that no tool's own way of giving up decides what is lost: each is delivered until it is
answered 2xx, some are delivered again, and what the door answered is kept.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

TICKETS = 12
"""So many of a tool, and people open another as often as they change one; with more, they change more."""
FAVOURED = 0.2
"""The share of changes that meets a tool's first ticket: a long thread, with much to be searched."""
PRIORITIES = ("urgent", "high", "medium", "medium", "low")
PATIENCE_S, IMPATIENT_S = 5.0, 0.004
GIVE_UP_S = 90.0
REMEMBERED = 400
NOT_CARRIED = frozenset({"host", "content-length", "connection", "accept", "accept-encoding"})
_NAMED = re.compile(rb"chaos (\d{6})")


@dataclass(slots=True)
class Delivery:
    """One webhook. `event_ids` are the door's answers: more than one after a retry whose answer was lost."""

    number: int
    tool: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    event_ids: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Act:
    """What a person did to a ticket. `text` is its subject from then on, and no other act's."""

    number: int
    tool: str

    @property
    def text(self) -> str:
        return f"chaos {self.number:06}"


class People:
    """Acts and deliveries of one run. `start` answers the address sandboxes tell; `problems` are answers no tool should get."""

    def __init__(self, seed: int) -> None:
        self.acts: list[Act] = []
        self.deliveries: list[Delivery] = []
        self.problems: list[str] = []
        self._rng = random.Random(seed)
        self._door: Callable[[], str] = str
        self._tickets: dict[str, list[str]] = {}
        self._answered: deque[Delivery] = deque(maxlen=REMEMBERED)
        self._under_way: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()
        self._at_work = False

    async def start(self, door: Callable[[], str]) -> str:
        """`door` answers its address of now, up to the tool's name."""
        self._door = door
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/{tool}", self._told)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._stack.aclose()

    @property
    def pending(self) -> int:
        """Deliveries that are not answered yet."""
        return len(self._under_way)

    async def work(self, tools: Mapping[str, str], seconds: float, rate: float) -> None:
        """Acts in the tools (address by name) at a rate, all of them done when it returns; one delivery in ten comes again later."""
        end = time.monotonic() + seconds
        self._at_work = True
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < end:
                tool = self._rng.choice(list(tools))
                group.create_task(self._act(tool, tools[tool]))
                if self._rng.random() < 0.1:
                    self.redeliver(1)
                await asyncio.sleep(1 / rate)
        self._at_work = False

    async def _act(self, tool: str, base_url: str) -> None:
        act = Act(len(self.acts), tool)
        self.acts.append(act)
        known = self._tickets.setdefault(tool, [])
        if known and self._rng.random() > TICKETS / (TICKETS + len(known)):
            ticket = known[0] if self._rng.random() < FAVOURED else self._rng.choice(known)
            call = self._session.put(f"{base_url}/_people/tickets/{ticket}", json={"subject": act.text})
        else:
            fields = {"subject": act.text, "type": "incident", "priority": self._rng.choice(PRIORITIES)}
            call = self._session.post(f"{base_url}/_people/tickets", json=fields)
        async with call as answer:
            answer.raise_for_status()
            ticket = str((await answer.json())["ticket_id"])
            if ticket not in known:
                known.append(ticket)

    async def _told(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in NOT_CARRIED}
        delivery = Delivery(len(self.deliveries), request.match_info["tool"], await request.read(), headers, request.query_string)
        self.deliveries.append(delivery)
        self._deliver(delivery)
        return web.Response(status=202)

    def redeliver(self, count: int) -> None:
        """So many of the deliveries answered last once more; none when the work is over."""
        if self._at_work and self._answered:
            for delivery in self._rng.choices(self._answered, k=count):
                self._deliver(delivery)

    def _deliver(self, delivery: Delivery) -> None:
        task = asyncio.get_running_loop().create_task(self._until_taken(delivery))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _until_taken(self, delivery: Delivery) -> None:
        """Delivers until answered 2xx, as a tool that repeats; a refusal other than 503 is a fault of ours.

        Now and then it does not wait for the answer at first: accepted, perhaps, and delivered again.
        """
        patience = IMPATIENT_S if self._rng.random() < 0.1 else PATIENCE_S
        give_up = time.monotonic() + GIVE_UP_S
        while time.monotonic() < give_up:
            try:
                url = f"{self._door()}/{delivery.tool}{'?' if delivery.query else ''}{delivery.query}"
                timeout = aiohttp.ClientTimeout(total=patience)
                async with self._session.post(url, data=delivery.body, headers=delivery.headers, timeout=timeout) as answer:
                    if answer.status == 202:
                        delivery.event_ids.add((await answer.json())["event_id"])
                        self._answered.append(delivery)
                        return
                    if answer.status != 503:
                        self.problems.append(f"refused: delivery {delivery.number} of {delivery.tool} was answered {answer.status}")
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # the door is dead or hung: that is the test; delivered again below
            patience = PATIENCE_S
            await asyncio.sleep(0.3)
        self.problems.append(f"refused: delivery {delivery.number} of {delivery.tool} found no door")


def act_of(acts: Sequence[Act], tool: str, body: bytes) -> Act | None:
    """The act a tool's webhook tells of, or tells of again: the latest that its text names; None where that was another tool's."""
    numbers = [int(number) for number in _NAMED.findall(body)]
    latest = acts[max(numbers)] if numbers and max(numbers) < len(acts) else None
    return latest if latest is not None and latest.tool == tool else None
