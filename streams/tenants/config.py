"""A tenant's configuration: its tools and its rules, as written in tenants/*.yaml and as recorded on tenants.v1.

`parse` reads what a person wrote and names everything wrong with it at once, each with its place. `from_json` reads back what
`canonical` recorded. Secrets stand in a configuration as references only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from plugins.manifest import PluginManifest
from streams.routing.conditions import ConditionError, compile_condition
from streams.secrets.store import REFERENCE
from streams.tenants.yaml_source import Path, Problem, YamlSource, read_yaml

NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
MAX_TOOLS = 64
MAX_ROUTES = 500
MAX_SETTING_CHARS = 4096

NOT_SECRET = frozenset(
    {"actor", "client", "email", "grant", "instance", "kind", "login", "scheme", "scope", "token_url", "user", "username"}
)
"""Keys of `auth` that may be written out; the value of any other is a secret and must be a reference."""
WEBHOOK_SECRETS = frozenset({"secret", "password", "token", "client_secret"})
COMMON = frozenset({"type", "search_lag", "timeout", "max_connections"})
"""Settings the host itself takes, whatever the tool type."""
LATER = ("when", "continue", "window", "percent")

Name = Annotated[str, StringConstraints(pattern=NAME)]
Action = Literal["mirror", "note", "drop"]


class TenantConfigErrors(ValueError):
    """Everything wrong with one file. `problems` in the order of the file; the text has one `file:line:col: path: message` a line."""

    def __init__(self, filename: str, problems: list[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(f"{filename}:{problem}" for problem in self.problems))


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ToolConfig(_Model):
    """A tenant's connection of one tool. Settings of the tool type itself (`project`, `actor`, ...) stand beside the common ones."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    type: Name
    base_url: Annotated[str, StringConstraints(max_length=2048, pattern=r"^https?://[^\s/@?#]+[^\s@?#]*$")] | None = None
    auth: dict[str, JsonValue] = {}
    webhook: dict[str, JsonValue] = {}

    def settings(self) -> dict[str, Any]:
        """What the plugin is given: everything but the type, secret references in place."""
        return self.model_dump(mode="json", exclude={"type"}, exclude_none=True)


class DefaultRoute(_Model):
    """Where tickets go that no route matches. `to` is None only where the action is `drop`."""

    to: str | None = None
    failover: list[str] = Field(default=[], max_length=16)
    do: list[Action] = Field(min_length=1, max_length=3)


