"""Cherwell's times: text in the server's culture and zone, as a person there would write it. Pure, but for the zone's table."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from typing import Final

from plugins.api import PluginConfigError
from plugins.mapping import to_micros

MONTH_FIRST: Final = frozenset({"en-us", "en-ph", "es-us", "fil-ph"})
_TEXT = re.compile(
    r"(\d{1,4})[-/. ](\d{1,2})[-/. ](\d{1,4})\.?(?:,?\s+(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?(?:\s*([AaPp])\.?\s?[Mm]\.?)?)?",
)


class CultureTimes:
    """Reads times by the settings `culture` and `time_zone`."""

    def __init__(self, culture: str, zone: str) -> None:
        self._month_first = culture.lower() in MONTH_FIRST
        self._zone_name = zone

    @cached_property
    def _zone(self) -> tzinfo:
        if self._zone_name.upper() in ("UTC", "GMT", "Z"):
            return UTC
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # reads a file: with the first time, not with the plugin

        try:
            return ZoneInfo(self._zone_name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise PluginConfigError(f"time_zone {self._zone_name[:60]!r} is no zone of the IANA list, such as Europe/Amsterdam") from None

    def micros(self, value: object) -> int | None:
        """Epoch microseconds; None for what is no time. ISO 8601 with an offset is taken as it says."""
        if not isinstance(value, str):
            return to_micros(value)
        found = _TEXT.fullmatch(value.strip()[:40])
        if found is None:
            return self._iso(value)
        first, second, third = (int(part) for part in found.group(1, 2, 3))
        if len(found[1]) == 4:
            year, month, day = first, second, third
        else:
            month, day = (first, second) if self._month_first else (second, first)
            year = third if len(found[3]) == 4 else 2000 + third
        hour, minute, seconds = int(found[4] or 0), int(found[5] or 0), int(found[6] or 0)
        if found[7]:
            hour = hour % 12 + (12 if found[7] in "pP" else 0)
        try:
            moment = datetime(year, month, day, hour, minute, seconds, tzinfo=self._zone)
        except ValueError:
            return None
        return int(moment.timestamp()) * 1_000_000

    def _iso(self, value: str) -> int | None:
        """Without an offset it is the server's own time too."""
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            return to_micros(value)
        return to_micros(value) if moment.tzinfo is not None else int(moment.replace(tzinfo=self._zone).timestamp() * 1_000_000)
