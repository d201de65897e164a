"""The cards of a small TOPdesk, in English or Dutch: its lists, an incident, an operator change, trail entries, webhook bodies."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from plugins.sandbox.server import Actor

Json = dict[str, Any]


def unid_of(name: str) -> str:
    """A UUID that is always the same for a name."""
    return str(uuid5(NAMESPACE_URL, f"topdesk-sandbox/{name}"))


def lookup(name: str) -> Json:
    return {"id": unid_of(name), "name": name}


API_OPERATOR = Actor(unid_of("operator/Koppeling"), False, "Koppeling Integratie")
OPERATOR = Actor(unid_of("operator/Bakker"), True, "Bakker, Femke")
BRANCH: Json = {
    "id": unid_of("branch/Stadhuis"),
    "name": "Stadhuis",
    "clientReferenceNumber": "",
    "timeZone": "Europe/Amsterdam",
}
CALLER: Json = {
    "id": unid_of("person/Visser"),
    "dynamicName": "Visser, Daan",
    "email": "daan.visser@gemeente.example",
    "phoneNumber": "0100000001",
    "mobileNumber": "",
    "branch": BRANCH,
}


LANGUAGES: Mapping[str, Mapping[str, Any]] = {
    "en": {
        "statuses": (
            ("Logged", "logged", False),
            ("In progress", "in progress", False),
            ("Waiting for caller", "in progress", True),
            ("Completed", "completed", False),
            ("Closed", "closed", False),
        ),
        "call_types": ("Failure", "Request", "Complaint"),
        "impacts": ("Person", "Department", "Organization"),
        "urgencies": ("Unable to work", "Partly able to work", "Able to work"),
        "entry_types": ("Telephone", "E-mail", "API"),
        "durations": ("8 hours", "1 day", "5 days"),
        "closure_codes": ("Solved", "Passed on"),
        "escalation-reasons": ("More knowledge needed",),
        "deescalation-reasons": ("Back to first line",),
        "change": ("Requested", {"priority": "Priority", "briefDescription": "Brief description", "status": "Status"}),
    },
    "nl": {
        "statuses": (
            ("Geregistreerd", "logged", False),
            ("In behandeling", "in progress", False),
            ("Wacht op aanmelder", "in progress", True),
            ("Gereed", "completed", False),
            ("Afgemeld", "closed", False),
        ),
        "call_types": ("Storing", "Aanvraag", "Klacht"),
        "impacts": ("Persoon", "Afdeling", "Organisatie"),
        "urgencies": ("Kan niet werken", "Kan deels werken", "Kan werken"),
        "entry_types": ("Telefonisch", "E-mail", "API"),
        "durations": ("8 uur", "1 dag", "5 dagen"),
        "closure_codes": ("Opgelost", "Doorverwezen"),
        "escalation-reasons": ("Meer kennis nodig",),
        "deescalation-reasons": ("Terug naar eerste lijn",),
        "change": ("Aangevraagd", {"priority": "Prioriteit", "briefDescription": "Korte omschrijving", "status": "Status"}),
    },
}
"""The tenant's own words. A status is its name, its processing state and whether it is on hold; here it determines the flags."""
SHARED: Mapping[str, tuple[str, ...]] = {"priorities": ("P1", "P2", "P3", "P4"), "categories": ("Hardware", "Software")}
LIST_OF: Mapping[str, str] = {
    "priority": "priorities", "callType": "call_types", "impact": "impacts", "urgency": "urgencies", "category": "categories",
    "entryType": "entry_types", "duration": "durations", "closureCode": "closure_codes",
}  # fmt: skip
PHASES: Mapping[tuple[str, str], str] = {
    ("prfc", "submit"): "rfc",
    ("rfc", "approve"): "simple_notStarted",
    ("rfc", "reject"): "rejected",
    ("simple_notStarted", "start"): "simple_inProgress",
    ("simple_inProgress", "implement"): "simple_done",
    ("simple_done", "close"): "simple_closed",
}
CANONICAL: Mapping[str, tuple[str, ...]] = {
    "priority": ("urgent", "high", "medium", "low"),
    "status": ("new", "open", "pending", "resolved", "closed"),
    "type": ("incident", "request"),
}
"""Canonical words in the order of the lists above."""
WRITABLE = frozenset(
    {
        "status", "caller", "callerLookup", "briefDescription", "request", "action", "actionInvisibleForCaller", "entryType", "callType",
        "callDate", "category", "subcategory", "externalNumber", "object", "location", "branch", "impact", "urgency", "priority",
        "duration",
        "targetDate", "sla", "onHold", "operator", "operatorGroup", "supplier", "processingStatus", "responded", "responseDate",
        "completed",
        "completedDate", "closed", "closedDate", "closureCode", "costs", "feedbackRating", "feedbackMessage", "majorCall",
        "majorCallObject",
        "publishToSsd", "optionalFields1", "optionalFields2", "externalLink", "main", "number", "branchExtraFieldA", "branchExtraFieldB",
    }
)  # fmt: skip
CHANGE_WRITABLE = frozenset(
    {
        "template", "requester", "briefDescription", "request", "action", "changeType", "phases", "simple", "externalNumber", "category",
        "subcategory", "benefit", "impact", "priority", "optionalFields1", "optionalFields2", "status", "progressTrail",
    }
)  # fmt: skip
OPTIONAL: Json = {
    f"{kind}{number}": {"boolean": False, "number": 0.0, "text": ""}.get(kind)
    for kind in ("boolean", "number", "date", "text", "memo", "searchlist")
    for number in range(1, 6)
}


