"""The ServiceNow calls this project makes, one method each: Table, Attachment and Batch API.

https://github.com/ServiceNow/ServiceNowDocs markdown/api-reference/rest-apis (c_TableAPI, batch-api, c_AttachmentAPI).
"""

from __future__ import annotations

import re
import time
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from plugins.api import ApiError, CallTimedOut, CredentialsRefused, FatalApiError, ServerError, TornAnswer, ValidationRefused
from plugins.http.errors import MAX_RETRY_AFTER, Answer, error_for
from plugins.http.limits import bounded, segment

if TYPE_CHECKING:
    from plugins.http.client import ApiClient

Row = Mapping[str, Any]
PAGE = 200
"""Rows in one request: some reads are cut after a minute on the instance, so pages stay small."""
MAX_PAGES = 500
BOTH_VALUES = "all"
"""Each field as its code and as what people see, in one read."""
BATCH_ROUNDS = 3
JSON_HEADERS = ({"name": "Accept", "value": "application/json"}, {"name": "Content-Type", "value": "application/json"})
_MANDATORY = re.compile(r"mandatory:?\s*([^\"<>\r\n]{1,160})", re.IGNORECASE)
_ABORTED = re.compile(r"business rule|data policy|mandatory|aborted|state model|transition", re.IGNORECASE)


class SubRequest(msgspec.Struct, frozen=True):
    """One request inside a batch; `path` begins at the instance's root."""

    method: str
    path: str
    json: Mapping[str, Any] | None = None


