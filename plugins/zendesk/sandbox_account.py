"""A small Zendesk's calls beside tickets: accounts, settings, SLA, search, exports, files, and the webhooks themselves."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from plugins.mapping import to_micros
from plugins.sandbox.http import Request, Response, route
from plugins.sandbox.server import iso, now
from plugins.zendesk.sandbox_desk import BRANDS, CUSTOM_STATUSES, FIELDS, FORMS, GROUPS, SLA_POLICIES, Json
from plugins.zendesk.sandbox_pages import shown
from plugins.zendesk.sandbox_tickets import TicketCalls

MAX_FOUND = 1000
"""Results of one search, over all its pages."""
STREAM_PAGE = 100


class AccountCalls(TicketCalls):
    """Everything under /api/v2 that is no ticket."""

    # accounts ------------------------------------------------------------------------------------------------------------
    @route("GET", "/api/v2/users/me")
    def me(self, request: Request) -> Response:
        nobody = {"id": None, "name": "Anonymous user", "email": "invalid@example.com", "role": "end-user"}
        return self.answer({"user": self.users.get(request.actor.id) or nobody})

    @route("GET", "/api/v2/users")
    def users_index(self, request: Request) -> Response:
        return self.listed(self.users.values(), request, "users")

    @route("GET", "/api/v2/users/{id}")
    def user(self, request: Request) -> Response:
        found = self.users.get(request.params["id"])
        return self.refusal(404, request) if found is None else self.answer({"user": found})

    @route("GET", "/api/v2/users/show_many")
    def users_show_many(self, request: Request) -> Response:
        found = [self.users.get(i) for i in request.query.get("ids", "").split(",") if i in self.users]
        return self.answer({"users": found, "next_page": None, "previous_page": None, "count": len(found)})

    @route("GET", "/api/v2/users/search")
    def users_search(self, request: Request) -> Response:
        word = request.query.get("query", "").casefold()
        return self.listed([u for u in self.users.values() if word in f"{u['name']} {u['email']}".casefold()], request, "users")

    # settings ------------------------------------------------------------------------------------------------------------
    @route("GET", "/api/v2/ticket_fields")
    def ticket_fields(self, request: Request) -> Response:
        return self.listed(FIELDS, request, "ticket_fields")

    @route("GET", "/api/v2/custom_statuses")
    def custom_statuses(self, request: Request) -> Response:
        return self.answer({"custom_statuses": CUSTOM_STATUSES})

    @route("GET", "/api/v2/brands")
    def brands(self, request: Request) -> Response:
        return self.listed(BRANDS, request, "brands")

    @route("GET", "/api/v2/ticket_forms")
    def ticket_forms(self, request: Request) -> Response:
        return self.listed(FORMS, request, "ticket_forms")

    @route("GET", "/api/v2/groups")
    def groups(self, request: Request) -> Response:
        return self.listed(GROUPS, request, "groups")

    # SLA -----------------------------------------------------------------------------------------------------------------
    @route("GET", "/api/v2/slas/policies")
    def sla_policies(self, request: Request) -> Response:
        return self.listed(SLA_POLICIES, request, "sla_policies")

    @route("GET", "/api/v2/slas/policies/{id}")
    def sla_policy(self, request: Request) -> Response:
        found = next((policy for policy in SLA_POLICIES if str(policy["id"]) == request.params["id"]), None)
        return self.refusal(404, request) if found is None else self.answer({"sla_policy": found})

    # search and exports --------------------------------------------------------------------------------------------------
    @route("GET", "/api/v2/search")
    def search(self, request: Request) -> Response:
        """Words of `query` in a ticket's text, and `field:value` pairs; offsets only, and no further than 1000 results."""
        words = request.query.get("query", "").casefold().split()
        page, size = int(request.query.get("page") or 1), int(request.query.get("per_page") or 100)
        if page * size > MAX_FOUND:
            return self.answer({"error": "invalid", "description": "Invalid search: Requested response size was greater than limits"}, 422)
        found = [t for t in self.tickets.values() if self.indexed(t["_at"]) and all(_matches(t, word) for word in words)]
        return self.listed(found, request, "results", lambda t: {**self.in_rest_form(t, request), "result_type": "ticket"})

    @route("GET", "/api/v2/incremental/tickets/cursor")
    def incremental_tickets(self, request: Request) -> Response:
        """What changed since `start_time`, oldest first; the cursor stands behind the last one given."""
        query = request.query
        try:
            after, seen = (int(part) for part in (query.get("cursor") or f"{int(query['start_time']) * 1_000_000 - 1}.0").split("."))
        except (KeyError, ValueError):
            return self.answer({"error": "StartTimeMissing", "description": "start_time or cursor is needed"}, 400)
        changed = sorted(((to_micros(t["updated_at"]) or 0, t["id"], t) for t in self.tickets.values()), key=lambda row: row[:2])
        rows = [row for row in changed if row[:2] > (after, seen)][:STREAM_PAGE]
        last = rows[-1] if rows else (after, seen)
        cursor, ended = f"{last[0]}.{last[1]}", len(rows) < STREAM_PAGE
        url = f"{self.base_url}/api/v2/incremental/tickets/cursor.json?cursor={cursor}"
        tickets = [self.in_rest_form(row[2], request) for row in rows]
        answer = {"tickets": tickets, "after_cursor": cursor, "after_url": url, "before_cursor": None, "before_url": None}
        return self.answer({**answer, "end_of_stream": ended})

    @route("GET", "/api/v2/incremental/ticket_metric_events")
    def incremental_metric_events(self, request: Request) -> Response:
        start = int(request.query.get("start_time") or 0) * 1_000_000
        events = [e for t in self.tickets.values() for e in t["_events"] if (to_micros(e["time"]) or 0) >= start]
        ended = now() // 1_000_000
        following = f"{self.base_url}/api/v2/incremental/ticket_metric_events.json?start_time={ended}"
        answer = {"ticket_metric_events": events, "count": len(events), "end_time": ended, "next_page": following}
        return self.answer({**answer, "end_of_stream": True})

    # files ---------------------------------------------------------------------------------------------------------------
    @route("POST", "/api/v2/uploads")
    def upload(self, request: Request) -> Response:
        name = request.query.get("filename")
        if not name:
            return self.answer({"error": "InvalidValue", "description": "filename is missing"}, 400)
        number, where = self.next_id("attachment", 700_001), secrets.token_urlsafe(12)
        attachment = {
            "id": number,
            "url": f"{self.base_url}/api/v2/attachments/{number}.json",
            "file_name": name,
            "content_type": request.headers.get("content-type", "application/octet-stream"),
            "content_url": f"{self.base_url}/attachments/token/{where}",
            "size": len(request.body),
            "inline": False,
            "deleted": False,
        }
        self.attachments.put(str(number), {**attachment, "_where": where, "_content": request.body.decode("latin-1")})
        token = request.query.get("token") or uuid4().hex
        files = [*(self.uploads.get(token) or []), attachment]
        self.uploads.put(token, files)
        told = {"token": token, "expires_at": iso(now() + 3_600_000_000), "attachment": attachment, "attachments": files}
        return self.answer({"upload": told}, 201)

    @route("GET", "/api/v2/attachments/{id}")
    def attachment(self, request: Request) -> Response:
        found = self.attachments.get(request.params["id"])
        return self.refusal(404, request) if found is None else self.answer({"attachment": shown(found)})

    @route("GET", "/attachments/token/{where}")
    def content(self, request: Request) -> Response:
        """The file itself, after the redirect to a place of its own that the real tool makes."""
        found = next((a for a in self.attachments.values() if a["_where"] == request.params["where"]), None)
        if found is None:
            return self.refusal(404, request)
        elsewhere = self.base_url.replace("127.0.0.1", "localhost")
        if not request.headers.get("host", "").startswith("localhost"):
            return Response(302, b"", {"location": f"{elsewhere}{request.path}"})
        return Response(200, found["_content"].encode("latin-1"), {"content-type": found["content_type"]})

    # webhooks ------------------------------------------------------------------------------------------------------------
    @route("POST", "/api/v2/webhooks")
    def create_webhook(self, request: Request) -> Response:
        """Sends this account's events, with the authentication given, to the endpoint; the newest webhook is the one that counts."""
        body = request.json()
        given = body.get("webhook") if isinstance(body, dict) else None
        if not isinstance(given, dict) or not given.get("endpoint"):
            return self.answer({"errors": [{"code": "InvalidParameter", "title": "Endpoint is required"}]}, 400)
        number = f"01J{uuid4().hex[:23].upper()}"
        self.webhooks.put(number, {**given, "id": number})
        self.keys.put("webhook_url", given["endpoint"])
        kind = "trigger" if given.get("subscriptions") == ["conditional_ticket_events"] else "event"
        self.keys.put("webhook_kind", kind)
        self.keys.put("webhook_authentication", given.get("authentication"))
        return self.answer({"webhook": _without_secrets({**given, "id": number, "created_at": iso(now()), "updated_at": iso(now())})}, 201)

    @route("GET", "/api/v2/webhooks/{id}/signing_secret")
    def signing_secret(self, request: Request) -> Response:
        if request.params["id"] not in self.webhooks:
            return self.refusal(404, request)
        return self.answer({"signing_secret": {"algorithm": "SHA256", "secret": self.secret("webhook_secret")}})


def _without_secrets(webhook: Json) -> Json:
    """A webhook as the API shows it: what authenticates it cannot be read back."""
    authentication = webhook.get("authentication")
    shown_part = {k: v for k, v in authentication.items() if k != "data"} if isinstance(authentication, dict) else None
    return {**webhook, "authentication": shown_part}


def _matches(ticket: Mapping[str, Any], word: str) -> bool:
    name, colon, value = word.partition(":")
    if not colon:
        return word in f"{ticket['subject']} {ticket['description']}".casefold()
    if name in ("type", "ticket_type") and value == "ticket":
        return True
    if name == "tags":
        return value in ticket["tags"]
    known = {"ticket_type": "type", "requester": "requester_id", "assignee": "assignee_id"}.get(name, name)
    return str(ticket.get(known, "")).casefold() == value.strip('"')
