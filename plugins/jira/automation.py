"""Bodies an automation rule sends, in a shape an admin chose: read by usual names, or the tenant's `webhook.fields`. Pure.

A rule that posts the issue as it is, and Jira's own webhooks, are read by payload.py; this is for "custom data" of the action "Send
web request" (https://support.atlassian.com/cloud-automation/docs/jira-automation-actions/), whose values are smart values, all text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from plugins.api import NotADelivery, TicketChange, TicketMetadata
from plugins.jira.payload import JiraWords, rich_text
from plugins.mapping import FieldMap, to_id, to_micros, to_tags, to_text

Json = dict[str, Any]

FIELDS: Final = FieldMap(
    ticket_id=("$.issue.id", "issue_id", "issueId", "id", "$.issue.key", "issue_key", "issueKey", "key"),
    key=("key", "issue_key", "issueKey", "$.issue.key"),
    change=("event", "change"),
    subject=("summary", "subject"),
    description=("description",),
    status=("status",),
    priority=("priority",),
    type=("issuetype", "type"),
    requester=("reporter", "requester"),
    assignee=("assignee",),
    actor=("initiator", "actor"),
    tags=("labels", "tags"),
    sla_due_at=("sla_due_at", "duedate"),
    created_at=("created", "created_at"),
    updated_at=("updated", "updated_at"),
    comment=("comment",),
    comment_public=("comment_public",),
    url=("url",),
)
CHANGES: Final[Mapping[str, TicketChange]] = {
    **{change.value: change for change in TicketChange},
    "comment": TicketChange.COMMENTED,
    "transitioned": TicketChange.UPDATED,
}


class RuleBody:
    """Reads the bodies of a tenant's rules; `own` maps canonical fields to JSONPaths, over the usual names."""

    def __init__(self, tenant: str, own: Mapping[str, Any] | None, words: JiraWords, site: str | None) -> None:
        self._tenant, self._words, self._site = tenant, words, site
        self._own = bool(own)
        self._fields = FIELDS.with_fields(own) if own else FIELDS

    def is_one(self, body: Json) -> bool:
        """Whether a body is a rule's own: Jira's webhooks name their event, and a posted issue has its fields."""
        issue = body.get("issue")
        posted = "fields" in body or (type(issue) is dict and "fields" in issue)
        return "webhookEvent" not in body and not posted and (self._own or self.ticket_id(body) is not None)

    def ticket_id(self, body: Json) -> str | None:
        return to_id(self._fields.get(body, "ticket_id"))

    def metadata(self, body: Json) -> TicketMetadata:
        """Canonical words; raises NotADelivery when the body names no issue."""
        found = self._fields.read(body)
        ticket_id = to_id(found["ticket_id"])
        if ticket_id is None:
            raise NotADelivery("the rule's body names no issue; put {{issue.id}} into it, or set webhook.fields.ticket_id")
        words = self._words
        priority = words.default_priority if found["priority"] is None else words.priority(found["priority"])
        status, kind = words.status({"name": found["status"]}), words.type(found["type"])
        extra: Json = {}
        unknown = {
            name: to_text(found[name])[:64]
            for name, value in (("priority", priority), ("status", status), ("type", kind))
            if value == "unknown" and found[name]
        }
        if unknown:
            extra["unknown"] = unknown
        key = to_id(found["key"])
        if key is not None:
            extra["key"] = key
        if found["comment"] is not None:
            public = found["comment_public"]
            extra["comment"], extra["comment_public"] = rich_text(found["comment"]), to_text(public).lower() != "false"
        return TicketMetadata(
            tenant_id=self._tenant,
            ticket_id=ticket_id,
            type=kind,
            priority=priority,
            status=status,
            change=CHANGES.get(to_text(found["change"]).strip().lower(), TicketChange.UNKNOWN),
            subject=to_text(found["subject"]),
            description=rich_text(found["description"]),
            requester=to_id(found["requester"]),
            assignee=to_id(found["assignee"]),
            actor=to_id(found["actor"]),
            tags=to_tags(found["tags"]),
            sla_due_at=to_micros(found["sla_due_at"]),
            created_at=to_micros(found["created_at"]),
            updated_at=to_micros(found["updated_at"]),
            url=to_text(found["url"]) or (f"{self._site}/browse/{key}" if self._site and key else None),
            extra=extra,
        )
