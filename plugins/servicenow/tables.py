"""ServiceNow's task tables as data: which records are tickets, what their codes mean, and which moves between states are legal.

State `3` is On Hold for an incident and Closed for a change: codes are always read by their table. Base choices of the product; a
tenant's own come from `words`. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from plugins.api import Priority, TicketStatus, TicketType

INCIDENT, CHANGE, PROBLEM = "incident", "change_request", "problem"

TYPES: Mapping[str, TicketType] = MappingProxyType(
    {
        INCIDENT: TicketType.INCIDENT,
        "incident_task": TicketType.INCIDENT,
        "sn_si_incident": TicketType.INCIDENT,
        "task": TicketType.INCIDENT,
        CHANGE: TicketType.CHANGE,
        "change_task": TicketType.CHANGE,
        PROBLEM: TicketType.PROBLEM,
        "problem_task": TicketType.PROBLEM,
        "sc_request": TicketType.REQUEST,
        "sc_req_item": TicketType.REQUEST,
        "sc_task": TicketType.REQUEST,
        "sn_customerservice_case": TicketType.REQUEST,
    }
)
PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "INC": INCIDENT,
        "CHG": CHANGE,
        "PRB": PROBLEM,
        "REQ": "sc_request",
        "RITM": "sc_req_item",
        "SCTASK": "sc_task",
        "CTASK": "change_task",
        "PTASK": "problem_task",
        "SIR": "sn_si_incident",
        "CS": "sn_customerservice_case",
        "TASK": "task",
    }
)
"""By the letters a number begins with."""

LABELS: Mapping[str, str] = MappingProxyType(
    {
        "incident": INCIDENT,
        "change request": CHANGE,
        "change": CHANGE,
        "change task": "change_task",
        "problem": PROBLEM,
        "problem task": "problem_task",
        "request": "sc_request",
        "requested item": "sc_req_item",
        "catalog task": "sc_task",
        "case": "sn_customerservice_case",
        "security incident": "sn_si_incident",
        "task": "task",
    }
)
"""Tables by the label people see."""

_TASK_STATES = {
    "-5": TicketStatus.PENDING,
    "1": TicketStatus.OPEN,
    "2": TicketStatus.OPEN,
    "3": TicketStatus.CLOSED,
    "4": TicketStatus.CLOSED,
    "7": TicketStatus.CLOSED,
}
_CHANGE_STATES = {
    "-5": TicketStatus.NEW,
    "-4": TicketStatus.PENDING,
    "-3": TicketStatus.PENDING,
    "-2": TicketStatus.OPEN,
    "-1": TicketStatus.OPEN,
    "0": TicketStatus.OPEN,
    "3": TicketStatus.CLOSED,
    "4": TicketStatus.CLOSED,
}
STATES: Mapping[str, Mapping[str, TicketStatus]] = MappingProxyType(
    {
        INCIDENT: {
            "1": TicketStatus.NEW,
            "2": TicketStatus.OPEN,
            "3": TicketStatus.PENDING,
            "6": TicketStatus.RESOLVED,
            "7": TicketStatus.CLOSED,
            "8": TicketStatus.CLOSED,
        },
        CHANGE: _CHANGE_STATES,
        PROBLEM: {
            "101": TicketStatus.NEW,
            "102": TicketStatus.OPEN,
            "103": TicketStatus.OPEN,
            "104": TicketStatus.OPEN,
            "106": TicketStatus.RESOLVED,
            "107": TicketStatus.CLOSED,
        },
        **dict.fromkeys(("task", "sc_request", "sc_req_item", "sc_task", "change_task", "problem_task", "incident_task"), _TASK_STATES),
    }
)
STATE_WORDS: Mapping[str, TicketStatus] = MappingProxyType(
    {
        "new": TicketStatus.NEW,
        "in progress": TicketStatus.OPEN,
        "active": TicketStatus.OPEN,
        "on hold": TicketStatus.PENDING,
        "awaiting info": TicketStatus.PENDING,
        "awaiting user info": TicketStatus.PENDING,
        "awaiting problem": TicketStatus.PENDING,
        "awaiting vendor": TicketStatus.PENDING,
        "awaiting evidence": TicketStatus.PENDING,
        "resolved": TicketStatus.RESOLVED,
        "closed": TicketStatus.CLOSED,
        "canceled": TicketStatus.CLOSED,
        "cancelled": TicketStatus.CLOSED,
        "assess": TicketStatus.PENDING,
        "authorize": TicketStatus.PENDING,
        "scheduled": TicketStatus.OPEN,
        "implement": TicketStatus.OPEN,
        "review": TicketStatus.OPEN,
        "root cause analysis": TicketStatus.OPEN,
        "rca": TicketStatus.OPEN,
        "fix in progress": TicketStatus.OPEN,
        "pending": TicketStatus.PENDING,
        "open": TicketStatus.OPEN,
        "work in progress": TicketStatus.OPEN,
        "closed complete": TicketStatus.CLOSED,
        "closed incomplete": TicketStatus.CLOSED,
        "closed skipped": TicketStatus.CLOSED,
    }
)
"""The labels people see. Only `Assess` means two things: of a problem it is work in progress (PROBLEM_WORDS)."""
PROBLEM_WORDS: Mapping[str, TicketStatus] = MappingProxyType({"assess": TicketStatus.OPEN})

PRIORITY_WORDS: Mapping[str, Priority] = MappingProxyType(
    {
        "1": Priority.URGENT,
        "2": Priority.HIGH,
        "3": Priority.MEDIUM,
        "4": Priority.LOW,
        "5": Priority.LOW,
        "critical": Priority.URGENT,
        "urgent": Priority.URGENT,
        "high": Priority.HIGH,
        "moderate": Priority.MEDIUM,
        "medium": Priority.MEDIUM,
        "low": Priority.LOW,
        "planning": Priority.LOW,
        "1 - critical": Priority.URGENT,
        "2 - high": Priority.HIGH,
        "3 - moderate": Priority.MEDIUM,
        "4 - low": Priority.LOW,
        "5 - planning": Priority.LOW,
    }
)
PRIORITY_CODES: Mapping[Priority, str] = MappingProxyType(
    {Priority.URGENT: "1", Priority.HIGH: "2", Priority.MEDIUM: "3", Priority.LOW: "4"}
)
IMPACT_AND_URGENCY: Mapping[Priority, tuple[str, str]] = MappingProxyType(
    {Priority.URGENT: ("1", "1"), Priority.HIGH: ("1", "2"), Priority.MEDIUM: ("2", "2"), Priority.LOW: ("2", "3")}
)
"""An incident's priority is computed from these two and cannot be written: c_TableAPI and the base priority lookup."""
LOOKED_UP = frozenset({INCIDENT, PROBLEM, "sn_si_incident"})
"""Tables whose priority follows from impact and urgency."""

