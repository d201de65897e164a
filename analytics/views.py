"""The views, and typed readers over them. The SQL is in sql/*.sql, one file a view, the same text for every database."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources


@cache
def definitions() -> Mapping[str, str]:
    """Each view's SELECT by its name, without a range of days: all there is."""
    folder = resources.files("analytics") / "sql"
    names = sorted(p.name for p in folder.iterdir() if p.name.endswith(".sql"))
    return {name.removesuffix(".sql"): (folder / name).read_text(encoding="utf-8") for name in names}
