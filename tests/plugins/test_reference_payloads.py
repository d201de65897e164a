"""Every recorded body of the reference folder, tool by tool: a delivery names its ticket, an API answer is read or set aside, and
nothing raises anything but NotADelivery. `-s` prints what was read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from plugins.api import Delivery, NotADelivery, PluginContext, TicketingToolPlugin
from plugins.registry import PluginRegistry

REFERENCE = os.environ.get("AI_AGENTS_REFERENCE")
pytestmark = pytest.mark.skipif(REFERENCE is None, reason="AI_AGENTS_REFERENCE names no folder of recorded payloads")

DELIVERIES = {
    "cherwell": ("save_response_*", "get_business_object_gocherwell*", "save_related_*", "r7_*_incident_success*"),
    "freshdesk": ("webhook_*",),
    "freshservice": ("webhook_*",),
    "jira": ("*webhook*",),
    "servicedesk_plus": ("custom_*", "v1_*", "v3_*"),
    "servicenow": ("mattermost_*", "wrapped_*", "hmac_*", "change_*", "approval_*", "whole_record_*"),
    "sysaid": ("xsoar_update_request*",),
    "topdesk": ("webhook_*",),
    "zendesk": ("dust_ticket_*", "trigger_full*", "trigger_minimal*"),
}
"""Bodies that are deliveries, or that the tool's rules can be made to send (Cherwell and SysAid have no webhook of their own)."""
NO_DELIVERY = {
    "freshdesk/app_event_onTicketCreate.json": "trimmed at its source: the ticket in it has no id",
    "zendesk/docs_user_active_changed.json": "an event of a user, not of a ticket",
    "zendesk/trigger_templates.json": "templates of three receivers, not what they render to",
    "zendesk/schema_chainguard_*": "columns of a database",
    "topdesk/helloid_*": "templates of changes, for a write",
    "cherwell/save_incident_request.json": "a request to create: nothing has an id yet",
}
"""What stands beside the deliveries, has their look, and names no ticket."""


def bodies(tool: str) -> Iterator[Path]:
    folder = Path(str(REFERENCE)) / "payloads" / tool
    yield from sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SOURCES.md")


def is_delivery(tool: str, path: Path) -> bool:
    return path.parent.name == tool and any(fnmatch(path.name, form) for form in DELIVERIES[tool])


def a_plugin(tool: str) -> TicketingToolPlugin:
    def no_http() -> Any:
        raise AssertionError("a body is read without a call")

    context = PluginContext(tenant="acme", tool=tool, settings={}, secrets=lambda reference: (), http=no_http)
    return PluginRegistry.discover().get(tool)(context)


def test_every_folder_is_of_a_tool_and_every_tool_has_one() -> None:
    """A tool whose deliveries were never tried would pass unseen."""
    folders = {path.name for path in (Path(str(REFERENCE)) / "payloads").iterdir() if path.is_dir()}
    assert folders == set(DELIVERIES) == {manifest.tool_type for manifest in PluginRegistry.discover().manifests()}


@pytest.mark.parametrize("tool", sorted(DELIVERIES))
def test_each_delivery_names_its_ticket_and_nothing_else_raises(tool: str) -> None:
    """Whatever a body is, it is a ticket or a dead letter with its reason; a delivery is a ticket, under the same key."""
    plugin, lost, parted, read, aside = a_plugin(tool), [], [], 0, 0
    for path in bodies(tool):
        delivery = Delivery(tenant="acme", tool=tool, body=path.read_bytes(), headers={}, content_type="application/json")
        key = plugin.ticket_key(delivery)
        try:
            ticket = plugin.extract_metadata(delivery)
        except NotADelivery as exc:
            aside += 1
            if is_delivery(tool, path):
                lost.append(f"{path.name}: {exc}")
            continue
        read += 1
        assert ticket.ticket_id, path.name
        if key != ticket.ticket_id:
            parted.append(f"{path.name}: key {key}, ticket {ticket.ticket_id}")
        if is_delivery(tool, path):
            what = (ticket.type.value, ticket.priority.value, ticket.status.value, ticket.change.value, ticket.subject[:40])
            print(f"{tool}/{path.name}: {ticket.ticket_id}", *what, sep=" | ")
    print(f"{tool}: {read} read, {aside} set aside")
    assert (lost, parted) == ([], [])


def test_what_is_set_aside_beside_the_deliveries_is_told_why() -> None:
    """A new recorded body that is not read is looked at by somebody, not passed over."""
    unexplained = []
    for tool in DELIVERIES:
        plugin = a_plugin(tool)
        for path in bodies(tool):
            name = f"{tool}/{path.name}"
            if path.parent.name != tool or path.name.startswith(("r7_", "xsoar_", "pyfd_", "hull_", "docs_login", "v2_")):
                continue  # answers of an API, as their names and SOURCES.md say
            try:
                plugin.extract_metadata(Delivery(tenant="acme", tool=tool, body=path.read_bytes(), headers={}))
            except NotADelivery:
                if not any(fnmatch(name, form) for form in NO_DELIVERY):
                    unexplained.append(name)
    assert unexplained == []


# --- unseen ones ---------------------------------------------------------------------------------------------------------

