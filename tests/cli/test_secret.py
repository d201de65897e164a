"""Secrets at the command line: in by standard input, never out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import cli


def run(data_dir: Path, *arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(cli, ["--data-dir", str(data_dir), "secret", *arguments], input=given)


def test_a_secret_is_set_listed_without_its_value_and_removed(tmp_path: Path) -> None:
    assert run(tmp_path, "set", "acme/hook", given="hunter2\n").exit_code == 0
    assert "stays live" in run(tmp_path, "set", "acme/hook", "--keep-old", given="hunter3").output
    listed = run(tmp_path, "list", "-o", "json")
    assert "hunter" not in listed.output
    (row,) = json.loads(listed.stdout)
    assert (row["name"], row["live"], row["source"], row["used"]) == ("acme/hook", 2, "encrypted file", None)
    assert run(tmp_path, "remove", "acme/hook", "--dry-run").exit_code == 0
    assert run(tmp_path, "remove", "acme/hook").exit_code == 0
    assert run(tmp_path, "remove", "acme/hook").exit_code == 3


def test_a_value_on_the_command_line_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """It would be in the shell's history and in the process list."""
    result = run(tmp_path, "set", "acme/hook", "hunter2")
    assert result.exit_code == 2
    assert "standard input" in result.output
    assert "hunter2" not in result.output
    assert run(tmp_path, "list", "-o", "json").stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "given"), [("hook", "x"), ("acme/hook", ""), ("acme/hook", "x" * 70_000)])
def test_what_cannot_be_stored_is_one_line_and_exit_code_1(tmp_path: Path, name: str, given: str) -> None:
    result = run(tmp_path, "set", name, given=given)
    assert result.exit_code == 1
    assert result.output.startswith("error: ")


def test_a_value_the_environment_overrides_is_said_to_be_unused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise somebody rotates a secret and nothing changes."""
    monkeypatch.setenv("AI_AGENTS_SECRET_ACME__HOOK", "x")
    result = run(tmp_path, "set", "acme/hook", given="y")
    assert result.exit_code == 0
    assert "goes first for acme/hook" in result.stderr


def test_a_dry_run_stores_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "set", "acme/hook", "--dry-run", given="x").exit_code == 0
    assert not (tmp_path / "secrets.json").exists()
