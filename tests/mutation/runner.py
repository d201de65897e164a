"""Runs tests with a mutant in place of its module: one forked process a mutant, in which the libraries are loaded already.

Nothing is written into the tree. Children of the tests, the sandboxes, run the code as it is: a mutant is judged by what our side does.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType

import pytest
from hypothesis import HealthCheck, settings

from tests.mutation.mutants import Mutant
from tests.mutation.subject import EXAMPLES, MODULES, ROOT, TESTS, TIMED

ALIKE = (
    "schemas.ticket",
    "plugins.api",
    "plugins.registry",
    "plugins.richtext",
    "plugins.http.auth",
    "plugins.http.errors",
    "plugins.sandbox.http",
    "plugins.sandbox.process",
    "streams.broker.admin",
    "streams.broker.embedded",
)
"""Modules of ours that import none that is mutated."""
OURS = ("analytics", "cli", "plugins", "schemas", "streams", "tests")


class Unsound(Exception):
    """Without any mutant the tests do not pass; their failing would mean nothing."""


@dataclass(frozen=True, slots=True)
class Sound:
    """What the tests did without a mutant: seconds of each, in all, and the tests that ran each line (None: it ran at import)."""

    seconds: dict[str, float]
    whole: float
    tests_of: dict[str, dict[int, list[str] | None]]
    libraries: list[str]

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests that can notice, the cheapest file first, in a file's own order; those of a line run at import are all."""
        found: set[str] = set(self.seconds) if mutant.at_import else set()
        for line in mutant.lines:
            noticing = self.tests_of[mutant.file].get(line, [])
            found |= set(self.seconds) if noticing is None else set(noticing)
        order = {test: number for number, test in enumerate(self.seconds)}
        return sorted((test for test in found if test.partition("::")[0] in MODULES[mutant.file]), key=order.__getitem__)


class _Chosen:
    """A pytest plugin: runs these tests only, in this order, with Hypothesis drawing the same few examples each time."""

    def __init__(self, tests: Sequence[str] | None) -> None:
        self._rank = None if tests is None else {test: number for number, test in enumerate(tests)}
        self.seconds: dict[str, float] = {}

    def pytest_collection(self) -> None:
        unhurried = settings(deadline=None, database=None, derandomize=True, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        settings.register_profile("mutation", unhurried)
        settings.load_profile("mutation")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if getattr(item, "originalname", item.name) not in TIMED]
        if self._rank is not None:
            rank = self._rank
            items[:] = sorted([item for item in items if item.nodeid in rank], key=lambda item: rank[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


def _pytest(files: Sequence[str], *plugins: object) -> int:
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", f"--rootdir={ROOT}"]
    return int(pytest.main([*options, *files], plugins=[*plugins]))


def measured() -> Sound:
    """The tests without a mutant, in a process of their own. Raises Unsound when one fails."""
    with TemporaryDirectory() as folder:
        told = Path(folder, "told.json")
        code = _forked(lambda: _measure(told), 300.0, told.with_name("words"))
        if code != 0 or not told.exists():
            raise Unsound(f"without a mutant the tests ended with {code}\n{told.with_name('words').read_text()[-3000:]}")
        found = json.loads(told.read_text())
    tests_of = {file: {int(line): tests for line, tests in lines.items()} for file, lines in found["tests_of"].items()}
    return Sound(found["seconds"], found["whole"], tests_of, found["libraries"])


def _measure(told: Path) -> int:
    import coverage

    cover = coverage.Coverage(data_file=None, include=[str(ROOT / module) for module in MODULES], branch=False, messages=False)
    chosen = _Chosen(None)

    class Contexts:
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
            cover.switch_context(item.nodeid)
            answer = yield
            cover.switch_context("")
            return answer

    cover.start()
    begin = time.monotonic()
    code = _pytest(TESTS, chosen, Contexts())
    whole = time.monotonic() - begin
    cover.stop()
    data = cover.get_data()
    tests_of: dict[str, dict[int, list[str] | None]] = {}
    for module in MODULES:
        lines = data.contexts_by_lineno(str(ROOT / module))
        tests_of[module] = {line: None if "" in tests else sorted(tests) for line, tests in lines.items()}
    libraries = [name for name in sys.modules if name.partition(".")[0] not in OURS]
    told.write_text(json.dumps({"seconds": chosen.seconds, "whole": whole, "tests_of": tests_of, "libraries": libraries}))
    return code


def load(libraries: Sequence[str]) -> None:
    """Imports what the tests need beside the mutated modules and what builds on them, once for all mutants."""
    subjects = {module.removesuffix(".py").replace("/", ".") for module in MODULES}
    for name in [*libraries, *ALIKE]:
        with contextlib.suppress(Exception):  # what cannot be imported alone is imported by the tests
            importlib.import_module(name)
    assert subjects.isdisjoint(sys.modules), "a module that is mutated was imported along"


class _Planted(SourceFileLoader):
    """Loads the one module from a tree in place of its file."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self._tree = tree

    def get_code(self, fullname: str) -> CodeType:
        code = compile(self._tree, self.path, "exec", dont_inherit=True)
        assert isinstance(code, CodeType)
        return code


class _Finder(MetaPathFinder):
    def __init__(self, name: str, loader: _Planted) -> None:
        self._name = name
        self._loader = loader

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return spec_from_file_location(fullname, self._loader.path, loader=self._loader) if fullname == self._name else None


def _judge(mutant: Mutant, tests: Sequence[str]) -> int:
    name = mutant.file.removesuffix(".py").replace("/", ".")
    assert name not in sys.modules, f"{name} is loaded already"
    sys.meta_path.insert(0, _Finder(name, _Planted(name, str(ROOT / mutant.file), mutant.tree())))
    code = 0
    for file in TESTS:
        chosen = [test for test in tests if test.partition("::")[0] == file]
        if chosen and (code := _pytest([file], _Chosen(chosen))) != 0:
            break
    return code


def start(mutant: Mutant, tests: Sequence[str]) -> int:
    """Begins a mutant's tests in a process of its own, and answers its id; its exit code is pytest's, 0 for a survivor."""
    return _fork(lambda: _judge(mutant, tests), None)


def _forked(act: Callable[[], int], seconds: float, words: Path) -> int:
    pid, ends = _fork(act, words), time.monotonic() + seconds
    while time.monotonic() < ends:
        if (code := ended(pid)) is not None:
            return code
        time.sleep(0.05)
    end(pid)
    return -1


def _fork(act: Callable[[], int], words: Path | None) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    if (pid := os.fork()) != 0:
        return pid
    code = 70
    try:
        os.setsid()
        out = os.open(words or os.devnull, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = act()
    except BaseException:  # the child must not go on as if it were the parent
        code = 71
    finally:
        os._exit(code)


def ended(pid: int) -> int | None:
    """The exit code, or None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return None if found == 0 else os.waitstatus_to_exitcode(status)


def end(pid: int) -> None:
    """Ends a process of ours and all it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
