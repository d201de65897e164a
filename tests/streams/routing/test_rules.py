"""First match wins, `continue` adds, the default takes the rest; and an explanation says what was decided."""

from __future__ import annotations

import timeit
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Decision
from schemas.ticket import Priority, TicketMetadata, TicketType
from streams.routing.decision import Dropped
from streams.routing.rules import CompiledRule, RoutingRule, RuleError, RuleSet
from tests.streams.route_building import a_route


def a_ticket(**fields: Any) -> TicketMetadata:
    return TicketMetadata(**{"tenant_id": "acme", "ticket_id": "1", **fields})


ROUTES = [
    a_route("changes go to ServiceNow", {"type": "change"}, to="snow", failover=["desk"]),
    a_route("P1 incidents go to Jira", {"type": "incident", "priority": "P1"}, to="jira", do=["mirror", "note"]),
    a_route("tests are dropped", {"tags": "test"}, do=["drop"]),
    a_route("incidents", {"type": "incident"}, to="desk", do=["note"]),
]


def decided(rules: RuleSet, ticket: TicketMetadata, tool: str = "desk", key: bytes = b"acme/desk/1", at: int = 0) -> tuple[Decision, ...]:
    """The decisions where the answer is such."""
    answer = rules.decide(ticket, tool, key, at)
    assert isinstance(answer, tuple)
    return answer


RULES = RuleSet.compile(ROUTES, a_route(to="desk", do=["note"]), 7)


@pytest.mark.parametrize(
    ("ticket", "rule", "target"),
    [
        (a_ticket(type=TicketType.CHANGE, priority=Priority.URGENT), "changes go to ServiceNow", "snow"),
        (a_ticket(type=TicketType.INCIDENT, priority=Priority.URGENT), "P1 incidents go to Jira", "jira"),
        (a_ticket(type=TicketType.INCIDENT, priority=Priority.URGENT, tags=("test",)), "P1 incidents go to Jira", "jira"),
        (a_ticket(type=TicketType.INCIDENT), "incidents", "desk"),
        (a_ticket(type=TicketType.PROBLEM), None, "desk"),
    ],
)
def test_the_first_rule_that_matches_decides(ticket: TicketMetadata, rule: str | None, target: str) -> None:
    """In the tenant's own order; None where the default applied."""
    (decision,) = decided(RULES, ticket)
    assert (decision.rule, decision.target, decision.rule_set_version) == (rule, target, 7)


def test_a_decision_carries_what_the_route_says() -> None:
    """Process acts on it without the configuration."""
    (decision,) = decided(RULES, a_ticket(type=TicketType.CHANGE))
    assert decision == Decision(target="snow", failover=["desk"], actions=["mirror"], rule="changes go to ServiceNow", rule_set_version=7)


def test_drop_names_its_rule() -> None:
    """Dropped is an answer that is counted, not an absence."""
    assert RULES.decide(a_ticket(tags=("Test",))) == Dropped("tests are dropped", 7)


def test_without_a_match_and_without_a_default_a_ticket_is_unroutable() -> None:
    """None: the step makes it a dead letter with that reason."""
    assert RuleSet.compile(ROUTES[:1], None, 1).decide(a_ticket()) is None


def test_the_same_rule_gives_the_same_object() -> None:
    """The step keeps encoded decisions by identity."""
    assert RULES.decide(a_ticket()) is RULES.decide(a_ticket(ticket_id="2"))


class VipsToJira:
    """A rule in code."""

    name = "vips"

    def should_route_to(self, metadata: TicketMetadata) -> str | None:
        return "jira" if (metadata.requester or "").endswith("@board.example") else None


def test_a_rule_in_code_takes_its_turn_among_the_others() -> None:
    """The protocol with should_route_to stays usable, beside configured routes and in their order."""
    assert isinstance(VipsToJira(), RoutingRule)
    rules = RuleSet.compile([ROUTES[0], VipsToJira()], a_route(to="desk"), 2)

    assert decided(rules, a_ticket(requester="x@board.example", type=TicketType.CHANGE))[0].target == "snow"
    (decision,) = decided(rules, a_ticket(requester="x@board.example"))
    assert decision == Decision(target="jira", actions=["mirror"], rule="vips", rule_set_version=2)
    assert decided(rules, a_ticket())[0].target == "desk"


