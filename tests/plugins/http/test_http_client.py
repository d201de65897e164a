"""Calls over real sockets: what a tool can answer, and what a caller is told of it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator

import httpx
import pytest

from plugins.api import (
    ApiError,
    CallTimedOut,
    Conflict,
    ConnectFailed,
    ConnectionLost,
    CredentialsRefused,
    FatalApiError,
    NotFound,
    PluginConfigError,
    RateLimited,
    RetriableApiError,
    ServerError,
    TornAnswer,
    ValidationRefused,
)
from plugins.http.auth import BasicAuth, ClientCredentials, HeaderAuth
from plugins.http.client import ApiClient, Limits, segment
from plugins.http.errors import Answer, error_for, retry_after
from plugins.http.rate_limit import RateLimitState
from plugins.http.retry import RetrySchedule
from plugins.metering import ApiCalls, _current
from plugins.sandbox.http import HttpServer, Response, json_response
from tests.plugins.http.answering import Tool, serving


@pytest.mark.parametrize(
    ("status", "kind", "in_doubt"),
    [
        (400, ValidationRefused, False),
        (401, CredentialsRefused, False),
        (403, CredentialsRefused, False),
        (404, NotFound, False),
        (405, FatalApiError, False),
        (409, Conflict, False),
        (418, FatalApiError, False),
        (422, ValidationRefused, False),
        (429, RateLimited, False),
        (500, ServerError, True),
        (502, ServerError, True),
        (503, ServerError, False),
        (504, ServerError, True),
        (302, FatalApiError, False),
    ],
)
async def test_each_status_is_named_by_what_to_do_about_it(status: int, kind: type[ApiError], in_doubt: bool) -> None:
    """The stream decides by the class alone: repeat, search first, or give up."""
    async with serving(Tool(Response(status, b"{}", {"content-type": "application/json"}))) as client:
        with pytest.raises(ApiError) as raised:
            await client.request("POST", "/tickets", json={"a": 1})
    assert type(raised.value) is kind
    assert raised.value.status == status
    assert raised.value.in_doubt is in_doubt


async def test_a_read_is_never_in_doubt() -> None:
    """It has no effect to look for."""
    async with serving(Tool(Response(500))) as client:
        with pytest.raises(ServerError) as raised:
            await client.request("GET", "/tickets")
    assert not raised.value.in_doubt


async def test_reads_are_repeated_and_writes_are_not() -> None:
    """A read that meets a passing fault succeeds within the call; a write could happen twice."""
    tool = Tool(Response(502), Response(503), json_response({"ok": 1}))
    async with serving(tool) as client:
        assert await client.request("GET", "/tickets") == {"ok": 1}
        assert len(tool.asked) == 3
        tool.answers = [Response(502), json_response({})]
        with pytest.raises(ServerError):
            await client.request("POST", "/tickets")
        assert len(tool.asked) == 4
        tool.answers = [Response(503), json_response({"ok": 2})]
        assert await client.request("PUT", "/tickets/1", idempotent=True) == {"ok": 2}


async def test_a_long_retry_after_is_left_to_the_stream() -> None:
    """Waiting a minute inside a call would hold its ticket's followers."""
    tool = Tool(Response(429, b"", {"retry-after": "60"}))
    async with serving(tool) as client:
        with pytest.raises(RateLimited) as raised:
            await client.request("GET", "/tickets")
    assert raised.value.retry_after == 60.0
    assert len(tool.asked) == 1


async def test_one_refusal_spares_the_other_calls_theirs() -> None:
    """Sixty-four calls that hammer on through a rate limit lengthen it; a long wait is told without asking again."""
    tool = Tool(Response(429, b"", {"retry-after": "60"}))
    async with serving(tool) as client:
        for _ in range(3):
            with pytest.raises(RateLimited) as raised:
                await client.bound(auth=BasicAuth("a", "b")).request("POST", "/tickets")
            assert not raised.value.in_doubt
            assert raised.value.retry_after == pytest.approx(60, abs=1)
        assert len(tool.asked) == 1


