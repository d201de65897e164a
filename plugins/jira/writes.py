"""What is written to Jira: our words in the site's names, fields by name or id, and the way along a workflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from plugins.api import NewTicket, Priority, TicketChanges, TicketStatus, TicketType, ValidationRefused
from plugins.jira.api_client import JiraClient
from plugins.jira.names import SiteNames
from plugins.jira.payload import JiraWords
from plugins.mapping import to_id
from plugins.name_cache import NameCache
from plugins.richtext import from_markdown

Json = dict[str, Any]

RESOLUTIONS: Final = ("done", "fixed", "resolved")
"""What a screen that demands a resolution is given, in this order, where the tenant names none and the site offers it."""
MAX_SUMMARY: Final = 255
MAX_LABEL: Final = 255


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the site: its id, and of what kind its value, or each of its values, is."""

    field_id: str
    kind: str
    many: bool
    ambiguous: bool = False

    def value(self, given: Any, *, by_name: bool) -> Any:
        """A plain value in the form this kind of field takes; what is an object already passes as it is."""
        if self.many:
            return [self._one(item, by_name) for item in (given if isinstance(given, list | tuple) else [given])]
        return self._one(given, by_name)

    def _one(self, given: Any, by_name: bool) -> Any:
        if isinstance(given, dict) or given is None:
            return given
        match self.kind:
            case "option":
                return {"value": str(given)}
            case "user":
                return {"name" if by_name else "accountId": str(given)}
            case "group" | "version" | "component" | "priority":
                return {"name": str(given)}
            case "number" if isinstance(given, str):
                try:
                    return float(given)
                except ValueError:
                    raise ValidationRefused(f"the field {self.field_id} takes a number, not {given[:40]!r}") from None
        return given


