"""What is allowed in a tenant's configuration and yet probably not meant. Pure.

`lint` gives warnings: something is never used, never reached, or not what it looks like. `remarks` gives what is often meant, and
worth a look: routes whose order decides for the tickets they share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from plugins.manifest import PluginManifest
from streams.routing.expressions import When
from streams.routing.reach import shared, unreached, words_of
from streams.tenants.config import DefaultRoute, Route, TenantConfig
from streams.tenants.yaml_source import Path, Problem, YamlSource

TELLS_DEVICES = frozenset({"cmdb", "assets"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
WHOLE_WEEK = 7


def lint(config: TenantConfig, source: YamlSource, plugins: Mapping[str, PluginManifest] | None = None) -> list[Problem]:
    """Warnings in the order of the file; none of them stops an apply. With the plugins' manifests, what their tools cannot do too."""
    warnings = [*_warnings(config), *(_poor_contexts(config, plugins) if plugins is not None else ())]
    return sorted(source.problem(path, message) for path, message in warnings)


def remarks(config: TenantConfig, source: YamlSource) -> list[Problem]:
    """Pairs of routes that share tickets, in the order of the file."""
    found = []
    for earlier, later in shared(config.routes, list(config.tools)):
        one, other = config.routes[earlier], config.routes[later]
        if (one.to, one.do) != (other.to, other.do):
            found.append(source.problem(("routes", later), f"tickets that match {one.name!r} too go by that one, which comes first"))
    return sorted(found)


def _warnings(config: TenantConfig) -> Iterator[tuple[Path, str]]:
    yield from _tools(config)
    if config.default is None and not config.tools.keys() <= config.defaults.keys():
        yield ("tenant",), "no default: a ticket that no route matches becomes a dead letter (unroutable)"
    for path, route in _all_routes(config):
        if route.failover:
            yield (*path, "failover"), "failover is recorded with each decision and not yet acted upon"
            break
    for path, route in _all_routes(config):
        if isinstance(route, Route):
            yield from _conditions(path, route, config)
        if route.to is not None and route.to not in route.failover and len(config.tools) > 1 and "mirror" in route.do and route.failover:
            yield from _failover(path, route, config)
    yield from _unreached(config)
    yield from _circles(config)


def _all_routes(config: TenantConfig) -> Iterator[tuple[Path, DefaultRoute]]:
    for index, route in enumerate(config.routes):
        yield ("routes", index), route
    if config.default is not None:
        yield ("default",), config.default
    for tool, default in config.defaults.items():
        yield ("defaults", tool), default


def _tools(config: TenantConfig) -> Iterator[tuple[Path, str]]:
    targets = {route.to for _, route in _all_routes(config)} | {name for _, route in _all_routes(config) for name in route.failover}
    for name, tool in config.tools.items():
        at = ("tools", name)
        if not tool.webhook and name not in targets:
            yield at, "no webhook and no route leads here: this tool is never used"
        if name in targets and not tool.base_url:
            yield at, "routes lead here, but it has no base_url"
        address = urlsplit(tool.base_url or "")
        if address.scheme == "http" and address.hostname not in LOOPBACK:
            yield (*at, "base_url"), "credentials and tickets travel unencrypted; use https"
    for name in config.defaults:
        if name in config.tools and not config.tools[name].webhook:
            yield ("defaults", name), f"{name} has no webhook: no event comes from it"


def _conditions(at: Path, route: Route, config: TenantConfig) -> Iterator[tuple[Path, str]]:
    if route.when is not None and not When(route.when).fields:
        yield (*at, "when"), "asks nothing of the ticket: it always gives the same"
    if route.percent == 100:
        yield (*at, "percent"), "100 % is every ticket; take it out"
    window = route.window or {}
    if window and not {"from", "to"} & window.keys() and len(set(map(str, _listed(window.get("days"))))) >= WHOLE_WEEK:
        yield (*at, "window"), "every day of the week, the whole day, is always; take it out"
    if "tool" in route.match:
        names = sorted({words[-1] for words in words_of(route, list(config.tools))})
        if names and not any(config.tools[name].webhook for name in names):
            yield (*at, "match", "tool"), f"{', '.join(names)} has no webhook: no event comes from it"
    if route.continue_ and at[1] == len(config.routes) - 1 and len(at) > 1:
        yield (*at, "continue"), "no route comes after this one: there is nothing to continue with"
    if route.failover and route.do == ["drop"]:
        yield (*at, "failover"), "a dropped ticket goes nowhere, so it cannot fail over"


def _poor_contexts(config: TenantConfig, plugins: Mapping[str, PluginManifest]) -> Iterator[tuple[Path, str]]:
    """Routes that ask for a context of which no tool in question knows the devices."""
    telling = {name for name, tool in config.tools.items() if (m := plugins.get(tool.type)) and TELLS_DEVICES & set(m.capabilities)}
    sources = {name for name, tool in config.tools.items() if tool.webhook}
    for at, route in _all_routes(config):
        if "enrich" in route.do and not telling & (sources | {route.to}):
            yield (*at, "do"), f"neither {route.to} nor any source tells devices: `enrich` writes the ticket's own facts only"


def _failover(at: Path, route: DefaultRoute, config: TenantConfig) -> Iterator[tuple[Path, str]]:
    sources = {words[-1] for words in words_of(route, list(config.tools))} if isinstance(route, Route) else set(at[1:])
    if len(sources) == 1 and (only := str(next(iter(sources)))) in route.failover:
        where = (*at, "failover", route.failover.index(only))
        yield where, f"these tickets come from {only}: failing over to it would mirror them onto themselves, which does nothing"


def _unreached(config: TenantConfig) -> Iterator[tuple[Path, str]]:
    """Routes that can never decide: earlier ones match whatever they match."""
    for index, takers in unreached(config.routes, list(config.tools)):
        names = " and ".join(repr(config.routes[before].name) for before in takers)
        if takers:
            yield ("routes", index), f"is never reached: {names} {'matches' if len(takers) == 1 else 'match'} first"
        else:
            yield ("routes", index), "matches no ticket that could come"


def _circles(config: TenantConfig) -> Iterator[tuple[Path, str]]:
    """Tools that mirror into each other: echoes are told apart, but every person's change is written back and forth once."""
    edges: dict[tuple[str, str], Path] = {}
    for index, route in enumerate(config.routes):
        if route.to is None or "mirror" not in route.do or "tool" not in route.match:
            continue
        for source in sorted({words[-1] for words in words_of(route, list(config.tools))}):
            edges.setdefault((source, route.to), ("routes", index))
    for (source, target), path in edges.items():
        if source != target and (target, source) in edges and edges[target, source] < path:
            yield path, f"{target} is mirrored to {source} too: a loop; each tool then needs its `actor` set, or changes may go round"


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [] if value is None else [value]
