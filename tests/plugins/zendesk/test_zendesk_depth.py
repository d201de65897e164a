"""Beyond the common calls: clocks, custom statuses, fields by name, jobs, files, exports, and webhooks set up as an admin does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from plugins.api import (
    CredentialsRefused,
    Delivery,
    FatalApiError,
    NewNote,
    NewTicket,
    NotFound,
    PluginContext,
    Priority,
    SignatureMismatch,
    TicketChanges,
    TicketStatus,
    TicketType,
    ValidationRefused,
)
from plugins.http.client import ApiClient
from plugins.sandbox.http import HttpServer, Request, Response
from plugins.sandbox.process import SandboxProcess
from plugins.zendesk import plugin as module
from plugins.zendesk.plugin import ZendeskPlugin
from plugins.zendesk.sla import sla_targets
from schemas.ids import new_event_id

MINUTE = 60_000_000


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("zendesk") as process:
        yield process


@pytest.fixture
async def client() -> AsyncIterator[ApiClient]:
    client = ApiClient()
    yield client
    await client.aclose()


def bound(sandbox: SandboxProcess, client: ApiClient, **settings: Any) -> ZendeskPlugin:
    known = {"base_url": sandbox.base_url, "auth": sandbox.credentials["auth"], "webhook": sandbox.webhook}
    context = PluginContext(
        tenant="acme",
        tool="desk",
        settings={**known, **settings},
        secrets=lambda r: [r.encode()],
        http=lambda: client.bound(base_url=sandbox.base_url),
    )
    return ZendeskPlugin(context)


@pytest.fixture
def plugin(sandbox: SandboxProcess, client: ApiClient) -> ZendeskPlugin:
    return bound(sandbox, client)


def a_ticket(**fields: Any) -> NewTicket:
    event_id = new_event_id()
    usual: dict[str, Any] = {"subject": "Crane 4", "external_id": f"aia-{event_id}", "event_id": event_id}
    return NewTicket(**{**usual, **fields})


async def person(sandbox: SandboxProcess, method: str, path: str, **options: Any) -> Any:
    """What somebody sees, or does, at the tool's own API."""
    headers = sandbox.credentials["person"]["headers"]
    async with httpx.AsyncClient(base_url=sandbox.base_url, headers=headers) as http:
        return (await http.request(method, path, **options)).raise_for_status().json()


# clocks ------------------------------------------------------------------------------------------------------------------


async def test_a_tickets_clocks_are_told_from_its_begin_to_their_end(plugin: ZendeskPlugin, sandbox: SandboxProcess) -> None:
    """Who routes by what is due must know when, and what no longer counts."""
    ref = await plugin.create_ticket(a_ticket(type=TicketType.INCIDENT, priority=Priority.URGENT))
    read = await plugin.get_ticket(ref.ticket_id)
    assert read.created_at is not None
    targets = {target.name: target for target in await plugin.sla_targets(ref.ticket_id)}
    assert {name: (t.due_at or 0) - read.created_at for name, t in targets.items()} == {
        "first_reply_time": 15 * MINUTE,
        "requester_wait_time": 240 * MINUTE,
    }
    assert read.sla_due_at == targets["first_reply_time"].due_at
    assert not any(t.breached or t.paused or t.completed_at for t in targets.values())
    await plugin.add_note(ref.ticket_id, NewNote(text="We are on it", marker="", public=True))
    await plugin.update_ticket(ref.ticket_id, TicketChanges(event_id="e", status=TicketStatus.PENDING))
    replied = {target.name: target for target in await plugin.sla_targets(ref.ticket_id)}
    assert replied["first_reply_time"].completed_at is not None
    assert replied["requester_wait_time"].paused
    assert (await plugin.get_ticket(ref.ticket_id)).sla_due_at is None
    quiet = await plugin.create_ticket(a_ticket(type=TicketType.REQUEST))
    assert await plugin.sla_targets(quiet.ticket_id) == ()
    assert [policy["title"] for policy in await plugin.sla_policies()] == ["Incidents"]
    with pytest.raises(NotFound):
        await plugin.sla_targets("99999999")


