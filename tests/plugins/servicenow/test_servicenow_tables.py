"""Codes, labels and legal moves, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.api import TicketStatus
from plugins.servicenow.tables import STATES, TARGETS, TYPES, code, moves_of, steps, table_of_number


@pytest.mark.parametrize(
    ("value", "text"),
    [("-5", "-5"), (-5.0, "-5"), (3, "3"), ("3.0", "3"), ("1 - Critical", "1 - Critical"), (None, ""), (True, ""), ([], ""), (2.5, "2.5")],
)
def test_a_code_is_the_same_whichever_api_wrote_it(value: object, text: str) -> None:
    """The Table API writes "-5", the Change API -5.0, a script -5."""
    assert code(value) == text


@pytest.mark.parametrize(
    ("number", "table"),
    [
        ("INC0010043", "incident"),
        ("chg0030003", "change_request"),
        ("PRB0040001", "problem"),
        ("RITM0010001", "sc_req_item"),
        ("SCTASK0010001", "sc_task"),
        ("CTASK0010001", "change_task"),
        ("TASK0020001", "task"),
        ("FAC0001001", None),
        ("10043", None),
        ("INC", None),
    ],
)
def test_a_number_tells_its_table_by_its_letters(number: str, table: str | None) -> None:
    """Many bodies have nothing else to tell it by."""
    assert table_of_number(number) == table


@pytest.mark.parametrize(
    ("table", "kind", "current", "wanted", "way"),
    [
        ("incident", "normal", "1", ("7",), ("6", "7")),
        ("incident", "normal", "3", ("7",), ("6", "7")),
        ("incident", "normal", "6", ("2",), ("2",)),
        ("incident", "normal", "2", ("2",), ()),
        ("incident", "normal", "7", ("2",), None),
        ("incident", "normal", "1", ("11",), ("11",)),
        ("change_request", "normal", "-5", ("3",), ("-4", "-3", "-2", "-1", "0", "3")),
        ("change_request", "emergency", "-5", ("3",), ("-3", "-2", "-1", "0", "3")),
        ("change_request", "standard", "-5", ("-2", "-1", "0"), ("-2",)),
        ("change_request", "of our own", "-5", ("-4", "-3"), ("-4",)),
        ("change_request", "normal", "3", ("-5",), None),
        ("problem", "normal", "101", ("107",), ("102", "103", "106", "107")),
        ("sc_task", "normal", "1", ("3",), ("3",)),
        ("sc_task", "normal", "1", (), ()),
        ("change_request", "standard", "-1", ("-4", "-3"), ()),
        ("change_request", "standard", "-3", ("3",), None),
    ],
)
def test_a_status_is_reached_through_the_states_between(
    table: str, kind: str, current: str, wanted: tuple[str, ...], way: tuple[str, ...] | None
) -> None:
    """A state model refuses a jump, or keeps the record where it was without a word."""
    assert steps(table, current, wanted, kind) == way


@given(st.sampled_from(["incident", "change_request", "problem"]), st.sampled_from(["normal", "standard", "emergency"]), st.data())
def test_every_step_of_a_way_is_a_legal_move_and_it_ends_where_it_should(table: str, kind: str, data: st.DataObject) -> None:
    """The promise the writer is built on."""
    current = data.draw(st.sampled_from(sorted(STATES[table])))
    status = data.draw(st.sampled_from(sorted(TARGETS[table])))
    wanted, model = TARGETS[table][TicketStatus(status)], moves_of(table, kind)
    way = steps(table, current, wanted, kind)
    if way is None:
        return
    at = current
    for state in way:
        assert model is not None
        assert state in model[at]
        at = state
    assert at in wanted or not way


def test_every_target_reads_back_as_the_status_it_stands_for() -> None:
    """What is written must not come back as another word; a change and a task know closed only."""
    for table, targets in TARGETS.items():
        for status, states in targets.items():
            for state in states:
                read = STATES[table][state]
                assert read is status or (status, read) in {
                    (TicketStatus.RESOLVED, TicketStatus.CLOSED),
                    (TicketStatus.NEW, TicketStatus.OPEN),
                }


def test_every_table_with_states_has_a_type() -> None:
    """A ticket of a table we can read must be routable by its type."""
    assert set(STATES) <= set(TYPES)
