"""ServiceDesk Plus beyond requests: the cloud's tokens, changes and problems, worklogs, resolutions, clocks, files, labels of fields."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from plugins.api import (
    CredentialsRefused,
    FatalApiError,
    NewNote,
    NotFound,
    PluginConfigError,
    PluginContext,
    Priority,
    RateLimited,
    TicketChanges,
    TicketStatus,
    TicketType,
    ValidationRefused,
)
from plugins.conformance.builders import a_ticket
from plugins.http.client import ApiClient
from plugins.marker import note_marker
from plugins.sandbox.server import SandboxProcess
from plugins.servicedesk_plus.access import ACCOUNTS, ZohoToken, accounts_url
from plugins.servicedesk_plus.answers import attachment_of, clocks_of, worklog_of
from plugins.servicedesk_plus.modules import CHANGES, REQUESTS, used_modules
from plugins.servicedesk_plus.plugin import ServiceDeskPlusPlugin
from schemas.ids import new_event_id
from tests.plugins.sandbox_thread import SandboxThread

ALL = {"modules": ["changes", "problems"]}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxThread("servicedesk_plus") as running:
        yield running


@pytest.fixture(autouse=True)
def calm(sandbox: SandboxProcess) -> Iterator[None]:
    yield
    sandbox.clear_faults()


@asynccontextmanager
async def connected(sandbox: SandboxProcess, **settings: Any) -> AsyncIterator[ServiceDeskPlusPlugin]:
    known = {"base_url": sandbox.base_url, "auth": sandbox.credentials["auth"], "actor": sandbox.credentials["actor"], **settings}
    client = ApiClient()
    context = PluginContext(tenant="acme", tool="desk", settings=known, secrets=lambda r: [r.encode()], http=lambda: client)
    yield ServiceDeskPlusPlugin(context)
    await client.aclose()


def cloud(sandbox: SandboxProcess, **auth: Any) -> dict[str, Any]:
    given = {"accounts_url": sandbox.base_url, **sandbox.credentials["oauth"], **auth}
    return {"base_url": f"{sandbox.base_url}/app/itdesk", "auth": given}


def changes(**fields: Any) -> TicketChanges:
    return TicketChanges(event_id=new_event_id(), **fields)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


# --- the cloud -------------------------------------------------------------------------------------------------------------


async def test_the_cloud_is_called_with_zohos_tokens_through_its_portal(sandbox: SandboxProcess) -> None:
    """The same requests under another address, another credential, and another name for notes and files."""
    async with connected(sandbox, **cloud(sandbox)) as plugin:
        assert (await plugin.health_check()).ok
        ref = await plugin.create_ticket(a_ticket())
        marker = note_marker(new_event_id(), 1)
        await plugin.add_note(ref.ticket_id, NewNote(text="seen", marker=marker))
        assert await plugin.has_note(ref.ticket_id, marker)
        file_id = await plugin.add_attachment(ref.ticket_id, "trace.bin", "application/octet-stream", chunks(b"\x00", b"\xff"))
        assert b"".join([part async for part in plugin.download_attachment(ref.ticket_id, file_id)]) == b"\x00\xff"


async def test_many_calls_share_one_token_and_a_dead_one_is_renewed(sandbox: SandboxProcess) -> None:
    """Zoho gives few tokens for a refresh token, and ends them by itself."""
    async with connected(sandbox, **cloud(sandbox)) as plugin:
        sandbox.fault(status=500, path="/oauth/v2/token", times=1)
        outcomes = await asyncio.gather(*(plugin.get_ticket("1") for _ in range(10)), return_exceptions=True)
        assert all(isinstance(outcome, Exception) for outcome in outcomes)
        ref = await plugin.create_ticket(a_ticket())
        sandbox.fault(status=401, times=1)
        assert (await plugin.get_ticket(ref.ticket_id)).ticket_id == ref.ticket_id


@pytest.mark.parametrize(("wrong", "code"), [("refresh_token", "invalid_code"), ("client_secret", "invalid_client")])
async def test_zoho_refuses_under_200_and_is_understood(sandbox: SandboxProcess, wrong: str, code: str) -> None:
    """A token that is none must not be sent to the tool; the error names Zoho's word and no secret."""
    async with connected(sandbox, **cloud(sandbox, **{wrong: "s3cret"})) as plugin:
        with pytest.raises(CredentialsRefused, match=code) as caught:
            await plugin.get_ticket("1")
        assert "s3cret" not in str(caught.value) and not (await plugin.health_check()).ok


