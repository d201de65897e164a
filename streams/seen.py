"""What each partition has seen, for dedup: tickets.seen.v1, cached on disk and followed in memory.

The topic is the truth. Decisions on their way to it are held in memory, so that later batches see them; once the broker has
acknowledged them, they go into the table (streams/seen_table.py) together with the position. So the file may be lost, stale or
another worker's: a partition is caught up from the topic before its first decision.
"""

from __future__ import annotations

import logging
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from schemas.codec import HEADER_BYTES, Codec, Undecodable
from schemas.events import SeenOutcome
from schemas.hotpath_seen import (
    BODY_SCOPE,
    SEEN_HEADER,
    SeenPart,
    decode_batch_seen,
    find_seen_by_event,
    find_seen_by_key,
    newest_received_at,
)
from streams.routing.dedup import DedupWindow, Mark, event_key
from streams.seen_table import BatchRow, SeenCacheFull, SeenCacheUnusable, SeenTable

log = logging.getLogger("ai_agents.seen")

FLUSH_ROWS = 20_000
FLUSH_SECONDS = 5.0
CATCH_UP_ROWS = 40_000
MAX_HELD_ROWS = 1_000_000
MAX_IN_FLIGHT = 20_000
"""More records than can be decided of a partition and not yet committed; bounds how far a re-read looks."""
LATE_US = 6 * 3_600_000_000
"""How much longer than the window records are kept: a spool drains when the broker is back, so an event may be decided late."""


