"""The conservation equation of one partition, told by hand."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ledger import Entry, PartitionLedger, State

WHO = ("acme", "desk")


def an_id(n: int) -> bytes:
    return n.to_bytes(16, "big")


def a_ledger(count: int = 1, *, start: int = 0, routed_upto: int = 0, processed_upto: int = 0) -> PartitionLedger:
    """A ledger with events 0, 1, … received at offsets from `start` on."""
    ledger = PartitionLedger(start, start + count, routed_upto, processed_upto)
    for n in range(count):
        ledger.received(start + n, an_id(n), WHO, injected=False)
    return ledger


def only(ledger: PartitionLedger) -> Entry:
    (entry,) = ledger.entries()
    return entry


@pytest.mark.parametrize(
    ("outcome", "then", "state"),
    [
        ("duplicate", [], State.DUPLICATE),
        ("echo", [], State.ECHO),
        ("dropped", [], State.DROPPED),
        ("dead_letter", ["route letter"], State.DEAD_LETTERED),
        ("routed", [], State.IN_FLIGHT),
        ("routed", ["routed"], State.IN_FLIGHT),
        ("routed", ["routed", "retry"], State.RETRYING),
        ("routed", ["routed", "retry", "processed"], State.PROCESSED),
        ("routed", ["routed", "retry", "process letter", "failed"], State.DEAD_LETTERED),
        ("routed", ["routed", "process letter"], State.DEAD_LETTERED),
        ("routed", ["routed", "processed", "processed"], State.PROCESSED),
        ("routed", ["routed", "processed", "materialize letter"], State.PROCESSED),
        (None, [], State.IN_FLIGHT),
    ],
)
def test_each_event_is_counted_by_what_became_of_it_last(outcome: str | None, then: list[str], state: State) -> None:
    """In exactly one state, whatever else is told of it, in any order."""
    for told in (then, then[::-1]):
        ledger = a_ledger()
        if outcome:
            ledger.seen(0, outcome, an_id(0) if outcome == "duplicate" else None)
        for word in told:
            tell(ledger, word)
        assert only(ledger).state is state


def tell(ledger: PartitionLedger, word: str, n: int = 0) -> None:
    if word == "routed":
        ledger.routed(n, an_id(n), injected=False)
    elif word == "retry":
        ledger.retry(an_id(n), injected=False)
    elif word.endswith("letter"):
        ledger.dead_letter(word.partition(" ")[0], an_id(n), None, injected=False)
    else:
        ledger.processed(an_id(n), word, injected=False)


@pytest.mark.parametrize(
    ("outcome", "then", "words"),
    [
        (None, [], "without a decision"),
        ("routed", [], r"not on tickets\.routed"),
        ("routed", ["routed"], "without a result"),
        ("routed", ["routed", "failed"], "dead letter is missing"),
        ("dead_letter", [], "dead letter is missing"),
        ("repeat", [], "no earlier copy"),
        ("unknown", [], "does not know"),
    ],
)
def test_what_a_stage_passed_without_its_result_is_named(outcome: str | None, then: list[str], words: str) -> None:
    """A committed offset says "this is done": an event below it without a trace was lost."""
    ledger = a_ledger(routed_upto=1, processed_upto=1)
    if outcome:
        ledger.seen(0, outcome, None)
    for word in then:
        tell(ledger, word)
    entry = only(ledger)
    assert entry.state is State.UNACCOUNTED
    assert re.search(words, entry.why)


def test_the_doors_own_repeat_counts_once() -> None:
    """The same event_id twice on the topic is one accepted event."""
    ledger = PartitionLedger(0, 2, 2, 1)
    for offset in (0, 1):
        ledger.received(offset, an_id(0), WHO, injected=False)
    ledger.seen(0, "routed", None)
    ledger.seen(1, "repeat", an_id(0))
    tell(ledger, "routed")
    tell(ledger, "processed")
    assert only(ledger).state is State.PROCESSED
    assert ledger.repeats == 1


def test_a_duplicate_names_its_original_and_one_of_nothing_does_not_add_up() -> None:
    """Dropped as a repetition of an event that never was: that is a loss."""
    ledger = a_ledger(3)
    ledger.seen(0, "routed", None)
    ledger.seen(1, "duplicate", an_id(0))
    ledger.seen(2, "duplicate", an_id(77))
    first, second, third = ledger.entries()
    assert (first.state, second.state, second.original) == (State.IN_FLIGHT, State.DUPLICATE, an_id(0))
    assert third.state is State.UNACCOUNTED


def test_results_of_events_that_were_never_received_are_named() -> None:
    """From nothing, nothing may come. Past retention nobody can tell."""
    for start, found in ((0, 1), (5, 0)):
        ledger = PartitionLedger(start, start, 0, 0)
        ledger.processed(an_id(9), "processed", injected=False)
        assert len(list(ledger.entries())) == found


def test_events_after_the_cut_are_known_but_not_counted() -> None:
    """Traffic goes on during an audit."""
    ledger = PartitionLedger(0, 1, 0, 0)
    ledger.received(0, an_id(0), WHO, injected=False)
    ledger.received(1, an_id(1), WHO, injected=False)
    ledger.seen(1, "routed", None)
    tell(ledger, "routed", 1)
    assert [entry.event_id for entry in ledger.entries()] == [an_id(0)]


def test_replayed_events_are_left_out() -> None:
    """They were accepted once, long ago."""
    ledger = PartitionLedger(0, 1, 1, 1)
    ledger.received(0, an_id(0), WHO, injected=True)
    ledger.processed(an_id(0), "processed", injected=True)
    assert list(ledger.entries()) == []
    assert ledger.injected == 1


def test_undecodable_records_need_a_dead_letter_too() -> None:
    """They have no event id; their offset stands for it."""
    ledger = PartitionLedger(0, 3, 2, 0)
    for offset in range(3):
        ledger.undecodable(offset)
        ledger.seen(offset, "dead_letter", None)
    ledger.dead_letter("route", None, 0, injected=False)
    assert [entry.state for entry in ledger.undecodable_entries()] == [State.DEAD_LETTERED, State.UNACCOUNTED, State.IN_FLIGHT]


def test_past_retention_a_copy_may_be_called_a_repeat_of_what_is_gone() -> None:
    """The first copy is no longer on the topic, and neither is the account of it."""
    ledger = a_ledger(start=10, routed_upto=11)
    ledger.seen(10, "repeat", an_id(0))
    assert list(ledger.entries()) == []


@given(st.lists(st.sampled_from(["duplicate", "echo", "dropped", "routed", "processed", "failed", "retry", "lost", "letter"]), max_size=40))
def test_the_states_of_all_events_add_up_to_the_accepted(fates: list[str]) -> None:
    """The equation itself; and exactly the lost ones are unaccounted for."""
    ledger = a_ledger(len(fates), routed_upto=len(fates), processed_upto=0)
    for n, fate in enumerate(fates):
        if fate != "lost":
            outcome = fate if fate in ("duplicate", "echo", "dropped") else "dead_letter" if fate == "letter" else "routed"
            ledger.seen(n, outcome, an_id(n) if fate == "duplicate" else None)
        if fate in ("routed", "processed", "failed", "retry"):
            tell(ledger, "routed", n)
        if fate == "failed":
            tell(ledger, "process letter", n)
        if fate == "letter":
            tell(ledger, "route letter", n)
        if fate in ("processed", "failed", "retry"):
            tell(ledger, fate, n)
    counts = Counter(entry.state for entry in ledger.entries())
    assert sum(counts.values()) == len(fates)
    assert counts[State.UNACCOUNTED] == fates.count("lost")
    assert counts[State.PROCESSED] == fates.count("processed")
    assert counts[State.DEAD_LETTERED] == fates.count("failed") + fates.count("letter")
