"""Puts the door together and runs it: two ports, one process, a clean stop within seven seconds."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from schemas.codec import Codec
from streams.clock import Clock, SystemClock
from streams.control import publish_schemas
from streams.ingestion.admin import admin_app
from streams.ingestion.coalescer import Coalescer
from streams.ingestion.counts import Counts
from streams.ingestion.door import Door, Tools
from streams.ingestion.outlet import Outlet
from streams.ingestion.protocol import MAX_CONNECTIONS, DoorProtocol, sweep
from streams.ingestion.refused import set_aside
from streams.ingestion.spool import Record, Spool
from streams.ingestion.tools import ConfiguredTools
from streams.producer import StageProducer
from streams.security import client_options
from streams.settings import Settings
from streams.topics import COUNTS, DEAD_LETTER, RECEIVED

log = logging.getLogger("ai_agents.ingestion")

COUNT_SECONDS = 10.0
FINISH_REQUESTS_SECONDS = 3
FLUSH_SECONDS = 2.0


class PortTaken(Exception):
    """Another process listens there."""


class _Server(uvicorn.Server):
    """uvicorn's server; signals are this process's affair, not each server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def ingestion_dir(settings: Settings) -> Path:
    """Where this door keeps its spool and what it last knew."""
    return settings.data_dir / "ingestion" / settings.instance


