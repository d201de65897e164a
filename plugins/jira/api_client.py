"""The endpoints of Jira Cloud this project calls (REST v3), one method each.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import httpx

from plugins.api import ApiError, PluginConfigError, PluginContext, RateLimited, TornAnswer
from plugins.http.auth import BasicAuth
from plugins.http.client import ApiClient, segment
from plugins.http.errors import MAX_RETRY_AFTER, Answer, error_for
from plugins.mapping import to_micros

Json = dict[str, Any]

API: Final = "/rest/api/3"
BULKFETCH_MAX: Final = 100
PAGE: Final = 100
MAX_PAGES: Final = 200
"""A listing longer than this is a loop: Jira's own cap on comments of an issue is far below 20 000."""


def jira_error_for(answer: Answer) -> ApiError | None:
    """Jira's answers named: which fields it refused, which limit is used up, and a login page under status 200."""
    if 200 <= answer.status < 300:
        return error_for(answer, "no JSON: a login page or a proxy answered", TornAnswer) if answer.body and not answer.is_json else None
    body = answer.json()
    refused = body.get("errors") if isinstance(body, dict) else None
    detail = "fields: " + ", ".join(sorted(map(str, refused)))[:120] if isinstance(refused, dict) and refused else ""
    detail = answer.headers.get("ratelimit-reason", answer.headers.get("x-authentication-denied-reason", ""))[:80] or detail
    error = error_for(answer, detail)
    if isinstance(error, RateLimited) and error.retry_after is None:
        reset = to_micros(answer.headers.get("x-ratelimit-reset"))
        if reset is not None:
            error.retry_after = min(max(reset / 1e6 - time.time(), 0.0), MAX_RETRY_AFTER)
    return error


class JiraClient:
    """Jira's REST v3 with one account's e-mail address and API token."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @classmethod
    def of(cls, context: PluginContext) -> JiraClient:
        """The client of a tenant's settings; raises PluginConfigError when the address or the account is missing."""
        settings = context.settings
        auth = settings.get("auth") or {}
        base_url, email, token = settings.get("base_url"), auth.get("email"), auth.get("api_token")
        if not base_url or not email or not token:
            raise PluginConfigError("jira needs base_url, auth.email and auth.api_token to be called")

        def newest() -> str:
            live = context.secrets(str(token))
            if not live:
                raise PluginConfigError("auth.api_token names a secret that is not set; set it with: ai-agents secret set")
            return live[0].decode()

        return cls(context.http().bound(base_url=str(base_url), auth=BasicAuth(str(email), newest), error_for=jira_error_for))

    async def myself(self) -> Json:
        return await self._json("GET", f"{API}/myself")

    async def issue(self, issue_id: str, *, fields: str = "*all,-comment", expand: str = "", properties: str = "") -> Json:
        params = {"fields": fields, **({"expand": expand} if expand else {}), **({"properties": properties} if properties else {})}
        return await self._json("GET", f"{API}/issue/{segment(issue_id)}", params=params)

    async def bulk_fetch(self, ids: Sequence[str]) -> Sequence[Json]:
        """At most 100 issues; one that is missing, or hidden from us, is simply not among them."""
        body = {"issueIdsOrKeys": list(ids), "fields": ["*all", "-comment"], "expand": [], "properties": [], "fieldsByKeys": False}
        answer = await self._json("POST", f"{API}/issue/bulkfetch", json=body, idempotent=True)
        return _objects(answer, "issues")

    async def create(self, fields: Mapping[str, Any], key: str, value: Json) -> Json:
        """Creates an issue with a property in the same act."""
        return await self._json("POST", f"{API}/issue", json={"fields": fields, "properties": [{"key": key, "value": value}]})

    async def edit(self, issue_id: str, fields: Mapping[str, Any], key: str, value: Json) -> Json | None:
        """Sets fields and a property, all or none; answers the issue where the site does (returnIssue)."""
        body = {"fields": fields, "properties": [{"key": key, "value": value}]}
        answer = await self._client.request("PUT", f"{API}/issue/{segment(issue_id)}", json=body, params={"returnIssue": "true"})
        return answer if isinstance(answer, dict) else None

    async def transition(self, issue_id: str, transition_id: str, fields: Mapping[str, Any], key: str, value: Json) -> None:
        """Moves the issue along its workflow, with a property set in the same act."""
        body: Json = {"transition": {"id": transition_id}, "properties": [{"key": key, "value": value}]}
        if fields:
            body["fields"] = fields
        await self._client.request("POST", f"{API}/issue/{segment(issue_id)}/transitions", json=body)

    async def issue_property(self, issue_id: str, key: str) -> Any:
        """The property's value; raises NotFound when the issue has none of this key."""
        answer = await self._json("GET", f"{API}/issue/{segment(issue_id)}/properties/{segment(key)}")
        return answer.get("value")

    async def search(self, jql: str, fields: Sequence[str]) -> AsyncIterator[Json]:
        """Every issue a bounded JQL query finds, page by page. A page may be empty and not the last; there is no total."""
        params: dict[str, str | int] = {"jql": jql, "fields": ",".join(fields), "maxResults": PAGE}
        for _ in range(MAX_PAGES):
            answer = await self._json("GET", f"{API}/search/jql", params=params)
            for issue in _objects(answer, "issues"):
                yield issue
            token = answer.get("nextPageToken")
            if answer.get("isLast") is True or not isinstance(token, str):
                return
            params["nextPageToken"] = token
        raise TornAnswer(f"GET {API}/search/jql goes on after {MAX_PAGES} pages")

    async def comment(self, issue_id: str, body: Json, *, internal: bool) -> Json:
        """Adds a comment; internal ones are hidden from a service desk's customers."""
        properties = [{"key": "sd.public.comment", "value": {"internal": True}}] if internal else []
        return await self._json("POST", f"{API}/issue/{segment(issue_id)}/comment", json={"body": body, "properties": properties})

    async def comments(self, issue_id: str) -> AsyncIterator[Json]:
        """Every comment, newest first."""
        start = 0
        for _ in range(MAX_PAGES):
            params: dict[str, str | int] = {"startAt": start, "maxResults": PAGE, "orderBy": "-created"}
            answer = await self._json("GET", f"{API}/issue/{segment(issue_id)}/comment", params=params)
            page = _objects(answer, "comments")
            for comment in page:
                yield comment
            start += len(page)
            total = answer.get("total")
            if not page or not isinstance(total, int) or start >= total:
                return
        raise TornAnswer(f"GET {API}/issue/{issue_id}/comment goes on after {MAX_PAGES} pages")

    async def attach(self, issue_id: str, filename: str, content_type: str, content: bytes) -> Json:
        form = httpx.Request("POST", "http://form", files={"file": (filename, content, content_type)})
        # without the header Jira takes the upload for a forged browser request and answers 403
        headers = {"Content-Type": form.headers["Content-Type"], "X-Atlassian-Token": "no-check"}
        path = f"{API}/issue/{segment(issue_id)}/attachments"
        answer = await self._client.request("POST", path, content=form.read(), headers=headers)
        if not isinstance(answer, list) or not answer or not isinstance(answer[0], dict):
            raise TornAnswer(f"POST {path} did not answer the attachment", in_doubt=True)
        return answer[0]

    async def _json(self, method: str, path: str, **options: Any) -> Json:
        answer = await self._client.request(method, path, **options)
        if not isinstance(answer, dict):
            raise TornAnswer(f"{method} {path} did not answer a JSON object", in_doubt=method != "GET" and not options.get("idempotent"))
        return answer


def _objects(answer: Json, name: str) -> Sequence[Json]:
    found = answer.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
