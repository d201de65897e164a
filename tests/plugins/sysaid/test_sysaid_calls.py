"""SysAid's calls, against its sandbox over real sockets: both APIs, and what is special about their records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from plugins.api import (
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
from plugins.conformance.pytest_plugin import ConformanceSuite
from plugins.http.client import ApiClient
from plugins.marker import note_marker
from plugins.sandbox.server import SandboxProcess
from plugins.sysaid.plugin import SysAidPlugin
from schemas.ids import new_event_id
from tests.plugins.sandbox_thread import SandboxThread

LAPTOP = "0A-3E-E9-13-2B-E4"
BOTH = pytest.mark.parametrize("api", ["classic", "developers"])


class TestSysAid(ConformanceSuite):
    tool_type = "sysaid"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxThread("sysaid") as running:
        yield running


@pytest.fixture(autouse=True)
def calm(sandbox: SandboxProcess) -> Iterator[None]:
    yield
    sandbox.clear_faults()


@asynccontextmanager
async def connected(sandbox: SandboxProcess, **settings: Any) -> AsyncIterator[SysAidPlugin]:
    auth = sandbox.credentials["developers_auth" if settings.get("api") == "developers" else "auth"]
    known = {"base_url": sandbox.base_url, "auth": auth, "webhook": sandbox.webhook, "actor": sandbox.credentials["actor"], **settings}
    client = ApiClient()
    context = PluginContext(tenant="acme", tool="desk", settings=known, secrets=lambda r: [r.encode()], http=lambda: client)
    yield SysAidPlugin(context)
    await client.aclose()


def changes(**fields: Any) -> TicketChanges:
    return TicketChanges(event_id=new_event_id(), **fields)


# --- both APIs -------------------------------------------------------------------------------------------------------------


@BOTH
async def test_a_records_life_over_either_api(sandbox: SandboxProcess, api: str) -> None:
    """The newer API differs in who we are and in the version it wants back, not in what a caller sees."""
    async with connected(sandbox, api=api) as plugin:
        assert (await plugin.health_check()).ok
        ref = await plugin.create_ticket(asked := a_ticket(type=TicketType.CHANGE))
        ticket = await plugin.get_ticket(ref.ticket_id)
        assert (ticket.type, ticket.priority, ticket.extra["external_id"]) == (TicketType.CHANGE, Priority.HIGH, asked.external_id)
        assert ticket.created_at is not None and ticket.sla_due_at is not None
        update = changes(status=TicketStatus.PENDING, priority=Priority.URGENT)
        await plugin.update_ticket(ref.ticket_id, update)
        assert await plugin.has_update(ref.ticket_id, update.event_id)
        marker = note_marker(new_event_id(), 1)
        await plugin.add_note(ref.ticket_id, NewNote(text="looked", marker=marker))
        assert await plugin.has_note(ref.ticket_id, marker)
        found = await plugin.find_by_external_id(asked.external_id)
        assert found is not None and found.ticket_id == ref.ticket_id
        batch = {r.ticket_id: r async for r in plugin.get_ticket_batch([ref.ticket_id, "99999999", "no number"])}
        assert batch[ref.ticket_id].ticket is not None and isinstance(batch["no number"].error, NotFound)


@BOTH
async def test_a_session_that_ended_is_opened_again_and_the_call_repeated(sandbox: SandboxProcess, api: str) -> None:
    """An idle session ends by the server's own clock."""
    async with connected(sandbox, api=api) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        sandbox.fault(status=401)
        assert (await plugin.get_ticket(ref.ticket_id)).ticket_id == ref.ticket_id


@BOTH
async def test_files_go_up_and_come_down_unchanged(sandbox: SandboxProcess, api: str) -> None:
    """Bytes are bytes, whatever they look like."""

    async def chunks() -> AsyncIterator[bytes]:
        for part in (b"\x00\xff", b"\r\n--x\r\n", b"<html>"):
            yield part

    async with connected(sandbox, api=api) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        file_id = await plugin.add_attachment(ref.ticket_id, "trace é.html", "text/html", chunks())
        (file,) = await plugin.list_attachments(ref.ticket_id)
        assert (file.attachment_id, file.filename, file.size) == (file_id, "trace é.html", 15)
        assert b"".join([part async for part in plugin.download_attachment(ref.ticket_id, file_id)]) == b"\x00\xff\r\n--x\r\n<html>"
        with pytest.raises(NotFound):
            _ = [part async for part in plugin.download_attachment(ref.ticket_id, "nothing")]


async def test_an_update_somebody_was_quicker_than_is_made_again(sandbox: SandboxProcess) -> None:
    """The newer API locks by version: read, write with it, and once more when it was stale."""
    async with connected(sandbox, api="developers") as plugin:
        ref = await plugin.create_ticket(a_ticket())
        sandbox.fault(status=409, method="PUT", times=2)
        await plugin.update_ticket(ref.ticket_id, changes(subject="third time"))
        assert (await plugin.get_ticket(ref.ticket_id)).subject == "third time"


