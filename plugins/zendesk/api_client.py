"""The Zendesk calls this project makes, one method each: https://developer.zendesk.com/api-reference/ticketing/introduction/"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugins.api import ApiError, CallTimedOut, FatalApiError, RateLimited, RetriableApiError, TornAnswer
from plugins.http.errors import Answer, error_for
from plugins.http.limits import segment

if TYPE_CHECKING:
    from plugins.http.client import ApiClient

PAGE = 100
MAX_FOUND = 1000
"""Results a search gives, over all its pages."""
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
        """The ticket with its SLA clocks inside, where the account's plan has them."""
        path = f"/api/v2/tickets/{segment(ticket_id)}.json"
        return _object(await self._http.request("GET", path, params={"include": "slas"}), "ticket")

    async def clocks(self, ticket_id: str) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        """The ticket with its SLA clocks, and the metric events of its life; no events where the account does not tell them."""
        path = f"/api/v2/tickets/{segment(ticket_id)}.json"
        body = await self._http.request("GET", path, params={"include": "slas,metric_events"})
        return _object(body, "ticket"), _list(body, "metric_events") if "metric_events" in body else []

    async def tickets(self, ticket_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """Up to 100 tickets; missing ones are left out of the answer without a word."""
        params = {"ids": ",".join(ticket_ids), "include": "slas"}
        return _list(await self._http.request("GET", "/api/v2/tickets/show_many.json", params=params), "tickets")

    async def tickets_by_external_id(self, external_id: str) -> list[Mapping[str, Any]]:
        return _list(await self._http.request("GET", "/api/v2/tickets.json", params={"external_id": external_id}), "tickets")

    async def create(self, ticket: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """Creates a ticket once for each `key`: the same request again is answered with the first one's ticket for some hours."""
        headers = {"Idempotency-Key": key}
        body = await self._http.request("POST", "/api/v2/tickets.json", json={"ticket": ticket}, headers=headers)
        return _object(body, "ticket", writes=True)

    async def create_many(self, tickets: Sequence[Mapping[str, Any]]) -> Sequence[JobRow]:
        """Creates up to 100 tickets in a job and follows it to its end; a row's `index` says which ticket it is of."""
        body = await self._http.request("POST", "/api/v2/tickets/create_many.json", json={"tickets": list(tickets)})
        return await self._rows_of(body)

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
        return await self._rows_of(body)

    async def _rows_of(self, body: Any) -> Sequence[JobRow]:
        """A bulk call's job, polled to its end."""
        job, ends, wait = _object(body, "job_status", writes=True), time.monotonic() + JOB_SECONDS, 0.03
        while job.get("status") in ("queued", "working"):
            if time.monotonic() > ends:
                raise CallTimedOut(f"a bulk job is still {job.get('status')} after {JOB_SECONDS:g} s", in_doubt=True)
            await asyncio.sleep(wait)
            wait = min(wait * 2, 2.0)
            path = f"/api/v2/job_statuses/{segment(str(job.get('id') or ''))}.json"
            job = _object(await self._http.request("GET", path), "job_status")
        if job.get("status") != "completed":
            raise RetriableApiError(f"a bulk job ended as {job.get('status')}", in_doubt=True)
        rows = job.get("results")
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def comments(self, ticket_id: str) -> AsyncIterator[Mapping[str, Any]]:
        return self._pages(f"/api/v2/tickets/{segment(ticket_id)}/comments.json", "comments")

    def audits(self, ticket_id: str) -> AsyncIterator[Mapping[str, Any]]:
        return self._pages(f"/api/v2/tickets/{segment(ticket_id)}/audits.json", "audits")

    async def upload(self, filename: str, content_type: str, content: AsyncIterable[bytes]) -> Mapping[str, Any]:
        """Stores a file as it comes, for an hour, to be taken up by a comment."""
        body = await self._http.request(
            "POST", "/api/v2/uploads.json", content=content, params={"filename": filename}, headers={"Content-Type": content_type}
        )
        return _object(body, "upload", writes=True)

    async def attachment(self, attachment_id: str) -> Mapping[str, Any]:
        return _object(await self._http.request("GET", f"/api/v2/attachments/{segment(attachment_id)}.json"), "attachment")

    def content(self, url: str, max_bytes: int) -> AsyncGenerator[bytes, None]:
        """A file from its `content_url`, which leads on to a storage host that gets no credentials."""
        return self._http.stream("GET", url, max_bytes=max_bytes)

    # settings of the account -----------------------------------------------------------------------------------------
    def fields(self) -> AsyncIterator[Mapping[str, Any]]:
        return self._pages("/api/v2/ticket_fields.json", "ticket_fields")

    def brands(self) -> AsyncIterator[Mapping[str, Any]]:
        return self._pages("/api/v2/brands.json", "brands")

    def forms(self) -> AsyncIterator[Mapping[str, Any]]:
        return self._pages("/api/v2/ticket_forms.json", "ticket_forms")

    def groups(self) -> AsyncIterator[Mapping[str, Any]]:
        return self._pages("/api/v2/groups.json", "groups")

    def sla_policies(self) -> AsyncIterator[Mapping[str, Any]]:
        return self._pages("/api/v2/slas/policies.json", "sla_policies")

    async def custom_statuses(self) -> list[Mapping[str, Any]]:
        return _list(await self._http.request("GET", "/api/v2/custom_statuses.json"), "custom_statuses")

    # many tickets ----------------------------------------------------------------------------------------------------
    async def search(self, query: str, limit: int) -> list[Mapping[str, Any]]:
        """Up to `limit` tickets, at most the 1000 a search gives, by offset: search has no cursor."""
        found: list[Mapping[str, Any]] = []
        for number in range(1, MAX_FOUND // PAGE + 1):
            params: dict[str, str | int] = {"query": f"type:ticket {query}", "per_page": PAGE, "page": number}
            body = await self._http.request("GET", "/api/v2/search.json", params=params)
            found += _list(body, "results")
            if len(found) >= limit or not body.get("next_page"):
                break
        return found[:limit]

    async def changed_since(self, start: int, limit: int) -> list[Mapping[str, Any]]:
        """Tickets changed since `start` (epoch seconds, a minute ago at the latest), oldest first: 10 calls a minute are allowed."""
        found: list[Mapping[str, Any]] = []
        params: dict[str, str | int] = {"start_time": start, "include": "slas"}
        while len(found) < limit:
            body = await self._http.request("GET", "/api/v2/incremental/tickets/cursor.json", params=params)
            found += _list(body, "tickets")
            cursor = body.get("after_cursor")
            if body.get("end_of_stream") is True or not isinstance(cursor, str) or cursor == params.get("cursor"):
                break
            params = {"cursor": cursor, "include": "slas"}
        return found[:limit]

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
    if answer.status == 409 and code:  # Zendesk's own: somebody writes to the ticket at this moment
        return error_for(answer, detail, RetriableApiError, nothing_done=True)
    if answer.status == 404 and not answer.is_json:
        return error_for(answer, "no answer of Zendesk's; check base_url")
    if answer.status == 404 and isinstance(fault, dict):
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
