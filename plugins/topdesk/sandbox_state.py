"""What a small TOPdesk remembers, and the action of its tenant that tells of each write."""

from __future__ import annotations

from typing import Any, ClassVar

from plugins.sandbox.http import Request, Response, json_response
from plugins.sandbox.server import Actor, Sandbox, now
from plugins.topdesk.memo import memo_text
from plugins.topdesk.sandbox_cards import Words, stamp, webhook_body

Json = dict[str, Any]


class TopdeskState(Sandbox):
    """Cards, their trails and files, in the words of one tenant."""

    tenant_words: ClassVar[Words] = Words("en")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.incidents = self.journal.table("incidents")
        self.changes = self.journal.table("changes")
        self.trails = self.journal.table("trails")
        self.files = self.journal.table("files")
        self.activities = self.journal.table("activities")
        self._numbers = {card["number"]: card["id"] for table in (self.incidents, self.changes) for card in table.values()}

    def _card(self, table: Any, request: Request) -> Any:
        """A card by the id or the number in the path."""
        given = request.params["id"]
        return table.get(given if "/id/" in request.path and table is self.incidents else self._numbers.get(given, given))

    def _touch(self, table: Any, card: Json, actor: Actor) -> None:
        card["modifier"] = {"id": actor.id, "name": actor.name}
        card["modificationDate" if table is self.incidents else "lastModificationDate"] = stamp(now())
        table.put(card["id"], card)

    def _tell(self, kind: str, verb: str, card: Json, actor: Actor, action: Json | None, changes: list[Json]) -> None:
        if self.keys.get("webhook_kind") == "number":
            self.fire({"requestType": 1, "incidentId": card["number"], "isTestRun": False})
            return
        requests = self.trails.get(card["id"])["requests"]
        request = memo_text(requests[0]["memoText"]) if requests else ""
        self.fire(webhook_body(kind, verb, card, actor, request, action, changes))

    def _page(self, rows: list[Json], request: Request) -> Response:
        """By `start` and `page_size`: 206 while there is more, 204 for none."""
        start, size = int(request.query.get("start") or 0), min(int(request.query.get("page_size") or 10), 100)
        found = rows[start : start + size]
        return json_response(found, 206 if start + size < len(rows) else 200) if found else Response(204)
