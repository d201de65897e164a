"""A small Zendesk's tickets as it keeps them: made and changed, with the audit, the clocks and the webhooks of each write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from plugins.marker import find_marker, note_marker
from plugins.richtext import from_html, from_plain, to_html, to_plain
from plugins.sandbox.http import Request, Response
from plugins.sandbox.server import Actor, iso, now
from plugins.zendesk import sandbox_sla as sla
from plugins.zendesk.sandbox_desk import ACCOUNT_ID, BRANDS, CUSTOM_STATUSES, CUSTOMER_USER, FIELDS, FORMS, STATUS_IDS, Desk, Json
from plugins.zendesk.sandbox_events import WORDS, attachment_event, comment_event, event_body, in_events, trigger_body

CUSTOMERS = frozenset({str(CUSTOMER_USER)})
EVENTS: Mapping[str, str] = {
    "status": "status_changed",
    "custom_status_id": "custom_status_changed",
    "priority": "priority_changed",
    "type": "type_changed",
    "subject": "subject_changed",
    "external_id": "external_id_changed",
    "assignee_id": "agent_assignment_changed",
    "group_id": "group_assignment_changed",
    "requester_id": "requester_changed",
    "brand_id": "brand_changed",
    "ticket_form_id": "form_changed",
    "problem_id": "problem_link_changed",
    "due_at": "task_due_at_changed",
}
MADE_OF: Mapping[str, Any] = {
    "recipient": None,
    "organization_id": None,
    "group_id": None,
    "collaborator_ids": [],
    "follower_ids": [],
    "email_cc_ids": [],
    "forum_topic_id": None,
    "problem_id": None,
    "has_incidents": False,
    "due_at": None,
    "satisfaction_rating": None,
    "sharing_agreement_ids": [],
    "followup_ids": [],
    "allow_channelback": False,
    "allow_attachments": True,
    "from_messaging_channel": False,
}
OPTIONS = {
    field["id"]: {option["value"] for option in field["custom_field_options"]} for field in FIELDS if "custom_field_options" in field
}
KNOWN_FIELDS = frozenset(field["id"] for field in FIELDS if field["removable"])


class Records(Desk):
    """Tickets and their threads; the calls are in the class over this one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._by_external_id: dict[str, list[int]] = {}
        for ticket in self.tickets.values():
            self._index(ticket)

    def make(self, given: Mapping[str, Any], comment: Mapping[str, Any], request: Request) -> tuple[Json, Json]:
        """A new ticket and the audit of its making; told to the webhook."""
        at, number = now(), self.next_id("ticket", 1001)
        requester = given.get("requester_id") or self.user_of(given.get("requester")) or int(request.actor.id)
        text = to_plain(_text_of(comment))
        status, custom = _statuses(given, "new")
        ticket: Json = {
            "url": f"{self.base_url}/api/v2/tickets/{number}.json",
            "id": number,
            "external_id": given.get("external_id"),
            "via": {"channel": "api", "source": {"from": {}, "to": {}, "rel": None}},
            "created_at": iso(at),
            "updated_at": iso(at),
            "type": given.get("type"),
            "subject": given.get("subject") or text[:80],
            "raw_subject": given.get("subject") or text[:80],
            "description": text,
            "priority": given.get("priority"),
            "status": status,
            "custom_status_id": custom,
            "requester_id": requester,
            "submitter_id": int(request.actor.id),
            "assignee_id": given.get("assignee_id"),
            "brand_id": given.get("brand_id") or BRANDS[0]["id"],
            "ticket_form_id": given.get("ticket_form_id") or FORMS[0]["id"],
            "tags": list(given.get("tags") or []),
            "custom_fields": [{"id": number, "value": None} for number in sorted(KNOWN_FIELDS)],
            "is_public": comment.get("public") is not False,
            **MADE_OF,
            **{name: given[name] for name in ("group_id", "due_at", "problem_id") if name in given},
            "_at": at,
            "_created": at,
        }
        self._set_custom_fields(ticket, given.get("custom_fields") or [])
        sla.begin(ticket, lambda: self.next_id("metric event", 600_001))
        self.threads.put(str(number), {"comments": [], "audits": []})
        audit = self._audit(ticket, given, comment, request, at)
        self._save(ticket)
        self._index(ticket)
        self.ledger.write("create", str(number), request, external_id=ticket["external_id"], marker=_event_of(given))
        self.tell(ticket, request.actor, "created", {})
        return ticket, audit

    def change(self, ticket: Json, given: Mapping[str, Any], request: Request) -> Json:
        """Applies a write to a ticket and answers its audit; told to the webhook, one event for each change."""
        at, comment = now(), given.get("comment")
        chosen = "custom_status_id" in given
        if "status" in given or chosen:
            status, custom_status = _statuses(given, ticket["status"])
            given = {**given, "status": status, "custom_status_id": custom_status}
        changed = {k: ticket.get(k) for k in (*EVENTS, "tags") if k in given and given[k] != ticket.get(k)}
        for name in changed:
            ticket[name] = given[name]
        custom = self._set_custom_fields(ticket, given.get("custom_fields") or [])
        ticket["updated_at"] = iso(at)
        spoken = comment if isinstance(comment, dict) else None
        answered = spoken is not None and spoken.get("public") is not False and request.actor.id not in CUSTOMERS
        sla.follow(ticket, changed, answered, lambda: self.next_id("metric event", 600_001))
        audit = self._audit(ticket, given, spoken, request, at)
        self._save(ticket)
        if "external_id" in changed:
            self._index(ticket)
        ticket_id = str(ticket["id"])
        if spoken is not None:
            found = find_marker(str(audit["events"][0].get("plain_body")))
            self.ledger.write("note", ticket_id, request, external_id=ticket["external_id"], marker=note_marker(*found) if found else None)
        if changed or custom or spoken is None:
            self.ledger.write("update", ticket_id, request, external_id=ticket["external_id"], marker=_event_of(given))
        told_of = changed if chosen else {name: was for name, was in changed.items() if name != "custom_status_id"}
        self._tell_changes(ticket, request.actor, told_of, custom)
        if spoken is not None:
            told = comment_event(audit["events"][0], request.actor, CUSTOMERS)
            self.tell(ticket, request.actor, "comment_added", {"comment": told})
            for attachment in audit["events"][0]["attachments"]:
                event = {"comment": {**told, "attachment": attachment_event(attachment, told["is_public"])}}
                self.tell(ticket, request.actor, "attachment_linked_to_comment", event)
        return audit

    def _audit(
        self, ticket: Mapping[str, Any], given: Mapping[str, Any], comment: Mapping[str, Any] | None, request: Request, at: int
    ) -> Json:
        """Adds this write's comment and audit to the ticket's thread; the comment is the audit's first event."""
        thread = self.threads.get(str(ticket["id"]))
        events: list[Json] = []
        if comment is not None:
            document = _text_of(comment)
            said = {
                "id": self.next_id("event", 500_001),
                "type": "Comment",
                "author_id": int(request.actor.id),
                "body": to_plain(document),
                "html_body": f'<div class="zd-comment" dir="auto">{to_html(document)}</div>',
                "plain_body": to_plain(document),
                "public": comment.get("public") is not False,
                "attachments": [file for token in comment.get("uploads") or () for file in self.uploads.get(str(token)) or ()],
                "via": {"channel": "api", "source": {"from": {}, "to": {}, "rel": None}},
                "metadata": {"system": {}, "custom": {}},
                "created_at": iso(at),
                "_at": at,
            }
            thread["comments"].append(said)
            events.append(said)
        for name in EVENTS:
            if name in given:
                events.append({"id": self.next_id("event", 500_001), "type": "Change", "field_name": name, "value": given[name]})
        audit = {
            "id": self.next_id("audit", 800_001),
            "ticket_id": ticket["id"],
            "created_at": iso(at),
            "author_id": int(request.actor.id),
            "metadata": {"system": {}, "custom": dict(given.get("metadata") or {})},
            "via": {"channel": "api", "source": {"from": {}, "to": {}, "rel": None}},
            "events": events,
            "_at": at,
        }
        thread["audits"].append(audit)
        self.threads.put(str(ticket["id"]), thread)
        return audit

    def faults_of(self, given: Mapping[str, Any], ticket: Mapping[str, Any] | None = None) -> Response | None:
        """The refusal of values Zendesk does not take; None when it takes them."""
        faults = {}
        if ticket is not None and ticket["status"] == "closed":
            faults["status"] = "Status: closed prevents ticket update"
        for name, words in WORDS.items():
            if given.get(name) is not None and given[name] not in words:
                faults[name] = f"{name.capitalize()}: {given[name]} is not included in the list"
        if given.get("custom_status_id") is not None and given["custom_status_id"] not in {s["id"] for s in CUSTOM_STATUSES}:
            faults["custom_status_id"] = "Custom status: is invalid"
        return self.refused(faults) if faults else None

    def _set_custom_fields(self, ticket: Json, given: Iterable[Mapping[str, Any]]) -> dict[Any, tuple[Any, Any]]:
        """Sets what is known; an unknown field, or an option that is none, is dropped without a word, as Zendesk does."""
        before = {field["id"]: field.get("value") for field in ticket["custom_fields"]}
        changed = {}
        for field in given:
            number, value = field.get("id"), field.get("value")
            chosen = value if isinstance(value, list) else [value]
            if number not in KNOWN_FIELDS or (number in OPTIONS and value is not None and not OPTIONS[number].issuperset(chosen)):
                continue
            if before.get(number) != value:
                changed[number] = (value, before.get(number))
        after = {**before, **{number: value for number, (value, _) in changed.items()}}
        ticket["custom_fields"] = [{"id": number, "value": value} for number, value in after.items()]
        return changed

    def _save(self, ticket: Json) -> None:
        self.tickets.put(str(ticket["id"]), ticket)

    def _index(self, ticket: Json) -> None:
        if ticket.get("external_id"):
            ids = self._by_external_id.setdefault(str(ticket["external_id"]), [])
            if ticket["id"] not in ids:
                ids.append(ticket["id"])

    def with_external_id(self, external_id: str) -> list[Json]:
        found = [self.tickets.get(str(i)) for i in self._by_external_id.get(external_id, ())]
        return [t for t in found if t is not None and t["external_id"] == external_id and self.indexed(t["_at"])]

    # webhooks out --------------------------------------------------------------------------------------------------------
    def _tell_changes(self, ticket: Json, actor: Actor, changed: Mapping[str, Any], custom: Mapping[Any, tuple[Any, Any]]) -> None:
        for name, previous in changed.items():
            if name in EVENTS:
                event = {"current": in_events(name, ticket[name]), "previous": in_events(name, previous)}
                self.tell(ticket, actor, EVENTS[name], event)
        if "tags" in changed:
            old, new = set(changed["tags"] or ()), set(ticket["tags"] or ())
            self.tell(ticket, actor, "tags_changed", {"tags_added": sorted(new - old), "tags_removed": sorted(old - new)})
        for number, (value, previous) in custom.items():
            field = next(f for f in FIELDS if f["id"] == number)
            named = {"id": str(number), "title": field["title"], "type": field["type"]}
            event = {"custom_field": named, "current": {"value": value}, "previous": {"value": previous}}
            self.tell(ticket, actor, "custom_field_changed", event)

    def tell(self, ticket: Mapping[str, Any], actor: Actor, kind: str, event: Mapping[str, Any]) -> None:
        of_a_trigger = self.keys.get("webhook_kind") == "trigger"
        self.fire(trigger_body(ticket, actor, kind) if of_a_trigger else event_body(ACCOUNT_ID, ticket, actor, kind, event))


def _statuses(given: Mapping[str, Any], status: str) -> tuple[str, int]:
    """Category and custom status of a write: a custom status brings its category, a category its default custom status."""
    chosen = given.get("custom_status_id")
    if chosen is not None:
        return next(s["status_category"] for s in CUSTOM_STATUSES if s["id"] == chosen), chosen
    category = given.get("status") or status
    return category, STATUS_IDS.get(category, STATUS_IDS["solved"])


def _text_of(comment: Mapping[str, Any]) -> Any:
    if comment.get("html_body"):
        return from_html(str(comment["html_body"]))
    return from_plain(str(comment.get("body") or ""))


def _event_of(given: Mapping[str, Any]) -> str | None:
    metadata = given.get("metadata")
    found = metadata.get("ai_agents_event") if isinstance(metadata, dict) else None
    return str(found) if found is not None else None
