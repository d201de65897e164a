"""The Cherwell REST calls this project makes, one method each. The description is on every server; clients generated from it agree."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from plugins.api import ApiError, Conflict, CredentialsRefused, NotFound, ServerError, TornAnswer, ValidationRefused
from plugins.http.errors import Answer, error_for
from plugins.http.limits import segment

if TYPE_CHECKING:
    from plugins.http.client import ApiClient

Json = dict[str, Any]

API: Final = "/CherwellAPI/api/V1"
PAGE: Final = 100
BATCH: Final = 50
"""Records in one batch call; the tool names no limit."""
MAX_PAGES: Final = 500
CHUNK: Final = 1 << 20
"""Bytes of a file in one upload call."""

_FAILED = re.compile(rb'"hasError"\s*:\s*true', re.IGNORECASE)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,60}")
_KINDS: Final[tuple[tuple[str, type[ApiError]], ...]] = (
    ("NOTFOUND", NotFound),
    ("LOCK", Conflict),
    ("CONCURREN", Conflict),
    ("PERMISSION", CredentialsRefused),
    ("RIGHTS", CredentialsRefused),
    ("NOTAUTHORIZED", CredentialsRefused),
)


class CherwellErrors:
    """Names failures, those under status 200 too. `names` grows with each schema: validation errors tell fields by their ids."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def __call__(self, answer: Answer) -> ApiError | None:
        failed = bool(_FAILED.search(answer.body))
        if 200 <= answer.status < 300 and not failed:
            if "text/html" in answer.headers.get("content-type", ""):
                return error_for(answer, "a web page in place of data; check base_url", TornAnswer)
            return None
        document = answer.json()
        told = document if isinstance(document, dict) else {}
        if 200 <= answer.status < 300:
            return self.in_document(answer, told) if told.get("hasError") is True else None  # else an item of a batch failed
        code = str(told.get("errorCode") or told.get("error") or "")
        kind = _kind_of(code) if answer.status in (400, 404, 500) else None
        return error_for(answer, self.detail(told) or (code if _CODE.fullmatch(code) else ""), kind)

    def in_document(self, answer: Answer, told: Mapping[str, Any]) -> ApiError | None:
        """The failure a document under status 200 tells; its httpStatusCode says whose fault it is."""
        kind = _kind_of(str(told.get("errorCode") or ""))
        if kind is None:
            status = re.sub(r"[^a-z0-9]", "", str(told.get("httpStatusCode") or "").lower())
            kind = ServerError if status in ("internalservererror", "500", "serviceunavailable", "503") else ValidationRefused
        return error_for(answer, self.detail(told), kind)

    def of_item(self, told: Mapping[str, Any], what: str) -> ApiError | None:
        """The failure of one item of a batch; None when it went well."""
        if told.get("hasError") is not True:
            return None
        kind = _kind_of(str(told.get("errorCode") or "")) or ValidationRefused
        return kind(f"{what}: {self.detail(told) or 'refused'}")

    def detail(self, told: Mapping[str, Any]) -> str:
        """The tool's code and the fields it names; its message may quote the record and stays out."""
        code = str(told.get("errorCode") or "")
        rows = told.get("fieldValidationErrors")
        fields = [self._field(row) for row in rows[:10] if isinstance(row, dict)] if isinstance(rows, list) else []
        return ": ".join(part for part in (code if _CODE.fullmatch(code) else "", ", ".join(fields)) if part)

    def _field(self, row: Mapping[str, Any]) -> str:
        short = short_id(str(row.get("fieldId") or ""))
        code = str(row.get("errorCode") or "")
        return f"{self.names.get(short, short or 'a field')}{f' ({code})' if _CODE.fullmatch(code) else ''}"


def _kind_of(code: str) -> type[ApiError] | None:
    folded = code.upper().replace("_", "")
    return next((kind for part, kind in _KINDS if part in folded), None)


