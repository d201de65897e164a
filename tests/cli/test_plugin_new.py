"""`plugin new` and `plugin test` at the command line, and the page that takes a new person through both."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from cli.main import cli
from plugins.conformance.page import page
from plugins.conformance.scaffold import TEMPLATE

ROOT = Path(__file__).parents[2]
HOWTO = (ROOT / "docs" / "howto" / "add-a-tool.md").read_text(encoding="utf-8")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes."""
    folder = tmp_path_factory.mktemp("new")
    assert run("plugin", "new", "harbour_desk", "--path", str(folder)).exit_code == 0
    return folder / "harbour_desk"


def test_a_new_plugin_has_its_own_name_everywhere(project: Path) -> None:
    """A rest of the template's name would be found by a customer."""
    for path in project.rglob("*"):
        if path.is_file():
            assert not re.search(r"example.?desk|conformance\.template", path.read_text(encoding="utf-8"), re.IGNORECASE), path.name


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", "--no-incremental"]])
def test_a_new_plugin_is_clean(project: Path, command: list[str]) -> None:
    """Whoever begins with it begins without a warning."""
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", *command], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["zendesk", "json", "plugins", "Acme", "9lives", "class", "a-b", "../x"])
def test_a_name_that_is_taken_or_none_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    """A package that hides another breaks both."""
    result = run("plugin", "new", name, "--path", str(tmp_path))
    assert result.exit_code == 6 and not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    """An afternoon's work is not written over."""
    mine = tmp_path / "harbour_desk" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert run("plugin", "new", "harbour_desk", "--path", str(tmp_path)).exit_code == 6
    assert list(mine.parent.iterdir()) == [mine]


def test_a_report_is_a_card_and_a_build_servers_file() -> None:
    """The same outcomes for people, programs and build servers; the exit code is the verdict."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "plugin", "test", str(TEMPLATE), "--only", "verification", "-o", "junit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    suite = ET.fromstring(done.stdout.encode()).find("testsuite")
    assert suite is not None and suite.get("name") == "conformance.example_desk" and suite.get("failures") == "0"
    assert {case.get("name") for case in suite} >= {"verification.genuine", "verification.too_old"}
    assert "verification.genuine" in done.stderr


def test_a_plugin_that_is_not_there_or_a_family_that_is_none_is_told() -> None:
    assert run("plugin", "test", "nothing_like_it").exit_code == 3
    assert run("plugin", "test", "zendesk", "--only", "manners").exit_code == 2
    assert run("plugin", "test").exit_code == 2
    assert run("plugin", "test", "zendesk", "--all").exit_code == 2


def test_the_page_of_checks_is_made_from_the_checks() -> None:
    """To renew it: python -m plugins.conformance.page > docs/conformance.md"""
    assert (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8") == page()


# the howto --------------------------------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """What the page tells a person to type, each command once, in order."""
    shown = [line for block in re.findall(r"```sh\n(.*?)```", HOWTO, re.DOTALL) for line in block.splitlines() if line]
    installed = next(line for line in re.findall(r"`(pip install [^`]+)`", HOWTO))
    parse = next(line for line in shown if " parse " in line)
    for line in dict.fromkeys(shown):
        if line == parse:
            yield installed
        yield line


@pytest.mark.slow
def test_the_page_on_adding_a_tool_works_as_it_is_written(tmp_path: Path) -> None:
    """A new person types what it says, and nothing else."""
    site = tmp_path / "site"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(site), str(ROOT))), "AI_AGENTS_DATA_DIR": str(tmp_path / "data")}
    (tmp_path / "delivery.json").write_bytes((TEMPLATE / "fixtures" / "ticket_created.json").read_bytes())
    for line in commands():
        words = shlex.split(line)
        if words[0] == "pip":  # as the page has it, but beside this environment and not into it
            words = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--no-index",
                "--no-deps",
                "--no-build-isolation",
                "--target",
                str(site),
                words[-1],
            ]
        else:
            words = [sys.executable, "-m", "cli.main", *words[1:]]
        if "sandbox" in words:  # runs until it is told to end
            with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                told = process.stdout.readline()
                process.terminate()
            assert "http://127.0.0.1:" in told, line
            continue
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    listed = subprocess.run(
        [sys.executable, "-m", "cli.main", "plugin", "list", "-o", "json"], env=environment, capture_output=True, text=True
    )
    assert "harbour_desk" in [row["tool_type"] for row in json.loads(listed.stdout)]
