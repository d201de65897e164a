"""A tenant's configuration: its tools and its rules, as written in tenants/*.yaml and as recorded on tenants.v1.

`parse` reads what a person wrote and names everything wrong with it at once, each with its place. `from_json` reads back what
`canonical` recorded. Secrets stand in a configuration as references only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from plugins.manifest import PluginManifest
from streams.routing.expressions import MAX_SOURCE_BYTES
from streams.routing.rules import RuleSet
from streams.secrets.store import REFERENCE
from streams.tenants.checks import NAME, check, strings
from streams.tenants.yaml_source import Path, Problem, YamlSource, read_yaml

MAX_TOOLS = 64
MAX_ROUTES = 500

Name = Annotated[str, StringConstraints(pattern=NAME)]
Action = Literal["mirror", "note", "enrich", "drop"]


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
    """One rule; the first that matches decides: whose whole `match`, `when`, `window` and `percent` hold, where they are given.

    With `continue: true` its decision is added, and the rules after it are asked too. An empty `match` matches every ticket.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    match: dict[str, JsonValue] = {}
    when: Annotated[str, StringConstraints(max_length=MAX_SOURCE_BYTES)] | None = None
    window: dict[str, JsonValue] | None = None
    percent: Annotated[float, Field(gt=0, le=100, strict=False)] | None = None
    continue_: bool = Field(default=False, alias="continue")


class Example(_Model):
    """One line of a tenant's own table for `ai-agents route test`: of a ticket like this, by which route it goes, or where.

    `ticket` has TicketMetadata's fields; `tool` is the tool it comes from, `at` when it is received (ISO 8601).
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    ticket: dict[str, JsonValue] = {}
    tool: str | None = None
    at: str | None = None
    route: str | None = None
    to: str | list[str] | None = None
    dropped: bool | None = None


class TenantConfig(_Model):
    """One tenant: its tools by their own names, its routes in their order, and its default."""

    tenant: Name
    tools: dict[str, ToolConfig] = Field(max_length=MAX_TOOLS)
    routes: list[Route] = Field(default=[], max_length=MAX_ROUTES)
    default: DefaultRoute | None = None
    defaults: dict[str, DefaultRoute] = Field(default={}, max_length=MAX_TOOLS)
    """By the name of the tool an event came from: in place of `default`."""
    examples: list[Example] = Field(default=[], max_length=MAX_ROUTES)

    def rules(self, version: int) -> RuleSet:
        """The routes, compiled. Raises RuleError."""
        return RuleSet.compile(self.routes, self.default, version, self.defaults)

    def canonical(self) -> str:
        """The configuration as JSON, the same text for the same meaning."""
        return json.dumps(
            self.model_dump(mode="json", exclude_defaults=True, by_alias=True), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )

    def secret_names(self) -> set[str]:
        """Every secret the tools refer to, by its name within the tenant."""
        values = (value for tool in self.tools.values() for _, value in strings(tool.settings()))
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
        problems += [source.problem(path, message, at_key=_blames_key(path)) for path, message in check(source.data, plugins)]
        try:
            config = TenantConfig.model_validate(source.data)
        except ValidationError as exc:
            problems += _shape_problems(exc, source)
    if problems or config is None:
        raise TenantConfigErrors(filename, problems)
    return config, source


def _blames_key(path: Path) -> bool:
    """Whether what is wrong is that the key is there at all, or what it is."""
    return path[-2:-1] in {("tools",), ("match",), ("defaults",)}


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
