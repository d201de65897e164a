"""What `route lint` finds: faults planted one by one into a configuration that has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from schemas.ticket import Priority, TicketMetadata, TicketStatus, TicketType
from streams.routing.rules import RuleSet
from streams.tenants.config import TenantConfigErrors, parse_source
from streams.tenants.lint import lint, remarks

SOUND = """\
tenant: acme
tools:
  desk:
    type: servicedesk_plus
    base_url: https://sdp.acme.example
    auth: {technician_key: "${secret:sdp_key}"}
    webhook: {scheme: shared_secret, header: X-Webhook-Secret, secret: "${secret:sdp_hook}"}
  jira: {type: jira, base_url: "https://acme.jira.example", auth: {email: bot@acme.example, api_token: "${secret:jira_token}"}}
  snow: {type: servicenow, base_url: "https://acme.snow.example", auth: {client_id: "${secret:a}", client_secret: "${secret:b}"}}
routes:
  - {name: changes, match: {type: change}, to: snow, do: [mirror]}
  - {name: VIPs, when: 'ticket.requester.endsWith("@board.acme.example")', to: jira, do: [mirror]}
  - {name: urgent, match: {type: incident, priority: P1}, to: jira, do: [mirror, note]}
  - {name: printers, match: {type: incident, subject: ["*printer*", toner]}, to: desk, do: [note]}
  - {name: big, match: {type: [incident, request], custom_fields.seats: {gte: 100}}, to: snow, do: [mirror]}
