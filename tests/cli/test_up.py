"""`ai-agents up` and `ai-agents status`: everything in one terminal, and what is said about it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka.errors import KafkaConnectionError
from click.testing import CliRunner, Result

from cli.main import cli
from cli.output import FAILED, IN_USE, INCOMPATIBLE, NOT_FOUND
from cli.status import process_rows
from cli.up import _prepare_topics, _without_password
from streams import collision
from streams.broker.admin import end_offsets
from streams.broker.errors import BrokerError, PartitionMismatch
from streams.health import PartitionHealth, StageHealth
from streams.runtime import ProcessInfo, Runtime, write_runtime
from streams.settings import Settings
from streams.topics import SCHEMAS

NAMES = ["broker", "ingestion", "route", "process", "materialize"]


def ai_agents(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


class Up:
    """A running `ai-agents up`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / "up.log"
        command = [sys.executable, "-m", "cli.main", "--data-dir", str(data_dir), "up", "--ephemeral-ports"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def status(self) -> dict[str, Any]:
        result = ai_agents("--data-dir", str(self.data_dir), "status", "-o", "json")
        return dict(json.loads(result.stdout)) if result.exit_code == 0 else {"processes": []}

    def until(self, condition: Callable[[dict[str, Any]], bool], timeout: float = 60) -> dict[str, Any]:
        """The first status for which it holds."""
        end = time.monotonic() + timeout
        while not condition(status := self.status()):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)
        return status


def all_run(status: dict[str, Any]) -> bool:
    return [p["name"] for p in status["processes"] if p["state"] == "running"] == NAMES


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path / "data")
    yield started
    if started.process.poll() is None:
        started.process.send_signal(signal.SIGTERM)
        try:
            started.process.wait(15)
        finally:
            started.process.kill()


@pytest.mark.broker
@pytest.mark.slow
def test_everything_comes_up_survives_a_kill_and_goes_within_ten_seconds(up: Up) -> None:
    """The main job in one command: others rely on the status document, on restarts, and on nothing being left behind."""
    status = up.until(all_run)
    assert set(status) == {"ingestion_url", "brokers", "store", "data_dir", "processes"}
    assert set(status["processes"][0]) == {"name", "pid", "state", "restarts"}
    with urllib.request.urlopen(_admin_url(up) + "/health", timeout=5) as answer:
        assert answer.status == 200
    assert sum(asyncio.run(end_offsets(status["brokers"], [SCHEMAS.name])).values()) > 0, "the schemas are published"
    second = ai_agents("--data-dir", str(up.data_dir), "up")
    assert (second.exit_code, "already runs" in second.stderr) == (IN_USE, True)

    killed = {p["name"]: p["pid"] for p in status["processes"] if p["name"] in ("route", "ingestion")}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    status = up.until(lambda s: all_run(s) and all(p["restarts"] == (p["name"] in killed) for p in s["processes"]))
    assert not set(killed.values()) & {p["pid"] for p in status["processes"]}
    assert "route was killed by SIGKILL; starting it again" in up.log.read_text()

    children = [psutil.Process(p["pid"]) for p in status["processes"]]
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(10) == 0
    assert psutil.wait_procs(children, timeout=1)[1] == []
    assert ai_agents("--data-dir", str(up.data_dir), "status").exit_code == NOT_FOUND
    assert {p.name for p in (up.data_dir / "logs").glob("*.log")} >= {f"{name}.log" for name in NAMES[1:]}


def _admin_url(up: Up) -> str:
    return str(json.loads((up.data_dir / "runtime.json").read_text())["admin_url"])


@pytest.mark.broker
@pytest.mark.slow
def test_a_stop_in_the_middle_of_the_start_is_clean(up: Up) -> None:
    """Ctrl-C comes when something takes long, which is at the start."""
    while not (up.data_dir / "broker" / "server.properties").exists():
        assert up.process.poll() is None, up.log.read_text()
        time.sleep(0.02)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(10) == 0
    assert not (up.data_dir / "runtime.json").exists()
    assert "Traceback" not in up.log.read_text()


