"""Plants a bug in a copy of the source tree and runs the one test that must notice it there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.planted.bug import Bug, planted

ROOT = Path(__file__).parents[2]
COPIED = ("analytics", "cli", "plugins", "schemas", "streams", "tests", "pyproject.toml")
TESTS_FAILED = 1
"""pytest's exit code when tests ran and some failed; any other says that the test could not be run."""


class Escaped(Exception):
    """The test did not notice the bug, or could not be run with it; the text ends with pytest's own words."""


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the source tree, removed in the end."""
    with TemporaryDirectory(prefix="planted-") as folder:
        tree = Path(folder)
        for name in COPIED:
            if (source := ROOT / name).is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, tree / name)
        yield tree


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code and last words for these tests, with the tree's own packages imported."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout=60", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, "\n".join((done.stdout + done.stderr).splitlines()[-15:])


def catch(bug: Bug, tree: Path) -> None:
    """Plants the bug in the tree, expects its test to fail, and takes the bug out again. Raises Unplantable or Escaped."""
    file = tree / bug.file
    sound = file.read_text(encoding="utf-8")
    file.write_text(planted(bug, sound), encoding="utf-8")
    try:
        code, words = run_tests(tree, [bug.test])
    finally:
        file.write_text(sound, encoding="utf-8")
    if code != TESTS_FAILED:
        raise Escaped(f"{bug.name}: {bug.test} ended with {code}, not with a failed test\n{words}")


def sound(tree: Path, bugs: Sequence[Bug]) -> None:
    """The same tests without any bug must pass, or their failing means nothing. Raises Escaped."""
    code, words = run_tests(tree, sorted({bug.test for bug in bugs}))
    if code != 0:
        raise Escaped(f"without any bug the tests ended with {code}\n{words}")
