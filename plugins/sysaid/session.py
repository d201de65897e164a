"""Who we are to SysAid: a session cookie for the classic API, a bearer token for the newer one. Loaded with the first call.

The classic API allows two logins in five minutes for an account, whoever makes them: so a password that was refused is not tried
again, and a login turned away with 429 is left alone for the five minutes it lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import quote_plus

import httpx

from plugins.api import CredentialsRefused, RateLimited
from plugins.http.auth import Granted, RenewedAuth, cookies_in
from plugins.http.errors import Answer

LOGIN_WINDOW = 300.0
LOGINS_IN_WINDOW = 2
FRESH = 60.0
"""Seconds after a login in which no cookie is dead."""
TOKEN_SHARE = 0.9
"""A token is renewed after this share of its life."""

Secret = Callable[[], str]


class Session(RenewedAuth):
    """The classic API: POST /api/v1/login, then its cookies. `user` is our account's name once it has logged in.

    The manual wants the password URL-encoded, clients in use send it as it is: encoded first, then raw where the two differ.
    """

    def __init__(
        self, url: str, user_name: str, password: Secret, account_id: str | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(early=0.0, monotonic=monotonic)
        self._url, self._user_name, self._password, self._account_id = url, user_name, password, account_id
        self._encoded: bool | None = None
        self._trying = True
        self._begun: list[float] = []
        self._refused_password: tuple[str, float] | None = None
        self.user: str | None = None

    def _logins(self) -> Iterator[httpx.Request]:
        password = self._password()
        if self._refused_password is not None and self._refused_password[0] == password and self._monotonic() < self._refused_password[1]:
            raise CredentialsRefused("SysAid has refused this password; renew auth.password, or unlock the account", status=401)
        spellings = [self._encoded] if self._encoded is not None else [True, False] if quote_plus(password) != password else [False]
        for encoded in spellings:
            self._within_limit()
            body = {"user_name": self._user_name, "password": quote_plus(password) if encoded else password}
            if self._account_id:
                body["account_id"] = self._account_id
            self._trying = encoded
            yield httpx.Request("POST", self._url, json=body)
        self._refused_password = (password, self._monotonic() + LOGIN_WINDOW)

    def _within_limit(self) -> None:
        now = self._monotonic()
        self._begun = [at for at in self._begun if now - at < LOGIN_WINDOW]
        if len(self._begun) >= LOGINS_IN_WINDOW:
            wait = LOGIN_WINDOW - (now - self._begun[0])
            raise RateLimited(f"SysAid allows two logins in five minutes; the next is due in {wait:.0f} s", retry_after=wait)
        self._begun.append(now)

    def _take(self, answer: Answer) -> bool:
        return super()._take(_with_pause(answer))

    def _grant_in(self, answer: Answer) -> Granted | None:
        """The cookies; an answer may be a refusal under 200: {"logged_in": false}, or the login page."""
        told = answer.json()
        granted = cookies_in(answer)
        if not isinstance(told, dict) or granted is None or told.get("logged_in") is False:
            return None
        user = told.get("user")
        self.user = str(user["name"]) if isinstance(user, dict) and user.get("name") else self._user_name
        self._encoded, self._refused_password = self._trying, None
        return granted

    def refuses(self, response: httpx.Response) -> bool:
        """401, or the login page under 200, which some versions answer when the cookie is dead.

        A page right after a login is a gateway's, and a file that is a page says that it is a file. A 401 right after the second
        login is about the call, not about the session: it is handed on, and the session kept for the others.
        """
        fresh = bool(self._begun) and self._monotonic() - self._begun[-1] < FRESH
        if response.status_code == 401:
            return not (fresh and len(self._begun) >= LOGINS_IN_WINDOW)
        page = response.status_code == 200 and "text/html" in response.headers.get("content-type", "")
        return page and not fresh and "content-disposition" not in response.headers


class AccessToken(RenewedAuth):
    """The newer API: client credentials as JSON, with the account's id in a header of every request."""

    def __init__(
        self, url: str, account_id: str, client_id: Secret, client_secret: Secret, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(early=0.0, monotonic=monotonic)
        self._url, self._account_id, self._client_id, self._client_secret = url, account_id, client_id, client_secret

    def _logins(self) -> Iterator[httpx.Request]:
        body = {"clientId": self._client_id(), "clientSecret": self._client_secret()}
        yield httpx.Request("POST", self._url, json=body, headers={"x-sysaid-accountid": self._account_id})

    def _take(self, answer: Answer) -> bool:
        return super()._take(_with_pause(answer))

    def _grant_in(self, answer: Answer) -> Granted | None:
        told = answer.json()
        token, life = (told.get("token"), told.get("expiresIn")) if isinstance(told, dict) else (None, None)
        if not isinstance(token, str) or not token:
            return None
        seconds = float(life) if isinstance(life, (int, float)) and life > 0 else 300.0
        return Granted({"Authorization": f"Bearer {token}", "x-sysaid-accountid": self._account_id}, life=TOKEN_SHARE * seconds)


def _with_pause(answer: Answer) -> Answer:
    """SysAid says with a 429 no Retry-After: its window is five minutes."""
    if answer.status != 429 or answer.headers.get("retry-after"):
        return answer
    return replace(answer, headers={**answer.headers, "retry-after": f"{LOGIN_WINDOW:g}"})
