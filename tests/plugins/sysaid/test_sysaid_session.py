"""Sessions and tokens: auth flows driven by hand, with a clock that stands where it is put."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from plugins.api import CredentialsRefused, RateLimited, ServerError, TornAnswer
from plugins.http.auth import RenewedAuth
from plugins.http.errors import Answer
from plugins.sysaid.api_client import AlreadyClosed, sysaid_error
from plugins.sysaid.session import AccessToken, Session

COOKIE = {"set-cookie": "JSESSIONID=A1; Path=/; HttpOnly"}
USER = {"user": {"id": "2", "name": "integration"}}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_session(password: str = "pa ss+", clock: Clock | None = None) -> Session:
    return Session("https://a.example/api/v1/login", "integration", lambda: password, monotonic=clock or Clock())


async def driven(auth: RenewedAuth, *answers: httpx.Response) -> list[httpx.Request]:
    """One call through the flow with these answers in turn; the requests it made, as they were when sent."""
    flow = auth.async_auth_flow(httpx.Request("GET", "https://a.example/api/v1/sr/1"))
    sent, waiting = [], list(answers)
    request = await anext(flow)
    try:
        while True:
            sent.append(httpx.Request(request.method, request.url, headers=dict(request.headers), content=request.content))
            request = await flow.asend(waiting.pop(0))
    except StopAsyncIteration:
        assert not waiting
        return sent
    finally:
        await flow.aclose()


def logged_in(**more: Any) -> httpx.Response:
    return httpx.Response(200, json={**USER, **more}, headers=COOKIE)


DONE, OVER, REFUSED = httpx.Response(200, json={}), httpx.Response(401), httpx.Response(401)
PAGE = httpx.Response(200, text="<html>login</html>", headers={"content-type": "text/html"})


async def test_the_password_goes_encoded_first_and_then_as_it_is() -> None:
    """The manual says one, clients in use do the other; the one that worked is kept."""
    session = a_session()
    sent = await driven(session, REFUSED, logged_in(), DONE)
    assert [json.loads(r.content)["password"] for r in sent[:2]] == ["pa+ss%2B", "pa ss+"]
    assert sent[2].headers["cookie"] == "JSESSIONID=A1" and session.user == "integration"


async def test_a_plain_password_is_tried_once() -> None:
    """A second try of the same would use up the second of two logins."""
    with pytest.raises(CredentialsRefused):
        await driven(a_session("plain"), REFUSED)


async def test_a_refused_password_is_left_alone_until_it_changes() -> None:
    """Trying again locks the account; a rotated secret is tried at once."""
    clock, passwords = Clock(), ["old"]
    session = Session("https://a.example/api/v1/login", "integration", lambda: passwords[0], "acme", monotonic=clock)
    with pytest.raises(CredentialsRefused):
        await driven(session, REFUSED)
    with pytest.raises(CredentialsRefused, match="has refused"):
        await driven(session)
    passwords[0] = "new"
    sent = await driven(session, logged_in(), DONE)
    assert json.loads(sent[0].content) == {"user_name": "integration", "password": "new", "account_id": "acme"}


async def test_no_third_login_within_five_minutes() -> None:
    """The third would be answered 429, for everybody who uses the account."""
    clock = Clock()
    session = a_session("plain", clock)
    await driven(session, logged_in(), OVER, logged_in(), DONE)
    clock.now += 100
    with pytest.raises(RateLimited) as caught:
        await driven(session, OVER)
    assert caught.value.retry_after == pytest.approx(200)
    clock.now += 300
    assert len(await driven(session, OVER, logged_in(), DONE)) == 3


async def test_a_call_our_account_may_not_make_costs_no_third_login() -> None:
    """It is answered 401 with the newest session too: the call is refused, and the session stays for the others."""
    session = a_session("plain")
    assert len(await driven(session, logged_in(), OVER, logged_in(), OVER)) == 4
    assert [r.method for r in await driven(session, OVER)] == ["GET"]
    assert (await driven(session, DONE))[0].headers["cookie"] == "JSESSIONID=A1"


async def test_a_login_turned_away_is_left_alone_for_its_window() -> None:
    """SysAid says no Retry-After; its window is five minutes."""
    clock = Clock()
    session = a_session("plain", clock)
    with pytest.raises(RateLimited) as caught:
        await driven(session, httpx.Response(429))
    assert caught.value.retry_after == 300
    with pytest.raises(RateLimited):
        await driven(session)
    with pytest.raises(ServerError):
        await driven(a_session("plain"), httpx.Response(502))


async def test_a_login_page_in_place_of_data_is_a_dead_session_unless_the_session_is_new() -> None:
    """Some versions show the page under 200; right after a login it is a gateway's."""
    clock = Clock()
    session = a_session("plain", clock)
    await driven(session, logged_in(), PAGE)
    clock.now += 61
    assert [r.method for r in await driven(session, PAGE, logged_in(), DONE)] == ["GET", "POST", "GET"]
    clock.now += 3600
    file = httpx.Response(200, text="<html>", headers={"content-type": "text/html", "content-disposition": "attachment"})
    assert len(await driven(session, file)) == 1


