"""The calls of ServiceDesk Plus API v3 this project makes, one method each.

Parameters travel as JSON text in the field `input_data`: in the query of a GET, in the form of a POST or PUT; a raw JSON body is
not understood. Every answer has an envelope `response_status`, an object or a list of one, and failures may come under status 200.
https://ui.servicedeskplus.com/APIDocs3/index.html
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from plugins.api import ApiError, CredentialsRefused, FatalApiError, NotFound, PluginContext, RateLimited, TornAnswer, ValidationRefused
from plugins.http.errors import Answer, error_for
from plugins.http.limits import segment
from plugins.servicedesk_plus.access import access_of
from plugins.servicedesk_plus.modules import REQUESTS, Module

if TYPE_CHECKING:
    from plugins.http.client import ApiClient

Json = dict[str, Any]

ACCEPT: Final = "application/vnd.manageengine.sdp.v3+json"
API_PATH: Final = "/api/v3"
ROWS_MAX: Final = 100
MAX_PAGES: Final = 200
KIND_BY_CODE: Final[Mapping[int, type[ApiError]]] = {
    4001: ValidationRefused,
    4002: CredentialsRefused,
    4003: CredentialsRefused,
    4007: NotFound,  # "Invalid URL" is how a missing id is told
    4008: ValidationRefused,
    4012: ValidationRefused,
    4015: RateLimited,
    4016: NotFound,  # already in the trash
}
"""What the envelope's inner codes mean; 4001 and 4007 as recorded from a server, the others by the vendor's lists."""

UNCLEAR: Final = frozenset({400, 404})
"""HTTP statuses that say less than the envelope's code; 401, 403, 429 and 5xx say enough by themselves."""


class RequestRefused(ValidationRefused):
    """The tool refuses a value; `code` and `field` as the envelope names them, `about` is its text in lower case, not for logs."""

    code: int | None = None
    field: str | None = None
    about: str = ""


def sdp_error_for(answer: Answer) -> ApiError | None:
    """The envelope's failure named, also under status 200; a page that is no envelope under 2xx is a torn answer."""
    body = answer.json()
    fine = 200 <= answer.status < 300
    if not isinstance(body, dict):
        return error_for(answer, "no API answer: a login page or a proxy?", TornAnswer) if fine else error_for(answer)
    status = body.get("response_status")
    status = status[0] if isinstance(status, list) and status else status
    if not isinstance(status, dict):
        return error_for(answer, "no response_status: is base_url the API's?", TornAnswer) if fine else error_for(answer)
    outer = _code(status)
    if fine and status.get("status") != "failed" and (outer is None or outer < 4000):
        return None
    messages = status.get("messages")
    message = next((m for m in messages if isinstance(m, dict)), {}) if isinstance(messages, list) else {}
    code, field = _code(message) or outer, message.get("field")
    by_code = KIND_BY_CODE.get(code or 0) if fine or answer.status in UNCLEAR else None
    kind = by_code or (ValidationRefused if fine else None)
    error = error_for(answer, f"code {code}" + (f", field {field}" if isinstance(field, str) else ""), kind)
    if type(error) is ValidationRefused:
        refused = RequestRefused(str(error), status=answer.status)
        refused.code, refused.field, refused.about = code, field if isinstance(field, str) else None, str(message.get("message")).lower()
        return refused
    return error


def _code(holder: Json) -> int | None:
    code = holder.get("status_code")
    return code if isinstance(code, int) else None


