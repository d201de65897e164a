"""What else a small TOPdesk has: files of cards, people, assets, its version, the old login."""

from __future__ import annotations

from base64 import b64decode, b64encode
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import now
from plugins.topdesk.sandbox_cards import API_OPERATOR, BRANCH, CALLER, OPERATOR, entry, lookup, unid_of
from plugins.topdesk.sandbox_fiql import BadQuery, fiql
from plugins.topdesk.sandbox_refusals import refused
from plugins.topdesk.sandbox_state import TopdeskState

Json = dict[str, Any]
PEOPLE_FIELDS = frozenset({"id", "dynamicName", "email", "loginName", "firstName", "surName", "networkLoginName", "employeeNumber", "name"})
ASSETS: tuple[Json, ...] = (
    {"name": "LPT-0042", "template": "Laptop", "status": "OPERATIONAL", "serial-number": "SN-77-0042", "location": "Stadhuis 2.14"},
    {"name": "Zaaksysteem", "template": "Dienst", "status": "OPERATIONAL", "serial-number": "", "location": ""},
)
GROUPS = ("Servicedesk", "Applicatiebeheer")


class ShelfCalls(TopdeskState):
    """Calls that read lists, and those that move files."""

    # files ---------------------------------------------------------------------------------------------------------------
    @route("POST", "/tas/api/incidents/id/{id}/attachments")
    @route("POST", "/tas/api/incidents/number/{id}/attachments")
    @route("POST", "/tas/api/operatorChanges/{id}/attachments")
    def upload(self, request: Request) -> Response:
        table = self.changes if "/operatorChanges/" in request.path else self.incidents
        card = self._card(table, request)
        if card is None:
            return refused(404, request)
        parts = _parts(request)
        if "file" not in parts:
            return refused(400, request, "The field 'file' is mandatory.")
        name, content = parts["file"]
        hidden = parts.get("invisibleForCaller", ("", b""))[1] == b"true"
        row = entry(now(), request.actor, fileName=name, size=len(content), invisibleForCaller=hidden)
        where = f"operatorChanges/{card['id']}" if table is self.changes else f"incidents/id/{card['id']}"
        row["downloadUrl"] = f"/tas/api/{where}/attachments/{row['id']}" + ("" if table is self.changes else "/download")
        trail = self.trails.get(card["id"])
        if table is self.changes:
            row["type"] = "attachment"
            trail["actions"].append(row)
        else:
            row["description"] = parts["description"][1].decode("utf-8", "replace") if "description" in parts else None
            trail["files"].append(row)
        self.trails.put(card["id"], trail)
        self.files.put(row["id"], {"card": card["id"], "content": b64encode(content).decode()})
        return json_response(row, 201 if table is self.changes else 200)

    @route("GET", "/tas/api/incidents/id/{id}/attachments/{file}/download")
    @route("GET", "/tas/api/incidents/number/{id}/attachments/{file}/download")
    @route("GET", "/tas/api/operatorChanges/{id}/attachments/{file}")
    def download(self, request: Request) -> Response:
        card = self._card(self.changes if "/operatorChanges/" in request.path else self.incidents, request)
        kept = self.files.get(request.params["file"])
        if card is None or kept is None or kept["card"] != card["id"]:
            return refused(404, request)
        return Response(200, b64decode(kept["content"]), {"content-type": "application/octet-stream"})

    # people, assets, the tool itself ---------------------------------------------------------------------------------------
    @route("GET", "/tas/api/persons")
    def persons(self, request: Request) -> Response:
        return self._people([CALLER], request)

    @route("GET", "/tas/api/operators")
    def operators(self, request: Request) -> Response:
        return self._people([_operator(API_OPERATOR.id, API_OPERATOR.name), _operator(OPERATOR.id, OPERATOR.name)], request)

    @route("GET", "/tas/api/operatorgroups")
    def groups(self, request: Request) -> Response:
        return self._people([{**lookup(name), "groupName": name} for name in GROUPS], request)

    @route("GET", "/tas/api/branches")
    def branches(self, request: Request) -> Response:
        return self._people([BRANCH], request)

    @route("GET", "/tas/api/operators/current")
    def current_operator(self, request: Request) -> Response:
        return json_response(_operator(request.actor.id, request.actor.name))

    @route("GET", "/tas/api/version")
    def version(self, request: Request) -> Response:
        return json_response({"version": "3.8.5"})

    @route("GET", "/tas/api/login/operator")
    def login(self, request: Request) -> Response:
        """The login of before 2017: a token as plain text."""
        return Response(200, self.secret("token").encode(), {"content-type": "text/plain"})

    @route("GET", "/tas/api/logout")
    def logout(self, request: Request) -> Response:
        return Response(204)

    @route("GET", "/tas/api/changes/changeStatuses")
    def change_statuses(self, request: Request) -> Response:
        return json_response(
            {"results": [{**lookup(self.tenant_words.change_status), "simple": "NOT_STARTED", "archived": False, "defaultFor": ["rfc"]}]}
        )

    @route("GET", "/tas/api/assetmgmt/assets")
    def assets(self, request: Request) -> Response:
        query = request.query
        rows = [row for row in ASSETS if query.get("nameFragment", "") in row["name"]]
        if "linkedTo" in query:
            card = self.incidents.get(query["linkedTo"].partition("/")[2]) or {}
            rows = [row for row in rows if (card.get("asset") or {}).get("id") == unid_of(row["name"])]
        return json_response({"dataSet": [{"unid": unid_of(row["name"]), "name": row["name"]} for row in rows]})

    @route("GET", "/tas/api/assetmgmt/assets/{asset}")
    def asset(self, request: Request) -> Response:
        row = next((row for row in ASSETS if unid_of(row["name"]) == request.params["asset"]), None)
        if row is None:
            return refused(404, request)
        data = {name: value for name, value in row.items() if name not in ("template", "status")}
        data |= {"unid": unid_of(row["name"]), "@status": row["status"]}
        metadata = {"archived": False, "templateId": unid_of(row["template"]), "templateName": row["template"], "template": {}}
        return json_response({"data": data, "metadata": metadata, "fields": {}, "settings": {}})

    @route("GET", "/tas/api/assetmgmt/assetLinks")
    def asset_links(self, request: Request) -> Response:
        if request.query.get("sourceId") != unid_of("LPT-0042"):
            return json_response([])
        link = {"linkId": unid_of("link"), "assetId": unid_of("Zaaksysteem"), "name": "Zaaksysteem", "type": "Dienst"}
        return json_response([{**link, "linkType": "parent", "capabilityName": "Gebruikt"}])

    def _people(self, rows: list[Json], request: Request) -> Response:
        query = request.query
        try:
            fits = fiql(query["query"], PEOPLE_FIELDS) if query.get("query") else None
        except BadQuery:
            return refused(400, request, "The parameters of the request were malformed.")
        return self._page([row for row in rows if fits is None or fits(row)], request)


def _operator(unid: str, name: str) -> Json:
    return {"id": unid, "dynamicName": name, "status": "operator", "accountType": "regular", "apiAccount": True, "branch": BRANCH}


def _parts(request: Request) -> dict[str, tuple[str, bytes]]:
    """A form's parts by name: the filename and the content. Line ends without a carriage return are taken, as old clients send."""
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    message = message_from_bytes(head + request.body, policy=HTTP)
    found = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            found[name] = (part.get_filename() or "", content)
    return found
