"""The processes a bench measures: started on a leash, held at a gate, let go, watched until their work is done, and ended.

A gated process runs `python -m MODULE MODE BROKERS FOLDER`, calls `gate()` when everything is connected, and begins with its first
fetch after it. What is measured lies between there and the last result that is durable.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from cli.bench.measure import cpu_us_between, usage
from cli.output import CommandError
from streams.health import StageHealth, read_health
from streams.leash import leashed

POLL_S = 0.05
PATIENCE_S = 60.0
HEALTH_S = 5.0
LOG_BYTES = 2000


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One process's figures. The latencies are those a stage gives in its health file; what is no stage has none."""

    cpu_us_per_event: float
    events_per_s: float
    rss_mb: float
    idle_rss_mb: float
    p50_ms: float | None
    p99_ms: float | None


class Gated:
    """A process that waits at its gate."""

    def __init__(self, process: subprocess.Popen[bytes], mode: str, folder: Path) -> None:
        self._process = process
        self._mode = mode
        self._folder = folder

    def measure(self, events: int, done: Callable[[], int], wanted: int | None = None) -> Measured:
        """Lets it go, and measures until `done` answers `wanted` (else: `events`). Raises CommandError when that stops growing."""
        process, wanted = self._process, events if wanted is None else wanted
        assert process.stdin is not None
        before, began = usage([process.pid]), time.monotonic()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        last, moved = -1, began
        while (so_far := done()) < wanted:
            if so_far != last:
                last, moved = so_far, time.monotonic()
            if process.poll() is not None or time.monotonic() - moved > PATIENCE_S:
                raise self._failed(f"stopped at {so_far} of {wanted}")
            time.sleep(POLL_S)
        seconds, after = time.monotonic() - began, usage([process.pid])
        health = self._last_health()
        return Measured(
            cpu_us_per_event=cpu_us_between(before, after, events),
            events_per_s=round(events / seconds, 1),
            rss_mb=round(after.rss / 1e6, 1),
            idle_rss_mb=round(before.rss / 1e6, 1),
            p50_ms=health.p50_ms if health else None,
            p99_ms=health.p99_ms if health else None,
        )

    def until_ready(self) -> None:
        """Returns when it stands at its gate; raises CommandError when it ends before."""
        assert self._process.stdout is not None
        if not self._process.stdout.readline().endswith(b"ready\n"):  # Faust may show or hide the cursor first
            raise self._failed("did not start")

    def _last_health(self) -> StageHealth | None:
        """What the stage says once all is done; None of a process that says nothing."""
        at = time.time_ns() // 1000
        until = time.monotonic() + HEALTH_S
        while found := [health for health in read_health(self._folder) if health.pid == self._process.pid]:
            if found[0].at > at or time.monotonic() > until:
                return found[0]
            time.sleep(POLL_S)
        return None

    def _failed(self, what: str) -> CommandError:
        log = (self._folder / "log").read_text(errors="replace")[-LOG_BYTES:]
        return CommandError(f"the {self._mode} process {what}; its log ends with:\n{log}")


@contextmanager
def gated(module: str, mode: str, brokers: str, folder: Path, secrets: Mapping[str, str] | None = None) -> Iterator[Gated]:
    """A process of ours at its gate; it works in `folder`, where its log is, and is killed at the end."""
    folder.mkdir(parents=True)
    with (
        (folder / "log").open("wb") as log,
        running(module, mode, brokers, str(folder), env=secrets, stderr=log, talk=True) as process,
    ):
        child = Gated(process, mode, folder)
        child.until_ready()
        yield child


@contextmanager
def running(
    module: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stderr: object = None,
    talk: bool = False,
    stop_s: float = 0.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m MODULE ARGUMENTS` as a process that dies with this one. At the end it has `stop_s` seconds to stop by itself.

    `talk` gives it pipes for stdin and stdout, else it has nothing to read and its words are lost; `env` is added to ours.
    """
    pipe = subprocess.PIPE if talk else subprocess.DEVNULL
    process = subprocess.Popen(  # noqa: S603 - this program itself
        # -P: the folder we are started in may have packages of our names
        leashed([sys.executable, "-P", "-m", module, *arguments]),
        stdin=pipe,
        stdout=pipe,
        stderr=stderr,  # type: ignore[call-overload]  # a file or one of subprocess's constants, as Popen takes them
        env=environment() | dict(env or {}),
        start_new_session=True,  # a Ctrl-C is for the bench, which ends what it started
    )
    try:
        yield process
    finally:
        if stop_s:
            process.terminate()
        try:
            process.wait(stop_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def environment() -> dict[str, str]:
    """Ours, in which our packages are found wherever the child starts: installed, from a wheel, or a checkout that is not."""
    root = str(Path(__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


@contextmanager
def records_on(brokers: str, topic: str, partitions: int) -> Iterator[Callable[[], int]]:
    """A function that answers how many records a topic has, by its end offsets."""
    places = [TopicPartition(topic, partition) for partition in range(partitions)]

    async def connected() -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(bootstrap_servers=brokers)
        await consumer.start()
        return consumer

    with asyncio.Runner() as runner:
        consumer = runner.run(connected())
        try:
            yield lambda: sum(runner.run(consumer.end_offsets(places)).values())
        finally:
            runner.run(consumer.stop())


async def gate() -> None:
    """In the measured process: says that it is ready, and waits to be told to go."""
    print("ready", flush=True)  # noqa: T201 - the parent reads it
    await asyncio.to_thread(sys.stdin.readline)
