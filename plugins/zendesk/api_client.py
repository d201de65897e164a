"""The Zendesk calls this project makes, one method each: https://developer.zendesk.com/api-reference/ticketing/introduction/"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugins.api import ApiError, CallTimedOut, FatalApiError, RateLimited, RetriableApiError, TornAnswer
from plugins.http.errors import Answer, error_for
from plugins.http.limits import segment

if TYPE_CHECKING:
    from plugins.http.client import ApiClient

MAX_IDS = 100
"""Tickets in one bulk request."""
MAX_PAGES = 500
JOB_SECONDS = 120.0
JobRow = Mapping[str, Any]


class ZendeskClient:
    """Typed paths over an ApiClient that is bound to the account's address and credentials."""

    def __init__(self, http: ApiClient) -> None:
        self._http = http

    async def me(self) -> Mapping[str, Any]:
        """The account we call as; its id is null when the token is wrong, under status 200."""
        return _object(await self._http.request("GET", "/api/v2/users/me.json"), "user")

    async def ticket(self, ticket_id: str) -> Mapping[str, Any]:
        return _object(await self._http.request("GET", f"/api/v2/tickets/{segment(ticket_id)}.json"), "ticket")

    async def tickets(self, ticket_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """Up to 100 tickets; missing ones are left out of the answer without a word."""
        params = {"ids": ",".join(ticket_ids)}
        return _list(await self._http.request("GET", "/api/v2/tickets/show_many.json", params=params), "tickets")

    async def tickets_by_external_id(self, external_id: str) -> list[Mapping[str, Any]]:
        return _list(await self._http.request("GET", "/api/v2/tickets.json", params={"external_id": external_id}), "tickets")

    async def create(self, ticket: Mapping[str, Any]) -> Mapping[str, Any]:
        return _object(await self._http.request("POST", "/api/v2/tickets.json", json={"ticket": ticket}), "ticket", writes=True)

    async def update(self, ticket_id: str, ticket: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answers the whole body: the ticket and the audit of this update. There is no call that only adds a comment."""
        path = f"/api/v2/tickets/{segment(ticket_id)}.json"
        body = await self._http.request("PUT", path, json={"ticket": ticket})
        _object(body, "ticket", writes=True)
        answer: Mapping[str, Any] = body
        return answer

    async def update_many(self, tickets: Sequence[Mapping[str, Any]]) -> Sequence[JobRow]:
        """Changes up to 100 tickets in a job and follows it to its end; answers its rows, in the tool's own order.

        A job that completes may hold rows that failed: each has to be looked at.
        """
        body = await self._http.request("PUT", "/api/v2/tickets/update_many.json", json={"tickets": list(tickets)})
        job, ends, wait = _object(body, "job_status", writes=True), time.monotonic() + JOB_SECONDS, 0.1
        while job.get("status") in ("queued", "working"):
            if time.monotonic() > ends:
                raise CallTimedOut(f"a bulk update is still {job.get('status')} after {JOB_SECONDS:g} s", in_doubt=True)
            await asyncio.sleep(wait)
            wait = min(wait * 1.6, 2.0)
            path = f"/api/v2/job_statuses/{segment(str(job.get('id') or ''))}.json"
            job = _object(await self._http.request("GET", path), "job_status")
        if job.get("status") != "completed":
            raise RetriableApiError(f"a bulk update ended as {job.get('status')}", in_doubt=True)
        rows = job.get("results")
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def comments(self, ticket_id: str) -> AsyncIterator[Mapping[str, Any]]:
        return self._pages(f"/api/v2/tickets/{segment(ticket_id)}/comments.json", "comments")

    def audits(self, ticket_id: str) -> AsyncIterator[Mapping[str, Any]]:
        return self._pages(f"/api/v2/tickets/{segment(ticket_id)}/audits.json", "audits")

    async def upload(self, filename: str, content_type: str, content: bytes) -> Mapping[str, Any]:
        """Stores a file for an hour, to be taken up by a comment."""
        body = await self._http.request(
            "POST", "/api/v2/uploads.json", content=content, params={"filename": filename}, headers={"Content-Type": content_type}
        )
        return _object(body, "upload", writes=True)

    async def _pages(self, path: str, name: str) -> AsyncIterator[Mapping[str, Any]]:
        """Every item over all pages, by cursor: offsets end at 10 000 and shift under writes."""
        params: dict[str, str | int] = {"page[size]": 100}
        for _ in range(MAX_PAGES):
            body = await self._http.request("GET", path, params=params)
            for item in _list(body, name):
                yield item
            meta = body.get("meta")
            after = meta.get("after_cursor") if isinstance(meta, dict) and meta.get("has_more") is True else None
            if not isinstance(after, str) or after == params.get("page[after]"):
                return
            params["page[after]"] = after
        raise FatalApiError(f"GET {path} has more than {MAX_PAGES} pages")


def zendesk_error(answer: Answer) -> ApiError | None:
    """Zendesk's errors: `error` is a text or an object, gateways answer HTML, and 409 is to be tried again."""
    if 200 <= answer.status < 300:
        return None
    body = answer.json()
    fault = body.get("error") if isinstance(body, dict) else None
    code = str(fault.get("title") or "") if isinstance(fault, dict) else str(fault or "")
    details = body.get("details") if isinstance(body, dict) else None
    fields = ", ".join(sorted(str(name) for name in details)[:8]) if isinstance(details, dict) else ""
    detail = f"{code}: {fields}" if fields else code
    if code == "TooManyJobs":
        return error_for(answer, detail, RateLimited)
    if answer.status == 409:
        return error_for(answer, detail, RetriableApiError, nothing_done=True)
    if answer.status == 404 and (not answer.is_json or isinstance(fault, dict)):
        return error_for(answer, "no help desk at this address; check base_url", FatalApiError)
    return error_for(answer, detail)


def _object(body: Any, name: str, *, writes: bool = False) -> Mapping[str, Any]:
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise TornAnswer(f"Zendesk answered a success without {name}", in_doubt=writes)
    return found


def _list(body: Any, name: str) -> list[Mapping[str, Any]]:
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, list):
        raise TornAnswer(f"Zendesk answered a success without {name}")
    return [item for item in found if isinstance(item, dict)]
