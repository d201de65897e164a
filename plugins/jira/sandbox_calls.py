"""The Jira sandbox's platform calls, REST v3 and v2: issues, comments, transitions, properties, searches, files."""

from __future__ import annotations

import secrets
from typing import Any

from plugins.jira.sandbox_issue import (
    MAX_COMMENT,
    PROJECTS,
    TYPES,
    Json,
    Refused,
    check_adf,
    checked,
    checked_properties,
    in_adf,
    in_rest_form,
    named,
    stamp,
)
from plugins.jira.sandbox_jql import fits, keys_in, query_of
from plugins.jira.sandbox_records import Records
from plugins.jira.sandbox_site import API, CUSTOM_FIELDS, NOBODY, SYSTEM_FIELDS, errors
from plugins.richtext import from_adf, to_plain
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.multipart import parts_of
from plugins.sandbox.server import now

PAGE = 50
GONE = "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API."


class PlatformCalls(Records):
    """/rest/api, in both versions: handlers are routed by the path of v3."""

    # the site --------------------------------------------------------------------------------------------------------
    @route("GET", "/rest/api/3/serverInfo")
    def server_info(self, request: Request) -> Response:
        version = [1001, 0, 0] if self.deployment == "Cloud" else [10, 3, 0]
        told = {"baseUrl": self.base_url, "version": ".".join(map(str, version)), "versionNumbers": version, "buildNumber": 100_300}
        return json_response({**told, "deploymentType": self.deployment, "serverTitle": "Harbour"})

    @route("GET", "/rest/api/3/myself")
    def myself(self, request: Request) -> Response:
        return json_response(self.user(request.actor))

    @route("GET", "/rest/api/3/field")
    def fields(self, request: Request) -> Response:
        system = []
        for name, (title, kind, items) in SYSTEM_FIELDS.items():
            schema = {"type": kind, "system": name, **({"items": items} if items else {})}
            told = {"id": name, "key": name, "name": title, "custom": False, "clauseNames": [name], "schema": schema}
            system.append({**told, "orderable": True, "navigable": True, "searchable": True})
        custom = [{name: value for name, value in field.items() if not name.startswith("_")} for field in CUSTOM_FIELDS.values()]
        return json_response([*system, *custom])

    @route("GET", "/rest/api/3/project")
    def projects(self, request: Request) -> Response:
        return json_response([self._project(key) for key in PROJECTS])

    @route("GET", "/rest/api/3/project/{key}")
    def project(self, request: Request) -> Response:
        key = request.params["key"]
        return json_response(self._project(key)) if key in PROJECTS else self.refusal(404, request)

    def _project(self, key: str) -> Json:
        address = f"{self.base_url}{API}/project/{PROJECTS[key]}"
        return {"id": PROJECTS[key], "key": key, "name": key, "self": address, "projectTypeKey": "service_desk"}

    @route("GET", "/rest/api/3/issuetype")
    def issue_types(self, request: Request) -> Response:
        return json_response([{**named(TYPES, name), "subtask": False, "description": ""} for name in TYPES])

    # reads -----------------------------------------------------------------------------------------------------------
    @route("GET", "/rest/api/3/issue/{id}")
    def read(self, request: Request) -> Response:
        issue = self.issue_seen_by(request)
        if issue is None:
            return self.refusal(404, request)
        shown, expand = self._shown(issue, request, request.query.get("fields", "*all")), request.query.get("expand", "").split(",")
        if {"transitions", "transitions.fields"} & set(expand):
            shown["transitions"] = self.transitions_of(issue, with_fields="transitions.fields" in expand)
        if "changelog" in expand:
            count = len(issue["histories"])
            shown["changelog"] = {"startAt": 0, "maxResults": count, "total": count, "histories": issue["histories"]}
        if "properties" in request.query:
            asked = request.query["properties"].split(",")
            shown["properties"] = {key: value for key, value in issue["properties"].items() if key in asked}
        return json_response(shown)

    def _shown(self, issue: Json, request: Request, wanted: str) -> Json:
        return in_rest_form(issue, self.base_url, wanted, self.version(request))

    @route("POST", "/rest/api/3/issue/bulkfetch")
    def bulk_fetch(self, request: Request) -> Response:
        if self.deployment != "Cloud":
            return self.refusal(405, request)
        body = request.json()
        wanted = body.get("issueIdsOrKeys") if isinstance(body, dict) else None
        if not isinstance(wanted, list) or not 0 < len(wanted) <= 100:
            return json_response(errors("issueIdsOrKeys must hold 1 to 100 ids or keys."), 400)
        found = {issue["id"]: issue for name in wanted if (issue := self.issue(str(name).upper())) is not None}
        fields = ",".join(body.get("fields") or ["*navigable"])
        issues = [self._shown(issue, request, fields) for issue in reversed(found.values())]  # Jira keeps no order either
        return json_response({"issues": issues, "issueErrors": []})

    @route("GET", "/rest/api/3/search/jql")
    @route("POST", "/rest/api/3/search/jql")
    def search(self, request: Request) -> Response:
        """Cloud's search: tokens in place of a total, and as many fields as asked for."""
        asked = _asked(request, "id")
        if self.deployment != "Cloud":
            return self.refusal(404, request)
        try:
            start, size = int(str(asked.get("nextPageToken") or "0"), 16), min(max(int(asked.get("maxResults") or PAGE), 1), 100)
            found = self._found(request, asked)
        except Refused as exc:
            return json_response(exc.body, 400)
        except ValueError:
            return json_response(errors("The page token or size is invalid."), 400)
        answer: Json = {"issues": [self._shown(i, request, asked["fields"]) for i in found[start : start + size]]}
        answer["isLast"] = start + size >= len(found)
        if not answer["isLast"]:
            answer["nextPageToken"] = f"{start + size:x}"
        return json_response(answer)

    @route("GET", "/rest/api/3/search")
    @route("POST", "/rest/api/3/search")
    def search_by_start(self, request: Request) -> Response:
        """Data Center's search; removed from Cloud."""
        if self.deployment == "Cloud":
            return json_response(errors(GONE), 410)
        asked = _asked(request, "*navigable")
        try:
            start, size = int(asked.get("startAt") or 0), min(max(int(asked.get("maxResults") or PAGE), 1), 100)
            query = query_of(str(asked.get("jql") or ""))
            unknown = [key for key in keys_in(query) if self.issue(key) is None]
            if unknown and asked.get("validateQuery") not in ("warn", "none", False):
                raise Refused(f"An issue with key '{unknown[0]}' does not exist for field 'key'.")
            found = self._found(request, asked)
        except Refused as exc:
            return json_response(exc.body, 400)
        except ValueError:
            return json_response(errors("The start or the size is invalid."), 400)
        page = [self._shown(issue, request, asked["fields"]) for issue in found[start : start + size]]
        return json_response({"expand": "names,schema", "startAt": start, "maxResults": size, "total": len(found), "issues": page})

    def _found(self, request: Request, asked: Json) -> list[Json]:
        query = query_of(str(asked.get("jql") or ""))
        seen = [issue for issue in self.issues.values() if request.actor is not NOBODY and self.indexed(issue["labelled"])]
        return [issue for issue in seen if fits(issue, query)]

    @route("GET", "/rest/api/3/issue/{id}/properties/{key}")
    def issue_property(self, request: Request) -> Response:
        issue = self.issue_seen_by(request)
        if issue is None:
            return self.refusal(404, request)
        found = issue["properties"].get(request.params["key"])
        if found is None:
            return json_response(errors(f"The property with key '{request.params['key']}' does not exist."), 404)
        return json_response({"key": request.params["key"], "value": found})

    @route("GET", "/rest/api/3/issue/{id}/comment")
    def comments(self, request: Request) -> Response:
        issue = self.issue_seen_by(request)
        if issue is None:
            return self.refusal(404, request)
        seen = [c for c in issue["comments"] if self.indexed(c["at"])]
        if request.query.get("orderBy", "").startswith("-"):
            seen.reverse()
        start, size = int(request.query.get("startAt", 0)), min(int(request.query.get("maxResults", 100)), 100)
        page = [self.comment_form(issue, c, wiki=self.version(request) == 2) for c in seen[start : start + size]]
        return json_response({"startAt": start, "maxResults": size, "total": len(seen), "comments": page})

    @route("GET", "/rest/api/3/issue/{id}/comment/{comment}")
    def read_comment(self, request: Request) -> Response:
        issue = self.issue_seen_by(request)
        found = next((c for c in issue["comments"] if c["id"] == request.params["comment"]), None) if issue is not None else None
        if found is None:
            return self.refusal(404, request)
        return json_response(self.comment_form(issue, found, wiki=self.version(request) == 2))

    @route("GET", "/rest/api/3/issue/{id}/transitions")
    def transitions(self, request: Request) -> Response:
        issue = self.issue_seen_by(request)
        if issue is None:
            return self.refusal(404, request)
        with_fields = "transitions.fields" in request.query.get("expand", "")
        return json_response({"expand": "transitions", "transitions": self.transitions_of(issue, with_fields=with_fields)})

    # writes ----------------------------------------------------------------------------------------------------------
    @route("POST", "/rest/api/3/issue")
    def create(self, request: Request) -> Response:
        try:
            body = _body(request)
            fields = checked(body.get("fields"), creating=True, wiki=self.version(request) == 2)
            properties = checked_properties(body.get("properties"))
        except Refused as exc:
            return json_response(exc.body, 400)
        issue = self.make(fields, properties, request)
        address = f"{self.base_url}/rest/api/{self.version(request)}/issue/{issue['id']}"
        return json_response({"id": issue["id"], "key": issue["key"], "self": address}, 201)

    @route("PUT", "/rest/api/3/issue/{id}")
    def edit(self, request: Request) -> Response:
        issue = self.issue(request.params["id"])
        if issue is None:
            return self.refusal(404, request)
        try:
            body = _body(request)
            fields = checked(body.get("fields") or {}, creating=False, wiki=self.version(request) == 2)
            properties = checked_properties(body.get("properties"))
            added = [step["add"] for step in (body.get("update") or {}).get("labels") or () if "add" in step]
            fields |= checked({"labels": list(dict.fromkeys([*issue["fields"]["labels"], *added]))}, creating=False) if added else {}
        except Refused as exc:
            return json_response(exc.body, 400)
        self.change(issue, fields, properties, request)
        if request.query.get("returnIssue") == "true" and self.deployment == "Cloud":
            return json_response(self._shown(issue, request, "*all"))
        return Response(204)

    @route("DELETE", "/rest/api/3/issue/{id}")
    def remove(self, request: Request) -> Response:
        issue = self.issue(request.params["id"])
        if issue is None:
            return self.refusal(404, request)
        self.delete(issue, request)
        return Response(204)

    @route("POST", "/rest/api/3/issue/{id}/transitions")
    def transition(self, request: Request) -> Response:
        issue, body = self.issue(request.params["id"]), request.json()
        if issue is None:
            return self.refusal(404, request)
        asked = body.get("transition", {}).get("id") if isinstance(body, dict) else None
        chosen = next((t for t in self.transitions_of(issue, with_fields=True) if t["id"] == asked), None)
        if chosen is None:
            return json_response(errors("It seems that you have tried to perform a workflow operation that is not valid here."), 400)
        given = body.get("fields") or {}
        strange = sorted(set(given) - {"resolution"})
        try:
            if strange:
                raise Refused(**{strange[0]: f"Field '{strange[0]}' cannot be set. It is not on the appropriate screen, or unknown."})
            if "resolution" in chosen["fields"] and not given.get("resolution"):
                raise Refused(resolution="Resolution is required.")
            properties = checked_properties(body.get("properties"))
        except Refused as exc:
            return json_response(exc.body, 400)
        self.move(issue, chosen["to"]["name"], properties, request, given.get("resolution"))
        return Response(204)

    @route("POST", "/rest/api/3/issue/{id}/comment")
    def comment(self, request: Request) -> Response:
        issue, wiki = self.issue(request.params["id"]), self.version(request) == 2
        if issue is None:
            return self.refusal(404, request)
        try:
            body = _body(request)
            document: Any = in_adf(body.get("body"), "comment") if wiki else body.get("body")
            check_adf(document, "comment")
            properties = checked_properties(body.get("properties"))
        except Refused as exc:
            return json_response(exc.body, 400)
        if len(to_plain(from_adf(document))) > MAX_COMMENT:
            return json_response(errors("CONTENT_LIMIT_EXCEEDED"), 400)
        internal = properties.get("sd.public.comment", {}).get("internal") is True
        return json_response(self.comment_form(issue, self.note(issue, document, not internal, request), wiki=wiki), 201)

    # files -----------------------------------------------------------------------------------------------------------
    @route("POST", "/rest/api/3/issue/{id}/attachments")
    def attach(self, request: Request) -> Response:
        issue = self.issue(request.params["id"])
        if issue is None:
            return self.refusal(404, request)
        if request.headers.get("x-atlassian-token") != "no-check":
            return Response(403, b"XSRF check failed", {"content-type": "text/html"})
        rows = []
        for part in parts_of(request):
            if part.name != "file":
                continue
            content, number = part.content, str(self.next_id("attachment", 40_001))
            name = part.filename or "file"
            row = {"id": number, "filename": name, "size": len(content), "mimeType": part.content_type, "created": stamp(now())}
            row |= {"author": self.user(request.actor), "content": self._address_of(number, request)}
            row |= {"self": f"{self.base_url}/rest/api/{self.version(request)}/attachment/{number}"}
            self.files.put(number, {"row": row, "content": content.decode("latin-1"), "key": secrets.token_urlsafe(12)})
            rows.append(row)
        issue["fields"]["attachment"] = [*issue["fields"]["attachment"], *rows]
        self.issues.put(issue["id"], issue)
        return json_response(rows)

    def _address_of(self, number: str, request: Request) -> str:
        cloud = self.deployment == "Cloud"
        return f"{self.base_url}/rest/api/3/attachment/content/{number}" if cloud else f"{self.base_url}/secure/attachment/{number}/file"

    @route("GET", "/rest/api/3/attachment/{id}")
    def attachment(self, request: Request) -> Response:
        found = self.files.get(request.params["id"])
        return self.refusal(404, request) if found is None else json_response(found["row"])

    @route("GET", "/rest/api/3/attachment/content/{id}")
    def content(self, request: Request) -> Response:
        """Cloud leads on to a storage host, by an address that is its own credential."""
        found = self.files.get(request.params["id"])
        if found is None:
            return self.refusal(404, request)
        if request.query.get("redirect") == "false":
            return Response(200, found["content"].encode("latin-1"), {"content-type": found["row"]["mimeType"]})
        elsewhere = self.base_url.replace("127.0.0.1", "localhost")
        return Response(303, b"", {"location": f"{elsewhere}/storage/{request.params['id']}/{found['key']}"})

    @route("GET", "/storage/{id}/{key}")
    def stored(self, request: Request) -> Response:
        found = self.files.get(request.params["id"])
        if found is None or found["key"] != request.params["key"] or "authorization" in request.headers:
            return Response(403, b"<html>AccessDenied</html>", {"content-type": "text/html"})
        return Response(200, found["content"].encode("latin-1"), {"content-type": found["row"]["mimeType"]})

    @route("GET", "/secure/attachment/{id}/{name}")
    def content_of_data_center(self, request: Request) -> Response:
        found = self.files.get(request.params["id"])
        if found is None:
            return self.refusal(404, request)
        return Response(200, found["content"].encode("latin-1"), {"content-type": found["row"]["mimeType"]})


def _body(request: Request) -> Json:
    body = request.json()
    if not isinstance(body, dict):
        raise Refused("The request body is no JSON object.")
    return body


def _asked(request: Request, usual: str) -> Json:
    """A search's parameters, from the query or the body; `fields` as one text."""
    body = request.json() if request.method == "POST" else None
    asked: Json = dict(body) if isinstance(body, dict) else dict(request.query)
    fields = asked.get("fields")
    return {**asked, "fields": (",".join(map(str, fields)) if isinstance(fields, list) else str(fields or "")) or usual}
