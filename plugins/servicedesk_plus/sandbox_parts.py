"""What hangs on a request, change or problem of the sandbox: notes, the resolution, worklogs, files; and the envelope of answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import msgspec

from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.multipart import parts_of
from plugins.sandbox.server import Sandbox
from plugins.servicedesk_plus.sandbox_request import ASSETS, Json, Refused, shown_note, user

ITEM = "/api/v3/{module}/{id}"
TOKEN_PATH = "/oauth/v2/token"  # noqa: S105 - a path


class Parts(Sandbox):
    """Mixed into the sandbox, which keeps the items."""

    @abstractmethod
    def item_of(self, request: Request) -> Json | None: ...

    @abstractmethod
    def save(self, found: Json) -> None: ...

    @abstractmethod
    def add_note_to(self, found: Json, description: str, public: bool, request: Request) -> Json: ...

    @route("GET", f"{ITEM}/notes")
    def list_notes(self, request: Request) -> Response:
        found = self.item_of(request)
        if found is None:
            return self.refusal(404, request)
        try:
            info = given_in(request.query.get("input_data"), "list_info") if "input_data" in request.query else {}
        except Refused as exc:
            return refused(exc)
        seen = [note for note in found["notes"] if self.indexed(note["at"])]
        return page("notes", seen, info, lambda note: {k: v for k, v in shown_note(found, note).items() if k != "description"})

    @route("GET", f"{ITEM}/notes/{{note_id}}")
    def read_note(self, request: Request) -> Response:
        found = self.item_of(request)
        note = next((n for n in found["notes"] if n["id"] == request.params["note_id"]), None) if found else None
        return done({"note": shown_note(found, note)}) if found and note else self.refusal(404, request)

    @route("POST", f"{ITEM}/notes")
    def add_note(self, request: Request) -> Response:
        found = self.item_of(request)
        if found is None:
            return self.refusal(404, request)
        try:
            note = given_in(request.form.get("input_data"), "note", "request_note")
            if not isinstance(note.get("description"), str) or not note["description"]:
                raise Refused(4012, "Mandatory field is missing", "description", status=200)
        except Refused as exc:
            return refused(exc)
        public = found["module"] == "requests" and note.get("show_to_requester") is not False
        return done({"note": shown_note(found, self.add_note_to(found, note["description"], public, request))}, 201)

    @route("GET", f"{ITEM}/resolutions")
    def resolution(self, request: Request) -> Response:
        found = self.item_of(request)
        if found is None or found["module"] != "requests":
            return self.refusal(404, request)
        return done({"resolution": {"content": found["resolution"], "submitted_by": user("44"), "resolution_attachments": []}})

    @route("POST", f"{ITEM}/resolutions")
    def resolve(self, request: Request) -> Response:
        """Takes it, and says only that it did."""
        found = self.item_of(request)
        if found is None or found["module"] != "requests":
            return self.refusal(404, request)
        try:
            found["resolution"] = given_in(request.form.get("input_data"), "resolution").get("content")
        except Refused as exc:
            return refused(exc)
        self.save(found)
        return done({})

    @route("GET", f"{ITEM}/worklogs")
    def worklogs(self, request: Request) -> Response:
        found = self.item_of(request)
        if found is None:
            return self.refusal(404, request)
        try:
            info = given_in(request.query.get("input_data"), "list_info") if "input_data" in request.query else {}
        except Refused as exc:
            return refused(exc)
        return page("worklogs", found["worklogs"], info, lambda row: row)

    @route("POST", f"{ITEM}/worklogs")
    def log_work(self, request: Request) -> Response:
        found = self.item_of(request)
        if found is None:
            return self.refusal(404, request)
        try:
            given = given_in(request.form.get("input_data"), "worklog")
        except Refused as exc:
            return refused(exc)
        row = {"owner": user(request.actor.id), **given, "id": str(self.next_id("worklog", 601))}
        found["worklogs"].append(row)
        self.save(found)
        return done({"worklog": row}, 201)

    @route("GET", "/api/v3/assets/{id}")
    def asset(self, request: Request) -> Response:
        found = ASSETS.get(request.params["id"])
        return done({"asset": found}) if found else self.refusal(404, request)

    @route("PUT", f"{ITEM}/upload")
    @route("POST", f"{ITEM}/_uploads")
    def upload(self, request: Request) -> Response:
        """On premises the part is called `file`, in the cloud `input_file`."""
        found, wanted = self.item_of(request), "file" if request.method == "PUT" else "input_file"
        if found is None:
            return self.refusal(404, request)
        part = next((p for p in parts_of(request) if p.name == wanted and p.filename is not None), None)
        if part is None:
            return failed(4001, "Invalid Input", wanted, 400)
        number = str(self.next_id("attachment", 40_001))
        url = f"/api/v3/{found['module']}/{found['id']}/attachments/{number}/download"
        row = {"id": number, "name": part.filename, "size": str(len(part.content)), "content_url": url, "content_type": part.content_type}
        self.journal.table("files").put(number, part.content.decode("latin-1"))
        found["attachments"] = [*found["attachments"], row]
        self.save(found)
        return done({"attachment": row})

    @route("GET", f"{ITEM}/attachments/{{file}}/download")
    def download(self, request: Request) -> Response:
        found = self.item_of(request)
        row = next((r for r in found["attachments"] if r["id"] == request.params["file"]), None) if found else None
        if row is None:
            return self.refusal(404, request)
        content = str(self.journal.table("files").get(row["id"])).encode("latin-1")
        return Response(200, content, {"content-type": row["content_type"]})


def given_in(text: str | None, *names: str) -> Json:
    """The object under one of the names in `input_data`; refused when there is none: a raw JSON body is not understood either."""
    try:
        body = msgspec.json.decode(text or "")
    except msgspec.DecodeError:
        raise Refused(4001, "Invalid Input", "input_data") from None
    found = next((body[name] for name in names if name in body), None) if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise Refused(4001, "Invalid Input", "input_data")
    return found


def page(name: str, rows: list[Json], info: Json, form: Callable[[Json], Json]) -> Response:
    """One page of the rows; its status is a list, as lists' are."""
    try:
        start, size = max(int(info.get("start_index", 1)), 1), min(max(int(info.get("row_count", 10)), 1), 100)
    except (TypeError, ValueError):
        return failed(4001, "Invalid Input", "list_info", 400)
    found = [form(row) for row in rows[start - 1 : start - 1 + size]]
    told: Json = {"has_more_rows": start - 1 + size < len(rows), "start_index": start, "row_count": len(found)}
    if info.get("get_total_count") is True:
        told["total_count"] = len(rows)
    return json_response({name: found, "list_info": told, "response_status": [{"status_code": 2000, "status": "success"}]})


def done(body: Json, status: int = 200) -> Response:
    return json_response({**body, "response_status": {"status_code": 2000, "status": "success"}}, status)


def refused(exc: Refused) -> Response:
    return failed(exc.code, exc.message, exc.field, exc.status)


def failed(code: int, message: str, field: str | None, status: int) -> Response:
    told: dict[str, Any] = {"status_code": code, "type": "failed", "message": message}
    if field is not None:
        told["field"] = field
    return json_response({"response_status": {"status_code": 4000, "messages": [told], "status": "failed"}}, status)
