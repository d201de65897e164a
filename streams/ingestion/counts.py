"""What the door accepted, spooled and refused: by window for ingestion.counts.v1, and since its start for /metrics.

Refusals leave no other trace. A killed door loses the window it was in. Names that callers chose and nobody configured are never
counted under: they would grow without bound.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from schemas.events import IngestionCounts

LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the answer-time histogram, in seconds."""


@dataclass(slots=True)
class ToolCounts:
    """One tool's counts in one window. `refused` by reason."""

    accepted: int = 0
    spooled: int = 0
    refused: dict[str, int] = field(default_factory=dict)


class Counts:
    """Counts by tenant and tool; an unknown tenant counts under ("", ""), an unknown tool under (tenant, "")."""

    def __init__(self, instance: str, now: int) -> None:
        self._instance = instance
        self._window_start = now
        self._window: dict[tuple[str, str], ToolCounts] = {}
        self._totals: dict[tuple[str, str], ToolCounts] = {}
        self.latency_buckets = [0] * (len(LATENCY_BOUNDS) + 1)
        self.latency_sum = 0.0

    def of(self, names: tuple[str, str]) -> ToolCounts:
        """This window's counts of a tenant's tool, to add to."""
        counts = self._window.get(names)
        if counts is None:
            counts = self._window[names] = ToolCounts()
        return counts

    def refuse(self, tenant: str, tool: str, reason: str) -> None:
        """One refused request."""
        refused = self.of((tenant, tool)).refused
        refused[reason] = refused.get(reason, 0) + 1

    def answered(self, seconds: float) -> None:
        """One accepted request's time at the door."""
        self.latency_buckets[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.latency_sum += seconds

    def take(self, now: int) -> list[IngestionCounts]:
        """Ends the window at `now` (epoch microseconds), adds it to the totals and answers its records; none for a quiet one."""
        window, self._window = self._window, {}
        start, self._window_start = self._window_start, now
        _add(self._totals, window)
        return [
            IngestionCounts(
                tenant=tenant,
                tool=tool,
                instance=self._instance,
                window_start=start,
                window_us=now - start,
                accepted=counts.accepted,
                spooled=counts.spooled,
                refused=counts.refused,
            )
            for (tenant, tool), counts in window.items()
        ]

    def so_far(self) -> dict[tuple[str, str], ToolCounts]:
        """Counts since the start, the running window included."""
        sums: dict[tuple[str, str], ToolCounts] = {}
        _add(sums, self._totals)
        _add(sums, self._window)
        return sums


def _add(sums: dict[tuple[str, str], ToolCounts], more: dict[tuple[str, str], ToolCounts]) -> None:
    for key, counts in more.items():
        total = sums.setdefault(key, ToolCounts())
        total.accepted += counts.accepted
        total.spooled += counts.spooled
        for reason, count in counts.refused.items():
            total.refused[reason] = total.refused.get(reason, 0) + count
