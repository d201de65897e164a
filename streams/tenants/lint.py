"""What is allowed in a tenant's configuration and yet probably not meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from plugins.manifest import PluginManifest
from streams.tenants.config import DefaultRoute, TenantConfig
from streams.tenants.yaml_source import Path, Problem, YamlSource

TELLS_DEVICES = frozenset({"cmdb", "assets"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def lint(config: TenantConfig, source: YamlSource, plugins: Mapping[str, PluginManifest] | None = None) -> list[Problem]:
    """Warnings in the order of the file; none of them stops an apply. With the plugins' manifests, what their tools cannot do too."""
    warnings = [*_warnings(config), *(_poor_contexts(config, plugins) if plugins is not None else ())]
    return sorted(source.problem(path, message) for path, message in warnings)


def _warnings(config: TenantConfig) -> Iterator[tuple[Path, str]]:
    targets = {route.to for route in config.routes}
    if config.default is None:
        yield ("tenant",), "no default: a ticket that no route matches becomes a dead letter (unroutable)"
    else:
        targets.add(config.default.to)
    for name, tool in config.tools.items():
        at = ("tools", name)
        if not tool.webhook and name not in targets:
            yield at, "no webhook and no route leads here: this tool is never used"
        if name in targets and not tool.base_url:
            yield at, "routes lead here, but it has no base_url"
        address = urlsplit(tool.base_url or "")
        if address.scheme == "http" and address.hostname not in LOOPBACK:
            yield (*at, "base_url"), "credentials and tickets travel unencrypted; use https"
    for index, route in enumerate(config.routes):
        if route.failover or (config.default and config.default.failover):
            yield ("routes", index, "failover"), "failover is recorded with each decision and not yet acted upon"
            break
    yield from _unreachable(config)


def _poor_contexts(config: TenantConfig, plugins: Mapping[str, PluginManifest]) -> Iterator[tuple[Path, str]]:
    """Routes that ask for a context of which no tool in question knows the devices."""
    telling = {name for name, tool in config.tools.items() if (m := plugins.get(tool.type)) and TELLS_DEVICES & set(m.capabilities)}
    sources = {name for name, tool in config.tools.items() if tool.webhook}
    routes: list[tuple[Path, DefaultRoute]] = [(("routes", index), route) for index, route in enumerate(config.routes)]
    if config.default is not None:
        routes.append((("default",), config.default))
    for at, route in routes:
        if "enrich" in route.do and not telling & (sources | {route.to}):
            yield (*at, "do"), f"neither {route.to} nor any source tells devices: `enrich` writes the ticket's own facts only"


def _unreachable(config: TenantConfig) -> Iterator[tuple[Path, str]]:
    """Routes that can never decide: an earlier one matches whatever they match, because its conditions are a subset of theirs."""
    for index, route in enumerate(config.routes):
        conditions = route.match.items()
        for before in config.routes[:index]:
            if all(condition in conditions for condition in before.match.items()):
                yield ("routes", index), f"is never reached: {before.name!r} matches first"
                break
