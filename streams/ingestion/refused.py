"""Records that were answered 2xx and that the broker will never take: kept as files, and told by a dead letter."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from schemas.codec import Codec
from schemas.events import FailureReason, ProcessingFailed, Stage, WebhookReceived
from streams.clock import Clock
from streams.ingestion.spool import Record
from streams.topics import DEAD_LETTER


def set_aside(record: Record, folder: Path, codec: Codec, clock: Clock) -> Record:
    """Keeps the record's value in a file of `folder` and answers its dead letter, which is small and names the file.

    Only a broker whose topic takes less than ours refuses a record of the door. Idempotent: the file's name is the value's hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{sha256(record.value).hexdigest()[:32]}.avro"
    with path.open("wb") as file:
        file.write(record.value)
        file.flush()
        os.fsync(file.fileno())
    event = codec.decode_as(WebhookReceived, record.value)
    failed = ProcessingFailed(
        event_id=event.event_id,
        tenant=event.tenant,
        tool=event.tool,
        ticket_id=event.ticket_id,
        stage=Stage.INGESTION,
        reason=FailureReason.TOO_LARGE,
        detail=f"the broker refuses a record of {len(record.value)} bytes on {record.topic}; it is kept in {path}",
        failed_at=clock.now(),
        received_at=event.received_at,
        origin_topic=record.topic,
        origin_partition=-1,
        origin_offset=-1,
        origin_key=record.key,
        original_size=len(record.value),
    )
    return Record(DEAD_LETTER.name, record.key, codec.encode(failed), clock.now() // 1000)
