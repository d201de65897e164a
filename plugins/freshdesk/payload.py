"""What Freshdesk says of a ticket, in canonical words: rules' bodies of any shape, apps' events, and tickets as REST shows them. Pure.

Words come as names from rules (the agents' labels, in the account's language) and as codes from REST, apps and `triggered_event`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from plugins.api import Delivery, NotADelivery, PluginConfigError, Priority, TicketChange, TicketMetadata, TicketStatus, TicketType
from plugins.freshdesk.body import AppEvent, app_event, document_of, record_of
from plugins.freshdesk.text import plain
from plugins.freshdesk.triggered_event import ACTIONS, COMMENTS, Part, changed_field, parts_of
from plugins.mapping import FieldMap, WordMap, tenant_words, to_id, to_micros, to_tags, to_text

EXTERNAL_ID_FIELD = "cf_external_id"
PRIORITIES = WordMap(
    {
        "1": Priority.LOW,
        "2": Priority.MEDIUM,
        "3": Priority.HIGH,
        "4": Priority.URGENT,
        "low": Priority.LOW,
        "medium": Priority.MEDIUM,
        "high": Priority.HIGH,
        "urgent": Priority.URGENT,
    },
    Priority.UNKNOWN,
)
STATUSES = WordMap(
    {
        "2": TicketStatus.OPEN,
        "3": TicketStatus.PENDING,
        "4": TicketStatus.RESOLVED,
        "5": TicketStatus.CLOSED,
        **dict.fromkeys(("6", "7"), TicketStatus.PENDING),
        "new": TicketStatus.NEW,
        "open": TicketStatus.OPEN,
        "being processed": TicketStatus.OPEN,
        "reopened": TicketStatus.OPEN,
        **dict.fromkeys(("pending", "awaiting your reply", "waiting on customer", "waiting on third party"), TicketStatus.PENDING),
        "resolved": TicketStatus.RESOLVED,
        "closed": TicketStatus.CLOSED,
    },
    TicketStatus.UNKNOWN,
)
TYPES = WordMap(
    {
        "incident": TicketType.INCIDENT,
        "problem": TicketType.PROBLEM,
        "change": TicketType.CHANGE,
        **dict.fromkeys(("question", "feature request", "refund", "request", "service request"), TicketType.REQUEST),
        "service task": TicketType.INCIDENT,
    },
    TicketType.UNKNOWN,
)
APP_EVENTS: Mapping[str, TicketChange] = {
    "onTicketCreate": TicketChange.CREATED,
    "onTicketUpdate": TicketChange.UPDATED,
    "onTicketDelete": TicketChange.DELETED,
    "onConversationCreate": TicketChange.COMMENTED,
    "onConversationUpdate": TicketChange.UPDATED,
    "onConversationDelete": TicketChange.UPDATED,
}
OWN_NAMES: Mapping[str, str] = {
    "ticket_id": "id",
    "change": "triggered_event",
    "requester": "requester_email",
    "assignee": "agent_email",
    "sla_due_at": "due_by",
}
"""Canonical names of `webhook.fields` where a record calls the same otherwise."""
RANK = (TicketChange.DELETED, TicketChange.CREATED, TicketChange.RESOLVED, TicketChange.COMMENTED, TicketChange.UPDATED)
"""Of several things that happened, the first here names the change."""
ENDED = (TicketStatus.RESOLVED, TicketStatus.CLOSED)
_IN_URL = re.compile(r"/tickets/(\d+)\b")
_SAID_BY = re.compile(r"\s*([^<>:\n]{1,80}) : ")
"""How `latest_public_comment` begins: its author's name."""


