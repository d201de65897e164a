"""SysAid's words: captions and codes, names of events, and where each canonical field stands. Tables only."""

from __future__ import annotations

from collections.abc import Mapping

from plugins.api import Priority, TicketChange, TicketStatus, TicketType
from plugins.mapping import WordMap

PRIORITIES = WordMap(
    {
        **dict.fromkeys(("1", "2", "highest", "very high", "urgent", "critical"), Priority.URGENT),
        **dict.fromkeys(("3", "high"), Priority.HIGH),
        **dict.fromkeys(("4", "normal", "medium"), Priority.MEDIUM),
        **dict.fromkeys(("5", "low", "lowest", "very low"), Priority.LOW),
    },
    Priority.UNKNOWN,
)
STATUSES = WordMap(
    {
        **dict.fromkeys(("1", "new", "unassigned"), TicketStatus.NEW),
        **dict.fromkeys(("2", "open", "in progress", "reopened", "re-opened", "assigned", "change opened"), TicketStatus.OPEN),
        **dict.fromkeys(("pending", "waiting for user", "waiting for vendor", "on hold", "postponed", "waiting"), TicketStatus.PENDING),
        **dict.fromkeys(("resolved", "solved", "completed"), TicketStatus.RESOLVED),
        **dict.fromkeys(
            ("3", "closed", "verified closed", "merge closed", "merged", "duplicate", "deleted", "rejected"), TicketStatus.CLOSED
        ),
    },
    TicketStatus.UNKNOWN,
)
"""Captions, and the codes of a fresh account; a tenant that renumbered them is read by its captions, which count first."""
TYPES = WordMap(
    {
        **dict.fromkeys(("1", "incident"), TicketType.INCIDENT),
        **dict.fromkeys(("8", "10", "request", "service request"), TicketType.REQUEST),
        **dict.fromkeys(("6", "problem"), TicketType.PROBLEM),
        **dict.fromkeys(("4", "change"), TicketType.CHANGE),
    },
    TicketType.UNKNOWN,
)
CHANGES: Mapping[str, TicketChange] = {
    **dict.fromkeys(("created", "create", "new", "opened", "added"), TicketChange.CREATED),
    **dict.fromkeys(("updated", "update", "changed", "escalated", "escalation", "assigned", "reopened"), TicketChange.UPDATED),
    **dict.fromkeys(("noteadded", "note", "commented", "comment", "commentadded", "message", "messageadded"), TicketChange.COMMENTED),
    **dict.fromkeys(("resolved", "closed", "solved", "completed"), TicketChange.RESOLVED),
    **dict.fromkeys(("deleted", "delete", "removed"), TicketChange.DELETED),
}
"""By an event's name without its `sr` and its punctuation."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "ticket_id": ("srid", "servicerecordid", "ticketid", "requestid", "id"),
    "event": ("event", "eventtype", "eventname", "trigger", "action"),
    "subject": ("title", "subject", "summary"),
    "description": ("description", "desc"),
    "priority": ("priority",),
    "status": ("status",),
    "type": ("srtype", "servicerecordtype", "type"),
    "requester": ("requestuseremail", "requesteremail", "requestuser", "requester"),
    "assignee": ("responsibilityemail", "assigneeemail", "responsibility", "assignee", "assignedto"),
    "actor": ("updateuser", "updatedby", "modifyuser", "actor", "submituser"),
    "created_at": ("inserttime", "requesttime", "createdat", "createtime"),
    "updated_at": ("updatetime", "modifytime", "updatedat"),
    "sla_due_at": ("duedate", "dueat"),
    "closed_at": ("closetime", "closedat"),
    "device": ("computerid", "mainasset", "assetid"),
    "comment": ("comment", "notetext", "followuptext"),
    "comment_public": ("commentpublic", "public"),
    "changed": ("changed", "changedfields", "changes"),
    "version": ("srversion", "version"),
    "account": ("accountid", "account"),
    "tags": ("tags",),
    "url": ("url", "link", "srurl"),
    "external_id": ("externalid",),
}
CANONICAL: Mapping[str, str] = {
    "title": "subject",
    "description": "description",
    "priority": "priority",
    "status": "status",
    "srtype": "type",
    "requestuser": "requester",
    "responsibility": "assignee",
    "notes": "comment",
    "messages": "comment",
}
"""What a changed field is called here."""
RECORDS = ("data", "sr", "servicerecord", "service_record", "serviceRecord", "record", "ticket", "payload")
KNOWN = frozenset(name for names in NAMES.values() for name in names) | frozenset(
    [
        "urgency",
        "impact",
        "subtype",
        "problemtype",
        "problemsubtype",
        "thirdlevelcategory",
        "assignedgroup",
        "company",
        "department",
        "location",
        "solution",
        "resolution",
        "escalation",
        "agreement",
        "parentlink",
        "source",
        "notes",
        "attachments",
        "activities",
        "messages",
        "changecategory",
        "version",
        "alertid",
    ]
)
"""A record's usual fields."""
