"""Auth flows: generators that yield requests and are sent answers, so a test drives them by hand.

Credentials travel through these alone, never through a client's default headers: the client leaves the flow out when a redirect
leads to another host.

    HeaderAuth, BasicAuth                                        sent as they are
    ClientCredentials, RefreshToken, PasswordGrant, JwtBearer    OAuth 2.0 tokens
    SessionAuth                                                  a login that gives cookies, or a token of the tool's own kind

The last two rows share RenewedAuth: one fetch for all waiting calls, a renewal before the end and once after a 401.
Any other httpx.Auth will do, if it reads the bodies of its own requests' answers only (`requires_response_body` False).
"""

from __future__ import annotations

import asyncio
import re
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from plugins.api import ApiError, CredentialsRefused, RateLimited
from plugins.http.errors import Answer, error_for

Value = str | Callable[[], str]
"""A credential, or a function asked for it on each request: a rotated secret counts at once."""

MAX_TOKEN_ANSWER = 1 << 20
LOGIN_PAUSE = 60.0
"""Seconds without another login after the tool limited one and did not say for how long."""
_CODE = re.compile(r"[A-Za-z_]{1,40}")


def _now(value: Value) -> str:
    return value if isinstance(value, str) else value()


def _basic(user: str, password: str) -> str:
    from base64 import b64encode

    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Granted:
    """What carries the credentials: headers, and their life in seconds (None: until a 401)."""

    headers: Mapping[str, str]
    life: float | None = None


class HeadersAuth(httpx.Auth):
    """Credentials that are nothing but headers: the client takes them from `ready()` and spares itself the flow, which does the same."""

    @abstractmethod
    def ready(self) -> Granted | None:
        """The headers to send now; None while they must be fetched first, by the flow."""


class HeaderAuth(HeadersAuth):
    """Sends a credential in a header: `HeaderAuth("Authorization", key, prefix="Bearer ")`, `HeaderAuth("authtoken", key)`."""

    def __init__(self, header: str, value: Value, prefix: str = "") -> None:
        self._header, self._value, self._prefix = header, value, prefix

    def ready(self) -> Granted:
        return Granted({self._header: self._prefix + _now(self._value)})

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers.update(self.ready().headers)
        yield request


class BasicAuth(HeadersAuth):
    """Sends HTTP Basic credentials, in UTF-8."""

    def __init__(self, user: Value, password: Value) -> None:
        self._user, self._password = user, password

    def ready(self) -> Granted:
        return Granted({"Authorization": _basic(_now(self._user), _now(self._password))})

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers.update(self.ready().headers)
        yield request


# --- credentials that end ------------------------------------------------------------------------------------------------


class RenewedAuth(HeadersAuth):
    """Credentials that are fetched, end, and are fetched again.

    Fetched when there are none, `early` seconds before their end, and once more when the tool refuses them; of many calls that
    wait, one fetches, and the others share its result, a refusal too. A refusal is CredentialsRefused; a login that fails
    otherwise (429, 5xx) is retriable and not in doubt, and after a 429 nobody logs in again before its time.
    """

    requires_response_body = False

    def __init__(self, *, early: float, monotonic: Callable[[], float]) -> None:
        self._early, self._monotonic = early, monotonic
        self._granted: Granted | None = None
        self._until = self._not_before = 0.0
        self._rounds = 0
        self._failure: ApiError | None = None
        self._fetching = asyncio.Lock()

    @abstractmethod
    def _logins(self) -> Iterator[httpx.Request]:
        """The requests that may give credentials, tried in order until one does."""

    @abstractmethod
    def _grant_in(self, answer: Answer) -> Granted | None:
        """The credentials in an answer to a login; None when it refuses."""

    def refuses(self, response: httpx.Response) -> bool:
        """Whether the tool no longer takes the credentials, told from status and headers."""
        return response.status_code == 401

    @property
    def held(self) -> Mapping[str, str]:
        """The headers in force, empty before the first call: what a logout needs."""
        return self._granted.headers if self._granted is not None else {}

    def ready(self) -> Granted | None:
        return self._granted if self._monotonic() < self._until else None

    def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        return self.renewing_flow(request, None)

    async def renewing_flow(self, request: httpx.Request, refused: Granted | None) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """The flow; where the request has been `refused` with credentials from `ready()`, as it goes on from there."""
        while True:
            granted = self._granted
            if granted is None or granted is refused or self._monotonic() >= self._until:
                round_ = self._rounds
                async with self._fetching:
                    if self._rounds == round_:  # else another call has just fetched
                        self._check_pause()
                        self._failure = None
                        for login in self._logins():
                            answer = yield login
                            if self._take(await _read(login, answer)):
                                break
                        self._rounds += 1
                    if self._failure is not None:
                        raise type(self._failure)(str(self._failure), status=self._failure.status, retry_after=self._failure.retry_after)
                granted = self._granted
                assert granted is not None
            for name in refused.headers if refused is not None else ():
                request.headers.pop(name, None)
            request.headers.update(granted.headers)
            response = yield request
            if refused is not None or not self.refuses(response):
                return
            refused = granted

    def _take(self, answer: Answer) -> bool:
        """Keeps what a login gave, or why it gave nothing; True ends the attempts."""
        granted = self._grant_in(answer) if 200 <= answer.status < 400 else None
        self._granted = granted
        if granted is not None:
            life = granted.life
            self._until = float("inf") if life is None else self._monotonic() + max(life - min(self._early, life / 2), 1.0)
            self._failure = None
            return True
        if answer.status >= 500 or answer.status in (408, 425, 429):
            error = error_for(answer, "login", nothing_done=True)
            assert error is not None
            if isinstance(error, RateLimited):
                error.retry_after = error.retry_after or LOGIN_PAUSE
                self._not_before = self._monotonic() + error.retry_after
            self._failure = error
            return True  # the next way in leads to the same server
        document = answer.json()
        code = document.get("error") if isinstance(document, dict) else None
        told = f", {code}" if isinstance(code, str) and _CODE.fullmatch(code) else ""
        self._failure = CredentialsRefused(
            f"the login gave no credentials (status {answer.status}{told}); renew the tool's credentials", status=answer.status
        )
        return False

    def _check_pause(self) -> None:
        wait = self._not_before - self._monotonic()
        if wait > 0:
            raise RateLimited(f"no login was sent: the tool takes none for {wait:.0f} s", retry_after=wait)