class FreshdeskPayload:
    """Reads by one tool's settings: `webhook.fields`, `words`, `default_priority`, `default_type`, `products`, `base_url`."""

    def __init__(self, tenant: str, settings: Mapping[str, Any]) -> None:
        self._tenant = tenant
        own = (settings.get("webhook") or {}).get("fields") or {}
        self._own_fields = FieldMap(own) if own else None
        self._own_names = {**OWN_NAMES, "external_id": str(settings.get("external_id_field") or EXTERNAL_ID_FIELD)}
        self._priorities = PRIORITIES.with_words(tenant_words(settings, "priority", Priority))
        self._statuses = STATUSES.with_words(tenant_words(settings, "status", TicketStatus))
        self._types = TYPES.with_words(tenant_words(settings, "type", TicketType))
        self._no_priority = _default(settings, "default_priority", Priority)
        self._no_type = _default(settings, "default_type", TicketType)
        self._external_id_field = str(settings.get("external_id_field") or EXTERNAL_ID_FIELD)
        self._brands = {str(product).casefold(): str(alias) for alias, product in _products(settings).items()}
        base_url = str(settings.get("base_url") or "").rstrip("/")
        self._url = f"{base_url}/a/tickets/" if base_url else None

    # deliveries --------------------------------------------------------------------------------------------------------
    def ticket_key(self, delivery: Delivery) -> str | None:
        """The ticket's id; None when the body does not tell."""
        try:
            return self._ticket_id(self._read(delivery)[0])
        except NotADelivery:
            return None

    def delivery_id(self, delivery: Delivery) -> str | None:
        """A name for a delivery that can come but once: its body's hash, when the body tells of the ticket's creation or of its moment.

        Freshdesk numbers no delivery and repeats one after 5, 35 and 95 minutes. Two equal bodies without a time may well be two
        events: those are left to the shorter memory for deliveries without an id.
        """
        try:
            record, event = self._read(delivery)
        except NotADelivery:
            return None
        parts = parts_of(record.get("triggered_event"))
        once = any(ACTIONS.get(part.value.lower()) is TicketChange.CREATED for part in parts if part.kind == "ticket_action")
        if not once and (event is None or event.timestamp is None) and record.get("updated_at") is None:
            return None
        return blake2b(delivery.body, digest_size=16).hexdigest()

    def metadata(self, delivery: Delivery) -> TicketMetadata:
        """The delivery in canonical words; raises NotADelivery when it cannot be read or names no ticket."""
        record, event = self._read(delivery)
        ticket_id = self._ticket_id(record)
        if ticket_id is None:
            if event is not None and event.name not in APP_EVENTS:
                raise NotADelivery(
                    f"an app's event of another kind of resource ({event.name[:80]}); pass on ticket and conversation events only"
                )
            raise NotADelivery("the body names no ticket; put ticket_id into the rule's content, or set webhook.fields.ticket_id")
        extra: dict[str, Any] = {}
        change = self._app_change(event, extra) if event is not None else self._rule_change(record, extra)
        _keep(extra, record)
        actor = _person(event.actor) if event is not None else _actor(record, extra)
        return self._metadata(ticket_id, record, change, actor, extra, _person(event.requester) if event is not None else None)

    # tickets as REST shows them ------------------------------------------------------------------------------------------
    def ticket(self, ticket: Mapping[str, Any], status_label: str | None = None) -> TicketMetadata:
        """A ticket of the API; `status_label` is the agents' name of a status of the account's own."""
        ticket_id = to_id(ticket.get("id"))
        if ticket_id is None:
            raise NotADelivery("the ticket has no id")
        record = {name: value for name, value in ticket.items() if value is not None}
        if status_label is not None:
            record["status"] = status_label
        extra: dict[str, Any] = {}
        for name in ("product_id", "email_config_id", "group_id", "company_id", "source", "spam", "association_type"):
            if record.get(name) is not None:
                extra[name] = record[name]
        return self._metadata(ticket_id, record, TicketChange.UNKNOWN, None, extra, None)

    # parts -------------------------------------------------------------------------------------------------------------
    def _read(self, delivery: Delivery) -> tuple[dict[str, Any], AppEvent | None]:
        document = document_of(delivery)
        event = app_event(document)
        record = event.record if event is not None else record_of(document)
        if self._own_fields is not None:
            record = {**record, **{self._own_names.get(n, n): v for n, v in self._own_fields.read(document).items() if v is not None}}
        return record, event

    @staticmethod
    def _ticket_id(record: Mapping[str, Any]) -> str | None:
        for name in ("id", "display_id", "ticketid"):
            if (found := to_id(record.get(name))) is not None:
                return found
        for name in ("url", "portal_url"):
            if found_in := _IN_URL.search(to_text(record.get(name))[:500]):
                return found_in[1]
        return None

    def _rule_change(self, record: Mapping[str, Any], extra: dict[str, Any]) -> TicketChange:
        event = record.get("triggered_event")
        if event is None:
            event = record.get("change", record.get("event", record.get("action")))
        parts = parts_of(event)
        if not parts:
            return TicketChange.COMMENTED if record.get("note_comment") is not None else TicketChange.UNKNOWN
        extra["event"] = to_text(event)[:200] or parts[0].kind
        found = {self._change_of(part, extra) for part in parts}
        if changed := tuple(dict.fromkeys(changed_field(part.kind) for part in parts if part.changed)):
            extra["changed"] = changed
            extra["previous"], extra["current"] = next((part.before, part.value) for part in parts if part.changed)
        change = next((known for known in RANK if known in found), TicketChange.UNKNOWN)
        if change is TicketChange.COMMENTED:
            _add_comment(extra, record)
        return change

    def _change_of(self, part: Part, extra: dict[str, Any]) -> TicketChange:
        if part.changed:
            ended = part.kind == "status" and self._statuses(part.value) in ENDED
            return TicketChange.RESOLVED if ended else TicketChange.UPDATED
        if part.kind in COMMENTS:
            public = COMMENTS[part.kind]
            extra["comment_public"] = "private" not in part.value.lower() if public is None else public
            return TicketChange.COMMENTED
        if part.kind == "ticket_action":
            return ACTIONS.get(part.value.lower(), TicketChange.UNKNOWN)
        return TicketChange.UPDATED

    def _app_change(self, event: AppEvent, extra: dict[str, Any]) -> TicketChange:
        extra["event"] = event.name[:200]
        change = APP_EVENTS.get(event.name, TicketChange.UNKNOWN)
        if event.changes:
            extra["changed"] = tuple(dict.fromkeys(changed_field(str(name)) for name in list(event.changes)[:50]))
            status = event.changes.get("status")
            after = status[-1] if type(status) is list and status else status.get("to") if type(status) is dict else status
            if change is TicketChange.UPDATED and self._statuses(to_text(after)) in ENDED:
                change = TicketChange.RESOLVED
        said = event.conversation
        if said is not None and change is TicketChange.COMMENTED:
            extra["comment"] = plain(to_text(said.get("body_text")) or to_text(said.get("body")))
            extra["comment_public"] = said.get("private") is not True
            extra["comment_id"] = to_id(said.get("id"))
        if (actor_id := to_id(event.actor.get("id"))) is not None:
            extra["actor_id"] = actor_id
        return change

    def _metadata(
        self,
        ticket_id: str,
        record: Mapping[str, Any],
        change: TicketChange,
        actor: str | None,
        extra: dict[str, Any],
        requester: str | None,
    ) -> TicketMetadata:
        priority_word, status_word, type_word = (to_text(record.get(name)) for name in ("priority", "status", "type"))
        priority = self._priorities(priority_word) if priority_word else self._no_priority
        status = self._statuses(status_word)
        type_ = self._types(type_word) if type_word else self._no_type
        unknown = {
            name: word[:80]
            for name, word, value in (("priority", priority_word, priority), ("status", status_word, status), ("type", type_word, type_))
            if word and value.value == "unknown"
        }
        if unknown:
            extra["unknown"] = unknown
        custom = record.get("custom_fields")
        fields = dict(custom) if type(custom) is dict else {}
        fields.update({name: value for name, value in record.items() if name.startswith("cf_")})
        if (external_id := fields.get(self._external_id_field)) is not None:
            extra["external_id"] = external_id
        self._add_brand(extra, record)
        return TicketMetadata(
            tenant_id=self._tenant,
            ticket_id=ticket_id,
            type=type_,
            priority=priority,
            status=status,
            change=change,
            subject=to_text(record.get("subject")),
            description=_description(record),
            requester=requester or _named(record, "requester", "contact", "requester_id"),
            assignee=_named(record, "agent", "responder", "responder_id"),
            actor=actor,
            tags=_tags(record.get("tags")),
            custom_fields=fields,
            sla_due_at=to_micros(record.get("due_by", record.get("due_by_time"))),
            created_at=to_micros(record.get("created_at", record.get("created_on"))),
            updated_at=to_micros(record.get("updated_at", record.get("updated_on"))),
            url=self._url + ticket_id if self._url else to_text(record.get("url")) or None,
            extra=extra,
        )

    def _add_brand(self, extra: dict[str, Any], record: Mapping[str, Any]) -> None:
        """`extra["product"]`: the tenant's own name of the ticket's brand, else the tool's name of it."""
        name = next((to_text(record[n]) for n in ("product_name", "product_description", "product") if to_text(record.get(n))), "")
        product_id = to_id(record.get("product_id"))
        if product_id is not None:
            extra["product_id"] = product_id
        brand = self._brands.get(name.casefold()) or (self._brands.get(product_id) if product_id else None) or name
        if brand:
            extra["product"] = brand


