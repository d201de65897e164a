"""The action `enrich`: what the source tool says of the ticket now, and what a CMDB or an asset register says of its devices.

The tool that tells devices is the source where it can, else the target. A source that cannot be asked (no address, no
credentials, no longer configured), or no longer has the ticket, is no failure: the delivery's own facts are written.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, Protocol

from plugins.api import DeviceContext, NotFound, PluginConfigError, TellsDevices, TicketingToolPlugin, TicketMetadata
from streams.attempts import CallFailed
from streams.written import context_text


class Read(Protocol):
    """A metered call without an effect, to either of the two tools; raises CallFailed."""

    def __call__(self, plugin: TicketingToolPlugin, method: str, *arguments: Any) -> Awaitable[Any]: ...


async def enriching_text(
    tool: str, told: TicketMetadata, source: TicketingToolPlugin | None, target: TicketingToolPlugin, target_ticket_id: str, read: Read
) -> str:
    """The note's text about the ticket that a delivery of `tool` told of. Raises CallFailed for what a later attempt may mend."""
    ticket = await _current(told, source, read)
    return context_text(tool, ticket, await _devices(ticket, source, target, target_ticket_id, read))


async def _current(told: TicketMetadata, source: TicketingToolPlugin | None, read: Read) -> TicketMetadata:
    """The ticket as it is now; what only the delivery knew is kept."""
    if source is None:
        return told
    try:
        now: TicketMetadata = await read(source, "get_ticket", told.ticket_id)
    except CallFailed as failed:
        if isinstance(failed.error, (NotFound, PluginConfigError)):
            return told
        raise
    return replace(now, device=now.device or told.device, sla_due_at=now.sla_due_at or told.sla_due_at, url=now.url or told.url)


async def _devices(
    ticket: TicketMetadata, source: TicketingToolPlugin | None, target: TicketingToolPlugin, target_ticket_id: str, read: Read
) -> DeviceContext | None:
    if isinstance(source, TellsDevices):
        teller, about = source, ticket
    elif isinstance(target, TellsDevices):
        teller = target
        linked: TicketMetadata = await read(target, "get_ticket", target_ticket_id)
        about = replace(linked, device=linked.device or ticket.device)
    else:
        return None
    try:
        context: DeviceContext | None = await read(teller, "device_context", about)
    except CallFailed as failed:
        if isinstance(failed.error, NotFound):
            return None
        raise
    return context
