"""The spool keeps what it took, in order, whatever happens to the process or to the end of the file."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams.ingestion.spool import MAGIC, Record, Spool, SpoolFull, SpoolInUse

ROOM = 1 << 30

records = st.builds(
    Record,
    topic=st.sampled_from(["tickets.received.v1", "ingestion.counts.v1"]),
    key=st.binary(max_size=40),
    value=st.one_of(st.binary(max_size=300), st.just(MAGIC * 8)),
    timestamp_ms=st.integers(min_value=-(1 << 40), max_value=1 << 50),
)


def opened(directory: Path, max_bytes: int = ROOM, **options: int) -> Spool:
    spool = Spool(directory, max_bytes, **({"min_free": 0} | options))
    spool.open()
    return spool


def everything(spool: Spool) -> list[Record]:
    return [stored.record for stored in spool.read(1 << 30, 1 << 40)]


def a_record(number: int, size: int = 10) -> Record:
    return Record("tickets.received.v1", f"acme/desk/{number}".encode(), b"x" * size, 1_000 + number)


def test_records_come_out_in_the_order_they_went_in(tmp_path: Path) -> None:
    """Order per ticket after an outage rests on this."""
    spool = opened(tmp_path)
    spool.append([a_record(1), a_record(2)])
    spool.append([a_record(3)])
    assert everything(spool) == [a_record(1), a_record(2), a_record(3)]
    assert spool.pending == 3


def test_only_acknowledged_records_leave(tmp_path: Path) -> None:
    """A record is removed after the broker's ack, not when it is read."""
    spool = opened(tmp_path)
    spool.append([a_record(n) for n in range(5)])
    assert [s.record for s in spool.read(2, ROOM)] == [a_record(0), a_record(1)]
    spool.advance(spool.read(2, ROOM))
    assert everything(spool) == [a_record(2), a_record(3), a_record(4)]


def test_an_emptied_spool_leaves_no_segment_on_disk(tmp_path: Path) -> None:
    """Disk is given back, and the next life begins with an empty spool."""
    spool = opened(tmp_path, segment_bytes=200)
    for n in range(20):
        spool.append([a_record(n)])
    spool.advance(spool.read(1000, ROOM))
    assert (spool.pending, spool.bytes, list(tmp_path.glob("*.spool"))) == (0, 0, [])
    spool.append([a_record(99)])
    spool.close()
    assert everything(opened(tmp_path)) == [a_record(99)]


def test_the_next_process_finds_what_the_last_one_left(tmp_path: Path) -> None:
    """kill -9 and restart: nothing answered 2xx is lost, nothing acknowledged comes again."""
    spool = opened(tmp_path, segment_bytes=100)
    spool.append([a_record(n) for n in range(4)])
    spool.append([a_record(4)])
    spool.advance(spool.read(3, ROOM))
    spool.close()
    again = opened(tmp_path)
    again.append([a_record(5)])
    assert everything(again) == [a_record(3), a_record(4), a_record(5)]


def test_a_full_spool_refuses_and_stays_whole(tmp_path: Path) -> None:
    """The bound holds, and what was taken before is still there."""
    spool = opened(tmp_path, max_bytes=500)
    spool.append([a_record(1, size=300)])
    with pytest.raises(SpoolFull):
        spool.append([a_record(2, size=300)])
    assert everything(spool) == [a_record(1, size=300)]
    assert spool.bytes <= 500


def test_a_nearly_full_disk_refuses(tmp_path: Path) -> None:
    """The spool never takes a disk's last bytes from everyone else."""
    spool = opened(tmp_path, min_free=1 << 60)
    assert not spool.has_room()
    with pytest.raises(SpoolFull):
        spool.append([a_record(1)])


