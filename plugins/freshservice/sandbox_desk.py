"""What a small Freshservice remembers and does: records, notes, files, people; the ledger and the webhooks of each write."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from plugins.freshservice.records import RECORDS, TICKET, Record, located
from plugins.freshservice.sandbox_events import BODIES, in_codes
from plugins.freshservice.sandbox_forms import blank
from plugins.freshservice.sandbox_people import AGENT, CUSTOMER, first_assets, first_people
from plugins.marker import find_marker, note_marker
from plugins.richtext import from_html, from_markdown, to_html, to_plain
from plugins.sandbox.http import Request
from plugins.sandbox.multipart import parts_of
from plugins.sandbox.server import Actor, Sandbox, iso, now
from plugins.sandbox.webhooks import RetryPolicy

_REFERENCE = re.compile(r"\[(aia-[\w-]+)\]\s*$")


class ServiceDesk(Sandbox):
    """The state; its protocol is in sandbox.py."""

    tool_type = "freshservice"
    retry_policy = RetryPolicy(on_status=frozenset(range(300, 600)), delays=(0.5, 1.0, 2.0))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.records = {name: self.journal.table(record.plural) for name, record in RECORDS.items()}
        self.notes = self.journal.table("notes")
        self.files = self.journal.table("files")
        self.assets = self.journal.table("assets")
        self.people = self.journal.table("people")
        if not len(self.people):
            for person in first_people():
                self.people.put(str(person["id"]), person)
            for asset in first_assets():
                self.assets.put(str(asset["display_id"]), asset)

    def sign(self, body: bytes) -> Mapping[str, str]:
        return {"X-Webhook-Secret": self.secret("webhook_secret"), "User-Agent": "Freshservice-Webhook"}

    # people's own work ---------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = Actor(str(CUSTOMER["email"]), True, "Cora")
        text = str(fields.get("description") or fields.get("subject") or "")
        given = {"status": 2, "priority": 1, "email": CUSTOMER["email"], **in_codes(fields), "description": to_html(from_markdown(text))}
        record = RECORDS.get(str(fields.get("type")), TICKET)
        return record.id_of(str(self.create(record, given, request)["id"]))

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor = Actor(str(AGENT["email"]), True, "Ada")
        record, number = located(ticket_id)
        document = self.records[record.name].get(number)
        if document is None:
            return False
        given = in_codes(fields)
        if given:
            self.update(record, document, given, request)
        if fields.get("comment"):
            body = to_html(from_markdown(str(fields["comment"])))
            self.add_note(record, document, {"body": body, "private": not fields.get("public", True)}, [], request)
        return True

    # the state -----------------------------------------------------------------------------------------------------------
    def create(self, record: Record, given: Mapping[str, Any], request: Request) -> dict[str, Any]:
        at = now()
        description = str(given.get("description") or "")
        person = self.people.get(str(given.get("requester_id"))) or {}
        email = str(given.get("email") or person.get("email") or "")
        document = {
            "id": self.next_id(record.name),
            **blank(record.name),
            **{name: value for name, value in given.items() if name != "email"},
            "workspace_id": given.get("workspace_id") or 2,
            "requester_id": given.get("requester_id") or self._person(email),
            "description": description,
            "description_text": to_plain(from_html(description)),
            "custom_fields": dict(given.get("custom_fields") or {}),
            "created_at": iso(at),
            "updated_at": iso(at),
            "_requester_email": email,
            "_at": at,
        }
        document["assets"] = self.linked(given)
        if record is TICKET:
            document |= {
                "requested_for_id": document["requester_id"],
                "due_by": iso(at + 172_800_000_000),
                "fr_due_by": iso(at + 14_400_000_000),
            }
        self.records[record.name].put(str(document["id"]), document)
        self._record(record, document, "create", request)
        self._tell(record, document, "created", request.actor)
        return document

    def update(self, record: Record, document: dict[str, Any], given: Mapping[str, Any], request: Request) -> None:
        custom = given.get("custom_fields")
        document |= {name: value for name, value in given.items() if name not in ("custom_fields", "assets", "email")}
        if isinstance(custom, dict):
            document["custom_fields"] |= custom
        if "assets" in given:
            document["assets"] = self.linked(given)
        if "description" in given:
            document["description_text"] = to_plain(from_html(str(given["description"])))
        self.touch(record, document)
        self._record(record, document, "update", request)
        self._tell(record, document, "updated", request.actor)

    def add_note(
        self, record: Record, document: dict[str, Any], given: Mapping[str, Any], files: list[dict[str, Any]], request: Request
    ) -> dict[str, Any]:
        at, body = now(), str(given.get("body") or "")
        note: dict[str, Any] = {
            "id": self.next_id("note", 50_001),
            "user_id": next((p["id"] for p in self.people.values() if p["email"] == request.actor.id), None),
            "body": body,
            "body_text": to_plain(from_html(body)),
            "attachments": files,
            "created_at": iso(at),
            "updated_at": iso(at),
        }
        if record is TICKET:
            private = given.get("private", True) not in (False, "false")
            note |= {"ticket_id": document["id"], "incoming": False, "private": private, "support_email": None, "to_emails": []}
        key = record.id_of(str(document["id"]))
        self.notes.put(key, [*(self.notes.get(key) or []), note])
        self.touch(record, document)
        found = find_marker(note["body_text"])
        self.ledger.write("note", key, request, external_id=_external_id(document), marker=note_marker(*found) if found else None)
        self._tell(record, document, "noted", request.actor, note)
        return note

    def touch(self, record: Record, document: dict[str, Any]) -> None:
        """Times have whole seconds; a change shows a later one than the creation, or a record would look untouched."""
        document["updated_at"] = max(iso(now()), iso(document["_at"] + 1_000_000))
        self.records[record.name].put(str(document["id"]), document)

    def _record(self, record: Record, document: Mapping[str, Any], kind: Any, request: Request) -> None:
        marker = document["custom_fields"].get("external_event")
        if kind == "update" and "external_event" not in (given_in(request).get("custom_fields") or {}):
            marker = None
        self.ledger.write(kind, record.id_of(str(document["id"])), request, external_id=_external_id(document), marker=marker)

    def linked(self, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        asked = [str(link.get("display_id")) for link in given.get("assets") or () if isinstance(link, dict)]
        found = [self.assets.get(i) for i in asked if i in self.assets]
        return [
            {name: asset[name] for name in ("id", "display_id", "name", "asset_tag")} | {"ci_type_id": asset["asset_type_id"]}
            for asset in found
        ]

    def _person(self, email: str) -> int:
        known = next((int(p["id"]) for p in self.people.values() if p["email"] == email), None)
        if known is None:
            known = self.next_id("person", 21_001_397_600)
            self.people.put(str(known), {**CUSTOMER, "id": known, "email": email, "first_name": email.partition("@")[0], "last_name": ""})
        return known

    def kept_files(self, request: Request) -> list[dict[str, Any]]:
        found = []
        for part in parts_of(request):
            if part.filename is None or part.name != "attachments[]":
                continue
            number, token = self.next_id("file", 800_001), self.secret(f"file {self.next_id('token')}")
            file = {"content": base64.b64encode(part.content).decode(), "content_type": part.content_type, "token": token}
            self.files.put(str(number), file)
            at = iso(now())
            found.append(
                {
                    "id": number,
                    "content_type": part.content_type,
                    "size": len(part.content),
                    "name": part.filename,
                    "attachment_url": f"{self.base_url}/helpdesk/attachments/{number}?token={token}",
                    "created_at": at,
                    "updated_at": at,
                }
            )
        return found

    # webhooks out --------------------------------------------------------------------------------------------------------
    def _tell(self, record: Record, document: Mapping[str, Any], what: str, actor: Actor, note: Mapping[str, Any] | None = None) -> None:
        body = BODIES.get(self.keys.get("webhook_kind"), BODIES[None])
        self.fire(body(record, document, f"{record.name}_{what}", actor.id, note))


def given_in(request: Request) -> dict[str, Any]:
    """The fields of a body: JSON, or a form's parts, where `custom_fields[x]` and `cc_emails[]` nest."""
    body = request.json()
    if isinstance(body, dict):
        return body
    given: dict[str, Any] = {}
    for part in parts_of(request):
        if part.filename is not None:
            continue
        name, bracket, inner = part.name.partition("[")
        value: Any = int(part.text) if part.text.isdecimal() else part.text
        if bracket and inner != "]":
            given.setdefault(name, {})[inner.rstrip("]")] = value
        elif bracket:
            given.setdefault(name, []).append(value)
        else:
            given[name] = value
    return given


def _external_id(document: Mapping[str, Any]) -> str | None:
    ours = next((tag for tag in document.get("tags") or () if tag.startswith("aia-")), None)
    found = _REFERENCE.search(str(document["description_text"]))
    return ours or (found[1] if found else None)