async def test_asking_zoho_too_often_is_waited_out_and_not_taken_for_a_wrong_token() -> None:
    """Taken for refused credentials, a burst of restarts would make dead letters of good tickets."""
    auth = ZohoToken("https://accounts.example/oauth/v2/token", "id", "secret", "refresh")
    flow = auth.async_auth_flow(httpx.Request("GET", "https://sdp.example/api/v3/requests/1"))
    await anext(flow)
    with pytest.raises(RateLimited) as caught:
        await flow.asend(httpx.Response(400, json={"error": "Access Denied", "status": "failure"}))
    assert caught.value.retry_after == 600 and not caught.value.in_doubt
    again = auth.async_auth_flow(httpx.Request("GET", "https://sdp.example/api/v3/requests/1"))
    with pytest.raises(RateLimited):
        await anext(again)


def test_each_data_centre_has_its_own_accounts_host() -> None:
    """A refresh token of one centre is worth nothing at another."""
    assert accounts_url({}) == "https://accounts.zoho.com" and accounts_url({"data_center": "EU"}) == "https://accounts.zoho.eu"
    assert accounts_url({"accounts_url": "https://accounts.example/"}) == "https://accounts.example"
    assert len(set(ACCOUNTS.values())) == len(ACCOUNTS)
    with pytest.raises(PluginConfigError, match="data_center"):
        accounts_url({"data_center": "mars"})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"auth": {}}, "technician_key"),
        ({"auth": {"refresh_token": "x", "client_id": "y"}}, "client_secret"),
        ({"base_url": ""}, "base_url"),
    ],
)
async def test_settings_that_cannot_work_are_named(sandbox: SandboxProcess, settings: dict[str, Any], named: str) -> None:
    """Before anything is sent."""
    async with connected(sandbox, **settings) as plugin:
        health = await plugin.health_check()
        assert not health.ok and named in health.detail


# --- changes and problems --------------------------------------------------------------------------------------------------


async def test_a_change_is_led_through_its_stages(sandbox: SandboxProcess) -> None:
    """Its status means something with its stage only; both are written in one act."""
    async with connected(sandbox, **ALL) as plugin:
        ref = await plugin.create_ticket(asked := a_ticket(type=TicketType.CHANGE))
        assert ref.ticket_id.startswith("CH-")
        ticket = await plugin.get_ticket(ref.ticket_id)
        assert (ticket.type, ticket.subject, ticket.priority) == (TicketType.CHANGE, asked.subject, Priority.HIGH)
        assert (ticket.status, ticket.extra["stage"]) == (TicketStatus.NEW, "Submission")
        steps = (TicketStatus.OPEN, TicketStatus.PENDING, TicketStatus.RESOLVED)
        for status in steps:
            update = changes(status=status, subject=f"now {status}")
            await plugin.update_ticket(ref.ticket_id, update)
            ticket = await plugin.get_ticket(ref.ticket_id)
            assert (ticket.status, ticket.subject) == (status, f"now {status}")
            assert await plugin.has_update(ref.ticket_id, update.event_id)
        assert ref.ticket_id in await plugin.list_changes("now") and await plugin.list_changes("no such words") == []


