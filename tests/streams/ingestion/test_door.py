"""The door over real sockets and the real broker: each answer it can give, and what it may never do."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import streams.ingestion.protocol as protocol
from schemas.codec import Codec
from schemas.events import DedupScope, IngestionCounts, WebhookReceived
from schemas.ids import delivery_key
from streams.ingestion.server import IngestionServer
from streams.topics import COUNTS, MAX_BODY_BYTES, RECEIVED
from tests.streams.ingestion.door import TOOL, FixedTools, a_body, running_door, signed, until_direct
from tests.streams.ingestion.reading import read_raw

pytestmark = pytest.mark.broker
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def tenant() -> str:
    """A tenant of the test's own on the shared broker."""
    return "t" + uuid.uuid4().hex


@pytest.fixture
async def door(broker: str, tmp_path: Path, tenant: str) -> AsyncIterator[IngestionServer]:
    async with running_door(broker, tmp_path, tenant) as server:
        await until_direct(server)
        yield server


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


def address(door: IngestionServer, tenant: str, tool: str = TOOL) -> str:
    return f"{door.url}/webhooks/{tenant}/{tool}"


async def received(brokers: str, tenant: str) -> list[WebhookReceived]:
    codec = Codec()
    return [codec.decode_as(WebhookReceived, value) for _, _, value in await read_raw(brokers, RECEIVED.name, tenant)]


