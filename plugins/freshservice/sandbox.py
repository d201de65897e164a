"""A small Freshservice: tickets, problems, changes, releases, their notes and files, assets, people, and an automator's webhooks.

Speaks API v2 as far as clients of the tool need it. `POST /_webhook` takes `"kind": "simple"`, `"unquoted"` or `"app"` for another
rule's body than the recommended template.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import time
from collections.abc import Callable, Mapping
from secrets import token_urlsafe
from typing import Any

from plugins.freshservice.records import RECORDS, TICKET, Record
from plugins.freshservice.sandbox_desk import ServiceDesk, given_in
from plugins.freshservice.sandbox_forms import faults_in, form_fields
from plugins.freshservice.sandbox_pages import page, searched, shown
from plugins.freshservice.sandbox_people import AGENT, CUSTOMER, INTEGRATION, approval, matches, new_asset, workspaces
from plugins.freshservice.sandbox_search import BadQuery, compiled
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Actor, iso, now

RATE_LIMIT = 500
_CONDITION = re.compile(r'"(\w+):\s*\'([^\']*)\'"')
TICKET_INCLUDES = frozenset(
    {
        "conversations", "requester", "requested_for", "stats", "problem", "assets", "change", "related_tickets", "department", "feedback",
        "tags",
    }
)  # fmt: skip
INCLUDES = {"ticket": TICKET_INCLUDES, "change": frozenset({"stats"})}
NOT_LISTED = {"ticket": ("tags", "assets", "attachments")}
NOT_LISTED_ELSE = ("custom_fields", "planning_fields", "attachments")
"""What a list leaves out: of problems, changes and releases everything an admin added."""
MONTH = 30 * 86_400 * 1_000_000
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
_KINDS = {record.plural: record for record in RECORDS.values()}
REFUSALS: Mapping[int, Mapping[str, str]] = {
    401: {"code": "invalid_credentials", "message": "You have to be logged in to perform this action."},
    403: {"code": "access_denied", "message": "You are not authorized to perform this action."},
    405: {"code": "method_not_allowed", "message": "The HTTP method is not allowed on this address."},
    409: {"code": "inconsistent_state", "message": "The resource is in another state."},
    429: {"code": "rate_limit_exceeded", "message": "You have exceeded the limit of requests per minute."},
}


class FreshserviceSandbox(ServiceDesk):
    """Freshservice with two workspaces and three people: our agent, another agent, and a requester."""

    _minute, _calls = 0, 0

    # accounts ------------------------------------------------------------------------------------------------------------
    @property
    def credentials(self) -> Mapping[str, Any]:
        person = base64.b64encode(f"{self.secret('person_key')}:X".encode()).decode()
        return {
            "auth": {"api_key": self.secret("api_key")},
            "actor": INTEGRATION["email"],
            "requester": CUSTOMER["email"],
            "person": {"headers": {"Authorization": f"Basic {person}"}, "oauth": self._app},
        }

    @property
    def _app(self) -> Mapping[str, str]:
        """An OAuth app our agent has let in."""
        return {"client_id": "desk-app", "client_secret": self.secret("client_secret"), "refresh_token": self.secret("refresh_token")}

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"secret": self.secret("webhook_secret")}

    def actor_of(self, request: Request) -> Actor | None:
        if request.path.startswith("/helpdesk/attachments/"):
            return Actor("", False)  # the address itself is the permission
        if request.path == TOKEN_PATH:
            return Actor("", True)  # asks for credentials of its own, in the form
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and value and value == self.keys.get("access_token"):
            return Actor(str(INTEGRATION["email"]), False, "Integration")
        try:
            key = base64.b64decode(value, validate=True).partition(b":")[0] if kind.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            key = b""
        for name, agent, person in (("api_key", INTEGRATION, False), ("person_key", AGENT, True)):
            if hmac.compare_digest(key, self.secret(name).encode()):
                return Actor(str(agent["email"]), person, str(agent["first_name"]))
        return None

    def refusal(self, status: int, request: Request) -> Response:
        if status == 404:
            return Response(404, b"", self._limits(1))  # no body: a client must not look into it
        if status >= 500:
            return Response(status, b"<html><body>Something went wrong</body></html>", {"content-type": "text/html"})
        if status == 400:
            return self._invalid([{"field": "subject", "message": "It should not be blank", "code": "missing_field"}])
        response = self._json(REFUSALS.get(status, {"code": "error", "message": "Error"}), status)
        if status == 429:
            response.headers["retry-after"] = "1"
        return response

    # records -------------------------------------------------------------------------------------------------------------
    @route("GET", "/api/v2/{kind}")
    def index(self, request: Request) -> Response:
        record = _KINDS.get(request.params["kind"])
        return self._list(record, request) if record else self.refusal(404, request)

    @route("GET", "/api/v2/tickets/filter")
    def filter(self, request: Request) -> Response:
        """Thirty a page whatever is asked for, ten pages, and no Link header."""
        try:
            matches = compiled(request.query.get("query", ""))
        except BadQuery as exc:
            return self._invalid([{"field": str(exc), "message": "Unexpected/invalid field in request", "code": "invalid_field"}])
        number = int(request.query.get("page") or 1)
        if number > 10:
            return self._invalid([{"field": "page", "message": "It should be between 1 and 10", "code": "invalid_value"}])
        found = [t for t in self._visible(TICKET, request) if matches(t)]
        return self._json({"tickets": searched(found, number), "total": len(found)})

    @route("POST", "/api/v2/{kind}")
    def create_record(self, request: Request) -> Response:
        record = _KINDS.get(request.params["kind"])
        return self._created(record, request) if record else self.refusal(404, request)

    @route("GET", "/api/v2/{kind}/{id}")
    def show(self, request: Request) -> Response:
        record, document = self._asked(request)
        return self._shown(record, document, request) if document else self.refusal(404, request)

    @route("PUT", "/api/v2/{kind}/{id}")
    def change_record(self, request: Request) -> Response:
        record, document = self._asked(request)
        return self._changed(record, document, request) if document else self.refusal(404, request)

    @route("DELETE", "/api/v2/tickets/{id}")
    def delete_ticket(self, request: Request) -> Response:
        return self._binned(request, True)

    @route("PUT", "/api/v2/tickets/{id}/restore")
    def restore_ticket(self, request: Request) -> Response:
        return self._binned(request, False)

    @route("GET", "/api/v2/tickets/{id}/conversations")
    def conversations(self, request: Request) -> Response:
        request.params["kind"] = "tickets"
        return self._thread(request, "conversations")

    @route("GET", "/api/v2/{kind}/{id}/notes")
    def list_notes(self, request: Request) -> Response:
        return self._thread(request, "notes") if request.params["kind"] != "tickets" else self.refusal(405, request)

    @route("POST", "/api/v2/{kind}/{id}/notes")
    def note(self, request: Request) -> Response:
        return self._noted(request, {})

    @route("GET", "/api/v2/tickets/{id}/approvals")
    def approvals(self, request: Request) -> Response:
        """A service request waits for another agent; an incident for nobody."""
        request.params["kind"] = "tickets"
        _, document = self._asked(request)
        if document is None:
            return self.refusal(404, request)
        asked = [approval(document)] if document["type"] == "Service Request" else []
        return self._paged(asked, request, "approvals")

    @route("POST", "/api/v2/tickets/{id}/reply")
    def reply(self, request: Request) -> Response:
        request.params["kind"] = "tickets"
        return self._noted(request, {"private": False})

    @route("POST", TOKEN_PATH)
    def token(self, request: Request) -> Response:
        """Grant refresh_token: a new access token, which ends the one before."""
        form = request.form
        if form.get("grant_type") != "refresh_token" or any(form.get(name) != value for name, value in self._app.items()):
            return json_response({"error": "invalid_grant"}, 400)
        self.keys.put("access_token", token_urlsafe(24))
        return json_response({"access_token": self.keys.get("access_token"), "token_type": "Bearer", "expires_in": 1800})

    # assets, people, workspaces, forms, files ----------------------------------------------------------------------------
    @route("GET", "/api/v2/assets")
    def list_assets(self, request: Request) -> Response:
        """All, or those one condition in double quotes matches, thirty a page: filter="asset_state:'IN STOCK'", search="name:'lt'"."""
        query = request.query
        found = [{name: value for name, value in asset.items() if name != "type_fields"} for asset in self.assets.values()]
        for word in ("filter", "search"):
            if word in query:
                condition = _CONDITION.fullmatch(query[word])
                if condition is None:
                    return self._invalid([{"field": word, "message": "It should be a condition in double quotes", "code": "invalid_value"}])
                found = [asset for asset in found if matches(asset, condition[1], condition[2], whole=word == "filter")]
                request.query_string = f"page={query.get('page', '1')}"
        return self._paged(found, request, "assets")

    @route("POST", "/api/v2/assets")
    def create_asset(self, request: Request) -> Response:
        given = given_in(request)
        if missing := [name for name in ("name", "asset_type_id") if not given.get(name)]:
            return self._invalid([{"field": name, "message": "It should not be blank", "code": "missing_field"} for name in missing])
        asset = new_asset(self.next_id("asset", 3), given)
        self.assets.put(str(asset["display_id"]), asset)
        return self._json({"asset": asset}, 201)

    @route("PUT", "/api/v2/assets/{id}")
    def update_asset(self, request: Request) -> Response:
        asset = self.assets.get(request.params["id"])
        if asset is None:
            return self.refusal(404, request)
        self.assets.put(request.params["id"], {**asset, **given_in(request), "updated_at": iso(now())})
        return self._json({"asset": self.assets.get(request.params["id"])})

    @route("DELETE", "/api/v2/assets/{id}")
    def delete_asset(self, request: Request) -> Response:
        if request.params["id"] not in self.assets:
            return self.refusal(404, request)
        self.assets.drop(request.params["id"])
        return Response(204, b"", self._limits(1))

    @route("GET", "/api/v2/assets/{id}")
    def asset(self, request: Request) -> Response:
        asset = self.assets.get(request.params["id"])
        if asset is None:
            return self.refusal(404, request)
        if request.query.get("include") == "type_fields":
            return self._json({"asset": asset}, used=3)
        return self._json({"asset": {name: value for name, value in asset.items() if name != "type_fields"}})

    @route("GET", "/api/v2/agents")
    def agents(self, request: Request) -> Response:
        query = request.query
        found = [p for p in self.people.values() if p["is_agent"] and query.get("email", p["email"]) == p["email"]]
        if "active" in query:
            found = [p for p in found if p["active"] is (query["active"] == "true")]
        return self._paged(found, request, "agents")

    @route("GET", "/api/v2/agents/me")
    def me(self, request: Request) -> Response:
        return self._json({"agent": next(p for p in self.people.values() if p["email"] == request.actor.id)})

    @route("GET", "/api/v2/agents/{id}")
    def agent(self, request: Request) -> Response:
        person = self.people.get(request.params["id"])
        return self._json({"agent": person}) if person and person["is_agent"] else self.refusal(404, request)

    @route("GET", "/api/v2/requesters")
    def requesters(self, request: Request) -> Response:
        query = request.query
        found = [p for p in self.people.values() if not p["is_agent"] and query.get("email", p["email"]) == p["email"]]
        if name := query.get("query", "").partition("name:'")[2].partition("'")[0].lower():
            found = [p for p in found if f"{p['first_name']} {p['last_name']}".lower().startswith(name)]
        return self._paged([{**p, "primary_email": p["email"]} for p in found], request, "requesters")

    @route("GET", "/api/v2/workspaces")
    def list_workspaces(self, request: Request) -> Response:
        return self._json({"workspaces": workspaces()})

    @route("GET", "/api/v2/workspaces/{id}")
    def workspace(self, request: Request) -> Response:
        found = next((w for w in workspaces() if str(w["id"]) == request.params["id"]), None)
        return self._json({"workspace": found}) if found else self.refusal(404, request)

    @route("GET", "/api/v2/ticket_form_fields")
    @route("GET", "/api/v2/problem_form_fields")
    @route("GET", "/api/v2/change_form_fields")
    @route("GET", "/api/v2/release_form_fields")
    def form(self, request: Request) -> Response:
        kind = request.path.rpartition("/")[2].partition("_")[0]
        return self._json({f"{kind}_fields": form_fields(kind)})

    @route("GET", "/helpdesk/attachments/{id}")
    def file(self, request: Request) -> Response:
        file = self.files.get(request.params["id"])
        if file is None or request.query.get("token") != file["token"]:
            return Response(403, b"<Error><Code>AccessDenied</Code></Error>", {"content-type": "application/xml"})
        return Response(200, base64.b64decode(file["content"]), {"content-type": file["content_type"]})

    # answers -------------------------------------------------------------------------------------------------------------
    def _visible(self, record: Record, request: Request) -> list[dict[str, Any]]:
        """What lists and searches see by now, of the workspace asked for: the primary one without a word, all of them by 0."""
        asked = [part for part in request.query.get("workspace_id", "2").split(",") if part]
        found = [d for d in self.records[record.name].values() if self.indexed(d["_at"]) and not d.get("deleted")]
        return found if "0" in asked else [d for d in found if str(d["workspace_id"]) in asked]

    def _list(self, record: Record, request: Request) -> Response:
        query = request.query
        found = self._visible(record, request)
        if query.get("filter") == "deleted":
            found = [d for d in self.records[record.name].values() if d.get("deleted")]
        since = query.get("updated_since") or iso(now() - MONTH)
        found = [d for d in found if d["updated_at"] >= since]
        for name, key in (("requester_id", "requester_id"), ("email", "_requester_email"), ("type", "type")):
            if name in query:
                found = [d for d in found if str(d.get(key)) == query[name]]
        if query.get("order_type", "desc") == "desc":
            found.reverse()
        return self._paged([shown(d, NOT_LISTED.get(record.name, NOT_LISTED_ELSE)) for d in found], request, record.plural)

    def _paged(self, found: list[Any], request: Request, name: str) -> Response:
        cut, link, fault = page(found, request.query, f"{self.base_url}{request.path}")
        if fault:
            return self._invalid([fault])
        return self._json({name: cut}, headers={"link": link} if link else {})

    def _asked(self, request: Request) -> tuple[Record, dict[str, Any] | None]:
        record = _KINDS.get(request.params["kind"])
        return (record, self.records[record.name].get(request.params["id"])) if record else (TICKET, None)

    def _shown(self, record: Record, document: dict[str, Any], request: Request) -> Response:
        include = [name for name in request.query.get("include", "").split(",") if name]
        if strange := sorted(set(include) - INCLUDES.get(record.name, frozenset())):
            return self._invalid([{"field": "include", "message": f"{strange[0]} is not supported", "code": "invalid_value"}])
        answer = shown(document, [name for name in ("tags", "assets") if record is TICKET and name not in include])
        extras: Mapping[str, Callable[[], Any]] = {
            "conversations": lambda: [shown(n) for n in (self.notes.get(str(document["id"])) or [])[:10]],
            "requester": lambda: self._requester(document["requester_id"]),
            "requested_for": lambda: self._requester(document["requester_id"]),
            "stats": lambda: _stats(document),
        }
        answer |= {name: extras[name]() for name in include if name in extras}
        return self._json({record.name: answer}, used=1 + len(include))

    def _requester(self, number: int) -> dict[str, Any]:
        person = self.people.get(str(number)) or {}
        return {"id": number, "name": f"{person.get('first_name')} {person.get('last_name')}", "email": person.get("email")}

    def _created(self, record: Record, request: Request) -> Response:
        given = given_in(request)
        if faults := self._faults(record, given, creates=True):
            return self._invalid(faults)
        files, given = self.kept_files(request), {name: value for name, value in given.items() if name != "attachments"}
        document = self.create(record, given, request)
        if files:
            document["attachments"] = files
            self.records[record.name].put(str(document["id"]), document)
        where = f"{self.base_url}/api/v2/{record.plural}/{document['id']}"
        return self._json({record.name: shown(document)}, 201, {"location": where})

    def _changed(self, record: Record, document: dict[str, Any], request: Request) -> Response:
        given = given_in(request)
        faults = self._faults(record, given, creates=False)
        if given.get("workspace_id") not in (None, document["workspace_id"]):
            faults.append({"field": "workspace_id", "message": "Moving has an operation of its own", "code": "invalid_value"})
        if faults:
            return self._invalid(faults)
        if files := self.kept_files(request):
            document["attachments"] = [*document.get("attachments", []), *files]
        self.update(record, document, given, request)
        return self._json({record.name: shown(document)})

    def _faults(self, record: Record, given: Mapping[str, Any], *, creates: bool) -> list[dict[str, str]]:
        if not given and not creates:
            return []
        faults = faults_in(record.name, given, creates=creates)
        if given.get("workspace_id") is not None and given["workspace_id"] not in [w["id"] for w in workspaces()]:
            faults.append(
                {"field": "workspace_id", "message": "There is no workspace matching the given workspace_id", "code": "invalid_value"}
            )
        return faults

    def _binned(self, request: Request, deleted: bool) -> Response:
        document = self.records["ticket"].get(request.params["id"])
        if document is None or document["deleted"] is deleted:
            return self.refusal(404, request)
        document["deleted"] = deleted
        self.touch(TICKET, document)
        return Response(204, b"", self._limits(1))

    def _thread(self, request: Request, name: str) -> Response:
        record, document = self._asked(request)
        if document is None:
            return self.refusal(404, request)
        return self._paged(self.notes.get(record.id_of(request.params["id"])) or [], request, name)

    def _noted(self, request: Request, more: Mapping[str, Any]) -> Response:
        (record, document), given = self._asked(request), given_in(request)
        if document is None:
            return self.refusal(404, request)
        if not given.get("body"):
            return self._invalid([{"field": "body", "message": "It should not be blank", "code": "missing_field"}])
        files = self.kept_files(request)
        if files and record is not TICKET:
            return self._invalid([{"field": "attachments", "message": "Unexpected/invalid field in request", "code": "invalid_field"}])
        note = self.add_note(record, document, {**given, **more}, files, request)
        return self._json({"conversation" if record is TICKET else "note": note}, 201)

    def _invalid(self, faults: list[dict[str, str]]) -> Response:
        return self._json({"description": "Validation failed", "errors": faults}, 400)

    def _limits(self, used: int) -> dict[str, str]:
        """The rate-limit headers; the limit is shown and not enforced (faults do that)."""
        minute = int(time.time() // 60)
        self._calls = self._calls + used if minute == self._minute else used
        self._minute = minute
        left = str(max(1, RATE_LIMIT - self._calls))
        return {"x-ratelimit-total": str(RATE_LIMIT), "x-ratelimit-remaining": left, "x-ratelimit-used-currentrequest": str(used)}

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None, used: int = 1) -> Response:
        return json_response(value, status, {**self._limits(used), **(headers or {})})


def _stats(document: Mapping[str, Any]) -> dict[str, Any]:
    done = document["updated_at"] if document["status"] in (4, 5) else None
    return {
        "ticket_id": document["id"],
        "opened_at": document["created_at"],
        "first_responded_at": None,
        "pending_since": document["updated_at"] if document["status"] == 3 else None,
        "resolved_at": done,
        "closed_at": done if document["status"] == 5 else None,
    }
