"""The TOPdesk calls this project makes, one method each. https://developers.topdesk.com: Incident, Change, Assets, Supporting Files."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from plugins.api import ApiError, TornAnswer, ValidationRefused
from plugins.http.errors import Answer, error_for
from plugins.http.limits import segment
from plugins.topdesk.payload import to_unid
from plugins.topdesk.words import NO_SUCH_VALUE, fault_of

if TYPE_CHECKING:
    from plugins.http.client import ApiClient

Json = dict[str, Any]

API: Final = "/tas/api"
TRAIL_PAGE: Final = 100
"""Entries of a trail, and rows of supporting files, in one answer: the tool's own limit."""
CHANGES_PAGE: Final = 1000
MAX_PAGES: Final = 500
READ_FIELDS: Final = (
    "id,number,status,briefDescription,request,caller,externalNumber,category,subcategory,callType,object,asset,impact,urgency,priority,"
    "targetDate,onHold,operator,operatorGroup,processingStatus,completed,completedDate,closed,closedDate,callDate,creator,creationDate,"
    "modifier,modificationDate,majorCall,mainIncident,partialIncidents,optionalFields1,optionalFields2"
)
"""What is read of an incident in a list: all of its fields are slow and heavy there."""


class UnknownValue(ValidationRefused):
    """A word of ours is not among the tenant's."""


def topdesk_error(answer: Answer) -> ApiError | None:
    """A failure named by status first, then by the messages in either of TOPdesk's two shapes, in English or Dutch.

    A web page under 200 is a gateway's, or a sign-in page; 403 for an archived card is no matter of credentials.
    """
    if 200 <= answer.status < 300:
        if "text/html" in answer.headers.get("content-type", "") and not answer.path.endswith("/download"):
            return error_for(answer, "a web page in place of data; check base_url, and the account's access to the API", TornAnswer)
        return None
    detail = "; ".join(_faults(answer.json()))
    if answer.status == 403 and "archived" in detail:
        return error_for(answer, detail, ValidationRefused)
    if answer.status == 400 and NO_SUCH_VALUE in detail:
        return error_for(answer, detail, UnknownValue)
    return error_for(answer, detail)


def _faults(body: Any) -> list[str]:
    rows = body.get("errors", [body]) if isinstance(body, dict) else body
    found = []
    for row in rows[:5] if isinstance(rows, list) else ():
        if not isinstance(row, dict):
            continue
        fault = fault_of(str(row.get("message") or row.get("errorMessage") or ""))
        code, fields = row.get("errorCode"), row.get("appliesTo")
        named = ", ".join(f for f in fields if isinstance(f, str)) if isinstance(fields, list) else ""
        coded = f"{named}: {code}" if named and code else str(code or "")
        found.append(coded or fault)
    return [fault[:120] for fault in found if fault]


