"""The Freshservice calls this project makes, one method each: https://api.freshservice.com

Every answer is wrapped in the name of what it holds. Lists name their next page in a Link header; searches do not, and end after
ten pages of thirty.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from plugins.api import ApiError, FatalApiError, TornAnswer
from plugins.freshservice.records import TICKET, Record
from plugins.http.errors import Answer, error_for
from plugins.http.limits import segment

if TYPE_CHECKING:
    from plugins.http.client import ApiClient
    from plugins.http.multipart import Multipart

API: Final = "/api/v2"
PAGE: Final = 100
MAX_PAGES: Final = 500
SEARCH_PAGES: Final = 10
"""A search answers thirty records a page, and no more than ten pages."""
Json = Mapping[str, Any]


class FreshserviceClient:
    """Typed paths over an ApiClient that is bound to the account's address and key. `workspace` (a number) narrows lists to one."""

    def __init__(self, http: ApiClient, workspace: int | None = None) -> None:
        self._http = http
        self._where: dict[str, str | int] = {} if workspace is None else {"workspace_id": workspace}

    async def me(self) -> Json:
        """The agent whose key this is."""
        return _object(await self._http.request("GET", f"{API}/agents/me"), "agent")

    async def tries_tickets(self) -> None:
        """The smallest read there is: raises when our key may not even that."""
        _list(await self._http.request("GET", f"{API}/tickets", params={**self._where, "per_page": 1}), "tickets")

    async def workspace(self, number: int) -> Json:
        return _object(await self._http.request("GET", f"{API}/workspaces/{number}"), "workspace")

    async def record(self, record: Record, number: str, include: str = "") -> Json:
        """One record; each name in `include` costs one more of the account's credits."""
        return _object(
            await self._http.request("GET", _path(record, number), params={"include": include} if include else None), record.name
        )

    async def create(self, record: Record, fields: Json) -> Json:
        return _object(await self._http.request("POST", f"{API}/{record.plural}", json=fields), record.name, writes=True)

    async def update(self, record: Record, number: str, fields: Json, *, bypass_mandatory: bool = False) -> Json:
        params = {"bypass_mandatory": "true"} if bypass_mandatory else None
        return _object(await self._http.request("PUT", _path(record, number), json=fields, params=params), record.name, writes=True)

    async def add_note(self, record: Record, number: str, note: Json) -> Json:
        return _note(await self._http.request("POST", f"{_path(record, number)}/notes", json=note))

    async def add_file(self, record: Record, number: str, form: Multipart) -> Json:
        """A file, streamed: with a ticket's note, which is answered, or on another record itself, whose notes take none."""
        if record is TICKET:
            return _note(await self._http.request("POST", f"{_path(record, number)}/notes", content=form.stream(), headers=form.headers))
        body = await self._http.request("PUT", _path(record, number), content=form.stream(), headers=form.headers)
        return _object(body, record.name, writes=True)

    def approvals(self, number: str) -> AsyncIterator[Json]:
        """Who was asked to approve a service request."""
        return self._pages(f"{_path(TICKET, number)}/approvals", "approvals")

    def notes(self, record: Record, number: str) -> AsyncIterator[Json]:
        """What was said on a record, oldest first: a ticket's conversations, another record's notes."""
        name = "conversations" if record is TICKET else "notes"
        return self._pages(f"{_path(record, number)}/{name}", name)

    def newest(self, record: Record, max_pages: int) -> AsyncIterator[Json]:
        """Records of one kind by pages of a hundred: those of the last thirty days, newest first."""
        return self._pages(f"{API}/{record.plural}", record.plural, self._where, max_pages)

    async def search_tickets(self, query: str) -> AsyncGenerator[Json, None]:
        """Tickets a query matches ("tag:'x'", at most 512 characters); pages are counted, as no header names the next."""
        seen = 0
        for page in range(1, SEARCH_PAGES + 1):
            params = {**self._where, "query": f'"{query}"', "page": page}
            body = await self._http.request("GET", f"{API}/tickets/filter", params=params)
            tickets = _list(body, "tickets")
            for ticket in tickets:
                yield ticket
            seen += len(tickets)
            total = body.get("total")
            if not tickets or (isinstance(total, int) and seen >= total):
                return

    async def asset(self, display_id: str) -> Json:
        """An asset by its small id, with the fields of its type: two credits more."""
        path = f"{API}/assets/{segment(display_id)}"
        return _object(await self._http.request("GET", path, params={"include": "type_fields"}), "asset")

    async def people(self, kind: str, params: Mapping[str, str | int]) -> list[Json]:
        """The first page of `agents` or `requesters` that match."""
        return _list(await self._http.request("GET", f"{API}/{kind}", params={**params, "per_page": 50}), kind)

    async def form_fields(self, record: Record) -> list[Json]:
        """The fields of a record's form: id, name, label."""
        name = f"{record.name}_fields"
        return _list(await self._http.request("GET", f"{API}/{record.name}_form_fields", params=self._where), name)

    def download(self, url: str, max_bytes: int) -> AsyncGenerator[bytes, None]:
        """A file from its `attachment_url`, an address that is its own key and good for some minutes."""
        return self._http.stream("GET", url, max_bytes=max_bytes)

    async def _pages(
        self, path: str, name: str, params: Mapping[str, str | int] | None = None, max_pages: int | None = None
    ) -> AsyncIterator[Json]:
        for page in range(1, (max_pages or MAX_PAGES) + 1):
            answer = await self._http.answer("GET", path, params={**(params or {}), "page": page, "per_page": PAGE})
            for item in _list(answer.json(), name):
                yield item
            if 'rel="next"' not in answer.headers.get("link", ""):
                return
        if max_pages is None:
            raise FatalApiError(f"GET {path} has more than {MAX_PAGES} pages")


def freshservice_error(answer: Answer) -> ApiError | None:
    """Freshservice's errors: the fields and codes of a refusal, never its texts; a missing record has an empty body."""
    if 200 <= answer.status < 300:
        return None
    body = answer.json()
    if not isinstance(body, dict):
        return error_for(answer)
    faults = body.get("errors")
    if isinstance(faults, list) and faults:
        named = [f"{fault.get('field')}: {fault.get('code')}" for fault in faults[:8] if isinstance(fault, dict)]
        return error_for(answer, ", ".join(named))
    return error_for(answer, str(body.get("code") or ""))


def _path(record: Record, number: str) -> str:
    return f"{API}/{record.plural}/{segment(number)}"


def _note(body: Any) -> Json:
    """A note just written: a ticket's is called conversation, another record's note."""
    return _object(body, "conversation" if isinstance(body, dict) and "conversation" in body else "note", writes=True)


def _object(body: Any, name: str, *, writes: bool = False) -> Json:
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise TornAnswer(
            f"Freshservice answered a success without {name}; check that base_url is the account's own address", in_doubt=writes
        )
    return found


def _list(body: Any, name: str) -> list[Json]:
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, list):
        raise TornAnswer(f"Freshservice answered a success without {name}")
    return [item for item in found if isinstance(item, dict)]
