"""The real plugin against the real protocol: its sandbox in another process, over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from plugins.api import (
    ApiError,
    CallTimedOut,
    ConnectionLost,
    CredentialsRefused,
    Delivery,
    FatalApiError,
    NewNote,
    NewTicket,
    NotFound,
    PluginConfigError,
    Priority,
    RateLimited,
    RetriableApiError,
    ServerError,
    TicketChange,
    TicketChanges,
    TicketingToolPlugin,
    TicketStatus,
    TicketType,
    ValidationRefused,
)
from plugins.manager import PluginManager, ToolBinding
from plugins.marker import note_marker
from plugins.registry import PluginRegistry
from plugins.sandbox.http import HttpServer, Request, Response, json_response
from plugins.sandbox.process import SandboxProcess


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("zendesk") as process:
        yield process


@pytest.fixture(autouse=True)
def healthy(sandbox: SandboxProcess) -> None:
    sandbox.clear_faults()
    sandbox.fault(index_lag=0)


@asynccontextmanager
async def connected(sandbox: SandboxProcess, **settings: Any) -> AsyncIterator[TicketingToolPlugin]:
    known = {
        "base_url": sandbox.base_url,
        "auth": sandbox.credentials["auth"],
        "webhook": sandbox.webhook,
        "actor": sandbox.credentials["actor"],
    }
    binding = ToolBinding(tenant="acme", tool="desk", tool_type="zendesk", settings={**known, **settings}, version=1)
    manager = PluginManager(PluginRegistry.discover(), lambda *_: binding, lambda tenant: lambda reference: [reference.encode()])
    async with manager.lease("acme", "desk", 0) as plugin:
        yield plugin
    await manager.aclose()


def a_ticket(number: int, **fields: Any) -> NewTicket:
    usual: dict[str, Any] = {"subject": f"Ticket {number}", "external_id": f"aia-{number}", "event_id": f"event-{number}"}
    return NewTicket(**{**usual, **fields})


def effects(sandbox: SandboxProcess, ticket_id: str) -> list[tuple[str, str | None]]:
    return [(row["kind"], row["marker"]) for row in sandbox.ledger() if row["ticket_id"] == ticket_id]


async def test_a_ticket_is_created_found_changed_and_noted(sandbox: SandboxProcess) -> None:
    """The whole life of a mirror, and each effect once in the ledger."""
    async with connected(sandbox) as plugin:
        made = await plugin.create_ticket(
            a_ticket(1, description="**Stripes** on <each> page", type=TicketType.REQUEST, priority=Priority.MEDIUM, tags=("a", "b"))
        )
        read = await plugin.get_ticket(made.ticket_id)
        assert (read.subject, read.description) == ("Ticket 1", "Stripes on <each> page")
        assert (read.type, read.priority, read.status, read.tags) == (TicketType.REQUEST, Priority.MEDIUM, TicketStatus.NEW, ("a", "b"))
        assert await plugin.find_by_external_id("aia-1") == made
        assert await plugin.find_by_external_id("aia-none") is None
        assert made.updated_at == read.updated_at
        changes = TicketChanges(event_id="event-1b", subject="Stripes", status=TicketStatus.CLOSED, priority=Priority.URGENT)
        await plugin.update_ticket(made.ticket_id, changes)
        read = await plugin.get_ticket(made.ticket_id)
        assert (read.subject, read.status, read.priority) == ("Stripes", TicketStatus.RESOLVED, Priority.URGENT)
        assert [await plugin.has_update(made.ticket_id, e) for e in ("event-1", "event-1b", "event-1c")] == [True, True, False]
        marker = note_marker("event-1b", 1)
        assert await plugin.add_note(made.ticket_id, NewNote(text="See *Jira* [OPS-1](https://ops.example/1)", marker=marker))
        assert await plugin.has_note(made.ticket_id, marker)
        assert not await plugin.has_note(made.ticket_id, note_marker("event-1", 1))
        assert effects(sandbox, made.ticket_id) == [("create", "event-1"), ("update", "event-1b"), ("note", marker)]


async def test_a_note_is_internal_unless_it_says_public(sandbox: SandboxProcess) -> None:
    """A customer must not read what was meant for agents; the tool's default is public."""
    events: asyncio.Queue[Request] = asyncio.Queue()

    async def target(request: Request) -> Response:
        events.put_nowait(request)
        return Response(200)

    server = HttpServer(target)
    sandbox.set_webhook(f"http://127.0.0.1:{await server.start()}/hook")
    async with connected(sandbox) as plugin:
        made = await plugin.create_ticket(a_ticket(2))
        await plugin.add_note(made.ticket_id, NewNote(text="quiet", marker=note_marker("e", 1)))
        await plugin.add_note(made.ticket_id, NewNote(text="loud", marker=note_marker("f", 1), public=True))
        seen = {}
        while len(seen) < 3:
            request = await asyncio.wait_for(events.get(), 5)
            delivery = Delivery(tenant="acme", tool="desk", body=request.body, headers=request.headers, received_at=_now())
            assert plugin.validate_webhook(delivery).scheme == "hmac-timestamp"
            ticket = plugin.extract_metadata(delivery)
            assert ticket.ticket_id == made.ticket_id
            assert plugin.is_own_actor(ticket)
            seen[ticket.extra.get("comment", "")[:5]] = (ticket.change, ticket.extra.get("comment_public"))
    assert seen == {"": (TicketChange.CREATED, None), "quiet": (TicketChange.COMMENTED, False), "loud\n": (TicketChange.COMMENTED, True)}
    sandbox.set_webhook("")
    await server.stop()


