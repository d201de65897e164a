"""What a check is: a name that stays, one sentence why it matters, and a coroutine that returns or says what is wrong."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugins.conformance.stand import Stand

FAMILIES = {
    "verification": "Who may speak to us: a delivery is taken only when it is authentic.",
    "parsing": "Whatever a body holds, it becomes a ticket in canonical words or one named refusal, in bounded time.",
    "calls": "What is asked of the tool happens there, and what goes wrong is named by what to do about it.",
    "effects": "An effect happens once, and afterwards it can be told whether it happened.",
    "batch": "Many tickets at once, each with its own outcome.",
    "richtext": "Words survive the way between two tools' forms of text.",
    "attachments": "Files go up and come down unchanged.",
    "redaction": "A secret is in no log line, error or event.",
    "metering": "Every request to the tool is counted, timed and priced.",
    "lifecycle": "A plugin costs nothing until it is used and leaves nothing behind.",
    "webhooks": "The tool's own account of what happened: people's work is read, our own is recognised.",
}
"""In the order they are run and shown."""

PAGE = "docs/conformance.md"

Body = Callable[["Stand"], Awaitable[None]]


class CheckFailed(AssertionError):
    """The plugin does not keep this promise; the text says what was seen."""


class NotApplicable(Exception):
    """The promise is not asked of this plugin; the text says why, in terms of its manifest."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise. `name` is family.what and stays the same for good: reports, certificates and exemptions refer to it."""

    name: str
    why: str
    run: Body

    @property
    def family(self) -> str:
        return self.name.partition(".")[0]

    @property
    def docs(self) -> str:
        """Where it is described."""
        return f"{PAGE}#{self.name.replace('.', '')}"


_found: dict[str, Check] = {}


def check(name: str, why: str) -> Callable[[Body], Body]:
    """Registers a coroutine as the check of this name."""

    def register(body: Body) -> Body:
        if name in _found or name.partition(".")[0] not in FAMILIES:
            raise ValueError(f"{name}: this name is taken, or of no family")
        _found[name] = Check(name, why, body)
        return body

    return register


@cache
def all_checks() -> tuple[Check, ...]:
    """Every check, by family and then in the order its file has them."""
    for family in FAMILIES:
        importlib.import_module(f"plugins.conformance.checks.{family}")
    order = list(FAMILIES)
    return tuple(sorted(_found.values(), key=lambda c: order.index(c.family)))


def same(got: object, wanted: object, what: str) -> None:
    """Fails the check unless both are equal; `what` names them."""
    require(got == wanted, f"{what}: {got!r}, {wanted!r} is expected")


def require(kept: object, detail: str) -> None:
    """Fails the check with `detail` unless `kept` is true."""
    if not kept:
        raise CheckFailed(detail)
