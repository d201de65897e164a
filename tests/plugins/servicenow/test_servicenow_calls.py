"""The plugin's calls over real sockets: against its sandbox in another process, and in this one where a test changes its state."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from plugins.api import (
    CallTimedOut,
    CredentialsRefused,
    Delivery,
    FatalApiError,
    NewNote,
    NewTicket,
    NotFound,
    PluginConfigError,
    PluginContext,
    Priority,
    ServerError,
    TicketChange,
    TicketChanges,
    TicketMetadata,
    TicketStatus,
    TicketType,
    ValidationRefused,
)
from plugins.capabilities import FindsPeople, TellsDevices, TellsSla
from plugins.http.client import ApiClient, Limits
from plugins.marker import note_marker
from plugins.sandbox.http import HttpServer, Request, Response, json_response, route
from plugins.sandbox.server import SandboxProcess
from plugins.servicenow.plugin import ServiceNowPlugin
from plugins.servicenow.sandbox import ServiceNowSandbox
from plugins.servicenow.sandbox_accounts import GUEST, OURS
from plugins.servicenow.sandbox_schema import a_sys_id
from schemas.ids import new_event_id

MISSING = "f" * 32


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("servicenow") as process:
        yield process


@pytest.fixture(autouse=True)
def calm(sandbox: SandboxProcess) -> None:
    sandbox.clear_faults()
    sandbox.fault(index_lag=0)


@pytest.fixture
async def here() -> AsyncIterator[ServiceNowSandbox]:
    """A sandbox in this process, whose state a test may change."""
    sandbox = ServiceNowSandbox()
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


@asynccontextmanager
async def connected(sandbox: SandboxProcess | ServiceNowSandbox, **settings: Any) -> AsyncIterator[ServiceNowPlugin]:
    client = ApiClient()
    told = {"base_url": sandbox.base_url, "auth": sandbox.credentials["auth"], "actor": OURS, "webhook": {"secret": "s3cret"}}
    context = PluginContext(
        tenant="acme", tool="snow", settings={**told, **settings}, secrets=lambda reference: [reference.encode()], http=lambda: client
    )
    yield ServiceNowPlugin(context)
    await client.aclose()


@asynccontextmanager
async def answering(*answers: Response) -> AsyncIterator[tuple[str, list[Request]]]:
    """A server that gives these answers in turn, the last one for ever."""
    seen: list[Request] = []

    async def answer(request: Request) -> Response:
        seen.append(request)
        return answers[min(len(seen), len(answers)) - 1]

    server = HttpServer(answer)
    yield f"http://127.0.0.1:{await server.start()}", seen
    await server.stop()


def a_ticket(**fields: Any) -> NewTicket:
    event_id = new_event_id()
    usual = {"subject": "Lift 2 stuck", "external_id": f"aia-{event_id}", "event_id": event_id, "type": TicketType.INCIDENT}
    return NewTicket(**{**usual, **fields})


def a_change(**fields: Any) -> TicketChanges:
    return TicketChanges(**{"event_id": new_event_id(), **fields})


# the life of a record ----------------------------------------------------------------------------------------------------


async def test_a_ticket_is_led_through_its_life(sandbox: SandboxProcess) -> None:
    """Each status through the states that lie between, what the policies want beside it, and its event found afterwards."""
    async with connected(sandbox) as plugin:
        ref = await plugin.create_ticket(a_ticket(priority=Priority.HIGH))
        for status in (TicketStatus.PENDING, TicketStatus.OPEN, TicketStatus.CLOSED):
            change = a_change(status=status, subject=f"now {status}")
            updated = await plugin.update_ticket(ref.ticket_id, change)
            ticket = await plugin.get_ticket(ref.ticket_id)
            assert (ticket.status, ticket.subject, ticket.priority) == (status, f"now {status}", Priority.HIGH)
            assert updated.updated_at == ticket.updated_at
            assert await plugin.has_update(ref.ticket_id, change.event_id)
        with pytest.raises(ValidationRefused, match="no way to open"):
            await plugin.update_ticket(ref.ticket_id, a_change(status=TicketStatus.OPEN))


@pytest.mark.parametrize(
    ("kind", "prefix", "states"),
    [
        (TicketType.CHANGE, "CHG", [TicketStatus.PENDING]),
        (TicketType.PROBLEM, "PRB", [TicketStatus.OPEN, TicketStatus.RESOLVED, TicketStatus.CLOSED]),
        (TicketType.REQUEST, "RITM", [TicketStatus.PENDING, TicketStatus.CLOSED]),
    ],
)
async def test_every_type_has_its_record(sandbox: SandboxProcess, kind: TicketType, prefix: str, states: list[TicketStatus]) -> None:
    """A ticket's id names a change, a problem or a requested item as well; so does its number."""
    async with connected(sandbox) as plugin:
        ref = await plugin.create_ticket(a_ticket(type=kind, priority=Priority.MEDIUM))
        ticket = await plugin.get_ticket(ref.ticket_id)
        number = str(ticket.extra["number"])
        assert (ticket.type, ticket.priority, number.startswith(prefix)) == (kind, Priority.MEDIUM, True)
        for status in states:
            await plugin.update_ticket(number, a_change(status=status))
            assert (await plugin.get_ticket(number)).status is status
        assert await plugin.add_note(number, NewNote(text="seen", marker=note_marker(new_event_id(), 1)))


