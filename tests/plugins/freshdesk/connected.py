"""The real plugin against its sandbox in another process, for the tests here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from plugins.api import NewTicket, PluginContext, Priority, TicketType
from plugins.freshdesk.plugin import FreshdeskPlugin
from plugins.http.client import ApiClient
from plugins.sandbox.process import SandboxProcess
from schemas.ids import external_id, new_event_id


@asynccontextmanager
async def connected(sandbox: SandboxProcess, **settings: Any) -> AsyncIterator[FreshdeskPlugin]:
    """A plugin bound to the sandbox; each has a client of its own, so that no rate limit is carried over."""
    client = ApiClient()
    known = {
        "base_url": sandbox.base_url,
        "auth": sandbox.credentials["auth"],
        "actor": sandbox.credentials["actor"],
        "webhook": sandbox.webhook,
        **settings,
    }
    yield FreshdeskPlugin(
        PluginContext(tenant="acme", tool="desk", settings=known, secrets=lambda reference: [reference.encode()], http=lambda: client)
    )
    await client.aclose()


def a_ticket(**fields: Any) -> NewTicket:
    event_id = new_event_id()
    usual = {
        "subject": "Gate 2 does not open",
        "description": "It **clicks** & stays shut.",
        "type": TicketType.INCIDENT,
        "priority": Priority.HIGH,
        "external_id": external_id(f"acme/desk/{event_id}", "target"),
        "event_id": event_id,
    }
    return NewTicket(**{**usual, **fields})
