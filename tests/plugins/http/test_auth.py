"""Auth flows, most of them driven by hand; the stampede over real sockets."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from plugins.api import CredentialsRefused, RateLimited, ServerError
from plugins.http.auth import (
    BasicAuth,
    ClientCredentials,
    Granted,
    JwtBearer,
    PasswordGrant,
    RefreshToken,
    SessionAuth,
)
from plugins.http.client import Limits
from plugins.http.errors import Answer
from plugins.sandbox.http import Request, Response, json_response
from tests.plugins.http.answering import Tool, serving

TOKEN_URL = "https://desk.example/token"


async def drive(auth: httpx.Auth, *answers: httpx.Response) -> list[httpx.Request]:
    flow = auth.async_auth_flow(httpx.Request("GET", "https://desk.example/api"))
    sent = [await anext(flow)]
    copies = [httpx.Request(r.method, r.url, headers=r.headers, content=r.content) for r in sent]
    for answer in answers:
        try:
            request = await flow.asend(answer)
        except StopAsyncIteration:
            break
        copies.append(httpx.Request(request.method, request.url, headers=request.headers, content=request.content))
    return copies


async def test_a_refused_token_is_renewed_once() -> None:
    """A token may be revoked before its time; a second refusal is the caller's to see."""
    auth = ClientCredentials(TOKEN_URL, "id", "s", scope="tickets", monotonic=lambda: 0.0)
    token = [httpx.Response(200, json={"access_token": name, "expires_in": 100}) for name in ("one", "two")]
    sent = await drive(auth, token[0], httpx.Response(401), token[1], httpx.Response(401))
    assert [r.headers.get("authorization") for r in sent] == [None, "Bearer one", None, "Bearer two"]
    assert b"scope=tickets" in sent[0].content
    assert [r.headers.get("authorization") for r in await drive(auth, httpx.Response(200))] == ["Bearer two"]


async def test_a_token_endpoint_that_refuses_is_credentials_refused() -> None:
    """Zoho refuses under status 200: the token's absence is the sign."""
    for answer in (httpx.Response(200, json={"error": "invalid_code"}), httpx.Response(401, json={}), httpx.Response(200, text="<html>")):
        with pytest.raises(CredentialsRefused):
            await drive(ClientCredentials(TOKEN_URL, "id", "s"), answer)


async def test_basic_credentials_are_utf_8_and_asked_for_each_time() -> None:
    """A rotated secret counts at once."""
    values = iter(["old", "nëw"])
    auth = BasicAuth("ann", lambda: next(values))
    first, second = (await drive(auth))[0], (await drive(auth))[0]
    assert first.headers["authorization"] != second.headers["authorization"]


def forms(sent: list[httpx.Request]) -> list[dict[str, str]]:
    """The forms of the requests to the token endpoint, in order."""
    return [{k: v[0] for k, v in parse_qs(r.content.decode()).items()} for r in sent if r.method == "POST"]


def token(name: str, refresh: str | None = None, life: object = 100) -> httpx.Response:
    return httpx.Response(200, json={"access_token": name, "expires_in": life, **({"refresh_token": refresh} if refresh else {})})


class Expiring(Tool):
    """Gives numbered tokens and takes only the newest; `/token` and `/login` are slow enough for a herd to gather."""

    def __init__(self) -> None:
        super().__init__(json_response({}))
        self.logins = 0
        self.refuse = False

    async def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.path in ("/token", "/login"):
            await asyncio.sleep(0.02)
            self.logins += 1
            if self.refuse:
                return json_response({"error": "invalid_client"}, 401)
            if request.path == "/login":
                return Response(200, b"", {"set-cookie": f"sid=t{self.logins}; Path=/; HttpOnly"})
            return json_response({"access_token": f"t{self.logins}", "expires_in": 3600})
        shown = request.headers.get("authorization", "").removeprefix("Bearer ") or request.headers.get("cookie", "").removeprefix("sid=")
        return json_response({}) if shown == f"t{self.logins}" else json_response({}, 401)

    def expire(self) -> None:
        """The token in use is refused from now on, before its time."""
        self.logins += 1


@pytest.mark.parametrize("kind", ["token", "session"])
async def test_fifty_calls_with_an_expired_token_fetch_one(kind: str) -> None:
    """A herd at the token endpoint locks accounts and uses licences up."""
    tool = Expiring()
    async with serving(tool, limits=Limits(max_connections=64)) as client:
        base = client._base
        auth = (
            ClientCredentials(f"{base}/token", "id", "secret")
            if kind == "token"
            else SessionAuth(lambda: httpx.Request("POST", f"{base}/login", json={"user": "a"}))
        )
        desk = client.bound(auth=auth)

        async def herd() -> int:
            before = sum(r.path in ("/token", "/login") for r in tool.asked)
            await asyncio.gather(*(desk.request("POST", f"/tickets/{number}") for number in range(50)))
            return sum(r.path in ("/token", "/login") for r in tool.asked) - before

        assert await herd() == 1  # none held yet
        assert await herd() == 0
        tool.expire()
        assert await herd() == 1  # all refused at once


