"""What the loss test runs: `ai-agents up`, sandboxes with an index lag, one tenant that uses them all, and people who work in them."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import aiohttp
import yaml

from cli.sandboxed import start_all, tool_of
from plugins.registry import PluginRegistry
from plugins.sandbox.process import SandboxProcess
from streams.health import read_health
from streams.leash import leashed
from streams.runtime import Runtime, read_runtime
from streams.secrets.store import open_store
from streams.settings import Settings
from streams.tenants.apply import apply
from streams.tenants.config import parse
from tests.chaos.people import People
from tests.chaos.tenant import DRAWN, drawn, rules

INDEX_LAG_S = 1.0
SEARCH_LAG_S = 6.0
ROOT = Path(__file__).resolve().parents[2]


class World:
    """Everything of one run. `start` then `stop`; what it started it ends, and nothing else."""

    def __init__(self, folder: Path, seed: int, tools: int = DRAWN) -> None:
        self.settings = Settings(data_dir=folder / "data")
        self.folder = folder
        self.rng = random.Random(seed)
        self.ring = drawn(seed, tools)
        self.people = People(seed)
        self.sandboxes: dict[str, SandboxProcess] = {}
        self.extra: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    async def start(self) -> None:
        """Brings everything up and tells the door of the tenant."""
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.up = self._spawn(["--data-dir", str(self.settings.data_dir), "up", "--ephemeral-ports"], "up")
        self._stack.callback(self._end, self.up)
        started = await asyncio.to_thread(start_all, self._stack, self.ring, lambda tool_type: {"index_lag": INDEX_LAG_S})
        self.sandboxes = dict(zip(self.ring, started, strict=True))
        async with asyncio.timeout(120):
            while not self._all_run():
                if self.up.poll() is not None:
                    raise RuntimeError(f"up ended: {(self.folder / 'up.log').read_text()[-2000:]}")
                await asyncio.sleep(0.1)
        self.settings = replace(self.settings, brokers=self.runtime().brokers)
        manifests = {manifest.tool_type: manifest for manifest in PluginRegistry.discover().manifests()}
        await apply(self.settings.brokers, [parse(self._tenant(), "chaos.yaml", manifests)])
        told = await self.people.start(self._door)
        await self._known()
        for tool, sandbox in self.sandboxes.items():
            sandbox.set_webhook(f"{told}/{tool}")

    async def stop(self) -> None:
        """Ends everything."""
        await self.people.stop()
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
        store, registry = open_store(self.settings), PluginRegistry.discover()
        tools = {}
        for name, sandbox in self.sandboxes.items():

            def keep(key: str, value: str, name: str = name) -> str:
                store.put(f"chaos/{name}_{key}", value.encode(), keep_old=False)
                return "${secret:" + f"{name}_{key}" + "}"

            tools[name] = {**tool_of(sandbox, registry.manifest(sandbox.tool_type), keep), "search_lag": SEARCH_LAG_S}
        return yaml.safe_dump({"tenant": "chaos", "tools": tools, **rules(self.ring)}, sort_keys=False)

    async def _known(self) -> None:
        url = f"{self._door()}/{self.ring[-1]}"
        async with aiohttp.ClientSession() as session, asyncio.timeout(30):
            while True:
                async with session.post(url, data=b"{}") as answer:  # unsigned: 401 once the tenant is known
                    if answer.status == 401:
                        return
                await asyncio.sleep(0.1)

    def _door(self) -> str:
        return f"{self.runtime().ingestion_url}/webhooks/chaos"

    async def load(self, seconds: float, rate: float) -> None:
        """People at work in all tools."""
        await self.people.work({name: sandbox.base_url for name, sandbox in self.sandboxes.items()}, seconds, rate)
