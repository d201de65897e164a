"""Auth flows: generators that yield requests and are sent answers, so a test drives them by hand.

Credentials travel through these alone, never through a client's default headers: the client leaves the flow out when a redirect
leads to another host.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import httpx
import msgspec

from plugins.api import CredentialsRefused

Value = str | Callable[[], str]
"""A credential, or a function asked for it on each request: a rotated secret counts at once."""


def _now(value: Value) -> str:
    return value if isinstance(value, str) else value()


class HeaderAuth(httpx.Auth):
    """Sends a credential in a header: `HeaderAuth("Authorization", key, prefix="Bearer ")`, `HeaderAuth("authtoken", key)`."""

    def __init__(self, header: str, value: Value, prefix: str = "") -> None:
        self._header, self._value, self._prefix = header, value, prefix

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers[self._header] = self._prefix + _now(self._value)
        yield request


class BasicAuth(httpx.Auth):
    """Sends HTTP Basic credentials, in UTF-8."""

    def __init__(self, user: Value, password: Value) -> None:
        self._user, self._password = user, password

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        from base64 import b64encode

        request.headers["Authorization"] = "Basic " + b64encode(f"{_now(self._user)}:{_now(self._password)}".encode()).decode()
        yield request


class ClientCredentials(httpx.Auth):
    """OAuth 2.0 client credentials: fetches a token when it has none or the last is nearly over, once for all waiting calls, and
    once more when the tool refuses it with 401."""

    requires_response_body = False

    def __init__(
        self,
        token_url: str,
        client_id: Value,
        client_secret: Value,
        *,
        scope: str | None = None,
        header_prefix: str = "Bearer ",
        early: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._id, self._secret, self._scope = token_url, client_id, client_secret, scope
        self._prefix, self._early, self._monotonic = header_prefix, early, monotonic
        self._token, self._until = "", 0.0
        self._fetching = asyncio.Lock()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        used = self._token
        if not used or self._monotonic() >= self._until:
            async with self._fetching:
                if not self._token or self._monotonic() >= self._until:
                    answer = yield self._token_request()
                    self._keep(answer.status_code, await answer.aread())
            used = self._token
        request.headers["Authorization"] = self._prefix + used
        response = yield request
        if response.status_code != 401:
            return
        async with self._fetching:
            if self._token == used:  # else another call renewed it meanwhile
                answer = yield self._token_request()
                self._keep(answer.status_code, await answer.aread())
        request.headers["Authorization"] = self._prefix + self._token
        yield request

    def _token_request(self) -> httpx.Request:
        form = {"grant_type": "client_credentials", "client_id": _now(self._id), "client_secret": _now(self._secret)}
        if self._scope:
            form["scope"] = self._scope
        return httpx.Request("POST", self._url, data=form)

    def _keep(self, status: int, body: bytes) -> None:
        answer: Any = None
        if status == 200:
            try:
                answer = msgspec.json.decode(body)
            except msgspec.DecodeError:
                answer = None
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token:  # some tools refuse under status 200, without a token
            self._token = ""
            raise CredentialsRefused(f"the token endpoint gave no token (status {status}); renew the OAuth client", status=status)
        life = answer.get("expires_in")
        self._token = token
        self._until = self._monotonic() + max((life if isinstance(life, (int, float)) else 300) - self._early, 1.0)
