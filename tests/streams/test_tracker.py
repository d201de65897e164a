"""The one rule of commits: never past an unfinished record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.tracker import PrefixTracker


@given(st.integers(0, 1000), st.lists(st.integers(1, 50), min_size=1, max_size=40), st.randoms())
def test_a_commit_never_passes_an_unfinished_unit_and_reaches_the_end_when_all_are_done(
    start: int, sizes: list[int], random: object
) -> None:
    """Whatever order units finish in, the committed offset is the end of the finished beginning, and grows only."""
    tracker = PrefixTracker(start)
    units = []
    for size in sizes:
        units.append(tracker.add(tracker.expected + size, size))
    order = list(units)
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    last = tracker.committable()
    assert last == start
    for unit in order:
        unit.done = True
        offset = tracker.committable()
        assert offset >= last
        unfinished = [u.next_offset - u.records for u in units if not u.done]
        assert offset == (min(unfinished) if unfinished else units[-1].next_offset)
        last = offset
    assert tracker.pending == 0


def test_marking_a_unit_twice_changes_nothing() -> None:
    """A late acknowledgement after a retry must not count two units."""
    tracker = PrefixTracker(5)
    first, _second = tracker.add(8, 3), tracker.add(9, 1)
    first.done = True
    first.done = True
    assert tracker.committable() == 8
    assert tracker.committable() == 8
    assert tracker.pending == 1


def test_a_chain_never_goes_backwards() -> None:
    """A batch fetched before a seek would otherwise be counted again."""
    tracker = PrefixTracker(5)
    tracker.add(8, 3)
    with pytest.raises(ValueError, match="cannot go on"):
        tracker.add(8, 0)
