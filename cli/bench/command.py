"""`ai-agents bench`: one command a step, each beside its target and its baselines."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable

import click
import msgspec

from cli.bench.measure import BenchResult
from cli.bench.plugins import bench_plugins
from cli.broker import command_error
from cli.output import document, output_option, rows, say
from streams.broker.errors import BrokerError

STEPS = {
    "ingest": ("a verified webhook to the broker's ack", 20_000),
    "route": ("a received event to its routed record, dedup on", 100_000),
    "process": ("a routed event to one call of a sandbox and its record", 10_000),
    "materialize": ("a processed event to committed rows", 100_000),
    "e2e": ("a webhook to its row, everything on this machine", 6_000),
}


@click.group()
def bench() -> None:
    """Measure the hot paths.

    Each starts what it needs (a broker in a temporary folder, fresh topics) and prints CPU microseconds an event beside the
    design's target; baselines run in the same call on the same bytes. Quote ratios: single figures drift with the machine.

    Example: ai-agents bench route --events 100000 -o json
    """


def _command(step: str, doc: str, events: int) -> click.Command:
    @click.command(step, help=f"Measure {doc}.\n\nExample: ai-agents bench {step} --events {events} -o json")
    @click.option("--events", default=events, show_default=True, type=click.IntRange(100, 10_000_000), help="How many events to measure.")
    @output_option
    def run(events: int, output: str) -> None:
        show(measure(step, events), output)

    return run


def measure(step: str, events: int) -> BenchResult:
    """One step's result. SIGTERM ends it as Ctrl-C does: what it started goes with it, its folder too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say(f"bench {step}: {events} events")
    function: Callable[[int], BenchResult] = importlib.import_module(f"cli.bench.{step}").run
    try:
        return function(events)
    except BrokerError as exc:
        raise command_error(exc) from exc


def show(result: BenchResult, output: str) -> None:
    """One result: whole for programs, the figures side by side for people."""
    whole = msgspec.to_builtins(result)
    if output in {"json", "yaml"}:
        document(whole, output)
        return
    unit = "ms p99" if result.step == "e2e" else "us CPU"
    lines = [
        {
            "what": result.step,
            "cpu us/event": result.cpu_us_per_event,
            "events/s": round(result.events_per_s),
            "target": f"{result.target:g} {unit}",
        }
    ]
    for base in result.baselines:
        ratio = result.cpu_us_per_event / base.cpu_us_per_event if base.cpu_us_per_event else 0
        lines.append(
            {
                "what": f"  {base.name}",
                "cpu us/event": base.cpu_us_per_event,
                "events/s": round(base.events_per_s),
                "target": f"ratio {ratio:.2f}",
            }
        )
    rows(lines, output)
    say(
        f"p50 {result.p50_ms} ms · p99 {result.p99_ms} ms · rss {result.rss_mb:.0f} MB"
        + "".join(f" · {k} {v:g}" for k, v in result.details.items())
    )


for _step, (_doc, _events) in STEPS.items():
    bench.add_command(_command(_step, _doc, _events))
bench.add_command(bench_plugins)


@bench.command("all")
@click.option("--events", type=click.IntRange(100, 10_000_000), help="How many events to measure at each step [default: each step's].")
@output_option
def every_step(events: int | None, output: str) -> None:
    """Measure every step, one after the other; takes some minutes.

    Example: ai-agents bench all -o json
    """
    results = []
    for step, (_, usual) in STEPS.items():
        results.append(measure(step, events or usual))
        if output in {"table", "csv"}:
            show(results[-1], output)
    if output in {"json", "yaml"}:
        document(msgspec.to_builtins(results), output)
