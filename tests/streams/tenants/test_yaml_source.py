"""What the strict YAML reader takes, refuses, and remembers."""

from __future__ import annotations

import pytest

from streams.tenants.yaml_source import MAX_BYTES, MAX_DEPTH, path_text, read_yaml


def messages(text: str) -> list[str]:
    return [str(problem) for problem in read_yaml(text).problems]


def test_words_that_only_look_like_something_else_stay_text() -> None:
    """A tool called `no`, or a version 1.10, must not become false or 1.1 behind its writer's back."""
    data = read_yaml("a: no\nb: on\nc: 2026-01-02\nd: 012\ne: 0x10\nf: 1:20\ng: true\nh: 7\ni: 1.5\nj: null\nk: '7'\nl:").data
    assert data == {
        "a": "no",
        "b": "on",
        "c": "2026-01-02",
        "d": "012",
        "e": "0x10",
        "f": "1:20",
        "g": True,
        "h": 7,
        "i": 1.5,
        "j": None,
        "k": "7",
        "l": None,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2", "2:1: a: given twice; first in line 1"),
        ("a: {b: 1, b: 2}", "1:11: a.b: given twice; first in line 1"),
        ("a: &x 1\nb: *x", "2:4: aliases are not taken; write the value out"),
        ("a: 1\n---\nb: 2", "2:1: one file holds one tenant; move the second document to a file of its own"),
        ("a: !!python/object:os.system x", "1:4: a: the tag tag:yaml.org,2002:python/object:os.system is not taken"),
        ("a: !!binary aGk=", "1:4: a: the tag tag:yaml.org,2002:binary is not taken"),
        ("a: !!int x", "1:4: a: not a int"),
        ("? [1, 2]\n: 3", "1:3: a key must be a word"),
        ("a: [1", "1:6: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: \x00", "1:1: not YAML: unacceptable character #x0000: special characters are not allowed"),
    ],
)
def test_what_hides_something_from_the_reader_is_refused_at_its_place(text: str, expected: str) -> None:
    assert messages(text) == [expected]


def test_size_depth_and_number_of_values_are_bounded() -> None:
    """A configuration is a person's text; a bomb is refused before it is composed."""
    assert messages("a: " + "x" * MAX_BYTES) == ["1:1: the file is larger than 256 KiB"]
    assert messages("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)) == [f"1:{MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH}"]
    assert messages("[" + "1," * 20_001 + "]")[0].endswith("more than 20000 values")


def test_a_problem_points_at_the_nearest_place_that_is_in_the_file() -> None:
    """A missing key has no place of its own; its map has."""
    source = read_yaml("tools:\n  desk:\n    type: jira\n")
    assert str(source.problem(("tools", "desk", "auth", "token"), "is missing")) == "3:5: tools.desk.auth.token: is missing"
    assert str(source.problem(("tools", "desk"), "odd", at_key=True)) == "2:3: tools.desk: odd"
    assert path_text(("routes", 1, "match", "priority")) == "routes[1].match.priority"
