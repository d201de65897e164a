"""Windows and percentages: judged by what stands in the event, so a replay judges alike."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.routing.conditions import ConditionError
from streams.routing.gates import compile_percent, compile_window

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = {"days": ["mon-fri"], "from": "08:00", "to": "18:00", "zone": "Europe/Berlin"}


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("window", "moment", "inside"),
    [
        (OFFICE, "2026-11-23 08:00", True),  # a Monday
        (OFFICE, "2026-11-23 07:59:59.999999", False),
        (OFFICE, "2026-11-23 17:59:59", True),
        (OFFICE, "2026-11-23 18:00", False),
        (OFFICE, "2026-11-22 12:00", False),
        (OFFICE, "2026-07-20 08:00", True),  # summer time
        ({"days": ["sat", "sun"]}, "2026-11-22 12:00", True),
        ({"days": "fri-mon", "zone": "Europe/Berlin"}, "2026-11-23 12:00", True),
        ({"days": "fri-mon", "zone": "Europe/Berlin"}, "2026-11-24 12:00", False),
        ({"from": "22:00", "to": "06:00", "days": ["fri"], "zone": "Europe/Berlin"}, "2026-11-20 23:00", True),
        ({"from": "22:00", "to": "06:00", "days": ["fri"], "zone": "Europe/Berlin"}, "2026-11-21 05:59", True),
        ({"from": "22:00", "to": "06:00", "days": ["fri"], "zone": "Europe/Berlin"}, "2026-11-20 05:00", False),
        ({"from": "22:00", "to": "06:00", "days": ["fri"], "zone": "Europe/Berlin"}, "2026-11-21 23:00", False),
        ({"to": "24:00", "from": "20:00", "zone": "Europe/Berlin"}, "2026-11-21 23:59", True),
    ],
)
def test_a_window_is_the_tenants_own_clock(window: dict[str, Any], moment: str, inside: bool) -> None:
    """The end is not included; a window over midnight belongs to the day it begins on."""
    why = compile_window(window)(b"", at(moment))
    assert (why is None) is inside
    assert inside or "outside the window" in str(why)


def test_both_passes_of_a_repeated_hour_are_in_the_window() -> None:
    """On the last Sunday of October 02:30 comes twice; neither is more received than the other."""
    gate = compile_window({"from": "02:00", "to": "03:00", "zone": "Europe/Berlin"})
    first, second = at("2026-10-25 02:30"), at("2026-10-25 02:30", fold=1)
    assert second - first == timedelta(hours=1) / timedelta(microseconds=1)
    assert gate(b"", first) is None and gate(b"", second) is None


@pytest.mark.parametrize(
    ("window", "says"),
    [
        ({}, "says no time"),
        ({"zone": "Europe/Berlin"}, "says no time"),
        ({"from": "8"}, "'8' is not a time of day"),
        ({"from": 480}, "not a time of day"),
        ({"to": "24:30"}, "not a time of day"),
        ({"from": "24:00"}, "begins before 24:00"),
        ({"days": []}, "empty list"),
        ({"days": ["someday"]}, "'someday' is not a day"),
        ({"days": ["mon"], "zone": "Mars/Olympus"}, "no time zone known"),
        ({"days": ["mon"], "zone": "../../etc/passwd"}, "no time zone known"),
        ({"days": ["mon"], "until": "18:00"}, "'until' is not part"),
    ],
)
def test_a_window_that_means_nothing_is_refused(window: dict[str, Any], says: str) -> None:
    with pytest.raises(ConditionError, match=says):
        compile_window(window)


def test_a_percentage_takes_about_its_share() -> None:
    """To the hundredth, over keys as they come."""
    keys = [f"acme/desk/{n}".encode() for n in range(20_000)]
    for percent in (0.5, 20, 50, 100):
        taken = sum(compile_percent(percent, "trial")(key, 0) is None for key in keys)
        assert abs(taken / len(keys) - percent / 100) < 0.01


@given(st.binary(max_size=40), st.floats(0.01, 100), st.floats(0.01, 100))
def test_widening_a_percentage_keeps_the_tickets_it_had(key: bytes, one: float, other: float) -> None:
    """One ticket is on the same side for all its life, unless the share grows over it."""
    low, high = sorted((one, other))
    if compile_percent(low, "trial")(key, 0) is None:
        assert compile_percent(high, "trial")(key, 10**15) is None


def test_two_routes_divide_independently() -> None:
    """With one hash for both, the second half of a half would be empty."""
    keys = [f"acme/desk/{n}".encode() for n in range(10_000)]
    first, second = compile_percent(50, "a"), compile_percent(50, "b")
    both = sum(first(key, 0) is not None and second(key, 0) is None for key in keys)
    assert 0.2 < both / len(keys) < 0.3


@pytest.mark.parametrize("percent", [0, -1, 100.1, True, "20", None, 0.001])
def test_a_percentage_that_means_nothing_is_refused(percent: Any) -> None:
    with pytest.raises(ConditionError):
        compile_percent(percent, "r")
