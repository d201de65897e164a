"""What a tenant's file may say, and how it is told what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
import yaml

from plugins.manifest import PluginManifest, Setting
from streams.tenants.config import TenantConfigErrors, from_json, parse, parse_source
from streams.tenants.lint import lint

GOOD = """\
tenant: acme
tools:
  desk: {type: servicedesk_plus, base_url: "https://sdp.acme.example", auth: {technician_key: "${secret:sdp_key}"},
         webhook: {scheme: shared_secret, header: X-Webhook-Secret, secret: "${secret:sdp_hook}", fields: {ticket_id: "$.request.id"}}}
  jira: {type: jira, base_url: "https://acme.jira.example", auth: {email: bot@acme.example, api_token: "${secret:jira_token}"},
         webhook: {secret: "${secret:jira_hook}"}, project: OPS}
routes:
  - {name: urgent incidents, match: {type: incident, priority: P1}, to: jira, failover: [desk], do: [mirror, note]}
  - {name: spam, match: {subject: "*unsubscribe*"}, do: [drop]}
default: {to: desk, do: [note]}
"""

PLUGINS = {
    "jira": PluginManifest(
        name="Jira",
        tool_type="jira",
        version="1",
        entry="m:C",
        summary="",
        settings={
            "base_url": Setting(doc="the site's address", required=True),
            "auth.email": Setting(doc="whose token it is", required=True),
            "auth.api_token": Setting(doc="the token", required=True, secret=True),
            "webhook.secret": Setting(doc="the webhook's secret", required=True, secret=True),
            "project": Setting(doc="where new issues go"),
            "words": Setting(doc="the site's own words"),
        },
    ),
    "servicedesk_plus": PluginManifest(
        name="ServiceDesk Plus",
        tool_type="servicedesk_plus",
        version="1",
        entry="m:C",
        summary="",
        settings={
            name: Setting(doc=name, secret=name.endswith(("key", "secret")))
            for name in ("base_url", "auth.technician_key", "webhook.scheme", "webhook.header", "webhook.secret", "webhook.fields")
        },
    ),
}


def errors(text: str, plugins: Mapping[str, PluginManifest] | None = None) -> list[str]:
    with pytest.raises(TenantConfigErrors) as caught:
        parse(text, "acme.yaml", plugins)
    return str(caught.value).splitlines()


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    """GOOD with something changed, as YAML."""
    data = yaml.safe_load(GOOD)
    change(data)
    return str(yaml.safe_dump(data, sort_keys=False))


def test_a_good_file_is_read_whole() -> None:
    config = parse(GOOD, "acme.yaml", PLUGINS)
    assert config.tools["jira"].settings() == {
        "base_url": "https://acme.jira.example",
        "auth": {"email": "bot@acme.example", "api_token": "${secret:jira_token}"},
        "webhook": {"secret": "${secret:jira_hook}"},
        "project": "OPS",
    }
    assert [(r.name, r.to, r.failover, r.do) for r in config.routes] == [
        ("urgent incidents", "jira", ["desk"], ["mirror", "note"]),
        ("spam", None, [], ["drop"]),
    ]
    assert config.secret_names() == {"sdp_key", "sdp_hook", "jira_token", "jira_hook"}


def test_every_error_of_a_file_is_told_at_once_with_its_place() -> None:
    """Whoever mends a file should not have to run the check once for each mistake."""
    text = """\
tenant: Acme
color: red
tools:
  desk: {type: jira, base_url: "ftp://x"}
routes:
  - {name: a, match: {typ: change}, to: snow, do: [mirror]}
  - {name: a, match: {priority: P7}, to: desk, do: [shout], when: 'x'}
