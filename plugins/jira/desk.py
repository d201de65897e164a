"""A tenant's service desk: requests raised by their type, internal and public comments, clocks, approvals, queues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plugins.api import CredentialsRefused, NewTicket, NotFound, PluginConfigError, Priority, SlaTarget, ValidationRefused
from plugins.http.client import ApiClient
from plugins.jira.names import SiteNames
from plugins.jira.service_desk import ServiceDeskClient
from plugins.jira.sla import sla_target
from plugins.jira.writes import summary
from plugins.mapping import to_id, to_micros
from plugins.name_cache import NameCache
from plugins.richtext import Document, from_markdown, to_wiki, with_marker

Json = dict[str, Any]

MAX_LISTED = 1000


class ServiceDesk:
    """Calls on requests, by the settings service_desk, request_type, request_fields and requester."""

    def __init__(self, settings: Mapping[str, Any], http: ApiClient, names: SiteNames) -> None:
        self._settings, self._names = settings, names
        self._api = ServiceDeskClient(http)
        self._desks: NameCache[str] = NameCache("service desk", self._desks_of_site)
        self._types: NameCache[str] = NameCache("request type", self._types_of_desk)

    async def raise_request(self, ticket: NewTicket) -> Json:
        """Raises a request of the tenant's type; our id ends its description, since a form need not show labels."""
        text = with_marker(from_markdown(ticket.description), ticket.external_id)
        values: Json = {**(self._settings.get("request_fields") or {}), **ticket.custom_fields}
        values |= {"summary": summary(ticket.subject), "description": to_wiki(text)}
        priority = None if ticket.priority is Priority.UNKNOWN else self._names.priorities[ticket.priority]
        if priority is not None and self._settings.get("request_priority") is True:
            values["priority"] = {"name": priority}
        requester = self._settings.get("requester")
        wanted = str(self._settings.get("request_type"))
        kind = wanted if wanted.isdecimal() else await self._types.get(wanted)
        return await self._api.create(await self.desk(), kind, values, str(requester) if requester else None)

    async def desk(self) -> str:
        """The id of the tenant's service desk, which may be named by its project's key or name."""
        wanted = self._settings.get("service_desk") or self._settings.get("project")
        if not wanted:
            raise PluginConfigError("jira needs the setting service_desk, or project, for calls on requests")
        return str(wanted) if str(wanted).isdecimal() else await self._desks.get(str(wanted))

    async def comment(self, issue_id: str, text: Document, *, public: bool) -> Json | None:
        """Adds a comment to a request; None, with nothing done, where the issue is none."""
        try:
            return await self._api.comment(issue_id, to_wiki(text), public=public)
        except (NotFound, CredentialsRefused):
            return None  # an issue outside the desk: the platform's own comment says whether it is there, or hidden

    async def targets(self, issue_id: str) -> list[SlaTarget]:
        return [sla_target(clock) async for clock in self._api.clocks(issue_id)]

    async def approvals(self, issue_id: str) -> Sequence[Json]:
        return [_approval(given) async for given in self._api.approvals(issue_id)]

    async def answer(self, issue_id: str, approval_id: str, decision: str) -> Json:
        if decision not in ("approve", "decline"):
            raise ValidationRefused("an approval is answered with approve or decline")
        return _approval(await self._api.answer(issue_id, approval_id, decision))

    async def queues(self) -> Sequence[Json]:
        return [
            {"queue_id": to_id(queue.get("id")), "name": queue.get("name"), "tickets": queue.get("issueCount")}
            async for queue in self._api.queues(await self.desk())
        ]

    async def queue_tickets(self, queue_id: str, limit: int) -> list[str]:
        found: list[str] = []
        async for issue in self._api.queue_issues(await self.desk(), queue_id):
            if (issue_id := to_id(issue.get("id"))) is not None:
                found.append(issue_id)
            if len(found) >= min(limit, MAX_LISTED):
                break
        return found

    async def request_types(self) -> Sequence[Json]:
        return [
            {"request_type_id": to_id(kind.get("id")), "name": kind.get("name"), "issue_type_id": to_id(kind.get("issueTypeId"))}
            async for kind in self._api.request_types(await self.desk())
        ]

    async def _desks_of_site(self) -> dict[str, str]:
        found: dict[str, str] = {}
        async for desk in self._api.desks():
            if (desk_id := to_id(desk.get("id"))) is not None:
                found |= {str(desk.get(name)): desk_id for name in ("projectName", "projectKey") if desk.get(name)}
        return found

    async def _types_of_desk(self) -> dict[str, str]:
        kinds = [kind async for kind in self._api.request_types(await self.desk())]
        return {str(kind.get("name")): kind_id for kind in kinds if (kind_id := to_id(kind.get("id"))) is not None}


def _approval(given: Json) -> Json:
    """An approval in plain words; `decision` is pending, approved or declined, times are epoch microseconds."""
    asked = given.get("approvers")
    approvers = []
    for entry in asked if isinstance(asked, list) else ():
        person = entry.get("approver") if isinstance(entry, dict) else None
        if isinstance(person, dict):
            who = to_id(person.get("accountId")) or to_id(person.get("name"))
            approvers.append({"person": who, "name": person.get("displayName"), "decision": entry.get("approverDecision")})
    created = given.get("createdDate")
    return {
        "approval_id": to_id(given.get("id")),
        "name": given.get("name"),
        "decision": given.get("finalDecision"),
        "can_answer": given.get("canAnswerApproval") is True,
        "approvers": approvers,
        "created_at": to_micros(created.get("epochMillis")) if isinstance(created, dict) else None,
    }
