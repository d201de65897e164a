"""A small Zendesk: tickets, comments, audits, bulk jobs, uploads, search by external id, and the webhooks of each write.

Speaks API v2 as far as the plugin and a person at its API need it. `POST /_webhook` takes `"kind": "trigger"` for a trigger's body
in place of event subscriptions.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from plugins.marker import find_marker, note_marker
from plugins.richtext import from_html, from_plain, to_html, to_plain
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Actor, Sandbox, iso, now
from plugins.sandbox.webhooks import RetryPolicy
from plugins.zendesk.sandbox_events import WORDS, comment_event, event_body, in_events, in_zendesk_words, trigger_body
from plugins.zendesk.sandbox_pages import by_offset, page, shown

API_USER, AGENT_USER, CUSTOMER_USER = 9_000_000_001, 9_000_000_002, 9_000_000_003
ACCOUNT_ID = 22_000_001
CUSTOMERS = frozenset({str(CUSTOMER_USER)})
EVENTS: Mapping[str, str] = {
    "status": "status_changed",
    "priority": "priority_changed",
    "type": "type_changed",
    "subject": "subject_changed",
    "external_id": "external_id_changed",
    "assignee_id": "agent_assignment_changed",
    "requester_id": "requester_changed",
}
RATE_LIMIT = 700
ERRORS: Mapping[int, tuple[str, str]] = {
    404: ("RecordNotFound", "Not found"),
    405: ("MethodNotAllowed", "Method not allowed"),
    409: ("UpdateConflict", "Safe Update prevented the update due to outdated ticket data."),
    429: ("APIRateLimitExceeded", "Number of allowed API requests per minute exceeded"),
    500: ("InternalError", "Something went wrong"),
    503: ("ServiceUnavailable", "Please try again"),
}


class ZendeskSandbox(Sandbox):
    """Zendesk Support with three accounts: ours, an agent's, and a customer behind them."""

    tool_type = "zendesk"
    retry_policy = RetryPolicy(on_status=frozenset({409}), needs_retry_after=frozenset({429, 503}))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.tickets = self.journal.table("tickets")
        self.threads = self.journal.table("threads")
        self.jobs = self.journal.table("jobs")
        self.uploads = self.journal.table("uploads")
        self.users = self.journal.table("users")
        if not len(self.users):
            self._add_user(API_USER, "integration@desk.example", "Integration", "agent")
            self._add_user(AGENT_USER, "ada@desk.example", "Ada Agent", "agent")
            self._add_user(CUSTOMER_USER, "cora@customer.example", "Cora Customer", "end-user")
        self._by_external_id: dict[str, list[int]] = {}
        for ticket in self.tickets.values():
            self._index(ticket)
        self._minute, self._calls = 0, 0

    # accounts ------------------------------------------------------------------------------------------------------------
    @property
    def credentials(self) -> Mapping[str, Any]:
        person = base64.b64encode(f"ada@desk.example/token:{self.secret('person_token')}".encode()).decode()
        return {
            "auth": {"email": "integration@desk.example", "api_token": self.secret("api_token")},
            "actor": str(API_USER),
            "person": {"headers": {"Authorization": f"Basic {person}"}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"secret": self.secret("webhook_secret")}

    def actor_of(self, request: Request) -> Actor | None:
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(value.encode(), self.secret("access_token").encode()):
            return Actor(str(API_USER), False, "Integration")
        try:
            given = base64.b64decode(value).decode() if kind.lower() == "basic" else ""
        except ValueError:
            given = ""
        if given == f"integration@desk.example/token:{self.secret('api_token')}":
            return Actor(str(API_USER), False, "Integration")
        if given == f"ada@desk.example/token:{self.secret('person_token')}":
            return Actor(str(AGENT_USER), True, "Ada Agent")
        if self.path_of(request) == "/api/v2/users/me":
            return Actor("", False, "Anonymous user")  # the one call a wrong token may make
        return None

    def path_of(self, request: Request) -> str:
        return request.path.removesuffix(".json")

    def refusal(self, status: int, request: Request) -> Response:
        if status == 401:
            return self._json({"error": "Couldn't authenticate you"}, 401)
        code, description = ERRORS.get(status, ("Error", "Error"))
        response = self._json({"error": code, "description": description}, status)
        if status in (429, 503):
            response.headers["retry-after"] = "1"
        return response

    def sign(self, body: bytes) -> Mapping[str, str]:
        timestamp = iso(now())
        digest = hmac.digest(self.secret("webhook_secret").encode(), timestamp.encode() + body, "sha256")
        return {
            "X-Zendesk-Webhook-Signature": base64.b64encode(digest).decode(),
            "X-Zendesk-Webhook-Signature-Timestamp": timestamp,
            "X-Zendesk-Webhook-Id": "01J0SANDBOX0000000000000000",
            "X-Zendesk-Webhook-Invocation-Id": f"01J{uuid4().hex[:23].upper()}",
            "X-Zendesk-Account-Id": str(ACCOUNT_ID),
            "User-Agent": "Zendesk Webhook",
        }

    # the API -------------------------------------------------------------------------------------------------------------
    @route("GET", "/api/v2/users/me")
    def me(self, request: Request) -> Response:
        user = self.users.get(request.actor.id) or {
            "id": None,
            "name": "Anonymous user",
            "email": "invalid@example.com",
            "role": "end-user",
        }
        return self._json({"user": user})

    @route("GET", "/api/v2/tickets/{id}")
    def show(self, request: Request) -> Response:
        ticket = self.tickets.get(request.params["id"])
        return self._json({"ticket": shown(ticket)}) if ticket else self.refusal(404, request)

    @route("GET", "/api/v2/tickets")
    def index(self, request: Request) -> Response:
        query = request.query
        if "external_id" in query:
            return self._json(by_offset(self._with_external_id(query["external_id"]), query, "tickets"))
        return self._json(page([shown(t) for t in self.tickets.values() if self.indexed(t["_at"])], query, "tickets"))

    @route("GET", "/api/v2/tickets/show_many")
    def show_many(self, request: Request) -> Response:
        query = request.query
        ids = [part for part in (query.get("ids") or query.get("external_ids") or "").split(",") if part]
        if len(ids) > 100:
            return self._json({"error": "TooManyValues", "description": "Too many values: the limit is 100"}, 422)
        if "external_ids" in query:
            found = [ticket for external_id in ids for ticket in self._with_external_id(external_id)]
        else:
            found = [shown(self.tickets.get(i)) for i in ids if i in self.tickets]
        return self._json({"tickets": found, "next_page": None, "previous_page": None, "count": len(found)})

    @route("POST", "/api/v2/tickets")
    def create(self, request: Request) -> Response:
        given = _ticket_in(request)
        refusal = self._invalid(given)
        comment = given.get("comment") or ({"body": given["description"]} if given.get("description") else None)
        if refusal is None and not isinstance(comment, dict):
            refusal = self._refused({"base": "Description: cannot be blank"})
        if refusal is not None or comment is None:
            return refusal or self.refusal(500, request)
        ticket, audit = self._create(given, comment, request)
        where = f"{self.base_url}/api/v2/tickets/{ticket['id']}.json"
        return self._json({"ticket": shown(ticket), "audit": shown(audit)}, 201, {"location": where})

    @route("PUT", "/api/v2/tickets/{id}")
    def update(self, request: Request) -> Response:
        ticket, given = self.tickets.get(request.params["id"]), _ticket_in(request)
        if ticket is None:
            return self.refusal(404, request)
        if given.get("safe_update") and given.get("updated_stamp") != ticket["updated_at"]:
            return self.refusal(409, request)
        refusal = self._invalid(given, ticket)
        if refusal is not None:
            return refusal
        audit = self._update(ticket, given, request)
        return self._json({"ticket": shown(ticket), "audit": shown(audit)})

    @route("PUT", "/api/v2/tickets/update_many")
    def update_many(self, request: Request) -> Response:
        body = request.json()
        changes = body.get("tickets") if isinstance(body, dict) else None
        if changes is None and isinstance(body, dict) and isinstance(body.get("ticket"), dict):
            changes = [{"id": int(i), **body["ticket"]} for i in request.query.get("ids", "").split(",") if i.isdigit()]
        if not isinstance(changes, list) or len(changes) > 100:
            return self._json({"error": "TooManyValues", "description": "Too many values: the limit is 100"}, 422)
        rows = [self._bulk_row(change, request) for change in changes if isinstance(change, dict)]
        job_id = f"V3-{uuid4().hex}"
        self.jobs.put(job_id, {"rows": list(reversed(rows)), "total": len(rows), "asked": 0})
        return self._json({"job_status": self._job(job_id)})

    @route("GET", "/api/v2/job_statuses/{id}")
    def job_status(self, request: Request) -> Response:
        job = self.jobs.get(request.params["id"])
        if job is None:
            return self.refusal(404, request)
        job["asked"] += 1
        return self._json({"job_status": self._job(request.params["id"])})

    @route("GET", "/api/v2/tickets/{id}/comments")
    def comments(self, request: Request) -> Response:
        return self._thread(request, "comments")

    @route("GET", "/api/v2/tickets/{id}/audits")
    def audits(self, request: Request) -> Response:
        return self._thread(request, "audits")

    @route("POST", "/api/v2/uploads")
    def upload(self, request: Request) -> Response:
        name = request.query.get("filename")
        if not name:
            return self._json({"error": "InvalidValue", "description": "filename is missing"}, 400)
        attachment = {
            "id": self.next_id("attachment", 700_001),
            "file_name": name,
            "content_type": request.headers.get("content-type", ""),
            "content_url": f"{self.base_url}/attachments/{name}",
            "size": len(request.body),
            "inline": False,
        }
        token = uuid4().hex
        self.uploads.put(token, attachment)
        return self._json({"upload": {"token": token, "expires_at": iso(now() + 3_600_000_000), "attachment": attachment}}, 201)

    # people --------------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = Actor(str(CUSTOMER_USER), True, "Cora Customer")
        given = {**in_zendesk_words(fields), "requester_id": CUSTOMER_USER}
        ticket, _ = self._create(given, {"body": fields.get("description") or fields.get("subject") or "", "public": True}, request)
        return str(ticket["id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor = Actor(str(AGENT_USER), True, "Ada Agent")
        ticket = self.tickets.get(ticket_id)
        if ticket is None:
            return False
        given = in_zendesk_words(fields)
        if fields.get("comment"):
            given["comment"] = {"body": fields["comment"], "public": fields.get("public", True)}
        self._update(ticket, given, request)
        return True

    # the state -----------------------------------------------------------------------------------------------------------
    def _create(self, given: Mapping[str, Any], comment: Mapping[str, Any], request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
        at, number = now(), self.next_id("ticket", 1001)
        requester = given.get("requester_id") or self._user_by_email(given.get("requester")) or int(request.actor.id)
        text = to_plain(_text_of(comment))
        ticket: dict[str, Any] = {
            "url": f"{self.base_url}/api/v2/tickets/{number}.json",
            "id": number,
            "external_id": given.get("external_id"),
            "via": {"channel": "api", "source": {"from": {}, "to": {}, "rel": None}},
            "created_at": iso(at),
            "updated_at": iso(at),
            "type": given.get("type"),
            "subject": given.get("subject") or text[:80],
            "description": text,
            "priority": given.get("priority"),
            "status": given.get("status") or "new",
            "requester_id": requester,
            "submitter_id": int(request.actor.id),
            "assignee_id": given.get("assignee_id"),
            "tags": list(given.get("tags") or []),
            "custom_fields": list(given.get("custom_fields") or []),
            "is_public": comment.get("public") is not False,
            "_at": at,
        }
        self.threads.put(str(number), {"comments": [], "audits": []})
        audit = self._audit(ticket, given, comment, request, at)
        self._save(ticket)
        self._index(ticket)
        self.ledger.write("create", str(number), request, external_id=ticket["external_id"], marker=_event_of(given))
        self._tell(ticket, request.actor, "created", {})
        return ticket, audit

    def _update(self, ticket: dict[str, Any], given: Mapping[str, Any], request: Request) -> dict[str, Any]:
        at, comment = now(), given.get("comment")
        changed = {k: ticket.get(k) for k in (*EVENTS, "tags") if k in given and given[k] != ticket.get(k)}
        for name in changed:
            ticket[name] = given[name]
        custom = self._set_custom_fields(ticket, given.get("custom_fields") or [])
        ticket["updated_at"] = iso(at)
        audit = self._audit(ticket, given, comment if isinstance(comment, dict) else None, request, at)
        self._save(ticket)
        if "external_id" in changed:
            self._index(ticket)
        ticket_id = str(ticket["id"])
        if isinstance(comment, dict):
            found = find_marker(str(audit["events"][0].get("plain_body")))
            self.ledger.write("note", ticket_id, request, external_id=ticket["external_id"], marker=note_marker(*found) if found else None)
        if changed or custom or not isinstance(comment, dict):
            self.ledger.write("update", ticket_id, request, external_id=ticket["external_id"], marker=_event_of(given))
        for name, previous in changed.items():
            if name in EVENTS:
                event = {"current": in_events(name, ticket[name]), "previous": in_events(name, previous)}
                self._tell(ticket, request.actor, EVENTS[name], event)
        if "tags" in changed:
            old, new = set(changed["tags"] or ()), set(ticket["tags"] or ())
            self._tell(ticket, request.actor, "tags_changed", {"tags_added": sorted(new - old), "tags_removed": sorted(old - new)})
        for field_id, (value, previous) in custom.items():
            event = {"custom_field": {"id": str(field_id)}, "current": {"value": value}, "previous": {"value": previous}}
            self._tell(ticket, request.actor, "custom_field_changed", event)
        if isinstance(comment, dict):
            self._tell(ticket, request.actor, "comment_added", {"comment": comment_event(audit["events"][0], request.actor, CUSTOMERS)})
        return audit

    def _audit(
        self, ticket: Mapping[str, Any], given: Mapping[str, Any], comment: Mapping[str, Any] | None, request: Request, at: int
    ) -> dict[str, Any]:
        """Adds this write's comment and audit to the ticket's thread; the comment is the audit's first event."""
        thread = self.threads.get(str(ticket["id"]))
        events: list[dict[str, Any]] = []
        if comment is not None:
            document = _text_of(comment)
            attachments = [self.uploads.get(token) for token in comment.get("uploads") or () if token in self.uploads]
            said = {
                "id": self.next_id("event", 500_001),
                "type": "Comment",
                "author_id": int(request.actor.id),
                "body": to_plain(document),
                "html_body": f'<div class="zd-comment" dir="auto">{to_html(document)}</div>',
                "plain_body": to_plain(document),
                "public": comment.get("public") is not False,
                "attachments": attachments,
                "created_at": iso(at),
                "_at": at,
            }
            thread["comments"].append(said)
            events.append(said)
        for name in EVENTS:
            if name in given:
                events.append({"id": self.next_id("event", 500_001), "type": "Change", "field_name": name, "value": given[name]})
        audit = {
            "id": self.next_id("audit", 800_001),
            "ticket_id": ticket["id"],
            "created_at": iso(at),
            "author_id": int(request.actor.id),
            "metadata": {"system": {}, "custom": dict(given.get("metadata") or {})},
            "events": events,
            "_at": at,
        }
        thread["audits"].append(audit)
        self.threads.put(str(ticket["id"]), thread)
        return audit

    def _bulk_row(self, change: Mapping[str, Any], request: Request) -> dict[str, Any]:
        ticket = self.tickets.get(str(change.get("id")))
        if ticket is None:
            return {"id": change.get("id"), "error": "TicketNotFound", "details": "Ticket does not exist"}
        if self._invalid(change, ticket) is not None:
            return {"id": ticket["id"], "error": "TicketUpdateFailed", "details": "Record validation errors"}
        self._update(ticket, {k: v for k, v in change.items() if k != "id"}, request)
        return {"action": "update", "status": "Updated", "success": True, "id": ticket["id"]}

    def _job(self, job_id: str) -> dict[str, Any]:
        """Queued when asked for, working at the first look, completed at the second."""
        job = self.jobs.get(job_id)
        status = ("queued", "working", "completed")[min(job["asked"], 2)]
        done = status == "completed"
        return {
            "id": job_id,
            "url": f"{self.base_url}/api/v2/job_statuses/{job_id}.json",
            "total": job["total"],
            "progress": job["total"] if done else None,
            "status": status,
            "message": f"Completed at {iso(now())}" if done else None,
            "results": job["rows"] if done else None,
        }

    def _thread(self, request: Request, name: str) -> Response:
        thread = self.threads.get(request.params["id"])
        if thread is None:
            return self.refusal(404, request)
        return self._json(page([shown(item) for item in thread[name] if self.indexed(item["_at"])], request.query, name))

    def _invalid(self, given: Mapping[str, Any], ticket: Mapping[str, Any] | None = None) -> Response | None:
        faults = {}
        if ticket is not None and ticket["status"] == "closed":
            faults["status"] = "Status: closed prevents ticket update"
        for name, words in WORDS.items():
            if given.get(name) is not None and given[name] not in words:
                faults[name] = f"{name.capitalize()}: {given[name]} is not included in the list"
        return self._refused(faults) if faults else None

    def _refused(self, faults: Mapping[str, str]) -> Response:
        details = {name: [{"description": text}] for name, text in faults.items()}
        return self._json({"error": "RecordInvalid", "description": "Record validation errors", "details": details}, 422)

    def _set_custom_fields(self, ticket: dict[str, Any], given: Iterable[Mapping[str, Any]]) -> dict[Any, tuple[Any, Any]]:
        known = {field["id"]: field.get("value") for field in ticket["custom_fields"]}
        changed = {f["id"]: (f.get("value"), known.get(f["id"])) for f in given if known.get(f["id"]) != f.get("value")}
        known.update({field_id: value for field_id, (value, _) in changed.items()})
        ticket["custom_fields"] = [{"id": field_id, "value": value} for field_id, value in known.items()]
        return changed

    def _save(self, ticket: dict[str, Any]) -> None:
        self.tickets.put(str(ticket["id"]), ticket)

    def _index(self, ticket: dict[str, Any]) -> None:
        if ticket.get("external_id"):
            ids = self._by_external_id.setdefault(str(ticket["external_id"]), [])
            if ticket["id"] not in ids:
                ids.append(ticket["id"])

    def _with_external_id(self, external_id: str) -> list[dict[str, Any]]:
        found = [self.tickets.get(str(i)) for i in self._by_external_id.get(external_id, ())]
        return [shown(t) for t in found if t["external_id"] == external_id and self.indexed(t["_at"])]

    def _add_user(self, number: int, email: str, name: str, role: str) -> int:
        self.users.put(str(number), {"id": number, "name": name, "email": email, "role": role, "active": True, "suspended": False})
        return number

    def _user_by_email(self, requester: Any) -> int | None:
        email = requester.get("email") if isinstance(requester, dict) else None
        if not isinstance(email, str):
            return None
        known = next((int(user["id"]) for user in self.users.values() if user["email"] == email), None)
        return known or self._add_user(self.next_id("user", 9_000_000_100), email, str(requester.get("name") or email), "end-user")

    # webhooks out --------------------------------------------------------------------------------------------------------
    def _tell(self, ticket: Mapping[str, Any], actor: Actor, kind: str, event: Mapping[str, Any]) -> None:
        of_a_trigger = self.keys.get("webhook_kind") == "trigger"
        self.fire(trigger_body(ticket, actor, kind) if of_a_trigger else event_body(ACCOUNT_ID, ticket, actor, kind, event))

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """An answer with the rate-limit headers; the limit is shown and not enforced (faults do that)."""
        minute = int(time.time() // 60)
        self._calls = self._calls + 1 if minute == self._minute else 1
        self._minute = minute
        left = str(max(1, RATE_LIMIT - self._calls))  # never 0: nothing is refused
        shown = {"x-rate-limit": str(RATE_LIMIT), "x-rate-limit-remaining": left, "ratelimit-remaining": left, "ratelimit-reset": "60"}
        return json_response(value, status, {**shown, **(headers or {})})


def _ticket_in(request: Request) -> dict[str, Any]:
    body = request.json()
    ticket = body.get("ticket") if isinstance(body, dict) else None
    return ticket if isinstance(ticket, dict) else {}


def _text_of(comment: Mapping[str, Any]) -> Any:
    if comment.get("html_body"):
        return from_html(str(comment["html_body"]))
    return from_plain(str(comment.get("body") or ""))


def _event_of(given: Mapping[str, Any]) -> str | None:
    metadata = given.get("metadata")
    found = metadata.get("ai_agents_event") if isinstance(metadata, dict) else None
    return str(found) if found is not None else None
