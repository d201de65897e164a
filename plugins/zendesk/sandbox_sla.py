"""The clocks of a small Zendesk: which targets a ticket has, and the metric events of its life. Pure but for the ids it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from plugins.sandbox.server import iso, now
from plugins.zendesk.sandbox_desk import SLA_POLICIES

Json = dict[str, Any]

EVENT_METRICS: Mapping[str, str] = {"first_reply_time": "reply_time", "requester_wait_time": "requester_wait_time"}
"""A policy's metric, as its events name it."""


def begin(ticket: Json, next_id: Callable[[], int]) -> None:
    """Starts the clocks of a new ticket, and applies the policy its priority falls under."""
    ticket["_events"] = [_event(ticket, metric, "activate", next_id) for metric in EVENT_METRICS.values()]
    _apply(ticket, next_id)


def follow(ticket: Json, changed: Mapping[str, Any], answered: bool, next_id: Callable[[], int]) -> None:
    """Moves the clocks on after an update; `answered` when an agent replied in public."""
    if "priority" in changed or "type" in changed:
        _apply(ticket, next_id)
    if answered and not _has(ticket, "reply_time", "fulfill"):
        ticket["_events"].append(_event(ticket, "reply_time", "fulfill", next_id))
    if "status" in changed:
        kind = {"pending": "pause", "hold": "pause", "solved": "fulfill", "closed": "fulfill"}.get(ticket["status"], "activate")
        ticket["_events"].append(_event(ticket, "requester_wait_time", kind, next_id))


def live(ticket: Mapping[str, Any]) -> Json:
    """What `include=slas` shows: each target with when it breaks and how long is left, in the largest unit that fits."""
    metrics = []
    for metric, minutes in _targets(ticket).items():
        last = [e["type"] for e in ticket["_events"] if e["metric"] == EVENT_METRICS[metric] and e["type"] != "apply_sla"][-1]
        stage = {"fulfill": "achieved", "pause": "paused"}.get(last, "active")
        ends = ticket["_created"] + minutes * 60_000_000
        left = (ends - now()) // 60_000_000
        unit, size = ("days", 1440) if abs(left) >= 1440 else ("hours", 60) if abs(left) >= 60 else ("minutes", 1)
        metrics.append({"breach_at": None if stage == "paused" else iso(ends), "stage": stage, "metric": metric, unit: int(left / size)})
    return {"policy_metrics": metrics}


def _targets(ticket: Mapping[str, Any]) -> dict[str, int]:
    if ticket["type"] != "incident":
        return {}
    return {m["metric"]: m["target"] for m in SLA_POLICIES[0]["policy_metrics"] if m["priority"] == ticket["priority"]}


def _apply(ticket: Json, next_id: Callable[[], int]) -> None:
    for metric, minutes in _targets(ticket).items():
        event = _event(ticket, EVENT_METRICS[metric], "apply_sla", next_id)
        policy = {"id": SLA_POLICIES[0]["id"], "title": SLA_POLICIES[0]["title"]}
        ticket["_events"].append({**event, "sla": {"target": minutes, "business_hours": False, "policy": policy}})


def _has(ticket: Mapping[str, Any], metric: str, kind: str) -> bool:
    return any(event["metric"] == metric and event["type"] == kind for event in ticket["_events"])


def _event(ticket: Mapping[str, Any], metric: str, kind: str, next_id: Callable[[], int]) -> Json:
    return {"id": next_id(), "ticket_id": ticket["id"], "metric": metric, "instance_id": 1, "type": kind, "time": iso(now())}
