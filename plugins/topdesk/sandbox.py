"""A small TOPdesk: incidents, operator changes with their trails, lists, people, assets, files; and the webhooks of each write.

`DutchTopdeskSandbox` is the same with a Dutch tenant's words. `POST /_webhook` takes `"kind": "number"` for a template that sends
the number alone.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from typing import Any, ClassVar

from plugins.marker import find_marker, note_marker
from plugins.richtext import from_html, to_plain
from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import Actor, now
from plugins.sandbox.webhooks import RetryPolicy
from plugins.topdesk.memo import find_update_tag, memo_text
from plugins.topdesk.sandbox_activities import ActivityCalls
from plugins.topdesk.sandbox_cards import (
    API_OPERATOR,
    CALLER,
    LIST_OF,
    OPERATOR,
    WRITABLE,
    Words,
    entry,
    lookup,
    new_incident,
    request_text,
    shown,
    stamp,
    unid_of,
)
from plugins.topdesk.sandbox_changes import ChangeCalls
from plugins.topdesk.sandbox_fiql import BadQuery, fiql
from plugins.topdesk.sandbox_refusals import Refused, refused
from plugins.topdesk.sandbox_shelf import ShelfCalls

Json = dict[str, Any]
API = "/tas/api"
LIST_PARAMETERS = frozenset({"pageStart", "pageSize", "sort", "query", "fields", "dateFormat", "all"})


class TopdeskSandbox(ChangeCalls, ActivityCalls, ShelfCalls):
    """TOPdesk with two operators, ours and a colleague, and one caller."""

    tool_type = "topdesk"
    retry_policy = RetryPolicy(on_status=frozenset(), delays=())

    # accounts ------------------------------------------------------------------------------------------------------------
    @property
    def credentials(self) -> Mapping[str, Any]:
        person = base64.b64encode(f"fbakker:{self.secret('person_password')}".encode()).decode()
        return {
            "auth": {"user": "koppeling", "application_password": self.secret("application_password")},
            "actor": API_OPERATOR.id,
            "person": {"headers": {"Authorization": f"Basic {person}"}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"secret": self.secret("webhook_secret")}

    def sign(self, body: bytes) -> Mapping[str, str]:
        return {"X-Webhook-Secret": self.secret("webhook_secret"), "User-Agent": "TOPdesk"}

    def actor_of(self, request: Request) -> Actor | None:
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "token":  # the login of before 2017, which clients still use
            return API_OPERATOR if hmac.compare_digest(value.encode(), f'id="{self.secret("token")}"'.encode()) else None
        try:
            given = base64.b64decode(value).decode() if kind.lower() == "basic" else ""
        except ValueError:
            return None
        if given == f"koppeling:{self.secret('application_password')}":
            return API_OPERATOR
        return OPERATOR if given == f"fbakker:{self.secret('person_password')}" else None

    def refusal(self, status: int, request: Request) -> Response:
        return refused(status, request)

    # incidents -----------------------------------------------------------------------------------------------------------
    @route("GET", "/tas/api/incidents")
    def list_incidents(self, request: Request) -> Response:
        query = request.query
        if strange := set(query) - LIST_PARAMETERS:
            return refused(400, request, f"The parameter '{min(strange)}' does not exist.")
        try:
            fits = fiql(query["query"], frozenset(new_incident("", 0, OPERATOR))) if query.get("query") else None
            start, size = int(query.get("pageStart") or 0), int(query.get("pageSize") or 10)
        except (BadQuery, ValueError):
            return refused(400, request, "The parameters of the request were malformed.")
        if not 1 <= size <= 10_000 or start < 0:
            return refused(400, request, "The value for 'pageSize' must be between 1 and 10000.")
        found = [card for card in self.incidents.values() if self.indexed(card["_at"]) and (fits is None or fits(card))]
        rows = [self._listed(card, query) for card in found[start : start + size]]
        if not rows:
            return Response(204)
        if start + size >= len(found):
            return json_response(rows)
        return json_response(rows, 206, {"x-next-page-url": f"{self.base_url}{API}/incidents?pageStart={start + size}&pageSize={size}"})

    @route("POST", "/tas/api/incidents")
    def create_incident(self, request: Request) -> Response:
        given = request.json()
        if not isinstance(given, dict):
            return refused(400, request, "The request contains no object.")
        at = now()
        card = self._blank(at, request.actor)
        try:
            if not given.get("caller") and not given.get("callerLookup"):
                raise Refused("The field 'caller' is mandatory.")
            self._fill(card, given)
        except Refused as exc:
            return refused(400, request, str(exc))
        self.trails.put(card["id"], {"actions": [], "requests": [], "files": []})
        self._numbers[card["number"]] = card["id"]
        action = self._write_trails(card, given, request, at)
        self.incidents.put(card["id"], card)
        marker = find_update_tag(str(given.get("action") or ""))
        self.ledger.write("create", card["id"], request, external_id=card["externalNumber"] or None, marker=marker)
        self._tell("incident", "created", card, request.actor, None if marker else action, [])
        return json_response(shown(card), 201)

    @route("GET", "/tas/api/incidents/id/{id}")
    @route("GET", "/tas/api/incidents/number/{id}")
    def show_incident(self, request: Request) -> Response:
        card = self._card(self.incidents, request)
        return json_response(shown(card)) if card else refused(404, request)

    @route("PUT", "/tas/api/incidents/id/{id}")
    @route("PUT", "/tas/api/incidents/number/{id}")
    @route("PATCH", "/tas/api/incidents/id/{id}")
    @route("PATCH", "/tas/api/incidents/number/{id}")
    def update_incident(self, request: Request) -> Response:
        card, given = self._card(self.incidents, request), request.json()
        if card is None:
            return refused(404, request)
        if not isinstance(given, dict):
            return refused(400, request, "The request contains no object.")
        if card["status"].endswith("Archived"):
            return refused(403, request, "The incident is archived.")
        try:
            self._change_incident(card, given, request)
        except Refused as exc:
            return refused(exc.status, request, str(exc))
        return json_response(shown(card))

    @route("PUT", "/tas/api/incidents/id/{id}/{move}")
    @route("PUT", "/tas/api/incidents/number/{id}/{move}")
    def move_incident(self, request: Request) -> Response:
        card, move = self._card(self.incidents, request), request.params["move"]
        moves = {"escalate": ("firstLine", "secondLine"), "deescalate": ("secondLine", "firstLine")}
        if card is None or move not in (*moves, "archive", "unarchive"):
            return refused(404, request)
        before = card["status"]
        if move in moves:
            if before != moves[move][0]:
                return refused(400, request, "The incident is not in the right line.")
            card["status"], card["escalationStatus"] = moves[move][1], "Escalated" if move == "escalate" else "Deescalated"
        else:
            card["status"] = f"{before}Archived" if move == "archive" else before.removesuffix("Archived")
        self._touch(self.incidents, card, request.actor)
        self.ledger.write("update", card["id"], request)
        self._tell("incident", "updated", card, request.actor, None, [{"field": "line", "from": before, "to": card["status"]}])
        return json_response(shown(card))

    @route("GET", "/tas/api/incidents/id/{id}/{trail}")
    @route("GET", "/tas/api/incidents/number/{id}/{trail}")
    def trail(self, request: Request) -> Response:
        card, name = self._card(self.incidents, request), request.params["trail"]
        if card is None or name not in ("actions", "requests", "attachments", "progresstrail"):
            return refused(404, request)
        trail = self.trails.get(card["id"])
        if name == "progresstrail":
            rows = sorted([*trail["actions"], *trail["files"]], key=lambda row: str(row["entryDate"]), reverse=True)
        else:
            rows = list(reversed(trail["files" if name == "attachments" else name]))
        return self._page([shown(row) for row in rows], request)

    @route("GET", "/tas/api/incidents/{list}")
    def words(self, request: Request) -> Response:
        rows = self.tenant_words.rows(request.params["list"])
        return json_response(rows) if rows is not None else refused(404, request)

    # people of the sandbox ---------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = OPERATOR
        if fields.get("type") == "change":
            return self._person_makes_change(fields, request)
        at = now()
        card = self._blank(at, OPERATOR)
        given = {
            **self._in_topdesk_words(fields),
            "callerLookup": {"email": CALLER["email"]},
            "request": str(fields.get("description") or ""),
        }
        self._fill(card, given)
        self.trails.put(card["id"], {"actions": [], "requests": [], "files": []})
        self._numbers[card["number"]] = card["id"]
        self._write_trails(card, given, request, at)
        self.incidents.put(card["id"], card)
        self.ledger.write("create", card["id"], request)
        self._tell("incident", "created", card, OPERATOR, None, [])
        return str(card["id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor = OPERATOR
        if ticket_id in self.changes:
            return self._person_changes_change(self.changes.get(ticket_id), fields, request)
        card = self.incidents.get(ticket_id)
        if card is None:
            return False
        given = self._in_topdesk_words(fields)
        if fields.get("comment"):
            given |= {"action": str(fields["comment"]), "actionInvisibleForCaller": fields.get("public", True) is False}
        self._change_incident(card, given, request)
        return True

    def _in_topdesk_words(self, fields: Mapping[str, Any]) -> Json:
        """Canonical words, as the control calls take them, in this TOPdesk's."""
        given: Json = {"briefDescription": str(fields["subject"])[:80]} if "subject" in fields else {}
        for name, field in (("priority", "priority"), ("type", "callType"), ("status", "processingStatus")):
            if word := self.tenant_words.named(name, fields.get(name)):
                given[field] = {"name": word}
        return given

    # the state -----------------------------------------------------------------------------------------------------------
    def _blank(self, at: int, actor: Actor) -> Json:
        number = f"I {stamp(at)[2:4]}{stamp(at)[5:7]} {self.next_id('incident', 101):03d}"
        return new_incident(number, at, actor, self.tenant_words.statuses[0][0])

    def _listed(self, card: Json, query: Mapping[str, str]) -> Json:
        wanted = [name for name in (query.get("fields") or "").split(",") if name]
        row = {name: value for name, value in shown(card).items() if not wanted or name in wanted}
        if query.get("dateFormat") == "iso8601":
            row = {name: value.replace("+0000", "Z") if name.endswith("Date") and value else value for name, value in row.items()}
        return row

    def _fill(self, card: Json, given: Mapping[str, Any]) -> list[Json]:
        """Puts what was given into the card, or raises Refused before any of it; answers what changed."""
        values = self._checked(given)
        before = {name: card.get(name) for name in values}
        card.update(values)
        if "processingStatus" in values:
            state, held = next(
                (state, held) for name, state, held in self.tenant_words.statuses if name == values["processingStatus"]["name"]
            )
            card |= {"onHold": held, "completed": state in ("completed", "closed"), "closed": state == "closed"}
        elif {"onHold", "completed", "closed"} & set(values):
            wanted = "closed" if card["closed"] else "completed" if card["completed"] else "in progress"
            row = next(
                name
                for name, state, held in self.tenant_words.statuses
                if state == wanted and held is (card["onHold"] and wanted == "in progress")
            )
            card["processingStatus"] = lookup(row)
        for flag in ("completed", "closed", "onHold"):
            card[f"{flag}Date"] = (card[f"{flag}Date"] or stamp(now())) if card[flag] else None
        return [{"field": name, "from": _shown(before[name]), "to": _shown(card[name])} for name in values if before[name] != card[name]]

    def _checked(self, given: Mapping[str, Any]) -> Json:
        values: Json = {}
        for name, value in given.items():
            if name not in WRITABLE:
                raise Refused(f"The field '{name}' does not exist.")
            if name in ("request", "action", "actionInvisibleForCaller"):
                continue
            if name in LIST_OF and value is not None:
                values[name] = _one_of(self.tenant_words.lists[LIST_OF[name]], name, value)
            elif name == "processingStatus":
                values[name] = _one_of([row[0] for row in self.tenant_words.statuses], name, value)
            elif name == "callerLookup":
                if not isinstance(value, dict) or (CALLER["email"] != value.get("email") and CALLER["id"] != value.get("id")):
                    raise Refused("The value for the field 'callerLookup' cannot be found.")
                values["caller"] = CALLER
            elif name in ("optionalFields1", "optionalFields2"):
                values[name] = {**new_incident("", 0, OPERATOR)[name], **(value or {})}
            elif name == "briefDescription" and len(str(value)) > 80:
                raise Refused("The value for the field 'briefDescription' is too long.")
            elif name == "externalNumber" and len(str(value)) > 60:
                raise Refused("The value for the field 'externalNumber' is too long.")
            elif name == "status" and value not in ("firstLine", "secondLine", "partial"):
                raise Refused("The value for the field 'status' cannot be found.")
            else:
                values[name] = value
        return values

    def _change_incident(self, card: Json, given: Mapping[str, Any], request: Request) -> None:
        at, marker = now(), find_update_tag(str(given.get("action") or ""))
        changes = self._fill(card, given)
        action = self._write_trails(card, given, request, at)
        self._touch(self.incidents, card, request.actor)
        if action is not None and marker is None:
            said = find_marker(memo_text(action["memoText"]))
            self.ledger.write("note", card["id"], request, marker=note_marker(*said) if said else None)
        if marker is not None or set(given) - {"action", "actionInvisibleForCaller"}:
            self.ledger.write("update", card["id"], request, external_id=card["externalNumber"] or None, marker=marker)
        commented = action is not None and marker is None
        verb = "commented" if commented and not changes else "updated"
        self._tell("incident", verb, card, request.actor, action if commented else None, changes)

    def _write_trails(self, card: Json, given: Mapping[str, Any], request: Request, at: int) -> Json | None:
        """Adds what was said to the card's trails; answers the action, where there was one."""
        trail, action = self.trails.get(card["id"]), None
        if given.get("request"):
            trail["requests"].append(entry(at, request.actor, memoText=str(given["request"]), plainText=memo_text(given["request"])))
            card["request"] = request_text(trail["requests"], memo_text)
        if given.get("action"):
            hidden = given.get("actionInvisibleForCaller") is True
            action = entry(at, request.actor, memoText=str(given["action"]), invisibleForCaller=hidden)
            action["plainText"] = to_plain(from_html(str(given["action"])))
            trail["actions"].append(action)
        self.trails.put(card["id"], trail)
        return action


def _one_of(names: Any, field: str, value: Any) -> Json:
    """A lookup by its id or its name."""
    given = value if isinstance(value, dict) else {}
    for name in names:
        if given.get("id") == unid_of(name) or ("id" not in given and str(given.get("name")).casefold() == name.casefold()):
            return lookup(name)
    raise Refused(f"The value for the field '{field}.{'id' if 'id' in given else 'name'}' cannot be found.")


def _shown(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) and "name" in value else value


class DutchTopdeskSandbox(TopdeskSandbox):
    """The same TOPdesk in a Dutch organisation."""

    tenant_words: ClassVar[Words] = Words("nl")