async def test_a_change_waits_for_its_approval(here: ServiceNowSandbox) -> None:
    """The instance keeps an unapproved change where it is and answers 200: that is told, and once approved the move goes on."""
    async with connected(here) as plugin:
        ref = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
        change = a_change(status=TicketStatus.CLOSED)
        with pytest.raises(ValidationRefused, match="stays at state -3"):
            await plugin.update_ticket(ref.ticket_id, change)
        assert not await plugin.has_update(ref.ticket_id, change.event_id)
        row = here.records.any(ref.ticket_id)
        assert row is not None
        here.records.put({**row, "approval": "approved"})
        await plugin.update_ticket(ref.ticket_id, change)
        assert (await plugin.get_ticket(ref.ticket_id)).status is TicketStatus.CLOSED
        assert await plugin.has_update(ref.ticket_id, change.event_id)


async def test_custom_fields_are_written_by_column_and_by_label(sandbox: SandboxProcess) -> None:
    """People know a field by its name on the form, and a choice by its label."""
    async with connected(sandbox) as plugin:
        ref = await plugin.create_ticket(a_ticket(custom_fields={"Site": "Building Two", "u_floor": 3, "VIP": True}))
        assert {n: v for n, v in (await plugin.get_ticket(ref.ticket_id)).custom_fields.items() if v} == {
            "u_site": "b2",
            "u_floor": "3",
            "u_vip": "true",
        }
        await plugin.update_ticket(ref.ticket_id, a_change(custom_fields={"u_site": "b1"}))
        assert (await plugin.get_ticket(ref.ticket_id)).custom_fields["u_site"] == "b1"
        seen = len(sandbox.ledger())
        with pytest.raises(ValidationRefused, match="no field Colour"):
            await plugin.create_ticket(a_ticket(custom_fields={"Colour": "red"}))
        assert sandbox.ledger(seen) == []


async def test_a_closed_dictionary_lets_columns_pass_and_labels_not() -> None:
    """Most integration users may not read sys_dictionary: the answer to the write then shows whether a column exists."""
    nothing = json_response({"result": []})
    kept = {"sys_id": MISSING, "number": "INC0010001", "correlation_id": "aia-1", "correlation_display": "e", "short_description": "s"}
    ticket = NewTicket(subject="s", external_id="aia-1", event_id="e", custom_fields={"u_site": "b1"})
    for told, error in (({**kept, "u_site": "b1"}, None), (kept, "INC0010001 was written, but not: u_site")):
        async with answering(nothing, nothing, json_response({"result": told}, 201)) as (url, _), connected_to(url) as plugin:
            if error is None:
                assert (await plugin.create_ticket(ticket)).ticket_id == MISSING
            else:
                with pytest.raises(ValidationRefused, match=error):
                    await plugin.create_ticket(ticket)
    async with answering(nothing) as (url, seen), connected_to(url) as plugin:
        with pytest.raises(ValidationRefused, match="give columns, not labels"):
            await plugin.create_ticket(replace(ticket, custom_fields={"Site of the fault": "b1"}))
        assert all(request.method == "GET" for request in seen)


async def test_a_write_that_an_acl_drops_is_told(sandbox: SandboxProcess) -> None:
    """The answer says 200 and shows the column empty."""
    async with connected(sandbox) as plugin:
        with pytest.raises(ValidationRefused, match=r"INC\d+ was written, but not: u_sealed"):
            await plugin.create_ticket(a_ticket(custom_fields={"Sealed": "x"}))
    async with connected(sandbox, event_field="u_sealed") as plugin:
        with pytest.raises(FatalApiError, match="our id in u_sealed was dropped"):
            await plugin.create_ticket(a_ticket())


