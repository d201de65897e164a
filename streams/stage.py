"""What a stage is: the work of one process on batches of one partition each. Subclassed by streams/agents, run by streams/runner.py.

It is told of each assigned partition before that partition's first batch (the gate, where caches are caught up), gets batches in
order, one partition at a time, and marks them done. It never raises for a record's sake.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from streams.tracker import Unit

if TYPE_CHECKING:
    from streams.runner import Runner

STALL_SECONDS = 30.0


class Record(Protocol):
    """What a stage reads of a fetched record."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...
    @property
    def timestamp(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Assignment:
    """A partition given to this process. `start` is the first offset to read; `assigned_at` in epoch microseconds."""

    topic: str
    partition: int
    start: int
    end: int
    assigned_at: int


@dataclass(slots=True, eq=False)
class Batch:
    """One partition's fetched records, in offset order."""

    assignment: Assignment
    records: list[Record]
    _units: Mapping[int, Unit] | Unit
    _latencies: deque[float] = field(default_factory=deque)
    _begun: float = field(default_factory=time.perf_counter)

    @property
    def topic(self) -> str:
        return self.assignment.topic

    @property
    def partition(self) -> int:
        return self.assignment.partition

    def done(self) -> None:
        """Everything in the batch is durable downstream."""
        self._latencies.append(time.perf_counter() - self._begun)
        if isinstance(self._units, Unit):
            self._units.done = True
        else:
            for unit in self._units.values():
                unit.done = True

    def record_done(self, offset: int) -> None:
        """One record is durable downstream; only for stages that are `per_record`."""
        self._latencies.append(time.perf_counter() - self._begun)
        cast("Mapping[int, Unit]", self._units)[offset].done = True


class Stage:
    """What a process does with batches; subclassed by streams/agents. Called on one event loop."""

    name: ClassVar[str]
    topics: ClassVar[tuple[str, ...]]
    per_record: ClassVar[bool] = False
    max_poll_records: ClassVar[int] = 2000
    max_pending: ClassVar[int] = 8000
    """Records of one partition that may be delivered and unfinished before its fetching waits."""
    linger: ClassVar[float] = 0.03
    """Seconds from a fetch that brought little to the next, else a thin stream costs a round trip and a commit for every record."""
    drain_on_revoke: ClassVar[float] = 20.0
    drain_on_stop: ClassVar[float] = 7.0
    stall_after: ClassVar[float] = STALL_SECONDS
    """Seconds without progress, with work waiting, after which the process ends."""

    runner: Runner
    """Set before `start`: alarms, counters, `crash`."""

    async def start(self) -> None:
        """Connect what the stage needs; the broker is reachable."""

    async def stop(self) -> None:
        """Let go of what `start` took."""

    async def positions(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int | None]:
        """First offsets to read where the stage, not the group, knows them; others start at the group's committed offset.

        None means the log's start, wherever that is: a partition the stage has never read.
        """
        return {}

    async def assigned(self, assignment: Assignment) -> None:
        """The gate: returns when this partition's first batch may come. Others go on meanwhile."""

    async def handle(self, batch: Batch) -> None:
        """Work on a batch, or hand it on; mark it done later. Batches of a partition come one after the other.

        UnknownFingerprint pauses the partition until `ready_again`; the same batch then comes again. Any other exception is a
        fault of ours: the process ends, and the batch is read again.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Called each second: alarms what an operator must see; what it raises ends the process."""

    async def ready_again(self, fingerprint: bytes) -> None:
        """Returns when records with this schema fingerprint can be decoded."""
        await asyncio.Event().wait()

    async def drain(self, timeout: float) -> None:
        """Begin nothing new; return when what was begun is finished, or when `timeout` seconds have passed."""
