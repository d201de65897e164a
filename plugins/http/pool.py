"""The connections plugins call over. aiohttp silently repeats a PUT on a stale connection (a comment would be written twice): not here."""

from __future__ import annotations

from typing import Any

import aiohttp
import httpx

from plugins.http.limits import Limits
from plugins.http.rate_limit import RateLimitState

IDLE_SECONDS = 15.0
"""An idle connection is dropped before a usual load balancer would drop it under us."""


class Pool:
    """The connections of one generation of a plugin, opened on first use and closed once. Tests may give another `session`."""

    def __init__(self, limits: Limits, session: aiohttp.ClientSession | None = None) -> None:
        self._limits = limits
        self._session = session
        self.rate_limit = RateLimitState()
        self.timeout = aiohttp.ClientTimeout(total=None, connect=limits.total, sock_connect=limits.connect, sock_read=limits.read)

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._limits.max_connections, keepalive_timeout=IDLE_SECONDS, ssl=_tls())
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
            self._session._retry_connection = False  # a write must never be sent again behind our back; guarded by a test
        return self._session

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


_tls_context: Any = None


def _tls() -> Any:
    """One TLS context for every client of the process: making one costs some 30 ms."""
    global _tls_context
    if _tls_context is None:
        _tls_context = httpx.create_ssl_context()
    return _tls_context
