"""Capability `forum`: categories hold forums, forums hold topics, topics hold comments; a topic can become a ticket.

Texts go in as Markdown; what comes out is Freshdesk's own JSON. There are no webhooks for forums, and accounts without them answer 403
(`require_feature`). The paths are those of a published client library; the vendor's manual no longer lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from plugins.api import NewTicket, TicketRef, ValidationRefused
from plugins.freshdesk.api_client import API, Json
from plugins.freshdesk.connection import FreshdeskConnection
from plugins.freshdesk.text import html, markdown
from plugins.http.limits import segment
from plugins.mapping import to_id, to_text
from schemas.ids import external_id

FORUM_TYPES: Final[Mapping[str, int]] = {"how_to": 1, "idea": 2, "problem": 3, "announcement": 4}
VISIBILITIES: Final[Mapping[str, int]] = {"everyone": 1, "logged_in": 2, "agents": 3, "companies": 4}
MAX_ROWS: Final = 1000
_ROOT: Final = f"{API}/discussions"


class ForumCalls(FreshdeskConnection):
    """The calls on forums; each list holds at most 1000, as the tool orders them."""

    async def list_forum_categories(self) -> list[Json]:
        return await self._rows(f"{_ROOT}/categories")

    async def create_forum_category(self, name: str, description: str = "") -> Json:
        return await self._send("POST", f"{_ROOT}/categories", {"name": name, "description": description})

    async def update_forum_category(self, category_id: str, fields: Mapping[str, Any]) -> Json:
        return await self._send("PUT", f"{_ROOT}/categories/{segment(category_id)}", fields)

    async def list_forums(self, category_id: str) -> list[Json]:
        return await self._rows(f"{_ROOT}/categories/{segment(category_id)}/forums")

    async def create_forum(
        self, category_id: str, name: str, description: str = "", kind: str = "how_to", visibility: str = "everyone"
    ) -> Json:
        """`kind`: how_to, idea, problem or announcement; `visibility`: everyone, logged_in, agents or companies."""
        fields = {
            "name": name,
            "description": description,
            "forum_type": _code("kind", kind, FORUM_TYPES),
            "forum_visibility": _code("visibility", visibility, VISIBILITIES),
        }
        return await self._send("POST", f"{_ROOT}/categories/{segment(category_id)}/forums", fields)

    async def update_forum(self, forum_id: str, fields: Mapping[str, Any]) -> Json:
        return await self._send("PUT", f"{_ROOT}/forums/{segment(forum_id)}", fields)

    async def list_topics(self, forum_id: str) -> list[Json]:
        return await self._rows(f"{_ROOT}/forums/{segment(forum_id)}/topics")

    async def get_topic(self, topic_id: str) -> Json:
        return await self._send("GET", f"{_ROOT}/topics/{segment(topic_id)}")

    async def create_topic(self, forum_id: str, title: str, text: str, sticky: bool = False, locked: bool = False) -> Json:
        fields = {"title": title, "message": html(text), "sticky": sticky, "locked": locked}
        return await self._send("POST", f"{_ROOT}/forums/{segment(forum_id)}/topics", fields)

    async def update_topic(self, topic_id: str, fields: Mapping[str, Any]) -> Json:
        """Sets title, sticky, locked, or `text`, which is Markdown."""
        return await self._send("PUT", f"{_ROOT}/topics/{segment(topic_id)}", _with_html(fields, "message"))

    async def list_topic_comments(self, topic_id: str) -> list[Json]:
        return await self._rows(f"{_ROOT}/topics/{segment(topic_id)}/comments")

    async def reply_to_topic(self, topic_id: str, text: str) -> Json:
        return await self._send("POST", f"{_ROOT}/topics/{segment(topic_id)}/comments", {"body": html(text)})

    async def update_topic_comment(self, comment_id: str, fields: Mapping[str, Any]) -> Json:
        """Sets `text` (Markdown) or `answer`, whether it is the accepted one."""
        return await self._send("PUT", f"{_ROOT}/comments/{segment(comment_id)}", _with_html(fields, "body"))

    async def topic_to_ticket(self, topic_id: str, custom_fields: Mapping[str, Any] | None = None) -> TicketRef:
        """Opens a ticket for a topic, in its author's name, and answers it; a topic that has its ticket keeps that one.

        The ticket carries an id made of the topic's, and is looked for by it first. The search lags minutes behind: called twice
        within these, it may open two.
        """
        topic = await self.get_topic(topic_id)
        known_as = external_id(f"{self.context.tenant}/{self.context.tool}/topic/{topic_id}", self.context.tool)
        if (found := await self.find_by_external_id(known_as)) is not None:
            return found
        title = to_text(topic.get("title")) or f"Topic {topic_id}"
        message = markdown(to_text(topic.get("message")) or to_text(await self._first_message(topic_id)))
        author = to_id(topic.get("user_id"))
        wanted = {**({"requester_id": int(author)} if author and author.isdecimal() else {}), **(custom_fields or {})}
        return await self.create_ticket(
            NewTicket(
                subject=title,
                description=f"{message or title}\n\n(forum topic {topic_id})",
                external_id=known_as,
                event_id=f"topic-{topic_id}",
                tags=("forum",),
                custom_fields=wanted,
            )
        )

    async def _first_message(self, topic_id: str) -> Any:
        comments = await self.list_topic_comments(topic_id)
        return comments[0].get("body") if comments else ""

    async def _rows(self, path: str) -> list[Json]:
        return await self._api.rows(path, limit=MAX_ROWS)

    async def _send(self, method: str, path: str, fields: Mapping[str, Any] | None = None) -> Json:
        return await self._api.record(method, path, fields)


def _code(name: str, word: str, codes: Mapping[str, int]) -> int:
    if word not in codes:
        raise ValidationRefused(f"{name} must be one of: {', '.join(codes)}")
    return codes[word]


def _with_html(fields: Mapping[str, Any], name: str) -> Json:
    given = dict(fields)
    if "text" in given:
        given[name] = html(to_text(given.pop("text")))
    return given
