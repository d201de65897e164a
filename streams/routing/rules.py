"""A tenant's routes, compiled: the first that matches decides, else the default. Pure, and the same again for a re-read or a replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from schemas.events import Decision
from schemas.ticket import TicketMetadata
from streams.routing.conditions import ENUMS, Condition, ConditionError, compile_match
from streams.routing.decision import Dropped

LATER = ("when", "continue", "window", "percent")
ACTIONS = ("mirror", "note", "enrich", "drop")
MAX_NARROWED = 2000


@runtime_checkable
class RoutingRule(Protocol):
    """A rule in code: a name, and the tenant's tool to send the ticket to, or None where the rule does not apply."""

    name: str

    def should_route_to(self, metadata: TicketMetadata) -> str | None: ...


class RouteLike(Protocol):
    """What a configured route tells; `name` and `match` are absent on a default."""

    @property
    def to(self) -> str | None: ...
    @property
    def failover(self) -> Sequence[str]: ...
    @property
    def do(self) -> Sequence[str]: ...


class RuleError(ValueError):
    """A route that cannot be compiled; `path` leads to what is wrong, as ("routes", 2, "match")."""

    def __init__(self, path: tuple[str | int, ...], name: str, message: str) -> None:
        super().__init__(f"route {name!r}: {message}")
        self.path = path


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One configured route. It is a RoutingRule too, so the two forms can be asked alike.

    `words` is the part of its match about type, priority, status and change; `rest` the other part, None when there is none.
    """

    name: str
    words: Condition
    rest: Condition | None
    answer: Decision | Dropped

    def matches(self, metadata: TicketMetadata) -> bool:
        return self.words(metadata) and (self.rest is None or self.rest(metadata))

    def should_route_to(self, metadata: TicketMetadata) -> str | None:
        return self.answer.target if isinstance(self.answer, Decision) and self.matches(metadata) else None


Step = tuple[Callable[[TicketMetadata], Any], Decision | Dropped | None]
"""A test and its answer; a rule in code has none: what its test finds is the answer."""


class RuleSet:
    """Rules in the tenant's order. `decide` gives the same object again for the same rule, so callers may keep work by identity.

    The decision may name the tool the ticket came from: there `mirror` is a no-op of process, and `note` goes to the ticket itself.
    For tickets of one type, priority, status and change the same rules come into question; they are found once and kept.
    """

    def __init__(self, rules: Sequence[CompiledRule | RoutingRule], default: Decision | Dropped | None, version: int) -> None:
        self.rules = tuple(rules)
        self.default = default
        self.version = version
        self._code = {id(rule): _ask(rule, version) for rule in self.rules if not isinstance(rule, CompiledRule)}
        self._narrowed: dict[tuple[str, str, str, str], tuple[Step, ...]] = {}

    @classmethod
    def compile(cls, routes: Sequence[RouteLike | RoutingRule], default: RouteLike | None, version: int) -> RuleSet:
        """Compiles routes as configured (name, match, to, failover, do) and rules in code. Raises RuleError for the first wrong one."""
        rules: list[CompiledRule | RoutingRule] = []
        for index, route in enumerate(routes):
            path: tuple[str | int, ...] = ("routes", index)
            if isinstance(route, RoutingRule):
                rules.append(route)
                continue
            name = str(getattr(route, "name", "") or "")
            if not name:
                raise RuleError((*path, "name"), f"#{index + 1}", "every route has a name; decisions are shown by it")
            _refuse_later_keys(route, path, name)
            try:
                match: Mapping[str, Any] = getattr(route, "match", {})
                words = compile_match({field: value for field, value in match.items() if field in ENUMS})
                others = {field: value for field, value in match.items() if field not in ENUMS}
                rest = compile_match(others) if others else None
            except ConditionError as exc:
                raise RuleError((*path, "match"), name, str(exc)) from None
            rules.append(CompiledRule(name, words, rest, _answer(route, path, name, version)))
        answer = None
        if default is not None:
            _refuse_later_keys(default, ("default",), "default")
            answer = _answer(default, ("default",), None, version)
        return cls(rules, answer, version)

    def decide(self, metadata: TicketMetadata) -> Decision | Dropped | None:
        """The first matching rule's answer, else the default's; None when there is neither: the ticket is unroutable."""
        words = (metadata.type, metadata.priority, metadata.status, metadata.change)
        steps = self._narrowed.get(words)
        if steps is None:
            if len(self._narrowed) >= MAX_NARROWED:  # a plugin that gives words of its own must not fill the memory
                self._narrowed.clear()
            steps = self._narrowed[words] = self._narrow(metadata)
        for test, answer in steps:
            if found := test(metadata):
                return answer if answer is not None else cast("Decision", found)
        return self.default

    def _narrow(self, metadata: TicketMetadata) -> tuple[Step, ...]:
        """The rules that can match a ticket with these words; nothing after the first that surely does."""
        steps: list[Step] = []
        for rule in self.rules:
            if not isinstance(rule, CompiledRule):
                steps.append((self._code[id(rule)], None))
            elif rule.words(metadata):
                steps.append((rule.rest or _surely, rule.answer))
                if rule.rest is None:
                    break
        return tuple(steps)


def _surely(metadata: TicketMetadata) -> bool:
    return True


def _ask(rule: RoutingRule, version: int) -> Callable[[TicketMetadata], Any]:
    """A rule in code as a step: its Decision, one object for each target. Its ticket is mirrored, unless it has `actions` of its own."""
    known: dict[str, Decision] = {}

    def step(metadata: TicketMetadata) -> Decision | None:
        target = rule.should_route_to(metadata)
        if target is None:
            return None
        if (decision := known.get(target)) is None:
            actions = list(getattr(rule, "actions", ("mirror",)))
            decision = known[target] = Decision(target=target, actions=actions, rule=rule.name, rule_set_version=version)
        return decision

    return step


def _refuse_later_keys(route: Any, path: tuple[str | int, ...], name: str) -> None:
    extra: Mapping[str, Any] = getattr(route, "model_extra", None) or {}
    for key in LATER:
        if extra.get(key) is not None or any(getattr(route, spelling, None) is not None for spelling in (key, f"{key}_")):
            raise RuleError((*path, key), name, f"`{key}` is not taken by this version; use match, or leave it out")


def _answer(route: RouteLike, path: tuple[str | int, ...], name: str | None, version: int) -> Decision | Dropped:
    actions = [str(action) for action in route.do]
    shown = name or "default"
    if not actions:
        raise RuleError((*path, "do"), shown, "says nothing to do; give mirror, note or drop")
    if unknown := [action for action in actions if action not in ACTIONS]:
        raise RuleError((*path, "do"), shown, f"{unknown[0]!r} is no action; use {', '.join(ACTIONS)}")
    if "drop" in actions:
        if len(actions) > 1:
            raise RuleError((*path, "do"), shown, "drop stands alone: a dropped ticket is neither mirrored nor noted")
        return Dropped(name, version)
    if not route.to:
        raise RuleError((*path, "to"), shown, "names no tool to send the ticket to")
    return Decision(target=route.to, failover=list(route.failover), actions=actions, rule=name, rule_set_version=version)
