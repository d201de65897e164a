"""What a TOPdesk card says, in canonical words: from a delivery an admin composed, or from the API's own documents. Pure.

A delivery's body is whatever the action's template says: flat or nested under the kind of card, lookups as text or as {id, name},
names of fields in English or Dutch. https://developers.topdesk.com for the API's documents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

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
from plugins.mapping import FieldMap, WordMap, squeezed, tenant_words, to_id, to_micros, to_text
from plugins.repair import object_or_form
from plugins.topdesk.memo import first_request, is_formatted, memo_text
from plugins.topdesk.trail import field_changes, field_name
from plugins.topdesk.words import CALL_TYPES, EVENTS, KINDS, LINES, PRIORITIES, PROCESSING_STATUSES, STATUSES, is_yes, letters

Json = dict[str, Any]

MAX_CHANGES: Final = 50
OWN: Final = " own"
"""Beside a delivery's members, what the tenant's own paths found: no squeezed name holds a space."""
CARDS: Final = ("incident", "melding", "change", "wijziging", "activity", "activiteit", "card", "kaart", "ticket", "data")
"""Names under which a template may nest the card."""

FIELDS: Final = FieldMap(
    {
        "unid": ("unid", "id", "incidentid", "changeid", "meldingid", "wijzigingid"),
        "number": (
            "number", "nummer", "incidentnumber", "changenumber", "meldingnummer", "meldingsnummer", "wijzigingsnummer", "ticketnumber",
            "incidentid", "changeid", "ticketid", "id",
        ),
        "event": ("event", "gebeurtenis", "eventtype", "trigger"),
        "kind": ("kind", "soort", "cardtype", "kaartsoort"),
        "type": ("calltype", "soortmelding", "type"),
        "priority": ("priority", "prioriteit"),
        "line": ("line", "lijn"),
        "status": ("status",),
        "workflow": ("processingstatus", "behandelstatus", "verwerkingsstatus", "statusname"),
        "closed": ("closed", "afgemeld", "gesloten"),
        "completed": ("completed", "gereed", "voltooid"),
        "on_hold": ("onhold", "indewacht"),
        "archived": ("archived", "gearchiveerd"),
        "subject": ("briefdescription", "kortebeschrijving", "korteomschrijving", "subject", "onderwerp", "title"),
        "description": ("request", "verzoek", "description", "omschrijving"),
        "requester": ("calleremail", "$.caller.email", "caller", "requesteremail", "requester", "aanmelder", "aanvrager", "melder"),
        "assignee": ("operator", "behandelaar", "$.simple.assignee", "assignee", "operatorgroup", "behandelaarsgroep"),
        "actor": ("modifierid", "modifier", "wijziger", "modifiedby", "gewijzigddoor", "actor", "user"),
        "creator": ("creator", "aanmaker"),
        "comment": ("comment", "memotext", "memo", "action", "actie", "note", "notitie", "opmerking", "reactie"),
        "hidden": ("actioninvisibleforcaller", "invisibleforcaller", "onzichtbaarvooraanmelder"),
        "changed": ("changes", "changed", "wijzigingen", "gewijzigdevelden", "changedfields"),
        "created_at": ("creationdate", "aanmaakdatum", "calldate", "aanmelddatum", "requestdate"),
        "updated_at": ("modificationdate", "wijzigingsdatum", "lastmodificationdate"),
        "due_at": ("targetdate", "streefdatum", "afspraakdatum", "$.simple.plannedImplementationDate", "$.phases.progress.plannedEndDate"),
        "external_id": ("externalnumber", "externnummer", "externalid"),
        "object": ("object", "asset", "configurationitem", "objectnummer"),
        "url": ("url", "link"),
    }
)  # fmt: skip
"""Members by their squeezed names."""

NAMED_KINDS: Final[Mapping[str, TicketType]] = {
    **dict.fromkeys(("incidentid", "incidentnumber", "meldingid", "meldingnummer"), TicketType.INCIDENT),
    **dict.fromkeys(("changeid", "changenumber", "wijzigingid", "wijzigingsnummer"), TicketType.CHANGE),
}

_UNID = re.compile(r"\{?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})\}?", re.IGNORECASE)
_LETTERS: Final[Mapping[str, TicketType]] = {
    "I": TicketType.INCIDENT,
    "C": TicketType.CHANGE,
    "W": TicketType.CHANGE,
    "P": TicketType.PROBLEM,
}
_NUMBER = re.compile(r"([A-Z])[A-Z]{0,2}[ -]?\d")


def to_unid(value: Any) -> str | None:
    """A card's UUID in its usual form, from any of its spellings (upper case, braces, no dashes); None when it is none."""
    found = _UNID.fullmatch(value.strip()) if isinstance(value, str) else None
    return "-".join(found.groups()).lower() if found else None


