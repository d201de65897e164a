"""One connection of the door: uvicorn's httptools protocol, with bounds it does not have itself.

A connection has one deadline at a time (for the next request's head, for its body, or for the next request to begin), written on
its own events and checked for all connections together once a second: no timer is made and cancelled for each request. A head
over HEAD_BYTES is answered 431, one that does not come in time 408, connections over MAX_CONNECTIONS 503.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from enum import Enum
from time import monotonic
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 32 << 10
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
IDLE_SECONDS = 75.0
LEFTOVER_SECONDS = 5.0
"""How long the rest of a body is read and thrown away after its request was already refused, so that the client sees the answer."""
MAX_CONNECTIONS = 4096
SWEEP_SECONDS = 1.0


class Phase(Enum):
    """What a connection is waiting for: a request, the rest of its head, its body, its answer, or the end of a refused body."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    WORK = 3
    LEFTOVER = 4


class DoorProtocol(HttpToolsProtocol):
    """See the module. The application is a Door: it is told of requests refused here."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self.phase = Phase.IDLE
        self.head_bytes = 0
        self.deadline = monotonic() + HEAD_SECONDS
        if len(self.connections) > MAX_CONNECTIONS:
            self.end_with(b"503 Service Unavailable", "connections", b"retry-after: 2\r\n")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.phase is Phase.HEAD:
            self.head_bytes += len(data)
            if self.head_bytes > HEAD_BYTES:
                self.end_with(b"431 Request Header Fields Too Large", "head_too_large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.phase = Phase.HEAD
        self.head_bytes = 0
        self.deadline = monotonic() + HEAD_SECONDS

    def on_headers_complete(self) -> None:
        self.phase = Phase.BODY
        self.deadline = monotonic() + BODY_SECONDS
        if len(self.url) + sum([len(name) + len(value) for name, value in self.headers]) > HEAD_BYTES:
            self.end_with(b"431 Request Header Fields Too Large", "head_too_large")
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle.response_complete:
            self.phase, self.deadline = Phase.IDLE, monotonic() + IDLE_SECONDS
        else:
            self.phase, self.deadline = Phase.WORK, math.inf
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, with the deadline in the place of its keep-alive timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.phase is Phase.WORK:
            self.phase, self.deadline = Phase.IDLE, monotonic() + IDLE_SECONDS
        elif self.phase is Phase.BODY:
            self.phase, self.deadline = Phase.LEFTOVER, monotonic() + LEFTOVER_SECONDS

    def end_with(self, status: bytes, reason: str, headers: bytes = b"") -> None:
        """Answers without the application, counts the refusal, and closes."""
        if self.transport.is_closing():
            return
        cast(Any, self.config.app).refused_early(reason)
        self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + headers + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def expire(self) -> None:
        """The deadline has passed: a request that is still coming in is answered 408, any other connection is closed."""
        if self.phase in (Phase.HEAD, Phase.BODY):
            self.end_with(b"408 Request Timeout", "timeout")
        else:
            self.transport.close()


async def sweep(connections: Iterable[Any]) -> None:
    """Ends connections that are past their deadline; runs until it is cancelled."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = monotonic()
        for connection in [c for c in connections if c.deadline < now]:
            connection.expire()