default: {to: desk, do: [note]}
"""

Change = Callable[[dict[str, Any]], object]


def found(change: Change | None = None) -> list[str]:
    """Every problem, warning and remark, as `path: message`."""
    data = yaml.safe_load(SOUND)
    if change is not None:
        change(data)
    text = yaml.safe_dump(data, sort_keys=False)
    try:
        config, source = parse_source(text, "acme.yaml")
    except TenantConfigErrors as exc:
        return [f"{p.path}: {p.message}" for p in exc.problems]
    return [f"{p.path}: {p.message}" for p in (*lint(config, source), *remarks(config, source))]


def route(**fields: Any) -> dict[str, Any]:
    return {"name": "new", "to": "jira", "do": ["mirror"], **fields}


PLANTED: list[tuple[Change, str]] = [
    (lambda d: d["routes"].append(route(match={"type": "change", "subject": "x"})), "routes[5]: is never reached: 'changes' matches first"),
    (lambda d: d["routes"].insert(0, route(match={})), "routes[1]: is never reached: 'new' matches first"),
    (lambda d: d["routes"].append(route(match={"type": "incident", "subject": "Toner"})), "routes[5]: is never reached: 'printers'"),
    (
        lambda d: d["routes"].append(route(match={"type": "request", "custom_fields.seats": {"gt": 100, "lt": 200}})),
        "routes[5]: is never reached: 'big' matches first",
    ),
    (
        lambda d: (
            d["routes"].append(route(name="rest", match={"type": ["incident", "request", "problem", "unknown"]})),
            d["routes"].append(route(match={"priority": "P2"})),
        ),
        "routes[6]: is never reached: 'changes' and 'rest' match first",
    ),
    (lambda d: d["routes"].append(route(match={"priority": "P1"})), "routes[5]: tickets that match 'changes' too go by that one"),
    (lambda d: d["routes"][0].update(to="snwo"), "routes[0].to: 'snwo' is not a tool of this tenant"),
    (lambda d: d["routes"][0].update(failover=["jria"]), "routes[0].failover[0]: 'jria' is not a tool of this tenant"),
    (lambda d: d["routes"][0].update(match={"typ": "change"}), "routes[0].match.typ: a ticket has no such field"),
    (lambda d: d["routes"][1].update(when="ticket.requestor == 'x'"), "routes[1].when: a ticket has no field 'requestor'"),
    (lambda d: d["routes"][0].update(failover=["snow"]), "routes[0].failover[0]: 'snow' stands twice"),
    (
        lambda d: d["routes"].insert(0, route(match={"tool": "desk", "type": "problem"}, failover=["desk"])),
        "routes[0].failover[0]: these tickets come from desk: failing over to it would mirror them onto themselves",
    ),
    (lambda d: d.pop("default"), "tenant: no default"),
    (lambda d: d.update(default={"do": ["note"]}), "default.to: is missing"),
    (lambda d: d["routes"][0].update(do=[]), "routes[0].do: "),
    (lambda d: d["routes"][1].update(name="changes"), "routes[1].name: another route has this name already"),
    (lambda d: d["tools"].update(old={"type": "zendesk"}), "tools.old: no webhook and no route leads here"),
    (lambda d: d["routes"][1].update(when="1 == 1"), "routes[1].when: asks nothing of the ticket"),
    (lambda d: d["routes"][0].update(match={"type": "change", "tool": "j*"}), "routes[0].match.tool: jira has no webhook"),
    (lambda d: d["routes"][4].update({"continue": True}), "routes[4].continue: no route comes after this one"),
    (lambda d: d["routes"][0].update(percent=100), "routes[0].percent: 100 % is every ticket"),
    (lambda d: d["routes"][0].update(window={"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}), "routes[0].window: every day"),
    (lambda d: d["routes"][0].update(match={"tool": "z*"}), "routes[0]: matches no ticket that could come"),
    (
        lambda d: (
            d["tools"]["jira"].update(webhook={"secret": "${secret:hook}"}),
            d["routes"].insert(0, route(match={"tool": "desk", "type": "problem"})),
            d["routes"].insert(1, route(name="back", match={"tool": "jira", "type": "problem"}, to="desk")),
        ),
        "routes[1]: desk is mirrored to jira too: a loop",
    ),
]


def test_a_sound_configuration_is_left_alone() -> None:
    """A lint that cries wolf is switched off."""
    assert [line for line in found() if "go by that one" not in line] == []


@pytest.mark.parametrize(("change", "expected"), PLANTED, ids=[text[:60] for _, text in PLANTED])
def test_a_planted_fault_is_found(change: Change, expected: str) -> None:
    """At its place, in words that name it."""
    assert any(line.startswith(expected) for line in found(change)), found(change)


words = st.sampled_from([TicketType.INCIDENT, TicketType.CHANGE]) | st.just(TicketType.REQUEST)
matches = st.fixed_dictionaries(
    {},
    optional={
        "type": st.lists(st.sampled_from(["incident", "change", "request"]), min_size=1, max_size=2, unique=True),
        "priority": st.sampled_from(["P1", {"gte": "P2"}, "unknown"]),
        "subject": st.sampled_from(["a", "*a*", ["a", "b"], "*"]),
        "tags": st.sampled_from(["x", ["x", "y"], "x*"]),
        "custom_fields.n": st.sampled_from([1, {"gte": 1}, {"gt": 0, "lt": 5}]),
    },
)
tickets = st.builds(
    lambda kind, priority, subject, tags, n: TicketMetadata(
        tenant_id="a",
        ticket_id="1",
        type=kind,
        priority=priority,
        status=TicketStatus.NEW,
        subject=subject,
        tags=tags,
        custom_fields={} if n is None else {"n": n},
    ),
    st.sampled_from(list(TicketType)),
    st.sampled_from(list(Priority)),
    st.sampled_from(["a", "b", "ab", ""]),
    st.lists(st.sampled_from(["x", "y", "xx"]), max_size=2).map(tuple),
    st.sampled_from([None, 0, 1, 3, 5]),
)


@given(st.lists(matches, min_size=2, max_size=5), st.lists(tickets, max_size=25))
def test_a_route_called_unreached_never_decides(found_matches: list[dict[str, Any]], asked: list[TicketMetadata]) -> None:
    """Whoever deletes a route because we said so must change nothing."""
    data = {
        "tenant": "acme",
        "tools": {"jira": {"type": "jira"}},
        "routes": [{"name": f"r{i}", "match": match, "to": "jira", "do": ["note"]} for i, match in enumerate(found_matches)],
        "default": {"to": "jira", "do": ["note"]},
    }
    config, source = parse_source(json.dumps(data), "acme.yaml")
    unreached = {int(p.path[len("routes[") :].split("]")[0]) for p in lint(config, source) if "never reached" in p.message}
    rules: RuleSet = config.rules(1)
    for ticket in asked:
        answer = rules.decide(ticket, "jira")
        assert isinstance(answer, tuple)
        assert answer[0].rule not in {f"r{index}" for index in unreached}
