"""The service desk and what the platform does beyond the common calls, on Cloud and on Data Center alike."""

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
    PluginConfigError,
    PluginContext,
    Priority,
    TicketChange,
    TicketChanges,
    TicketStatus,
    TicketType,
    TornAnswer,
    ValidationRefused,
)
from plugins.conformance.builders import a_ticket
from plugins.http.client import ApiClient
from plugins.jira import plugin as module
from plugins.jira.plugin import JiraPlugin
from plugins.jira.sla import next_breach, sla_target
from plugins.marker import find_marker, note_marker
from plugins.sandbox.http import HttpServer, Request, Response
from plugins.sandbox.server import SandboxProcess
from schemas.ids import new_event_id

HOUR = 3_600_000_000
SANDBOXES = {"cloud": "jira", "data_center": "plugins.jira.sandbox:DataCenterSandbox"}


@pytest.fixture(scope="module", params=sorted(SANDBOXES))
def sandbox(request: pytest.FixtureRequest) -> Iterator[SandboxProcess]:
    with SandboxProcess(SANDBOXES[request.param]) as sandbox:
        yield sandbox


@pytest.fixture
async def client() -> AsyncIterator[ApiClient]:
    client = ApiClient()
    yield client
    await client.aclose()


def bound(sandbox: SandboxProcess, client: ApiClient, **settings: Any) -> JiraPlugin:
    told = {name: value for name, value in sandbox.credentials.items() if name != "person"}
    known = {"base_url": sandbox.base_url, **told, "webhook": sandbox.webhook, **settings}
    return JiraPlugin(
        PluginContext(tenant="acme", tool="jira", settings=known, secrets=lambda reference: [reference.encode()], http=lambda: client)
    )


@pytest.fixture
def plugin(sandbox: SandboxProcess, client: ApiClient) -> JiraPlugin:
    return bound(sandbox, client)


@pytest.fixture
def desk(sandbox: SandboxProcess, client: ApiClient) -> JiraPlugin:
    """Tickets become requests of the OPS desk."""
    return bound(sandbox, client, service_desk="OPS", request_type="Report an incident", request_priority=True)


async def person(sandbox: SandboxProcess, path: str) -> Any:
    """What somebody sees at the tool's own API."""
    async with httpx.AsyncClient(base_url=sandbox.base_url, headers=sandbox.credentials["person"]["headers"]) as http:
        return (await http.get(path)).raise_for_status().json()


# the same life on both deployments ---------------------------------------------------------------------------------------


async def test_a_ticket_lives_on_both_deployments_alike(plugin: JiraPlugin, sandbox: SandboxProcess) -> None:
    """Rich text as a document or as wiki, a token or a start: nobody above this plugin can tell."""
    asked = a_ticket(description="It **blinks** on <each> gate\n\n- one\n- two", tags=("gate 2",))
    ref = await plugin.create_ticket(asked)
    read = await plugin.get_ticket(ref.ticket_id)
    assert (read.subject, read.priority, read.type) == (asked.subject, Priority.HIGH, TicketType.INCIDENT)
    assert "blinks" in read.description and "<each>" in read.description
    found = await plugin.find_by_external_id(asked.external_id)
    assert found is not None and found.ticket_id == ref.ticket_id
    assert await plugin.has_update(ref.ticket_id, asked.event_id)
    changes = TicketChanges(event_id=new_event_id(), subject="Reader ordered", status=TicketStatus.PENDING, priority=Priority.LOW)
    await plugin.update_ticket(ref.ticket_id, changes)
    read = await plugin.get_ticket(ref.ticket_id)
    assert (read.subject, read.status, read.priority) == ("Reader ordered", TicketStatus.PENDING, Priority.LOW)
    marker = note_marker(new_event_id(), 1)
    await plugin.add_note(ref.ticket_id, NewNote(text="See {code} *here* and [there](https://kb.example/7)", marker=marker))
    assert await plugin.has_note(ref.ticket_id, marker)
    assert not await plugin.has_note(ref.ticket_id, note_marker(new_event_id(), 1))
    health = await plugin.health_check()
    assert (health.ok, health.actor) == (True, sandbox.credentials["actor"])


