"""Ports of this machine's loopback interface: free ones, and whether somebody listens."""

from __future__ import annotations

import secrets
import socket

LOOPBACK = "127.0.0.1"


_RESERVED = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections: one chosen here is still free when its process listens, seconds later
or after a restart."""


def free_port() -> int:
    """A port that nobody uses now."""
    for _ in range(100):
        port = _RESERVED.start + secrets.randbelow(len(_RESERVED))
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port among {_RESERVED.start} to {_RESERVED.stop - 1}")


def is_listening(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def prefer(port: int) -> int:
    """This port, or a free one when somebody listens there."""
    return free_port() if is_listening(port) else port
