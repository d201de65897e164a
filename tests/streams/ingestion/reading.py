"""Reads a topic to its end, for assertions."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

Raw = tuple[int, bytes, bytes]
"""Partition, key, value."""


async def read_raw(brokers: str, topic: str, tenant: str = "") -> list[Raw]:
    """The topic's records in order of partition and offset; only those of the tenant, when one is given."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=brokers, auto_offset_reset="earliest", max_partition_fetch_bytes=8 << 20)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        ends = await consumer.end_offsets(partitions)
        found: dict[TopicPartition, list[Raw]] = {partition: [] for partition in partitions}
        while any([await consumer.position(p) < ends[p] for p in partitions]):
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                found[partition] += [(r.partition, r.key, r.value) for r in records]
        return [raw for partition in partitions for raw in found[partition] if raw[1].startswith(tenant.encode())]
    finally:
        await consumer.stop()
