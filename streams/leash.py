"""Runs a command that dies when the process that started it dies, however that one dies.

`leashed(argv)` is the command line to start instead of `argv`; the process keeps its pid and becomes the command. On Linux the
kernel is asked to kill it with its parent; elsewhere a small watcher process does it. This file is run as a script with the
bare interpreter, so it imports the standard library alone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_S = 0.25


def leashed(argv: Sequence[str], *, watcher: bool = not sys.platform.startswith("linux")) -> list[str]:
    """The command line that runs `argv` on a leash held by the calling process.

    The kernel's leash is held by the calling *thread*: start the process from one that lives as long as the process does.
    """
    return [sys.executable, "-I", "-S", __file__, "watch" if watcher else "prctl", str(os.getpid()), *argv]


def _watch(holder: int, leashed_pid: int) -> None:
    """Kills the leashed process once the holder is gone; ends by itself when there is nothing left to kill."""
    os.setsid()  # a Ctrl-C at the terminal must not end the watch
    while os.getppid() == leashed_pid:
        try:
            os.kill(holder, 0)
        except ProcessLookupError:
            os.kill(leashed_pid, signal.SIGKILL)
            return
        time.sleep(_LOOK_EVERY_S)


def _main(mode: str, holder: int, argv: Sequence[str]) -> None:
    if mode == "prctl":
        import ctypes

        # SIGKILL: a paused process would not act on anything milder
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != holder:  # it died before the leash was on
            sys.exit(1)
    else:
        me = os.getpid()
        if os.fork() == 0:
            _watch(holder, me)
            os._exit(0)
    os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
