"""What a stage follows on the control topics: tenants with their plugins, links, and the schemas of other builds' writers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from plugins.manager import PluginManager
from plugins.registry import PluginRegistry
from schemas.codec import Codec
from schemas.events import Event, LinkSet, SchemaPublished, TenantConfigured
from streams import topics
from streams.control import ControlReader, publish_schemas
from streams.links import LinkTable
from streams.producer import StageProducer
from streams.secrets.store import open_store, resolver
from streams.settings import Settings
from streams.tenants.registry import TenantRegistry

CAUGHT_UP_SECONDS = 120.0


class Following:
    """The tables of one process, from its start on; read to the end again by `caught_up`."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        secrets = open_store(settings)
        self.codec = codec
        self.tenants = TenantRegistry()
        self.links = LinkTable()
        self.plugins = PluginManager(PluginRegistry.discover(), self.tenants.binding, lambda tenant: resolver(secrets, tenant))
        followed = [topics.TENANTS.name, topics.SCHEMAS.name, topics.LINKS.name]
        self._reader = ControlReader(settings.brokers, followed, self._on_event, codec, settings.security)
        self._learnt = asyncio.Event()

    async def start(self, producer: StageProducer) -> None:
        """Makes our own schemas known, then begins to read."""
        await publish_schemas(producer, self.codec)
        await self._reader.start()

    async def caught_up(self) -> None:
        """Returns when everything written before this call is in the tables; raises TimeoutError when that takes two minutes."""
        await self._reader.caught_up(CAUGHT_UP_SECONDS)

    async def stop(self) -> None:
        """Reads no more and closes the plugins."""
        await self._reader.stop()
        await self.plugins.aclose()

    def check(self, alarm: Callable[[str], None]) -> None:
        """Alarms records that cannot be read; raises RuntimeError when nothing is followed any more."""
        if self._reader.failed:
            raise RuntimeError("the control topics are not followed any more; its cause is in the log above")
        if self._reader.held:
            alarm("control records wait for their writer's schema; tenants or links of a newer build are not in force here")
        if self._reader.undecodable:
            alarm("a control topic holds bytes that are no event; they are passed over: ai-agents topics tail shows them")

    async def learnt(self, fingerprint: bytes) -> None:
        """Returns when records with this schema fingerprint can be decoded."""
        while not self.codec.knows(fingerprint):
            self._learnt.clear()
            await self._learnt.wait()

    def _on_event(self, topic: str, partition: int, offset: int, key: bytes | None, event: Event) -> None:
        match event:
            case LinkSet():
                self.links.apply(event)
            case TenantConfigured():
                self.tenants.apply(event)
            case SchemaPublished():
                self._learnt.set()