"""
    lines = errors(text)
    assert [line.split(": ")[0] + ": " + line.split(": ")[1] for line in lines] == [
        "acme.yaml:1:9: tenant",
        "acme.yaml:2:1: color",
        "acme.yaml:4:32: tools.desk.base_url",
        "acme.yaml:6:23: routes[0].match.typ",
        "acme.yaml:6:41: routes[0].to",
        "acme.yaml:7:12: routes[1].name",
        "acme.yaml:7:23: routes[1].match.priority",
        "acme.yaml:7:53: routes[1].do[0]",
        "acme.yaml:7:67: routes[1].when",
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["routes"][0].update(when="ticket.subject"), "routes[0].when: gives str; it must give true or false"),
        (lambda d: d["routes"][0].update(when="ticket.colour == 1"), "routes[0].when: a ticket has no field 'colour'"),
        (lambda d: d["routes"][0].update(window={"from": "8", "zone": "Mars"}), "routes[0].window: '8' is not a time of day"),
        (lambda d: d["routes"][0].update(percent=0), "routes[0].percent: "),
        (lambda d: d["routes"][0].update(percent=101), "routes[0].percent: "),
        (lambda d: d["routes"][1].update({"continue": True}), "routes[1].continue: a dropped ticket goes nowhere else"),
        (lambda d: d["routes"][0].update(match={"tool": "snow"}), "routes[0].match.tool: 'snow' is not a tool of this tenant"),
        (lambda d: d["default"].update(window={"days": ["mon"]}), "default.window: is not a setting known here"),
        (lambda d: d.update(defaults={"snow": {"to": "jira", "do": ["note"]}}), "defaults.snow: 'snow' is not a tool of this tenant"),
        (lambda d: d.update(defaults={"desk": {"to": "snow", "do": ["note"]}}), "defaults.desk.to: 'snow' is not a tool of this tenant"),
        (lambda d: d.update(examples=[{"name": "x", "ticket": {"priority": "P1"}}]), "examples[0]: expects nothing"),
        (lambda d: d.update(examples=[{"name": "x", "route": "nope"}]), "examples[0].route: no route is called 'nope'"),
        (lambda d: d.update(examples=[{"name": "x", "to": "jira", "ticket": {"colour": 1}}]), "examples[0].ticket.colour: a ticket has no"),
    ],
)
def test_what_says_when_a_route_applies_is_checked_before_it_counts(change: Callable[[dict[str, Any]], object], expected: str) -> None:
    """A condition that cannot hold, or is ignored, sends tickets where nobody asked for."""
    lines = errors(changed(change))
    assert len(lines) == 1, lines
    assert expected in lines[0]


def test_a_whole_rule_survives_being_recorded() -> None:
    """What `apply` records is what every worker compiles: nothing may be lost between the file and the topic."""
    text = changed(
        lambda d: d["routes"][0].update(
            {"when": "'vip' in ticket.tags", "continue": True, "percent": 12.5, "window": {"days": ["mon-fri"], "zone": "Europe/Berlin"}}
        )
    )
    config = parse(text, "acme.yaml")
    again = from_json(config.canonical())
    assert again == config
    route = again.routes[0]
    assert (route.when, route.continue_, route.percent) == ("'vip' in ticket.tags", True, 12.5)
    assert route.window == {"days": ["mon-fri"], "zone": "Europe/Berlin"}
    assert again.rules(1).version == 1


def test_a_context_that_nobody_can_give_is_warned_of() -> None:
    """It is no error: the ticket's own facts are worth a note."""
    config, source = parse_source(changed(lambda d: d["default"].update(do=["enrich"])), "a.yaml")
    telling = {**PLUGINS, "jira": msgspec.structs.replace(PLUGINS["jira"], capabilities=["assets"])}
    assert not [w for w in lint(config, source) if "enrich" in w.message]
    assert [w.path for w in lint(config, source, PLUGINS) if "enrich" in w.message] == ["default.do"]
    assert not [w for w in lint(config, source, telling) if "enrich" in w.message]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["tools"]["jira"]["auth"].update(api_token="hunter2"), "tools.jira.auth.api_token: must be a reference"),
        (lambda d: d["tools"]["jira"]["auth"].update(api_token=12345), "tools.jira.auth.api_token: must be text"),
        (lambda d: d["tools"]["jira"]["webhook"].update(secret="hunter2"), "tools.jira.webhook.secret: must be a reference"),
        (lambda d: d["tools"]["jira"].update(project="${secret:jira_token}"), "tools.jira.project: a secret reference has no place here"),
        (lambda d: d["tools"]["jira"]["auth"].update(api_token="${secret:Bad Name}"), "tools.jira.auth.api_token: must be a reference"),
        (
            lambda d: d["tools"]["jira"].update(base_url="https://user:pw@x.example"),
            "tools.jira.base_url: must be an http or https address",
        ),
    ],
)
def test_secrets_are_references_where_expected_and_nowhere_else(change: Callable[[dict[str, Any]], object], expected: str) -> None:
    """The configuration is public within the system: it is on a topic and in `tenant show`."""
    lines = errors(changed(change))
    assert len(lines) == 1
    assert expected in lines[0]
    assert "hunter2" not in lines[0]
    assert "pw@" not in lines[0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["routes"][0].update(to="snow"), "routes[0].to: 'snow' is not a tool of this tenant; it has desk, jira"),
        (lambda d: d["routes"][0].update(failover=["nope"]), "routes[0].failover[0]: 'nope' is not a tool of this tenant"),
        (lambda d: d["routes"][0].update(failover=["jira"]), "routes[0].failover[0]: 'jira' stands twice among this route's targets"),
        (lambda d: d["routes"][1].update(name="urgent incidents"), "routes[1].name: another route has this name already: routes[0]"),
        (lambda d: d["routes"][0].pop("name"), "routes[0].name: is missing"),
        (lambda d: d["routes"][0].pop("match"), "routes[0]: says of no ticket that it is meant"),
        (lambda d: d["routes"][0].pop("to"), "routes[0].to: is missing"),
        (lambda d: d["routes"][1].update(do=["drop", "note"]), "routes[1].do: drop stands alone"),
        (lambda d: d["routes"][0].update(do=["note", "note"]), "routes[0].do[1]: note is asked twice"),
        (lambda d: d["routes"][0].update(do=[]), "routes[0].do: List must have at least 1 item"),
        (lambda d: d["default"].update(name="x"), "default.name: is not a setting known here"),
        (lambda d: d["tools"].update({"A B": {"type": "jira"}}), "tools.A B: a tool's name must be lower-case"),
        (
            lambda d: d["tools"]["jira"].update(type="jirra"),
            "tools.jira.type: no plugin for this type is installed; known are jira, servicedesk_plus",
        ),
        (lambda d: d.pop("tools"), "tools: is missing"),
        (lambda d: d["tools"]["jira"].update(projct="X"), "tools.jira.projct: is not a setting of jira; see: ai-agents plugin info jira"),
        (lambda d: d["tools"]["jira"]["auth"].update(token="${secret:x}"), "tools.jira.auth.token: is not a setting of jira"),
        (lambda d: d["tools"]["jira"]["auth"].pop("email"), "tools.jira.auth.email: is missing: whose token it is"),
        (lambda d: d["tools"]["jira"]["webhook"].update(addresses=["desk.example"]), "tools.jira.webhook: webhook.addresses: "),
        (lambda d: d["tools"]["jira"].update(webhook={"secret": "x"}), "tools.jira.webhook.secret: must be a reference"),
    ],
)
def test_parts_must_fit_together(change: Callable[[dict[str, Any]], object], expected: str) -> None:
    """A target that does not exist is found when the file is applied, not when the first ticket needs it."""
    assert any(expected in line for line in errors(changed(change), PLUGINS))


