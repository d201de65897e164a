"""The real plugin against the real protocol: tickets, brands, notes and replies, bulk jobs, files, health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from plugins.api import (
    ApiError,
    FatalApiError,
    NewNote,
    NotFound,
    PluginConfigError,
    Priority,
    TicketChanges,
    TicketStatus,
    TicketType,
    ValidationRefused,
)
from plugins.marker import note_marker
from plugins.sandbox.process import SandboxProcess
from schemas.ids import new_event_id
from tests.plugins.freshdesk.connected import a_ticket, connected


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("freshdesk") as process:
        yield process


@pytest.fixture(autouse=True)
def healthy(sandbox: SandboxProcess) -> None:
    sandbox.clear_faults()
    sandbox.fault(index_lag=0)


def seen(sandbox: SandboxProcess, path: str) -> Any:
    """What a person sees at the API."""
    answer = httpx.get(sandbox.base_url + path, headers=sandbox.credentials["person"]["headers"])
    return answer.raise_for_status().json()


async def content(data: bytes = b"\x00--x\r\n") -> AsyncIterator[bytes]:
    yield data


# --- tickets -------------------------------------------------------------------------------------------------------------


async def test_a_ticket_is_made_read_changed_and_found(sandbox: SandboxProcess) -> None:
    """The whole life of a mirrored ticket, with our ids in the two custom fields."""
    async with connected(sandbox) as plugin:
        ref = await plugin.create_ticket(asked := a_ticket(tags=("gate 2", "vip")))
        assert ref.url == f"{sandbox.base_url}/a/tickets/{ref.ticket_id}"
        ticket = await plugin.get_ticket(ref.ticket_id)
        assert (ticket.subject, ticket.type, ticket.priority, ticket.status) == (
            *(asked.subject, TicketType.INCIDENT, Priority.HIGH),
            TicketStatus.OPEN,
        )
        assert ticket.tags == ("gate 2", "vip") and ticket.description == "It clicks & stays shut."
        assert ticket.sla_due_at is not None and ticket.updated_at == ref.updated_at
        assert ticket.extra["external_id"] == asked.external_id
        assert await plugin.has_update(ref.ticket_id, asked.event_id)
        found = await plugin.find_by_external_id(asked.external_id)
        assert found is not None and found.ticket_id == ref.ticket_id
        later = TicketChanges(event_id=new_event_id(), status=TicketStatus.RESOLVED, type=TicketType.PROBLEM, subject=" a\nb ")
        await plugin.update_ticket(ref.ticket_id, later)
        changed = await plugin.get_ticket(ref.ticket_id)
        assert (changed.status, changed.type, changed.subject, changed.priority) == (
            *(TicketStatus.RESOLVED, TicketType.PROBLEM, "a b"),
            Priority.HIGH,
        )
        assert await plugin.has_update(ref.ticket_id, later.event_id)


async def test_custom_fields_are_named_by_key_name_label_and_id(sandbox: SandboxProcess) -> None:
    """Admins know labels, exports have ids; the API wants the key."""
    async with connected(sandbox) as plugin:
        for name in ("cf_serial_number", "serial_number", "Serial Number", "7014"):
            ref = await plugin.create_ticket(a_ticket(custom_fields={name: "SC-4", "floor": 3}))
            fields = (await plugin.get_ticket(ref.ticket_id)).custom_fields
            assert (fields["cf_serial_number"], fields["cf_floor"]) == ("SC-4", 3)
        await plugin.update_ticket(ref.ticket_id, TicketChanges(event_id="e", custom_fields={"serial_number": None, "group_id": 6001}))
        assert (await plugin.get_ticket(ref.ticket_id)).custom_fields["cf_serial_number"] is None
        assert seen(sandbox, f"/api/v2/tickets/{ref.ticket_id}")["group_id"] == 6001
        with pytest.raises(ValidationRefused, match="no custom field called 'colour'"):
            await plugin.create_ticket(a_ticket(custom_fields={"colour": "red"}))
        with pytest.raises(ValidationRefused, match="cf_floor: datatype_mismatch"):
            await plugin.create_ticket(a_ticket(custom_fields={"floor": "three"}))


async def test_words_of_the_account_s_own_are_written_and_read(sandbox: SandboxProcess) -> None:
    """A status of its own is a number nobody knows: its label is asked for, and mapped by the tenant."""
    own = {
        "words": {"status": {"In the workshop": "pending"}},
        "status_codes": {"pending": "in the workshop"},
        "type_names": {"change": "Refund"},
    }
    async with connected(sandbox, **own) as plugin, connected(sandbox) as stock:
        ref = await plugin.create_ticket(a_ticket(status=TicketStatus.PENDING, type=TicketType.CHANGE))
        assert seen(sandbox, f"/api/v2/tickets/{ref.ticket_id}")["status"] == 8
        assert (await plugin.get_ticket(ref.ticket_id)).status is TicketStatus.PENDING
        unmapped = await stock.get_ticket(ref.ticket_id)
        assert (unmapped.status, unmapped.extra["unknown"]) == (TicketStatus.UNKNOWN, {"status": "In the workshop"})
        untyped = await stock.create_ticket(a_ticket(type=TicketType.CHANGE))
        assert seen(sandbox, f"/api/v2/tickets/{untyped.ticket_id}")["type"] is None
    async with connected(sandbox, status_codes={"waiting": 3}) as plugin:
        with pytest.raises(PluginConfigError, match="status_codes"):
            await plugin.create_ticket(a_ticket())


async def test_whom_a_ticket_is_opened_for_is_a_setting(sandbox: SandboxProcess) -> None:
    """Without one, our own agent; an address nobody knows becomes a contact."""
    async with connected(sandbox, requester="new@customer.example") as plugin:
        ref = await plugin.create_ticket(a_ticket())
        requester = seen(sandbox, f"/api/v2/tickets/{ref.ticket_id}?include=requester")["requester"]
        assert requester["email"] == "new@customer.example"
    async with connected(sandbox, actor="5001") as plugin:
        ref = await plugin.create_ticket(a_ticket())
        assert seen(sandbox, f"/api/v2/tickets/{ref.ticket_id}?include=requester")["requester"]["email"] == sandbox.credentials["actor"]


async def test_lists_are_read_over_pages_from_a_time_on(sandbox: SandboxProcess) -> None:
    """Thirty a page by default, a hundred at most, and a Link header that leads on."""
    async with connected(sandbox) as plugin:
        await asyncio.gather(*(plugin.create_ticket(a_ticket(subject=f"n {n}", tags=("listed",))) for n in range(125)))
        changed = await plugin.tickets_changed_since("2020-01-01T00:00:00Z")
        assert len(changed) >= 125 and "description" not in changed[0]
        assert [t["updated_at"] for t in changed] == sorted(t["updated_at"] for t in changed)
        assert len(await plugin.tickets_changed_since("2020-01-01T00:00:00Z", limit=7)) == 7
        assert await plugin.tickets_changed_since("2120-01-01T00:00:00Z") == []
        assert len(await plugin.search_tickets("tag:'listed' AND priority:3", limit=300)) == 125
        assert len(await plugin.search_tickets("tag:'listed'")) == 100
        with pytest.raises(FatalApiError, match="no double quotes"):
            await plugin.search_tickets('tag:"listed"')
        with pytest.raises(ValidationRefused, match="query: invalid_value"):
            await plugin.search_tickets("subject:'x'")
        with pytest.raises(ValidationRefused, match="quotes"):
            await plugin.find_by_external_id("a' OR priority:4")


async def test_a_missing_ticket_is_not_found_whatever_is_asked(sandbox: SandboxProcess) -> None:
    """Freshdesk answers 404 without a word; an archive that does not know it either changes nothing."""
    async with connected(sandbox) as plugin:
        for call in (
            plugin.get_ticket("99999999"),
            plugin.has_update("99999999", "e"),
            plugin.has_note("99999999", "[aia:e:1]"),
            plugin.add_note("99999999", NewNote(text="x", marker="[aia:e:1]", public=True)),
            plugin.sla_targets("99999999"),
            plugin.list_attachments("99999999"),
            plugin.add_attachment("99999999", "a.txt", "text/plain", content()),
            plugin.update_ticket("99999999", TicketChanges(event_id="e", subject="x")),
        ):
            with pytest.raises(NotFound):
                await call


async def test_clocks_are_told_with_the_ticket(sandbox: SandboxProcess) -> None:
    """Capability sla."""
    async with connected(sandbox) as plugin:
        ref = await plugin.create_ticket(a_ticket(priority=Priority.URGENT))
        names = {target.name: target for target in await plugin.sla_targets(ref.ticket_id)}
        assert set(names) == {"first response", "resolution"} and not any(t.completed_at or t.breached for t in names.values())
        await plugin.add_note(ref.ticket_id, NewNote(text="hello", marker=note_marker("e", 1), public=True))
        await plugin.update_ticket(ref.ticket_id, TicketChanges(event_id="e2", status=TicketStatus.RESOLVED))
        assert all(target.completed_at for target in await plugin.sla_targets(ref.ticket_id))


# --- brands --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", ["Lumen Phones", 8001, "8001", "phones", "LUMEN PHONES "])
async def test_a_ticket_belongs_to_its_brand_and_leaves_from_its_mailbox(sandbox: SandboxProcess, product: Any) -> None:
    """A reply from another brand's address is what customers notice first."""
    async with connected(sandbox, product=product, products={"phones": "Lumen Phones"}) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        ticket = seen(sandbox, f"/api/v2/tickets/{ref.ticket_id}")
        assert (ticket["product_id"], ticket["email_config_id"]) == (8001, 9002)
        assert (await plugin.get_ticket(ref.ticket_id)).extra["product_id"] == "8001"
        await plugin.add_note(ref.ticket_id, NewNote(text="hello", marker=note_marker("e", 1), public=True))
        (said,) = seen(sandbox, f"/api/v2/tickets/{ref.ticket_id}/conversations")
        assert (said["from_email"], said["private"], said["source"]) == ("phones@desk.example", False, 0)