async def _read(login: httpx.Request, response: httpx.Response) -> Answer:
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_TOKEN_ANSWER:
            raise CredentialsRefused("the login answered more than a login does; check its address", status=response.status_code)
        chunks.append(chunk)
    headers: dict[str, str] = {}
    for name, value in response.headers.multi_items():
        name = name.lower()
        headers[name] = f"{headers[name]}\n{value}" if name == "set-cookie" and name in headers else value
    return Answer(method=login.method, path=login.url.path, status=response.status_code, headers=headers, body=b"".join(chunks))


# --- OAuth 2.0 -----------------------------------------------------------------------------------------------------------


class TokenGrant(RenewedAuth):
    """OAuth 2.0 tokens from a token endpoint, sent as `Authorization`.

    `client_auth` says where the client's id and secret go: into the form, or into HTTP Basic. `form` adds fields of the tool's own.
    A client without a secret has "". A refresh token that comes with a token is kept in memory and tried first where
    `_keeps_refresh_tokens`; the newest replaces the one before, as servers that rotate them want it.
    """

    _keeps_refresh_tokens = False

    def __init__(
        self,
        token_url: str,
        client_id: Value,
        client_secret: Value = "",
        *,
        scope: str | None = None,
        form: Mapping[str, str] | None = None,
        client_auth: Literal["form", "basic"] = "form",
        header_prefix: str = "Bearer ",
        early: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(early=early, monotonic=monotonic)
        self._url, self._id, self._secret, self._scope = token_url, client_id, client_secret, scope
        self._form, self._client_auth, self._prefix = dict(form or {}), client_auth, header_prefix
        self._refresh_token = ""

    @abstractmethod
    def _grants(self) -> Iterator[dict[str, str]]:
        """The form of each grant that may be asked for, in order."""

    def _logins(self) -> Iterator[httpx.Request]:
        if self._refresh_token:
            yield self._token_request({"grant_type": "refresh_token", "refresh_token": self._refresh_token})
            self._refresh_token = ""  # asked for another way: it was refused
        for grant in self._grants():
            yield self._token_request(grant)

    def _token_request(self, grant: Mapping[str, str]) -> httpx.Request:
        form, headers = {**self._form, **grant}, {"Accept": "application/json"}
        if self._scope:
            form["scope"] = self._scope
        if self._client_auth == "basic":
            headers["Authorization"] = _basic(_now(self._id), _now(self._secret))
        else:
            form["client_id"] = _now(self._id)
            if secret := _now(self._secret):
                form["client_secret"] = secret
        return httpx.Request("POST", self._url, data=form, headers=headers)

    def _grant_in(self, answer: Answer) -> Granted | None:
        document = answer.json()
        token = document.get("access_token") if isinstance(document, dict) else None
        if not isinstance(token, str) or not token:  # some tools refuse under status 200, without a token
            return None
        refresh = document.get("refresh_token")
        if self._keeps_refresh_tokens and isinstance(refresh, str) and refresh:
            self._refresh_token = refresh
        return Granted({"Authorization": self._prefix + token}, _seconds(document.get("expires_in")) or 300.0)


def _seconds(value: Any) -> float | None:
    """A life as a number or its text; None when it says nothing."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 < seconds < 1e9 else None


class ClientCredentials(TokenGrant):
    """Grant client_credentials: an application in its own name."""

    def _grants(self) -> Iterator[dict[str, str]]:
        yield {"grant_type": "client_credentials"}


class RefreshToken(TokenGrant):
    """Grant refresh_token: access a person once allowed. The configured token is tried again when a rotated one is refused."""

    _keeps_refresh_tokens = True

    def __init__(self, token_url: str, client_id: Value, client_secret: Value, refresh_token: Value, **options: Any) -> None:
        super().__init__(token_url, client_id, client_secret, **options)
        self._configured = refresh_token

    def _grants(self) -> Iterator[dict[str, str]]:
        yield {"grant_type": "refresh_token", "refresh_token": _now(self._configured)}


class PasswordGrant(TokenGrant):
    """Grant password: an account of the tool. A refresh token that comes with the token spares the password until it is refused."""

    _keeps_refresh_tokens = True

    def __init__(self, token_url: str, client_id: Value, client_secret: Value, username: Value, password: Value, **options: Any) -> None:
        super().__init__(token_url, client_id, client_secret, **options)
        self._username, self._password = username, password

    def _grants(self) -> Iterator[dict[str, str]]:
        yield {"grant_type": "password", "username": _now(self._username), "password": _now(self._password)}


class JwtBearer(TokenGrant):
    """Grant jwt-bearer (RFC 7523): a token for a short assertion signed with our key.

    `claims` are iss, sub and aud as the tool wants them; iat, exp and jti are added to each assertion. `key` is a PEM text for the
    RS and ES algorithms; `key_id` goes into the assertion's header as kid.
    """

    def __init__(
        self,
        token_url: str,
        client_id: Value,
        client_secret: Value = "",
        *,
        key: Value,
        claims: Mapping[str, str],
        key_id: str | None = None,
        algorithm: str = "RS256",
        life: int = 300,
        wall: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        super().__init__(token_url, client_id, client_secret, **options)
        self._key, self._claims, self._key_id = key, dict(claims), key_id
        self._algorithm, self._life, self._wall = algorithm, life, wall

    def _grants(self) -> Iterator[dict[str, str]]:
        yield {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": self._assertion()}

    def _assertion(self) -> str:
        from secrets import token_hex

        import jwt

        now = int(self._wall())
        claims = {**self._claims, "iat": now, "exp": now + self._life, "jti": token_hex(16)}
        try:
            return jwt.encode(claims, _now(self._key), self._algorithm, {"kid": self._key_id} if self._key_id else None)
        except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError):
            raise CredentialsRefused("the assertion cannot be signed; check the key and its algorithm") from None


# --- sessions ------------------------------------------------------------------------------------------------------------


def cookies_in(answer: Answer) -> Granted | None:
    """Every cookie an answer sets, as one Cookie header; None when it sets none."""
    pairs: dict[str, str] = {}
    for line in answer.headers.get("set-cookie", "").split("\n"):
        name, found, value = line.partition(";")[0].strip().partition("=")
        if found and name:
            pairs[name] = value
    return Granted({"Cookie": "; ".join(f"{name}={value}" for name, value in pairs.items())}) if pairs else None


class SessionAuth(RenewedAuth):
    """A session of the tool's own kind: `login()` makes the request that opens it, `grant_in(answer)` finds it in the answer.

    `grant_in` sees an answer of 2xx or 3xx and answers None when it is a refusal all the same; by default it keeps the cookies.
    `refused(response)` says by status and headers that the session is over, where the tool does not say 401 (its body is unread).
    """

    def __init__(
        self,
        login: Callable[[], httpx.Request],
        grant_in: Callable[[Answer], Granted | None] = cookies_in,
        *,
        refused: Callable[[httpx.Response], bool] | None = None,
        early: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(early=early, monotonic=monotonic)
        self._login, self._find, self._is_refusal = login, grant_in, refused

    def _logins(self) -> Iterator[httpx.Request]:
        yield self._login()

    def _grant_in(self, answer: Answer) -> Granted | None:
        return self._find(answer)

    def refuses(self, response: httpx.Response) -> bool:
        return super().refuses(response) if self._is_refusal is None else self._is_refusal(response)