async def test_a_short_wait_is_waited_within_the_call() -> None:
    """It costs no attempt."""
    tool = Tool(Response(429, b"", {"retry-after": "0.05"}), json_response({"ok": 1}))
    async with serving(tool) as client:
        with pytest.raises(RateLimited):
            await client.request("POST", "/tickets")
        assert await client.request("POST", "/tickets") == {"ok": 1}


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (200, {}, 0),
        (200, {"ratelimit-remaining": "3", "ratelimit-reset": "9"}, 0),
        (200, {"ratelimit-remaining": "0", "ratelimit-reset": "9"}, 9),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1772444435"}, 30),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2026-03-02T09:41:05Z"}, 60),
        (200, {"x-rate-limit-remaining": "0"}, 0),
        (200, {"x-rate-limit-remaining": "0", "ratelimit-reset": "never"}, 0),
        (429, {"retry-after": "7"}, 7),
        (429, {"retry-after": "9999"}, 300),
        (429, {"x-ratelimit-reset": "1772444435"}, 30),
        (429, {"retry-after": "7", "x-ratelimit-reset": "1772444435"}, 7),
        (429, {}, 0),
    ],
)
def test_rate_limits_are_learnt_from_every_usual_header(status: int, headers: dict[str, str], wait: float) -> None:
    """Each tool spells them its own way; a wrong one must not stop us for long."""
    state = RateLimitState()
    state.learn(Answer(method="GET", path="/", status=status, headers=headers, body=b""), now=100.0, wall=1_772_444_405.0)
    assert state.wait(100.0) == pytest.approx(wait)
    assert state.wait(100.0 + wait) == 0


async def test_a_connection_reset_after_a_write_is_in_doubt() -> None:
    """Taken for a connection never made, nobody would search, and the write would double."""
    async with serving(Tool(Response(200, reset=True))) as client:
        with pytest.raises(ConnectionLost) as raised:
            await client.request("POST", "/tickets")
    assert raised.value.in_doubt


async def test_half_an_answer_is_in_doubt() -> None:
    """The tool did it and could not say so."""
    async with serving(Tool(Response(201, b'{"ticket": {"id": 1}}', {"content-type": "application/json"}, half=True))) as client:
        with pytest.raises(ConnectionLost) as raised:
            await client.request("POST", "/tickets")
    assert raised.value.in_doubt


async def test_a_write_is_never_sent_twice_on_a_stale_connection() -> None:
    """aiohttp repeats a PUT by itself when a kept connection breaks; on Zendesk a PUT adds a comment."""
    tool = Tool(json_response({}), Response(200, reset=True), json_response({}))
    async with serving(tool) as client:
        await client.request("GET", "/warm")
        with pytest.raises(ConnectionLost):
            await client.request("PUT", "/tickets/1", json={})
        assert [r.method for r in tool.asked] == ["GET", "PUT"]


async def test_no_connection_is_not_in_doubt() -> None:
    """Nothing was sent: the write may simply be repeated."""
    client = ApiClient("http://127.0.0.1:1", retries=RetrySchedule(attempts=1))
    with pytest.raises(ConnectFailed) as raised:
        await client.request("POST", "/tickets")
    assert not raised.value.in_doubt
    await client.aclose()


async def test_a_hung_tool_ends_the_call_in_time_and_in_doubt() -> None:
    """A ticket is held no longer than the call's time."""
    tool = Tool(json_response({}))
    tool.hold = asyncio.Event()
    async with serving(tool, limits=Limits(read=0.1, total=5)) as client:
        with pytest.raises(CallTimedOut) as raised:
            await client.request("POST", "/tickets")
        assert raised.value.in_doubt
    tool.hold = asyncio.Event()
    async with serving(tool, limits=Limits(read=5, total=0.1)) as client:
        with pytest.raises(CallTimedOut) as raised:
            await client.request("POST", "/tickets")
        assert raised.value.in_doubt


