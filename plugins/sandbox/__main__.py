"""`python -m plugins.sandbox TOOL_TYPE`: runs one sandbox until SIGTERM or Ctrl-C; its first line on stdout introduces it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

from plugins.api import PluginConfigError
from plugins.sandbox.server import Sandbox, load


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and serves; answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m plugins.sandbox", description="A stand-in for a tool, speaking its protocol.")
    parser.add_argument("tool_type")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, help="file that keeps the sandbox's state over restarts")
    parser.add_argument("--webhook-url", help="where its webhooks go")
    parser.add_argument("--index-lag", type=float, default=0.0, help="seconds until searches see a write")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    options = parser.parse_args(arguments)
    try:
        sandbox = load(options.tool_type)(state=options.state, index_lag=options.index_lag, webhook_url=options.webhook_url)
    except (PluginConfigError, OSError) as exc:
        print(f"error: {exc}", file=sys.stderr)  # noqa: T201 - a command's own words
        return 1
    try:
        run(sandbox, options.port, with_parent=options.with_parent)
    except OSError as exc:
        print(f"error: cannot listen on port {options.port}: {exc.strerror or exc}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def run(sandbox: Sandbox, port: int = 0, *, with_parent: bool = False) -> None:
    """Serves until SIGTERM or Ctrl-C; raises OSError when the port is taken."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(sandbox, port, with_parent))
    else:
        uvloop.run(_serve(sandbox, port, with_parent))


async def _serve(sandbox: Sandbox, port: int, with_parent: bool) -> None:
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    await sandbox.start(port)
    print(json.dumps(sandbox.introduction()), flush=True)  # noqa: T201
    if with_parent:
        threading.Thread(target=_until_stdin_ends, args=(loop, end), daemon=True).start()
    await end.wait()
    await sandbox.stop()


def _until_stdin_ends(loop: asyncio.AbstractEventLoop, end: asyncio.Event) -> None:
    """The parent holds our standard input open as long as it lives; a thread, since not every input can be polled."""
    while os.read(sys.stdin.fileno(), 4096):  # not through sys.stdin: its lock would be held at exit
        pass
    with contextlib.suppress(RuntimeError):  # the loop ended first
        loop.call_soon_threadsafe(end.set)


if __name__ == "__main__":
    sys.exit(main())