def test_a_target_is_breached_by_its_event_or_by_what_is_left() -> None:
    """One account tells the events, another only a negative remainder; a breach that was taken back is none."""
    slas = {"policy_metrics": [{"metric": "first_reply_time", "stage": "active", "breach_at": "2026-03-02T08:30:41Z", "hours": -2}]}
    assert sla_targets({"slas": slas}, [])[0].breached
    slas["policy_metrics"][0]["hours"] = 2
    assert not sla_targets({"slas": slas}, [{"metric": "reply_time", "type": "breach", "deleted": True}])[0].breached
    assert sla_targets({"slas": slas}, [{"metric": "reply_time", "type": "breach"}])[0].breached
    for odd in ({}, {"slas": None}, {"slas": {"policy_metrics": 3}}, {"slas": {"policy_metrics": [None, {"metric": 1}]}}):
        sla_targets(odd, [{}, {"metric": None, "time": 3}])


# names -------------------------------------------------------------------------------------------------------------------


async def test_fields_are_named_by_title_or_id_and_options_by_title_or_tag(plugin: ZendeskPlugin) -> None:
    """People know "Cost centre: Quay 2"; the API wants 360001 and quay_2."""
    named = {"cost CENTRE": "Quay 2", "Affected sites": ["North gate", "south_gate"], "360002": "SN-7", "On fire": True}
    ref = await plugin.create_ticket(a_ticket(custom_fields=named))
    fields = (await plugin.get_ticket(ref.ticket_id)).custom_fields
    assert (fields["360001"], fields["360003"], fields["360002"], fields["360004"]) == (
        "quay_2",
        ["north_gate", "south_gate"],
        "SN-7",
        True,
    )
    await plugin.update_ticket(ref.ticket_id, TicketChanges(event_id="e", custom_fields={"Cost centre": "quay_1"}))
    assert (await plugin.get_ticket(ref.ticket_id)).custom_fields["360001"] == "quay_1"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"Cost center": "x"}, "no ticket field called 'Cost center'"),
        ({"Cost centre": "Quay 9"}, "'Cost centre' has no option 'Quay 9'"),
        ({"Note": "x"}, "several ticket fields are called 'Note'"),
    ],
)
async def test_what_zendesk_would_drop_in_silence_is_refused(plugin: ZendeskPlugin, fields: dict[str, Any], told: str) -> None:
    """Under status 200 the value would be gone, and nobody would know."""
    with pytest.raises(ValidationRefused, match=told):
        await plugin.create_ticket(a_ticket(custom_fields=fields))


async def test_a_ticket_goes_to_the_brand_form_group_and_status_the_tenant_chose(sandbox: SandboxProcess, client: ApiClient) -> None:
    """By the names people see; the category of a custom status is what is read again."""
    plugin = bound(sandbox, client, brand="Dockside", form="8202", group="field service", custom_statuses={"pending": "Awaiting parts"})
    ref = await plugin.create_ticket(a_ticket(status=TicketStatus.PENDING))
    read = await plugin.get_ticket(ref.ticket_id)
    assert (read.status, read.extra["custom_status_id"]) == (TicketStatus.PENDING, "8110")
    assert (read.extra["brand_id"], read.extra["form_id"], read.extra["group_id"]) == ("8002", "8202", "8302")
    await plugin.update_ticket(ref.ticket_id, TicketChanges(event_id="e", status=TicketStatus.OPEN))
    assert (await plugin.get_ticket(ref.ticket_id)).extra["custom_status_id"] == "8102"
    assert {s["agent_label"]: s["status_category"] for s in await plugin.custom_statuses()}["Being tested"] == "open"
    with pytest.raises(ValidationRefused, match="no brand called"):
        await bound(sandbox, client, brand="Nowhere").create_ticket(a_ticket())


