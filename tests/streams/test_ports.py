"""Ports chosen for processes that listen later."""

from __future__ import annotations

import socket

from streams.ports import LOOPBACK, free_port


def test_a_chosen_port_is_none_that_a_connection_could_get() -> None:
    """The door listens seconds after its port was chosen, and again after each restart; a client's connection must not sit there."""
    with socket.socket() as anything:
        anything.bind((LOOPBACK, 0))
        lowest_outgoing = min(32_768, anything.getsockname()[1])
    assert all(1024 < free_port() < lowest_outgoing for _ in range(50))


def test_a_chosen_port_is_free() -> None:
    """Two sets beside each other must not meet."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, free_port()))
        assert all(free_port() != taken.getsockname()[1] for _ in range(200))
