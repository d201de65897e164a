"""One request with its credentials, over aiohttp: the auth flows of httpx, uploads, bodies in chunks, and failures named.

httpx lends its auth flows and decoders and is left out of a call that needs neither, which is nearly every call: its requests,
addresses and responses were more than half of a call's CPU (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

import aiohttp
import httpx
from multidict import CIMultiDict
from yarl import URL

from plugins.api import ApiError, CallTimedOut, ConnectFailed, ConnectionLost, FatalApiError, RetriableApiError, TornAnswer
from plugins.http.auth import HeadersAuth, RenewedAuth
from plugins.http.errors import SAFE_METHODS
from plugins.http.pool import Pool
from plugins.metering import count_api_call

CHUNK = 16 << 10


class Upload:
    """Content in chunks: whether its sending has begun, and its maker's own error, which aiohttp calls a broken connection."""

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


Content = bytes | Upload | None


async def send(
    pool: Pool, method: str, url: URL, headers: CIMultiDict[str], content: Content, auth: httpx.Auth | None, path: str
) -> aiohttp.ClientResponse:
    """The response, its body unread, for the caller to `release`. `path` is what errors call the address.

    Credentials at hand go straight into the headers. A flow runs where there are none yet, where the tool refuses them, and where
    the plugin brought one of another kind.
    """
    if auth is None:
        return await _sent(pool, method, url, headers, content, f"{method} {path}")
    ready = auth.ready() if isinstance(auth, HeadersAuth) else None
    if ready is not None:
        sealed = headers.copy()
        sealed.update(ready.headers)
        response = await _sent(pool, method, url, sealed, content, f"{method} {path}")
        if not isinstance(auth, RenewedAuth) or not auth.refuses(as_httpx(response)):
            return response
        await release(response)
    try:
        request = httpx.Request(method, str(url), headers=list(headers.items()), content=content)
    except httpx.InvalidURL:
        raise FatalApiError(f"{method} {path}: the address cannot be used; check base_url") from None
    flow = auth.renewing_flow(request, ready) if isinstance(auth, RenewedAuth) else auth.async_auth_flow(request)
    return await _by_flow(pool, flow, request, content, path)


async def _by_flow(
    pool: Pool, flow: AsyncGenerator[httpx.Request, httpx.Response], request: httpx.Request, content: Content, path: str
) -> aiohttp.ClientResponse:
    """The response to the last request of a flow, which may put others before it."""
    call = f"{request.method} {path}"
    try:
        following = await anext(flow)
        while True:
            login = following is not request
            if not login and isinstance(content, Upload) and content.begun:
                raise RetriableApiError(f"{call}: the credentials had ended; an upload is not sent twice in one call")
            what, body = (f"the login before {call}", await following.aread()) if login else (call, content)
            headers = CIMultiDict(following.headers.multi_items())
            headers.pop("transfer-encoding", None)  # aiohttp's own affair
            response = await _sent(pool, following.method, URL(str(following.url)), headers, body, what, login=login)
            seen = as_httpx(response)
            try:
                following = await flow.asend(seen)
            except StopAsyncIteration:  # the flow is done: this is the answer
                if seen.is_stream_consumed:
                    raise TornAnswer(
                        f"{call}: its auth flow read the answer, which is the caller's", in_doubt=request.method not in SAFE_METHODS
                    ) from None
                return response
            except BaseException as exc:
                await release(response)
                if isinstance(exc, (httpx.HTTPError, aiohttp.ClientError, OSError)):  # the flow could not read it
                    raise transport_error(exc, what, writes=not login and request.method not in SAFE_METHODS) from None
                raise
            await release(response)
    finally:
        await flow.aclose()


async def _sent(
    pool: Pool, method: str, url: URL, headers: CIMultiDict[str], content: Content, what: str, *, login: bool = False
) -> aiohttp.ClientResponse:
    count_api_call()
    try:
        return await pool.session().request(
            method, url, headers=headers, data=content or None, allow_redirects=False, auto_decompress=False, timeout=pool.timeout
        )
    except (aiohttp.ClientError, OSError) as exc:
        if isinstance(content, Upload) and content.error is not None:
            raise content.error from None
        raise transport_error(exc, what, writes=not login and method not in SAFE_METHODS) from None


async def release(response: aiohttp.ClientResponse) -> None:
    """Gives the connection back, or closes it where the answer is not read to its end."""
    response.release()
    await response.wait_for_close()


def as_httpx(response: aiohttp.ClientResponse) -> httpx.Response:
    """The response as httpx's flows and decoders know one, its body still to be read."""
    return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response))


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.content.iter_chunked(CHUNK):
            yield chunk


def transport_error(exc: BaseException, what: str, writes: bool) -> ApiError:
    """Names a failure without a whole answer: whether anything can have reached the tool decides who repeats it."""
    if isinstance(exc, (aiohttp.ClientConnectorError, aiohttp.ServerFingerprintMismatch)):
        return ConnectFailed(f"{what}: no connection ({type(exc).__name__}); check base_url, DNS and TLS")
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return ConnectFailed(f"{what}: no connection in time")
    if isinstance(exc, TimeoutError):
        return CallTimedOut(f"{what}: no answer in time", in_doubt=writes)
    if isinstance(exc, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return FatalApiError(f"{what}: the address cannot be used; check base_url")
    return ConnectionLost(f"{what}: the connection broke before the answer was whole ({type(exc).__name__})", in_doubt=writes)
