"""One HTTP/1.1 connection of the door: httptools parses, everything has a bound, answers go out in the order of the requests.

It runs under uvicorn's server, in the place of uvicorn's own protocol: that one makes a task, an event and an ASGI message for each
step of each request, 26 of the 39 us CPU that an empty answer costs; here a request is a few callbacks.

A connection has one deadline at a time (for the next request's head, for its body, or for the next request to begin), written on
its own events and checked for all connections together once a second: no timer is made and cancelled for each request. A head
over HEAD_BYTES is answered 431, a request that does not come in time 408, connections over MAX_CONNECTIONS 503.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable
from enum import Enum
from time import monotonic
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from plugins.api import TicketingToolPlugin
from streams.ingestion.door import Door, Refusal, early

HEAD_BYTES = 32 << 10
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
IDLE_SECONDS = 75.0
LEFTOVER_SECONDS = 5.0
"""How long the rest of a body is read and thrown away after its request was already refused, so that the client sees the answer."""
MAX_CONNECTIONS = 4096
MAX_PIPELINED = 16
"""Unanswered requests of one connection at which its reading waits."""
READING_BYTES = 128 << 20
"""Bytes of bodies that may be incomplete at one time, over all connections."""
SWEEP_SECONDS = 1.0


class Phase(Enum):
    """What a connection is waiting for: a request, the rest of its head, its body, its answer, or the end of a refused body."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    WORK = 3
    LEFTOVER = 4


class Exchange:
    """One request and its response, which waits here until those before it are written."""

    __slots__ = ("connection", "head_only", "keep_alive", "response")

    def __init__(self, connection: DoorProtocol, head_only: bool, keep_alive: bool) -> None:
        self.connection = connection
        self.head_only = head_only
        self.keep_alive = keep_alive
        self.response: bytes | None = None

    def answer(self, head: bytes, body: bytes) -> None:
        """The response; written in its turn."""
        end = b"\r\n" if self.keep_alive and not self.connection.stopping else b"connection: close\r\n\r\n"
        self.response = head + end if self.head_only else head + end + body
        self.connection.write_answers()


class Reading:
    """Bytes of incomplete bodies, of all connections together."""

    total = 0


