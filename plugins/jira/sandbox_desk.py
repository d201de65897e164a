"""The Jira sandbox's service desk: requests by their type, comments for customers or not, clocks, approvals, queues."""

from __future__ import annotations

from typing import Any

from plugins.jira.sandbox_calls import PlatformCalls
from plugins.jira.sandbox_issue import TYPES, Json, Refused, checked, in_adf, named
from plugins.jira.sandbox_records import GOALS, moment
from plugins.richtext import from_adf, to_wiki
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import now

DESKS = {"1": ("OPS", "10002"), "2": ("ITSM", "10003")}
FORMS = {
    "25": ("1", "Get help", "Service request", ("summary", "description")),
    "26": ("1", "Report an incident", "Incident", ("summary", "description", "priority", "customfield_10050")),
    "27": ("1", "Ask for a change", "Change", ("summary", "description")),
    "31": ("2", "Get IT help", "Service request", ("summary", "description")),
}
"""Request types: their desk, name, issue type, and the fields a customer may fill in."""
QUEUES = {"41": ("All open", ""), "42": ("Incidents", "Incident")}


class DeskCalls(PlatformCalls):
    """/rest/servicedeskapi."""

    @route("GET", "/rest/servicedeskapi/info")
    def desk_info(self, request: Request) -> Response:
        return json_response(
            {"version": "5.12.0", "platformVersion": "10.3.0", "buildDate": moment(0), "isLicensedForUse": True, "_links": {}}
        )

    @route("GET", "/rest/servicedeskapi/servicedesk")
    def desks(self, request: Request) -> Response:
        return self._listed([self._desk(number) for number in DESKS], request)

    @route("GET", "/rest/servicedeskapi/servicedesk/{desk}")
    def desk(self, request: Request) -> Response:
        number = request.params["desk"]
        return json_response(self._desk(number)) if number in DESKS else self.refusal(404, request)

    def _desk(self, number: str) -> Json:
        key, project = DESKS[number]
        links = {"self": f"{self.base_url}/rest/servicedeskapi/servicedesk/{number}"}
        return {"id": number, "projectId": project, "projectName": f"{key} desk", "projectKey": key, "_links": links}

    @route("GET", "/rest/servicedeskapi/servicedesk/{desk}/requesttype")
    def request_types(self, request: Request) -> Response:
        if request.params["desk"] not in DESKS:
            return self.refusal(404, request)
        return self._listed([self._form(n) for n, form in FORMS.items() if form[0] == request.params["desk"]], request)

    def _form(self, number: str) -> Json:
        desk, name, kind, _ = FORMS[number]
        told = {"id": number, "name": name, "description": "", "helpText": "", "issueTypeId": TYPES[kind], "serviceDeskId": desk}
        return {**told, "groupIds": [], "_links": {}}

    @route("GET", "/rest/servicedeskapi/servicedesk/{desk}/queue")
    def queues(self, request: Request) -> Response:
        if request.params["desk"] not in DESKS:
            return self.refusal(404, request)
        rows = [
            {"id": number, "name": name, "jql": "project = OPS", "fields": ["summary"], "issueCount": len(self._queued(request, number))}
            for number, (name, _) in QUEUES.items()
        ]
        return self._listed(rows, request)

    @route("GET", "/rest/servicedeskapi/servicedesk/{desk}/queue/{queue}/issue")
    def queue_issues(self, request: Request) -> Response:
        if request.params["desk"] not in DESKS or request.params["queue"] not in QUEUES:
            return self.refusal(404, request)
        issues = self._queued(request, request.params["queue"])
        shown = [{"id": i["id"], "key": i["key"], "self": "", "fields": {"summary": i["fields"]["summary"]}} for i in issues]
        return self._listed(shown, request)

    def _queued(self, request: Request, queue: str) -> list[Json]:
        project, kind = DESKS[request.params["desk"]][0], QUEUES[queue][1]
        issues = [i for i in self.issues.values() if i["fields"]["project"]["key"] == project and i["fields"]["resolution"] is None]
        return [issue for issue in issues if not kind or issue["fields"]["issuetype"]["name"] == kind]

    # requests --------------------------------------------------------------------------------------------------------
    @route("POST", "/rest/servicedeskapi/request")
    def raise_request(self, request: Request) -> Response:
        body = request.json()
        given = body if isinstance(body, dict) else {}
        form = FORMS.get(str(given.get("requestTypeId")))
        values = given.get("requestFieldValues")
        if form is None or form[0] != str(given.get("serviceDeskId")) or not isinstance(values, dict):
            return self._refused("Your request could not be created. Please check the fields have been correctly filled in.")
        _, _, kind, allowed = form
        strange = sorted(set(values) - set(allowed))
        if strange:
            return self._refused(f"The field {strange[0]} is not part of this request type.")
        project = DESKS[form[0]][0]
        try:
            fields = checked({**values, "project": {"key": project}, "issuetype": {"name": kind}}, creating=True, wiki=True)
        except Refused as exc:
            return self._refused(next(iter(exc.body["errors"].values()), "The request is not valid."))
        issue = self.make(fields, {}, request, request_type=self._form(str(given["requestTypeId"])))
        if kind == "Change":
            waiting = {"approver": self._person(request.actor), "approverDecision": "pending"}
            approval = {"id": str(self.next_id("approval", 70_001)), "name": "Waiting for approval", "finalDecision": "pending"}
            issue["approvals"] = [{**approval, "canAnswerApproval": True, "approvers": [waiting], "createdDate": moment(now() // 1000)}]
            self.issues.put(issue["id"], issue)
        return json_response(self._request_form(issue), 201)

    @route("GET", "/rest/servicedeskapi/request/{id}")
    def read_request(self, request: Request) -> Response:
        issue = self._request(request)
        return self.refusal(404, request) if issue is None else json_response(self._request_form(issue))

    def _request_form(self, issue: Json) -> Json:
        fields, kind = issue["fields"], issue["request_type"]
        status = {"status": fields["status"]["name"], "statusCategory": fields["status"]["statusCategory"]["key"].upper()}
        text = to_wiki(from_adf(fields["description"])) if fields["description"] else ""
        return {
            "issueId": issue["id"],
            "issueKey": issue["key"],
            "requestTypeId": kind["id"],
            "serviceDeskId": kind["serviceDeskId"],
            "createdDate": moment(issue["created"] // 1000),
            "reporter": self._person(self.actors[0]),
            "requestFieldValues": [
                {"fieldId": "summary", "label": "Summary", "value": fields["summary"]},
                {"fieldId": "description", "label": "Description", "value": text},
            ],
            "currentStatus": {**status, "statusDate": moment(issue["updated"] // 1000)},
            "_links": {"self": f"{self.base_url}/rest/servicedeskapi/request/{issue['id']}"},
        }

    @route("POST", "/rest/servicedeskapi/request/{id}/comment")
    def desk_comment(self, request: Request) -> Response:
        issue, body = self._request(request), request.json()
        if issue is None:
            return self.refusal(404, request)
        text = body.get("body") if isinstance(body, dict) else None
        if not isinstance(text, str) or not text.strip():
            return self._refused("A comment must have a body.")
        comment = self.note(issue, in_adf(text, "comment"), body.get("public") is not False, request)
        return json_response(self._comment(comment), 201)

    @route("GET", "/rest/servicedeskapi/request/{id}/comment")
    def desk_comments(self, request: Request) -> Response:
        issue = self._request(request)
        return self.refusal(404, request) if issue is None else self._listed([self._comment(c) for c in issue["comments"]], request)

    def _comment(self, comment: Json) -> Json:
        told = {"id": comment["id"], "body": to_wiki(from_adf(comment["body"])), "public": comment["public"]}
        author = self._person(self.actor_named(comment["author"]))
        return {**told, "author": author, "created": moment(comment["at"] // 1000), "_links": {}}

    @route("GET", "/rest/servicedeskapi/request/{id}/sla")
    def clocks(self, request: Request) -> Response:
        issue = self._request(request)
        if issue is None:
            return self.refusal(404, request)
        return self._listed([{**issue["fields"][field], "_links": {}} for field in GOALS], request)

    @route("GET", "/rest/servicedeskapi/request/{id}/approval")
    def approvals(self, request: Request) -> Response:
        issue = self._request(request)
        if issue is None:
            return self.refusal(404, request)
        return self._listed([{**approval, "_links": {}} for approval in issue["approvals"]], request)

    @route("POST", "/rest/servicedeskapi/request/{id}/approval/{approval}")
    def answer_approval(self, request: Request) -> Response:
        issue, body = self._request(request), request.json()
        approval = next((a for a in issue["approvals"] if a["id"] == request.params["approval"]), None) if issue else None
        if issue is None or approval is None:
            return self.refusal(404, request)
        decision = body.get("decision") if isinstance(body, dict) else None
        if decision not in ("approve", "decline") or not approval["canAnswerApproval"]:
            return self._refused("The approval cannot be answered so, or is answered already.")
        done = "approved" if decision == "approve" else "declined"
        approval |= {"finalDecision": done, "canAnswerApproval": False, "completedDate": moment(now() // 1000)}
        approval["approvers"] = [{**entry, "approverDecision": done} for entry in approval["approvers"]]
        self.issues.put(issue["id"], issue)
        return json_response({**approval, "_links": {}})

    # parts -----------------------------------------------------------------------------------------------------------
    def form_of(self, issue_type: Json, project: str) -> Json | None:
        """The request type a customer of the portal would have taken for an issue type."""
        for number, (desk, _, kind, _) in FORMS.items():
            if named(TYPES, kind) == issue_type and DESKS[desk][0] == project:
                return self._form(number)
        return None

    def _request(self, request: Request) -> Any:
        issue = self.issue_seen_by(request)
        return issue if issue is not None and issue["request_type"] is not None else None

    def _person(self, actor: Any) -> Json:
        shown = self.user(actor)
        who: Json = {name: shown[name] for name in ("accountId", "name", "key", "emailAddress") if name in shown}
        return {**who, "displayName": shown["displayName"], "active": True, "timeZone": "UTC", "_links": {}}

    def _listed(self, items: list[Json], request: Request) -> Response:
        start, limit = int(request.query.get("start") or 0), min(int(request.query.get("limit") or 50), 50)
        page = items[start : start + limit]
        last = start + limit >= len(items)
        links = {} if last else {"next": f"{self.base_url}{request.path}?start={start + limit}&limit={limit}"}
        return json_response({"size": len(page), "start": start, "limit": limit, "isLastPage": last, "values": page, "_links": links})

    def _refused(self, message: str) -> Response:
        return json_response({"errorMessage": message, "i18nErrorMessage": {"i18nKey": "sd.error", "parameters": []}}, 400)