async def test_an_event_column_of_the_tenants_own_is_used(sandbox: SandboxProcess) -> None:
    """Where another integration owns correlation_display."""
    async with connected(sandbox, event_field="u_floor") as plugin:
        ref = await plugin.create_ticket(asked := a_ticket())
        change = a_change(subject="again")
        await plugin.update_ticket(ref.ticket_id, change)
        assert [await plugin.has_update(ref.ticket_id, e) for e in (asked.event_id, change.event_id, "other")] == [True, True, False]


async def test_a_ticket_is_found_by_our_id_and_only_by_the_whole_of_it(sandbox: SandboxProcess) -> None:
    """The one thing between us and a second ticket."""
    async with connected(sandbox) as plugin:
        ref = await plugin.create_ticket(asked := a_ticket())
        assert await plugin.find_by_external_id(asked.external_id) == ref
        assert await plugin.find_by_external_id(asked.external_id[:-1]) is None
        sandbox.fault(index_lag=60)
        made = await plugin.create_ticket(late := a_ticket())
        assert await plugin.find_by_external_id(late.external_id) is None
        await plugin.update_ticket(made.ticket_id, a_change(subject="found by its key"))
        assert [r.error async for r in plugin.get_ticket_batch([made.ticket_id])] == [None]


async def test_an_instance_that_drops_a_condition_finds_us_nothing() -> None:
    """A misspelt or closed column in a query is ignored: every record is answered, and none of them is ours."""
    others = [{"sys_id": "a" * 32, "number": "INC1", "correlation_id": "somebody-elses"}, {"sys_id": "b" * 32, "number": "INC2"}]
    async with answering(json_response({"result": others})) as (url, seen), connected_to(url) as plugin:
        assert await plugin.find_by_external_id("aia-1") is None
        assert "correlation_id%3Daia-1" in seen[0].query_string


@asynccontextmanager
async def connected_to(url: str, **settings: Any) -> AsyncIterator[ServiceNowPlugin]:
    client = ApiClient(limits=Limits(total=3.0))
    told = {"base_url": url, "auth": {"user": "u", "password": "p"}, "webhook": {"secret": "s"}, **settings}
    context = PluginContext(tenant="acme", tool="snow", settings=told, secrets=lambda reference: [reference.encode()], http=lambda: client)
    yield ServiceNowPlugin(context)
    await client.aclose()


# many at once ------------------------------------------------------------------------------------------------------------


async def test_a_batch_is_many_times_quicker_than_one_by_one(sandbox: SandboxProcess) -> None:
    """With the latency of a distant instance; every update applied, and each its own result."""
    async with connected(sandbox) as plugin:
        ids = [(await plugin.create_ticket(a_ticket(subject=f"t{n}"))).ticket_id for n in range(100)]
        sandbox.fault(delay=0.05, times=1_000)
        began = time.perf_counter()
        await plugin.update_ticket(ids[0], a_change(subject="alone"))
        alone = time.perf_counter() - began
        began = time.perf_counter()
        changes = {ticket_id: a_change(subject="swept", status=TicketStatus.RESOLVED) for ticket_id in [*ids, MISSING]}
        results = {result.ticket_id: result for result in await plugin.batch_update_tickets(changes)}
        together = time.perf_counter() - began
        sandbox.clear_faults()
        assert set(results) == {*ids, MISSING}
        assert isinstance(results[MISSING].error, NotFound)
        assert [i for i in ids if results[i].error is not None] == []
        assert together < 100 * alone / 5
        read = [result async for result in plugin.get_ticket_batch([*ids, MISSING])]
        assert {r.ticket.status for r in read if isinstance(r.ticket, TicketMetadata)} == {TicketStatus.RESOLVED}
        assert sum(isinstance(r.error, NotFound) for r in read) == 1
        assert all([await plugin.has_update(i, changes[i].event_id) for i in ids[:3]])


async def test_a_batch_holds_records_of_every_table_and_each_failure_is_its_own(sandbox: SandboxProcess) -> None:
    """One refused move stops no other, and a move after a refused one is never sent."""
    async with connected(sandbox) as plugin:
        incident, change, problem = [
            (await plugin.create_ticket(a_ticket(type=kind))).ticket_id
            for kind in (TicketType.INCIDENT, TicketType.CHANGE, TicketType.PROBLEM)
        ]
        changes = {i: a_change(status=TicketStatus.CLOSED) for i in (incident, change, problem)}
        results = {r.ticket_id: r for r in await plugin.batch_update_tickets(changes)}
        assert (results[incident].error, results[problem].error) == (None, None)
        assert isinstance(results[change].error, ValidationRefused)
        read = {r.ticket_id: r.ticket async for r in plugin.get_ticket_batch([incident, change, problem])}
        types = {i: (t.type, t.status) for i, t in read.items() if t is not None and isinstance(t, TicketMetadata)}
        assert types == {
            incident: (TicketType.INCIDENT, TicketStatus.CLOSED),
            change: (TicketType.CHANGE, TicketStatus.PENDING),
            problem: (TicketType.PROBLEM, TicketStatus.CLOSED),
        }


