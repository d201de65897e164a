"""Freshservice's calls, against its sandbox over real sockets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
import pytest

from plugins.api import (
    ApiError,
    FatalApiError,
    NewNote,
    NotFound,
    Priority,
    TicketChange,
    TicketChanges,
    TicketMetadata,
    TicketStatus,
    TicketType,
    ValidationRefused,
)
from plugins.conformance.builders import a_ticket
from plugins.conformance.pytest_plugin import ConformanceSuite
from plugins.conformance.receiver import Receiver
from plugins.freshservice.plugin import FreshservicePlugin
from plugins.http.client import ApiClient
from plugins.marker import note_marker
from plugins.sandbox.server import SandboxProcess
from schemas.ids import new_event_id


async def content(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(desk: FreshservicePlugin, receiver: Receiver) -> TicketMetadata:
    """The next delivery, verified and read."""
    delivery = await receiver.next()
    assert desk.validate_webhook(delivery)
    return desk.extract_metadata(delivery)


class TestFreshservice(ConformanceSuite):
    tool_type = "freshservice"

    @pytest.fixture
    async def desk(self, sandbox: SandboxProcess) -> AsyncIterator[FreshservicePlugin]:
        client = ApiClient()
        plugin = self.bound(sandbox, client)
        assert isinstance(plugin, FreshservicePlugin)
        yield plugin
        await client.aclose()

    @pytest.fixture
    async def person(self, sandbox: SandboxProcess) -> AsyncIterator[httpx.AsyncClient]:
        """Another agent, with a key of their own."""
        async with httpx.AsyncClient(base_url=sandbox.base_url, headers=sandbox.credentials["person"]["headers"]) as client:
            yield client

    @pytest.mark.parametrize(("type_", "prefix"), [(TicketType.PROBLEM, "PRB-"), (TicketType.CHANGE, "CHN-")])
    async def test_problems_and_changes_are_records_of_their_own(
        self, desk: FreshservicePlugin, sandbox: SandboxProcess, type_: TicketType, prefix: str
    ) -> None:
        """A change mirrored as an incident would pass by whoever approves changes."""
        asked = a_ticket(type=type_, custom_fields={"impact": 3, "Cost centre": "4711"})
        ref = await desk.create_ticket(asked)
        assert ref.ticket_id.startswith(prefix)
        read = await desk.get_ticket(ref.ticket_id)
        assert (read.ticket_id, read.type, read.status, read.priority) == (ref.ticket_id, type_, TicketStatus.OPEN, Priority.HIGH)
        assert read.custom_fields["cost_centre"] == "4711"
        assert await desk.find_by_external_id(asked.external_id) == ref
        event_id, marker = new_event_id(), note_marker(new_event_id(), 1)
        await desk.update_ticket(ref.ticket_id, TicketChanges(event_id=event_id, status=TicketStatus.CLOSED, type=TicketType.INCIDENT))
        read = await desk.get_ticket(ref.ticket_id)
        assert (read.status, read.type) == (TicketStatus.CLOSED, type_)
        assert await desk.has_update(ref.ticket_id, event_id)
        assert not await desk.has_update(ref.ticket_id, asked.event_id)
        await desk.add_note(ref.ticket_id, NewNote(text="done", marker=marker))
        assert await desk.has_note(ref.ticket_id, marker)
        file_id = await desk.add_attachment(ref.ticket_id, "plan.txt", "text/plain", content(b"step 1"))
        assert [a.attachment_id for a in await desk.list_attachments(ref.ticket_id)] == [file_id]
        assert b"".join([chunk async for chunk in desk.download_attachment(ref.ticket_id, file_id)]) == b"step 1"
        rows = [(row["kind"], row["marker"], row["external_id"]) for row in sandbox.ledger() if row["ticket_id"] == ref.ticket_id]
        effects = [("create", asked.event_id), ("update", event_id), ("note", marker), ("update", None)]
        assert rows == [(kind, mark, asked.external_id) for kind, mark in effects]

    async def test_a_release_is_made_by_name(self, desk: FreshservicePlugin) -> None:
        """No canonical type stands for one."""
        ref = await desk.create_release("Firmware 2.8", "For *all* readers", "aia-release-1", new_event_id())
        read = await desk.get_ticket(ref.ticket_id)
        assert (ref.ticket_id[:4], read.extra["record"]) == ("REL-", "release")
        assert (read.description, read.extra["external_id"]) == ("For all readers\n\n[aia-release-1]", "aia-release-1")
        assert await desk.find_by_external_id("aia-release-1") == ref

    async def test_a_ticket_keeps_its_number_whatever_prefix_it_is_shown_with(self, desk: FreshservicePlugin) -> None:
        """Webhooks say SR-12 and INC-12 of what the API calls 12."""
        ref = await desk.create_ticket(a_ticket(type=TicketType.REQUEST))
        for shown in (f"SR-{ref.ticket_id}", f"#INC-{ref.ticket_id}"):
            assert (await desk.get_ticket(shown)).ticket_id == ref.ticket_id

    async def test_a_note_says_each_time_who_may_read_it(self, desk: FreshservicePlugin, person: httpx.AsyncClient) -> None:
        """The tool's default may change; a customer must not read what is meant for agents."""
        ref = await desk.create_ticket(a_ticket())
        for public in (False, True):
            await desk.add_note(ref.ticket_id, NewNote(text="x", marker=note_marker(new_event_id(), 1), public=public))
        await desk.add_attachment(ref.ticket_id, "a.txt", "text/plain", content(b"x"))
        notes = (await person.get(f"/api/v2/tickets/{ref.ticket_id}/conversations")).json()["conversations"]
        assert [note["private"] for note in notes] == [True, False, True]

    async def test_files_come_back_byte_for_byte(self, desk: FreshservicePlugin, person: httpx.AsyncClient) -> None:
        """Those people put on the ticket and those in notes, oldest first; their addresses are signed anew each time."""
        ref = await desk.create_ticket(a_ticket())
        form = {"attachments[]": ("first.txt", b"by hand", "text/plain")}
        assert (await person.put(f"/api/v2/tickets/{ref.ticket_id}", files=form)).status_code == 200
        data = bytes(range(256)) * 400
        file_id = await desk.add_attachment(ref.ticket_id, "gauge é.bin", "application/x-raw", content(data[:1000], data[1000:]))
        listed = await desk.list_attachments(ref.ticket_id)
        assert [(a.filename, a.content_type, a.size) for a in listed] == [
            ("first.txt", "text/plain", 7),
            ("gauge é.bin", "application/x-raw", len(data)),
        ]
        assert b"".join([chunk async for chunk in desk.download_attachment(ref.ticket_id, file_id)]) == data
        assert b"".join([chunk async for chunk in desk.download_attachment(ref.ticket_id, listed[0].attachment_id)]) == b"by hand"
        with pytest.raises(NotFound):
            async with aclosing(desk.download_attachment(ref.ticket_id, "1")) as chunks:  # type: ignore[type-var]  # a generator
                await anext(chunks)

    async def test_a_file_too_large_is_given_up(self, desk: FreshservicePlugin, monkeypatch: pytest.MonkeyPatch) -> None:
        """Somebody's backup must not fill our memory, nor the ticket."""
        monkeypatch.setattr("plugins.freshservice.plugin.MAX_FILE", 10)
        ref = await desk.create_ticket(a_ticket())
        with pytest.raises(ApiError):
            await desk.add_attachment(ref.ticket_id, "a.bin", "", content(b"x" * 8, b"x" * 8))
        assert await desk.list_attachments(ref.ticket_id) == []
        monkeypatch.setattr("plugins.freshservice.plugin.MAX_FILE", 100)
        file_id = await desk.add_attachment(ref.ticket_id, "a.bin", "", content(b"x" * 50))
        monkeypatch.setattr("plugins.freshservice.plugin.MAX_FILE", 10)
        with pytest.raises(FatalApiError, match="10 bytes"):
            assert [chunk async for chunk in desk.download_attachment(ref.ticket_id, file_id)]

    async def test_linked_assets_are_told_with_the_fields_of_their_type(self, desk: FreshservicePlugin) -> None:
        """Who opens the note wants the serial number, not a number of ours."""
        linked = a_ticket(custom_fields={"assets": [{"display_id": 1}, {"display_id": 2}]})
        ref = await desk.create_ticket(linked)
        context = await desk.device_context(await desk.get_ticket(ref.ticket_id))
        assert context is not None
        laptop, printer = context.items
        assert (laptop.item_id, laptop.name, laptop.kind, laptop.status) == ("1", "LT-0417", "Notebook 14", "In Use")
        assert (laptop.attributes["serial_number"], laptop.attributes["asset_tag"]) == ("SN-7F3A-0417", "ASSET-1")
        assert printer.name == "PR-0003"
        none = await desk.create_ticket(a_ticket())
        assert await desk.device_context(await desk.get_ticket(none.ticket_id)) is None

    async def test_a_change_names_the_services_it_touches(self, desk: FreshservicePlugin) -> None:
        """They are part of the change itself."""
        ref = await desk.create_ticket(a_ticket(type=TicketType.CHANGE, custom_fields={"impacted_services": [{"name": "Badge doors"}]}))
        context = await desk.device_context(TicketMetadata(tenant_id="acme", ticket_id=ref.ticket_id))
        assert context is not None
        assert (context.items, context.services) == ((), ("Badge doors",))

    async def test_the_clocks_on_a_ticket_are_told(self, desk: FreshservicePlugin) -> None:
        """First response and resolution, each with its due time, and what became of it."""
        ref = await desk.create_ticket(a_ticket())
        created = await desk.get_ticket(ref.ticket_id)
        first, last = await desk.sla_targets(ref.ticket_id)
        assert (first.name, last.name) == ("first response", "resolution")
        assert last.due_at == created.sla_due_at
        assert first.due_at == created.extra["fr_due_at"]
        assert not (first.breached or last.breached or first.paused or last.completed_at)
        await desk.update_ticket(ref.ticket_id, TicketChanges(event_id=new_event_id(), status=TicketStatus.PENDING))
        assert [target.paused for target in await desk.sla_targets(ref.ticket_id)] == [True, True]
        await desk.update_ticket(ref.ticket_id, TicketChanges(event_id=new_event_id(), status=TicketStatus.RESOLVED))
        assert (await desk.sla_targets(ref.ticket_id))[1].completed_at is not None

    async def test_who_has_to_approve_a_request_is_told(self, desk: FreshservicePlugin) -> None:
        """Who waits for what is the first thing asked of a request that stands still."""
        request = await desk.create_ticket(a_ticket(type=TicketType.REQUEST))
        (approval,) = await desk.approvals(request.ticket_id)
        assert (approval["approver"], approval["status"]) == ("Ada Agent", "requested")
        incident, change = await desk.create_ticket(a_ticket()), await desk.create_ticket(a_ticket(type=TicketType.CHANGE))
        assert await desk.approvals(incident.ticket_id) == []
        assert await desk.approvals(change.ticket_id) == [{"status": "not requested"}]

    async def test_an_access_token_is_fetched_once_for_many_calls_and_again_when_refused(
        self, desk: FreshservicePlugin, sandbox: SandboxProcess
    ) -> None:
        """OAuth in place of a key: a stampede of refreshes would end each other's tokens."""
        client = ApiClient()
        auth = {**sandbox.credentials["person"]["oauth"], "token_url": f"{sandbox.base_url}/oauth/token"}
        plugin = self.bound(sandbox, client, auth=auth)
        refs = [(await desk.create_ticket(a_ticket())).ticket_id for _ in range(10)]
        results = [result async for result in plugin.get_ticket_batch(refs)]
        assert all(result.error is None for result in results)
        other = self.bound(sandbox, client, auth=auth)
        assert (await other.get_ticket(refs[0])).ticket_id == refs[0]  # its token ends the first one's
        assert (await plugin.get_ticket(refs[0])).ticket_id == refs[0]
        wrong = self.bound(sandbox, client, auth={**auth, "refresh_token": "wrong"})
        assert not (await wrong.health_check()).ok
        await client.aclose()

    async def test_people_are_found_by_address_and_name(self, desk: FreshservicePlugin) -> None:
        """Agents and requesters are two lists in the tool."""
        assert [(p.name, p.email) for p in await desk.find_people("ada@desk.example")] == [("Ada Agent", "ada@desk.example")]
        assert [p.email for p in await desk.find_people("cora@customer.example")] == ["cora@customer.example"]
        assert [p.email for p in await desk.find_people("cora")] == ["cora@customer.example"]
        assert await desk.find_people("nobody@desk.example") == []
        assert await desk.find_people(" ") == []

    async def test_a_workspace_is_written_to_and_searched(self, desk: FreshservicePlugin, sandbox: SandboxProcess) -> None:
        """Without its number the tool writes to the primary one, and finds nothing elsewhere."""
        client, asked = ApiClient(), a_ticket()
        facilities = self.bound(sandbox, client, workspace_id=3)
        ref = await facilities.create_ticket(asked)
        assert (await facilities.get_ticket(ref.ticket_id)).extra["workspace_id"] == "3"
        assert await facilities.find_by_external_id(asked.external_id) == ref
        assert await desk.find_by_external_id(asked.external_id) is None
        assert (await facilities.health_check()).ok
        assert "workspace 9" in (await self.bound(sandbox, client, workspace_id=9).health_check()).detail
        with pytest.raises(ValidationRefused, match="workspace_id"):
            await self.bound(sandbox, client, workspace_id=9).create_ticket(a_ticket())
        await client.aclose()

    async def test_a_batch_is_at_least_five_times_quicker_than_one_by_one(self, desk: FreshservicePlugin, sandbox: SandboxProcess) -> None:
        """There is no bulk call: what there is, is calls side by side. A tenth of a second stands for the tool's latency."""
        refs = [(await desk.create_ticket(a_ticket())).ticket_id for _ in range(24)]
        changes = {ref: TicketChanges(event_id=new_event_id(), priority=Priority.LOW) for ref in refs}
        sandbox.fault(delay=0.1, times=24, method="PUT")
        began = time.perf_counter()
        results = await desk.batch_update_tickets(changes)
        took = time.perf_counter() - began
        assert {r.ticket_id for r in results if r.error is None} == set(refs)
        assert took < 24 * 0.1 / 5

    @pytest.mark.parametrize("kind", ["simple", "unquoted", "app", "template"])
    async def test_each_body_a_rule_may_have_is_read(
        self, desk: FreshservicePlugin, sandbox: SandboxProcess, receiver: Receiver, kind: str
    ) -> None:
        """Simple mode, a template without quotes, an app, and the recommended template."""
        sandbox._control("POST", "/_webhook", {"url": receiver.url, "kind": kind})
        ticket_id = sandbox.person_creates(subject="Gate 5 stays open", priority="high", type="incident")
        created = await read(desk, receiver)
        sandbox.person_updates(ticket_id, status="pending")
        updated = await read(desk, receiver)
        assert (created.ticket_id, created.subject, created.priority) == (ticket_id, "Gate 5 stays open", Priority.HIGH)
        assert (updated.ticket_id, updated.status, updated.change) == (ticket_id, TicketStatus.PENDING, TicketChange.UPDATED)
        assert created.change is (TicketChange.UPDATED if kind == "simple" else TicketChange.CREATED)

    async def test_what_people_write_breaks_the_template_and_is_read_all_the_same(
        self, desk: FreshservicePlugin, sandbox: SandboxProcess, receiver: Receiver
    ) -> None:
        """Placeholders are pasted as text: quotes and newlines of a subject end up in the JSON as they are."""
        subject, text = 'The "big" door, hall 2', 'It says "locked",\n\nbut it is not. C:\\doors'
        ticket_id = sandbox.person_creates(subject=subject, description=text)
        created = await read(desk, receiver)
        assert (created.ticket_id, created.subject) == (ticket_id, subject)
        assert 'says "locked"' in created.description and "is not" in created.description

    async def test_a_change_comes_back_under_its_own_id(
        self, desk: FreshservicePlugin, sandbox: SandboxProcess, receiver: Receiver
    ) -> None:
        """Echoes of changes are known as those of tickets are."""
        ref = await desk.create_ticket(a_ticket(type=TicketType.CHANGE))
        created = await read(desk, receiver)
        assert (created.ticket_id, created.type, desk.is_own_actor(created)) == (ref.ticket_id, TicketType.CHANGE, True)
        sandbox.person_updates(ref.ticket_id, comment="Approved by the board")
        noted = await read(desk, receiver)
        assert (noted.ticket_id, noted.change) == (ref.ticket_id, TicketChange.COMMENTED)
