"""The wheel, as a user gets it: installed away from the checkout, with everything inside that it reads."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "-w", "-o", folder, ROOT], check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and our libraries by a .pth line in place of installing them again."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "--python", folder, "install", *options, wheel]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(installed: Path, *command: str, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "AI_AGENTS"))}
    done = subprocess.run(
        [installed / "bin" / command[0], *command[1:]], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_the_code_reads_is_inside(wheel: Path) -> None:
    """A data file left out is noticed by users only, since the checkout has it."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "schemas", "streams", "plugins", "analytics", "cli"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = {name for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    assert {name for name in files if name.endswith((".avsc", ".sql", ".toml", ".yaml", ".sha256", ".json"))} <= inside
    assert files <= inside
    assert {
        "analytics/prices.yaml",
        "plugins/zendesk/plugin.toml",
        "schemas/avro/ticket_routed.avsc",
        "streams/broker/jars.sha256",
    } <= inside
    assert not [name for name in inside if name.startswith(("tests/", "docs/"))]


def test_it_runs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    """A package named `schemas` in the working folder must not be taken for ours either."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").write_text("raise RuntimeError('not ours')")
    assert "Commands" in run(installed, "ai-agents", "--help", cwd=tmp_path)
    listed = run(installed, "ai-agents", "plugin", "list", "-o", "csv", cwd=tmp_path)
    assert {"zendesk", "jira", "servicedesk_plus"} <= set(listed.replace("\n", ",").split(","))
    code = "import schemas.codec, analytics.prices, analytics.views; print(len(schemas.codec.released()), schemas.__file__)"
    count, place = run(installed, "python", "-I", "-c", code, cwd=tmp_path).split()
    assert int(count) >= 10
    assert str(installed) in place


@pytest.mark.broker
def test_the_demo_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """The main job, from an installation and not from the checkout, in a folder with a package of the same name as one of ours."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").write_text("raise RuntimeError('not ours')")
    assert "balance" in run(installed, "ai-agents", "demo", "--once", "-o", "json", cwd=tmp_path)
