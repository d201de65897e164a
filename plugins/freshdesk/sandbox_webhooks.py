"""The bodies the small Freshdesk sends out, rendered as its rules and apps render them. Pure.

`advanced` is the content the README recommends, in two rules, since no placeholder tells who acted: one for our agent, one for everybody
else. `simple` ticks fields and wraps them. `form` and `xml` are the other encodings of `simple`. `app` is a marketplace app's event.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from plugins.freshdesk.sandbox_seed import PRIORITIES, STATUSES

PRIORITY_NAMES = {code: name for name, code in PRIORITIES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What happened, and who is told of: the people as records with id, name and email, the comment as its conversation."""

    triggered_event: str
    app_event: str
    ticket: Mapping[str, Any]
    actor: Mapping[str, Any]
    requester: Mapping[str, Any]
    product: str | None
    latest_public: str
    latest_private: str
    conversation: Mapping[str, Any] | None = None
    changes: Mapping[str, Any] | None = None


def rendered(kind: str, occasion: Occasion, base_url: str) -> tuple[bytes, dict[str, str]]:
    """The body and the headers that go with it."""
    match kind:
        case "app":
            return json.dumps(_app(occasion, base_url)).encode(), {}
        case "simple":
            return json.dumps({"freshdesk_webhook": _simple(occasion, base_url)}).encode(), {}
        case "form":
            pairs = {f"freshdesk_webhook[{name}]": value or "" for name, value in _simple(occasion, base_url).items()}
            return urlencode(pairs).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
        case "xml":
            members = "".join(f"<{name}>{escape(value or '')}</{name}>" for name, value in _simple(occasion, base_url).items())
            body = f'<?xml version="1.0" encoding="UTF-8"?>\n<freshdesk_webhook>{members}</freshdesk_webhook>'
            return body.encode(), {"Content-Type": "application/xml"}
    return json.dumps({**_simple(occasion, base_url), **_advanced(occasion)}).encode(), {}


def _simple(occasion: Occasion, base_url: str) -> dict[str, str | None]:
    """Every value a text: words by the agents' labels, ids in digits."""
    ticket = occasion.ticket
    return {
        "triggered_event": occasion.triggered_event,
        "ticket_id": str(ticket["id"]),
        "ticket_url": f"{base_url}/helpdesk/tickets/{ticket['id']}",
        "ticket_portal_url": f"{base_url}/support/tickets/{ticket['id']}",
        "ticket_subject": ticket["subject"],
        "ticket_description": ticket["description"],
        "ticket_status": STATUSES[str(ticket["status"])][0],
        "ticket_priority": PRIORITY_NAMES[ticket["priority"]],
        "ticket_type": ticket["type"],
        "ticket_tags": ",".join(ticket["tags"]),
        "ticket_due_by_time": ticket["due_by"],
        "ticket_product_description": occasion.product,
        "ticket_requester_name": occasion.requester["name"],
        "ticket_requester_email": occasion.requester["email"],
        "ticket_latest_public_comment": occasion.latest_public,
    }


def _advanced(occasion: Occasion) -> dict[str, str | None]:
    return {
        "actor": occasion.actor["email"],
        "ticket_latest_private_comment": occasion.latest_private,
        "ticket_cf_external_id": occasion.ticket["custom_fields"].get("cf_external_id"),
    }


def _app(occasion: Occasion, base_url: str) -> dict[str, Any]:
    ticket = {name: value for name, value in occasion.ticket.items() if not name.startswith("_")}
    data: dict[str, Any] = {"actor": dict(occasion.actor), "requester": dict(occasion.requester)}
    if occasion.conversation is not None:
        data["conversation"] = dict(occasion.conversation)
    data["ticket"] = {**ticket, "changes": dict(occasion.changes)} if occasion.changes is not None else ticket
    return {
        "currentHost": {"subscribed_modules": ["support_ticket"], "endpoint_urls": {"freshdesk": base_url}},
        "data": data,
        "event": occasion.app_event,
        "region": "EUC",
        "timestamp": time.time(),
    }
