"""Children come up in order, come back when they crash, go within the time, and never outlive their supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from streams.child_processes import BrokerChild, CommandChild
from streams.health import StageHealth, write_health
from streams.own_children import program, stage_child
from streams.runtime import ProcessInfo
from streams.settings import Settings
from streams.supervisor import ChildFailed, Supervisor

SLEEPER = "import time\nprint('at work', flush=True)\ntime.sleep(60)"
DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('at work', flush=True)\ntime.sleep(60)"
ROOT = Path(__file__).resolve().parents[2]
HOLDER = f"""
import asyncio, sys
from pathlib import Path
from streams.child_processes import CommandChild
from streams.supervisor import Supervisor, run_until, until_signalled
async def ready(pid): return True
async def work(stop):
    supervisor = Supervisor(print)
    child = CommandChild("route", [sys.executable, "-c", {SLEEPER!r}], ready, Path(sys.argv[1]))
    child.echo = lambda name, line: print(child.pid, flush=True)
    await run_until(stop, supervisor.start(child), supervisor)
asyncio.run(until_signalled(work))
"""


class Watched:
    """A supervisor and all it said."""

    def __init__(self, logs: Path) -> None:
        self.said: list[str] = []
        self.states: list[list[ProcessInfo]] = []
        self.lines: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.logs = logs
        self.supervisor = Supervisor(self.said.append, self.states.append)

    def child(self, name: str, script: str) -> CommandChild:
        """A child that is ready as soon as it has printed something."""
        at_work: set[int] = set()

        def echo(who: str, line: str) -> None:
            at_work.add(child.pid or 0)
            self.lines.put_nowait((who, line))

        async def is_ready(pid: int) -> bool:
            return pid in at_work

        child = CommandChild(name, [sys.executable, "-c", script], is_ready, self.logs, echo=echo)
        return child

    async def until(self, condition: Callable[[], bool]) -> None:
        """Looks until it holds; the supervisor itself looks no more often."""
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.02)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    made = Watched(tmp_path / "logs")
    yield made
    await made.supervisor.stop(3.0)


async def test_a_killed_child_comes_back_and_it_is_said(watched: Watched) -> None:
    """kill -9 of any child must leave a running system, and a trace for who wonders."""
    child = watched.child("route", SLEEPER)
    await watched.supervisor.start(child)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await watched.until(lambda: watched.supervisor.processes[0].restarts == 1 and watched.supervisor.processes[0].state == "running")
    assert child.pid not in (None, first)
    assert "route was killed by SIGKILL; starting it again in 0.2 s (restart 1)" in watched.said
    assert [rows[0].state for rows in watched.states if rows][:2] == ["starting", "starting"]
    assert "backoff" in {rows[0].state for rows in watched.states}


async def test_the_next_group_starts_when_the_one_before_is_ready(watched: Watched) -> None:
    """Workers that come up before their broker would only fill the log with refused connections."""
    slow = watched.child("broker", "import time\ntime.sleep(0.5)\n" + SLEEPER)
    await watched.supervisor.start(slow)
    assert watched.supervisor.processes[0].state == "running"
    await watched.supervisor.start(watched.child("route", SLEEPER), watched.child("process", SLEEPER))
    assert [(row.name, row.state) for row in watched.supervisor.processes] == [
        ("broker", "running"),
        ("route", "running"),
        ("process", "running"),
    ]


async def test_a_child_that_refuses_to_go_is_killed_within_the_time(watched: Watched) -> None:
    """Ctrl-C must end everything within 10 s, whatever hangs."""
    deaf, sleeper = watched.child("process", DEAF), watched.child("route", SLEEPER)
    await watched.supervisor.start(deaf, sleeper)
    pids = [deaf.pid, sleeper.pid]
    started = time.monotonic()
    await watched.supervisor.stop(1.0)
    assert time.monotonic() - started < 3.0
    assert not any(pid is not None and psutil.pid_exists(pid) for pid in pids)
    assert {row.state for row in watched.supervisor.processes} == {"stopped"}
    assert not any("starting it again" in text for text in watched.said)


async def test_a_child_that_cannot_work_ends_the_start_with_its_words(watched: Watched) -> None:
    """A taken port is for a person to mend; the last lines are what they need."""
    child = watched.child("ingestion", "import sys\nprint('error: port 8080 is taken')\nsys.exit(6)")
    child.is_ready = _never
    with pytest.raises(ChildFailed, match=r"ingestion ended with code 6 .* error: port 8080 is taken") as caught:
        await watched.supervisor.start(child)
    assert caught.value.code == 6
    assert watched.supervisor.processes == [ProcessInfo("ingestion", None, "stopped", 1)]


async def test_a_stop_while_a_child_is_starting_ends_it(watched: Watched) -> None:
    """Ctrl-C comes at any time, most often when something takes long."""
    child = watched.child("route", SLEEPER)
    child.is_ready = _never
    starting = asyncio.create_task(watched.supervisor.start(child))
    await watched.lines.get()
    pid = child.pid
    await watched.supervisor.stop(3.0)
    starting.cancel()
    assert pid is not None and not psutil.pid_exists(pid)


async def test_a_child_that_stops_answering_is_shown_unhealthy(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` must not call running what does nothing."""
    monkeypatch.setattr("streams.supervisor._PROBE_RUNNING_S", 0.05)
    child = watched.child("route", SLEEPER)
    await watched.supervisor.start(child)
    answers = child.is_ready
    child.is_ready = _never
    await watched.until(lambda: watched.supervisor.processes[0].state == "unhealthy")
    child.is_ready = answers
    await watched.until(lambda: watched.supervisor.processes[0].state == "running")