async def test_what_a_batch_had_no_time_for_is_sent_again(here: ServiceNowSandbox) -> None:
    """The ids come back as unserviced; each update happens once."""
    async with connected(here) as plugin:
        ids = [(await plugin.create_ticket(a_ticket())).ticket_id for _ in range(12)]
        here.keys.put("batch_room", 5)
        seen = len(here.ledger.rows())
        results = await plugin.batch_update_tickets({i: a_change(subject="swept") for i in ids})
        assert [r.error for r in results] == [None] * 12
        assert sorted(row["ticket_id"] for row in here.ledger.rows(seen)) == sorted(ids)
        here.keys.put("batch_room", 1)
        results = await plugin.batch_update_tickets({i: a_change(subject="again") for i in ids})
        left = [r.error for r in results if r.error is not None]
        assert left and all(isinstance(error, CallTimedOut) and error.in_doubt for error in left)


class CutShort(ServiceNowSandbox):
    """Carries out every request of a batch, and runs out of time before it can say so of the last half."""

    @route("POST", "/api/now/batch")
    def batch(self, request: Request) -> Response:
        answer = json.loads(super().batch(request).body)
        half = len(answer["serviced_requests"]) // 2
        left = answer["serviced_requests"][half:] if half else []
        kept = answer["serviced_requests"][:half] or answer["serviced_requests"]
        return json_response({**answer, "serviced_requests": kept, "unserviced_requests": [item["id"] for item in left]})


async def test_what_a_batch_did_before_it_was_cut_is_not_done_again() -> None:
    """Unserviced does not mean undone: the event column says which it was."""
    sandbox = CutShort()
    await sandbox.start()
    async with connected(sandbox) as plugin:
        ids = [(await plugin.create_ticket(a_ticket())).ticket_id for _ in range(6)]
        seen = len(sandbox.ledger.rows())
        results = await plugin.batch_update_tickets({i: a_change(subject="swept") for i in ids})
        assert [r.error for r in results] == [None] * 6
        assert sorted(row["ticket_id"] for row in sandbox.ledger.rows(seen)) == sorted(ids)
    await sandbox.stop()


async def test_a_batch_whose_records_cannot_be_looked_up_fails_as_a_whole(sandbox: SandboxProcess) -> None:
    """Nothing was written, and each item says why."""
    async with connected(sandbox) as plugin:
        ids = [(await plugin.create_ticket(a_ticket())).ticket_id for _ in range(3)]
        seen = len(sandbox.ledger())
        sandbox.fault(status=500, path="/api/now/v2/table/task", times=9)
        results = await plugin.batch_update_tickets({i: a_change(subject="swept") for i in ids})
        assert all(isinstance(r.error, ServerError) for r in results) and sandbox.ledger(seen) == []


async def test_a_field_there_is_not_fails_its_own_item_alone(sandbox: SandboxProcess) -> None:
    """One odd mapping must not hold up a hundred tickets."""
    async with connected(sandbox) as plugin:
        first, second = [(await plugin.create_ticket(a_ticket())).ticket_id for _ in range(2)]
        changes = {first: a_change(custom_fields={"Colour": "red"}), second: a_change(custom_fields={"Site": "Building One"})}
        results = {r.ticket_id: r.error for r in await plugin.batch_update_tickets(changes)}
        assert isinstance(results[first], ValidationRefused) and results[second] is None


async def test_many_are_read_where_a_batch_has_no_time_or_is_closed(here: ServiceNowSandbox) -> None:
    """A listing left out is no proof that its records are gone."""
    async with connected(here) as plugin:
        ids = [
            (await plugin.create_ticket(a_ticket(type=kind))).ticket_id for kind in (TicketType.INCIDENT, TicketType.CHANGE) for _ in "ab"
        ]
        here.keys.put("batch_room", 1)
        assert {r.ticket_id: r.error async for r in plugin.get_ticket_batch(ids)} == dict.fromkeys(ids)
        here.faults.arm(b'{"status": 403, "path": "/api/now/v1/batch"}')
        assert {r.ticket_id: r.error async for r in plugin.get_ticket_batch(ids)} == dict.fromkeys(ids)
        here.faults.arm(b'{"status": 500, "path": "/api/now/v1/batch", "times": 9}')
        assert all([isinstance(r.error, ServerError) async for r in plugin.get_ticket_batch(ids)])


