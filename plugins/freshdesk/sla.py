"""The clocks Freshdesk runs on a ticket: first response, next response, resolution. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugins.api import SlaTarget, TicketStatus
from plugins.mapping import to_micros

CLOCKS = (
    ("first response", "fr_due_by", ("first_responded_at", "agent_responded_at"), "fr_escalated"),
    ("next response", "nr_due_by", (), "nr_escalated"),
    ("resolution", "due_by", ("resolved_at", "closed_at"), "is_escalated"),
)
"""Name, when it is due, where `stats` tells that it was met, and the flag of its breach."""


def targets_of(ticket: Mapping[str, Any], status: TicketStatus) -> tuple[SlaTarget, ...]:
    """The clocks with a due time. Those still running are shown paused while the ticket waits, as the stock policy has it."""
    stats = ticket.get("stats")
    stats = stats if isinstance(stats, dict) else {}
    found = []
    for name, due, met, flag in CLOCKS:
        due_at = to_micros(ticket.get(due))
        if due_at is None:
            continue
        completed_at = next((at for at in (to_micros(stats.get(key)) for key in met) if at is not None), None)
        late = completed_at is not None and completed_at > due_at
        found.append(
            SlaTarget(
                name=name,
                due_at=due_at,
                completed_at=completed_at,
                breached=ticket.get(flag) is True or late,
                paused=completed_at is None and status is TicketStatus.PENDING,
            )
        )
    return tuple(found)
