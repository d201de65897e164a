"""The business objects of a small Cherwell: their fields, relationships and rules, and records in the shapes the API shows. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

Json = dict[str, Any]


def hex_id(name: str, size: int = 32) -> str:
    """An id that is always the same for a name."""
    return blake2b(name.encode(), digest_size=size // 2).hexdigest()


@dataclass(frozen=True, slots=True)
class Field:
    """One field; `allowed` are the values its validation table takes, where it has one."""

    name: str
    type: str = "Text"
    required: bool = False
    read_only: bool = False
    allowed: tuple[str, ...] = ()
    display: str = ""


@dataclass(frozen=True, slots=True)
class BusinessObject:
    """One kind of record; `related` maps a relationship's display name to the object at its other end."""

    name: str
    display: str
    fields: tuple[Field, ...]
    related: Mapping[str, str] = field(default_factory=dict)
    states: tuple[str, ...] = ()
    first_number: int = 1
    group: str = ""

    @property
    def id(self) -> str:
        return hex_id(f"busob/{self.name}")

    def field(self, given: str) -> Field | None:
        """A field by its short or full id, or its name."""
        short = given.rpartition("FI:")[2].lower()
        return next((f for f in self.fields if short in (self.field_id(f), f.name.lower())), None)

    def field_id(self, made: Field) -> str:
        return hex_id(f"field/{self.name}/{made.name}")

    def full_id(self, made: Field) -> str:
        return f"BO:{self.id},FI:{self.field_id(made)}"

    def relationship_id(self, display: str) -> str:
        return hex_id(f"relationship/{self.name}/{display}")


STAMPS = (
    Field("CreatedDateTime", "DateTime", read_only=True),
    Field("LastModifiedDateTime", "DateTime", read_only=True),
    Field("LastModifiedBy", read_only=True),
)
TICKET = (
    Field("ShortDescription", required=True, display="Short Description"),
    Field("Description"),
    Field("Priority", allowed=("1", "2", "3", "4", "5")),
    Field("OwnedBy", display="Owned By"),
    Field("OwnedByTeam", display="Owned By Team"),
    Field("CustomerDisplayName", display="Customer Display Name"),
    Field("CustomerRecID"),
    Field("CustomerTypeID"),
    Field("ExternalReference", display="External Reference"),
    Field("ExternalEvent", display="External Event"),
    Field("CloseDescription", display="Close Description"),
    Field("Source"),
    Field("Service"),
    Field("Category"),
    Field("SLAResolveByDeadline", "DateTime"),
    *STAMPS,
)
STATES = ("New", "Assigned", "In Progress", "Pending", "Resolved", "Reopened", "Closed")
OBJECTS = (
    BusinessObject(
        "Incident",
        "Incident",
        (
            Field("IncidentID", read_only=True),
            Field("IncidentType", allowed=("Incident", "Service Request"), display="Incident Type"),
            Field("Status", allowed=STATES),
            *TICKET,
        ),
        {"Incident Owns Journals": "JournalNote", "Incident links Loaners": "Loaner"},
        STATES,
        762_401,
    ),
    BusinessObject(
        "Problem",
        "Problem",
        (Field("ProblemID", read_only=True), Field("Status", allowed=STATES), *TICKET),
        {"Problem Owns Journals": "JournalNote"},
        STATES,
        30_001,
    ),
    BusinessObject(
        "ChangeRequest",
        "Change Request",
        (Field("ChangeID", read_only=True), Field("Status", allowed=STATES), *TICKET),
        {"ChangeRequest Owns Journals": "JournalNote"},
        STATES,
        10_001,
    ),
    BusinessObject(
        "JournalNote",
        "Journal - Note",
        (Field("Details", required=True), Field("ShowInSelfService", "Logical"), Field("ParentRecID"), *STAMPS),
        group="Journal",
    ),
    BusinessObject("CustomerInternal", "Customer - Internal", (Field("FullName"), Field("Email"), *STAMPS), first_number=201),
    BusinessObject(
        "Loaner",
        "Loaner Device",
        (Field("AssetTag", required=True, display="Asset Tag"), Field("Model"), Field("Returned", "Logical"), *STAMPS),
        first_number=501,
    ),
)  # fmt: skip
"""Default content, and `Loaner`, an object of the tenant's own."""
ONE_STEPS = (
    ("Escalate Incident", "Incident", {"Priority": "1", "OwnedByTeam": "Major Incidents"}),
    ("Assign To Me", "Incident", {"Status": "Assigned", "OwnedBy": "Integration Bridge"}),
    ("Mark Returned", "Loaner", {"Returned": "True"}),
)
"""Name, object, and what it sets."""
TRANSITIONS: Mapping[str, tuple[str, ...]] = {
    "New": ("In Progress", "Pending", "Resolved"),
    "In Progress": ("Pending", "Resolved"),
    "Pending": ("In Progress", "Resolved"),
    "Resolved": ("In Progress", "Closed"),
}
"""The lifecycle of an incident: where its status may go from here."""
FROM_CANONICAL: Mapping[str, Mapping[str, str]] = {
    "priority": {"urgent": "1", "high": "2", "medium": "3", "low": "4"},
    "status": {"new": "New", "open": "In Progress", "pending": "Pending", "resolved": "Resolved", "closed": "Closed"},
    "type": {"incident": "Incident", "request": "Service Request"},
}


