"""What is allowed in a tenant's configuration and yet probably not meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from streams.tenants.config import TenantConfig
from streams.tenants.yaml_source import Path, Problem, YamlSource

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def lint(config: TenantConfig, source: YamlSource) -> list[Problem]:
    """Warnings in the order of the file; none of them stops an apply."""
    return sorted(source.problem(path, message) for path, message in _warnings(config))


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


def _unreachable(config: TenantConfig) -> Iterator[tuple[Path, str]]:
    """Routes that can never decide: an earlier one matches whatever they match, because its conditions are a subset of theirs."""
    for index, route in enumerate(config.routes):
        conditions = route.match.items()
        for before in config.routes[:index]:
            if all(condition in conditions for condition in before.match.items()):
                yield ("routes", index), f"is never reached: {before.name!r} matches first"
                break
