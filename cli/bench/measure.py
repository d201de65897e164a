"""How a bench measures: CPU from the operating system's own accounting, latencies by nearest rank, and the form of a result."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import psutil


class Baseline(msgspec.Struct, frozen=True):
    """The same work on the same bytes, done another way in the same call."""

    name: str
    cpu_us_per_event: float
    events_per_s: float


class BenchResult(msgspec.Struct, kw_only=True):
    """One step's figures. `target` is the design's CPU microseconds an event (for e2e: p99 milliseconds)."""

    step: str
    events: int
    cpu_us_per_event: float
    events_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    rss_mb: float
    target: float
    baselines: list[Baseline] = []
    details: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds (user + system) and resident bytes at one moment."""

    cpu_s: float
    rss: int


def usage(pids: Iterable[int] | None = None) -> Usage:
    """CPU and memory of these processes and their children; of this process when none is given. Ended ones count nothing more."""
    cpu, rss = 0.0, 0
    for pid in pids if pids is not None else [os.getpid()]:
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for member in family:
            try:
                times, memory = member.cpu_times(), member.memory_info()
            except psutil.NoSuchProcess:
                continue
            cpu += times.user + times.system
            rss += memory.rss
    return Usage(cpu, rss)


def cpu_us_between(before: Usage, after: Usage, events: int) -> float:
    """CPU microseconds an event."""
    return round((after.cpu_s - before.cpu_s) * 1e6 / max(events, 1), 1)


def percentile_ms(seconds: Sequence[float], percent: float) -> float | None:
    """Nearest rank, in milliseconds; None of nothing."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000, 2)