class IssueWriter:
    """Fields of issues to create and to change, by one tool's settings; asks the site for names of fields it has not met."""

    def __init__(self, settings: Mapping[str, Any], api: JiraClient, words: JiraWords, names: SiteNames) -> None:
        self._settings, self._api, self._words, self._names = settings, api, words, names
        self._by_name = api.api.endswith("/2")  # Data Center knows people by name, Cloud by account id
        self._fields: NameCache[Field] = NameCache("field", self._fields_of_site)

    async def new(self, ticket: NewTicket) -> Json:
        """The fields of an issue to create, our id as its first label; raises ValidationRefused without a project to put it in."""
        project = self._settings.get("project")
        if not project:
            raise ValidationRefused("jira needs the setting project, the key of the project new issues go to")
        fields: Json = {
            "project": {"key": str(project)},
            "issuetype": {"name": self._names.types[ticket.type]},
            "summary": summary(ticket.subject),
            "labels": labels(ticket),
            **await self.custom(ticket.custom_fields),
        }
        if ticket.description.strip():
            fields["description"] = self._api.text(from_markdown(ticket.description))
        if ticket.priority is not Priority.UNKNOWN:
            fields["priority"] = {"name": self._names.priorities[ticket.priority]}
        return fields

    async def changed(self, changes: TicketChanges) -> Json:
        """The fields of an edit; the status is none of them."""
        fields: Json = await self.custom(changes.custom_fields)
        if changes.subject is not None:
            fields["summary"] = summary(changes.subject)
        if changes.priority not in (None, Priority.UNKNOWN):
            fields["priority"] = {"name": self._names.priorities[changes.priority]}
        if changes.type not in (None, TicketType.UNKNOWN):
            fields["issuetype"] = {"name": self._names.types[changes.type]}
        return fields

    async def custom(self, given: Mapping[str, Any]) -> Json:
        """Fields by id (`customfield_10050`), which pass as they are, or by the name people see, in the form their kind takes."""
        fields: Json = {}
        for name, value in given.items():
            if name.startswith("customfield_"):
                fields[name] = value
                continue
            field = await self._fields.get(name)
            if field.ambiguous:
                raise ValidationRefused(f"several fields are called {name[:80]!r}; name the one by its id")
            fields[field.field_id] = field.value(value, by_name=self._by_name)
        return fields

    async def _fields_of_site(self) -> dict[str, Field]:
        found: dict[str, Field] = {}
        for field in await self._api.fields():
            field_id, name, schema = field.get("id"), field.get("name"), field.get("schema")
            if type(field_id) is not str:
                continue
            schema = schema if isinstance(schema, dict) else {}
            many = schema.get("type") == "array"
            kind = str(schema.get("items") if many else schema.get("type"))
            if type(name) is str:
                key = name.strip().casefold()
                found[key] = Field(field_id, kind, many, ambiguous=key in found and found[key].field_id != field_id)
            found[field_id.casefold()] = Field(field_id, kind, many)
        return found

    # the way along a workflow ----------------------------------------------------------------------------------------
    def transition_to(self, issue: Json, wanted: TicketStatus) -> Json | None:
        """The transition that leads to the status; None when the issue already stands there.

        A name in `status_names` is the status's only one; else names and categories are read as in webhooks. Where the workflow has
        not the wanted status, its nearest will do: a single "Done" takes both resolved and closed.
        """
        fields, given = issue.get("fields"), issue.get("transitions")
        current = fields.get("status") if isinstance(fields, dict) else None
        offered = [t for t in given if isinstance(t, dict) and t.get("isAvailable") is not False] if isinstance(given, list) else []
        for near in (wanted, *_NEAR.get(wanted, ())):
            if self._is(current, near):
                return None
            for transition in offered:
                if self._is(transition.get("to"), near):
                    return transition
        names = ", ".join(sorted({str(_name(t.get("to"))) for t in offered}))[:200]
        raise ValidationRefused(
            f"no transition leads issue {issue.get('id')} to {wanted}; its workflow offers: {names or 'none'}; "
            f"name the status to go to in status_names.{wanted}"
        )

    async def screen_of(self, transition: Json, wanted: TicketStatus) -> Json:
        """What the transition's screen demands, from `transition_fields`, `resolution`, and what the site offers.

        Raises ValidationRefused that names the fields nobody has a value for, before anything is written.
        """
        asked = transition.get("fields")
        screen: Mapping[str, Any] = asked if isinstance(asked, dict) else {}
        values = await self.custom(self._settings.get("transition_fields") or {})
        chosen = {name: value for name, value in values.items() if name in screen}
        resolution = self._settings.get("resolution")
        if resolution and wanted in (TicketStatus.RESOLVED, TicketStatus.CLOSED) and ("resolution" in screen or not screen):
            chosen["resolution"] = {"name": str(resolution)}
        missing = []
        for name, field in screen.items():
            if not isinstance(field, dict) or field.get("required") is not True or field.get("hasDefaultValue") is True or name in chosen:
                continue
            offered = _offered(field) if name == "resolution" else None
            if offered is None:
                missing.append(str(field.get("name") or name))
            else:
                chosen[name] = offered
        if missing:
            raise ValidationRefused(
                f"the transition to {wanted} demands {', '.join(sorted(missing))[:200]}; give them in the setting transition_fields"
            )
        return chosen

    def _is(self, status: Any, wanted: TicketStatus) -> bool:
        name = self._names.statuses.get(wanted)
        if name is None:
            return self._words.status(status) is wanted
        found = _name(status)
        return isinstance(found, str) and found.casefold() == name.casefold()


_NEAR: Final[Mapping[TicketStatus, tuple[TicketStatus, ...]]] = {
    TicketStatus.NEW: (TicketStatus.OPEN,),
    TicketStatus.OPEN: (TicketStatus.NEW,),
    TicketStatus.RESOLVED: (TicketStatus.CLOSED,),
    TicketStatus.CLOSED: (TicketStatus.RESOLVED,),
}
"""The statuses that will do where a workflow has not the wanted one."""


def summary(subject: str) -> str:
    """A summary Jira takes: one line, not empty, not too long."""
    return " ".join(subject.split())[:MAX_SUMMARY] or "(no subject)"


def labels(ticket: NewTicket) -> list[str]:
    """Our id and the tags as labels, which hold no space."""
    return [ticket.external_id, *dict.fromkeys("_".join(tag.split())[:MAX_LABEL] for tag in ticket.tags if tag.strip())]


def _name(value: Any) -> Any:
    return value.get("name") if isinstance(value, dict) else None


def _offered(field: Json) -> Json | None:
    """The resolution to take of those a screen offers; None when it offers none."""
    values = field.get("allowedValues")
    known = [value for value in values if isinstance(value, dict) and to_id(value.get("id"))] if isinstance(values, list) else []
    by_name = {str(_name(value)).casefold(): value for value in known}
    best = next((by_name[name] for name in RESOLUTIONS if name in by_name), known[0] if known else None)
    return None if best is None else {"id": to_id(best.get("id"))}
