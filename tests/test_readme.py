"""The README's first page is enough: its own commands, run as they stand there, end in a row."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams.ports import free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def the_reader_types(ports: dict[str, int]) -> str:
    """Every sh block of "Send a webhook of your own", with the fixed ports replaced by free ones."""
    section = README.split("## Send a webhook of your own", 1)[1].split("\n## ", 1)[0]
    script = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))
    more = f"--port {ports['door']} --admin-port {ports['admin']} --broker-port {ports['broker']}"
    changes = {
        'export PATH="$PWD/.venv/bin:$PATH" ': f'export PATH="{Path(sys.executable).parent}:$PATH" ',
        "ai-agents up --quiet": f"ai-agents up --quiet {more}",
        "127.0.0.1:8080": f"127.0.0.1:{ports['door']}",
        "--port 9100": f"--port {ports['sandbox']}",
        "127.0.0.1:9100": f"127.0.0.1:{ports['sandbox']}",
    }
    for old, new in changes.items():
        assert old in script, f"the README no longer says {old!r}"
        script = script.replace(old, new)
    return script


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_reader_who_types_what_stands_there_sees_the_row(tmp_path: Path) -> None:
    """The signing with openssl, the secrets, the tenant's file, the curl: each as printed."""
    ports = {name: free_port() for name in ("door", "admin", "broker", "sandbox")}
    query = "SELECT tenant, ticket_id, target, outcome FROM events"
    ask = (
        f"for n in $(seq 100); do ai-agents analytics sql '{query}' -o json > row.json 2> /dev/null"
        " && grep -q processed row.json && break; sleep 0.3; done"
    )
    script = f"set -e\n{the_reader_types(ports)}\n{ask}\nai-agents audit run -o json > audit.json\n"
    shell = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert shell.stdout is not None
        code = shell.wait(200)
        assert code == 0, f"exit {code}; row: {(tmp_path / 'row.json').read_text() if (tmp_path / 'row.json').exists() else 'none'}"
        row = json.loads((tmp_path / "row.json").read_text())[0]
        assert (row["tenant"], row["ticket_id"], row["target"], row["outcome"]) == ("mine", "35436", "jira", "processed")
        assert all(tool["balanced"] for tool in json.loads((tmp_path / "audit.json").read_text()))
    finally:
        os.killpg(shell.pid, signal.SIGTERM)  # `up` and the sandbox stay in the script's own session


def test_the_commands_on_the_first_page_are_the_makefile_s() -> None:
    """A target that is renamed must not stay in the README."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(re.findall(r"```.*?```|`[^`]+`", README, re.DOTALL))))
    assert named <= targets, named - targets
