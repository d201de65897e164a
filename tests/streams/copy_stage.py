"""A stage that copies a topic to another, run as its own process by the tests of batching.

Arguments: brokers, data directory, source topic, target topic, instance, mode. Modes: `batch` and `record` copy; `held` copies
once the file `open` is in the data directory; the others have a fault: `stuck` never calls a batch done, `frozen` stops the
event loop, `uncoordinated` loses aiokafka's coordination task.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from streams.batching import run_stage
from streams.producer import Outgoing, StageProducer
from streams.settings import Settings
from streams.stage import Batch, Stage


class CopyStage(Stage):
    """Whole batches, or record by record, at least once."""

    def __init__(self, settings: Settings, source: str, target: str, mode: str) -> None:
        kind = type(self)
        kind.name = source  # an own group for each test
        kind.topics = (source,)
        kind.per_record = mode == "record"
        if mode == "held":
            kind.max_poll_records, kind.max_pending = 10, 20
        else:
            kind.stall_after = 4.0
        self.mode = mode
        self.gate_file = settings.data_dir / "open"
        self.producer = StageProducer(settings.brokers)
        self.target = target
        self.gate = asyncio.Semaphore(4)
        self.settling: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.producer.start()

    async def stop(self) -> None:
        await self.producer.stop()

    async def handle(self, batch: Batch) -> None:
        match self.mode:
            case "stuck":
                return
            case "frozen":
                time.sleep(3600)
            case "uncoordinated":
                lose_coordination(self)
            case "held":
                while not self.gate_file.exists():
                    await asyncio.sleep(0.05)
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


def lose_coordination(stage: CopyStage) -> None:
    """Ends aiokafka's coordination task as an error of its own would: on its thread, and nothing is said."""
    thread = stage.runner._end.__self__.consumer._thread  # the App's own `crash` is what the runner ends with
    thread.thread_loop.call_soon_threadsafe(thread._consumer._coordinator._coordination_task.cancel)


if __name__ == "__main__":
    brokers, data_dir, source, target, instance, mode = sys.argv[1:]
    settings = Settings(data_dir=Path(data_dir), brokers=brokers, instance=instance)
    sys.exit(run_stage(CopyStage(settings, source, target, mode), settings))
