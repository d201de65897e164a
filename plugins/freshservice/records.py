"""The four kinds of records in Freshservice, and their words and codes: tickets, problems, changes, releases. Pure.

The API speaks in codes, webhooks in names (in the account's language), both are read alike. Every kind counts its own ids, so a
problem is named PRB-5, a change CHN-5, a release REL-5; a ticket is a bare number, whether the tool shows it as INC-5 or SR-5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from plugins.api import Priority, TicketStatus, TicketType
from plugins.mapping import WordMap

PRIORITY_CODES: Final[Mapping[Priority, int]] = {Priority.LOW: 1, Priority.MEDIUM: 2, Priority.HIGH: 3, Priority.URGENT: 4}
PRIORITIES: Final = WordMap(
    {
        **{str(code): priority for priority, code in PRIORITY_CODES.items()},
        **{priority.value: priority for priority in PRIORITY_CODES},
        "critical": Priority.URGENT,
    },
    Priority.UNKNOWN,
)
TYPES: Final = WordMap(
    {
        **dict.fromkeys(("incident", "inc", "task"), TicketType.INCIDENT),
        **dict.fromkeys(("service request", "request", "sr", "question"), TicketType.REQUEST),
        **dict.fromkeys(("problem", "prb"), TicketType.PROBLEM),
        **dict.fromkeys(("change", "chn", "release", "rel"), TicketType.CHANGE),
    },
    TicketType.UNKNOWN,
)
TYPE_NAMES: Final[Mapping[TicketType, str]] = {TicketType.INCIDENT: "Incident", TicketType.REQUEST: "Service Request"}

_NEW, _OPEN, _PENDING, _RESOLVED, _CLOSED = (
    TicketStatus.NEW, TicketStatus.OPEN, TicketStatus.PENDING, TicketStatus.RESOLVED, TicketStatus.CLOSED,
)  # fmt: skip
_STATUS_NAMES: Final[Mapping[str, TicketStatus]] = {
    "new": _NEW,
    **dict.fromkeys(("open", "in progress", "planning", "being processed", "assigned", "reopened"), _OPEN),
    **dict.fromkeys(
        ("pending", "on hold", "waiting on customer", "waiting on third party", "change requested", "awaiting approval", "approval"),
        _PENDING,
    ),
    **dict.fromkeys(("pending approval", "pending release", "incomplete"), _PENDING),
    **dict.fromkeys(("resolved", "pending review"), _RESOLVED),
    **dict.fromkeys(("closed", "completed", "cancelled", "spam", "deleted"), _CLOSED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One kind of record: `name` wraps it in answers, `plural` is its path, `codes` its statuses as they are written."""

    name: str
    plural: str
    prefix: str
    type: TicketType
    statuses: WordMap[TicketStatus]
    codes: Mapping[TicketStatus, int]

    def id_of(self, number: str) -> str:
        """The id this project uses for the record with this number."""
        return f"{self.prefix}-{number}" if self.prefix else number


def _record(
    name: str, plural: str, prefix: str, type_: TicketType, codes: Mapping[int, TicketStatus], writes: Mapping[TicketStatus, int]
) -> Record:
    words = {**_STATUS_NAMES, **{str(code): status for code, status in codes.items()}}
    return Record(name=name, plural=plural, prefix=prefix, type=type_, statuses=WordMap(words, TicketStatus.UNKNOWN), codes=writes)


TICKET: Final = _record(
    "ticket", "tickets", "", TicketType.UNKNOWN,
    {2: _OPEN, 3: _PENDING, 4: _RESOLVED, 5: _CLOSED},
    {_NEW: 2, _OPEN: 2, _PENDING: 3, _RESOLVED: 4, _CLOSED: 5},
)  # fmt: skip
PROBLEM: Final = _record(
    "problem", "problems", "PRB", TicketType.PROBLEM,
    {1: _OPEN, 2: _PENDING, 3: _CLOSED},
    {_NEW: 1, _OPEN: 1, _PENDING: 2, _RESOLVED: 3, _CLOSED: 3},
)  # fmt: skip
CHANGE: Final = _record(
    "change", "changes", "CHN", TicketType.CHANGE,
    {1: _OPEN, 2: _OPEN, 3: _PENDING, 4: _PENDING, 5: _RESOLVED, 6: _CLOSED},
    {_NEW: 1, _OPEN: 1, _PENDING: 3, _RESOLVED: 5, _CLOSED: 6},
)  # fmt: skip
RELEASE: Final = _record(
    "release", "releases", "REL", TicketType.CHANGE,
    {1: _OPEN, 2: _PENDING, 3: _OPEN, 4: _PENDING, 5: _CLOSED},
    {_NEW: 1, _OPEN: 1, _PENDING: 2, _RESOLVED: 5, _CLOSED: 5},
)  # fmt: skip
RECORDS: Final[Mapping[str, Record]] = {record.name: record for record in (TICKET, PROBLEM, CHANGE, RELEASE)}

BY_PREFIX: Final[Mapping[str, Record]] = {"INC": TICKET, "SR": TICKET, "PRB": PROBLEM, "CHN": CHANGE, "REL": RELEASE}
TYPE_BY_PREFIX: Final[Mapping[str, TicketType]] = {
    "INC": TicketType.INCIDENT,
    "SR": TicketType.REQUEST,
    "PRB": TicketType.PROBLEM,
    "CHN": TicketType.CHANGE,
    "REL": TicketType.CHANGE,
}
APPROVALS: Final[Mapping[str, str]] = {"0": "requested", "1": "approved", "4": "not requested"}
"""`approval_status` in words, as far as it is known; any other code stays a code."""

_DISPLAY_ID = re.compile(r"#?\s*(INC|SR|PRB|CHN|REL)\s*[-#]?\s*([0-9]{1,18})", re.IGNORECASE)
_NUMBER = re.compile(r"#?\s*([0-9]{1,18})")


def parse_id(value: Any) -> tuple[str, str] | None:
    """(prefix in capitals or "", number) of an id in any of the forms the tool shows: 372, "372", "#INC-372", "chn-3"."""
    if type(value) is int:
        return ("", str(value)) if value > 0 else None
    if type(value) is not str:
        return None
    text = value.strip()
    if found := _DISPLAY_ID.fullmatch(text):
        return found[1].upper(), str(int(found[2]))
    if (found := _NUMBER.fullmatch(text)) and int(found[1]):
        return "", str(int(found[1]))
    return None


def located(ticket_id: str) -> tuple[Record, str]:
    """The kind of record a ticket_id names, and its number for the path; what has no known form is left to the tool to refuse."""
    parsed = parse_id(ticket_id)
    return (TICKET, ticket_id) if parsed is None else (BY_PREFIX.get(parsed[0], TICKET), parsed[1])
