"""What the small Freshdesk is made of when it starts: agents, brands with their mailboxes, ticket fields; invented, in its shapes."""

from __future__ import annotations

from typing import Any, Final

_SINCE: Final = {"created_at": "2025-11-03T08:00:00Z", "updated_at": "2025-11-03T08:00:00Z"}


def _agent(agent_id: int, name: str, email: str) -> dict[str, Any]:
    contact = {"active": True, "email": email, "job_title": None, "language": "en", "last_login_at": None, "mobile": None, "name": name}
    return {
        "available": True,
        "occasional": False,
        "signature": None,
        "id": agent_id,
        "ticket_scope": 1,
        "type": "support_agent",
        "group_ids": [6001],
        "role_ids": [6101],
        "available_since": None,
        "contact": {**contact, "phone": None, "time_zone": "Berlin", **_SINCE},
        **_SINCE,
    }


API_AGENT: Final = _agent(5001, "Integration", "integration@desk.example")
AGENT: Final = _agent(5002, "Ada Agent", "ada@desk.example")
CUSTOMER: Final[dict[str, str]] = {"name": "Cora Customer", "email": "cora@customer.example"}
GROUPS: Final[list[dict[str, Any]]] = [
    {"id": 6001, "name": "First line", "description": None, "business_hour_id": None, "escalate_to": None, "unassigned_for": None}
    | {"agent_ids": [5001, 5002], "auto_ticket_assign": False, **_SINCE}
]
PRODUCTS: Final[list[dict[str, Any]]] = [
    {
        "id": 8001,
        "name": "Lumen Phones",
        "description": "Phones and tablets",
        "primary_email": "phones@desk.example",
        "default": False,
        **_SINCE,
    },
    {"id": 8002, "name": "Lumen Lamps", "description": None, "primary_email": "lamps@desk.example", "default": False, **_SINCE},
]


def _mailbox(config_id: int, name: str, product_id: int | None, address: str, *, primary: bool) -> dict[str, Any]:
    return {
        "id": config_id,
        "name": name,
        "product_id": product_id,
        "to_email": f"desk.example{address.partition('@')[0]}@desk.example",
        "reply_email": address,
        "group_id": None,
        "primary_role": primary,
        "active": True,
        **_SINCE,
    }


EMAIL_CONFIGS: Final = [
    _mailbox(9001, "Support", None, "support@desk.example", primary=True),
    _mailbox(9002, "Phones", 8001, "phones@desk.example", primary=True),
    _mailbox(9003, "Phones, returns", 8001, "returns@desk.example", primary=False),
    _mailbox(9004, "Lamps", 8002, "lamps@desk.example", primary=True),
]


def _field(field_id: int, name: str, label: str, kind: str, choices: Any = None) -> dict[str, Any]:
    field = {"id": field_id, "name": name, "label": label, "description": label, "position": field_id - 7000, "type": kind}
    field |= {"default": kind.startswith("default_"), "required_for_closure": False, "required_for_agents": False}
    field |= {"customers_can_edit": False, "label_for_customers": label, "required_for_customers": False, "displayed_to_customers": False}
    return {**field, **({} if choices is None else {"choices": choices}), **_SINCE}


STATUSES: Final = {
    "2": ["Open", "Being Processed"],
    "3": ["Pending", "Awaiting your Reply"],
    "4": ["Resolved", "This ticket has been Resolved"],
    "5": ["Closed", "This ticket has been Closed"],
    "6": ["Waiting on Customer", "Awaiting your Reply"],
    "7": ["Waiting on Third Party", "Being Processed"],
    "8": ["In the workshop", "Being Processed"],
}
PRIORITIES: Final = {"Low": 1, "Medium": 2, "High": 3, "Urgent": 4}
SOURCES: Final = {"Email": 1, "Portal": 2, "Phone": 3, "Forum": 4, "Chat": 7, "Feedback Widget": 9, "Outbound Email": 10}
TYPES: Final = ["Question", "Incident", "Problem", "Feature Request", "Refund"]
TICKET_FIELDS: Final = [
    _field(7001, "requester", "Search a requester", "default_requester"),
    _field(7002, "subject", "Subject", "default_subject"),
    _field(7003, "ticket_type", "Type", "default_ticket_type", TYPES),
    _field(7004, "source", "Source", "default_source", SOURCES),
    _field(7005, "status", "Status", "default_status", STATUSES),
    _field(7006, "priority", "Priority", "default_priority", PRIORITIES),
    _field(7007, "group", "Group", "default_group", {"First line": 6001}),
    _field(7008, "agent", "Agent", "default_agent", {"Integration": 5001, "Ada Agent": 5002}),
    _field(7009, "product", "Product", "default_product", {"Lumen Phones": 8001, "Lumen Lamps": 8002}),
    _field(7010, "description", "Description", "default_description"),
    _field(7011, "company", "Company", "default_company"),
    _field(7012, "cf_external_id", "External id", "custom_text"),
    _field(7013, "cf_external_event", "External event", "custom_paragraph"),
    _field(7014, "cf_serial_number", "Serial number", "custom_text"),
    _field(7015, "cf_floor", "Floor", "custom_number"),
    _field(7016, "cf_urgent_call", "Urgent call", "custom_checkbox"),
]
CUSTOM_FIELDS: Final = {str(field["name"]): str(field["type"]) for field in TICKET_FIELDS if not field["default"]}
