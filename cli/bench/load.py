"""A load client in its own process: signed Zendesk deliveries over kept-alive connections, one request under way on each.

`python -m cli.bench.load HOST PORT PATH CONNECTIONS REQUESTS [--forged]`, the secret in AI_AGENTS_BENCH_SECRET, prints one JSON
object: statuses, seconds, and every answer's latency in seconds. As cheap as Python can be: requests are made beforehand, answers
are read by their status line alone.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

BODY_BYTES = 2048
DISTINCT = 1000
TICKETS = 400


class LoadResult(msgspec.Struct):
    """What one run saw. `latencies` in seconds, in no order."""

    statuses: dict[str, int]
    seconds: float
    latencies: list[float]


def a_delivery(number: int) -> bytes:
    """A Zendesk event of about 2 KB; its number makes its id and, in turn, its ticket."""
    event: dict[str, Any] = {
        "type": "zen:event-type:ticket.status_changed",
        "account_id": 12514403,
        "id": f"6f0ae7bc-33b8-4b6f-9f3c-{number:012d}",
        "time": "2026-03-01T10:15:26.804341123Z",
        "zendesk_event_version": "2022-11-06",
        "subject": f"zen:ticket:{1 + number % TICKETS}",
        "detail": {
            "actor_id": "8447388090494",
            "assignee_id": "8447388090494",
            "brand_id": "8447346621310",
            "created_at": "2026-02-27T10:12:07Z",
            "description": "",
            "external_id": None,
            "group_id": "8447320466430",
            "id": str(1 + number % TICKETS),
            "is_public": True,
            "organization_id": "8447346622462",
            "priority": "HIGH",
            "requester_id": "8447388090494",
            "status": "OPEN",
            "subject": "VPN drops every few minutes since this morning",
            "tags": ["vpn", "network", "vip"],
            "type": "INCIDENT",
            "updated_at": "2026-03-01T10:15:26Z",
            "via": {"channel": "web_service"},
        },
        "event": {"current": "OPEN", "previous": "NEW"},
    }
    missing = BODY_BYTES - len(json.dumps(event))
    event["detail"]["description"] = ("The tunnel is up, then gone; rekeying does not help. " * 64)[:missing]
    return json.dumps(event).encode()


def requests(host: str, path: str, secret: bytes, *, forged: bool = False) -> list[bytes]:
    """Whole HTTP requests, signed as Zendesk signs; forged ones with another secret."""
    timestamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    key = b"not " + secret if forged else secret
    made = []
    for number in range(DISTINCT):
        body = a_delivery(number)
        signature = base64.b64encode(hmac.new(key, timestamp + body, hashlib.sha256).digest())
        made.append(
            b"POST %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: Zendesk Webhook\r\nAccept: */*\r\nContent-Type: application/json\r\n"
            b"X-Zendesk-Account-Id: 12514403\r\nX-Zendesk-Webhook-Id: 01HWEBHOOK\r\nX-Zendesk-Webhook-Invocation-Id: 01HCALL%d\r\n"
            b"X-Zendesk-Webhook-Signature: %b\r\nX-Zendesk-Webhook-Signature-Timestamp: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (path.encode(), host.encode(), number, signature, timestamp, len(body), body)
        )
    return made


class _Connection(asyncio.Protocol):
    """Sends the next request once the last was answered; every answer has a Content-Length and comes in few pieces."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        self._next()

    def _next(self) -> None:
        request = self._run.take()
        if request is None:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self._buffer[:head].lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < head + 4 + length:
            return
        self._run.answered(self._buffer[9:12], time.perf_counter() - self._sent)
        self._buffer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.closed()


class _Run:
    def __init__(self, made: list[bytes], count: int, connections: int) -> None:
        self._made = made
        self._left = count
        self._open = connections
        self.statuses: Counter[bytes] = Counter()
        self.latencies: list[float] = []
        self.over = asyncio.get_running_loop().create_future()

    def take(self) -> bytes | None:
        if self._left <= 0:
            return None
        self._left -= 1
        return self._made[self._left % len(self._made)]

    def answered(self, status: bytes, seconds: float) -> None:
        self.statuses[status] += 1
        self.latencies.append(seconds)

    def closed(self) -> None:
        self._open -= 1
        if not self._open and not self.over.done():
            self.over.set_result(None)


async def load(host: str, port: int, path: str, connections: int, count: int, secret: bytes, *, forged: bool = False) -> LoadResult:
    """Sends `count` requests over `connections` connections and answers what came of them."""
    run = _Run(requests(host, path, secret, forged=forged), count, connections)
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(run), host, port)
    await run.over
    return LoadResult({k.decode(): v for k, v in run.statuses.items()}, time.perf_counter() - started, run.latencies)


def main(arguments: list[str]) -> None:
    """See the module."""
    import uvloop

    host, port, path, connections, count = arguments[:5]
    secret = os.environ["AI_AGENTS_BENCH_SECRET"].encode()
    result = uvloop.run(load(host, int(port), path, int(connections), int(count), secret, forged="--forged" in arguments))
    sys.stdout.buffer.write(msgspec.json.encode(result))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
