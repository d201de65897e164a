"""The tables of a small ServiceNow as data: which derive from which, their columns, references and choices, and who is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import md5
from typing import Any


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PARENT: Mapping[str, str] = {
    **dict.fromkeys(
        ("incident", "change_request", "problem", "sc_request", "sc_req_item", "sc_task", "change_task", "problem_task", "sn_si_incident"),
        "task",
    ),
    "cmdb_ci_server": "cmdb_ci",
    "cmdb_ci_linux_server": "cmdb_ci_server",
    "cmdb_ci_database": "cmdb_ci",
    "cmdb_ci_service": "cmdb_ci",
    "cmdb_ci_service_auto": "cmdb_ci_service",
}
SYSTEM = ("sys_id", "sys_created_on", "sys_created_by", "sys_updated_on", "sys_updated_by", "sys_mod_count", "sys_tags")
JOURNALS = frozenset({"comments", "work_notes"})
OWN_COLUMNS: Mapping[str, Sequence[str]] = {
    "task": _words(
        "number short_description description state priority impact urgency assigned_to assignment_group opened_by opened_at closed_at "
        "closed_by close_notes active approval cmdb_ci business_service comments work_notes correlation_id correlation_display due_date "
        "sla_due made_sla parent sys_class_name sys_domain watch_list contact_type escalation upon_reject"
    ),
    "incident": _words(
        "caller_id category subcategory incident_state severity close_code hold_reason resolved_at resolved_by problem_id rfc caused_by "
        "reopen_count u_site u_floor u_vip u_tags u_sealed"
    ),
    "change_request": _words(
        "type risk requested_by start_date end_date close_code reason implementation_plan backout_plan test_plan phase"
    ),
    "change_task": ["change_request", "change_task_type"],
    "problem": _words("resolution_code cause_notes fix_notes problem_state known_error"),
    "problem_task": ["problem"],
    "sc_request": ["requested_for", "request_state"],
    "sc_req_item": ["request", "requested_for", "cat_item", "quantity", "stage"],
    "sc_task": ["request_item", "request"],
    "sn_si_incident": ["affected_user"],
    "sys_user": _words("user_name name first_name last_name email active title phone department location"),
    "sys_user_group": ["name", "active"],
    "sys_journal_field": ["name", "element", "element_id", "value"],
    "sys_attachment": _words(
        "file_name content_type size_bytes size_compressed table_name table_sys_id state hash compressed image_width image_height "
        "average_image_color chunk_size_bytes download_link"
    ),
    "sys_dictionary": ["name", "element", "column_label", "internal_type"],
    "sys_choice": ["name", "element", "label", "value", "language", "inactive"],
    "cmdb_ci": _words(
        "name sys_class_name operational_status install_status serial_number asset_tag ip_address location owned_by assigned_to "
        "support_group short_description discovery_source"
    ),
    "cmdb_ci_server": ["os", "ram", "cpu_count"],
    "cmdb_ci_linux_server": ["kernel_release"],
    "cmdb_ci_service": ["busines_criticality", "used_for"],
    "cmdb_rel_ci": ["parent", "child", "type"],
    "cmdb_rel_type": ["name", "parent_descriptor", "child_descriptor"],
    "task_ci": ["task", "ci_item"],
    "task_sla": _words("task sla stage has_breached start_time end_time planned_end_time business_percentage business_time_left"),
    "contract_sla": ["name"],
}
REFERENCES: Mapping[str, str] = {
    **dict.fromkeys(
        ("caller_id", "assigned_to", "opened_by", "closed_by", "resolved_by", "requested_by", "requested_for", "owned_by", "affected_user"),
        "sys_user",
    ),
    "assignment_group": "sys_user_group",
    "support_group": "sys_user_group",
    "cmdb_ci": "cmdb_ci",
    "ci_item": "cmdb_ci",
    "business_service": "cmdb_ci_service",
    "parent": "task",
    "task": "task",
    "request": "sc_request",
    "request_item": "sc_req_item",
    "change_request": "change_request",
    "problem": "problem",
    "problem_id": "problem",
    "sla": "contract_sla",
}
CMDB_REFERENCES: Mapping[str, str] = {"parent": "cmdb_ci", "child": "cmdb_ci", "type": "cmdb_rel_type"}
LABELS: Mapping[str, str] = {
    "incident": "Incident",
    "change_request": "Change Request",
    "change_task": "Change Task",
    "problem": "Problem",
    "problem_task": "Problem Task",
    "sc_request": "Request",
    "sc_req_item": "Requested Item",
    "sc_task": "Catalog Task",
    "cmdb_ci_linux_server": "Linux Server",
    "cmdb_ci_database": "Database",
    "cmdb_ci_service": "Service",
    "cmdb_ci_service_auto": "Application Service",
}
PREFIX: Mapping[str, str] = {
    "incident": "INC",
    "change_request": "CHG",
    "change_task": "CTASK",
    "problem": "PRB",
    "problem_task": "PTASK",
    "sc_request": "REQ",
    "sc_req_item": "RITM",
    "sc_task": "SCTASK",
    "sn_si_incident": "SIR",
    "task": "TASK",
}
_TASK_STATES = {
    "-5": "Pending",
    "1": "Open",
    "2": "Work in Progress",
    "3": "Closed Complete",
    "4": "Closed Incomplete",
    "7": "Closed Skipped",
}
_LEVELS = {"1": "1 - High", "2": "2 - Medium", "3": "3 - Low"}
_PRIORITIES = {"1": "1 - Critical", "2": "2 - High", "3": "3 - Moderate", "4": "4 - Low", "5": "5 - Planning"}
CHOICES: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("task", "state"): _TASK_STATES,
    ("task", "priority"): _PRIORITIES,
    ("task", "impact"): _LEVELS,
    ("task", "urgency"): _LEVELS,
    ("incident", "state"): {"1": "New", "2": "In Progress", "3": "On Hold", "6": "Resolved", "7": "Closed", "8": "Canceled"},
    ("incident", "hold_reason"): {"1": "Awaiting Caller", "3": "Awaiting Problem", "4": "Awaiting Vendor", "5": "Awaiting Change"},
    ("incident", "category"): {"inquiry": "Inquiry / Help", "hardware": "Hardware", "software": "Software", "network": "Network"},
    ("incident", "u_site"): {"b1": "Building One", "b2": "Building Two"},
    ("change_request", "state"): {
        "-5": "New",
        "-4": "Assess",
        "-3": "Authorize",
        "-2": "Scheduled",
        "-1": "Implement",
        "0": "Review",
        "3": "Closed",
        "4": "Canceled",
    },
    ("change_request", "type"): {"normal": "Normal", "standard": "Standard", "emergency": "Emergency"},
    ("change_request", "risk"): {"1": "Very High", "2": "High", "3": "Moderate", "4": "Low"},
    ("problem", "state"): {
        "101": "New",
        "102": "Assess",
        "103": "Root Cause Analysis",
        "104": "Fix in Progress",
        "106": "Resolved",
        "107": "Closed",
    },
    ("cmdb_ci", "operational_status"): {"1": "Operational", "2": "Non-Operational", "3": "Repair in Progress", "6": "Retired"},
    ("cmdb_ci", "install_status"): {"1": "Installed", "7": "Retired"},
    ("task_sla", "stage"): {"in_progress": "In progress", "paused": "Paused", "achieved": "Achieved", "breached": "Breached"},
}
COLUMN_LABELS: Mapping[str, str] = {"u_site": "Site", "u_floor": "Floor", "u_vip": "VIP", "u_tags": "Tags", "u_sealed": "Sealed"}
FIRST_STATE: Mapping[str, str] = {"change_request": "-5", "problem": "101"}
DATES = frozenset(
    _words(
        "sys_created_on sys_updated_on opened_at closed_at resolved_at due_date sla_due start_date end_date start_time end_time "
        "planned_end_time"
    )
)
READ_ONLY = frozenset(
    {*SYSTEM, "number", "sys_class_name", "u_sealed", "closed_at", "closed_by", "resolved_at", "resolved_by", "opened_at"}
)
"""What a write drops without a word, as ACLs and read-only columns do."""


def chain(table: str) -> list[str]:
    """The table and those it derives from, itself first."""
    found = [table]
    while found[-1] in PARENT:
        found.append(PARENT[found[-1]])
    return found


def known(table: str) -> bool:
    return table in OWN_COLUMNS or table in PARENT


def columns(table: str) -> list[str]:
    """Every column a row of this table shows."""
    return list(dict.fromkeys([*SYSTEM, *(name for ancestor in chain(table) for name in OWN_COLUMNS.get(ancestor, ()))]))


def derives(table: str, ancestor: str) -> bool:
    return ancestor in chain(table)


def choices(table: str, column: str) -> Mapping[str, str]:
    """Values and labels of a column; a derived table's own win."""
    return next((CHOICES[ancestor, column] for ancestor in chain(table) if (ancestor, column) in CHOICES), {})