def quoted(value: str) -> str:
    """A value inside a FIQL expression."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class TopdeskClient:
    """Typed paths over an ApiClient that is bound to the tenant's address and credentials.

    An incident is addressed by its UUID or its number, which stand under different paths; a change by either under one.
    """

    def __init__(self, http: ApiClient) -> None:
        self._http = http

    # incidents -------------------------------------------------------------------------------------------------------
    async def incident(self, ticket_id: str) -> Json:
        return _object(await self._http.request("GET", _incident(ticket_id)))

    async def incidents(self, query: str, fields: str = READ_FIELDS, page_size: int = TRAIL_PAGE) -> AsyncIterator[Json]:
        """Every incident a FIQL expression finds, partials and archived ones too; an answer of 206 has more behind it."""
        start = 0
        for _ in range(MAX_PAGES):
            params: dict[str, str | int] = {"query": query, "fields": fields, "pageStart": start, "pageSize": page_size, "all": "true"}
            answer = await self._http.answer("GET", f"{API}/incidents", params=params)
            rows = _list(answer)
            for row in rows:
                yield row
            if answer.status != 206 or not rows:
                return
            start += len(rows)

    async def create_incident(self, body: Json) -> Json:
        return _object(await self._http.request("POST", f"{API}/incidents", json=body), writes=True)

    async def update_incident(self, ticket_id: str, body: Json) -> Json:
        """The body is partial: what it leaves out stays. 404 also when a value it names does not exist."""
        return _object(await self._http.request("PATCH", _incident(ticket_id), json=body), writes=True)

    def actions(self, ticket_id: str) -> AsyncIterator[Json]:
        return self._entries(f"{_incident(ticket_id)}/actions")

    def requests(self, ticket_id: str) -> AsyncIterator[Json]:
        return self._entries(f"{_incident(ticket_id)}/requests")

    def progress(self, ticket_id: str) -> AsyncIterator[Json]:
        """Actions, files and mails together."""
        return self._entries(f"{_incident(ticket_id)}/progresstrail")

    def attachments(self, ticket_id: str) -> AsyncIterator[Json]:
        return self._entries(f"{_incident(ticket_id)}/attachments")

    async def move_incident(self, ticket_id: str, move: str, reason: Json | None = None) -> Json:
        """`move` is escalate, deescalate, archive or unarchive."""
        return _object(await self._http.request("PUT", f"{_incident(ticket_id)}/{segment(move)}", json=reason or {}), writes=True)

    async def words(self, name: str) -> list[Json]:
        """A list of the tenant's words: statuses, priorities, call_types, categories, …"""
        return _list(await self._http.answer("GET", f"{API}/incidents/{segment(name)}"))

    # changes ---------------------------------------------------------------------------------------------------------
    async def change(self, identifier: str) -> Json:
        return _object(await self._http.request("GET", _change(identifier)))

    def changes(self, **filters: str | Sequence[str]) -> AsyncIterator[Json]:
        """Changes in short, by filters of which a list repeats its name: id, status, phase, open, archived."""
        return self._results_of("operatorChanges", filters)

    def activities(self, change: str) -> AsyncIterator[Json]:
        """The activities of a change, by its id or number: who does or authorises what, and where it stands."""
        return self._results_of("operatorChangeActivities", {"change": to_unid(change) or change})

    async def _results_of(self, path: str, filters: Mapping[str, str | Sequence[str]]) -> AsyncIterator[Json]:
        """Pages by `pageStart` and `pageSize`, which end with a page that is not full."""
        start = 0
        for _ in range(MAX_PAGES):
            query = urlencode({**filters, "pageStart": start, "pageSize": CHANGES_PAGE}, doseq=True)
            rows = _results(await self._http.request("GET", f"{API}/{path}?{query}"))
            for row in rows:
                yield row
            if len(rows) < CHANGES_PAGE:
                return
            start += len(rows)

    async def create_change(self, body: Json) -> Json:
        return _object(await self._http.request("POST", f"{API}/operatorChanges", json=body), writes=True)

    async def patch_change(self, identifier: str, steps: Sequence[Json]) -> None:
        """A JSON Patch, all of it or nothing; answered without a body."""
        await self._http.request("PATCH", _change(identifier), json=list(steps))

    async def move_change(self, identifier: str, before: str, action: str) -> Json:
        """Takes the change from one processing status on by an action; answers {"from", "to", …}."""
        path = f"{_change(identifier)}/processingStatusTransitions"
        return _object(await self._http.request("POST", path, json={"from": before, "action": action}), writes=True)

    async def change_progress(self, identifier: str) -> list[Json]:
        return _results(await self._http.request("GET", f"{_change(identifier)}/progresstrail"))

    async def change_requests(self, identifier: str) -> list[Json]:
        return _results(await self._http.request("GET", f"{_change(identifier)}/requests"))

    async def add_memo(self, change_id: str, text: str, *, hidden: bool) -> Json:
        """Plain text; `hidden` asks that the requester does not see it, which not every version obeys."""
        body = {"memoText": text, "type": "memo", **({"invisibleForCaller": True} if hidden else {})}
        return _object(await self._http.request("POST", f"{_change(change_id)}/progresstrail", json=body), writes=True)

    # files -----------------------------------------------------------------------------------------------------------
    async def upload(self, ticket_id: str, content: Any, headers: Mapping[str, str], *, to_change: bool) -> Json:
        """`content` is a multipart body with its `headers`."""
        path = f"{_change(ticket_id) if to_change else _incident(ticket_id)}/attachments"
        return _object(await self._http.request("POST", path, content=content, headers=headers), writes=True)

    def download(self, ticket_id: str, attachment_id: str, *, of_change: bool, max_bytes: int) -> AsyncIterator[bytes]:
        base = f"{_change(ticket_id) if of_change else _incident(ticket_id)}/attachments/{segment(attachment_id)}"
        return self._http.stream("GET", base if of_change else f"{base}/download", max_bytes=max_bytes)

    # assets, people, the tool itself -----------------------------------------------------------------------------------
    async def asset(self, asset_id: str) -> Json:
        return _object(await self._http.request("GET", f"{API}/assetmgmt/assets/{segment(asset_id)}"))

    async def assets(self, **filters: str | int) -> list[Json]:
        """Assets in short, by the tool's own filters: nameFragment, linkedTo, pageSize, …"""
        body = await self._http.request("GET", f"{API}/assetmgmt/assets", params=filters)
        rows = body.get("dataSet") if isinstance(body, dict) else body
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    async def asset_links(self, asset_id: str) -> list[Json]:
        return _list(await self._http.answer("GET", f"{API}/assetmgmt/assetLinks", params={"sourceId": asset_id}))

    async def people(self, kind: str, query: str, page_size: int = 2) -> list[Json]:
        """`kind` is persons, operators or operatorgroups."""
        params: dict[str, str | int] = {"query": query, "page_size": page_size}
        return _list(await self._http.answer("GET", f"{API}/{kind}", params=params))

    async def version(self) -> Json:
        return _object(await self._http.request("GET", f"{API}/version"))

    async def current_operator(self) -> Json:
        """The operator we call as; a person's account is NotFound or refused here."""
        return _object(await self._http.request("GET", f"{API}/operators/current"))

    async def _entries(self, path: str) -> AsyncIterator[Json]:
        """Pages by `start` and `page_size`: 206 while there is more, 204 for none."""
        start = 0
        for _ in range(MAX_PAGES):
            answer = await self._http.answer("GET", path, params={"start": start, "page_size": TRAIL_PAGE})
            rows = _list(answer)
            for row in rows:
                yield row
            if answer.status != 206 or not rows:
                return
            start += len(rows)


