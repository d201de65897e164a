"""The door as its own process, started as a user starts it, and a client that keeps each ticket's deliveries in turn."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from schemas.codec import Codec
from schemas.events import WebhookReceived
from streams.broker.admin import ensure_topics
from streams.secrets.environment import variable
from streams.tenants.apply import apply
from streams.tenants.config import parse
from streams.topics import RECEIVED
from tests.streams.ingestion.door import SECRET, TOOL, a_body, signed
from tests.streams.ingestion.reading import read_raw

TENANT = "acme"
CONFIG = f"""
tenant: {TENANT}
tools:
  {TOOL}: {{type: zendesk, base_url: "https://acme.zendesk.example", auth: {{email: bot@acme.example, api_token: "${{secret:token}}"}},
          webhook: {{secret: "${{secret:hook}}"}}}}
routes: []
default: {{to: {TOOL}, do: [note]}}
"""


async def prepare(brokers: str) -> None:
    """Topics and the tenant, as its operator would have made them."""
    await ensure_topics(brokers, 4)
    await apply(brokers, [parse(CONFIG, "acme.yaml")])


@dataclass
class DoorProcess:
    """A door in its own process. `url` and `admin_url` once it listens."""

    brokers: str
    data_dir: Path
    process: subprocess.Popen[str] | None = None
    url: str = ""
    admin_url: str = ""

    def start(self) -> None:
        """Starts it and waits until it listens."""
        command = [sys.executable, "-m", "cli.main", "--data-dir", str(self.data_dir), "--brokers", self.brokers]
        environment = os.environ | {variable(f"{TENANT}/hook"): SECRET}
        self.process = subprocess.Popen(
            [*command, "serve", "--port", "0", "--admin-port", "0"], stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.match(r"webhooks on (\S+)/webhooks/TENANT/TOOL, health on (\S+)/health", line):
                self.url, self.admin_url = found.groups()
                break
        else:
            raise AssertionError(f"the door ended with {self.process.wait()}")
        os.set_blocking(self.process.stderr.fileno(), False)  # what it says later is not read, and must not block it

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> tuple[int, float]:
        """SIGTERM; the exit code and the seconds it took."""
        assert self.process is not None
        started = time.monotonic()
        self.process.terminate()
        return self.process.wait(15), time.monotonic() - started

    async def state(self) -> dict[str, object]:
        async with aiohttp.ClientSession() as session, session.get(self.admin_url + "/health") as answer:
            state: dict[str, object] = await answer.json()
            return state

    async def until(self, **wanted: object) -> None:
        """Returns when /health shows these."""
        async with asyncio.timeout(90):
            while not wanted.items() <= (await self.state()).items():
                await asyncio.sleep(0.05)


@contextmanager
def door_process(brokers: str, data_dir: Path) -> Iterator[DoorProcess]:
    """A started door, killed at the end if it still runs."""
    door = DoorProcess(brokers, data_dir)
    door.start()
    try:
        yield door
    finally:
        door.kill()


@dataclass
class Client:
    """Sends numbered deliveries round the tickets; a ticket's next is sent only after its last was answered.

    `promised` holds the event ids answered 202 by ticket, in order; `waits` each answer's seconds; `statuses` counts the answers,
    "lost" those that never came because the door was killed.
    """

    door: DoorProcess
    tickets: int = 400
    promised: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    waits: list[float] = field(default_factory=list)
    statuses: dict[object, int] = field(default_factory=lambda: defaultdict(int))
    _sent: int = 0
    _locks: dict[int, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def run(self, rate: float, seconds: float) -> None:
        """Sends at this rate, whatever the answers do, and returns when all are answered."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session, asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, started + number / rate - loop.time()))
                self._sent += 1
                group.create_task(self._send(session, self._sent))

    async def _send(self, session: aiohttp.ClientSession, number: int) -> None:
        ticket = 1 + number % self.tickets  # an id of 0 means none in Zendesk's events
        async with self._locks[ticket]:
            body = a_body(ticket, number, padding=1500)
            started = time.perf_counter()
            try:
                async with session.post(f"{self.door.url}/webhooks/{TENANT}/{TOOL}", data=body, headers=signed(body)) as answer:
                    event_id = (await answer.json()).get("event_id")
            except aiohttp.ClientError:
                self.statuses["lost"] += 1
                return
            self.waits.append(time.perf_counter() - started)
            self.statuses[answer.status] += 1
            if answer.status == 202:
                self.promised[ticket].append(event_id)


async def assert_all_promised_are_there_in_order(brokers: str, client: Client) -> None:
    """Every event answered 202 is on the topic, and each ticket's first copies stand in the order of the answers."""
    codec = Codec()
    firsts: dict[int, list[str]] = defaultdict(list)
    for _, _, value in await read_raw(brokers, RECEIVED.name):
        event = codec.decode_as(WebhookReceived, value)
        assert event.ticket_id is not None
        if event.event_id not in firsts[int(event.ticket_id)]:
            firsts[int(event.ticket_id)].append(event.event_id)
    for ticket, promised in client.promised.items():
        wanted = set(promised)
        assert [event_id for event_id in firsts[ticket] if event_id in wanted] == promised
