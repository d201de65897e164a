"""`ai-agents bench ingest`: signed 2 KB deliveries at 64 connections, to the broker's ack.

The door runs as `ai-agents serve` does, in its own process; the client is a third process, so only the door's CPU is counted. The
baseline, Starlette with aiokafka as their manuals show them, verifies and sends the same bytes to the same broker in the same call.
"""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cli.bench.child import environment, running
from cli.bench.load import LoadResult
from cli.bench.measure import Baseline, BenchResult, Usage, cpu_us_between, percentile_ms, usage
from cli.output import CommandError, say

TARGET_US = 50.0
CONNECTIONS = 64
PARTITIONS = 4
WARM_UP = 2000
SECRET = "bench-hook-secret"  # noqa: S105 - signs invented deliveries on this machine
SECRETS = {"AI_AGENTS_SECRET_BENCH__HOOK": SECRET, "AI_AGENTS_BENCH_SECRET": SECRET}
STOP_S = 10.0
PATH = "/webhooks/bench/desk"
CONFIG = """
tenant: bench
tools:
  desk: {type: zendesk, base_url: "https://bench.zendesk.example", auth: {email: bot@bench.example, api_token: "${secret:token}"},
         webhook: {secret: "${secret:hook}"}}
routes: []
default: {to: desk, do: [note]}
"""


class _Measured(msgspec.Struct):
    result: LoadResult
    before: Usage
    after: Usage

    @property
    def count(self) -> int:
        return len(self.result.latencies)

    @property
    def cpu_us(self) -> float:
        return cpu_us_between(self.before, self.after, self.count)

    @property
    def per_second(self) -> float:
        return round(self.count / self.result.seconds, 1)


def run(events: int, connections: int = CONNECTIONS) -> BenchResult:
    """Measures the door, its refusals, and the baseline, each over `events` requests."""
    from streams.broker.admin import ensure_topics
    from streams.broker.embedded import EmbeddedBroker
    from streams.tenants.apply import apply
    from streams.tenants.config import parse

    with tempfile.TemporaryDirectory(prefix="ai-agents-bench-") as folder:
        broker = EmbeddedBroker(Path(folder) / "kafka", ephemeral=True)
        brokers = broker.start()
        try:
            asyncio.run(ensure_topics(brokers, PARTITIONS))
            asyncio.run(apply(brokers, [parse(CONFIG, "bench.yaml")]))
            say("measuring: Starlette + aiokafka")
            with _baseline(brokers) as (pid, port):
                base = _measure(pid, port, connections, events, "202")
            say("measuring: the door, then its refusals")
            with _door(brokers, Path(folder) / "data") as (pid, port):
                ours = _measure(pid, port, connections, events, "202")
                forged = _measure(pid, port, connections, max(events // 2, 1), "401")
        finally:
            broker.stop()
    return BenchResult(
        step="ingest",
        events=ours.count,
        cpu_us_per_event=ours.cpu_us,
        events_per_s=ours.per_second,
        p50_ms=percentile_ms(ours.result.latencies, 50),
        p99_ms=percentile_ms(ours.result.latencies, 99),
        rss_mb=round(ours.after.rss / 1e6, 1),
        target=TARGET_US,
        baselines=[Baseline("Starlette + aiokafka send_and_wait", base.cpu_us, base.per_second)],
        details={
            "refused_401_cpu_us": forged.cpu_us,
            "baseline_p50_ms": percentile_ms(base.result.latencies, 50) or 0.0,
            "baseline_p99_ms": percentile_ms(base.result.latencies, 99) or 0.0,
            "connections": connections,
        },
    )


def _measure(pid: int, port: int, connections: int, count: int, status: str) -> _Measured:
    """CPU of the server's process around one run of the client; anything but the expected status is an error."""
    _load(port, connections, WARM_UP, status)
    before = usage([pid])
    result = _load(port, connections, count, status)
    return _Measured(result, before, usage([pid]))


def _load(port: int, connections: int, count: int, status: str) -> LoadResult:
    command = [sys.executable, "-P", "-m", "cli.bench.load", "127.0.0.1", str(port), PATH, str(connections), str(count)]
    done = subprocess.run(  # noqa: S603 - our own module
        command + ["--forged"] * (status == "401"),
        env=environment() | SECRETS,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60 + count / 100,
    )
    try:
        result = msgspec.json.decode(done.stdout, type=LoadResult)
    except msgspec.DecodeError as exc:
        raise CommandError(f"the load client said nothing usable ({len(done.stdout)} bytes): {exc}") from exc
    if set(result.statuses) != {status}:
        raise CommandError(f"expected only {status}, the answers were {result.statuses}")
    return result


@contextmanager
def _door(brokers: str, data_dir: Path) -> Iterator[tuple[int, int]]:
    """`ai-agents serve`, once it knows its tenants and ships straight to the broker: its pid and port."""
    import httpx

    arguments = ("--data-dir", str(data_dir), "--brokers", brokers, "serve", "--port", "0", "--admin-port", "0")
    with running("cli.main", *arguments, env=SECRETS, stderr=subprocess.PIPE, stop_s=STOP_S) as process:
        assert process.stderr is not None
        found = None
        for line in process.stderr:
            if found := re.search(rb":(\d+)/webhooks/TENANT/TOOL, health on (\S+)", line):
                break
        if found is None:
            raise CommandError(f"the door ended with exit code {process.wait()}")
        health = found[2].decode()
        while (state := httpx.get(health).json())["way"] != "broker" or state["tenants"] != "live":
            time.sleep(0.05)
        yield process.pid, int(found[1])


@contextmanager
def _baseline(brokers: str) -> Iterator[tuple[int, int]]:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    with running("cli.bench.ingest_baseline", brokers, str(port), env=SECRETS, stop_s=STOP_S) as process:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                if process.poll() is not None:
                    raise CommandError(f"the baseline ended with exit code {process.returncode}") from None
                time.sleep(0.05)
            else:
                break
        yield process.pid, port
