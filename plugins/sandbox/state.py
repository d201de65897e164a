"""A sandbox's memory: tables of JSON documents, kept over a kill by a journal when a state file is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec


class Journal:
    """Appends each change as one line of JSON; read again at start. A line torn by a kill is left out: its caller got no answer."""

    def __init__(self, path: Path | None) -> None:
        self._tables: dict[str, Table] = {}
        self._kept: dict[str, dict[str, Any]] = {}
        self._file: int | None = None
        if path is None:
            return
        whole = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                name, key, value = msgspec.json.decode(line)
                whole += len(line)
                self._kept.setdefault(name, {})[key] = value
                if value is None:
                    del self._kept[name][key]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(self._file, whole)

    def table(self, name: str) -> Table:
        """The table of this name, with what an earlier run left in it."""
        if name not in self._tables:
            self._tables[name] = Table(self, name, self._kept.pop(name, {}))
        return self._tables[name]

    def append(self, name: str, key: str, value: Any) -> None:
        if self._file is not None:
            os.write(self._file, msgspec.json.encode([name, key, value]) + b"\n")

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Table:
    """Documents by key, in the order they were first put. After changing a document, `put` it again, or a restart forgets it."""

    def __init__(self, journal: Journal, name: str, rows: dict[str, Any]) -> None:
        self._journal, self._name, self._rows = journal, name, rows

    def put(self, key: str, value: Any) -> None:
        self._rows[key] = value
        self._journal.append(self._name, key, value)

    def get(self, key: str) -> Any:
        """The document, or None."""
        return self._rows.get(key)

    def drop(self, key: str) -> None:
        """Forgets a document; one that is not there is no fault."""
        if self._rows.pop(key, None) is not None:
            self._journal.append(self._name, key, None)

    def values(self) -> list[Any]:
        return list(self._rows.values())

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._rows))

    def __len__(self) -> int:
        return len(self._rows)