async def test_without_a_batch_api_updates_go_side_by_side(sandbox: SandboxProcess) -> None:
    """An ACL on the batch endpoint must not mean an hour of waiting."""
    async with connected(sandbox) as plugin:
        ids = [(await plugin.create_ticket(a_ticket())).ticket_id for _ in range(10)]
        sandbox.fault(status=403, path="/api/now/v1/batch", times=10)
        results = await plugin.batch_update_tickets({i: a_change(subject="swept") for i in ids})
        assert [r.error for r in results] == [None] * 10
        assert (await plugin.get_ticket(ids[-1])).subject == "swept"


async def test_a_batch_that_breaks_leaves_doubt_for_all_of_it(sandbox: SandboxProcess) -> None:
    """Each of them may have been written: the caller searches before it repeats."""
    async with connected(sandbox) as plugin:
        ids = [(await plugin.create_ticket(a_ticket())).ticket_id for _ in range(2)]
        sandbox.fault(reset=True, path="/api/now/v1/batch")
        changes = {i: a_change(subject="swept") for i in ids}
        results = await plugin.batch_update_tickets(changes)
        assert all(r.error is not None and r.error.in_doubt for r in results)
        assert all([await plugin.has_update(i, changes[i].event_id) for i in ids])


# notes and files ---------------------------------------------------------------------------------------------------------


async def test_a_note_is_internal_unless_it_is_meant_for_the_caller(here: ServiceNowSandbox) -> None:
    """work_notes are the engineers' own; comments are sent to the caller by e-mail."""
    async with connected(here) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        for public, element in ((False, "work_notes"), (True, "comments")):
            marker = note_marker(new_event_id(), 1)
            entry = await plugin.add_note(ref.ticket_id, NewNote(text="See *this*", marker=marker, public=public))
            row = here.records.any(entry)
            assert row is not None and row["element"] == element and row["value"] == f"See this\n\n{marker}"
            assert await plugin.has_note(ref.ticket_id, marker)
        assert not await plugin.has_note(ref.ticket_id, note_marker(new_event_id(), 1))


async def test_a_note_that_an_acl_swallows_is_told() -> None:
    """The instance answers 200 whether or not the note was kept."""
    record = json_response({"result": {"sys_id": MISSING, "work_notes": ""}})
    where = json_response({"result": [{"sys_id": MISSING, "sys_class_name": "incident", "number": "INC0010001", "state": "1"}]})
    async with answering(where, record, json_response({"result": []})) as (url, seen), connected_to(url) as plugin:
        with pytest.raises(ValidationRefused, match="may not write work_notes of incident"):
            await plugin.add_note(MISSING, NewNote(text="x", marker=note_marker(new_event_id(), 1)))
        assert [request.method for request in seen] == ["GET", "PATCH", "GET"]


async def test_a_closed_journal_does_not_hide_a_note(sandbox: SandboxProcess) -> None:
    """sys_journal_field is closed to most accounts; the record's own field shows every entry."""
    async with connected(sandbox, rich_notes=True) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        marker = note_marker(new_event_id(), 1)
        sandbox.fault(status=403, path="/api/now/v2/table/sys_journal_field", times=20)
        assert await plugin.add_note(ref.ticket_id, NewNote(text="**bold**", marker=marker)) == marker
        assert await plugin.has_note(ref.ticket_id, marker)
        assert not await plugin.has_note(ref.ticket_id, note_marker(new_event_id(), 1))


async def test_a_file_goes_up_and_comes_down_unchanged(sandbox: SandboxProcess) -> None:
    """Streamed both ways, and only from the ticket it is on."""
    content = bytes(range(256)) * 2_000

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 100_000):
            yield content[start : start + 100_000]

    async with connected(sandbox) as plugin:
        ref, other = await plugin.create_ticket(a_ticket()), await plugin.create_ticket(a_ticket())
        attachment_id = await plugin.add_attachment(ref.ticket_id, "Störung 7.bin", "application/x-trace", chunks())
        (listed,) = await plugin.list_attachments(ref.ticket_id)
        assert (listed.attachment_id, listed.filename, listed.content_type, listed.size) == (
            attachment_id,
            "Störung 7.bin",
            "application/x-trace",
            len(content),
        )
        assert b"".join([chunk async for chunk in plugin.download_attachment(ref.ticket_id, attachment_id)]) == content
        with pytest.raises(NotFound):
            _ = [chunk async for chunk in plugin.download_attachment(other.ticket_id, attachment_id)]
    async with connected(sandbox, max_attachment_bytes=1_000) as plugin:
        with pytest.raises(FatalApiError):
            await plugin.add_attachment(ref.ticket_id, "large.bin", "application/x-trace", chunks())
        with pytest.raises(FatalApiError):
            _ = [chunk async for chunk in plugin.download_attachment(ref.ticket_id, attachment_id)]


