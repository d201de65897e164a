"""The configured tenants as the door knows them: followed on tenants.v1, and kept on disk for a start while the broker is away."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from struct import Struct
from struct import error as StructError

from plugins.api import PluginConfigError, TicketingToolPlugin
from plugins.manager import PluginManager
from plugins.registry import PluginRegistry
from schemas.codec import Codec, CodecError
from schemas.events import Event, TenantConfigured
from streams.control import ControlReader
from streams.secrets.store import open_store, resolver
from streams.settings import Settings
from streams.tenants.registry import TenantRegistry
from streams.topics import SCHEMAS, TENANTS

log = logging.getLogger("ai_agents.ingestion")

SAVE_SECONDS = 1.0
_LENGTH = Struct("<I")


class LastKnown:
    """The tenants' configurations as last read, in one file. They hold secret references, no secrets. A broken file counts as none."""

    def __init__(self, path: Path, codec: Codec) -> None:
        self._path = path
        self._codec = codec

    def load(self) -> list[TenantConfigured]:
        """What was saved; empty when nothing was, or when it cannot be read."""
        found = []
        try:
            data, at = self._path.read_bytes(), 0
            while at < len(data):
                (length,) = _LENGTH.unpack_from(data, at)
                found.append(self._codec.decode_as(TenantConfigured, data[at + _LENGTH.size : at + _LENGTH.size + length]))
                at += _LENGTH.size + length
        except FileNotFoundError:
            return []
        except (OSError, CodecError, StructError) as exc:
            log.warning("the last known tenants cannot be read (%s); waiting for the broker's", type(exc).__name__)
            return []
        return found

    def save(self, events: Iterable[TenantConfigured]) -> None:
        """Replaces the file at once."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for event in events:
                data = self._codec.encode(event)
                file.write(_LENGTH.pack(len(data)) + data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)


class ConfiguredTools:
    """Implements the door's `Tools`."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        store = open_store(settings)
        self._codec = Codec()
        self._tenants = TenantRegistry()
        self._plugins = PluginRegistry.discover()
        self._manager = PluginManager(self._plugins, self._tenants.binding, lambda tenant: resolver(store, tenant))
        self._reader = ControlReader(settings.brokers, [TENANTS.name, SCHEMAS.name], self._on_event, self._codec, settings.security)
        self._last_known = LastKnown(folder / "tenants.cache", self._codec)
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.source = "none"

    async def start(self) -> None:
        """Takes what is on disk and begins to follow; returns at once."""
        for event in self._last_known.load():
            self._tenants.apply(event)
            self.source = "last known"
        await self._warm()
        await self._reader.start()
        self._tasks = [asyncio.create_task(self._catch_up()), asyncio.create_task(self._keep_on_disk())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reader.stop()
        await self._manager.aclose()

    def plugin(self, tenant: str, tool: str, at: int) -> TicketingToolPlugin | None:
        return self._manager.peek(tenant, tool, at)

    def is_tenant(self, tenant: str, at: int) -> bool:
        return self._tenants.at(tenant, at) is not None

    def _on_event(self, topic: str, partition: int, offset: int, key: bytes | None, event: Event) -> None:
        if isinstance(event, TenantConfigured):
            self._tenants.apply(event)
            self._changed.set()

    async def _catch_up(self) -> None:
        while self.source != "live":
            try:
                await self._reader.caught_up(60)
            except TimeoutError:
                log.warning("tenants are not read from the broker yet; using: %s", self.source)
            else:
                await self._warm()
                self.source = "live"

    async def _warm(self) -> None:
        """Imports the code of every tool in use, off the loop, so that no first delivery waits for it."""
        newest = [records[-1] for tenant in self._tenants.tenants() if (records := self._tenants.records(tenant))]
        versions = [version for record in newest if (version := self._tenants.at(record.tenant, record.effective_at)) is not None]
        for tool_type in {binding.tool_type for version in versions for binding in version.bindings.values()}:
            try:
                await asyncio.to_thread(self._plugins.get, tool_type)
            except PluginConfigError as exc:
                log.error("deliveries of tool type %s cannot be verified: %s", tool_type, exc)

    async def _keep_on_disk(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(SAVE_SECONDS)  # what comes together is written together
            self._changed.clear()
            events = [record for tenant in self._tenants.tenants() for record in self._tenants.records(tenant)]
            try:
                await asyncio.to_thread(self._last_known.save, events)
            except OSError as exc:
                log.warning("the tenants could not be kept on disk: %s", exc)