class SeenSource(Protocol):
    """One partition of tickets.seen.v1, as far as catching up needs it."""

    async def bounds(self) -> tuple[int, int]:
        """First offset kept, and the end offset now."""
        ...

    async def offset_at(self, time_us: int) -> int | None:
        """First offset whose record was appended at or after this time; None when there is none."""
        ...

    def read(self, start: int, end: int) -> AsyncIterator[Sequence[tuple[int, bytes | None]]]:
        """The records from start to below end, in offset order, in chunks."""
        ...


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What a catch-up did. `decided_upto`: received offsets below it were decided before this assignment."""

    records: int
    rebuilt: bool
    decided_upto: int


@dataclass(slots=True, eq=False)
class Flight:
    """A decided batch on its way: sent, and later acknowledged at `seen_offset`."""

    value: bytes
    first_offset: int
    next_offset: int
    received_max: int
    marks: dict[bytes, Mark]
    seen_offset: int = -1


@dataclass(slots=True)
class _Lane:
    """One partition of this process."""

    decided_upto: int
    marks: dict[bytes, Mark] = field(default_factory=dict)
    flights: deque[Flight] = field(default_factory=deque)


class SeenCache:
    """The cache of one process; one thread. `path` None keeps it in memory."""

    def __init__(self, path: Path | None, codec: Codec, window: DedupWindow | None = None) -> None:
        self.window = window or DedupWindow()
        self._codec = codec
        self._table = SeenTable(path, self.window.delivery_us)
        self._lanes: dict[int, _Lane] = {}
        self._held = 0
        self._flushed_at = time.monotonic()
        self._full_said = False

    # --- deciding --------------------------------------------------------------------------------------------------------

    def known(self, partition: int, keys: Sequence[bytes]) -> dict[bytes, Mark]:
        """The marks of those keys of one batch that are known. The partition must have been caught up."""
        found = self._from_table(partition, keys)
        if held := self._lanes[partition].marks:
            found.update({key: held[key] for key in keys if key in held})
        return found

    def recorded(self, partition: int, first: int, after: int) -> dict[int, SeenPart]:
        """What was decided before this assignment for received offsets in [first, after), as far as the table still has it."""
        if first >= self._lanes[partition].decided_upto:
            return {}
        parts: dict[int, SeenPart] = {}
        for value in self._table.values_about(partition, first, after, MAX_IN_FLIGHT):
            for part in self._parts(value)[2]:
                if first <= (offset := part.offset) < after:
                    parts.setdefault(offset, part)  # of two deciders the first one on the topic counts
        return parts

    def decided_upto(self, partition: int) -> int:
        """Received offsets below this were decided before this assignment."""
        return self._lanes[partition].decided_upto

    def begin(self, partition: int, flight: Flight) -> None:
        """A batch is decided and its BatchSeen is being sent: later batches see its marks."""
        lane = self._lanes[partition]
        lane.flights.append(flight)
        lane.marks.update(flight.marks)
        self._held += len(flight.marks) + 1

    def acked(self, flight: Flight, seen_offset: int) -> None:
        """The broker has the flight's BatchSeen, at this offset. In any order, also after its partition was given up."""
        flight.seen_offset = seen_offset
        if self._held >= FLUSH_ROWS or time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes acknowledged batches to the table, in the topic's order and with the position.

        A full disk is said once and waited out: the table stays behind and the marks stay in memory, up to a bound; beyond it,
        and when the file is corrupt, SeenCacheUnusable.
        """
        self._flushed_at = time.monotonic()
        ready = {partition: flights for partition, lane in self._lanes.items() if (flights := _acknowledged(lane))}
        if not ready:
            return
        updates = {partition: self._update(flights) for partition, flights in ready.items()}
        horizon = {partition: max(f.received_max for f in flights) - self._horizon_us for partition, flights in ready.items()}
        try:
            self._table.write(updates, horizon)
        except SeenCacheFull as exc:
            if self._held > MAX_HELD_ROWS:
                raise SeenCacheUnusable(f"the dedup cache could not be written for {self._held} rows: {exc}") from exc
            if not self._full_said:
                log.error("the dedup cache cannot be written (%s); decisions go on from memory", exc)
            self._full_said = True
            return
        self._full_said = False
        for partition, flights in ready.items():
            lane = self._lanes[partition]
            for flight in flights:
                lane.flights.popleft()
                self._held -= len(flight.marks) + 1
                for key, mark in flight.marks.items():
                    if lane.marks.get(key) is mark:
                        del lane.marks[key]

    def _update(self, flights: Sequence[Flight]) -> tuple[dict[int, int], list[BatchRow], int]:
        """What `flights` change in the table. Somebody else's records between them (of a worker that has not yet heard that the
        partition is not its own any more) speak of offsets that are decided here too, and are passed over."""
        rows: dict[int, int] = {}
        for flight in flights:
            rows.update(dict.fromkeys(_heads(flight.marks), flight.seen_offset))
        batches = [BatchRow(f.seen_offset, f.first_offset, f.next_offset, f.received_max, f.value) for f in flights]
        return rows, batches, flights[-1].seen_offset + 1

    # --- partitions ------------------------------------------------------------------------------------------------------

    async def catch_up(self, partition: int, source: SeenSource) -> CaughtUp:
        """Reads the topic's partition to its end of now; to be awaited before the partition's first decision.

        Raises UnknownFingerprint when a record's schema is not known yet: to be called again then.
        """
        self.forget(partition)
        begin, end = await source.bounds()
        position = self._table.position(partition)
        rebuilt = position is None or not await self._still_ours(partition, source, begin, end, position)
        if rebuilt:
            if position is not None:
                log.warning("seen[%d]: the dedup cache does not belong to this topic any more; it is rebuilt", partition)
            self._table.wipe(partition)
            position = None
        start = max(begin, await self._window_start(source, begin, end), position or 0)
        records = rows = 0
        pending: list[tuple[int, bytes | None]] = []
        async for chunk in source.read(start, end):
            pending += chunk
            rows += sum(len(value or b"") for _, value in chunk) // 48
            if rows >= CATCH_UP_ROWS:
                self._apply(partition, pending, pending[-1][0] + 1)
                records += len(pending)
                pending, rows = [], 0
        self._apply(partition, pending, end)
        upto = self._table.decided_upto(partition)
        self._lanes[partition] = _Lane(upto)
        return CaughtUp(records + len(pending), rebuilt, upto)

    def partitions(self) -> list[int]:
        """The partitions that are caught up."""
        return list(self._lanes)

    def forget(self, partition: int) -> None:
        """The partition is given up: what is acknowledged is written, what is in flight is forgotten."""
        if partition in self._lanes:
            self.flush()
            self._held -= sum(len(f.marks) + 1 for f in self._lanes.pop(partition).flights)

    def close(self) -> None:
        """Writes what is acknowledged and lets the file go."""
        self.flush()
        self._table.close()

    async def _still_ours(self, partition: int, source: SeenSource, begin: int, end: int, position: int) -> bool:
        """Whether the topic's record before our position is the one we hold; a recreated topic, or one that forgot it, is not ours."""
        if position == 0:
            return True
        if not begin < position <= end:
            return False
        async for chunk in source.read(position - 1, position):
            for _, value in chunk:
                return self._table.value_at(partition, position - 1) == self._normal(value)
        return False

    async def _window_start(self, source: SeenSource, begin: int, end: int) -> int:
        """Where the window begins that the next decisions look into: judged by the last decided events, not by the clock."""
        for offset in range(end - 1, max(begin, end - 16) - 1, -1):
            async for chunk in source.read(offset, offset + 1):
                for _, value in chunk:
                    if newest := newest_received_at(self._parts(value)[2]):
                        return await source.offset_at(newest - self._horizon_us) or begin
        return begin

    def _apply(self, partition: int, records: Sequence[tuple[int, bytes | None]], position: int) -> None:
        """Takes records of the topic in, as deciding them did."""
        rows: dict[int, int] = {}
        batches: dict[int, BatchRow] = {}
        for offset, value in records:
            first, after, parts = self._parts(value)
            batches[offset] = BatchRow(offset, first, after, newest_received_at(parts), self._normal(value))
            keys: list[bytes] = []
            for part in parts:
                if part.dedup_key is None or part.event_id is None:
                    continue
                if part.scope_byte != BODY_SCOPE:
                    if not part.repeated or self._is_newer(partition, part.dedup_key, part.received_at, rows, batches):
                        keys.append(part.dedup_key)
                elif part.outcome is not SeenOutcome.REPEAT:
                    keys += (event_key(part.event_id),) if part.repeated else (event_key(part.event_id), part.dedup_key[:8])
            rows.update(dict.fromkeys(_heads(keys), offset))
        try:
            self._table.write({partition: (rows, batches.values(), position)}, {})
        except SeenCacheFull as exc:
            raise SeenCacheUnusable(f"the dedup cache cannot be written: {exc}") from exc

    def _is_newer(self, partition: int, key: bytes, received_at: int, rows: Mapping[int, int], batches: Mapping[int, BatchRow]) -> bool:
        """Whether a duplicate was received later than what its key's row tells; only then the row follows it."""
        batch = batches.get(rows.get(_heads([key])[0], -1))
        mark = mark_in(batch.value, key, batch.first_offset) if batch is not None else self._from_table(partition, [key]).get(key)
        return mark is None or received_at > mark.received_at

    def _from_table(self, partition: int, keys: Sequence[bytes]) -> dict[bytes, Mark]:
        heads = _heads(keys)
        found: dict[bytes, Mark] = {}
        if records := self._table.find(partition, heads):
            for key, head in zip(keys, heads, strict=True):
                if head in records:
                    first, value = records[head]
                    if (mark := mark_in(value, key, first)) is not None:
                        found[key] = mark
        return found

    def _parts(self, value: bytes | None) -> tuple[int, int, list[SeenPart]]:
        try:
            return decode_batch_seen(value or b"", self._codec)
        except Undecodable as exc:
            log.error("a record on the seen topic is no BatchSeen (%s); it is passed over", exc)
            return 0, 0, []

    def _normal(self, value: bytes | None) -> bytes:
        """A record in this build's own form, so that it can be searched and compared."""
        if value is None or value[:HEADER_BYTES] == SEEN_HEADER:
            return value or b""
        try:
            return self._codec.encode(self._codec.decode(value))
        except Undecodable:
            return value

    @property
    def _horizon_us(self) -> int:
        return self.window.delivery_us + LATE_US


