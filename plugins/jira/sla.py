"""A request's clocks: as the service desk API tells them, and as custom fields of the issue show them. Pure.

Both have the same cycles: at most one that runs, and those that ended; what an SLA is due at stands in the one that runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugins.capabilities import SlaTarget
from plugins.mapping import to_micros, to_text


def sla_target(clock: Mapping[str, Any]) -> SlaTarget:
    """One SLA with all its cycles as one target: the cycle that runs, else the last that ended."""
    running, ended = clock.get("ongoingCycle"), clock.get("completedCycles")
    last = ended[-1] if isinstance(ended, list) and ended and isinstance(ended[-1], dict) else {}
    cycle = running if isinstance(running, dict) else last
    return SlaTarget(
        name=to_text(clock.get("name")),
        due_at=_moment(cycle.get("breachTime")),
        completed_at=None if isinstance(running, dict) else _moment(last.get("stopTime")),
        breached=cycle.get("breached") is True,
        paused=cycle.get("paused") is True,
    )


def next_breach(fields: Mapping[str, Any]) -> int | None:
    """When the first SLA that runs breaks, from an issue's fields; None where none does, or the site shows none."""
    first: int | None = None
    for name, value in fields.items():
        if type(value) is not dict or not name.startswith("customfield_"):
            continue
        running = value.get("ongoingCycle")
        if type(running) is dict and running.get("paused") is not True and (at := _moment(running.get("breachTime"))) is not None:
            first = at if first is None else min(first, at)
    return first


def _moment(value: Any) -> int | None:
    """A time of the service desk API: an object that says it in several ways."""
    if not isinstance(value, dict):
        return None
    return to_micros(value.get("epochMillis")) or to_micros(value.get("iso8601"))
