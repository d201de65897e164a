"""Bounds of a client, and of what may stand in a path. Light to import: a process that makes no calls needs no HTTP library."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote

from plugins.api import FatalApiError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one client. Seconds and bytes; `total` covers a whole call with its repeats, `transfer` a file sent or read."""

    connect: float = 5.0
    read: float = 15.0
    total: float = 15.0
    transfer: float = 120.0
    max_answer_bytes: int = 8 << 20
    max_connections: int = 64


def segment(value: str) -> str:
    """A value as one segment of a path: a ticket id comes from outside and must not lead elsewhere."""
    if value in ("", ".", ".."):
        raise FatalApiError("a ticket id is empty or no id")
    return quote(value, safe="")


async def bounded(chunks: AsyncIterable[bytes], max_bytes: int, what: str = "the file") -> AsyncIterator[bytes]:
    """The chunks as they come; FatalApiError as soon as they are more than `max_bytes` together."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise FatalApiError(f"{what} is larger than {max_bytes} bytes, the most this tool takes")
        yield chunk
