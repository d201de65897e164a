"""Metering: one plugin call becomes one Call, with its latency, its API calls and its cost, whether it ends well or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from plugins.api import TicketingToolPlugin
from schemas.events import Call, CallOutcome


class Now(Protocol):
    """What metering needs of a clock."""

    def now(self) -> int:
        """Epoch microseconds, UTC."""
        ...


Price = Callable[[str, str, int, int], int]
"""(tool_type, method, api_calls, started_at) -> cost in micros of the price plan's currency."""


class ApiCalls:
    """How many requests went out during one plugin call, repeats and token fetches included."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


_current: ContextVar[ApiCalls | None] = ContextVar("api_calls", default=None)


def count_api_call() -> None:
    """One request goes out to the tool; called by ApiClient for each."""
    current = _current.get()
    if current is not None:
        current.count += 1


def free(tool_type: str, method: str, api_calls: int, started_at: int) -> int:
    """The price plan of whoever has none."""
    return 0


@contextmanager
def metered(
    calls: MutableSequence[Call],
    *,
    step: str,
    method: str,
    plugin: TicketingToolPlugin,
    tool: str,
    clock: Now,
    attempt: int = 1,
    variant: str = "stable",
    price: Price = free,
) -> Iterator[ApiCalls]:
    """Appends the Call made within the block to `calls`; lets its exception through, a cancellation too."""
    counter = ApiCalls()
    token = _current.set(counter)
    started_at, began = clock.now(), time.perf_counter_ns()
    error_class: str | None = None
    try:
        yield counter
    except BaseException as exc:
        error_class = type(exc).__name__
        raise
    finally:
        latency_us = (time.perf_counter_ns() - began) // 1_000
        _current.reset(token)
        calls.append(
            Call(
                step=step,
                method=method,
                tool=tool,
                plugin=plugin.tool_type,
                plugin_version=plugin.version,
                variant=variant,
                outcome=CallOutcome.OK if error_class is None else CallOutcome.ERROR,
                error_class=error_class,
                latency_us=latency_us,
                attempt=attempt,
                api_calls=counter.count,
                cost_micros=price(plugin.tool_type, method, counter.count, started_at),
                started_at=started_at,
            )
        )