def test_a_failed_write_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills in the middle of a write: the request is refused, records before and after it are whole."""
    spool = opened(tmp_path)
    spool.append([a_record(1)])
    real = os.pwrite

    def half_then_full(descriptor: int, data: bytes, offset: int) -> int:
        real(descriptor, bytes(data)[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half_then_full)
        with pytest.raises(OSError, match="No space"):
            spool.append([a_record(2)])
    spool.append([a_record(3)])
    assert everything(spool) == [a_record(1), a_record(3)]
    spool.close()
    assert everything(opened(tmp_path)) == [a_record(1), a_record(3)]


def test_two_doors_do_not_share_a_spool(tmp_path: Path) -> None:
    """Two writers would interleave and drain each other's records."""
    first = opened(tmp_path)
    with pytest.raises(SpoolInUse, match="--instance"):
        opened(tmp_path)
    first.close()
    opened(tmp_path).close()


def test_damage_before_the_end_is_kept_for_a_person_and_told(tmp_path: Path) -> None:
    """A flipped bit in an older segment is not a torn tail: the file is set aside, never dropped in silence."""
    spool = opened(tmp_path, segment_bytes=60)
    for n in range(3):
        spool.append([a_record(n, size=50)])
    spool.close()
    first = min(tmp_path.glob("*.spool"))
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    again = opened(tmp_path)
    assert again.damaged == 1
    assert everything(again) == [a_record(1, size=50), a_record(2, size=50)]
    assert [p.read_bytes() for p in tmp_path.glob("*.damaged")] == [bytes(data)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    groups=st.lists(st.lists(records, min_size=1, max_size=4), min_size=1, max_size=6), cut=st.floats(0, 1), noise=st.binary(max_size=30)
)
def test_a_crash_at_any_byte_loses_nothing_that_was_promised(groups: list[list[Record]], cut: float, noise: bytes) -> None:
    """Whatever byte the last write stopped at, and whatever lies behind it, every group synced before it is there, in order."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        spool = opened(directory)
        ends = []
        for group in groups:
            spool.append(group)
            ends.append(spool.bytes)
        spool.close()
        (segment,) = directory.glob("*.spool")
        data = segment.read_bytes()
        at = int(cut * len(data))
        segment.write_bytes(data[:at] + noise)
        again = opened(directory)
        promised = [record for group, end in zip(groups, ends, strict=True) if end <= at for record in group]
        written = [record for group in groups for record in group]
        found = everything(again)
        assert found[: len(promised)] == promised
        assert found == written[: len(found)] or at + len(noise) > len(data)
        again.append([a_record(7)])
        again.close()
        assert everything(opened(directory)) == [*found, a_record(7)]


class SpoolMachine(RuleBasedStateMachine):
    """Any mix of appends, acknowledgements and kills: the spool is always exactly what is not yet acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.spool = opened(self.directory, segment_bytes=400)
        self.model: list[Record] = []

    @rule(group=st.lists(records, min_size=1, max_size=5))
    def append(self, group: list[Record]) -> None:
        self.spool.append(group)
        self.model += group

    @rule(count=st.integers(1, 8))
    def acknowledge(self, count: int) -> None:
        taken = self.spool.read(count, ROOM)
        assert [s.record for s in taken] == self.model[: len(taken)]
        self.spool.advance(taken)
        del self.model[: len(taken)]

    @rule(torn=st.binary(max_size=20))
    def die_and_restart(self, torn: bytes) -> None:
        self.spool.close()
        if segments := sorted(self.directory.glob("*.spool")):
            with segments[-1].open("ab") as file:
                file.write(torn)
        self.spool = opened(self.directory, segment_bytes=400)

    @rule()
    def lose_the_position(self) -> None:
        """Power loss may undo the unsynced position: records come again, from the oldest segment on, none is missing."""
        self.spool.close()
        (self.directory / "position").unlink()
        self.spool = opened(self.directory, segment_bytes=400)
        found = everything(self.spool)
        assert found[len(found) - len(self.model) :] == self.model
        self.model = found

    @invariant()
    def holds_the_unacknowledged(self) -> None:
        assert everything(self.spool) == self.model
        assert self.spool.pending == len(self.model)
        assert self.spool.bytes == sum(p.stat().st_size for p in self.directory.glob("*.spool"))

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.directory)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