def _incident(ticket_id: str) -> str:
    unid = to_unid(ticket_id)
    return f"{API}/incidents/id/{unid}" if unid else f"{API}/incidents/number/{segment(ticket_id)}"


def _change(identifier: str) -> str:
    return f"{API}/operatorChanges/{segment(to_unid(identifier) or identifier)}"


def _object(body: Any, *, writes: bool = False) -> Json:
    if not isinstance(body, dict):
        raise TornAnswer("TOPdesk answered without the document that was asked for", in_doubt=writes)
    return body


def _list(answer: Answer) -> list[Json]:
    if answer.status == 204 or not answer.body:
        return []
    body = answer.json()
    if not isinstance(body, list):
        raise TornAnswer(f"{answer.method} {answer.path} answered no list", status=answer.status)
    return [row for row in body if isinstance(row, dict)]


def _results(body: Any) -> list[Json]:
    if body is None:
        return []
    rows = body.get("results") if isinstance(body, dict) else body
    if not isinstance(rows, list):
        raise TornAnswer("TOPdesk answered no list of results")
    return [row for row in rows if isinstance(row, dict)]


_PREFIX = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{0,4}){0,3}(-[0-9a-f]{0,11})?", re.IGNORECASE)


def is_unid_prefix(value: str) -> bool:
    """Whether a text can be the beginning of a card's UUID, long enough to mean one."""
    return to_unid(value) is None and _PREFIX.fullmatch(value) is not None
