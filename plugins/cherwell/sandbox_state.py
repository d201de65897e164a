"""What a small Cherwell remembers, and what happens with each write: rules, the ledger, the tenant's web service call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugins.cherwell.sandbox_objects import FROM_CANONICAL, NO_ERROR, BusinessObject, by_id, by_name, hex_id, stamp, webhook_body
from plugins.marker import find_marker, note_marker
from plugins.sandbox.http import Request, Response, json_response
from plugins.sandbox.server import Actor, Sandbox, now

Json = dict[str, Any]


class Refused(Exception):
    """A save the tool does not take: its code, and the field it names."""

    def __init__(self, code: str, field_id: str = "") -> None:
        super().__init__(code)
        self.code, self.field_id = code, field_id


class CherwellState(Sandbox):
    """Records, tokens and files, and the one way each is written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.records = self.journal.table("records")
        self.tokens = self.journal.table("tokens")
        self.files = self.journal.table("files")
        self._public = {(r["object"], r["public"]): r["rec"] for r in self.records.values()}

    def _record(self, made: BusinessObject | None, named: Mapping[str, Any]) -> Any:
        """A record by `rec` or `public`."""
        if made is None:
            return None
        record = self.records.get(str(named.get("rec") or self._public.get((made.name, str(named.get("public") or ""))) or ""))
        return record if record is not None and record["object"] == made.name else None

    def _insert(self, made: BusinessObject, values: Mapping[str, str], actor: Actor, parent: str | None = None) -> Json:
        at, public = now(), str(self.next_id(made.name, made.first_number))
        record: Json = {
            "object": made.name,
            "public": public,
            "rec": hex_id(f"{self.secret('records')}/{made.name}/{public}", 42),
            "at": at,
            "parent": parent,
        }
        record["fields"] = {**values, "CreatedDateTime": stamp(at), "LastModifiedDateTime": stamp(at), "LastModifiedBy": actor.name}
        if made.fields[0].read_only and made.fields[0].name.endswith("ID"):
            record["fields"][made.fields[0].name] = public
        if "SLAResolveByDeadline" in (f.name for f in made.fields):
            record["fields"].setdefault("SLAResolveByDeadline", stamp(at + 4 * 3_600_000_000))
        self.records.put(record["rec"], record)
        self._public[made.name, public] = record["rec"]
        return record

    def _save(self, given: Json, request: Request, parent: Json | None = None) -> Json:
        """A save in lower-case names; its outcome in the answer's shape, whatever it is."""
        made = by_id(str(given.get("busobid") or ""))
        if made is None:
            return failure("BUSOBNOTFOUND", "BadRequest")
        named = {"rec": given.get("busobrecid"), "public": given.get("busobpublicid")}
        exists = bool(named["rec"] or named["public"])
        record = self._record(made, named) if exists else None
        if exists and record is None:
            return failure("RECORDNOTFOUND", "NotFound")
        try:
            values = checked_values(made, given, new=record is None)
        except Refused as exc:
            errors = [{"fieldId": exc.field_id, "errorCode": exc.code, "error": "The value is not valid."}] if exc.field_id else []
            return {**failure("VALIDATIONFAILED" if errors else exc.code, "BadRequest"), "fieldValidationErrors": errors}
        if record is not None:
            self._write(made, record, values, request)
        elif made.name == "JournalNote" and parent is not None:
            record = self._note(the_object(parent["object"]), parent, values, request)
        else:
            record = self._insert(made, values, request.actor, parent["rec"] if parent else None)
            told = {"external_id": values.get("ExternalReference") or None, "marker": values.get("ExternalEvent") or None}
            self.ledger.write("create", ticket_id_of(made, record), request, **told)
            self._tell(made, record, "created", request.actor, [])
        saved = {"busObPublicId": record["public"], "busObRecId": record["rec"], "cacheKey": None}
        return {**saved, "fieldValidationErrors": [], "notificationTriggers": [], **NO_ERROR}

    def _write(self, made: BusinessObject, record: Json, values: Mapping[str, str], request: Request) -> None:
        changed = [name for name, value in values.items() if record["fields"].get(name, "") != value]
        record["fields"] |= {**values, "LastModifiedDateTime": stamp(now()), "LastModifiedBy": request.actor.name}
        self.records.put(record["rec"], record)
        told = {"external_id": record["fields"].get("ExternalReference") or None, "marker": values.get("ExternalEvent") or None}
        self.ledger.write("update", ticket_id_of(made, record), request, **told)
        self._tell(made, record, "updated", request.actor, changed)

    def _note(self, made: BusinessObject, record: Json, values: Mapping[str, str], request: Request) -> Json:
        note = self._insert(the_object("JournalNote"), {**values, "ParentRecID": record["rec"]}, request.actor, record["rec"])
        said = find_marker(values["Details"])
        self.ledger.write("note", ticket_id_of(made, record), request, marker=note_marker(*said) if said else None)
        self._tell(made, record, "commented", request.actor, [], values)
        return note

    def _tell(
        self, made: BusinessObject, record: Json, verb: str, actor: Actor, changed: list[str], note: Mapping[str, Any] | None = None
    ) -> None:
        """The automation process of tickets; other objects have none."""
        if not any(f.name == "Status" for f in made.fields):
            return
        if self.keys.get("webhook_kind") == "text":
            self.fire(f"RecID: {record['rec']}".encode(), {"Content-Type": "text/plain"})
            return
        self.fire(webhook_body(made, record, verb, actor.name, changed, note))

    def _failed(self, code: str, status: int) -> Response:
        return json_response(failure(code, "NotFound" if status == 404 else "BadRequest"), status)


