"""The connections plugins call over. aiohttp silently repeats a PUT on a stale connection (a comment would be written twice): not here."""

from __future__ import annotations

from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from plugins.http.limits import Limits
from plugins.http.rate_limit import RateLimitState

IDLE_SECONDS = 15.0
"""An idle connection is dropped before a usual load balancer would drop it under us."""


class Pool:
    """The connections of one generation of a plugin, opened on first use and closed once. Tests may give another `transport`."""

    def __init__(self, limits: Limits, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._limits = limits
        self._transport = transport
        self.rate_limit = RateLimitState()
        self.timeouts = {"timeout": {"connect": limits.connect, "read": limits.read, "pool": limits.total}}

    def transport(self) -> httpx.AsyncBaseTransport:
        if self._transport is None:
            self._transport = AiohttpTransport(verify=_tls(), client=self._session)
        return self._transport

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=self._limits.max_connections, keepalive_timeout=IDLE_SECONDS, ssl=_tls())
        session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        session._retry_connection = False  # a write must never be sent again behind our back; guarded by a test
        return session

    async def aclose(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()


_tls_context: Any = None


def _tls() -> Any:
    """One TLS context for every client of the process: making one costs some 30 ms."""
    global _tls_context
    if _tls_context is None:
        _tls_context = httpx.create_ssl_context()
    return _tls_context
