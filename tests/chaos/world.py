"""What the loss test runs: `ai-agents up`, two sandboxes with an index lag, one tenant, and a client that keeps a ledger of ids in."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from plugins.sandbox.process import SandboxProcess
from streams.health import read_health
from streams.leash import leashed
from streams.runtime import Runtime, read_runtime
from streams.secrets.store import open_store
from streams.settings import Settings
from streams.tenants.apply import apply
from streams.tenants.checks import NOT_SECRET, WEBHOOK_SECRETS
from streams.tenants.config import parse

INDEX_LAG_S = 1.0
SEARCH_LAG_S = 6.0
TICKETS = 40
PATIENT_S, IMPATIENT_S = 5.0, 0.004
ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Delivery:
    """One delivery of the client's ledger. `event_ids` are the door's answers: more than one after a retry whose answer was lost."""

    number: int
    ticket_id: str
    body: bytes
    event_ids: set[str] = field(default_factory=set)


class World:
    """Everything of one run. `start` then `stop`; what it started it ends, and nothing else."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.settings = Settings(data_dir=folder / "data")
        self.folder = folder
        self.rng = random.Random(seed)
        self.deliveries: list[Delivery] = []
        self.tickets: list[str] = []
        self.extra: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()
        self.support = SandboxProcess("zendesk", index_lag=INDEX_LAG_S)
        self.jira = SandboxProcess("jira", index_lag=INDEX_LAG_S)
        self.sandboxes = {"support": self.support, "jira": self.jira}
        self._deliver_later: Callable[[Delivery], None] | None = None

    async def start(self) -> None:
        """Brings everything up and tells the door of the tenant."""
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(self.support)
        self._stack.enter_context(self.jira)
        self.up = self._spawn(["--data-dir", str(self.settings.data_dir), "up", "--ephemeral-ports"], "up")
        self._stack.callback(self._end, self.up)
        async with asyncio.timeout(120):
            while not self._all_run():
                if self.up.poll() is not None:
                    raise RuntimeError(f"up ended: {(self.folder / 'up.log').read_text()[-2000:]}")
                await asyncio.sleep(0.1)
        self.settings = replace(self.settings, brokers=self.runtime().brokers)
        await apply(self.settings.brokers, [parse(self._tenant(), "chaos.yaml")])
        self.tickets = [self.support.person_creates(subject=f"ticket {n}", type="incident") for n in range(TICKETS)]
        await self._known()
        for tool, sandbox in self.sandboxes.items():
            sandbox.set_webhook(f"{self.runtime().ingestion_url}/webhooks/chaos/{tool}")

    def stop(self) -> None:
        """Ends everything."""
        for name in list(self.extra):
            self.leave(name)
        self._stack.close()

    def _all_run(self) -> bool:
        runtime = read_runtime(self.settings.data_dir)
        names = {p.name for p in runtime.processes if p.state == "running"} if runtime else set()
        return names >= {"broker", "ingestion", "route", "process", "materialize"}

    def runtime(self) -> Runtime:
        """What runs now."""
        runtime = read_runtime(self.settings.data_dir)
        assert runtime is not None, "the supervisor is gone"
        return runtime

    def running_pid(self, name: str) -> int | None:
        """The process id of a supervised child that does its work; None while it is on its way back."""
        return next((p.pid for p in self.runtime().processes if p.name == name and p.state in ("running", "unhealthy")), None)

    def restarts(self) -> dict[str, int]:
        """How often each child was started again."""
        return {p.name: p.restarts for p in self.runtime().processes}

    def _spawn(self, arguments: list[str], name: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            command = leashed([sys.executable, "-P", "-m", "cli.main", *arguments])
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, cwd=self.folder)

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def join(self, stage: str) -> None:
        """A second worker of a stage, with a data directory that knows nothing but the secrets."""
        folder = self._folder_of_second(stage)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in self.settings.data_dir.glob("secret*"):
            shutil.copy2(path, folder / path.name)
        arguments = ["--data-dir", str(folder), "--brokers", self.settings.brokers, "worker", "--stage", stage, "--instance", "1"]
        self.extra[stage] = self._spawn(arguments, f"second-{stage}")

    def _folder_of_second(self, stage: str) -> Path:
        return self.folder / f"second-{stage}"

    def partitions_of_second(self, stage: str) -> int:
        """How many partitions the second worker of a stage has."""
        return sum(len(h.partitions) for h in read_health(self._folder_of_second(stage)) if h.pid == self.extra[stage].pid)

    def leave(self, stage: str, number: int = signal.SIGTERM) -> None:
        """The second worker leaves, orderly or not."""
        child = self.extra.pop(stage, None)
        if child is not None and child.poll() is None:
            child.send_signal(number)
            self._end(child)

    def _tenant(self) -> str:
        store = open_store(self.settings)

        def secret(tool: str, key: str, value: str) -> str:
            name = f"{tool}_{key}"
            store.put(f"chaos/{name}", value.encode(), keep_old=False)
            return "${secret:" + name + "}"

        def tool(name: str, s: SandboxProcess, **more: Any) -> dict[str, Any]:
            auth = {k: v if k in NOT_SECRET else secret(name, k, v) for k, v in s.credentials["auth"].items()}
            hook = {k: secret(name, f"hook_{k}", v) if k in WEBHOOK_SECRETS else v for k, v in s.webhook.items()}
            actor = {"actor": s.credentials["actor"]} if s.credentials.get("actor") else {}
            return {"type": s.tool_type, "base_url": s.base_url, "auth": auth, "webhook": hook, "search_lag": SEARCH_LAG_S, **actor, **more}

        config = {
            "tenant": "chaos",
            "tools": {"support": tool("support", self.support), "jira": tool("jira", self.jira, project="OPS")},
            "routes": [{"name": "urgent", "match": {"priority": ["P1", "P2"]}, "to": "jira", "do": ["mirror", "note"]}],
            "default": {"to": "support", "do": ["note"]},
        }
        return yaml.safe_dump(config, sort_keys=False)

    async def _known(self) -> None:
        url = f"{self.runtime().ingestion_url}/webhooks/chaos/support"
        async with aiohttp.ClientSession() as session, asyncio.timeout(30):
            while True:
                async with session.post(url, data=b"{}") as answer:  # unsigned: 401 once the tenant is known
                    if answer.status == 401:
                        return
                await asyncio.sleep(0.1)

    # --- the client ------------------------------------------------------------------------------------------------------

    def new_delivery(self) -> Delivery:
        """A signed trigger delivery of its own id about one of the tickets."""
        number = len(self.deliveries)
        ticket = self.rng.choice(self.tickets)
        priority = self.rng.choice(("Urgent", "High", "Normal", "Normal", "Low"))
        body = json.dumps(
            {
                "ticket_id": ticket,
                "event": "updated",
                "title": f"chaos {number:06}",
                "status": "Open",
                "priority": priority,
                "type": "Incident",
            }
        ).encode()
        delivery = Delivery(number, ticket, body)
        self.deliveries.append(delivery)
        return delivery

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        """As the tool sends it now: signed anew each time, always the same invocation id."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        secret = str(self.support.webhook["secret"]).encode()
        digest = base64.b64encode(hmac.digest(secret, stamp.encode() + delivery.body, hashlib.sha256)).decode()
        return {
            "Content-Type": "application/json",
            "X-Zendesk-Webhook-Signature": digest,
            "X-Zendesk-Webhook-Signature-Timestamp": stamp,
            "X-Zendesk-Webhook-Invocation-Id": f"chaos-{delivery.number:06}",
        }

    async def deliver(self, session: aiohttp.ClientSession, delivery: Delivery, give_up: float) -> None:
        """Delivers until answered 2xx, as a tool that repeats; a refusal other than 503 is a fault of ours.

        Now and then it does not wait for the answer at first: accepted, perhaps, and delivered again.
        """
        patience = IMPATIENT_S if self.rng.random() < 0.1 else PATIENT_S
        while time.monotonic() < give_up:
            try:
                url = f"{self.runtime().ingestion_url}/webhooks/chaos/support"
                headers, timeout = self._headers(delivery), aiohttp.ClientTimeout(total=patience)
                async with session.post(url, data=delivery.body, headers=headers, timeout=timeout) as answer:
                    if answer.status == 202:
                        delivery.event_ids.add((await answer.json())["event_id"])
                        return
                    assert answer.status == 503, f"delivery {delivery.number} was answered {answer.status}"
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # the door is dead or hung: that is the test; delivered again below
            patience = PATIENT_S
            await asyncio.sleep(0.3)
        raise TimeoutError(f"delivery {delivery.number} found no door")

    async def load(self, seconds: float, rate: float) -> None:
        """New deliveries at a rate, one in ten redelivered some time later; those `redeliver` asks for meanwhile, too."""
        end = time.monotonic() + seconds
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:

            def deliver_later(delivery: Delivery) -> None:
                group.create_task(self.deliver(session, delivery, end + 60))

            self._deliver_later = deliver_later
            while time.monotonic() < end:
                deliver_later(self.new_delivery())
                if self.rng.random() < 0.1:
                    self.redeliver(1)
                await asyncio.sleep(1 / rate)
            self._deliver_later = None

    def redeliver(self, count: int) -> None:
        """So many old deliveries once more, any of those that were answered; none when the load is over."""
        if self._deliver_later is not None:
            for delivery in self.rng.choices(self.deliveries, k=count):
                if delivery.event_ids:
                    self._deliver_later(delivery)
