"""Which price file is in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics.prices import PriceError, packaged
from streams.pricing import VARIABLE, price_book


def test_the_shipped_prices_hold_until_another_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable, for every process that prices calls."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert price_book() is packaged()
    chosen = tmp_path / "prices.yaml"
    chosen.write_text("{currency: CHF, plans: [{from: 2020-01-01, per_api_call: 1}]}")
    monkeypatch.setenv(VARIABLE, str(chosen))
    assert price_book().currency == "CHF"
    assert price_book().price("jira", "get_ticket", 2, 1_800_000_000_000_000) == 2_000_000


@pytest.mark.parametrize("content", [None, "plans: [1]"])
def test_a_price_file_that_cannot_be_used_stops_the_start_and_is_named(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls made for nothing, because of a typo, could not be priced later."""
    chosen = tmp_path / "mine.yaml"
    if content is not None:
        chosen.write_text(content)
    monkeypatch.setenv(VARIABLE, str(chosen))
    with pytest.raises(PriceError, match=r"AI_AGENTS_PRICES.*mine\.yaml"):
        price_book()