async def test_a_route_may_name_another_brand_and_a_ticket_keeps_its_mailbox(sandbox: SandboxProcess) -> None:
    """`custom_fields.product` wins over the tool's; a mailbox that is not the brand's first is kept for its replies."""
    async with connected(sandbox, product="Lumen Phones") as plugin:
        lamps = await plugin.create_ticket(a_ticket(custom_fields={"product": "Lumen Lamps"}))
        assert seen(sandbox, f"/api/v2/tickets/{lamps.ticket_id}")["email_config_id"] == 9004
        await plugin.update_ticket(lamps.ticket_id, TicketChanges(event_id="e", custom_fields={"product_id": 8001}))
        assert seen(sandbox, f"/api/v2/tickets/{lamps.ticket_id}")["email_config_id"] == 9002
        path = f"{sandbox.base_url}/api/v2/tickets/{lamps.ticket_id}"
        httpx.put(path, json={"email_config_id": 9003}, headers=sandbox.credentials["person"]["headers"]).raise_for_status()
        await plugin.add_note(lamps.ticket_id, NewNote(text="hello", marker=note_marker("e", 1), public=True))
        assert seen(sandbox, f"/api/v2/tickets/{lamps.ticket_id}/conversations")[0]["from_email"] == "returns@desk.example"
        with pytest.raises(ValidationRefused, match="no product called 'Lumen Toasters'"):
            await plugin.create_ticket(a_ticket(custom_fields={"product": "Lumen Toasters"}))
        none = await plugin.create_ticket(a_ticket(custom_fields={"product": ""}))
        assert seen(sandbox, f"/api/v2/tickets/{none.ticket_id}")["product_id"] is None