async def test_a_tenants_own_stages_are_used_and_wrong_pairs_refused(sandbox: SandboxProcess) -> None:
    """Each site names its stages; the tool says which status belongs where."""
    own = {"change_stages": {"closed": {"stage": "Close", "status": "Rejected"}, "open": {"stage": "Close", "status": "On Hold"}}}
    async with connected(sandbox, **ALL, **own) as plugin:
        ref = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
        await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.CLOSED))
        assert (await plugin.get_ticket(ref.ticket_id)).status is TicketStatus.CLOSED
        with pytest.raises(ValidationRefused, match="status"):
            await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.OPEN))
    async with connected(sandbox) as plugin:
        for wrong in ({"closed": "Close"}, {"done": {"stage": "a", "status": "b"}}, ["closed"]):
            with pytest.raises(PluginConfigError, match="change_stages"):
                ServiceDeskPlusPlugin(
                    PluginContext(
                        tenant="acme", tool="desk", settings={"change_stages": wrong}, secrets=lambda r: [], http=plugin.context.http
                    )
                )


async def test_changes_and_problems_have_notes_files_and_are_found(sandbox: SandboxProcess) -> None:
    """All that holds for a request holds for them, but for notes to a requester."""
    async with connected(sandbox, **ALL) as plugin:
        for kind in (TicketType.CHANGE, TicketType.PROBLEM):
            ref = await plugin.create_ticket(asked := a_ticket(type=kind))
            found = await plugin.find_by_external_id(asked.external_id)
            assert found is not None and found.ticket_id == ref.ticket_id
            marker = note_marker(new_event_id(), 1)
            assert await plugin.add_note(ref.ticket_id, NewNote(text="seen", marker=marker))
            assert await plugin.has_note(ref.ticket_id, marker)
            with pytest.raises(ValidationRefused, match="internal"):
                await plugin.add_note(ref.ticket_id, NewNote(text="seen", marker=marker, public=True))
            await plugin.add_attachment(ref.ticket_id, "plan.txt", "text/plain", chunks(b"first this"))
            assert [file.filename for file in await plugin.list_attachments(ref.ticket_id)] == ["plan.txt"]
            with pytest.raises(ValidationRefused, match="resolution"):
                await plugin.set_resolution(ref.ticket_id, "done")


async def test_a_batch_reads_and_writes_all_modules(sandbox: SandboxProcess) -> None:
    """The same number may be a request's, a change's and a problem's."""
    async with connected(sandbox, **ALL) as plugin:
        refs = [
            (await plugin.create_ticket(a_ticket(type=kind))).ticket_id
            for kind in (TicketType.INCIDENT, TicketType.CHANGE, TicketType.PROBLEM)
        ]
        missing = ["CH-99999999", "99999999"]
        results = {r.ticket_id: r async for r in plugin.get_ticket_batch([*refs, *missing])}
        assert [results[ref].ticket is not None for ref in refs] == [True] * 3
        assert all(isinstance(results[ref].error, NotFound) for ref in missing)
        written = {r.ticket_id: r for r in await plugin.batch_update_tickets({ref: changes(subject="swept") for ref in [*refs, *missing]})}
        assert [written[ref].error for ref in refs] == [None] * 3 and isinstance(written["CH-99999999"].error, NotFound)


async def test_without_the_module_a_change_becomes_a_request(sandbox: SandboxProcess) -> None:
    """Not every edition has changes; the ticket must not be lost for that."""
    async with connected(sandbox) as plugin:
        ref = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
        assert not ref.ticket_id.startswith("CH-") and (await plugin.get_ticket(ref.ticket_id)).status is TicketStatus.NEW


def test_modules_are_named_as_the_tool_names_them() -> None:
    """Requests are always among them."""
    assert used_modules({}) == (REQUESTS,) and used_modules({"modules": ["changes"]}) == (REQUESTS, CHANGES)
    for wrong in (["releases"], "changes"):
        with pytest.raises(PluginConfigError, match="modules"):
            used_modules({"modules": wrong})


# --- what hangs on a request -----------------------------------------------------------------------------------------------


