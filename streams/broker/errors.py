"""What can go wrong with a broker, each as one sentence that says what to do."""

from __future__ import annotations


class BrokerError(Exception):
    """The broker cannot be started, reached or used; the message is one sentence for the person at the terminal."""


class PartitionMismatch(BrokerError):
    """A topic exists with another number of partitions than this start asks for."""
