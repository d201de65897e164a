"""Webhooks out: each write of a sandbox is told to its target in the background, and told again as the tool would."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

WORKERS = 8
MAX_WAITING = 100_000
MAX_RETRY_AFTER = 60.0
REMEMBERED = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a tool sends a delivery again. Delays in seconds, shorter than the real tool's so that a demo shows them."""

    on_status: frozenset[int]
    needs_retry_after: frozenset[int] = frozenset()
    """Of these, only answers with a Retry-After under a minute are repeated."""
    delays: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    timeout: float = 10.0


@dataclass(slots=True)
class OutgoingWebhook:
    """One delivery on its way."""

    url: str
    body: bytes
    headers: dict[str, str]
    attempt: int = 0
    method: str = "POST"


class Outbox:
    """Sends deliveries; counts what became of them. A retry header names the attempt where the tool has one."""

    def __init__(self, policy: RetryPolicy, retry_header: str | None = None) -> None:
        self._policy, self._retry_header = policy, retry_header
        self._waiting: deque[OutgoingWebhook] = deque(maxlen=MAX_WAITING)
        self._arrived = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self._later: set[asyncio.TimerHandle] = set()
        self._busy = 0
        self._sent: deque[OutgoingWebhook] = deque(maxlen=REMEMBERED)
        self.delivered = 0
        self.failed = 0

    @property
    def pending(self) -> int:
        return len(self._waiting) + len(self._later) + self._busy

    def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Queues one delivery; it goes out while the answer to the write is on its way."""
        if len(self._waiting) == MAX_WAITING:
            self.failed += 1
        self._put(OutgoingWebhook(url, body, dict(headers)))

    def redeliver(self, count: int) -> int:
        """Sends the newest delivered ones again, byte for byte; answers how many."""
        again = list(self._sent)[-count:] if count > 0 else []
        for delivery in again:
            self._put(OutgoingWebhook(delivery.url, delivery.body, dict(delivery.headers), method=delivery.method))
        return len(again)

    def _put(self, delivery: OutgoingWebhook) -> None:
        self._waiting.append(delivery)
        self._arrived.set()

    def start(self) -> None:
        self._workers = [asyncio.get_running_loop().create_task(self._work()) for _ in range(WORKERS)]

    async def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()
        for handle in self._later:
            handle.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        timeout = aiohttp.ClientTimeout(total=self._policy.timeout)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                while not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                delivery = self._waiting.popleft()
                self._busy += 1
                try:
                    await self._deliver(session, delivery)
                finally:
                    self._busy -= 1

    async def _deliver(self, session: aiohttp.ClientSession, delivery: OutgoingWebhook) -> None:
        headers = delivery.headers
        if delivery.attempt and self._retry_header:
            headers = {**headers, self._retry_header: str(delivery.attempt)}
        wait: float | None = None
        try:
            async with session.request(delivery.method, delivery.url, data=delivery.body, headers=headers, allow_redirects=False) as answer:
                if 200 <= answer.status < 300:
                    self.delivered += 1
                    self._sent.append(delivery)
                    return
                wait = _seconds(answer.headers.get("Retry-After"))
                again = answer.status in self._policy.on_status
                if answer.status in self._policy.needs_retry_after:
                    again = wait is not None and wait < MAX_RETRY_AFTER
        except (aiohttp.ClientError, TimeoutError, OSError):
            again = True
        if not again or delivery.attempt >= len(self._policy.delays):
            self.failed += 1
            return
        delay = wait if wait is not None else self._policy.delays[delivery.attempt]
        delivery.attempt += 1
        self._put_later(min(delay, MAX_RETRY_AFTER), delivery)

    def _put_later(self, delay: float, delivery: OutgoingWebhook) -> None:
        def put() -> None:
            self._later.discard(handle)
            self._put(delivery)

        handle = asyncio.get_running_loop().call_later(delay, put)
        self._later.add(handle)


def _seconds(value: str | None) -> float | None:
    return float(value) if value and value.replace(".", "", 1).isdigit() else None
