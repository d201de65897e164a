"""Takes a sandbox's webhooks over a real socket, as deliveries."""

from __future__ import annotations

import asyncio
import time

from plugins.api import Delivery
from plugins.sandbox.http import HttpServer, Request, Response

WAIT_SECONDS = 10.0


class Receiver:
    """Answers 202, or what `answers` holds, first come first served; `next` gives the deliveries in the order they came."""

    def __init__(self) -> None:
        self._got: asyncio.Queue[Delivery] = asyncio.Queue()
        self._server = HttpServer(self._answer)
        self.url = ""
        self.answers: list[int] = []

    async def _answer(self, request: Request) -> Response:
        delivery = Delivery(
            tenant="acme",
            tool="target",
            body=request.body,
            headers=request.headers,
            content_type=request.headers.get("content-type", ""),
            query=request.query_string,
            method=request.method,
            received_at=time.time_ns() // 1000,
        )
        await self._got.put(delivery)
        status = self.answers.pop(0) if self.answers else 202
        return Response(status, b"", {"retry-after": "0"} if status == 503 else {})  # some tools repeat only when asked to

    async def start(self) -> None:
        self.url = f"http://127.0.0.1:{await self._server.start()}/webhooks/acme/target?from=sandbox"

    async def stop(self) -> None:
        await self._server.stop()

    async def next(self) -> Delivery:
        """The next delivery; TimeoutError when none comes."""
        return await asyncio.wait_for(self._got.get(), WAIT_SECONDS)
