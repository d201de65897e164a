"""What a route asks of the delivery rather than of the ticket: when it was received (`window`), and its share (`percent`). Pure.

Both are judged by what stands in the event for ever, its received_at and its key, so a re-read and a replay judge alike.

    window: {days: [mon, fri], from: "08:00", to: "18:00", zone: Europe/Berlin}
        days are single days, or ranges in quotes: ["mon-fri"]; without days every day, without from and to the whole day. `to` is
        not included; a window whose `to` is not after its `from` ends on the next day and belongs to the day it began on.
        A received time is an instant: where a zone's clock is put back, both passes of an hour are in the window or neither is.
    percent: 20
        that share of all tickets, by a hash of the route's name and the key: one ticket always falls on the same side, two routes
        divide independently, and a larger percentage keeps the tickets it had.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streams.routing.conditions import ConditionError

Gate = Callable[[bytes, int], str | None]
"""Asked with an event's key and its received_at in epoch microseconds: why it does not pass, None where it does."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHARES = 10_000
MINUTE_US = 60_000_000
WINDOW_KEYS = frozenset({"days", "from", "to", "zone"})
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)|24:00")


def compile_window(window: Mapping[str, Any]) -> Gate:
    """The gate of a `window`. Raises ConditionError."""
    if unknown := sorted(map(str, window.keys() - WINDOW_KEYS)):
        raise ConditionError(f"{unknown[0]!r} is not part of a window; it has days, from, to and zone")
    if not window.keys() & {"days", "from", "to"}:
        raise ConditionError("says no time; give days, or from and to")
    days = _days(window["days"]) if "days" in window else frozenset(range(7))
    begin, end = _minute(window.get("from", "00:00")), _minute(window.get("to", "24:00"))
    if begin == 24 * 60 or end == 0:
        raise ConditionError("a window begins before 24:00 and ends after 00:00")
    zone = _zone(window.get("zone", "UTC"))
    shown = f"{window.get('zone', 'UTC')}"

    @lru_cache(maxsize=64)
    def why_not(minute_since_epoch: int) -> str | None:
        received_at = minute_since_epoch * MINUTE_US
        local = (EPOCH + timedelta(microseconds=received_at)).astimezone(zone)
        day, minute = local.weekday(), local.hour * 60 + local.minute
        if begin < end:
            inside = begin <= minute < end and day in days
        else:
            inside = (minute >= begin and day in days) or (minute < end and (day - 1) % 7 in days)
        return None if inside else f"received {DAYS[day]} {local:%H:%M} {shown}, outside the window"

    # Events come in the order of their minutes, and a zone's clock stands at whole minutes: one look a minute is enough.
    return lambda key, received_at: why_not(received_at // MINUTE_US)


def compile_percent(percent: Any, route: str) -> Gate:
    """The gate of a `percent`, 0 < percent <= 100, to the hundredth. Raises ConditionError."""
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 < percent <= 100:
        raise ConditionError("must be a number above 0 and at most 100")
    below = round(percent * SHARES / 100)
    if below == 0:
        raise ConditionError("must be at least 0.01")
    salt = blake2b(route.encode(), digest_size=16).digest()

    def gate(key: bytes, received_at: int) -> str | None:
        share = int.from_bytes(blake2b(key, digest_size=8, key=salt).digest()) % SHARES
        return None if share < below else f"its key falls at {share / SHARES:.2%}, outside the first {percent:g} %"

    return gate


def _days(given: Any) -> frozenset[int]:
    found: set[int] = set()
    for item in given if isinstance(given, (list, tuple)) else [given]:
        first, dash, last = str(item).strip().casefold().partition("-")
        begin, end = _day(first), _day(last) if dash else _day(first)
        found.update((begin + n) % 7 for n in range((end - begin) % 7 + 1))
    if not found:
        raise ConditionError("days is an empty list; take it out for every day")
    return frozenset(found)


def _day(word: str) -> int:
    short = word.strip()[:3]
    if short not in DAYS:
        raise ConditionError(f"{word!r} is not a day; use {', '.join(DAYS)}")
    return DAYS.index(short)


def _minute(text: Any) -> int:
    found = _CLOCK.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ConditionError(f'{text!r} is not a time of day; write it in quotes, as in "08:30"')
    return int(found[1]) * 60 + int(found[2]) if found[1] else 24 * 60


def _zone(name: Any) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConditionError(f"{name!r} is no time zone known here; use a name such as Europe/Berlin") from None
