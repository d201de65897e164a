"""A stand-in for ServiceDesk Plus: the API v3 calls this project makes, and webhooks with a secret in a header."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from email import message_from_bytes
from email.policy import HTTP
from typing import Any, ClassVar

import msgspec

from plugins.marker import find_marker, note_marker
from plugins.richtext import from_html, from_markdown, to_html, to_plain
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Actor, Sandbox, now
from plugins.sandbox.webhooks import RetryPolicy
from plugins.servicedesk_plus.sandbox_request import (
    BOT_ID,
    EMAILS,
    EVENT,
    EXTERNAL_ID,
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

BOT, PERSON = Actor(BOT_ID, False, NAMES[BOT_ID]), Actor(PERSON_ID, True, NAMES[PERSON_ID])


class ServiceDeskPlusSandbox(Sandbox):
    """Requests, notes, lists with criteria, uploads. A closed request needs a resolution, as many sites demand."""

    tool_type: ClassVar[str] = "servicedesk_plus"
    retry_policy: ClassVar[RetryPolicy] = RetryPolicy(on_status=frozenset(), delays=())
    """The tool fires and forgets: what is not taken is lost, and only a poll would find it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._requests = self.journal.table("requests")

    @property
    def credentials(self) -> Mapping[str, Any]:
        return {
            "auth": {"technician_key": self.secret("technician key")},
            "actor": EMAILS[BOT.id],
            "person": {"headers": {"authtoken": self.secret("person's key")}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"scheme": "shared_secret", "header": "X-Webhook-Secret", "secret": self.secret("webhook secret")}

    def sign(self, body: bytes) -> Mapping[str, str]:
        return {"X-Webhook-Secret": self.secret("webhook secret")}

    def actor_of(self, request: Request) -> Actor | None:
        given = request.headers.get("authtoken", request.headers.get("technician_key", "")).encode()
        for actor, name in ((BOT, "technician key"), (PERSON, "person's key")):
            if hmac.compare_digest(given, self.secret(name).encode()):
                return actor
        return None

    def refusal(self, status: int, request: Request) -> Response:
        match status:
            case 401:
                return _failed(4002, "UNAUTHORISED", None, 401)
            case 403:
                return _failed(4003, "FORBIDDEN", None, 403)
            case 404 | 405:
                return _failed(4007, "Invalid URL", None, 404)
            case 429:
                return Response(429, b"Too many requests", {"content-type": "text/plain"})
            case _:
                return _failed(4004 if status >= 500 else 4001, "Internal Error" if status >= 500 else "Invalid Input", None, status)

    # reads -----------------------------------------------------------------------------------------------------------
    @route("GET", "/api/v3/requests")
    def list_requests(self, request: Request) -> Response:
        try:
            info = _input(request.query.get("input_data"), "list_info") if "input_data" in request.query else {}
            sort = info.get("sort_field", "created_time")
            if sort not in SORTABLE:
                raise Refused(4001, "Invalid Input", "sort_field")
            criteria = info.get("search_criteria", [])
            criteria = criteria if isinstance(criteria, list) else [criteria]
            found = [
                r
                for r in self._requests.values()
                if not r["is_trashed"] and all(meets(r, c, indexed=self.indexed(r["udf_at"])) for c in criteria)
            ]
        except Refused as exc:
            return _refused(exc)
        if info.get("sort_order", "desc") == "desc":
            found.reverse()
        names = {"id", *(info.get("fields_required") or SHORT_ROW)}
        return _page("requests", found, info, lambda r: {name: value for name, value in shown(r).items() if name in names})

    @route("GET", "/api/v3/requests/{id}")
    def read(self, request: Request) -> Response:
        found = self._requests.get(request.params["id"])
        return self.refusal(404, request) if found is None else _done({"request": shown(found)})

    @route("GET", "/api/v3/requests/{id}/notes")
    def list_notes(self, request: Request) -> Response:
        found = self._requests.get(request.params["id"])
        if found is None:
            return self.refusal(404, request)
        try:
            info = _input(request.query.get("input_data"), "list_info") if "input_data" in request.query else {}
        except Refused as exc:
            return _refused(exc)
        seen = [note for note in found["notes"] if self.indexed(note["at"])]
        return _page("notes", seen, info, lambda note: {k: v for k, v in shown_note(found, note).items() if k != "description"})

    @route("GET", "/api/v3/requests/{id}/notes/{note_id}")
    def read_note(self, request: Request) -> Response:
        found = self._requests.get(request.params["id"])
        note = next((n for n in found["notes"] if n["id"] == request.params["note_id"]), None) if found else None
        return self.refusal(404, request) if note is None else _done({"note": shown_note(found, note)})

    # writes ----------------------------------------------------------------------------------------------------------
    @route("POST", "/api/v3/requests")
    def create(self, request: Request) -> Response:
        try:
            fields = checked(_input(request.form.get("input_data"), "request"))
            if not fields.get("subject"):
                raise Refused(4012, "Mandatory field is missing", "subject", status=200)
        except Refused as exc:
            return _refused(exc)
        return _done({"request": shown(self._create(fields, request))}, 201)

    @route("PUT", "/api/v3/requests/{id}")
    def edit(self, request: Request) -> Response:
        found = self._requests.get(request.params["id"])
        if found is None:
            return self.refusal(404, request)
        try:
            fields = checked(_input(request.form.get("input_data"), "request"))
            if fields.get("status") == "Closed" and not (fields.get("resolution") or found["resolution"]):
                raise Refused(4001, "Resolution is mandatory to close the request", "resolution")
        except Refused as exc:
            return _refused(exc)
        self._change(found, fields, request)
        return _done({"request": shown(found)})

    @route("POST", "/api/v3/requests/{id}/notes")
    def add_note(self, request: Request) -> Response:
        found = self._requests.get(request.params["id"])
        if found is None:
            return self.refusal(404, request)
        try:
            note = _input(request.form.get("input_data"), "note", "request_note")
            if not isinstance(note.get("description"), str) or not note["description"]:
                raise Refused(4012, "Mandatory field is missing", "description", status=200)
        except Refused as exc:
            return _refused(exc)
        added = self._add_note(found, note["description"], note.get("show_to_requester") is not False, request)
        return _done({"note": shown_note(found, added)}, 201)

    @route("PUT", "/api/v3/requests/{id}/upload")
    def upload(self, request: Request) -> Response:
        found = self._requests.get(request.params["id"])
        if found is None:
            return self.refusal(404, request)
        form = message_from_bytes(f"content-type: {request.headers.get('content-type', '')}\r\n\r\n".encode() + request.body, policy=HTTP)
        rows = []
        for part in form.iter_parts():
            content = part.get_payload(decode=True)
            size = len(content) if isinstance(content, bytes) else 0
            rows.append({"id": str(self.next_id("attachment", 40_001)), "name": part.get_filename(), "size": size})
        if not rows:
            return _failed(4001, "Invalid Input", "file", 400)
        found["attachments"] = [*found["attachments"], *rows]
        self._requests.put(found["id"], found)
        return _done({"attachment": rows[0]})

    # people ----------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = PERSON
        return str(self._create({"subject": "(no subject)", **in_our_words(fields)}, request)["id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor, found = PERSON, self._requests.get(ticket_id)
        if found is None:
            return False
        values = in_our_words(fields)
        if values:
            self._change(found, values, request)
        if fields.get("comment"):
            self._add_note(found, to_html(from_markdown(str(fields["comment"]))), bool(fields.get("public")), request)
        return True

    # parts -----------------------------------------------------------------------------------------------------------
    def _create(self, fields: Json, request: Request) -> Json:
        at = now()
        found: Json = {
            "id": str(self.next_id("request", 410_000_000_000_010_001)),
            "display_id": str(self.next_id("display", 1)),
            "description": "",
            "priority": None,
            "status": "Open",
            "request_type": "Incident",
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
            "attachments": [],
        }
        self._requests.put(found["id"], found)
        udf = found["udf_fields"]
        self.ledger.write("create", found["id"], request, external_id=udf.get(EXTERNAL_ID), marker=udf.get(EVENT))
        self._tell("created", found, request)
        return found

    def _change(self, found: Json, fields: Json, request: Request) -> None:
        udf = fields.get("udf_fields", {})
        found["udf_fields"].update(udf)
        found.update({name: value for name, value in fields.items() if name != "udf_fields"})
        found["updated"], found["updated_by"] = now(), request.actor.id
        found["udf_at"] = found["updated"] if EXTERNAL_ID in udf else found["udf_at"]
        self._requests.put(found["id"], found)
        self.ledger.write("update", found["id"], request, external_id=found["udf_fields"].get(EXTERNAL_ID), marker=udf.get(EVENT))
        self._tell("updated", found, request)

    def _add_note(self, found: Json, description: str, public: bool, request: Request) -> Json:
        note = {"id": str(self.next_id("note", 301)), "description": description, "public": public, "at": now(), "by": request.actor.id}
        found["notes"].append(note)
        found["updated"], found["updated_by"] = note["at"], request.actor.id
        self._requests.put(found["id"], found)
        marker = find_marker(to_plain(from_html(description)))
        external_id = found["udf_fields"].get(EXTERNAL_ID)
        self.ledger.write("note", found["id"], request, external_id=external_id, marker=note_marker(*marker) if marker else None)
        self._tell("commented", found, request, note)
        return note

    def _tell(self, event: str, found: Json, request: Request, note: Json | None = None) -> None:
        body: Json = {"event": event, "request": shown(found), "last_updated_by": user(request.actor.id)}
        if note is not None:
            body["note"] = shown_note(found, note)
        self.fire(body)


def _input(text: str | None, *names: str) -> Json:
    """The object under one of the names in `input_data`; refused when there is none: a raw JSON body is not understood either."""
    try:
        body = msgspec.json.decode(text or "")
    except msgspec.DecodeError:
        raise Refused(4001, "Invalid Input", "input_data") from None
    found = next((body[name] for name in names if name in body), None) if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise Refused(4001, "Invalid Input", "input_data")
    return found


def _page(name: str, rows: list[Json], info: Json, form: Callable[[Json], Json]) -> Response:
    """One page of the rows; its status is a list, as lists' are."""
    try:
        start, size = max(int(info.get("start_index", 1)), 1), min(max(int(info.get("row_count", 10)), 1), 100)
    except (TypeError, ValueError):
        return _failed(4001, "Invalid Input", "list_info", 400)
    page = [form(row) for row in rows[start - 1 : start - 1 + size]]
    told = {"has_more_rows": start - 1 + size < len(rows), "start_index": start, "row_count": len(page)}
    return json_response({name: page, "list_info": told, "response_status": [{"status_code": 2000, "status": "success"}]})


def _done(body: Json, status: int = 200) -> Response:
    return json_response({**body, "response_status": {"status_code": 2000, "status": "success"}}, status)


def _refused(exc: Refused) -> Response:
    return _failed(exc.code, exc.message, exc.field, exc.status)


def _failed(code: int, message: str, field: str | None, status: int) -> Response:
    told: Json = {"status_code": code, "type": "failed", "message": message}
    if field is not None:
        told["field"] = field
    return json_response({"response_status": {"status_code": 4000, "messages": [told], "status": "failed"}}, status)
