"""Price plans: dated, exact, and strict when read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from analytics.prices import PriceBook, PriceError, packaged

BOOK = PriceBook.parse(
    """
    currency: EUR
    plans:
      - {tool_type: jira, from: 2026-03-01, per_api_call: "0.0020"}
      - {tool_type: jira, from: 2026-01-01, per_api_call: 0.0010, per_call: {create_ticket: 0.05}}
      - {from: 2025-01-01T12:00:00+02:00, per_api_call: "0.0000004"}
    """
)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("tool_type", "method", "api_calls", "when", "micros"),
    [
        ("jira", "get_ticket", 3, "2026-02-01", 3000),
        ("jira", "create_ticket", 1, "2026-02-28T23:59:59", 51_000),
        ("jira", "create_ticket", 1, "2026-03-01", 2000),
        ("jira", "create_ticket", 1, "2025-12-31", 0),
        ("snow", "get_ticket", 1, "2026-01-01", 0),
        ("snow", "get_ticket", 10, "2026-01-01", 4),
        ("snow", "get_ticket", 10, "2025-01-01T09:59:59", 0),
        ("snow", "get_ticket", 10, "2025-01-01T10:00:00", 4),
    ],
)
def test_a_call_costs_what_the_plan_of_its_time_says(tool_type: str, method: str, api_calls: int, when: str, micros: int) -> None:
    """A new price never rewrites the past: the plan is chosen by the call's own start."""
    assert BOOK.price(tool_type, method, api_calls, at(when)) == micros


def test_the_packaged_prices_are_readable_and_small() -> None:
    """The default is a placeholder charge, but a charge, so that the cost columns are seen to work."""
    assert packaged().currency == "EUR"
    assert packaged().price("zendesk", "create_ticket", 2, at("2026-11-24")) == 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a", "mapping"),
        ("currency: [", "YAML"),
        ("prices: {}", "unknown key prices"),
        ("plans: [{from: soon}]", "plan 1: from"),
        ("plans: [{from: 2026-01-01, per_api_call: free}]", "per_api_call must be an amount"),
        ("plans: [{from: 2026-01-01, per_api_call: -1}]", "between"),
        ("plans: [{from: 2026-01-01, per_call: 3}]", "per_call"),
        ("plans: [{from: 2026-01-01, per_call: {get_ticket: .nan}}]", "per_call.get_ticket"),
        ("plans: [{from: 2026-01-01}, {from: 2026-01-01}]", "plan 2"),
        ("plans: [7]", "plan 1"),
    ],
)
def test_a_price_file_with_a_mistake_is_refused_with_its_place(text: str, words: str) -> None:
    """A typo must not silently make calls free."""
    with pytest.raises(PriceError, match=words):
        PriceBook.parse(text)