def failure(code: str, status: str) -> Json:
    """The error envelope, the same under any HTTP status."""
    return {
        "busObId": None,
        "busObPublicId": None,
        "busObRecId": None,
        "errorCode": code,
        "errorMessage": "It failed.",
        "hasError": True,
        "httpStatusCode": status,
    }


def checked_values(made: BusinessObject, given: Json, *, new: bool) -> dict[str, str]:
    """The values of the fields marked as dirty, by name; raises Refused."""
    values = {}
    for row in given.get("fields") or ():
        told = lowered(row)
        if str(told.get("dirty")).lower() != "true":
            continue
        found = made.field(str(told.get("fieldid") or told.get("name") or ""))
        if found is None:
            raise Refused("FIELDNOTFOUND", str(told.get("fieldid") or ""))
        value = str(told.get("value") or "")
        if found.read_only or (found.allowed and value and value not in found.allowed):
            raise Refused("INVALIDVALUE", made.full_id(found))
        values[found.name] = value
    for found in made.fields if new else ():
        if found.required and not values.get(found.name):
            raise Refused("REQUIRED", made.full_id(found))
    return values


def fits(value: str, operator: str, wanted: str) -> bool:
    match operator:
        case "contains":
            return wanted.casefold() in value.casefold()
        case "startswith" | "startwith":
            return value.casefold().startswith(wanted.casefold())
        case "gt":
            return value > wanted
        case "lt":
            return value < wanted
    return value.casefold() == wanted.casefold()


def in_words(made: BusinessObject, fields: Mapping[str, Any]) -> dict[str, str]:
    """Canonical words, as the control calls take them, in Cherwell's."""
    given = {"ShortDescription": str(fields["subject"])} if "subject" in fields else {}
    for name, target in (("priority", "Priority"), ("status", "Status"), ("type", "IncidentType")):
        if made.field(target) and (word := FROM_CANONICAL[name].get(str(fields.get(name)))):
            given[target] = word
    return given


def ticket_id_of(made: BusinessObject, record: Json) -> str:
    return str(record["public"]) if made.name == "Incident" else f"{made.name}:{record['public']}"


def the_object(name: str) -> BusinessObject:
    found = by_name(name)
    assert found is not None, name
    return found


def given_in(request: Request) -> Json:
    body = request.json()
    return lowered(body) if isinstance(body, dict) else {}


def lowered(document: Any) -> Json:
    """A document's own members by name in lower case."""
    return {str(name).lower(): value for name, value in document.items()} if isinstance(document, dict) else {}


def one_step_key(name: str) -> str:
    return f"DefType:OneStepActionDef#Scope:Global#Id:{hex_id(f'onestep/{name}')}"