async def raw_exchange(door: IngestionServer, *segments: bytes) -> bytes:
    """Sends the segments, each after the last was surely read, and reads until the door closes."""
    port = int(door.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for segment in segments:
        writer.write(segment)
        await writer.drain()
        await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_signed_delivery_is_on_the_topic_when_it_is_answered(
    door: IngestionServer, client: httpx.AsyncClient, broker: str, tenant: str
) -> None:
    """202 means durable: exact bytes, the tool's ids, the ticket's key, and no credentials."""
    body = a_body(4711, number=5)
    answer = await client.post(address(door, tenant), content=body, headers=signed(body))
    assert answer.status_code == 202
    (record,) = await read_raw(broker, RECEIVED.name, tenant)
    event = Codec().decode_as(WebhookReceived, record[2])
    assert answer.json() == {"event_id": event.event_id}
    assert record[1] == f"{tenant}/{TOOL}/4711".encode()
    assert (event.body, event.ticket_id, event.tool_type) == (body, "4711", "zendesk")
    assert (event.dedup_scope, event.delivery_id) == (DedupScope.DELIVERY, "00000000-0000-4000-8000-000000000005")
    assert event.verified_by.startswith("hmac-timestamp:")
    assert event.headers == {"x-zendesk-webhook-invocation-id": "01HINVOCATION"}


async def test_a_forged_signature_is_answered_401_and_leaves_no_event(
    door: IngestionServer, client: httpx.AsyncClient, broker: str, tenant: str
) -> None:
    """Not even the body's JSON is looked at before the signature holds."""
    for body in (a_body(1), b"not json"):
        answer = await client.post(address(door, tenant), content=body, headers=signed(body, secret="someone else's"))
        assert (answer.status_code, answer.json()["error"]) == (401, "signature_mismatch")
    answer = await client.post(address(door, tenant), content=a_body(1))
    assert (answer.status_code, answer.json()["error"]) == (401, "signature_missing")
    assert await received(broker, tenant) == []


async def test_unknown_tenants_and_tools_are_answered_404_alike(door: IngestionServer, client: httpx.AsyncClient, tenant: str) -> None:
    """The answer does not tell a stranger which tenants exist."""
    body = a_body(1)
    answers = [
        await client.post(address(door, *names), content=body, headers=signed(body)) for names in (("nobody", TOOL), (tenant, "nothing"))
    ]
    assert {(a.status_code, a.text) for a in answers} == {(404, answers[0].text)}
    assert (await client.post(door.url + "/elsewhere", content=body)).status_code == 404


async def test_only_post_delivers(door: IngestionServer, client: httpx.AsyncClient, tenant: str) -> None:
    """A browser's GET is told what would do."""
    answer = await client.get(address(door, tenant))
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_addresses_restrict_any_tool_beside_its_signature(door: IngestionServer, client: httpx.AsyncClient, tenant: str) -> None:
    """A signed delivery from elsewhere is refused, counted by its own reason; from a listed address the signature still decides."""
    body = a_body(1)
    answer = await client.post(address(door, tenant, "elsewhere"), content=body, headers=signed(body))
    assert (answer.status_code, answer.json()["error"]) == (401, "address_refused")
    assert (await client.post(address(door, tenant, "here"), content=body, headers=signed(body))).status_code == 202
    assert (await client.post(address(door, tenant, "here"), content=body)).json()["error"] == "signature_missing"


async def test_a_tool_that_tries_the_address_is_answered_and_no_event_made(
    door: IngestionServer, client: httpx.AsyncClient, broker: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a GET, or by a challenge in a signed delivery; only where the tool's plugin knows how."""
    kind = type(FixedTools(tenant).plugin(tenant, TOOL, 0))
    monkeypatch.setattr(
        kind, "handshake", lambda self, d: d.query.encode() if d.method == "GET" else d.headers.get("x-try", "").encode() or None
    )
    shaken = await client.get(address(door, tenant) + "?challenge=7")
    assert (shaken.status_code, shaken.text, shaken.headers["content-type"]) == (200, "challenge=7", "text/plain; charset=utf-8")
    body = a_body(1)
    assert (await client.post(address(door, tenant), content=body, headers={"x-try": "9"})).status_code == 401
    assert (await client.post(address(door, tenant), content=body, headers=signed(body) | {"x-try": "9"})).text == "9"
    assert await received(broker, tenant) == []
    assert (await client.post(address(door, tenant), content=body, headers=signed(body))).status_code == 202
    assert (await client.get(address(door, tenant, "elsewhere"))).json()["error"] == "address_refused"
    monkeypatch.setattr(kind, "handshake", lambda self, d: 1 / 0)
    assert (await client.get(address(door, tenant))).status_code == 405


@pytest.mark.parametrize("body", [b"not json at all", b"", b'{"id": ', b"\xff\xfe\x00", b"[]", b'{"detail": {"id": "\\ud800"}}'])
async def test_a_signed_body_that_cannot_be_read_is_accepted_under_its_hash(
    door: IngestionServer, client: httpx.AsyncClient, broker: str, tenant: str, body: bytes
) -> None:
    """Nothing signed is thrown away: the stage route gives it its dead letter."""
    headers = signed(body)
    del headers["x-zendesk-webhook-invocation-id"]
    answer = await client.post(address(door, tenant), content=body, headers=headers)
    assert answer.status_code == 202
    ((_, key, value),) = await read_raw(broker, RECEIVED.name, tenant)
    event = Codec().decode_as(WebhookReceived, value)
    assert key == delivery_key(tenant, TOOL, body).encode()
    assert (event.body, event.ticket_id, event.delivery_id, event.dedup_scope) == (body, None, None, DedupScope.BODY)


async def test_a_body_just_under_the_bound_passes(door: IngestionServer, client: httpx.AsyncClient, broker: str, tenant: str) -> None:
    """0.9 MiB, larger than any shared batch."""
    body = a_body(7, padding=944_000)
    assert len(body) > 0.9 * (1 << 20)
    assert (await client.post(address(door, tenant), content=body, headers=signed(body))).status_code == 202
    assert [event.body for event in await received(broker, tenant)] == [body]


async def test_a_body_over_the_bound_is_refused_before_it_is_read(
    door: IngestionServer, client: httpx.AsyncClient, broker: str, tenant: str
) -> None:
    """By its Content-Length, or once the bound is passed when it comes in chunks; the door goes on serving."""
    body = b"x" * (MAX_BODY_BYTES + 1)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield b"x" * 65536

    assert (await client.post(address(door, tenant), content=body, headers=signed(body))).status_code == 413
    assert (await client.post(address(door, tenant), content=chunks())).status_code == 413
    head = b"POST /webhooks/%b/desk HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n" % tenant.encode()
    assert (await raw_exchange(door, head)).startswith(b"HTTP/1.1 413")
    small = a_body(1)
    assert (await client.post(address(door, tenant), content=small, headers=signed(small))).status_code == 202
    assert len(await received(broker, tenant)) == 1


async def test_a_large_head_is_answered_431(door: IngestionServer, client: httpx.AsyncClient, tenant: str) -> None:
    """In one piece, in many headers, or dripping without an end: it is never collected without bound."""
    assert (await client.post(address(door, tenant), headers={"x-long": "y" * 40_000})).status_code == 431
    assert (await client.post(address(door, tenant), headers={f"x-{n}": "y" * 100 for n in range(400)})).status_code == 431
    assert (await raw_exchange(door, b"POST / HTTP/1.1\r\nx-endless: " + b"y" * 32_800, b"y" * 1000)).startswith(b"HTTP/1.1 431")


async def test_garbage_is_answered_400(door: IngestionServer) -> None:
    """Bytes that are no HTTP end their own connection only."""
    assert (await raw_exchange(door, b"\x16\x03\x01 hello\r\n\r\n")).startswith(b"HTTP/1.1 400")


async def test_a_slow_request_is_ended(door: IngestionServer, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head or a body that never comes holds a connection for a bounded time."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.2)
    head = b"POST /webhooks/%b/desk HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n" % tenant.encode()
    assert (await raw_exchange(door, head)).startswith(b"HTTP/1.1 408")
    assert (await raw_exchange(door, head + b"\r\nfirst bytes")).startswith(b"HTTP/1.1 408")
    assert await raw_exchange(door, b"") == b""
    kept_alive = await raw_exchange(door, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert kept_alive.startswith(b"HTTP/1.1 404")
    assert b"408" not in kept_alive


async def test_connections_over_the_bound_are_answered_503(door: IngestionServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """More connections than the door keeps are told so at once."""
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 0)
    assert (await raw_exchange(door, b"")).startswith(b"HTTP/1.1 503")


async def test_pipelined_requests_are_answered_in_turn(door: IngestionServer, broker: str, tenant: str) -> None:
    """Several requests in one segment, one of them refused: each gets its own answer."""
    parts = []
    for number in range(3):
        body = a_body(1, number)
        headers = "".join(f"{k}: {v}\r\n" for k, v in signed(body, "wrong" if number == 1 else "hook-secret-of-a-test").items())
        last = "connection: close\r\n" if number == 2 else ""
        parts.append(
            f"POST /webhooks/{tenant}/desk HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{last}{headers}\r\n".encode() + body
        )
    answer = await raw_exchange(door, b"".join(parts))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"202", b"401", b"202"]
    assert len(await received(broker, tenant)) == 2


async def test_overload_is_answered_503_with_retry_after(tmp_path: Path, client: httpx.AsyncClient, tenant: str) -> None:
    """Too many pending: told at once, so that the tool sends it again."""
    async with running_door(NOWHERE, tmp_path, tenant, max_pending=0) as door:
        body = a_body(1)
        answer = await client.post(address(door, tenant), content=body, headers=signed(body))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_a_full_spool_is_answered_503_and_shows(tmp_path: Path, client: httpx.AsyncClient, tenant: str) -> None:
    """No broker and no room: not ready, and every request is told within moments."""
    async with running_door(NOWHERE, tmp_path, tenant, spool_max_bytes=4000) as door:
        statuses = []
        for number in range(8):
            body = a_body(1, number)
            answer = await client.post(address(door, tenant), content=body, headers=signed(body))
            statuses.append(answer.status_code)
        assert statuses[0] == 202
        assert (statuses[-1], answer.headers["retry-after"]) == (503, "2")
        health = (await client.get(door.admin_url + "/health")).json()
        assert health["way"] == "spool"
        assert health["spool_records"] == statuses.count(202)


async def test_settings_that_cannot_verify_are_answered_503(door: IngestionServer, client: httpx.AsyncClient, tenant: str) -> None:
    """Nobody can say whether the delivery is authentic, so it is neither taken nor refused for good."""
    body = a_body(1)
    answer = await client.post(address(door, tenant, "odd"), content=body, headers=signed(body))
    assert (answer.status_code, answer.json()["error"]) == (503, "misconfigured")


async def test_while_tenants_are_unknown_nobody_is_told_404(tmp_path: Path, client: httpx.AsyncClient, tenant: str) -> None:
    """A door that has not read its tenants yet asks to be tried again; a 404 would make a tool give up."""
    async with running_door(NOWHERE, tmp_path, tenant) as door:
        door._tools.source = "none"  # type: ignore[misc] # the state before the first read
        assert (await client.post(address(door, "someone"), content=b"{}")).status_code == 503
        assert (await client.get(door.admin_url + "/ready")).status_code == 503


async def test_health_ready_and_metrics_tell_the_truth(door: IngestionServer, client: httpx.AsyncClient, tenant: str) -> None:
    """Numbers of what was accepted and refused, by tool and reason."""
    body = a_body(1)
    await client.post(address(door, tenant), content=body, headers=signed(body))
    await client.post(address(door, tenant), content=body, headers=signed(body, "wrong"))
    assert (await client.get(door.admin_url + "/ready")).status_code == 200
    health = (await client.get(door.admin_url + "/health")).json()
    assert (health["way"], health["spool_records"], health["tenants"]) == ("broker", 0, "live")
    metrics = (await client.get(door.admin_url + "/metrics")).text
    assert f'ai_agents_ingestion_accepted_total{{by="broker",tenant="{tenant}",tool="desk"}} 1.0' in metrics
    assert f'ai_agents_ingestion_refused_total{{reason="signature_mismatch",tenant="{tenant}",tool="desk"}} 1.0' in metrics
    assert "ai_agents_ingestion_answer_seconds_count 1.0" in metrics


async def test_a_clean_stop_writes_the_last_counts(broker: str, tmp_path: Path, client: httpx.AsyncClient, tenant: str) -> None:
    """Refusals leave no trace but the counts: the last window is written too. Names nobody configured are not counted under."""
    async with running_door(broker, tmp_path, tenant) as door:
        await until_direct(door)
        body = a_body(1)
        await client.post(address(door, tenant), content=body, headers=signed(body))
        await client.post(address(door, tenant), content=body)
        await client.post(address(door, tenant, "invented"), content=body)
        await client.post(address(door, "invented"), content=body)
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 7
    codec = Codec()
    counts = [codec.decode_as(IngestionCounts, value) for _, _, value in await read_raw(broker, COUNTS.name, tenant)]
    assert [(c.tool, c.accepted, c.spooled, dict(c.refused)) for c in sorted(counts, key=lambda c: c.tool)] == [
        ("", 0, 0, {"unknown": 1}),
        (TOOL, 1, 0, {"signature_missing": 1}),
    ]


async def test_requests_under_way_at_a_stop_are_answered(broker: str, tmp_path: Path, client: httpx.AsyncClient, tenant: str) -> None:
    """A clean stop finishes what it began, and what it answered is on the topic."""
    async with running_door(broker, tmp_path, tenant) as door:
        await until_direct(door)
        bodies = [a_body(n % 5, n, padding=20_000) for n in range(60)]
        posts = [asyncio.create_task(client.post(address(door, tenant), content=b, headers=signed(b))) for b in bodies]
        await posts[0]
    answers: list[Any] = await asyncio.gather(*posts, return_exceptions=True)
    promised = {a.json()["event_id"] for a in answers if isinstance(a, httpx.Response) and a.status_code == 202}
    assert promised <= {event.event_id for event in await received(broker, tenant)}
    assert promised


async def test_secrets_in_a_query_are_cut_out(door: IngestionServer, client: httpx.AsyncClient, broker: str, tenant: str) -> None:
    """Some tools can only put their secret into the address; it must not lie on a topic."""
    body = a_body(1)
    await client.post(address(door, tenant) + "?site=north&token=hush", content=body, headers=signed(body))
    (event,) = await received(broker, tenant)
    assert event.query == "site=north&token=%2A%2A%2A"
