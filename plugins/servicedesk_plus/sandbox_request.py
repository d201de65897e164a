"""The ServiceDesk Plus sandbox's requests, changes and problems: what it accepts, how they are searched, how they are shown. No HTTP."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Final

from plugins.richtext import from_markdown, to_html

Json = dict[str, Any]

BOT_ID, PERSON_ID = "44", "618"
NAMES: Final = {BOT_ID: "Ticket Bridge", PERSON_ID: "Technician on duty"}
EMAILS: Final = {BOT_ID: "bridge@harbour.example", PERSON_ID: "technician@harbour.example"}

LOOKUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "priority": ("Low", "Normal", "Medium", "High", "Urgent"),
    "status": ("Onhold", "Open", "Assigned", "Resolved", "Closed", "Cancelled", "In Progress"),
    "request_type": ("Incident", "Service Request"),
    "urgency": ("Urgent", "High", "Normal", "Low"),
    "impact": ("High", "Medium", "Low"),
    "level": ("Tier 1", "Tier 2", "Tier 3", "Tier 4"),
    "mode": ("Web Form", "E-Mail", "Phone Call"),
    "group": ("Network", "Access control"),
    "category": ("Hardware", "Software"),
}
CHANGE_LOOKUPS: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: LOOKUPS[name] for name in ("priority", "urgency", "impact")},
    "stage": ("Submission", "Planning", "Approval", "Implementation", "Review", "Close"),
    "status": ("Requested", "In Progress", "On Hold", "Completed", "Rejected"),
    "change_type": ("Standard", "Minor", "Major", "Emergency"),
}
LEGAL: Final[Mapping[str, frozenset[str]]] = {
    "Submission": frozenset({"Requested", "In Progress", "Rejected"}),
    "Implementation": frozenset({"In Progress", "On Hold", "Completed"}),
    "Review": frozenset({"In Progress", "Completed"}),
    "Close": frozenset({"Completed", "Rejected"}),
}
"""Which statuses a change's stage has; a pair that is none is refused."""
"""Names of the lookup fields; an id is the place in the list, from 1."""
TEXTS: Final = frozenset({"subject", "title", "description", "update_reason", "impact_details"})
PEOPLE: Final = frozenset({"requester", "technician", "change_requester", "change_owner", "reported_by"})
LABELS: Final[Mapping[str, str]] = {"udf_sline_1": "Outside reference", "udf_sline_2": "Outside event", "udf_sline_53": "Building"}
UDF: Final = re.compile(r"udf_(sline|mline|pick|long|date|ref)_\d+")
EXTERNAL_ID, EVENT = "udf_sline_1", "udf_sline_2"
SORTABLE: Final = frozenset({"created_time", "due_by_time", "last_updated_time", "subject", "id", "priority", "status"})
SHORT_ROW: Final = ("id", "subject", "status", "priority", "requester", "technician", "created_time", "due_by_time", "is_service_request")

PERSON_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "priority": {"urgent": "Urgent", "high": "High", "medium": "Medium", "low": "Low"},
    "request_type": {"incident": "Incident", "request": "Service Request", "problem": "Incident", "change": "Service Request"},
    "status": {"new": "Open", "open": "In Progress", "pending": "Onhold", "resolved": "Resolved", "closed": "Closed"},
}


