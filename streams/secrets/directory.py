"""Secrets from a mounted directory, one file each: DIR/tenant/name, and DIR/tenant/name.old for the value before, during a rotation.

This is how Kubernetes and Docker hand secrets to a container. Files are read again when they changed; one line end at the end of
a file is not part of the value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from streams.secrets.store import MAX_VALUE_BYTES, NAME, SecretInfo, SecretStoreError, check_name

LOOK_EVERY = 2.0
OLD = ".old"


class DirectorySecrets:
    """Reads each file at most every LOOK_EVERY seconds. Read-only: the platform that mounts the directory writes it."""

    def __init__(self, directory: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, tuple[bytes, ...]]] = {}

    def live(self, name: str) -> Sequence[bytes]:
        now = self._monotonic()
        known = self._known.get(name)
        if known is not None and now - known[0] < LOOK_EVERY:
            return known[1]
        check_name(name)
        values = tuple(v for v in (self._read(self._directory / name), self._read(self._directory / (name + OLD))) if v)
        if values or known is not None:
            self._known[name] = (now, values)
        return values

    def _read(self, path: Path) -> bytes | None:
        try:
            with path.open("rb") as file:
                value = file.read(MAX_VALUE_BYTES + 2)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise SecretStoreError(f"{path}: {exc.strerror}") from exc
        value = value.removesuffix(b"\n").removesuffix(b"\r")
        if len(value) > MAX_VALUE_BYTES:
            raise SecretStoreError(f"{path} is larger than {MAX_VALUE_BYTES >> 10} KiB")
        return value

    def has(self, name: str) -> bool:
        return bool(self.live(name))

    def put(self, name: str, value: bytes, keep_old: bool) -> None:
        raise SecretStoreError(f"secrets are mounted from {self._directory}; set {name} where they are kept")

    def names(self) -> Sequence[SecretInfo]:
        found = []
        for path in sorted(self._directory.glob("*/*")):
            name = f"{path.parent.name}/{path.name}"
            if NAME.fullmatch(name) and path.is_file():
                old = path.with_name(path.name + OLD)
                found.append(SecretInfo(name, 1 + old.is_file(), "directory", set_at=path.stat().st_mtime_ns // 1000))
        return found

    def remove(self, name: str) -> bool:
        raise SecretStoreError(f"secrets are mounted from {self._directory}; remove {name} where they are kept")
