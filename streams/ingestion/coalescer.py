"""Makes records durable: in batches through the broker, or, when it does not answer in time, through the spool.

Two ways, one order. On the direct way the coalescer ships what it has at once, one batch a partition, and collects while that
shipment is unacknowledged. When the oldest unanswered record has waited `ack_timeout`, everything unanswered goes to the spool
(the shipment first, then what was collected behind it), and so does every later record until the spool is empty.

One task ships and drains, so the two never overlap: the spool drains only after the shipment that was under way at the switch
has ended, acknowledged or failed. A record of that shipment may so reach the topic twice, under one event id; the first copies
stand in the order of arrival, and route drops the second. When the drain has caught up, new records are held in memory, behind
the spool's last ones, until these are acknowledged; then the direct way is open again.

Each record has one who waits for it. Whoever stops waiting takes nothing back: the record stays in its batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import Any

from aiokafka.errors import KafkaError

from streams.ingestion.outlet import BATCH_BYTES, RECORD_OVERHEAD, REFUSED_FOR_SIZE, Lane, Outlet, error_of
from streams.ingestion.spool import Position, Record, Spool, SpoolFull
from streams.ingestion.way_back import WayBack

log = logging.getLogger("ai_agents.ingestion")

GROUP_BYTES = 4 << 20
DRAIN_RECORDS = 2000
DRAIN_BYTES = 1 << 20
STUCK_SECONDS = 60.0
DISK_SECONDS = 2.0


class Durable(Enum):
    """What made a record durable."""

    BROKER = "broker"
    SPOOL = "spool"


class Unavailable(Exception):
    """Nothing can be made durable now: try again later."""


class Refused(Exception):
    """The broker will never take this record: it is too large for its topic."""


Settled = Callable[["Durable | Exception"], None]
"""Told once what became of a record: what made it durable, or Unavailable (neither way took it), or Refused."""


class _Waiting:
    """A record and the one who waits for it."""

    __slots__ = ("acked", "arrived", "position", "record", "settled", "size", "tell")

    def __init__(self, record: Record, size: int, tell: Settled, arrived: float) -> None:
        self.record = record
        self.size = size
        self.tell = tell
        self.arrived = arrived
        self.settled = False
        self.acked = False
        self.position: Position | None = None


class _Shipment:
    """What is on its way to the broker and not yet wholly acknowledged."""

    __slots__ = ("error", "finished", "lanes", "left")

    def __init__(self, lanes: dict[Lane, list[_Waiting]], finished: asyncio.Future[None]) -> None:
        self.lanes = lanes
        self.left = len(lanes)
        self.finished = finished
        self.error: BaseException | None = None

    def over(self, error: BaseException | None = None) -> None:
        """One lane's batch has ended."""
        self.error = self.error or error
        self.left -= 1
        if not self.left and not self.finished.done():
            self.finished.set_result(None)


