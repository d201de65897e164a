"""What is written to a record: columns for a new ticket, and the writes, in order, that an update takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from plugins.api import FatalApiError, NewTicket, PluginConfigError, Priority, TicketChanges, TicketStatus, TicketType, ValidationRefused
from plugins.mapping import tenant_words
from plugins.richtext import from_markdown, to_plain
from plugins.servicenow.payload import text_of
from plugins.servicenow.tables import (
    CHANGE,
    IMPACT_AND_URGENCY,
    INCIDENT,
    LOOKED_UP,
    PRIORITY_CODES,
    PROBLEM,
    REQUIRED,
    TARGETS,
    TYPES,
    code,
    steps,
)

TABLES: Mapping[TicketType, str] = {
    TicketType.INCIDENT: INCIDENT,
    TicketType.UNKNOWN: INCIDENT,
    TicketType.REQUEST: "sc_req_item",
    TicketType.PROBLEM: PROBLEM,
    TicketType.CHANGE: CHANGE,
}
SUBJECT_LENGTH = 160
"""short_description holds no more; what is longer would be cut without a word."""
EVENT_FIELD, EVENT_FIELD_LENGTH = "correlation_display", 100
EXTERNAL_ID_FIELD = "correlation_id"
CHECKED = frozenset({"short_description", "impact", "urgency", "priority", EXTERNAL_ID_FIELD})
"""Columns of ours whose value the instance must have kept as it was sent: an ACL drops a write in silence."""
Writes = tuple[dict[str, str], ...]


class Located(msgspec.Struct, frozen=True, kw_only=True):
    """Where a ticket stands: its table, its state's code, what its event column holds, and of a change its type."""

    sys_id: str
    table: str
    number: str
    state: str
    events: str = ""
    kind: str = ""


class ServiceNowWriter:
    """Writes by one tool's settings: `tables`, `create_fields`, `required_fields`, `priority_fields`, `event_field`, `words`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.event_field = str(settings.get("event_field") or EVENT_FIELD)
        self._event_length = EVENT_FIELD_LENGTH if self.event_field == EVENT_FIELD else int(settings.get("event_field_length") or 255)
        self._tables = {**TABLES, **_tables_of(settings.get("tables") or {})}
        self._created = _columns(settings, "create_fields")
        self._required = _nested(settings, "required_fields")
        self._priorities = _columns(settings, "priority_fields")
        self._own_states = _own_states(settings)
        self._tags = str(settings.get("tags_field") or "")

    def new(self, ticket: NewTicket) -> tuple[str, dict[str, str]]:
        """The table and the columns of a new record. A change or a problem begins at its first state: each move has its own demands."""
        table = self._tables[ticket.type]
        values = {
            **self._created.get(table, {}),
            "short_description": ticket.subject[:SUBJECT_LENGTH],
            "description": to_plain(from_markdown(ticket.description)),
            EXTERNAL_ID_FIELD: ticket.external_id,
            self.event_field: ticket.event_id,
            **self._priority(table, ticket.priority),
        }
        if ticket.tags and self._tags:
            values[self._tags] = ",".join(ticket.tags)
        if table not in (CHANGE, PROBLEM) and ticket.status is not TicketStatus.UNKNOWN and (states := self.targets(table, ticket.status)):
            values.update({"state": states[0], **self._required_at(table, states[0])})
        return table, values

    def update(self, at: Located, changes: TicketChanges, custom: Mapping[str, str]) -> Writes:
        """The writes that apply the changes, in order: one for each state to go through. The first carries the fields, the last the
        event's id, so that has_update is true only when all are done. Raises ValidationRefused where no way leads."""
        values: dict[str, str] = dict(custom)
        if changes.subject is not None:
            values["short_description"] = changes.subject[:SUBJECT_LENGTH]
        if changes.priority is not None:
            values.update(self._priority(at.table, changes.priority))
        moves = self._moves(at, changes.status)
        writes = [{**({} if n else values), "state": state, **self._required_at(at.table, state)} for n, state in enumerate(moves)]
        writes = writes or [values]
        writes[-1] = {**writes[-1], self.event_field: self._with_event(at.events, changes.event_id)}
        return tuple(writes)

    def targets(self, table: str, status: TicketStatus) -> tuple[str, ...]:
        """The states that stand for a status, a tenant's own first; none where the table has no such state (a problem is never on hold)."""
        own = self._own_states.get((table, status), ())
        return (*own, *TARGETS.get(table, TARGETS["task"]).get(status, ()))

    def _moves(self, at: Located, status: TicketStatus | None) -> tuple[str, ...]:
        if status is None or status is TicketStatus.UNKNOWN or not (wanted := self.targets(at.table, status)):
            return ()
        way = steps(at.table, at.state, wanted, at.kind or "normal")
        if way is None and status is TicketStatus.NEW:  # told late, of a ticket that is worked on by now: open comes nearest
            way = steps(at.table, at.state, self.targets(at.table, TicketStatus.OPEN), at.kind or "normal")
        if way is None:
            raise ValidationRefused(
                f"{at.number} stands at state {at.state}, from where the state model of {at.table} has no way to {status}"
            )
        return way

    def _priority(self, table: str, priority: Priority) -> dict[str, str]:
        if priority is Priority.UNKNOWN:
            return {}
        if own := self._priorities.get(priority.value):
            return dict(own)
        if table in LOOKED_UP:
            impact, urgency = IMPACT_AND_URGENCY[priority]
            return {"impact": impact, "urgency": urgency}
        return {"priority": PRIORITY_CODES[priority]}

    def _required_at(self, table: str, state: str) -> dict[str, str]:
        return {**REQUIRED.get(table, {}).get(state, {}), **self._required.get(table, {}).get(state, {})}

    def _with_event(self, before: str, event_id: str) -> str:
        """The newest event first, then as many of those before it as the column holds."""
        kept = event_id
        for earlier in before.split():
            if earlier != event_id:
                if len(kept) + 1 + len(earlier) > self._event_length:
                    break
                kept = f"{kept} {earlier}"
        return kept