async def test_paths_of_the_newer_api_can_be_replaced(sandbox: SandboxProcess) -> None:
    """The manual shows us few of them; a tenant's developer page shows all."""
    async with connected(sandbox, api="developers", paths={"record": "/v1/elsewhere/{id}"}) as plugin:
        with pytest.raises(NotFound, match="/v1/elsewhere/1"):
            await plugin.get_ticket("1")


# --- sessions --------------------------------------------------------------------------------------------------------------


async def test_many_first_calls_share_one_login(sandbox: SandboxProcess) -> None:
    """Two logins in five minutes are all an account has."""
    async with connected(sandbox) as plugin:
        sandbox.fault(status=429, path="/api/v1/login", times=1)
        outcomes = await asyncio.gather(*(plugin.get_ticket("101") for _ in range(20)), return_exceptions=True)
        assert all(isinstance(outcome, RateLimited) for outcome in outcomes)
        with pytest.raises(RateLimited) as caught:
            await plugin.get_ticket("101")
        assert caught.value.retry_after is not None and 200 < caught.value.retry_after <= 300


async def test_settings_that_cannot_work_are_named(sandbox: SandboxProcess) -> None:
    """Before anything is sent."""
    for settings, text in (
        ({"api": "soap"}, "classic or developers"),
        ({"base_url": ""}, "base_url"),
        ({"auth": {"user_name": "x"}}, "password"),
        ({"api": "developers", "auth": {}}, "client_id"),
    ):
        async with connected(sandbox, **settings) as plugin:
            health = await plugin.health_check()
            assert not health.ok and text in health.detail
            with pytest.raises(PluginConfigError, match=text):
                await plugin.get_ticket("1")


# --- records ---------------------------------------------------------------------------------------------------------------


async def test_the_accounts_own_status_codes_are_used(sandbox: SandboxProcess) -> None:
    """Only code 1 is the same everywhere: the others come from the account's list, or from the tenant."""
    async with connected(sandbox, codes={"status": {"closed": "8"}, "priority": {"low": "4"}}) as plugin:
        ref = await plugin.create_ticket(a_ticket(status=TicketStatus.RESOLVED))
        assert (await plugin.get_ticket(ref.ticket_id)).status is TicketStatus.RESOLVED
        await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.CLOSED, priority=Priority.LOW))
        ticket = await plugin.get_ticket(ref.ticket_id)
        assert (ticket.status, ticket.priority) == (TicketStatus.CLOSED, Priority.MEDIUM)


async def test_custom_fields_are_written_by_key_by_caption_and_by_our_name(sandbox: SandboxProcess) -> None:
    """People know "Building", the API knows cust_text3."""
    async with connected(sandbox, custom_fields={"Gate": "cust_list1"}) as plugin:
        ref = await plugin.create_ticket(a_ticket(custom_fields={"building": "Yard 2", "cust_notes": "call first", "Gate": 7}))
        fields = (await plugin.get_ticket(ref.ticket_id)).custom_fields
        assert (fields["cust_text3"], fields["cust_notes"], fields["cust_list1"]) == ("Yard 2", "call first", "7")
        with pytest.raises(ValidationRefused, match="Floor"):
            await plugin.update_ticket(ref.ticket_id, changes(custom_fields={"Floor": 2}))


async def test_a_field_that_is_dropped_in_silence_is_noticed(sandbox: SandboxProcess) -> None:
    """SysAid answers 200 to a write it did not keep; without our ids nothing could be found again."""
    async with connected(sandbox, event_field="insert_time") as plugin:
        ref = (await plugin.create_ticket(a_ticket())).ticket_id
        with pytest.raises(FatalApiError, match="insert_time"):
            await plugin.update_ticket(ref, changes(subject="x"))


async def test_a_public_note_is_mailed_and_kept(sandbox: SandboxProcess) -> None:
    """Notes are internal in SysAid: a requester hears of one by a message from the record."""
    async with connected(sandbox) as plugin:
        ticket_id = sandbox.person_creates(subject="Tell me")
        await plugin.add_note(ticket_id, NewNote(text="It is **on its way**", marker=note_marker(new_event_id(), 1), public=True))
        (note,) = await plugin.list_notes(ticket_id)
        assert note["text"].startswith("It is on its way") and note["author"] == "integration" and note["created_at"]


