"""The operator changes of a small TOPdesk: JSON Patch, phases, one trail for memos and files."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import parse_qs

from plugins.marker import find_marker, note_marker
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Actor, now
from plugins.topdesk.memo import find_update_tag
from plugins.topdesk.sandbox_cards import (
    CALLER,
    CHANGE_WRITABLE,
    LIST_OF,
    OPERATOR,
    PHASES,
    Words,
    entry,
    listed_change,
    lookup,
    new_change,
    shown,
    stamp,
    unid_of,
)
from plugins.topdesk.sandbox_refusals import Refused, refused
from plugins.topdesk.sandbox_state import TopdeskState

Json = dict[str, Any]
MOMENTS = {"simple_inProgress": "startDate", "simple_done": "implementationDate", "simple_closed": "closedDate"}


class ChangeCalls(TopdeskState):
    """Calls under /operatorChanges, and what a colleague does to a change."""

    @route("GET", "/tas/api/operatorChanges")
    def list_changes(self, request: Request) -> Response:
        query = parse_qs(request.query_string)
        start, size = int(query.get("pageStart", ["0"])[0]), int(query.get("pageSize", ["1000"])[0])
        rows = [card for card in self.changes.values() if self.indexed(card["_at"])]
        if "id" in query:
            rows = [card for card in rows if card["id"] in query["id"]]
        if "open" in query:
            wanted = query["open"][0] == "true"
            rows = [card for card in rows if (card["processingStatus"] not in ("simple_closed", "rejected")) is wanted]
        return json_response({"results": [listed_change(card) for card in rows[start : start + size]]})

    @route("POST", "/tas/api/operatorChanges")
    def create_change(self, request: Request) -> Response:
        given = request.json()
        try:
            card = self._make_change(given if isinstance(given, dict) else {}, request)
        except Refused as exc:
            return refused(exc.status, request, str(exc))
        return json_response(shown(card), 201)

    @route("GET", "/tas/api/operatorChanges/{id}")
    def show_change(self, request: Request) -> Response:
        card = self._card(self.changes, request)
        return json_response(shown(card)) if card else refused(404, request)

    @route("PATCH", "/tas/api/operatorChanges/{id}")
    def patch_change(self, request: Request) -> Response:
        card, steps = self._card(self.changes, request), request.json()
        if card is None:
            return refused(404, request)
        if not isinstance(steps, list):
            return refused(400, request, "The request contains no list of steps.")
        try:
            self._apply(card, [step for step in steps if isinstance(step, dict)], request)
        except Refused as exc:
            return refused(exc.status, request, str(exc))
        return Response(204)

    @route("POST", "/tas/api/operatorChanges/{id}/processingStatusTransitions")
    def move_change(self, request: Request) -> Response:
        card, given = self._card(self.changes, request), request.json() or {}
        if card is None:
            return refused(404, request)
        following = PHASES.get((str(given.get("from")), str(given.get("action"))))
        if given.get("from") != card["processingStatus"] or following is None:
            return refused(400, request, "The value for the field 'action' is not allowed.")
        self._move(card, following, request)
        performer = {"id": request.actor.id, "name": request.actor.name, "type": "operator"}
        moved = {"from": given["from"], "to": following, "action": given["action"], "date": stamp(now()), "performer": performer}
        return json_response(moved, 201)

    @route("GET", "/tas/api/operatorChanges/{id}/progresstrail")
    def change_progress(self, request: Request) -> Response:
        return self._change_entries(request, "actions")

    @route("GET", "/tas/api/operatorChanges/{id}/requests")
    def change_requests(self, request: Request) -> Response:
        return self._change_entries(request, "requests")

    @route("POST", "/tas/api/operatorChanges/{id}/progresstrail")
    def add_memo(self, request: Request) -> Response:
        card, given = self.changes.get(request.params["id"]), request.json() or {}
        if card is None:
            return refused(404, request)
        text = str(given.get("memoText") or "").strip()
        if not text or given.get("type") != "memo":
            return refused(400, request, "The field 'memoText' is mandatory.")
        memo = self._memo(card, text, request.actor, hidden=given.get("invisibleForCaller") is True)
        self._noted(card, memo, request)
        return json_response({name: memo[name] for name in ("id", "entryDate", "operator", "person", "memoText")}, 201)

    def _change_entries(self, request: Request, name: str) -> Response:
        card = self._card(self.changes, request)
        if card is None:
            return refused(404, request)
        return json_response({"results": [shown(row) for row in reversed(self.trails.get(card["id"])[name])]})

    def _make_change(self, given: Json, request: Request) -> Json:
        at = now()
        card = new_change(f"C{stamp(at)[2:4]}{stamp(at)[5:7]}-{self.next_id('change', 501):04d}", at, self.tenant_words.change_status)
        if (given.get("requester") or {}).get("id") != CALLER["id"]:
            raise Refused("The value for the field 'requester' cannot be found.")
        card["requester"] = {"id": CALLER["id"], "name": CALLER["dynamicName"]}
        for name, value in given.items():
            if name not in ("requester", "request", "action", "template"):
                _put(card, name, value, self.tenant_words)
        self.trails.put(card["id"], {"actions": [], "requests": [], "files": []})
        self._numbers[card["number"]] = card["id"]
        trail = self.trails.get(card["id"])
        if given.get("request"):
            trail["requests"].append(entry(at, request.actor, memoText=str(given["request"])))
        if given.get("action"):
            self._memo(card, str(given["action"]), request.actor)
        self.trails.put(card["id"], trail)
        self.changes.put(card["id"], card)
        marker = find_update_tag(str(given.get("action") or ""))
        self.ledger.write("create", card["id"], request, external_id=card["externalNumber"] or None, marker=marker)
        self._tell("change", "created", card, request.actor, None, [])
        return card

    def _apply(self, card: Json, steps: list[Json], request: Request) -> None:
        """All of the steps or none."""
        wanted, memos, changes = dict(card), [], []
        for step in steps:
            name = str(step.get("path") or "").strip("/")
            if name == "progressTrail":
                memos.append(str(step.get("value") or ""))
            elif step.get("op") == "test":
                if _shown(card.get(name)) != step.get("value"):
                    raise Refused(f"The value for the field '{name}' is not the tested one.", 409)
            else:
                before = _shown(card.get(name))
                _put(wanted, name, None if step.get("op") == "remove" else step.get("value"), self.tenant_words)
                changes.append({"field": name, "from": before, "to": _shown(wanted.get(name))})
        card.update(wanted)
        marker = next((found for memo in memos if (found := find_update_tag(memo))), None)
        rows = [self._memo(card, memo, request.actor) for memo in memos]
        self._touch(self.changes, card, request.actor)
        if marker is None and rows and not changes:
            self._noted(card, rows[-1], request)
            return
        self.ledger.write("update", card["id"], request, external_id=card["externalNumber"] or None, marker=marker)
        self._tell("change", "updated", card, request.actor, None, changes)

    def _move(self, card: Json, following: str, request: Request) -> None:
        before, card["processingStatus"] = card["processingStatus"], following
        if moment := MOMENTS.get(following):
            card["simple"][moment] = stamp(now())
        card["possibleActions"] = [action for (phase, action) in PHASES if phase == following]
        self._touch(self.changes, card, request.actor)
        self._tell("change", "updated", card, request.actor, None, [{"field": "processingStatus", "from": before, "to": following}])

    def _memo(self, card: Json, text: str, actor: Actor, *, hidden: bool = True) -> Json:
        memo = entry(now(), actor, type="memo", memoText=escape(text, quote=False).replace("\n", "<br>"), invisibleForCaller=hidden)
        trail = self.trails.get(card["id"])
        trail["actions"].append(memo)
        self.trails.put(card["id"], trail)
        return memo

    def _noted(self, card: Json, memo: Json, request: Request) -> None:
        said = find_marker(memo["memoText"])
        self._touch(self.changes, card, request.actor)
        self.ledger.write("note", card["id"], request, marker=note_marker(*said) if said else None)
        self._tell("change", "commented", card, request.actor, memo, [])

    # a colleague ---------------------------------------------------------------------------------------------------------
    def _person_makes_change(self, fields: Mapping[str, Any], request: Request) -> str:
        given: Json = {"requester": {"id": CALLER["id"]}, "briefDescription": str(fields.get("subject") or "")[:80]}
        if word := self.tenant_words.named("priority", fields.get("priority")):
            given["priority"] = word
        return str(self._make_change({**given, "request": str(fields.get("description") or "")}, request)["id"])

    def _person_changes_change(self, card: Json, fields: Mapping[str, Any], request: Request) -> bool:
        """With the tenant's own rule at work: an operator's edit leaves a memo that tells it."""
        steps: list[Json] = []
        if "subject" in fields:
            steps.append({"op": "replace", "path": "/briefDescription", "value": str(fields["subject"])[:80]})
        if word := self.tenant_words.named("priority", fields.get("priority")):
            steps.append({"op": "replace", "path": "/priority", "value": word})
        lines = [f"{self.tenant_words.labels[s['path'][1:]]}: {_shown(card.get(s['path'][1:])) or ''} -> {s['value']}" for s in steps]
        if steps:
            self._apply(card, [*steps, {"op": "add", "path": "/progressTrail", "value": "\n".join(lines)}], request)
        if fields.get("comment"):
            self._noted(card, self._memo(card, str(fields["comment"]), OPERATOR, hidden=fields.get("public", True) is False), request)
        wanted = {"open": "simple_inProgress", "resolved": "simple_done", "closed": "simple_closed"}.get(str(fields.get("status")))
        if wanted:
            self._move(card, wanted, request)
        return True


def _put(card: Json, name: str, value: Any, words: Words) -> None:
    """One field of a change: lookups come as plain text, the id or the name."""
    top = name.split("/")[0]
    if top not in CHANGE_WRITABLE:
        raise Refused(f"The field '{top}' does not exist.")
    if name == "briefDescription" and len(str(value)) > 80:
        raise Refused("The value for the field 'briefDescription' is too long.")
    if name in LIST_OF and value is not None:
        found = next((row for row in words.lists[LIST_OF[name]] if value in (row, unid_of(row))), None)
        if found is None:
            raise Refused(f"The value for the field '{name}' cannot be found.")
        card[name] = lookup(found)
    elif "/" in name:
        card[top] = {**card[top], name.split("/")[1]: value}
    else:
        card[name] = value


def _shown(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) and "name" in value else value