def stamp(micros: int, zone: str = "+0000") -> str:
    """TOPdesk's own form of a time, or with `Z` for dateFormat=iso8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(micros // 1_000_000)) + f".{micros // 1000 % 1000:03d}{zone}"


class Words:
    """One language's lists."""

    def __init__(self, language: str) -> None:
        own = LANGUAGES[language]
        self.language = language
        self.statuses: tuple[tuple[str, str, bool], ...] = own["statuses"]
        self.change_status, self.labels = own["change"]
        self.lists: Mapping[str, tuple[str, ...]] = {**SHARED, **{n: v for n, v in own.items() if n not in ("statuses", "change")}}

    def rows(self, name: str) -> list[Json] | None:
        """A list as the API shows it; None when there is none of this name."""
        if name == "statuses":
            return [
                {**lookup(status), "onHold": str(held).lower(), "processingState": state, "response": "false", "default": state == "logged"}
                for status, state, held in self.statuses
            ]
        return [lookup(row) for row in self.lists[name]] if name in self.lists else None

    def named(self, field: str, canonical: object) -> str | None:
        """A canonical word in the tenant's; None where it has none."""
        names = {"priority": self.lists["priorities"], "type": self.lists["call_types"], "status": [row[0] for row in self.statuses]}[field]
        words = CANONICAL[field]
        return names[words.index(str(canonical))] if canonical in words else None


def new_incident(number: str, at: int, actor: Actor, status: str = "Logged") -> Json:
    """An incident nobody filled in yet, with the members the API shows."""
    unid = str(uuid4())
    base = f"/tas/api/incidents/id/{unid}"
    by = {"id": actor.id, "name": actor.name}
    return {
        "id": unid, "status": "firstLine", "number": number, "request": "", "requests": f"{base}/requests", "action": f"{base}/actions",
        "attachments": f"{base}/attachments", "caller": None, "callerBranch": BRANCH, "callerLocation": None, "branchExtraFieldA": None,
        "branchExtraFieldB": None, "briefDescription": "", "externalNumber": "", "category": None, "subcategory": None, "callType": None,
        "entryType": lookup("API"), "object": None, "asset": None, "branch": None, "location": None, "impact": None, "urgency": None,
        "priority": None, "duration": None, "actualDuration": 0, "targetDate": stamp(at + 8 * 3_600_000_000), "sla": None, "onHold": False,
        "onHoldDate": None, "onHoldDuration": 0, "feedbackMessage": None, "feedbackRating": None, "operator": None, "operatorGroup": None,
        "supplier": None, "processingStatus": lookup(status), "responded": False, "responseDate": None, "completed": False,
        "completedDate": None, "closed": False, "closedDate": None, "closureCode": None, "timeSpent": 0, "itemCosts": 0.0,
        "objectCosts": 0.0,
        "costs": 0.0, "escalationStatus": None, "escalationReason": None, "escalationOperator": None, "callDate": stamp(at), "creator": by,
        "creationDate": stamp(at), "modifier": by, "modificationDate": stamp(at), "majorCall": False, "majorCallObject": None,
        "publishToSsd": False, "monitored": False, "expectedTimeSpent": 0, "archivingReason": None, "mainIncident": None,
        "partialIncidents": [], "optionalFields1": dict(OPTIONAL), "optionalFields2": dict(OPTIONAL), "externalLinks": [], "_at": at,
    }  # fmt: skip


