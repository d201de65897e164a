"""The conservation equation for one partition: what the topics say became of each accepted event. Pure.

Records may be told in any order once the received ones are known. Ids are kept as their 16 bytes and everything else in flat
arrays, and only one partition is held at a time: about 130 bytes an event.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from schemas.events import ProcessOutcome, SeenOutcome, Stage


class State(StrEnum):
    """What became of an accepted event, each in exactly one."""

    DUPLICATE = "duplicate"
    ECHO = "echo"
    DROPPED = "dropped"
    PROCESSED = "processed"
    IN_FLIGHT = "in_flight"
    RETRYING = "retrying"
    DEAD_LETTERED = "dead_lettered"
    UNACCOUNTED = "unaccounted"


@dataclass(frozen=True, slots=True)
class Entry:
    """One event's account. `who` is (tenant, tool); `original` the first event of a duplicate; `why` what does not add up."""

    event_id: bytes
    who: tuple[str, str] | None
    offset: int
    state: State
    original: bytes | None = None
    why: str = ""


_ROUTED, _PROCESSED, _FAILED, _SET_ASIDE_BY_ROUTE, _SET_ASIDE_BY_PROCESS, _RETRY = (1 << n for n in range(6))
_OUTCOMES = tuple(SeenOutcome)
_UNDECIDED = 255
_NOWHERE = -1


