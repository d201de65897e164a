"""`ai-agents sandbox run all`: one of each tool, and a tenant's file that uses them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from plugins.registry import PluginRegistry
from streams.leash import leashed
from streams.secrets.store import open_store
from streams.settings import Settings
from streams.tenants.config import parse

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = {manifest.tool_type: manifest for manifest in PluginRegistry.discover().manifests()}


@pytest.mark.slow
def test_all_of_them_run_with_a_tenants_file_that_can_be_applied(tmp_path: Path) -> None:
    """A stranger without a single account can try every tool; Ctrl-C leaves nothing behind."""
    command = [sys.executable, "-P", "-m", "cli.main", "--data-dir", str(tmp_path), "sandbox", "run", "all", "--tenant", "trial"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    file = tmp_path / "trial.yaml"
    with file.open("wb") as out:
        child = subprocess.Popen(leashed(command), stdout=out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment)
    try:
        assert child.stderr is not None
        assert any(b"sandboxes run until Ctrl-C" in line for line in child.stderr), "they did not start"
        text = file.read_text()
        below = psutil.Process(child.pid).children(recursive=True)
        config = parse(text, "trial.yaml", MANIFESTS)
        assert set(config.tools) == {name for name, manifest in MANIFESTS.items() if manifest.sandbox}
        store = open_store(Settings(data_dir=tmp_path))
        for name in config.secret_names():
            assert store.has(f"trial/{name}")
        for tool in config.tools.values():
            with urllib.request.urlopen(f"{tool.base_url}/_health", timeout=10) as answer:
                told: dict[str, Any] = yaml.safe_load(answer.read())
            assert told["tool_type"] == tool.type
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(20)
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []
