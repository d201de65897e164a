"""What Jira Data Center does otherwise than Cloud: REST v2 alone, wiki text, searches by `startAt`, no bulk read.

https://developer.atlassian.com/server/jira/platform/rest/
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar

from plugins.api import NotFound, TornAnswer, ValidationRefused
from plugins.jira.api_client import MAX_PAGES, PAGE, JiraClient, Json, objects_in
from plugins.richtext import Document, to_wiki


class DataCenterClient(JiraClient):
    """Jira Data Center's REST v2; the rest is as on Cloud."""

    api: ClassVar[str] = "/rest/api/2"

    def text(self, document: Document) -> Any:
        return to_wiki(document)

    async def search(self, jql: str, fields: Sequence[str]) -> AsyncIterator[Json]:
        """Every issue a query finds; the site may make pages smaller than asked for."""
        start, path = 0, f"{self.api}/search"
        for _ in range(MAX_PAGES):
            body = {"jql": jql, "fields": list(fields), "startAt": start, "maxResults": PAGE}
            answer = await self._json("POST", path, json=body, idempotent=True)
            page = objects_in(answer, "issues")
            for issue in page:
                yield issue
            start += len(page)
            total = answer.get("total")
            if not page or not isinstance(total, int) or start >= total:
                return
        raise TornAnswer(f"POST {path} goes on after {MAX_PAGES} pages")

    async def bulk_fetch(self, ids: Sequence[str]) -> Sequence[Json]:
        """By a search for the ids; one unknown key makes older sites refuse the whole query, and then each is read alone."""
        quoted = ",".join(f'"{_in_jql(issue_id)}"' for issue_id in ids)
        body = {"jql": f"issue in ({quoted})", "fields": ["*all", "-comment"], "maxResults": len(ids), "validateQuery": "warn"}
        try:
            return objects_in(await self._json("POST", f"{self.api}/search", json=body, idempotent=True), "issues")
        except ValidationRefused:
            found = []
            for issue_id in ids:
                try:
                    found.append(await self.issue(issue_id))
                except NotFound:
                    continue  # left out of the answer, as a bulk read leaves it out
            return found

    async def edit(self, issue_id: str, fields: Mapping[str, Any], key: str, value: Json) -> Json | None:
        """Sets fields and a property, all or none; the site answers nothing."""
        await self._client.request("PUT", self._issue(issue_id), json={"fields": fields, "properties": [{"key": key, "value": value}]})
        return None


def _in_jql(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