async def test_brands_are_listed_with_their_mailboxes(sandbox: SandboxProcess) -> None:
    """Whoever writes the tenant's file looks them up."""
    async with connected(sandbox) as plugin:
        phones, lamps = await plugin.list_products()
        assert [m["reply_email"] for m in phones["email_configs"]] == ["phones@desk.example", "returns@desk.example"]
        assert lamps["name"] == "Lumen Lamps"


# --- notes ---------------------------------------------------------------------------------------------------------------


async def test_a_note_is_private_unless_a_rule_says_public(sandbox: SandboxProcess) -> None:
    """A public one goes to the customer's mailbox: nothing may become public by omission."""
    async with connected(sandbox) as plugin, connected(sandbox, public_notes="note") as quiet:
        ref = await plugin.create_ticket(a_ticket())
        for number, (by, public) in enumerate([(plugin, False), (plugin, True), (quiet, True)]):
            marker = note_marker(f"e{number}", 1)
            assert await by.add_note(ref.ticket_id, NewNote(text="*seen*", marker=marker, public=public))
            assert await plugin.has_note(ref.ticket_id, marker)
        kinds = [(said["private"], said["source"]) for said in seen(sandbox, f"/api/v2/tickets/{ref.ticket_id}/conversations")]
        assert kinds == [(True, 2), (False, 0), (False, 2)]


# --- batches -------------------------------------------------------------------------------------------------------------


async def test_equal_changes_go_into_one_job_and_each_is_judged_by_itself(sandbox: SandboxProcess) -> None:
    """The job is asynchronous: nothing is reported before its end, and a missing ticket sinks no other."""
    async with connected(sandbox) as plugin:
        ids = [ref.ticket_id for ref in await asyncio.gather(*(plugin.create_ticket(a_ticket()) for _ in range(105)))]
        before = len(sandbox.ledger())
        changes = {i: TicketChanges(event_id=f"bulk-{i}", priority=Priority.LOW) for i in [*ids, "99999999"]}
        results = {result.ticket_id: result for result in await plugin.batch_update_tickets(changes)}
        assert set(results) == set(changes)
        assert [i for i, result in results.items() if result.error] == ["99999999"]
        assert isinstance(results["99999999"].error, NotFound)
        rows = sandbox.ledger(before)
        assert len(rows) == 105 and {row["path"] for row in rows} == {"/api/v2/tickets/bulk_update"}
        assert await plugin.has_update(ids[0], f"bulk-{ids[0]}") and await plugin.has_update(ids[104], f"bulk-{ids[104]}")
        assert not await plugin.has_update(ids[0], "bulk-none")