def test_a_tool_that_only_receives_tickets_needs_no_webhook_settings() -> None:
    """Required settings of `webhook` are required where there is a webhook."""
    config = parse(changed(lambda d: d["tools"]["jira"].update(webhook={}, words={"priority": {"Blocker": "urgent"}})), "a.yaml", PLUGINS)
    assert config.tools["jira"].webhook == {}


@pytest.mark.parametrize("text", ["", "7", "[]", "- a", "tenant", "\t", "{", "a: b: c"])
def test_a_file_that_is_no_configuration_at_all_is_an_error_not_a_crash(text: str) -> None:
    assert errors(text)[0].startswith("acme.yaml:")


def test_the_same_meaning_has_the_same_canonical_text() -> None:
    """`tenant apply` publishes a new version only when something changed."""
    reordered = changed(lambda d: d.update(tools=dict(reversed(d["tools"].items()))))
    config = parse(GOOD, "a.yaml")
    assert parse(reordered, "b.yaml").canonical() == config.canonical()
    assert from_json(config.canonical()) == config


def test_lint_names_what_is_probably_not_meant() -> None:
    text = changed(
        lambda d: (
            d.pop("default"),
            d["tools"].update(lonely={"type": "jira", "base_url": "http://jira.acme.example"}),
            d["routes"].append(
                {"name": "never", "match": {"type": "incident", "priority": "P1", "status": "new"}, "to": "desk", "do": ["note"]}
            ),
        )
    )
    messages = [str(warning) for warning in lint(*parse_source(text, "a.yaml"))]
    assert [next(m for m in messages if part in m) for part in ("no default", "never used", "unencrypted", "never reached", "failover is")]
    assert len(messages) == 5
