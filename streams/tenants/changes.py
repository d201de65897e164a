"""What differs between two versions of a tenant's configuration, path by path. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Difference:
    """One place that differs; `before` or `after` is None where there was, or is, nothing. Secrets are references in both."""

    path: str
    change: str
    before: Any = None
    after: Any = None


def differences(before: str, after: str) -> list[Difference]:
    """Between two recorded configurations (JSON; empty text is none), in the order of their paths.

    Routes are told apart by their names: a moved route is one difference, not one for each that it passed.
    """
    return list(_compare("", json.loads(before or "{}"), json.loads(after or "{}")))


def _compare(path: str, before: Any, after: Any) -> Iterator[Difference]:
    if before == after:
        return
    if path == "routes" and isinstance(before, list) and isinstance(after, list):
        yield from _routes(before, after)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            here = f"{path}.{key}" if path else key
            if key not in before:
                yield Difference(here, "added", after=after[key])
            elif key not in after:
                yield Difference(here, "removed", before=before[key])
            else:
                yield from _compare(here, before[key], after[key])
    else:
        yield Difference(path, "changed", before, after)


def _routes(before: list[Any], after: list[Any]) -> Iterator[Difference]:
    was = {route["name"]: (place, route) for place, route in enumerate(before)}
    now = {route["name"]: (place, route) for place, route in enumerate(after)}
    for name, (_, route) in was.items():
        if name not in now:
            yield Difference(f"routes[{name}]", "removed", before=route)
    for name, (_, route) in now.items():
        if name not in was:
            yield Difference(f"routes[{name}]", "added", after=route)
        else:
            yield from _compare(f"routes[{name}]", was[name][1], route)
    kept_before = [name for name in was if name in now]
    kept_after = [name for name in now if name in was]
    if kept_before != kept_after:
        yield Difference("routes", "reordered", before=kept_before, after=kept_after)


def as_yaml(config: str) -> list[str]:
    """A recorded configuration as lines of YAML, for a diff that people read."""
    if not config:
        return []
    text: str = yaml.safe_dump(json.loads(config), sort_keys=True, allow_unicode=True, default_flow_style=False, width=140)
    return text.splitlines()


def summary(found: list[Difference]) -> str:
    """Differences in a few words: `2 routes changed, 1 tool added`."""
    counts: dict[tuple[str, str], set[str]] = {}
    for difference in found:
        root = difference.path.partition(".")[0].partition("[")[0]
        part = (
            difference.path.split(".")[1] if root in {"tools", "defaults"} and "." in difference.path else difference.path.partition(".")[0]
        )
        direct = difference.path.count(".") == (1 if root in {"tools", "defaults"} else 0)
        counts.setdefault((root, difference.change if direct else "changed"), set()).add(part)
    words = []
    for (root, change), parts in sorted(counts.items()):
        if root in {"tools", "routes", "defaults", "examples"} and change != "reordered":
            words.append(f"{len(parts)} {root if len(parts) > 1 else root.removesuffix('s')} {change}")
        else:
            words.append(f"{root} {change}")
    return ", ".join(words)
