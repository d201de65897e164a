"""A tenant's routes, compiled. Pure, and the same again for a re-read or a replay.

The first route that matches decides. A matching route with `continue: true` adds its decision, and the rules after it are asked too,
up to the first that ends the search; so one event can go to several targets. Where no route matches, the default of the tool the
event came from decides, else the tenant's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from schemas.events import Decision
from schemas.ticket import TicketMetadata
from streams.routing.conditions import ENUMS, Condition, ConditionError, compile_condition, compile_match, compile_tool, shown
from streams.routing.decision import Decisions, Dropped
from streams.routing.expressions import When
from streams.routing.gates import Gate, compile_percent, compile_window

ACTIONS = ("mirror", "note", "enrich", "drop")
MAX_KEPT = 2000
"""How many kinds of tickets, and how many combinations of `continue` routes, are remembered."""


@runtime_checkable
class RoutingRule(Protocol):
    """A rule in code: a name, and the tenant's tool to send the ticket to, or None where the rule does not apply."""

    name: str

    def should_route_to(self, metadata: TicketMetadata) -> str | None: ...


class RouteLike(Protocol):
    """What a configured route tells; `name`, `match` and what else says when it applies are absent on a default."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRule:
    """One configured route. It is a RoutingRule too, so the two forms can be asked alike.

    `words` is the part of its match about type, priority, status and change, `of_tool` that about the tool: the same for many
    tickets. `rest` is the other part with `when`, None when there is none; `gates` are its window and percentage.
    """

    name: str
    words: Condition
    of_tool: Callable[[str], bool] | None = None
    rest: Condition | None = None
    gates: tuple[Gate, ...] = ()
    goes_on: bool = False
    answer: Decision | Dropped
    when: When | None = None
    asked: tuple[tuple[str, Any, Condition], ...] = ()
    """Each condition of `match` by itself, as (field, what was asked for, condition): for explanations."""

    def matches(self, metadata: TicketMetadata) -> bool:
        return self.words(metadata) and (self.rest is None or self.rest(metadata))

    def should_route_to(self, metadata: TicketMetadata) -> str | None:
        return self.answer.target if isinstance(self.answer, Decision) and self.matches(metadata) else None

    def why_not(self, metadata: TicketMetadata, tool: str, key: bytes, received_at: int) -> list[str]:
        """Every reason this rule does not match, in words; empty where it does."""
        reasons = []
        if self.of_tool is not None and not self.of_tool(tool):
            reasons.append(f"came from {tool}")
        reasons += [f"{name} is {shown(name, metadata)}" for name, _, condition in self.asked if not condition(metadata)]
        if self.when is not None and (fault := self.when.ask(metadata)) is not None:
            reasons.append(f"when {fault}")
        return reasons + [why for gate in self.gates if (why := gate(key, received_at)) is not None]


class _CodeRule:
    """A rule in code as a step: its Decision, one object for each target. Its ticket is mirrored, unless it has `actions` of its own."""

    goes_on = False

    def __init__(self, rule: RoutingRule, version: int) -> None:
        self.rule, self.name, self._version = rule, rule.name, version
        self._known: dict[str, Decision] = {}

    def ask(self, metadata: TicketMetadata) -> Decision | None:
        target = self.rule.should_route_to(metadata)
        if target is None:
            return None
        if (decision := self._known.get(target)) is None:
            actions = list(getattr(self.rule, "actions", ("mirror",)))
            decision = Decision(target=target, actions=actions, rule=self.name, rule_set_version=self._version)
            self._known[target] = decision
        return decision


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """What one rule said of one event. `outcome`: matched, not matched, or not asked because an earlier rule had decided."""

    rule: str
    outcome: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """How the rules came to their answer, rule by rule in their order; the default comes last, by the name `default`."""

    answer: Decisions | Dropped | None
    rules: tuple[RuleTrace, ...]


class RuleSet:
    """Rules in the tenant's order. `decide` gives the same object again for the same rule, so callers may keep work by identity.

    The decision may name the tool the ticket came from: there `mirror` is a no-op of process, and `note` goes to the ticket itself.
    For tickets of one tool, type, priority, status and change the same rules come into question; they are found once and kept.
    """

    def __init__(
        self,
        rules: Sequence[CompiledRule | RoutingRule],
        default: Decision | Dropped | None,
        version: int,
        defaults: Mapping[str, Decision | Dropped] | None = None,
    ) -> None:
        self.version = version
        self.rules = tuple(rule if isinstance(rule, CompiledRule) else _CodeRule(rule, version) for rule in rules)
        self._default = _alone(default)
        self._defaults = {tool: _alone(answer) for tool, answer in (defaults or {}).items()}
        self._narrowed: dict[tuple[str, str, str, str, str], tuple[_Step, ...]] = {}
        self._together: dict[tuple[int, ...], Decisions] = {}

    @classmethod
    def compile(
        cls,
        routes: Sequence[RouteLike | RoutingRule],
        default: RouteLike | None,
        version: int,
        defaults: Mapping[str, RouteLike] | None = None,
    ) -> RuleSet:
        """Compiles routes as configured and rules in code. `defaults` go by the name of the tool an event came from.

        Raises RuleError for the first wrong one.
        """
        rules: list[CompiledRule | RoutingRule] = []
        for index, route in enumerate(routes):
            rules.append(route if isinstance(route, RoutingRule) else _compile(route, ("routes", index), f"#{index + 1}", version))
        answer = _answer(default, ("default",), None, version) if default is not None else None
        by_tool = {tool: _answer(route, ("defaults", tool), None, version) for tool, route in (defaults or {}).items()}
        return cls(rules, answer, version, by_tool)

    def default_for(self, tool: str) -> Decisions | Dropped | None:
        """What becomes of an event of this tool that no route matches."""
        return self._defaults.get(tool, self._default)

    def decide(self, metadata: TicketMetadata, tool: str = "", key: bytes = b"", received_at: int = 0) -> Decisions | Dropped | None:
        """Where an event goes; None when neither a route nor a default says: it is unroutable.

        `tool` is the tenant's tool the delivery came from, `key` the event's key, `received_at` in epoch microseconds.
        """
        words = (tool, metadata.type, metadata.priority, metadata.status, metadata.change)
        steps = self._narrowed.get(words)
        if steps is None:
            if len(self._narrowed) >= MAX_KEPT:  # a plugin that gives words of its own must not fill the memory
                self._narrowed.clear()
            steps = self._narrowed[words] = self._narrow(metadata, tool)
        found: list[Decision] | None = None
        for step in steps:
            answer = step.alone
            if step.code is not None:
                decision = step.code.ask(metadata)
                if decision is None:
                    continue
                answer = self._joined([decision])
            elif (step.rest is not None and not step.rest(metadata)) or (
                step.gates and any(gate(key, received_at) is not None for gate in step.gates)
            ):
                continue
            if found is None:
                if not step.goes_on:
                    return answer
                found = []
            if isinstance(answer, Dropped):
                break
            found += answer or ()
            if not step.goes_on:
                break
        return self.default_for(tool) if found is None else self._joined(found)

    def explain(self, metadata: TicketMetadata, tool: str = "", key: bytes = b"", received_at: int = 0) -> Explanation:
        """`decide`, and what each rule said on the way."""
        traces: list[RuleTrace] = []
        decided = matched = False
        for rule in self.rules:
            if decided:
                traces.append(RuleTrace(rule.name, "not asked", ("an earlier rule had decided",)))
                continue
            if isinstance(rule, _CodeRule):
                reasons = [] if rule.ask(metadata) is not None else ["the rule in code does not apply"]
            else:
                reasons = rule.why_not(metadata, tool, key, received_at)
            matched = matched or not reasons
            decided = not reasons and not rule.goes_on
            traces.append(RuleTrace(rule.name, "not matched" if reasons else "matched", tuple(reasons)))
        if self.default_for(tool) is not None:
            why = ("a route matched",) if matched else ()
            traces.append(RuleTrace("default", "not asked" if matched else "matched", why))
        return Explanation(self.decide(metadata, tool, key, received_at), tuple(traces))

    def faults(self) -> dict[str, tuple[int, str]]:
        """By rule: how many tickets its `when` failed on, and why the last time. Such a rule did not match."""
        compiled = (rule for rule in self.rules if isinstance(rule, CompiledRule))
        return {rule.name: (rule.when.faults, rule.when.last_fault) for rule in compiled if rule.when is not None and rule.when.faults}

    def _narrow(self, metadata: TicketMetadata, tool: str) -> tuple[_Step, ...]:
        """The rules that can match a ticket with these words; nothing after the first that surely decides."""
        steps: list[_Step] = []
        for rule in self.rules:
            if isinstance(rule, _CodeRule):
                steps.append(_Step(code=rule))
            elif rule.words(metadata) and (rule.of_tool is None or rule.of_tool(tool)):
                steps.append(_Step(alone=_alone(rule.answer), rest=rule.rest, gates=rule.gates, goes_on=rule.goes_on))
                if rule.rest is None and not rule.gates and not rule.goes_on:
                    break
        return tuple(steps)

    def _joined(self, decisions: list[Decision]) -> Decisions:
        """Several rules' decisions as one, the same object again; two for one target become one, its actions in the order asked."""
        identity = tuple(map(id, decisions))
        known = self._together.get(identity)
        if known is not None:
            return known
        by_target: dict[str, Decision] = {}
        for decision in decisions:
            before = by_target.get(decision.target)
            if before is not None:
                more = [action for action in decision.actions if action not in before.actions]
                decision = _with_actions(before, [*before.actions, *more]) if more else before
            by_target[decision.target] = decision
        if len(self._together) >= MAX_KEPT:
            self._together.clear()
        joined = self._together[identity] = tuple(by_target.values())
        return joined


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A rule as `decide` asks it."""

    alone: Decisions | Dropped | None = None
    rest: Condition | None = None
    gates: tuple[Gate, ...] = ()
    goes_on: bool = False
    code: _CodeRule | None = field(default=None)


def _alone(answer: Decision | Dropped | None) -> Decisions | Dropped | None:
    return (answer,) if isinstance(answer, Decision) else answer


def _with_actions(decision: Decision, actions: list[str]) -> Decision:
    return Decision(
        target=decision.target,
        failover=decision.failover,
        actions=actions,
        rule=decision.rule,
        rule_set_version=decision.rule_set_version,
    )


def _compile(route: RouteLike, path: tuple[str | int, ...], shown_as: str, version: int) -> CompiledRule:
    name = str(getattr(route, "name", "") or "")
    if not name:
        raise RuleError((*path, "name"), shown_as, "every route has a name; decisions are shown by it")
    match: Mapping[str, Any] = getattr(route, "match", None) or {}
    part = "match"
    try:
        words = compile_match({asked: value for asked, value in match.items() if asked in ENUMS})
        others = {asked: value for asked, value in match.items() if asked not in ENUMS and asked != "tool"}
        rest = compile_match(others) if others else None
        of_tool = compile_tool(match["tool"]) if "tool" in match else None
        asked = tuple((asked, value, compile_condition(asked, value)) for asked, value in match.items() if asked != "tool")
        part, source = "when", getattr(route, "when", None)
        when = When(source) if source is not None else None
        gates: list[Gate] = []
        part, percent = "percent", getattr(route, "percent", None)
        if percent is not None:
            gates.append(compile_percent(percent, name))
        part, window = "window", getattr(route, "window", None)
        if window is not None:
            gates.append(compile_window(window))
    except ConditionError as exc:
        raise RuleError((*path, part), name, str(exc)) from None
    answer = _answer(route, path, name, version)
    goes_on = bool(getattr(route, "continue_", False))
    if goes_on and isinstance(answer, Dropped):
        raise RuleError((*path, "continue"), name, "a dropped ticket goes nowhere else; take `continue` out")
    return CompiledRule(
        name=name,
        words=words,
        of_tool=of_tool,
        rest=_both(rest, when),
        gates=tuple(gates),
        goes_on=goes_on,
        answer=answer,
        when=when,
        asked=asked,
    )


def _both(rest: Condition | None, when: When | None) -> Condition | None:
    """An expression is asked last: it costs some five microseconds where a condition costs a tenth of one."""
    if rest is None or when is None:
        return rest or when
    return lambda ticket: rest(ticket) and when(ticket)


def _answer(route: RouteLike, path: tuple[str | int, ...], name: str | None, version: int) -> Decision | Dropped:
    actions = [str(action) for action in route.do]
    shown_as = name or "default"
    if not actions:
        raise RuleError((*path, "do"), shown_as, "says nothing to do; give mirror, note, enrich or drop")
    if unknown := [action for action in actions if action not in ACTIONS]:
        raise RuleError((*path, "do"), shown_as, f"{unknown[0]!r} is no action; use {', '.join(ACTIONS)}")
    if "drop" in actions:
        if len(actions) > 1:
            raise RuleError((*path, "do"), shown_as, "drop stands alone: a dropped ticket is neither mirrored nor noted")
        return Dropped(name, version)
    if not route.to:
        raise RuleError((*path, "to"), shown_as, "names no tool to send the ticket to")
    return Decision(target=route.to, failover=list(route.failover), actions=actions, rule=name, rule_set_version=version)