@pytest.mark.parametrize("answer", [PAGE, httpx.Response(200, json=USER), logged_in(logged_in=False)])
async def test_a_login_refused_under_200_is_refused(answer: httpx.Response) -> None:
    """A page, no cookie, or a word in the body."""
    with pytest.raises(CredentialsRefused):
        await driven(a_session("plain"), answer)


async def test_a_token_is_renewed_before_its_end_and_carries_the_account() -> None:
    """At nine tenths of its life, so that no call meets its end."""
    clock = Clock()
    auth = AccessToken("https://a.example/v1/access-tokens", "acme", lambda: "id", lambda: "secret", monotonic=clock)
    token = httpx.Response(200, json={"token": "t1", "tokenType": "Bearer", "expiresIn": 1000})
    sent = await driven(auth, token, DONE)
    assert json.loads(sent[0].content) == {"clientId": "id", "clientSecret": "secret"} and sent[0].headers["x-sysaid-accountid"] == "acme"
    assert sent[1].headers["authorization"] == "Bearer t1" and sent[1].headers["x-sysaid-accountid"] == "acme"
    clock.now += 899
    assert len(await driven(auth, DONE)) == 1
    clock.now += 2
    assert len(await driven(auth, httpx.Response(200, json={"token": "t2"}), DONE)) == 2
    with pytest.raises(CredentialsRefused):
        await driven(AccessToken("https://a.example/t", "acme", lambda: "id", lambda: "no"), httpx.Response(200, json={"expiresIn": 1}))


@pytest.mark.parametrize(
    ("status", "body", "content_type", "kind"),
    [
        (200, b"<html>", "text/html", TornAnswer),
        (400, b'{"status": "error", "message": "This service record is already closed"}', "application/json", AlreadyClosed),
        (400, b"Invalid service record id", "text/plain", "NotFound"),
        (404, b"<html>HTTP Status 404</html>", "text/html", "NotFound"),
        (404, b'{"statusCode": 404, "message": "Requested resource was not found"}', "application/json", "NotFound"),
        (400, b'{"statusCode": 400, "message": "Invalid request parameters: s3cret"}', "application/json", "ValidationRefused"),
        (500, b"", "", "ServerError"),
    ],
)
def test_errors_are_told_apart_by_what_they_say(status: int, body: bytes, content_type: str, kind: Any) -> None:
    """And nothing of a body gets into their text, as it may quote a ticket."""
    error = sysaid_error(Answer(method="GET", path="/api/v1/sr/1", status=status, headers={"content-type": content_type}, body=body))
    assert type(error).__name__ == (kind if isinstance(kind, str) else kind.__name__) and "s3cret" not in str(error)
    assert sysaid_error(Answer(method="GET", path="/", status=200, headers={"content-type": "application/json"}, body=b"{}")) is None
