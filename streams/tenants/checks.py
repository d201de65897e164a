"""What the shape of a tenant's configuration cannot tell: references between its parts, names used twice, secrets, conditions. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from plugins.api import PluginConfigError
from plugins.manifest import PluginManifest
from plugins.webhook import allowed_addresses
from streams.routing.conditions import ConditionError, compile_condition, compile_tool
from streams.routing.expressions import FIELDS, When
from streams.routing.gates import compile_window
from streams.secrets.store import REFERENCE
from streams.tenants.yaml_source import Path

NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
MAX_SETTING_CHARS = 4096

NOT_SECRET = frozenset(
    {"actor", "client", "email", "grant", "instance", "kind", "login", "scheme", "scope", "token_url", "user", "username"}
)
"""Keys of `auth` that may be written out; the value of any other is a secret and must be a reference."""
WEBHOOK_SECRETS = frozenset({"secret", "password", "token", "client_secret"})
COMMON = frozenset({"type", "search_lag", "timeout", "max_connections", "webhook.addresses", "webhook.proxies"})
"""Settings the host itself takes, whatever the tool type, by dotted path."""
ROUTE_ONLY = ("name", "match", "when", "window", "percent", "continue")
"""What says when a route applies; a default always does."""


def check(data: Any, plugins: Mapping[str, PluginManifest] | None) -> Iterator[tuple[Path, str]]:
    """Every problem of a file's data, whatever its shape, as (path, message). Tools are held against the plugins' manifests if given."""
    if not isinstance(data, dict):
        return
    tools = data.get("tools")
    tools = tools if isinstance(tools, dict) else {}
    for name, tool in tools.items():
        if not re.fullmatch(NAME, name):
            yield ("tools", name), "a tool's name must be lower-case letters, digits, - and _, at most 63, starting with a letter or digit"
        if isinstance(tool, dict):
            yield from _tool_problems(("tools", name), tool, plugins)
    routes = data.get("routes")
    names: dict[str, int] = {}
    for index, route in enumerate(routes if isinstance(routes, list) else []):
        if not isinstance(route, dict):
            continue
        yield from _route_problems(("routes", index), route, tools)
        name = route.get("name")
        if isinstance(name, str) and names.setdefault(name, index) != index:
            yield ("routes", index, "name"), f"another route has this name already: routes[{names[name]}]"
    if isinstance(data.get("default"), dict):
        yield from _route_problems(("default",), data["default"], tools)
    defaults = data.get("defaults")
    for tool, default in defaults.items() if isinstance(defaults, dict) else ():
        if tool not in tools:
            yield ("defaults", tool), _no_such_tool(tool, tools)
        if isinstance(default, dict):
            yield from _route_problems(("defaults", tool), default, tools)
    examples = data.get("examples")
    for index, example in enumerate(examples if isinstance(examples, list) else []):
        if isinstance(example, dict):
            yield from _example_problems(("examples", index), example, tools, names)


def _tool_problems(at: Path, tool: Mapping[str, Any], plugins: Mapping[str, PluginManifest] | None) -> Iterator[tuple[Path, str]]:
    kind = tool.get("type")
    manifest = None
    if plugins is not None and isinstance(kind, str) and re.fullmatch(NAME, kind):
        if (manifest := plugins.get(kind)) is None:
            yield (*at, "type"), f"no plugin for this type is installed; known are {', '.join(sorted(plugins))}"
        else:
            yield from _setting_problems(at, tool, manifest)
    for path, value in strings(tool):
        where = (*at, *path)
        reference = REFERENCE.fullmatch(value)
        expected = path[0] in {"auth", "webhook"}
        if manifest is not None and (setting := manifest.settings.get(".".join(map(str, path)))) is not None:
            must = setting.secret
        else:
            must = (path[0] == "auth" and path[-1] not in NOT_SECRET) or (path[0] == "webhook" and path[-1] in WEBHOOK_SECRETS)
        if len(value) > MAX_SETTING_CHARS:
            yield where, f"is longer than {MAX_SETTING_CHARS} characters"
        elif must and reference is None:
            yield where, 'must be a reference, "${secret:NAME}"; set the value with: ai-agents secret set TENANT/NAME'
        elif not must and "${" in value and not (expected and reference):
            yield where, "a secret reference has no place here: this value is shown and logged"
    try:
        allowed_addresses(tool.get("webhook"))
    except PluginConfigError as exc:
        yield (*at, "webhook"), str(exc)
    for section in ("auth", "webhook"):
        for key, value in tool[section].items() if isinstance(tool.get(section), dict) else ():
            if not isinstance(value, str) and (section == "auth" or key in WEBHOOK_SECRETS):
                yield (*at, section, key), "must be text; put it in quotes"


def _setting_problems(at: Path, tool: Mapping[str, Any], manifest: PluginManifest) -> Iterator[tuple[Path, str]]:
    """Settings the plugin does not know, and those it cannot do without (of `webhook` only where the tool has one)."""
    known = manifest.settings

    def unknown(settings: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
        for key, value in settings.items():
            here = (*path, key)
            name = ".".join(here)
            if name in known or name in COMMON:
                continue
            inside = any(setting.startswith(name + ".") for setting in known)
            if inside and isinstance(value, dict):
                yield from unknown(value, here)
            elif not inside:
                yield (*at, *here), f"is not a setting of {manifest.tool_type}; see: ai-agents plugin info {manifest.tool_type}"

    yield from unknown(tool, ())
    for name, setting in known.items():
        path = tuple(name.split("."))
        value: Any = tool
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if setting.required and value is None and (path[0] != "webhook" or tool.get("webhook")):
            yield (*at, *path), f"is missing: {setting.doc}"


def _route_problems(at: Path, route: Mapping[str, Any], tools: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    actions = route.get("do") if isinstance(route.get("do"), list) else []
    for index, action in enumerate(actions or []):
        if isinstance(action, str) and action in (actions or [])[:index]:
            yield (*at, "do", index), f"{action} is asked twice"
    if "drop" in (actions or []):
        if len(actions or []) > 1:
            yield (*at, "do"), "drop stands alone: a dropped ticket is neither mirrored nor noted"
        if route.get("continue") is True:
            yield (*at, "continue"), "a dropped ticket goes nowhere else; take `continue` out"
    elif "to" not in route and actions:
        yield (*at, "to"), "is missing: say which tool these tickets go to"
    targets: list[tuple[Path, Any]] = [((*at, "to"), route["to"])] if route.get("to") is not None else []
    failover = route.get("failover")
    for index, name in enumerate(failover if isinstance(failover, list) else []):
        targets.append(((*at, "failover", index), name))
    seen: set[str] = set()
    for path, name in targets:
        if not isinstance(name, str):
            continue
        if name not in tools:
            yield path, _no_such_tool(name, tools)
        elif name in seen:
            yield path, f"{name!r} stands twice among this route's targets"
        seen.add(name)
    if at[0] == "routes":
        yield from _condition_problems(at, route, tools)


def _condition_problems(at: Path, route: Mapping[str, Any], tools: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    match = route.get("match")
    if not any(key in route for key in ROUTE_ONLY[1:-1]):
        yield at, "says of no ticket that it is meant: give match, when, window or percent; `match: {}` matches every ticket"
    asked: list[tuple[Path, Callable[[], object]]] = []
    for field, value in match.items() if isinstance(match, dict) else ():
        if field == "tool":
            asked.append(((*at, "match", field), partial(compile_tool, value)))
            names = value if isinstance(value, list) else [value]
            for name in names:
                if isinstance(name, str) and not any(char in name for char in "*?") and name not in tools:
                    yield (*at, "match", field), _no_such_tool(name, tools)
        else:
            asked.append(((*at, "match", field), partial(compile_condition, field, value)))
    if isinstance(when := route.get("when"), str):
        asked.append(((*at, "when"), partial(When, when)))
    if isinstance(window := route.get("window"), dict):
        asked.append(((*at, "window"), partial(compile_window, window)))
    for path, compile_it in asked:
        try:
            compile_it()
        except ConditionError as exc:
            yield path, str(exc)


def _example_problems(
    at: Path, example: Mapping[str, Any], tools: Mapping[str, Any], routes: Mapping[str, int]
) -> Iterator[tuple[Path, str]]:
    if sum(example.get(key) is not None for key in ("route", "to", "dropped")) == 0:
        yield at, "expects nothing: give route, to or dropped"
    if isinstance(route := example.get("route"), str) and route not in routes and route != "default":
        yield (*at, "route"), f"no route is called {route!r}; `default` stands for the default"
    named = example.get("to")
    for name in [example.get("tool"), *(named if isinstance(named, list) else [named])]:
        if isinstance(name, str) and name not in tools:
            yield at, _no_such_tool(name, tools)
    ticket = example.get("ticket")
    for field in ticket if isinstance(ticket, dict) else ():
        if field not in FIELDS:
            yield (*at, "ticket", field), f"a ticket has no such field; it has {', '.join(sorted(FIELDS))}"


def _no_such_tool(name: str, tools: Mapping[str, Any]) -> str:
    return f"{name!r} is not a tool of this tenant; it has {', '.join(sorted(tools)) or 'none'}"


def strings(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text in nested settings, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from strings(item, (*path, index))
