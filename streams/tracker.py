"""Which offset of a partition may be committed: the end of the unbroken, finished beginning of what was delivered. Pure."""

from __future__ import annotations

from collections import deque


class Unit:
    """A run of records that is finished as a whole: one record, or one batch. Marking it twice, or late, does no harm."""

    __slots__ = ("done", "next_offset", "records")

    def __init__(self, next_offset: int, records: int) -> None:
        self.next_offset = next_offset
        self.records = records
        self.done = False


class PrefixTracker:
    """The chain of one partition since its assignment.

    `expected` is the offset the chain continues with: a batch that starts elsewhere must not be added. `committable` only ever
    grows, and never past a unit that is not done, so nothing that a fetch, a queue or a rebalance drops is passed over.
    """

    __slots__ = ("_safe", "_units", "expected", "pending")

    def __init__(self, start: int) -> None:
        self.expected = start
        self.pending = 0
        """Records delivered and not yet part of the finished beginning."""
        self._safe = start
        self._units: deque[Unit] = deque()

    def add(self, next_offset: int, records: int) -> Unit:
        """Appends the records up to next_offset (exclusive); ValueError when that would go backwards."""
        if next_offset <= self.expected:
            raise ValueError(f"chain is at {self.expected}, cannot go on to {next_offset}")
        unit = Unit(next_offset, records)
        self._units.append(unit)
        self.expected = next_offset
        self.pending += records
        return unit

    def committable(self) -> int:
        """The offset to commit: everything before it is finished."""
        units = self._units
        while units and units[0].done:
            unit = units.popleft()
            self._safe = unit.next_offset
            self.pending -= unit.records
        return self._safe