def kind_of_number(number: str) -> TicketType:
    """What the first letter of a number tells in most tenants: I incident, C or W change, P problem; else UNKNOWN."""
    found = _NUMBER.match(number.strip().upper())
    return _LETTERS.get(found[1], TicketType.UNKNOWN) if found else TicketType.UNKNOWN


class TopdeskReader:
    """Reads cards by one tool's settings: `ticket_ids`, `webhook.fields`, `words`, `fields`, `base_url`."""

    def __init__(self, tenant: str, settings: Mapping[str, Any]) -> None:
        self._tenant = tenant
        own = (settings.get("webhook") or {}).get("fields") or {}
        self._own = FieldMap(own) if own else None
        self.priorities = WordMap(PRIORITIES, Priority.UNKNOWN).with_words(tenant_words(settings, "priority", Priority))
        self.statuses = WordMap(STATUSES, TicketStatus.UNKNOWN).with_words(tenant_words(settings, "status", TicketStatus))
        self.types = WordMap(CALL_TYPES, TicketType.UNKNOWN).with_words(tenant_words(settings, "type", TicketType))
        self._own_status = bool((settings.get("words") or {}).get("status"))
        self._by_number = _choice(settings, "ticket_ids", ("unid", "number")) == "number"
        self._names = {str(path): str(name) for name, path in (settings.get("fields") or {}).items()}
        base = str(settings.get("base_url") or "").rstrip("/").removesuffix("/tas/api").removesuffix("/tas")
        self._url = f"{base}/tas/secure/" if base else None

    # deliveries ------------------------------------------------------------------------------------------------------
    def ticket_key(self, delivery: Delivery) -> str | None:
        """The ticket's id; None when the body does not tell."""
        try:
            document, _ = self._card_in(object_or_form(delivery.body, delivery.content_type))
        except NotADelivery:
            return None
        return self._ids(document)[0]

    def delivery(self, delivery: Delivery) -> TicketMetadata:
        """A delivery in canonical words; raises NotADelivery when it is no object or names no card."""
        document, nested = self._card_in(object_or_form(delivery.body, delivery.content_type))
        found = {**FIELDS.read(document), **document.get(OWN, {})}
        subject, verb = _event_parts(found["event"])
        kind = (
            _kind(found["kind"])
            or _kind(subject)
            or _kind(nested)
            or _kind(found["type"])
            or _kind(found["status"])
            or _kind_by_name(document)
        )
        change = EVENTS.get(letters(verb), TicketChange.UNKNOWN)
        return self._metadata(document, found, kind, change, event=to_text(found["event"]))

    def _card_in(self, document: Json) -> tuple[Json, str]:
        """The card's members laid over the body's, by their squeezed names, and the name it was nested under."""
        found = {squeezed(name): value for name, value in document.items()}
        nested = next((name for name in CARDS if type(found.get(name)) is dict), "")
        if nested:
            found |= {squeezed(name): value for name, value in found[nested].items()}
        if self._own is not None:
            found[OWN] = {name: value for name, value in self._own.read(document).items() if value is not None}
        return found, nested

    # the API's documents -----------------------------------------------------------------------------------------------
    def incident(self, document: Json) -> TicketMetadata:
        """An incident as the API shows it."""
        return self._metadata(document, self._read_api(document), TicketType.INCIDENT, TicketChange.UNKNOWN, api=True)

    def change(self, document: Json, request: str = "") -> TicketMetadata:
        """An operator change as the API shows it; its request is read from another place."""
        found = self._read_api(document)
        found["description"] = request
        found["status"], found["workflow"] = document.get("processingStatus"), _name(document.get("status"))
        return self._metadata(document, found, TicketType.CHANGE, TicketChange.UNKNOWN, api=True)

    def id_of(self, document: Json) -> str | None:
        """The ticket's id in a document of the API, by the setting `ticket_ids`."""
        return self._chosen(to_unid(document.get("id")) or to_id(document.get("id")), to_id(document.get("number")))

    def url_of(self, document: Json, kind: TicketType) -> str | None:
        return self._link(to_id(document.get("id")), kind)

    def _read_api(self, document: Json) -> dict[str, Any]:
        found = FIELDS.read({squeezed(name): value for name, value in document.items()})
        found["comment"] = found["hidden"] = found["event"] = found["changed"] = None
        return found

    # both --------------------------------------------------------------------------------------------------------------
    def _metadata(
        self, document: Json, found: Mapping[str, Any], kind: TicketType | None, change: TicketChange, *, event: str = "", api: bool = False
    ) -> TicketMetadata:
        ticket_id, unid, number = self._ids(document)
        if ticket_id is None:
            raise NotADelivery("the body names no card; put unid or number into the action's template, or set webhook.fields.ticket_id")
        kind = kind or (kind_of_number(number) if number else TicketType.UNKNOWN)
        extra: dict[str, Any] = {"number": number, "unid": unid, "external_id": to_text(found["external_id"]) or None}
        if event:
            extra["event"] = event
        unknown: dict[str, str] = {}
        priority_word, type_word = _name(found["priority"]), _name(found["type"])
        priority = self.priorities(priority_word)
        if priority_word and priority is Priority.UNKNOWN:
            unknown["priority"] = priority_word[:80]
        type_ = kind
        if type_word and kind in (TicketType.INCIDENT, TicketType.UNKNOWN):
            by_word = self.types(type_word)
            if by_word is not TicketType.UNKNOWN or _kind(type_word) is None:
                type_ = by_word
            if by_word is TicketType.UNKNOWN and _kind(type_word) is None:
                unknown["type"] = type_word[:80]
        if type_ is TicketType.UNKNOWN and "type" not in unknown and (word := _name(found["kind"]) or event):
            unknown["type"] = word[:80]
        status = self._status(found, extra, unknown)
        actor, actor_name = _person(found["actor"])
        if actor is None and change is TicketChange.CREATED:
            actor, actor_name = _person(found["creator"])
        if actor_name:
            extra["actor_name"] = actor_name
        comment = self._comment(found, extra)
        _tell_changes(found["changed"], comment, extra)
        if change is TicketChange.UNKNOWN and comment:
            change = TicketChange.UPDATED if "changes" in extra else TicketChange.COMMENTED
        if (
            change is TicketChange.UPDATED
            and status in (TicketStatus.RESOLVED, TicketStatus.CLOSED)
            and "status" in extra.get("changed", ())
        ):
            change = TicketChange.RESOLVED
        if unknown:
            extra["unknown"] = unknown
        for name in ("mainIncident", "partialIncidents", "changeType", "asset", "completedDate"):
            if value := document.get(name) or document.get(squeezed(name)):
                extra[name] = value
        return TicketMetadata(
            tenant_id=self._tenant,
            ticket_id=ticket_id,
            type=type_,
            priority=priority,
            status=status,
            change=change,
            subject=to_text(found["subject"]),
            description=first_request(found["description"]) if api else _description(found["description"]),
            requester=_requester(found["requester"]),
            assignee=_name(found["assignee"]) or None,
            actor=actor,
            custom_fields=self._custom(document),
            device=_device(found["object"]),
            sla_due_at=to_micros(found["due_at"]),
            created_at=to_micros(found["created_at"]),
            updated_at=to_micros(found["updated_at"]),
            url=to_text(found["url"]) or self._link(unid, kind),
            extra=extra,
        )

    def _ids(self, document: Json) -> tuple[str | None, str | None, str | None]:
        own = to_id(document.get(OWN, {}).get("ticket_id"))
        raw, number = to_id(FIELDS.get(document, "unid")), to_id(FIELDS.get(document, "number"))
        if number is not None and to_unid(number) is not None:
            number = None
        unid = to_unid(raw) or (raw if raw != number else None)
        return (own and (to_unid(own) or own)) or self._chosen(unid, number), unid, number

    def _chosen(self, unid: str | None, number: str | None) -> str | None:
        return (number or unid) if self._by_number else (unid or number)

    def _status(self, found: Mapping[str, Any], extra: dict[str, Any], unknown: dict[str, str]) -> TicketStatus:
        """Flags win over names: a tenant renames its statuses, not its flags. A name the tenant mapped itself wins over both."""
        state, workflow = _name(found["status"]), _name(found["workflow"])
        line = state if letters(state) in LINES else to_text(found["line"])
        if line:
            extra["line"] = line
        phase = next((word for word in (state, workflow) if word in PROCESSING_STATUSES), None)
        if phase is not None:
            extra["phase"] = phase
        name = next((word for word in (workflow, state) if word and word not in PROCESSING_STATUSES and letters(word) not in LINES), "")
        by_name = self.statuses(name)
        if self._own_status and by_name is not STATUSES.get(name) and by_name is not TicketStatus.UNKNOWN:
            return by_name
        if is_yes(found["closed"]) or is_yes(found["archived"]) or letters(line).endswith("archived"):
            return TicketStatus.CLOSED
        if is_yes(found["completed"]) and by_name is not TicketStatus.CLOSED:
            return TicketStatus.RESOLVED
        if phase is not None:
            return TicketStatus.PENDING if by_name is TicketStatus.PENDING else PROCESSING_STATUSES[phase]
        if is_yes(found["on_hold"]) and by_name not in (TicketStatus.RESOLVED, TicketStatus.CLOSED):
            return TicketStatus.PENDING
        if by_name is TicketStatus.UNKNOWN and name:
            unknown["status"] = name[:80]
        if by_name is TicketStatus.NEW and _name(found["assignee"]):
            return TicketStatus.OPEN  # registered, and already somebody's
        return by_name

    def _comment(self, found: Mapping[str, Any], extra: dict[str, Any]) -> str:
        given = found["comment"]
        text = (
            given if isinstance(given, str) else to_text(given.get("memoText") or given.get("plainText")) if isinstance(given, dict) else ""
        )
        if not text or text.startswith("/tas/api/"):  # a whole incident holds the address of its actions
            return ""
        extra["comment"] = memo_text(text) if is_formatted(text) else text
        hidden = found["hidden"] if found["hidden"] is not None else given.get("invisibleForCaller") if isinstance(given, dict) else None
        if hidden is not None:
            extra["comment_public"] = not is_yes(hidden)
        return str(extra["comment"])

    def _custom(self, document: Json) -> dict[str, Any]:
        """Free fields that hold something, by their path and by the name the tenant gave the path."""
        found: dict[str, Any] = {}
        for tab in ("optionalFields1", "optionalFields2"):
            fields = document.get(tab) or document.get(squeezed(tab))
            for name, value in fields.items() if isinstance(fields, dict) else ():
                shown = _name(value) if isinstance(value, dict) else value
                if shown not in (None, "", False, 0):
                    path = f"{tab}.{name}"
                    found[path] = shown
                    if path in self._names:
                        found[self._names[path]] = shown
        return found

    def _link(self, unid: str | None, kind: TicketType) -> str | None:
        if unid is None or self._url is None:
            return None
        return f"{self._url}{'newchange' if kind is TicketType.CHANGE else 'incident'}?unid={quote(unid, safe='')}"


