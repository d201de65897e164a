"""TOPdesk's words in English and Dutch, and their canonical values. Pure.

The names on a card are the tenant's own free text: these are the ones TOPdesk ships with and the ones seen in the field. A tenant
adds its own with the setting `words`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from plugins.api import Priority, TicketChange, TicketStatus, TicketType
from plugins.mapping import squeezed

PRIORITIES: Final[Mapping[str, Priority]] = {
    **dict.fromkeys(("P1", "1", "Prio 1", "Prioriteit 1", "Priority 1", "Critical", "Kritiek", "Urgent", "Spoed"), Priority.URGENT),
    **dict.fromkeys(("P2", "2", "Prio 2", "Prioriteit 2", "Priority 2", "High", "Hoog"), Priority.HIGH),
    **dict.fromkeys(("P3", "3", "Prio 3", "Prioriteit 3", "Priority 3", "Medium", "Normal", "Normaal", "Middel"), Priority.MEDIUM),
    **dict.fromkeys(("P4", "4", "Prio 4", "Prioriteit 4", "Priority 4", "Low", "Laag"), Priority.LOW),
    **dict.fromkeys(("P5", "5", "Prio 5", "Prioriteit 5", "Priority 5", "Planned", "Gepland"), Priority.LOW),
}

STATUSES: Final[Mapping[str, TicketStatus]] = {
    **dict.fromkeys(
        ("Logged", "Registered", "New", "Geregistreerd", "Aangemeld", "Nieuw", "Not started", "Niet gestart", "Requested", "Aangevraagd"),
        TicketStatus.NEW,
    ),
    **dict.fromkeys(
        (
            "In progress", "In behandeling", "Assigned", "Toegekend", "Toegewezen", "Open", "Updated by caller",
            "Bijgewerkt door aanmelder",
            "Approved", "Goedgekeurd", "Started", "Gestart", "In uitvoering", "Escalated", "Geëscaleerd", "Reopened", "Heropend",
        ),
        TicketStatus.OPEN,
    ),
    **dict.fromkeys(
        (
            "On hold", "Waiting", "Waiting for caller", "Waiting for user", "Waiting for supplier", "Waiting for third party", "Pending",
            "In de wacht", "Wacht", "Wacht op aanmelder", "Wacht op gebruiker", "Wacht op leverancier", "Wacht op derden", "Wachtend",
        ),
        TicketStatus.PENDING,
    ),
    **dict.fromkeys(
        ("Completed", "Resolved", "Solved", "Gereed", "Opgelost", "Voltooid", "Implemented", "Uitgevoerd", "Geïmplementeerd"),
        TicketStatus.RESOLVED,
    ),
    **dict.fromkeys(
        (
            "Closed", "Afgemeld", "Gesloten", "Afgesloten", "Archived", "Gearchiveerd", "Cancelled", "Canceled", "Geannuleerd", "Rejected",
            "Afgewezen",
        ),
        TicketStatus.CLOSED,
    ),
}  # fmt: skip

PROCESSING_STATUSES: Final[Mapping[str, TicketStatus]] = {
    **dict.fromkeys(("prfc", "rfc"), TicketStatus.NEW),
    **dict.fromkeys(("simple_notStarted", "simple_inProgress", "extensive_notStarted", "extensive_inProgress"), TicketStatus.OPEN),
    **dict.fromkeys(("simple_done", "extensive_done", "extensive_evaluating", "extensive_evaluated"), TicketStatus.RESOLVED),
    **dict.fromkeys(("simple_closed", "extensive_closed", "extensive_nogo", "extensive_cancelled", "rejected"), TicketStatus.CLOSED),
}
"""A change's place in its phases: the API's own words, the same in every tenant and language."""

CALL_TYPES: Final[Mapping[str, TicketType]] = {
    **dict.fromkeys(
        ("Incident", "Melding", "Failure", "Malfunction", "Storing", "Klacht", "Complaint", "Security incident", "Beveiligingsincident"),
        TicketType.INCIDENT,
    ),
    **dict.fromkeys(
        (
            "Request", "Service request", "Request for information", "RFI", "Request for service", "Question", "Aanvraag", "Verzoek",
            "Serviceverzoek", "Serviceaanvraag", "Informatieverzoek", "Informatieaanvraag", "Vraag", "Wens", "Bestelling", "Order",
        ),
        TicketType.REQUEST,
    ),
    **dict.fromkeys(("Change", "Wijziging", "Wijzigingsverzoek", "Change request", "RFC"), TicketType.CHANGE),
    **dict.fromkeys(("Problem", "Probleem"), TicketType.PROBLEM),
}  # fmt: skip

KINDS: Final[Mapping[str, TicketType]] = {
    **dict.fromkeys(
        ("incident", "melding", "call", "firstline", "secondline", "eerstelijns", "tweedelijns", "partial"),
        TicketType.INCIDENT,
    ),
    **dict.fromkeys(
        (
            "change", "wijziging", "operatorchange", "changerequest", "wijzigingsaanvraag", "changeactivity", "activity",
            "wijzigingsactiviteit", "activiteit",
        ),
        TicketType.CHANGE,
    ),
    **dict.fromkeys(("problem", "probleem"), TicketType.PROBLEM),
}  # fmt: skip
"""Kinds of card, squeezed to letters in lower case. Anything else (an operational activity, an asset) is UNKNOWN."""

LINES: Final = frozenset(
    {
        "firstline", "secondline", "partial", "firstlinearchived", "secondlinearchived", "partialarchived", "eerstelijns", "tweedelijns",
        "deelmelding",
    }
)  # fmt: skip
"""What an incident's `status` holds: its line, not its workflow status."""

