"""A small Zendesk's calls on tickets: read, written one by one and in jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from plugins.sandbox.http import Request, Response, route
from plugins.sandbox.server import iso, now
from plugins.zendesk import sandbox_sla as sla
from plugins.zendesk.sandbox_desk import ACCOUNT_ID, Json
from plugins.zendesk.sandbox_pages import shown
from plugins.zendesk.sandbox_records import Records


class TicketCalls(Records):
    """/api/v2/tickets and /api/v2/job_statuses."""

    # reads ---------------------------------------------------------------------------------------------------------------
    @route("GET", "/api/v2/tickets/{id}")
    def show(self, request: Request) -> Response:
        ticket = self.tickets.get(request.params["id"])
        if ticket is None:
            return self.refusal(404, request)
        beside = {"metric_events": ticket["_events"]} if "metric_events" in _asked(request) else {}
        return self.answer({"ticket": self.in_rest_form(ticket, request), **beside})

    @route("GET", "/api/v2/tickets")
    def index(self, request: Request) -> Response:
        if (external_id := request.query.get("external_id")) is not None:
            found = self.with_external_id(external_id)
        else:
            found = [ticket for ticket in self.tickets.values() if self.indexed(ticket["_at"])]
        return self.listed(found, request, "tickets", lambda ticket: self.in_rest_form(ticket, request))

    @route("GET", "/api/v2/tickets/count")
    def count(self, request: Request) -> Response:
        return self.answer({"count": {"value": len(self.tickets), "refreshed_at": iso(now())}})

    @route("GET", "/api/v2/tickets/show_many")
    def show_many(self, request: Request) -> Response:
        query = request.query
        ids = [part for part in (query.get("ids") or query.get("external_ids") or "").split(",") if part]
        if len(ids) > 100:
            return self.too_many()
        if "external_ids" in query:
            found = [ticket for external_id in ids for ticket in self.with_external_id(external_id)]
        else:
            found = [self.tickets.get(i) for i in ids if i in self.tickets]
        rows = [self.in_rest_form(ticket, request) for ticket in found]
        return self.answer({"tickets": rows, "next_page": None, "previous_page": None, "count": len(rows)})

    @route("GET", "/api/v2/tickets/{id}/comments")
    def comments(self, request: Request) -> Response:
        return self._thread(request, "comments")

    @route("GET", "/api/v2/tickets/{id}/audits")
    def audits(self, request: Request) -> Response:
        return self._thread(request, "audits")

    def _thread(self, request: Request, name: str) -> Response:
        thread = self.threads.get(request.params["id"])
        if thread is None:
            return self.refusal(404, request)
        return self.listed([item for item in thread[name] if self.indexed(item["_at"])], request, name)

    def in_rest_form(self, ticket: Mapping[str, Any], request: Request) -> Json:
        """A ticket as REST shows it, its clocks inside where `include` asks for them."""
        found = {**shown(ticket), "fields": ticket["custom_fields"]}
        return {**found, "slas": sla.live(ticket)} if "slas" in _asked(request) else found

    # writes --------------------------------------------------------------------------------------------------------------
    @route("POST", "/api/v2/tickets")
    def create(self, request: Request) -> Response:
        key, body = request.headers.get("idempotency-key"), request.body.decode("utf-8", "replace")
        if key is not None and (before := self.creations.get(key)) is not None:
            if before["body"] != body:
                return self.answer({"error": "IdempotentRequestError", "description": "The key was used for another request"}, 400)
            return self._created(before["ticket_id"], before["audit"], {"x-idempotency-lookup": "hit"})
        given = _ticket_in(request)
        comment, refusal = self._new(given)
        if refusal is not None:
            return refusal
        ticket, audit = self.make(given, comment, request)
        if key is not None:
            self.creations.put(key, {"body": body, "ticket_id": str(ticket["id"]), "audit": audit})
        return self._created(str(ticket["id"]), audit, {"x-idempotency-lookup": "miss"} if key is not None else {})

    def _created(self, ticket_id: str, audit: Json, headers: Mapping[str, str]) -> Response:
        where = f"{self.base_url}/api/v2/tickets/{ticket_id}.json"
        ticket = self.tickets.get(ticket_id)
        body = {"ticket": {**shown(ticket), "fields": ticket["custom_fields"]}, "audit": shown(audit)}
        return self.answer(body, 201, {"location": where, **headers})

    def _new(self, given: Mapping[str, Any]) -> tuple[Json, Response | None]:
        comment = given.get("comment") or ({"body": given["description"]} if given.get("description") else None)
        refusal = self.faults_of(given)
        if refusal is None and not isinstance(comment, dict):
            refusal = self.refused({"base": "Description: cannot be blank"})
        return comment if isinstance(comment, dict) else {}, refusal

    @route("POST", "/api/v2/tickets/create_many")
    def create_many(self, request: Request) -> Response:
        body = request.json()
        given = body.get("tickets") if isinstance(body, dict) else None
        if not isinstance(given, list) or len(given) > 100:
            return self.too_many()
        rows: list[Json] = []
        for number, one in enumerate(ticket for ticket in given if isinstance(ticket, dict)):
            comment, refusal = self._new(one)
            if refusal is not None:
                rows.append({"index": number, "error": "TicketCreateFailed", "details": "Record validation errors"})
            else:
                ticket, _ = self.make(one, comment, request)
                rows.append({"index": number, "id": ticket["id"], "account_id": ACCOUNT_ID, "status": "Created", "success": True})
        return self._job_of(rows)

    @route("PUT", "/api/v2/tickets/{id}")
    def update(self, request: Request) -> Response:
        ticket, given = self.tickets.get(request.params["id"]), _ticket_in(request)
        if ticket is None:
            return self.refusal(404, request)
        if given.get("safe_update") and given.get("updated_stamp") != ticket["updated_at"]:
            return self.refusal(409, request)
        refusal = self.faults_of(given, ticket)
        if refusal is not None:
            return refusal
        audit = self.change(ticket, given, request)
        return self.answer({"ticket": self.in_rest_form(ticket, request), "audit": shown(audit)})

    @route("DELETE", "/api/v2/tickets/{id}")
    def delete(self, request: Request) -> Response:
        ticket = self.tickets.get(request.params["id"])
        if ticket is None:
            return self.refusal(404, request)
        self.tickets.drop(str(ticket["id"]))
        self.tell({**ticket, "status": "deleted"}, request.actor, "soft_deleted", {})
        return Response(204)

    @route("PUT", "/api/v2/tickets/update_many")
    def update_many(self, request: Request) -> Response:
        body = request.json()
        changes = body.get("tickets") if isinstance(body, dict) else None
        if changes is None and isinstance(body, dict) and isinstance(body.get("ticket"), dict):
            changes = [{"id": int(i), **body["ticket"]} for i in request.query.get("ids", "").split(",") if i.isdigit()]
        if not isinstance(changes, list) or len(changes) > 100:
            return self.too_many()
        return self._job_of(reversed([self._bulk_row(change, request) for change in changes if isinstance(change, dict)]))

    def _bulk_row(self, change: Mapping[str, Any], request: Request) -> Json:
        ticket = self.tickets.get(str(change.get("id")))
        if ticket is None:
            return {"id": change.get("id"), "error": "TicketNotFound", "details": "Ticket does not exist"}
        if self.faults_of(change, ticket) is not None:
            return {"id": ticket["id"], "error": "TicketUpdateFailed", "details": "Record validation errors"}
        self.change(ticket, {k: v for k, v in change.items() if k != "id"}, request)
        return {"action": "update", "status": "Updated", "success": True, "id": ticket["id"]}

    # jobs ----------------------------------------------------------------------------------------------------------------
    def _job_of(self, rows: Iterable[Json]) -> Response:
        job_id, done = f"V3-{uuid4().hex}", list(rows)
        self.jobs.put(job_id, {"rows": done, "total": len(done), "asked": 0})
        return self.answer({"job_status": self._job(job_id)})

    @route("GET", "/api/v2/job_statuses/{id}")
    def job_status(self, request: Request) -> Response:
        job = self.jobs.get(request.params["id"])
        if job is None:
            return self.refusal(404, request)
        job["asked"] += 1
        return self.answer({"job_status": self._job(request.params["id"])})

    @route("GET", "/api/v2/job_statuses/show_many")
    def job_statuses(self, request: Request) -> Response:
        known = [job_id for job_id in request.query.get("ids", "").split(",") if job_id in self.jobs]
        return self.answer({"job_statuses": [self._job(job_id) for job_id in known]})

    def _job(self, job_id: str) -> Json:
        """Queued when asked for, working at the first look, completed at the second."""
        job = self.jobs.get(job_id)
        status = ("queued", "working", "completed")[min(job["asked"], 2)]
        done = status == "completed"
        return {
            "id": job_id,
            "url": f"{self.base_url}/api/v2/job_statuses/{job_id}.json",
            "total": job["total"],
            "progress": job["total"] if done else None,
            "status": status,
            "message": f"Completed at {iso(now())}" if done else None,
            "results": job["rows"] if done else None,
        }


def _asked(request: Request) -> list[str]:
    return request.query.get("include", "").split(",")


def _ticket_in(request: Request) -> Json:
    body = request.json()
    ticket = body.get("ticket") if isinstance(body, dict) else None
    return ticket if isinstance(ticket, dict) else {}
