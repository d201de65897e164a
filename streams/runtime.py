"""runtime.json in the data directory: what `up` (or the demo) has running, for `status` and for every command's defaults."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class ProcessInfo(msgspec.Struct, frozen=True):
    """One supervised child. `state`: starting, running, unhealthy, backoff, stopped."""

    name: str
    pid: int | None
    state: str
    restarts: int


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """A running set. URLs without a trailing slash."""

    ingestion_url: str = ""
    admin_url: str = ""
    brokers: str = ""
    store: str = ""
    data_dir: str = ""
    supervisor_pid: int = 0
    processes: list[ProcessInfo] = []


def read_runtime(data_dir: Path) -> Runtime | None:
    """What runs in this data directory; None when nothing was started there or its supervisor is gone."""
    try:
        runtime = msgspec.json.decode((data_dir / "runtime.json").read_bytes(), type=Runtime)
        os.kill(runtime.supervisor_pid, 0)
    except (OSError, msgspec.DecodeError):
        return None
    return runtime


def write_runtime(data_dir: Path, runtime: Runtime) -> None:
    """Replaces the file at once, so a reader never sees half of it."""
    temporary = data_dir / "runtime.json.new"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(runtime)))
    temporary.replace(data_dir / "runtime.json")