TARGETS: Mapping[str, Mapping[TicketStatus, tuple[str, ...]]] = MappingProxyType(
    {
        INCIDENT: {
            TicketStatus.NEW: ("1",),
            TicketStatus.OPEN: ("2",),
            TicketStatus.PENDING: ("3",),
            TicketStatus.RESOLVED: ("6",),
            TicketStatus.CLOSED: ("7",),
        },
        CHANGE: {
            TicketStatus.NEW: ("-5",),
            TicketStatus.PENDING: ("-4", "-3"),
            TicketStatus.OPEN: ("-2", "-1", "0"),
            TicketStatus.RESOLVED: ("3",),
            TicketStatus.CLOSED: ("3",),
        },
        PROBLEM: {
            TicketStatus.NEW: ("101",),
            TicketStatus.OPEN: ("102", "103", "104"),
            TicketStatus.RESOLVED: ("106",),
            TicketStatus.CLOSED: ("107",),
        },
        "task": {
            TicketStatus.NEW: ("1",),
            TicketStatus.OPEN: ("2", "1"),
            TicketStatus.PENDING: ("-5",),
            TicketStatus.RESOLVED: ("3",),
            TicketStatus.CLOSED: ("3",),
        },
    }
)
"""States that stand for a canonical status, the nearest of which is aimed at; a table without an entry goes by `task`."""