class DoorProtocol(asyncio.Protocol):
    """See the module. Made by uvicorn's server, whose configured application is the Door."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.door = cast(Door, config.app)
        self.connections = cast("set[DoorProtocol]", server_state.connections)
        self.parser = httptools.HttpRequestParser(self)
        self.exchanges: deque[Exchange] = deque()
        self.phase = Phase.IDLE
        self.deadline = monotonic() + HEAD_SECONDS
        self.stopping = False
        self.paused = False
        self.head_bytes = self.body_bytes = 0
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.length = 0
        self.expects_continue = False
        self.method = "POST"
        self.peer = ""
        self.plugin: TicketingToolPlugin | None = None
        self.exchange: Exchange | None = None

    # the connection --------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        self.connections.add(self)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):  # a Unix socket's is a text
            self.peer = str(address[0])
        if len(self.connections) > MAX_CONNECTIONS:
            self.end_with(early(503, "connections"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        Reading.total -= self.body_bytes
        self.body_bytes = 0
        self.exchanges.clear()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.parser = httptools.HttpRequestParser(self)  # offers of another protocol (h2c, …) are declined by going on as before
            if rest := data[upgrade.args[0] :]:
                self.data_received(rest)
        except httptools.HttpParserError:
            if self.exchanges:  # garbage behind a request that is under way: that one is answered first
                self.stopping = True
                self.transport.pause_reading()
            else:
                self.end_with(early(400, "bad_request"))
        else:
            if self.phase is Phase.HEAD:
                self.head_bytes += len(data)
                if self.head_bytes > HEAD_BYTES:
                    self.end_with(early(431, "head_too_large"))
            if len(self.exchanges) > MAX_PIPELINED and not self.paused:
                self.paused = True
                self.transport.pause_reading()

    def pause_writing(self) -> None:
        """The client does not read its answers: nothing more is read from it either."""
        self.paused = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.paused = False
        self.transport.resume_reading()

    def shutdown(self) -> None:
        """uvicorn's word that the server stops: what is under way is answered, then the connection closes."""
        self.stopping = True
        if not self.exchanges:
            self.transport.close()

    # the parser's callbacks ------------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        self.phase = Phase.HEAD
        self.deadline = monotonic() + HEAD_SECONDS
        self.head_bytes = 0
        self.url = b""
        self.headers = []
        self.pieces = []
        self.length = 0
        self.expects_continue = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.headers.append((name, value))
        if name == b"content-length":
            self.length = int(value)  # the parser lets only digits through
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expects_continue = True

    def on_headers_complete(self) -> None:
        self.phase = Phase.BODY
        self.deadline = monotonic() + BODY_SECONDS
        if len(self.url) + sum([len(name) + len(value) for name, value in self.headers]) > HEAD_BYTES:
            self.end_with(early(431, "head_too_large"))
        if self.transport.is_closing():
            return
        method = self.parser.get_method()
        self.exchange = Exchange(self, method == b"HEAD", self.parser.should_keep_alive())
        self.exchanges.append(self.exchange)
        path, _, self.query = self.url.partition(b"?")
        try:
            self.plugin = self.door.admit(method, path, self.length)
            self.method = "POST" if method == b"POST" else "GET"
        except Refusal as refusal:
            self.refuse(refusal)
        else:
            if self.expects_continue and len(self.exchanges) == 1:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self.phase is not Phase.BODY or self.plugin is None:
            return
        self.pieces.append(body)
        self.body_bytes += len(body)
        Reading.total += len(body)
        if self.body_bytes > self.door.max_body:
            self.refuse(self.door.too_large(self.plugin))
        elif Reading.total > READING_BYTES:
            self.refuse(self.door.overloaded(self.plugin))

    def on_message_complete(self) -> None:
        if self.transport.is_closing() or self.exchange is None:
            return
        Reading.total -= self.body_bytes
        self.body_bytes = 0
        refused = self.phase is Phase.LEFTOVER
        exchange, self.exchange = self.exchange, None
        plugin, self.plugin = self.plugin, None
        self.phase, self.deadline = Phase.WORK, math.inf
        if refused or plugin is None:
            self.rest()
        else:
            body = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
            self.door.deliver(plugin, self.headers, body, self.query, exchange.answer, self.method, self.peer)

    # answers ---------------------------------------------------------------------------------------------------------
    def refuse(self, refusal: Refusal) -> None:
        """Answers the request whose body is still to come; the rest of it is thrown away."""
        assert self.exchange is not None
        self.phase, self.deadline = Phase.LEFTOVER, monotonic() + LEFTOVER_SECONDS
        self.pieces = []
        Reading.total -= self.body_bytes
        self.body_bytes = 0
        self.exchange.answer(*self.door.refuse(refusal))

    def write_answers(self) -> None:
        """Writes the responses that are ready and whose turn it is."""
        exchanges = self.exchanges
        while exchanges and (response := exchanges[0].response) is not None:
            self.transport.write(response)
            self.stopping |= not exchanges.popleft().keep_alive
        if self.paused and len(exchanges) <= MAX_PIPELINED // 2:
            self.resume_writing()
        self.rest()

    def rest(self) -> None:
        """With nothing left to answer, and no refused body still coming, the next request is waited for, or the end."""
        if self.exchanges or self.phase is Phase.LEFTOVER:
            return
        if self.stopping:
            self.transport.close()
        elif self.phase is Phase.WORK:
            self.phase, self.deadline = Phase.IDLE, monotonic() + IDLE_SECONDS

    def end_with(self, refusal: Refusal) -> None:
        """Answers what is no whole request, and closes. With earlier requests unanswered it only closes: an answer would be theirs."""
        if self.transport.is_closing():
            return
        head, body = self.door.refuse(refusal)
        if len(self.exchanges) <= (self.exchange is not None):
            self.transport.write(head + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def expire(self) -> None:
        """The deadline has passed: a request that is still coming in is answered 408, any other connection is closed."""
        if self.phase in (Phase.HEAD, Phase.BODY):
            self.end_with(early(408, "timeout"))
        else:
            self.transport.close()


async def sweep(connections: Iterable[Any]) -> None:
    """Ends connections that are past their deadline; runs until it is cancelled."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = monotonic()
        for connection in [c for c in connections if c.deadline < now]:
            connection.expire()