def new_change(number: str, at: int, status: str) -> Json:
    """A simple change that was approved and waits to be started."""
    unid = str(uuid4())
    base = f"/tas/api/operatorChanges/{unid}"
    return {
        "id": unid, "number": number, "briefDescription": "", "templateId": None, "type": None, "requester": None, "archived": False,
        "changeType": "simple", "requestDate": stamp(at), "creationDate": stamp(at), "lastModificationDate": stamp(at),
        "emergencyChange": False, "processingStatus": "simple_notStarted", "costs": {"value": 0}, "possibleActions": ["start"],
        "coordinator": None, "phases": {"rfc": {"plannedEndDate": None, "endDate": stamp(at), "authorizer": None}},
        "simple": {"plannedStartDate": None, "startDate": None, "plannedImplementationDate": stamp(at + 5 * 86_400_000_000),
                   "implementationDate": None, "closedDate": None, "assignee": None, "possibleStatusValues": {}},
        "externalNumber": "", "object": None, "requests": f"{base}/requests", "progressTrail": f"{base}/progresstrail", "impact": None,
        "benefit": None, "priority": None, "category": None, "subcategory": None, "status": lookup(status),
        "optionalFields1": dict(OPTIONAL), "optionalFields2": dict(OPTIONAL), "_at": at,
    }  # fmt: skip


def entry(at: int, actor: Actor, **fields: Any) -> Json:
    """One entry of a trail."""
    return {
        "id": str(uuid4()),
        "flag": 0,
        "entryDate": stamp(at),
        "operator": {"id": actor.id, "name": actor.name},
        "person": None,
        **fields,
    }


def request_text(entries: Iterable[Json], text_of: Any) -> str:
    """An incident's `request`: all entries as plain text, newest first, each under its time and author."""
    shown = []
    for row in reversed(list(entries)):
        day, clock = row["entryDate"][:10].split("-"), row["entryDate"][11:16]
        author = (row["operator"] or row["person"] or {}).get("name", "")
        shown.append(f"{day[2]}-{day[1]}-{day[0]} {clock} [GMT +0:00] {author}: \n{text_of(row['memoText'])}")
    return "\n\n".join(shown)


def shown(document: Mapping[str, Any]) -> Json:
    """A document without what is the sandbox's own."""
    return {name: value for name, value in document.items() if not name.startswith("_")}


def listed_change(change: Json) -> Json:
    """A change as lists show it, where its time of modification has another name."""
    names = ("id", "number", "briefDescription", "changeType", "archived", "creationDate", "status")
    return {**{name: change[name] for name in names}, "modificationDate": change["lastModificationDate"]}


def webhook_body(kind: str, verb: str, card: Json, actor: Actor, request: str, action: Json | None, changes: list[Json]) -> Json:
    """The template the README recommends, rendered."""
    body: Json = {
        "event": f"{kind}.{verb}", "kind": kind, "unid": card["id"], "number": card["number"],
        "briefDescription": card["briefDescription"], "request": request, "priority": _name(card["priority"]),
        "externalNumber": card["externalNumber"], "creationDate": card["creationDate"],
        "modificationDate": card.get("modificationDate") or card.get("lastModificationDate"),
        "modifier": {"id": actor.id, "name": actor.name}, "changes": changes,
    }  # fmt: skip
    if kind == "change":
        body |= {
            "processingStatus": card["processingStatus"],
            "status": _name(card["status"]),
            "requester": _name(card["requester"]),
            "changeType": card["changeType"],
            "targetDate": card["simple"]["plannedImplementationDate"],
        }
    else:
        body |= {
            "status": card["status"],
            "processingStatus": _name(card["processingStatus"]),
            "callType": _name(card["callType"]),
            "callerEmail": (card["caller"] or {}).get("email"),
            "operator": _name(card["operator"]),
            "closed": card["closed"],
            "completed": card["completed"],
            "onHold": card["onHold"],
            "targetDate": card["targetDate"],
        }
    if action is not None:
        body |= {"action": action["memoText"], "actionInvisibleForCaller": action["invisibleForCaller"]}
    return body


def _name(value: Any) -> str | None:
    return value.get("name") if isinstance(value, dict) else None
