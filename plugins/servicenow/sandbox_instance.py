"""What a small ServiceNow is beneath its APIs: its accounts, its records and what a write does to them, its answers, its webhooks.

True to the product where that hurts: unknown columns and read-only ones are dropped without a word, priority is computed, a journal
answers nothing, state models refuse or silently keep, a limit counts rows before their ACLs.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from plugins.marker import find_marker, note_marker
from plugins.sandbox.http import Request, Response, json_response
from plugins.sandbox.server import Actor, Sandbox, now
from plugins.sandbox.webhooks import RetryPolicy
from plugins.servicenow import sandbox_writes as writes
from plugins.servicenow.sandbox_accounts import GUEST, OURS, PERSON, Accounts
from plugins.servicenow.sandbox_events import LABELLED, recommended, subscription
from plugins.servicenow.sandbox_records import Records, Row, utc
from plugins.servicenow.sandbox_schema import FIRST_STATE, PREFIX, a_sys_id, configuration, derives, people

MAX_LIMIT = 10_000
RATE_LIMIT = 100_000
HIBERNATING = b"<html><head><title>Instance Hibernating page</title></head><body>Your instance is hibernating.</body></html>"


class Instance(Sandbox):
    """An instance with an agent, a caller, our account, and a guest who may see and do nothing. Its APIs are another class's."""

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

    # people --------------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = Actor("cora.caller", True, "Cora Caller")
        table = writes.TABLE_OF.get(str(fields.get("type")), "incident")
        given = {**writes.in_columns(table, fields), "caller_id": a_sys_id("sys_user", "cora.caller")}
        row = self.insert_row(table, given, request)
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
        self.update_row(row, given, request)
        return True

    # the state -----------------------------------------------------------------------------------------------------------
    def insert_row(self, table: str, given: Mapping[str, Any], request: Request) -> Row | Response:
        """A new record as the write asks for it, told about; or the refusal."""
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
            self.tell(row, "created", (), comment)
        return row

    def update_row(self, row: Row, given: Mapping[str, Any], request: Request) -> Response | None:
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
        self.tell(row, "commented" if comment else "updated", changed, comment)
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
    def seen(self, request: Request) -> Row | None:
        """The record a path names; None where there is none, or our rights hide it."""
        row = self.records.get(request.params["table"], request.params["id"])
        hidden = request.actor.id == GUEST and request.method == "GET"
        return None if hidden else row

    def one(
        self, row: Row, request: Request, status: int = 200, headers: Mapping[str, str] | None = None, table: str | None = None
    ) -> Response:
        """One record as an answer."""
        if request.headers.get("x-no-response-body") == "true":
            return Response(status, b"", dict(headers or {}))
        table = table or request.params.get("table") or row["_table"]
        return json_response({"result": self.records.shown(row, table, request.query, self.base_url)}, status, self._limits(headers))

    def page(self, table: str, request: Request, query: Mapping[str, str]) -> Response:
        """One page of a table, counted before rights."""
        encoded = query.get("sysparm_query", "").replace("javascript:gs.getUserName()", request.actor.id)
        found = self.records.find(table, encoded)
        limit, offset = window(query, MAX_LIMIT)
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
    def tell(self, row: Row, event: str, changed: Sequence[str], comment: tuple[str, bool] | None) -> None:
        """Sends the script's delivery of what happened."""
        labels = {name: self.records.display(row, name, str(row.get(name) or "")) for name in LABELLED}
        delivery_id = uuid4().hex
        if self.keys.get("webhook_kind") == "subscription":
            body = subscription(row, labels, event, changed)
        else:
            body = recommended(row, labels, event, changed, comment, delivery_id)
        self.fire(body, {"X-ServiceNow-Delivery": delivery_id})


def failure(status: int, message: str, detail: str | None) -> Response:
    """The envelope of an error."""
    return json_response({"error": {"message": message, "detail": detail}, "status": "failure"}, status)


def window(query: Mapping[str, str], most: int) -> tuple[int, int]:
    limit, offset = query.get("sysparm_limit", ""), query.get("sysparm_offset", "")
    return (min(int(limit), most) if limit.isdecimal() else most), (int(offset) if offset.isdecimal() else 0)


def _event_of(row: Row) -> str | None:
    """The newest event id our plugin stored, as the ledger tells it."""
    return str(row.get("correlation_display") or "").partition(" ")[0] or None
