"""A small Freshdesk: tickets, conversations, bulk jobs, searches, files, brands, forums, contacts, and the webhooks of each write.

Speaks API v2 as far as the plugin, its clients and a person at its API need it. `POST /_webhook` takes a `"kind"` of body: `advanced`
(the default), `simple`, `form`, `xml`, `app`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from plugins.freshdesk.sandbox_account import AGENTS, AccountRoutes
from plugins.freshdesk.sandbox_desk import Json, shown
from plugins.freshdesk.sandbox_forum import ForumRoutes
from plugins.freshdesk.sandbox_portal import PortalRoutes
from plugins.freshdesk.sandbox_search import BadQuery, compiled
from plugins.freshdesk.sandbox_seed import AGENT, API_AGENT, CUSTOMER, EMAIL_CONFIGS, GROUPS, PRODUCTS, TICKET_FIELDS
from plugins.freshdesk.sandbox_ticket import EMPTY, REQUESTERS, a_file, due_times, faults_of, from_form, shown_ticket
from plugins.freshdesk.sandbox_webhooks import Occasion, rendered
from plugins.mapping import to_micros
from plugins.marker import find_marker, note_marker
from plugins.richtext import from_html, from_plain, to_html, to_plain
from plugins.sandbox.http import Request, Response, route
from plugins.sandbox.multipart import parts_of
from plugins.sandbox.server import Actor, iso, now
from plugins.sandbox.webhooks import RetryPolicy

FROM_CANONICAL: Mapping[str, Mapping[str, Any]] = {
    "priority": {"low": 1, "medium": 2, "high": 3, "urgent": 4},
    "status": {"new": 2, "open": 2, "pending": 3, "resolved": 4, "closed": 5},
    "type": {"incident": "Incident", "problem": "Problem", "request": "Question"},
}
TOLD = ("status", "priority", "type", "group_id", "responder_id")
"""A rule is told of one change only: the first of these, else of an update."""
MAX_FILES = 20 << 20


class FreshdeskSandbox(AccountRoutes, ForumRoutes, PortalRoutes):
    """Tickets and what hangs on them."""

    tool_type = "freshdesk"
    retry_policy = RetryPolicy(on_status=frozenset(range(300, 600)), delays=(0.5, 1.0, 2.0))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.tickets = self.journal.table("tickets")
        self.archived = self.journal.table("archived tickets")
        self.threads = self.journal.table("conversations")
        self.jobs = self.journal.table("jobs")
        self.files = self.journal.table("files")
        if not len(self.contacts):
            self.contact_of(CUSTOMER["email"], CUSTOMER["name"])

    # tickets -------------------------------------------------------------------------------------------------------------
    @route("GET", "/api/v2/tickets")
    def list_tickets(self, request: Request) -> Response:
        query = request.query
        since, include = to_micros(query.get("updated_since")), query.get("include", "").split(",")
        wanted = query.get("filter")
        month = now() - 30 * 86_400_000_000
        rows = [
            ticket
            for ticket in self.tickets.values()
            if (ticket["_deleted"] if wanted == "deleted" else not ticket["_deleted"])
            and (wanted != "spam" or ticket["spam"])
            and (wanted != "new_and_my_open" or (ticket["status"] == 2 and ticket["responder_id"] in (None, int(request.actor.id))))
            and (ticket["_created"] >= month if since is None else ticket["_at"] // 1_000_000 >= since // 1_000_000)
            and all(query.get(name) in (None, str(ticket[name])) for name in ("requester_id", "company_id"))
            and ("email" not in query or ticket["requester_id"] == self.contact_of(query["email"])["id"])
        ]
        order = query.get("order_by", "created_at")
        if order not in ("created_at", "due_by", "updated_at", "status"):
            return self._refused([("order_by", "It should be one of these values: 'created_at,due_by,updated_at,status'", "invalid_value")])
        rows.sort(key=lambda ticket: (str(ticket[order]), ticket["id"]), reverse=query.get("order_type", "desc") == "desc")
        return self._page(request, rows, lambda ticket: shown_ticket(ticket, listed=True, include=include))

    @route("GET", "/api/v2/tickets/{id}")
    def show_ticket(self, request: Request) -> Response:
        ticket = self.tickets.get(request.params["id"])
        if ticket is None:
            return self.refusal(404, request)
        include = request.query.get("include", "").split(",")
        found = shown_ticket(ticket, listed=False, include=include)
        if "conversations" in include:
            found["conversations"] = [shown(said) for said in self._thread(ticket)[:10]]
        if "requester" in include:
            found["requester"] = {name: self._requester(ticket)[name] for name in ("id", "name", "email", "mobile", "phone")}
        response = self._json(found)
        response.headers["x-ratelimit-used-currentrequest"] = str(1 + sum(1 for name in include if name))
        return response

    @route("GET", "/api/v2/tickets/archived/{id}")
    def show_archived(self, request: Request) -> Response:
        ticket = self.archived.get(request.params["id"])
        return self._json(shown_ticket(ticket, listed=False)) if ticket else self.refusal(404, request)

    @route("POST", "/api/v2/tickets")
    def create_ticket(self, request: Request) -> Response:
        given = self._form_or_json(request)
        if isinstance(given, Response):
            return given
        if faults := faults_of(given, new=True, known=self._known()):
            return self._refused(faults)
        ticket = self._create(given, request)
        where = f"{self.base_url}/api/v2/tickets/{ticket['id']}"
        return self._json(shown_ticket(ticket, listed=False), 201, {"location": where})

    @route("PUT", "/api/v2/tickets/{id}")
    def update_ticket(self, request: Request) -> Response:
        ticket = self.tickets.get(request.params["id"])
        if ticket is None or ticket["_deleted"]:
            return self.refusal(404 if ticket is None else 405, request)
        given = self._form_or_json(request)
        if isinstance(given, Response):
            return given
        if faults := faults_of(given, new=False, known=self._known()):
            return self._refused(faults)
        self._update(ticket, given, request)
        return self._json(shown_ticket(ticket, listed=False))

    @route("DELETE", "/api/v2/tickets/{id}")
    def delete_ticket(self, request: Request) -> Response:
        return self._set_ticket_deleted(request, True)

    @route("PUT", "/api/v2/tickets/{id}/restore")
    def restore_ticket(self, request: Request) -> Response:
        return self._set_ticket_deleted(request, False)

    @route("GET", "/api/v2/search/tickets")
    def search_tickets(self, request: Request) -> Response:
        try:
            test = compiled(request.query.get("query", ""))
        except BadQuery as exc:
            return self._refused([("query", str(exc), "invalid_value")])
        rows = [t for t in self.tickets.values() if not t["_deleted"] and self.indexed(t["_at"]) and test(t)]
        return self._searched(request, rows, lambda ticket: shown_ticket(ticket, listed=True, include=("description",)))

    # bulk jobs -----------------------------------------------------------------------------------------------------------
    @route("POST", "/api/v2/tickets/bulk_update")
    def bulk_update(self, request: Request) -> Response:
        given = self._given(request)
        if isinstance(given, Response):
            return given
        action = given.get("bulk_action")
        ids = action.get("ids") if isinstance(action, dict) else None
        if not isinstance(action, dict) or not isinstance(ids, list) or not 1 <= len(ids) <= 100:
            return self._refused([("bulk_action", "It should have between 1 and 100 ids", "missing_field")])
        properties = action.get("properties") or {}
        if faults := faults_of(properties, new=False, known=self._known()):
            return self._refused(faults)
        rows = []
        for number in ids:
            ticket = self.tickets.get(str(number))
            if ticket is not None:
                self._update(ticket, properties, request)
            rows.append({"id": number, "success": ticket is not None})
        job_id = uuid4().hex
        self.jobs.put(job_id, {"rows": rows, "asked": 0})
        return self._json({"job_id": job_id, "href": f"{self.base_url}/api/v2/jobs/{job_id}"}, 202)

    @route("GET", "/api/v2/jobs/{id}")
    def show_job(self, request: Request) -> Response:
        """Still under way at the first look."""
        job_id = request.params["id"]
        job = self.jobs.get(job_id)
        if job is None:
            return self.refusal(404, request)
        job["asked"] += 1
        if job["asked"] < 2:
            return self._json({"id": job_id, "status": "in_progress", "progress": 50})
        return self._json({"id": job_id, "status": "completed", "progress": 100, "data": job["rows"]})

    # conversations -------------------------------------------------------------------------------------------------------
    @route("GET", "/api/v2/tickets/{id}/conversations")
    def conversations(self, request: Request) -> Response:
        ticket = self.tickets.get(request.params["id"])
        return self._page(request, self._thread(ticket), shown) if ticket else self.refusal(404, request)

    @route("POST", "/api/v2/tickets/{id}/notes")
    def add_note(self, request: Request) -> Response:
        return self._say(request, source=2)

    @route("POST", "/api/v2/tickets/{id}/reply")
    def reply(self, request: Request) -> Response:
        return self._say(request, source=0)

    def _say(self, request: Request, *, source: int) -> Response:
        ticket = self.tickets.get(request.params["id"])
        if ticket is None:
            return self.refusal(404, request)
        given = self._form_or_json(request)
        if isinstance(given, Response):
            return given
        if not given.get("body"):
            return self._refused([("body", "It should be a/an String", "missing_field")])
        sender = given.get("from_email")
        if sender is not None and sender not in {config["reply_email"] for config in EMAIL_CONFIGS}:
            return self._refused([("from_email", "It should be one of the account's active mailboxes", "invalid_value")])
        private = given.get("private", True) is not False if source == 2 else False
        return self._json(shown(self._speak(ticket, given, request, source=source, private=private)), 201)

    @route("PUT", "/api/v2/conversations/{id}")
    def change_conversation(self, request: Request) -> Response:
        for thread in self.threads.values():
            for said in thread:
                if str(said["id"]) != request.params["id"]:
                    continue
                given = self._given(request)
                if isinstance(given, Response):
                    return given
                if said["source"] != 2:
                    return self.refusal(403, request)
                said["body"] = str(given.get("body") or said["body"])
                said["body_text"] = to_plain(from_html(said["body"]))
                self.threads.put(str(said["ticket_id"]), thread)
                return self._json(shown(said))
        return self.refusal(404, request)

    @route("GET", "/storage/{id}")
    def download(self, request: Request) -> Response:
        kept = self.files.get(request.params["id"])
        if kept is None or request.query.get("signature") != kept["token"]:
            return Response(403, b"<Error><Code>AccessDenied</Code></Error>", {"content-type": "application/xml"})
        return Response(200, base64.b64decode(kept["content"]), {"content-type": kept["type"]})

    # people --------------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        given = {"status": 2, "priority": 1, **_in_freshdesk_words(fields), "email": CUSTOMER["email"]}
        given["description"] = to_html(from_plain(str(fields.get("description") or fields.get("subject") or "")))
        request.actor = Actor(str(self.contact_of(CUSTOMER["email"])["id"]), True, CUSTOMER["name"])
        return str(self._create({"subject": "(no subject)", **given}, request)["id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor = Actor(str(AGENT["id"]), True, AGENT["contact"]["name"])
        ticket = self.tickets.get(ticket_id)
        if ticket is None:
            return False
        if given := _in_freshdesk_words(fields):
            self._update(ticket, given, request)
        if fields.get("comment"):
            said = {"body": to_html(from_plain(str(fields["comment"])))}
            self._speak(ticket, said, request, source=2, private=fields.get("public") is False)
        return True

    # the state -----------------------------------------------------------------------------------------------------------
    def _create(self, given: Mapping[str, Any], request: Request) -> Json:
        at, number = now(), self.next_id("ticket", 1001)
        requester = given.get("requester_id") or self._contact_for(given)["id"]
        ticket: Json = {
            "id": number,
            **{name: (value.copy() if isinstance(value, list) else value) for name, value in EMPTY.items()},
            "status": 2,
            "priority": 1,
            **{name: value for name, value in given.items() if name not in REQUESTERS and name != "name" and value is not None},
            "requester_id": requester,
            "description_text": to_plain(from_html(str(given["description"]))),
            "custom_fields": {
                **{str(f["name"]): None for f in TICKET_FIELDS if not f["default"]},
                **(given.get("custom_fields") or {}),
            },
            "attachments": [],
            "created_at": iso(at),
            "_created": at,
            "_deleted": False,
            "_stats": {"status_updated_at": iso(at)},
        }
        ticket.update({**due_times(at, ticket["priority"]), **{n: given[n] for n in ("due_by", "fr_due_by") if given.get(n)}})
        if ticket["product_id"] is not None and ticket["email_config_id"] is None:
            ticket["email_config_id"] = next((c["id"] for c in EMAIL_CONFIGS if c["product_id"] == ticket["product_id"]), None)
        ticket["attachments"] = self._attached(request)
        self.tickets.put(str(number), self._stamped(ticket))
        self.threads.put(str(number), [])
        custom = ticket["custom_fields"]
        self.ledger.write("create", str(number), request, external_id=custom.get("cf_external_id"), marker=custom.get("cf_external_event"))
        self._tell(ticket, request.actor, "{ticket_action:created}", "onTicketCreate")
        return ticket

    def _update(self, ticket: Json, given: Mapping[str, Any], request: Request) -> None:
        custom = given.get("custom_fields") or {}
        plain_fields = {n: v for n, v in given.items() if n not in ("custom_fields", "name", *REQUESTERS[1:]) and n in ticket}
        changes = {name: [ticket[name], value] for name, value in plain_fields.items() if ticket[name] != value}
        ticket.update(plain_fields)
        ticket["custom_fields"].update(custom)
        if "description" in given:
            ticket["description_text"] = to_plain(from_html(str(given["description"])))
        if "priority" in changes:
            ticket.update(due_times(ticket["_created"], ticket["priority"]))
        if "status" in changes:
            at = iso(now())
            ended = {4: "resolved_at", 5: "closed_at", 2: "reopened_at"}.get(ticket["status"], "pending_since")
            ticket["_stats"] |= {"status_updated_at": at, ended: at}
        ticket["attachments"] += self._attached(request)
        self.tickets.put(str(ticket["id"]), self._stamped(ticket))
        self.ledger.write(
            "update",
            str(ticket["id"]),
            request,
            external_id=ticket["custom_fields"].get("cf_external_id"),
            marker=custom.get("cf_external_event"),
        )
        first = next((name for name in TOLD if name in changes), None)
        event = "{ticket_action:update}" if first is None else f"{{{first}:{{from:{changes[first][0]},to:{changes[first][1]}}}}}"
        self._tell(ticket, request.actor, event, "onTicketUpdate", changes=changes)

    def _speak(self, ticket: Json, given: Mapping[str, Any], request: Request, *, source: int, private: bool) -> Json:
        body = str(given["body"])
        said = self._stamped(
            {
                "id": self.next_id("conversation", 500_001),
                "body": body,
                "body_text": to_plain(from_html(body)),
                "incoming": False,
                "private": private,
                "user_id": int(request.actor.id),
                "source": source,
                "ticket_id": ticket["id"],
                "support_email": None,
                "from_email": given.get("from_email") or (EMAIL_CONFIGS[0]["reply_email"] if source == 0 else None),
                "to_emails": [self._requester(ticket)["email"]] if source == 0 else [],
                "cc_emails": given.get("cc_emails") or [],
                "bcc_emails": given.get("bcc_emails") or [],
                "attachments": self._attached(request),
            },
            new=True,
        )
        thread = self._thread(ticket)
        thread.append(said)
        self.threads.put(str(ticket["id"]), thread)
        if not private:
            ticket["_stats"].setdefault("first_responded_at", said["created_at"])
            ticket["_stats"]["agent_responded_at"] = said["created_at"]
        self.tickets.put(str(ticket["id"]), self._stamped(ticket))
        found = find_marker(said["body_text"])
        external_id = ticket["custom_fields"].get("cf_external_id")
        self.ledger.write("note", str(ticket["id"]), request, external_id=external_id, marker=note_marker(*found) if found else None)
        event = "{reply_sent:sent}" if source == 0 else f"{{note_type:{'private' if private else 'public'}}}"
        self._tell(ticket, request.actor, event, "onConversationCreate", conversation=said)
        return said

    def _set_ticket_deleted(self, request: Request, deleted: bool) -> Response:
        ticket = self.tickets.get(request.params["id"])
        if ticket is None or ticket["_deleted"] is deleted:
            return self.refusal(404, request)
        ticket["_deleted"] = deleted
        self.tickets.put(request.params["id"], self._stamped(ticket))
        if deleted:
            self._tell(ticket, request.actor, "{ticket_action:deleted}", "onTicketDelete")
        return self._headed(Response(204))

    # parts -------------------------------------------------------------------------------------------------------------
    def _tell(self, ticket: Json, actor: Actor, event: str, app_event: str, **more: Any) -> None:
        agent = self._agent(actor.id)
        email = agent["contact"]["email"] if agent else (self.contacts.get(actor.id) or {}).get("email")
        requester = self._requester(ticket)
        latest = {said["private"]: f"{self._name(said['user_id'])} : {said['body']}" for said in self._thread(ticket)}
        occasion = Occasion(
            triggered_event=event,
            app_event=app_event,
            ticket=ticket,
            actor={"id": int(actor.id), "email": email, "name": actor.name, "helpdesk_agent": agent is not None},
            requester={"id": requester["id"], "name": requester["name"], "email": requester["email"]},
            product=next((product["name"] for product in PRODUCTS if product["id"] == ticket["product_id"]), None),
            latest_public=latest.get(False, ""),
            latest_private=latest.get(True, ""),
            conversation=shown(more["conversation"]) if "conversation" in more else None,
            changes=more.get("changes"),
        )
        body, headers = rendered(str(self.keys.get("webhook_kind") or "advanced"), occasion, self.base_url)
        self.fire(body, headers)

    def _form_or_json(self, request: Request) -> Json | Response:
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            return self._given(request)
        parts = parts_of(request)
        if sum(len(part.content) for part in parts if part.filename is not None) > MAX_FILES:
            return self._refused([("attachments", f"The total size of attachments is above {MAX_FILES >> 20} MB", "invalid_size")])
        return from_form(parts)

    def _attached(self, request: Request) -> list[Json]:
        found = []
        for part in parts_of(request):
            if part.filename is not None and part.name == "attachments[]":
                number = self.next_id("file", 300_001)
                told, kept = a_file(number, part, self.base_url, uuid4().hex, now())
                self.files.put(str(number), kept)
                found.append(told)
        return found

    def _known(self) -> dict[str, set[int]]:
        return {
            "product_id": {product["id"] for product in PRODUCTS},
            "email_config_id": {config["id"] for config in EMAIL_CONFIGS},
            "group_id": {group["id"] for group in GROUPS},
            "responder_id": {agent["id"] for agent in AGENTS},
            "company_id": {company["id"] for company in self.companies.values()},
            "requester_id": {contact["id"] for contact in self.contacts.values()} | {agent["id"] for agent in AGENTS},
        }

    def _contact_for(self, given: Mapping[str, Any]) -> Json:
        for name in ("email", "phone", "unique_external_id"):
            if given.get(name):
                known = next((contact for contact in self.contacts.values() if contact[name] == given[name]), None)
                return known or self._new_contact({"name": given.get("name") or str(given[name]).partition("@")[0], name: given[name]})
        return self.contact_of(CUSTOMER["email"])

    def _thread(self, ticket: Mapping[str, Any]) -> list[Json]:
        found: list[Json] = self.threads.get(str(ticket["id"])) or []
        return found

    def _requester(self, ticket: Mapping[str, Any]) -> Json:
        found: Json | None = self.contacts.get(str(ticket["requester_id"]))
        if found is not None:
            return found
        agent = self._agent(str(ticket["requester_id"])) or API_AGENT
        return {"id": agent["id"], **agent["contact"]}

    def _name(self, user_id: int) -> str:
        agent = self._agent(str(user_id))
        return str(agent["contact"]["name"]) if agent else str((self.contacts.get(str(user_id)) or {}).get("name") or "")


def _in_freshdesk_words(fields: Mapping[str, Any]) -> Json:
    """Canonical words, as the control calls take them, in Freshdesk's; what it has no word for is left out."""
    given = {name: fields[name] for name in ("subject", "tags") if name in fields}
    for name, words in FROM_CANONICAL.items():
        if fields.get(name) in words:
            given[name] = words[fields[name]]
    return given