async def test_a_file_the_scan_holds_back_is_not_read(here: ServiceNowSandbox) -> None:
    """`pending` may end as a virus."""

    async def content() -> AsyncIterator[bytes]:
        yield b"x"

    async with connected(here) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        attachment_id = await plugin.add_attachment(ref.ticket_id, "a.txt", "text/plain", content())
        row = here.records.any(attachment_id)
        assert row is not None
        here.records.put({**row, "state": "pending"})
        with pytest.raises(ValidationRefused, match="is pending"):
            _ = [chunk async for chunk in plugin.download_attachment(ref.ticket_id, attachment_id)]


# capabilities ------------------------------------------------------------------------------------------------------------


async def test_what_a_ticket_is_about_comes_with_its_relations_and_the_services_above(here: ServiceNowSandbox) -> None:
    """An engineer who sees `web-07` wants to know that the shop hangs on it."""
    web, database = a_sys_id("cmdb_ci", "web"), a_sys_id("cmdb_ci", "database")
    async with connected(here) as plugin:
        assert isinstance(plugin, TellsDevices)
        ref = await plugin.create_ticket(a_ticket(custom_fields={"cmdb_ci": web}))
        here.seed("task_ci", {"task": ref.ticket_id, "ci_item": database})
        context = await plugin.device_context(await plugin.get_ticket(ref.ticket_id))
        assert context is not None
        first, second = context.items
        assert (first.item_id, first.name, first.kind, first.status) == (web, "web-07", "Linux Server", "operational")
        assert first.attributes == {"serial_number": "SN-4711", "ip_address": "192.0.2.7"}
        assert {(r.kind, r.name) for r in first.relations} == {("Depends on", "orders-db"), ("Runs", "Checkout")}
        assert (second.name, {(r.kind, r.name) for r in second.relations}) == ("orders-db", {("Used by", "web-07")})
        assert context.services == ("Checkout", "Online shop")
        whole = await plugin.configuration_item("cmdb_ci_linux_server", web)
        assert (whole.name, whole.attributes["os"], whole.status) == ("web-07", "Linux", "operational")
        assert ("Runs", "Checkout") in {(r.kind, r.name) for r in whole.relations}
        with pytest.raises(NotFound):
            await plugin.configuration_item("cmdb_ci_database", web)


async def test_a_ticket_about_nothing_has_no_context(here: ServiceNowSandbox) -> None:
    """No note is written about it; a service alone is worth one."""
    async with connected(here) as plugin:
        bare = await plugin.create_ticket(a_ticket())
        assert await plugin.device_context(await plugin.get_ticket(bare.ticket_id)) is None
        shop = await plugin.create_ticket(a_ticket(custom_fields={"business_service": a_sys_id("cmdb_ci", "shop")}))
        context = await plugin.device_context(await plugin.get_ticket(shop.ticket_id))
        assert context is not None and (context.items, context.services) == ((), ("Online shop",))


async def test_another_tools_name_for_a_device_finds_the_item(here: ServiceNowSandbox) -> None:
    """`enrich` asks about the linked ticket with what the source called its device; a name that half the CMDB bears says nothing."""
    for n in range(5):
        here.seed("cmdb_ci_server", {"name": "localhost", "serial_number": f"L{n}"})
    async with connected(here) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        ticket = await plugin.get_ticket(ref.ticket_id)
        for device, names in (
            ({"id": "4711", "name": "web-07"}, ["web-07"]),
            ({"serial_number": "SN-4711"}, ["web-07"]),
            ({"name": "localhost"}, []),
            ({"name": "localhost", "serialNumber": "L3"}, ["localhost"]),
            ({"name": "nobody's^ORname=web-07"}, []),
            ({"name": "\n"}, []),
            ({"name": "javascript:gs.sleep(9)"}, []),
            ({"asset_id": 12}, []),
        ):
            context = await plugin.device_context(replace(ticket, device=device))
            assert ([item.name for item in context.items] if context else []) == names, device


