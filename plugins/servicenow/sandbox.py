"""A small ServiceNow: Table, Attachment, Batch, Change and CMDB Instance APIs, OAuth, and the webhooks of each write.

True to the product where that hurts: unknown columns and read-only ones are dropped without a word, priority is computed, a journal
answers nothing, state models refuse or silently keep, a limit counts rows before their ACLs. `POST /_webhook` takes `"kind":
"subscription"` for a flat body in display words.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any
from uuid import uuid4

from plugins.marker import find_marker, note_marker
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.multipart import parts_of
from plugins.sandbox.server import Actor, Sandbox, now
from plugins.sandbox.webhooks import RetryPolicy
from plugins.servicenow import sandbox_writes as writes
from plugins.servicenow.sandbox_accounts import GUEST, OURS, PERSON, Accounts
from plugins.servicenow.sandbox_events import recommended, subscription
from plugins.servicenow.sandbox_records import Records, Row, utc
from plugins.servicenow.sandbox_schema import FIRST_STATE, PREFIX, a_sys_id, columns, configuration, derives, known, people

MAX_LIMIT = 10_000
BATCH_ROOM = 100
"""Requests of one batch that are serviced; the setting `batch_room` in the state makes it less."""
RATE_LIMIT = 100_000
HIBERNATING = b"<html><head><title>Instance Hibernating page</title></head><body>Your instance is hibernating.</body></html>"


class ServiceNowSandbox(Sandbox):
    """ServiceNow with an agent, a caller, our account, and a guest who may see and do nothing."""

    tool_type = "servicenow"
    retry_policy = RetryPolicy(on_status=frozenset(), delays=())  # a script sends once

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.accounts = Accounts(self.keys, self.secret)
        self.records = Records(self.journal.table("records"), self.indexed)
        self.files = self.journal.table("files")
        if self.records.any(a_sys_id("sys_user", OURS)) is None:
            for person in people():
                self.seed("sys_user", person)
            for table, row in configuration():
                self.seed(table, row)

    def seed(self, table: str, row: Mapping[str, Any]) -> str:
        """A record as if it had always been there: no event, no ledger. Answers its sys_id."""
        at = now()
        stamps = {"sys_created_on": utc(at), "sys_updated_on": utc(at), "sys_created_by": "admin", "sys_updated_by": "admin"}
        made = {"_table": table, "_at": 0, "sys_id": uuid4().hex, "sys_mod_count": "0", "sys_class_name": table, **stamps, **row}
        self.records.put(made)
        return str(made["sys_id"])

    # accounts ------------------------------------------------------------------------------------------------------------
    @property
    def credentials(self) -> Mapping[str, Any]:
        person = base64.b64encode(f"{PERSON}:{self.accounts.password(PERSON)}".encode()).decode()
        return {
            "auth": self.accounts.client,
            "actor": OURS,
            "person": {"headers": {"Authorization": f"Basic {person}"}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"secret": self.secret("webhook_secret")}

    def actor_of(self, request: Request) -> Actor | None:
        return self.accounts.actor_of(request)

    def path_of(self, request: Request) -> str:
        """Without the version: `/api/now/v2/table/…` and `/api/now/table/…` are the same."""
        return writes.VERSION.sub(r"\1/", request.path)

    def refusal(self, status: int, request: Request) -> Response:
        message, detail = writes.FAULTS.get(status, ("Exception while executing request: null", None))
        response = failure(status, message, detail)
        if status == 401:
            response.headers["www-authenticate"] = 'BASIC realm="Service-now"'
        if status == 429:
            reset = str(int(time.time() // 3600 + 1) * 3600)
            response.headers.update({"retry-after": "60", "x-ratelimit-limit": str(RATE_LIMIT), "x-ratelimit-reset": reset})
        return response

    def sign(self, body: bytes) -> Mapping[str, str]:
        timestamp = str(now() // 1_000_000)
        digest = hmac.digest(self.secret("webhook_secret").encode(), timestamp.encode() + b"." + body, "sha256").hex()
        return {
            "Content-Type": "application/json; charset=UTF-8",
            "X-ServiceNow-Timestamp": timestamp,
            "X-ServiceNow-Signature": f"sha256={digest}",
        }

    def _handle(self, request: Request) -> Response:
        if self.keys.get("hibernating"):
            return Response(200, HIBERNATING, {"content-type": "text/html; charset=UTF-8"})
        return super()._handle(request)

    @route("POST", "/oauth_token.do")
    def token(self, request: Request) -> Response:
        return self.accounts.grant(request)

    # Table API -----------------------------------------------------------------------------------------------------------
    @route("GET", "/api/now/table/{table}")
    def rows(self, request: Request) -> Response:
        table, query = request.params["table"], request.query
        if not known(table):
            return failure(400, f"Invalid table {table}", None)
        response = self._page(table, request, query)
        if "/v1/" in request.path and response.body == b'{"result":[]}':
            return self.refusal(404, request)  # version 1 has no empty list
        return response

    @route("GET", "/api/now/table/{table}/{id}")
    def row(self, request: Request) -> Response:
        row = self._seen(request)
        return self.refusal(404, request) if row is None else self._one(row, request)

    @route("POST", "/api/now/table/{table}")
    def insert(self, request: Request) -> Response:
        table, given = request.params["table"], request.json()
        if not known(table):
            return failure(400, f"Invalid table {table}", None)
        if not isinstance(given, dict):
            return self.refusal(400, request)
        if request.actor.id == GUEST:
            return self.refusal(403, request)
        row = self._insert(table, given, request)
        if isinstance(row, Response):
            return row
        where = f"{self.base_url}/api/now/table/{table}/{row['sys_id']}"
        return self._one(row, request, 201, {"location": where})

    @route("PUT", "/api/now/table/{table}/{id}")
    @route("PATCH", "/api/now/table/{table}/{id}")
    def update(self, request: Request) -> Response:
        row, given = self._seen(request), request.json()
        if row is None:
            return self.refusal(404, request)
        if not isinstance(given, dict):
            return self.refusal(400, request)
        refused = self._update(row, given, request)
        return refused or self._one(row, request)

    @route("DELETE", "/api/now/table/{table}/{id}")
    def delete(self, request: Request) -> Response:
        row = self._seen(request)
        if row is None:
            return self.refusal(404, request)
        self.records.drop(row["sys_id"])
        if derives(row["_table"], "task"):
            self._tell({**row, "sys_updated_by": request.actor.id}, "deleted", (), None)
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
        return self._page("sys_attachment", request, {"sysparm_exclude_reference_link": "true", **request.query})

    @route("GET", "/api/now/attachment/{id}")
    def attachment(self, request: Request) -> Response:
        row = self.records.get("sys_attachment", request.params["id"])
        return self.refusal(404, request) if row is None else self._one(row, request, table="sys_attachment")

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
        return self._one(row, request, 201, {"location": where}, table="sys_attachment")

    # CMDB Instance and Change API ----------------------------------------------------------------------------------------
    @route("GET", "/api/now/cmdb/instance/{class}")
    def items(self, request: Request) -> Response:
        if not derives(request.params["class"], "cmdb_ci"):
            return failure(400, "Invalid class name", None)
        found = self.records.find(request.params["class"], request.query.get("sysparm_query", ""))
        limit, offset = _window(request.query, 1000)
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
        row = self._insert("change_request", {**given, "type": request.params["kind"]}, request)
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

    # people --------------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = Actor("cora.caller", True, "Cora Caller")
        table = writes.TABLE_OF.get(str(fields.get("type")), "incident")
        given = {**writes.in_columns(table, fields), "caller_id": a_sys_id("sys_user", "cora.caller")}
        row = self._insert(table, given, request)
        assert not isinstance(row, Response), "a person's form is filled in"
        return str(row["sys_id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor = Actor(PERSON, True, "Ada Agent")
        row = self.records.get("task", ticket_id)
        if row is None:
            return False
        given = writes.in_columns(row["_table"], fields)
        if fields.get("comment"):
            given["comments" if fields.get("public", True) else "work_notes"] = fields["comment"]
        self._update(row, given, request)
        return True

    # the state -----------------------------------------------------------------------------------------------------------
    def _insert(self, table: str, given: Mapping[str, Any], request: Request) -> Row | Response:
        at, sys_id, task = now(), uuid4().hex, derives(table, "task")
        row: Row = {
            "_table": table,
            "_at": at,
            "sys_id": sys_id,
            "sys_created_on": utc(at),
            "sys_created_by": request.actor.id,
            "sys_updated_on": utc(at),
            "sys_updated_by": request.actor.id,
            "sys_mod_count": "0",
        }
        if task:
            row.update(
                {
                    "number": f"{PREFIX[table]}{self.next_id(f'number {table}', 10_001):07d}",
                    "sys_class_name": table,
                    "opened_at": utc(at),
                    "opened_by": a_sys_id("sys_user", request.actor.id),
                    "state": FIRST_STATE.get(table, "1"),
                    "impact": "3",
                    "urgency": "3",
                    "priority": "4",
                    "active": "true",
                    "approval": "not requested",
                    **({"type": "normal", "risk": "3"} if table == "change_request" else {}),
                    **({"caller_id": a_sys_id("sys_user", request.actor.id)} if table == "incident" else {}),
                }
            )
        refused, _ = writes.apply(row, given, request.query, new=True, anything_goes=request.actor.person)
        if refused:
            return failure(403, "Operation Failed", f"Error during insert of {table} / {refused}")
        self.records.put(row)
        comment = self._entries(row, given, request, at)
        if task:
            self.ledger.write("create", sys_id, request, external_id=row.get("correlation_id") or None, marker=_event_of(row))
            self._tell(row, "created", (), comment)
        return row

    def _update(self, row: Row, given: Mapping[str, Any], request: Request) -> Response | None:
        """Applies a write; answers a refusal. A write that changes nothing leaves no trace."""
        if request.actor.id == GUEST:
            given = {}  # an ACL on every column: answered as a success
        at, event_before, trial = now(), _event_of(row), dict(row)
        refused, changed = writes.apply(trial, given, request.query, new=False, anything_goes=request.actor.person)
        if refused:
            return failure(403, "Operation Failed", f"Error during update of {row['_table']} / {refused}")
        said = any(given.get(name) for name in ("comments", "work_notes"))
        if not changed and not said:
            return None
        row.update(trial)
        row.update({"sys_updated_on": utc(at), "sys_updated_by": request.actor.id, "sys_mod_count": str(int(row["sys_mod_count"]) + 1)})
        self.records.put(row)
        comment = self._entries(row, given, request, at)
        if not derives(row["_table"], "task"):
            return None
        if changed:
            marker = event if (event := _event_of(row)) != event_before else None
            self.ledger.write("update", row["sys_id"], request, external_id=row.get("correlation_id") or None, marker=marker)
        self._tell(row, "commented" if comment else "updated", changed, comment)
        return None

    def _entries(self, row: Row, given: Mapping[str, Any], request: Request, at: int) -> tuple[str, bool] | None:
        """Writes what a write said into the journal; answers the last of it."""
        said = None
        for element in ("comments", "work_notes"):
            text = given.get(element)
            if not isinstance(text, str) or not text or not derives(row["_table"], "task"):
                continue
            entry = {"_table": "sys_journal_field", "_at": at, "_by": request.actor.name, "sys_id": uuid4().hex, "name": row["_table"]}
            stamps = {"sys_created_on": utc(at), "sys_created_by": request.actor.id, "sys_mod_count": "0"}
            self.records.put({**entry, **stamps, "element": element, "element_id": row["sys_id"], "value": text})
            found = find_marker(text)
            marker = note_marker(*found) if found else None
            self.ledger.write("note", row["sys_id"], request, external_id=row.get("correlation_id") or None, marker=marker)
            said = (text, element == "comments")
        return said

    # answers -------------------------------------------------------------------------------------------------------------
    def _seen(self, request: Request) -> Row | None:
        row = self.records.get(request.params["table"], request.params["id"])
        hidden = request.actor.id == GUEST and request.method == "GET"
        return None if hidden else row

    def _one(
        self, row: Row, request: Request, status: int = 200, headers: Mapping[str, str] | None = None, table: str | None = None
    ) -> Response:
        if request.headers.get("x-no-response-body") == "true":
            return Response(status, b"", dict(headers or {}))
        table = table or request.params.get("table") or row["_table"]
        return json_response({"result": self.records.shown(row, table, request.query, self.base_url)}, status, self._limits(headers))

    def _page(self, table: str, request: Request, query: Mapping[str, str]) -> Response:
        encoded = query.get("sysparm_query", "").replace("javascript:gs.getUserName()", request.actor.id)
        found = self.records.find(table, encoded)
        limit, offset = _window(query, MAX_LIMIT)
        rows = found[offset : offset + limit]
        if request.actor.id == GUEST:
            rows = [row for row in rows if row.get("user_name") == GUEST]
        headers = {} if query.get("sysparm_no_count") == "true" else {"x-total-count": str(len(found))}
        if query.get("sysparm_suppress_pagination_header") != "true":
            headers["link"] = self._links(request, limit, offset, len(found))
        shown = [self.records.shown(row, table, query, self.base_url) for row in rows]
        return json_response({"result": shown}, headers=self._limits(headers))

    def _links(self, request: Request, limit: int, offset: int, total: int) -> str:
        last = max(0, (total - 1) // limit * limit) if limit else 0
        pages = {"first": 0, "prev": offset - limit, "next": offset + limit, "last": last}
        rest = "&".join(part for part in request.query_string.split("&") if part and not part.startswith("sysparm_offset="))
        kept = {rel: at for rel, at in pages.items() if 0 <= at < max(total, 1)}
        return ",".join(f'<{self.base_url}{request.path}?{rest}&sysparm_offset={at}>;rel="{rel}"' for rel, at in kept.items())

    def _limits(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        """The headers of a rate-limit rule; the limit is shown and not enforced (faults do that)."""
        reset = str(int(time.time() // 3600 + 1) * 3600)
        return {"x-ratelimit-limit": str(RATE_LIMIT), "x-ratelimit-reset": reset, "x-ratelimit-rule": a_sys_id("rule"), **(headers or {})}

    # webhooks out --------------------------------------------------------------------------------------------------------
    def _tell(self, row: Row, event: str, changed: Sequence[str], comment: tuple[str, bool] | None) -> None:
        labels = {name: self.records.display(row, name, str(row.get(name) or "")) for name in columns(row["_table"])}
        delivery_id = uuid4().hex
        if self.keys.get("webhook_kind") == "subscription":
            body = subscription(row, labels, event, changed)
        else:
            body = recommended(row, labels, event, changed, comment, delivery_id)
        self.fire(body, {"X-ServiceNow-Delivery": delivery_id})


def failure(status: int, message: str, detail: str | None) -> Response:
    """The envelope of an error."""
    return json_response({"error": {"message": message, "detail": detail}, "status": "failure"}, status)


def _window(query: Mapping[str, str], most: int) -> tuple[int, int]:
    limit, offset = query.get("sysparm_limit", ""), query.get("sysparm_offset", "")
    return (min(int(limit), most) if limit.isdecimal() else most), (int(offset) if offset.isdecimal() else 0)


def _event_of(row: Row) -> str | None:
    """The newest event id our plugin stored, as the ledger tells it."""
    return str(row.get("correlation_display") or "").partition(" ")[0] or None
