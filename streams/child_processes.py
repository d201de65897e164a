"""The two kinds of children a supervisor runs: a command with its output kept, and the embedded broker.

Commands hang on a leash (streams/leash.py), as the broker does, so they die with this process even when it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path

from streams.broker.embedded import EmbeddedBroker
from streams.broker.errors import BrokerError
from streams.leash import leashed

_LOG_BYTES, _LOGS_KEPT = 10 << 20, 2
_LONGEST_LINE = 4000
_LAST_LINES = 6
_LOOK_EVERY_S = 0.1
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What programs send to move a terminal's cursor or to show it; in a file or behind a prefix it is only noise."""


@dataclass
class CommandChild:
    """A child started from a command line, its output kept in `logs`/<name>.log and given to `echo` line by line."""

    name: str
    argv: Sequence[str]
    is_ready: Callable[[int], Awaitable[bool]]
    """Asked with the pid."""
    logs: Path
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to our own environment; for what must not stand on a command line, too."""
    echo: Callable[[str, str], None] | None = None
    """Called with name and line."""
    _process: asyncio.subprocess.Process | None = None
    _reader: asyncio.Task[None] | None = None
    _words: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        self._words.clear()
        self._process = await asyncio.create_subprocess_exec(
            *leashed(self.argv),
            env={**os.environ, **self.env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C at the terminal is ours to pass on, in order
        )
        assert self._process.stdout is not None
        self._reader = asyncio.create_task(self._read(self._process.stdout), name=f"output of {self.name}")

    async def ready(self) -> bool:
        return self.pid is not None and await self.is_ready(self.pid)

    async def wait(self) -> int | None:
        if self._process is None:
            return None
        code = await self._process.wait()
        if self._reader is not None:
            # a grandchild may hold the pipe open for longer than the child lived
            await asyncio.wait([self._reader], timeout=0.5)
        return code

    async def stop(self, timeout: float) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), timeout)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    def last_words(self) -> str:
        return "\n".join(self._words)

    async def _read(self, output: asyncio.StreamReader) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        file = RotatingFileHandler(self.logs / f"{self.name}.log", maxBytes=_LOG_BYTES, backupCount=_LOGS_KEPT, encoding="utf-8")
        rest = b""
        try:
            while chunk := await output.read(1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _LONGEST_LINE:  # somebody prints without an end: shown in pieces, never gathered
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._take(line, file)
            if rest:
                self._take(rest, file)
        finally:
            file.close()

    def _take(self, line: bytes, file: RotatingFileHandler) -> None:
        text = _CONTROL.sub("", line.decode(errors="replace")).rstrip()
        file.emit(logging.makeLogRecord({"msg": text}))
        short = text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…"
        self._words.append(short)
        if self.echo is not None:
            self.echo(self.name, short)


@dataclass
class BrokerChild:
    """The embedded broker as a child: ready when its start returns."""

    broker: EmbeddedBroker
    name: str = "broker"
    error: BrokerError | None = None
    """Why the last start failed."""

    @property
    def pid(self) -> int | None:
        return self.broker.pid

    async def start(self) -> None:
        self.error = None
        try:
            await asyncio.to_thread(self.broker.start)
        except BrokerError as exc:
            self.error = exc

    async def ready(self) -> bool:
        return self.broker.pid is not None

    async def wait(self) -> int | None:
        while self.broker.pid is not None:  # noqa: ASYNC110 - it is not this loop's child, so there is no event of its end
            await asyncio.sleep(_LOOK_EVERY_S)
        return self.broker.wait(0) if self.error is None else None

    async def stop(self, timeout: float) -> None:
        await asyncio.to_thread(self.broker.stop, timeout)

    def last_words(self) -> str:
        return str(self.error) if self.error is not None else f"its log: {self.broker.log_file}"
