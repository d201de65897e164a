"""`ai-agents demo`: the main job on varied traffic, start to balance, in one command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
from click.core import ParameterSource

from cli.demo.balance import Balance, measure, problems_of, show
from cli.demo.scene import Scene, data_folder
from cli.demo.traffic import Sent, Traffic
from cli.output import CommandError, document, output_option, say
from streams.broker.errors import BrokerError
from streams.leash import leashed
from streams.runtime import Runtime, read_runtime
from streams.settings import Settings

START_TIMEOUT_S = 240.0
SETTLE_TIMEOUT_S = 120.0
COUNTS_TIMEOUT_S = 15.0
"""A little longer than the door's window: what it refused is told at the window's end."""
T = TypeVar("T")
PROCESSES = ("broker", "ingestion", "route", "process", "materialize")


@click.command()
@click.option(
    "--once", is_flag=True, help="Stop everything after the summary; exit 0 only when the balance is exact and every class occurred."
)
@click.option("--tickets", default=25, show_default=True, type=click.IntRange(10, 5000), help="Tickets people open in each source tool.")
@click.option("--seed", default=7, show_default=True, help="Makes the traffic reproducible.")
@output_option
@click.pass_context
def demo(ctx: click.Context, once: bool, tickets: int, seed: int, output: str) -> None:
    """Bring everything up, play several hundred signed webhooks with their faults, and account for each.

    A real Kafka, the door, the stages route, process and materialize, and sandboxes of nine tools; nothing leaves this machine.
    Data goes to a new temporary folder unless --data-dir is given. Try `kill -9` on any child meanwhile: the counts stay right.

    Example: ai-agents demo --once
    """
    settings: Settings = ctx.obj
    root = ctx.find_root()
    chosen = settings.data_dir if root.get_parameter_source("data_dir") is not ParameterSource.DEFAULT else None
    settings = replace(settings, data_dir=data_folder(chosen), store="")
    if read_runtime(settings.data_dir) is not None:
        raise CommandError(f"something already runs in {settings.data_dir}; stop it, or give another --data-dir", 6)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl-C: what was started is stopped first
    with ExitStack() as stack:
        say(f"data: {settings.data_dir}")
        up = _start_up(settings)
        stack.callback(_stop, up)
        with _phase("starting sandboxes, broker and stages"):
            scene = stack.enter_context(Scene(settings))
            runtime = _running(settings, up)
        settings = replace(settings, brokers=runtime.brokers)
        with _phase("tenants acme, globex and initech"):
            _apply(settings, scene, runtime)
        sent = _play(scene, runtime, settings, tickets, seed)
        with _phase("waiting until everything is accounted for"):
            balance = _settle(settings, scene, sent)
        if output == "table":
            show(balance, settings)
        else:
            document(balance.as_dict(), output)
        if not once:
            _stay(settings, runtime, up)
            return
    if problems := problems_of(balance):
        raise CommandError("the balance is not exact: " + "; ".join(problems))
    say("balance exact; every class of event occurred")


def _start_up(settings: Settings) -> subprocess.Popen[bytes]:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with (settings.data_dir / "up.log").open("wb") as log:
        # on a leash: however the demo ends, nothing of it stays behind.
        # -P: the folder the demo is started in may have a `schemas` of its own
        command = [sys.executable, "-P", "-m", "cli.main", "--data-dir", str(settings.data_dir), "up", "--ephemeral-ports"]
        path = os.pathsep.join(filter(None, (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.Popen(leashed(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment)  # noqa: S603 - ourselves


def _stop(up: subprocess.Popen[bytes]) -> None:
    up.terminate()
    try:
        up.wait(15)
    except subprocess.TimeoutExpired:
        up.kill()
        up.wait()


def _running(settings: Settings, up: subprocess.Popen[bytes]) -> Runtime:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        if up.poll() is not None:
            raise CommandError(f"`ai-agents up` ended with {up.returncode}: {_tail(settings.data_dir / 'up.log')}")
        runtime = read_runtime(settings.data_dir)
        if runtime is not None and runtime.ingestion_url:
            running = {p.name for p in runtime.processes if p.state == "running"}
            if running.issuperset(PROCESSES):
                return runtime
        time.sleep(0.1)
    raise CommandError(f"not everything runs after {START_TIMEOUT_S:.0f} s; see {settings.data_dir / 'up.log'}")


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "no output"


def _apply(settings: Settings, scene: Scene, runtime: Runtime) -> None:
    import asyncio

    from streams.tenants.apply import apply

    tenants = scene.tenants()
    applied = _tried_again(lambda: asyncio.run(apply(settings.brokers, tenants)), START_TIMEOUT_S)
    time.sleep(max(0.0, max(a.effective_at for a in applied) / 1e6 - time.time()) + 0.1)
    end = time.monotonic() + 30
    for c in scene.connections:
        while not _known(runtime.ingestion_url + c.path):
            if time.monotonic() > end:
                raise CommandError(f"the door does not know {c.tenant}/{c.tool} after 30 s; see {settings.data_dir / 'logs'}")
            time.sleep(0.1)
    scene.point_webhooks_at(runtime.ingestion_url)


def _tried_again(act: Callable[[], T], seconds: float) -> T:
    """What `act` gives, once the broker is there to be asked: it may have been killed a moment ago."""
    from aiokafka.errors import KafkaError

    end = time.monotonic() + seconds
    while True:
        try:
            return act()
        except (BrokerError, KafkaError, TimeoutError) as exc:
            if time.monotonic() > end:
                raise CommandError(f"the broker does not come back: {exc}") from exc
            time.sleep(0.5)


def _known(url: str) -> bool:
    """Whether the door knows this tenant's tool: it asks a delivery without a signature for one, instead of answering 404."""
    try:
        request = urllib.request.Request(url, data=b"{}", headers={"Content-Type": "application/json"})  # noqa: S310 - our own door
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310 - our own door
            return True
    except urllib.error.HTTPError as exc:
        return exc.code != 404
    except OSError:
        return False


