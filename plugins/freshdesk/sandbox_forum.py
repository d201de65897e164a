"""The forums of the small Freshdesk: categories, forums, topics, comments."""

from __future__ import annotations

from typing import Any

from plugins.freshdesk.sandbox_desk import Desk, Json, shown
from plugins.richtext import from_html, to_plain
from plugins.sandbox.http import Request, Response, route
from plugins.sandbox.state import Table


class ForumRoutes(Desk):
    """Each record knows what it is in; lists come in pages."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.categories = self.journal.table("forum categories")
        self.forums = self.journal.table("forums")
        self.topics = self.journal.table("topics")
        self.topic_comments = self.journal.table("topic comments")

    @route("GET", "/api/v2/discussions/categories")
    def list_categories(self, request: Request) -> Response:
        return self._page(request, self.categories.values(), shown)

    @route("POST", "/api/v2/discussions/categories")
    def create_category(self, request: Request) -> Response:
        return self._make(request, self.categories, {"name": "", "description": None}, "name")

    @route("GET", "/api/v2/discussions/categories/{id}")
    def show_category(self, request: Request) -> Response:
        return self._show(request, self.categories)

    @route("PUT", "/api/v2/discussions/categories/{id}")
    def change_category(self, request: Request) -> Response:
        return self._change(request, self.categories)

    @route("GET", "/api/v2/discussions/categories/{id}/forums")
    def list_forums(self, request: Request) -> Response:
        return self._in(request, self.categories, self.forums, "forum_category_id")

    @route("POST", "/api/v2/discussions/categories/{id}/forums")
    def create_forum(self, request: Request) -> Response:
        return self._make_in(
            request,
            self.categories,
            self.forums,
            "forum_category_id",
            {"description": None, "forum_type": 1, "forum_visibility": 1},
            "name",
        )

    @route("GET", "/api/v2/discussions/forums/{id}")
    def show_forum(self, request: Request) -> Response:
        return self._show(request, self.forums)

    @route("PUT", "/api/v2/discussions/forums/{id}")
    def change_forum(self, request: Request) -> Response:
        return self._change(request, self.forums)

    @route("GET", "/api/v2/discussions/forums/{id}/topics")
    def list_topics(self, request: Request) -> Response:
        return self._in(request, self.forums, self.topics, "forum_id")

    @route("POST", "/api/v2/discussions/forums/{id}/topics")
    def create_topic(self, request: Request) -> Response:
        stock = {"message": "", "sticky": False, "locked": False, "published": True, "user_votes": 0}
        return self._make_in(request, self.forums, self.topics, "forum_id", stock, "title")

    @route("GET", "/api/v2/discussions/topics/{id}")
    def show_topic(self, request: Request) -> Response:
        return self._show(request, self.topics)

    @route("PUT", "/api/v2/discussions/topics/{id}")
    def change_topic(self, request: Request) -> Response:
        return self._change(request, self.topics)

    @route("GET", "/api/v2/discussions/topics/{id}/comments")
    def list_comments(self, request: Request) -> Response:
        return self._in(request, self.topics, self.topic_comments, "topic_id")

    @route("POST", "/api/v2/discussions/topics/{id}/comments")
    def create_comment(self, request: Request) -> Response:
        topic = self.topics.get(request.params["id"])
        if topic is not None and topic["locked"]:
            return self.refusal(403, request)
        return self._make_in(request, self.topics, self.topic_comments, "topic_id", {"answer": False, "spam": False}, "body")

    @route("PUT", "/api/v2/discussions/comments/{id}")
    def change_comment(self, request: Request) -> Response:
        return self._change(request, self.topic_comments)

    # parts -------------------------------------------------------------------------------------------------------------
    def _show(self, request: Request, table: Table) -> Response:
        record = table.get(request.params["id"])
        return self._json(shown(record)) if record else self.refusal(404, request)

    def _in(self, request: Request, outer: Table, inner: Table, name: str) -> Response:
        holder = outer.get(request.params["id"])
        if holder is None:
            return self.refusal(404, request)
        return self._page(request, [row for row in inner.values() if row[name] == holder["id"]], shown)

    def _make_in(self, request: Request, outer: Table, inner: Table, name: str, stock: Json, wanted: str) -> Response:
        holder = outer.get(request.params["id"])
        return self._make(request, inner, {name: holder["id"], **stock}, wanted) if holder else self.refusal(404, request)

    def _make(self, request: Request, table: Table, stock: Json, wanted: str) -> Response:
        given = self._given(request)
        if isinstance(given, Response):
            return given
        if not given.get(wanted):
            return self._refused([(wanted, "It should be a/an String", "missing_field")])
        number = self.next_id("forum", 2001)
        record = self._stamped({"id": number, **stock, **given, "user_id": int(request.actor.id)}, new=True)
        table.put(str(number), _with_text(record))
        return self._json(shown(record), 201)

    def _change(self, request: Request, table: Table) -> Response:
        record, given = table.get(request.params["id"]), self._given(request)
        if record is None:
            return self.refusal(404, request)
        if isinstance(given, Response):
            return given
        record.update({name: value for name, value in given.items() if name != "id"})
        table.put(request.params["id"], _with_text(self._stamped(record)))
        return self._json(shown(record))


def _with_text(record: Json) -> Json:
    if "body" in record:
        record["body_text"] = to_plain(from_html(str(record["body"])))
    return record
