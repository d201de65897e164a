"""What a Freshservice delivery or record says, in canonical words. A tenant's `webhook.fields` comes before all known shapes, field by
field; names and codes are read alike. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from plugins.api import Delivery, NotADelivery, PluginConfigError, Priority, TicketChange, TicketMetadata, TicketStatus, TicketType
from plugins.freshservice.body import FIELDS, Body, Json, changed_in, comment_in, decoded, device_of, person_of, plain, unescaped, word_of
from plugins.freshservice.records import (
    APPROVALS,
    PRIORITIES,
    RECORDS,
    TICKET,
    TYPE_BY_PREFIX,
    TYPES,
    Record,
)
from plugins.mapping import FieldMap, tenant_words, to_id, to_micros, to_tags, to_text

MAPPABLE: Final = frozenset({*FIELDS, "ticket_id", "kind", "comment_public"} - {"text"})
"""Names that `webhook.fields` may map."""

_EVENT_WORDS: Final = (
    (TicketChange.DELETED, frozenset({"delete", "deleted", "trashed", "spam"})),
    (TicketChange.COMMENTED, frozenset({"note", "notes", "noted", "comment", "commented", "comments", "reply", "replied", "conversation"})),
    (TicketChange.RESOLVED, frozenset({"resolve", "resolved", "close", "closed"})),
    (TicketChange.CREATED, frozenset({"create", "created", "creation", "raised", "new", "opened", "logged"})),
    (
        TicketChange.UPDATED,
        frozenset({"update", "updated", "changed", "edited", "assigned", "added", "moved", "escalated", "status", "priority", "approval"}),
    ),
)
"""An event's name is free text: the first set that one of its words is in decides."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_DONE = (TicketStatus.RESOLVED, TicketStatus.CLOSED)
OUR_ID: Final = "aia-"
"""How our ids begin (schemas/ids.py): among a ticket's tags, or in brackets at the end of another record's description."""
_REFERENCE = re.compile(r"\[(aia-[0-9A-Za-z-]{1,80})\]\s*$")


