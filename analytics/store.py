"""What a store of the analytics tables promises, whichever database it is. `tests/contracts/store_contract.py` holds each to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from analytics.materializer import Prepared, Refusal
from analytics.tables import Table


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition's next record to be materialized is."""

    topic: str
    partition: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch did. `refused` non-empty means: nothing was written; set these records aside and apply the rest.

    `duplicates` and `late` count records that added nothing because they were known, or older than the retention horizon.
    """

    next_offset: int
    records: int = 0
    duplicates: int = 0
    late: int = 0
    refused: tuple[Refusal, ...] = ()


class StoreError(Exception):
    """Root of what a store raises. Nothing was written when it is raised."""


class StoreBusy(StoreError):
    """Another process holds the write lock; try again."""


class StoreFull(StoreError):
    """The disk is full; goes on once there is room."""


class StoreUnavailable(StoreError):
    """The database cannot be opened, read or written now; the text says why."""


class StoreTooNew(StoreError):
    """The tables were made by a newer release than this one."""


class PositionLost(StoreError):
    """The partition is not where this process left it: another one materializes it, so this one must let go of it."""

    def __init__(self, topic: str, partition: int, expected: int) -> None:
        super().__init__(f"{topic}/{partition} is no longer at offset {expected}: another materializer moved it on; letting it go")
        self.topic = topic
        self.partition = partition


class AnalyticsStore(Protocol):
    """The tables, written by one materializer a partition. Methods block; one thread at a time."""

    def assign(self, topic: str, partition: int) -> Position:
        """Begins with a partition: where to read from. A partition never seen begins at offset 0."""
        ...

    def restart(self, topic: str, partition: int, next_offset: int) -> None:
        """Sets an assigned partition's position back: the topic was made anew, and its offsets mean other records now.

        What was counted stays; records that were in the tables are known by their ids.
        """
        ...

    def apply(self, batch: Prepared) -> Applied:
        """Writes a batch's rows and its position in one transaction, or nothing.

        Records below the position are left out, and so are rows already there, so a record read or sent twice counts once.
        Raises PositionLost, StoreBusy, StoreFull, StoreUnavailable.
        """
        ...

    def keep_from(self, horizon: int, at_most: int | None = None) -> int:
        """Deletes facts received before `horizon` (epoch microseconds), and from now on refuses such; answers how many rows went.

        No more than `at_most` rows at a call, so that batches can be written in between; 0 says that none is left. Rollups stay. The
        horizon never moves back.
        """
        ...

    def horizon(self) -> int:
        """Facts received before this are refused; 0 when all are kept."""
        ...

    def rows(self, table: Table) -> Sequence[tuple[Any, ...]]:
        """Every row of a table, in key order; for tests and small tables."""
        ...

    def close(self) -> None:
        """Lets go of the database."""
        ...