def test_a_configured_route_can_be_asked_like_a_rule_in_code() -> None:
    """An operator's tool asks each rule alike why it did not match."""
    assert [r.should_route_to(a_ticket(type=TicketType.INCIDENT)) for r in RULES.rules if isinstance(r, CompiledRule)] == [
        None,
        None,
        None,
        "desk",
    ]


@pytest.mark.parametrize(
    ("route", "path", "says"),
    [
        (a_route("r", {"colour": "red"}, to="jira"), ("routes", 0, "match"), "no such field"),
        (a_route("r", {}, to="jira", do=[]), ("routes", 0, "do"), "nothing to do"),
        (a_route("r", {}, to="jira", do=["mirror", "shout"]), ("routes", 0, "do"), "'shout' is no action"),
        (a_route("r", {}, to="jira", do=["drop", "note"]), ("routes", 0, "do"), "drop stands alone"),
        (a_route("r", {}, to=None), ("routes", 0, "to"), "names no tool"),
        (a_route("", {}, to="jira"), ("routes", 0, "name"), "has a name"),
        (a_route("r", {}, to="jira", when="ticket.colour == 1"), ("routes", 0, "when"), "no field 'colour'"),
        (a_route("r", {}, to="jira", window={"days": ["someday"]}), ("routes", 0, "window"), "'someday' is not a day"),
        (a_route("r", {}, to="jira", percent=0), ("routes", 0, "percent"), "above 0"),
        (a_route("r", {}, do=["drop"], continue_=True), ("routes", 0, "continue"), "goes nowhere else"),
    ],
)
def test_a_route_that_cannot_work_is_refused_with_its_place(route: SimpleNamespace, path: tuple[Any, ...], says: str) -> None:
    with pytest.raises(RuleError, match=says) as caught:
        RuleSet.compile([route], None, 1)
    assert caught.value.path == path


conditions = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["incident", "change", ["incident", "request"]]),
        "priority": st.sampled_from(["P1", {"gte": "P2"}]),
        "subject": st.sampled_from(["*a*", "b"]),
    },
)
tickets = st.builds(
    a_ticket, type=st.sampled_from(list(TicketType)), priority=st.sampled_from(list(Priority)), subject=st.sampled_from(["a", "b", "ab"])
)


@given(st.lists(conditions, max_size=6), st.lists(tickets, max_size=12))
def test_what_is_kept_between_tickets_changes_no_answer(matches: list[dict[str, Any]], asked: list[TicketMetadata]) -> None:
    """Rules are narrowed once for tickets with the same words; each answer must be that of asking every rule in turn."""
    rules = RuleSet.compile([a_route(f"r{i}", m, to=f"t{i}") for i, m in enumerate(matches)], a_route(to="rest"), 1)
    for ticket in asked:
        targets = [rule.should_route_to(ticket) for rule in rules.rules if isinstance(rule, CompiledRule)]
        assert decided(rules, ticket)[0].target == next(filter(None, targets), "rest")


@given(st.lists(st.sampled_from(["incident", "request", "problem", "change"]), max_size=6), st.sampled_from(list(TicketType)))
def test_the_answer_is_that_of_the_first_equal_type(types: list[str], kind: TicketType) -> None:
    """Against the plainest model of "first match wins"."""
    rules = RuleSet.compile([a_route(f"r{i}", {"type": t}, to=f"t{i}") for i, t in enumerate(types)], a_route(to="rest"), 1)
    expected = f"t{types.index(kind.value)}" if kind.value in types else "rest"
    assert decided(rules, a_ticket(type=kind))[0].target == expected


# --- fan-out, defaults by tool, and what is asked of the delivery ---------------------------------------------------------

FAN = RuleSet.compile(
    [
        a_route("tell the war room", {"priority": "P1"}, to="jira", do=["note"], continue_=True),
        a_route("from Freshdesk", {"tool": "fresh*"}, to="snow", do=["mirror"], continue_=True),
        a_route("spam", {"subject": "*free*"}, do=["drop"]),
        a_route("incidents", {"type": "incident"}, to="jira", do=["mirror", "note"], failover=["desk"]),
    ],
    a_route(to="desk", do=["note"]),
    3,
    {"fresh": a_route(do=["drop"])},
)