# many --------------------------------------------------------------------------------------------------------------------


async def test_many_tickets_are_made_in_jobs_and_one_bad_sinks_none(plugin: ZendeskPlugin, sandbox: SandboxProcess) -> None:
    """A job completes though rows in it failed: each is looked at."""
    asked = [a_ticket(subject=f"ticket {n}") for n in range(103)]
    asked[7] = a_ticket(custom_fields={"no such field": 1})
    results = {result.ticket_id: result for result in await plugin.batch_create_tickets(asked)}
    assert set(results) == {ticket.external_id for ticket in asked}
    assert isinstance(results[asked[7].external_id].error, ValidationRefused)
    for number in (0, 101, 102):
        ref = results[asked[number].external_id].ticket
        assert ref is not None
        assert (await plugin.get_ticket(ref.ticket_id)).subject == f"ticket {number}"
        assert await plugin.find_by_external_id(asked[number].external_id) is not None


async def test_a_hundred_updates_in_a_job_are_five_times_quicker(plugin: ZendeskPlugin, sandbox: SandboxProcess) -> None:
    """At 200 ms a call a hundred single updates take twenty seconds."""
    made = await plugin.batch_create_tickets([a_ticket() for _ in range(100)])
    ids = [result.ticket.ticket_id for result in made if result.ticket is not None]
    sandbox.fault(delay=0.2, times=50)
    try:
        began = time.perf_counter()
        await plugin.update_ticket(ids[0], TicketChanges(event_id="one", priority=Priority.LOW))
        single = time.perf_counter() - began
        began = time.perf_counter()
        results = await plugin.batch_update_tickets({i: TicketChanges(event_id=f"bulk {i}", priority=Priority.LOW) for i in ids})
        bulk = time.perf_counter() - began
    finally:
        sandbox.clear_faults()
    assert len([r for r in results if r.error is None]) == 100
    assert bulk * 5 < single * 100


async def test_the_same_request_twice_makes_one_ticket(plugin: ZendeskPlugin, sandbox: SandboxProcess) -> None:
    """Zendesk keeps the key of a creation for hours, which closes the gap before its index knows our id."""
    asked = a_ticket()
    sandbox.fault(index_lag=3600)
    try:
        first = await plugin.create_ticket(asked)
        assert await plugin.find_by_external_id(asked.external_id) is None
        assert (await plugin.create_ticket(asked)).ticket_id == first.ticket_id
    finally:
        sandbox.fault(index_lag=0)
    assert [row["kind"] for row in sandbox.ledger() if row["external_id"] == asked.external_id] == ["create"]


async def test_what_changed_is_exported_and_searched(plugin: ZendeskPlugin, sandbox: SandboxProcess) -> None:
    """How a tenant catches up with what a paused webhook did not tell."""
    began = int(time.time()) - 1
    tag = f"swept-{began}"
    for _ in range(3):
        await plugin.create_ticket(a_ticket(tags=(tag,)))
    assert len(await plugin.search_tickets(f"tags:{tag}")) == 3
    assert len(await plugin.search_tickets(f"tags:{tag}", limit=2)) == 2
    assert len([t for t in await plugin.changed_tickets(began, limit=1000) if tag in t.tags]) == 3
    await plugin.batch_create_tickets([a_ticket() for _ in range(100)])
    assert len(await plugin.changed_tickets(0, limit=101)) == 101  # over a page


# comments and files ------------------------------------------------------------------------------------------------------


async def test_comments_are_read_with_their_rich_text(plugin: ZendeskPlugin) -> None:
    """What an agent wrote in bold is bold in the tool it is mirrored to."""
    ref = await plugin.create_ticket(a_ticket(description="It **blinks**"))
    await plugin.add_note(ref.ticket_id, NewNote(text="See [the page](https://kb.example/7)", marker="m"))
    first, second = await plugin.comments(ref.ticket_id)
    assert (first["public"], second["public"]) == (True, False)
    assert "**blinks**" in first["text"]
    assert "[the page](<https://kb.example/7>)" in second["text"]


