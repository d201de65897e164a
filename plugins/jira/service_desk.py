"""Jira Service Management's own API: requests by their type, what their customers may read, clocks, approvals and queues.

The same on Cloud and Data Center: https://developer.atlassian.com/cloud/jira/service-desk/rest/. Text is wiki text here. Older Data
Centers hide some of it behind an opt-in header, which is therefore always sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from plugins.api import TornAnswer
from plugins.http.client import ApiClient, segment
from plugins.jira.api_client import MAX_PAGES, Json, objects_in

DESK: Final = "/rest/servicedeskapi"
PAGE: Final = 50


class ServiceDeskClient:
    """/rest/servicedeskapi, over an ApiClient that is bound to the site and the account."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client.bound(headers={"X-ExperimentalApi": "opt-in"})

    def desks(self) -> AsyncIterator[Json]:
        return self._pages(f"{DESK}/servicedesk")

    def request_types(self, desk: str) -> AsyncIterator[Json]:
        return self._pages(f"{DESK}/servicedesk/{segment(desk)}/requesttype")

    def queues(self, desk: str) -> AsyncIterator[Json]:
        return self._pages(f"{DESK}/servicedesk/{segment(desk)}/queue", {"includeCount": "true"})

    def queue_issues(self, desk: str, queue: str) -> AsyncIterator[Json]:
        return self._pages(f"{DESK}/servicedesk/{segment(desk)}/queue/{segment(queue)}/issue")

    async def create(self, desk: str, request_type: str, values: Mapping[str, Any], raised_for: str | None) -> Json:
        """Raises a request: the request type sets its issue type, its place in the portal and its SLA."""
        body: Json = {"serviceDeskId": desk, "requestTypeId": request_type, "requestFieldValues": values}
        if raised_for is not None:
            body["raiseOnBehalfOf"] = raised_for
        return await self._json("POST", f"{DESK}/request", body)

    async def comment(self, issue_id: str, text: str, *, public: bool) -> Json:
        """Adds a comment; NotFound or CredentialsRefused, with nothing done, where the issue is no request."""
        return await self._json("POST", f"{_request(issue_id)}/comment", {"body": text, "public": public})

    def clocks(self, issue_id: str) -> AsyncIterator[Json]:
        """The request's SLAs; NotFound where the issue is no request."""
        return self._pages(f"{_request(issue_id)}/sla")

    def approvals(self, issue_id: str) -> AsyncIterator[Json]:
        return self._pages(f"{_request(issue_id)}/approval")

    async def answer(self, issue_id: str, approval_id: str, decision: str) -> Json:
        """Answers an approval, `approve` or `decline`, in our account's name."""
        return await self._json("POST", f"{_request(issue_id)}/approval/{segment(approval_id)}", {"decision": decision})

    async def _pages(self, path: str, params: Mapping[str, str | int] | None = None) -> AsyncIterator[Json]:
        start = 0
        for _ in range(MAX_PAGES):
            answer = await self._client.request("GET", path, params={**(params or {}), "start": start, "limit": PAGE})
            if not isinstance(answer, dict):
                raise TornAnswer(f"GET {path} did not answer a JSON object")
            page = objects_in(answer, "values")
            for item in page:
                yield item
            start += len(page)
            if answer.get("isLastPage") is not False or not page:
                return
        raise TornAnswer(f"GET {path} goes on after {MAX_PAGES} pages")

    async def _json(self, method: str, path: str, body: Json) -> Json:
        answer = await self._client.request(method, path, json=body)
        if not isinstance(answer, dict):
            raise TornAnswer(f"{method} {path} did not answer a JSON object", in_doubt=True)
        return answer


def _request(issue_id: str) -> str:
    return f"{DESK}/request/{segment(issue_id)}"
