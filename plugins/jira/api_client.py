"""The calls to Jira this project makes, one method each: REST v3 of Cloud here, what Data Center does otherwise in data_center.py.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from plugins.api import ApiError, RateLimited, TornAnswer
from plugins.http.client import ApiClient, segment
from plugins.http.errors import MAX_RETRY_AFTER, Answer, error_for
from plugins.http.multipart import Multipart
from plugins.mapping import to_micros
from plugins.richtext import Document, to_adf

Json = dict[str, Any]

BULKFETCH_MAX: Final = 100
"""Issues in one bulk read."""
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
    """Jira Cloud's REST v3, over an ApiClient that is bound to the site and the account."""

    api: ClassVar[str] = "/rest/api/3"

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def text(self, document: Document) -> Any:
        """Rich text as this API takes it."""
        return to_adf(document)

    async def myself(self) -> Json:
        return await self._json("GET", f"{self.api}/myself")

    async def fields(self) -> Sequence[Json]:
        """Every field of the site, system and custom: id, name, and the schema of its values."""
        answer = await self._client.request("GET", f"{self.api}/field")
        return [field for field in answer if isinstance(field, dict)] if isinstance(answer, list) else []

    async def issue(self, issue_id: str, *, fields: str = "*all,-comment", expand: str = "", properties: str = "") -> Json:
        params = {"fields": fields, **({"expand": expand} if expand else {}), **({"properties": properties} if properties else {})}
        return await self._json("GET", self._issue(issue_id), params=params)

    async def bulk_fetch(self, ids: Sequence[str]) -> Sequence[Json]:
        """At most 100 issues; one that is missing, or hidden from us, is simply not among them."""
        body = {"issueIdsOrKeys": list(ids), "fields": ["*all", "-comment"], "expand": [], "properties": [], "fieldsByKeys": False}
        answer = await self._json("POST", f"{self.api}/issue/bulkfetch", json=body, idempotent=True)
        return objects_in(answer, "issues")

    async def create(self, fields: Mapping[str, Any], key: str, value: Json) -> Json:
        """Creates an issue with a property in the same act."""
        return await self._json("POST", f"{self.api}/issue", json={"fields": fields, "properties": [{"key": key, "value": value}]})

    async def edit(self, issue_id: str, fields: Mapping[str, Any], key: str, value: Json) -> Json | None:
        """Sets fields and a property, all or none; answers the issue where the site does (returnIssue)."""
        body = {"fields": fields, "properties": [{"key": key, "value": value}]}
        answer = await self._client.request("PUT", self._issue(issue_id), json=body, params={"returnIssue": "true"})
        return answer if isinstance(answer, dict) else None

    async def add_labels(self, issue_id: str, labels: Sequence[str], key: str, value: Json) -> None:
        """Adds labels to those there are, and sets a property, in one act."""
        body = {"update": {"labels": [{"add": label} for label in labels]}, "properties": [{"key": key, "value": value}]}
        await self._client.request("PUT", self._issue(issue_id), json=body)

    async def transition(self, issue_id: str, transition_id: str, fields: Mapping[str, Any], key: str, value: Json) -> None:
        """Moves the issue along its workflow, with a property set in the same act."""
        body: Json = {"transition": {"id": transition_id}, "properties": [{"key": key, "value": value}]}
        if fields:
            body["fields"] = fields
        await self._client.request("POST", f"{self._issue(issue_id)}/transitions", json=body)

    async def issue_property(self, issue_id: str, key: str) -> Any:
        """The property's value; raises NotFound when the issue has none of this key."""
        answer = await self._json("GET", f"{self._issue(issue_id)}/properties/{segment(key)}")
        return answer.get("value")

    async def search(self, jql: str, fields: Sequence[str]) -> AsyncIterator[Json]:
        """Every issue a bounded JQL query finds, page by page. A page may be empty and not the last; there is no total."""
        params: dict[str, str | int] = {"jql": jql, "fields": ",".join(fields), "maxResults": PAGE}
        path = f"{self.api}/search/jql"
        for _ in range(MAX_PAGES):
            answer = await self._json("GET", path, params=params)
            for issue in objects_in(answer, "issues"):
                yield issue
            token = answer.get("nextPageToken")
            if answer.get("isLast") is True or not isinstance(token, str):
                return
            params["nextPageToken"] = token
        raise TornAnswer(f"GET {path} goes on after {MAX_PAGES} pages")

    async def comment(self, issue_id: str, body: Document, *, internal: bool) -> Json:
        """Adds a comment; internal ones are hidden from a service desk's customers."""
        properties = [{"key": "sd.public.comment", "value": {"internal": True}}] if internal else []
        return await self._json("POST", f"{self._issue(issue_id)}/comment", json={"body": self.text(body), "properties": properties})

    async def comments(self, issue_id: str) -> AsyncIterator[Json]:
        """Every comment, newest first."""
        async for comment in self._by_start(f"{self._issue(issue_id)}/comment", "comments", {"orderBy": "-created"}):
            yield comment

    async def _by_start(self, path: str, name: str, params: Mapping[str, str | int]) -> AsyncIterator[Json]:
        """Every item of a list in pages by `startAt`; the tool may make pages smaller than asked for."""
        start = 0
        for _ in range(MAX_PAGES):
            answer = await self._json("GET", path, params={**params, "startAt": start, "maxResults": PAGE})
            page = objects_in(answer, name)
            for item in page:
                yield item
            start += len(page)
            total = answer.get("total")
            if not page or not isinstance(total, int) or start >= total:
                return
        raise TornAnswer(f"GET {path} goes on after {MAX_PAGES} pages")

    async def attach(self, issue_id: str, form: Multipart) -> Json:
        """Uploads a file as it comes. Without the extra header Jira takes it for a forged browser request and answers 403."""
        path = f"{self._issue(issue_id)}/attachments"
        headers = {**form.headers, "X-Atlassian-Token": "no-check"}
        answer = await self._client.request("POST", path, content=form.stream(), headers=headers)
        if not isinstance(answer, list) or not answer or not isinstance(answer[0], dict):
            raise TornAnswer(f"POST {path} did not answer the attachment", in_doubt=True)
        return answer[0]

    async def attachment(self, attachment_id: str) -> Json:
        """What the site knows of a file; its address is `content`."""
        return await self._json("GET", f"{self.api}/attachment/{segment(attachment_id)}")

    def content(self, url: str, max_bytes: int) -> AsyncGenerator[bytes, None]:
        """A file from its address, which may lead on to a storage host that gets no credentials."""
        return self._client.stream("GET", url, max_bytes=max_bytes)

    def _issue(self, issue_id: str) -> str:
        return f"{self.api}/issue/{segment(issue_id)}"

    async def _json(self, method: str, path: str, **options: Any) -> Json:
        answer = await self._client.request(method, path, **options)
        if not isinstance(answer, dict):
            raise TornAnswer(f"{method} {path} did not answer a JSON object", in_doubt=method != "GET" and not options.get("idempotent"))
        return answer


def objects_in(answer: Json, name: str) -> Sequence[Json]:
    """The objects of a list in an answer; none where it has no such list."""
    found = answer.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