async def test_a_resolution_is_written_and_read(sandbox: SandboxProcess) -> None:
    """Before closing, where the rules demand one; the answer to the write does not hold it."""
    async with connected(sandbox) as plugin:
        ref = (await plugin.create_ticket(a_ticket())).ticket_id
        assert await plugin.get_resolution(ref) == ""
        await plugin.set_resolution(ref, "Reader **replaced** & <tested>")
        assert await plugin.get_resolution(ref) == "Reader replaced & <tested>"


async def test_work_is_logged_and_listed(sandbox: SandboxProcess) -> None:
    """For the key's technician, for another by address, or for the tenant's own default."""
    async with connected(sandbox, worklog_owner="night@harbour.example") as plugin:
        ref = (await plugin.create_ticket(a_ticket())).ticket_id
        assert await plugin.add_worklog(ref, "Drove there", 95)
        assert await plugin.add_worklog(ref, "Drove back", 0, owner="technician@harbour.example")
        first, second = await plugin.list_worklogs(ref)
        assert (first["text"], first["minutes"], first["owner"]) == ("Drove there", 95, "night@harbour.example")
        assert (second["minutes"], second["owner"]) == (1, "technician@harbour.example")
        assert first["started_at"] < second["started_at"]


async def test_both_clocks_of_a_request_are_told(sandbox: SandboxProcess) -> None:
    """Response and resolution run apart."""
    async with connected(sandbox) as plugin:
        ref = (await plugin.create_ticket(a_ticket())).ticket_id
        response, resolution = await plugin.sla_targets(ref)
        assert (response.name, resolution.name) == ("Normal SLA response", "Normal SLA resolution")
        assert response.due_at is not None and resolution.due_at is not None and response.due_at < resolution.due_at
        await plugin.update_ticket(ref, changes(status=TicketStatus.RESOLVED))
        _, resolution = await plugin.sla_targets(ref)
        assert resolution.completed_at is not None and not resolution.breached


async def test_a_requests_assets_are_shown_with_what_people_read(sandbox: SandboxProcess) -> None:
    """Model, place and owner stand beside the mirrored ticket; an asset that is gone hides no other."""
    async with connected(sandbox, **ALL) as plugin:
        ticket = await plugin.get_ticket(sandbox.person_creates(subject="Gate PC is slow"))
        assert ticket.device is not None and ticket.device["name"] == "GATE-PC-04"
        context = await plugin.device_context(ticket)
        assert context is not None
        (item,) = context.items
        assert (item.name, item.kind, item.status) == ("GATE-PC-04", "Workstation", "In Use")
        assert item.attributes["serial_number"] == "SN-2231" and item.attributes["owner"] == "Cora Customer"
        assert item.attributes["warranty_expiry"] == "Mar 1, 2027" and "vendor" not in item.attributes
        change = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
        assert await plugin.device_context(await plugin.get_ticket(change.ticket_id)) is None


async def test_custom_fields_are_written_by_their_labels(sandbox: SandboxProcess) -> None:
    """People know "Building"; the number behind it differs on each installation."""
    async with connected(sandbox) as plugin:
        ref = await plugin.create_ticket(a_ticket(custom_fields={"building": "Yard 2", "udf_pick_5": "Gate"}))
        fields = (await plugin.get_ticket(ref.ticket_id)).custom_fields
        assert (fields["udf_sline_53"], fields["udf_pick_5"]) == ("Yard 2", "Gate")
        with pytest.raises(ValidationRefused, match="Floor"):
            await plugin.update_ticket(ref.ticket_id, changes(custom_fields={"Floor": 2}))


