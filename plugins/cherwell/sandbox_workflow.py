"""What a small Cherwell does with a record beside saving it: files, One-Steps, the lifecycle."""

from __future__ import annotations

from base64 import b64decode, b64encode
from urllib.parse import unquote

from plugins.cherwell.sandbox_objects import NO_ERROR, ONE_STEPS, TRANSITIONS, by_id, hex_id, stamp
from plugins.cherwell.sandbox_state import CherwellState, given_in, one_step_key, the_object
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import now


class WorkflowCalls(CherwellState):
    """Calls that take a record on."""

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
            {"name": name, "displayName": name, "association": the_object(target).id, "standInKey": one_step_key(name), "id": hex_id(name)}
            for name, target, _ in ONE_STEPS
        ]
        folder = {"name": "Global", "childItems": items, "childFolders": []}
        return json_response(
            {"root": {"name": "One-Steps", "childItems": [], "childFolders": [folder]}, "supportedAssociations": [], **NO_ERROR}
        )

    @route("POST", "/cherwellapi/api/v1/runonestepaction")
    def run_one_step(self, request: Request) -> Response:
        given = given_in(request)
        step = next((row for row in ONE_STEPS if one_step_key(row[0]) == given.get("onestepactionstandinkey")), None)
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
        made, given = by_id(request.params["id"]), given_in(request)
        record = self._record(made, request.params) if made else None
        names = TRANSITIONS.get(str(record["fields"].get("Status")), ()) if record else ()
        wanted = next((name for name in names if hex_id(f"to/{name}") == given.get("transitionoptionid")), None)
        if made is None or record is None or wanted is None:
            return self._failed("TRANSITIONNOTALLOWED", 400)
        self._write(made, record, {"Status": wanted}, request)
        return Response(200)
