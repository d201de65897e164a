"""Files up and down, as they come, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import aclosing
from email import message_from_bytes, policy

import pytest

from plugins.api import (
    ApiError,
    CallTimedOut,
    ConnectionLost,
    CredentialsRefused,
    FatalApiError,
    NotFound,
    RetriableApiError,
    ServerError,
    TornAnswer,
)
from plugins.http.auth import ClientCredentials, HeaderAuth
from plugins.http.client import ApiClient, Limits
from plugins.http.gather import each_bounded
from plugins.http.limits import bounded
from plugins.http.multipart import Multipart
from plugins.metering import ApiCalls, _current
from plugins.sandbox.http import HttpServer, Response, json_response
from tests.plugins.http.answering import Tool, serving

CHUNK = b"0123456789abcdef" * 1024


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield CHUNK


async def read(client: ApiClient, path: str = "/file", max_bytes: int = 1 << 30) -> bytes:
    return b"".join([chunk async for chunk in client.stream("GET", path, max_bytes=max_bytes)])


async def test_an_upload_goes_out_as_it_comes() -> None:
    """A file of many megabytes is never held whole; where its length is known it is told, which some tools insist on."""
    tool = Tool(json_response({"id": 7}))
    async with serving(tool) as client:
        assert await client.request("POST", "/upload", content=chunks(64)) == {"id": 7}
        assert await client.request("POST", "/upload", content=chunks(2), headers={"Content-Length": str(2 * len(CHUNK))}) == {"id": 7}
    assert tool.asked[0].body == CHUNK * 64
    assert tool.asked[0].headers["transfer-encoding"] == "chunked"
    assert tool.asked[1].headers["content-length"] == str(2 * len(CHUNK))
    assert "transfer-encoding" not in tool.asked[1].headers


async def test_an_upload_is_sent_once_whatever_the_caller_calls_it() -> None:
    """Its source is read; a second request would carry nothing."""
    tool = Tool(Response(503), json_response({}))
    async with serving(tool) as client:
        with pytest.raises(ServerError):
            await client.request("PUT", "/upload", content=chunks(1), idempotent=True)
    assert len(tool.asked) == 1


async def test_credentials_that_ended_under_an_upload_are_renewed_for_the_next_try() -> None:
    """Nothing was done: the stream's own retry brings the file again."""
    tool = Tool(json_response({"access_token": "a"}), Response(401), json_response({"access_token": "b"}), json_response({}))
    async with serving(tool) as client:
        desk = client.bound(auth=ClientCredentials(f"{client._base}/token", "id", "s"))
        with pytest.raises(RetriableApiError) as raised:
            await desk.request("POST", "/upload", content=chunks(1))
        assert not raised.value.in_doubt
        assert await desk.request("POST", "/upload", content=chunks(1)) == {}
    assert [r.path for r in tool.asked] == ["/token", "/upload", "/token", "/upload"]


async def test_what_goes_wrong_at_the_source_is_told_as_it_is() -> None:
    """The transport would call it a broken connection, and a file too large would be tried for ever."""
    tool = Tool(json_response({}))
    async with serving(tool) as client:
        with pytest.raises(FatalApiError, match="larger than 40000 bytes"):
            await client.request("POST", "/upload", content=bounded(chunks(64), 40_000))
        assert tool.asked == []  # half an upload is no request
        assert await client.request("POST", "/after") == {}


async def test_a_hung_upload_ends_in_time_and_in_doubt() -> None:
    """As any write."""
    tool = Tool(json_response({}))
    tool.hold = asyncio.Event()
    async with serving(tool, limits=Limits(transfer=0.1)) as client:
        with pytest.raises(CallTimedOut) as raised:
            await client.request("POST", "/upload", content=chunks(1))
    assert raised.value.in_doubt


async def test_a_file_comes_in_chunks_and_is_one_api_call() -> None:
    """Read with credentials, and never held whole."""
    tool = Tool(Response(200, CHUNK * 64, {"content-type": "image/png"}))
    async with serving(tool, auth=HeaderAuth("Authorization", "hush")) as client:
        counter = ApiCalls()
        token = _current.set(counter)
        sizes = [len(chunk) async for chunk in client.stream("GET", "/file", params={"v": 2}, headers={"Accept": "*/*"}, max_bytes=1 << 30)]
        _current.reset(token)
    assert (sum(sizes), counter.count) == (64 * len(CHUNK), 1)
    assert len(sizes) > 1
    assert tool.asked[0].query == {"v": "2"}


async def test_a_file_that_is_not_there_is_said_before_the_first_chunk() -> None:
    """By the same names as any call; passing faults of reads are repeated."""
    tool = Tool(Response(503), Response(200, b"file"))
    async with serving(tool) as client:
        assert await read(client) == b"file"
        tool.answers = [Response(404)]
        with pytest.raises(NotFound):
            await read(client)


async def test_a_file_is_bounded_told_or_not_compressed_or_not() -> None:
    """A disk is finite."""
    bomb = gzip.compress(b"0" * 5_000_000)
    for answer in (Response(200, CHUNK * 64), Response(200, bomb, {"content-encoding": "gzip"})):
        async with serving(Tool(answer)) as client:
            with pytest.raises(FatalApiError, match="more than 100000 bytes"):
                await read(client, max_bytes=100_000)


