"""Runs children in one terminal: started in order, each until it is ready; a crashed one again, with backoff; stopped within 10 s."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from streams.children import ChildRow, ending
from streams.own_children import stage_child
from streams.runtime import ProcessInfo
from streams.settings import Settings

READY_TIMEOUT_S = 150.0
"""Longer than a stage itself waits for its group, so that what it says about that is what is heard."""
STOP_TIMEOUT_S = 10.0
GROUP_SHARE_S = 1.5
"""Of the time to stop, what is kept for each group of children that stops later."""
_PROBE_STARTING_S, _PROBE_RUNNING_S = 0.1, 2.0


class ChildFailed(Exception):
    """A child will not come up: which, how it ended, and what it said last. `code` is its exit code."""

    def __init__(self, name: str, code: int | None, last_words: str) -> None:
        super().__init__(
            f"{name} {ending(code)} before it was ready and is not tried again{f':{_indented(last_words)}' if last_words else ''}"
        )
        self.code = code


def _indented(text: str) -> str:
    return "".join(f"\n    {line}" for line in text.splitlines()) if "\n" in text else f" {text}"


class Child(Protocol):
    """A process that can be started, watched and stopped, any number of times."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int | None: ...

    async def start(self) -> None:
        """Starts the process. A start that fails raises OSError or makes `wait` answer None."""

    async def ready(self) -> bool:
        """Whether it does its work."""

    async def wait(self) -> int | None:
        """Waits for its end and answers the exit code, negative for a signal; None when it could not be started."""

    async def stop(self, timeout: float) -> None:
        """Ends it: asked first, killed after `timeout` seconds. Nothing to do when it does not run."""

    def last_words(self) -> str:
        """What it said last, for the person who asks why it ended."""


class Supervisor:
    """Keeps children running from `start` to `stop`.

    `say` gets a sentence for the person at the terminal whenever something happens; `changed` gets every row then.
    """

    def __init__(self, say: Callable[[str], None], changed: Callable[[list[ProcessInfo]], None] = lambda _rows: None) -> None:
        self._say = say
        self._changed = changed
        self._groups: list[list[Child]] = []
        self._rows: list[ChildRow] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    @property
    def processes(self) -> list[ProcessInfo]:
        """Every child in the order of its start."""
        return [row.info() for row in self._rows]

    async def start(self, *children: Child) -> None:
        """Starts these at the same time and returns when all are ready; raises ChildFailed when one will not be.

        They are kept running from then on. Groups are started one after the other by calling this again.
        """
        self._groups.append(list(children))
        loop = asyncio.get_running_loop()
        all_ready: list[asyncio.Future[None]] = []
        for child in children:
            row, ready = ChildRow(child.name), loop.create_future()
            self._rows.append(row)
            all_ready.append(ready)
            self._tasks.append(loop.create_task(self._keep(child, row, ready), name=f"keeps {child.name}"))
        self._changed(self.processes)
        try:
            await asyncio.gather(*all_ready)
        finally:
            for ready in all_ready:
                ready.cancel()

    async def stop(self, timeout: float = STOP_TIMEOUT_S) -> None:
        """Stops all within `timeout` seconds: the groups in the reverse order of their start, each group's children together."""
        self._stopping.set()
        deadline = time.monotonic() + timeout
        for later, group in reversed(list(enumerate(self._groups))):
            share = max(0.1, deadline - time.monotonic() - GROUP_SHARE_S * later)
            await asyncio.gather(*(child.stop(share) for child in group))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for row in self._rows:
            row.stopped()
        self._changed(self.processes)

    async def _keep(self, child: Child, row: ChildRow, ready: asyncio.Future[None]) -> None:
        """One child's task: start, watch until its end, wait, again."""
        while not self._stopping.is_set():
            row.started(None, time.monotonic())
            code: int | None = None
            try:
                await child.start()
            except OSError as exc:
                self._say(f"{row.name} could not be started: {exc.strerror}")
            else:
                row.started(child.pid, time.monotonic())
                self._changed(self.processes)
                code = await self._watch(child, row, ready)
            if self._stopping.is_set():
                return
            delay = row.ended(time.monotonic())
            if row.is_hopeless(code):
                row.stopped()
                self._changed(self.processes)
                if not ready.done():
                    ready.set_exception(ChildFailed(row.name, code, child.last_words()))
                return
            self._say(f"{row.name} {ending(code)}; starting it again in {delay:g} s (restart {row.restarts})")
            self._changed(self.processes)
            await _first_of(self._stopping.wait(), timeout=delay)

    async def _watch(self, child: Child, row: ChildRow, ready: asyncio.Future[None]) -> int | None:
        """Until its end: whether it is ready, then whether it stays so; answers how it ended."""
        ended = asyncio.create_task(child.wait())
        came_up = False
        while not ended.done():
            if self._stopping.is_set() and row.state == "starting":
                await child.stop(GROUP_SHARE_S)  # stop may have come before the process was there
                break
            working = await child.ready()
            if working and not came_up:
                came_up = True
                self._say(f"{row.name} is up (pid {child.pid})")
                if not ready.done():
                    ready.set_result(None)
            if came_up and (working, row.state) in ((True, "starting"), (True, "unhealthy")):
                row.ready()
                self._changed(self.processes)
            elif came_up and not working and row.state == "running" and not ended.done():
                row.state = "unhealthy"
                self._changed(self.processes)
            elif not came_up and time.monotonic() - row.started_at > READY_TIMEOUT_S:
                self._say(f"{row.name} was not ready within {READY_TIMEOUT_S:.0f} s; it is stopped")
                await child.stop(GROUP_SHARE_S)
            await _first_of(ended, timeout=_PROBE_RUNNING_S if came_up else _PROBE_STARTING_S)
        return await ended


