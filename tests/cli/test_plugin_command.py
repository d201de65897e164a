"""`plugin` and `sandbox` at the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import plugins.zendesk
from cli.main import cli
from plugins.zendesk.plugin import ZendeskPlugin

FIXTURES = Path(plugins.zendesk.__file__).parent / "fixtures"
ROOT = FIXTURES.parents[2]


def run(*arguments: str, given: bytes = b"") -> Result:
    return CliRunner().invoke(cli, list(arguments), input=given)


def test_the_plugins_are_listed_from_their_manifests() -> None:
    """A broken plugin must not keep one from seeing what is installed."""
    found = {row["tool_type"]: row for row in json.loads(run("plugin", "list", "-o", "json").stdout)}
    assert found["zendesk"]["version"] == ZendeskPlugin.version
    assert found["zendesk"]["sandbox"] is True
    assert "zendesk" in [row["tool_type"] for row in json.loads(run("sandbox", "list", "-o", "json").stdout)]


def test_a_plugin_tells_its_settings() -> None:
    """What a person needs to write the tenant's file."""
    shown = run("plugin", "info", "zendesk")
    assert "webhook.tolerance" in shown.stdout
    manifest = json.loads(run("plugin", "info", "zendesk", "-o", "json").stdout)
    assert manifest["settings"]["webhook.secret"]["secret"] is True
    assert run("plugin", "info", "nothing").exit_code == 3


def test_a_body_is_parsed_into_the_canonical_ticket() -> None:
    """The contract others build on: the TicketMetadata as JSON, no network."""
    result = run("plugin", "parse", "zendesk", "--body", str(FIXTURES / "event_comment_added.json"), "-o", "json")
    assert result.exit_code == 0
    ticket = json.loads(result.stdout)
    assert (ticket["ticket_id"], ticket["priority"], ticket["change"]) == ("4012", "high", "commented")
    assert ticket["tags"] == ["printer", "floor-3"]
    assert ticket["custom_fields"] == {}
    assert ticket["extra"]["comment_public"] is True


def test_a_tenants_file_gives_the_paths_and_standard_input_the_body(tmp_path: Path) -> None:
    """One tries a field map before applying it."""
    config = tmp_path / "acme.yaml"
    config.write_text(
        "tenant: acme\ntools:\n"
        "  desk: {type: zendesk, webhook: {fields: {ticket_id: $.case.number, priority: $.case.sev}}, words: {priority: {sev1: urgent}}}\n"
        "  other: {type: zendesk}\n  jira: {type: jira}\n"
    )
    body = (FIXTURES / "trigger_own_shape.json").read_bytes()
    arguments = ["plugin", "parse", "zendesk", "--body", "-", "--config", str(config), "-o", "json"]
    assert json.loads(run(*arguments, "--tool", "desk", given=body).stdout)["priority"] == "urgent"
    ambiguous = run(*arguments, given=body)
    assert ambiguous.exit_code == 3
    assert "desk, other" in ambiguous.output
    config.write_text("webhook: {fields: {ticket_id: $.case.number}}\n")
    assert json.loads(run(*arguments, given=body).stdout)["ticket_id"] == "4014"


def test_headers_reach_the_plugin() -> None:
    """Some tools tell the form, or the event, in a header."""
    form = str(FIXTURES / "trigger_form.txt")
    given = ["--header", "Content-Type: application/x-www-form-urlencoded"]
    assert json.loads(run("plugin", "parse", "zendesk", "--body", form, *given, "-o", "json").stdout)["ticket_id"] == "4017"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["plugin", "parse", "nothing", "--body", str(FIXTURES / "ticket.json")], 3, "no plugin for 'nothing'"),
        (["plugin", "parse", "zendesk", "--body", str(FIXTURES / "event_of_a_user.json")], 1, "another kind of resource"),
        (["plugin", "parse", "zendesk", "--body", str(FIXTURES.parent / "plugin.toml")], 1, "not JSON"),
        (["plugin", "parse", "zendesk", "--body", str(FIXTURES / "ticket.json"), "--header", "nocolon"], 2, "NAME:VALUE"),
        (["sandbox", "run", "nothing"], 3, "no plugin for 'nothing'"),
    ],
)
def test_each_mistake_is_one_line_and_its_exit_code(arguments: list[str], code: int, words: str) -> None:
    """Scripts tell the cases apart by the code, people by the line."""
    result = run(*arguments)
    assert result.exit_code == code
    assert words in result.output
    assert "Traceback" not in result.output


def test_a_sandbox_runs_introduces_itself_and_ends_on_sigterm(tmp_path: Path) -> None:
    """The introduction is the contract: base_url, credentials, webhook, as one JSON document on standard output."""
    command = [sys.executable, "-m", "cli.main", "sandbox", "run", "zendesk", "--state", str(tmp_path / "s.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        introduction = json.loads(child.stdout.readline())
        assert set(introduction) == {"base_url", "credentials", "webhook"}
        port = introduction["base_url"].rpartition(":")[2]
        with urllib.request.urlopen(introduction["base_url"] + "/_ledger", timeout=5) as answer:
            assert json.loads(answer.read()) == []
        taken = subprocess.run([*command[:-2], "--port", port], capture_output=True, cwd=ROOT, timeout=20, check=False)
        assert taken.returncode == 6
        assert b"cannot listen" in taken.stderr
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == 0
