"""A small SysAid: sessions and service records of the classic API, and the webhooks of each write. sandbox_developers.py adds the
newer API over the same records.

Two logins in five minutes are all the real one allows; here any number may be made, since each test is a client of its own. A fault
hits a login only where its path names it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from http.cookies import SimpleCookie
from typing import Any, ClassVar
from urllib.parse import unquote_plus
from uuid import uuid4

from plugins.marker import find_marker, note_marker
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.multipart import parts_of
from plugins.sandbox.server import Actor, now
from plugins.sandbox.webhooks import RetryPolicy
from plugins.sysaid.sandbox_developers import DevelopersApi
from plugins.sysaid.sandbox_record import (
    AGENT,
    BOT,
    CAPTIONS,
    CLOSED,
    CUSTOMER,
    FORM,
    KINDS,
    READ_ONLY,
    USER_IDS,
    USERS,
    event_body,
    field,
    in_sysaid_words,
    shown,
    user_shown,
    workflow_body,
    written,
)
from plugins.sysaid.sandbox_surroundings import Surroundings, fields_asked, page_of

Json = dict[str, Any]
ACCOUNT = "acme"
LOGIN = "/api/v1/login"


class SysAidSandbox(DevelopersApi, Surroundings):
    """One account with three users: ours, an administrator's, and an end user behind them."""

    tool_type: ClassVar[str] = "sysaid"
    retry_policy: ClassVar[RetryPolicy] = RetryPolicy(on_status=frozenset({408, 429, 500, 502, 503, 504}))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.records = self.journal.table("records")
        self.sessions = self.journal.table("sessions")
        self.files = self.journal.table("files")

    # accounts ------------------------------------------------------------------------------------------------------------
    @property
    def credentials(self) -> Mapping[str, Any]:
        return {
            "auth": {"user_name": BOT, "password": self.secret("password") + " +&"},
            "developers_auth": dict(self.developers_auth),
            "actor": BOT,
            "person": {"headers": {"Cookie": f"JSESSIONID={self.secret('person session')}"}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"scheme": "shared_secret", "header": "X-Webhook-Secret", "secret": self.secret("webhook secret")}

    def sign(self, body: bytes) -> Mapping[str, str]:
        return {"X-Webhook-Secret": self.secret("webhook secret")}

    def actor_of(self, request: Request) -> Actor | None:
        if request.path in (LOGIN, "/v1/access-tokens"):  # a fault meant for a call must not be used up by the login before it
            return Actor("", not any(f.path and request.path.startswith(f.path) for f in self.faults.armed))
        if request.path.startswith("/v1/"):
            return Actor(BOT, False, "Integration") if self.token_holds(request) else None
        cookie = SimpleCookie(request.headers.get("cookie", "")).get("JSESSIONID")
        given = cookie.value if cookie else ""
        if hmac.compare_digest(given.encode(), self.secret("person session").encode()):
            return Actor(AGENT, True, "Ada Agent")
        user = self.sessions.get(given) if given else None
        return Actor(str(user), False, USERS[USER_IDS[user]]["display_name"]) if user else None

    def refusal(self, status: int, request: Request) -> Response:
        if request.path.startswith("/v1/"):
            return self.refused_by_developers(status)
        if status == 404:  # an unknown path is the servlet container's
            return Response(404, b"<html><body>HTTP Status 404</body></html>", {"content-type": "text/html"})
        said = {401: "Unauthorized", 403: "Forbidden", 429: "Request limit exceeded"}.get(status, "The request failed")
        return json_response({"status": "error", "message": said}, status)

    @route("POST", LOGIN)
    def login(self, request: Request) -> Response:
        """The password is taken URL-encoded, as the manual has it, or as it is."""
        body = request.json()
        body = body if isinstance(body, dict) else {}
        user, given, right = body.get("user_name"), str(body.get("password", "")), str(self.credentials["auth"]["password"])
        if user != BOT or not any(hmac.compare_digest(p.encode(), right.encode()) for p in (unquote_plus(given), given)):
            return json_response({"status": "error", "message": "Invalid user name or password"}, 401)
        session = uuid4().hex.upper()
        self.sessions.put(session, BOT)
        told = {"language": "en", "sysaid_version": "24.4.60", "date_format": "dd/MM/yyyy HH:mm:ss", "user": user_shown(USER_IDS[BOT])}
        return json_response(told, headers={"set-cookie": f"JSESSIONID={session}; Path=/; HttpOnly"})

    # service records -----------------------------------------------------------------------------------------------------
    @route("GET", "/api/v1/sr")
    def list_records(self, request: Request) -> Response:
        return json_response([shown(r, fields_asked(request)) for r in self.matching(request.query)])

    @route("GET", "/api/v1/sr/search")
    def search_records(self, request: Request) -> Response:
        query = {"type": "incident", **request.query}
        text = query.pop("query", "").casefold()
        found = self.matching({k: v for k, v in query.items() if k not in ("offset", "limit")}, page=False)
        found = [r for r in found if any(text in str(v).casefold() for v in r.values())]
        return json_response([shown(r, fields_asked(request)) for r in page_of(found, query)])

    @route("GET", "/api/v1/sr/count")
    def count(self, request: Request) -> Response:
        return json_response({"count": len(self.matching(request.query, page=False))})

    @route("GET", "/api/v1/sr/template")
    def template(self, request: Request) -> Response:
        kind = KINDS.get(request.query.get("type", "incident"), "1")
        blank = {"status": "1", "priority": "5", "sr_type": kind}
        info = [
            {**field(key, blank.get(key, "")), "mandatory": key == "title", "editable": key not in READ_ONLY, "type": "text"}
            for key in FORM
        ]
        return json_response({"id": "0", "canUpdate": True, "info": info})

    @route("GET", "/api/v1/sr/{id}")
    def read(self, request: Request) -> Response:
        record = self.records.get(request.params["id"])
        return json_response(shown(record, fields_asked(request))) if record else self.no_such_record()

    @route("POST", "/api/v1/sr")
    def create(self, request: Request) -> Response:
        given = written(request.json())
        if given is None:
            return self.refusal(500, request)
        if not given.get("title"):
            return json_response({"status": "error", "message": "Title is mandatory"}, 400)
        record = self.add(given, request.query.get("type", "incident"), request)
        return json_response(shown(record, fields_asked(request)))

    @route("PUT", "/api/v1/sr/{id}")
    def update(self, request: Request) -> Response:
        record, given = self.records.get(request.params["id"]), written(request.json())
        if record is None:
            return self.no_such_record()
        if given is None:
            return self.refusal(500, request)
        self.change(record, given, request)
        return Response(200)

    @route("PUT", "/api/v1/sr/{id}/close")
    @route("POST", "/api/v1/sr/{id}/close")
    def close(self, request: Request) -> Response:
        record, body = self.records.get(request.params["id"]), request.json()
        if record is None:
            return self.no_such_record()
        if record["status"] in CLOSED:
            return json_response({"status": "error", "message": "This service record is already closed"}, 400)
        solution = body.get("solution") if isinstance(body, dict) else None
        self.change(record, {"status": "3", **({"solution": solution} if solution else {})}, request)
        return Response(200)

    @route("DELETE", "/api/v1/sr")
    def delete(self, request: Request) -> Response:
        found = [self.records.get(i) for i in request.query.get("ids", "").split(",")]
        if not all(found):
            return self.no_such_record()
        for record in found:
            self.change(record, {"status": "18"}, request)
        return Response(200)

    @route("POST", "/api/v1/sr/{id}/activity")
    def activity(self, request: Request) -> Response:
        record, body = self.records.get(request.params["id"]), request.json()
        if record is None:
            return self.no_such_record()
        if not isinstance(body, dict) or not {"userId", "fromTime", "toTime", "description"} <= set(body):
            return json_response({"status": "error", "message": "Missing parameters"}, 400)
        record["activities"].append({**body, "id": self.next_id("activity")})
        self.records.put(record["id"], record)
        return Response(200)

    @route("POST", "/api/v1/sr/{id}/message")
    def message(self, request: Request) -> Response:
        record, body = self.records.get(request.params["id"]), request.json()
        if record is None:
            return self.no_such_record()
        told = body.get("message") if isinstance(body, dict) else None
        said = told if isinstance(told, dict) else {}
        record["messages"].append(said)
        record["sr_version"] += 1
        self.records.put(record["id"], record)
        note = {"userName": request.actor.id, "createDate": now() // 1000, "text": str(said.get("msgBody", "")), "public": True}
        self._tell("sr.updated", record, request, ["messages"], note)
        return Response(200)

    @route("POST", "/api/v1/sr/{id}/attachment")
    def attach(self, request: Request) -> Response:
        record = self.records.get(request.params["id"])
        if record is None:
            return self.no_such_record()
        if (file := self.keep_file(record, request)) is None:
            return json_response({"status": "error", "message": "No file"}, 400)
        return json_response({"status": "OK", "fileId": file["fileId"]})

    @route("GET", "/api/v1/sr/{id}/attachment/{file}")
    def download(self, request: Request) -> Response:
        return self.give_file(request)

    # people --------------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = Actor(CUSTOMER, True, "Cora Customer")
        kind = str(fields.get("type", "incident"))
        return str(self.add({**in_sysaid_words(fields), "request_user": USER_IDS[CUSTOMER]}, kind, request)["id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor = Actor(AGENT, True, "Ada Agent")
        record = self.records.get(ticket_id)
        if record is None:
            return False
        given = in_sysaid_words(fields)
        if fields.get("comment"):
            said = {"userName": AGENT, "createDate": now() // 1000, "text": str(fields["comment"]), "public": fields.get("public", True)}
            given["notes"] = said
        self.change(record, given, request)
        return True

    # the state -----------------------------------------------------------------------------------------------------------
    def matching(self, query: Mapping[str, str], *, page: bool = True) -> list[Json]:
        """Records by type, ids and field values, newest write not before the index has it."""
        kinds = {KINDS[kind] for kind in query.get("type", "all").split(",") if kind in KINDS}
        found = [r for r in self.records.values() if self.indexed(r["_at"]) and (not kinds or r["sr_type"] in kinds)]
        if "ids" in query:
            wanted = set(query["ids"].split(","))
            found = [r for r in self.records.values() if r["id"] in wanted]
        for key, value in query.items():
            if key in CAPTIONS and value != "${list.all}":
                values = value.split(",")
                found = [r for r in found if str(r.get(key, "")) in values]
        if (sort := query.get("sort")) is not None:
            found.sort(key=lambda r: int(r["id"]) if sort == "id" else str(r.get(sort, "")), reverse=query.get("dir") == "desc")
        return page_of(found, query) if page else found

    def add(self, given: Json, kind: str, request: Request) -> Json:
        at, number = now(), str(self.next_id("record", 101))
        user = USER_IDS[request.actor.id]
        record: Json = {
            **dict.fromkeys((key for key in FORM if key != "notes"), ""),
            "id": number,
            "status": "1",
            "priority": "5",
            "sr_type": KINDS.get(kind, "1"),
            "request_user": user,
            "submit_user": user,
            "insert_time": at // 1000,
            "update_time": at // 1000,
            "due_date": at // 1000 + 4 * 3_600_000,
            "computer_id": "0A-3E-E9-13-2B-E4",
            "notes": [],
            "attachments": [],
            "activities": [],
            "messages": [],
            "sr_version": 1,
            "_at": at,
        }
        record.update({key: value for key, value in given.items() if key in CAPTIONS and key not in READ_ONLY and key != "notes"})
        self.records.put(number, record)
        self.ledger.write("create", number, request, external_id=record["cust_text1"] or None, marker=record["cust_text2"] or None)
        self._tell("sr.created", record, request, [], None)
        return record

    def change(self, record: Json, given: Json, request: Request) -> None:
        """One write: fields set, unknown ones dropped, notes added; then the ledger and the webhook."""
        at = now()
        note = given.pop("notes", None)
        changed = [k for k, v in given.items() if k in CAPTIONS and k not in READ_ONLY and str(record.get(k, "")) != str(v)]
        record.update({key: given[key] for key in changed})
        record["update_time"] = at // 1000
        record["sr_version"] += 1
        if "status" in changed:
            record["close_time"] = at // 1000 if record["status"] in CLOSED else ""
        external_id = record["cust_text1"] or None
        if isinstance(note, dict):
            record["notes"] = [*record["notes"], {**note, "_at": at}]
            marker = find_marker(str(note.get("text", "")))
            self.ledger.write("note", record["id"], request, external_id=external_id, marker=note_marker(*marker) if marker else None)
        elif isinstance(note, list):
            record["notes"] = note
        if changed or not isinstance(note, dict):
            self.ledger.write("update", record["id"], request, external_id=external_id, marker=record["cust_text2"] or None)
        self.records.put(record["id"], record)
        told = [*changed, *(["notes"] if isinstance(note, dict) else [])]
        self._tell("sr.updated", record, request, told, {"public": False, **note} if isinstance(note, dict) else None)

    def keep_file(self, record: Json, request: Request) -> Json | None:
        for part in parts_of(request):
            if part.name == "file" and part.filename is not None:
                file_id = f"{record['id']}_{self.next_id('file')}"
                file = {"fileId": file_id, "fileName": part.filename, "fileSize": len(part.content), "contentType": part.content_type}
                self.files.put(file_id, part.content.decode("latin-1"))
                record["attachments"].append(file)
                self.records.put(record["id"], record)
                return file
        return None

    def give_file(self, request: Request) -> Response:
        record = self.records.get(request.params["id"])
        rows: Sequence[Json] = record["attachments"] if record else ()
        file = next((row for row in rows if row["fileId"] == request.params["file"]), None)
        if file is None:
            return json_response({"status": "error", "message": "No such file"}, 404)
        content = str(self.files.get(file["fileId"])).encode("latin-1")
        return Response(200, content, {"content-type": file["contentType"], "content-disposition": "attachment"})

    def no_such_record(self) -> Response:
        return json_response({"status": "error", "message": "Invalid service record id"}, 400)

    # webhooks out --------------------------------------------------------------------------------------------------------
    def _tell(self, event: str, record: Json, request: Request, changed: Sequence[str], note: Json | None) -> None:
        """As an event of the newer API, or, with `"kind": "workflow"`, as a workflow's own call."""
        actor = request.actor.id
        if self.keys.get("webhook_kind") == "workflow":
            self.fire(workflow_body(event, record, actor, note))
        else:
            self.fire(event_body(ACCOUNT, event, record, actor, changed, note))