def check_kept(number: str, sent: Mapping[str, str], answered: Mapping[str, Any], event_field: str) -> None:
    """Raises when the instance's answer shows that it did not keep what was sent: FatalApiError for our own ids, without which nothing
    can be found again, ValidationRefused for a state it did not move to and for fields an ACL or a rule dropped."""
    for name in (EXTERNAL_ID_FIELD, event_field):
        if name in sent and text_of(answered.get(name)) != sent[name]:
            raise FatalApiError(f"{number} was written, but our id in {name} was dropped; let our account write {name}")
    if "state" in sent and code(answered.get("state")) != sent["state"]:
        stands = code(answered.get("state"))
        raise ValidationRefused(f"{number} stays at state {stands} and did not move to {sent['state']}: a rule or an approval is before it")
    dropped = [name for name in sent if name not in ("state", event_field) and not _kept(name, sent[name], answered)]
    if dropped:
        raise ValidationRefused(
            f"{number} was written, but not: {', '.join(sorted(dropped))}; our account may not write it, or no such field"
        )


def _kept(name: str, value: str, answered: Mapping[str, Any]) -> bool:
    if name == "description" or value == "":
        return True
    held = text_of(answered.get(name)).strip()
    return held == value.strip() if name in CHECKED else held != ""  # other fields may be written in the instance's own form


def columns_sent(writes: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """What an answer must show to be checked."""
    return tuple(dict.fromkeys(("sys_id", "number", "state", "sys_updated_on", *(name for values in writes for name in values))))


def _own_states(settings: Mapping[str, Any]) -> dict[tuple[str, TicketStatus], tuple[str, ...]]:
    """Codes a tenant named for one table (`words: {status: {"incident:11": pending}}`) are where that status is written to."""
    found: dict[tuple[str, TicketStatus], tuple[str, ...]] = {}
    for word, status in tenant_words(settings, "status", TicketStatus).items():
        table, named, state = word.partition(":")
        if named and state.lstrip("-").isdigit():
            found[table, status] = (*found.get((table, status), ()), state)
    return found


def _tables_of(given: Any) -> dict[TicketType, str]:
    try:
        tables = {TicketType(kind): str(table) for kind, table in given.items()}
    except (ValueError, AttributeError):
        raise PluginConfigError(f"tables must map types ({', '.join(TicketType)}) to ServiceNow tables") from None
    if unknown := sorted(set(tables.values()) - set(TYPES)):
        raise PluginConfigError(f"tables names {unknown[0]}, which is no task table this plugin knows: {', '.join(sorted(TYPES))}")
    return tables


def _columns(settings: Mapping[str, Any], name: str) -> dict[str, dict[str, str]]:
    given = settings.get(name) or {}
    if not isinstance(given, Mapping) or not all(isinstance(columns, Mapping) for columns in given.values()):
        raise PluginConfigError(f"{name} must be a mapping of mappings: column to value, under each name")
    return {str(key): {str(column): str(value) for column, value in columns.items()} for key, columns in given.items()}


def _nested(settings: Mapping[str, Any], name: str) -> dict[str, dict[str, dict[str, str]]]:
    given = settings.get(name) or {}
    if not isinstance(given, Mapping):
        raise PluginConfigError(f"{name} must map a table and a state's code to columns")
    return {str(table): _columns({name: states}, name) for table, states in given.items()}
