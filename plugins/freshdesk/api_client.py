"""The Freshdesk calls this project makes, one method each: https://developers.freshdesk.com/api/

Answers are not wrapped. Lists come in pages of at most 100 with a `Link` header and no total; searches in pages of 30, at most ten.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from plugins.api import ApiError, CallTimedOut, FatalApiError, NotFound, RetriableApiError, TornAnswer
from plugins.http.errors import Answer, error_for
from plugins.http.limits import segment
from plugins.mapping import to_id

if TYPE_CHECKING:
    from plugins.http.client import ApiClient

API: Final = "/api/v2"
MAX_IDS: Final = 100
"""Tickets in one bulk job."""
PER_PAGE: Final = 100
MAX_PAGES: Final = 300
"""Freshdesk refuses deeper pages of one list."""
SEARCH_PAGES: Final = 10
SEARCH_PER_PAGE: Final = 30
MAX_QUERY: Final = 512
JOB_SECONDS: Final = 120.0
JOB_ENDED: Final = frozenset({"completed", "complete", "success", "succeeded", "finished", "failed", "failure"})

Json = dict[str, Any]


class FreshdeskClient:
    """Typed paths over an ApiClient that is bound to the account's address and key."""

    def __init__(self, http: ApiClient) -> None:
        self.http = http

    # who we are ----------------------------------------------------------------------------------------------------------
    async def me(self) -> Json:
        return _object(await self.http.request("GET", f"{API}/agents/me"), "the agent of our key")

    # tickets -------------------------------------------------------------------------------------------------------------
    async def ticket(self, ticket_id: str, include: str = "") -> Json:
        """A ticket; one that was archived since is read from the archive. Each word of `include` costs one more credit."""
        name, params = segment(ticket_id), {"include": include} if include else None
        try:
            return _object(await self.http.request("GET", f"{API}/tickets/{name}", params=params), "a ticket")
        except NotFound as missing:
            try:
                return _object(await self.http.request("GET", f"{API}/tickets/archived/{name}"), "a ticket")
            except ApiError:  # accounts without an archive answer in several ways: the first answer is the one that counts
                raise missing from None

    async def create(self, ticket: Mapping[str, Any]) -> Json:
        return _object(await self.http.request("POST", f"{API}/tickets", json=ticket), "the new ticket", writes=True)

    async def update(self, ticket_id: str, fields: Mapping[str, Any]) -> Json:
        return _object(await self.http.request("PUT", f"{API}/tickets/{segment(ticket_id)}", json=fields), "the ticket", writes=True)

    async def update_many(self, ticket_ids: Sequence[str], properties: Mapping[str, Any]) -> Mapping[str, Json]:
        """Sets the same properties on up to 100 tickets in a job, and follows it to its end; answers its rows by ticket.

        The body of a job is not in the public manual: it is read leniently, and a ticket it does not mention has no row.
        """
        body = {"bulk_action": {"ids": [int(i) if i.isdecimal() else i for i in ticket_ids], "properties": dict(properties)}}
        accepted = _object(await self.http.request("POST", f"{API}/tickets/bulk_update", json=body), "a job", writes=True)
        job_id = to_id(accepted.get("job_id")) or to_id(accepted.get("id"))
        if job_id is None:
            raise TornAnswer("Freshdesk took a bulk update and did not name its job", in_doubt=True)
        job = await self._job_end(job_id)
        rows = job.get("data") or job.get("results")
        found = rows if isinstance(rows, list) else []
        return {ticket_id: row for row in found if isinstance(row, dict) and (ticket_id := to_id(row.get("id"))) is not None}

    async def _job_end(self, job_id: str) -> Json:
        ends, wait = time.monotonic() + JOB_SECONDS, 0.1
        while True:
            try:
                job = _object(await self.http.request("GET", f"{API}/jobs/{segment(job_id)}"), "a job")
            except ApiError as exc:
                raise RetriableApiError(f"a bulk update was taken, and its end cannot be seen: {exc}", in_doubt=True) from None
            if str(job.get("status") or "").strip().lower() in JOB_ENDED:
                return job
            if time.monotonic() > ends:
                raise CallTimedOut(f"a bulk update has not ended after {JOB_SECONDS:g} s", in_doubt=True)
            await asyncio.sleep(wait)
            wait = min(wait * 1.6, 2.0)

    async def note(self, ticket_id: str, html: str, *, public: bool) -> Json:
        body = {"body": html, "private": not public}
        return _object(await self.http.request("POST", f"{API}/tickets/{segment(ticket_id)}/notes", json=body), "the note", writes=True)

    async def reply(self, ticket_id: str, html: str, from_email: str | None) -> Json:
        """Mails the requester, from the address given or the account's own."""
        body = {"body": html, "from_email": from_email} if from_email else {"body": html}
        return _object(await self.http.request("POST", f"{API}/tickets/{segment(ticket_id)}/reply", json=body), "the reply", writes=True)

    def conversations(self, ticket_id: str) -> AsyncGenerator[Json, None]:
        return self.pages(f"{API}/tickets/{segment(ticket_id)}/conversations")

    async def search(self, kind: str, query: str, limit: int = SEARCH_PAGES * SEARCH_PER_PAGE) -> list[Json]:
        """What the index of `tickets`, `contacts` or `companies` knows of a query such as `priority:4 AND tag:'vip'`; minutes behind."""
        if len(query) > MAX_QUERY or '"' in query:
            raise FatalApiError(f"a query holds at most {MAX_QUERY} characters and no double quotes")
        found: list[Json] = []
        for page in range(1, SEARCH_PAGES + 1):
            params: dict[str, str | int] = {"query": f'"{query}"', "page": page}
            body = _object(await self.http.request("GET", f"{API}/search/{kind}", params=params), "results")
            rows = _list(body.get("results"), "results")
            found += rows
            if len(rows) < SEARCH_PER_PAGE or len(found) >= limit:
                break
        return found[:limit]

    # what an account is made of ------------------------------------------------------------------------------------------
    async def ticket_fields(self) -> list[Json]:
        return _list(await self.http.request("GET", f"{API}/ticket_fields"), "the ticket fields")

    async def products(self) -> list[Json]:
        return [product async for product in self.pages(f"{API}/products")]

    async def email_configs(self) -> list[Json]:
        return [config async for config in self.pages(f"{API}/email_configs")]

    # any list ------------------------------------------------------------------------------------------------------------
    async def record(self, method: str, path: str, fields: Mapping[str, Any] | None = None) -> Json:
        """A call that answers one object."""
        return _object(await self.http.request(method, path, json=fields), "an object", writes=method != "GET")

    async def rows(self, path: str, params: Mapping[str, str | int] | None = None, *, limit: int) -> list[Json]:
        """The first items of a list, without the pages behind them."""
        found: list[Json] = []
        async with contextlib.aclosing(self.pages(path, params)) as items:
            async for item in items:
                found.append(item)
                if len(found) >= limit:
                    break
        return found

    async def pages(self, path: str, params: Mapping[str, str | int] | None = None) -> AsyncGenerator[Json, None]:
        """Every item over all pages, as the Link header leads; without one a full page is followed by another."""
        asked: dict[str, str | int] = {**(params or {}), "per_page": PER_PAGE}
        for page in range(1, MAX_PAGES + 1):
            answer = await self.http.answer("GET", path, params={**asked, "page": page})
            rows = _list(answer.json(), "a list")
            for row in rows:
                yield row
            link = answer.headers.get("link")
            if not rows or (link is None and len(rows) < PER_PAGE) or (link is not None and 'rel="next"' not in link):
                return
        raise FatalApiError(f"GET {path} has more than {MAX_PAGES} pages; ask for less at once")


