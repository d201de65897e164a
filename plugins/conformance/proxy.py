"""A proxy full of faults between a plugin and its sandbox: it speaks HTTP only, so it serves any sandbox, whatever its protocol.

It knows nothing of the tool: what it answers by itself looks like a gateway's page, as a real one's would. Its own address is put in
place of the sandbox's in every answer, so that links to a next page lead through it too.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, cast
from urllib.parse import urlsplit

import httptools

Kind = Literal["status", "hang", "reset", "half", "drip", "page"]

GATEWAY_PAGE = b"<html><head><title>gateway</title></head><body><h1>The service is not available</h1></body></html>"
HOP_BY_HOP = frozenset({"connection", "content-length", "transfer-encoding", "keep-alive"})
DRIP_SECONDS = 0.05


@dataclass(slots=True, kw_only=True)
class ProxyFault:
    """What the next `times` requests meet that match `method` and begin with `path`, where these are given.

    status: answered with `status`, `headers` and a gateway's page. hang: no answer. reset: the connection breaks. half: half an
    answer, then the end. drip: an answer that comes byte by byte. page: 200 and a gateway's page. With `carried_out` the sandbox
    gets the request all the same: the effect happens and its answer is lost.
    """

    kind: Kind
    times: int = 1
    method: str | None = None
    path: str | None = None
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    carried_out: bool = False

    def matches(self, method: str, path: str) -> bool:
        return self.method in (None, method) and (self.path is None or path.startswith(self.path))


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One request that reached the proxy; `path` without its query. `proof` is what its Authorization or Cookie header held."""

    method: str
    path: str
    query: str = ""
    proof: str = ""


class _Message:
    """One HTTP message, put together from what httptools calls."""

    def __init__(self) -> None:
        self.url, self.headers, self.body, self.complete = b"", list[tuple[bytes, bytes]](), bytearray(), False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


class FaultProxy:
    """Listens on 127.0.0.1 and hands on to `target`. `seen` lists every request, `connections` counts the open ones, `latency`
    seconds come before each answer."""

    def __init__(self, target: str) -> None:
        self._target = target.rstrip("/")
        parts = urlsplit(self._target)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._faults: list[ProxyFault] = []
        self.url = ""
        self.latency = 0.0
        self.seen: list[SeenRequest] = []
        self.connections = 0
        self.busy = asyncio.Event()
        """Set while a request hangs: what a check waits for before it gives a call up."""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Stops listening and breaks what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def arm(self, fault: ProxyFault) -> None:
        self._faults.append(fault)

    def calm(self) -> None:
        """No fault is armed any more."""
        self._faults.clear()
        self.latency = 0.0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        try:
            while await self._serve(reader, writer):
                pass
        except (OSError, httptools.HttpParserError, asyncio.CancelledError):
            pass  # the client has gone, or the proxy is being stopped: either way this connection is over
        finally:
            self.connections -= 1
            self._serving.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False when the connection is over."""
        message = _Message()
        parser = httptools.HttpRequestParser(message)
        if not await _read(reader, parser, message):
            return False
        method = parser.get_method().decode()
        path, _, query = message.url.decode("latin-1").partition("?")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message.headers}
        self.seen.append(SeenRequest(method, path, query, headers.get("authorization") or headers.get("cookie") or ""))
        fault = self._take(method, path)
        if self.latency:
            await asyncio.sleep(self.latency)
        if fault is None:
            writer.write(await self._forward(method, message))
        elif not await self._misbehave(fault, method, message, reader, writer):
            return False
        await writer.drain()
        return bool(parser.should_keep_alive())

    def _take(self, method: str, path: str) -> ProxyFault | None:
        for fault in self._faults:
            if fault.matches(method, path):
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                return fault
        return None

    async def _misbehave(
        self, fault: ProxyFault, method: str, message: _Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection lives on."""
        real = await self._forward(method, message) if fault.carried_out or fault.kind in ("half", "drip") else b""
        match fault.kind:
            case "status":
                writer.write(_answer(fault.status, GATEWAY_PAGE, {"content-type": "text/html", **fault.headers}))
                return True
            case "page":
                writer.write(_answer(200, GATEWAY_PAGE, {"content-type": "text/html"}))
                return True
            case "reset":
                raw = cast(socket.socket, writer.get_extra_info("socket"))
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST, not FIN
                writer.transport.abort()
            case "half":
                head, _, body = real.partition(b"\r\n\r\n")
                writer.write(head + b"\r\n\r\n" + body[: len(body) // 2])
            case "drip":
                head, _, body = real.partition(b"\r\n\r\n")
                writer.write(head + b"\r\n\r\n")
                for at in range(len(body)):
                    writer.write(body[at : at + 1])
                    await writer.drain()
                    await asyncio.sleep(DRIP_SECONDS)
            case "hang":
                self.busy.set()
                await reader.read(1)  # until the client gives up
        return False

    async def _forward(self, method: str, message: _Message) -> bytes:
        """The sandbox's answer, whole, with our address in place of its own."""
        kept = [(name, value) for name, value in message.headers if name.decode("latin-1").lower() not in HOP_BY_HOP]
        head = method.encode() + b" " + message.url + b" HTTP/1.1\r\n" + b"".join(n + b": " + v + b"\r\n" for n, v in kept)
        head += b"content-length: " + str(len(message.body)).encode() + b"\r\nconnection: close\r\n\r\n"
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            return _answer(502, GATEWAY_PAGE, {"content-type": "text/html"})
        try:
            writer.write(head + bytes(message.body))
            answer = _Message()
            parser = httptools.HttpResponseParser(answer)
            await _read(reader, parser, answer, only_head=method == "HEAD")
        finally:
            writer.close()
        headers = {n.decode("latin-1").lower(): v.decode("latin-1").replace(self._target, self.url) for n, v in answer.headers}
        body = bytes(answer.body)
        for ours, theirs in ((self.url, self._target), (self.url.replace("/", r"\/"), self._target.replace("/", r"\/"))):
            body = body.replace(theirs.encode(), ours.encode())
        return _answer(parser.get_status_code(), body, {n: v for n, v in headers.items() if n not in HOP_BY_HOP})


async def _read(reader: asyncio.StreamReader, parser: object, message: _Message, *, only_head: bool = False) -> bool:
    """Reads one message whole; False when the connection ended before it was."""
    while not message.complete:
        data = await reader.read(1 << 16)
        if not data:
            return message.complete
        cast(httptools.HttpRequestParser, parser).feed_data(data)
        if only_head and message.headers:
            return True
    return True


def _answer(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Status"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    if status not in (204, 304):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + (b"" if status in (204, 304) else body)