class FreshservicePayload:
    """Reads deliveries and the API's records by one tool's settings: `webhook.fields`, `words`, `default_priority`, `base_url`."""

    def __init__(self, tenant: str, settings: Mapping[str, Any]) -> None:
        self._tenant = tenant
        paths = (settings.get("webhook") or {}).get("fields") or {}
        if strange := sorted(set(paths) - MAPPABLE):
            raise PluginConfigError(f"webhook.fields: {str(strange[0])[:40]!r} is not one of {', '.join(sorted(MAPPABLE))}")
        self._paths = FieldMap(paths) if paths else None
        self._priorities = PRIORITIES.with_words(tenant_words(settings, "priority", Priority))
        self._types = TYPES.with_words(tenant_words(settings, "type", TicketType))
        own = tenant_words(settings, "status", TicketStatus)
        self._statuses = {name: record.statuses.with_words(own) for name, record in RECORDS.items()}
        self._events = {word.casefold(): change for word, change in tenant_words(settings, "event", TicketChange).items()}
        try:
            self._no_priority = Priority(settings.get("default_priority", Priority.UNKNOWN))
        except ValueError:
            raise PluginConfigError(f"default_priority must be one of: {', '.join(Priority)}") from None
        self._base_url = str(settings.get("base_url") or "").rstrip("/")

    # deliveries ------------------------------------------------------------------------------------------------------
    def ticket_key(self, delivery: Delivery) -> str | None:
        """The record's id; None when the body does not tell, or cannot be read."""
        try:
            return Body(decoded(delivery), self._paths).ticket_id
        except NotADelivery:
            return None

    def delivery_id(self, delivery: Delivery) -> str | None:
        """A hash of the body, where it holds the record's time of change down to a second: then only a repeat has the same bytes.

        The tool sends no id of its own, and repeats an hour later. Without such a time two changes may look alike: None.
        """
        try:
            updated_at = Body(decoded(delivery), self._paths).get("updated_at")
        except NotADelivery:
            return None
        if to_micros(updated_at) is None or (isinstance(updated_at, str) and ":" not in updated_at and not updated_at.isdigit()):
            return None
        return sha256(delivery.body).hexdigest()

    def metadata(self, delivery: Delivery) -> TicketMetadata:
        """The delivery in canonical words; raises NotADelivery when it cannot be read or names no record."""
        body = Body(decoded(delivery), self._paths)
        if body.ticket_id is None:
            raise NotADelivery("the body names no ticket; put ticket_id into the webhook's content, or set webhook.fields.ticket_id")
        extra: Json = {}
        comment, author = comment_in(body, extra)
        status = self._status(body.record, body.get("status"), extra)
        event = body.get("event")
        if not body.kind_is_known:
            extra["unknown"] = {**extra.get("unknown", {}), "kind": body.kind[:80]}
        changed = changed_in(body.changes, event)
        if changed:
            extra["changed"] = changed
        if event is not None:
            extra["event"] = event if isinstance(event, (str, int)) else str(event)[:200]
        people = [actor for actor in (body.get("actor"), author, body.first(("actor_id",))) if actor]
        ids = [person.get("id") if type(person) is dict else person for person in people]
        if (actor_id := next((found for value in reversed(ids) if (found := to_id(value)) and found.isdecimal()), None)) is not None:
            extra["actor_id"] = actor_id
        return self._metadata(
            body.record,
            body.ticket_id,
            {name: body.get(name) for name in FIELDS},
            TYPE_BY_PREFIX.get(body.prefix),
            status,
            self._change(event, comment, status, changed),
            extra,
            actor=next((person for actor in people if (person := person_of(actor))), None),
            assets=body.first(("assets",)),
        )

    # the API's records -----------------------------------------------------------------------------------------------
    def record(self, record: Record, document: Mapping[str, Any]) -> TicketMetadata:
        """A record as API v2 shows it; raises NotADelivery when it has no id."""
        number = to_id(document.get("id"))
        if number is None:
            raise NotADelivery(f"the {record.name} has no id")
        extra: Json = {}
        status = self._status(record, document.get("status"), extra)
        untouched = document.get("responder_id") is None and "responder_id" in document
        created_at = document.get("created_at")
        if record is TICKET and status is TicketStatus.OPEN and untouched and created_at and created_at == document.get("updated_at"):
            status = TicketStatus.NEW  # the tool has no such status: nobody has the ticket, and nobody touched it
        found = {name: next((document[key] for key in keys if document.get(key) not in (None, "")), None) for name, keys in FIELDS.items()}
        change = TicketChange.DELETED if document.get("deleted") is True or document.get("spam") is True else TicketChange.UNKNOWN
        if (approval := to_id(document.get("approval_status"))) is not None:
            extra["approval_status"] = APPROVALS.get(approval, approval)
        return self._metadata(record, record.id_of(number), found, None, status, change, extra, actor=None, assets=document.get("assets"))

    # both ------------------------------------------------------------------------------------------------------------
    def _metadata(
        self,
        record: Record,
        ticket_id: str,
        found: Mapping[str, Any],
        type_: TicketType | None,
        status: TicketStatus,
        change: TicketChange,
        extra: Json,
        *,
        actor: str | None,
        assets: Any,
    ) -> TicketMetadata:
        priority = self._no_priority if found["priority"] is None else self._priorities(word_of(found["priority"]))
        if type_ is None:
            type_ = record.type if record is not TICKET else self._types(word_of(found["type"]))
        unknown: Json = dict(extra.pop("unknown", {}))
        for name, value in (("priority", priority), ("type", type_)):
            if value.value == "unknown" and found[name] is not None:
                unknown[name] = word_of(found[name])[:80]
        times = {name: to_micros(found[name]) for name in ("created_at", "updated_at", "sla_due_at", "fr_due_at")}
        for name, moment in times.items():
            if moment is None and found[name] is not None:
                unknown[name] = to_text(found[name])[:80]  # an account's own date format
        if unknown:
            extra["unknown"] = unknown
        if times["fr_due_at"] is not None:
            extra["fr_due_at"] = times["fr_due_at"]
        if record is not TICKET:
            extra["record"] = record.name
        if (workspace := to_id(found["workspace"])) is not None:
            extra["workspace_id"] = workspace
        custom = found["custom_fields"] if type(found["custom_fields"]) is dict else {}
        tags = to_tags(found["tags"])
        description = unescaped(to_text(found["text"])) or plain(unescaped(to_text(found["description"])))
        ours = next((tag for tag in tags if tag.startswith(OUR_ID)), None) or _reference_in(description)
        extra["external_id"] = to_id(found["external_id"]) or ours
        url = to_text(found["url"])
        if not url.startswith("http"):
            number = ticket_id.rpartition("-")[2]
            url = f"{self._base_url}/a/{record.plural}/{number}" if self._base_url else ""
        return TicketMetadata(
            tenant_id=self._tenant,
            ticket_id=ticket_id,
            type=type_,
            priority=priority,
            status=status,
            change=change,
            subject=unescaped(to_text(found["subject"])),
            description=description,
            requester=person_of(found["requester"]),
            assignee=person_of(found["assignee"]),
            actor=actor,
            tags=tags,
            custom_fields={name: value for name, value in custom.items() if value is not None},
            device=device_of(assets),
            sla_due_at=times["sla_due_at"],
            created_at=times["created_at"],
            updated_at=times["updated_at"],
            url=url or None,
            extra=extra,
        )

    def _status(self, record: Record, value: Any, extra: Json) -> TicketStatus:
        """A status by name or code; an account's own status, a code above the tool's, counts as pending until `words` says more."""
        if value is None:
            return TicketStatus.UNKNOWN
        word = word_of(value)
        status = self._statuses[record.name](word)
        if status is TicketStatus.UNKNOWN and word:
            extra["unknown"] = {"status": word[:80]}
            if record is TICKET and word.isdecimal() and int(word[:9]) > 5:
                return TicketStatus.PENDING
        return status

    def _change(self, event: Any, commented: bool, status: TicketStatus, changed: tuple[str, ...]) -> TicketChange:
        """What the rule says happened, else that something did; a rule for updates tells of a note, or of the end, by what it sends."""
        change = TicketChange.UPDATED
        if event is not None:
            word = to_text(event)
            words = {part.lower() for part in _WORD.findall(word)}
            known = self._events.get(word.strip().casefold())
            change = known or next((kind for kind, some in _EVENT_WORDS if words & some), TicketChange.UNKNOWN)
            if changed and change is TicketChange.UNKNOWN:
                change = TicketChange.UPDATED
        if change is not TicketChange.UPDATED:
            return change
        if commented:
            return TicketChange.COMMENTED
        return TicketChange.RESOLVED if status in _DONE and (not changed or "status" in changed) else change


def _reference_in(description: str) -> str | None:
    found = _REFERENCE.search(description[-200:])
    return found[1] if found else None
