"""The calls of Example Desk's API this plugin makes, one method each, to be held against the tool's manual."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from plugins.api import ApiError, PluginConfigError, PluginContext, TornAnswer
from plugins.http.auth import HeaderAuth
from plugins.http.client import ApiClient, segment
from plugins.http.errors import Answer, error_for
from plugins.http.multipart import Multipart

Json = dict[str, Any]

PAGE: Final = 50
MAX_PAGES: Final = 400
MAX_ATTACHMENT: Final = 20 << 20
"""Bytes; the tool's own limit."""


def example_desk_error_for(answer: Answer) -> ApiError | None:
    """What a failure means, with the field the tool names in it, and no other of its words: they may quote the ticket."""
    body = answer.json() if answer.is_json else None
    error = body.get("error") if isinstance(body, dict) else None
    field = error.get("field") if isinstance(error, dict) else None
    return error_for(answer, f"field {field}" if isinstance(field, str) else "")


class ExampleDeskClient:
    """One tenant's Example Desk."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @classmethod
    def of(cls, context: PluginContext) -> ExampleDeskClient:
        """The client of a tenant's settings; raises PluginConfigError when the address or the token is missing."""
        base_url, token = context.settings.get("base_url"), (context.settings.get("auth") or {}).get("token")
        if not base_url or not token:
            raise PluginConfigError("example_desk needs base_url and auth.token to be called")

        def newest() -> str:
            live = context.secrets(str(token))  # asked each time: a rotated token counts at once
            if not live:
                raise PluginConfigError("auth.token names a secret that is not set; set it with: ai-agents secret set TENANT/NAME")
            return live[0].decode()

        auth = HeaderAuth("Authorization", newest, prefix="Bearer ")
        return cls(context.http().bound(base_url=str(base_url), auth=auth, error_for=example_desk_error_for))

    async def me(self) -> Json:
        return _object(await self._client.request("GET", "/api/me"))

    async def ticket(self, ticket_id: str) -> Json:
        return _object(await self._client.request("GET", f"/api/tickets/{segment(ticket_id)}"))

    def tickets(self, **query: str) -> AsyncIterator[Json]:
        """The tickets a query finds, over all pages."""
        return self._pages("/api/tickets", query)

    async def create(self, fields: Mapping[str, Any]) -> Json:
        return _object(await self._client.request("POST", "/api/tickets", json=fields))

    async def update(self, ticket_id: str, fields: Mapping[str, Any]) -> Json:
        return _object(await self._client.request("PUT", f"/api/tickets/{segment(ticket_id)}", json=fields))

    async def bulk_update(self, items: Sequence[Mapping[str, Any]]) -> list[Json]:
        """One outcome an item, in their order: the ticket, or {"error": {"status": …}}."""
        answer = _object(await self._client.request("POST", "/api/bulk", json={"items": items}))
        found = answer.get("items")
        if not isinstance(found, list) or len(found) != len(items):
            raise TornAnswer("example_desk answered a bulk update without an outcome for each item", in_doubt=True)
        return [item if isinstance(item, dict) else {} for item in found]

    def notes(self, ticket_id: str) -> AsyncIterator[Json]:
        return self._pages(f"/api/tickets/{segment(ticket_id)}/notes", {})

    async def add_note(self, ticket_id: str, html: str, *, public: bool) -> Json:
        note = {"text": html, "public": public}
        return _object(await self._client.request("POST", f"/api/tickets/{segment(ticket_id)}/notes", json=note))

    async def attach(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> Json:
        form = Multipart({}, "file", filename, content_type, content, MAX_ATTACHMENT)
        path = f"/api/tickets/{segment(ticket_id)}/attachments"
        return _object(await self._client.request("POST", path, content=form.stream(), headers=form.headers))

    def attachments(self, ticket_id: str) -> AsyncIterator[Json]:
        return self._pages(f"/api/tickets/{segment(ticket_id)}/attachments", {})

    def download(self, ticket_id: str, attachment_id: str) -> AsyncIterator[bytes]:
        path = f"/api/tickets/{segment(ticket_id)}/attachments/{segment(attachment_id)}"
        return self._client.stream("GET", path, max_bytes=MAX_ATTACHMENT)

    async def _pages(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Json]:
        for number in range(1, MAX_PAGES + 1):
            page = _object(await self._client.request("GET", path, params={**query, "page": number, "per_page": PAGE}))
            rows = page.get("items")
            if not isinstance(rows, list):
                raise TornAnswer(f"example_desk answered {path} without items")
            for row in rows:
                yield _object(row)
            if page.get("more") is not True:
                return


def _object(answer: Any) -> Json:
    if not isinstance(answer, dict):
        raise TornAnswer("example_desk answered no object where one is due", in_doubt=True)
    return answer
