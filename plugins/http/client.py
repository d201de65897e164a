"""ApiClient: the one way plugins reach their tools. Pool, timeouts, repeats, size bounds, errors and metering exist here, once.

Built on httpx's requests and auth flows over aiohttp's connections, without httpx's client between them: it doubles the CPU of a
call, keeps cookies and reads .netrc. The bridge between the two reports a lost connection as one never made (it would not be
searched for), which is put right here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import aiohttp
import httpx
import msgspec

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
from plugins.http.pool import Pool
from plugins.http.retry import RetrySchedule
from plugins.metering import count_api_call

JSON_CONTENT = {"Content-Type": "application/json"}
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 3
__all__ = ["ApiClient", "ErrorFor", "Limits", "Pool", "segment"]

ErrorFor = Callable[[Answer], ApiError | None]
T = TypeVar("T")


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
        content: bytes | AsyncIterable[bytes] | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = False,
    ) -> Answer:
        """Sends one request and answers a success; raises ApiError's kinds for everything else.

        `json` is encoded, `data` is a form, `content` goes as it is. Reads, and what the caller calls `idempotent`, are repeated
        on retriable errors within the total time; a write is sent once. While the tool's rate limit is known to be used up, a call
        waits for a short end of it and is RateLimited before a long one, without being sent. A redirect is followed for reads
        only, and credentials stay with the tool's own host.

        Content that comes in chunks (an upload) goes out as it comes, once, within `limits.transfer` seconds; its maker bounds it
        (`limits.bounded`), names its Content-Length where it is known, and may raise, which ends the call with that error.
        """
        request_headers = {**self._headers, **(headers or {})}
        if json is not None:
            content, request_headers = msgspec.json.encode(json), {**JSON_CONTENT, **request_headers}
        if content is None or isinstance(content, bytes):
            body: bytes | _Upload | None = content
            seconds, repeatable = self._limits.total, idempotent or method in SAFE_METHODS
        else:
            body, seconds, repeatable = _Upload(content), self._limits.transfer, False
        try:
            async with asyncio.timeout(seconds):
                return await self._repeated(
                    method, path, lambda: self._whole(method, path, body, data, params, request_headers), repeatable=repeatable
                )
        except TimeoutError:
            raise CallTimedOut(f"{method} {_shown(path)} did not end within {seconds:g} s", in_doubt=method not in SAFE_METHODS) from None

    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int,
    ) -> AsyncGenerator[bytes, None]:
        """Reads a file as it comes, in chunks of some 16 KiB; one api call, following a redirect to a storage host without credentials.

        What is wrong with the answer is raised before the first chunk, and repeated for reads as in `answer`; a success is not
        looked into, since a file may be anything. Raises FatalApiError beyond `max_bytes` (counted after decompression), ConnectionLost
        or TornAnswer in the middle, CallTimedOut after `limits.transfer` seconds. Whoever stops early closes it
        (contextlib.aclosing).
        """
        what = f"{method} {_shown(path)}"
        request_headers = {**self._headers, **(headers or {})}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.transfer
        try:
            async with asyncio.timeout(self._limits.total):
                answer, response = await self._repeated(
                    method, path, lambda: self._opened(method, path, params, request_headers), repeatable=method in SAFE_METHODS
                )
        except TimeoutError:
            raise CallTimedOut(f"{what} did not begin within {self._limits.total:g} s", in_doubt=method not in SAFE_METHODS) from None
        try:
            if (told := answer.headers.get("content-length", "")).isdecimal() and int(told) > max_bytes:
                raise _too_large(answer, max_bytes)
            chunks = self._chunks(response, answer, max_bytes)
            while True:
                async with asyncio.timeout_at(deadline):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                yield chunk
        except TimeoutError:
            raise CallTimedOut(f"{what} did not end within {self._limits.transfer:g} s") from None
        finally:
            await response.aclose()

    async def _repeated(self, method: str, path: str, once: Callable[[], Awaitable[T]], *, repeatable: bool) -> T:
        attempt = 1
        while True:
            try:
                await self._within_rate_limit(method, path)
                return await once()
            except RetriableApiError as exc:
                delay = self._retries.delay(attempt, exc, random.random()) if repeatable else None  # noqa: S311 - spread
                if delay is None:
                    raise
                await asyncio.sleep(delay)
                attempt += 1

    async def _within_rate_limit(self, method: str, path: str) -> None:
        wait = self._pool.rate_limit.wait(time.monotonic())
        if wait > self._retries.longest:
            raise RateLimited(f"{method} {_shown(path)} was not sent: the tool takes no calls for {wait:.0f} s", retry_after=wait)
        if wait:
            await asyncio.sleep(wait)

    async def _whole(
        self,
        method: str,
        path: str,
        content: bytes | _Upload | None,
        data: Mapping[str, str] | None,
        params: Mapping[str, str | int] | None,
        headers: Mapping[str, str],
    ) -> Answer:
        """One try: the answer with its body."""
        head, response = await self._begun(method, path, content, data, params, headers)
        answer = await self._read(head, response)
        error = self._error_for(answer)
        if error is not None:
            raise error
        return answer

    async def _opened(
        self, method: str, path: str, params: Mapping[str, str | int] | None, headers: Mapping[str, str]
    ) -> tuple[Answer, httpx.Response]:
        """One try: a success with its body unread, for the caller to close."""
        head, response = await self._begun(method, path, None, None, params, headers)
        if response.is_success:
            return head, response
        answer = await self._read(head, response)
        raise self._error_for(answer) or error_for(answer) or FatalApiError(f"{method} {path} answered {answer.status}")

    async def _begun(
        self,
        method: str,
        path: str,
        content: bytes | _Upload | None,
        data: Mapping[str, str] | None,
        params: Mapping[str, str | int] | None,
        headers: Mapping[str, str],
    ) -> tuple[Answer, httpx.Response]:
        """The head of the last answer, redirects of reads followed, and its response with the body unread."""
        if not self._base and not path.startswith("http"):
            raise PluginConfigError("base_url is not set; give this tool its address")
        try:
            url = httpx.URL(path if path.startswith("http") else self._base + path)
            url = url.copy_merge_params(params) if params else url  # an address a tool gave away may end in a query of its own
            home = httpx.URL(self._base) if path.startswith("http") and self._base else url
        except httpx.InvalidURL:
            raise FatalApiError(f"{method} {path[:100]}: not an address; check base_url") from None
        path = _shown(path)
        for _ in range(MAX_REDIRECTS + 1):
            request = httpx.Request(method, url, headers=headers, content=content, data=data, extensions=self._pool.timeouts)
            at_home = url is home or _same_host(url, home)
            response = await self._send(request, self._auth if at_home else None, path, content)
            answer_headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
            head = Answer(method=method, path=path, status=response.status_code, headers=answer_headers, body=b"")
            if at_home:
                self._pool.rate_limit.learn(head, time.monotonic(), time.time())
            location = answer_headers.get("location") if head.status in REDIRECTS and method in SAFE_METHODS else None
            if location is None:
                return head, response
            await response.aclose()
            url = url.join(location)
        raise FatalApiError(f"{method} {path} is redirected more than {MAX_REDIRECTS} times; check base_url")

    async def _send(self, request: httpx.Request, auth: httpx.Auth | None, path: str, content: bytes | _Upload | None) -> httpx.Response:
        """The response to one request, its body unread; the auth flow may put other requests before or after it."""
        transport = self._pool.transport()
        flow = None if auth is None else auth.async_auth_flow(request)
        following = request
        try:
            if flow is not None:
                following = await anext(flow)
            while True:
                if following is request and isinstance(content, _Upload) and content.begun:
                    raise RetriableApiError(f"{request.method} {path}: the credentials had ended; an upload is not sent twice in one call")
                following.extensions = self._pool.timeouts
                count_api_call()
                response = await transport.handle_async_request(following)
                if flow is None:
                    return response
                try:
                    following = await flow.asend(response)
                except StopAsyncIteration:
                    return response  # the flow is done: this is the answer
                except BaseException:
                    await response.aclose()
                    raise
                await response.aclose()
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as exc:
            if isinstance(content, _Upload) and content.error is not None:
                raise content.error from None
            if following is not request:
                raise _transport_error(exc, f"the login before {request.method} {path}", writes=False) from None
            raise _transport_error(exc, f"{request.method} {path}", writes=request.method not in SAFE_METHODS) from None
        finally:
            if flow is not None:
                await flow.aclose()

    async def _read(self, head: Answer, response: httpx.Response) -> Answer:
        """The answer with its whole body; closes the response."""
        try:
            chunks = [chunk async for chunk in self._chunks(response, head, self._limits.max_answer_bytes)]
        finally:
            await response.aclose()
        return Answer(method=head.method, path=head.path, status=head.status, headers=head.headers, body=b"".join(chunks))

    async def _chunks(self, response: httpx.Response, head: Answer, limit: int) -> AsyncIterator[bytes]:
        """The body as it comes, within the bound also after decompression."""
        what, writes, size = f"{head.method} {head.path}", head.method not in SAFE_METHODS, 0
        stream = response.aiter_bytes() if "content-encoding" in head.headers else response.stream
        assert isinstance(stream, AsyncIterable)
        try:
            async for chunk in stream:
                size += len(chunk)
                if size > limit:
                    raise _too_large(head, limit)
                yield chunk
        except httpx.DecodingError:
            raise TornAnswer(f"{what} answered what cannot be decompressed", status=head.status, in_doubt=writes) from None
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as exc:
            raise _transport_error(exc, what, writes) from None

    async def aclose(self) -> None:
        """Closes the pool, for every client bound to it."""
        await self._pool.aclose()


class _Upload:
    """Content in chunks: whether its sending has begun, and its maker's own error, which the transport calls a broken connection."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self.begun = False
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        try:
            async for chunk in self._chunks:
                yield chunk
        except Exception as exc:  # of any kind: it is the caller's own, and is raised to the caller
            self.error = exc
            raise


def _too_large(head: Answer, limit: int) -> FatalApiError:
    return FatalApiError(
        f"{head.method} {head.path} answered more than {limit} bytes; nothing of it was used",
        status=head.status,
        in_doubt=head.method not in SAFE_METHODS and 200 <= head.status < 300,
    )


def _shown(path: str) -> str:
    """A path or an address as errors name it: the query of a file's address is often its key."""
    return path.partition("?")[0]


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