EVENTS: Final[Mapping[str, TicketChange]] = {
    **dict.fromkeys(
        ("created", "create", "new", "aangemaakt", "nieuw", "geregistreerd", "aangemeld", "registered", "logged"),
        TicketChange.CREATED,
    ),
    **dict.fromkeys(
        (
            "updated", "update", "changed", "modified", "edited", "gewijzigd", "aangepast", "bijgewerkt", "escalated", "geëscaleerd",
            "deescalated", "gedeëscaleerd", "archived", "gearchiveerd", "unarchived", "statuschanged", "transition", "reopened", "heropend",
        ),
        TicketChange.UPDATED,
    ),
    **dict.fromkeys(
        (
            "commented", "comment", "action", "actionadded", "memo", "memoadded", "note", "reply", "replied", "actie", "actietoegevoegd",
            "notitie", "reactie", "opmerking", "requestadded", "verzoektoegevoegd",
        ),
        TicketChange.COMMENTED,
    ),
    **dict.fromkeys(
        ("completed", "resolved", "solved", "closed", "done", "gereed", "opgelost", "afgemeld", "gesloten", "afgesloten", "implemented"),
        TicketChange.RESOLVED,
    ),
    **dict.fromkeys(("deleted", "removed", "verwijderd"), TicketChange.DELETED),
}  # fmt: skip
"""The last part of an event's name (`incident.updated`, `melding.gewijzigd`), squeezed to letters."""

FIELD_NAMES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("priority", "prioriteit"), "priority"),
    **dict.fromkeys(
        ("status", "processingstatus", "behandelstatus", "verwerkingsstatus", "closed", "completed", "onhold", "afgemeld", "gereed"),
        "status",
    ),
    **dict.fromkeys(("briefdescription", "kortebeschrijving", "korteomschrijving", "subject", "onderwerp"), "subject"),
    **dict.fromkeys(("request", "verzoek", "description", "omschrijving"), "description"),
    **dict.fromkeys(("calltype", "soortmelding", "meldingsoort", "type"), "type"),
    **dict.fromkeys(
        ("operator", "operatorgroup", "behandelaar", "behandelaarsgroep", "behandelaargroep", "assignee", "simpleassignee", "uitvoerder"),
        "assignee",
    ),
    **dict.fromkeys(("caller", "aanmelder", "requester", "aanvrager", "melder"), "requester"),
    **dict.fromkeys(("targetdate", "streefdatum", "afspraakdatum"), "sla_due_at"),
}  # fmt: skip
"""A card's field, as the API or a form names it, squeezed to letters: its canonical name. Others keep their own."""

YES: Final = frozenset({"true", "1", "ja", "yes", "waar", "on"})

PRIORITY_NAMES: Final[Mapping[Priority, str]] = {Priority.URGENT: "P1", Priority.HIGH: "P2", Priority.MEDIUM: "P3", Priority.LOW: "P4"}
STATUS_NAMES: Final[Mapping[str, Mapping[TicketStatus, str]]] = {
    "en": {
        TicketStatus.NEW: "Logged",
        TicketStatus.OPEN: "In progress",
        TicketStatus.PENDING: "On hold",
        TicketStatus.RESOLVED: "Completed",
        TicketStatus.CLOSED: "Closed",
    },
    "nl": {
        TicketStatus.NEW: "Geregistreerd",
        TicketStatus.OPEN: "In behandeling",
        TicketStatus.PENDING: "In de wacht",
        TicketStatus.RESOLVED: "Gereed",
        TicketStatus.CLOSED: "Afgemeld",
    },
}
CALL_TYPE_NAMES: Final[Mapping[str, Mapping[TicketType, str]]] = {
    "en": {TicketType.INCIDENT: "Failure", TicketType.REQUEST: "Request"},
    "nl": {TicketType.INCIDENT: "Storing", TicketType.REQUEST: "Aanvraag"},
}
"""What is preferred when we write, and what is written where the tenant's lists cannot be read."""

NO_SUCH_VALUE: Final = "value not found"
FAULTS: Final = (
    (r"cannot be found|not found|kan niet worden gevonden|niet gevonden", NO_SUCH_VALUE),
    (r"does not exist|bestaat niet|unknown field|onbekend veld", "no such field or value"),
    (r"too long|longer than|maximum length|te lang|maximale lengte", "too long"),
    (r"mandatory|required|must be filled|verplicht|moet worden ingevuld", "mandatory"),
    (r"archived|gearchiveerd", "the card is archived"),
    (r"not allowed|no permission|geen rechten|niet toegestaan|may not", "not allowed"),
    (r"operator group|behandelaarsgroep|behandelaargroep", "operator outside the group"),
)
"""What TOPdesk's messages, in either language, amount to; its words themselves may quote the card."""

_FIELD_IN_MESSAGE: Final = r"['\"‘“]([A-Za-z_][A-Za-z0-9_.]{0,60})['\"’”]"


def letters(word: Any) -> str:
    """A word by its letters: `Change Activity`, `changeActivity` and `change_activity` are one; empty for what is no text."""
    return squeezed(word) if isinstance(word, str) else ""


def fault_of(message: str) -> str:
    """A message of the tool as a short English reason with the field it names; empty when it says nothing we know."""
    field = re.search(_FIELD_IN_MESSAGE, message)
    reason = next((fault for pattern, fault in FAULTS if re.search(pattern, message, re.IGNORECASE)), "")
    return ": ".join(part for part in (field[1] if field else "", reason) if part)


def is_yes(value: Any) -> bool:
    """A flag as templates render it: true, "true", "Ja", 1."""
    return value is True or (isinstance(value, (str, int)) and str(value).strip().lower() in YES)
