"""Many calls at once, within a bound: what a tool without a bulk endpoint is asked with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

from plugins.api import ApiError

Item = TypeVar("Item")
Result = TypeVar("Result")


async def each_bounded(
    items: Iterable[Item], call: Callable[[Item], Awaitable[Result]], limit: int
) -> AsyncGenerator[tuple[Item, Result | ApiError], None]:
    """Each item once with what its call answered or the ApiError it met, in the order they end; at most `limit` calls at a time.

    Items are taken as calls end. Another error than ApiError, or an end of the reading (contextlib.aclosing), cancels the calls
    under way and waits for them.
    """
    waiting = iter(items)
    under_way: dict[asyncio.Future[Result], Item] = {}
    try:
        while True:
            while len(under_way) < limit and (following := next(waiting, _END)) is not _END:
                assert not isinstance(following, _End)
                under_way[asyncio.ensure_future(call(following))] = following
            if not under_way:
                return
            done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                item = under_way.pop(future)
                try:
                    outcome: Result | ApiError = future.result()
                except ApiError as exc:
                    outcome = exc
                yield item, outcome
    finally:
        for future in under_way:
            future.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


class _End:
    """Stands for the end of the items, which may be anything."""


_END = _End()
