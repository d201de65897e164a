"""A stand-in for ServiceDesk Plus: API v3 over requests, changes and problems, and webhooks with a secret in a header.

It is both editions at once: a technician's key and Zoho's tokens are taken, and paths may begin with the cloud's `/app/{portal}`.
What hangs on a request is in sandbox_parts.py.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import uuid4

from plugins.marker import find_marker, note_marker
from plugins.richtext import from_html, from_markdown, to_html, to_plain
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Actor, now
from plugins.sandbox.webhooks import RetryPolicy
from plugins.servicedesk_plus.sandbox_parts import TOKEN_PATH, Parts, done, failed, given_in, page, refused
from plugins.servicedesk_plus.sandbox_request import (
    BOT_ID,
    EMAILS,
    EVENT,
    EXTERNAL_ID,
    LABELS,
    LEGAL,
    NAMES,
    PERSON_ID,
    SHORT_ROW,
    SORTABLE,
    Json,
    Refused,
    checked,
    in_our_words,
    meets,
    shown,
    shown_note,
    user,
)

API = "/api/v3"
OBJECTS: Mapping[str, str] = {"requests": "request", "changes": "change", "problems": "problem"}
TOKEN_LIFE = 3600
BOT, PERSON = Actor(BOT_ID, False, NAMES[BOT_ID]), Actor(PERSON_ID, True, NAMES[PERSON_ID])


class ServiceDeskPlusSandbox(Parts):
    """Requests, changes, problems, lists with criteria. A closed request needs a resolution, as many sites demand."""

    tool_type: ClassVar[str] = "servicedesk_plus"
    retry_policy: ClassVar[RetryPolicy] = RetryPolicy(on_status=frozenset(), delays=())
    """The tool fires and forgets: what is not taken is lost, and only a poll would find it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._items = self.journal.table("items")

    @property
    def credentials(self) -> Mapping[str, Any]:
        return {
            "auth": {"technician_key": self.secret("technician key")},
            "oauth": {
                "client_id": "1000.SANDBOX",
                "client_secret": self.secret("client secret"),
                "refresh_token": self.secret("refresh token"),
            },
            "actor": EMAILS[BOT.id],
            "person": {"headers": {"authtoken": self.secret("person's key")}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"scheme": "shared_secret", "header": "X-Webhook-Secret", "secret": self.secret("webhook secret")}

    def sign(self, body: bytes) -> Mapping[str, str]:
        return {"X-Webhook-Secret": self.secret("webhook secret")}

    def path_of(self, request: Request) -> str:
        return re.sub(r"^/app/[^/]+(?=/api/v3/)", "", request.path)

    def actor_of(self, request: Request) -> Actor | None:
        if request.path == TOKEN_PATH:  # a fault meant for a call must not be used up by the token before it
            return Actor("", not any(f.path and request.path.startswith(f.path) for f in self.faults.armed))
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind == "Zoho-oauthtoken":
            return BOT if time.time() < float(self.keys.get(f"token {token}") or 0) else None
        given = request.headers.get("authtoken", request.headers.get("technician_key", "")).encode()
        for actor, name in ((BOT, "technician key"), (PERSON, "person's key")):
            if hmac.compare_digest(given, self.secret(name).encode()):
                return actor
        return None

    def refusal(self, status: int, request: Request) -> Response:
        match status:
            case 401:
                return failed(4002, "UNAUTHORISED", None, 401)
            case 403:
                return failed(4003, "FORBIDDEN", None, 403)
            case 404 | 405:
                return failed(4007, "Invalid URL", None, 404)
            case 429:
                return Response(429, b"Too many requests", {"content-type": "text/plain"})
            case _:
                return failed(4004 if status >= 500 else 4001, "Internal Error" if status >= 500 else "Invalid Input", None, status)

    @route("POST", TOKEN_PATH)
    def token(self, request: Request) -> Response:
        """Zoho's accounts host; what it refuses, it refuses under status 200."""
        form, right = request.form, self.credentials["oauth"]
        if form.get("grant_type") != "refresh_token" or any(form.get(name) != value for name, value in right.items()):
            wrong = "invalid_client" if form.get("client_secret") != right["client_secret"] else "invalid_code"
            return json_response({"error": wrong})
        token = f"1000.{uuid4().hex}"
        self.keys.put(f"token {token}", time.time() + TOKEN_LIFE)
        told = {"access_token": token, "api_domain": self.base_url, "token_type": "Bearer", "expires_in": TOKEN_LIFE}
        return json_response(told)

    # reads -----------------------------------------------------------------------------------------------------------
    @route("GET", f"{API}/{{module}}")
    def list_items(self, request: Request) -> Response:
        module = request.params["module"]
        if module not in OBJECTS:
            return self.refusal(404, request)
        try:
            info = given_in(request.query.get("input_data"), "list_info") if "input_data" in request.query else {}
            sort = info.get("sort_field", "created_time")
            if sort not in SORTABLE:
                raise Refused(4001, "Invalid Input", "sort_field")
            criteria = info.get("search_criteria", [])
            criteria = criteria if isinstance(criteria, list) else [criteria]
            found = [r for r in self._items.values() if r["module"] == module and not r["is_trashed"] and self._meets(r, criteria)]
        except Refused as exc:
            return refused(exc)
        if info.get("sort_order", "desc") == "desc":
            found.reverse()
        names = {"id", *(info.get("fields_required") or SHORT_ROW)}
        return page(module, found, info, lambda r: {name: value for name, value in shown(r).items() if name in names})

    @route("GET", f"{API}/{{module}}/_metainfo")
    def metainfo(self, request: Request) -> Response:
        fields = {name: {"type": "text", "display_name": label} for name, label in LABELS.items()}
        return done({"metainfo": {"fields": {"udf_fields": {"fields": fields}}}})

    @route("GET", f"{API}/{{module}}/{{id}}")
    def read(self, request: Request) -> Response:
        found = self.item_of(request)
        return self.refusal(404, request) if found is None else done({OBJECTS[found["module"]]: shown(found)})

    # writes ----------------------------------------------------------------------------------------------------------
    @route("POST", f"{API}/{{module}}")
    def create(self, request: Request) -> Response:
        module = request.params["module"]
        if module not in OBJECTS:
            return self.refusal(404, request)
        title = "subject" if module == "requests" else "title"
        try:
            fields = checked(given_in(request.form.get("input_data"), OBJECTS[module]), module)
            if not fields.get(title):
                raise Refused(4012, "Mandatory field is missing", title, status=200)
        except Refused as exc:
            return refused(exc)
        return done({OBJECTS[module]: shown(self._create(fields, request, module))}, 201)

    @route("PUT", f"{API}/{{module}}/{{id}}")
    def edit(self, request: Request) -> Response:
        found = self.item_of(request)
        if found is None:
            return self.refusal(404, request)
        try:
            fields = checked(given_in(request.form.get("input_data"), OBJECTS[found["module"]]), found["module"])
            if found["module"] == "requests" and fields.get("status") == "Closed" and not (fields.get("resolution") or found["resolution"]):
                raise Refused(4001, "Resolution is mandatory to close the request", "resolution")
            if found["module"] == "changes" and not _legal({**found, **fields}):
                raise Refused(4001, "Invalid Input", "status")
        except Refused as exc:
            return refused(exc)
        self._change(found, fields, request)
        return done({OBJECTS[found["module"]]: shown(found)})

    # people ----------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = PERSON
        return str(self._create({"subject": "(no subject)", **in_our_words(fields)}, request)["id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        module = next((name for prefix, name in (("CH-", "changes"), ("PR-", "problems")) if ticket_id.startswith(prefix)), "requests")
        request.actor, found = PERSON, self._items.get(f"{module}/{ticket_id.removeprefix('CH-').removeprefix('PR-')}")
        if found is None:
            return False
        values = in_our_words(fields)
        if values:
            self._change(found, values, request)
        if fields.get("comment"):
            self.add_note_to(found, to_html(from_markdown(str(fields["comment"]))), bool(fields.get("public")), request)
        return True

    # the state ---------------------------------------------------------------------------------------------------------
    def item_of(self, request: Request) -> Json | None:
        found: Json | None = self._items.get(f"{request.params['module']}/{request.params['id']}")
        return found

    def save(self, found: Json) -> None:
        self._items.put(f"{found['module']}/{found['id']}", found)

    def _meets(self, found: Json, criteria: list[Any]) -> bool:
        return all(meets(found, criterion, indexed=self.indexed(found["udf_at"])) for criterion in criteria)

    def _create(self, fields: Json, request: Request, module: str = "requests") -> Json:
        at = now()
        own: Json = {"status": "Open", "request_type": "Incident"}
        if module == "changes":
            own = {"stage": "Submission", "status": "Requested", "change_type": "Minor"}
        found: Json = {
            "id": str(self.next_id(module, 410_000_000_000_010_001)),
            "module": module,
            "display_id": str(self.next_id(f"display {module}", 1)),
            "description": "",
            "priority": None,
            **own,
            "technician": None,
            "requester": {"id": request.actor.id},
            "resolution": None,
            **fields,
            "udf_fields": dict(fields.get("udf_fields", {})),
            "created_by": request.actor.id,
            "created": at,
            "updated": None,
            "updated_by": None,
            "udf_at": at,
            "is_trashed": False,
            "notes": [],
            "worklogs": [],
            "attachments": [],
        }
        self.save(found)
        udf = found["udf_fields"]
        self.ledger.write("create", _ours(found), request, external_id=udf.get(EXTERNAL_ID), marker=udf.get(EVENT))
        self._tell("created", found, request)
        return found

    def _change(self, found: Json, fields: Json, request: Request) -> None:
        udf = fields.get("udf_fields", {})
        found["udf_fields"].update(udf)
        found.update({name: value for name, value in fields.items() if name != "udf_fields"})
        found["updated"], found["updated_by"] = now(), request.actor.id
        found["udf_at"] = found["updated"] if EXTERNAL_ID in udf else found["udf_at"]
        self.save(found)
        self.ledger.write("update", _ours(found), request, external_id=found["udf_fields"].get(EXTERNAL_ID), marker=udf.get(EVENT))
        self._tell("updated", found, request)

    def add_note_to(self, found: Json, description: str, public: bool, request: Request) -> Json:
        note = {"id": str(self.next_id("note", 301)), "description": description, "public": public, "at": now(), "by": request.actor.id}
        found["notes"].append(note)
        found["updated"], found["updated_by"] = note["at"], request.actor.id
        self.save(found)
        marker = find_marker(to_plain(from_html(description)))
        external_id = found["udf_fields"].get(EXTERNAL_ID)
        self.ledger.write("note", _ours(found), request, external_id=external_id, marker=note_marker(*marker) if marker else None)
        self._tell("commented", found, request, note)
        return note

    def _tell(self, event: str, found: Json, request: Request, note: Json | None = None) -> None:
        body: Json = {"event": event, OBJECTS[found["module"]]: shown(found), "last_updated_by": user(request.actor.id)}
        if note is not None:
            body["note"] = shown_note(found, note)
        self.fire(body)


def _legal(change: Json) -> bool:
    return change["stage"] not in LEGAL or change["status"] in LEGAL[change["stage"]]


def _ours(found: Json) -> str:
    """An id as the plugin writes it: changes and problems count by themselves."""
    return {"changes": "CH-", "problems": "PR-"}.get(found["module"], "") + str(found["id"])
