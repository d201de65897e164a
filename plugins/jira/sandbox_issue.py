"""The Jira sandbox's issues: what it accepts, how an issue changes, and the two forms it is shown in. No HTTP here.

An issue is a JSON document; `fields` holds what REST v3 shows, with rich text as ADF. REST v2 and webhooks have rich text as wiki.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from plugins.jira.sandbox_site import CUSTOM_FIELDS
from plugins.richtext import from_adf, from_markdown, from_wiki, to_adf, to_wiki

Json = dict[str, Any]

PROJECTS: Final = {"OPS": "10002", "ITSM": "10003"}
TYPES: Final = {"Incident": "10005", "Service request": "10006", "Problem": "10007", "Change": "10008", "Task": "10009"}
PRIORITIES: Final = {"Highest": "1", "High": "2", "Medium": "3", "Low": "4", "Lowest": "5"}
CATEGORIES: Final = {"new": (2, "To Do"), "indeterminate": (4, "In Progress"), "done": (3, "Done")}
STATUSES: Final = {
    "Open": ("1", "new"),
    "In progress": ("3", "indeterminate"),
    "Pending": ("10010", "indeterminate"),
    "Resolved": ("5", "done"),
    "Closed": ("6", "done"),
}
WORKFLOW: Final[Mapping[str, tuple[str, ...]]] = {
    "Open": ("In progress", "Pending", "Resolved", "Closed"),
    "In progress": ("Open", "Pending", "Resolved", "Closed"),
    "Pending": ("Open", "In progress", "Resolved", "Closed"),
    "Resolved": ("Open", "Closed"),
    "Closed": ("Open",),
}
"""Where each status leads; a closed issue is reopened before anything else."""

MAX_COMMENT: Final = 32_767
PERSON_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "priority": {"urgent": "Highest", "high": "High", "medium": "Medium", "low": "Low"},
    "type": {"incident": "Incident", "request": "Service request", "problem": "Problem", "change": "Change"},
    "status": {"new": "Open", "open": "In progress", "pending": "Pending", "resolved": "Resolved", "closed": "Closed"},
}


class Refused(Exception):
    """Values Jira would refuse: its 400, with messages by field or for the whole."""

    def __init__(self, message: str = "", **errors: str) -> None:
        super().__init__(message or str(errors))
        self.body: Json = {"errorMessages": [message] if message else [], "errors": errors}


def named(table: Mapping[str, Any], name: str) -> Json:
    """An entry of one of the tables above as Jira shows it."""
    found = table[name]
    if isinstance(found, tuple):
        number, key = found
        category, shown = CATEGORIES[key]
        return {"id": number, "name": name, "statusCategory": {"id": category, "key": key, "colorName": "blue-gray", "name": shown}}
    return {"id": found, "name": name}


def checked(fields: Any, *, creating: bool, wiki: bool = False) -> Json:
    """The fields of a create or an edit in stored form; raises Refused as Jira does. `wiki`: rich text comes as v2 takes it."""
    if not isinstance(fields, dict):
        raise Refused("The request body holds no fields.")
    stored: Json = {}
    for name, value in fields.items():
        stored[name] = _checked_field(name, in_adf(value, name) if wiki and name == "description" else value, creating)
    if creating:
        for name in ("project", "issuetype", "summary"):
            if name not in stored:
                raise Refused(**{name: f"{name} is required."})
    return stored


def _checked_field(name: str, value: Any, creating: bool) -> Any:
    match name:
        case "summary":
            if not isinstance(value, str) or not value.strip():
                raise Refused(summary="You must specify a summary of the issue.")
            if "\n" in value or "\r" in value:
                raise Refused(summary="The summary is invalid because it contains newline characters.")
            if len(value) > 255:
                raise Refused(summary="The summary is longer than 255 characters.")
            return value
        case "description":
            if value is None:
                return None
            check_adf(value, "description")
            return value
        case "labels":
            if not isinstance(value, list) or not all(isinstance(label, str) and label for label in value):
                raise Refused(labels="The labels are not a list of texts.")
            for label in value:
                if " " in label:
                    raise Refused(labels=f"The label '{label}' contains spaces which is invalid.")
            return list(value)
        case "project" if creating:
            key = value.get("key") if isinstance(value, dict) else None
            if key not in PROJECTS:
                raise Refused(project="valid project is required")
            return {"id": PROJECTS[key], "key": key, "name": key, "projectTypeKey": "service_desk"}
        case "issuetype":
            return _pick(TYPES, value, "issuetype", "Specify a valid issue type")
        case "priority":
            return _pick(PRIORITIES, value, "priority", "The priority selected is invalid.")
        case "resolution":
            return value
        case "assignee" | "reporter" | "duedate":
            return value
    if name in CUSTOM_FIELDS:
        return _checked_custom(name, value)
    raise Refused(**{name: f"Field '{name}' cannot be set. It is not on the appropriate screen, or unknown."})


def _pick(table: Mapping[str, str], value: Any, field: str, fault: str) -> Json:
    given = value if isinstance(value, dict) else {}
    for name, number in table.items():
        if given.get("name") == name or given.get("id") == number:
            return named(table, name)
    raise Refused(**{field: fault})


def _checked_custom(name: str, value: Any) -> Any:
    """A custom field's value in the form of its kind: options from its own, numbers as numbers."""
    field = CUSTOM_FIELDS[name]
    many, options = field["schema"]["type"] == "array", field.get("_options")
    values = value if many and isinstance(value, list) else [value]
    if value is None:
        return None
    if many and not isinstance(value, list):
        raise Refused(**{name: "data was not an array"})
    if options is not None and not all(isinstance(v, dict) and v.get("value") in options for v in values):
        raise Refused(**{name: f"Option value is not valid for {field['name']}"})
    if field["schema"]["type"] == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise Refused(**{name: "data was not a number"})
    return value


