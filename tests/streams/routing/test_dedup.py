"""The two scopes, as tables; crashes and moves are tests/streams/test_seen.py's."""

from __future__ import annotations

import pytest

from streams.routing.dedup import DAY_US, MINUTE_US, DedupWindow, Mark, effective_key, outcome_of

A, B, C = (n.to_bytes(16, "big") for n in (1, 2, 3))
KEY = b"k" * 16
WINDOW = DedupWindow()
T = 1_790_000_000_000_000


def judge(events: list[tuple[bytes, bytes, str, int]]) -> list[bytes | None]:
    """(event_id, dedup key, scope, received_at) in offset order -> the first one each repeats."""
    marks: dict[bytes, Mark] = {}
    return [WINDOW.first_seen({}, marks, offset, *event) for offset, event in enumerate(events)]


@pytest.mark.parametrize(
    ("later_by", "repeats"),
    [(0, A), (DAY_US, A), (DAY_US + 1, None), (-2 * DAY_US, A)],
)
def test_a_named_delivery_repeats_within_the_window(later_by: int, repeats: bytes | None) -> None:
    """A late spooled copy, received long before what came first on the topic, is within it always."""
    assert judge([(A, KEY, "delivery", T), (B, KEY, "delivery", T + later_by)])[1] == repeats


def test_each_redelivery_keeps_the_window_open() -> None:
    """A tool that goes on redelivering is recognised as long as the gaps are shorter than the window."""
    step = DAY_US * 2 // 3
    assert judge([(bytes([n]) * 16, KEY, "delivery", T + n * step) for n in range(1, 5)])[1:] == [bytes([1]) * 16] * 3


def test_the_same_event_id_is_a_repeat_and_another_is_a_duplicate() -> None:
    """The door's own re-send and the tool's redelivery are told apart for the counts."""
    assert outcome_of(A, A) == "repeat"
    assert outcome_of(A, B) == "duplicate"


def body(ticket: bytes, text: bytes) -> bytes:
    return ticket * 8 + text * 8


@pytest.mark.parametrize(
    ("events", "repeats"),
    [
        ([(A, body(b"t", b"1"), T), (B, body(b"t", b"1"), T + 10 * MINUTE_US)], A),
        ([(A, body(b"t", b"1"), T), (B, body(b"t", b"1"), T + 10 * MINUTE_US + 1)], None),
        ([(A, body(b"t", b"1"), T), (B, body(b"u", b"1"), T)], None),
        ([(A, body(b"t", b"1"), T), (B, body(b"t", b"2"), T), (C, body(b"t", b"1"), T)], None),
        ([(A, body(b"t", b"1"), T), (B, body(b"t", b"2"), T), (A, body(b"t", b"1"), T)], A),
    ],
)
def test_a_nameless_delivery_repeats_only_its_tickets_latest(events: list[tuple[bytes, bytes, int]], repeats: bytes | None) -> None:
    """Open, pending, open again are three events; the same body twice in a row, soon, is one. A re-send is known by its id."""
    assert judge([(e, k, "body", at) for e, k, at in events])[-1] == repeats


def test_a_chain_of_equal_bodies_is_measured_from_the_one_that_was_accepted() -> None:
    """Else a monitor that reports the same every five minutes would be heard once and never again."""
    key = body(b"t", b"1")
    events = [(bytes([n]) * 16, key, "body", T + n * 5 * MINUTE_US) for n in range(1, 6)]
    assert [first is None for first in judge(events)] == [True, False, False, True, False]


def test_an_event_read_again_is_not_its_own_duplicate() -> None:
    """It knows itself by its offset."""
    marks = {KEY: Mark(5, T, A)}
    assert WINDOW.first_seen(marks, {}, 5, A, KEY, "delivery", T) is None
    assert WINDOW.first_seen(marks, {}, 6, A, KEY, "delivery", T) == A


def test_an_injected_event_is_compared_only_with_itself() -> None:
    """A requeue must not be dropped as a redelivery of what it requeues, nor happen twice."""
    plain = effective_key(KEY, "body", A, None)
    once, again, other = (effective_key(KEY, "body", A, run) for run in ("run-1", "run-1", "run-2"))
    assert plain == (KEY, "body")
    assert once == again != other
    assert judge([(A, *plain, T), (A, *once, T + DAY_US), (A, *again, T + DAY_US), (A, *other, T + DAY_US)]) == [None, None, A, None]
