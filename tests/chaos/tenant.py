"""Which tools a run plays, and the tenant that uses them: a ring, each tool mirrored to the next and to the one after. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

TOOL_TYPES = ("zendesk", "jira", "servicedesk_plus", "servicenow", "freshservice", "freshdesk", "topdesk", "sysaid", "cherwell")
DRAWN = 4
ROUND = 5
"""So many seeds in a row, from 1 on, play every tool at least twice."""
Effect = tuple[str, str]
"""Target tool and kind: mirror, note or enrich."""


def drawn(seed: int, count: int = DRAWN) -> list[str]:
    """The tools of a seed, in the ring's order. A round of seeds deals all tools out in an order of its own, over and over."""
    turn, place = divmod(seed - 1, ROUND)
    order = random.Random(turn).sample(TOOL_TYPES, len(TOOL_TYPES))
    return [order[(place * DRAWN + n) % len(order)] for n in range(min(count, len(order)))]


def rules(ring: Sequence[str]) -> dict[str, Any]:
    """A tenant's rules: by priority mirrored and noted, fanned out to two targets, enriched, or noted where the ticket is."""
    routes: list[dict[str, Any]] = []
    for tool, following, after in _neighbours(ring):
        routes += [
            {"name": f"{tool} urgent", "match": {"tool": tool, "priority": "P1"}, "to": following, "do": ["mirror", "note"]},
            {"name": f"{tool} high", "match": {"tool": tool, "priority": "P2"}, "to": following, "do": ["mirror"], "continue": True},
            {"name": f"{tool} high, too", "match": {"tool": tool, "priority": "P2"}, "to": after, "do": ["mirror", "enrich", "note"]},
            {"name": f"{tool} low", "match": {"tool": tool, "priority": "P4"}, "to": tool, "do": ["enrich", "note"]},
        ]
    return {"routes": routes, "defaults": {tool: {"to": tool, "do": ["note"]} for tool in ring}}


def wanted_effects(ring: Sequence[str], tool: str, rule: str | None) -> list[Effect]:
    """What the rules ask for, for an event of a tool whose first decision is this rule's."""
    following, after = next((f, a) for name, f, a in _neighbours(ring) if name == tool)
    match (rule or "").removeprefix(f"{tool} "):
        case "urgent":
            return [(following, "mirror"), (following, "note")]
        case "high":
            return [(following, "mirror"), (after, "mirror"), (after, "enrich"), (after, "note")]
        case "low":
            return [(tool, "enrich"), (tool, "note")]
    return [(tool, "note")]


def _neighbours(ring: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for n, tool in enumerate(ring):
        yield tool, ring[(n + 1) % len(ring)], ring[(n + 2) % len(ring)]