async def test_a_refusal_is_shared_by_those_who_waited_for_it() -> None:
    """Fifty wrong passwords in a row lock the account."""
    tool = Expiring()
    tool.refuse = True
    async with serving(tool) as client:
        desk = client.bound(auth=ClientCredentials(f"{client._base}/token", "id", "secret"))
        results = await asyncio.gather(*(desk.request("GET", "/tickets") for _ in range(50)), return_exceptions=True)
        assert all(isinstance(result, CredentialsRefused) for result in results)
        assert "invalid_client" in str(results[0])
        assert tool.logins == 1
        tool.refuse = False
        await desk.request("GET", "/tickets")


async def test_a_cancelled_fetch_leaves_the_next_call_to_fetch() -> None:
    """At a rebalance the call that fetches for all may be the one cancelled."""
    tool = Expiring()
    async with serving(tool) as client:
        desk = client.bound(auth=ClientCredentials(f"{client._base}/token", "id", "secret"))
        first = asyncio.create_task(desk.request("GET", "/1"))
        while not tool.asked:
            await asyncio.sleep(0)
        second = asyncio.create_task(desk.request("GET", "/2"))
        first.cancel()
        tool.logins -= 1  # the fetch that is cancelled still counts one up at the tool
        assert await second == {}


async def test_a_token_is_renewed_before_its_end() -> None:
    """A call sent with a token that ends on its way is refused for nothing."""
    now = [0.0]
    auth = ClientCredentials(TOKEN_URL, "id", "s", early=60, monotonic=lambda: now[0])
    await drive(auth, token("one", life="3600"), httpx.Response(200))
    now[0] = 3539.0
    assert [r.headers.get("authorization") for r in await drive(auth, httpx.Response(200))] == ["Bearer one"]
    now[0] = 3541.0
    assert len(await drive(auth, token("two"), httpx.Response(200))) == 2


async def test_a_short_life_is_still_used() -> None:
    """A tool whose tokens live shorter than our margin would be asked for one with each call."""
    auth = ClientCredentials(TOKEN_URL, "id", "s", early=60, monotonic=lambda: 0.0)
    await drive(auth, token("one", life=30), httpx.Response(200))
    assert len(await drive(auth, httpx.Response(200))) == 1


async def test_a_failing_token_endpoint_is_retriable_and_not_in_doubt() -> None:
    """The write behind it was never sent: a dead letter for a passing 503 would lose the effect."""
    for status, kind in ((503, ServerError), (500, ServerError), (429, RateLimited)):
        with pytest.raises(kind) as raised:
            await drive(ClientCredentials(TOKEN_URL, "id", "s"), httpx.Response(status))
        assert not raised.value.in_doubt


async def test_nobody_logs_in_while_logins_are_limited() -> None:
    """SysAid takes two logins in five minutes; another one lengthens the wait."""
    now = [0.0]
    auth = ClientCredentials(TOKEN_URL, "id", "s", monotonic=lambda: now[0])
    with pytest.raises(RateLimited):
        await drive(auth, httpx.Response(429, headers={"retry-after": "300"}))
    now[0] = 299.0
    with pytest.raises(RateLimited) as raised:
        await drive(auth)
    assert raised.value.retry_after == pytest.approx(1.0)
    now[0] = 301.0
    assert len(await drive(auth, token("one"), httpx.Response(200))) == 2


async def test_a_rotated_refresh_token_is_used_next_and_the_configured_one_when_it_is_refused() -> None:
    """A server that rotates refuses the token before; after a restart of ours only the configured one is left."""
    now = [0.0]
    auth = RefreshToken(TOKEN_URL, "id", "s", "first", monotonic=lambda: now[0])
    sent = await drive(auth, token("a", refresh="second"), httpx.Response(200))
    assert [f["refresh_token"] for f in forms(sent)] == ["first"]
    now[0] = 1000.0
    sent = await drive(auth, token("b"), httpx.Response(200))
    assert [f["refresh_token"] for f in forms(sent)] == ["second"]
    now[0] = 2000.0
    sent = await drive(auth, httpx.Response(400, json={"error": "invalid_grant"}), token("c"), httpx.Response(200))
    assert [f["refresh_token"] for f in forms(sent)] == ["second", "first"]
    assert sent[-1].headers["authorization"] == "Bearer c"
    now[0] = 3000.0
    with pytest.raises(CredentialsRefused):
        await drive(auth, httpx.Response(400, json={"error": "invalid_grant"}))