@pytest.mark.broker
def test_topics_with_another_number_of_partitions_stop_it(broker: str, tmp_path: Path) -> None:
    """With another count tickets would change partition; exit code 5 tells scripts apart from a crash."""
    command = [sys.executable, "-m", "cli.main", "--data-dir", str(tmp_path), "--brokers", broker, "up", "--ephemeral-ports"]
    ended = subprocess.run([*command, "--partitions", "7"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == INCOMPATIBLE
    assert "has 4 partitions and this start asks for 7" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_named_with_its_option(tmp_path: Path) -> None:
    """An explicit port is a promise to others; another one would break it in silence."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        result = ai_agents("--data-dir", str(tmp_path), "up", "--admin-port", port)
    assert (result.exit_code, f"port {port} is taken" in result.stderr, "--admin-port" in result.stderr) == (IN_USE, True, True)


def test_foreign_packages_stop_it_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of another project's code would run otherwise."""
    monkeypatch.setattr(collision, "others", lambda _path: iter([("schemas", "schemas")]))
    result = ai_agents("--data-dir", str(tmp_path / "data"), "up")
    assert result.exit_code == FAILED
    assert result.stderr.startswith("error: the distribution schemas also installs the package schemas")
    assert not (tmp_path / "data").exists()


def test_a_dry_run_starts_nothing(tmp_path: Path) -> None:
    """It says where everything would be."""
    result = ai_agents("--data-dir", str(tmp_path / "data"), "--store", "postgresql://app:geheim@db.example/itsm", "up", "--dry-run")
    assert result.exit_code == 0
    assert "a Kafka of its own" in result.stderr
    assert "app:***@db.example" in result.stderr and "geheim" not in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///data/analytics.db", "sqlite:///data/analytics.db"),
        ("postgresql://app@db.example/itsm", "postgresql://app@db.example/itsm"),
        ("postgresql://app:s%3Acret@db.example:5432/itsm", "postgresql://app:***@db.example:5432/itsm"),
    ],
)
def test_a_stores_password_is_not_written_down(url: str, shown: str) -> None:
    """runtime.json and status are read by many."""
    assert _without_password(url) == shown


def test_the_table_says_how_each_process_is() -> None:
    """`running` alone hides a paused partition, a silent process and a full spool."""
    runtime = Runtime(processes=[ProcessInfo("ingestion", 1, "running", 0), ProcessInfo("route", 2, "running", 3)])
    lane = PartitionHealth(topic="t", partition=0, committed=5, end=9, lag=4, pending=0, last_progress=0, paused="unknown schema ab")
    health = StageHealth(
        stage="route", instance="0", pid=2, at=int(900e6), started_at=0, state="paused", partitions=[lane], alarms=["old", "newest"]
    )
    door = {"ready": True, "spool_records": 12, "broker_connected": False, "broker_trouble": "refused"}
    first, second = process_rows(runtime, [health], door, now=1000.0)
    assert first["about"] == "ready; 12 events in the spool; broker away: refused"
    assert (second["lag"], second["restarts"]) == (4, 3)
    assert second["about"] == "1 partitions; silent for 100 s; 1 paused: unknown schema ab; newest"
    assert process_rows(runtime, [], None, now=1000.0)[0]["about"] == "its admin port does not answer"


def test_nothing_running_is_not_found(tmp_path: Path) -> None:
    """A file of a supervisor that was killed must not look like a running set."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_runtime(tmp_path, Runtime(brokers="127.0.0.1:9", supervisor_pid=ended.pid))
    result = ai_agents("--data-dir", str(tmp_path), "status", "-o", "json")
    assert (result.exit_code, result.stdout) == (NOT_FOUND, "")


@pytest.mark.parametrize("patience, outcome", [(5.0, ["made", "published"]), (0.0, BrokerError)])
async def test_a_broker_of_our_own_that_dies_while_all_starts_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float, outcome: Any
) -> None:
    """The supervisor brings it back; only a broker of somebody else's that is away ends the start."""
    done: list[str] = []
    away = [BrokerError("away"), KafkaConnectionError()]

    async def ensure_topics(*_: object) -> list[str]:
        if len(away) == 2:
            raise away.pop(0)
        done.append("made")
        return []

    async def publish_schemas(_: Settings) -> None:
        if away:
            done.clear()
            raise away.pop()
        done.append("published")

    monkeypatch.setattr("streams.broker.admin.ensure_topics", ensure_topics)
    monkeypatch.setattr("cli.up._publish_schemas", publish_schemas)
    settings = Settings(data_dir=tmp_path, brokers="127.0.0.1:1")
    if outcome is BrokerError:
        with pytest.raises(BrokerError):
            await _prepare_topics(settings, patience)
    else:
        await _prepare_topics(settings, patience)
        assert done == outcome


async def test_topics_of_another_partition_count_are_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting mends them."""

    async def ensure_topics(*_: object) -> list[str]:
        raise PartitionMismatch("12, not 4")

    monkeypatch.setattr("streams.broker.admin.ensure_topics", ensure_topics)
    with pytest.raises(PartitionMismatch):
        await asyncio.wait_for(_prepare_topics(Settings(data_dir=tmp_path, brokers="127.0.0.1:1"), 60.0), 5)
