"""The stage process: routed events become calls of their target tools, one at a time per ticket, many tickets at once.

Each record is done by itself, once its TicketProcessed is acknowledged; what may be committed is the finished beginning. Nothing
begins further than WINDOW past what is committed, so whoever takes the partition over knows how much to doubt.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import ClassVar

from schemas.codec import HEADER_BYTES, MAGIC, Codec, Undecodable, UnknownFingerprint
from schemas.events import TicketRouted
from streams import topics
from streams.batching import SESSION_SECONDS
from streams.clock import Clock, SystemClock
from streams.doubt import WINDOW, PartitionDoubts
from streams.effects import Turn
from streams.finished import FinishedEvents, catch_up
from streams.following import Following
from streams.keyed import KeyedRunner
from streams.outbox import Outbox
from streams.pricing import price_book
from streams.process_step import PartitionState, ProcessContext, process_one, set_aside_undecodable
from streams.producer import StageProducer
from streams.runner import Place
from streams.settings import Settings
from streams.stage import Assignment, Batch, Record, Stage

log = logging.getLogger("ai_agents.process")

BEAT_SECONDS = 1.0
STOOD_STILL_SECONDS = SESSION_SECONDS * 0.75
CATCH_UPS = 4


@dataclass(frozen=True, slots=True)
class _Item:
    """One routed record in the schedule."""

    batch: Batch
    record: Record
    routed: TicketRouted


class ProcessStage(Stage):
    """Routed events to calls of tools and their records."""

    name: ClassVar[str] = "process"
    topics: ClassVar[tuple[str, ...]] = (topics.ROUTED.name,)
    per_record: ClassVar[bool] = True
    max_poll_records: ClassVar[int] = 64
    max_pending: ClassVar[int] = WINDOW

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._codec = Codec()
        self._following = Following(settings, self._codec)
        self._producer = StageProducer(settings.brokers, settings.security, "ai-agents-process")
        self._ctx = ProcessContext(
            codec=self._codec,
            plugins=self._following.plugins,
            links=self._following.links,
            producer=Outbox(self._producer),
            clock=self._clock,
            price=price_book().price,
        )
        self._states: dict[int, PartitionState] = {}
        self._keyed: KeyedRunner[_Item] = KeyedRunner(self._work, clock=self._clock, crash=self._on_crash, may_call=self._may_call)
        self._catch_ups = asyncio.Semaphore(CATCH_UPS)
        self._beat: asyncio.Task[None] | None = None
        self._beaten_at = time.monotonic()
        self._crashing: asyncio.Task[None] | None = None

    # --- life ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        await self._producer.start()
        await self._following.start(self._producer)
        self._beaten_at = time.monotonic()
        self._beat = asyncio.create_task(self._beats(), name="beat")

    async def stop(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        await self._following.stop()
        await self._producer.stop()

    async def assigned(self, assignment: Assignment) -> None:
        partition = assignment.partition
        await self._keyed.drain(self.drain_on_revoke, partition)
        doubts = PartitionDoubts(assigned_at=assignment.assigned_at, committed=assignment.start, end=assignment.end)
        state = PartitionState(partition=partition, doubts=doubts, finished=FinishedEvents())
        async with self._catch_ups:
            await self._following.caught_up()
            read = await catch_up(self._settings.brokers, partition, state.finished, doubts, self._codec, self._settings.security)
        log.info("%s[%d] from %d: %d finished events known", assignment.topic, partition, assignment.start, read)
        self._states[partition] = state
        self._keyed.opened(partition)

    async def drain(self, timeout: float) -> None:
        await self._keyed.drain(max(timeout - 0.5, 0.0))

    # --- work ------------------------------------------------------------------------------------------------------------

    async def handle(self, batch: Batch) -> None:
        routed = [self._decode(record) for record in batch.records]  # all first: an unknown schema lets none of them begin
        for record, event in zip(batch.records, routed, strict=True):
            while record.offset >= self._committed(batch) + WINDOW:
                if self.runner.state == "draining":
                    return
                await asyncio.sleep(0.02)  # commits come by Faust's timer, which tells nobody
            if isinstance(event, Undecodable):
                await set_aside_undecodable(record.value, record.offset, record.key, batch.partition, str(event), self._ctx)
                self.runner.count("undecodable")
                batch.record_done(record.offset)
            else:
                lane = f"{event.tenant}/{event.decision.target}"
                self._keyed.submit(batch.partition, record.key or b"", lane, _Item(batch, record, event))

    def _decode(self, record: Record) -> TicketRouted | Undecodable:
        """The routed event; raises UnknownFingerprint for its own schema or that of the received record inside."""
        try:
            routed = self._codec.decode_as(TicketRouted, record.value)
        except Undecodable as exc:
            return exc
        fingerprint = routed.received[len(MAGIC) : HEADER_BYTES]
        if routed.received.startswith(MAGIC) and len(fingerprint) == HEADER_BYTES - len(MAGIC) and not self._codec.knows(fingerprint):
            raise UnknownFingerprint(fingerprint)
        return routed

    def _committed(self, batch: Batch) -> int:
        lane = self.runner.lanes.get(Place(batch.topic, batch.partition))
        return max(lane.sent if lane is not None else -1, batch.assignment.start)

    async def _work(self, item: _Item, turn: Turn) -> None:
        state = self._states[item.batch.partition]
        finished = await process_one(item.routed, item.record.offset, item.record.key, state, self._ctx, turn)
        self.runner.count(finished.outcome.value if finished.outcome is not None else "repeats")
        if finished.reason is not None:
            log.warning("set aside: %s event %s: %s", finished.reason.value, finished.event_id, finished.detail)
        item.batch.record_done(item.record.offset)

    def _on_crash(self, exc: BaseException) -> None:
        if self._crashing is None:
            self._crashing = asyncio.get_running_loop().create_task(self.runner.crash(exc))

    def check(self) -> None:
        self._following.check(self.runner.alarm)

    async def ready_again(self, fingerprint: bytes) -> None:
        await self._following.learnt(fingerprint)

    # --- standing still --------------------------------------------------------------------------------------------------

    def _may_call(self) -> bool:
        """False once this process has stood still for so long that its partitions may be someone else's already."""
        return time.monotonic() - self._beaten_at < STOOD_STILL_SECONDS

    async def _beats(self) -> None:
        """Notices a standstill of the whole process, and tells the watchdog of waits that are meant."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if not self._may_call():
                self._on_crash(RuntimeError(f"the process stood still for more than {STOOD_STILL_SECONDS:.0f} s"))
                return
            self._beaten_at = time.monotonic()
            for place, lane in self.runner.lanes.items():
                if lane.tracker.pending and self._keyed.is_moving(place.partition):
                    lane.progressed = self._beaten_at