class Route(DefaultRoute):
    """One rule; the first whose whole `match` holds decides. An empty `match` matches every ticket."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    match: dict[str, JsonValue]


class TenantConfig(_Model):
    """One tenant: its tools by their own names, its routes in their order, and its default."""

    tenant: Name
    tools: dict[str, ToolConfig] = Field(max_length=MAX_TOOLS)
    routes: list[Route] = Field(default=[], max_length=MAX_ROUTES)
    default: DefaultRoute | None = None

    def canonical(self) -> str:
        """The configuration as JSON, the same text for the same meaning."""
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def secret_names(self) -> set[str]:
        """Every secret the tools refer to, by its name within the tenant."""
        values = (value for tool in self.tools.values() for _, value in _strings(tool.settings()))
        return {found[1] for value in values if (found := REFERENCE.fullmatch(value))}


def from_json(text: str) -> TenantConfig:
    """A recorded configuration. Raises ValueError where this build cannot read it."""
    return TenantConfig.model_validate_json(text)


def parse(text: str, filename: str, plugins: Mapping[str, PluginManifest] | None = None) -> TenantConfig:
    """Reads what a person wrote. Raises TenantConfigErrors with everything wrong.

    With the installed plugins' manifests, by tool type, each tool's settings are held against what its plugin takes.
    """
    return parse_source(text, filename, plugins)[0]


def parse_source(text: str, filename: str, plugins: Mapping[str, PluginManifest] | None = None) -> tuple[TenantConfig, YamlSource]:
    """As `parse`, and the positions too, for who has more to say about the file."""
    source = read_yaml(text)
    problems = list(source.problems)
    config = None
    if not problems or source.data is not None:
        problems += [source.problem(path, message, at_key=_blames_key(path)) for path, message in _semantic_problems(source.data, plugins)]
        try:
            config = TenantConfig.model_validate(_without_later_keys(source.data))
        except ValidationError as exc:
            problems += _shape_problems(exc, source)
    if problems or config is None:
        raise TenantConfigErrors(filename, problems)
    return config, source


def _blames_key(path: Path) -> bool:
    """Whether what is wrong is that the key is there at all, or what it is."""
    return path[-1] in LATER or path[-2:-1] in {("tools",), ("match",)}


_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a setting known here",
    "string_type": "must be text; put it in quotes",
    "dict_type": "must be a map",
    "model_type": "must be a map",
    "list_type": "must be a list",
}


def _shape_problems(exc: ValidationError, source: YamlSource) -> Iterator[Problem]:
    for error in exc.errors(include_url=False, include_input=False, include_context=True):
        path = tuple(part for part in error["loc"] if part != "[key]")
        kind = error["type"]
        message = _WORDS.get(kind) or error["msg"].removeprefix("Input ").replace("should", "must")
        if kind == "string_pattern_mismatch":
            if path[-1:] == ("base_url",):
                message = "must be an http or https address without user, query or fragment"
            else:
                message = "must be lower-case letters, digits, - and _, at most 63, starting with a letter or digit"
        elif kind in {"model_type", "dict_type"} and path == ():
            message = "the file must be a map that starts with `tenant:`"
        yield source.problem(path, message, at_key=kind == "extra_forbidden")


def _without_later_keys(data: Any) -> Any:
    """The data without what `_semantic_problems` already refused in better words."""
    if not isinstance(data, dict) or not isinstance(data.get("routes"), list):
        return data
    routes = [_without_later(route) if isinstance(route, dict) else route for route in data["routes"]]
    return {**data, "routes": routes, **({"default": _without_later(data["default"])} if isinstance(data.get("default"), dict) else {})}


def _without_later(route: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in route.items() if key not in LATER}
    if "when" in route:
        kept.setdefault("match", {})
    if isinstance(kept.get("do"), list) and "enrich" in kept["do"]:
        kept["do"] = [action for action in kept["do"] if action != "enrich"] or ["note"]
    return kept


def _semantic_problems(data: Any, plugins: Mapping[str, PluginManifest] | None) -> Iterator[tuple[Path, str]]:
    """What single values cannot tell: references between parts, names used twice, secrets, conditions."""
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


def _tool_problems(at: Path, tool: Mapping[str, Any], plugins: Mapping[str, PluginManifest] | None) -> Iterator[tuple[Path, str]]:
    kind = tool.get("type")
    manifest = None
    if plugins is not None and isinstance(kind, str) and re.fullmatch(NAME, kind):
        if (manifest := plugins.get(kind)) is None:
            yield (*at, "type"), f"no plugin for this type is installed; known are {', '.join(sorted(plugins))}"
        else:
            yield from _setting_problems(at, tool, manifest)
    for path, value in _strings(tool):
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
            if name in known or (path == () and key in COMMON):
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
    for key in LATER:
        if key in route:
            yield (*at, key), f"`{key}` is not taken by this version; a later release brings it"
    actions = route.get("do") if isinstance(route.get("do"), list) else []
    for index, action in enumerate(actions or []):
        if action == "enrich":
            yield (*at, "do", index), "`enrich` is not taken by this version; a later release brings it"
        elif isinstance(action, str) and action in (actions or [])[:index]:
            yield (*at, "do", index), f"{action} is asked twice"
    if "drop" in (actions or []):
        if len(actions or []) > 1:
            yield (*at, "do"), "drop stands alone: a dropped ticket is neither mirrored nor noted"
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
            yield path, f"{name!r} is not a tool of this tenant; it has {', '.join(sorted(tools)) or 'none'}"
        elif name in seen:
            yield path, f"{name!r} stands twice among this route's targets"
        seen.add(name)
    match = route.get("match")
    for field, value in match.items() if isinstance(match, dict) else ():
        try:
            compile_condition(field, value)
        except ConditionError as exc:
            yield (*at, "match", field), str(exc)


def _strings(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text in nested settings, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, (*path, index))
