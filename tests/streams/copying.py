"""The copying stage as processes on a real broker: started, fed, and its copies counted."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

PARTITIONS = 4


@asynccontextmanager
async def two_topics(broker: str, partitions: int = PARTITIONS) -> AsyncIterator[tuple[str, str]]:
    """Two fresh topics with the same partitions."""
    name = uuid.uuid4().hex[:8]
    source, target = f"copy-in-{name}", f"copy-out-{name}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await admin.create_topics([NewTopic(t, partitions, 1, topic_configs={"max.message.bytes": str(1 << 20)}) for t in (source, target)])
    try:
        yield source, target
    finally:
        await admin.delete_topics([source, target])
        await admin.close()


def start_stage(broker: str, data_dir: Path, source: str, target: str, instance: str, mode: str) -> subprocess.Popen[bytes]:
    """One process of the copying stage; its log goes to the data directory."""
    log = (data_dir / f"{instance}.log").open("ab")
    script = Path(__file__).with_name("copy_stage.py")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, str(script), broker, str(data_dir), source, target, instance, mode], stderr=log, stdout=log, env=environment
    )


async def fill(broker: str, topic: str, first: int, count: int, *, partitions: int = PARTITIONS, size: int = 0) -> None:
    """Numbered records, spread over the partitions, each of at least `size` bytes."""
    producer = AIOKafkaProducer(bootstrap_servers=broker, enable_idempotence=True)
    await producer.start()
    for n in range(first, first + count):
        await producer.send(topic, key=str(n).encode(), value=str(n).ljust(size).encode(), partition=n % partitions)
    await producer.stop()


class Ledger:
    """Reads the target topic on and on."""

    def __init__(self, broker: str, topic: str, partitions: int = PARTITIONS) -> None:
        self.partitions = partitions
        self.consumer = AIOKafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest")
        self.topic = topic
        self.seen: dict[int, list[int]] = {}

    async def __aenter__(self) -> Ledger:
        await self.consumer.start()
        self.consumer.assign([TopicPartition(self.topic, p) for p in range(self.partitions)])
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.consumer.stop()

    async def until(self, count: int, timeout: float) -> None:
        """Reads until so many different numbers were copied."""
        async with asyncio.timeout(timeout):
            while len(self.seen) < count:
                for records in (await self.consumer.getmany(timeout_ms=500)).values():
                    for r in records:
                        self.seen.setdefault(int(r.value), []).append(r.offset)

    def inversions(self) -> int:
        """Numbers of a partition whose first copy stands before a smaller number's first copy."""
        found = 0
        for p in range(self.partitions):
            firsts = [self.seen[n][0] for n in sorted(self.seen) if n % self.partitions == p]
            found += sum(1 for a, b in itertools.pairwise(firsts) if b < a)
        return found
