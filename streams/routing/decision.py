"""What the rules can say of a ticket: a Decision (schemas.events), or that it is dropped."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.events import Decision


@dataclass(frozen=True, slots=True)
class Dropped:
    """A rule said `drop`. `rule` is None where the tenant's default did."""

    rule: str | None
    rule_set_version: int


__all__ = ["Decision", "Dropped"]