async def test_a_circle_in_the_cmdb_ends(here: ServiceNowSandbox) -> None:
    """Imports make circles; a walk that follows them never comes back."""
    web, shop = a_sys_id("cmdb_ci", "web"), a_sys_id("cmdb_ci", "shop")
    here.seed("cmdb_rel_ci", {"parent": a_sys_id("cmdb_ci", "database"), "child": shop, "type": a_sys_id("cmdb_rel_type", "depends")})
    async with connected(here) as plugin:
        ref = await plugin.create_ticket(a_ticket(custom_fields={"cmdb_ci": web}))
        async with asyncio.timeout(5):
            context = await plugin.device_context(await plugin.get_ticket(ref.ticket_id))
        assert context is not None and set(context.services) == {"Checkout", "Online shop"}


async def test_the_clocks_on_a_ticket_are_told(here: ServiceNowSandbox) -> None:
    """Due first is first; a cancelled one is none."""
    async with connected(here) as plugin:
        assert isinstance(plugin, TellsSla)
        ref = await plugin.create_ticket(a_ticket())
        clock = {"task": ref.ticket_id, "sla": a_sys_id("contract_sla", "P1")}
        here.seed("task_sla", {**clock, "stage": "paused", "has_breached": "true", "planned_end_time": "2026-03-02 10:00:00"})
        here.seed("task_sla", {**clock, "stage": "in_progress", "has_breached": "false", "planned_end_time": "2026-03-01 10:00:00"})
        here.seed("task_sla", {**clock, "stage": "cancelled", "planned_end_time": "2026-02-01 10:00:00"})
        first, second = await plugin.sla_targets(ref.ticket_id)
        assert (first.name, first.due_at, first.paused, first.breached) == (
            "Priority 1 resolution (4 hours)",
            1_772_359_200_000_000,
            False,
            False,
        )
        assert (second.paused, second.breached) == (True, True)


async def test_people_are_found_by_address_account_and_name(sandbox: SandboxProcess) -> None:
    """A requester is an e-mail address in one tool and a sys_id here."""
    async with connected(sandbox) as plugin:
        assert isinstance(plugin, FindsPeople)
        for text in ("ada.agent@desk.example", "ada.ag", "Ada"):
            (person,) = await plugin.find_people(text)
            assert (person.name, person.email, person.attributes["user_name"]) == ("Ada Agent", "ada.agent@desk.example", "ada.agent")
        assert await plugin.find_people("nobody") == []
        assert await plugin.find_people(" ") == []


async def test_the_tasks_of_a_change_are_tickets(here: ServiceNowSandbox) -> None:
    """Who works on a change works on its tasks."""
    async with connected(here) as plugin:
        ref = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
        for n in (2, 1):
            here.seed(
                "change_task",
                {"change_request": ref.ticket_id, "number": f"CTASK001000{n}", "state": "1", "short_description": f"step {n}"},
            )
        tasks = await plugin.change_tasks(ref.ticket_id)
        assert [(t.type, t.subject, t.status) for t in tasks] == [
            (TicketType.CHANGE, "step 1", TicketStatus.OPEN),
            (TicketType.CHANGE, "step 2", TicketStatus.OPEN),
        ]


# credentials and health --------------------------------------------------------------------------------------------------


async def test_every_way_to_log_in_works_and_a_revoked_token_is_renewed(here: ServiceNowSandbox) -> None:
    """Basic, API key, and the four grants; a stampede fetches one token."""
    client = here.accounts.client
    ways: dict[str, dict[str, str]] = {
        "basic": {"user": OURS, "password": here.accounts.password(OURS)},
        "api key": {"api_key": here.secret("api_key")},
        "client credentials": client,
        "refresh": {**client, "refresh_token": here.accounts.refresh_token()},
        "password": {**client, "user": OURS, "password": here.accounts.password(OURS)},
        "jwt": {**client, "private_key": here.accounts.private_key, "subject": "integration@desk.example", "key_id": "k1"},
    }
    for name, auth in ways.items():
        async with connected(here, auth=auth) as plugin:
            health = await plugin.health_check()
            assert (health.ok, health.actor) == (True, OURS), f"{name}: {health.detail}"
            here.accounts.forget_tokens()
            checks = await asyncio.gather(*(plugin.health_check() for _ in range(5)))
            assert all(check.ok for check in checks), name
        async with connected(here, auth=dict.fromkeys(auth, "wrong")) as plugin:
            assert not (await plugin.health_check()).ok, name
            with pytest.raises(CredentialsRefused):
                await plugin.find_by_external_id("aia-1")
    async with connected(here, auth={"user": "x"}) as plugin:
        assert "auth of a servicenow tool" in (await plugin.health_check()).detail
        with pytest.raises(PluginConfigError):
            await plugin.get_ticket("INC0000001")


