"""Tenants at the command line, on a real broker."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import cli

FILE = """\
tenant: {tenant}
tools:
  jira: {{type: jira, base_url: "https://acme.jira.example", auth: {{email: bot@acme.example, api_token: "${{secret:token}}"}},
         webhook: {{secret: "${{secret:hook}}"}}, project: {project}}}
routes:
  - {{name: urgent, match: {{priority: P1}}, to: jira, do: [mirror]}}
default: {{to: jira, do: [note]}}
"""


def run(data_dir: Path, brokers: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--data-dir", str(data_dir), "--brokers", brokers, "tenant", *arguments])


def a_file(folder: Path, tenant: str, project: str = "OPS") -> str:
    file = folder / f"{tenant}-{project}.yaml"
    file.write_text(FILE.format(tenant=tenant, project=project))
    return str(file)


@pytest.mark.broker
def test_a_file_is_applied_listed_shown_and_applied_again_without_a_new_version(tmp_path: Path, broker: str) -> None:
    name = f"t{uuid.uuid4().hex[:8]}"
    first = a_file(tmp_path, name)

    dry = run(tmp_path, broker, "apply", first, "--dry-run", "-o", "json")
    assert (dry.exit_code, json.loads(dry.stdout)[0]["action"]) == (0, "created")
    assert run(tmp_path, broker, "show", name).exit_code == 3

    applied = run(tmp_path, broker, "apply", first, "-o", "json")
    assert (json.loads(applied.stdout)[0]["version"], json.loads(applied.stdout)[0]["action"]) == (1, "created")
    assert f"not set yet: {name}/hook, {name}/token" in applied.stderr
    assert json.loads(run(tmp_path, broker, "apply", first, "-o", "json").stdout)[0]["action"] == "unchanged"

    changed = json.loads(run(tmp_path, broker, "apply", a_file(tmp_path, name, "IT"), "-o", "json").stdout)[0]
    assert (changed["version"], changed["action"]) == (2, "changed")

    listed = {row["tenant"]: row for row in json.loads(run(tmp_path, broker, "list", "-o", "json").stdout)}
    assert (listed[name]["version"], listed[name]["state"], listed[name]["tools"], listed[name]["routes"]) == (2, "active", 1, 1)
    shown = json.loads(run(tmp_path, broker, "show", name, "-o", "json").stdout)
    assert shown["tools"]["jira"]["project"] == "IT"
    assert shown["tools"]["jira"]["auth"]["api_token"] == "${secret:token}"
    assert json.loads(run(tmp_path, broker, "show", name, "--version", "1", "-o", "json").stdout)["tools"]["jira"]["project"] == "OPS"
    assert run(tmp_path, broker, "show", name, "--version", "7").exit_code == 3


@pytest.mark.broker
def test_one_bad_file_among_several_publishes_nothing_and_all_errors_are_told(tmp_path: Path, broker: str) -> None:
    """A half applied change is worse than none."""
    name = f"t{uuid.uuid4().hex[:8]}"
    bad = tmp_path / "bad.yaml"
    bad.write_text("tenant: Bad\ntools: {jira: {type: jirra}}\n")
    result = run(tmp_path, broker, "apply", a_file(tmp_path, name), str(bad))
    assert result.exit_code == 1
    assert f"{bad}:1:9: tenant: " in result.stderr
    assert f"{bad}:2:22: tools.jira.type: no plugin" in result.stderr
    assert "2 problems; nothing was published" in result.stderr
    assert run(tmp_path, broker, "show", name).exit_code == 3


def test_no_broker_is_one_line_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.tenants.apply.READ_TIMEOUT", 0.3)
    result = run(tmp_path, "127.0.0.1:1", "list")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "error: no answer from Kafka at 127.0.0.1:1 (TimeoutError); start it with: ai-agents up"


@pytest.mark.broker
def test_versions_are_compared_gone_back_to_and_taken_out_of_force(tmp_path: Path, broker: str) -> None:
    """Every version stays: a rollback is a new version that says the same as an old one, and removing is one too."""
    name = f"t{uuid.uuid4().hex[:8]}"
    first, second = a_file(tmp_path, name), a_file(tmp_path, name, "IT")
    run(tmp_path, broker, "apply", first)
    run(tmp_path, broker, "apply", second)

    told = json.loads(run(tmp_path, broker, "diff", name, "-o", "json").stdout)
    assert told == [{"path": "tools.jira.project", "change": "changed", "before": "OPS", "after": "IT"}]
    assert "-    project: OPS" in run(tmp_path, broker, "diff", name).stdout
    assert json.loads(run(tmp_path, broker, "diff", first, "-o", "json").stdout)[0]["after"] == "OPS"
    assert run(tmp_path, broker, "diff", name, "--from", "9").exit_code == 3

    dry = json.loads(run(tmp_path, broker, "rollback", name, "--dry-run", "-o", "json").stdout)[0]
    assert (dry["version"], dry["changed"]) == (3, "1 tool changed")
    assert json.loads(run(tmp_path, broker, "rollback", name, "-o", "json").stdout)[0]["version"] == 3
    assert json.loads(run(tmp_path, broker, "show", name, "-o", "json").stdout)["tools"]["jira"]["project"] == "OPS"
    again = run(tmp_path, broker, "rollback", name, "--to", "1", "-o", "json")
    assert (json.loads(again.stdout)[0]["changed"], again.exit_code) == ("nothing", 0)

    assert run(tmp_path, broker, "remove", name).exit_code == 0
    history = json.loads(run(tmp_path, broker, "history", name, "-o", "json").stdout)
    assert [(row["version"], row["changed"]) for row in history] == [
        (1, "created"),
        (2, "1 tool changed"),
        (3, "1 tool changed"),
        (4, "removed"),
    ]
    assert json.loads(run(tmp_path, broker, "rollback", name, "--to", "2", "-o", "json").stdout)[0]["version"] == 5
    assert run(tmp_path, broker, "rollback", name, "--to", "4").exit_code == 3
    assert run(tmp_path, broker, "rollback", "nobody").exit_code == 3
