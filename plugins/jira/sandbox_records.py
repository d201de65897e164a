"""The Jira sandbox's issues as it keeps them: made, changed, moved and commented, with the webhooks and the clocks of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugins.jira.sandbox_issue import STATUSES, WORKFLOW, Json, changelog_items, in_webhook_form, named, stamp
from plugins.jira.sandbox_site import Site
from plugins.marker import find_marker, note_marker
from plugins.richtext import from_adf, to_plain, to_wiki
from plugins.sandbox.http import Request
from plugins.sandbox.server import now

PROPERTY = "ai-agents"
GOALS: Mapping[str, tuple[str, int]] = {
    "customfield_10061": ("Time to first response", 4 * 3_600_000),
    "customfield_10062": ("Time to resolution", 24 * 3_600_000),
}
"""A request's clocks: the field that shows each, its name, and its goal in milliseconds."""
RESOLUTIONS = [{"id": "10000", "name": "Done"}, {"id": "10001", "name": "Won't do"}]


class Records(Site):
    """Issues and what happens to them; the calls are in the classes over this one."""

    def make(self, fields: Json, properties: Json, request: Request, status: str = "Open", request_type: Json | None = None) -> Json:
        """A new issue, told to the webhook; with a request type it is a request, whose clocks run."""
        number, at = self.next_id(f"issue of {fields['project']['key']}"), now()
        issue_id = str(self.next_id("issue", 10_001))
        account = self.user(request.actor)
        issue: Json = {
            "id": issue_id,
            "key": f"{fields['project']['key']}-{number}",
            "created": at,
            "updated": at,
            "labelled": at,
            "fields": {
                "description": None,
                "labels": [],
                "priority": {"id": "3", "name": "Medium"},
                "assignee": None,
                "reporter": account,
                "creator": account,
                "resolution": None,
                "duedate": None,
                "attachment": [],
                **fields,
                "status": named(STATUSES, status),
            },
            "properties": dict(properties),
            "comments": [],
            "histories": [],
            "approvals": [],
            "request_type": request_type,
        }
        if request_type is not None:
            issue["fields"]["customfield_10060"] = {"requestType": {**request_type, "serviceDeskId": request_type["serviceDeskId"]}}
            self._start_clocks(issue)
        self.issues.put(issue_id, issue)
        self.ids[issue["key"]] = issue_id
        self.ledger.write("create", issue_id, request, external_id=_external_id(issue), marker=_event_in(properties))
        self.tell("jira:issue_created", "issue_created", issue, request, changelog_items({}, fields))
        return issue

    def change(self, issue: Json, fields: Json, properties: Json, request: Request) -> None:
        """Applies an edit; told to the webhook when it changed something."""
        before = dict(issue["fields"])
        issue["fields"].update(fields)
        items = changelog_items(before, fields)
        self._touch(issue, properties, request, labelled="labels" in fields, items=items)
        if items:
            self.tell("jira:issue_updated", "issue_updated", issue, request, items)

    def move(self, issue: Json, status: str, properties: Json, request: Request, resolution: Any = None) -> None:
        """Follows a transition; a done status has a resolution, another has none."""
        before = dict(issue["fields"])
        issue["fields"]["status"] = named(STATUSES, status)
        done = STATUSES[status][1] == "done"
        known = next((r for r in RESOLUTIONS if resolution and resolution.get("id") == r["id"]), resolution)
        issue["fields"]["resolution"] = (known or before["resolution"] or RESOLUTIONS[0]) if done else None
        if done:
            self._stop_clock(issue, "customfield_10062")
        after = {name: issue["fields"][name] for name in ("resolution", "status")}
        items = changelog_items(before, after)
        self._touch(issue, properties, request, labelled=False, items=items)
        self.tell("jira:issue_updated", "issue_generic", issue, request, items)

    def _touch(self, issue: Json, properties: Json, request: Request, *, labelled: bool, items: list[Json]) -> None:
        at = now()
        if items:
            issue["updated"] = at
            history = {"id": str(self.next_id("history", 60_001)), "author": self.user(request.actor), "created": stamp(at), "items": items}
            issue["histories"].append(history)
        issue["labelled"] = at if labelled else issue["labelled"]
        issue["properties"].update(properties)
        self.issues.put(issue["id"], issue)
        self.ledger.write("update", issue["id"], request, external_id=_external_id(issue), marker=_event_in(properties))

    def note(self, issue: Json, document: Json, public: bool, request: Request) -> Json:
        """Adds a comment; the first public one of ours, or an agent's, meets the first response."""
        at = now()
        comment = {"id": str(self.next_id("comment", 30_001)), "body": document, "public": public, "at": at, "author": request.actor.id}
        issue["comments"].append(comment)
        issue["updated"] = at
        if public:
            self._stop_clock(issue, "customfield_10061")
        self.issues.put(issue["id"], issue)
        found = find_marker(to_plain(from_adf(document)))
        self.ledger.write("note", issue["id"], request, external_id=_external_id(issue), marker=note_marker(*found) if found else None)
        self.tell_comment(issue, comment, request)
        return comment

    def delete(self, issue: Json, request: Request) -> None:
        self.issues.drop(issue["id"])
        self.ids.pop(issue["key"], None)
        self.tell("jira:issue_deleted", "issue_deleted", issue, request, [])

    # webhooks out ----------------------------------------------------------------------------------------------------
    def tell(self, event: str, kind: str, issue: Json, request: Request, items: list[Json]) -> None:
        body = {"timestamp": issue["updated"] // 1000, "webhookEvent": event, "issue_event_type_name": kind}
        shown = {"user": self.user(request.actor), "issue": in_webhook_form(issue, self.base_url)}
        self.fire({**body, **shown, "changelog": {"id": str(self.next_id("changelog", 50_001)), "items": items}})

    def tell_comment(self, issue: Json, comment: Json, request: Request) -> None:
        """Cloud tells a comment with a few fields of its issue."""
        told = self.comment_form(issue, comment, wiki=True)
        body = {"timestamp": comment["at"] // 1000, "webhookEvent": "comment_created", "comment": told}
        self.fire({**body, "issue": in_webhook_form(issue, self.base_url, short=True)})

    # forms -----------------------------------------------------------------------------------------------------------
    def comment_form(self, issue: Json, comment: Json, *, wiki: bool) -> Json:
        author = self.user(self.actor_named(comment["author"]))
        return {
            "self": f"{self.base_url}/rest/api/{2 if wiki else 3}/issue/{issue['id']}/comment/{comment['id']}",
            "id": comment["id"],
            "author": author,
            "updateAuthor": author,
            "body": to_wiki(from_adf(comment["body"])) if wiki else comment["body"],
            "created": stamp(comment["at"]),
            "updated": stamp(comment["at"]),
            "jsdPublic": comment["public"],
        }

    def transitions_of(self, issue: Json, *, with_fields: bool = False) -> list[Json]:
        """Transition ids differ by status, as they do by workflow: nobody may learn them by heart. In project ITSM the way to a done
        status demands a resolution."""
        status, demanding = issue["fields"]["status"], issue["fields"]["project"]["key"] == "ITSM"
        found = []
        for number, name in enumerate(WORKFLOW[status["name"]], 1):
            asks = demanding and STATUSES[name][1] == "done"
            way = {"id": f"{status['id']}{number}", "name": f"To {name}", "to": named(STATUSES, name), "isAvailable": True}
            way |= {"hasScreen": asks, "isGlobal": False, "isInitial": False, "isConditional": False}
            if with_fields:
                resolution = {"required": True, "name": "Resolution", "key": "resolution", "operations": ["set"]}
                schema = {"type": "resolution", "system": "resolution"}
                way["fields"] = {"resolution": {**resolution, "schema": schema, "allowedValues": RESOLUTIONS}} if asks else {}
            found.append(way)
        return found

    # clocks ----------------------------------------------------------------------------------------------------------
    def _start_clocks(self, issue: Json) -> None:
        began = issue["created"] // 1000
        for field, (name, goal) in GOALS.items():
            cycle = {"startTime": moment(began), "breachTime": moment(began + goal), "breached": False, "paused": False}
            length = {"millis": goal, "friendly": f"{goal // 3_600_000}h"}
            cycle |= {"withinCalendarHours": True, "goalDuration": length, "elapsedTime": {"millis": 0, "friendly": "0m"}}
            cycle |= {"remainingTime": length}
            issue["fields"][field] = {"id": field[12:], "name": name, "completedCycles": [], "ongoingCycle": cycle}

    def _stop_clock(self, issue: Json, field: str) -> None:
        clock = issue["fields"].get(field)
        running = clock.pop("ongoingCycle", None) if isinstance(clock, dict) else None
        if running is not None:
            kept = {name: running[name] for name in ("startTime", "breachTime", "breached", "goalDuration", "elapsedTime", "remainingTime")}
            clock["completedCycles"].append({**kept, "stopTime": moment(now() // 1000)})


def moment(millis: int) -> Json:
    """A time as the service desk API says it, in four ways."""
    text = stamp(millis * 1000)
    return {"iso8601": text, "jira": text, "friendly": text[:16].replace("T", " "), "epochMillis": millis}


def _external_id(issue: Json) -> str | None:
    """Our id: a label, or, in a request that has none yet, the last line of its description."""
    for label in issue["fields"]["labels"]:
        if label.startswith("aia-"):
            return str(label)
    description = issue["fields"].get("description")
    last = to_plain(from_adf(description)).rstrip().rpartition("\n")[2] if description else ""
    return last if last.startswith("aia-") else None


def _event_in(properties: Json) -> str | None:
    """The event whose change a write carries; of a change in two calls, the first is told apart as `event_id/fields`."""
    value = properties.get(PROPERTY)
    if not isinstance(value, dict):
        return None
    return "/".join(str(value[name]) for name in ("event_id", "part") if name in value)
