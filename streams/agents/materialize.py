"""The stage materialize: what was done, set aside, refused and decided becomes rows of the analytics store.

The store, not the group, knows where to read from: rows and position are one transaction. Offsets are committed to Kafka too, so
that lag tools tell the truth. The store blocks, so it works on a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ClassVar, TypeVar

import msgspec

from analytics.materializer import DAY_US, Prepared
from analytics.open import open_store
from analytics.store import AnalyticsStore, Applied, PositionLost, StoreBusy, StoreError, StoreFull, StoreUnavailable
from schemas.codec import Codec
from schemas.events import Event, ProcessingFailed, SchemaPublished
from streams import topics
from streams.clock import Clock, SystemClock
from streams.control import ControlReader, publish_schemas
from streams.materialize_step import SOURCES, SendLetters, materialize_batch
from streams.producer import Outgoing, RecordRefused, StageProducer
from streams.settings import Settings
from streams.stage import Assignment, Batch, Record, Stage

log = logging.getLogger("ai_agents.materialize")

T = TypeVar("T")

KEEP_DAYS = 90
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
RETENTION_SECONDS = 3600.0
DELETED_AT_ONCE = 10_000


class MaterializeStage(Stage):
    """Batches of four topics to committed rows. `keep_days`: how long facts are kept; rollups stay for ever."""

    name: ClassVar[str] = "materialize"
    topics: ClassVar[tuple[str, ...]] = SOURCES
    linger: ClassVar[float] = 0.05  # nobody waits for a row as for a call, and a transaction costs as much as ten of its facts
    max_poll_records: ClassVar[int] = 4000  # the larger a transaction, the fewer rows it writes: rollups fold more into one

    def __init__(self, settings: Settings, *, keep_days: int = KEEP_DAYS, clock: Clock | None = None) -> None:
        self._settings = settings
        self._keep_us = keep_days * DAY_US
        self._clock = clock or SystemClock()
        self._codec = Codec()
        self._schemas = ControlReader(settings.brokers, [topics.SCHEMAS.name], self._on_schema, self._codec, settings.security)
        self._learnt = asyncio.Event()
        self._producer = StageProducer(settings.brokers, settings.security, "ai-agents-materialize")
        self._thread = ThreadPoolExecutor(1, "store")
        self._store: AnalyticsStore | None = None
        self._positions: dict[tuple[str, int], int] = {}
        self._lost: set[Assignment] = set()
        self._retention: asyncio.Task[None] | None = None

    # --- life ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._store = await self._patiently(partial(open_store, self._settings.store_url))
        await self._producer.start()
        await publish_schemas(self._producer, self._codec)
        await self._schemas.start()
        self._retention = asyncio.create_task(self._forget_old_facts(), name="retention")

    async def stop(self) -> None:
        if self._retention is not None:
            self._retention.cancel()
        await self._schemas.stop()
        await self._producer.stop()
        if self._store is not None:
            await self._in_thread(self._store.close)
        self._thread.shutdown()

    async def positions(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int | None]:
        found: dict[tuple[str, int], int | None] = {}
        for topic, partition in partitions:
            position = await self._patiently(partial(self._opened().assign, topic, partition))
            self._positions[topic, partition] = position.next_offset
            found[topic, partition] = position.next_offset or None
        return found

    async def assigned(self, assignment: Assignment) -> None:
        source = (assignment.topic, assignment.partition)
        if assignment.start < self._positions[source]:  # the runner said so: the topic was made anew
            await self._patiently(partial(self._opened().restart, *source, assignment.start))
            self._positions[source] = assignment.start

    # --- work ------------------------------------------------------------------------------------------------------------

    async def handle(self, batch: Batch) -> None:
        source = (batch.topic, batch.partition)
        if batch.assignment in self._lost:
            return

        async def apply(prepared: Prepared) -> Applied:
            applied = await self._patiently(partial(self._opened().apply, prepared))
            self._positions[source] = applied.next_offset
            return applied

        try:
            applied = await materialize_batch(
                *source,
                batch.records,
                codec=self._codec,
                from_offset=self._positions[source],
                apply=apply,
                send=self._send_letters(source[1]),
                now=self._clock.now,
            )
        except PositionLost as exc:
            # Not ours any more, though the group has not told us yet. Unfinished on purpose: if it never tells, the watchdog
            # ends this process, and the next one asks the store anew.
            self.runner.alarm(str(exc))
            self._lost.add(batch.assignment)
            return
        for name in ("records", "duplicates", "late"):
            self.runner.count(name, getattr(applied, name))
        batch.done()

    def _send_letters(self, partition: int) -> SendLetters:
        async def send(letters: Sequence[tuple[Record, ProcessingFailed]]) -> None:
            for record, letter in letters:
                self.runner.count("dead_letters")
                log.warning("set aside: %s %s[%d] at %d: %s", letter.reason, letter.origin_topic, partition, record.offset, letter.detail)
                try:
                    await self._producer.send([self._outgoing(partition, record.key, letter)])
                except RecordRefused:
                    pointer = msgspec.structs.replace(letter, original=None, origin_key=None)
                    await self._producer.send([self._outgoing(partition, None, pointer)])

        return send

    def _outgoing(self, partition: int, key: bytes | None, letter: ProcessingFailed) -> Outgoing:
        return Outgoing(topics.DEAD_LETTER.name, partition, key, self._codec.encode(letter))

    # --- schemas ---------------------------------------------------------------------------------------------------------

    def _on_schema(self, topic: str, partition: int, offset: int, key: bytes | None, event: Event) -> None:
        if isinstance(event, SchemaPublished):
            self._learnt.set()

    async def ready_again(self, fingerprint: bytes) -> None:
        while not self._codec.knows(fingerprint):
            self._learnt.clear()
            await self._learnt.wait()

    # --- the store -------------------------------------------------------------------------------------------------------

    def _opened(self) -> AnalyticsStore:
        if self._store is None:
            raise RuntimeError("the stage is not started")
        return self._store

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _patiently(self, work: Callable[[], T]) -> T:
        """The work's answer; while the store is locked, full or away, tries again, and says so once."""
        failures = 0
        while True:
            try:
                answer = await self._in_thread(work)
            except (StoreBusy, StoreFull, StoreUnavailable) as exc:
                if failures == 0:
                    self.runner.alarm(str(exc))
                self.runner.count("store_retries")
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
            else:
                if failures:
                    self.runner.alarm("the store answers again")
                return answer

    async def _forget_old_facts(self) -> None:
        """Each hour, deletes the facts past their keeping, a little at a time between the batches."""
        while True:
            horizon, total = self._clock.now() - self._keep_us, 0
            try:
                while (gone := await self._in_thread(partial(self._opened().keep_from, horizon, DELETED_AT_ONCE))) > 0:
                    total += gone
            except StoreError as exc:
                self.runner.alarm(f"old facts could not be deleted, next try in an hour: {exc}")
            if total:
                log.info("%d rows older than %d days were deleted; their rollups stay", total, self._keep_us // DAY_US)
            await asyncio.sleep(RETENTION_SECONDS)
