"""The planted bugs fit the code, name tests that exist, and are noticed; the page says what they are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.planted.bug import Unplantable, planted
from tests.planted.bugs import BUGS
from tests.planted.page import page
from tests.planted.runner import ROOT, catch, copied_tree

FAST = ("ack-before-produce", "decides-anew", "doubt-ignored", "position-outside-the-transaction", "commit-passes-an-unfinished-record")
"""One for each room; `python -m tests.planted` tries them all."""


def test_each_bug_still_fits_the_code() -> None:
    """A bug that cannot be planted any more shows nothing; it is to be written anew for the code of today."""
    wrong = []
    for bug in BUGS:
        try:
            ast.parse(planted(bug, (ROOT / bug.file).read_text(encoding="utf-8")))
        except (Unplantable, SyntaxError, FileNotFoundError) as exc:
            wrong.append(f"{bug.name}: {exc}")
    assert wrong == []


def test_each_bug_has_a_name_of_its_own_and_a_test_that_exists() -> None:
    names = [bug.name for bug in BUGS]
    assert len(set(names)) == len(names)
    for bug in BUGS:
        file, *_, function = bug.test.split("::")
        nodes = [node for place in _files(file) for node in ast.walk(ast.parse(place.read_text(encoding="utf-8")))]
        found = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert function in found, f"{bug.name}: {bug.test} does not exist"


def _files(file: str) -> list[Path]:
    """The test's own file, and the contracts its classes may inherit from."""
    return [ROOT / file, *(ROOT / "tests" / "contracts").glob("*.py")]


def test_the_page_is_the_one_made_from_the_bugs() -> None:
    """`python -m tests.planted --page > docs/planted-bugs.md` writes it anew."""
    assert (ROOT / "docs" / "planted-bugs.md").read_text(encoding="utf-8") == page()


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_a_planted_bug_is_caught(name: str) -> None:
    """The tests are worth what they notice."""
    (bug,) = (bug for bug in BUGS if bug.name == name)
    with copied_tree() as tree:
        catch(bug, tree)
