"""A stand-in for ServiceDesk Plus: the API v3 calls this project makes, and webhooks with a secret in a header."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping
from email import message_from_bytes
from email.policy import HTTP
from typing import Any, ClassVar, Final

import msgspec

from plugins.marker import find_marker, note_marker
from plugins.richtext import from_html, from_markdown, to_html, to_plain
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Actor, Sandbox, now
from plugins.sandbox.webhooks import RetryPolicy

Json = dict[str, Any]

BOT = Actor("44", False, "Ticket Bridge")
PERSON = Actor("618", True, "Technician on duty")
EMAILS: Final = {BOT.id: "bridge@harbour.example", PERSON.id: "technician@harbour.example"}

LOOKUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "priority": ("Low", "Normal", "Medium", "High", "Urgent"),
    "status": ("Onhold", "Open", "Assigned", "Resolved", "Closed", "Cancelled", "In Progress"),
    "request_type": ("Incident", "Service Request"),
    "urgency": ("Urgent", "High", "Normal", "Low"),
    "impact": ("High", "Medium", "Low"),
    "level": ("Tier 1", "Tier 2", "Tier 3", "Tier 4"),
    "mode": ("Web Form", "E-Mail", "Phone Call"),
    "group": ("Network", "Access control"),
    "category": ("Hardware", "Software"),
}
"""Names of the lookup fields; an id is the place in the list, from 1."""
TEXTS: Final = frozenset({"subject", "description", "update_reason", "impact_details"})
PEOPLE: Final = frozenset({"requester", "technician"})
UDF: Final = re.compile(r"udf_(sline|mline|pick|long|date|ref)_\d+")
EXTERNAL_ID, EVENT = "udf_sline_1", "udf_sline_2"
SORTABLE: Final = frozenset({"created_time", "due_by_time", "last_updated_time", "subject", "id", "priority", "status"})
SHORT_ROW: Final = ("id", "subject", "status", "priority", "requester", "technician", "created_time", "due_by_time", "is_service_request")

PERSON_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "priority": {"urgent": "Urgent", "high": "High", "medium": "Medium", "low": "Low"},
    "request_type": {"incident": "Incident", "request": "Service Request", "problem": "Incident", "change": "Service Request"},
    "status": {"new": "Open", "open": "In Progress", "pending": "Onhold", "resolved": "Resolved", "closed": "Closed"},
}


class Refused(Exception):
    """A failure as the envelope tells it; some come under status 200, as on real servers."""

    def __init__(self, code: int, message: str, field: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.response = _failed(code, message, field, status)


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
            found = [r for r in self._requests.values() if not r["is_trashed"] and all(self._meets(r, c) for c in criteria)]
        except Refused as exc:
            return exc.response
        if info.get("sort_order", "desc") == "desc":
            found.reverse()
        names = {"id", *(info.get("fields_required") or SHORT_ROW)}
        return _page("requests", found, info, lambda r: {name: value for name, value in self._shown(r).items() if name in names})

    @route("GET", "/api/v3/requests/{id}")
    def read(self, request: Request) -> Response:
        found = self._requests.get(request.params["id"])
        return self.refusal(404, request) if found is None else _done({"request": self._shown(found)})

    @route("GET", "/api/v3/requests/{id}/notes")
    def list_notes(self, request: Request) -> Response:
        found = self._requests.get(request.params["id"])
        if found is None:
            return self.refusal(404, request)
        try:
            info = _input(request.query.get("input_data"), "list_info") if "input_data" in request.query else {}
        except Refused as exc:
            return exc.response
        seen = [note for note in found["notes"] if self.indexed(note["at"])]
        return _page("notes", seen, info, lambda note: {k: v for k, v in self._note(found, note).items() if k != "description"})

    @route("GET", "/api/v3/requests/{id}/notes/{note_id}")
    def read_note(self, request: Request) -> Response:
        found = self._requests.get(request.params["id"])
        note = next((n for n in found["notes"] if n["id"] == request.params["note_id"]), None) if found else None
        return self.refusal(404, request) if note is None else _done({"note": self._note(found, note)})

    # writes ----------------------------------------------------------------------------------------------------------
    @route("POST", "/api/v3/requests")
    def create(self, request: Request) -> Response:
        try:
            fields = self._checked(_input(request.form.get("input_data"), "request"))
            if not fields.get("subject"):
                raise Refused(4012, "Mandatory field is missing", "subject", status=200)
        except Refused as exc:
            return exc.response
        return _done({"request": self._shown(self._create(fields, request))}, 201)

    @route("PUT", "/api/v3/requests/{id}")
    def edit(self, request: Request) -> Response:
        found = self._requests.get(request.params["id"])
        if found is None:
            return self.refusal(404, request)
        try:
            fields = self._checked(_input(request.form.get("input_data"), "request"))
            if fields.get("status") == "Closed" and not (fields.get("resolution") or found["resolution"]):
                raise Refused(4001, "Resolution is mandatory to close the request", "resolution")
        except Refused as exc:
            return exc.response
        self._change(found, fields, request)
        return _done({"request": self._shown(found)})

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
            return exc.response
        added = self._add_note(found, note["description"], note.get("show_to_requester") is not False, request)
        return _done({"note": self._note(found, added)}, 201)

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
        return str(self._create({"subject": "(no subject)", **_in_our_words(fields)}, request)["id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor, found = PERSON, self._requests.get(ticket_id)
        if found is None:
            return False
        values = _in_our_words(fields)
        if values:
            self._change(found, values, request)
        if fields.get("comment"):
            self._add_note(found, to_html(from_markdown(str(fields["comment"]))), bool(fields.get("public")), request)
        return True

    # parts -----------------------------------------------------------------------------------------------------------
    def _checked(self, given: Json) -> Json:
        """An input object in stored form: lookups by name, people by e-mail address or id, custom fields by their names."""
        stored: Json = {}
        for name, value in given.items():
            if name in TEXTS:
                if not isinstance(value, str):
                    raise Refused(4001, "Invalid Input", name)
                stored[name] = value
            elif name in LOOKUPS:
                stored[name] = _looked_up(name, value)
            elif name == "resolution" and isinstance(value, dict):
                stored[name] = value.get("content")
            elif name in PEOPLE:
                stored[name] = value if value is None or isinstance(value, dict) else None
            elif name == "udf_fields" and isinstance(value, dict):
                strange = next((field for field in value if not UDF.fullmatch(field)), None)
                if strange is not None:
                    raise Refused(4001, "Invalid Input", strange)
                stored[name] = value
            else:
                raise Refused(4001, "Invalid Input", name)
        return stored

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
        body: Json = {"event": event, "request": self._shown(found), "last_updated_by": _user(request.actor.id)}
        if note is not None:
            body["note"] = self._note(found, note)
        self.fire(body)

    def _meets(self, found: Json, criterion: Any) -> bool:
        field = criterion.get("field") if isinstance(criterion, dict) else None
        if not isinstance(field, str) or criterion.get("condition") not in ("is", "eq", "contains"):
            raise Refused(4001, "Invalid Input", "search_criteria")
        wanted = [str(value) for value in criterion.get("values") or [criterion.get("value")]]
        if field.startswith("udf_fields."):
            if not self.indexed(found["udf_at"]):
                return False
            value = found["udf_fields"].get(field.removeprefix("udf_fields."))
        elif field in ("id", "display_id", "subject"):
            value = found[field]
        elif field.partition(".")[0] in LOOKUPS:
            value = found.get(field.partition(".")[0])
        else:
            raise Refused(4001, "Invalid Input", field)
        if criterion["condition"] == "contains":
            return any(part in str(value) for part in wanted)
        return str(value) in wanted

    def _shown(self, found: Json) -> Json:
        """The request as the API and the webhooks show it."""
        lookups = {name: _lookup(name, found.get(name)) for name in LOOKUPS}
        status, kind = lookups["status"], found["request_type"]
        return {
            "id": found["id"],
            "display_id": found["display_id"],
            "subject": found["subject"],
            "description": found["description"],
            **lookups,
            "status": status,
            "is_service_request": kind == "Service Request",
            "requester": _person(found["requester"]),
            "technician": _person(found["technician"]),
            "created_by": _user(found["created_by"]),
            "created_time": _time(found["created"]),
            "last_updated_time": _time(found["updated"]),
            "last_updated_by": _user(found["updated_by"]) if found["updated_by"] else None,
            "due_by_time": _time(found["created"] + 4 * 3_600_000_000),
            "first_response_due_by_time": None,
            "resolution": {"content": found["resolution"], "resolution_attachments": []},
            "udf_fields": {EXTERNAL_ID: None, EVENT: None, **found["udf_fields"]},
            "has_notes": bool(found["notes"]),
            "has_attachments": bool(found["attachments"]),
            "is_trashed": found["is_trashed"],
            "is_overdue": False,
            "tags": [],
        }

    def _note(self, found: Json, note: Json) -> Json:
        return {
            "id": note["id"],
            "description": note["description"],
            "show_to_requester": note["public"],
            "added_time": _time(note["at"]),
            "added_by": _user(note["by"]),
            "request": {"id": found["id"], "subject": found["subject"]},
        }


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


def _looked_up(field: str, value: Any) -> str | None:
    if value is None:
        return None
    names, given = LOOKUPS[field], value if isinstance(value, dict) else {}
    for place, name in enumerate(names, 1):
        if given.get("id") == str(place) or ("id" not in given and given.get("name") == name):
            return name
    raise Refused(4001, "Invalid Input", field)


def _lookup(field: str, name: Any) -> Json | None:
    return None if name is None else {"id": str(LOOKUPS[field].index(name) + 1), "name": name}


def _user(user_id: str) -> Json:
    name = BOT.name if user_id == BOT.id else PERSON.name
    return {"id": user_id, "name": name, "email_id": EMAILS[user_id], "is_vipuser": False, "phone": None, "department": None}


def _person(given: Any) -> Json | None:
    """A user as stored on a request: one of ours by id, or a requester known by e-mail address."""
    if not isinstance(given, dict):
        return None
    if given.get("id") in EMAILS:
        return _user(given["id"])
    email = given.get("email_id")
    return {"id": "900", "name": given.get("name") or email, "email_id": email, "is_vipuser": False, "phone": None, "department": None}


def _time(micros: int | None) -> Json | None:
    if micros is None:
        return None
    shown = time.strftime("%b %d, %Y %I:%M %p", time.gmtime(micros // 1_000_000))
    return {"display_value": shown, "value": str(micros // 1000)}


def _page(name: str, rows: list[Json], info: Json, shown: Callable[[Json], Json]) -> Response:
    """One page of the rows; its status is a list, as lists' are."""
    try:
        start, size = max(int(info.get("start_index", 1)), 1), min(max(int(info.get("row_count", 10)), 1), 100)
    except (TypeError, ValueError):
        return _failed(4001, "Invalid Input", "list_info", 400)
    page = [shown(row) for row in rows[start - 1 : start - 1 + size]]
    told = {"has_more_rows": start - 1 + size < len(rows), "start_index": start, "row_count": len(page)}
    return json_response({name: page, "list_info": told, "response_status": [{"status_code": 2000, "status": "success"}]})


def _done(body: Json, status: int = 200) -> Response:
    return json_response({**body, "response_status": {"status_code": 2000, "status": "success"}}, status)


def _failed(code: int, message: str, field: str | None, status: int) -> Response:
    told: Json = {"status_code": code, "type": "failed", "message": message}
    if field is not None:
        told["field"] = field
    return json_response({"response_status": {"status_code": 4000, "messages": [told], "status": "failed"}}, status)


def _in_our_words(fields: Mapping[str, Any]) -> Json:
    """A person's canonical words in stored form."""
    values: Json = {}
    if "subject" in fields:
        values["subject"] = str(fields["subject"])
    if "description" in fields:
        values["description"] = to_html(from_markdown(str(fields["description"])))
    for name, field in (("priority", "priority"), ("type", "request_type"), ("status", "status")):
        word = PERSON_WORDS[field].get(str(fields.get(name)))
        if word is not None:
            values[field] = word
    return values
