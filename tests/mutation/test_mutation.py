"""The mutation run itself: what it plants, that it tells a killed mutant from one that lives, and that its page is of today's code."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from tests.mutation.accepted import ACCEPTED
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.subject import MODULES, ROOT, TESTS


def faults(source: str) -> list[str]:
    return [mutant.name.partition(": ")[2] for mutant in mutants("m.py", source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", ["assigns: x = a < b => x = None", "compares: a < b => a <= b"]),
        ("def f():\n    return 0 < a <= 9", ["returns: return 0 < a <= 9 => return None", "compares: 0 < a <= 9 => 0 <= a <= 9"]),
        ("if a and b: f()", ["negated: if a and b => if not (a and b)", "and/or: a and b => a or b", "removed: f() => (removed)"]),
        ("f(a, b, c=1)", ["removed: f(a, b, c=1) => (removed)", "swapped: f(a, b, c=1) => f(b, a, c=1)", "left out: c=1 => (removed)"]),
        ("x = [a for a in b if a]", ["unfiltered: a => (removed)"]),
        ("x = 'a'", ["constant: 'a' => 'aXX'"]),
        ("assert not a", ["negation: not a => a"]),
    ],
)
def test_each_kind_of_fault_is_planted(source: str, expected: list[str]) -> None:
    """A kind that is planted nowhere would make the figure better than it is."""
    found = faults(source)
    assert [fault for fault in expected if fault not in found] == []


@pytest.mark.parametrize(
    "source",
    [
        '"""Words."""',
        "import os",
        "x: int",
        "if TYPE_CHECKING:\n    x = 1",
        'raise ValueError("told to people")',
        "def f(a: 'int') -> 'str': ...",
    ],
)
def test_what_never_runs_or_is_for_people_is_left_alone(source: str) -> None:
    """Such mutants would live whatever the tests were."""
    assert [fault for fault in faults(source) if "constant" in fault] == []


def test_each_mutant_is_another_program_under_a_name_of_its_own() -> None:
    """Two that read the same would count one fault twice; without a name of its own none can be found again."""
    source = (ROOT / "plugins" / "zendesk" / "sla.py").read_text(encoding="utf-8")
    names = [mutant.name for mutant in mutants("sla.py", source)]
    assert len(set(names)) == len(names) > 50
    texts = {ast.unparse(planted("sla.py", source, name).tree()) for name in names}
    assert len(texts) == len(names)
    assert ast.unparse(ast.parse(source)) not in texts


def planted(file: str, source: str, name: str) -> Mutant:
    """The mutant of this name, built anew: planting is for good."""
    return next(mutant for mutant in mutants(file, source) if mutant.name == name)


def test_what_is_accepted_is_of_the_code_as_it_is_and_on_the_page() -> None:
    """An excuse for code that is gone is deleted with it."""
    names = {(module, m.name) for module in MODULES for m in mutants(module, (ROOT / module).read_text(encoding="utf-8"))}
    assert set(ACCEPTED) <= names
    page = (ROOT / "docs" / "mutation.md").read_text(encoding="utf-8")
    assert "| open |" not in page
    assert page.partition("## What survived")[2].count("\n| ") - 1 == len(ACCEPTED)  # less the table's head


def test_the_modules_and_their_tests_are_there() -> None:
    """A renamed file would be left out without a word."""
    assert [file for file in (*MODULES, *TESTS) if not (ROOT / file).is_file()] == []


_FATE = """
import os, sys
from tests.mutation.mutants import mutants
from tests.mutation.runner import start
from tests.mutation.subject import ROOT
file, name, test = sys.argv[1:]
mutant = next(m for m in mutants(file, (ROOT / file).read_text(encoding="utf-8")) if m.name == name)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(start(mutant, [test]), 0)[1]))
"""


@pytest.mark.parametrize(
    ("name", "code"),
    [("to_id: constant: '0' => '0XX'", 1), ("WordMap.__call__: assigns: found = self._words.get(value) => found = None", 0)],
)
def test_a_fault_is_noticed_and_a_change_without_effect_is_not(name: str, code: int) -> None:
    """The run's two answers, for mutants whose fate is known; 1 is a failed test, any other code would be a run that went wrong."""
    test = "tests/plugins/test_mapping.py::test_absent_ids_are_none_however_written"
    command = [sys.executable, "-c", _FATE, "plugins/mapping.py", name, test]
    assert subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode == code
