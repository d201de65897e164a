"""What a Cherwell record says, in canonical words: from a delivery an admin composed, or from the API's read shape. Pure.

A One-Step builds its body from tokens: JSON of any shape with any spelling of the names, a form, or a text with nothing but an id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from plugins.api import (
    Delivery,
    NotADelivery,
    PluginConfigError,
    Priority,
    TicketChange,
    TicketMetadata,
    TicketStatus,
    TicketType,
)
from plugins.cherwell.objects import ObjectMap, is_record_id, object_maps, ticket_id_of
from plugins.cherwell.times import CultureTimes
from plugins.mapping import FieldMap, WordMap, squeezed, tenant_words, to_id, to_text
from plugins.repair import lenient_object, object_or_form

Json = dict[str, Any]

PRIORITIES: Final[Mapping[str, Priority]] = {
    **dict.fromkeys(("1", "P1", "Critical", "Urgent"), Priority.URGENT),
    **dict.fromkeys(("2", "P2", "High"), Priority.HIGH),
    **dict.fromkeys(("3", "P3", "Medium", "Normal"), Priority.MEDIUM),
    **dict.fromkeys(("4", "P4", "Low", "5", "P5", "Planning"), Priority.LOW),
}
STATUSES: Final[Mapping[str, TicketStatus]] = {
    **dict.fromkeys(("New", "Logged", "Submitted", "Requested"), TicketStatus.NEW),
    **dict.fromkeys(
        (
            "Assigned", "In Progress", "Reopened", "Open", "Acknowledged", "Classify", "Investigate", "Plan", "Planning", "Approve",
            "Approved", "Deploy", "Implementation", "In Review", "Review", "Under Investigation", "Known Error", "Waiting for Approval",
        ),
        TicketStatus.OPEN,
    ),
    **dict.fromkeys(("Pending", "On Hold", "Waiting", "Waiting for Customer", "Suspended"), TicketStatus.PENDING),
    **dict.fromkeys(("Resolved", "Completed", "Fulfilled", "Implemented"), TicketStatus.RESOLVED),
    **dict.fromkeys(("Closed", "Cancelled", "Canceled", "Rejected", "Withdrawn"), TicketStatus.CLOSED),
}  # fmt: skip
TYPES: Final[Mapping[str, TicketType]] = {
    **dict.fromkeys(("Incident", "Failure", "Task"), TicketType.INCIDENT),
    **dict.fromkeys(("Service Request", "ServiceRequest", "Request"), TicketType.REQUEST),
    **dict.fromkeys(("Problem",), TicketType.PROBLEM),
    **dict.fromkeys(("Change", "Change Request", "ChangeRequest"), TicketType.CHANGE),
}
EVENTS: Final[Mapping[str, TicketChange]] = {
    **dict.fromkeys(("created", "create", "new", "opened", "insert", "inserted"), TicketChange.CREATED),
    **dict.fromkeys(("updated", "update", "changed", "modified", "saved", "statuschanged", "assigned", "reopened"), TicketChange.UPDATED),
    **dict.fromkeys(("commented", "comment", "note", "journal", "noteadded", "journaladded", "journalcreated"), TicketChange.COMMENTED),
    **dict.fromkeys(("resolved", "closed", "completed", "fulfilled"), TicketChange.RESOLVED),
    **dict.fromkeys(("deleted", "delete", "removed"), TicketChange.DELETED),
}
"""The last part of an event's name, squeezed to letters."""

IDS: Final = FieldMap(
    {
        "record": ("busobrecid", "recid", "recordid", "incidentrecid", "parentrecid"),
        "public": (
            "busobpublicid", "publicid", "incidentid", "changeid", "changerequestid", "problemid",
            "servicerequestid", "ticketid",
            "parentpublicid", "id", "number",
        ),
        "object": ("busobname", "businessobject", "objectname", "object", "parenttypename"),
        "event": ("event", "eventtype", "trigger", "action"),
        "comment": ("comment", "note", "journaltext", "journal", "details", "journaldetails"),
        "comment_public": ("commentpublic", "public", "showinselfservice"),
        "changed": ("changed", "changedfields", "changes"),
        "actor": ("actor", "modifiedby", "lastmodby", "lastmodifiedby", "user"),
        "external_id": ("externalreference", "externalid"),
        "url": ("url", "link"),
    }
)  # fmt: skip
"""Members of a delivery by their squeezed names: templates spell them as they like."""
_PLAIN_ID = re.compile(r"\s*[\"']?([0-9A-Fa-f]{42}|[0-9A-Fa-f]{32}|\d{1,15})[\"']?\s*")
_TOKEN = re.compile(r"[0-9A-Fa-f]{42}|[0-9A-Fa-f]{32}")
MAX_TEXT_BODY: Final = 4096