async def test_many_are_read_at_once_and_a_missing_one_is_named(plugin: JiraPlugin) -> None:
    """Data Center has no bulk read, and refuses a whole query for one unknown key unless it is asked not to."""
    refs = [await plugin.create_ticket(a_ticket(subject=f"ticket {number}")) for number in range(3)]
    results = {r.ticket_id: r async for r in plugin.get_ticket_batch([*(ref.ticket_id for ref in refs), "99999999"])}
    assert isinstance(results.pop("99999999").error, NotFound)
    assert [r.ticket.subject for r in results.values() if r.ticket is not None] == ["ticket 0", "ticket 1", "ticket 2"]  # type: ignore[union-attr]  # a read


async def test_a_query_refused_for_one_key_is_read_one_by_one(plugin: JiraPlugin, sandbox: SandboxProcess) -> None:
    """Sites before 8.0 know no `validateQuery`; on Cloud nothing of the kind happens, and a refused read is each item's error."""
    ref = await plugin.create_ticket(a_ticket())
    sandbox.fault(status=400, times=1, method="POST")
    try:
        results = {r.ticket_id: r.error async for r in plugin.get_ticket_batch([ref.ticket_id, "99999999"])}
    finally:
        sandbox.clear_faults()
    data_center = "deployment" in sandbox.credentials
    assert isinstance(results["99999999"], NotFound if data_center else ValidationRefused)
    assert results[ref.ticket_id] is None if data_center else isinstance(results[ref.ticket_id], ValidationRefused)


async def test_a_search_goes_over_its_pages(plugin: JiraPlugin) -> None:
    """By token on Cloud, by start on Data Center; a hundred a page."""
    tag = f"swept-{time.time_ns()}"
    await asyncio.gather(*(plugin.create_ticket(a_ticket(tags=(tag,))) for _ in range(105)))
    assert len({ticket.ticket_id for ticket in await plugin.search_tickets(f'labels = "{tag}" order by created', limit=200)}) == 105
    assert len(await plugin.search_tickets(f'project = OPS AND labels = "{tag}"', limit=3)) == 3
    with pytest.raises(ValidationRefused):
        await plugin.search_tickets("order by created")


async def test_a_batch_is_five_times_quicker_and_one_bad_item_sinks_none(plugin: JiraPlugin, sandbox: SandboxProcess) -> None:
    """At 200 ms a call, and no bulk call that could carry each event's id."""
    refs = [await plugin.create_ticket(a_ticket()) for _ in range(20)]
    sandbox.fault(delay=0.1, times=100)
    try:
        began = time.perf_counter()
        await plugin.update_ticket(refs[0].ticket_id, TicketChanges(event_id="one", subject="x"))
        single = time.perf_counter() - began
        began = time.perf_counter()
        changes = {ref.ticket_id: TicketChanges(event_id=f"e {ref.ticket_id}", subject="swept") for ref in refs}
        results = {
            r.ticket_id: r for r in await plugin.batch_update_tickets({**changes, "99999999": TicketChanges(event_id="e", subject="x")})
        }
        took = time.perf_counter() - began
    finally:
        sandbox.clear_faults()
    assert took * 5 < single * 21
    assert isinstance(results["99999999"].error, NotFound)
    assert [r.error for ticket_id, r in results.items() if ticket_id in changes] == [None] * 20


async def test_peoples_work_comes_back_readable(plugin: JiraPlugin, sandbox: SandboxProcess) -> None:
    """Data Center tells a comment without its issue, and then the issue with the comment."""
    arrived: asyncio.Queue[Request] = asyncio.Queue()

    async def target(request: Request) -> Response:
        arrived.put_nowait(request)
        return Response(202)

    server = HttpServer(target)
    sandbox.set_webhook(f"http://127.0.0.1:{await server.start()}/hook")
    ticket_id = sandbox.person_creates(subject="Crane 4", description="No *power*", type="incident", priority="urgent")
    sandbox.person_updates(ticket_id, priority="low")
    sandbox.person_updates(ticket_id, comment="On my way", public=False)
    marker = note_marker(new_event_id(), 2)
    await plugin.add_note(ticket_id, NewNote(text="seen", marker=marker))
    twice = sandbox.credentials.get("deployment") == "data_center"
    told = []
    for _ in range(6 if twice else 4):
        request = await asyncio.wait_for(arrived.get(), 5)
        delivery = Delivery(tenant="acme", tool="jira", body=request.body, headers=request.headers, received_at=1)
        assert plugin.validate_webhook(delivery)
        told.append(plugin.extract_metadata(delivery))
        assert plugin.ticket_key(delivery) == ticket_id
    changes = [TicketChange.CREATED, TicketChange.UPDATED, *[TicketChange.COMMENTED] * (4 if twice else 2)]
    assert sorted(ticket.change for ticket in told) == sorted(changes)
    ours = [ticket for ticket in told if plugin.is_own_actor(ticket)]
    assert {find_marker(ticket.extra["comment"]) for ticket in ours} == {find_marker(marker)}
    assert not any(ticket.extra["comment_public"] for ticket in told if "comment" in ticket.extra)
    assert any(ticket.sla_due_at for ticket in told)
    sandbox.set_webhook("")
    await server.stop()