def freshdesk_error(answer: Answer) -> ApiError | None:
    """Freshdesk's errors: `errors` name fields, `code` a rule; 404 has no body at all, and a page of HTML is not Freshdesk's."""
    if 200 <= answer.status < 300:
        return None
    body = answer.json()
    if not isinstance(body, dict):
        if answer.status == 404 and answer.body.lstrip().startswith(b"<"):
            return error_for(answer, "a page of HTML: is base_url the account's own address?")
        return error_for(answer)
    faults = body.get("errors")
    if isinstance(faults, list) and faults:
        named = (f"{fault.get('field')}: {fault.get('code')}" for fault in faults[:8] if isinstance(fault, dict))
        return error_for(answer, ", ".join(named))
    code = str(body.get("code") or "")
    if code == "require_feature":
        return error_for(answer, "require_feature: the account's plan does not have this", FatalApiError)
    return error_for(answer, code)


def id_in(answer: Mapping[str, Any], what: str) -> str:
    """The id of something just written; raises TornAnswer, in doubt, without one."""
    found = to_id(answer.get("id"))
    if found is None:
        raise TornAnswer(f"Freshdesk did not answer the id of {what}", in_doubt=True)
    return found


def _object(body: Any, what: str, *, writes: bool = False) -> Json:
    if not isinstance(body, dict):
        raise TornAnswer(f"Freshdesk answered a success without {what}; check that base_url is the account's own address", in_doubt=writes)
    return body


def _list(body: Any, what: str) -> list[Json]:
    if not isinstance(body, list):
        raise TornAnswer(f"Freshdesk answered a success without {what}; check that base_url is the account's own address")
    return [item for item in body if isinstance(item, dict)]