async def test_a_password_is_sent_only_where_no_refresh_token_serves() -> None:
    """The account's password should travel as rarely as can be."""
    now = [0.0]
    auth = PasswordGrant(TOKEN_URL, "id", "", "ann", lambda: "hush", form={"auth_mode": "Internal"}, monotonic=lambda: now[0])
    sent = await drive(auth, token("a", refresh="r1"), httpx.Response(200))
    assert forms(sent) == [{"grant_type": "password", "username": "ann", "password": "hush", "auth_mode": "Internal", "client_id": "id"}]
    now[0] = 1000.0
    assert [f["grant_type"] for f in forms(await drive(auth, token("b"), httpx.Response(200)))] == ["refresh_token"]
    now[0] = 2000.0
    sent = await drive(auth, httpx.Response(401, json={}), token("c", refresh="r2"), httpx.Response(200))
    assert [f["grant_type"] for f in forms(sent)] == ["refresh_token", "password"]


async def test_an_assertion_is_signed_anew_for_each_token() -> None:
    """RFC 7523: short-lived, never twice the same."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    auth = JwtBearer(TOKEN_URL, "id", "s", key=lambda: pem, claims={"iss": "id", "sub": "bot", "aud": "id"}, key_id="k1", wall=lambda: 1e9)
    sent = await drive(auth, token("a"), httpx.Response(401), token("b"), httpx.Response(200))
    first, second = (f["assertion"] for f in forms(sent))
    assert first != second
    claims = jwt.decode(first, key.public_key(), ["RS256"], audience="id", options={"verify_exp": False, "verify_iat": False})
    assert (claims["sub"], claims["exp"] - claims["iat"], jwt.get_unverified_header(first)["kid"]) == ("bot", 300, "k1")
    with pytest.raises(CredentialsRefused, match="key"):
        await drive(JwtBearer(TOKEN_URL, "id", key="no key", claims={}))


async def test_a_clients_secret_may_go_into_basic() -> None:
    """Some token endpoints refuse it in the form."""
    sent = await drive(ClientCredentials(TOKEN_URL, "id", "s", client_auth="basic"), token("a"), httpx.Response(200))
    assert sent[0].headers["authorization"] == "Basic aWQ6cw=="
    assert forms(sent) == [{"grant_type": "client_credentials"}]


async def test_every_cookie_of_a_login_is_sent_back() -> None:
    """Load balancers add one of their own, without which the session is elsewhere."""
    auth = SessionAuth(lambda: httpx.Request("POST", "https://desk.example/login"))
    login = httpx.Response(200, headers=[("Set-Cookie", "JSESSIONID=a=b; Path=/"), ("set-cookie", "lb=2; Secure")])
    sent = await drive(auth, login, httpx.Response(200))
    assert sent[-1].headers["cookie"] == "JSESSIONID=a=b; lb=2"
    assert auth.held == {"Cookie": "JSESSIONID=a=b; lb=2"}


async def test_a_session_of_another_kind_is_found_as_the_tool_says() -> None:
    """A token in the body, and an end of it that is told by a page under status 200."""

    def grant_in(answer: Answer) -> Granted | None:
        document = answer.json()
        return Granted({"X-Token": document["t"]}, life=900.0) if isinstance(document, dict) and "t" in document else None

    def over(response: httpx.Response) -> bool:
        return "html" in response.headers.get("content-type", "")

    auth = SessionAuth(lambda: httpx.Request("POST", "https://desk.example/login"), grant_in, refused=over)
    page = httpx.Response(200, html="<html>log in</html>")
    sent = await drive(auth, httpx.Response(200, json={"t": "1"}), page, httpx.Response(200, json={"t": "2"}), httpx.Response(200))
    assert [r.headers.get("x-token") for r in sent] == [None, "1", None, "2"]
    with pytest.raises(CredentialsRefused):
        await drive(SessionAuth(lambda: httpx.Request("POST", "https://desk.example/login"), grant_in), page)


@pytest.mark.parametrize("answer", [b"x" * (2 << 20), b"[]", b"null", b'{"access_token": 3}', b"\xff"])
async def test_nonsense_from_a_token_endpoint_is_a_refusal(answer: bytes) -> None:
    """Whatever stands at that address, a call ends with an error a person can act on."""
    with pytest.raises(CredentialsRefused):
        await drive(ClientCredentials(TOKEN_URL, "id", "s"), httpx.Response(200, content=answer))


async def test_a_lost_connection_to_the_login_leaves_the_write_out_of_doubt() -> None:
    """It was never sent."""
    async with serving(Tool(Response(200, reset=True))) as client:
        with pytest.raises(Exception, match="login before POST /tickets") as raised:
            await client.bound(auth=ClientCredentials(f"{client._base}/token", "id", "s")).request("POST", "/tickets")
    assert not getattr(raised.value, "in_doubt", True)
