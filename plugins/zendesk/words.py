"""Zendesk's words and ours, and where a trigger's body keeps what: tables alone. What is written back is in writes.py."""

from __future__ import annotations

from collections.abc import Mapping

from plugins.api import Priority, TicketChange, TicketStatus, TicketType
from plugins.mapping import FieldMap, WordMap

PRIORITIES = WordMap({"low": Priority.LOW, "normal": Priority.MEDIUM, "high": Priority.HIGH, "urgent": Priority.URGENT}, Priority.UNKNOWN)
STATUSES = WordMap(
    {
        "new": TicketStatus.NEW,
        "open": TicketStatus.OPEN,
        "pending": TicketStatus.PENDING,
        "hold": TicketStatus.PENDING,
        "on-hold": TicketStatus.PENDING,
        "on hold": TicketStatus.PENDING,
        "solved": TicketStatus.RESOLVED,
        "closed": TicketStatus.CLOSED,
        "archived": TicketStatus.CLOSED,
        "deleted": TicketStatus.CLOSED,
        "scrubbed": TicketStatus.CLOSED,
    },
    TicketStatus.UNKNOWN,
)
TYPES = WordMap(
    {"incident": TicketType.INCIDENT, "problem": TicketType.PROBLEM, "question": TicketType.REQUEST, "task": TicketType.INCIDENT},
    TicketType.UNKNOWN,
)
CHANGES: Mapping[str, TicketChange] = {
    "created": TicketChange.CREATED,
    "comment_added": TicketChange.COMMENTED,
    "soft_deleted": TicketChange.DELETED,
    "permanently_deleted": TicketChange.DELETED,
    "marked_as_spam": TicketChange.DELETED,
    **dict.fromkeys(
        (
            "undeleted",
            "merged",
            "status_changed",
            "priority_changed",
            "type_changed",
            "subject_changed",
            "description_changed",
            "tags_changed",
            "agent_assignment_changed",
            "group_assignment_changed",
            "organization_changed",
            "requester_changed",
            "submitter_changed",
            "brand_changed",
            "form_changed",
            "external_id_changed",
            "problem_link_changed",
            "task_due_at_changed",
            "custom_status_changed",
            "custom_field_changed",
            "comment_made_private",
            "comment_redacted",
            "attachment_linked_to_comment",
            "attachment_redacted_from_comment",
            "followers_changed",
            "email_ccs_changed",
            "next_sla_breach_changed",
            "sla_policy_changed",
            "ola_policy_changed",
            "schedule_changed",
            "csat_requested",
            "csat_received",
        ),
        TicketChange.UPDATED,
    ),
}
"""By the end of an event's type. A type not listed here is UNKNOWN and passes."""
CHANGED_FIELD: Mapping[str, tuple[str, ...]] = {
    "status_changed": ("status",),
    "custom_status_changed": ("status",),
    "priority_changed": ("priority",),
    "type_changed": ("type",),
    "subject_changed": ("subject",),
    "description_changed": ("description",),
    "agent_assignment_changed": ("assignee",),
    "requester_changed": ("requester",),
    "tags_changed": ("tags",),
    "custom_field_changed": ("custom_fields",),
    "next_sla_breach_changed": ("sla_due_at",),
    "task_due_at_changed": ("sla_due_at",),
}
INTEGRATION_KINDS: Mapping[str, str] = {
    "comment_created": "comment_added",
    "ccs_changed": "email_ccs_changed",
}
"""Kinds that the integration services call otherwise than event subscriptions do."""
TRIGGER_WORDS: Mapping[str, TicketChange] = {
    **{change.value: change for change in TicketChange},
    **dict.fromkeys(("new", "create", "opened"), TicketChange.CREATED),
    **dict.fromkeys(("update", "changed"), TicketChange.UPDATED),
    **dict.fromkeys(("comment", "commented", "replied"), TicketChange.COMMENTED),
    **dict.fromkeys(("solved", "resolved", "closed"), TicketChange.RESOLVED),
}
TRIGGER_FIELDS = FieldMap(
    ticket_id=("ticket_id", "ticketId", "ticketID", "id", "$.ticket.id", "$.ticket.ticket_id", "ticket"),
    change=("event", "change", "action", "event_type", "$.ticket.event"),
    subject=("subject", "title", "$.ticket.title", "$.ticket.subject"),
    description=("description", "$.ticket.description"),
    status=("status", "ticket_status", "$.ticket.status"),
    priority=("priority", "ticket_priority", "$.ticket.priority"),
    type=("type", "ticket_type", "$.ticket.ticket_type", "$.ticket.type"),
    requester=("requester_email", "requester", "$.ticket.requester.email", "requester_id", "$.ticket.requester_id"),
    assignee=("assignee_id", "assignee_email", "assignee", "$.ticket.assignee.email", "$.ticket.assignee_id"),
    actor=("actor_id", "current_user_id", "$.current_user.id"),
    tags=("tags", "$.ticket.tags"),
    sla_due_at=("sla_due_at", "due_date", "$.ticket.due_date", "$.ticket.due_at"),
    created_at=("created_at_with_timestamp", "created_at", "$.ticket.created_at_with_timestamp", "$.ticket.created_at"),
    updated_at=("updated_at_with_timestamp", "updated_at", "$.ticket.updated_at_with_timestamp", "$.ticket.updated_at"),
    external_id=("external_id", "$.ticket.external_id"),
    comment=("latest_comment", "comment", "$.ticket.latest_comment"),
    brand=("brand", "brand_id", "$.ticket.brand.name", "$.ticket.brand_id"),
    form=("form", "form_id", "ticket_form", "$.ticket.ticket_form", "$.ticket.ticket_form_id"),
    url=("url", "ticket_url", "$.ticket.url"),
)
"""Names admins give to the placeholders of a trigger's body, flat or under `ticket`; a tenant's own shape is in webhook.fields."""
EVENT_KEY = "ai_agents_event"
"""Where an update carries its event_id: custom metadata, kept in the update's audit."""
