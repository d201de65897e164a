"""`python -m tests.plugin_figures [TOOL …]` runs each plugin's tests and tells how many there are and how much of its folder they run;
`--page` prints docs/quality.md instead. Sandboxes in processes of their own are measured too.

An integration test is one that connected to a socket while it ran; all others are unit tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[1]
UNIT, INTEGRATION, LINES = 15, 5, 80.0
"""What each plugin is held to: tests at least, and percent of its lines."""
UNTIMED = "not quick_enough and not quicker and not faster and not microseconds"
"""Tests that measure time fail when they are watched."""
_SETTINGS = """[run]
source = plugins/{tool}
parallel = true
patch = subprocess
data_file = {data}
"""
_HEAD = """# Tests of each plugin

`make coverage` runs the tests in tests/plugins/TOOL and measures plugins/TOOL, its sandbox included, also where that runs in a process
of its own. An integration test is one that spoke over a socket while it ran. Each plugin is held to {unit} unit tests, {integration}
integration tests and {lines:.0f} % of its lines. Beside these each passes the conformance kit ([conformance.md](conformance.md)); how
much the tests notice is in [mutation.md](mutation.md). This page is written by `python -m tests.plugin_figures --page`.

| plugin | unit tests | integration tests | lines | covered |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """One plugin's: tests by kind, failed ones, lines of its folder and percent of them run."""

    tool: str
    unit: int
    integration: int
    failed: int
    lines: int
    covered: float

    def enough(self) -> bool:
        return self.failed == 0 and self.unit >= UNIT and self.integration >= INTEGRATION and self.covered >= LINES


class Counted:
    """A pytest plugin: which tests passed, and which of them connected to a socket."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failed: set[str] = set()
        self.connected: set[str] = set()
        self._now = ""
        sys.addaudithook(self._heard)

    def _heard(self, event: str, _: object) -> None:
        if event == "socket.connect" and self._now:
            self.connected.add(self._now)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._now = item.nodeid
        try:
            return (yield)
        finally:
            self._now = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed.add(report.nodeid)


def counted(tool: str, told: Path) -> int:
    """Runs one tool's tests in this process, which coverage watches, and writes their numbers down."""
    plugin = Counted()
    code = int(pytest.main(["-q", "-p", "no:cacheprovider", "-k", UNTIMED, f"tests/plugins/{tool}"], plugins=[plugin]))
    passed = plugin.passed - plugin.failed
    integration = len(passed & plugin.connected)
    numbers = {"unit": len(passed) - integration, "integration": integration, "failed": len(plugin.failed)}
    told.write_text(json.dumps(numbers), encoding="utf-8")
    return code


def figures(tool: str) -> Figures:
    """One tool's figures, from processes of their own; pytest's words go to stderr."""
    with TemporaryDirectory() as folder:
        settings, told, report = (Path(folder, name) for name in ("settings", "told.json", "report.json"))
        settings.write_text(_SETTINGS.format(tool=tool, data=Path(folder, "data")), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        coverage = [sys.executable, "-m", "coverage"]

        def run(*arguments: str) -> None:
            words = [*coverage, arguments[0], f"--rcfile={settings}", *arguments[1:]]
            subprocess.run(words, cwd=ROOT, env=environment, stdout=sys.stderr, check=False)

        run("run", "-m", "tests.plugin_figures", "--count", tool, str(told))
        run("combine", "-q")
        run("json", "-q", "-o", str(report))
        totals = json.loads(report.read_text(encoding="utf-8"))["totals"]
        numbers = json.loads(told.read_text(encoding="utf-8"))
        return Figures(tool, **numbers, lines=totals["num_statements"], covered=totals["percent_covered"])


def tools() -> list[str]:
    """Every plugin of ours with a manifest."""
    return sorted(path.parent.name for path in (ROOT / "plugins").glob("*/plugin.toml"))


def main(arguments: list[str]) -> int:
    """The exit code: 0, or 1 when a plugin has less than it is held to."""
    if arguments[:1] == ["--count"]:
        return counted(arguments[1], Path(arguments[2]))
    as_page = arguments[:1] == ["--page"]
    found = []
    for tool in arguments[as_page:] or tools():
        found.append(figures(tool))
        print(json.dumps(asdict(found[-1])), file=sys.stderr if as_page else sys.stdout, flush=True)
    if as_page:
        rows = [f"| {f.tool} | {f.unit} | {f.integration} | {f.lines} | {f.covered:.1f} % |\n" for f in found]
        print(_HEAD.format(unit=UNIT, integration=INTEGRATION, lines=LINES) + "".join(rows), end="")
    return 0 if all(f.enough() for f in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
