"""What can go wrong with a broker, each as one sentence that says what to do; grouped by what a caller may want to tell apart."""

from __future__ import annotations


class BrokerError(Exception):
    """The broker cannot be started, reached or used; the message is one sentence for the person at the terminal."""


class InUse(BrokerError):
    """The port or the data folder belongs to somebody else now."""


class EndedEarly(BrokerError):
    """Kafka's Java ended while starting and did not say why."""


class UntrustedJar(BrokerError):
    """A fetched jar does not have its pinned SHA-256."""


class PartitionMismatch(BrokerError):
    """A topic exists with another number of partitions than this start asks for."""


class NoSuchTopic(BrokerError):
    """The topic or the partition asked for does not exist."""
