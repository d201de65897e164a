"""The stage route: says where each received event goes, and sets aside what cannot be read.

A batch is done when the broker has all that came of it. Its BatchSeen's offset then goes to the dedup cache, which therefore never
knows more than the topic does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import ClassVar

from aiokafka.errors import KafkaError

from schemas.codec import Codec, UnknownFingerprint
from schemas.events import SeenOutcome
from streams import topics
from streams.clock import Clock, SystemClock
from streams.following import Following
from streams.producer import StageProducer
from streams.route_step import RouteContext, RoutedBatch, route_batch
from streams.routing.dedup import DedupWindow
from streams.runner import Place
from streams.seen import SeenCache
from streams.seen_source import seen_source
from streams.settings import Settings
from streams.stage import Assignment, Batch, Stage

log = logging.getLogger("ai_agents.route")

IN_FLIGHT = 4
CATCH_UPS = 2
RETRY_SECONDS = 1.0


class RouteStage(Stage):
    """Received records to routed ones, dead letters and what was seen."""

    name: ClassVar[str] = "route"
    topics: ClassVar[tuple[str, ...]] = (topics.RECEIVED.name,)

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._codec = Codec()
        self._following = Following(settings, self._codec)
        self._producer = StageProducer(settings.brokers, settings.security, "ai-agents-route")
        self._seen = SeenCache(
            settings.data_dir / f"seen-{settings.instance}.db", self._codec, DedupWindow(delivery_us=round(settings.dedup_window * 1e6))
        )
        self._ctx = RouteContext(
            codec=self._codec,
            seen=self._seen,
            tenants=self._following.tenants,
            plugins=self._following.plugins,
            links=self._following.links,
            clock=clock or SystemClock(),
        )
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._catch_ups = asyncio.Semaphore(CATCH_UPS)
        self._settling: set[asyncio.Task[None]] = set()
        self._progressed_at = 0.0

    # --- life ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        await self._producer.start()
        await self._following.start(self._producer)

    async def stop(self) -> None:
        await self._following.stop()
        await self._producer.stop()
        self._seen.close()

    async def assigned(self, assignment: Assignment) -> None:
        for partition in set(self._seen.partitions()) - {place.partition for place in self.runner.lanes}:
            self._seen.forget(partition)
        waiting = asyncio.create_task(self._show_progress(Place(assignment.topic, assignment.partition)))
        try:
            await self._following.caught_up()
            async with self._catch_ups:
                await self._catch_up(assignment.partition)
        finally:
            waiting.cancel()

    async def _show_progress(self, place: Place) -> None:
        """Tells the watchdog that a partition which waits for its catch-up, or another's, is no stall while records come in."""
        self._progressed()
        while (lane := self.runner.lanes.get(place)) is not None:
            lane.progressed = max(lane.progressed, self._progressed_at)
            await asyncio.sleep(1.0)

    def _progressed(self) -> None:
        self._progressed_at = time.monotonic()

    async def _catch_up(self, partition: int) -> None:
        """Until it is done: without it, no decision of this partition may be made."""
        while True:
            try:
                async with seen_source(self._settings.brokers, partition, self._progressed, self._settings.security) as source:
                    caught_up = await self._seen.catch_up(partition, source)
            except UnknownFingerprint as exc:
                self.runner.alarm(f"{topics.SEEN.name}[{partition}] waits: {exc}; publish the writer's schema")
                await self.ready_again(exc.fingerprint)
            except (KafkaError, OSError) as exc:
                log.warning("%s[%d] is not caught up yet: %s", topics.SEEN.name, partition, type(exc).__name__)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                log.info("%s[%d]: %d records read%s", topics.SEEN.name, partition, caught_up.records, ", anew" * caught_up.rebuilt)
                return

    async def drain(self, timeout: float) -> None:
        if self._settling:
            await asyncio.wait(set(self._settling), timeout=timeout)

    # --- work ------------------------------------------------------------------------------------------------------------

    async def handle(self, batch: Batch) -> None:
        await self._room.acquire()
        try:
            routed = route_batch(batch.partition, batch.records, self._ctx)
            shipped = await self._producer.ship(routed.outgoing)
        except BaseException:
            self._room.release()
            raise
        task = asyncio.get_running_loop().create_task(self._settle(batch, routed, shipped))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, batch: Batch, routed: RoutedBatch, shipped: asyncio.Task[list[int]]) -> None:
        try:
            offsets = await shipped
            if routed.flight is not None:
                self._seen.acked(routed.flight, offsets[-1])
        except Exception as exc:  # noqa: BLE001 - whatever it was, the batch must not count as done
            await self.runner.crash(exc)
            return
        finally:
            self._room.release()
        for outcome, number in routed.counts.items():
            self.runner.count(outcome, number)
        if set_aside := routed.counts[SeenOutcome.DEAD_LETTER]:
            log.warning(
                "%s[%d]: %d set aside; see: ai-agents topics tail %s", batch.topic, batch.partition, set_aside, topics.DEAD_LETTER.name
            )
        batch.done()

    def check(self) -> None:
        self._following.check(self.runner.alarm)

    async def ready_again(self, fingerprint: bytes) -> None:
        await self._following.learnt(fingerprint)