def by_id(object_id: str) -> BusinessObject | None:
    return next((made for made in OBJECTS if made.id == object_id.lower()), None)


def by_name(name: str) -> BusinessObject | None:
    return next((made for made in OBJECTS if name.casefold() in (made.name.casefold(), made.display.casefold())), None)


def stamp(micros: int) -> str:
    """A time as the culture en-US writes it, in UTC."""
    moment = time.gmtime(micros // 1_000_000)
    clock = f"{moment.tm_hour % 12 or 12}:{moment.tm_min:02d}:{moment.tm_sec:02d} {'PM' if moment.tm_hour >= 12 else 'AM'}"
    return f"{moment.tm_mon}/{moment.tm_mday}/{moment.tm_year} {clock}"


def summary(made: BusinessObject) -> Json:
    return {
        "busObId": made.id, "name": made.name, "displayName": made.display, "group": False, "groupSummaries": [], "major": not made.group,
        "supporting": bool(made.group), "lookup": False, "recIdFields": hex_id(f"recid/{made.name}"),
        "firstRecIdField": hex_id(f"recid/{made.name}"),
        "stateFieldId": hex_id(f"state/{made.name}") if made.states else "", "states": ",".join(made.states),
    }  # fmt: skip


def group_summary(name: str) -> Json | None:
    """A group of objects, which has members and no records."""
    members = [summary(made) for made in OBJECTS if made.group.casefold() == name.casefold() and made.group]
    if not members:
        return None
    return {**members[0], "busObId": hex_id(f"group/{name}"), "name": name, "displayName": name, "group": True, "groupSummaries": members}


def schema(made: BusinessObject, *, relationships: bool) -> Json:
    fields = [
        {
            "fieldId": made.full_id(f), "name": f.name, "displayName": f.display or f.name, "type": f.type, "typeLocalized": f.type,
            "required": f.required, "readOnly": f.read_only, "calculated": False, "autoFill": False, "validated": bool(f.allowed),
            "enabled": True,
            "category": "", "description": "", "details": "", "decimalDigits": 0, "wholeDigits": 0, "hasDate": f.type == "DateTime",
            "hasTime": f.type == "DateTime", "isFullTextSearchable": f.type == "Text", "maximumSize": "255",
        }
        for f in made.fields
    ]  # fmt: skip
    related = [
        {"relationshipId": made.relationship_id(name), "displayName": name, "target": hex_id(f"busob/{target}"), "cardinality": "OneToMany",
         "description": "", "fieldDefinitions": []}
        for name, target in made.related.items()
    ]  # fmt: skip
    return {
        "busObId": made.id, "name": made.name, "fieldDefinitions": fields, "relationships": related if relationships else [],
        "gridDefinitions": [], "firstRecIdField": hex_id(f"recid/{made.name}"), "recIdFields": hex_id(f"recid/{made.name}"),
        "stateFieldId": "", "states": ",".join(made.states), **NO_ERROR,
    }  # fmt: skip


NO_ERROR: Mapping[str, Any] = {"errorCode": None, "errorMessage": None, "hasError": False}


def template_item(made: BusinessObject, f: Field, value: str, *, full: bool = True) -> Json:
    """One field in a read or a template."""
    return {
        "dirty": False, "displayName": f.display or f.name, "fieldId": made.full_id(f) if full else made.field_id(f),
        "fullFieldId": made.full_id(f),
        "html": None, "name": f.name, "value": value,
    }  # fmt: skip


def read_shape(made: BusinessObject, record: Mapping[str, Any]) -> Json:
    """A record with all its fields."""
    fields = [template_item(made, f, str(record["fields"].get(f.name, ""))) for f in made.fields]
    return {
        "busObId": made.id, "busObPublicId": record["public"], "busObRecId": record["rec"], "fields": fields, "links": [],
        "httpStatusCode": "OK", **NO_ERROR,
    }  # fmt: skip


def webhook_body(
    made: BusinessObject, record: Mapping[str, Any], verb: str, actor: str, changed: list[str], note: Mapping[str, Any] | None
) -> Json:
    """The template the README recommends, rendered by a One-Step."""
    fields = record["fields"]
    body: Json = {
        "event": f"{made.name.lower()}.{verb}", "busObName": made.name, "busObId": made.id, "busObRecId": record["rec"],
        "busObPublicId": record["public"], "ShortDescription": fields.get("ShortDescription", ""),
        "Description": fields.get("Description", ""),
        "Status": fields.get("Status", ""), "Priority": fields.get("Priority", ""), "IncidentType": fields.get("IncidentType", ""),
        "OwnedBy": fields.get("OwnedBy", ""), "CustomerDisplayName": fields.get("CustomerDisplayName", ""),
        "ExternalReference": fields.get("ExternalReference", ""), "CreatedDateTime": fields["CreatedDateTime"],
        "LastModifiedDateTime": fields["LastModifiedDateTime"], "LastModifiedBy": actor, "changed": ",".join(changed),
    }  # fmt: skip
    if note is not None:
        body |= {"comment": note["Details"], "comment_public": note.get("ShowInSelfService", "False")}
    return body
