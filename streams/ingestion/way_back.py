"""From the spool to the broker: in order, for as long as it takes, and never stopped by one record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from streams.ingestion.outlet import BATCH_BYTES, RECORD_OVERHEAD, REFUSED_FOR_SIZE, Lane, Outlet, error_of
from streams.ingestion.spool import Record

STUCK_SECONDS = 60.0


class WayBack:
    """Sends what the spool holds. A record refused for its size is given to `set_aside`, which keeps it and answers its dead letter."""

    def __init__(self, outlet: Outlet, set_aside: Callable[[Record], Record]) -> None:
        self._outlet = outlet
        self._set_aside = set_aside

    async def deliver(self, records: Sequence[Record]) -> None:
        """Returns when the broker has them all; they may reach it more than once, in order each time."""
        delay = 0.1
        while True:
            error = await self._send(records)
            if error is None:
                return
            await self._outlet.renew(f"{type(error).__name__}: {error}")
            if isinstance(error, REFUSED_FOR_SIZE):
                await self._singly(records)
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, 5.0)

    async def _singly(self, records: Sequence[Record]) -> None:
        for record in records:
            delay = 0.1
            while (error := await self._send([record])) is not None:
                await self._outlet.renew(f"{type(error).__name__}: {error}")
                if isinstance(error, REFUSED_FOR_SIZE):
                    record = await asyncio.to_thread(self._set_aside, record)
                    continue
                await asyncio.sleep(delay)
                delay = min(2 * delay, 5.0)

    async def _send(self, records: Sequence[Record]) -> BaseException | None:
        """Sends and waits for every ack; the first error, if any. Order within each lane is kept."""
        lanes: dict[Lane, list[Record]] = {}
        futures: list[asyncio.Future[Any]] = []
        sizes: dict[Lane, int] = {}
        try:
            for record in records:
                lane, size = self._outlet.lane(record), record.size + RECORD_OVERHEAD
                if lanes.get(lane) and sizes[lane] + size > BATCH_BYTES:
                    futures.append(await self._outlet.send(lane, lanes.pop(lane)))
                    sizes[lane] = 0
                lanes.setdefault(lane, []).append(record)
                sizes[lane] = sizes.get(lane, 0) + size
            for lane, inside in lanes.items():
                futures.append(await self._outlet.send(lane, inside))
        except KafkaError as exc:
            for future in futures:
                future.add_done_callback(error_of)  # retrieved, so that asyncio does not complain of it
            error: BaseException = exc
            return error
        if not futures:
            return None
        done, waiting = await asyncio.wait(futures, timeout=STUCK_SECONDS)
        for future in waiting:
            future.add_done_callback(error_of)
        errors = [failure for future in futures if future in done and (failure := error_of(future)) is not None]
        if errors:
            return errors[0]
        return KafkaError(f"no answer from the broker in {STUCK_SECONDS:.0f} s") if waiting else None
