"""A running door for tests, and deliveries signed as Zendesk signs them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from plugins.api import TicketingToolPlugin
from plugins.manager import PluginManager, ToolBinding
from plugins.registry import PluginRegistry
from streams.ingestion.server import IngestionServer
from streams.settings import Settings

SECRET = "hook-secret-of-a-test"
TOOL = "desk"


class FixedTools:
    """One tenant, `desk` a Zendesk, `odd` one whose settings cannot verify, `here` and `elsewhere` bound to addresses."""

    source = "live"

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self._manager = PluginManager(PluginRegistry.discover(), self._binding, lambda _: lambda reference: (reference.encode(),))

    def _binding(self, tenant: str, tool: str, at: int) -> ToolBinding | None:
        webhooks: dict[str, dict[str, Any]] = {
            TOOL: {"secret": SECRET},
            "odd": {},
            "here": {"secret": SECRET, "addresses": ["127.0.0.1"]},
            "elsewhere": {"secret": SECRET, "addresses": ["198.51.100.0/24"]},
        }
        if tenant != self.tenant or tool not in webhooks:
            return None
        return ToolBinding(tenant=tenant, tool=tool, tool_type="zendesk", settings={"webhook": webhooks[tool]}, version=1)

    def plugin(self, tenant: str, tool: str, at: int) -> TicketingToolPlugin | None:
        return self._manager.peek(tenant, tool, at)

    def is_tenant(self, tenant: str, at: int) -> bool:
        return tenant == self.tenant


@asynccontextmanager
async def running_door(brokers: str, data_dir: Path, tenant: str, **options: Any) -> AsyncIterator[IngestionServer]:
    """A door on free ports; settings and limits may be given by name."""
    limits = {name: options.pop(name) for name in ("max_pending", "max_pending_bytes") if name in options}
    settings = Settings(data_dir=data_dir, brokers=brokers, port=0, admin_port=0, **options)
    server = IngestionServer(settings, FixedTools(tenant), **limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def until_direct(server: IngestionServer) -> None:
    """Returns when new events go straight to the broker."""
    async with asyncio.timeout(90), httpx.AsyncClient() as client:
        while (await client.get(server.admin_url + "/health")).json()["way"] != "broker":
            await asyncio.sleep(0.02)


def a_body(ticket: int, number: int = 0, padding: int = 0) -> bytes:
    """A Zendesk event about a ticket; `number` makes the delivery's id."""
    return json.dumps(
        {
            "type": "zen:event-type:ticket.priority_changed",
            "id": f"00000000-0000-4000-8000-{number:012d}",
            "subject": f"zen:ticket:{ticket}",
            "time": "2026-03-01T10:00:00Z",
            "zendesk_event_version": "2022-11-06",
            "detail": {"id": str(ticket), "priority": "URGENT", "subject": "Printer on fire", "description": "x" * padding},
            "event": {"current": "URGENT", "previous": "HIGH"},
        }
    ).encode()


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The headers Zendesk sends with this body."""
    timestamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = hmac.new(secret.encode(), timestamp.encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "x-zendesk-webhook-signature": base64.b64encode(digest).decode(),
        "x-zendesk-webhook-signature-timestamp": timestamp,
        "x-zendesk-webhook-invocation-id": "01HINVOCATION",
        "authorization": "Bearer never-kept",
    }