async def test_a_file_that_breaks_off_is_not_whole() -> None:
    """Half a file handed on as a file would be worse than none."""
    async with serving(Tool(Response(200, CHUNK * 64, half=True))) as client:
        with pytest.raises(ConnectionLost):
            await read(client)
    async with serving(Tool(Response(200, b"no gzip", {"content-encoding": "gzip"}))) as client:
        with pytest.raises(TornAnswer):
            await read(client)


async def test_credentials_stay_at_home_when_a_file_lies_elsewhere() -> None:
    """Attachments are redirected to storage hosts; they must not learn our token."""
    storage = Tool(Response(200, b"file"))
    server = HttpServer(storage)
    port = await server.start()
    tool = Tool(Response(302, b"", {"location": f"http://127.0.0.1:{port}/blob"}))
    async with serving(tool, auth=HeaderAuth("Authorization", "hush")) as client:
        assert await read(client) == b"file"
    await server.stop()
    assert tool.asked[0].headers["authorization"] == "hush"
    assert "authorization" not in storage.asked[0].headers


async def test_a_files_own_address_is_asked_whole_and_told_without_its_key() -> None:
    """Storage addresses are signed in their query: without it they refuse, and with it anybody may read."""
    storage = Tool(Response(200, b"file"), Response(403, b""))
    server = HttpServer(storage)
    address = f"http://127.0.0.1:{await server.start()}/blob?signature=hush"
    async with serving(Tool()) as client:
        assert await read(client, address) == b"file"
        with pytest.raises(CredentialsRefused) as refused:
            await read(client, address)
    await server.stop()
    assert storage.asked[0].query == {"signature": "hush"}
    assert "hush" not in str(refused.value)


async def test_a_reader_that_stops_early_leaves_the_pool_whole() -> None:
    """One connection: if it were kept by the half-read file, the next call would wait for ever."""
    async with serving(Tool(Response(200, CHUNK * 64)), limits=Limits(max_connections=1, total=5)) as client:
        async with aclosing(client.stream("GET", "/file", max_bytes=1 << 30)) as file:
            async for _ in file:
                break
        assert len(await client.request("GET", "/file")) == 64 * len(CHUNK)


async def test_a_form_with_a_file_is_read_by_others_as_meant() -> None:
    """The standard library's parser stands for a vendor's."""
    content = b"\x00\xff--boundary\r\n"
    for given, known in ((content, True), (aiter_of(content), False)):
        tool = Tool(json_response({}))
        form = Multipart([("a[]", "1"), ("a[]", "ü")], "file", 'wei"rd\r\nné.png', "image/png", given, 1000)
        async with serving(tool) as client:
            await client.answer("POST", "/upload", content=form.stream(), headers=form.headers)
        request = tool.asked[0]
        assert ("content-length" in request.headers) is known
        head = b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
        parts = list(message_from_bytes(head + request.body, policy=policy.HTTP).iter_parts())
        assert [p.get_param("name", header="content-disposition") for p in parts] == ["a[]", "a[]", "file"]
        assert [p.get_payload(decode=True) for p in parts] == [b"1", "ü".encode(), content]
        assert parts[2].get_content_type() == "image/png"
        assert 'filename="wei%22rd%0D%0Ané.png"'.encode() in request.body


async def test_a_form_is_bounded_and_its_parts_cannot_be_forged() -> None:
    """A file's name and type come from people."""
    with pytest.raises(FatalApiError, match="larger than 10 bytes"):
        Multipart({}, "file", "a", "text/plain", b"0" * 11, 10)
    with pytest.raises(FatalApiError, match="larger than 10 bytes"):
        _ = [chunk async for chunk in Multipart({}, "file", "a", "text/plain", aiter_of(b"0" * 11), 10).stream()]
    form = Multipart({}, "file", "a", "text/plain\r\nX-Evil: 1", b"", 10)
    assert b"X-Evil" not in b"".join([chunk async for chunk in form.stream()])


async def aiter_of(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_many_calls_run_within_their_bound_and_one_failure_is_a_value() -> None:
    """A batch of a hundred must neither take a hundred round trips nor open a hundred connections."""
    running = most = 0

    async def call(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if number == 3:
            raise NotFound("gone")
        return number * 2

    results = {item: result async for item, result in each_bounded(range(20), call, 4)}
    assert most == 4
    assert isinstance(results.pop(3), ApiError)
    assert results == {n: n * 2 for n in range(20) if n != 3}
    assert [pair async for pair in each_bounded([], call, 4)] == []


async def test_calls_under_way_end_with_their_reader() -> None:
    """A batch that is given up leaves nothing behind; a fault of ours is not a tool's refusal."""
    ended: list[int] = []

    async def call(number: int) -> int:
        if number == 0:
            return 0
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)
        return number

    async with aclosing(each_bounded(range(9), call, 3)) as reading:
        async for _ in reading:
            break
    assert sorted(ended) == [1, 2]

    async def broken(number: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _ = [pair async for pair in each_bounded(range(9), broken, 3)]
