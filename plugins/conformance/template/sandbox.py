"""A stand-in for Example Desk: its API and its signed webhooks, as far as its manual says. Faults, ledger and control calls come
from the base class."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from plugins.conformance.template.payload import CHANGE_WORDS, PRIORITY_WORDS, STATUS_WORDS, TYPE_WORDS
from plugins.marker import find_marker, note_marker
from plugins.richtext import from_html, from_markdown, to_html, to_plain
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.multipart import parts_of
from plugins.sandbox.server import Actor, Sandbox, iso, now
from plugins.sandbox.webhooks import RetryPolicy

Json = dict[str, Any]

OURS, PERSON = Actor("svc-integration", False, "Integration"), Actor("p-7", True, "Olga Brandt")
CANONICAL: Mapping[str, Mapping[str, str]] = {
    name: {str(canonical): word for word, canonical in words.items()}
    for name, words in (("priority", PRIORITY_WORDS), ("status", STATUS_WORDS), ("type", TYPE_WORDS))
}
WORDS: Mapping[str, Mapping[str, Any]] = {"priority": PRIORITY_WORDS, "status": STATUS_WORDS, "type": TYPE_WORDS}
SETTABLE = ("subject", "description", "priority", "status", "type", "tags", "external_id", "event_id")
CUSTOM_FIELDS = frozenset({"location", "asset"})


class ExampleDeskSandbox(Sandbox):
    """Tickets, notes, files, a bulk call, lists in pages."""

    tool_type: ClassVar[str] = "example_desk"
    retry_policy: ClassVar[RetryPolicy] = RetryPolicy(on_status=frozenset({429, 500, 502, 503, 504}), delays=(0.1, 0.2, 0.4))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._tickets = self.journal.table("tickets")

    @property
    def credentials(self) -> Mapping[str, Any]:
        return {
            "auth": {"token": self.secret("our token")},
            "actor": OURS.id,
            "person": {"headers": {"Authorization": f"Bearer {self.secret('person token')}"}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"secret": self.secret("webhook secret")}

    def sign(self, body: bytes) -> Mapping[str, str]:
        stamp = str(int(time.time()))
        digest = hmac.digest(self.secret("webhook secret").encode(), f"{stamp}.".encode() + body, "sha256").hex()
        return {
            "X-Example-Desk-Timestamp": stamp,
            "X-Example-Desk-Signature": digest,
            "X-Example-Desk-Delivery": str(self.next_id("delivery")),
        }

    def actor_of(self, request: Request) -> Actor | None:
        given = request.headers.get("authorization", "").encode()
        for actor, name in ((OURS, "our token"), (PERSON, "person token")):
            if hmac.compare_digest(given, f"Bearer {self.secret(name)}".encode()):
                return actor
        return None

    def refusal(self, status: int, request: Request) -> Response:
        return json_response({"error": {"message": f"status {status}"}}, status)

    # the API ---------------------------------------------------------------------------------------------------------
    @route("GET", "/api/me")
    def me(self, request: Request) -> Response:
        return json_response({"account": request.actor.id, "name": request.actor.name})

    @route("GET", "/api/tickets")
    def list_tickets(self, request: Request) -> Response:
        query = request.query
        found = [t for t in self._tickets.values() if self.indexed(t["created"]) and "external_id" not in query]
        if "external_id" in query:
            found = [t for t in self._tickets.values() if t["external_id"] == query["external_id"] and self.indexed(t["created"])]
        if "ids" in query:
            wanted = set(query["ids"].split(","))
            found = [t for t in self._tickets.values() if t["id"] in wanted]
        return self._page(request, [self._shown(t) for t in found])

    @route("POST", "/api/tickets")
    def create(self, request: Request) -> Response:
        fields = request.json()
        refused = _refused(fields)
        return refused or json_response(self._shown(self._create(fields, request)), 201)

    @route("GET", "/api/tickets/{id}")
    def show(self, request: Request) -> Response:
        found = self._tickets.get(request.params["id"])
        return self.refusal(404, request) if found is None else json_response(self._shown(found))

    @route("PUT", "/api/tickets/{id}")
    def update(self, request: Request) -> Response:
        return self._updated(request.params["id"], request.json(), request)

    @route("POST", "/api/bulk")
    def bulk(self, request: Request) -> Response:
        body = request.json()
        items = body.get("items") if isinstance(body, dict) else None
        outcomes = []
        for item in items if isinstance(items, list) else []:
            answer = self._updated(str(item.get("id")), {name: value for name, value in item.items() if name != "id"}, request)
            done = answer.status < 300
            outcomes.append(self._shown(self._tickets.get(str(item["id"]))) if done else {"error": {"status": answer.status}})
        return json_response({"items": outcomes})

    @route("GET", "/api/tickets/{id}/notes")
    def list_notes(self, request: Request) -> Response:
        found = self._tickets.get(request.params["id"])
        return self.refusal(404, request) if found is None else self._page(request, found["notes"])

    @route("POST", "/api/tickets/{id}/notes")
    def add_note(self, request: Request) -> Response:
        found, note = self._tickets.get(request.params["id"]), request.json()
        if found is None:
            return self.refusal(404, request)
        if not isinstance(note, dict) or not isinstance(note.get("text"), str):
            return json_response({"error": {"field": "text"}}, 422)
        return json_response(self._add_note(found, note["text"], note.get("public") is True, request), 201)

    @route("POST", "/api/tickets/{id}/attachments")
    def attach(self, request: Request) -> Response:
        found = self._tickets.get(request.params["id"])
        file = next((part for part in parts_of(request) if part.name == "file"), None)
        if found is None:
            return self.refusal(404, request)
        if file is None:
            return json_response({"error": {"field": "file"}}, 422)
        row = {"id": str(self.next_id("file")), "filename": file.filename, "content_type": file.content_type, "size": len(file.content)}
        found["files"].append({**row, "content": file.content.hex()})
        self._tickets.put(found["id"], found)
        return json_response(row, 201)

    @route("GET", "/api/tickets/{id}/attachments")
    def list_files(self, request: Request) -> Response:
        found = self._tickets.get(request.params["id"])
        if found is None:
            return self.refusal(404, request)
        return self._page(request, [{name: value for name, value in file.items() if name != "content"} for file in found["files"]])

    @route("GET", "/api/tickets/{id}/attachments/{file_id}")
    def download(self, request: Request) -> Response:
        found = self._tickets.get(request.params["id"])
        file = next((f for f in found["files"] if f["id"] == request.params["file_id"]), None) if found else None
        if file is None:
            return self.refusal(404, request)
        return Response(200, bytes.fromhex(file["content"]), {"content-type": "application/octet-stream"})

    # people ----------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = PERSON
        return str(self._create(_in_its_words(fields), request)["id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor, found = PERSON, self._tickets.get(ticket_id)
        if found is None:
            return False
        if changes := _in_its_words(fields):
            self._change(found, changes, request)
        if fields.get("comment"):
            self._add_note(found, to_html(from_markdown(str(fields["comment"]))), bool(fields.get("public")), request)
        return True

    # parts -----------------------------------------------------------------------------------------------------------
    def _create(self, fields: Mapping[str, Any], request: Request) -> Json:
        at = now()
        found: Json = {
            "subject": "",
            "description": "",
            "priority": "normal",
            "status": "new",
            "type": "incident",
            "tags": [],
            "external_id": None,
            "event_id": None,
            "custom_fields": {},
            **fields,
            "id": str(self.next_id("ticket", 1001)),
            "requester": request.actor.id,
            "created": at,
            "updated": at,
            "notes": [],
            "files": [],
        }
        self._tickets.put(found["id"], found)
        self.ledger.write("create", found["id"], request, external_id=found["external_id"], marker=found["event_id"])
        self._tell("ticket.created", found, request)
        return found

    def _updated(self, ticket_id: str, fields: Any, request: Request) -> Response:
        found = self._tickets.get(ticket_id)
        if found is None:
            return self.refusal(404, request)
        refused = _refused(fields)
        if refused is not None:
            return refused
        self._change(found, fields, request)
        return json_response(self._shown(found))

    def _change(self, found: Json, fields: Mapping[str, Any], request: Request) -> None:
        custom = {**found["custom_fields"], **fields.get("custom_fields", {})}
        found.update({**fields, "custom_fields": custom, "updated": now()})
        self._tickets.put(found["id"], found)
        self.ledger.write("update", found["id"], request, external_id=found["external_id"], marker=fields.get("event_id"))
        self._tell("ticket.updated", found, request, changed=[name for name in fields if name != "event_id"])

    def _add_note(self, found: Json, html: str, public: bool, request: Request) -> Json:
        note = {"id": str(self.next_id("note")), "text": html, "public": public, "author": request.actor.id, "at": iso(now())}
        found["notes"].append(note)
        self._tickets.put(found["id"], found)
        marker = find_marker(to_plain(from_html(html)))
        self.ledger.write("note", found["id"], request, marker=note_marker(*marker) if marker else None)
        self._tell("note.added", found, request, note=note)
        return note

    def _tell(self, event: str, found: Json, request: Request, **more: Any) -> None:
        assert event in CHANGE_WORDS
        self.fire({"event": event, "actor": request.actor.id, "ticket": self._shown(found), **more})

    def _shown(self, found: Json) -> Json:
        hidden = ("created", "updated", "notes", "files")
        times = {"created_at": iso(found["created"]), "updated_at": iso(found["updated"])}
        url = f"{self.base_url}/tickets/{found['id']}"
        return {**{name: value for name, value in found.items() if name not in hidden}, **times, "url": url}

    def _page(self, request: Request, rows: list[Json]) -> Response:
        number = int(request.query.get("page", "1"))
        size = min(int(request.query.get("per_page", "20")), 50)
        start = (number - 1) * size
        return json_response({"items": rows[start : start + size], "more": start + size < len(rows)})


def _refused(fields: Any) -> Response | None:
    """The tool's refusal of a field it does not know, or of a word it does not take."""
    if not isinstance(fields, dict):
        return json_response({"error": {"field": "body"}}, 422)
    custom = fields.get("custom_fields") or {}
    strange = [name for name in fields if name not in SETTABLE and name != "custom_fields"] + [n for n in custom if n not in CUSTOM_FIELDS]
    strange += [name for name, words in WORDS.items() if name in fields and fields[name] not in words]
    return json_response({"error": {"field": strange[0]}}, 422) if strange else None


def _in_its_words(fields: Mapping[str, Any]) -> Json:
    """A person's doing, given in canonical words, in the tool's."""
    own = {name: CANONICAL[name].get(str(fields[name]), fields[name]) for name in CANONICAL if name in fields}
    plain = {name: fields[name] for name in ("subject", "tags") if name in fields}
    text = {"description": to_html(from_markdown(str(fields["description"])))} if "description" in fields else {}
    return {**own, **plain, **text}