async def test_notes_are_not_lost_where_writing_replaces_them(sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some versions take the notes written for all there are; the first note of a connection finds that out."""
    async with connected(sandbox) as plugin:
        ref = (await plugin.create_ticket(a_ticket())).ticket_id
        update = plugin._api.update

        async def replacing(ticket_id: str, info: Any, version: Any = None) -> None:
            notes = info.get("notes")
            await update(ticket_id, {**info, "notes": [notes]} if isinstance(notes, dict) else info, version)

        monkeypatch.setattr(plugin._api, "update", replacing)
        markers = [note_marker(new_event_id(), 1) for _ in range(4)]
        for marker in markers:
            await plugin.add_note(ref, NewNote(text="one of four", marker=marker))
        assert [await plugin.has_note(ref, marker) for marker in markers] == [True] * 4
        assert len(await plugin.list_notes(ref)) == 4


async def test_work_is_logged_and_the_clock_is_shown(sandbox: SandboxProcess) -> None:
    """Activities need a user by number; the due date is the one clock SysAid tells."""
    async with connected(sandbox, activity_user="2") as plugin:
        ref = (await plugin.create_ticket(a_ticket())).ticket_id
        await plugin.add_activity(ref, "Drove there", minutes=25)
        (target,) = await plugin.sla_targets(ref)
        assert target.due_at is not None and not target.breached and target.completed_at is None
        await plugin.update_ticket(ref, changes(status=TicketStatus.CLOSED))
        (target,) = await plugin.sla_targets(ref)
        assert target.completed_at is not None
    async with connected(sandbox) as plugin:
        with pytest.raises(PluginConfigError, match="activity_user"):
            await plugin.add_activity(ref, "Drove there")


async def test_closing_what_is_closed_is_no_fault(sandbox: SandboxProcess) -> None:
    """400 "already closed" says that what was wanted is so."""
    async with connected(sandbox) as plugin:
        ref = (await plugin.create_ticket(a_ticket())).ticket_id
        await plugin._api.close(ref, "done")
        await plugin._api.close(ref, "done")
        assert (await plugin.get_ticket(ref)).status is TicketStatus.CLOSED
        with pytest.raises(NotFound):
            await plugin._api.close("99999999", "done")


async def test_a_batch_of_updates_is_five_times_faster_than_one_by_one(sandbox: SandboxProcess) -> None:
    """There is no bulk update; several at a time must make up for it."""
    async with connected(sandbox) as plugin:
        refs = [(await plugin.create_ticket(a_ticket())).ticket_id for _ in range(24)]
        sandbox.fault(delay=0.2, times=48)
        began = time.perf_counter()
        results = await plugin.batch_update_tickets({ref: changes(subject="swept") for ref in refs})
        took = time.perf_counter() - began
        assert [result.error for result in results] == [None] * 24 and took < 48 * 0.2 / 5


# --- assets and people -----------------------------------------------------------------------------------------------------


async def test_a_tickets_asset_is_shown_with_what_it_supports(sandbox: SandboxProcess) -> None:
    """An engineer reads the model, the place and the services before opening the tool."""
    async with connected(sandbox) as plugin:
        ticket = await plugin.get_ticket(sandbox.person_creates(subject="Gate PC is slow"))
        context = await plugin.device_context(ticket)
        assert context is not None
        (item,) = context.items
        assert (item.item_id, item.name, item.attributes["Location"]) == (LAPTOP, "GATE-PC-04", "Yard 2")
        assert [(r.kind, r.name) for r in item.relations] == [("supports", "Yard gate service")]
        assert [a.name for a in await plugin.list_assets()] == ["GATE-PC-04", "Yard phone"]
        assert [a.name for a in await plugin.list_assets("galaxy")] == ["Yard phone"]


async def test_an_asset_moves_through_its_life(sandbox: SandboxProcess) -> None:
    """Legal moves only, and only those the tool really made."""
    async with connected(sandbox, api="developers") as plugin:
        assert (await plugin.move_asset(LAPTOP, "in_use")).status == "In use"
        assert (await plugin.move_asset(LAPTOP, "in_use")).status == "In use"
        for wrong, text in (("disposed", "cannot become disposed"), ("parked", "is not one of")):
            with pytest.raises(ValidationRefused, match=text):
                await plugin.move_asset(LAPTOP, wrong)
        assert (await plugin.move_asset(LAPTOP, "in_stock")).status == "In stock"
        with pytest.raises(NotFound):
            await plugin.move_asset("no-such-asset", "in_use")


async def test_the_classic_api_says_that_it_writes_no_assets(sandbox: SandboxProcess) -> None:
    """Nobody should believe an asset was moved."""
    async with connected(sandbox) as plugin:
        with pytest.raises(FatalApiError, match="api: developers"):
            await plugin.move_asset(LAPTOP, "in_use")


async def test_without_a_directory_people_are_sysaids_own_users(sandbox: SandboxProcess) -> None:
    """Not every account has LDAP, and all have users."""
    async with connected(sandbox) as plugin:
        (cora,) = await plugin.find_people("cora")
        assert (cora.name, cora.email, cora.attributes["department"]) == ("Cora Customer", "cora@customer.example", "Yard")
        assert await plugin.find_people("c") == []
        ticket = await plugin.get_ticket(sandbox.person_creates(subject="Who am I?"))
        who = await plugin.requester_of(ticket)
        assert who is not None and who.email == "cora@customer.example"
