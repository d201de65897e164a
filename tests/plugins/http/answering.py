"""A tool whose answers a test chooses, served on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from plugins.http.client import ApiClient
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
