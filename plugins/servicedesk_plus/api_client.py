"""The calls of ServiceDesk Plus API v3 this project makes, one method each.

Parameters travel as JSON text in the field `input_data`: in the query of a GET, in the form of a POST or PUT; a raw JSON body is
not understood. Every answer has an envelope `response_status`, an object or a list of one, and failures may come under status 200.
https://ui.servicedeskplus.com/APIDocs3/index.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import httpx
import msgspec

from plugins.api import ApiError, CredentialsRefused, NotFound, PluginConfigError, PluginContext, RateLimited, TornAnswer, ValidationRefused
from plugins.http.auth import HeaderAuth
from plugins.http.client import ApiClient, segment
from plugins.http.errors import Answer, error_for

Json = dict[str, Any]

ACCEPT: Final = "application/vnd.manageengine.sdp.v3+json"
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
    """API v3 with a technician's key. On premises and MSP; Cloud shares the protocol, but for its OAuth tokens."""

    def __init__(self, client: ApiClient, *, note_key: str = "note") -> None:
        self._client, self._note_key = client, note_key

    @classmethod
    def of(cls, context: PluginContext) -> SdpClient:
        """The client of a tenant's settings; raises PluginConfigError when the address or the key is missing."""
        settings = context.settings
        base_url, key = settings.get("base_url"), (settings.get("auth") or {}).get("technician_key")
        if not base_url or not key:
            raise PluginConfigError("servicedesk_plus needs base_url and auth.technician_key to be called")

        def newest() -> str:
            live = context.secrets(str(key))
            if not live:
                raise PluginConfigError("auth.technician_key names a secret that is not set; set it with: ai-agents secret set")
            return live[0].decode()

        base = str(base_url).rstrip("/").removesuffix("/api/v3")
        client = context.http().bound(
            base_url=f"{base}/api/v3", auth=HeaderAuth("authtoken", newest), headers={"Accept": ACCEPT}, error_for=sdp_error_for
        )
        return cls(client, note_key="request_note" if settings.get("edition") == "cloud" else "note")

    async def request(self, request_id: str) -> Json:
        return _object(await self._client.request("GET", f"/requests/{segment(request_id)}"), "request")

    async def requests(self, criteria: Sequence[Json] = (), fields: Sequence[str] = (), rows: int = ROWS_MAX) -> AsyncIterator[Json]:
        """Every request that meets all criteria, page by page; start_index counts from 1. Rows hold the asked fields only."""
        info: Json = {"row_count": rows, "sort_field": "id", "sort_order": "asc"}
        if criteria:
            info["search_criteria"] = list(criteria)
        if fields:
            info["fields_required"] = list(fields)
        async for row in self._rows("/requests", "requests", info):
            yield row

    async def one_row(self) -> None:
        """The cheapest call that proves the key: one row, and only its id."""
        await self._client.request("GET", "/requests", params=_input({"list_info": {"row_count": 1, "fields_required": ["id"]}}))

    async def create(self, fields: Json) -> Json:
        return _object(await self._client.request("POST", "/requests", data=_input({"request": fields})), "request", wrote=True)

    async def edit(self, request_id: str, fields: Json) -> Json:
        answer = await self._client.request("PUT", f"/requests/{segment(request_id)}", data=_input({"request": fields}))
        return _object(answer, "request", wrote=True)

    async def note(self, request_id: str, description: str, *, public: bool) -> Json:
        """Adds a note, HTML. Booleans are always sent: a build may take a missing one for true."""
        note = {"description": description, "show_to_requester": public, "notify_technician": False, "mark_first_response": False}
        body = {self._note_key: {**note, "add_to_linked_requests": False}}
        return _note(await self._client.request("POST", f"/requests/{segment(request_id)}/notes", data=_input(body)))

    async def notes(self, request_id: str) -> AsyncIterator[Json]:
        """Every note with its text. Lists leave the text out on most builds; such a note is read by itself."""
        path = f"/requests/{segment(request_id)}/notes"
        info: Json = {"row_count": ROWS_MAX, "fields_required": ["description"]}
        async for row in self._rows(path, "notes", info):
            note_id = row.get("id")
            if isinstance(row.get("description"), str) or not isinstance(note_id, str):
                yield row
            else:
                yield _note(await self._client.request("GET", f"{path}/{segment(note_id)}"))

    async def attach(self, request_id: str, filename: str, content_type: str, content: bytes) -> Json:
        form = httpx.Request("PUT", "http://form", files={"file": (filename, content, content_type)})
        answer = await self._client.request(
            "PUT",
            f"/requests/{segment(request_id)}/upload",
            content=form.read(),
            headers={"Content-Type": form.headers["Content-Type"]},
        )
        for name in ("attachment", "attachments"):
            found = answer.get(name) if isinstance(answer, dict) else None
            found = found[0] if isinstance(found, list) and found else found
            if isinstance(found, dict):
                return found
        raise TornAnswer("servicedesk_plus did not answer the attachment", in_doubt=True)

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


def _input(body: Json) -> dict[str, str]:
    return {"input_data": msgspec.json.encode(body).decode()}


def _object(answer: Any, name: str, *, wrote: bool = False) -> Json:
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, dict):
        raise TornAnswer(f"servicedesk_plus answered without its {name}", in_doubt=wrote)
    return found


def _note(answer: Any) -> Json:
    """A note under either edition's name."""
    for name in ("note", "request_note"):
        found = answer.get(name) if isinstance(answer, dict) else None
        if isinstance(found, dict):
            return found
    raise TornAnswer("servicedesk_plus answered without its note", in_doubt=True)
