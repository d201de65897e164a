"""A stand-in for Jira Cloud: the REST v3 calls this project makes, and webhooks signed as Jira signs them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64encode
from collections.abc import Mapping
from email import message_from_bytes
from email.policy import HTTP
from typing import Any, ClassVar

from plugins.jira.sandbox_issue import (
    MAX_COMMENT,
    STATUSES,
    WORKFLOW,
    Json,
    Refused,
    changelog_items,
    check_adf,
    checked,
    checked_properties,
    clauses_of,
    fits,
    in_jira_words,
    in_rest_form,
    in_webhook_form,
    named,
    stamp,
)
from plugins.marker import find_marker, note_marker
from plugins.richtext import from_adf, from_markdown, to_adf, to_plain, to_wiki
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Actor, Sandbox, now
from plugins.sandbox.webhooks import RetryPolicy

BOT_EMAIL = "bridge@harbour.example"
PERSON_EMAIL = "agent@harbour.example"
ACCOUNTS = {
    "712020:0b07-bridge": ("Ticket Bridge", "app"),
    "712020:4f1e-agent": ("Agent on duty", "atlassian"),
}
BOT, PERSON = (Actor(account, account != "712020:0b07-bridge", name) for account, (name, _) in ACCOUNTS.items())
NOBODY = Actor("", False, "anonymous")
"""A wrong token on the calls that Cloud lets anybody make: it finds nothing, and says so with status 200."""

PROPERTY = "ai-agents"
API = "/rest/api/3"
PAGE = 50


class JiraSandbox(Sandbox):
    """Issues, comments, properties, transitions, search with tokens, bulk reads, attachments; projects OPS and ITSM."""

    tool_type: ClassVar[str] = "jira"
    retry_policy: ClassVar[RetryPolicy] = RetryPolicy(on_status=frozenset({408, 409, 425, 429, *range(500, 600)}))
    retry_header: ClassVar[str | None] = "X-Atlassian-Webhook-Retry"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._issues = self.journal.table("issues")
        self._ids = {issue["key"]: issue["id"] for issue in self._issues.values()}
        self._bot, self._person = (_basic(BOT_EMAIL, self.secret("api token")), _basic(PERSON_EMAIL, self.secret("person's token")))

    @property
    def credentials(self) -> Mapping[str, Any]:
        return {
            "auth": {"email": BOT_EMAIL, "api_token": self.secret("api token")},
            "actor": BOT.id,
            "project": "OPS",
            "person": {"headers": {"Authorization": self._person}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"secret": self.secret("webhook secret")}

    def sign(self, body: bytes) -> Mapping[str, str]:
        digest = hmac.new(self.secret("webhook secret").encode(), body, hashlib.sha256).hexdigest()
        return {
            "Content-Type": "application/json; charset=UTF-8",
            "User-Agent": "Atlassian-Webhook-HTTP-Client",
            "X-Hub-Signature": f"sha256={digest}",
            "X-Atlassian-Webhook-Identifier": secrets.token_hex(12),
            "X-Atlassian-Webhook-Flow": "Primary",
        }

    def actor_of(self, request: Request) -> Actor | None:
        given = request.headers.get("authorization", "")
        if hmac.compare_digest(given.encode(), self._bot.encode()):
            return BOT
        if hmac.compare_digest(given.encode(), self._person.encode()):
            return PERSON
        open_to_all = request.method == "GET" and request.path.startswith((f"{API}/search", f"{API}/issue/", f"{API}/serverInfo"))
        return NOBODY if open_to_all else None

    def refusal(self, status: int, request: Request) -> Response:
        match status:
            case 401:
                text = "Client must be authenticated to access this resource."
            case 404:
                text = "Issue does not exist or you do not have permission to see it."
            case 429:
                return json_response(_errors("Rate limit exceeded."), 429, {"RateLimit-Reason": "jira-burst-based"})
            case _:
                text = f"The request could not be completed ({status})."
        return json_response(_errors(text), status)

    # reads -----------------------------------------------------------------------------------------------------------
    @route("GET", "/rest/api/3/serverInfo")
    def server_info(self, request: Request) -> Response:
        return json_response({"baseUrl": self.base_url, "deploymentType": "Cloud", "version": "1001.0.0-SNAPSHOT"})

    @route("GET", "/rest/api/3/myself")
    def myself(self, request: Request) -> Response:
        return json_response(self._user(request.actor))

    @route("GET", "/rest/api/3/issue/{id}")
    def read(self, request: Request) -> Response:
        issue = self._seen_by(request)
        if issue is None:
            return self.refusal(404, request)
        shown = in_rest_form(issue, self.base_url, request.query.get("fields", "*all"))
        if "transitions" in request.query.get("expand", ""):
            shown["transitions"] = self._transitions(issue)
        if "properties" in request.query:
            asked = request.query["properties"].split(",")
            shown["properties"] = {key: value for key, value in issue["properties"].items() if key in asked}
        return json_response(shown)

    @route("POST", "/rest/api/3/issue/bulkfetch")
    def bulk_fetch(self, request: Request) -> Response:
        body = request.json()
        wanted = body.get("issueIdsOrKeys") if isinstance(body, dict) else None
        if not isinstance(wanted, list) or not 0 < len(wanted) <= 100:
            return json_response(_errors("issueIdsOrKeys must hold 1 to 100 ids or keys."), 400)
        found = {issue["id"]: issue for name in wanted if (issue := self._issue(str(name).upper())) is not None}
        fields = ",".join(body.get("fields") or ["*navigable"])
        issues = [in_rest_form(issue, self.base_url, fields) for issue in reversed(found.values())]  # Jira keeps no order either
        return json_response({"issues": issues, "issueErrors": []})

    @route("GET", "/rest/api/3/search/jql")
    def search(self, request: Request) -> Response:
        query = request.query
        try:
            wanted = clauses_of(query.get("jql", ""))
        except Refused as exc:
            return json_response(exc.body, 400)
        try:
            start, size = int(query.get("nextPageToken") or "0", 16), min(max(int(query.get("maxResults", PAGE)), 1), 100)
        except ValueError:
            return json_response(_errors("The page token or size is invalid."), 400)
        found = [i for i in self._issues.values() if request.actor is not NOBODY and self.indexed(i["labelled"]) and fits(i, wanted)]
        page = [in_rest_form(issue, self.base_url, query.get("fields", "id")) for issue in found[start : start + size]]
        answer: Json = {"issues": page, "isLast": start + size >= len(found)}
        if not answer["isLast"]:
            answer["nextPageToken"] = f"{start + size:x}"
        return json_response(answer)

    @route("GET", "/rest/api/3/issue/{id}/properties/{key}")
    def issue_property(self, request: Request) -> Response:
        issue = self._seen_by(request)
        if issue is None:
            return self.refusal(404, request)
        found = issue["properties"].get(request.params["key"])
        if found is None:
            return json_response(_errors(f"The property with key '{request.params['key']}' does not exist."), 404)
        return json_response({"key": request.params["key"], "value": found})

    @route("GET", "/rest/api/3/issue/{id}/comment")
    def comments(self, request: Request) -> Response:
        issue = self._seen_by(request)
        if issue is None:
            return self.refusal(404, request)
        seen = [c for c in issue["comments"] if self.indexed(c["at"])]
        if request.query.get("orderBy", "").startswith("-"):
            seen.reverse()
        start, size = int(request.query.get("startAt", 0)), min(int(request.query.get("maxResults", 100)), 100)
        page = [self._comment(issue, c, wiki=False) for c in seen[start : start + size]]
        return json_response({"startAt": start, "maxResults": size, "total": len(seen), "comments": page})

    @route("GET", "/rest/api/3/issue/{id}/transitions")
    def transitions(self, request: Request) -> Response:
        issue = self._seen_by(request)
        return self.refusal(404, request) if issue is None else json_response({"transitions": self._transitions(issue)})

    # writes ----------------------------------------------------------------------------------------------------------
    @route("POST", "/rest/api/3/issue")
    def create(self, request: Request) -> Response:
        body = request.json()
        try:
            if not isinstance(body, dict):
                raise Refused("The request body is no JSON object.")
            fields, properties = checked(body.get("fields"), creating=True), checked_properties(body.get("properties"))
        except Refused as exc:
            return json_response(exc.body, 400)
        issue = self._create(fields, properties, request)
        return json_response({"id": issue["id"], "key": issue["key"], "self": f"{self.base_url}{API}/issue/{issue['id']}"}, 201)

    @route("PUT", "/rest/api/3/issue/{id}")
    def edit(self, request: Request) -> Response:
        issue, body = self._issue(request.params["id"]), request.json()
        if issue is None:
            return self.refusal(404, request)
        try:
            if not isinstance(body, dict):
                raise Refused("The request body is no JSON object.")
            fields, properties = checked(body.get("fields") or {}, creating=False), checked_properties(body.get("properties"))
        except Refused as exc:
            return json_response(exc.body, 400)
        self._change(issue, fields, properties, request)
        if request.query.get("returnIssue") == "true":
            return json_response(in_rest_form(issue, self.base_url, "*all"))
        return Response(204)

    @route("POST", "/rest/api/3/issue/{id}/transitions")
    def transition(self, request: Request) -> Response:
        issue, body = self._issue(request.params["id"]), request.json()
        if issue is None:
            return self.refusal(404, request)
        asked = body.get("transition", {}).get("id") if isinstance(body, dict) else None
        chosen = next((t for t in self._transitions(issue) if t["id"] == asked), None)
        if chosen is None:
            return json_response(_errors("It seems that you have tried to perform a workflow operation that is not valid here."), 400)
        strange = sorted(set(body.get("fields") or {}) - {"resolution"})
        try:
            if strange:
                raise Refused(**{strange[0]: f"Field '{strange[0]}' cannot be set. It is not on the appropriate screen, or unknown."})
            properties = checked_properties(body.get("properties"))
        except Refused as exc:
            return json_response(exc.body, 400)
        self._move(issue, chosen["to"]["name"], properties, request, (body.get("fields") or {}).get("resolution"))
        return Response(204)

    @route("POST", "/rest/api/3/issue/{id}/comment")
    def comment(self, request: Request) -> Response:
        issue, body = self._issue(request.params["id"]), request.json()
        if issue is None:
            return self.refusal(404, request)
        try:
            document: Any = body.get("body") if isinstance(body, dict) else None
            check_adf(document, "comment")
            properties = checked_properties(body.get("properties"))
        except Refused as exc:
            return json_response(exc.body, 400)
        if len(to_plain(from_adf(document))) > MAX_COMMENT:
            return json_response(_errors("CONTENT_LIMIT_EXCEEDED"), 400)
        internal = properties.get("sd.public.comment", {}).get("internal") is True
        return json_response(self._comment(issue, self._note(issue, document, not internal, request), wiki=False), 201)

    @route("POST", "/rest/api/3/issue/{id}/attachments")
    def attach(self, request: Request) -> Response:
        issue = self._issue(request.params["id"])
        if issue is None:
            return self.refusal(404, request)
        if request.headers.get("x-atlassian-token") != "no-check":
            return Response(403, b"XSRF check failed", {"content-type": "text/html"})
        form = message_from_bytes(f"content-type: {request.headers.get('content-type', '')}\r\n\r\n".encode() + request.body, policy=HTTP)
        parts = [p for p in form.iter_parts() if p.get_param("name", header="content-disposition") == "file"]
        rows = []
        for part in parts:
            content = part.get_payload(decode=True)
            row = {"id": str(self.next_id("attachment", 40_001)), "filename": part.get_filename(), "size": len(content)}
            rows.append({**row, "mimeType": part.get_content_type(), "created": stamp(now()), "author": self._user(request.actor)})
        issue["fields"]["attachment"] = [*issue["fields"].get("attachment", []), *rows]
        self._issues.put(issue["id"], issue)
        return json_response(rows)

    # people ----------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = PERSON
        values = {"project": {"key": "OPS"}, "issuetype": {"name": "Incident"}, "summary": "(no subject)", **in_jira_words(fields)}
        status = values.pop("status", "Open")
        issue = self._create(checked(values, creating=True), {}, request, status)
        return str(issue["id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor, issue = PERSON, self._issue(ticket_id)
        if issue is None:
            return False
        values = in_jira_words(fields)
        status = values.pop("status", None)
        if values:
            self._change(issue, checked(values, creating=False), {}, request)
        if status is not None and status != issue["fields"]["status"]["name"]:
            self._move(issue, status, {}, request)
        if fields.get("comment"):
            self._note(issue, to_adf(from_markdown(str(fields["comment"]))), bool(fields.get("public")), request)
        return True

    # parts -----------------------------------------------------------------------------------------------------------
    def _create(self, fields: Json, properties: Json, request: Request, status: str = "Open") -> Json:
        number, at = self.next_id(f"issue of {fields['project']['key']}"), now()
        issue_id = str(self.next_id("issue", 10_001))
        account = self._user(request.actor)
        issue: Json = {
            "id": issue_id,
            "key": f"{fields['project']['key']}-{number}",
            "created": at,
            "updated": at,
            "labelled": at,
            "fields": {
                "description": None,
                "labels": [],
                "priority": {"id": "3", "name": "Medium"},
                "assignee": None,
                "reporter": account,
                "creator": account,
                "resolution": None,
                "duedate": None,
                **fields,
                "status": named(STATUSES, status),
            },
            "properties": dict(properties),
            "comments": [],
        }
        self._issues.put(issue_id, issue)
        self._ids[issue["key"]] = issue_id
        self.ledger.write("create", issue_id, request, external_id=_external_id(issue), marker=_event_in(properties))
        self._tell("jira:issue_created", "issue_created", issue, request, changelog_items({}, fields))
        return issue

    def _change(self, issue: Json, fields: Json, properties: Json, request: Request) -> None:
        before = dict(issue["fields"])
        issue["fields"].update(fields)
        items = changelog_items(before, fields)
        self._touch(issue, properties, request, labelled="labels" in fields, changed=bool(items))
        if items:
            self._tell("jira:issue_updated", "issue_updated", issue, request, items)

    def _move(self, issue: Json, status: str, properties: Json, request: Request, resolution: Any = None) -> None:
        before = dict(issue["fields"])
        issue["fields"]["status"] = named(STATUSES, status)
        done = STATUSES[status][1] == "done"
        issue["fields"]["resolution"] = (resolution or before["resolution"] or {"id": "10000", "name": "Done"}) if done else None
        self._touch(issue, properties, request, labelled=False, changed=True)
        after = {name: issue["fields"][name] for name in ("resolution", "status")}
        self._tell("jira:issue_updated", "issue_generic", issue, request, changelog_items(before, after))

    def _touch(self, issue: Json, properties: Json, request: Request, *, labelled: bool, changed: bool) -> None:
        at = now()
        issue["updated"] = at if changed else issue["updated"]
        issue["labelled"] = at if labelled else issue["labelled"]
        issue["properties"].update(properties)
        self._issues.put(issue["id"], issue)
        self.ledger.write("update", issue["id"], request, external_id=_external_id(issue), marker=_event_in(properties))

    def _note(self, issue: Json, document: Json, public: bool, request: Request) -> Json:
        at = now()
        comment = {"id": str(self.next_id("comment", 30_001)), "body": document, "public": public, "at": at, "author": request.actor.id}
        issue["comments"].append(comment)
        issue["updated"] = at
        self._issues.put(issue["id"], issue)
        found = find_marker(to_plain(from_adf(document)))
        self.ledger.write("note", issue["id"], request, external_id=_external_id(issue), marker=note_marker(*found) if found else None)
        body = {"timestamp": at // 1000, "webhookEvent": "comment_created", "comment": self._comment(issue, comment, wiki=True)}
        self.fire({**body, "issue": in_webhook_form(issue, self.base_url, short=True)})
        return comment

    def _tell(self, event: str, kind: str, issue: Json, request: Request, items: list[Json]) -> None:
        body = {"timestamp": issue["updated"] // 1000, "webhookEvent": event, "issue_event_type_name": kind}
        shown = {"user": self._user(request.actor), "issue": in_webhook_form(issue, self.base_url)}
        self.fire({**body, **shown, "changelog": {"id": str(self.next_id("changelog", 50_001)), "items": items}})

    def _comment(self, issue: Json, comment: Json, *, wiki: bool) -> Json:
        author = self._user(PERSON if comment["author"] == PERSON.id else BOT)
        version = 2 if wiki else 3
        return {
            "self": f"{self.base_url}/rest/api/{version}/issue/{issue['id']}/comment/{comment['id']}",
            "id": comment["id"],
            "author": author,
            "updateAuthor": author,
            "body": to_wiki(from_adf(comment["body"])) if wiki else comment["body"],
            "created": stamp(comment["at"]),
            "updated": stamp(comment["at"]),
            "jsdPublic": comment["public"],
        }

    def _transitions(self, issue: Json) -> list[Json]:
        """Transition ids differ by status, as they do by workflow: nobody may learn them by heart."""
        status = issue["fields"]["status"]
        return [
            {"id": f"{status['id']}{i}", "name": f"To {name}", "to": named(STATUSES, name), "isAvailable": True, "hasScreen": False}
            for i, name in enumerate(WORKFLOW[status["name"]], 1)
        ]

    def _seen_by(self, request: Request) -> Any:
        return None if request.actor is NOBODY else self._issue(request.params["id"])

    def _issue(self, id_or_key: str) -> Any:
        return self._issues.get(self._ids.get(id_or_key, id_or_key))

    def _user(self, actor: Actor) -> Json:
        name, kind = ACCOUNTS[actor.id]
        address = f"{self.base_url}/rest/api/2/user?accountId={actor.id}"
        return {"self": address, "accountId": actor.id, "displayName": name, "active": True, "accountType": kind, "timeZone": "Etc/UTC"}


def _basic(email: str, token: str) -> str:
    return "Basic " + b64encode(f"{email}:{token}".encode()).decode()


def _errors(message: str) -> Json:
    return {"errorMessages": [message], "errors": {}}


def _external_id(issue: Json) -> str | None:
    return next((label for label in issue["fields"]["labels"] if label.startswith("aia-")), None)


def _event_in(properties: Json) -> str | None:
    """The event whose change a write carries; of a change in two calls, the first is told apart as `event_id/fields`."""
    value = properties.get(PROPERTY)
    if not isinstance(value, dict):
        return None
    return "/".join(str(value[name]) for name in ("event_id", "part") if name in value)
