"""Starts processes from one thread that lives as long as this process does: Linux ties a leash to the thread that started it."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Sequence

_Answer = queue.SimpleQueue["subprocess.Popen[bytes] | OSError"]
_orders: queue.SimpleQueue[tuple[Sequence[str], int, _Answer]] = queue.SimpleQueue()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def spawn(command: Sequence[str], output: int) -> subprocess.Popen[bytes]:
    """Starts a command in a session of its own, both its outputs to the file descriptor `output`; raises OSError.

    May be called from any thread, also one that ends soon, without the process ending with it.
    """
    global _thread
    with _lock:
        if _thread is None:
            _thread = threading.Thread(target=_serve, name="spawner", daemon=True)
            _thread.start()
    answer: _Answer = queue.SimpleQueue()
    _orders.put((command, output, answer))
    started = answer.get()
    if isinstance(started, OSError):
        raise started
    return started


def _serve() -> None:
    while True:
        command, output, answer = _orders.get()
        try:
            # a session of its own: a Ctrl-C at the terminal reaches us, and we pass it on in good order
            answer.put(
                subprocess.Popen(  # noqa: S603 - our own command line
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
            )
        except OSError as exc:
            answer.put(exc)