async def test_different_changes_are_made_one_by_one_several_at_a_time(sandbox: SandboxProcess) -> None:
    """A job knows one change only; a tool that is far away still has to end in time."""
    async with connected(sandbox) as plugin:
        ids = [ref.ticket_id for ref in await asyncio.gather(*(plugin.create_ticket(a_ticket()) for _ in range(20)))]
        sandbox.fault(delay=0.05, times=1000, method="PUT")
        changes = {i: TicketChanges(event_id=f"own-{i}", subject=f"subject {i}") for i in [*ids, "99999999"]}
        started = time.perf_counter()
        results = await plugin.batch_update_tickets(changes)
        assert time.perf_counter() - started < 20 * 0.05 / 2
        assert [result.ticket_id for result in results if result.error] == ["99999999"]
        sandbox.clear_faults()
        found = {result.ticket_id: result.ticket async for result in plugin.get_ticket_batch(ids)}
        assert {i: getattr(ticket, "subject", None) for i, ticket in found.items()} == {i: f"subject {i}" for i in ids}


@pytest.mark.parametrize(
    ("fault", "path", "in_doubt", "done"),
    [
        ({"status": 400}, "/api/v2/tickets/bulk_update", None, True),
        ({"status": 404}, "/api/v2/tickets/bulk_update", None, True),
        ({"status": 401}, "/api/v2/tickets/bulk_update", False, False),
        ({"status": 500}, "/api/v2/tickets/bulk_update", True, False),
        ({"reset": True}, "/api/v2/tickets/bulk_update", True, True),
        ({"status": 404}, "/api/v2/jobs/", True, True),
    ],
)
async def test_a_job_that_is_refused_or_lost_is_told_truly(
    sandbox: SandboxProcess, fault: dict[str, Any], path: str, in_doubt: bool | None, done: bool
) -> None:
    """A refused job is made one by one; a lost one is in doubt, and has_update tells."""
    async with connected(sandbox) as plugin:
        ids = [(await plugin.create_ticket(a_ticket())).ticket_id for _ in range(2)]
        sandbox.fault(path=path, **fault)
        results = await plugin.batch_update_tickets({i: TicketChanges(event_id=f"f-{i}", priority=Priority.LOW) for i in ids})
        for result in results:
            assert (None if result.error is None else result.error.in_doubt) is in_doubt
            assert await plugin.has_update(result.ticket_id, f"f-{result.ticket_id}") is done


# --- files ---------------------------------------------------------------------------------------------------------------


async def test_files_go_up_with_a_private_note_and_come_down(sandbox: SandboxProcess) -> None:
    """The storage's address is asked for anew each time: it lasts minutes."""
    async with connected(sandbox) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        first = await plugin.add_attachment(ref.ticket_id, "trace é.bin", "application/x-trace", content())
        second = await plugin.add_attachment(ref.ticket_id, "b.txt", "text/plain", content(b"second"))
        files = await plugin.list_attachments(ref.ticket_id)
        assert [(f.attachment_id, f.filename, f.content_type, f.size) for f in files] == [
            (first, "trace é.bin", "application/x-trace", 6),
            (second, "b.txt", "text/plain", 6),
        ]
        assert b"".join([chunk async for chunk in plugin.download_attachment(ref.ticket_id, second)]) == b"second"
        with pytest.raises(NotFound):
            _ = [chunk async for chunk in plugin.download_attachment(ref.ticket_id, "1")]
        assert all(said["private"] for said in seen(sandbox, f"/api/v2/tickets/{ref.ticket_id}/conversations"))


async def test_a_file_that_is_too_large_is_not_sent_to_its_end(sandbox: SandboxProcess) -> None:
    """Twenty megabytes is what the manual allows for a ticket."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * (1 << 20)

    async with connected(sandbox) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        with pytest.raises(ApiError):
            await plugin.add_attachment(ref.ticket_id, "big.bin", "application/octet-stream", endless())
        assert await plugin.list_attachments(ref.ticket_id) == []


# --- health --------------------------------------------------------------------------------------------------------------


async def test_health_says_what_to_mend(sandbox: SandboxProcess) -> None:
    """A key that works is not enough: without our two fields every write would be refused."""
    async with connected(sandbox) as plugin:
        health = await plugin.health_check()
        assert (health.ok, health.actor) == (True, "integration@desk.example")
    for settings, told in (
        ({"auth": {"api_key": "wrong"}}, "renew"),
        ({"auth": {}}, "api_key"),
        ({"base_url": "http://127.0.0.1:9"}, "no connection"),
        ({"base_url": ""}, "base_url"),
        ({"event_field": "cf_none"}, "no custom ticket field cf_none"),
    ):
        async with connected(sandbox, **settings) as plugin:
            health = await plugin.health_check()
            assert not health.ok and told in health.detail
            assert "wrong" not in health.detail