@pytest.mark.parametrize(
    ("ticket", "tool", "expected"),
    [
        (a_ticket(), "desk", [("desk", ["note"])]),
        (a_ticket(), "fresh", [("snow", ["mirror"])]),
        (a_ticket(priority=Priority.URGENT), "desk", [("jira", ["note"])]),
        (a_ticket(priority=Priority.URGENT), "freshdesk", [("jira", ["note"]), ("snow", ["mirror"])]),
        (a_ticket(priority=Priority.URGENT, type=TicketType.INCIDENT), "freshdesk", [("jira", ["note", "mirror"]), ("snow", ["mirror"])]),
        (a_ticket(priority=Priority.URGENT, subject="free pizza"), "desk", [("jira", ["note"])]),
    ],
)
def test_a_route_that_continues_adds_a_target(ticket: TicketMetadata, tool: str, expected: list[Any]) -> None:
    """Fan-out: each target once, in the order of the rules; the default only where no route matched at all."""
    answer = decided(FAN, ticket, tool)
    assert [(decision.target, decision.actions) for decision in answer] == expected
    assert answer is FAN.decide(ticket, tool)


def test_a_tool_can_have_a_default_of_its_own() -> None:
    """What comes from a noisy tool need not go where the rest goes."""
    quiet = RuleSet.compile([], a_route(to="desk"), 1, {"fresh": a_route(do=["drop"])})
    assert quiet.decide(a_ticket(), "fresh") == Dropped(None, 1)
    assert decided(quiet, a_ticket(), "jira")[0].target == "desk"


def test_an_expression_that_fails_does_not_match_and_is_counted() -> None:
    """A rule that asks for a field this ticket lacks must stop neither the ticket nor the rules after it."""
    rules = RuleSet.compile([a_route("emea", when='ticket.custom_fields.region == "EMEA"', to="jira")], a_route(to="desk"), 1)
    assert decided(rules, a_ticket(custom_fields={"region": "EMEA"}))[0].target == "jira"
    assert decided(rules, a_ticket())[0].target == "desk"
    assert rules.faults() == {"emea": (1, "there is no region; ask has(…) first")}


some_routes = st.lists(
    st.builds(
        lambda match, goes_on, target, percent: (match, goes_on, target, percent),
        conditions,
        st.booleans(),
        st.sampled_from(["jira", "snow", None]),
        st.sampled_from([None, 50]),
    ),
    max_size=6,
)


@given(some_routes, tickets, st.binary(max_size=6))
def test_an_explanation_names_the_rules_that_decided(routes: list[Any], ticket: TicketMetadata, key: bytes) -> None:
    """`route explain` shows operators what the stream does; were they two implementations, it would lie one day."""
    compiled = [
        a_route(f"r{i}", match, to=target, do=["mirror"] if target else ["drop"], continue_=goes_on and target is not None, percent=percent)
        for i, (match, goes_on, target, percent) in enumerate(routes)
    ]
    rules = RuleSet.compile(compiled, a_route(to="rest"), 1)
    told = rules.explain(ticket, "desk", key, 0)
    assert told.answer is rules.decide(ticket, "desk", key, 0)
    matched = [trace.rule for trace in told.rules if trace.outcome == "matched"]
    by_name = {route.name: route for route in compiled}
    if matched == ["default"]:
        assert told.answer == rules.default_for("desk")
    elif by_name[matched[-1]].to is None and len(matched) == 1:
        assert told.answer == Dropped(matched[0], 1)
    else:
        assert isinstance(told.answer, tuple)
        assert [d.target for d in told.answer] == list(dict.fromkeys(by_name[name].to for name in matched if by_name[name].to))
    assert all(trace.reasons for trace in told.rules if trace.outcome != "matched")


def test_twenty_rules_are_asked_within_a_few_microseconds() -> None:
    """Every event pays this. The target is 2 us; the bound here leaves room for a busy machine."""
    routes = [a_route(f"r{i}", {"type": "incident", "priority": "P1", "custom_fields.n": i}, to="jira") for i in range(20)]
    rules = RuleSet.compile(routes, a_route(to="desk"), 1)
    ticket = a_ticket(type=TicketType.REQUEST)

    assert min(timeit.repeat(lambda: rules.decide(ticket), number=2000, repeat=5)) / 2000 < 10e-6
