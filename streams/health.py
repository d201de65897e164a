"""What a stage says of itself, in a small file that `status`, the supervisor and an operator read: no port, no broker needed."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class PartitionHealth(msgspec.Struct, kw_only=True):
    """One assigned partition. `lag` counts records to read; `pending` those begun; `paused` says why it waits, or is empty."""

    topic: str
    partition: int
    committed: int
    end: int
    lag: int
    pending: int
    last_progress: int
    paused: str = ""


class StageHealth(msgspec.Struct, kw_only=True):
    """One stage process at time `at` (epoch microseconds). `alarms` are sentences for the operator, newest last, at most 20.

    `p50_ms` and `p99_ms`: from a batch's arrival in the stage to its end downstream (process: each record's), the newest 2000.
    """

    stage: str
    instance: str
    pid: int
    at: int
    started_at: int
    state: str
    partitions: list[PartitionHealth] = []
    alarms: list[str] = []
    counters: dict[str, int] = {}
    p50_ms: float | None = None
    p99_ms: float | None = None


def health_dir(data_dir: Path) -> Path:
    """The folder with a file for each stage process."""
    return data_dir / "health"


def write_health(data_dir: Path, health: StageHealth) -> None:
    """Replaces the stage's file at once."""
    folder = health_dir(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{health.stage}-{health.instance}.json"
    temporary = target.with_suffix(f".{os.getpid()}.new")
    temporary.write_bytes(msgspec.json.encode(health))
    temporary.replace(target)


def read_health(data_dir: Path) -> list[StageHealth]:
    """Every stage's last word; a torn or foreign file is left out."""
    found = []
    for path in sorted(health_dir(data_dir).glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=StageHealth))
        except (OSError, msgspec.DecodeError):
            continue
    return found
