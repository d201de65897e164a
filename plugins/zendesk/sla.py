"""A ticket's clocks, from what Zendesk shows beside it: `slas` inside the ticket, and the metric events of its life. Pure.

`slas.policy_metrics` has each target's stage, when it breaks and how much is left; only the events say when one was met or broken.
Events name a metric more broadly than policies do: https://developer.zendesk.com/rest_api/docs/support/ticket_metric_events
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from plugins.capabilities import SlaTarget
from plugins.mapping import to_micros, to_text

EVENT_METRICS: Mapping[str, str] = {
    "first_reply_time": "reply_time",
    "next_reply_time": "reply_time",
    "total_resolution_time": "resolution_time",
}
"""Policy metrics whose events have another name; the others keep theirs."""
MAX_TARGETS = 50


def sla_targets(ticket: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> tuple[SlaTarget, ...]:
    """Each target of the ticket, in Zendesk's order; `completed_at` and a past breach as far as the events tell."""
    met: dict[str, int] = {}
    broken: set[str] = set()
    for event in events:
        metric, at = to_text(event.get("metric")), to_micros(event.get("time"))
        if event.get("type") == "fulfill" and at is not None:
            met[metric] = at
        elif event.get("type") == "breach" and event.get("deleted") is not True:
            broken.add(metric)
    return tuple(_target(metric, met, broken) for metric in _policy_metrics(ticket)[:MAX_TARGETS])


def next_breach(ticket: Mapping[str, Any]) -> int | None:
    """When the first target that still runs breaks; None when none does, or the account tells no clocks."""
    running = [to_micros(metric.get("breach_at")) for metric in _policy_metrics(ticket) if metric.get("stage") != "achieved"]
    return min((at for at in running if at is not None), default=None)


def _target(metric: Mapping[str, Any], met: Mapping[str, int], broken: set[str]) -> SlaTarget:
    name, stage = to_text(metric.get("metric")), metric.get("stage")
    as_event = EVENT_METRICS.get(name, name)
    left = next((metric[unit] for unit in ("minutes", "hours", "days") if isinstance(metric.get(unit), int)), 0)
    return SlaTarget(
        name=name,
        due_at=to_micros(metric.get("breach_at")),
        completed_at=met.get(as_event) if stage == "achieved" else None,
        breached=as_event in broken or (left < 0 and stage != "achieved"),
        paused=stage == "paused",
    )


def _policy_metrics(ticket: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    slas = ticket.get("slas")
    metrics = slas.get("policy_metrics") if isinstance(slas, dict) else None
    return [metric for metric in metrics if isinstance(metric, dict)] if isinstance(metrics, list) else []
