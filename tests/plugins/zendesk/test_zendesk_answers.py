"""Whatever Zendesk, or a proxy before it, answers: a plugin raises the kinds of ApiError and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.api import ApiError, NewNote, NewTicket, PluginContext, TicketChanges
from plugins.http.client import ApiClient, Limits
from plugins.http.retry import NEVER
from plugins.zendesk.plugin import ZendeskPlugin
from tests.plugins.http.answering import wireless

scalars = st.none() | st.booleans() | st.integers(-1, 2**40) | st.sampled_from(["", "1", "completed", "x"])
names = st.sampled_from(
    [
        "ticket",
        "tickets",
        "audit",
        "audits",
        "comments",
        "job_status",
        "user",
        "upload",
        "error",
        "details",
        "id",
        "status",
        "results",
        "events",
        "type",
        "metadata",
        "custom",
        "external_id",
        "updated_at",
        "token",
        "attachment",
        "meta",
        "has_more",
        "after_cursor",
        "success",
        "body",
        "plain_body",
    ]
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5), max_leaves=20)
CALLS: dict[str, Callable[[ZendeskPlugin], Awaitable[Any]]] = {
    "get_ticket": lambda p: p.get_ticket("1"),
    "get_ticket_batch": lambda p: _all(p),
    "create_ticket": lambda p: p.create_ticket(NewTicket(subject="s", external_id="x", event_id="e")),
    "update_ticket": lambda p: p.update_ticket("1", TicketChanges(event_id="e", subject="s")),
    "batch_update_tickets": lambda p: p.batch_update_tickets({"1": TicketChanges(event_id="e", subject="s")}),
    "add_note": lambda p: p.add_note("1", NewNote(text="t", marker="[aia:e:1]")),
    "find_by_external_id": lambda p: p.find_by_external_id("x"),
    "has_update": lambda p: p.has_update("1", "e"),
    "has_note": lambda p: p.has_note("1", "[aia:e:1]"),
    "health_check": lambda p: p.health_check(),
}


async def _all(plugin: ZendeskPlugin) -> list[Any]:
    return [result async for result in plugin.get_ticket_batch(["1"])]


def a_plugin(answer: httpx.Response) -> ZendeskPlugin:
    def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    limits = Limits()
    client = ApiClient("https://desk.example", limits=limits, retries=NEVER, pool=wireless(respond, limits))
    known = {"base_url": "https://desk.example", "auth": {"email": "a@b.example", "api_token": "t"}}
    return ZendeskPlugin(PluginContext(tenant="acme", tool="desk", settings=known, secrets=lambda reference: [b"t"], http=lambda: client))


@pytest.mark.parametrize("call", sorted(CALLS))
@given(body=st.dictionaries(names, values, max_size=4), status=st.sampled_from([200, 201, 204, 301, 400, 404, 409, 422, 429, 500]))
@settings(max_examples=60, deadline=None)
async def test_any_json_is_an_answer_or_an_api_error(call: str, body: dict[str, Any], status: int) -> None:
    """An exception of another kind would be taken for a fault of the plugin, and the event for undeliverable."""
    if isinstance(body.get("job_status"), dict) and body["job_status"].get("status") in ("queued", "working"):
        return  # a job that never ends is followed until its time is up; told in another test
    answer = httpx.Response(status, content=msgspec.json.encode(body), headers={"content-type": "application/json"})
    with contextlib.suppress(ApiError):
        await CALLS[call](a_plugin(answer))


@pytest.mark.parametrize("call", sorted(CALLS))
@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"<html>gateway</html>", "text/html"), (b"", "text/plain"), (b'{"ticket": ', "application/json"), (b"[]", "text/json")],
)
async def test_a_success_that_is_no_answer_is_an_api_error(call: str, content: bytes, kind: str) -> None:
    """Proxies answer 200 with a page of their own."""
    plugin = a_plugin(httpx.Response(200, content=content, headers={"content-type": kind}))
    if call == "health_check":
        assert not (await plugin.health_check()).ok
        return
    try:
        result = await CALLS[call](plugin)
    except ApiError:
        return
    assert all(row.error is not None for row in result)  # the batches say it for each ticket
