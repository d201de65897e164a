"""What a small Zendesk keeps and how it answers: its tables, its accounts, its settings, and the form of every answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from plugins.sandbox.http import Request, Response, json_response
from plugins.sandbox.server import Sandbox, iso, now
from plugins.zendesk.sandbox_pages import page, shown

Json = dict[str, Any]

API_USER, AGENT_USER, CUSTOMER_USER = 9_000_000_001, 9_000_000_002, 9_000_000_003
ACCOUNT_ID = 22_000_001
RATE_LIMIT = 700
ERRORS: Mapping[int, tuple[str, str]] = {
    404: ("RecordNotFound", "Not found"),
    405: ("MethodNotAllowed", "Method not allowed"),
    409: ("UpdateConflict", "Safe Update prevented the update due to outdated ticket data."),
    429: ("APIRateLimitExceeded", "Number of allowed API requests per minute exceeded"),
    500: ("InternalError", "Something went wrong"),
    503: ("ServiceUnavailable", "Please try again"),
}
_MADE = {"created_at": "2024-02-01T08:00:00Z", "updated_at": "2024-02-01T08:00:00Z"}


def _status(number: int, category: str, label: str, *, default: bool = False) -> Json:
    words = {"agent_label": label, "end_user_label": label, "raw_agent_label": label, "raw_end_user_label": label, "description": ""}
    return {"id": number, "status_category": category, **words, "active": True, "default": default, **_MADE}


def _field(number: int, kind: str, title: str, options: Mapping[str, str] | None = None) -> Json:
    field = {"id": number, "type": kind, "title": title, "raw_title": title, "active": True, "removable": number > 360_000, **_MADE}
    if options is not None:
        field["custom_field_options"] = [
            {"id": number * 10 + n, "name": name, "value": tag} for n, (name, tag) in enumerate(options.items())
        ]
    return field


CUSTOM_STATUSES = [
    *(_status(8101 + n, word, word.capitalize(), default=True) for n, word in enumerate(("new", "open", "pending", "hold", "solved"))),
    _status(8110, "hold", "Awaiting parts"),
    _status(8111, "open", "Being tested"),
]
STATUS_IDS: Mapping[str, int] = {status["status_category"]: status["id"] for status in CUSTOM_STATUSES if status["default"]}
BRANDS = [
    {
        "id": 8001,
        "name": "Harbour",
        "brand_url": "https://harbour.zendesk.example",
        "subdomain": "harbour",
        "default": True,
        "active": True,
    },
    {"id": 8002, "name": "Dockside", "brand_url": "https://dock.zendesk.example", "subdomain": "dock", "default": False, "active": True},
]
FORMS = [
    {"id": 8201, "name": "Default", "display_name": "Default", "default": True, "active": True, "ticket_field_ids": [101, 102]},
    {"id": 8202, "name": "Hardware", "display_name": "Hardware", "default": False, "active": True, "ticket_field_ids": [101, 360_001]},
]
GROUPS = [{"id": 8301, "name": "Support", "deleted": False, **_MADE}, {"id": 8302, "name": "Field service", "deleted": False, **_MADE}]
FIELDS = [
    _field(101, "subject", "Subject"),
    _field(102, "description", "Description"),
    _field(103, "status", "Status"),
    _field(360_001, "tagger", "Cost centre", {"Quay 1": "quay_1", "Quay 2": "quay_2"}),
    _field(360_002, "text", "Serial number"),
    _field(360_003, "multiselect", "Affected sites", {"North gate": "north_gate", "South gate": "south_gate"}),
    _field(360_004, "checkbox", "On fire"),
    _field(360_005, "text", "Note"),
    _field(360_006, "text", "Note"),
]
_TARGETS: Mapping[str, Mapping[str, int]] = {
    "first_reply_time": {"urgent": 15, "high": 60, "normal": 240, "low": 480},
    "requester_wait_time": {"urgent": 240, "high": 480, "normal": 1440, "low": 2880},
}
SLA_POLICIES: list[Json] = [
    {
        "id": 8401,
        "title": "Incidents",
        "description": "",
        "position": 1,
        "filter": {"all": [{"field": "type", "operator": "is", "value": "incident"}], "any": []},
        "policy_metrics": [
            {"priority": priority, "metric": metric, "target": minutes, "target_in_seconds": minutes * 60, "business_hours": False}
            for metric, by_priority in _TARGETS.items()
            for priority, minutes in by_priority.items()
        ],
        **_MADE,
    }
]


class Desk(Sandbox):
    """Tables, accounts and answers; the calls themselves are in the classes over this one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.tickets = self.journal.table("tickets")
        self.threads = self.journal.table("threads")
        self.jobs = self.journal.table("jobs")
        self.uploads = self.journal.table("uploads")
        self.attachments = self.journal.table("attachments")
        self.users = self.journal.table("users")
        self.webhooks = self.journal.table("webhooks")
        self.creations = self.journal.table("creations")
        if not len(self.users):
            self.add_user(API_USER, "integration@desk.example", "Integration", "agent")
            self.add_user(AGENT_USER, "ada@desk.example", "Ada Agent", "agent")
            self.add_user(CUSTOMER_USER, "cora@customer.example", "Cora Customer", "end-user")
        self._minute, self._calls = 0, 0

    def path_of(self, request: Request) -> str:
        return request.path.removesuffix(".json")

    def add_user(self, number: int, email: str, name: str, role: str) -> int:
        at, where = iso(now()), f"{self.base_url}/api/v2/users/{number}.json"
        known = {"id": number, "url": where, "name": name, "email": email, "role": role, "created_at": at, "updated_at": at}
        self.users.put(str(number), {**known, "active": True, "suspended": False, "verified": True, "tags": [], "time_zone": "UTC"})
        return number

    def user_of(self, requester: Any) -> int | None:
        """The account of `requester: {name, email}`, made when it is new; None when there is no address."""
        email = requester.get("email") if isinstance(requester, dict) else None
        if not isinstance(email, str):
            return None
        known = next((int(user["id"]) for user in self.users.values() if user["email"] == email), None)
        return known or self.add_user(self.next_id("user", 9_000_000_100), email, str(requester.get("name") or email), "end-user")

    # answers -------------------------------------------------------------------------------------------------------------
    def answer(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """An answer with the rate-limit headers; the limit is shown and not enforced (faults do that)."""
        minute = int(time.time() // 60)
        self._calls = self._calls + 1 if minute == self._minute else 1
        self._minute = minute
        left = str(max(1, RATE_LIMIT - self._calls))  # never 0: nothing is refused
        limits = {"x-rate-limit": str(RATE_LIMIT), "x-rate-limit-remaining": left, "ratelimit-remaining": left, "ratelimit-reset": "60"}
        return json_response(value, status, {**limits, **(headers or {})})

    def refusal(self, status: int, request: Request) -> Response:
        if status == 401:
            return self.answer({"error": "Couldn't authenticate you"}, 401)
        code, description = ERRORS.get(status, ("Error", "Error"))
        response = self.answer({"error": code, "description": description}, status)
        if status in (429, 503):
            response.headers["retry-after"] = "1"
        return response

    def refused(self, faults: Mapping[str, str]) -> Response:
        details = {name: [{"description": text}] for name, text in faults.items()}
        return self.answer({"error": "RecordInvalid", "description": "Record validation errors", "details": details}, 422)

    def too_many(self) -> Response:
        return self.answer({"error": "TooManyValues", "description": "Too many values: the limit is 100"}, 422)

    def listed(self, items: list[Json], request: Request, name: str, present: Callable[[Json], Json] = shown) -> Response:
        """A list in pages, by cursor or offset as asked; only what is on the page is presented."""
        try:
            found = page(items, request.query, name, f"{self.base_url}{request.path}")
        except ValueError:
            return self.answer({"errors": [{"code": "InvalidPaginationParameter", "title": "Invalid parameter"}]}, 400)
        found[name] = [present(item) for item in found[name]]
        return self.answer(found)