def in_adf(value: Any, field: str) -> Any:
    """Rich text of v2, which is text, as it is kept; refuses an Atlassian Document there."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise Refused(**{field: "Operation value must be a string"})
    return to_adf(from_wiki(value))


def check_adf(document: Any, field: str) -> None:
    """Refuses what is no Atlassian Document: text, a wrong root, or an empty text node anywhere."""
    if not isinstance(document, dict):
        raise Refused(**{field: "Operation value must be an Atlassian Document (see the Atlassian Document Format)"})
    if document.get("type") != "doc" or document.get("version") != 1 or not isinstance(document.get("content"), list):
        raise Refused("INVALID_INPUT")
    waiting = list(document["content"])
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict) or (node.get("type") == "text" and not node.get("text")):
            raise Refused("INVALID_INPUT")
        waiting.extend(node.get("content") or ())


def checked_properties(given: Any) -> Json:
    """{key: value} of a body's `properties`."""
    if given is None:
        return {}
    if not isinstance(given, list) or not all(isinstance(p, dict) and p.get("key") and "value" in p for p in given):
        raise Refused("The properties are not a list of keys and values.")
    return {p["key"]: p["value"] for p in given}


def changelog_items(before: Json, after: Json) -> list[Json]:
    """What changed between two states of the fields, as a webhook's changelog tells it."""
    items = []
    for name, value in after.items():
        old = before.get(name)
        if old == value or name in ("created", "updated"):
            continue
        custom = name.startswith("customfield_")
        items.append(
            {
                "field": CUSTOM_FIELDS[name]["name"] if custom else name,
                "fieldtype": "custom" if custom else "jira",
                "fieldId": name,
                "from": _key(old),
                "fromString": _shown(old),
                "to": _key(value),
                "toString": _shown(value),
            }
        )
    return items


def _key(value: Any) -> str | None:
    return value.get("id") if isinstance(value, dict) else None


def _shown(value: Any) -> str | None:
    if isinstance(value, dict):
        return str(value.get("name") or value.get("value") or to_wiki(from_adf(value)))
    return None if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def stamp(micros: int) -> str:
    """A time as Jira writes it: milliseconds, and an offset without a colon."""
    moment = datetime.fromtimestamp(micros / 1e6, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+0000"


def in_rest_form(issue: Json, base_url: str, wanted: str, version: int = 3) -> Json:
    """The issue as REST shows it. `wanted` as in the query: names, `*all`, `*navigable`, `-name`."""
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    hidden = {name[1:] for name in names if name.startswith("-")}
    chosen = {name for name in names if not name.startswith(("-", "*"))}
    everything = not chosen or any(name.startswith("*") for name in names)
    known = _dated(issue, wiki=version == 2)
    fields = {name: value for name, value in known.items() if (everything or name in chosen) and name not in hidden}
    return {"id": issue["id"], "key": issue["key"], "self": f"{base_url}/rest/api/{version}/issue/{issue['id']}", "fields": fields}


def in_webhook_form(issue: Json, base_url: str, *, short: bool = False) -> Json:
    """The issue as webhooks show it: v2, rich text as wiki; `short` as beside a comment."""
    fields = _dated(issue, wiki=True)
    if short:
        fields = {name: fields.get(name) for name in ("summary", "issuetype", "project", "assignee", "priority", "status")}
    return {"id": issue["id"], "key": issue["key"], "self": f"{base_url}/rest/api/2/issue/{issue['id']}", "fields": fields}


def _dated(issue: Json, *, wiki: bool) -> Json:
    fields = {**issue["fields"], "created": stamp(issue["created"]), "updated": stamp(issue["updated"])}
    if wiki and fields.get("description") is not None:
        fields["description"] = to_wiki(from_adf(fields["description"]))
    return fields


def in_jira_words(fields: Mapping[str, Any]) -> Json:
    """A person's canonical words in this Jira's; `status` stays a plain name."""
    values: Json = {}
    if "subject" in fields:
        values["summary"] = " ".join(str(fields["subject"]).split())[:255]
    if "description" in fields:
        values["description"] = to_adf(from_markdown(str(fields["description"])))
    if "tags" in fields:
        values["labels"] = ["_".join(str(tag).split()) for tag in fields["tags"]]
    for name, field in (("priority", "priority"), ("type", "issuetype")):
        word = PERSON_WORDS[name].get(str(fields.get(name)))
        if word is not None:
            values[field] = {"name": word}
    if "status" in fields:
        values["status"] = PERSON_WORDS["status"].get(str(fields["status"]), "Open")
    return values