def _play(scene: Scene, runtime: Runtime, settings: Settings, tickets: int, seed: int) -> Sent:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    desk, jira, support = scene.of("acme", "desk"), scene.of("acme", "jira"), scene.of("globex", "support")
    steps: list[tuple[str, Callable[[], None]]] = []
    columns = (TextColumn("{task.description:<44}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=2 * len(scene.sources) * tickets + 60)
        traffic = Traffic(scene, runtime.ingestion_url, seed, lambda: progress.advance(task))
        steps += [(f"people open tickets in {c.tenant}/{c.tool}", partial(traffic.create, c, tickets)) for c in scene.sources]
        spam = partial(traffic.create, desk, 5, subject="SPAM: win a phone")
        steps.append(("spam comes in", partial(traffic.until_taken, desk, spam)))
        steps += [(f"people change and comment in {c.tenant}/{c.tool}", partial(traffic.update, c, tickets)) for c in scene.sources]
        steps += [("signatures are forged", partial(traffic.forge, c, 3)) for c in scene.connections]
        steps.append(("signed bodies that are not JSON", partial(traffic.until_taken, desk, partial(traffic.break_bodies, desk, 3))))
        steps.append(("jira answers 500 for a while", partial(_outage, scene, traffic, settings)))
        steps += [("tools deliver again what they delivered", partial(traffic.redeliver, c, 10)) for c in (support, jira)]
        for text, step in steps:
            progress.update(task, description=text)
            step()
        progress.update(task, description="traffic played", total=progress.tasks[0].completed)
    return traffic.sent


def _outage(scene: Scene, traffic: Traffic, settings: Settings) -> None:
    """A target fails: attempts are made, then dead letters; tickets of other tools go on meanwhile."""
    from cli.demo.balance import dead_letters

    jira, desk = scene.of("acme", "jira").sandbox, scene.of("acme", "desk")
    jira.fault(status=500, times=100_000)
    try:
        traffic.until_taken(desk, partial(traffic.create, desk, 4, type="incident", priority="urgent", subject="Core switch rebooted"))
        end = time.monotonic() + 45
        while dead_letters(settings).get("retries_exhausted", 0) < 2 and time.monotonic() < end:
            time.sleep(0.2)
    finally:
        jira.clear_faults()
    traffic.create(desk, 4, type="incident", priority="urgent", subject="Core switch is back")


def _settle(settings: Settings, scene: Scene, sent: Sent) -> Balance:
    scene.settled(SETTLE_TIMEOUT_S)
    begun = time.monotonic()

    def reading() -> Balance:
        return _tried_again(lambda: measure(settings, scene, sent), SETTLE_TIMEOUT_S)

    while True:
        balance = reading()
        waited = time.monotonic() - begun
        if waited > SETTLE_TIMEOUT_S:
            return balance
        counted = balance.knows_refused or waited > COUNTS_TIMEOUT_S
        if balance.settled and counted and scene.settled(5) and reading().accepted == balance.accepted:
            return balance
        time.sleep(0.5)


def _stay(settings: Settings, runtime: Runtime, up: subprocess.Popen[bytes]) -> None:
    say("")
    say(f"everything stays up; Ctrl-C ends it. Webhooks: {runtime.ingestion_url}/webhooks/TENANT/TOOL   admin: {runtime.admin_url}")
    say(
        f"elsewhere:  export AI_AGENTS_DATA_DIR={settings.data_dir}   then: ai-agents status | audit run | topics tail tickets.processed.v1"
    )
    try:
        up.wait()
    except KeyboardInterrupt:
        say("stopping")


class _phase:
    """Says what begins, and how long it took."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __enter__(self) -> None:
        self.begun = time.monotonic()
        say(f"· {self.text}")

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            say(f"  {time.monotonic() - self.begun:.1f} s")
