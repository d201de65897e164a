"""A tool whose answers a test chooses: served on a real socket, or in place of one where thousands of answers are tried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import httpx
from yarl import URL

from plugins.http.client import ApiClient
from plugins.http.limits import Limits
from plugins.http.pool import Pool
from plugins.http.retry import RetrySchedule
from plugins.sandbox.http import HttpServer, Request, Response


class Tool:
    """Gives its answers in turn, the last one for ever; remembers what it was asked."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []
        self.hold: asyncio.Event | None = None

    async def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if self.hold is not None:
            await self.hold.wait()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@asynccontextmanager
async def serving(tool: Tool, **options: object) -> AsyncIterator[ApiClient]:
    """A client of the tool; `options` are ApiClient's."""
    server = HttpServer(tool)
    port = await server.start()
    retries = options.pop("retries", RetrySchedule(first_delay=0.001))
    client = ApiClient(f"http://127.0.0.1:{port}", retries=retries, **options)  # type: ignore[arg-type]  # a test's own options
    try:
        yield client
    finally:
        await client.aclose()
        if tool.hold is not None:
            tool.hold.set()
        await server.stop()


def wireless(answer: Callable[[httpx.Request], httpx.Response], limits: Limits | None = None) -> Pool:
    """A pool whose requests a function answers."""
    return Pool(limits or Limits(), cast(aiohttp.ClientSession, _Session(answer)))


class _Session:
    """What the client uses of aiohttp's session."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer

    async def request(self, method: str, url: URL, *, headers: Mapping[str, str], data: Any, **options: Any) -> _Response:
        request = httpx.Request(method, str(url), headers=list(headers.items()), content=data)
        await request.aread()
        return _Response(self._answer(request))

    async def close(self) -> None:
        return


class _Response:
    def __init__(self, response: httpx.Response) -> None:
        self.status, self.raw_headers, self._body = response.status_code, response.headers.raw, response.content
        self.content = self

    async def read(self) -> bytes:
        return self._body

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        yield self._body

    def release(self) -> None:
        return

    async def wait_for_close(self) -> None:
        return
