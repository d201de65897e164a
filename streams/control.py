"""Following the control topics (tenants.v1, links.v1, schemas.v1): plain group-less consumers that read everything, then go on.

Every process reads them whole, so no group and no committed offset is involved; a reader that starts again reads from the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import Codec, CodecError, UnknownFingerprint, released
from schemas.events import Event, SchemaPublished
from streams import topics
from streams.producer import Outgoing, StageProducer
from streams.security import client_options

log = logging.getLogger(__name__)

OnEvent = Callable[[str, int, int, "bytes | None", Event], None]
POLL_MS = 500
MAX_RECORDS = 2000
MAX_HELD = 10_000
METADATA_SECONDS = 10.0
ASSIGNMENT_POLL_SECONDS = 0.02
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0)


class ListenerError(RuntimeError):
    """The listener raised; what it raised is the cause. The text is the record's place."""


class ControlReader:
    """Feeds `on_event(topic, partition, offset, key, event)` with every record of some topics, in order per partition, for ever.

    Records of schemas.v1 also teach the codec, and a record met before its schema is held and retried when schemas arrive: the
    topics are read side by side. What can never be decoded is counted in `undecodable` and logged, never fatal. A broker that is
    away is waited for. `on_event` must not raise: that ends the reader, logged as critical, shown by `failed` and raised by `caught_up`.
    """

    def __init__(
        self,
        brokers: str,
        topics: Sequence[str],
        on_event: OnEvent,
        codec: Codec,
        security: Mapping[str, Any] | None = None,
    ) -> None:
        self._brokers = brokers
        self._topics = list(topics)
        self._named = ", ".join(self._topics)
        self._on_event = on_event
        self._codec = codec
        self._security = client_options(security or {})
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._positions: dict[TopicPartition, int] = {}
        self._held: list[Any] = []
        self.undecodable = 0

    async def start(self) -> None:
        """Begins to read; returns at once, also when no broker answers yet."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name=f"control {self._named}")
            self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Ends reading. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.critical("%s: nothing is followed any more", self._named, exc_info=exc)

    @property
    def failed(self) -> bool:
        """Whether an error of the listener has ended the reading; the process should not go on."""
        return self._task is not None and self._task.done()

    @property
    def held(self) -> int:
        """Records that wait for their writer's schema."""
        return len(self._held)

    async def caught_up(self, timeout: float) -> None:
        """Returns when everything that was on the topics at the call has been fed. Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            ends = await self._ends()
            while any(self._positions.get(tp, 0) < end for tp, end in ends.items()):
                await self._next_move()

    def _announce(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _next_move(self) -> None:
        """Waits until the reader has moved; raises what ended it."""
        if self._task is None:
            raise RuntimeError("the reader is not started")
        moved = asyncio.ensure_future(self._moved.wait())
        try:
            await asyncio.wait({moved, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            moved.cancel()
        if self._task is not None and self._task.done():
            self._task.result()
            raise RuntimeError("the reader has stopped")

    async def _ends(self) -> dict[TopicPartition, int]:
        while True:
            if (consumer := self._consumer) is None:
                await self._next_move()
                continue
            try:
                ends: dict[TopicPartition, int] = await consumer.end_offsets(consumer.assignment())
                return ends
            except KafkaError as exc:
                log.info("%s: end offsets not answered (%s)", self._named, type(exc).__name__)
                await asyncio.sleep(RETRY_SECONDS[0])

    async def _follow(self) -> None:
        failures = 0
        try:
            while True:
                try:
                    await self._open()
                    failures = 0
                    await self._read()
                except (KafkaError, OSError, TimeoutError) as exc:
                    log.log(logging.INFO if failures else logging.WARNING, "%s: the broker is away (%s)", self._named, type(exc).__name__)
                    await self._close()
                    await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                    failures += 1
        finally:
            await self._close()

    async def _open(self) -> None:
        """Connects and takes every partition, each from where this reader stands."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=topics.MAX_RECORD_BYTES,
            **self._security,
        )
        try:
            await consumer.start()
            await self._assign(consumer)
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer
        self._announce()

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        """Waits for the topics to exist, without creating them, then takes all their partitions."""
        async with asyncio.timeout(METADATA_SECONDS):
            while missing := set(self._topics) - await consumer.topics():
                log.info("not created yet: %s", ", ".join(sorted(missing)))
                await asyncio.sleep(RETRY_SECONDS[0])
            consumer.subscribe(self._topics)
            # aiokafka tells of a group-less assignment by nothing but this set
            while {tp.topic for tp in consumer.assignment()} != set(self._topics):  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(ASSIGNMENT_POLL_SECONDS)
        for partition in consumer.assignment():
            if (position := self._positions.get(partition)) is not None:
                consumer.seek(partition, position)

    async def _read(self) -> None:
        assert self._consumer is not None
        while True:
            batches = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_RECORDS)
            for records in batches.values():
                for record in records:
                    self._take(record)
            # a position may stand beyond the last record: compaction and transaction markers leave offsets without one
            now = {partition: await self._consumer.position(partition) for partition in self._consumer.assignment()}
            if now != self._positions:
                self._positions = now
                self._announce()

    def _take(self, record: Any) -> None:
        if record.value is None:
            return
        try:
            event = self._codec.decode(record.value)
        except UnknownFingerprint as exc:
            if len(self._held) >= MAX_HELD:
                self._undecodable(record, exc)
                return
            log.warning("%s offset %d waits: %s", record.topic, record.offset, exc)
            self._held.append(record)
            return
        except CodecError as exc:
            self._undecodable(record, exc)
            return
        if isinstance(event, SchemaPublished):
            self._learn(record, event)
        try:
            self._on_event(record.topic, record.partition, record.offset, record.key, event)
        except Exception as exc:  # whatever it is, it is not the broker's, and must not be taken for it
            raise ListenerError(f"{record.topic}[{record.partition}] offset {record.offset}") from exc

    def _learn(self, record: Any, event: SchemaPublished) -> None:
        try:
            self._codec.learn(event.schema)
        except Exception as exc:  # noqa: BLE001 - fastavro raises many kinds for a text that is not a schema
            self._undecodable(record, exc)
            return
        held, self._held = self._held, []
        for waiting in held:
            self._take(waiting)

    def _undecodable(self, record: Any, exc: Exception) -> None:
        self.undecodable += 1
        place = f"{record.topic}[{record.partition}] offset {record.offset}"
        log.error("%s cannot be decoded and is passed over (%s)", place, type(exc).__name__)

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()


async def publish_schemas(producer: StageProducer, codec: Codec) -> None:
    """Writes every schema this build can write or read to schemas.v1, keyed by fingerprint; returns when all are acknowledged.

    Idempotent: the topic is compacted, and the same schema has the same key.
    """
    events = [SchemaPublished(fingerprint=v.fingerprint, name=v.record, schema=v.json) for v in released()]
    await producer.send([Outgoing(topics.SCHEMAS.name, 0, e.fingerprint.hex().encode(), codec.encode(e)) for e in events])