@pytest.mark.parametrize(("live", "words"), [([], "has no value"), ([b"\xff"], "is not text")])
async def test_a_secret_that_cannot_be_used_is_named(live: list[bytes], words: str) -> None:
    """By its reference, never by its value."""
    settings = {"base_url": "http://127.0.0.1:9", "auth": {"user": "u", "password": "${secret:snow}"}, "webhook": {"secret": "s"}}
    client = ApiClient()
    context = PluginContext(tenant="acme", tool="snow", settings=settings, secrets=lambda reference: live, http=lambda: client)
    health = await ServiceNowPlugin(context).health_check()
    assert not health.ok and f"${{secret:snow}} {words}" in health.detail
    await client.aclose()


async def test_health_sees_through_what_only_looks_well(here: ServiceNowSandbox) -> None:
    """A sleeping instance and an account without rights both answer 200."""
    async with connected(here) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        guest = {"user": GUEST, "password": here.accounts.password(GUEST)}
        async with connected(here, auth=guest) as blind:
            health = await blind.health_check()
            assert not health.ok and "sees none of 1 incidents" in health.detail
            with pytest.raises(NotFound):
                await blind.get_ticket(ref.ticket_id)
        here.keys.put("hibernating", True)
        health = await plugin.health_check()
        assert not health.ok and "in place of JSON" in health.detail
        with pytest.raises(ServerError) as caught:
            await plugin.create_ticket(a_ticket())
        assert caught.value.in_doubt
    async with answering(json_response({"result": []})) as (url, _), connected_to(url) as plugin:
        assert "our own user" in (await plugin.health_check()).detail


async def test_a_read_that_the_instance_cancels_is_no_answer() -> None:
    """Half a list under status 200 would be believed to be the whole."""
    cancelled = {"result": [{"sys_id": "a" * 32}], "error": {"message": "Transaction cancelled: maximum execution time exceeded"}}
    async with answering(json_response(cancelled)) as (url, _), connected_to(url) as plugin:
        with pytest.raises(CallTimedOut):
            await plugin.find_by_external_id("aia-1")


async def test_paths_carry_the_version_the_tenant_asks_for() -> None:
    """And none for the instance's newest."""
    for version, path in (("v2", "/api/now/v2/table/task"), ("", "/api/now/table/task")):
        async with answering(json_response({"result": []})) as (url, seen), connected_to(url, api_version=version) as plugin:
            assert await plugin.find_by_external_id("aia-1") is None
            assert seen[0].path == path
    async with connected_to("http://127.0.0.1:9", api_version="v1") as plugin:
        with pytest.raises(PluginConfigError, match="api_version"):
            await plugin.get_ticket("INC0000001")


# webhooks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["recommended", "subscription"])
async def test_what_happens_on_the_instance_is_told_in_either_form(here: ServiceNowSandbox, kind: str) -> None:
    """The README's script and a subscription's flat body say the same of the same event."""
    told: asyncio.Queue[Request] = asyncio.Queue()

    async def take(request: Request) -> Response:
        await told.put(request)
        return Response(202)

    server = HttpServer(take)
    here.keys.put("webhook_url", f"http://127.0.0.1:{await server.start()}/webhooks/acme/snow")
    here.keys.put("webhook_kind", kind)
    async with connected(here, webhook=here.webhook) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        await plugin.update_ticket(ref.ticket_id, a_change(status=TicketStatus.RESOLVED))
        await plugin.add_note(ref.ticket_id, NewNote(text="done", marker=note_marker(new_event_id(), 1)))
        bodies = [json.loads((await asyncio.wait_for(told.get(), 5)).body) for _ in range(3)]
        tickets = [plugin._payload.metadata(delivery_of(body)) for body in bodies]
        assert [t.ticket_id for t in tickets] == [ref.ticket_id] * 3
        assert [t.change for t in tickets] == [TicketChange.CREATED, TicketChange.RESOLVED, TicketChange.COMMENTED]
        assert [t.type for t in tickets] == [TicketType.INCIDENT] * 3
    await server.stop()


def delivery_of(body: dict[str, Any]) -> Delivery:
    return Delivery(tenant="acme", tool="snow", body=json.dumps(body).encode(), headers={})
