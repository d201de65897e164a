"""A small ServiceNow's doors: Table, Attachment, Batch, Change and CMDB Instance APIs, and OAuth.

`POST /_webhook` takes `"kind": "subscription"` for a flat body in display words in place of the recommended script's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from uuid import uuid4

from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.multipart import parts_of
from plugins.sandbox.server import now
from plugins.servicenow import sandbox_writes as writes
from plugins.servicenow.sandbox_accounts import GUEST
from plugins.servicenow.sandbox_instance import Instance, failure, window
from plugins.servicenow.sandbox_records import Row, utc
from plugins.servicenow.sandbox_schema import derives, known

BATCH_ROOM = 100
"""Requests of one batch that are serviced; `batch_room` among the keys makes it less."""


class ServiceNowSandbox(Instance):
    """The calls an instance answers."""

    @route("POST", "/oauth_token.do")
    def token(self, request: Request) -> Response:
        return self.accounts.grant(request)

    # Table API -----------------------------------------------------------------------------------------------------------
    @route("GET", "/api/now/table/{table}")
    def rows(self, request: Request) -> Response:
        table, query = request.params["table"], request.query
        if not known(table):
            return failure(400, f"Invalid table {table}", None)
        response = self.page(table, request, query)
        if "/v1/" in request.path and response.body == b'{"result":[]}':
            return self.refusal(404, request)  # version 1 has no empty list
        return response

    @route("GET", "/api/now/table/{table}/{id}")
    def row(self, request: Request) -> Response:
        row = self.seen(request)
        return self.refusal(404, request) if row is None else self.one(row, request)

    @route("POST", "/api/now/table/{table}")
    def insert(self, request: Request) -> Response:
        table, given = request.params["table"], request.json()
        if not known(table):
            return failure(400, f"Invalid table {table}", None)
        if not isinstance(given, dict):
            return self.refusal(400, request)
        if request.actor.id == GUEST:
            return self.refusal(403, request)
        row = self.insert_row(table, given, request)
        if isinstance(row, Response):
            return row
        where = f"{self.base_url}/api/now/table/{table}/{row['sys_id']}"
        return self.one(row, request, 201, {"location": where})

    @route("PUT", "/api/now/table/{table}/{id}")
    @route("PATCH", "/api/now/table/{table}/{id}")
    def update(self, request: Request) -> Response:
        row, given = self.seen(request), request.json()
        if row is None:
            return self.refusal(404, request)
        if not isinstance(given, dict):
            return self.refusal(400, request)
        refused = self.update_row(row, given, request)
        return refused or self.one(row, request)

    @route("DELETE", "/api/now/table/{table}/{id}")
    def delete(self, request: Request) -> Response:
        row = self.seen(request)
        if row is None:
            return self.refusal(404, request)
        self.records.drop(row["sys_id"])
        if derives(row["_table"], "task"):
            self.tell({**row, "sys_updated_by": request.actor.id}, "deleted", (), None)
        return Response(204)

    # Batch API -----------------------------------------------------------------------------------------------------------
    @route("POST", "/api/now/batch")
    def batch(self, request: Request) -> Response:
        """One after the other, each with the caller's rights, until the time is over."""
        body = request.json()
        wanted = body.get("rest_requests") if isinstance(body, dict) else None
        if not isinstance(wanted, list):
            return self.refusal(400, request)
        room = int(self.keys.get("batch_room") or BATCH_ROOM)
        serviced = [self._sub(item, request) for item in wanted[:room]]
        left = [str(item.get("id")) for item in wanted[room:]]
        return json_response(
            {"batch_request_id": str(body.get("batch_request_id")), "serviced_requests": serviced, "unserviced_requests": left}
        )

    def _sub(self, item: Mapping[str, Any], outer: Request) -> dict[str, Any]:
        path, _, query = str(item.get("url") or "").partition("?")
        headers = {str(h.get("name")).lower(): str(h.get("value")) for h in item.get("headers") or () if isinstance(h, dict)}
        body = base64.b64decode(str(item.get("body") or ""))
        request = Request(str(item.get("method") or "GET").upper(), path, query, headers, body, actor=outer.actor)
        answer = self._handle(request)
        return {
            "id": str(item.get("id")),
            "body": base64.encodebytes(answer.body).decode(),  # in lines, as the instance writes it
            "status_code": answer.status,
            "status_text": "OK" if answer.status < 300 else "Error",
            "headers": [{"name": name, "value": value} for name, value in answer.headers.items()],
            "execution_time": 5,
            "redirect_url": "",
            "error_message": "",
        }

    # Attachment API ------------------------------------------------------------------------------------------------------
    @route("GET", "/api/now/attachment")
    def attachments(self, request: Request) -> Response:
        return self.page("sys_attachment", request, {"sysparm_exclude_reference_link": "true", **request.query})

    @route("GET", "/api/now/attachment/{id}")
    def attachment(self, request: Request) -> Response:
        row = self.records.get("sys_attachment", request.params["id"])
        return self.refusal(404, request) if row is None else self.one(row, request, table="sys_attachment")

    @route("GET", "/api/now/attachment/{id}/file")
    def attachment_file(self, request: Request) -> Response:
        row = self.records.get("sys_attachment", request.params["id"])
        if row is None:
            return self.refusal(404, request)
        content = base64.b64decode(self.files.get(row["sys_id"]))
        return Response(200, content, {"content-type": row["content_type"]})

    @route("POST", "/api/now/attachment/file")
    def attach(self, request: Request) -> Response:
        query = request.query
        kind = request.headers.get("content-type", "application/octet-stream")
        return self._attach(
            query.get("table_name", ""), query.get("table_sys_id", ""), query.get("file_name", ""), kind, request.body, request
        )

    @route("POST", "/api/now/attachment/upload")
    def upload(self, request: Request) -> Response:
        parts = {part.name: part for part in parts_of(request)}
        file = next((part for part in parts.values() if part.filename is not None), None)
        if file is None or "table_name" not in parts or "table_sys_id" not in parts:
            return self.refusal(400, request)
        table, sys_id = parts["table_name"].text, parts["table_sys_id"].text
        return self._attach(table, sys_id, file.filename or "", file.content_type, file.content, request)

    @route("DELETE", "/api/now/attachment/{id}")
    def detach(self, request: Request) -> Response:
        if self.records.get("sys_attachment", request.params["id"]) is None:
            return self.refusal(404, request)
        self.records.drop(request.params["id"])
        self.files.drop(request.params["id"])
        return Response(204)

    def _attach(self, table: str, sys_id: str, name: str, kind: str, content: bytes, request: Request) -> Response:
        if not name or not known(table):
            return self.refusal(400, request)
        if self.records.get(table, sys_id) is None:
            return self.refusal(404, request)
        attachment_id = uuid4().hex
        at = now()
        row = {
            "_table": "sys_attachment",
            "_at": at,
            "sys_id": attachment_id,
            "file_name": name,
            "content_type": kind,
            "size_bytes": str(len(content)),
            "size_compressed": str(len(content)),
            "compressed": "true",
            "chunk_size_bytes": "700000",
            "table_name": table,
            "table_sys_id": sys_id,
            "state": "available",
            "hash": sha256(content).hexdigest(),
            "download_link": f"{self.base_url}/api/now/attachment/{attachment_id}/file",
            "sys_created_on": utc(at),
            "sys_created_by": request.actor.id,
            "sys_updated_on": utc(at),
            "sys_updated_by": request.actor.id,
            "sys_mod_count": "0",
        }
        self.records.put(row)
        self.files.put(attachment_id, base64.b64encode(content).decode())
        where = f"{self.base_url}/api/now/attachment/{attachment_id}"
        return self.one(row, request, 201, {"location": where}, table="sys_attachment")

    # CMDB Instance and Change API ----------------------------------------------------------------------------------------
    @route("GET", "/api/now/cmdb/instance/{class}")
    def items(self, request: Request) -> Response:
        if not derives(request.params["class"], "cmdb_ci"):
            return failure(400, "Invalid class name", None)
        found = self.records.find(request.params["class"], request.query.get("sysparm_query", ""))
        limit, offset = window(request.query, 1000)
        return json_response({"result": [{"sys_id": row["sys_id"], "name": row["name"]} for row in found[offset : offset + limit]]})

    @route("GET", "/api/now/cmdb/instance/{class}/{id}")
    def item(self, request: Request) -> Response:
        row = self.records.get(request.params["class"], request.params["id"])
        if row is None or not derives(row["_table"], "cmdb_ci"):
            return self.refusal(404, request)
        query = {"sysparm_display_value": "all"}
        shown = self.records.shown(row, row["_table"], query, self.base_url)
        attributes = {name: cell if "link" in cell else cell["value"] for name, cell in shown.items()}
        relations = {
            side: [self._edge(edge, other) for edge in self.records.find("cmdb_rel_ci", f"{one}={row['sys_id']}")]
            for side, one, other in (("outbound_relations", "parent", "child"), ("inbound_relations", "child", "parent"))
        }
        return json_response({"result": {"attributes": attributes, **relations}})

    def _edge(self, edge: Row, other: str) -> dict[str, Any]:
        shown = self.records.shown(edge, "cmdb_rel_ci", {"sysparm_display_value": "all"}, self.base_url)
        return {"sys_id": edge["sys_id"], "type": shown["type"], "target": shown[other]}

    @route("POST", "/api/sn_chg_rest/change/{kind}")
    def change_of_kind(self, request: Request) -> Response:
        given = request.json()
        if request.params["kind"] not in ("normal", "emergency", "standard") or not isinstance(given, dict):
            return self.refusal(400, request)
        row = self.insert_row("change_request", {**given, "type": request.params["kind"]}, request)
        return row if isinstance(row, Response) else json_response({"result": self._typed(row)})

    @route("GET", "/api/sn_chg_rest/change/{id}")
    def change(self, request: Request) -> Response:
        row = self.records.get("change_request", request.params["id"])
        return self.refusal(404, request) if row is None else json_response({"result": self._typed(row)})

    def _typed(self, row: Row) -> dict[str, Any]:
        """A change as the Change API shows it: pairs whose values have JSON's types."""
        shown = self.records.shown(row, row["_table"], {"sysparm_display_value": "all"}, self.base_url)
        for name, cell in shown.items():
            if name in writes.NUMBERS and cell["value"].lstrip("-").isdigit():
                cell["value"] = float(cell["value"])
        return shown