async def test_a_file_is_fetched_from_our_own_server_alone(sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address comes from the tool's answer; the key must not follow it elsewhere, nor to another call."""
    async with connected(sandbox) as plugin:
        ref = (await plugin.create_ticket(a_ticket())).ticket_id
        file_id = await plugin.add_attachment(ref, "a.txt", "text/plain", chunks(b"abc"))
        with pytest.raises(NotFound):
            _ = [part async for part in plugin.download_attachment(ref, "none")]
        (row,) = await plugin._files(ref)
        for url, fine in (
            (f"https://evil.example/x/api/v3{row['content_url'].removeprefix('/api/v3')}", True),
            ("https://evil.example/api/v2/steal", False),
            ("/api/v3/requests/../users", False),
            ("/api/v3/%2E%2e/users", False),
        ):

            async def files(ticket_id: str, url: str = url) -> list[dict[str, Any]]:
                return [{**row, "content_url": url}]

            monkeypatch.setattr(plugin, "_files", files)
            if fine:
                assert b"".join([part async for part in plugin.download_attachment(ref, file_id)]) == b"abc"
            else:
                with pytest.raises(FatalApiError, match="address"):
                    _ = [part async for part in plugin.download_attachment(ref, file_id)]


async def test_a_batch_of_updates_is_five_times_faster_than_one_by_one(sandbox: SandboxProcess) -> None:
    """There is no bulk edit; several at a time must make up for it."""
    async with connected(sandbox) as plugin:
        refs = [(await plugin.create_ticket(a_ticket())).ticket_id for _ in range(24)]
        sandbox.fault(delay=0.2, times=24)
        began = time.perf_counter()
        results = await plugin.batch_update_tickets({ref: changes(subject="swept") for ref in refs})
        took = time.perf_counter() - began
        assert [result.error for result in results] == [None] * 24 and took < 24 * 0.2 / 5


def test_answers_are_read_in_every_builds_spelling() -> None:
    """Sizes as text or objects, time spent as hours and minutes or as milliseconds."""
    file = attachment_of({"id": 7, "file_name": "a.txt", "size": {"value": "12", "display_value": "12 B"}})
    assert file is not None and (file.attachment_id, file.filename, file.size) == ("7", "a.txt", 12)
    assert attachment_of({"name": "no id"}) is None and attachment_of({"id": "7", "size": "big"}).size is None  # type: ignore[union-attr]  # it has an id
    assert worklog_of({"time_spent": {"hours": "1", "minutes": "20"}})["minutes"] == 80
    assert worklog_of({"time_spent": {"value": "4800000"}})["minutes"] == 80 and worklog_of({"time_spent": "60000"})["minutes"] == 1
    assert worklog_of({"time_spent": {"hours": "some"}})["minutes"] == 0 and worklog_of({})["minutes"] is None
    (clock,) = clocks_of({"due_by_time": {"value": "1772437329000"}, "is_overdue": True, "onhold_time": {"value": "1772437329000"}})
    assert (clock.name, clock.breached, clock.paused) == ("resolution", True, True)


def test_the_sandbox_answers_in_the_recorded_form(sandbox: SandboxProcess) -> None:
    """As real servers were recorded: the resolution's answer says only that it was taken, a list's status is a list."""
    with httpx.Client(base_url=f"{sandbox.base_url}/api/v3", headers=sandbox.credentials["person"]["headers"]) as person:
        made = person.post("/requests", data={"input_data": '{"request": {"subject": "x"}}'}).json()["request"]
        answer = person.post(f"/requests/{made['id']}/resolutions", data={"input_data": '{"resolution": {"content": "y"}}'})
        assert set(answer.json()) == {"response_status"} and answer.json()["response_status"]["status_code"] == 2000
        info = '{"list_info": {"row_count": 1, "get_total_count": true}}'
        listed = person.get("/requests", params={"input_data": info}).json()
        assert isinstance(listed["response_status"], list) and listed["list_info"]["total_count"] >= 1
        for path in ("/requests/1/worklogs", "/changes/1", "/elsewhere", "/changes/1/resolutions"):
            assert person.get(path).json()["response_status"]["messages"][0]["status_code"] == 4007
        for path in ("/requests", f"/requests/{made['id']}/worklogs", f"/requests/{made['id']}/notes"):
            assert person.get(path, params={"input_data": "{"}).json()["response_status"]["messages"][0]["field"] == "input_data"
