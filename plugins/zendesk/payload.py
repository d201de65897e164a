"""What a Zendesk delivery says, in canonical words: event subscriptions with their fixed envelope, triggers with an admin's own body.

https://developer.zendesk.com/api-reference/webhooks/event-types/ticket-events. The same field comes in three spellings: `open` from
REST, `OPEN` in events, `Open` (or the account's language) from triggers. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from plugins.api import Delivery, NotADelivery, PluginConfigError, Priority, TicketChange, TicketMetadata, TicketStatus, TicketType
from plugins.mapping import tenant_words, to_id, to_micros, to_tags, to_text
from plugins.repair import object_or_form
from plugins.zendesk.sla import next_breach
from plugins.zendesk.words import CHANGED_FIELD, CHANGES, INTEGRATION_KINDS, PRIORITIES, STATUSES, TRIGGER_FIELDS, TRIGGER_WORDS, TYPES

EVENT_PREFIX = "zen:event-type:ticket."
SUBJECT_PREFIX = "zen:ticket:"


class _DetailId(msgspec.Struct):
    id: str | int | None = None


class _Head(msgspec.Struct):
    """As little of a body as names its ticket; the rest is skipped without building it."""

    type: str | None = None
    subject: str | None = None
    detail: _DetailId | None = None
    ticket_id: str | int | None = None
    id: str | int | None = None


class _Detail(msgspec.Struct):
    """The fields read of an event's ticket. Any type passes: the vendor's own examples differ in them."""

    id: Any = None
    subject: Any = None
    description: Any = None
    status: Any = None
    priority: Any = None
    type: Any = None
    tags: Any = None
    requester_id: Any = None
    assignee_id: Any = None
    actor_id: Any = None
    brand_id: Any = None
    form_id: Any = None
    group_id: Any = None
    custom_status: Any = None
    external_id: Any = None
    created_at: Any = None
    updated_at: Any = None


class _Envelope(msgspec.Struct):
    """What an event subscription sends; decoding into it skips what is not read."""

    type: str
    detail: _Detail
    event: Any = None
    subject: Any = None
    time: Any = None


_OTHER_CHANGE, _RESOLVED, _SOLVED = TicketChange.UNKNOWN, TicketChange.RESOLVED, TicketStatus.RESOLVED
_NO_PRIORITY, _NO_STATUS, _NO_TYPE = Priority.UNKNOWN, TicketStatus.UNKNOWN, TicketType.UNKNOWN
"""Members of an enum by name cost 0.2 us a look; the hot path makes seven."""

_head = msgspec.json.Decoder(_Head).decode
_envelope = msgspec.json.Decoder(_Envelope).decode


class ZendeskPayload:
    """Reads deliveries by one tool's settings: `webhook.fields`, `words`, `default_priority`, `base_url`."""

    def __init__(self, tenant: str, settings: Mapping[str, Any]) -> None:
        self._tenant = tenant
        own = (settings.get("webhook") or {}).get("fields") or {}
        self._trigger_fields = TRIGGER_FIELDS.with_fields(own) if own else TRIGGER_FIELDS
        self._own_fields = bool(own)
        self._priorities = PRIORITIES.with_words(tenant_words(settings, "priority", Priority))
        self._statuses = STATUSES.with_words(tenant_words(settings, "status", TicketStatus))
        self._types = TYPES.with_words(tenant_words(settings, "type", TicketType))
        try:
            self._no_priority = Priority(settings.get("default_priority", Priority.UNKNOWN))
        except ValueError:
            raise PluginConfigError(f"default_priority must be one of: {', '.join(Priority)}") from None
        base_url = str(settings.get("base_url") or "").rstrip("/")
        self._url = f"{base_url}/agent/tickets/" if base_url else None

    def ticket_key(self, delivery: Delivery) -> str | None:
        """The ticket's id without building the whole document, where the body has its usual shape; None when it does not tell."""
        if not self._own_fields:
            try:
                head = _head(delivery.body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # an unusual shape; the whole document may still tell
            else:
                if head.type is not None and head.type.startswith("zen:event-type:"):
                    return (to_id(head.detail.id) if head.detail else None) or _subject_id(head.subject)
                if (found := to_id(head.ticket_id)) is not None:
                    return found
        try:
            document = object_or_form(delivery.body, delivery.content_type)
        except NotADelivery:
            return None
        document = as_event(document) or document
        if _is_event(document):
            return to_id(_object(document.get("detail")).get("id")) or _subject_id(document.get("subject"))
        return to_id(self._trigger_fields.get(document, "ticket_id"))

    def delivery_id(self, delivery: Delivery) -> str | None:
        """The id in an event's envelope; None for a trigger's body, whose `id` is whatever an admin put there."""
        try:
            head = _head(delivery.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if head.type is None or not head.type.startswith("zen:event-type:") or not isinstance(head.id, str):
            return None
        return head.id or None

    def metadata(self, delivery: Delivery) -> TicketMetadata:
        """The delivery in canonical words; raises NotADelivery when it is no JSON object or names no ticket."""
        try:
            envelope = _envelope(delivery.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # a trigger's body, or an unusual shape: read as a whole below
        else:
            if envelope.type.startswith("zen:event-type:"):
                return self._event(envelope)
        document = object_or_form(delivery.body, delivery.content_type)
        document = as_event(document) or document
        if _is_event(document):
            detail = _object(document.get("detail"))
            known = {name: detail[name] for name in _Detail.__struct_fields__ if name in detail}
            rest = {name: document.get(name) for name in ("event", "subject", "time")}
            return self._event(_Envelope(document["type"], _Detail(**known), **rest))
        return self._trigger(document)

    def ticket(self, ticket: Mapping[str, Any]) -> TicketMetadata:
        """A ticket as REST shows it."""
        ticket_id = to_id(ticket.get("id"))
        if ticket_id is None:
            raise NotADelivery("the ticket has no id")
        fields = ticket.get("custom_fields")
        custom = {str(f["id"]): f.get("value") for f in fields if isinstance(f, dict) and "id" in f} if isinstance(fields, list) else {}
        return TicketMetadata(
            tenant_id=self._tenant,
            ticket_id=ticket_id,
            type=self._types(ticket.get("type")),
            priority=self._priority(ticket.get("priority")),
            status=self._statuses(ticket.get("status")),
            subject=to_text(ticket.get("subject")),
            description=to_text(ticket.get("description")),
            requester=to_id(ticket.get("requester_id")),
            assignee=to_id(ticket.get("assignee_id")),
            tags=to_tags(ticket.get("tags")),
            custom_fields=custom,
            created_at=to_micros(ticket.get("created_at")),
            updated_at=to_micros(ticket.get("updated_at")),
            url=self._url_of(ticket_id),
            sla_due_at=next_breach(ticket) or to_micros(ticket.get("due_at")),
            extra={
                "external_id": ticket.get("external_id"),
                "brand_id": to_id(ticket.get("brand_id")),
                "form_id": to_id(ticket.get("ticket_form_id")),
                "group_id": to_id(ticket.get("group_id")),
                "custom_status_id": to_id(ticket.get("custom_status_id")),
            },
        )

    def _event(self, envelope: _Envelope) -> TicketMetadata:
        """The fixed envelope; the hot path of most accounts."""
        kind = envelope.type
        if not kind.startswith(EVENT_PREFIX):
            raise NotADelivery(f"an event of another kind of resource ({kind[:80]}); subscribe to zen:event-type:ticket.* only")
        kind = kind[len(EVENT_PREFIX) :]
        detail = envelope.detail
        ticket_id = to_id(detail.id) or _subject_id(envelope.subject)
        if ticket_id is None:
            raise NotADelivery("the event names no ticket: detail.id and subject are empty")
        change = CHANGES.get(kind, _OTHER_CHANGE)
        extra: dict[str, Any] = {
            "event": kind,
            "event_time": envelope.time,
            "external_id": detail.external_id,
            "brand_id": to_id(detail.brand_id),
            "form_id": to_id(detail.form_id),
            "group_id": to_id(detail.group_id),
            "custom_status_id": to_id(detail.custom_status),
        }
        if kind in CHANGED_FIELD:
            extra["changed"] = CHANGED_FIELD[kind]
        actor, due, custom = to_id(detail.actor_id), None, {}
        event = envelope.event
        if type(event) is dict and event:
            author = _add_event(extra, event)
            actor = actor or author
            if kind == "custom_field_changed":
                custom = _custom_field(event)
            elif kind in ("next_sla_breach_changed", "task_due_at_changed"):
                due = to_micros(event.get("current"))
            if kind == "status_changed" and self._statuses(event.get("current")) is _SOLVED:
                change = _RESOLVED
        priority, status, type_ = self._priority(detail.priority), self._statuses(detail.status), self._types(detail.type)
        if priority is _NO_PRIORITY or status is _NO_STATUS or type_ is _NO_TYPE:
            _name_unknown(extra, msgspec.structs.asdict(detail), priority, status, type_)
        return TicketMetadata(
            tenant_id=self._tenant,
            ticket_id=ticket_id,
            type=type_,
            priority=priority,
            status=status,
            change=change,
            subject=to_text(detail.subject),
            description=to_text(detail.description),
            requester=to_id(detail.requester_id),
            assignee=to_id(detail.assignee_id),
            actor=actor,
            tags=to_tags(detail.tags),
            custom_fields=custom,
            sla_due_at=due,
            created_at=to_micros(detail.created_at),
            updated_at=to_micros(detail.updated_at),
            url=self._url_of(ticket_id),
            extra=extra,
        )

    def _trigger(self, document: dict[str, Any]) -> TicketMetadata:
        found = self._trigger_fields.read(document)
        ticket_id = to_id(found["ticket_id"])
        if ticket_id is None:
            raise NotADelivery("the body names no ticket; put ticket_id into the trigger's JSON, or set webhook.fields.ticket_id")
        status, priority, type_ = self._statuses(found["status"]), self._priority(found["priority"]), self._types(found["type"])
        extra: dict[str, Any] = {"external_id": found["external_id"]}
        for name in ("brand", "form"):
            if found[name] is not None:
                extra[name] = to_text(found[name])
        if found["comment"] is not None:
            extra["comment"] = to_text(found["comment"])
        _name_unknown(extra, found, priority, status, type_)
        return TicketMetadata(
            tenant_id=self._tenant,
            ticket_id=ticket_id,
            type=type_,
            priority=priority,
            status=status,
            change=TRIGGER_WORDS.get(to_text(found["change"]).strip().lower(), TicketChange.UNKNOWN),
            subject=to_text(found["subject"]),
            description=to_text(found["description"]),
            requester=to_text(found["requester"]) or None,
            assignee=to_text(found["assignee"]) or None,
            actor=to_id(found["actor"]),
            tags=to_tags(found["tags"]),
            sla_due_at=to_micros(found["sla_due_at"]),
            created_at=to_micros(found["created_at"]),
            updated_at=to_micros(found["updated_at"]),
            url=to_text(found["url"]) or self._url_of(ticket_id),
            extra=extra,
        )

    def _priority(self, value: Any) -> Priority:
        return self._no_priority if value is None or value in ("", "-") else self._priorities(value)

    def _url_of(self, ticket_id: str) -> str | None:
        return None if self._url is None else self._url + ticket_id


def _name_unknown(extra: dict[str, Any], words: Mapping[str, Any], priority: Priority, status: TicketStatus, type_: TicketType) -> None:
    """Words nobody knows are named in extra["unknown"], so that they can be counted and mapped."""
    values = {"priority": priority, "status": status, "type": type_}
    unknown = {name: str(words[name])[:80] for name, value in values.items() if value.value == "unknown" and words.get(name)}
    unknown = {name: word for name, word in unknown.items() if word != "-"}
    if unknown:
        extra["unknown"] = unknown


def as_event(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """An event of the integration services as an event subscription would tell it; None for any other body.

    Such flows name the kind in words ("Status Changed") and hold the same ticket and change:
    https://developer.zendesk.com/api-reference/integration-services/trigger-events/ticket-events/
    """
    given = _object(document.get("input")).get("ticket_event") or document.get("ticket_event")
    if type(given) is not dict or type(given.get("ticket")) is not dict or type(given.get("type")) is not str:
        return None
    kind = given["type"].strip().lower().replace(" ", "_").removeprefix("ticket_")
    meta = _object(given.get("meta"))
    changed = {name: value for name, value in given.items() if name not in ("ticket", "type")}
    kind = EVENT_PREFIX + INTEGRATION_KINDS.get(kind, kind)
    return {"type": kind, "detail": given["ticket"], "event": changed, "time": meta.get("occurred_at")}


def _is_event(document: Mapping[str, Any]) -> bool:
    kind = document.get("type")
    return type(kind) is str and kind.startswith("zen:event-type:")


def _object(value: Any) -> dict[str, Any]:
    return value if type(value) is dict else {}


def _subject_id(subject: Any) -> str | None:
    if type(subject) is str and subject.startswith(SUBJECT_PREFIX):
        return to_id(subject[len(SUBJECT_PREFIX) :])
    return None


def _custom_field(event: Mapping[str, Any]) -> dict[str, Any]:
    """The custom field this event is about, under its id and under its title."""
    field, current = _object(event.get("custom_field")), event.get("current")
    value = current.get("value", current.get("id")) if type(current) is dict else current  # a lookup field has an id only
    names = (to_id(field.get("id")), to_text(field.get("title")))
    return {name: value for name in names if name}


def _add_event(extra: dict[str, Any], event: Mapping[str, Any]) -> str | None:
    """What only this event tells; answers who wrote its comment, where there is one."""
    for name in ("current", "previous", "target_ticket_id"):
        if name in event:
            extra[name] = event[name]
    meta = event.get("meta")
    if type(meta) is dict and type(meta.get("sequence")) is dict:
        extra["sequence"] = meta["sequence"].get("id")
    comment = event.get("comment")
    if type(comment) is not dict:
        return None
    extra["comment"] = to_text(comment.get("body"))
    extra["comment_public"] = comment.get("is_public") is True
    extra["comment_id"] = to_id(comment.get("id"))
    return to_id(_object(comment.get("author")).get("id"))