async def _first_of(awaitable: Awaitable[object], timeout: float) -> None:
    """Returns when it is done or the time is over; a task given goes on, anything else is cancelled."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.wait([task], timeout=timeout)
    if task is not awaitable:
        task.cancel()


def print_line(name: str, line: str) -> None:
    """A child's line on the terminal, its name in front."""
    with contextlib.suppress(OSError, ValueError):  # the terminal is gone; the children's words are in their files all the same
        sys.stderr.write(f"{name:<11} | {line}\n")


def print_own(text: str) -> None:
    """The supervisor's own words on the terminal."""
    print_line("ai-agents", text)


async def until_signalled(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Runs `work` with an event that SIGINT, SIGTERM or a closed terminal sets.

    A second Ctrl-C kills this process, and with it all on its leash.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    interrupted = False

    def on_interrupt() -> None:
        nonlocal interrupted
        if interrupted:
            os.kill(os.getpid(), signal.SIGKILL)
        interrupted = True
        stop.set()

    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    try:
        await work(stop)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def run_until(stop: asyncio.Event, starting: Awaitable[None], supervisor: Supervisor) -> None:
    """Brings everything up, keeps it up until `stop` is set, then stops it; a stop while it comes up counts too."""
    bringing = asyncio.ensure_future(starting)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([bringing, stopping], return_when=asyncio.FIRST_COMPLETED)
        if bringing.done():
            await bringing
            await stopping
        print_own("stopping")
    finally:
        bringing.cancel()
        stopping.cancel()
        await supervisor.stop()
        await asyncio.gather(bringing, stopping, return_exceptions=True)


def run_workers(settings: Settings, *, log_level: str = "INFO") -> int:
    """Runs route and process as supervised children of this process until a signal; answers the exit code."""

    async def work(stop: asyncio.Event) -> None:
        supervisor = Supervisor(print_own)
        stages = [
            stage_child(settings, stage, "worker", "--stage", stage, "--log-level", log_level, echo=print_line)
            for stage in ("route", "process")
        ]
        await run_until(stop, supervisor.start(*stages), supervisor)

    try:
        asyncio.run(until_signalled(work))
    except ChildFailed as exc:
        print_own(str(exc))
        return exc.code if exc.code is not None and exc.code > 0 else 1
    return 0
