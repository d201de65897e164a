"""A small Cherwell: tokens, business objects with their schemas, saves, batches, searches, journals, files, One-Steps, lifecycle; and a
web service call for each write, as a tenant's automation process makes it.

Paths and names are taken in any case, as the tool's server does.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from plugins.cherwell.sandbox_objects import (
    FROM_CANONICAL,
    NO_ERROR,
    OBJECTS,
    ONE_STEPS,
    TRANSITIONS,
    BusinessObject,
    by_id,
    by_name,
    group_summary,
    hex_id,
    read_shape,
    schema,
    stamp,
    summary,
    template_item,
    webhook_body,
)
from plugins.marker import find_marker, note_marker
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Actor, Sandbox, now
from plugins.sandbox.webhooks import RetryPolicy

Json = dict[str, Any]

BRIDGE = Actor("bridge", False, "Integration Bridge")
AGENT = Actor("fbakker", True, "Femke Bakker")
USERS = {BRIDGE.id: BRIDGE, AGENT.id: AGENT}
CLIENT_ID = "c0ffee00-1111-4222-8333-444455556666"
LIFE = 1199
MOST = 200
"""Rows of one answer, whatever the caller asks for."""
API = "/cherwellapi/api/v1"


class Refused(Exception):
    """A save the tool does not take: its code, and the field it names."""

    def __init__(self, code: str, field_id: str = "") -> None:
        super().__init__(code)
        self.code, self.field_id = code, field_id


class CherwellSandbox(Sandbox):
    """Cherwell with two users, ours and an agent, and one customer."""

    tool_type = "cherwell"
    retry_policy = RetryPolicy(on_status=frozenset(), delays=())

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.records = self.journal.table("records")
        self.tokens = self.journal.table("tokens")
        self.files = self.journal.table("files")
        self._public = {(r["object"], r["public"]): r["rec"] for r in self.records.values()}
        if not len(self.records):
            self._insert(_named("CustomerInternal"), {"FullName": "Daan Visser", "Email": "daan.visser@harbour.example"}, AGENT)

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
            _failure("RECORDNOTFOUND" if status == 404 else "GENERICAPIERROR", "NotFound" if status == 404 else "BadRequest"), status
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

    # metadata ------------------------------------------------------------------------------------------------------------
    @route("GET", "/cherwellapi/api/v1/getbusinessobjectsummary/busobname/{name}")
    def summary_by_name(self, request: Request) -> Response:
        found = by_name(request.params["name"])
        group = group_summary(request.params["name"])
        return json_response([summary(found)] if found else [group] if group else [])

    @route("GET", "/cherwellapi/api/v1/getbusinessobjectsummary/busobid/{id}")
    def summary_by_id(self, request: Request) -> Response:
        found = by_id(request.params["id"])
        return json_response([summary(found)] if found else [])

    @route("GET", "/cherwellapi/api/v1/getbusinessobjectsummaries/type/{type}")
    def summaries(self, request: Request) -> Response:
        return json_response([summary(made) for made in OBJECTS])

    @route("GET", "/cherwellapi/api/v1/getbusinessobjectschema/busobid/{id}")
    def schema(self, request: Request) -> Response:
        made = by_id(request.params["id"])
        wanted = {name.lower(): value.lower() for name, value in request.query.items()}.get("includerelationships") == "true"
        return json_response(schema(made, relationships=wanted)) if made else self._failed("BUSOBNOTFOUND", 400)

    @route("POST", "/cherwellapi/api/v1/getbusinessobjecttemplate")
    def template(self, request: Request) -> Response:
        given = _given(request)
        made = by_id(str(given.get("busobid") or ""))
        if made is None:
            return self._failed("BUSOBNOTFOUND", 400)
        names = [str(name).lower() for name in given.get("fieldnames") or ()]
        fields = [
            template_item(made, f, "")
            for f in made.fields
            if given.get("includeall") or (given.get("includerequired") and f.required) or f.name.lower() in names
        ]
        return json_response({"fields": fields, **NO_ERROR})

    @route("POST", "/cherwellapi/api/v1/fieldvalueslookup")
    def lookup(self, request: Request) -> Response:
        given = _given(request)
        made = by_id(str(given.get("busobid") or ""))
        found = made.field(str(given.get("fieldid") or given.get("fieldname") or "")) if made else None
        return json_response({"values": list(found.allowed), **NO_ERROR}) if found else self._failed("FIELDNOTFOUND", 400)

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
        return json_response(self._save(_given(request), request))

    @route("POST", "/cherwellapi/api/v1/savebusinessobjectbatch")
    def save_batch(self, request: Request) -> Response:
        saves = [save for save in _given(request).get("saverequests") or () if isinstance(save, dict)]
        return json_response({"responses": [self._save(_lowered(save), request) for save in saves], **NO_ERROR})

    @route("POST", "/cherwellapi/api/v1/getbusinessobjectbatch")
    def read_batch(self, request: Request) -> Response:
        found = []
        for asked in _given(request).get("readrequests") or ():
            told = _lowered(asked)
            made = by_id(str(told.get("busobid") or ""))
            record = self._record(made, {"public": told.get("busobpublicid"), "rec": told.get("busobrecid")}) if made else None
            found.append(read_shape(made, record) if made and record else _failure("RECORDNOTFOUND", "NotFound"))
        return json_response({"responses": found})

    @route("POST", "/cherwellapi/api/v1/getsearchresults")
    def search(self, request: Request) -> Response:
        given = _given(request)
        made = by_id(str(given.get("busobid") or ""))
        if made is None:
            return self._failed("BUSOBNOTFOUND", 400)
        wanted: dict[str, list[tuple[str, str]]] = {}
        for row in given.get("filters") or ():
            told = _lowered(row)
            found = made.field(str(told.get("fieldid") or ""))
            if found is None:
                return self._failed("FIELDNOTFOUND", 400)
            wanted.setdefault(found.name, []).append((str(told.get("operator") or "eq").lower(), str(told.get("value") or "")))
        rows = [
            record
            for record in self.records.values()
            if record["object"] == made.name
            and self.indexed(record["at"])
            and all(any(_fits(record["fields"].get(name, ""), *test) for test in tests) for name, tests in wanted.items())
        ]
        size, page = min(int(given.get("pagesize") or 25), MOST), max(int(given.get("pagenumber") or 1), 1)
        shown = [read_shape(made, record) for record in rows[(page - 1) * size : page * size]]
        return json_response(
            {"businessObjects": shown, "totalRows": len(rows), "hasPrompts": False, "links": [], "prompts": [], **NO_ERROR}
        )

    # relationships ---------------------------------------------------------------------------------------------------------
    @route("POST", "/cherwellapi/api/v1/saverelatedbusinessobject")
    def save_related(self, request: Request) -> Response:
        given = _given(request)
        parent_object = by_id(str(given.get("parentbusobid") or ""))
        named = {"public": given.get("parentbusobpublicid"), "rec": given.get("parentbusobrecid")}
        parent = self._record(parent_object, named) if parent_object else None
        if parent_object is None or parent is None:
            return json_response(_failure("RECORDNOTFOUND", "NotFound"), 404)
        relation = next((n for n in parent_object.related if parent_object.relationship_id(n) == given.get("relationshipid")), None)
        if relation is None:
            return self._failed("RELATIONSHIPNOTFOUND", 400)
        saved = self._save({**given, "busobid": given.get("busobid") or _named(parent_object.related[relation]).id}, request, parent)
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
        target = _named(made.related[relation])
        query = {name.lower(): value for name, value in request.query.items()}
        size, page = min(int(query.get("pagesize") or 25), MOST), max(int(query.get("pagenumber") or 1), 1)
        rows = [r for r in self.records.values() if r["object"] == target.name and r.get("parent") == parent["rec"]]
        shown = [read_shape(target, r) for r in rows[(page - 1) * size : page * size]]
        told = {"pageNumber": page, "pageSize": size, "totalRecords": len(rows), "relationshipId": request.params["relation"], "links": []}
        return json_response({"relatedBusinessObjects": shown, "parentBusObRecId": parent["rec"], **told, **NO_ERROR})

    # files ---------------------------------------------------------------------------------------------------------------
    @route(
        "POST",
        "/cherwellapi/api/v1/uploadbusinessobjectattachment/filename/{file}/busobid/{id}/busobrecid/{rec}/offset/{at}/totalsize/{size}",
    )
    @route(
        "POST",
        "/cherwellapi/api/v1/uploadbusinessobjectattachment/filename/{file}/busobid/{id}/publicid/{public}/offset/{at}/totalsize/{size}",
    )
    def upload(self, request: Request) -> Response:
        made = by_id(request.params["id"])
        record = self._record(made, request.params) if made else None
        if record is None:
            return self._failed("RECORDNOTFOUND", 404)
        query = {name.lower(): value for name, value in request.query.items()}
        file_id = query.get("attachmentid") or hex_id(f"file/{self.next_id('file')}", 42)
        name = unquote(request.path.split("/")[6])  # as it was sent: routes are matched in lower case
        kept = self.files.get(file_id) or {"record": record["rec"], "name": name, "content": "", "at": stamp(now())}
        content = b64decode(kept["content"])
        if int(request.params["at"]) != len(content):
            return self._failed("ATTACHMENTOFFSET", 400)
        self.files.put(file_id, {**kept, "content": b64encode(content + request.body).decode()})
        return json_response(file_id)

    @route("GET", "/cherwellapi/api/v1/getbusinessobjectattachments/busobid/{id}/busobrecid/{rec}/type/{type}/attachmenttype/{kind}")
    @route("GET", "/cherwellapi/api/v1/getbusinessobjectattachments/busobid/{id}/publicid/{public}/type/{type}/attachmenttype/{kind}")
    def attachments(self, request: Request) -> Response:
        made = by_id(request.params["id"])
        record = self._record(made, request.params) if made else None
        if made is None or record is None:
            return self._failed("RECORDNOTFOUND", 404)
        rows = [
            {
                "attachmentId": file_id, "attachmentFileId": file_id, "attachmentFileName": kept["name"], "displayText": kept["name"],
                "attachmentFileType": "", "attachmentType": "Imported", "type": "File", "busObId": made.id, "busObRecId": record["rec"],
                "comment": "", "owner": "", "scope": "None", "scopeOwner": "", "links": [],
            }
            for file_id in self.files
            if (kept := self.files.get(file_id))["record"] == record["rec"]
        ]  # fmt: skip
        return json_response({"attachments": rows, **NO_ERROR})

    @route("GET", "/cherwellapi/api/v1/getbusinessobjectattachment/attachmentid/{file}/busobid/{id}/busobrecid/{rec}")
    def download(self, request: Request) -> Response:
        kept = self.files.get(request.params["file"])
        if kept is None or kept["record"] != request.params["rec"]:
            return self._failed("ATTACHMENTNOTFOUND", 404)
        return Response(200, b64decode(kept["content"]), {"content-type": "application/octet-stream"})

    # workflow ------------------------------------------------------------------------------------------------------------
    @route("GET", "/cherwellapi/api/v1/getonestepactions")
    def one_steps(self, request: Request) -> Response:
        items = [
            {"name": name, "displayName": name, "association": _named(target).id, "standInKey": _one_step_key(name), "id": hex_id(name)}
            for name, target, _ in ONE_STEPS
        ]
        folder = {"name": "Global", "childItems": items, "childFolders": []}
        return json_response(
            {"root": {"name": "One-Steps", "childItems": [], "childFolders": [folder]}, "supportedAssociations": [], **NO_ERROR}
        )

    @route("POST", "/cherwellapi/api/v1/runonestepaction")
    def run_one_step(self, request: Request) -> Response:
        given = _given(request)
        step = next((row for row in ONE_STEPS if _one_step_key(row[0]) == given.get("onestepactionstandinkey")), None)
        if step is None:
            return self._failed("ONESTEPNOTFOUND", 400)
        made = by_id(str(given.get("busobid") or ""))
        record = self._record(made, {"rec": given.get("busobrecid")}) if made else None
        if made is None or record is None or made.name != step[1]:
            return self._failed("RECORDNOTFOUND", 400)
        prompts = {str(row.get("promptId")): str(row.get("value")) for row in given.get("promptvalues") or () if isinstance(row, dict)}
        self._write(made, record, {**step[2], **{name: value for name, value in prompts.items() if made.field(name)}}, request)
        told = {"completed": True, "currentPrimaryBusObId": made.id, "currentPrimaryBusObRecId": record["rec"]}
        return json_response({**told, "hasNewAccessToken": False, "newAccessToken": None, **NO_ERROR})

    @route("GET", "/cherwellapi/api/v1/{id}/records/{rec}/transitionoptions")
    def transition_options(self, request: Request) -> Response:
        made = by_id(request.params["id"])
        record = self._record(made, request.params) if made else None
        if made is None or record is None:
            return self._failed("RECORDNOTFOUND", 404)
        names = TRANSITIONS.get(str(record["fields"].get("Status")), ())
        return json_response(
            {"transitionOptions": [{"id": hex_id(f"to/{n}"), "name": f"To {n}", "isAvailable": True, "criteria": []} for n in names]}
        )

    @route("POST", "/cherwellapi/api/v1/{id}/records/{rec}/transitions")
    def transition(self, request: Request) -> Response:
        made, given = by_id(request.params["id"]), _given(request)
        record = self._record(made, request.params) if made else None
        names = TRANSITIONS.get(str(record["fields"].get("Status")), ()) if record else ()
        wanted = next((name for name in names if hex_id(f"to/{name}") == given.get("transitionoptionid")), None)
        if made is None or record is None or wanted is None:
            return self._failed("TRANSITIONNOTALLOWED", 400)
        self._write(made, record, {"Status": wanted}, request)
        return Response(200)

    # people --------------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = AGENT
        made = _named({"change": "ChangeRequest", "problem": "Problem"}.get(str(fields.get("type")), "Incident"))
        values = {
            "Status": "New",
            "CustomerDisplayName": "Daan Visser",
            **_words(made, fields),
            "Description": str(fields.get("description") or ""),
        }
        record = self._insert(made, values, AGENT)
        self.ledger.write("create", _ticket_id(made, record), request)
        self._tell(made, record, "created", AGENT, [])
        return _ticket_id(made, record)

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor = AGENT
        name, _, public = ticket_id.rpartition(":")
        made = _named(name or "Incident")
        record = self._record(made, {"public": public}) or self._record(made, {"rec": public})
        if record is None:
            return False
        if values := _words(made, fields):
            self._write(made, record, values, request)
        if fields.get("comment"):
            shown = str(fields.get("public", True) is not False)
            self._note(made, record, {"Details": str(fields["comment"]), "ShowInSelfService": shown}, request)
        return True

    # the state -----------------------------------------------------------------------------------------------------------
    def _record(self, made: BusinessObject | None, named: Mapping[str, Any]) -> Any:
        """A record by `rec` or `public`."""
        if made is None:
            return None
        record = self.records.get(str(named.get("rec") or self._public.get((made.name, str(named.get("public") or ""))) or ""))
        return record if record is not None and record["object"] == made.name else None

    def _insert(self, made: BusinessObject, values: Mapping[str, str], actor: Actor, parent: str | None = None) -> Json:
        at, public = now(), str(self.next_id(made.name, made.first_number))
        record: Json = {
            "object": made.name,
            "public": public,
            "rec": hex_id(f"{self.secret('records')}/{made.name}/{public}", 42),
            "at": at,
            "parent": parent,
        }
        record["fields"] = {**values, "CreatedDateTime": stamp(at), "LastModifiedDateTime": stamp(at), "LastModifiedBy": actor.name}
        if made.fields[0].read_only and made.fields[0].name.endswith("ID"):
            record["fields"][made.fields[0].name] = public
        if "SLAResolveByDeadline" in (f.name for f in made.fields):
            record["fields"].setdefault("SLAResolveByDeadline", stamp(at + 4 * 3_600_000_000))
        self.records.put(record["rec"], record)
        self._public[made.name, public] = record["rec"]
        return record

    def _save(self, given: Json, request: Request, parent: Json | None = None) -> Json:
        """A save in lower-case names; its outcome in the answer's shape, whatever it is."""
        made = by_id(str(given.get("busobid") or ""))
        if made is None:
            return _failure("BUSOBNOTFOUND", "BadRequest")
        named = {"rec": given.get("busobrecid"), "public": given.get("busobpublicid")}
        exists = bool(named["rec"] or named["public"])
        record = self._record(made, named) if exists else None
        if exists and record is None:
            return _failure("RECORDNOTFOUND", "NotFound")
        try:
            values = _checked(made, given, new=record is None)
        except Refused as exc:
            errors = [{"fieldId": exc.field_id, "errorCode": exc.code, "error": "The value is not valid."}] if exc.field_id else []
            return {**_failure("VALIDATIONFAILED" if errors else exc.code, "BadRequest"), "fieldValidationErrors": errors}
        if record is not None:
            self._write(made, record, values, request)
        elif made.name == "JournalNote" and parent is not None:
            record = self._note(_named(parent["object"]), parent, values, request)
        else:
            record = self._insert(made, values, request.actor, parent["rec"] if parent else None)
            told = {"external_id": values.get("ExternalReference") or None, "marker": values.get("ExternalEvent") or None}
            self.ledger.write("create", _ticket_id(made, record), request, **told)
            self._tell(made, record, "created", request.actor, [])
        saved = {"busObPublicId": record["public"], "busObRecId": record["rec"], "cacheKey": None}
        return {**saved, "fieldValidationErrors": [], "notificationTriggers": [], **NO_ERROR}

    def _write(self, made: BusinessObject, record: Json, values: Mapping[str, str], request: Request) -> None:
        changed = [name for name, value in values.items() if record["fields"].get(name, "") != value]
        record["fields"] |= {**values, "LastModifiedDateTime": stamp(now()), "LastModifiedBy": request.actor.name}
        self.records.put(record["rec"], record)
        told = {"external_id": record["fields"].get("ExternalReference") or None, "marker": values.get("ExternalEvent") or None}
        self.ledger.write("update", _ticket_id(made, record), request, **told)
        self._tell(made, record, "updated", request.actor, changed)

    def _note(self, made: BusinessObject, record: Json, values: Mapping[str, str], request: Request) -> Json:
        note = self._insert(_named("JournalNote"), {**values, "ParentRecID": record["rec"]}, request.actor, record["rec"])
        said = find_marker(values["Details"])
        self.ledger.write("note", _ticket_id(made, record), request, marker=note_marker(*said) if said else None)
        self._tell(made, record, "commented", request.actor, [], values)
        return note

    def _tell(
        self, made: BusinessObject, record: Json, verb: str, actor: Actor, changed: list[str], note: Mapping[str, Any] | None = None
    ) -> None:
        """The automation process of tickets; other objects have none."""
        if not any(f.name == "Status" for f in made.fields):
            return
        if self.keys.get("webhook_kind") == "text":
            self.fire(f"RecID: {record['rec']}".encode(), {"Content-Type": "text/plain"})
            return
        self.fire(webhook_body(made, record, verb, actor.name, changed, note))

    def _failed(self, code: str, status: int) -> Response:
        return json_response(_failure(code, "NotFound" if status == 404 else "BadRequest"), status)


