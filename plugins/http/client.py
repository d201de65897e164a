"""ApiClient: the one way plugins reach their tools. Pool, timeouts, repeats, size bounds, errors and metering exist here, once.

Built on httpx for its auth flows and requests, over aiohttp for its speed (a call costs a fifth of the CPU). Three habits of that
pair are put right here: aiohttp silently repeats a PUT on a stale connection (a comment would be written twice), the bridge reports
a lost connection as one never made (it would not be searched for), and both keep cookies.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import quote

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
    RetriableApiError,
    TornAnswer,
)
from plugins.http.errors import SAFE_METHODS, Answer, error_for
from plugins.http.retry import RetrySchedule
from plugins.metering import count_api_call

JSON_CONTENT = {"Content-Type": "application/json"}
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 3
IDLE_SECONDS = 15.0
"""An idle connection is dropped before a usual load balancer would drop it under us."""

ErrorFor = Callable[[Answer], ApiError | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one client. Seconds and bytes; `total` covers a whole call with its repeats."""

    connect: float = 5.0
    read: float = 15.0
    total: float = 15.0
    max_answer_bytes: int = 8 << 20
    max_connections: int = 64


class Pool:
    """The connections of one generation of a plugin, opened on first use and closed once."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._client: httpx.AsyncClient | None = None

    def client(self) -> httpx.AsyncClient:
        if self._client is None:
            limits = self.limits
            transport = AiohttpTransport(verify=_tls(), client=self._session)
            self._client = httpx.AsyncClient(
                transport=transport,
                timeout=httpx.Timeout(limits.read, connect=limits.connect, pool=limits.total),
                follow_redirects=False,
                trust_env=False,  # no .netrc: credentials come from the tenant's settings alone
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                event_hooks={"request": [_count]},
            )
        return self._client

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=self.limits.max_connections, keepalive_timeout=IDLE_SECONDS, ssl=_tls())
        session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        session._retry_connection = False  # a write must never be sent again behind our back; guarded by a test
        return session

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


async def _count(request: httpx.Request) -> None:
    count_api_call()


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
        on retriable errors within the total time; a write is sent once. A redirect is followed for reads only, and credentials
        stay with the tool's own host.
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

    async def _once(
        self,
        method: str,
        path: str,
        content: bytes | None,
        data: Mapping[str, str] | None,
        params: Mapping[str, str | int] | None,
        headers: Mapping[str, str],
    ) -> Answer:
        client = self._pool.client()
        try:
            url = httpx.URL(path if path.startswith("http") else self._base + path)
            home = httpx.URL(self._base) if self._base else url
        except httpx.InvalidURL:
            raise FatalApiError(f"{method} {path[:100]}: not an address; check base_url") from None
        for _ in range(MAX_REDIRECTS + 1):
            request = client.build_request(method, url, content=content, data=data, params=params, headers=headers)
            auth = self._auth if _same_host(url, home) else None
            answer, location = await self._send(client, request, auth, path)
            if location is None or method not in SAFE_METHODS:
                error = self._error_for(answer)
                if error is not None:
                    raise error
                return answer
            url, params = url.join(location), None
        raise FatalApiError(f"{method} {path} is redirected more than {MAX_REDIRECTS} times; check base_url")

    async def _send(
        self, client: httpx.AsyncClient, request: httpx.Request, auth: httpx.Auth | None, path: str
    ) -> tuple[Answer, str | None]:
        what, writes = f"{request.method} {path}", request.method not in SAFE_METHODS
        try:
            response = await client.send(request, auth=auth, stream=True)
            try:
                body = await self._body(response, what, writes)
            finally:
                await response.aclose()
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as exc:
            raise _transport_error(exc, what, writes) from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        answer = Answer(method=request.method, path=path, status=response.status_code, headers=headers, body=body)
        return answer, headers.get("location") if response.status_code in REDIRECTS else None

    async def _body(self, response: httpx.Response, what: str, writes: bool) -> bytes:
        """The whole body, within the bound also after decompression."""
        limit, size, chunks = self._limits.max_answer_bytes, 0, []
        try:
            async for chunk in response.aiter_bytes():
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


def segment(value: str) -> str:
    """A value as one segment of a path: a ticket id comes from outside and must not lead elsewhere."""
    if value in ("", ".", ".."):
        raise FatalApiError("a ticket id is empty or no id")
    return quote(value, safe="")


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