class CherwellReader:
    """Reads records by one tool's settings: `objects`, `words`, `culture`, `time_zone`, `ticket_ids`, `webhook.fields`."""

    def __init__(self, tenant: str, settings: Mapping[str, Any]) -> None:
        self._tenant = tenant
        self.objects = object_maps(settings)
        self.first = next(iter(self.objects.values()))
        self._by_name = {squeezed(made.name): made for made in self.objects.values()}
        own = (settings.get("webhook") or {}).get("fields") or {}
        self._own = FieldMap({str(name): path for name, path in own.items()}) if own else None
        self._priorities = WordMap(PRIORITIES, Priority.UNKNOWN).with_words(tenant_words(settings, "priority", Priority))
        self._statuses = WordMap(STATUSES, TicketStatus.UNKNOWN).with_words(tenant_words(settings, "status", TicketStatus))
        self._types = WordMap(TYPES, TicketType.UNKNOWN).with_words(tenant_words(settings, "type", TicketType))
        self.times = CultureTimes(str(settings.get("culture") or "en-US"), str(settings.get("time_zone") or "UTC"))
        self._external_id_field = str(settings.get("external_id_field") or "ExternalReference")
        ids = str(settings.get("ticket_ids") or "public")
        if ids not in ("public", "record"):
            raise PluginConfigError(f"ticket_ids {ids[:40]!r} is not one of public, record")
        self._by_record = ids == "record"
        self._base = str(settings.get("base_url") or "").rstrip("/").removesuffix("/CherwellAPI")

    def object_named(self, name: str) -> ObjectMap | None:
        """The kind of ticket a business object is; None for any other object."""
        return self._by_name.get(squeezed(name))

    # deliveries ------------------------------------------------------------------------------------------------------
    def ticket_key(self, delivery: Delivery) -> str | None:
        try:
            document = self._document(delivery)
        except NotADelivery:
            return None
        return self._ids(document)[0]

    def delivery(self, delivery: Delivery) -> TicketMetadata:
        """A delivery in canonical words; raises NotADelivery when it names no record."""
        document = self._document(delivery)
        ticket_id, made, name = self._ids(document)
        if ticket_id is None:
            raise NotADelivery("the body names no record; put busObPublicId or busObRecId into the One-Step's body, or set webhook.fields")
        word = to_text(self._value(document, "event"))
        verb = squeezed(re.split(r"[\s.:/]", word.strip())[-1])
        return self._metadata(document, ticket_id, made, name, EVENTS.get(verb, TicketChange.UNKNOWN), word)

    def record(self, answer: Mapping[str, Any], made: ObjectMap) -> TicketMetadata:
        """A record as the API reads it."""
        document = flattened(answer)
        ticket_id = self.id_of(answer, made)
        if ticket_id is None:
            raise NotADelivery("the record has no id")
        return self._metadata(document, ticket_id, made, made.name, TicketChange.UNKNOWN, "")

    def id_of(self, answer: Mapping[str, Any], made: ObjectMap) -> str | None:
        """The ticket's id in an answer that reads or saves a record, by the setting `ticket_ids`."""
        public, record = to_id(answer.get("busObPublicId")), to_id(answer.get("busObRecId"))
        chosen = (record or public) if self._by_record else (public or record)
        return ticket_id_of(made.name, chosen, self.first.name) if chosen else None

    def url_of(self, record_id: str | None, made: ObjectMap) -> str | None:
        """The record in the browser client."""
        return f"{self._base}/CherwellClient/Access/Command/Queries.GoToRecord?BusObID={made.name}&RecID={record_id}" if record_id else None

    def _document(self, delivery: Delivery) -> Json:
        kind = delivery.content_type
        if "form-urlencoded" in kind:
            return flattened(object_or_form(delivery.body, kind))
        if len(delivery.body) <= MAX_TEXT_BODY and (plain := _PLAIN_ID.fullmatch(delivery.body.decode("utf-8", "replace"))):
            return {"busobrecid" if is_record_id(plain[1]) else "busobpublicid": plain[1]}
        try:
            document = lenient_object(delivery.body)
        except NotADelivery:
            only = _ids_in_text(delivery)
            if only is None:
                raise
            return {"busobrecid" if is_record_id(only) else "busobpublicid": only}
        found = flattened(document)
        if self._own is not None:
            found |= {f"own {name}": value for name, value in self._own.read(document).items() if value is not None}
        return found

    def _value(self, document: Json, name: str) -> Any:
        """One value of a delivery: where the tenant said it stands, else under its usual names."""
        own = document.get(f"own {name}")
        return own if own is not None else IDS.get(document, name)

    def _ids(self, document: Json) -> tuple[str | None, ObjectMap | None, str]:
        name = to_text(self._value(document, "object")).strip() or self._object_of_event(document) or self.first.name
        made = self.object_named(name)
        record, public = to_id(self._value(document, "record")), to_id(self._value(document, "public"))
        if public is not None and is_record_id(public):
            record, public = record or public, None
        own = to_id(document.get("own ticket_id"))
        chosen = own or ((record or public) if self._by_record else (public or record))
        name = made.name if made is not None else re.sub(r"\W", "", name)[:64] or self.first.name
        return (ticket_id_of(name, chosen, self.first.name) if chosen else None), made, name

    def _object_of_event(self, document: Json) -> str:
        """The object an event's name begins with ("change.updated"), where the body names none."""
        word = re.split(r"[\s.:/]", to_text(self._value(document, "event")).strip())[0].casefold()
        return next((made.name for made in self.objects.values() if word in (made.kind.value, made.name.casefold())), "")

    # both --------------------------------------------------------------------------------------------------------------
    def _metadata(
        self, document: Json, ticket_id: str, made: ObjectMap | None, name: str, change: TicketChange, event: str
    ) -> TicketMetadata:
        fields = (made or self.first).fields

        def field(canonical: str) -> Any:
            own = document.get(f"own {canonical}")
            return own if own is not None else document.get(squeezed(fields.get(canonical, "")))

        unknown: dict[str, str] = {}

        def worded(canonical: str, words: WordMap[Any]) -> Any:
            word = to_text(field(canonical)).strip()
            found = words(word)
            if found is words.unknown and (word or self._misnamed(document, fields, canonical)):
                unknown[canonical] = word[:80] or f"(no field {fields[canonical]})"
            return found

        type_ = made.kind if made is not None else self._types(name)
        if type_ in (TicketType.INCIDENT, TicketType.UNKNOWN) and to_text(field("type")).strip():
            type_ = worded("type", self._types)
        if type_ is TicketType.UNKNOWN and "type" not in unknown:
            unknown["type"] = name[:80]
        priority, status = worded("priority", self._priorities), worded("status", self._statuses)
        record = to_id(self._value(document, "record"))
        extra: dict[str, Any] = {
            "object": name,
            "record_id": record,
            "public_id": to_id(self._value(document, "public")),
            "external_id": to_text(document.get(squeezed(self._external_id_field)) or self._value(document, "external_id")) or None,
            "team": to_text(field("team")) or None,
        }
        if event:
            extra["event"] = event
            change = self._tell_event(document, extra, change)
        if unknown:
            extra["unknown"] = unknown
        mapped = {value.casefold() for value in fields.values()}
        read = document.get("own fields")
        return TicketMetadata(
            tenant_id=self._tenant,
            ticket_id=ticket_id,
            type=type_,
            priority=priority,
            status=status,
            change=change,
            subject=to_text(field("subject")),
            description=to_text(field("description")),
            requester=to_text(field("requester")) or None,
            assignee=to_text(field("assignee")) or None,
            actor=to_text(field("actor") or self._value(document, "actor")) or None,
            custom_fields={key: value for key, value in read.items() if value and key.casefold() not in mapped} if read else {},
            sla_due_at=self.times.micros(field("due_at")),
            created_at=self.times.micros(field("created_at") or document.get("createdate")),
            updated_at=self.times.micros(field("updated_at") or document.get("lastmoddatetime")),
            url=to_text(self._value(document, "url")) or self.url_of(record, made or self.first) if self._base else None,
            extra=extra,
        )

    @staticmethod
    def _misnamed(document: Json, fields: Mapping[str, str], canonical: str) -> bool:
        """Whether a whole record lacks the mapped field: then it has another name in this Cherwell."""
        return "own fields" in document and canonical in fields and squeezed(fields[canonical]) not in document

    def _tell_event(self, document: Json, extra: dict[str, Any], change: TicketChange) -> TicketChange:
        """What only an event tells: its comment, the fields it changed."""
        if (comment := to_text(self._value(document, "comment"))) and change in (TicketChange.COMMENTED, TicketChange.UNKNOWN):
            extra["comment"] = comment
            extra["comment_public"] = to_text(self._value(document, "comment_public")).strip().lower() in ("true", "1", "yes")
            change = TicketChange.COMMENTED
        changed = self._value(document, "changed")
        names = re.split(r"[,;]", changed) if isinstance(changed, str) else changed if isinstance(changed, list) else ()
        canonical = {squeezed(value): key for key, value in self.first.fields.items()}
        told = [canonical.get(squeezed(word), word.strip()) for word in names[:50] if isinstance(word, str) and word.strip()]
        if told:
            extra["changed"] = tuple(dict.fromkeys(told))
        return change


def flattened(document: Mapping[str, Any]) -> Json:
    """A body's members by their squeezed names, those of its `fields` [{name, value}] beside them; nested objects are laid flat once."""
    found: Json = {}
    for value in document.values():
        if isinstance(value, dict):
            found.update({squeezed(name): member for name, member in value.items() if not isinstance(member, (dict, list))})
    found.update({squeezed(name): value for name, value in document.items() if not isinstance(value, dict)})
    fields = document.get("fields")
    if isinstance(fields, list):
        values = {f["name"]: f.get("value") for f in fields if isinstance(f, dict) and isinstance(f.get("name"), str)}
        found.update({squeezed(name): value for name, value in values.items()})
        found["own fields"] = values
    return found


def _ids_in_text(delivery: Delivery) -> str | None:
    """The one id in a text that is nothing but an id with its label ("RecID: 9446…"); None for none or several."""
    if len(delivery.body) > MAX_TEXT_BODY or "json" in delivery.content_type:
        return None
    found = _TOKEN.findall(delivery.body.decode("utf-8", "replace"))
    return found[0] if len(set(found)) == 1 else None