class Refused(Exception):
    """Values the tool would refuse, as its envelope tells it; some come under status 200, as on real servers."""

    def __init__(self, code: int, message: str, field: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.field, self.status = code, message, field, status


ASSETS: Final[Mapping[str, Json]] = {
    "301": {
        "id": "301",
        "name": "GATE-PC-04",
        "product": {"id": "5", "name": "OptiPlex 7020"},
        "product_type": {"id": "2", "name": "Workstation"},
        "state": {"id": "2", "name": "In Use"},
        "serial_number": "SN-2231",
        "site": {"id": "301", "name": "Harbour"},
        "user": {"id": "900", "name": "Cora Customer"},
        "warranty_expiry": {"display_value": "Mar 1, 2027", "value": "1803859200000"},
        "vendor": None,
    }
}


def lookups_of(module: str) -> Mapping[str, tuple[str, ...]]:
    return CHANGE_LOOKUPS if module == "changes" else LOOKUPS


def checked(given: Json, module: str = "requests") -> Json:
    """An input object in stored form: lookups by name, people by e-mail address or id, custom fields by their names."""
    stored: Json = {}
    lookups = lookups_of(module)
    for name, value in given.items():
        if name in TEXTS:
            if not isinstance(value, str):
                raise Refused(4001, "Invalid Input", name)
            stored[name] = value
        elif name in lookups:
            stored[name] = _looked_up(lookups, name, value)
        elif name == "resolution" and isinstance(value, dict):
            stored[name] = value.get("content")
        elif name in PEOPLE:
            stored[name] = value if value is None or isinstance(value, dict) else None
        elif name == "udf_fields" and isinstance(value, dict):
            strange = next((field for field in value if not UDF.fullmatch(field)), None)
            if strange is not None:
                raise Refused(4001, "Invalid Input", strange)
            stored[name] = value
        else:
            raise Refused(4001, "Invalid Input", name)
    return stored


def _looked_up(lookups: Mapping[str, tuple[str, ...]], field: str, value: Any) -> str | None:
    if value is None:
        return None
    names, given = lookups[field], value if isinstance(value, dict) else {}
    for place, name in enumerate(names, 1):
        if given.get("id") == str(place) or ("id" not in given and given.get("name") == name):
            return name
    raise Refused(4001, "Invalid Input", field)


def _lookup(lookups: Mapping[str, tuple[str, ...]], field: str, name: Any) -> Json | None:
    return None if name is None else {"id": str(lookups[field].index(name) + 1), "name": name}


def user(user_id: str) -> Json:
    return {"id": user_id, "name": NAMES[user_id], "email_id": EMAILS[user_id], "is_vipuser": False, "phone": None, "department": None}


def _person(given: Any) -> Json | None:
    """A user as stored on a request: one of ours by id, or a requester known by e-mail address."""
    if not isinstance(given, dict):
        return None
    if given.get("id") in EMAILS:
        return user(given["id"])
    email = given.get("email_id")
    return {"id": "900", "name": given.get("name") or email, "email_id": email, "is_vipuser": False, "phone": None, "department": None}


def _time(micros: int | None) -> Json | None:
    if micros is None:
        return None
    shown = time.strftime("%b %d, %Y %I:%M %p", time.gmtime(micros // 1_000_000))
    return {"display_value": shown, "value": str(micros // 1000)}


def meets(found: Json, criterion: Any, *, indexed: bool) -> bool:
    field = criterion.get("field") if isinstance(criterion, dict) else None
    if not isinstance(field, str) or criterion.get("condition") not in ("is", "eq", "contains"):
        raise Refused(4001, "Invalid Input", "search_criteria")
    wanted = [str(value) for value in criterion.get("values") or [criterion.get("value")]]
    if field.startswith("udf_fields."):
        if not indexed:
            return False
        value = found["udf_fields"].get(field.removeprefix("udf_fields."))
    elif field in ("id", "display_id", "subject", "title"):
        value = found.get(field)
    elif field.partition(".")[0] in lookups_of(found["module"]):
        value = found.get(field.partition(".")[0])
    else:
        raise Refused(4001, "Invalid Input", field)
    if criterion["condition"] == "contains":
        return any(part in str(value) for part in wanted)
    return str(value) in wanted


def shown(found: Json) -> Json:
    """The request as the API and the webhooks show it."""
    if found["module"] != "requests":
        return _shown_elsewhere(found)
    lookups = {name: _lookup(LOOKUPS, name, found.get(name)) for name in LOOKUPS}
    status, kind = lookups["status"], found["request_type"]
    return {
        "id": found["id"],
        "display_id": found["display_id"],
        "subject": found["subject"],
        "description": found["description"],
        **lookups,
        "status": status,
        "is_service_request": kind == "Service Request",
        "requester": _person(found["requester"]),
        "technician": _person(found["technician"]),
        "created_by": user(found["created_by"]),
        "created_time": _time(found["created"]),
        "last_updated_time": _time(found["updated"]),
        "last_updated_by": user(found["updated_by"]) if found["updated_by"] else None,
        "due_by_time": _time(found["created"] + 4 * 3_600_000_000),
        "first_response_due_by_time": _time(found["created"] + 3_600_000_000),
        "responded_time": None,
        "resolved_time": _time(found["updated"]) if status and status["name"] in ("Resolved", "Closed") else None,
        "sla": {"id": "2", "name": "Normal SLA"},
        "resolution": {"content": found["resolution"], "resolution_attachments": []},
        "udf_fields": {EXTERNAL_ID: None, EVENT: None, **found["udf_fields"]},
        "has_notes": bool(found["notes"]),
        "has_attachments": bool(found["attachments"]),
        "attachments": found["attachments"],
        "assets": [{"id": asset["id"], "name": asset["name"]} for asset in ASSETS.values()] if found["requester"] else [],
        "is_trashed": found["is_trashed"],
        "is_overdue": False,
        "tags": [],
    }


def _shown_elsewhere(found: Json) -> Json:
    """A change, with its stage, or a problem."""
    lookups = lookups_of(found["module"])
    names = CHANGE_LOOKUPS if found["module"] == "changes" else ("priority", "urgency", "impact", "status", "category")
    of_a_change = {"change_requester": _person(found["requester"]), "change_owner": _person(found["technician"])}
    of_a_problem = {"reported_by": _person(found["requester"]), "technician": _person(found["technician"])}
    return {
        "id": found["id"],
        "display_id": found["display_id"],
        "title": found["title"],
        "description": found["description"],
        **{name: _lookup(lookups, name, found.get(name)) for name in names},
        **(of_a_change if found["module"] == "changes" else of_a_problem),
        "created_by": user(found["created_by"]),
        "created_time": _time(found["created"]),
        "last_updated_time": _time(found["updated"]),
        "last_updated_by": user(found["updated_by"]) if found["updated_by"] else None,
        "udf_fields": {EXTERNAL_ID: None, EVENT: None, **found["udf_fields"]},
        "attachments": found["attachments"],
    }


def shown_note(found: Json, note: Json) -> Json:
    told: Json = {
        "id": note["id"],
        "description": note["description"],
        "added_time": _time(note["at"]),
        "added_by": user(note["by"]),
    }
    if found["module"] != "requests":
        return told
    return {**told, "show_to_requester": note["public"], "request": {"id": found["id"], "subject": found["subject"]}}


def in_our_words(fields: Mapping[str, Any]) -> Json:
    """A person's canonical words in stored form."""
    values: Json = {}
    if "subject" in fields:
        values["subject"] = str(fields["subject"])
    if "description" in fields:
        values["description"] = to_html(from_markdown(str(fields["description"])))
    for name, field in (("priority", "priority"), ("type", "request_type"), ("status", "status")):
        word = PERSON_WORDS[field].get(str(fields.get(name)))
        if word is not None:
            values[field] = word
    return values
