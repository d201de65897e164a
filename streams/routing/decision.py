"""What the rules can say of a ticket: where it goes (schemas.events.Decision, several with `continue`), or that it is dropped."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.events import Decision

Decisions = tuple[Decision, ...]
"""What is to be done, in this order; at least one. The first is the event's own decision, the others come of `continue`."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A rule said `drop`. `rule` is None where the tenant's default did."""

    rule: str | None
    rule_set_version: int


__all__ = ["Decision", "Decisions", "Dropped"]
