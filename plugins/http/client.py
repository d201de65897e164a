"""ApiClient: the one way plugins reach their tools. Pool, timeouts, repeats, size bounds, errors and metering exist here, once.

Over aiohttp's connections (sending.py), with httpx's auth flows and without its client, which doubles the CPU of a call, keeps cookies
and reads .netrc.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
import httpx
import msgspec
from multidict import CIMultiDict
from yarl import URL

from plugins.api import ApiError, CallTimedOut, FatalApiError, PluginConfigError, RateLimited, RetriableApiError, TornAnswer
from plugins.http.errors import SAFE_METHODS, Answer, error_for
from plugins.http.limits import Limits, segment
from plugins.http.pool import Pool
from plugins.http.retry import RetrySchedule
from plugins.http.sending import CHUNK, Content, Upload, as_httpx, release, send, transport_error

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
        self._headers = CIMultiDict(headers or {})
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
            headers=self._with(headers),
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
        request_headers = self._with(headers)
        if json is not None:
            content = msgspec.json.encode(json)
            request_headers.setdefault("Content-Type", "application/json")
        elif data is not None:
            content = urlencode(data).encode()
            request_headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        if content is None or isinstance(content, bytes):
            body: Content = content
            seconds, repeatable = self._limits.total, idempotent or method in SAFE_METHODS
        else:
            body, seconds, repeatable = Upload(content), self._limits.transfer, False
        try:
            async with asyncio.timeout(seconds):
                return await self._repeated(
                    method, path, lambda: self._whole(method, path, body, params, request_headers), repeatable=repeatable
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
        request_headers = self._with(headers)
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
            await release(response)

    def _with(self, headers: Mapping[str, str] | None) -> CIMultiDict[str]:
        """Headers of one call: ours, and what the call puts in place of them."""
        merged = self._headers.copy()
        merged.update(headers or {})
        return merged

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
        self, method: str, path: str, content: Content, params: Mapping[str, str | int] | None, headers: CIMultiDict[str]
    ) -> Answer:
        """One try: the answer with its body."""
        head, response = await self._begun(method, path, content, params, headers)
        answer = await self._read(head, response)
        error = self._error_for(answer)
        if error is not None:
            raise error
        return answer

    async def _opened(
        self, method: str, path: str, params: Mapping[str, str | int] | None, headers: CIMultiDict[str]
    ) -> tuple[Answer, aiohttp.ClientResponse]:
        """One try: a success with its body unread, for the caller to close."""
        head, response = await self._begun(method, path, None, params, headers)
        if 200 <= head.status < 300:
            return head, response
        answer = await self._read(head, response)
        raise self._error_for(answer) or error_for(answer) or FatalApiError(f"{method} {path} answered {answer.status}")

    async def _begun(
        self, method: str, path: str, content: Content, params: Mapping[str, str | int] | None, headers: CIMultiDict[str]
    ) -> tuple[Answer, aiohttp.ClientResponse]:
        """The head of the last answer, redirects of reads followed, and its response with the body unread."""
        if not self._base and not path.startswith("http"):
            raise PluginConfigError("base_url is not set; give this tool its address")
        try:
            url = URL(path if path.startswith("http") else self._base + path)
            if params:  # an address a tool gave away may end in a query of its own
                url = url.update_query({name: _text(value) for name, value in params.items()})
            home = URL(self._base) if path.startswith("http") and self._base else url
        except ValueError:
            raise FatalApiError(f"{method} {path[:100]}: not an address; check base_url") from None
        path = _shown(path)
        for _ in range(MAX_REDIRECTS + 1):
            at_home = url is home or _same_host(url, home)
            response = await send(self._pool, method, url, headers, content, self._auth if at_home else None, path)
            answer_headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.raw_headers}
            head = Answer(method=method, path=path, status=response.status, headers=answer_headers, body=b"")
            if at_home:
                self._pool.rate_limit.learn(head, time.monotonic(), time.time())
            location = answer_headers.get("location") if head.status in REDIRECTS and method in SAFE_METHODS else None
            if location is None:
                return head, response
            await release(response)
            try:
                url = url.join(URL(location))
            except ValueError:
                raise FatalApiError(f"{method} {path} is redirected to what is no address; check base_url") from None
        raise FatalApiError(f"{method} {path} is redirected more than {MAX_REDIRECTS} times; check base_url")

    async def _read(self, head: Answer, response: aiohttp.ClientResponse) -> Answer:
        """The answer with its whole body; closes the response."""
        limit = self._limits.max_answer_bytes
        try:
            if _plain_and_within(head.headers, limit):
                body = await response.read()
            else:
                body = b"".join([chunk async for chunk in self._chunks(response, head, limit)])
        except (aiohttp.ClientError, OSError) as exc:
            raise transport_error(exc, f"{head.method} {head.path}", head.method not in SAFE_METHODS) from None
        finally:
            await release(response)
        return Answer(method=head.method, path=head.path, status=head.status, headers=head.headers, body=body)

    async def _chunks(self, response: aiohttp.ClientResponse, head: Answer, limit: int) -> AsyncIterator[bytes]:
        """The body as it comes, within the bound also after decompression."""
        what, writes, size = f"{head.method} {head.path}", head.method not in SAFE_METHODS, 0
        compressed = "content-encoding" in head.headers
        chunks: AsyncIterable[bytes] = as_httpx(response).aiter_bytes() if compressed else response.content.iter_chunked(CHUNK)
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise _too_large(head, limit)
                yield chunk
        except httpx.DecodingError:
            raise TornAnswer(f"{what} answered what cannot be decompressed", status=head.status, in_doubt=writes) from None
        except (aiohttp.ClientError, OSError) as exc:
            raise transport_error(exc, what, writes) from None

    async def aclose(self) -> None:
        """Closes the pool, for every client bound to it."""
        await self._pool.aclose()


def _plain_and_within(headers: Mapping[str, str], limit: int) -> bool:
    """Whether the body may be taken in one go: its size is told beforehand, and nothing makes it larger."""
    told = headers.get("content-length", "")
    return told.isdecimal() and int(told) <= limit and "content-encoding" not in headers and "transfer-encoding" not in headers


def _too_large(head: Answer, limit: int) -> FatalApiError:
    return FatalApiError(
        f"{head.method} {head.path} answered more than {limit} bytes; nothing of it was used",
        status=head.status,
        in_doubt=head.method not in SAFE_METHODS and 200 <= head.status < 300,
    )


def _shown(path: str) -> str:
    """A path or an address as errors name it: the query of a file's address is often its key."""
    return path.partition("?")[0]


def _same_host(url: URL, home: URL) -> bool:
    return (url.scheme, url.host, url.port) == (home.scheme, home.host, home.port)


def _text(value: str | int) -> str:
    """A value in a query; truth as JSON writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