def _failure(code: str, status: str) -> Json:
    """The error envelope, the same under any HTTP status; its message quotes what was asked."""
    return {
        "busObId": None,
        "busObPublicId": None,
        "busObRecId": None,
        "errorCode": code,
        "errorMessage": "It failed.",
        "hasError": True,
        "httpStatusCode": status,
    }


def _checked(made: BusinessObject, given: Json, *, new: bool) -> dict[str, str]:
    """The values of the fields marked as dirty, by name; raises Refused."""
    values = {}
    for row in given.get("fields") or ():
        told = _lowered(row)
        if str(told.get("dirty")).lower() != "true":
            continue
        found = made.field(str(told.get("fieldid") or told.get("name") or ""))
        if found is None:
            raise Refused("FIELDNOTFOUND", str(told.get("fieldid") or ""))
        value = str(told.get("value") or "")
        if found.read_only or (found.allowed and value and value not in found.allowed):
            raise Refused("INVALIDVALUE", made.full_id(found))
        values[found.name] = value
    for found in made.fields if new else ():
        if found.required and not values.get(found.name):
            raise Refused("REQUIRED", made.full_id(found))
    return values


def _fits(value: str, operator: str, wanted: str) -> bool:
    match operator:
        case "contains":
            return wanted.casefold() in value.casefold()
        case "startswith" | "startwith":
            return value.casefold().startswith(wanted.casefold())
        case "gt":
            return value > wanted
        case "lt":
            return value < wanted
    return value.casefold() == wanted.casefold()


def _words(made: BusinessObject, fields: Mapping[str, Any]) -> dict[str, str]:
    """Canonical words, as the control calls take them, in Cherwell's."""
    given = {"ShortDescription": str(fields["subject"])} if "subject" in fields else {}
    for name, target in (("priority", "Priority"), ("status", "Status"), ("type", "IncidentType")):
        if made.field(target) and (word := FROM_CANONICAL[name].get(str(fields.get(name)))):
            given[target] = word
    return given


def _ticket_id(made: BusinessObject, record: Json) -> str:
    return str(record["public"]) if made.name == "Incident" else f"{made.name}:{record['public']}"


def _named(name: str) -> BusinessObject:
    found = by_name(name)
    assert found is not None, name
    return found


def _given(request: Request) -> Json:
    body = request.json()
    return _lowered(body) if isinstance(body, dict) else {}


def _lowered(document: Any) -> Json:
    """A document's own members by name in lower case."""
    return {str(name).lower(): value for name, value in document.items()} if isinstance(document, dict) else {}


def _one_step_key(name: str) -> str:
    return f"DefType:OneStepActionDef#Scope:Global#Id:{hex_id(f'onestep/{name}')}"


def _http_date(seconds: int) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))