UNSEEN: dict[str, tuple[tuple[Any, str, str], ...]] = {
    "cherwell": (
        ({"IncidentID": "102", "Status": "Resolved", "Priority": 1}, "102", "unknown"),
        ({"Incident": {"IncidentID": 102, "Status": None}}, "102", "unknown"),
        ({"ticket_id": "102"}, "102", "unknown"),
    ),
    "freshdesk": (
        ({"event": "onTicketCreate", "data": {"ticket": {"id": 7, "status": "2"}}, "timestamp": 1636116313.97}, "7", "created"),
        ({"freshdesk_webhook": {"ticket_id": "7", "triggered_event": "{status:{from:2,to:5}}"}}, "7", "resolved"),
        ({"freshdesk_webhook": {"ticket_id": 7, "triggered_event": None, "ticket_status": None, "ticket_tags": []}}, "7", "unknown"),
        ({"ticket": {"display_id": "7"}}, "7", "unknown"),
    ),
    "freshservice": (
        ({"event": "onTicketUpdate", "data": {"ticket": {"id": 5, "status": "3", "priority": "2"}}}, "5", "updated"),
        ({"freshservice_webhook": {"event": "ticket_created", "ticket_id": "INC-5", "ticket_priority": "Urgent"}}, "5", "created"),
        ({"event": "change_updated", "change_id": "CHN-4"}, "CHN-4", "updated"),
        ({"ticket_id": None, "ticket": {"id": "5", "tags": None}}, "5", "updated"),
    ),
    "jira": (
        (
            {"webhookEvent": "jira:issue_created", "issue": {"id": 10001, "key": "A-1", "fields": None}, "timestamp": "1"},
            "10001",
            "created",
        ),
        ({"webhookEvent": "issuelink_created", "issueLink": {"sourceIssueId": 10001}}, "10001", "updated"),
        ({"webhookEvent": "worklog_created", "worklog": {"issueId": "10001"}}, "10001", "updated"),
        ({"id": "10001", "key": "A-1", "fields": {"summary": "s", "priority": None}}, "10001", "unknown"),
    ),
    "servicedesk_plus": (
        ({"request": {"id": 201, "status": "Closed", "priority": None}}, "201", "resolved"),
        ({"data": {"request": {"id": "201"}}, "event": "created"}, "201", "created"),
        ({"WORKORDERID": "201", "STATUS": "Open"}, "201", "unknown"),
        ({"requestId": 201}, "201", "unknown"),
    ),
    "servicenow": (
        ({"records": [{"sys_id": "a" * 32, "number": "INC0010043"}], "event": "insert"}, "a" * 32, "created"),
        (
            {"sys_id": {"value": "a" * 32, "display_value": "x"}, "state": {"value": "2", "display_value": "In Progress"}},
            "a" * 32,
            "unknown",
        ),
        ({"task_number": "SCTASK0010043", "operation": "delete"}, "SCTASK0010043", "deleted"),
    ),
    "sysaid": (
        ({"event": "sr.updated", "data": {"sr": {"id": 25}}}, "25", "updated"),
        ({"eventType": "sr.created", "data": {"id": 25, "status": {"id": 1, "name": "New"}}}, "25", "created"),
        ({"event": "sr_escalated", "sr_id": "25", "priority": None}, "25", "updated"),
    ),
    "topdesk": (
        ({"number": "I 2301 103", "status": None, "processingStatus": {"name": "Gesloten"}}, "I 2301 103", "unknown"),
        ({"event": "wijziging.aangemaakt", "wijziging": {"nummer": "W 2301 004"}}, "W 2301 004", "created"),
        ({"ticket_id": "I 2301 103"}, "I 2301 103", "unknown"),
    ),
    "zendesk": (
        ({"type": "zen:event-type:ticket.created", "subject": "zen:ticket:9", "detail": None, "event": None}, "9", "created"),
        ({"type": "zen:event-type:ticket.of_tomorrow", "detail": {"id": 9, "tags": None}}, "9", "unknown"),
        ({"ticket": {"id": 9, "title": "x", "status": None}, "event": "created"}, "9", "created"),
        ({"ticketID": "9"}, "9", "unknown"),
    ),
}
"""Shapes of each tool's sheet that no recorded body has: numbers as text, null, nested or flat, other kinds of events."""


@pytest.mark.parametrize(("tool", "body", "ticket_id", "change"), [(tool, *row) for tool, rows in UNSEEN.items() for row in rows])
def test_shapes_nobody_recorded_are_read(tool: str, body: Any, ticket_id: str, change: str) -> None:
    """What an admin or a new version sends is read by its sense, not by its exact shape."""
    import msgspec

    raw = msgspec.json.encode(body)
    for content, kind in (
        (raw, "application/json"),
        (b"\xef\xbb\xbf" + raw, "text/plain"),
        (b" " + raw, "application/x-www-form-urlencoded"),
    ):
        delivery = Delivery(tenant="acme", tool=tool, body=content, headers={}, content_type=kind)
        ticket = a_plugin(tool).extract_metadata(delivery)
        assert (ticket.ticket_id, ticket.change.value) == (ticket_id, change)
        assert a_plugin(tool).ticket_key(delivery) == ticket_id