def _description(record: Mapping[str, Any]) -> str:
    text = record.get("description_text")
    return to_text(text) if text is not None else plain(to_text(record.get("description")))


def _tags(value: Any) -> tuple[str, ...]:
    """A tag may hold spaces: only commas part them."""
    return tuple(tag.strip() for tag in value.split(",") if tag.strip()) if type(value) is str else to_tags(value)


def _named(record: Mapping[str, Any], *names: str) -> str | None:
    """A person of the record: by e-mail address, else by name or id."""
    for form in ("{}_email", "{}", "{}_name"):
        for name in names:
            if found := to_text(record.get(form.format(name))):
                return found
    return None


def _person(person: Mapping[str, Any]) -> str | None:
    return to_text(person.get("email")) or to_id(person.get("id"))


def _actor(record: Mapping[str, Any], extra: dict[str, Any]) -> str | None:
    """Who acted, as far as a rule can tell: what its template says (Freshdesk has no placeholder for it), else a comment's author."""
    for name in ("actor", "actor_email", "actor_id", "performer", "performer_email", "note_commenter_email"):
        if found := to_text(record.get(name)):
            return found
    return extra.get("comment_author")


def _add_comment(extra: dict[str, Any], record: Mapping[str, Any]) -> None:
    """The comment of a comment's event only: the latest one is in every body, and may be ours while a person changes a field."""
    if type(private := record.get("note_private")) is bool or str(private).lower() in ("true", "false"):
        extra["comment_public"] = str(private).lower() == "false"
    public = extra.get("comment_public")
    first = "latest_private_comment" if public is False else "latest_public_comment"
    raw = next((to_text(record[n]) for n in ("note_comment", "comment", first) if to_text(record.get(n))), "")
    if not raw and public is None:
        raw = to_text(record.get("latest_private_comment"))
        extra["comment_public"] = not raw
    if author := _SAID_BY.match(raw[:100]):
        extra["comment_author"] = author[1].strip()
        raw = raw[author.end() :]
    extra["comment"] = plain(raw)


def _keep(extra: dict[str, Any], record: Mapping[str, Any]) -> None:
    for name in ("portal_url", "portal_name", "group_name", "company_name", "source", "contact_unique_external_id"):
        if text := to_text(record.get(name)):
            extra[name] = text[:500]


def _products(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The tenant's brands: its own name to the product's name or id."""
    given = settings.get("products") or {}
    if not isinstance(given, Mapping) or any(isinstance(product, (Mapping, list)) for product in given.values()):
        raise PluginConfigError("products must map a name of yours to a product's name or id: {phones: 'Acme Phones', tv: 103000000639}")
    return dict(given)


def _default(settings: Mapping[str, Any], name: str, kind: Any) -> Any:
    try:
        return kind(settings.get(name) or "unknown")
    except ValueError:
        raise PluginConfigError(f"{name} must be one of: {', '.join(kind)}") from None