def mark_in(value: bytes, key: bytes, first_offset: int) -> Mark | None:
    """What one BatchSeen says under a key (routing.dedup.keys_of), as if its records had just been decided.

    The mark's offset is the batch's first one: enough to tell whether it was decided before another batch.
    """
    if len(key) == 17:
        part = next(find_seen_by_event(value, key[1:]), None)
        return Mark(first_offset, part.received_at, key[1:]) if part is not None else None
    mark: Mark | None = None
    for part in find_seen_by_key(value, key):
        if part.event_id is None or part.dedup_key is None:
            continue
        if len(key) == 8:
            if part.scope_byte == BODY_SCOPE and not part.repeated:
                mark = Mark(first_offset, part.received_at, part.event_id, part.dedup_key[8:])
        elif part.scope_byte != BODY_SCOPE:
            newest = max(part.received_at, mark.received_at) if mark is not None and part.repeated else part.received_at
            mark = Mark(first_offset, newest, (part.original or part.event_id) if part.repeated else part.event_id)
    return mark


def _heads(keys: Iterable[bytes]) -> tuple[int, ...]:
    """64 bits of each key: of every kind of key the last eight bytes are a hash, or random."""
    tails = [key[-8:] for key in keys]
    return struct.unpack(f"<{len(tails)}q", b"".join(tails))


def _acknowledged(lane: _Lane) -> list[Flight]:
    """The beginning of what is in flight that the broker has."""
    ready: list[Flight] = []
    for flight in lane.flights:
        if flight.seen_offset < 0:
            break
        ready.append(flight)
    return ready