class ServiceNowClient:
    """Typed paths over an ApiClient that is bound to the instance's address and credentials."""

    def __init__(self, http: ApiClient, version: str = "v2") -> None:
        self._http = http
        self._table = f"/api/now/{version}/table" if version else "/api/now/table"

    # tables ------------------------------------------------------------------------------------------------------------
    async def rows(
        self, table: str, query: str, fields: Sequence[str] = (), *, limit: int = PAGE, offset: int = 0, display: str = "false"
    ) -> tuple[list[Row], int | None]:
        """One page of a table, and how many rows the query has in all, where the instance tells.

        The limit counts rows before their ACLs: a page can be short, even empty, while more follow. A condition on a column that
        does not exist is dropped by the instance, which then answers every row: callers look at what they got.
        """
        answer = await self._http.answer("GET", f"{self._table}/{segment(table)}", params=_params(query, fields, display, limit, offset))
        total = answer.headers.get("x-total-count", "")
        return _list(answer.json()), int(total) if total.isdecimal() else None

    async def every_row(self, table: str, query: str, fields: Sequence[str] = (), *, display: str = "false") -> AsyncIterator[Row]:
        """Every row over all pages, by offset against the total; `query` must end in a total order."""
        offset = 0
        for _ in range(MAX_PAGES):
            rows, total = await self.rows(table, query, fields, offset=offset, display=display)
            for row in rows:
                yield row
            offset += PAGE
            if (total is None and len(rows) < PAGE) or (total is not None and offset >= total):
                return
        raise FatalApiError(f"GET {self._table}/{table} has more than {MAX_PAGES} pages")

    async def row(self, table: str, sys_id: str, fields: Sequence[str] = (), *, display: str = "false") -> Row:
        body = await self._http.request("GET", self.path_of(table, sys_id), params=_params("", fields, display))
        return result_of(body)

    async def create(self, table: str, values: Mapping[str, Any], fields: Sequence[str] = ()) -> Row:
        params = _params("", fields, "false")
        return result_of(await self._http.request("POST", f"{self._table}/{segment(table)}", json=values, params=params), writes=True)

    async def update(
        self, table: str, sys_id: str, values: Mapping[str, Any], fields: Sequence[str] = (), *, display: str = "false"
    ) -> Row:
        path, params = self.path_of(table, sys_id), _params("", fields, display)
        return result_of(await self._http.request("PATCH", path, json=values, params=params), writes=True)

    def path_of(self, table: str, sys_id: str) -> str:
        return f"{self._table}/{segment(table)}/{segment(sys_id)}"

    def listing_of(self, table: str, query: str, fields: Sequence[str], *, display: str, limit: int) -> SubRequest:
        """A listing, as a request inside a batch."""
        return SubRequest("GET", f"{self._table}/{segment(table)}?{urlencode(_params(query, fields, display, limit))}")

    def update_of(self, table: str, sys_id: str, values: Mapping[str, Any], fields: Sequence[str]) -> SubRequest:
        """An update, as a request inside a batch."""
        return SubRequest("PATCH", f"{self.path_of(table, sys_id)}?{urlencode(_params('', fields, 'false'))}", values)

    # batches -----------------------------------------------------------------------------------------------------------
    async def batch(self, requests: Mapping[str, SubRequest]) -> dict[str, Answer]:
        """Each request's own answer by its id; one that the instance had no time for is missing, and may have been carried out.

        They are worked on one after the other and are no transaction: the outer 200 says nothing about them.
        """
        body = {
            "batch_request_id": "1",
            "rest_requests": [
                {
                    "id": name,
                    "method": request.method,
                    "url": request.path,
                    "headers": list(JSON_HEADERS),
                    **({} if request.json is None else {"body": b64encode(msgspec.json.encode(request.json)).decode()}),
                }
                for name, request in requests.items()
            ],
        }
        writes = any(request.method != "GET" for request in requests.values())
        answer = await self._http.request("POST", "/api/now/v1/batch", json=body, idempotent=not writes)
        serviced = answer.get("serviced_requests") if isinstance(answer, dict) else None
        if not isinstance(serviced, list):
            raise TornAnswer("ServiceNow answered a batch without serviced_requests", in_doubt=writes)
        found = {}
        for item in serviced:
            name = str(item.get("id")) if isinstance(item, dict) else ""
            if name in requests:
                found[name] = _sub_answer(requests[name], item)
        return found

    async def records(self, wanted: Mapping[str, Sequence[str]]) -> list[tuple[str, Row]]:
        """Whole records of several tables, by sys_id, with both values; what is missing is left out.

        One batch lists them all; a table it had no time for, or every table where the Batch API is closed to our account, is listed by
        itself.
        """
        queries = {table: f"sys_idIN{','.join(ids)}^ORDERBYsys_id" for table, ids in wanted.items()}
        answers: dict[str, Answer] = {}
        if len(wanted) > 1:
            listings = {
                table: self.listing_of(table, query, (), display=BOTH_VALUES, limit=len(wanted[table])) for table, query in queries.items()
            }
            try:
                answers = await self.batch(listings)
            except ApiError as exc:
                if exc.status not in (403, 404):
                    raise
        found: list[tuple[str, Row]] = []
        for table, query in queries.items():
            answer = answers.get(table)
            if answer is None:
                rows, _ = await self.rows(table, query, limit=len(wanted[table]), display=BOTH_VALUES)
            elif (error := servicenow_error(answer)) is not None:
                raise error
            else:
                rows = _list(answer.json())
            found += [(table, row) for row in rows]
        return found

    # attachments -------------------------------------------------------------------------------------------------------
    async def attachments(self, sys_id: str) -> list[Row]:
        """Every file of a record, oldest first. This listing tells no total on some releases: it ends with a short page."""
        found: list[Row] = []
        query = f"table_sys_id={escaped(sys_id)}^ORDERBYsys_created_on^ORDERBYsys_id"
        for page in range(MAX_PAGES):
            rows = _list(await self._http.request("GET", "/api/now/attachment", params=_params(query, (), "", PAGE, page * PAGE)))
            found += [row for row in rows if row.get("table_sys_id") == sys_id]
            if len(rows) < PAGE:
                break
        return found

    async def attachment(self, attachment_id: str) -> Row:
        return result_of(await self._http.request("GET", f"/api/now/attachment/{segment(attachment_id)}"))

    async def attach(self, table: str, sys_id: str, filename: str, content_type: str, content: AsyncIterator[bytes], max_bytes: int) -> Row:
        """Sends a file's bytes as they come."""
        params = {"table_name": table, "table_sys_id": sys_id, "file_name": filename}
        body = await self._http.request(
            "POST",
            "/api/now/attachment/file",
            params=params,
            content=bounded(content, max_bytes, filename[:100]),
            headers={"Content-Type": content_type or "application/octet-stream", "Accept": "application/json"},
        )
        return result_of(body, writes=True)

    def download(self, attachment_id: str, max_bytes: int) -> AsyncIterator[bytes]:
        path = f"/api/now/attachment/{segment(attachment_id)}/file"
        return self._http.stream("GET", path, headers={"Accept": "*/*"}, max_bytes=max_bytes)