async def test_a_file_goes_up_and_comes_down_as_it_is(
    plugin: ZendeskPlugin, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks both ways, through a redirect to a storage host, and no further than the limit."""
    content = bytes(range(256)) * 1000

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 50_000):
            yield content[start : start + 50_000]

    ref = await plugin.create_ticket(a_ticket())
    number = await plugin.add_attachment(ref.ticket_id, "träce.bin", "application/x-trace", chunks())
    (listed,) = await plugin.list_attachments(ref.ticket_id)
    assert (listed.attachment_id, listed.filename, listed.content_type) == (number, "träce.bin", "application/x-trace")
    assert listed.size == len(content)
    assert b"".join([chunk async for chunk in plugin.download_attachment(ref.ticket_id, number)]) == content
    with pytest.raises(NotFound):
        await anext(plugin.download_attachment(ref.ticket_id, "1"))
    monkeypatch.setattr(module, "MAX_UPLOAD", 100_000)
    seen = len(sandbox.ledger())
    with pytest.raises(FatalApiError, match="larger"):
        await plugin.add_attachment(ref.ticket_id, "big.bin", "application/x-trace", chunks())
    with pytest.raises(FatalApiError):
        [chunk async for chunk in plugin.download_attachment(ref.ticket_id, number)]
    assert len(sandbox.ledger()) == seen


# accounts and webhooks ---------------------------------------------------------------------------------------------------


async def test_a_refresh_token_opens_the_account(sandbox: SandboxProcess, client: ApiClient) -> None:
    """Many calls at once, one token request: a rotating token must not be fetched twice."""
    oauth = {"client_id": "ai-agents", **sandbox.credentials["oauth"]}
    plugin = bound(sandbox, client, auth=oauth)
    assert all(health.ok for health in await asyncio.gather(*(plugin.health_check() for _ in range(5))))
    with pytest.raises(CredentialsRefused):
        await bound(sandbox, client, auth={**oauth, "refresh_token": "old"}).get_ticket("1001")


async def test_a_webhook_with_our_token_is_set_up_and_verified(sandbox: SandboxProcess, client: ApiClient) -> None:
    """The whole way: the admin stores our token, Zendesk sends it with each event, and signs beside it."""
    arrived: asyncio.Queue[Request] = asyncio.Queue()

    async def target(request: Request) -> Response:
        arrived.put_nowait(request)
        return Response(202)

    server = HttpServer(target)
    key = "a key that only Zendesk's admin and we have, long"
    plugin = bound(sandbox, client, webhook={"scheme": "jwt", "secret": key, "signing_secret": sandbox.webhook["secret"]})
    webhook = {
        "name": "events",
        "endpoint": f"http://127.0.0.1:{await server.start()}/hook",
        "subscriptions": ["zen:event-type:ticket.created"],
        "authentication": {"type": "bearer_token", "data": {"token": await plugin.issue_webhook_token()}, "add_position": "header"},
    }
    made = (await person(sandbox, "POST", "/api/v2/webhooks", json={"webhook": webhook}))["webhook"]
    assert "data" not in made["authentication"]
    secret = await person(sandbox, "GET", f"/api/v2/webhooks/{made['id']}/signing_secret")
    assert secret["signing_secret"]["secret"] == sandbox.webhook["secret"]
    sandbox.person_creates(subject="by token")
    request = await asyncio.wait_for(arrived.get(), 5)
    delivery = Delivery(tenant="acme", tool="desk", body=request.body, headers=request.headers, received_at=time.time_ns() // 1000)
    assert plugin.validate_webhook(delivery).scheme == "jwt+hmac-timestamp"
    with pytest.raises(SignatureMismatch):
        bound(sandbox, client, webhook={"scheme": "jwt", "secret": "another key of more than thirty-two bytes"}).validate_webhook(delivery)
    sandbox.set_webhook("")
    await server.stop()
