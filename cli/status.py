"""`ai-agents status`: what runs, where, and how it is."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

import click
import msgspec

from cli.output import NOT_FOUND, CommandError, output_option, say
from cli.output import document as print_document
from cli.output import rows as print_rows
from streams.health import StageHealth, read_health
from streams.runtime import Runtime, read_runtime
from streams.settings import Settings

_FRESH_S = 15.0
_FIELDS = ("ingestion_url", "brokers", "store", "data_dir", "processes")


@click.command()
@output_option
@click.pass_obj
def status(settings: Settings, output: str) -> None:
    """Show what `up` or the demo runs in the data directory: addresses, and each process with its health.

    Json and yaml have the addresses and the processes; the table adds each process's lag and its last alarm.

    Example: ai-agents status -o json
    """
    runtime = read_runtime(settings.data_dir)
    if runtime is None:
        raise CommandError(f"nothing runs in {settings.data_dir}; start it with: ai-agents up", NOT_FOUND)
    if output in ("json", "yaml"):
        whole = msgspec.to_builtins(runtime)
        print_document({name: whole[name] for name in _FIELDS}, output)
        return
    shown = list(process_rows(runtime, read_health(settings.data_dir), door_health(runtime.admin_url), time.time()))
    print_rows(shown, output, ["name", "pid", "state", "restarts", "lag", "about"])
    if output == "table":
        say(f"webhooks {runtime.ingestion_url}/webhooks/TENANT/TOOL   health {runtime.admin_url}/health   Kafka {runtime.brokers}")
        say(f"tables {runtime.store}   data {runtime.data_dir}")


def process_rows(runtime: Runtime, stages: list[StageHealth], door: dict[str, Any] | None, now: float) -> list[dict[str, Any]]:
    """A row for each process: what the supervisor knows, and what the process says of itself. `now` in epoch seconds."""
    by_pid = {health.pid: health for health in stages}
    shown = []
    for process in runtime.processes:
        row: dict[str, Any] = {**msgspec.to_builtins(process), "lag": None, "about": ""}
        health = by_pid.get(process.pid or 0)
        if health is not None:
            row["lag"] = sum(p.lag for p in health.partitions)
            row["about"] = _about(health, now)
        elif process.name == "ingestion" and process.pid is not None:
            row["about"] = _about_door(door)
        shown.append(row)
    return shown


def _about(health: StageHealth, now: float) -> str:
    said = [f"{len(health.partitions)} partitions"]
    if (silent := now - health.at / 1e6) > _FRESH_S:
        said.append(f"silent for {silent:.0f} s")
    if paused := [p for p in health.partitions if p.paused]:
        said.append(f"{len(paused)} paused: {paused[0].paused}")
    if health.alarms:
        said.append(health.alarms[-1])
    return "; ".join(said)


def _about_door(door: dict[str, Any] | None) -> str:
    if door is None:
        return "its admin port does not answer"
    said = ["ready" if door.get("ready") else "not ready: nothing can be made durable"]
    if door.get("spool_records"):
        said.append(f"{door['spool_records']} events in the spool")
    if not door.get("broker_connected", True):
        said.append(f"broker away: {door.get('broker_trouble') or 'no connection'}")
    return "; ".join(said)


def door_health(admin_url: str) -> dict[str, Any] | None:
    """What the door says of itself; None when it does not answer."""
    try:
        with urllib.request.urlopen(f"{admin_url}/health", timeout=1.0) as answer:  # noqa: S310 - our own address
            found: dict[str, Any] = json.load(answer)
            return found
    except (OSError, ValueError):
        return None
