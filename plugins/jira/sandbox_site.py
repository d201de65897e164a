"""What the Jira sandbox keeps and who works in it: tables, accounts, fields, and the form of its errors.

Cloud knows people by account id, Data Center by name; both are told apart by `deployment` alone.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from plugins.sandbox.http import Request, Response, json_response
from plugins.sandbox.server import Actor, Sandbox

Json = dict[str, Any]

API: Final = "/rest/api/3"
BOT_EMAIL: Final = "bridge@harbour.example"
PERSON_EMAIL: Final = "agent@harbour.example"
ACCOUNTS: Final = {
    "712020:0b07-bridge": ("Ticket Bridge", "app"),
    "712020:4f1e-agent": ("Agent on duty", "atlassian"),
}
USERS: Final = {"bridge": ("Ticket Bridge", BOT_EMAIL), "agent": ("Agent on duty", PERSON_EMAIL)}
NOBODY: Final = Actor("", False, "anonymous")
"""A wrong token on the calls that Cloud lets anybody make: it finds nothing, and says so with status 200."""


def _field(number: int, name: str, kind: str, items: str | None = None, options: tuple[str, ...] | None = None) -> Json:
    schema = {"type": kind, "custom": f"com.atlassian.jira.plugin.system.customfieldtypes:{items or kind}", "customId": number}
    clauses = [f"cf[{number}]", name]
    found: Json = {"id": f"customfield_{number}", "key": f"customfield_{number}", "name": name, "custom": True, "clauseNames": clauses}
    found |= {"orderable": True, "navigable": True, "searchable": True, "schema": {**schema, **({"items": items} if items else {})}}
    return found if options is None else {**found, "_options": options}


CUSTOM_FIELDS: Final[Mapping[str, Json]] = {
    field["id"]: field
    for field in (
        _field(10050, "Cost centre", "option", options=("Quay 1", "Quay 2")),
        _field(10051, "Affected sites", "array", "option", ("North gate", "South gate")),
        _field(10052, "Seats", "number"),
        _field(10053, "Serial number", "string"),
        _field(10054, "Owner", "user"),
        _field(10055, "Note", "string"),
        _field(10056, "Note", "string"),
        _field(10060, "Request Type", "sd-customerrequesttype"),
        _field(10061, "Time to first response", "sd-servicelevelagreement"),
        _field(10062, "Time to resolution", "sd-servicelevelagreement"),
    )
}
SYSTEM_FIELDS: Final = {
    "summary": ("Summary", "string", None),
    "description": ("Description", "string", None),
    "issuetype": ("Issue Type", "issuetype", None),
    "priority": ("Priority", "priority", None),
    "labels": ("Labels", "array", "string"),
    "assignee": ("Assignee", "user", None),
    "reporter": ("Reporter", "user", None),
    "duedate": ("Due date", "date", None),
    "resolution": ("Resolution", "resolution", None),
}


class Site(Sandbox):
    """Tables, accounts and errors; the calls are in the classes over this one."""

    deployment: ClassVar[str] = "Cloud"
    actors: ClassVar[tuple[Actor, Actor]] = (
        Actor("712020:0b07-bridge", False, "Ticket Bridge"),
        Actor("712020:4f1e-agent", True, "Agent on duty"),
    )
    """Our account, and a person's."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.issues = self.journal.table("issues")
        self.files = self.journal.table("files")
        self.ids = {issue["key"]: issue["id"] for issue in self.issues.values()}

    def path_of(self, request: Request) -> str:
        """v2, v3 and latest lead to one handler; what differs asks `version`."""
        for spelling in ("/rest/api/2/", "/rest/api/latest/"):
            if request.path.startswith(spelling):
                return f"{API}/{request.path[len(spelling) :]}"
        return request.path

    def version(self, request: Request) -> int:
        return 3 if request.path.startswith(f"{API}/") else 2

    def refusal(self, status: int, request: Request) -> Response:
        if request.path.startswith("/rest/servicedeskapi/"):
            text = {401: "You are not authenticated.", 404: "The request does not exist, or you may not see it."}.get(status, "Failed.")
            return json_response({"errorMessage": text, "i18nErrorMessage": {"i18nKey": "sd.error", "parameters": []}}, status)
        match status:
            case 401:
                text = "Client must be authenticated to access this resource."
            case 404:
                text = "Issue does not exist or you do not have permission to see it."
            case 429:
                return json_response(errors("Rate limit exceeded."), 429, {"RateLimit-Reason": "jira-burst-based"})
            case _:
                text = f"The request could not be completed ({status})."
        return json_response(errors(text), status)

    def user(self, actor: Actor) -> Json:
        """An account as this deployment shows it."""
        if self.deployment == "Cloud":
            name, kind = ACCOUNTS[actor.id]
            address = f"{self.base_url}/rest/api/2/user?accountId={actor.id}"
            return {"self": address, "accountId": actor.id, "displayName": name, "active": True, "accountType": kind, "timeZone": "Etc/UTC"}
        name, email = USERS[actor.id]
        who = {"self": f"{self.base_url}/rest/api/2/user?username={actor.id}", "name": actor.id, "key": f"JIRAUSER{10100 + len(actor.id)}"}
        return {**who, "emailAddress": email, "displayName": name, "active": True, "timeZone": "Etc/UTC"}

    def actor_named(self, actor_id: str) -> Actor:
        return next(actor for actor in self.actors if actor.id == actor_id)

    def issue(self, id_or_key: str) -> Any:
        return self.issues.get(self.ids.get(id_or_key, id_or_key))

    def issue_seen_by(self, request: Request) -> Any:
        """The issue of the route, for whoever may see it."""
        return None if request.actor is NOBODY else self.issue(request.params["id"])


def errors(message: str) -> Json:
    return {"errorMessages": [message] if message else [], "errors": {}}


def basic(user: str, secret: str) -> str:
    return "Basic " + b64encode(f"{user}:{secret}".encode()).decode()
