"""Kafka's classes, loaded and linked ahead of time into a file that later starts map: half the processor time of a start.

Java makes the file at the end of a training run (JEP 483, 514); it holds for one Java, one set of jars and their times. It is an
optimisation: where it cannot be made, or Java refuses it, the broker starts all the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

ABOUT_S = 10


def cache_file(jars: Sequence[Path], java_version: Sequence[int]) -> Path:
    """Where the file for these jars and this Java is, beside the jars."""
    seen = hashlib.sha256()
    for jar in jars:
        stat = jar.stat()
        seen.update(f"{jar} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return jars[0].parent / f"{_prefix(java_version)}{seen.hexdigest()[:16]}.aot"


def unfinished(target: Path) -> Path:
    """Where a training run of this process writes; others may train at the same time."""
    return target.with_name(f"{target.stem}.{os.getpid()}.new")


def put_in_place(made: Path, target: Path, java_version: Sequence[int]) -> None:
    """Makes the finished file the one in use, at once, and removes those of jars that are gone."""
    made.replace(target)
    for older in target.parent.glob(f"{_prefix(java_version)}*.aot"):
        if older != target:
            older.unlink(missing_ok=True)


def _prefix(java_version: Sequence[int]) -> str:
    return f"java-{'.'.join(map(str, java_version))}-"
