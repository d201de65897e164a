"""The child table: states, backoff, and when another try is of no use."""

from __future__ import annotations

import pytest

from streams.children import LONGEST_DELAY_S, NEVER_READY_LIMIT, STEADY_S, ChildRow, delay_after, ending


def test_a_crashed_child_comes_back_soon_and_later_each_time() -> None:
    """A killed door must be back within a blink, and one that cannot start must not eat the machine."""
    row = ChildRow("route")
    delays = []
    for _ in range(10):
        row.started(7, now=100.0)
        row.ready()
        delays.append(row.ended(now=101.0))
    assert delays[:4] == [0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == LONGEST_DELAY_S
    assert (row.restarts, row.state, row.pid) == (10, "backoff", None)


def test_a_child_that_ran_long_enough_starts_afresh() -> None:
    """An end after hours says nothing about the next start."""
    row = ChildRow("route", failures=8)
    row.started(7, now=100.0)
    assert row.ended(now=100.0 + STEADY_S) == delay_after(1)


@pytest.mark.parametrize("code", [2, 5, 6, None])
def test_an_end_that_cannot_mend_itself_is_not_tried_again(code: int | None) -> None:
    """Wrong usage, incompatible topics and a taken port stay so; the person must hear of it."""
    row = ChildRow("serve")
    row.started(7, now=0.0)
    row.ended(now=1.0)
    assert row.is_hopeless(code)


def test_a_child_that_worked_once_is_always_tried_again() -> None:
    """Whatever ends it later (a full disk, a broker away) may pass, and nobody is at the terminal at night."""
    row = ChildRow("serve")
    row.started(7, now=0.0)
    row.ready()
    for _ in range(50):
        row.ended(now=1.0)
    assert not row.is_hopeless(6)


def test_a_child_that_never_came_up_is_given_up_after_some_tries() -> None:
    """`up` must end with a reason rather than try for ever before the eyes of its user."""
    row = ChildRow("serve")
    for tried in range(1, NEVER_READY_LIMIT + 1):
        row.started(7, now=0.0)
        row.ended(now=1.0)
        assert row.is_hopeless(70) == (tried == NEVER_READY_LIMIT)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (70, "ended with code 70"),
        (-9, "was killed by SIGKILL"),
        (-250, "was killed by signal 250"),
        (None, "could not be started"),
    ],
)
def test_the_end_is_said_in_words(code: int | None, said: str) -> None:
    """A SIGKILL in the log is the out-of-memory killer's signature; -9 tells fewer people."""
    assert ending(code) == said
