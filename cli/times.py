"""Times on the command line: absolute (ISO 8601) or relative (90s, 15m, 2h, 7d, 4w ago), and how they are printed. Always UTC."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class When(click.ParamType):
    """A point in time as epoch microseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if relative := re.fullmatch(r"(\d{1,6})([smhdw])", value):
            return time.time_ns() // 1000 - int(relative[1]) * _UNITS[relative[2]] * 1_000_000
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a time such as 2026-11-24T10:00Z nor an age such as 2h or 7d", param, ctx)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def iso(micros: int | None) -> str | None:
    """A time as people read it, to the millisecond."""
    if not micros:
        return None
    return datetime.fromtimestamp(micros / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
