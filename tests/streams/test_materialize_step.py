"""Materialize on one batch, without Kafka: every record becomes a row, is known already, or becomes a dead letter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from analytics import tables
from analytics.materializer import Prepared, prepare
from analytics.sqlite import SqliteStore
from analytics.store import Applied
from schemas.codec import MAGIC, Codec, UnknownFingerprint
from schemas.events import FailureReason, ProcessingFailed
from streams import topics
from streams.materialize_step import dead_letter, materialize_batch
from tests.analytics.building import NOON, a_dead_letter, a_processed, a_window

CODEC = Codec()
TOPIC = topics.PROCESSED.name


@dataclass
class FetchedRecord:
    offset: int
    value: bytes | None
    key: bytes | None = b"acme/desk/1"
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = 0


@dataclass
class Bench:
    """A store, and the dead letters sent so far; `order` tells what happened first."""

    store: SqliteStore
    letters: list[ProcessingFailed] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    position: int = 0

    async def run(self, *values: bytes | None, first: int = 0) -> Applied:
        records = [FetchedRecord(first + n, value) for n, value in enumerate(values)]
        return await materialize_batch(
            TOPIC, 0, records, codec=CODEC, from_offset=self.position, apply=self.apply, send=self.send, now=lambda: NOON
        )

    async def apply(self, prepared: Prepared) -> Applied:
        self.order.append("apply")
        applied = self.store.apply(prepared)
        self.position = applied.next_offset
        return applied

    async def send(self, letters: Sequence[tuple[Any, ProcessingFailed]]) -> None:
        self.order.append("send")
        self.letters += [letter for _, letter in letters]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    store = SqliteStore(tmp_path / "analytics.db")
    store.assign(TOPIC, 0)
    return Bench(store)


async def test_every_kind_of_poison_becomes_a_dead_letter_and_the_rest_becomes_rows(bench: Bench) -> None:
    """Garbage, nothing at all, a torn record, a foreign record, a value no table takes: none of them stops the stream."""
    whole = CODEC.encode(a_processed(1))
    foreign = CODEC.encode(a_processed(2, received_at=1 << 61))
    applied = await bench.run(b"garbage", None, whole[:-3], foreign, whole, whole + b"x")
    assert applied.next_offset == 6
    assert [(letter.reason, letter.origin_offset) for letter in bench.letters] == [
        ("undecodable", 0),
        ("undecodable", 1),
        ("undecodable", 2),
        ("undecodable", 5),
        ("store_refused", 3),
    ]
    assert bench.letters[0].original == b"garbage"
    assert bench.letters[4].event_id is None, "its own received_at cannot be stored, so it goes without"
    assert [row[2] for row in bench.store.rows(tables.USAGE_DAILY)] == [1]
    assert bench.store.rows(tables.STREAM_POSITION)[0][2:] == (6, NOON, 6, 0, 0, 5)


async def test_a_dead_letter_is_sent_before_the_position_passes_its_record(bench: Bench) -> None:
    """Between the two a crash would lose it."""
    await bench.run(b"garbage")
    assert bench.order == ["send", "apply"]


async def test_a_dead_letter_can_always_be_stored_itself() -> None:
    """A letter about an unstorable event that were unstorable too would make letters for ever."""
    for event in (a_processed(event_id="no"), a_processed(tenant="t" * 5000), a_dead_letter(received_at=-1), a_window(tool="\0")):
        letter = dead_letter(TOPIC, 0, FetchedRecord(5, b"x" * 10), FailureReason.STORE_REFUSED, "why", event, NOON)
        assert not prepare(topics.DEAD_LETTER.name, 0, [(0, letter)], 1).refused
        assert CODEC.decode(CODEC.encode(letter)) == letter


async def test_a_huge_original_is_pointed_at_instead_of_carried(bench: Bench) -> None:
    """The letter must fit its topic."""
    await bench.run(b"x" * topics.MAX_RECORD_BYTES)
    (letter,) = bench.letters
    assert letter.original is None
    assert (letter.original_size, letter.origin_offset) == (topics.MAX_RECORD_BYTES, 0)


async def test_an_unknown_schema_waits_and_what_stands_before_it_is_written_once(bench: Bench) -> None:
    """Its bytes may be fine; only its schema is missing. When it comes, the same batch goes on behind the rows it wrote."""
    unknown = MAGIC + b"\1" * 8 + b"body"
    batch = [CODEC.encode(a_processed(1)), unknown, CODEC.encode(a_processed(2))]
    for _ in range(2):
        with pytest.raises(UnknownFingerprint):
            await bench.run(*batch)
        assert bench.position == 1
    assert bench.letters == []
    batch[1] = CODEC.encode(a_processed(3))  # as if it were known now
    assert (await bench.run(*batch)).next_offset == 3
    assert [row[2] for row in bench.store.rows(tables.USAGE_DAILY)] == [3]


async def test_what_only_the_database_refuses_is_set_aside_too(bench: Bench) -> None:
    """The letter first, then the rest of the batch."""
    await bench.run(CODEC.encode(a_processed(1)))
    bench.store._db.execute("UPDATE usage_daily SET cost_micros = 9223372036854775807")
    await bench.run(CODEC.encode(a_processed(2)), first=1)
    assert [(letter.reason, letter.event_id) for letter in bench.letters] == [("store_refused", a_processed(2).event_id)]
    assert bench.position == 2
