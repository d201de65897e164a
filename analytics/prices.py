"""Dated price plans: what a call costs, at the price of its own time. Pure; amounts are whole millionths of the plan's currency.

The process stage asks once, when the call is made, and the answer travels in the event: a price changed later changes nothing
that was counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib import resources
from typing import Any

import yaml

ANY_TOOL = "*"
_PER_MICRO = 1_000_000
"""Amounts are kept in millionths of a micro, so that a price below one micro still adds up within a call."""


class PriceError(ValueError):
    """A price file that cannot be used; the text names the plan and the key."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Prices from a time on, in trillionths of the currency."""

    since: int
    per_api_call: int
    per_call: Mapping[str, int]


class PriceBook:
    """Every plan, by tool type and time."""

    def __init__(self, currency: str, plans: Mapping[str, list[Plan]]) -> None:
        self.currency = currency
        self._plans = {tool: sorted(listed, key=lambda plan: plan.since) for tool, listed in plans.items()}
        self._starts = {tool: [plan.since for plan in listed] for tool, listed in self._plans.items()}

    def price(self, tool_type: str, method: str, api_calls: int, at: int) -> int:
        """The cost of one call that took `api_calls` requests and began at `at` (epoch microseconds); 0 before the first plan."""
        tool = tool_type if tool_type in self._plans else ANY_TOOL
        index = bisect_right(self._starts.get(tool, ()), at)
        if index == 0:
            return 0
        plan = self._plans[tool][index - 1]
        return (api_calls * plan.per_api_call + plan.per_call.get(method, 0) + _PER_MICRO // 2) // _PER_MICRO

    @staticmethod
    def parse(text: str) -> PriceBook:
        """Reads a price file; raises PriceError."""
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as exc:
            raise PriceError(f"not YAML: {exc}") from exc
        _only(document, "the file", {"currency", "plans"})
        plans: dict[str, list[Plan]] = {}
        for number, item in enumerate(document.get("plans") or [], 1):
            where = f"plan {number}"
            _only(item, where, {"tool_type", "from", "per_api_call", "per_call"})
            surcharges = item.get("per_call") or {}
            if not isinstance(surcharges, dict):
                raise PriceError(f"{where}: per_call must map methods to amounts")
            plan = Plan(
                _time(item.get("from"), where),
                _amount(item.get("per_api_call", 0), f"{where}: per_api_call"),
                {str(method): _amount(amount, f"{where}: per_call.{method}") for method, amount in surcharges.items()},
            )
            listed = plans.setdefault(str(item.get("tool_type", ANY_TOOL)), [])
            if any(plan.since == other.since for other in listed):
                raise PriceError(f"{where}: another plan of this tool type begins at the same time")
            listed.append(plan)
        return PriceBook(str(document.get("currency", "")), plans)


def _only(value: Any, where: str, keys: set[str]) -> None:
    if not isinstance(value, dict):
        raise PriceError(f"{where} must be a mapping with the keys {', '.join(sorted(keys))}")
    if unknown := sorted(set(map(str, value)) - keys):
        raise PriceError(f"{where}: unknown key {unknown[0]}; known are {', '.join(sorted(keys))}")


def _time(value: Any, where: str) -> int:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise PriceError(f"{where}: from must be a date or an ISO 8601 time") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise PriceError(f"{where}: from must be a date or an ISO 8601 time")
    moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000


def _amount(value: Any, where: str) -> int:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise PriceError(f"{where} must be an amount") from None
    if not amount.is_finite() or not 0 <= amount <= 1_000_000:
        raise PriceError(f"{where} must be between 0 and 1000000")
    return int(amount.scaleb(12).to_integral_value())


@cache
def packaged() -> PriceBook:
    """The prices shipped with this build."""
    return PriceBook.parse((resources.files("analytics") / "prices.yaml").read_text(encoding="utf-8"))


def price(tool_type: str, method: str, api_calls: int, at: int) -> int:
    """As PriceBook.price, with the prices shipped with this build."""
    return packaged().price(tool_type, method, api_calls, at)
