"""What the scripts on a small ServiceNow send: the body the README recommends, and a subscription's flat body in display words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plugins.servicenow.sandbox_schema import LABELS, a_sys_id

Shown = Mapping[str, Any]
LABELLED = ("state", "priority", "assigned_to", "assignment_group", "cmdb_ci")
"""The columns whose labels are sent."""


def recommended(row: Shown, labels: Shown, event: str, changed: Sequence[str], comment: tuple[str, bool] | None, delivery_id: str) -> Any:
    """The README's business rule, run: raw values, and labels where people read them."""
    body = {
        "event": f"{row['_table']}.{event}",
        "delivery_id": delivery_id,
        "table": row["_table"],
        "sys_id": row["sys_id"],
        "number": row["number"],
        "state": row.get("state", ""),
        "state_label": labels.get("state", ""),
        "priority": row.get("priority", ""),
        "short_description": row.get("short_description", ""),
        "description": row.get("description", ""),
        "caller_id": row.get("caller_id") or row.get("requested_by") or row.get("opened_by", ""),
        "assigned_to": row.get("assigned_to", ""),
        "cmdb_ci": row.get("cmdb_ci", ""),
        "cmdb_ci_name": labels.get("cmdb_ci", ""),
        "correlation_id": row.get("correlation_id", ""),
        "sla_due": row.get("sla_due", ""),
        "sys_created_on": row["sys_created_on"],
        "sys_updated_on": row["sys_updated_on"],
        "sys_mod_count": row["sys_mod_count"],
        "updated_by": row["sys_updated_by"],
        "changed": list(changed),
    }
    if comment is not None:
        body.update({"comment": comment[0], "comment_public": comment[1]})
    return body


def subscription(row: Shown, labels: Shown, event: str, changed: Sequence[str]) -> Any:
    """A chat application's subscription: display words, and `sys_id` is the subscription's own."""
    occurred = {"created": "created", "commented": "commented"}.get(event) or next(
        (n for n in ("state", "priority") if n in changed), "state"
    )
    return {
        "sys_id": a_sys_id("subscription", str(row["_table"])),
        "record_id": row["sys_id"],
        "number": row["number"],
        "short_description": row.get("short_description", ""),
        "state": labels.get("state", ""),
        "priority": labels.get("priority", ""),
        "assigned_to": labels.get("assigned_to", ""),
        "assignment_group": labels.get("assignment_group", ""),
        "record_type": row["_table"],
        "record_type_name": LABELS.get(str(row["_table"]), ""),
        "event_occurred": occurred,
        "subscription_events": "created,state,priority,commented",
    }