class PartitionLedger:
    """Told every record of one partition up to a cut, then asked for each event's account.

    `start` and `end` bound the audited offsets of tickets.received.v1: records from `end` on are only there to be known.
    `routed_upto` and `processed_upto` are the groups' committed offsets, taken before everything else: what lies below must have
    its result. The cuts of the topics must be taken from the last stage to the first, so that what a result stands on is there.
    """

    def __init__(self, start: int, end: int, routed_upto: int, processed_upto: int) -> None:
        self._start, self._end = start, end
        self._routed_upto, self._processed_upto = routed_upto, processed_upto
        self._ids: dict[bytes, int] = {}
        self._offsets = array("q")
        self._who = array("L")
        self._routed_at = array("q")
        self._marks = bytearray()
        self._names: dict[tuple[str, str], int] = {}
        self._outcomes = bytearray()
        self._originals: dict[int, bytes] = {}
        self._undecodable: set[int] = set()
        self._letters_of_received: set[int] = set()
        self._strangers: dict[bytes, str] = {}
        self.repeats = 0
        self.injected = 0
        self.not_in_tables = 0

    # --- what the topics say ---------------------------------------------------------------------------------------------

    def received(self, offset: int, event_id: bytes, who: tuple[str, str], injected: bool) -> None:
        """A record of tickets.received.v1. The same id again is the door's own repeat, and counts once."""
        if injected:
            self.injected += 1
        elif event_id in self._ids:
            self.repeats += offset < self._end
        else:
            self._ids[event_id] = len(self._offsets)
            self._offsets.append(offset)
            self._who.append(self._names.setdefault(who, len(self._names)))
            self._routed_at.append(_NOWHERE)
            self._marks.append(0)

    def undecodable(self, offset: int) -> None:
        """A record of tickets.received.v1 that is no event."""
        if offset < self._end:
            self._undecodable.add(offset)

    def seen(self, offset: int, outcome: str, original: bytes | None) -> None:
        """What route decided for a received record; decided again, the later word counts."""
        if offset < self._start:
            return
        at = offset - self._start
        if at >= len(self._outcomes):
            self._outcomes += bytes([_UNDECIDED]) * (at + 1 - len(self._outcomes))
        self._outcomes[at] = _OUTCOMES.index(SeenOutcome(outcome))
        if original is not None and outcome == SeenOutcome.DUPLICATE:
            self._originals[offset] = original

    def routed(self, offset: int, event_id: bytes, injected: bool) -> None:
        """A record of tickets.routed.v1, at this offset there."""
        if (index := self._mark(event_id, _ROUTED, injected, "tickets.routed.v1")) is not None and self._routed_at[index] == _NOWHERE:
            self._routed_at[index] = offset

    def processed(self, event_id: bytes, outcome: str, injected: bool) -> None:
        """A record of tickets.processed.v1."""
        self._mark(event_id, _PROCESSED if outcome == ProcessOutcome.PROCESSED else _FAILED, injected, "tickets.processed.v1")

    def dead_letter(self, stage: str, event_id: bytes | None, received_offset: int | None, injected: bool) -> None:
        """A record of tickets.dead-letter.v1; `received_offset` when its origin is a received record of this partition."""
        if stage == Stage.MATERIALIZE:
            self.not_in_tables += 1
            return
        if received_offset is not None:
            self._letters_of_received.add(received_offset)
        if event_id is not None:
            by_route = stage in (Stage.ROUTE, Stage.INGESTION)
            self._mark(event_id, _SET_ASIDE_BY_ROUTE if by_route else _SET_ASIDE_BY_PROCESS, injected, "tickets.dead-letter.v1")

    def retry(self, event_id: bytes, injected: bool) -> None:
        """A record of a delay topic."""
        self._mark(event_id, _RETRY, injected, "a retry topic")

    def _mark(self, event_id: bytes, mark: int, injected: bool, topic: str) -> int | None:
        if injected:
            return None
        index = self._ids.get(event_id)
        if index is None:
            if self._start == 0:  # else its received record may be past retention
                self._strangers.setdefault(event_id, topic)
            return None
        self._marks[index] |= mark
        return index

    # --- the account -----------------------------------------------------------------------------------------------------

    def entries(self) -> Iterator[Entry]:
        """Each audited event once, in received order; then ids that are nowhere on tickets.received.v1."""
        names = list(self._names)
        for event_id, index in self._ids.items():
            offset = self._offsets[index]
            if offset >= self._end:
                continue
            settled = self._settle(offset, self._marks[index], self._routed_at[index])
            if settled is not None:
                state, why = settled
                original = self._originals.get(offset) if state is State.DUPLICATE else None
                if original is not None and original not in self._ids and self._start == 0:
                    state, why = State.UNACCOUNTED, f"dropped as a duplicate of {original.hex()}, which is not on tickets.received.v1"
                yield Entry(event_id, names[self._who[index]], offset, state, original, why)
        for event_id, topic in self._strangers.items():
            yield Entry(event_id, None, _NOWHERE, State.UNACCOUNTED, None, f"on {topic}, but not on tickets.received.v1")

    def undecodable_entries(self) -> Iterator[Entry]:
        """Each undecodable received record: set aside, or not yet decided."""
        for offset in sorted(self._undecodable):
            if offset in self._letters_of_received:
                yield Entry(b"", None, offset, State.DEAD_LETTERED)
            elif offset < self._routed_upto:
                yield Entry(b"", None, offset, State.UNACCOUNTED, None, "undecodable, and route passed it without a dead letter")
            else:
                yield Entry(b"", None, offset, State.IN_FLIGHT)

    def _settle(self, offset: int, marks: int, routed_at: int) -> tuple[State, str] | None:
        at = offset - self._start
        decision = self._outcomes[at] if at < len(self._outcomes) else _UNDECIDED
        passed = offset < self._routed_upto
        if decision == _UNDECIDED:
            return (State.UNACCOUNTED, "route passed it without a decision on tickets.seen.v1") if passed else (State.IN_FLIGHT, "")
        outcome = _OUTCOMES[decision]
        if outcome is SeenOutcome.ROUTED:
            return self._settle_routed(marks, routed_at, passed)
        if outcome is SeenOutcome.DEAD_LETTER:
            if marks & _SET_ASIDE_BY_ROUTE:
                return State.DEAD_LETTERED, ""
            return (State.UNACCOUNTED, "set aside by route, but its dead letter is missing") if passed else (State.IN_FLIGHT, "")
        if outcome is SeenOutcome.REPEAT:
            # The first of its copies here: the one it repeats is past retention, and this event with it.
            return None if self._start > 0 else (State.UNACCOUNTED, "called a repeat, but there is no earlier copy")
        if outcome is SeenOutcome.UNKNOWN:
            return State.UNACCOUNTED, "decided in a way this release does not know"
        return State(outcome.value), ""

    def _settle_routed(self, marks: int, routed_at: int, passed: bool) -> tuple[State, str]:
        if marks & _PROCESSED:
            return State.PROCESSED, ""
        if marks & _SET_ASIDE_BY_PROCESS:
            return State.DEAD_LETTERED, ""
        if marks & _FAILED:
            return State.UNACCOUNTED, "given up by process, but its dead letter is missing"
        if marks & _RETRY:
            return State.RETRYING, ""
        if routed_at == _NOWHERE:
            return (State.UNACCOUNTED, "decided as routed, but not on tickets.routed.v1") if passed else (State.IN_FLIGHT, "")
        if routed_at < self._processed_upto:
            return State.UNACCOUNTED, "process passed it without a result"
        return State.IN_FLIGHT, ""