def reference(table: str, column: str) -> str | None:
    """The table a column refers to."""
    if table == "cmdb_rel_ci":
        return CMDB_REFERENCES.get(column)
    return REFERENCES.get(column)


def a_sys_id(*names: str) -> str:
    """An id that is the same in each run."""
    return md5("/".join(names).encode(), usedforsecurity=False).hexdigest()


def dictionary() -> list[dict[str, Any]]:
    """The rows of sys_dictionary."""
    return [
        {
            "sys_id": a_sys_id("sys_dictionary", table, column),
            "name": table,
            "element": column,
            "column_label": COLUMN_LABELS.get(column, column.replace("_", " ").capitalize()),
            "internal_type": "journal_input" if column in JOURNALS else "glide_date_time" if column in DATES else "string",
        }
        for table, own in OWN_COLUMNS.items()
        for column in own
    ]


def choice_rows() -> list[dict[str, Any]]:
    """The rows of sys_choice."""
    return [
        {
            "sys_id": a_sys_id("sys_choice", table, column, value),
            "name": table,
            "element": column,
            "label": label,
            "value": value,
            "language": "en",
            "inactive": "false",
        }
        for (table, column), labels in CHOICES.items()
        for value, label in labels.items()
    ]


def people() -> list[dict[str, str]]:
    """Accounts: ours, an agent's, a caller's, and one that may see and do nothing."""
    named = {
        "integration": ("Integration", "User", "integration@desk.example", "Service account"),
        "ada.agent": ("Ada", "Agent", "ada.agent@desk.example", "Service desk"),
        "cora.caller": ("Cora", "Caller", "cora.caller@desk.example", "Buyer"),
        "guest": ("Gus", "Guest", "guest@desk.example", ""),
    }
    return [
        {
            "sys_id": a_sys_id("sys_user", user),
            "user_name": user,
            "name": f"{first} {last}",
            "first_name": first,
            "last_name": last,
            "email": email,
            "title": title,
            "active": "true",
        }
        for user, (first, last, email, title) in named.items()
    ]


