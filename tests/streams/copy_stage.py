"""A stage that copies a topic to another, run as its own process by the loss test.

Arguments: brokers, data directory, source topic, target topic, instance, mode (batch or record).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from streams.batching import Batch, Stage, run_stage
from streams.producer import Outgoing, StageProducer
from streams.settings import Settings


class CopyStage(Stage):
    """Whole batches, or record by record, at least once."""

    def __init__(self, brokers: str, source: str, target: str, per_record: bool) -> None:
        type(self).name = source  # an own group for each test
        type(self).topics = (source,)
        type(self).per_record = per_record
        self.producer = StageProducer(brokers)
        self.target = target
        self.gate = asyncio.Semaphore(4)
        self.settling: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.producer.start()

    async def stop(self) -> None:
        await self.producer.stop()

    async def handle(self, batch: Batch) -> None:
        await self.gate.acquire()
        out = [Outgoing(self.target, batch.partition, r.key, r.value or b"") for r in batch.records]
        shipped = await self.producer.ship(out)
        task = asyncio.get_running_loop().create_task(self.settle(batch, shipped))
        self.settling.add(task)
        task.add_done_callback(self.settling.discard)

    async def settle(self, batch: Batch, shipped: asyncio.Task[list[int]]) -> None:
        try:
            await shipped
        except Exception as exc:
            await self.runner.crash(exc)
            return
        finally:
            self.gate.release()
        if self.per_record:
            for record in reversed(batch.records):
                batch.record_done(record.offset)
        else:
            batch.done()

    async def drain(self, timeout: float) -> None:
        if self.settling:
            await asyncio.wait(set(self.settling), timeout=timeout)


if __name__ == "__main__":
    brokers, data_dir, source, target, instance, mode = sys.argv[1:]
    settings = Settings(data_dir=Path(data_dir), brokers=brokers, instance=instance)
    sys.exit(run_stage(CopyStage(brokers, source, target, mode == "record"), settings))