async def test_a_cancelled_call_leaves_the_others_and_the_pool_whole() -> None:
    """At a rebalance calls are cancelled one by one; the rest go on over the same pool."""
    tool = Tool(json_response({"ok": 1}))
    tool.hold = asyncio.Event()
    async with serving(tool, limits=Limits(max_connections=2)) as client:
        calls = [asyncio.create_task(client.request("POST", f"/{number}")) for number in range(2)]
        while len(tool.asked) < 2:
            await asyncio.sleep(0)
        calls[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        third = asyncio.create_task(client.request("POST", "/3"))
        tool.hold.set()
        assert await calls[1] == {"ok": 1}
        assert await third == {"ok": 1}


async def test_an_answer_is_bounded_also_when_it_is_compressed() -> None:
    """A few kilobytes of gzip hold a gigabyte."""
    bomb = gzip.compress(b"0" * 5_000_000)
    for answer in (Response(200, b"0" * 200_000), Response(200, bomb, {"content-encoding": "gzip"})):
        async with serving(Tool(answer), limits=Limits(max_answer_bytes=100_000)) as client:
            with pytest.raises(FatalApiError) as raised:
                await client.request("POST", "/tickets")
            assert raised.value.in_doubt
    async with serving(Tool(Response(200, gzip.compress(b'{"a":1}'), {"content-encoding": "gzip", "content-type": "text/json"}))) as client:
        assert await client.request("GET", "/") == {"a": 1}


async def test_a_success_that_cannot_be_read_is_torn() -> None:
    """The effect happened; only its answer is lost."""
    async with serving(Tool(Response(201, b'{"id": ', {"content-type": "application/json"}))) as client:
        with pytest.raises(TornAnswer) as raised:
            await client.request("POST", "/tickets")
    assert raised.value.in_doubt


async def test_a_success_that_cannot_be_decompressed_is_in_doubt() -> None:
    """As any answer that was lost on its way."""
    async with serving(Tool(Response(201, b"not gzip", {"content-encoding": "gzip"}))) as client:
        with pytest.raises(TornAnswer) as raised:
            await client.request("POST", "/tickets")
    assert raised.value.in_doubt


def test_a_rate_limit_told_under_another_status_is_not_in_doubt() -> None:
    """Some tools refuse with 403 or 200 and a code of their own; nothing was done."""
    for status in (200, 403, 429):
        answer = Answer(method="POST", path="/", status=status, headers={"retry-after": "3"}, body=b"")
        error = error_for(answer, kind=RateLimited)
        assert isinstance(error, RateLimited)
        assert (error.in_doubt, error.retry_after) == (False, 3.0)
    refused = error_for(Answer(method="PUT", path="/", status=409, headers={}, body=b""), kind=RetriableApiError, nothing_done=True)
    assert refused is not None
    assert not refused.in_doubt


async def test_a_redirect_is_followed_for_reads_and_credentials_stay_at_home() -> None:
    """Attachments are redirected to storage hosts, which must not learn our token; a redirected write is refused."""
    storage = Tool(Response(200, b"file"))
    server = HttpServer(storage)
    port = await server.start()
    tool = Tool(Response(302, b"", {"location": f"http://127.0.0.1:{port}/blob"}))
    async with serving(tool, auth=HeaderAuth("Authorization", "hush", prefix="Bearer ")) as client:
        assert await client.request("GET", "/attachments/1") == b"file"
        assert tool.asked[0].headers["authorization"] == "Bearer hush"
        assert "authorization" not in storage.asked[0].headers
        with pytest.raises(FatalApiError):
            await client.request("POST", "/tickets")
        tool.answers = [Response(302, b"", {"location": "/again"})]
        with pytest.raises(FatalApiError):
            await client.request("GET", "/loop")
    await server.stop()


async def test_a_read_redirected_to_what_is_no_address_is_refused() -> None:
    """The tool's word is not trusted to be one."""
    tool = Tool(Response(302, b"", {"location": "http://[broken"}))
    async with serving(tool) as client:
        with pytest.raises(FatalApiError, match="no address"):
            await client.request("GET", "/attachments/1")


class _Signed(httpx.Auth):
    """A plugin's own flow: a nonce is fetched, and the body signed with it."""

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        nonce = yield httpx.Request("POST", request.url.copy_with(path="/nonce"), json={"want": 1})
        given = json.loads(await nonce.aread())
        request.headers["x-signed"] = f"{given['nonce']}:{len(await request.aread())}"
        yield request


class _Greedy(httpx.Auth):
    """A flow that reads every answer."""

    requires_response_body = True


async def test_a_flow_of_a_plugins_own_sees_body_and_answers() -> None:
    """Credentials that are more than headers are any httpx.Auth; the client runs it whole, over the same connections."""
    tool = Tool(json_response({"nonce": "n1"}), json_response({"ok": 1}))
    async with serving(tool) as client:
        assert await client.bound(auth=_Signed()).request("POST", "/tickets", json={"a": 1}) == {"ok": 1}
    assert [(r.method, r.path) for r in tool.asked] == [("POST", "/nonce"), ("POST", "/tickets")]
    assert tool.asked[0].json() == {"want": 1}
    assert (tool.asked[1].headers["x-signed"], tool.asked[1].json()) == ("n1:7", {"a": 1})
    assert "x-signed" not in tool.asked[0].headers


async def test_a_flow_that_takes_the_callers_answer_is_told() -> None:
    """The effect happened; an answer that looks empty would be believed."""
    async with serving(Tool(json_response({"ok": 1}))) as client:
        with pytest.raises(TornAnswer, match="auth flow") as raised:
            await client.bound(auth=_Greedy()).request("POST", "/tickets")
    assert raised.value.in_doubt


async def test_a_flow_that_cannot_read_its_login_is_not_in_doubt() -> None:
    """The call itself was not sent."""
    async with serving(Tool(Response(200, b"no gzip", {"content-encoding": "gzip"}))) as client:
        with pytest.raises(ConnectionLost, match="login before POST /tickets") as raised:
            await client.bound(auth=_Signed()).request("POST", "/tickets", json={})
    assert not raised.value.in_doubt


async def test_cookies_are_not_kept() -> None:
    """One tenant's session must not be another's, and a client is a client each time."""
    tool = Tool(Response(200, b"{}", {"set-cookie": "session=1", "content-type": "application/json"}))
    async with serving(tool) as client:
        await client.request("GET", "/a")
        await client.request("GET", "/b")
    assert "cookie" not in tool.asked[1].headers


async def test_every_request_is_counted_repeats_and_tokens_too() -> None:
    """Tools bill and limit requests, not calls."""
    tool = Tool(json_response({"access_token": "t1", "expires_in": 3600}), Response(503), json_response({}))
    async with serving(tool) as client:
        counter = ApiCalls()
        _current.set(counter)
        base = client._base
        await client.bound(auth=ClientCredentials(f"{base}/token", "id", "secret")).request("GET", "/tickets")
        _current.set(None)
    assert counter.count == 3
    assert tool.asked[-1].headers["authorization"] == "Bearer t1"


async def test_a_vendor_may_name_failures_that_come_as_success() -> None:
    """Some tools answer 200 with a status inside."""

    def inside(answer: Answer) -> ApiError | None:
        body = answer.json()
        return error_for(answer, "4001", ValidationRefused) if body.get("status") == "failed" else error_for(answer)

    async with serving(Tool(json_response({"status": "failed"}))) as client:
        with pytest.raises(ValidationRefused, match="4001"):
            await client.bound(error_for=inside).request("POST", "/requests")


async def test_forms_queries_and_bytes_reach_the_tool_as_meant() -> None:
    """Each tool wants its own encoding."""
    tool = Tool(json_response({}))
    async with serving(tool, headers={"Accept": "application/json"}) as client:
        await client.request("POST", "/form", data={"input_data": '{"a": "ü&="}'})
        await client.request("GET", "/list", params={"page[size]": 100, "q": "a b+c&d=%20", "all": True})
        await client.request("GET", "/page?after=x%2By&n=1", params={"n": 2})
        await client.request("POST", "/upload", content=b"\x00\xff", headers={"Content-Type": "image/png"})
    assert tool.asked[0].form == {"input_data": '{"a": "ü&="}'}
    assert tool.asked[1].query == {"page[size]": "100", "q": "a b+c&d=%20", "all": "true"}
    assert tool.asked[2].query == {"after": "x+y", "n": "2"}
    assert (tool.asked[3].body, tool.asked[3].headers["content-type"]) == (b"\x00\xff", "image/png")
    assert tool.asked[0].headers["accept"] == "application/json"


async def test_no_base_url_is_a_settings_error() -> None:
    """Said in words, before anything is sent."""
    with pytest.raises(PluginConfigError):
        await ApiClient("").request("GET", "/tickets")


@pytest.mark.parametrize("ticket_id", ["../admin", "1?x=1", "1/notes", "a b", "ü"])
def test_a_ticket_id_stays_one_segment(ticket_id: str) -> None:
    """It comes from a webhook's body and must not choose another endpoint."""
    assert not set(segment(ticket_id)) & set("/? ")


@pytest.mark.parametrize("ticket_id", ["", ".", ".."])
def test_an_id_that_would_climb_is_refused(ticket_id: str) -> None:
    """Quoting leaves dots as they are."""
    with pytest.raises(FatalApiError):
        segment(ticket_id)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("1.5", 1.5),
        ("-4", 0.0),
        ("999999", 3600.0),
        ("Mon, 02 Mar 2026 09:41:05 GMT", 60.0),
        ("Mon, 02 Mar 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_bounds(value: str | None, seconds: float | None) -> None:
    """Tools write both, and gateways write nonsense."""
    assert retry_after(value, now=1_772_444_405.0) == seconds


def test_delays_double_stay_bounded_and_end() -> None:
    """A pure schedule: the same answer for the same failure."""
    schedule, error = RetrySchedule(attempts=4, first_delay=1.0, longest=3.0), RetriableApiError("x")
    assert [schedule.delay(n, error, spread=0.999999999) for n in (1, 2, 3, 4)] == [
        pytest.approx(1.0),
        pytest.approx(2.0),
        pytest.approx(3.0),
        None,
    ]
    assert schedule.delay(1, error, spread=0.0) == 0.5
    assert schedule.delay(1, RateLimited("x", retry_after=2.5), 0.0) == 2.5
    assert schedule.delay(1, RateLimited("x", retry_after=3.5), 0.0) is None


async def test_errors_hold_no_secret_and_no_body() -> None:
    """They are logged and stored in dead letters."""
    body = b'{"error": "bad", "description": "card 4111-1111"}'
    async with serving(Tool(Response(422, body, {"content-type": "application/json"}))) as client:
        with pytest.raises(ValidationRefused) as raised:
            await client.bound(auth=HeaderAuth("authtoken", "hush-hush")).request("POST", "/tickets", json={"note": "private"})
    for private in ("hush-hush", "4111", "private"):
        assert private not in str(raised.value)
