"""A leashed process dies with the one that started it, by the kernel's means or by a watcher's."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

from streams.leash import leashed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
HOLDER = """
import subprocess, sys
from streams.leash import leashed
child = subprocess.Popen(leashed([sys.executable, "-c", "import time; time.sleep(60)"], watcher=sys.argv[1] == "watch"))
print(child.pid, flush=True)
sys.stdin.read()
"""
MODES = [
    pytest.param("prctl", marks=pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")),
    "watch",
]


@pytest.mark.parametrize("mode", MODES)
def test_it_dies_when_its_starter_is_killed(mode: str) -> None:
    """SIGKILL leaves the starter no chance to clean up, so something else must."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None and holder.stdout is not None
    with holder.stdin, holder.stdout:
        child = psutil.Process(int(holder.stdout.readline()))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert psutil.wait_procs([child], timeout=10)[1] == []


@pytest.mark.parametrize("mode", MODES)
def test_it_is_the_command_itself(mode: str) -> None:
    """Signals and exit codes must be the command's own: tests pause brokers by pid, the supervisor reads exit codes."""
    command = [sys.executable, "-c", "import os; print(os.getpid()); raise SystemExit(7)"]
    done = subprocess.Popen(leashed(command, watcher=mode == "watch"), stdout=subprocess.PIPE)
    assert done.stdout is not None
    with done.stdout:
        assert int(done.stdout.readline()) == done.pid
    assert done.wait() == 7