async def _never(_pid: int) -> bool:
    return False


async def test_what_a_child_prints_is_kept_whole_and_bounded_on_the_terminal(watched: Watched) -> None:
    """A child may print a megabyte without a line's end, or bytes that are no text; neither may stop the supervisor."""
    script = "import sys, time\nsys.stdout.buffer.write(b'x' * 1_000_000 + b'\\n\\xff\\n')\nprint('end', flush=True)\ntime.sleep(60)"
    await watched.supervisor.start(watched.child("route", script))
    shown = []
    while not shown or shown[-1] != "end":
        shown.append((await asyncio.wait_for(watched.lines.get(), 5))[1])
    assert "�" in shown
    assert max(map(len, shown)) <= 4001
    kept = (watched.logs / "route.log").read_text()
    assert kept.count("x") == 1_000_000


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 0)])
def test_no_child_outlives_its_supervisor(tmp_path: Path, number: int, code: int) -> None:
    """A left-over worker would keep its partitions, its port and its memory, unseen."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert holder.stdout is not None
    with holder.stdout:
        child = psutil.Process(int(next(line for line in holder.stdout if line.strip().isdigit())))
        holder.send_signal(number)
        assert holder.wait(10) == code
        assert psutil.wait_procs([child], timeout=10)[1] == []


async def test_a_stage_is_ready_when_its_own_health_file_says_so(tmp_path: Path) -> None:
    """The file of the process before it must not make a new one ready."""
    settings = Settings(data_dir=tmp_path)
    child = stage_child(settings, "route", "worker", "--stage", "route", echo=None)
    now = time.time_ns() // 1000

    def health(pid: int, at: int, state: str) -> StageHealth:
        return StageHealth(stage="route", instance="0", pid=pid, at=at, started_at=at, state=state)

    for wrong in (health(6, now, "running"), health(7, now, "starting"), health(7, now - 60_000_000, "running")):
        write_health(tmp_path, wrong)
        assert not await child.is_ready(7)
    write_health(tmp_path, health(7, now, "running"))
    assert await child.is_ready(7)


def test_a_stores_password_is_not_on_the_command_line(tmp_path: Path) -> None:
    """Every user of the machine can read command lines."""
    settings = Settings(data_dir=tmp_path, store="postgresql://app:geheim@db.example/itsm")
    child = program(settings, "materialize", "materialize", is_ready=_never, echo=None)
    assert "geheim" not in " ".join(child.argv)
    assert child.env["AI_AGENTS_STORE"].endswith("geheim@db.example/itsm")


@pytest.mark.broker
async def test_a_killed_broker_comes_back_where_it_was(watched: Watched, tmp_path: Path) -> None:
    """Every other child has its address, so a new port would be a new cluster."""
    from streams.broker.embedded import EmbeddedBroker

    broker = EmbeddedBroker(tmp_path, ephemeral=True)
    child = BrokerChild(broker)
    await watched.supervisor.start(child)
    brokers = broker.brokers
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await watched.until(lambda: watched.supervisor.processes[0] == ProcessInfo("broker", child.pid, "running", 1))
    assert broker.brokers == brokers


async def test_a_broker_that_cannot_start_says_why(watched: Watched, tmp_path: Path) -> None:
    """Its own sentence, not the supervisor's guess."""
    from streams.broker.embedded import EmbeddedBroker

    child = BrokerChild(EmbeddedBroker(tmp_path, heap_mb=1 << 30))
    with pytest.raises(ChildFailed, match="give it less with --heap-mb"):
        await watched.supervisor.start(child)
    assert child.error is not None
