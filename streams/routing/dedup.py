"""Which received event is a duplicate of which: pure decisions over what a partition has seen, in offset order.

Offsets, never wall time, say who was first; received_at says how far apart two deliveries are. An event is compared only with
events at lower offsets of its own partition, so any number of doors, a re-read and a moved partition decide alike.

    scope delivery   the tool names its deliveries: a duplicate when one with the same key was seen, whatever became of it, and
                     its received_at is not more than the window (24 h) below this one's. A spooled event that comes late is
                     compared with later-received ones as well: received above it is always within the window.
    scope body       it does not: a duplicate only of the ticket's latest event that was no duplicate itself, with an equal body
                     and not more than 10 min apart. So a ticket that goes A, B, A is told all three times.
    either           the same event_id again is the door's own re-send (a first copy that arrived after all): a repeat.

An injected event (a requeue, a replay) is compared only with itself, by event_id and injection_id.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from schemas.events import DedupScope, SeenOutcome

MINUTE_US = 60_000_000
DAY_US = 24 * 60 * MINUTE_US


class Mark(NamedTuple):
    """What is remembered under a key: which event it was first, and when it was last received.

    `body` is set for a ticket's latest event only.
    """

    offset: int
    received_at: int
    event_id: bytes
    body: bytes = b""


Marks = Mapping[bytes, Mark]


def effective_key(dedup_key: bytes, scope: str, event_id: bytes, injection_id: str | None) -> tuple[bytes, str]:
    """(dedup key, scope) to judge by: an injected event's own, which no first life shares."""
    if injection_id is None:
        return dedup_key, scope
    return blake2b(event_id + injection_id.encode(), digest_size=16).digest(), DedupScope.DELIVERY


def event_key(event_id: bytes) -> bytes:
    """The key that tells a re-send in scope body."""
    return b"e" + event_id


def keys_of(event_id: bytes, dedup_key: bytes, scope: str) -> tuple[bytes, ...]:
    """The keys an event is looked up by: one in scope delivery; in scope body its id's and its ticket's."""
    return (dedup_key,) if scope == "delivery" else (event_key(event_id), dedup_key[:8])


@dataclass(frozen=True, slots=True)
class DedupWindow:
    """How far apart two deliveries may be received and still be one, in microseconds."""

    delivery_us: int = DAY_US
    body_us: int = 10 * MINUTE_US

    def first_seen(
        self, known: Marks, fresh: MutableMapping[bytes, Mark], offset: int, event_id: bytes, dedup_key: bytes, scope: str, received_at: int
    ) -> bytes | None:
        """The event_id of the one this event repeats, its own for a re-send; None when it is new.

        `known` is what earlier batches left, `fresh` what this batch adds, and this event's marks are added there.
        """
        if scope == "delivery":
            mark = fresh.get(dedup_key) or known.get(dedup_key)
            if mark is not None and mark[0] < offset and mark[1] >= received_at - self.delivery_us:
                if received_at > mark[1]:
                    fresh[dedup_key] = Mark(mark[0], received_at, mark[2])
                return mark[2]
            fresh[dedup_key] = Mark(offset, received_at, event_id)
            return None

        own = event_key(event_id)
        mark = fresh.get(own) or known.get(own)
        if mark is not None and mark[0] < offset:
            return event_id
        ticket, body = dedup_key[:8], dedup_key[8:]
        latest = fresh.get(ticket) or known.get(ticket)
        fresh[own] = Mark(offset, received_at, event_id)
        if latest is not None and latest[0] < offset and latest[3] == body and abs(received_at - latest[1]) <= self.body_us:
            return latest[2]
        fresh[ticket] = Mark(offset, received_at, event_id, body)
        return None


def outcome_of(first: bytes, event_id: bytes) -> SeenOutcome:
    """What to call an event that is not new."""
    return SeenOutcome.REPEAT if first == event_id else SeenOutcome.DUPLICATE
