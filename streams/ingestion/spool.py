"""The local spool: records on disk, in order, until the broker has them. Files only; no event loop, no Kafka.

A directory of append-only segments, `NUMBER.spool`. A segment starts with MAGIC; then records, each a length, a CRC-32 of the
payload, and the payload. `append` returns after fsync, so what it took survives `kill -9` and power loss. A crash in the middle
of a write leaves a torn tail that nobody was promised; opening cuts it off. `position` remembers how far the broker has
acknowledged; it is written after the ack and not synced, because a lost position only means sending a few records again, in the
same order and with the same event ids. Calls may come from any one thread at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import msgspec

MAGIC = b"AIASPL1\n"
SEGMENT_BYTES = 8 << 20
MIN_FREE_BYTES = 64 << 20
MAX_PAYLOAD_BYTES = 8 << 20

_FRAME = Struct("<II")  # length of the payload, its CRC-32
_HEAD = Struct("<qBH")  # timestamp_ms, length of the topic, length of the key
_POSITION = Struct("<QQI")  # segment, offset, CRC-32 of the two


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record on its way to a topic. `timestamp_ms` is epoch milliseconds, the Kafka record's own time."""

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key) + len(self.value)


class Position(NamedTuple):
    """A place in the spool; positions compare in the order of the records."""

    segment: int
    offset: int


class Stored(NamedTuple):
    """A record in the spool: it lies from `start` to `end`."""

    start: Position
    end: Position
    record: Record


class SpoolFull(Exception):
    """No room: the spool's own bound, or the disk's. Nothing was stored."""


class SpoolInUse(Exception):
    """Another process holds this spool."""


