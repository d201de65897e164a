"""A tenant's own table of examples: of a ticket like this, by which route it goes, or where. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from schemas.ticket import TicketMetadata
from streams.routing.conditions import ENUMS, TIMES
from streams.routing.decision import Dropped
from streams.routing.rules import RuleSet


class ExampleLike(Protocol):
    """One line of the table; what is None is not expected."""

    @property
    def name(self) -> str: ...
    @property
    def ticket(self) -> Mapping[str, Any]: ...
    @property
    def tool(self) -> str | None: ...
    @property
    def at(self) -> str | None: ...
    @property
    def route(self) -> str | None: ...
    @property
    def to(self) -> str | Sequence[str] | None: ...
    @property
    def dropped(self) -> bool | None: ...


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """What came of an example; `wrong` says what differs, empty where all is as expected."""

    name: str
    routes: tuple[str, ...]
    targets: tuple[str, ...]
    dropped: bool
    wrong: str


class ExampleError(ValueError):
    """An example that describes no ticket or no time."""


def ticket_of(example: ExampleLike, tenant: str) -> TicketMetadata:
    """The ticket an example describes. Raises ExampleError."""
    given: dict[str, Any] = {}
    for field, value in example.ticket.items():
        if field in ENUMS:
            word = ENUMS[field].get(str(value).casefold())
            if word is None:
                raise ExampleError(f"{value!r} is not a {field}; use {', '.join(ENUMS[field])}")
            given[field] = word
        elif field in TIMES:
            given[field] = _micros(str(value))
        elif field == "tags":
            given[field] = tuple(map(str, value)) if isinstance(value, (list, tuple)) else (str(value),)
        else:
            given[field] = value
    return TicketMetadata(tenant_id=tenant, **{"ticket_id": "1", **given})


def run_example(example: ExampleLike, rules: RuleSet, tenant: str, now: int) -> ExampleResult:
    """Asks the rules about one example. `now` is when it is received where it does not say. Raises ExampleError."""
    ticket = ticket_of(example, tenant)
    tool = example.tool or ""
    answer = rules.decide(ticket, tool, f"{tenant}/{tool}/{ticket.ticket_id}".encode(), _micros(example.at) if example.at else now)
    dropped = isinstance(answer, Dropped)
    decisions = answer if isinstance(answer, tuple) else ()
    routes = (answer.rule or "default",) if isinstance(answer, Dropped) else tuple(d.rule or "default" for d in decisions)
    targets = tuple(d.target for d in decisions)
    wrong = []
    if example.route is not None and example.route not in routes:
        wrong.append(f"went by {', '.join(routes) or 'no route'}, not by {example.route}")
    if example.to is not None:
        wanted = (example.to,) if isinstance(example.to, str) else tuple(example.to)
        if wanted != targets:
            wrong.append(f"went to {', '.join(targets) or 'no tool'}, not to {', '.join(wanted)}")
    if example.dropped is not None and example.dropped != dropped:
        wrong.append("was dropped" if dropped else "was not dropped")
    return ExampleResult(example.name, routes, targets, dropped, "; ".join(wrong))


def _micros(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ExampleError(f"{text!r} is not an ISO 8601 time") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)
