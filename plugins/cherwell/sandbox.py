"""A small Cherwell: tokens, business objects with their schemas, saves, batches, searches, journals, files, One-Steps, lifecycle; and a
web service call for each write, as a tenant's automation process makes it.

Paths and names are taken in any case, as the tool's server does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from plugins.cherwell.sandbox_metadata import MetadataCalls
from plugins.cherwell.sandbox_objects import NO_ERROR, by_id, hex_id, read_shape
from plugins.cherwell.sandbox_state import failure, fits, given_in, in_words, lowered, the_object, ticket_id_of
from plugins.cherwell.sandbox_workflow import WorkflowCalls
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Actor
from plugins.sandbox.webhooks import RetryPolicy

Json = dict[str, Any]

BRIDGE = Actor("bridge", False, "Integration Bridge")
AGENT = Actor("fbakker", True, "Femke Bakker")
USERS = {BRIDGE.id: BRIDGE, AGENT.id: AGENT}
CLIENT_ID = "c0ffee00-1111-4222-8333-444455556666"
LIFE = 1199
MOST = 200
"""Rows of one answer, whatever the caller asks for."""


class CherwellSandbox(MetadataCalls, WorkflowCalls):
    """Cherwell with two users, ours and an agent, and one customer."""

    tool_type = "cherwell"
    retry_policy = RetryPolicy(on_status=frozenset(), delays=())

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not len(self.records):
            self._insert(the_object("CustomerInternal"), {"FullName": "Daan Visser", "Email": "daan.visser@harbour.example"}, AGENT)

    # accounts ------------------------------------------------------------------------------------------------------------
    @property
    def credentials(self) -> Mapping[str, Any]:
        token = self.secret("person_token")
        self.tokens.put(token, {"user": AGENT.id, "until": 2**40, "refresh": ""})
        return {
            "auth": {"client_id": CLIENT_ID, "username": BRIDGE.id, "password": self.secret("password")},
            "actor": BRIDGE.name,
            "person": {"headers": {"Authorization": f"Bearer {token}"}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"secret": self.secret("webhook_secret")}

    def sign(self, body: bytes) -> Mapping[str, str]:
        return {"X-Webhook-Secret": self.secret("webhook_secret")}

    def actor_of(self, request: Request) -> Actor | None:
        if self.path_of(request) == "/cherwellapi/token":
            return BRIDGE  # who asks for a token has none
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        found = self.tokens.get(value) if kind.lower() == "bearer" else None
        return USERS[found["user"]] if found is not None and found["until"] > time.time() else None

    def path_of(self, request: Request) -> str:
        return request.path.lower()

    def refusal(self, status: int, request: Request) -> Response:
        if status == 401:
            return json_response({"Message": "Authorization has been denied for this request."}, 401)
        if status >= 500:
            return Response(status, b"<html><body>Server Error in '/CherwellAPI' Application.</body></html>", {"content-type": "text/html"})
        return json_response(
            failure("RECORDNOTFOUND" if status == 404 else "GENERICAPIERROR", "NotFound" if status == 404 else "BadRequest"), status
        )

    @route("POST", "/cherwellapi/token")
    def token(self, request: Request) -> Response:
        form = request.form
        if "client_id" not in form or form.get("client_id") != CLIENT_ID:
            return json_response({"error": "invalid_client_id", "error_description": "The client id is not known."}, 400)
        if form.get("grant_type") == "refresh_token":
            old = next((key for key in self.tokens if (self.tokens.get(key) or {}).get("refresh") == form.get("refresh_token")), None)
            if not form.get("refresh_token") or old is None:
                return json_response({"error": "invalid_grant", "error_description": "The refresh token is not valid."}, 400)
            self.tokens.put(old, {**self.tokens.get(old), "refresh": "", "until": 0})
        elif (form.get("username"), form.get("password")) != (BRIDGE.id, self.secret("password")):
            return json_response({"error": "invalid_grant", "error_description": "The user name or password is not right."}, 400)
        number = self.next_id("token")
        token, refresh = f"{self.secret('token seed')}-{number}", hex_id(f"refresh/{self.secret('token seed')}/{number}")
        self.tokens.put(token, {"user": BRIDGE.id, "until": time.time() + LIFE, "refresh": refresh})
        form_of = {"as:client_id": CLIENT_ID, "username": BRIDGE.id, ".issued": _http_date(0), ".expires": _http_date(LIFE)}
        return json_response({"access_token": token, "token_type": "bearer", "expires_in": LIFE, "refresh_token": refresh, **form_of})

    @route("DELETE", "/cherwellapi/api/v1/logout")
    def logout(self, request: Request) -> Response:
        token = request.headers["authorization"].partition(" ")[2]
        self.tokens.put(token, {**self.tokens.get(token), "until": 0})
        return Response(200)

    @route("GET", "/cherwellapi/api/v1/serviceinfo")
    def service_info(self, request: Request) -> Response:
        zone = {"id": "UTC", "displayName": "(UTC) Coordinated Universal Time", "baseUtcOffset": "00:00:00"}
        told = {
            "apiVersion": "10.2.0",
            "csmCulture": "en-US",
            "csmVersion": "10.2.0",
            "systemDateTime": "2026-03-02T08:00:00",
            "timeZone": zone,
        }
        return json_response(told)

    @route("GET", "/cherwellapi/api/v1/getuserbyloginid/loginid/{login}")
    def user(self, request: Request) -> Response:
        found = USERS.get(request.params["login"])
        if found is None:
            return self._failed("RECORDNOTFOUND", 404)
        return json_response({"recordId": hex_id(found.id, 42), "publicId": found.id, "displayName": found.name, "fields": [], **NO_ERROR})

    @route("GET", "/cherwellapi/api/v2/getteams")
    def teams(self, request: Request) -> Response:
        return json_response({"teams": [{"teamId": hex_id("team", 42), "teamName": "Service Desk"}], **NO_ERROR})

    # records -------------------------------------------------------------------------------------------------------------
    @route("GET", "/cherwellapi/api/v1/getbusinessobject/busobid/{id}/publicid/{public}")
    @route("GET", "/cherwellapi/api/v1/getbusinessobject/busobid/{id}/busobrecid/{rec}")
    def read(self, request: Request) -> Response:
        made = by_id(request.params["id"])
        record = self._record(made, request.params) if made else None
        return json_response(read_shape(made, record)) if made and record else self._failed("RECORDNOTFOUND", 404)

    @route("DELETE", "/cherwellapi/api/v1/deletebusinessobject/busobid/{id}/publicid/{public}")
    @route("DELETE", "/cherwellapi/api/v1/deletebusinessobject/busobid/{id}/busobrecid/{rec}")
    def delete(self, request: Request) -> Response:
        made = by_id(request.params["id"])
        record = self._record(made, request.params) if made else None
        if made is None or record is None:
            return self._failed("RECORDNOTFOUND", 404)
        self.records.drop(record["rec"])
        self._tell(made, record, "deleted", request.actor, [])
        return json_response({"busObId": made.id, "busObPublicId": record["public"], "busObRecId": record["rec"], **NO_ERROR})

    @route("POST", "/cherwellapi/api/v1/savebusinessobject")
    def save(self, request: Request) -> Response:
        return json_response(self._save(given_in(request), request))

    @route("POST", "/cherwellapi/api/v1/savebusinessobjectbatch")
    def save_batch(self, request: Request) -> Response:
        saves = [save for save in given_in(request).get("saverequests") or () if isinstance(save, dict)]
        return json_response({"responses": [self._save(lowered(save), request) for save in saves], **NO_ERROR})

    @route("POST", "/cherwellapi/api/v1/getbusinessobjectbatch")
    def read_batch(self, request: Request) -> Response:
        found = []
        for asked in given_in(request).get("readrequests") or ():
            told = lowered(asked)
            made = by_id(str(told.get("busobid") or ""))
            record = self._record(made, {"public": told.get("busobpublicid"), "rec": told.get("busobrecid")}) if made else None
            found.append(read_shape(made, record) if made and record else failure("RECORDNOTFOUND", "NotFound"))
        return json_response({"responses": found})

    @route("POST", "/cherwellapi/api/v1/getsearchresults")
    def search(self, request: Request) -> Response:
        given = given_in(request)
        made = by_id(str(given.get("busobid") or ""))
        if made is None:
            return self._failed("BUSOBNOTFOUND", 400)
        wanted: dict[str, list[tuple[str, str]]] = {}
        for row in given.get("filters") or ():
            told = lowered(row)
            found = made.field(str(told.get("fieldid") or ""))
            if found is None:
                return self._failed("FIELDNOTFOUND", 400)
            wanted.setdefault(found.name, []).append((str(told.get("operator") or "eq").lower(), str(told.get("value") or "")))
        rows = [
            record
            for record in self.records.values()
            if record["object"] == made.name
            and self.indexed(record["at"])
            and all(any(fits(record["fields"].get(name, ""), *test) for test in tests) for name, tests in wanted.items())
        ]
        size, page = min(int(given.get("pagesize") or 25), MOST), max(int(given.get("pagenumber") or 1), 1)
        shown = [read_shape(made, record) for record in rows[(page - 1) * size : page * size]]
        return json_response(
            {"businessObjects": shown, "totalRows": len(rows), "hasPrompts": False, "links": [], "prompts": [], **NO_ERROR}
        )

    # relationships ---------------------------------------------------------------------------------------------------------
    @route("POST", "/cherwellapi/api/v1/saverelatedbusinessobject")
    def save_related(self, request: Request) -> Response:
        given = given_in(request)
        parent_object = by_id(str(given.get("parentbusobid") or ""))
        named = {"public": given.get("parentbusobpublicid"), "rec": given.get("parentbusobrecid")}
        parent = self._record(parent_object, named) if parent_object else None
        if parent_object is None or parent is None:
            return json_response(failure("RECORDNOTFOUND", "NotFound"), 404)
        relation = next((n for n in parent_object.related if parent_object.relationship_id(n) == given.get("relationshipid")), None)
        if relation is None:
            return self._failed("RELATIONSHIPNOTFOUND", 400)
        saved = self._save({**given, "busobid": given.get("busobid") or the_object(parent_object.related[relation]).id}, request, parent)
        told = {"parentBusObId": parent_object.id, "parentBusObPublicId": parent["public"], "parentBusObRecId": parent["rec"]}
        return json_response({**told, "relationshipId": given.get("relationshipid"), **saved})

    @route("GET", "/cherwellapi/api/v1/getrelatedbusinessobject/parentbusobid/{id}/parentbusobrecid/{rec}/relationshipid/{relation}")
    def related(self, request: Request) -> Response:
        made = by_id(request.params["id"])
        parent = self._record(made, {"rec": request.params["rec"]}) if made else None
        if made is None or parent is None:
            return self._failed("RECORDNOTFOUND", 404)
        relation = next((n for n in made.related if made.relationship_id(n) == request.params["relation"]), None)
        if relation is None:
            return self._failed("RELATIONSHIPNOTFOUND", 400)
        target = the_object(made.related[relation])
        query = {name.lower(): value for name, value in request.query.items()}
        size, page = min(int(query.get("pagesize") or 25), MOST), max(int(query.get("pagenumber") or 1), 1)
        rows = [r for r in self.records.values() if r["object"] == target.name and r.get("parent") == parent["rec"]]
        shown = [read_shape(target, r) for r in rows[(page - 1) * size : page * size]]
        told = {"pageNumber": page, "pageSize": size, "totalRecords": len(rows), "relationshipId": request.params["relation"], "links": []}
        return json_response({"relatedBusinessObjects": shown, "parentBusObRecId": parent["rec"], **told, **NO_ERROR})

    # people --------------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = AGENT
        made = the_object({"change": "ChangeRequest", "problem": "Problem"}.get(str(fields.get("type")), "Incident"))
        values = {
            "Status": "New",
            "CustomerDisplayName": "Daan Visser",
            **in_words(made, fields),
            "Description": str(fields.get("description") or ""),
        }
        record = self._insert(made, values, AGENT)
        self.ledger.write("create", ticket_id_of(made, record), request)
        self._tell(made, record, "created", AGENT, [])
        return ticket_id_of(made, record)

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor = AGENT
        name, _, public = ticket_id.rpartition(":")
        made = the_object(name or "Incident")
        record = self._record(made, {"public": public}) or self._record(made, {"rec": public})
        if record is None:
            return False
        if values := in_words(made, fields):
            self._write(made, record, values, request)
        if fields.get("comment"):
            shown = str(fields.get("public", True) is not False)
            self._note(made, record, {"Details": str(fields["comment"]), "ShowInSelfService": shown}, request)
        return True


def _http_date(seconds: int) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))
