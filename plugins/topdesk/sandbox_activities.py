"""The activities of a small TOPdesk's changes: work to be done, and authorisations to be given."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from plugins.sandbox.http import Request, Response, json_response, route
from plugins.sandbox.server import now
from plugins.topdesk.sandbox_cards import lookup, stamp
from plugins.topdesk.sandbox_refusals import refused
from plugins.topdesk.sandbox_state import TopdeskState

Json = dict[str, Any]
MOMENTS = {"in_progress": "startDate", **dict.fromkeys(("finished", "skipped", "authorized", "rejected"), "finalDate")}


class ActivityCalls(TopdeskState):
    """Calls under /operatorChangeActivities."""

    @route("GET", "/tas/api/operatorChangeActivities")
    def list_activities(self, request: Request) -> Response:
        query = parse_qs(request.query_string)
        wanted = {self._numbers.get(change, change) for change in query.get("change", ())}
        rows = [row for row in self.activities.values() if not wanted or row["change"]["id"] in wanted]
        start, size = int(query.get("pageStart", ["0"])[0]), int(query.get("pageSize", ["1000"])[0])
        return json_response({"results": rows[start : start + size]})

    @route("POST", "/tas/api/operatorChangeActivities")
    def create_activity(self, request: Request) -> Response:
        given = request.json() or {}
        change = self.changes.get(self._numbers.get(str(given.get("changeId")), str(given.get("changeId"))))
        if change is None:
            return refused(400, request, "The value for the field 'changeId' cannot be found.")
        at = now()
        row: Json = {
            "id": str(uuid4()), "number": f"CA{stamp(at)[2:4]}{stamp(at)[5:7]}-{self.next_id('activity', 1):04d}",
            "briefDescription": str(given.get("briefDescription") or "")[:80], "change": {"id": change["id"], "number": change["number"]},
            "activityType": str(given.get("activityType") or "normal"), "processingStatus": "ready_to_start", "status": lookup("Open"),
            "assignee": {"id": request.actor.id, "name": request.actor.name, "type": "operator"}, "archived": False,
            "plannedStartDate": given.get("plannedStartDate"), "plannedFinalDate": given.get("plannedFinalDate"), "startDate": None,
            "finalDate": None, "creationDate": stamp(at), "lastModificationDate": stamp(at),
        }  # fmt: skip
        self.activities.put(row["id"], row)
        self._numbers[row["number"]] = row["id"]
        return json_response(row, 201)

    @route("GET", "/tas/api/operatorChangeActivities/{id}")
    def show_activity(self, request: Request) -> Response:
        row = self._card(self.activities, request)
        return json_response(row) if row else refused(404, request)

    @route("PATCH", "/tas/api/operatorChangeActivities/{id}")
    def patch_activity(self, request: Request) -> Response:
        """Takes /processingStatus and /briefDescription."""
        row, steps = self._card(self.activities, request), request.json()
        if row is None:
            return refused(404, request)
        for step in steps if isinstance(steps, list) else ():
            name = str(step.get("path") or "").strip("/")
            if name not in ("processingStatus", "briefDescription"):
                return refused(400, request, f"The field '{name}' does not exist.")
            row[name] = step.get("value")
            if name == "processingStatus" and (moment := MOMENTS.get(str(step.get("value")))):
                row[moment] = stamp(now())
        row["lastModificationDate"] = stamp(now())
        self.activities.put(row["id"], row)
        return Response(204)