class Spool:
    """Records on disk, first in, first out. `max_bytes` bounds the segments' sizes together.

    `damaged` counts segments with unreadable bytes before their end (not a torn tail): such a file is kept as
    NUMBER.damaged for a person to look at, its readable beginning is still delivered.
    """

    def __init__(self, directory: Path, max_bytes: int, *, segment_bytes: int = SEGMENT_BYTES, min_free: int = MIN_FREE_BYTES) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.damaged = 0
        self.torn_bytes = 0
        self.bytes = 0  # of all segments on disk
        self._segment_bytes = segment_bytes
        self._min_free = min_free
        self._ends: dict[int, int] = {}  # each live segment's end of whole records
        self._head = Position(1, len(MAGIC))
        self._pending = 0
        self._active: int | None = None  # descriptor of the newest segment while this process appends to it
        self._reading: tuple[int, int] | None = None  # segment, descriptor
        self._lock: int | None = None
        self._position_fd: int | None = None

    # opening ---------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Takes the spool and finds what is in it. Raises SpoolInUse, OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise SpoolInUse(f"another process uses the spool {self.directory}; give this one another --instance") from None
        self._position_fd = os.open(self.directory / "position", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        numbers = sorted(int(path.stem) for path in self.directory.glob("*.spool"))
        self._head = self._read_position(numbers)
        for number in numbers:
            if number < self._head.segment:
                self._path(number).unlink()
            else:
                self._recover(number, last=number == numbers[-1])
        if (end := self._ends.get(self._head.segment)) is not None and end < self._head.offset:
            self._head = Position(self._head.segment, end)
        self._pending = sum(1 for _ in self._stored(self._head))
        if not self._pending:
            self._drop_before(Position(max(max(self._ends, default=0) + 1, self._head.segment), len(MAGIC)))
        self.bytes = sum(self._ends.values())

    def _read_position(self, numbers: Sequence[int]) -> Position:
        assert self._position_fd is not None
        raw = os.pread(self._position_fd, _POSITION.size, 0)
        if len(raw) == _POSITION.size:
            segment, offset, crc = _POSITION.unpack(raw)
            if crc == zlib.crc32(raw[:16]):
                return Position(segment, offset)
        return Position(numbers[0] if numbers else 1, len(MAGIC))

    def _recover(self, number: int, *, last: bool) -> None:
        path = self._path(number)
        data = path.read_bytes()
        end = len(MAGIC) if data[: len(MAGIC)] == MAGIC else 0
        while end and (frame := _payload(data, end)) is not None:
            end = frame[1]
        if end < len(data):
            if last:
                self.torn_bytes += len(data) - end
            else:
                self.damaged += 1
                (self.directory / f"{number:020d}.damaged").write_bytes(data)
            with path.open("r+b") as file:
                file.truncate(end)
                os.fsync(file.fileno())
        self._ends[number] = max(end, len(MAGIC))

    def close(self) -> None:
        """Lets go of the files; what is stored stays. Idempotent."""
        for descriptor in (self._active, self._reading and self._reading[1], self._position_fd, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._active = self._reading = self._position_fd = self._lock = None

    # state -----------------------------------------------------------------------------------------------------------
    @property
    def pending(self) -> int:
        """Records not yet acknowledged by the broker."""
        return self._pending

    def has_room(self) -> bool:
        """Whether an ordinary record would be taken now."""
        return self.bytes < self.max_bytes and self._disk_free() > self._min_free

    def _disk_free(self) -> int:
        usage = os.statvfs(self.directory)
        return usage.f_bavail * usage.f_frsize

    # writing ---------------------------------------------------------------------------------------------------------
    def append(self, records: Sequence[Record]) -> list[Position]:
        """Stores all the records behind what is there, with one fsync, and answers where each starts.

        Raises SpoolFull or OSError, and then none of them counts as stored.
        """
        chunks: list[bytes] = []
        sizes: list[int] = []
        for record in records:
            topic = record.topic.encode()
            payload = b"".join((_HEAD.pack(record.timestamp_ms, len(topic), len(record.key)), topic, record.key, record.value))
            chunks += (_FRAME.pack(len(payload), zlib.crc32(payload)), payload)
            sizes.append(_FRAME.size + len(payload))
        total = sum(sizes)
        if self.bytes + total > self.max_bytes:
            raise SpoolFull(f"the spool holds {self.bytes} of at most {self.max_bytes} bytes")
        if self._disk_free() - total < self._min_free:
            raise SpoolFull(f"less than {self._min_free} bytes would be left on the spool's disk")
        number, descriptor = self._writable()
        end = self._ends[number]
        try:
            _write_all(descriptor, b"".join(chunks), end)
            os.fdatasync(descriptor)
        except OSError:
            self._abandon(number, end)
            raise
        starts = []
        for size in sizes:
            starts.append(Position(number, end))
            end += size
        self._ends[number] = end
        self.bytes += total
        self._pending += len(records)
        return starts

    def _writable(self) -> tuple[int, int]:
        newest = max(self._ends, default=self._head.segment - 1)
        if self._active is not None:
            if self._ends.get(newest, self._segment_bytes) < self._segment_bytes:
                return newest, self._active
            os.close(self._active)
            self._active = None
        number = max(newest, self._head.segment - 1, 0) + 1
        descriptor = os.open(self._path(number), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, MAGIC, 0)
            folder = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)  # the file's name must survive too
            finally:
                os.close(folder)
        except OSError:
            os.close(descriptor)
            self._path(number).unlink(missing_ok=True)
            raise
        if not self._ends:
            self._head = Position(number, len(MAGIC))
        self._ends[number] = len(MAGIC)
        self.bytes += len(MAGIC)
        self._active = descriptor
        return number, descriptor

    def _abandon(self, number: int, end: int) -> None:
        """After a failed write or sync the file's tail is not to be trusted: cut it, and let a new segment follow."""
        assert self._active is not None
        with contextlib.suppress(OSError):  # a tail that stays is cut by whoever opens next, or holds records nobody was promised
            os.ftruncate(self._active, end)
        os.close(self._active)
        self._active = None
        if end == len(MAGIC):
            self.bytes -= self._ends.pop(number)
            self._path(number).unlink(missing_ok=True)

    # reading ---------------------------------------------------------------------------------------------------------
    def read(self, max_records: int, max_bytes: int) -> list[Stored]:
        """The oldest records, in order; at least one when there is any. They stay until `advance`."""
        found: list[Stored] = []
        size = 0
        for stored in self._stored(self._head):
            size += stored.record.size
            if found and (size > max_bytes or len(found) >= max_records):
                break
            found.append(stored)
        return found

    def _stored(self, head: Position) -> Iterator[Stored]:
        for number in sorted(self._ends):
            if number < head.segment:
                continue
            offset = head.offset if number == head.segment else len(MAGIC)
            end = self._ends[number]
            if offset >= end:
                continue
            window, base = b"", offset
            while offset < end:
                frame = _payload(window, offset - base)
                if frame is None:  # the window ends within this record: read on from the record's start
                    length = _FRAME.size + self._peek_length(number, offset)
                    window, base = os.pread(self._reader(number), max(length, 1 << 20), offset)[: end - offset], offset
                    frame = _payload(window, 0)
                    if frame is None:
                        raise OSError(f"{self._path(number)} changed on disk: no record at byte {offset}")
                payload, after = frame
                yield Stored(Position(number, offset), Position(number, base + after), _record(payload))
                offset = base + after

    def _peek_length(self, number: int, offset: int) -> int:
        raw = os.pread(self._reader(number), _FRAME.size, offset)
        return int(_FRAME.unpack(raw)[0]) if len(raw) == _FRAME.size else 0

    def _reader(self, number: int) -> int:
        if self._reading is None or self._reading[0] != number:
            if self._reading is not None:
                os.close(self._reading[1])
                self._reading = None
            self._reading = (number, os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC))
        return self._reading[1]

    def advance(self, stored: Sequence[Stored]) -> None:
        """The broker has these, the oldest records as `read` gave them: they leave the spool."""
        if not stored:
            return
        self._pending -= len(stored)
        head = stored[-1].end
        if self._pending == 0:  # nothing left: the next record begins a new segment
            head = Position(max(self._ends) + 1, len(MAGIC))
            if self._active is not None:
                os.close(self._active)
                self._active = None
        self._drop_before(head)

    def _drop_before(self, head: Position) -> None:
        assert self._position_fd is not None
        self._head = head
        raw = _POSITION.pack(head.segment, head.offset, 0)[:16]
        os.pwrite(self._position_fd, raw + zlib.crc32(raw).to_bytes(4, "little"), 0)
        if self._reading is not None and self._reading[0] < head.segment:
            os.close(self._reading[1])
            self._reading = None
        for number in [n for n in self._ends if n < head.segment]:
            self.bytes -= self._ends.pop(number)
            self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:020d}.spool"


def _payload(data: bytes, start: int) -> tuple[bytes, int] | None:
    """The payload of the record at `start` and the record's end; None when it is torn or not one."""
    if start + _FRAME.size > len(data):
        return None
    length, crc = _FRAME.unpack_from(data, start)
    end = start + _FRAME.size + length
    if not _HEAD.size <= length <= MAX_PAYLOAD_BYTES or end > len(data):
        return None
    payload = data[start + _FRAME.size : end]
    return (payload, end) if zlib.crc32(payload) == crc and _HEAD.size + payload[8] <= length else None


def _record(payload: bytes) -> Record:
    timestamp_ms, topic_length, key_length = _HEAD.unpack_from(payload)
    key_start = _HEAD.size + topic_length
    value_start = key_start + key_length
    return Record(payload[_HEAD.size : key_start].decode(), payload[key_start:value_start], payload[value_start:], timestamp_ms)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]
