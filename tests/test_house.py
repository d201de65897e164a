"""What holds for the project as a whole: its lock, its top level, and what must stand in no file of it."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: git knows the project's files")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_lock_is_names_versions_and_hashes_and_nothing_else() -> None:
    """It says what, never from where: a mirror or an offline folder serves as well."""
    entries = LOCK.replace("\\\n", " ").splitlines()
    entry = re.compile(r"[a-z0-9][a-z0-9-]*==[\w.]+( ; [^#]+?)?(\s+--hash=sha256:[0-9a-f]{64})+")
    assert [line for line in entries if not entry.fullmatch(line.strip())] == []


def test_the_lock_satisfies_every_dependency_of_the_project() -> None:
    """`make` installs the project without its dependencies: the lock must have brought them all."""
    locked = dict(re.findall(r"^([a-z0-9-]+)==([\w.]+)", LOCK, re.MULTILINE))
    asked = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    wrong = []
    for text in asked:
        requirement = Requirement(text)
        version = locked.get(re.sub(r"[-_.]+", "-", requirement.name).lower())
        if version is None or not requirement.specifier.contains(version):
            wrong.append(f"{text}: locked is {version}; run: make lock")
    assert wrong == []


def test_the_top_level_holds_what_the_architecture_names(tracked: list[str]) -> None:
    """Five packages and their tests; everything else there is for people or for tools."""
    folders = {name.split("/")[0] for name in tracked if "/" in name}
    assert folders <= {"streams", "plugins", "schemas", "analytics", "cli", "tests", "docs", ".ci", ".github"}
    assert {"streams", "plugins", "schemas", "analytics", "cli", "tests"} <= folders


def test_the_check_before_a_change_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_no_file_names_a_package_registry_or_somebodys_home(tracked: list[str]) -> None:
    """Where packages come from is the environment's business; a path of one machine works on that machine only."""
    registries = r"(?:pypi|pythonhosted|repo1\.maven|maven\.org|npmjs|crates)\.(?:org|io|com|org)"
    pattern = re.compile(rf"{registries}|(?<![\w.])/(?:root|home/\w+|Users/\w+)/")
    wrong = []
    for name in tracked:
        if name == "tests/test_house.py":
            continue
        text = (ROOT / name).read_bytes().decode("utf-8", "replace")
        wrong += [f"{name}: {found[0]}" for found in pattern.finditer(text)]
    assert wrong == []