_EMERGENCY = {"-5": ("-3", "4"), "-3": ("-2", "4"), "-2": ("-1", "4"), "-1": ("0", "4"), "0": ("3",)}
MOVES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        INCIDENT: {"1": ("2", "3", "6", "8"), "2": ("3", "6", "8"), "3": ("2", "6", "8"), "6": ("2", "7")},
        "change_request/normal": {**_EMERGENCY, "-5": ("-4", "4"), "-4": ("-3", "4")},
        "change_request/emergency": _EMERGENCY,
        "change_request/standard": {"-5": ("-2", "4"), "-2": ("-1", "4"), "-1": ("0", "4"), "0": ("3",)},
        PROBLEM: {"101": ("102",), "102": ("103",), "103": ("104", "106"), "104": ("103", "106"), "106": ("103", "107")},
    }
)
"""The state models of the base product: from a state, the states one write may lead to. Other tables take any state from any."""

REQUIRED: Mapping[str, Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        INCIDENT: {
            "3": {"hold_reason": "1"},
            "6": {"close_code": "Solution provided", "close_notes": "Resolved in the connected tool."},
        },
        CHANGE: {"3": {"close_code": "successful", "close_notes": "Closed in the connected tool."}},
        PROBLEM: {
            "104": {"cause_notes": "See the connected tool.", "fix_notes": "See the connected tool."},
            "106": {
                "resolution_code": "fix_applied",
                "cause_notes": "See the connected tool.",
                "fix_notes": "Resolved in the connected tool.",
            },
        },
    }
)
"""What the base product's policies want beside a state. Close codes differ by release and by instance: setting `required_fields`."""


def code(value: object) -> str:
    """A choice's value as text: the Change API writes -5.0 where the Table API writes "-5"."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value == value and abs(value) < 1e15 and value == int(value) else str(value)
    if isinstance(value, (str, int)):
        text = str(value).strip()
        return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text
    return ""


def table_of_number(number: str) -> str | None:
    """The table a record's number belongs to, by its prefix: INC0010043 is an incident."""
    letters = number.rstrip("0123456789")
    return PREFIXES.get(letters.upper()) if letters != number else None


def moves_of(table: str, kind: str = "normal") -> Mapping[str, tuple[str, ...]] | None:
    """The state model of a table, for a change by its type; None where any state may follow any."""
    if table == CHANGE:
        return MOVES.get(f"{CHANGE}/{kind}", MOVES["change_request/normal"])
    return MOVES.get(table)


def steps(table: str, current: str, targets: Iterable[str], kind: str = "normal") -> tuple[str, ...] | None:
    """The states to go through from `current`, one write each, to the nearest of `targets`.

    Empty when already there, or when records of this kind have none of these states (a standard change is never assessed); None when
    the state model has no way, as from Closed to New. A state of the instance's own is gone to, and left, in one step.
    """
    wanted = tuple(targets)
    if current in wanted or not wanted:
        return ()
    model, base = moves_of(table, kind), STATES.get(table, {})
    if model is None or current not in base or wanted[0] not in base:
        return wanted[:1]
    if not {state for following in (model, *model.values()) for state in following}.intersection(wanted):
        return ()
    ways: deque[tuple[str, ...]] = deque([(current,)])
    seen = {current}
    while ways:
        way = ways.popleft()
        for state in model.get(way[-1], ()):
            if state in wanted:
                return (*way[1:], state)
            if state not in seen:
                seen.add(state)
                ways.append((*way, state))
    return None
