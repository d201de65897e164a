"""Jira's bodies read into canonical words: webhooks of Cloud and Data Center, and the issues REST answers. Pure.

Webhook bodies are v2-shaped (text), REST v3 is ADF: every reader here takes both. Nothing in a body is trusted to have its
documented type; what has not is treated as absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from plugins.api import NotADelivery, PluginConfigError, Priority, TicketChange, TicketMetadata, TicketStatus, TicketType
from plugins.jira.sla import next_breach
from plugins.mapping import WordMap, tenant_words, to_id, to_micros, to_tags, to_text
from plugins.richtext import from_adf, to_plain

Json = dict[str, Any]

PRIORITIES: Final = WordMap(
    {
        **dict.fromkeys(("Highest", "Blocker", "Critical", "Urgent", "P1"), Priority.URGENT),
        **dict.fromkeys(("High", "Major", "P2"), Priority.HIGH),
        **dict.fromkeys(("Medium", "P3"), Priority.MEDIUM),
        **dict.fromkeys(("Low", "Minor", "Lowest", "Trivial", "P4", "P5"), Priority.LOW),
    },
    Priority.UNKNOWN,
)
STATUSES: Final = WordMap(
    {
        **dict.fromkeys(("Open", "Waiting for support", "Escalated", "In progress", "Reopened"), TicketStatus.OPEN),
        **dict.fromkeys(("Waiting for customer", "Pending", "Waiting for approval", "On hold"), TicketStatus.PENDING),
        "Resolved": TicketStatus.RESOLVED,
        **dict.fromkeys(("Closed", "Canceled", "Cancelled", "Declined"), TicketStatus.CLOSED),
    },
    TicketStatus.UNKNOWN,
)
_TYPE_NAMES: Final = {
    **dict.fromkeys(("Incident", "Task", "Sub-task", "Bug"), TicketType.INCIDENT),
    **dict.fromkeys(("Service request", "Service request with approvals", "Support", "Question"), TicketType.REQUEST),
    "Problem": TicketType.PROBLEM,
    "Change": TicketType.CHANGE,
}
TYPES: Final = WordMap({**_TYPE_NAMES, **{f"[System] {name}": kind for name, kind in _TYPE_NAMES.items()}}, TicketType.UNKNOWN)

CHANGED_FIELDS: Final[Mapping[str, str]] = {
    "summary": "subject",
    "issuetype": "type",
    "labels": "tags",
    "reporter": "requester",
    "duedate": "sla_due_at",
}
"""changelog fields whose canonical name differs; the others keep theirs in lower case (status, priority, assignee, …)."""

_DONE = (TicketStatus.RESOLVED, TicketStatus.CLOSED)
_COMMENT_ISSUE = re.compile(r"/issue/([^/?#]+)/comment/")


class _KeyIssue(msgspec.Struct):
    id: str | int | None = None


class _KeyBody(msgspec.Struct):
    issue: _KeyIssue


_decode_key = msgspec.json.Decoder(_KeyBody).decode

_CREATED, _UPDATED, _COMMENTED, _RESOLVED, _DELETED, _NO_CHANGE = (
    TicketChange.CREATED, TicketChange.UPDATED, TicketChange.COMMENTED, TicketChange.RESOLVED, TicketChange.DELETED, TicketChange.UNKNOWN,
)  # fmt: skip
_NO_PRIORITY, _NO_STATUS, _NO_TYPE = Priority.UNKNOWN, TicketStatus.UNKNOWN, TicketType.UNKNOWN
"""A member of an enum costs 0.2 us a look by its class; every event makes several."""


class JiraWords:
    """Jira's words with a tenant's own put over them: settings `words: {priority, status, type}` and `default_priority`."""

    __slots__ = ("default_priority", "priority", "statuses", "type")

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.priority = PRIORITIES.with_words(tenant_words(settings, "priority", Priority))
        self.statuses = STATUSES.with_words(tenant_words(settings, "status", TicketStatus))
        self.type = TYPES.with_words(tenant_words(settings, "type", TicketType))
        try:
            self.default_priority = Priority(settings.get("default_priority") or Priority.UNKNOWN)
        except ValueError:
            raise PluginConfigError(f"default_priority must be one of: {', '.join(Priority)}") from None

    def status(self, value: Any) -> TicketStatus:
        """By name first, then by category: names are translated and edited by admins, categories are not."""
        name = _member(value, "name")
        known = self.statuses(name)
        if known is not _NO_STATUS:
            return known
        category = _member(value, "statusCategory")
        key = _member(category, "key") or category  # the service desk API gives the key alone, in upper case
        word = name.casefold() if type(name) is str else ""
        match key.casefold() if type(key) is str else None:
            case "new":
                return TicketStatus.NEW
            case "indeterminate":
                return TicketStatus.PENDING if any(part in word for part in ("waiting", "pending", "hold")) else TicketStatus.OPEN
            case "done":
                return TicketStatus.CLOSED if any(part in word for part in ("closed", "cancel", "declin")) else TicketStatus.RESOLVED
            case "undefined":
                return TicketStatus.OPEN
        return TicketStatus.UNKNOWN


def quick_ticket_id(body: bytes) -> str | None:
    """The issue's id where it stands in its documented place, without building the rest of the body; None where it does not."""
    try:
        return to_id(_decode_key(body).issue.id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def metadata_of_body(tenant: str, body: Json, words: JiraWords, site: str | None = None) -> TicketMetadata:
    """A decoded body as TicketMetadata; raises NotADelivery when it names no issue."""
    ticket_id = ticket_id_in(body)
    if ticket_id is None:
        named = to_text(body.get("webhookEvent"))[:64] or "(none)"
        raise NotADelivery(f"no issue in the body of event {named}; subscribe the webhook to issue and comment events only")
    comment = _object(body.get("comment"))
    changelog = _object(body.get("changelog"))
    items = changelog.get("items")
    changed = tuple(_changed(items)) if type(items) is list else ()
    issue = _object(body.get("issue")) or (body if "fields" in body else {})
    fields = _object(issue.get("fields"))
    event = body.get("webhookEvent")
    status = words.status(fields.get("status"))
    extra: Json = {}
    if changed:
        extra["changed"] = changed
    if comment:
        extra["comment"] = rich_text(comment.get("body"))
        extra["comment_id"] = to_id(comment.get("id"))
        public = comment.get("jsdPublic")
        extra["comment_public"] = public if type(public) is bool else True
    return _metadata(
        tenant,
        ticket_id,
        issue,
        fields,
        words,
        site,
        status=status,
        change=_change(event, to_text(body.get("issue_event_type_name")), changed, fields, status, comment),
        actor=_account(body.get("user"))
        or _account(comment.get("updateAuthor"))
        or _account(comment.get("author"))
        or _account(_member(body.get("worklog"), "updateAuthor")),
        fallback_updated=body.get("timestamp"),
        extra=extra,
    )


def metadata_of_issue(tenant: str, issue: Any, words: JiraWords, site: str | None = None) -> TicketMetadata:
    """An issue as REST answers it; raises NotADelivery when it has no id."""
    ticket_id = to_id(_member(issue, "id"))
    if ticket_id is None:
        raise NotADelivery("the answer holds no issue")
    fields = _object(issue.get("fields"))
    return _metadata(tenant, ticket_id, issue, fields, words, site, status=words.status(fields.get("status")))


def rich_text(value: Any) -> str:
    """Plain text of a field that is text (v2) or an ADF document (v3)."""
    return value if type(value) is str else to_plain(from_adf(value)) if type(value) is dict else ""


def _metadata(
    tenant: str,
    ticket_id: str,
    issue: Json,
    fields: Json,
    words: JiraWords,
    site: str | None,
    *,
    status: TicketStatus,
    change: TicketChange = _NO_CHANGE,
    actor: str | None = None,
    fallback_updated: Any = None,
    extra: Json | None = None,
) -> TicketMetadata:
    extra = {} if extra is None else extra
    key = issue.get("key")
    if type(key) is str:
        extra["key"] = key
    project = _member(fields.get("project"), "key")
    if type(project) is str:
        extra["project"] = project
    word = _member(fields.get("priority"), "name")  # absent where the field is hidden
    priority = words.default_priority if word is None else words.priority(word)
    kind = _member(fields.get("issuetype"), "name")
    ticket_type = words.type(kind)
    if priority is _NO_PRIORITY or ticket_type is _NO_TYPE or status is _NO_STATUS:
        words_read = (("priority", word, priority), ("type", kind, ticket_type), ("status", _member(fields.get("status"), "name"), status))
        unknown = {name: value[:64] for name, value, found in words_read if found == "unknown" and type(value) is str}
        if unknown:
            extra["unknown"] = unknown
    return TicketMetadata(
        tenant_id=tenant,
        ticket_id=ticket_id,
        type=ticket_type,
        priority=priority,
        status=status,
        change=change,
        subject=to_text(fields.get("summary")),
        description=rich_text(fields.get("description")),
        requester=_person(fields.get("reporter")),
        assignee=_person(fields.get("assignee")),
        actor=actor,
        tags=to_tags(fields.get("labels")),
        custom_fields={name: value for name, value in fields.items() if value is not None and name.startswith("customfield_")},
        sla_due_at=next_breach(fields) or to_micros(fields.get("duedate")),
        created_at=to_micros(fields.get("created")),
        updated_at=to_micros(fields.get("updated")) or to_micros(fallback_updated),
        url=_url(site, issue, key),
        extra=extra,
    )


def _change(event: Any, kind: str, changed: tuple[str, ...], fields: Json, status: TicketStatus, comment: Json) -> TicketChange:
    """What happened. Jira has no transition event: a resolution is an update whose changelog moves the issue to a done status."""
    match event:
        case "jira:issue_created":
            return _CREATED
        case "jira:issue_deleted":
            return _DELETED
        case "comment_created" | "comment_updated":
            return _COMMENTED
        case "jira:issue_updated":
            if kind in ("issue_resolved", "issue_closed"):
                return _RESOLVED
            if status in _DONE and ("status" in changed or ("resolution" in changed and fields.get("resolution") is not None)):
                return _RESOLVED
            return _COMMENTED if comment and not changed else _UPDATED
        case str() if event.removeprefix("jira:").startswith(("comment_", "worklog_", "attachment_", "issuelink_", "issue_property_")):
            return _UPDATED
    return _NO_CHANGE


def _changed(items: list[Any]) -> dict[str, None]:
    """Canonical names of the changelog's fields, once each, in order. `fieldId` is missing on Data Center; `field` is for display."""
    names: dict[str, None] = {}
    for item in items:
        name = _member(item, "fieldId") or _member(item, "field")
        if type(name) is str:
            name = name.casefold()
            names[CHANGED_FIELDS.get(name, name)] = None
    return names


def ticket_id_in(body: Json) -> str | None:
    """`issue.id`; else the id in a comment's own address (Data Center sends comments without their issue), a worklog's issueId, the
    issue a link begins at, or the body itself, where an automation rule posts the bare issue."""
    found = to_id(_member(body.get("issue"), "id"))
    if found is not None:
        return found
    address = _member(body.get("comment"), "self")
    if type(address) is str and (match := _COMMENT_ISSUE.search(address)):
        return match[1]
    linked = to_id(_member(body.get("worklog"), "issueId")) or to_id(_member(body.get("issueLink"), "sourceIssueId"))
    return linked or (to_id(body.get("id")) if "fields" in body else None)


def _url(site: str | None, issue: Json, key: Any) -> str | None:
    if type(key) is not str:
        return None
    if site is None:
        address = issue.get("self")
        if type(address) is not str:
            return None
        site = address.partition("/rest/")[0]
    return f"{site}/browse/{key}"


def _account(user: Any) -> str | None:
    """Whom a webhook names as the actor: the accountId on Cloud, the user name on Data Center."""
    return to_id(_member(user, "accountId")) or to_id(_member(user, "name")) or to_id(_member(user, "key"))


def _person(user: Any) -> str | None:
    return to_id(_member(user, "emailAddress")) or _account(user)


def _object(value: Any) -> Json:
    return value if type(value) is dict else {}


def _member(value: Any, name: str) -> Any:
    return value.get(name) if type(value) is dict else None