def short_id(field_id: str) -> str:
    """A field's own id out of `BO:…,FI:…`, in lower case."""
    return field_id.rpartition("FI:")[2].lower()


class CherwellClient:
    """Typed paths over an ApiClient that is bound to the server's address and credentials."""

    def __init__(self, http: ApiClient, errors: CherwellErrors, culture: str) -> None:
        self._http, self.errors, self._locale = http, errors, {"locale": culture}

    async def _call(self, method: str, path: str, *, reads: bool = False, **options: Any) -> Json:
        """`reads` names a POST without an effect: it may be repeated, and is never in doubt."""
        params = {**self._locale, **options.pop("params", {})}
        try:
            body = await self._http.request(method, f"{API}/{path}", params=params, idempotent=reads, **options)
        except ApiError as exc:
            exc.in_doubt = exc.in_doubt and not reads
            raise
        if not isinstance(body, dict):
            raise TornAnswer(f"Cherwell answered {path.partition('/')[0]} without a document", in_doubt=not reads and method != "GET")
        return body

    # metadata --------------------------------------------------------------------------------------------------------
    async def service_info(self) -> Json:
        return await self._call("GET", "serviceinfo")

    async def summaries(self, name: str) -> list[Json]:
        """The business objects of a name: one, a group's members beside it, or none."""
        body = await self._http.request("GET", f"{API}/getbusinessobjectsummary/busobname/{segment(name)}", params=self._locale)
        return [row for row in body if isinstance(row, dict)] if isinstance(body, list) else []

    async def schema(self, object_id: str) -> Json:
        return await self._call("GET", f"getbusinessobjectschema/busobid/{segment(object_id)}", params={"includerelationships": "true"})

    async def user(self, login: str) -> Json:
        return await self._call("GET", f"getuserbyloginid/loginid/{segment(login)}")

    # records ---------------------------------------------------------------------------------------------------------
    async def read(self, object_id: str, record: Mapping[str, str]) -> Json:
        """`record` is {"busObRecId": …} or {"busObPublicId": …}."""
        return await self._call("GET", f"getbusinessobject/busobid/{segment(object_id)}/{_path(record)}")

    async def read_many(self, requests: Sequence[Mapping[str, str]]) -> list[Json]:
        """One answer for each of up to BATCH requests, in order, each with its own error."""
        body = {"readRequests": list(requests), "stopOnError": False}
        return _responses(await self._call("POST", "getbusinessobjectbatch", json=body, reads=True), len(requests))

    async def save(self, save: Json) -> Json:
        return await self._call("POST", "savebusinessobject", json=save)

    async def save_many(self, saves: Sequence[Json]) -> list[Json]:
        """One answer for each of up to BATCH saves, in order, each with its own error; not one transaction."""
        body = {"saveRequests": list(saves), "stopOnError": False}
        return _responses(await self._call("POST", "savebusinessobjectbatch", json=body), len(saves))

    async def delete(self, object_id: str, record: Mapping[str, str]) -> Json:
        return await self._call("DELETE", f"deletebusinessobject/busobid/{segment(object_id)}/{_path(record)}")

    async def search(self, query: Json, limit: int | None = None) -> AsyncIterator[Json]:
        """Records an ad-hoc search finds, over its pages; at most `limit`."""
        seen = 0
        for page in range(1, MAX_PAGES + 1):
            size = min(PAGE, limit) if limit else PAGE
            body = await self._call("POST", "getsearchresults", json={**query, "pageNumber": page, "pageSize": size}, reads=True)
            rows = _rows(body, "businessObjects")
            for row in rows:
                yield row
            seen += len(rows)
            if not rows or seen >= int(body.get("totalRows") or 0) or (limit and seen >= limit):
                return

    async def related(self, object_id: str, record_id: str, relationship_id: str) -> AsyncIterator[Json]:
        """The records at the other end of a relationship, with all their fields."""
        base = f"getrelatedbusinessobject/parentbusobid/{segment(object_id)}/parentbusobrecid/{segment(record_id)}"
        seen = 0
        for page in range(1, MAX_PAGES + 1):
            params = {"pageNumber": page, "pageSize": PAGE, "allfields": "true"}
            body = await self._call("GET", f"{base}/relationshipid/{segment(relationship_id)}", params=params)
            rows = _rows(body, "relatedBusinessObjects")
            for row in rows:
                yield row
            seen += len(rows)
            total = body.get("totalRecords")
            if not rows or (isinstance(total, int) and seen >= total) or (total is None and len(rows) < PAGE):
                return

    async def save_related(self, save: Json) -> Json:
        return await self._call("POST", "saverelatedbusinessobject", json=save)

    # files -----------------------------------------------------------------------------------------------------------
    async def upload(self, object_id: str, record_id: str, filename: str, content: bytes, offset: int, total: int, file_id: str) -> str:
        """One part of a file; answers the attachment's id, which the following parts name."""
        path = f"uploadbusinessobjectattachment/filename/{segment(filename)}/busobid/{segment(object_id)}/busobrecid/{segment(record_id)}"
        params = {**self._locale, "displaytext": filename, **({"attachmentid": file_id} if file_id else {})}
        answer = await self._http.request(
            "POST",
            f"{API}/{path}/offset/{offset}/totalsize/{total}",
            content=content,
            params=params,
            headers={"Content-Type": "application/octet-stream"},
        )
        found = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
        if not isinstance(found, str) or not found.strip('" \r\n'):
            raise TornAnswer("Cherwell took a part of a file and did not say its id", in_doubt=True)
        return found.strip('" \r\n')

    async def attachments(self, object_id: str, record_id: str) -> list[Json]:
        base = f"getbusinessobjectattachments/busobid/{segment(object_id)}/busobrecid/{segment(record_id)}"
        return _rows(await self._call("GET", f"{base}/type/File/attachmenttype/Imported"), "attachments")

    def download(self, object_id: str, record_id: str, file_id: str, max_bytes: int) -> AsyncIterator[bytes]:
        path = f"getbusinessobjectattachment/attachmentid/{segment(file_id)}/busobid/{segment(object_id)}/busobrecid/{segment(record_id)}"
        return self._http.stream("GET", f"{API}/{path}", max_bytes=max_bytes)

    # workflow --------------------------------------------------------------------------------------------------------
    async def one_steps(self) -> Json:
        """The tree of One-Step Actions our account may run."""
        return await self._call("GET", "getonestepactions")

    async def run_one_step(self, body: Json) -> Json:
        """By POST alone: the tool's GET has effects, and a GET is repeated."""
        return await self._call("POST", "runonestepaction", json=body)

    async def transition_options(self, object_id: str, record_id: str) -> list[Json]:
        path = f"{API}/{segment(object_id)}/records/{segment(record_id)}/transitionOptions"
        body = await self._http.request("GET", path, params=self._locale)
        return _rows(body, "transitionOptions") if isinstance(body, dict) else [row for row in body or () if isinstance(row, dict)]

    async def transition(self, object_id: str, record_id: str, option_id: str) -> None:
        path = f"{API}/{segment(object_id)}/records/{segment(record_id)}/transitions"
        await self._http.request("POST", path, json={"transitionOptionId": option_id}, params=self._locale)

    async def logout(self) -> None:
        await self._http.request("DELETE", f"{API}/logout")


def _path(record: Mapping[str, str]) -> str:
    if record.get("busObRecId"):
        return f"busobrecid/{segment(record['busObRecId'])}"
    return f"publicid/{segment(record.get('busObPublicId') or '')}"


def _rows(body: Mapping[str, Any], name: str) -> list[Json]:
    rows = body.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _responses(body: Mapping[str, Any], asked: int) -> list[Json]:
    rows = _rows(body, "responses")
    if len(rows) != asked:
        raise TornAnswer(f"Cherwell answered {len(rows)} of a batch of {asked}", in_doubt=True)
    return rows