class Coalescer:
    """See the module. `set_aside(record)` keeps a record the broker refuses for its size and answers the dead letter to send."""

    def __init__(
        self,
        outlet: Outlet,
        spool: Spool,
        set_aside: Callable[[Record], Record],
        *,
        ack_timeout: float = 0.2,
        max_pending: int = 20_000,
        max_pending_bytes: int = 64 << 20,
    ) -> None:
        self._outlet = outlet
        self._spool = spool
        self._way_back = WayBack(outlet, set_aside)
        self._ack_timeout = ack_timeout
        self._max_pending = max_pending
        self._max_pending_bytes = max_pending_bytes
        self._loop = asyncio.get_running_loop()
        self._collected: dict[Lane, deque[_Waiting]] = {}
        self._shipment: _Shipment | None = None
        self._oldest: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._work: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None  # ends when nothing is pending; made by `close`
        self._spooling = True  # until connected and drained
        self._to_spool: deque[_Waiting] = deque()
        self._spooler: asyncio.Task[None] | None = None
        self._disk_hangs = False
        self._delivered: set[Position] = set()  # in the spool, and acknowledged late on the direct way
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._task: asyncio.Task[None] | None = None
        self.pending = 0
        self.pending_bytes = 0
        self.switches = 0

    @property
    def spooling(self) -> bool:
        """Whether new records go to the spool."""
        return self._spooling

    def start(self) -> asyncio.Task[None]:
        """Begins: connects, drains what a former life left in the spool, ships.

        The task ends by `close` alone; if it ends by itself the process cannot keep its promises and is to be restarted.
        """
        self._task = self._loop.create_task(self._run())
        return self._task

    def offer(self, record: Record) -> asyncio.Future[Durable]:
        """As `take`, with a future: its result is what made the record durable, its exception Unavailable or Refused."""
        waiter: asyncio.Future[Durable] = self._loop.create_future()

        def settled(how: Durable | Exception) -> None:
            if waiter.done():  # cancelled: its record stays in its batch
                return
            if isinstance(how, Durable):
                waiter.set_result(how)
            else:
                waiter.set_exception(how)

        self.take(record, settled)
        return waiter

    def take(self, record: Record, tell: Settled) -> None:
        """Takes the record; `tell` is called once, later. Raises Unavailable when too much is pending."""
        size = len(record.key) + len(record.value) + RECORD_OVERHEAD
        if self.pending >= self._max_pending or self.pending_bytes + size > self._max_pending_bytes:
            raise Unavailable("too many requests are pending")
        if self._spooling and self._disk_hangs:
            raise Unavailable("neither the broker nor the spool answers")
        waiting = _Waiting(record, size, tell, self._loop.time())
        self.pending += 1
        self.pending_bytes += size
        if self._spooling:
            self._to_spool.append(waiting)
            self._start_spooler()
            return
        lane = self._outlet.lane(record)
        if (queue := self._collected.get(lane)) is None:
            self._collected[lane] = deque((waiting,))
        else:
            queue.append(waiting)
        if self._oldest is None:
            self._oldest = self._loop.call_at(waiting.arrived + self._ack_timeout, self._switch)
        if self._work is not None and not self._work.done():
            self._work.set_result(None)

    async def close(self, timeout: float) -> None:
        """Every waiter is answered, what was handed to the broker has `timeout` seconds to land; the rest stays in the spool."""
        deadline = self._loop.time() + timeout
        if self.pending:
            self._idle = self._loop.create_future()
            await asyncio.wait([self._idle], timeout=timeout)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._outlet.close(max(0.1, deadline - self._loop.time()))
        if self._oldest is not None:
            self._oldest.cancel()
        self._thread.shutdown()
        self._spool.close()

    # the direct way --------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while True:
            await self._drain()
            while not self._spooling:
                if not self._collected:
                    self._work = self._loop.create_future()
                    await self._work
                    self._work = None
                    continue
                await self._ship()

    async def _ship(self) -> None:
        """Sends one batch a lane and waits until each has ended."""
        shipment = self._shipment = _Shipment(self._take(), self._loop.create_future())
        for lane, inside in shipment.lanes.items():
            try:
                future = await self._outlet.send(lane, [waiting.record for waiting in inside])
            except KafkaError as exc:
                self._ended(shipment, inside, exc)
            else:
                future.add_done_callback(partial(self._batch_done, shipment, inside))
        await shipment.finished
        self._shipment = None
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        self._rearm()
        if shipment.error is not None:
            await self._outlet.renew(f"{type(shipment.error).__name__}: {shipment.error}")

    def _take(self) -> dict[Lane, list[_Waiting]]:
        taken = {}
        for lane in list(self._collected):
            queue = self._collected[lane]
            size = queue[0].size
            if sum(waiting.size for waiting in queue) <= BATCH_BYTES:
                taken[lane] = list(queue)
                del self._collected[lane]
                continue
            inside = [queue.popleft()]  # alone, whatever its size
            while queue and size + queue[0].size <= BATCH_BYTES:
                size += queue[0].size
                inside.append(queue.popleft())
            taken[lane] = inside
            if not queue:
                del self._collected[lane]
        return taken

    def _batch_done(self, shipment: _Shipment, inside: Sequence[_Waiting], future: asyncio.Future[Any]) -> None:
        self._ended(shipment, inside, error_of(future))

    def _ended(self, shipment: _Shipment, inside: Sequence[_Waiting], error: BaseException | None) -> None:
        if error is None:
            for waiting in inside:
                waiting.acked = True
                if waiting.position is not None:
                    self._delivered.add(waiting.position)
                self._settle(waiting, Durable.BROKER)
        elif len(inside) == 1 and isinstance(error, REFUSED_FOR_SIZE) and not inside[0].settled:
            self._settle(inside[0], Refused("larger than the topic takes"))
        elif not self._spooling:
            self._switch()
        shipment.over(error)

    def _settle(self, waiting: _Waiting, how: Durable | Exception) -> None:
        if waiting.settled:
            return
        waiting.settled = True
        self.pending -= 1
        self.pending_bytes -= waiting.size
        if not self.pending and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        try:
            waiting.tell(how)
        except Exception:
            log.exception("an answer could not be given")  # those of its batch are not to suffer for it

    def _rearm(self) -> None:
        if self._oldest is not None:
            self._oldest.cancel()
            self._oldest = None
        if self._collected:
            first = min(queue[0].arrived for queue in self._collected.values())
            self._oldest = self._loop.call_at(first + self._ack_timeout, self._switch)

    # the switch ------------------------------------------------------------------------------------------------------
    def _switch(self) -> None:
        """Everything unanswered goes to the spool, and every later record behind it."""
        if self._oldest is not None:
            self._oldest.cancel()
            self._oldest = None
        self.switches += 1
        self._spooling = True
        if self._shipment is not None:
            for inside in self._shipment.lanes.values():
                self._to_spool.extend(waiting for waiting in inside if not waiting.settled)
            if self._stuck is None:
                self._stuck = self._loop.call_later(STUCK_SECONDS, self._outlet.give_up, "no answer from the broker for a minute")
        for queue in self._collected.values():
            self._to_spool.extend(queue)
        self._collected.clear()
        self._start_spooler()
        if self._work is not None and not self._work.done():
            self._work.set_result(None)

    def _start_spooler(self) -> None:
        if self._spooler is None:
            self._spooler = self._loop.create_task(self._spool_all())

    async def _spool_all(self) -> None:
        """One fsync for each group; a group is what came in during the last one."""
        try:
            while self._to_spool:
                group, size = [], 0
                while self._to_spool and (size < GROUP_BYTES):
                    waiting = self._to_spool.popleft()
                    if not waiting.settled:
                        group.append(waiting)
                        size += waiting.size
                if group:
                    await self._spool_group(group)
        finally:
            self._spooler = None

    async def _spool_group(self, group: Sequence[_Waiting]) -> None:
        write = self._loop.run_in_executor(self._thread, self._spool.append, [waiting.record for waiting in group])
        try:
            await asyncio.wait([write], timeout=DISK_SECONDS)
            if not write.done():  # a disk that hangs: nobody waits for it; what it stores after all is sent again, under its own id
                log.error("the spool's disk does not answer; requests are refused until it does")
                self._disk_hangs = True
                self._give_up_spooling(group)
                await asyncio.wait([write])
                self._disk_hangs = False
            positions = write.result()
        except (SpoolFull, OSError) as exc:
            log.warning("the spool takes nothing: %s", exc)
            self._give_up_spooling(group)
            return
        for waiting, position in zip(group, positions, strict=True):
            waiting.position = position
            if waiting.acked:
                self._delivered.add(position)
            self._settle(waiting, Durable.SPOOL)

    def _give_up_spooling(self, group: Sequence[_Waiting]) -> None:
        for waiting in (*group, *self._to_spool):
            self._settle(waiting, Unavailable("neither the broker nor the spool takes anything now"))
        self._to_spool.clear()

    # the way back ----------------------------------------------------------------------------------------------------
    async def _drain(self) -> None:
        """Empties the spool to the broker, in order; returns when the direct way is open."""
        await self._outlet.connect()
        while True:
            stored = await self._loop.run_in_executor(self._thread, self._spool.read, DRAIN_RECORDS, DRAIN_BYTES)
            if len(stored) == self._spool.pending:
                self._spooling = False  # caught up: hold what comes now, behind what is still on its way through the spool
            if stored:
                await self._way_back.deliver([s.record for s in stored if s.start not in self._delivered])
                await self._loop.run_in_executor(self._thread, self._spool.advance, stored)
            elif self._spooler is not None:
                await asyncio.wait([self._spooler])
            elif not self._spooling:
                self._delivered.clear()
                return