def _now() -> int:
    from plugins.sandbox.server import now

    return now()


async def test_people_and_triggers_are_told_apart_from_us(sandbox: SandboxProcess) -> None:
    """Echo detection stands on the actor, in both kinds of webhook."""
    events: asyncio.Queue[Request] = asyncio.Queue()

    async def target(request: Request) -> Response:
        events.put_nowait(request)
        return Response(200)

    server = HttpServer(target)
    url = f"http://127.0.0.1:{await server.start()}/hook"
    async with connected(sandbox) as plugin:
        for kind in ("event", "trigger"):
            sandbox._control("POST", "/_webhook", {"url": url, "kind": kind})
            ticket_id = sandbox.person_creates(subject="Help", priority="high", type="incident", description="now")
            delivery = await _next(events)
            ticket = plugin.extract_metadata(delivery)
            assert plugin.validate_webhook(delivery)
            assert (ticket.ticket_id, ticket.priority, ticket.change) == (ticket_id, Priority.HIGH, TicketChange.CREATED)
            assert not plugin.is_own_actor(ticket)
            sandbox.person_updates(ticket_id, status="pending")
            assert plugin.extract_metadata(await _next(events)).status is TicketStatus.PENDING
            await plugin.update_ticket(ticket_id, TicketChanges(event_id="e", priority=Priority.LOW))
            assert plugin.is_own_actor(plugin.extract_metadata(await _next(events)))
    sandbox._control("POST", "/_webhook", {"url": None})
    await server.stop()


async def _next(events: asyncio.Queue[Request]) -> Delivery:
    request = await asyncio.wait_for(events.get(), 5)
    return Delivery(tenant="acme", tool="desk", body=request.body, headers=request.headers, received_at=_now())


async def test_searches_see_a_write_only_after_the_index_lag(sandbox: SandboxProcess) -> None:
    """Why "not found" is believed only after a while."""
    async with connected(sandbox) as plugin:
        sandbox.fault(index_lag=3600)
        made = await plugin.create_ticket(a_ticket(3))
        await plugin.add_note(made.ticket_id, NewNote(text="x", marker=note_marker("e", 1)))
        assert await plugin.find_by_external_id("aia-3") is None
        assert not await plugin.has_update(made.ticket_id, "event-3")
        assert not await plugin.has_note(made.ticket_id, note_marker("e", 1))
        assert await plugin.get_ticket(made.ticket_id)
        sandbox.fault(index_lag=0)
        assert await plugin.find_by_external_id("aia-3") == made
        assert await plugin.has_update(made.ticket_id, "event-3")
        assert await plugin.has_note(made.ticket_id, note_marker("e", 1))