async def test_files_go_up_and_come_down(plugin: JiraPlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a redirect whose host must not get our credentials, on Cloud; directly on Data Center."""
    content = bytes(range(256)) * 500

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 30_000):
            yield content[start : start + 30_000]

    ref = await plugin.create_ticket(a_ticket())
    number = await plugin.add_attachment(ref.ticket_id, "träce.bin", "application/x-trace", chunks())
    (listed,) = await plugin.list_attachments(ref.ticket_id)
    assert (listed.attachment_id, listed.filename, listed.size) == (number, "träce.bin", len(content))
    assert b"".join([chunk async for chunk in plugin.download_attachment(ref.ticket_id, number)]) == content
    with pytest.raises(NotFound):
        await anext(plugin.download_attachment(ref.ticket_id, "1"))
    monkeypatch.setattr(module, "MAX_ATTACHMENT", 100_000)
    with pytest.raises(FatalApiError, match="larger"):
        await plugin.add_attachment(ref.ticket_id, "big.bin", "application/x-trace", chunks())
    assert len(await plugin.list_attachments(ref.ticket_id)) == 1


# fields and transitions --------------------------------------------------------------------------------------------------


async def test_fields_are_named_as_people_see_them_or_by_id(plugin: JiraPlugin, sandbox: SandboxProcess) -> None:
    """Each kind of field takes its value in a form of its own."""
    named = {
        "cost centre": "Quay 2",
        "Affected sites": ["North gate", "South gate"],
        "Seats": "12",
        "customfield_10053": "SN-7",
        "Owner": "ada",
    }
    ref = await plugin.create_ticket(a_ticket(custom_fields=named))
    fields = (await plugin.get_ticket(ref.ticket_id)).custom_fields
    assert fields["customfield_10050"] == {"value": "Quay 2"}
    assert fields["customfield_10051"] == [{"value": "North gate"}, {"value": "South gate"}]
    assert (fields["customfield_10052"], fields["customfield_10053"]) == (12.0, "SN-7")
    assert fields["customfield_10054"] == ({"name": "ada"} if "deployment" in sandbox.credentials else {"accountId": "ada"})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"Cost center": "x"}, "no field called 'Cost center'"),
        ({"Note": "x"}, "several fields are called 'Note'"),
        ({"Seats": "many"}, "takes a number"),
        ({"Cost centre": "Quay 9"}, "customfield_10050"),
    ],
)
async def test_a_field_that_cannot_be_set_is_named(plugin: JiraPlugin, fields: dict[str, Any], told: str) -> None:
    """By us where we know, by Jira where it does."""
    with pytest.raises(ValidationRefused, match=told):
        await plugin.create_ticket(a_ticket(custom_fields=fields))


async def test_a_transition_gets_the_resolution_its_screen_demands(sandbox: SandboxProcess, client: ApiClient) -> None:
    """Workflows differ by project: here the way to done asks for one, and is refused without."""
    plugin = bound(sandbox, client, project="ITSM")
    for settings, resolution in (
        ({}, "Done"),
        ({"resolution": "Won't do"}, "Won't do"),
        ({"transition_fields": {"Resolution": {"id": "10001"}}}, "Won't do"),
    ):
        ref = await plugin.create_ticket(a_ticket())
        await bound(sandbox, client, project="ITSM", **settings).update_ticket(
            ref.ticket_id, TicketChanges(event_id=new_event_id(), status=TicketStatus.RESOLVED)
        )
        issue = await person(sandbox, f"/rest/api/2/issue/{ref.ticket_id}?fields=status,resolution&expand=changelog")
        assert (issue["fields"]["status"]["name"], issue["fields"]["resolution"]["name"]) == ("Resolved", resolution)
        assert [item["field"] for item in issue["changelog"]["histories"][-1]["items"]] == ["resolution", "status"]


async def test_what_a_screen_demands_and_nobody_gave_is_told_before_anything_is_written(plugin: JiraPlugin) -> None:
    """Half an update would mislead; the message says what to set."""
    field = {"required": True, "name": "Root cause"}
    transition = {"id": "7", "fields": {"customfield_1": field, "customfield_2": {**field, "hasDefaultValue": True}}}
    with pytest.raises(ValidationRefused, match=r"demands Root cause; .*transition_fields"):
        await plugin._writer.screen_of(transition, TicketStatus.RESOLVED)
    assert await plugin._writer.screen_of({"id": "7"}, TicketStatus.OPEN) == {}


# requests ----------------------------------------------------------------------------------------------------------------


async def test_a_ticket_becomes_a_request_with_its_clocks(desk: JiraPlugin, sandbox: SandboxProcess) -> None:
    """The request type sets portal, SLA and approvals, which a plain issue has not."""
    seen = len(sandbox.ledger())
    asked = a_ticket(tags=("gate 2",), priority=Priority.URGENT)
    ref = await desk.create_ticket(asked)
    read = await desk.get_ticket(ref.ticket_id)
    assert (read.subject, read.priority, read.type) == (asked.subject, Priority.URGENT, TicketType.INCIDENT)
    assert read.tags == (asked.external_id, "gate_2")
    found = await desk.find_by_external_id(asked.external_id)
    assert found is not None and found.ticket_id == ref.ticket_id
    assert await desk.has_update(ref.ticket_id, asked.event_id)
    assert [(row["kind"], row["external_id"]) for row in sandbox.ledger(seen)] == [
        ("create", asked.external_id),
        ("update", asked.external_id),
    ]
    first, second = await desk.sla_targets(ref.ticket_id)
    assert read.created_at is not None
    assert (first.due_at or 0) - read.created_at == 4 * HOUR
    assert read.sla_due_at == first.due_at
    assert (first.completed_at, first.breached, second.paused) == (None, False, False)
    await desk.add_note(ref.ticket_id, NewNote(text="We are on it", marker=note_marker(new_event_id(), 1), public=True))
    await desk.update_ticket(ref.ticket_id, TicketChanges(event_id=new_event_id(), status=TicketStatus.RESOLVED))
    assert all(target.completed_at for target in await desk.sla_targets(ref.ticket_id))
    assert (await desk.get_ticket(ref.ticket_id)).sla_due_at is None


async def test_a_request_that_lost_its_label_is_still_found(desk: JiraPlugin, sandbox: SandboxProcess) -> None:
    """Raised, and then the connection broke: a search must find it, or there would be two."""
    asked = a_ticket()
    sandbox.fault(status=500, method="PUT")
    try:
        with pytest.raises(TornAnswer) as caught:
            await desk.create_ticket(asked)
    finally:
        sandbox.clear_faults()
    assert caught.value.in_doubt
    assert await desk.find_by_external_id(asked.external_id) is not None
    assert await desk.find_by_external_id(f"{asked.external_id}x") is None


async def test_notes_on_requests_are_internal_unless_public(desk: JiraPlugin, sandbox: SandboxProcess) -> None:
    """What a customer reads cannot be taken back; an issue that is no request gets the platform's comment."""
    ref = await desk.create_ticket(a_ticket())
    for public in (False, True):
        await desk.add_note(ref.ticket_id, NewNote(text="x", marker=note_marker(new_event_id(), 1), public=public))
    comments = (await person(sandbox, f"/rest/servicedeskapi/request/{ref.ticket_id}/comment"))["values"]
    assert [comment["public"] for comment in comments] == [False, True]


async def test_an_issue_that_is_no_request_has_no_clocks(plugin: JiraPlugin, sandbox: SandboxProcess, client: ApiClient) -> None:
    """No clock is an answer; no issue is an error."""
    ref = await plugin.create_ticket(a_ticket())
    assert list(await plugin.sla_targets(ref.ticket_id)) == []
    with pytest.raises(NotFound):
        await plugin.sla_targets("99999999")
    noting, marker = bound(sandbox, client, service_desk="1"), note_marker(new_event_id(), 1)
    assert await noting.add_note(ref.ticket_id, NewNote(text="x", marker=marker))
    assert await noting.has_note(ref.ticket_id, marker)
    with pytest.raises(NotFound):
        await noting.add_note("99999999", NewNote(text="x", marker=marker))


async def test_approvals_are_listed_and_answered_once(sandbox: SandboxProcess, client: ApiClient) -> None:
    """A change waits for somebody's yes; the second answer is refused."""
    plugin = bound(sandbox, client, request_type="27", service_desk="1")
    ref = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
    (approval,) = await plugin.approvals(ref.ticket_id)
    assert (approval["decision"], approval["can_answer"], len(approval["approvers"])) == ("pending", True, 1)
    with pytest.raises(ValidationRefused, match="approve or decline"):
        await plugin.answer_approval(ref.ticket_id, approval["approval_id"], "maybe")
    answered = await plugin.answer_approval(ref.ticket_id, approval["approval_id"], "approve")
    assert (answered["decision"], answered["can_answer"]) == ("approved", False)
    with pytest.raises(ValidationRefused):
        await plugin.answer_approval(ref.ticket_id, approval["approval_id"], "decline")
    with pytest.raises(NotFound):
        await plugin.answer_approval(ref.ticket_id, "1", "approve")


async def test_queues_and_request_types_are_told(desk: JiraPlugin, sandbox: SandboxProcess, client: ApiClient) -> None:
    """What agents work from, and what customers can ask for; the desk by key, by id or by the project."""
    ref = await desk.create_ticket(a_ticket())
    queues = {queue["name"]: queue for queue in await desk.queues()}
    assert ref.ticket_id in await desk.queue_tickets(queues["Incidents"]["queue_id"], limit=1000)
    assert len(await desk.queue_tickets(queues["All open"]["queue_id"], limit=1)) == 1
    assert {kind["name"] for kind in await desk.request_types()} >= {"Get help", "Report an incident"}
    assert len(await bound(sandbox, client).queues()) == 2
    with pytest.raises(ValidationRefused, match="no service desk called"):
        await bound(sandbox, client, service_desk="Nowhere").queues()
    with pytest.raises(PluginConfigError, match="service_desk"):
        await bound(sandbox, client, project=None).queues()
    with pytest.raises(ValidationRefused, match="no request type called"):
        await bound(sandbox, client, service_desk="1", request_type="Nothing").create_ticket(a_ticket())


# pure, and settings ------------------------------------------------------------------------------------------------------


def test_clocks_are_read_from_whatever_a_site_tells() -> None:
    """A running cycle counts before those that ended; odd shapes are no clock and no error."""
    running = {"breachTime": {"epochMillis": 1_772_453_741_000}, "breached": False, "paused": False}
    ended = {"stopTime": {"iso8601": "2026-03-02T09:00:00+0000"}, "breachTime": {"epochMillis": 1}, "breached": True}
    target = sla_target({"name": "First", "completedCycles": [ended], "ongoingCycle": running})
    assert (target.due_at, target.completed_at, target.breached) == (1_772_453_741_000_000, None, False)
    done = sla_target({"name": "First", "completedCycles": [ended]})
    assert (done.completed_at, done.breached) == (1_772_442_000_000_000, True)
    fields = {"customfield_1": {"ongoingCycle": running}, "customfield_2": {"ongoingCycle": {**running, "paused": True}}}
    assert next_breach(fields) == 1_772_453_741_000_000
    for odd in ({}, {"completedCycles": 3}, {"completedCycles": [None]}, {"ongoingCycle": {"breachTime": 3}}):
        sla_target(odd)
        assert next_breach({"customfield_1": odd, "customfield_2": None}) is None


async def test_each_kind_of_account_is_told_apart(sandbox: SandboxProcess, client: ApiClient) -> None:
    """A site takes one kind; what is missing is said before a call, what is wrong by the site."""
    for auth in ({}, {"email": "a@b.example"}, {"user": "bridge"}):
        health = await bound(sandbox, client, auth=auth).health_check()
        assert not health.ok and "auth" in health.detail
    for auth in ({"access_token": "x"}, {"personal_token": "x"}, {"user": "a", "password": "b"}, {"email": "a", "api_token": "b"}):
        with pytest.raises(CredentialsRefused):
            await bound(sandbox, client, auth=auth).create_ticket(NewTicket(subject="s", external_id="x", event_id="e"))
    with pytest.raises(PluginConfigError, match="deployment"):
        bound(sandbox, client, deployment="server")
    with pytest.raises(PluginConfigError, match="base_url"):
        await bound(sandbox, client, base_url="").get_ticket("1")


async def test_the_wrong_deployment_is_a_fault_of_the_settings(sandbox: SandboxProcess, client: ApiClient) -> None:
    """Cloud removed the old search, Data Center has no v3: a health check may pass, the first search does not."""
    other = "cloud" if "deployment" in sandbox.credentials else "data_center"
    with pytest.raises(FatalApiError):
        await bound(sandbox, client, deployment=other).find_by_external_id("aia-x")
