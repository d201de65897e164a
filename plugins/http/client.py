"""ApiClient: the one way plugins reach their tools. Pool, timeouts, repeats, size bounds, errors and metering exist here, once.

Built on httpx's requests and auth flows over aiohttp's connections, without httpx's client between them: it doubles the CPU of a
call, keeps cookies and reads .netrc. Two habits of the pair are put right here: aiohttp silently repeats a PUT on a stale connection
(a comment would be written twice), and the bridge reports a lost connection as one never made (it would not be searched for).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterable, Callable, Mapping
from typing import Any

import aiohttp
import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport

from plugins.api import (
    ApiError,
    CallTimedOut,
    ConnectFailed,
    ConnectionLost,
    FatalApiError,
    PluginConfigError,
    RateLimited,
    RetriableApiError,
    TornAnswer,
)
from plugins.http.errors import SAFE_METHODS, Answer, error_for
from plugins.http.limits import Limits, segment
from plugins.http.rate_limit import RateLimitState
from plugins.http.retry import RetrySchedule
from plugins.metering import count_api_call

JSON_CONTENT = {"Content-Type": "application/json"}
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 3
IDLE_SECONDS = 15.0
"""An idle connection is dropped before a usual load balancer would drop it under us."""

__all__ = ["ApiClient", "ErrorFor", "Limits", "Pool", "segment"]

ErrorFor = Callable[[Answer], ApiError | None]


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


class ApiClient:
    """Requests to one tool, bound to its base URL, credentials and way to report errors. Safe for many calls at once."""

    def __init__(
        self,
        base_url: str = "",
        *,
        auth: httpx.Auth | None = None,
        headers: Mapping[str, str] | None = None,
        error_for: ErrorFor = error_for,
        limits: Limits | None = None,
        retries: RetrySchedule | None = None,
        pool: Pool | None = None,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._auth = auth
        self._headers = dict(headers or {})
        self._error_for = error_for
        self._limits = limits or Limits()
        self._retries = retries or RetrySchedule()
        self._pool = pool or Pool(self._limits)

    def bound(
        self,
        *,
        base_url: str | None = None,
        auth: httpx.Auth | None = None,
        headers: Mapping[str, str] | None = None,
        error_for: ErrorFor | None = None,
    ) -> ApiClient:
        """A client over the same pool, with these put in place. Credentials go into `auth`, never into `headers`."""
        return ApiClient(
            self._base if base_url is None else base_url,
            auth=auth or self._auth,
            headers={**self._headers, **(headers or {})},
            error_for=error_for or self._error_for,
            limits=self._limits,
            retries=self._retries,
            pool=self._pool,
        )

    async def request(self, method: str, path: str, **options: Any) -> Any:
        """The decoded JSON of the answer, its bytes when it is something else, None when it is empty. Options as in `answer`."""
        answer = await self.answer(method, path, **options)
        if not answer.body:
            return None
        if not answer.is_json:
            return answer.body
        try:
            return msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise TornAnswer(
                f"{method} {path} answered {answer.status} with broken JSON", status=answer.status, in_doubt=method not in SAFE_METHODS
            ) from None

    async def answer(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = False,
    ) -> Answer:
        """Sends one request and answers a success; raises ApiError's kinds for everything else.

        `json` is encoded, `data` is a form, `content` goes as it is. Reads, and what the caller calls `idempotent`, are repeated
        on retriable errors within the total time; a write is sent once. While the tool's rate limit is known to be used up, a call
        waits for a short end of it and is RateLimited before a long one, without being sent. A redirect is followed for reads
        only, and credentials stay with the tool's own host.
        """
        if not self._base and not path.startswith("http"):
            raise PluginConfigError("base_url is not set; give this tool its address")
        request_headers = {**self._headers, **(headers or {})}
        if json is not None:
            content, request_headers = msgspec.json.encode(json), {**JSON_CONTENT, **request_headers}
        repeatable = idempotent or method in SAFE_METHODS
        try:
            async with asyncio.timeout(self._limits.total):
                attempt = 1
                while True:
                    try:
                        await self._within_rate_limit(method, path)
                        return await self._once(method, path, content, data, params, request_headers)
                    except RetriableApiError as exc:
                        delay = self._retries.delay(attempt, exc, random.random()) if repeatable else None  # noqa: S311 - spread
                        if delay is None:
                            raise
                        await asyncio.sleep(delay)
                        attempt += 1
        except TimeoutError:
            raise CallTimedOut(
                f"{method} {path} did not end within {self._limits.total:g} s", in_doubt=method not in SAFE_METHODS
            ) from None

    async def _within_rate_limit(self, method: str, path: str) -> None:
        wait = self._pool.rate_limit.wait(time.monotonic())
        if wait > self._retries.longest:
            raise RateLimited(f"{method} {path} was not sent: the tool takes no calls for {wait:.0f} s", retry_after=wait)
        if wait:
            await asyncio.sleep(wait)

    async def _once(
        self,
        method: str,
        path: str,
        content: bytes | None,
        data: Mapping[str, str] | None,
        params: Mapping[str, str | int] | None,
        headers: Mapping[str, str],
    ) -> Answer:
        try:
            url = httpx.URL(path if path.startswith("http") else self._base + path, params=params or None)
            home = httpx.URL(self._base) if path.startswith("http") and self._base else url
        except httpx.InvalidURL:
            raise FatalApiError(f"{method} {path[:100]}: not an address; check base_url") from None
        for _ in range(MAX_REDIRECTS + 1):
            request = httpx.Request(method, url, headers=headers, content=content, data=data, extensions=self._pool.timeouts)
            at_home = url is home or _same_host(url, home)
            answer = await self._send(request, self._auth if at_home else None, path)
            if at_home:
                self._pool.rate_limit.learn(answer, time.monotonic(), time.time())
            location = answer.headers.get("location") if answer.status in REDIRECTS and method in SAFE_METHODS else None
            if location is None:
                error = self._error_for(answer)
                if error is not None:
                    raise error
                return answer
            url = url.join(location)
        raise FatalApiError(f"{method} {path} is redirected more than {MAX_REDIRECTS} times; check base_url")

    async def _send(self, request: httpx.Request, auth: httpx.Auth | None, path: str) -> Answer:
        """One request with its auth flow, which may put others before or after it."""
        what, writes = f"{request.method} {path}", request.method not in SAFE_METHODS
        transport = self._pool.transport()
        flow = None if auth is None else auth.async_auth_flow(request)
        try:
            following = request if flow is None else await anext(flow)
            while True:
                following.extensions = self._pool.timeouts
                count_api_call()
                response = await transport.handle_async_request(following)
                try:
                    if flow is not None:
                        try:
                            following = await flow.asend(response)
                        except StopAsyncIteration:
                            pass  # the flow is done: this response is the answer
                        else:
                            continue
                    body = await self._body(response, what, writes)
                finally:
                    await response.aclose()
                headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
                return Answer(method=request.method, path=path, status=response.status_code, headers=headers, body=body)
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as exc:
            raise _transport_error(exc, what, writes) from None
        finally:
            if flow is not None:
                await flow.aclose()

    async def _body(self, response: httpx.Response, what: str, writes: bool) -> bytes:
        """The whole body, within the bound also after decompression."""
        limit, size, chunks = self._limits.max_answer_bytes, 0, []
        stream = response.aiter_bytes() if "content-encoding" in response.headers else response.stream
        assert isinstance(stream, AsyncIterable)
        try:
            async for chunk in stream:
                size += len(chunk)
                if size > limit:
                    raise FatalApiError(
                        f"{what} answered more than {limit} bytes; nothing of it was used",
                        status=response.status_code,
                        in_doubt=writes and response.is_success,
                    )
                chunks.append(chunk)
        except httpx.DecodingError:
            raise TornAnswer(f"{what} answered what cannot be decompressed", status=response.status_code, in_doubt=writes) from None
        return b"".join(chunks)

    async def aclose(self) -> None:
        """Closes the pool, for every client bound to it."""
        await self._pool.aclose()


def _same_host(url: httpx.URL, home: httpx.URL) -> bool:
    return (url.scheme, url.host, url.port) == (home.scheme, home.host, home.port)


def _transport_error(exc: BaseException, what: str, writes: bool) -> ApiError:
    """Names a failure without an answer by what aiohttp said, which the bridge's own mapping blurs."""
    cause = exc if isinstance(exc, aiohttp.ClientError) else exc.__cause__ or exc
    if isinstance(cause, (aiohttp.ClientConnectorError, aiohttp.ServerFingerprintMismatch)):
        return ConnectFailed(f"{what}: no connection ({type(cause).__name__}); check base_url, DNS and TLS")
    if isinstance(cause, aiohttp.ConnectionTimeoutError) or (isinstance(exc, httpx.ConnectError) and cause is exc):
        return ConnectFailed(f"{what}: no connection in time")
    if isinstance(cause, (aiohttp.SocketTimeoutError, TimeoutError)):
        return CallTimedOut(f"{what}: no answer in time", in_doubt=writes)
    if isinstance(exc, httpx.UnsupportedProtocol):
        return FatalApiError(f"{what}: the address cannot be used; check base_url")
    return ConnectionLost(f"{what}: the connection broke before the answer was whole ({type(cause).__name__})", in_doubt=writes)