@pytest.mark.parametrize(
    ("fault", "kind", "in_doubt", "done"),
    [
        ({"status": 429, "retry_after": 7}, RateLimited, False, False),
        ({"status": 500}, ServerError, True, False),
        ({"status": 500, "when": "after"}, ServerError, True, True),
        ({"status": 503}, ServerError, False, False),
        ({"status": 409}, RetriableApiError, False, False),
        ({"status": 401}, CredentialsRefused, False, False),
        ({"reset": True}, ConnectionLost, True, True),
        ({"reset": True, "when": "before"}, ConnectionLost, True, False),
        ({"half_body": True}, ConnectionLost, True, True),
    ],
)
async def test_each_way_to_fail_is_named_and_its_doubt_is_true(
    sandbox: SandboxProcess, fault: dict[str, Any], kind: type[ApiError], in_doubt: bool, done: bool
) -> None:
    """In doubt exactly where the effect may have happened; the search then tells whether it did."""
    name = f"aia-fault-{'-'.join(map(str, fault.values()))}"
    async with connected(sandbox) as plugin:
        sandbox.fault(method="POST", **fault)
        with pytest.raises(ApiError) as raised:
            await plugin.create_ticket(a_ticket(4, external_id=name))
        assert type(raised.value) is kind
        assert raised.value.in_doubt is in_doubt
        assert raised.value.retry_after == (7.0 if "retry_after" in fault else 1.0 if fault.get("status") == 503 else None)
    async with connected(sandbox) as plugin:  # another connection: the first may have been told to wait
        assert (await plugin.find_by_external_id(name) is not None) is done
    assert in_doubt or not done


async def test_a_call_given_up_may_still_succeed_late(sandbox: SandboxProcess) -> None:
    """The tool was slow, we left, it did the work: only a later search finds it."""
    async with connected(sandbox, timeout=0.2) as plugin:
        sandbox.fault(delay=0.6, method="POST")
        with pytest.raises(CallTimedOut) as raised:
            await plugin.create_ticket(a_ticket(5))
        assert raised.value.in_doubt
        assert await plugin.find_by_external_id("aia-5") is None
        for _ in range(100):
            if (found := await plugin.find_by_external_id("aia-5")) is not None:
                break
            await asyncio.sleep(0.02)
        assert found is not None
        assert await plugin.has_update(found.ticket_id, "event-5")


async def test_what_the_tool_refuses_is_fatal(sandbox: SandboxProcess) -> None:
    """Repeating these would fail for ever."""
    async with connected(sandbox) as plugin:
        with pytest.raises(NotFound):
            await plugin.get_ticket("999999")
        with pytest.raises(NotFound):
            await plugin.update_ticket("999999", TicketChanges(event_id="e", subject="x"))
        with pytest.raises(NotFound):
            await plugin.has_note("999999", "[aia:e:1]")
        with pytest.raises(FatalApiError):
            await plugin.get_ticket("..")
        closed = sandbox.person_creates(subject="old", status="closed")
        with pytest.raises(ValidationRefused, match="RecordInvalid: status"):
            await plugin.update_ticket(closed, TicketChanges(event_id="e", subject="x"))


