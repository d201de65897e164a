"""`ai-agents bench e2e`: from the webhook's first byte to its row in the tables, everything on this machine, at 300 a second.

The set runs as `ai-agents up` runs it, a Zendesk sandbox takes a note for each event. The clock starts before a request is sent and
stops when a reader of the tables, asking every 20 ms, sees the event's row. CPU is that of the set's processes, Kafka included, not
of the client or the sandbox. There is no other way to do all of this, so no baseline.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp

from cli.bench.child import running
from cli.bench.load import a_delivery
from cli.bench.measure import BenchResult, cpu_us_between, percentile_ms, usage
from cli.output import CommandError, say
from plugins.sandbox.process import SandboxProcess
from streams.runtime import Runtime, read_runtime
from streams.secrets.store import open_store
from streams.settings import Settings
from streams.tenants.apply import apply
from streams.tenants.config import parse

TARGET_P99_MS = 500.0
RATE = 300.0
TICKETS = 200
WARM_UP = 300
POLL_S = 0.02
PATIENCE_S = 60.0
STOP_S = 15.0
CONFIG = """
tenant: bench
tools:
  support: {{type: zendesk, base_url: "{base_url}", auth: {{email: "{email}", api_token: "${{secret:token}}"}},
            webhook: {{secret: "${{secret:hook}}"}}, search_lag: 1.0}}
default: {{to: support, do: [note]}}
"""


def run(events: int) -> BenchResult:
    """Sends so many deliveries at 300 a second; raises CommandError when a row does not come."""
    with tempfile.TemporaryDirectory(prefix="ai-agents-bench-") as folder, SandboxProcess("zendesk") as sandbox:
        settings = Settings(data_dir=Path(folder))
        say("starting everything")
        with _up(settings) as runtime:
            settings = replace(settings, brokers=runtime.brokers)
            _configure(settings, sandbox)
            tickets = [sandbox.person_creates(subject=f"ticket {n}", type="incident") for n in range(TICKETS)]
            secret = str(sandbox.webhook["secret"]).encode()
            say(f"sending {events} deliveries at {RATE:g} a second")
            return asyncio.run(_measure(settings, runtime, tickets, secret, events))


@contextmanager
def _up(settings: Settings) -> Iterator[Runtime]:
    arguments = ("--data-dir", str(settings.data_dir), "up", "--ephemeral-ports", "--quiet")
    with running("cli.main", *arguments, stderr=subprocess.DEVNULL, stop_s=STOP_S) as child:
        yield _running(settings, child)


def _running(settings: Settings, child: subprocess.Popen[bytes]) -> Runtime:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and child.poll() is None:
        runtime = read_runtime(settings.data_dir)
        if runtime is not None and sum(p.state == "running" for p in runtime.processes) == 5:
            return runtime
        time.sleep(0.05)
    raise CommandError("the set did not come up; try `ai-agents up` by itself")


def _configure(settings: Settings, sandbox: SandboxProcess) -> None:
    store = open_store(settings)
    auth = sandbox.credentials["auth"]
    store.put("bench/token", str(auth["api_token"]).encode(), keep_old=False)
    store.put("bench/hook", str(sandbox.webhook["secret"]).encode(), keep_old=False)
    config = parse(CONFIG.format(base_url=sandbox.base_url, email=auth["email"]), "bench.yaml")
    applied = asyncio.run(apply(settings.brokers, [config]))
    time.sleep(max(0.0, applied[0].effective_at / 1e6 - time.time()) + 0.5)


class _Rows:
    """A reader of the tables: when each event's row was first seen. It looks no further back than to the oldest event it waits for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: dict[str, int] = {}
        self.seen: dict[str, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read, name="reader of the tables", daemon=True)

    def __enter__(self) -> _Rows:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def expect(self, event_id: str, sent_at: int) -> None:
        """An event the door has taken, sent at this time (epoch microseconds)."""
        self._waiting[event_id] = sent_at

    def wait(self) -> None:
        """Returns when all that is expected was seen. Raises CommandError when patience ends before."""
        last = time.monotonic() + PATIENCE_S
        while self._waiting:
            if time.monotonic() > last:
                raise CommandError(f"{len(self._waiting)} events have no row after {PATIENCE_S:.0f} s; the first: {min(self._waiting)}")
            time.sleep(POLL_S)

    def _read(self) -> None:
        db = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)
        while not self._end.wait(POLL_S):
            waiting = self._waiting.copy()  # whole at once: the other thread adds to it
            if not waiting:
                continue
            rows = db.execute("SELECT lower(hex(event_id)) FROM event_fact WHERE received_at >= ?", (min(waiting.values()),)).fetchall()
            now = time.perf_counter()
            for (event_id,) in rows:
                if event_id in waiting:
                    self.seen[event_id] = now
                    del self._waiting[event_id]
        db.close()


async def _measure(settings: Settings, runtime: Runtime, tickets: list[str], secret: bytes, events: int) -> BenchResult:
    url = f"{runtime.ingestion_url}/webhooks/bench/support"
    sent: dict[str, float] = {}

    async def deliver(session: aiohttp.ClientSession, number: int, measured: bool) -> None:
        body, headers = _signed(number, tickets[number % len(tickets)], secret)
        begun, at = time.perf_counter(), time.time_ns() // 1000
        async with session.post(url, data=body, headers=headers) as answer:
            if answer.status != 202:
                raise CommandError(f"the door answered {answer.status}")
            event_id = str((await answer.json())["event_id"]).replace("-", "")
        if measured:
            sent[event_id] = begun
            rows.expect(event_id, at)

    rows = _Rows(settings.data_dir / "analytics.db")
    pids = {p.name: p.pid for p in runtime.processes if p.pid}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
        await asyncio.gather(*(deliver(session, n, False) for n in range(WARM_UP)))
        await asyncio.sleep(3.0)
        with rows:
            before, begun = {name: usage([pid]) for name, pid in pids.items()}, time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for n in range(events):
                    await asyncio.sleep(max(0.0, begun + n / RATE - time.perf_counter()))
                    group.create_task(deliver(session, WARM_UP + n, True))
            await asyncio.to_thread(rows.wait)
            took, after = time.perf_counter() - begun, {name: usage([pid]) for name, pid in pids.items()}
    latencies = [rows.seen[event_id] - begun for event_id, begun in sent.items()]
    cpu = {name: cpu_us_between(before[name], after[name], events) for name in pids}
    return BenchResult(
        step="e2e",
        events=events,
        cpu_us_per_event=round(sum(cpu.values()), 1),
        events_per_s=round(events / took, 1),
        p50_ms=percentile_ms(latencies, 50),
        p99_ms=percentile_ms(latencies, 99),
        rss_mb=round(sum(u.rss for u in after.values()) / 1e6, 1),
        target=TARGET_P99_MS,
        details={f"{name}_cpu_us": us for name, us in cpu.items()},
    )


def _signed(number: int, ticket_id: str, secret: bytes) -> tuple[bytes, dict[str, str]]:
    event = json.loads(a_delivery(number))
    event["subject"], event["detail"]["id"] = f"zen:ticket:{ticket_id}", ticket_id
    body = json.dumps(event).encode()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    signature = base64.b64encode(hmac.digest(secret, stamp.encode() + body, hashlib.sha256)).decode()
    return body, {
        "Content-Type": "application/json",
        "X-Zendesk-Webhook-Signature": signature,
        "X-Zendesk-Webhook-Signature-Timestamp": stamp,
    }
