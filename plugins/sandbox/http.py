"""The sandboxes' HTTP server: HTTP/1.1 on asyncio, able to do what a framework hides: reset a connection, or answer half a body.

A request that has arrived whole is carried out even when its client has gone: that is how a tool succeeds late.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

import httptools
import msgspec

MAX_BODY = 64 << 20


@dataclass(slots=True)
class Request:
    """One request, whole. Header names in lower case; `path` still quoted, so a quoted slash parts nothing."""

    method: str
    path: str
    query_string: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    params: dict[str, str] = field(default_factory=dict)
    """The route's own parts of the path, unquoted."""
    actor: Any = None
    """Who asks, once the sandbox knows."""

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def json(self) -> Any:
        """The decoded body; None when it is no JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None


@dataclass(slots=True)
class Response:
    """An answer; `half` breaks the connection in the middle of the body, `reset` before any of it."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    half: bool = False
    reset: bool = False


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, msgspec.json.encode(value), {"content-type": "application/json; charset=utf-8", **(headers or {})})


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path template whose {names} each stand for one segment."""

    method: str
    template: str
    pattern: re.Pattern[str]
    handler: str

    def match(self, path: str) -> dict[str, str] | None:
        found = self.pattern.fullmatch(path)
        return {name: unquote(value) for name, value in found.groupdict().items()} if found else None


Handler = Callable[..., Response]


def route(method: str, template: str) -> Callable[[Handler], Handler]:
    """Marks a sandbox's method as the answer to a call: `@route("GET", "/api/v2/tickets/{id}")`."""

    def mark(handler: Handler) -> Handler:
        known = getattr(handler, "_routes", [])
        handler._routes = [*known, (method, template)]  # type: ignore[attr-defined]  # functions take attributes
        return handler

    return mark


def routes_of(kind: type) -> list[Route]:
    """The routes a class marks, those without parameters first."""
    found = []
    for name in dir(kind):
        for method, template in getattr(getattr(kind, name), "_routes", ()):
            pattern = "".join(f"(?P<{p[1:-1]}>[^/]+)" if p.startswith("{") else re.escape(p) for p in re.split(r"(\{\w+\})", template))
            found.append(Route(method, template, re.compile(pattern), name))
    return sorted(found, key=lambda r: (r.template.count("{"), r.template))


Answer = Callable[[Request], Awaitable[Response]]


class _Connection(asyncio.Protocol):
    """One client's connection; requests on it are answered in order."""

    def __init__(self, answer: Answer, tasks: set[asyncio.Task[None]]) -> None:
        self._answer, self._tasks = answer, tasks
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError):
            if self._transport is not None:
                self._transport.close()

    # what httptools calls
    def on_message_begin(self) -> None:
        self._url, self._body = b"", bytearray()
        self._headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        if name.lower() == b"expect" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MAX_BODY and self._transport is not None:
            self._transport.abort()

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        method = self._parser.get_method().decode()
        self._waiting.append((Request(method, path, query, self._headers, bytes(self._body)), self._parser.should_keep_alive()))
        if not self._busy:
            self._busy = True
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        while self._waiting:
            request, keep_alive = self._waiting.popleft()
            response = await self._answer(request)
            self._write(request, response, keep_alive)
        self._busy = False

    def _write(self, request: Request, response: Response, keep_alive: bool) -> None:
        transport = self._transport
        if transport is None:  # the client has gone; what it asked for is done all the same
            return
        if response.reset:
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST, not FIN
            transport.abort()
            return
        reason = HTTPStatus(response.status).phrase if response.status in HTTPStatus._value2member_map_ else "Status"
        headers = {**response.headers, "content-length": str(len(response.body))}
        if not keep_alive:
            headers["connection"] = "close"
        head = f"HTTP/1.1 {response.status} {reason}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        body = response.body[: len(response.body) // 2] if response.half else response.body
        transport.write(head.encode("latin-1", "replace") + (b"" if request.method == "HEAD" else body))
        if response.half or not keep_alive:
            transport.close()


class HttpServer:
    """Listens on 127.0.0.1 and gives each request to `answer`, which must not raise."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Begins to listen and answers the port; raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self._answer, self._tasks), "127.0.0.1", port, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stops listening; requests under way are cancelled."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