class SdpClient:
    """API v3 of every edition. They differ in who we are (access.py), in what a request's note is called, and in where a file goes."""

    def __init__(self, client: ApiClient, *, cloud: bool = False) -> None:
        self._client, self._cloud = client, cloud

    @classmethod
    def of(cls, context: PluginContext) -> SdpClient:
        """The client of a tenant's settings; raises PluginConfigError when they cannot work."""
        access = access_of(context)
        client = context.http().bound(
            base_url=access.base_url + API_PATH, auth=access.auth, headers={"Accept": ACCEPT}, error_for=sdp_error_for
        )
        return cls(client, cloud=access.cloud)

    # requests, changes, problems ---------------------------------------------------------------------------------------
    async def item(self, module: Module, item_id: str) -> Json:
        return _object(await self._client.request("GET", _path(module, item_id)), module.item)

    async def items(
        self, module: Module, criteria: Sequence[Json] = (), fields: Sequence[str] = (), rows: int = ROWS_MAX
    ) -> AsyncIterator[Json]:
        """Every item that meets all criteria, page by page; start_index counts from 1. Rows hold the asked fields only."""
        info: Json = {"row_count": rows, "sort_field": "id", "sort_order": "asc"}
        if criteria:
            info["search_criteria"] = list(criteria)
        if fields:
            info["fields_required"] = list(fields)
        async for row in self._rows(f"/{module.name}", module.name, info):
            yield row

    async def one_row(self) -> None:
        """The cheapest call that proves who we are: one row, and only its id."""
        await self._client.request("GET", "/requests", params=_input({"list_info": {"row_count": 1, "fields_required": ["id"]}}))

    async def create(self, module: Module, fields: Json) -> Json:
        answer = await self._client.request("POST", f"/{module.name}", data=_input({module.item: fields}))
        return _object(answer, module.item, wrote=True)

    async def edit(self, module: Module, item_id: str, fields: Json) -> Json:
        answer = await self._client.request("PUT", _path(module, item_id), data=_input({module.item: fields}))
        return _object(answer, module.item, wrote=True)

    async def labels(self, module: Module) -> dict[str, str]:
        """The labels of a module's custom fields, by the names the API takes."""
        answer = await self._client.request("GET", f"/{module.name}/_metainfo")
        found: Any = answer.get("metainfo") if isinstance(answer, dict) else None
        for name in ("fields", "udf_fields", "fields"):
            found = found.get(name) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise TornAnswer("servicedesk_plus answered without its custom fields")
        return {name: str(field.get("display_name") or name) for name, field in found.items() if isinstance(field, dict)}

    # what hangs on them ------------------------------------------------------------------------------------------------
    async def note(self, module: Module, item_id: str, description: str, *, public: bool) -> Json:
        """Adds a note, HTML. Booleans are always sent: a build may take a missing one for true."""
        note: Json = {"description": description}
        if module is REQUESTS:
            note |= {"show_to_requester": public, "notify_technician": False, "mark_first_response": False, "add_to_linked_requests": False}
        name = "request_note" if self._cloud and module is REQUESTS else "note"
        return _note(await self._client.request("POST", f"{_path(module, item_id)}/notes", data=_input({name: note})), module)

    async def notes(self, module: Module, item_id: str) -> AsyncIterator[Json]:
        """Every note with its text. Lists leave the text out on most builds; such a note is read by itself."""
        path = f"{_path(module, item_id)}/notes"
        info: Json = {"row_count": ROWS_MAX, "fields_required": ["description"]}
        async for row in self._rows(path, "notes", info):
            note_id = row.get("id")
            if isinstance(row.get("description"), str) or not isinstance(note_id, str):
                yield row
            else:
                yield _note(await self._client.request("GET", f"{path}/{segment(note_id)}"), module)

    async def resolution(self, request_id: str) -> Json:
        return _object(await self._client.request("GET", f"{_path(REQUESTS, request_id)}/resolutions"), "resolution")

    async def resolve(self, request_id: str, content: str) -> None:
        """Writes the resolution, HTML, in place of the one before; the answer does not hold it."""
        body = {"resolution": {"content": content, "add_to_linked_requests": False}}
        await self._client.request("POST", f"{_path(REQUESTS, request_id)}/resolutions", data=_input(body))

    def worklogs(self, module: Module, item_id: str) -> AsyncIterator[Json]:
        return self._rows(f"{_path(module, item_id)}/worklogs", "worklogs", {"row_count": ROWS_MAX})

    async def log_work(self, module: Module, item_id: str, worklog: Json) -> Json:
        answer = await self._client.request("POST", f"{_path(module, item_id)}/worklogs", data=_input({"worklog": worklog}))
        return _object(answer, "worklog", wrote=True)

    async def asset(self, asset_id: str) -> Json:
        return _object(await self._client.request("GET", f"/assets/{segment(asset_id)}"), "asset")

    async def attach(self, module: Module, item_id: str, content: AsyncIterable[bytes], headers: Mapping[str, str]) -> Json:
        """Sends a multipart form whose file is `file_field`."""
        method, path = ("POST", "_uploads") if self._cloud else ("PUT", "upload")
        answer = await self._client.request(method, f"{_path(module, item_id)}/{path}", content=content, headers=headers)
        for name in ("attachment", "attachments"):
            found = answer.get(name) if isinstance(answer, dict) else None
            found = found[0] if isinstance(found, list) and found else found
            if isinstance(found, dict):
                return found
        raise TornAnswer("servicedesk_plus did not answer the attachment", in_doubt=True)

    @property
    def file_field(self) -> str:
        return "input_file" if self._cloud else "file"

    def download(self, content_url: str, max_bytes: int) -> AsyncIterator[bytes]:
        """A file by the address the tool gave with it; only its path is taken, so our key goes to no other host."""
        path = urlsplit(content_url).path
        if API_PATH not in path or ".." in path.lower().replace("%2e", "."):
            raise FatalApiError("the attachment's address is not one of the API's")
        return self._client.stream("GET", path[path.index(API_PATH) + len(API_PATH) :], max_bytes=max_bytes)

    async def _rows(self, path: str, name: str, info: Json) -> AsyncIterator[Json]:
        start = 1
        for _ in range(MAX_PAGES):
            answer = await self._client.request("GET", path, params=_input({"list_info": {**info, "start_index": start}}))
            found = answer.get(name, answer.get(f"request_{name}")) if isinstance(answer, dict) else None
            rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
            for row in rows:
                yield row
            told = answer.get("list_info") if isinstance(answer, dict) else None
            if not isinstance(told, dict) or told.get("has_more_rows") is not True or not rows:
                return
            start += len(rows)
        raise TornAnswer(f"GET {path} goes on after {MAX_PAGES} pages")


def _path(module: Module, item_id: str) -> str:
    return f"/{module.name}/{segment(item_id)}"


def _input(body: Json) -> dict[str, str]:
    return {"input_data": msgspec.json.encode(body).decode()}


def _object(answer: Any, name: str, *, wrote: bool = False) -> Json:
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, dict):
        raise TornAnswer(f"servicedesk_plus answered without its {name}", in_doubt=wrote)
    return found


def _note(answer: Any, module: Module) -> Json:
    """A note under either edition's name."""
    for name in ("note", f"{module.item}_note"):
        found = answer.get(name) if isinstance(answer, dict) else None
        if isinstance(found, dict):
            return found
    raise TornAnswer("servicedesk_plus answered without its note", in_doubt=True)