async def test_health_sees_through_the_anonymous_answer(sandbox: SandboxProcess) -> None:
    """A wrong token is answered 200 with a user nobody is."""
    async with connected(sandbox) as plugin:
        health = await plugin.health_check()
        assert (health.ok, health.actor) == (True, sandbox.credentials["actor"])
    async with connected(sandbox, auth={"email": "integration@desk.example", "api_token": "wrong"}) as plugin:
        health = await plugin.health_check()
        assert not health.ok
        assert "anonymous" in health.detail
        assert "wrong" not in health.detail
        with pytest.raises(CredentialsRefused):
            await plugin.get_ticket("1001")
    async with connected(sandbox, auth={}) as plugin:
        assert "auth of a zendesk tool" in (await plugin.health_check()).detail
        with pytest.raises(PluginConfigError):
            await plugin.get_ticket("1001")
    async with connected(sandbox, base_url="http://127.0.0.1:1") as plugin:
        assert "no connection" in (await plugin.health_check()).detail


async def test_many_tickets_are_read_at_once_and_missing_ones_are_named(sandbox: SandboxProcess) -> None:
    """The tool leaves missing ids out without a word."""
    async with connected(sandbox) as plugin:
        made = [(await plugin.create_ticket(a_ticket(100 + n))).ticket_id for n in range(120)]
        asked = [*made[:110], "777777", *made[110:]]
        results = [result async for result in plugin.get_ticket_batch(asked)]
        assert [r.ticket_id for r in results] == asked
        assert [r.ticket_id for r in results if r.error] == ["777777"]
        assert isinstance(next(r.error for r in results if r.error), NotFound)
        before = len(sandbox.ledger())
        changes = {ticket_id: TicketChanges(event_id=f"bulk-{ticket_id}", priority=Priority.HIGH) for ticket_id in [*made[:102], "777777"]}
        rows = await plugin.batch_update_tickets(changes)
        assert {r.ticket_id for r in rows} == set(changes)
        assert [r.ticket_id for r in rows if r.error] == ["777777"]
        assert len(sandbox.ledger()) - before == 102
        assert await plugin.has_update(made[0], f"bulk-{made[0]}")


async def test_every_page_of_comments_is_read(sandbox: SandboxProcess) -> None:
    """The marker of an old note may be three pages back."""
    ticket_id = sandbox.person_creates(subject="long")
    async with connected(sandbox) as plugin:
        await plugin.add_note(ticket_id, NewNote(text="first", marker=note_marker("old", 1)))
        for number in range(205):
            sandbox.person_updates(ticket_id, comment=f"comment {number}")
        await plugin.add_note(ticket_id, NewNote(text="last", marker=note_marker("new", 1)))
        assert await plugin.has_note(ticket_id, note_marker("old", 1))
        assert await plugin.has_note(ticket_id, note_marker("new", 1))
        assert not await plugin.has_note(ticket_id, note_marker("none", 1))


async def test_a_file_is_attached_with_an_internal_note(sandbox: SandboxProcess) -> None:
    """Uploads expire unless a comment takes them up."""

    async def content() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"0123456789"

    ticket_id = sandbox.person_creates(subject="with a photo")
    async with connected(sandbox) as plugin:
        assert (await plugin.add_attachment(ticket_id, "photo.png", "image/png", content())).isdigit()
    assert effects(sandbox, ticket_id) == [("create", None), ("note", None)]


async def test_an_address_without_a_help_desk_is_not_a_missing_ticket() -> None:
    """The first is a setting to mend, the second an event to drop."""

    async def elsewhere(request: Request) -> Response:
        return json_response({"error": {"title": "No help desk at nowhere.zendesk.example", "message": "..."}}, 404)

    server = HttpServer(elsewhere)
    base_url = f"http://127.0.0.1:{await server.start()}"
    binding = ToolBinding(
        tenant="acme", tool="desk", tool_type="zendesk", settings={"base_url": base_url, "auth": {"email": "a@b.example", "api_token": "t"}}
    )
    manager = PluginManager(PluginRegistry.discover(), lambda *_: binding, lambda tenant: lambda reference: [reference.encode()])
    async with manager.lease("acme", "desk", 0) as plugin:
        with pytest.raises(FatalApiError, match="base_url") as raised:
            await plugin.get_ticket("1")
        assert type(raised.value) is FatalApiError
    await manager.aclose()
    await server.stop()