def configuration() -> list[tuple[str, dict[str, str]]]:
    """A shop: its service leans on an application service, that on a web server, that on a database server."""
    items = {
        "shop": ("cmdb_ci_service", "Online shop", {"busines_criticality": "1 - most critical"}),
        "checkout": ("cmdb_ci_service_auto", "Checkout", {}),
        "web": ("cmdb_ci_linux_server", "web-07", {"serial_number": "SN-4711", "ip_address": "192.0.2.7", "os": "Linux", "ram": "8192"}),
        "database": ("cmdb_ci_database", "orders-db", {"asset_tag": "A-0042"}),
    }
    rows: list[tuple[str, dict[str, str]]] = [
        (table, {"sys_id": a_sys_id("cmdb_ci", name), "name": label, "operational_status": "1", "install_status": "1", **more})
        for name, (table, label, more) in items.items()
    ]
    kinds = {"depends": "Depends on::Used by", "runs": "Runs on::Runs"}
    rows += [("cmdb_rel_type", {"sys_id": a_sys_id("cmdb_rel_type", key), "name": name}) for key, name in kinds.items()]
    for parent, kind, child in (("shop", "depends", "checkout"), ("checkout", "runs", "web"), ("web", "depends", "database")):
        relation = {
            "sys_id": a_sys_id("cmdb_rel_ci", parent, child),
            "parent": a_sys_id("cmdb_ci", parent),
            "child": a_sys_id("cmdb_ci", child),
            "type": a_sys_id("cmdb_rel_type", kind),
        }
        rows.append(("cmdb_rel_ci", relation))
    rows.append(("sys_user_group", {"sys_id": a_sys_id("sys_user_group", "Network"), "name": "Network", "active": "true"}))
    rows.append(("contract_sla", {"sys_id": a_sys_id("contract_sla", "P1"), "name": "Priority 1 resolution (4 hours)"}))
    return rows