def _choice(settings: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = str(settings.get(name) or allowed[0])
    if value not in allowed:
        raise PluginConfigError(f"{name} {value[:40]!r} is not one of {', '.join(allowed)}")
    return value


def _event_parts(event: Any) -> tuple[str, str]:
    """`incident.updated`, `Melding gewijzigd` -> the kind of card and what happened; one word alone is what happened."""
    words = [word for word in re.split(r"[\s.:/]+", to_text(event)) if word]
    return (words[0], "".join(words[1:])) if len(words) > 1 else ("", "".join(words))


def _kind(word: Any) -> TicketType | None:
    return KINDS.get(letters(word).removesuffix("archived"))


def _kind_by_name(document: Json) -> TicketType | None:
    """What the name of the card's id tells: `incidentId`, `wijzigingsnummer`."""
    return next((kind for name, kind in NAMED_KINDS.items() if document.get(name)), None)


def _name(value: Any) -> str:
    """A lookup as text: {id, name}, a plain text, a number."""
    if isinstance(value, dict):
        return to_text(value.get("name") or value.get("dynamicName") or value.get("groupName"))
    return to_text(value).strip()


def _person(value: Any) -> tuple[str | None, str]:
    if isinstance(value, dict):
        name = _name(value)
        return (to_id(value.get("id")) or name or None), name
    return to_id(value), ""


def _requester(value: Any) -> str | None:
    if isinstance(value, dict):
        return to_text(value.get("email")) or _name(value) or to_id(value.get("id"))
    return to_text(value) or None


def _device(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, dict):
        kept = {name: value[name] for name in ("id", "name", "objectId", "objectType", "serialNumber", "specification") if value.get(name)}
        return kept or None
    return {"name": value} if isinstance(value, str) and value else None


def _description(value: Any) -> str:
    text = to_text(value)
    return memo_text(text) if is_formatted(text) else first_request(text)


def _tell_changes(given: Any, comment: str, extra: dict[str, Any]) -> None:
    """`changed` and `changes` in extra: from a list of {field, from, to}, of names, an object of fields, or lines of text."""
    changes: list[dict[str, Any]] = []
    if isinstance(given, dict):
        given = [{"field": name, **(value if isinstance(value, dict) else {"to": value})} for name, value in given.items()]
    if isinstance(given, str):
        changes = list(field_changes(given)) or [{"field": field_name(part)} for part in re.split(r"[,;\n]", given) if part.strip()]
    elif isinstance(given, list):
        for item in given[:MAX_CHANGES]:
            if isinstance(item, str):
                changes.append({"field": field_name(item)})
            elif isinstance(item, dict) and (name := _first(item, "field", "veld", "name", "naam")):
                before, after = _first(item, "from", "old", "van", "oud"), _first(item, "to", "new", "naar", "nieuw")
                changes.append({"field": field_name(to_text(name)), "from": _name(before) or None, "to": _name(after) or None})
    if not changes and comment:
        changes = list(field_changes(comment))
    if changes:
        extra["changes"] = changes[:MAX_CHANGES]
        extra["changed"] = tuple(dict.fromkeys(change["field"] for change in extra["changes"]))


def _first(item: Mapping[str, Any], *names: str) -> Any:
    return next((item[name] for name in names if item.get(name) not in (None, "")), None)