def servicenow_error(answer: Answer) -> ApiError | None:
    """ServiceNow's errors: an `error` object also under 200, HTML where the instance sleeps or a login page stands before it.

    403 is an ACL, or a business rule or data policy that refuses the values; only its text tells.
    """
    document = answer.json() if answer.body else {}
    fault = document.get("error") if isinstance(document, dict) else None
    if 200 <= answer.status < 300:
        if answer.body and not isinstance(document, dict):
            return error_for(answer, "a page in place of JSON: the instance sleeps, or a login page stands before it", ServerError)
        if fault is None:
            return None
        said = f"{fault.get('message')} {fault.get('detail')}" if isinstance(fault, dict) else str(fault)
        if "maximum execution time" in said:
            return error_for(answer, "cancelled: maximum execution time exceeded", CallTimedOut)
        return error_for(answer, "an error under a success", FatalApiError)
    if answer.status == 429:
        return _limited(answer)
    if not isinstance(fault, dict):
        if answer.status == 404:
            return error_for(answer, "by a gateway, not by an instance: check base_url")
        if answer.headers.get("x-mfa_token"):
            return error_for(answer, "the account asks for a second factor; use OAuth or an account without one")
        return error_for(answer, str(fault or "")[:60])
    message, detail = str(fault.get("message") or ""), str(fault.get("detail") or "")
    if answer.status == 403 and _ABORTED.search(f"{message} {detail}"):
        return error_for(answer, _named(message, detail), ValidationRefused)
    if answer.status == 404 and "record" not in message.lower():
        return error_for(answer, "no such API on this instance; check base_url and its plugins", FatalApiError)
    if answer.headers.get("x-mfa_token"):
        return error_for(answer, "the account asks for a second factor; use OAuth or an account without one", CredentialsRefused)
    return error_for(answer, _named(message, detail))


def _limited(answer: Answer) -> ApiError | None:
    """429: a rule tells when its hour ends in X-RateLimit-Reset (epoch seconds), also where Retry-After is missing; a full queue on
    the instance tells neither."""
    error = error_for(answer)
    reset = answer.headers.get("x-ratelimit-reset", "")
    if error is not None and error.retry_after is None and reset.isdecimal():
        error.retry_after = min(max(int(reset) - time.time(), 0.0), MAX_RETRY_AFTER)
    return error


def _named(message: str, detail: str) -> str:
    """The instance's own name for the fault, and the fields it wants; never its whole text, which may quote the record."""
    wanted = _MANDATORY.search(detail) or _MANDATORY.search(message)
    return f"{message[:80]}: mandatory: {wanted[1].strip()}" if wanted else message[:80]


def searchable(text: str) -> bool:
    """Whether a text may stand in a query as a value."""
    return text.isprintable() and not text.lstrip().lower().startswith("javascript:")


def escaped(text: str) -> str:
    """A value within an encoded query: a caret ends a condition, a doubled one is itself; a line end or `javascript:` never passes."""
    if not searchable(text):
        raise ValidationRefused("a value that cannot be searched for: it holds control characters or a script")
    return text.replace("^", "^^")


def _params(query: str, fields: Sequence[str], display: str, limit: int | None = None, offset: int = 0) -> dict[str, str | int]:
    params: dict[str, str | int] = {"sysparm_exclude_reference_link": "true"} if display else {}
    if display:
        params["sysparm_display_value"] = display
    if query:
        params["sysparm_query"] = query
    if fields:
        params["sysparm_fields"] = ",".join(fields)
    if limit is not None:
        params["sysparm_limit"] = limit
    if offset:
        params["sysparm_offset"] = offset
    return params


def _sub_answer(request: SubRequest, item: Mapping[str, Any]) -> Answer:
    """A serviced request's answer; its base64 may be broken into lines."""
    try:
        body = b64decode("".join(str(item.get("body") or "").split()), validate=True)
    except (BadBase64, ValueError):
        body = b""
    status = item.get("status_code")
    headers = {"content-type": "application/json"}
    path = request.path.partition("?")[0]
    return Answer(
        method=request.method, path=path, status=int(status) if isinstance(status, (int, float)) else 0, headers=headers, body=body
    )


def result_of(body: Any, *, writes: bool = False) -> Row:
    """The record in an answer; TornAnswer where there is none."""
    found = body.get("result") if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise TornAnswer("ServiceNow answered a success without a result", in_doubt=writes)
    return found


def _list(body: Any) -> list[Row]:
    found = body.get("result") if isinstance(body, dict) else None
    if not isinstance(found, list):
        raise TornAnswer("ServiceNow answered a success without a result")
    return [row for row in found if isinstance(row, dict)]
