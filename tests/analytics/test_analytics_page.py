"""docs/analytics.md against the tables, the views and the price files."""

from __future__ import annotations

import re
from pathlib import Path

from analytics import tables, views
from analytics.prices import PriceBook

PAGE = (Path(__file__).parents[2] / "docs" / "analytics.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]


def test_each_table_is_described_as_it_is() -> None:
    """Columns are what people write queries with."""
    shown = {row[0].strip("`"): row[1:] for row in ROWS if len(row) == 4}
    assert shown == {
        table.name: [", ".join(table.names[: table.key]), ", ".join(table.names[table.key :]), table.doc] for table in tables.ALL
    }


def test_each_view_says_what_its_file_says() -> None:
    """One sentence, in one place."""
    shown = {row[0].strip("`"): row[1] for row in ROWS if len(row) == 2}
    said = {}
    for name, text in views.definitions().items():
        comment = re.match(r"(?:-- .*\n)+", text)
        assert comment is not None
        said[name] = " ".join(line.removeprefix("-- ") for line in comment[0].splitlines())
    assert shown == said


def test_the_price_file_shown_can_be_used() -> None:
    """People copy it."""
    block = re.search(r"```yaml\n(currency:.*?)```", PAGE, re.DOTALL)
    assert block is not None
    assert PriceBook.parse(block[1]).price("jira", "create_ticket", 1, 1_770_000_000_000_000) == 51_000
