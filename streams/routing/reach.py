"""Which tickets a route can be reached by: whether an earlier route takes them all, or some of them. Pure.

`covers` is sure where it says yes; where it cannot tell it says no. So what is called unreachable never decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Protocol

from schemas.ticket import TicketMetadata
from streams.routing.conditions import BOUNDS, ENUMS, MAPS, compile_condition, compile_match, compile_tool

Words = tuple[str, ...]
"""A type, a priority, a status, a change and a tool: all that an enumerated match can ask for."""


class RouteLike(Protocol):
    """What a configured route tells of when it applies."""

    @property
    def match(self) -> Mapping[str, Any]: ...
    @property
    def when(self) -> str | None: ...
    @property
    def window(self) -> Mapping[str, Any] | None: ...
    @property
    def percent(self) -> float | None: ...
    @property
    def continue_(self) -> bool: ...


def takes_the_rest(route: RouteLike) -> bool:
    """Whether the route ends the search for every ticket its `match` holds for."""
    return not route.continue_ and route.when is None and route.window is None and route.percent in (None, 100)


def words_of(route: RouteLike, tools: Iterable[str]) -> frozenset[Words]:
    """Every combination of enumerated words and tool that the route can match."""
    holds = compile_match({field: value for field, value in route.match.items() if field in ENUMS})
    of_tool = compile_tool(route.match["tool"]) if "tool" in route.match else None
    found = []
    for words in product(*(dict.fromkeys(ENUMS[field].values()) for field in ENUMS)):
        given: dict[str, Any] = dict(zip(ENUMS, words, strict=True))
        if holds(TicketMetadata(tenant_id="", ticket_id="", **given)):
            found += [(*map(str, words), tool) for tool in tools if of_tool is None or of_tool(tool)]
    return frozenset(found)


def covers(earlier: RouteLike, later: RouteLike) -> bool:
    """Whether the earlier route decides for every ticket the later one matches, as far as their fields of free form tell."""
    return takes_the_rest(earlier) and covers_fields(earlier, later)


def covers_fields(one: RouteLike, other: RouteLike) -> bool:
    """Whether all that `one` asks of fields of free form holds for every ticket that `other` matches."""
    return all(
        field in other.match and _within(field, other.match[field], value)
        for field, value in one.match.items()
        if field not in ENUMS and field != "tool"
    )


def may_meet(one: RouteLike, other: RouteLike) -> bool:
    """Whether one ticket can match both, as far as their fields of free form tell; a doubt counts as yes."""
    for field in one.match.keys() & other.match.keys():
        if field in ENUMS or field in {"tool", "tags"} or field.partition(".")[0] in MAPS:
            continue
        mine, theirs = _items(one.match[field]), _items(other.match[field])
        if not any(_is_pattern(item) for item in (*mine, *theirs)) and not {*map(_folded, mine)} & {*map(_folded, theirs)}:
            return False
    return True


def _within(field: str, value: Any, bigger: Any) -> bool:
    """Whether every value the one condition takes is taken by the other."""
    if value == bigger:
        return True
    if isinstance(value, Mapping) or isinstance(bigger, Mapping):
        return isinstance(value, Mapping) and isinstance(bigger, Mapping) and _range_within(value, bigger)
    holds = compile_condition(field, bigger)
    patterns = {_folded(item) for item in _items(bigger) if _is_pattern(item)}
    for item in _items(value):
        if _is_pattern(item):
            if _folded(item) not in patterns and "*" not in patterns:
                return False
        elif not holds(_ticket_with(field, item)):
            return False
    return True


def _range_within(inner: Mapping[str, Any], outer: Mapping[str, Any]) -> bool:
    """Only ranges of numbers are compared; of times, equal ones alone are told."""
    sides = ({BOUNDS.get(name, name): limit for name, limit in each.items()} for each in (inner, outer))
    mine, theirs = sides
    if not all(isinstance(limit, (int, float)) for limit in (*mine.values(), *theirs.values())):
        return False
    infinite = float("inf")
    low, high = max(mine.get("gte", -infinite), mine.get("gt", -infinite)), min(mine.get("lte", infinite), mine.get("lt", infinite))
    within = low >= theirs.get("gte", -infinite) and high <= theirs.get("lte", infinite)
    above = low > theirs["gt"] or mine.get("gt") == theirs["gt"] if "gt" in theirs else True
    below = high < theirs["lt"] or mine.get("lt") == theirs["lt"] if "lt" in theirs else True
    return within and above and below


def _ticket_with(field: str, value: Any) -> TicketMetadata:
    root, dot, name = field.partition(".")
    given: dict[str, Any] = {root: {name: value}} if dot else {field: (value,) if field == "tags" and value is not None else value}
    if field == "tags" and value is None:
        given = {"tags": ()}
    return TicketMetadata(tenant_id="", ticket_id="", **given) if field != "ticket_id" else TicketMetadata(tenant_id="", ticket_id=value)


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _is_pattern(item: Any) -> bool:
    return isinstance(item, Mapping) or (isinstance(item, str) and ("*" in item or "?" in item))


def _folded(item: Any) -> Any:
    return item.casefold() if isinstance(item, str) else item


def unreached(routes: Sequence[RouteLike], tools: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
    """Each route that can never decide, with the earlier routes that take its tickets. One that matches nothing has none."""
    reach = [words_of(route, tools) for route in routes]
    for index, route in enumerate(routes):
        takers = [before for before in range(index) if reach[index] & reach[before] and covers(routes[before], route)]
        alone = next((before for before in takers if reach[index] <= reach[before]), None)
        if alone is not None:
            yield index, [alone] if reach[index] else []
        elif reach[index] <= frozenset().union(*(reach[before] for before in takers)):
            yield index, takers


def shared(routes: Sequence[RouteLike], tools: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs (earlier, later) that some tickets match both of and neither takes all of the other's: the order decides for those."""
    reach = [words_of(route, tools) for route in routes]
    for later, route in enumerate(routes):
        for earlier in range(later):
            before = routes[earlier]
            if before.continue_ or not reach[earlier] & reach[later] or not may_meet(before, route):
                continue
            contained = reach[earlier] <= reach[later] and covers_fields(route, before)
            containing = reach[later] <= reach[earlier] and covers_fields(before, route)
            if not contained and not containing:
                yield earlier, later
