"""`ai-agents demo`: exact although its processes are killed, and gone without a trace when it is ended, however it is."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from streams.health import read_health
from streams.leash import leashed
from streams.runtime import read_runtime

NAMES = ("broker", "ingestion", "route", "process", "materialize")
ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.broker, pytest.mark.slow]


class Demo:
    """A running `ai-agents demo --once`; its summary is read from a file."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.out, self.log = folder / "out.json", folder / "demo.log"
        command = [
            sys.executable,
            "-P",
            "-m",
            "cli.main",
            "--data-dir",
            str(self.data_dir),
            "demo",
            "--once",
            "--tickets",
            "12",
            "-o",
            "json",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self.out.open("wb") as out, self.log.open("wb") as log:
            self.process = subprocess.Popen(leashed(command), stdout=out, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    def words(self) -> str:
        """What it said, and what `up` said beneath it."""
        up = self.data_dir / "up.log"
        return self.log.read_text() + (up.read_text() if up.exists() else "")

    def until(self, condition: Callable[[], bool], timeout: float = 90) -> None:
        """Waits for it while the demo runs."""
        end = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, self.words()
            assert time.monotonic() < end, self.words()
            time.sleep(0.05)

    def pids(self) -> dict[str, int]:
        """The children that do their work."""
        runtime = read_runtime(self.data_dir)
        return {p.name: p.pid for p in runtime.processes if p.state == "running" and p.pid} if runtime else {}

    def routed(self) -> int:
        """Events that route has decided, in this life of it."""
        return sum(sum(h.counters.values()) for h in read_health(self.data_dir) if h.stage == "route")


@contextmanager
def running_demo(folder: Path) -> Iterator[Demo]:
    demo = Demo(folder)
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.terminate()
            try:
                demo.process.wait(20)
            except subprocess.TimeoutExpired:
                demo.process.kill()
                demo.process.wait()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [11])
def test_the_balance_is_exact_although_children_are_killed(tmp_path: Path, seed: int) -> None:
    """Two of the five are ended by SIGKILL while traffic flows; the demo says 0 only if every count is right and every class occurred."""
    first, second = random.Random(seed).sample(NAMES, 2)
    print(f"seed {seed}: {first}, then {second}")
    with running_demo(tmp_path) as demo:
        for name, after in ((first, 10), (second, 30)):
            demo.until(lambda after=after, name=name: demo.routed() >= after and name in demo.pids())  # type: ignore[misc]  # defaults bind
            os.kill(demo.pids()[name], signal.SIGKILL)
        assert demo.process.wait(240) == 0, demo.words()
    summary: dict[str, Any] = json.loads(demo.out.read_text())
    assert summary["balanced"], summary["problems"]
    total = {name: sum(row[name] for row in summary["audit"]) for name in summary["audit"][0] if isinstance(summary["audit"][0][name], int)}
    classes = ("duplicates", "echoes", "dropped", "processed", "dead_lettered")
    assert total["accepted"] == sum(total[name] for name in classes)
    assert all(total[name] >= 1 for name in classes)
    assert sum(summary["by_target"].values()) == total["processed"]
    assert sum(summary["dead_letters"].values()) == total["dead_lettered"]
    assert summary["double_effects"] == []


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that ended and that whoever adopted it has not looked at yet does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_behind_when_the_demo_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    """Broker, door, stages and sandboxes are gone within 15 s, also when the demo itself is killed and cannot stop them."""
    with running_demo(tmp_path) as demo:
        demo.until(lambda: set(demo.pids()) >= set(NAMES))
        family = psutil.Process(demo.process.pid).children(recursive=True)
        assert len(family) >= len(NAMES) + 5  # the supervisor and the sandboxes, too
        demo.process.send_signal(number)
        code = demo.process.wait(15)
        _, left = psutil.wait_procs(family, timeout=10)
        assert [process for process in left if is_alive(process)] == []
        assert code == (-number if number is signal.SIGKILL else 130), demo.words()
