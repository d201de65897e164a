"""This program's own processes as children: the door and the stages, and how each is known to be up."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from streams.child_processes import CommandChild
from streams.health import read_health
from streams.ports import LOOPBACK
from streams.settings import Settings

_FRESH_S = 15.0
_WORKING = ("running", "idle", "paused")
Echo = Callable[[str, str], None]
"""Called with a child's name and a line it printed."""


def program(settings: Settings, name: str, *arguments: str, is_ready: Callable[[int], Awaitable[bool]], echo: Echo | None) -> CommandChild:
    """A child that runs this program with these arguments on the same data, brokers and store.

    Those travel in the environment: a store's URL may hold a password, and command lines are for all to read.
    """
    env = {"AI_AGENTS_DATA_DIR": str(settings.data_dir), "AI_AGENTS_BROKERS": settings.brokers, "AI_AGENTS_STORE": settings.store_url}
    root = Path(__file__).resolve().parent.parent
    if (root / "pyproject.toml").exists():  # a checkout, perhaps not installed
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    # -P: the folder we are started in may have a `schemas` of its own
    argv = [sys.executable, "-P", "-m", "cli.main", *arguments]
    return CommandChild(name, argv, is_ready, settings.data_dir / "logs", env, echo)


def stage_child(settings: Settings, stage: str, *arguments: str, echo: Echo | None) -> CommandChild:
    """A stage (route, process, materialize) as a child; ready when its health file says that it has its partitions."""

    async def is_ready(pid: int) -> bool:
        oldest = (time.time() - _FRESH_S) * 1e6
        return any(h.pid == pid and h.state in _WORKING and h.at > oldest for h in read_health(settings.data_dir))

    name = stage if settings.instance == "0" else f"{stage}-{settings.instance}"
    return program(settings, name, *arguments, "--instance", settings.instance, is_ready=is_ready, echo=echo)


def door_child(settings: Settings, *arguments: str, host: str, port: int, admin_port: int, echo: Echo | None) -> CommandChild:
    """The webhook door as a child; up when its admin port answers, whether or not the broker is there: it has its spool."""

    async def is_ready(_pid: int) -> bool:
        return await answers(admin_port, "/health")

    where = ["--host", host, "--port", str(port), "--admin-port", str(admin_port)]
    return program(settings, "ingestion", "serve", *where, *arguments, is_ready=is_ready, echo=echo)


async def answers(port: int, path: str, timeout: float = 1.0) -> bool:
    """Whether a GET on this machine is answered with 200; a few lines of HTTP, since an HTTP client costs more to import."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