class IngestionServer:
    """A running door. `crashed` ends when its shipping does, which it never should: restart the process then.

    Two doors of one data directory need two instances. Ports 0 are chosen by the system; `url` and `admin_url` tell.
    """

    def __init__(self, settings: Settings, tools: Tools, *, clock: Clock | None = None, **limits: int) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._codec = Codec()
        folder = ingestion_dir(settings)
        self._spool = Spool(folder / "spool", settings.spool_max_bytes)
        self._spool.open()
        self._outlet = Outlet(
            settings.brokers, [RECEIVED.name, COUNTS.name, DEAD_LETTER.name], client_options(settings.security), f"door-{settings.instance}"
        )
        aside = partial(set_aside, folder=folder / "refused", codec=self._codec, clock=self._clock)
        self._coalescer = Coalescer(self._outlet, self._spool, aside, ack_timeout=settings.ack_timeout, **limits)
        self._counts = Counts(settings.instance, self._clock.now())
        self._tools = tools
        self._door = Door(tools, self._coalescer, self._counts)
        self._running: list[tuple[_Server, asyncio.Task[None]]] = []  # the door, then the admin port
        self._background: list[asyncio.Task[None]] = []
        self.url = self.admin_url = ""
        self.crashed: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens. The broker need not be there. Raises PortTaken."""
        settings = self._settings
        door = _listen(settings.host, settings.port)
        try:
            admin = _listen(settings.host, settings.admin_port)
        except PortTaken:
            door.close()
            raise
        self.url, self.admin_url = _url(door), _url(admin)
        self.crashed = self._coalescer.start()
        server = await self._serve(self._door, door, http=DoorProtocol)
        await self._serve(admin_app(self._counts, self.state), admin)
        self._background = [asyncio.create_task(sweep(server.server_state.connections)), asyncio.create_task(self._count())]
        gc.collect()
        gc.freeze()  # what start built stays; collections look at requests only

    async def _serve(self, app: Any, listener: socket.socket, **options: Any) -> _Server:
        config = uvicorn.Config(
            app,
            loop="none",
            lifespan="off",
            ws="none",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=4096,
            timeout_graceful_shutdown=FINISH_REQUESTS_SECONDS,
            **({"http": "httptools"} | options),
        )
        server = _Server(config)
        self._running.append((server, asyncio.create_task(server.serve(sockets=[listener]))))
        while not server.started:  # noqa: ASYNC110 - uvicorn tells of its start by nothing but this flag
            await asyncio.sleep(0.005)
        return server

    async def stop(self) -> None:
        """Stops accepting, answers what is under way, writes the last counts, disconnects. What the broker lacks stays in the spool."""
        for server, running in self._running[:1]:
            server.should_exit = True
            await asyncio.wait([running], timeout=FINISH_REQUESTS_SECONDS + 1)
        for task in self._background:
            task.cancel()
        self._write_counts()
        await self._coalescer.close(FLUSH_SECONDS)
        for server, _ in self._running:
            server.should_exit = server.force_exit = True
        await asyncio.gather(*(task for _, task in self._running), *self._background, return_exceptions=True)

    def state(self) -> Mapping[str, Any]:
        """How the door is, for /health and /metrics."""
        spooling, room = self._coalescer.spooling, self._spool.has_room()
        source = self._tools.source
        return {
            "ready": source != "none" and (room or (self._outlet.connected and not spooling)),
            "way": "spool" if spooling else "broker",
            "broker_connected": self._outlet.connected,
            "broker_trouble": self._outlet.last_error,
            "spooling": spooling,
            "spool_records": self._spool.pending,
            "spool_bytes": self._spool.bytes,
            "spool_max_bytes": self._settings.spool_max_bytes,
            "spool_has_room": room,
            "spool_damaged_segments": self._spool.damaged,
            "pending_requests": self._coalescer.pending,
            "pending_bytes": self._coalescer.pending_bytes,
            "switches_to_spool": self._coalescer.switches,
            "tenants": source,
        }

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            self._write_counts()

    def _write_counts(self) -> None:
        """Sends the window's counts the way events go, spool included."""
        now = self._clock.now()
        for counts in self._counts.take(now):
            key = f"{counts.tenant}/{counts.tool}".encode()
            try:
                waiter = self._coalescer.offer(Record(COUNTS.name, key, self._codec.encode(counts), now // 1000))
            except Exception as exc:  # noqa: BLE001 - counts never stop the door
                log.warning("a window of counts is lost: %s", exc)
            else:
                waiter.add_done_callback(_counts_written)


def _counts_written(waiter: asyncio.Future[Any]) -> None:
    if not waiter.cancelled() and (exc := waiter.exception()) is not None:
        log.warning("a window of counts is lost: %s", exc)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise PortTaken(f"cannot listen on {host} port {port}: {exc.strerror}; choose another with --port and --admin-port") from exc
    listener.set_inheritable(False)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def allow_connections() -> None:
    """Raises this process's own limit of open files to what MAX_CONNECTIONS needs, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + 512
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


async def serve(settings: Settings, announce: Callable[[str, str], None]) -> None:
    """Runs the door for the configured tenants until SIGTERM or SIGINT; `announce(url, admin_url)` once it listens.

    Raises PortTaken, SpoolInUse, and RuntimeError when the shipping task fails, which only a fault of ours or a broken disk can do.
    """
    allow_connections()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    tools = ConfiguredTools(settings, ingestion_dir(settings))
    server = IngestionServer(settings, tools)
    await tools.start()
    schemas = asyncio.create_task(_publish(settings))
    try:
        await server.start()
        announce(server.url, server.admin_url)
        assert server.crashed is not None
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({stopped, server.crashed}, return_when=asyncio.FIRST_COMPLETED)
        if server.crashed.done():
            raise RuntimeError("the door can no longer make events durable") from server.crashed.exception()
    finally:
        schemas.cancel()
        await server.stop()
        await tools.stop()
        await asyncio.gather(schemas, return_exceptions=True)


async def _publish(settings: Settings) -> None:
    """Makes the schemas of this build known; waits for the broker as long as it takes."""
    producer = StageProducer(settings.brokers, client_options(settings.security), f"door-{settings.instance}-schemas")
    while True:
        try:
            await producer.start()
            await publish_schemas(producer, Codec())
        except Exception as exc:  # noqa: BLE001 - whatever it is, the next try may do; events can be decoded by whoever knows us
            log.info("schemas not published yet: %s", type(exc).__name__)
            await asyncio.sleep(5)
        else:
            return
        finally:
            await producer.stop()
