"""What every plugin promises of its calls, run over real sockets against its sandbox in a process of its own.

A subclass names the tool in `tool_type`; `settings` adds what its sandbox does not tell.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from plugins.api import (
    ApiError,
    CredentialsRefused,
    Delivery,
    NewNote,
    NewTicket,
    NotFound,
    PluginContext,
    Priority,
    RateLimited,
    RetriableApiError,
    ServerError,
    SignatureMismatch,
    TicketChange,
    TicketChanges,
    TicketingToolPlugin,
    TicketStatus,
    TicketType,
    ValidationRefused,
)
from plugins.http.client import ApiClient
from plugins.marker import find_marker, note_marker
from plugins.registry import PluginRegistry
from plugins.sandbox.http import HttpServer, Request, Response
from plugins.sandbox.server import SandboxProcess
from schemas.ids import external_id, new_event_id

MANY = 105
"""More than one page, or one bulk call, of any of the tools."""


def a_ticket(**fields: Any) -> NewTicket:
    event_id = new_event_id()
    return NewTicket(
        **{
            "subject": "Badge reader 12 rejects every badge",
            "description": "It **blinks** red & <beeps>.\n\n- since 07:40",
            "type": TicketType.INCIDENT,
            "priority": Priority.HIGH,
            "external_id": external_id(f"acme/desk/{event_id}", "target"),
            "event_id": event_id,
            **fields,
        }
    )


class Receiver:
    """Takes webhooks over a real socket, in the order they come."""

    def __init__(self) -> None:
        self._got: asyncio.Queue[Request] = asyncio.Queue()
        self._server = HttpServer(self._answer)
        self.url = ""
        self.answers: list[int] = []

    async def _answer(self, request: Request) -> Response:
        await self._got.put(request)
        return Response(self.answers.pop(0) if self.answers else 202)

    async def start(self) -> None:
        self.url = f"http://127.0.0.1:{await self._server.start()}/webhooks/acme/tool?from=sandbox"

    async def stop(self) -> None:
        await self._server.stop()

    async def next(self, tool: str) -> Delivery:
        request = await asyncio.wait_for(self._got.get(), 10)
        return Delivery(tenant="acme", tool=tool, body=request.body, headers=request.headers, query=request.query_string, received_at=1)


class ToolContract:
    """Subclassed as Test… beside each vendor's own tests."""

    tool_type: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}
    missing_id: ClassVar[str] = "99999999"
    strange_field: ClassVar[str] = "no_such_field"
    retries_webhooks: ClassVar[bool] = True

    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls) -> Iterator[SandboxProcess]:
        with SandboxProcess(cls.tool_type) as sandbox:
            yield sandbox

    @pytest.fixture(autouse=True)
    def calm(self, sandbox: SandboxProcess) -> Iterator[None]:
        yield
        sandbox.clear_faults()
        sandbox.fault(index_lag=0.0)

    @pytest.fixture
    async def plugin(self, sandbox: SandboxProcess) -> AsyncIterator[TicketingToolPlugin]:
        client = ApiClient()
        yield self.bound(sandbox, client)
        await client.aclose()

    @pytest.fixture
    async def receiver(self, sandbox: SandboxProcess) -> AsyncIterator[Receiver]:
        receiver = Receiver()
        await receiver.start()
        sandbox.set_webhook(receiver.url)
        yield receiver
        sandbox.set_webhook("")
        await receiver.stop()

    def bound(self, sandbox: SandboxProcess, client: ApiClient, **more: Any) -> TicketingToolPlugin:
        told = {name: value for name, value in sandbox.credentials.items() if name != "person"}
        settings = {"base_url": sandbox.base_url, **told, "webhook": sandbox.webhook, **self.settings, **more}
        context = PluginContext(
            tenant="acme", tool="target", settings=settings, secrets=lambda reference: [reference.encode()], http=lambda: client
        )
        return PluginRegistry.discover().get(self.tool_type)(context)

    # what is written, is there ------------------------------------------------------------------------------------------
    async def test_a_created_ticket_reads_back_as_it_was_asked_for(self, plugin: TicketingToolPlugin, sandbox: SandboxProcess) -> None:
        """A mirrored ticket that loses its words on the way is worse than none."""
        seen = len(sandbox.ledger())
        asked = a_ticket(tags=("gate 2",))
        ref = await plugin.create_ticket(asked)
        metadata = await plugin.get_ticket(ref.ticket_id)
        assert (metadata.ticket_id, metadata.subject) == (ref.ticket_id, asked.subject)
        assert (metadata.type, metadata.priority) == (TicketType.INCIDENT, Priority.HIGH)
        assert metadata.status in (TicketStatus.NEW, TicketStatus.OPEN)
        assert "blinks" in metadata.description and "<beeps>" in metadata.description
        assert metadata.created_at is not None
        (row,) = sandbox.ledger(seen)
        assert (row["kind"], row["ticket_id"], row["actor"]) == ("create", ref.ticket_id, "api")
        assert (row["external_id"], row["marker"]) == (asked.external_id, asked.event_id)

    async def test_an_update_is_applied_and_carries_its_event(self, plugin: TicketingToolPlugin, sandbox: SandboxProcess) -> None:
        """The event's id in the ticket is what tells an applied update from a lost one."""
        ref = await plugin.create_ticket(asked := a_ticket())
        assert await plugin.has_update(ref.ticket_id, asked.event_id)
        seen, event_id = len(sandbox.ledger()), new_event_id()
        changes = TicketChanges(event_id=event_id, subject="New reader ordered", priority=Priority.LOW, type=TicketType.REQUEST)
        assert not await plugin.has_update(ref.ticket_id, event_id)
        updated = await plugin.update_ticket(ref.ticket_id, changes)
        assert updated.ticket_id == ref.ticket_id
        metadata = await plugin.get_ticket(ref.ticket_id)
        assert (metadata.subject, metadata.priority, metadata.type) == ("New reader ordered", Priority.LOW, TicketType.REQUEST)
        if updated.updated_at is not None:
            assert updated.updated_at == metadata.updated_at
        assert await plugin.has_update(ref.ticket_id, event_id)
        assert [row["marker"] for row in sandbox.ledger(seen) if row["kind"] == "update"] == [event_id]

    async def test_a_ticket_is_led_through_its_life(self, plugin: TicketingToolPlugin) -> None:
        """Status words differ, and some tools want a transition or a resolution: that is the plugin's business alone."""
        ref = await plugin.create_ticket(a_ticket())
        for status in (TicketStatus.PENDING, TicketStatus.OPEN, TicketStatus.RESOLVED, TicketStatus.CLOSED):
            event_id = new_event_id()
            await plugin.update_ticket(ref.ticket_id, TicketChanges(event_id=event_id, status=status, subject=f"now {status}"))
            metadata = await plugin.get_ticket(ref.ticket_id)
            assert (metadata.status, metadata.subject) == (status, f"now {status}")
            assert await plugin.has_update(ref.ticket_id, event_id)

    async def test_an_update_applied_twice_is_no_fault(self, plugin: TicketingToolPlugin) -> None:
        """After a doubt the same change may be sent again."""
        ref = await plugin.create_ticket(a_ticket())
        changes = TicketChanges(event_id=new_event_id(), status=TicketStatus.RESOLVED, priority=Priority.MEDIUM)
        await plugin.update_ticket(ref.ticket_id, changes)
        await plugin.update_ticket(ref.ticket_id, changes)
        metadata = await plugin.get_ticket(ref.ticket_id)
        assert (metadata.status, metadata.priority) == (TicketStatus.RESOLVED, Priority.MEDIUM)

    async def test_a_note_is_found_by_its_marker(self, plugin: TicketingToolPlugin, sandbox: SandboxProcess) -> None:
        """No tool has a key for notes: the marker in the text is all there is."""
        ref = await plugin.create_ticket(a_ticket())
        seen, marker = len(sandbox.ledger()), note_marker(new_event_id(), 1)
        assert not await plugin.has_note(ref.ticket_id, marker)
        assert await plugin.add_note(ref.ticket_id, NewNote(text="Looked at *it* [twice](https://kb.example/7).", marker=marker))
        assert await plugin.has_note(ref.ticket_id, marker)
        assert not await plugin.has_note(ref.ticket_id, note_marker(new_event_id(), 1))
        (row,) = sandbox.ledger(seen)
        assert (row["kind"], row["ticket_id"], row["marker"]) == ("note", ref.ticket_id, marker)

    async def test_a_note_is_found_behind_many_others(self, plugin: TicketingToolPlugin) -> None:
        """Listings come in pages; a marker on the last one counts as much."""
        ref = await plugin.create_ticket(a_ticket())
        markers = [note_marker(new_event_id(), 1) for _ in range(MANY)]
        for marker in markers:
            await plugin.add_note(ref.ticket_id, NewNote(text="busy", marker=marker))
        assert await plugin.has_note(ref.ticket_id, markers[0])
        assert await plugin.has_note(ref.ticket_id, markers[-1])

    async def test_a_file_is_attached(self, plugin: TicketingToolPlugin) -> None:
        """The upload is not JSON, and each tool wants it another way."""

        async def chunks() -> AsyncIterator[bytes]:
            yield b"\x00\x01"
            yield b"\r\n--x"

        ref = await plugin.create_ticket(a_ticket())
        assert await plugin.add_attachment(ref.ticket_id, "trace é.bin", "application/octet-stream", chunks())

    async def test_many_tickets_are_read_at_once(self, plugin: TicketingToolPlugin) -> None:
        """Each asked id is answered once, a missing one with NotFound, over as many bulk calls as it takes."""
        refs = [await plugin.create_ticket(a_ticket(subject=f"ticket {n}")) for n in range(MANY)]
        asked = [ref.ticket_id for ref in refs]
        results = {result.ticket_id: result async for result in plugin.get_ticket_batch([*asked, self.missing_id])}
        assert set(results) == {*asked, self.missing_id}
        assert isinstance(results[self.missing_id].error, NotFound)
        for number, ticket_id in enumerate(asked):
            assert results[ticket_id].ticket is not None
            assert results[ticket_id].ticket.subject == f"ticket {number}"  # type: ignore[union-attr]  # a read answers metadata

    async def test_one_failure_in_a_batch_stops_no_other(self, plugin: TicketingToolPlugin) -> None:
        """A batch is many tickets of many people."""
        first, second = await plugin.create_ticket(a_ticket()), await plugin.create_ticket(a_ticket())
        changes = {i: TicketChanges(event_id=new_event_id(), subject="swept") for i in (first.ticket_id, self.missing_id, second.ticket_id)}
        results = {result.ticket_id: result for result in await plugin.batch_update_tickets(changes)}
        assert isinstance(results[self.missing_id].error, NotFound)
        for ref in (first, second):
            assert results[ref.ticket_id].error is None
            assert (await plugin.get_ticket(ref.ticket_id)).subject == "swept"

    # finding what may have been done ------------------------------------------------------------------------------------
    async def test_a_ticket_is_found_by_our_id(self, plugin: TicketingToolPlugin) -> None:
        """Tools have no idempotency keys: our id in a searchable field stands between us and a second ticket."""
        asked = a_ticket()
        assert await plugin.find_by_external_id(asked.external_id) is None
        ref = await plugin.create_ticket(asked)
        found = await plugin.find_by_external_id(asked.external_id)
        assert found is not None and found.ticket_id == ref.ticket_id
        assert await plugin.find_by_external_id(asked.external_id[:-1]) is None

    async def test_a_search_that_lags_finds_it_in_the_end(self, plugin: TicketingToolPlugin, sandbox: SandboxProcess) -> None:
        """ "Not found" is to be believed only after search_lag; the sandbox must show why."""
        sandbox.fault(index_lag=0.4)
        asked = a_ticket()
        ref = await plugin.create_ticket(asked)
        assert await plugin.find_by_external_id(asked.external_id) is None
        async with asyncio.timeout(5):
            while (found := await plugin.find_by_external_id(asked.external_id)) is None:
                await asyncio.sleep(0.05)
        assert found.ticket_id == ref.ticket_id

    async def test_a_call_given_up_succeeds_late(self, plugin: TicketingToolPlugin, sandbox: SandboxProcess) -> None:
        """A tool carries out what arrived, whether or not anybody waits for the answer."""
        asked = a_ticket()
        sandbox.fault(delay=0.5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(plugin.create_ticket(asked), 0.1)
        assert await plugin.find_by_external_id(asked.external_id) is None
        async with asyncio.timeout(5):
            while await plugin.find_by_external_id(asked.external_id) is None:
                await asyncio.sleep(0.05)
        assert [row["kind"] for row in sandbox.ledger() if row["external_id"] == asked.external_id] == ["create"]

    async def test_a_broken_connection_leaves_doubt(self, plugin: TicketingToolPlugin, sandbox: SandboxProcess) -> None:
        """The ticket is there, and only a search can say so; a client that repeats by itself would make two."""
        for fault in ({"reset": True}, {"half_body": True}):
            asked = a_ticket()
            sandbox.fault(**fault)
            with pytest.raises(RetriableApiError) as caught:
                await plugin.create_ticket(asked)
            assert caught.value.in_doubt
            assert await plugin.find_by_external_id(asked.external_id) is not None
            assert [row["kind"] for row in sandbox.ledger() if row["external_id"] == asked.external_id] == ["create"]

    # errors -------------------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize(
        ("status", "kind", "in_doubt"),
        [
            (400, ValidationRefused, False),
            (401, CredentialsRefused, False),
            (403, CredentialsRefused, False),
            (404, NotFound, False),
            (429, RateLimited, False),
            (500, ServerError, True),
            (502, ServerError, True),
            (503, ServerError, False),
        ],
    )
    async def test_errors_are_named_by_what_to_do(
        self, plugin: TicketingToolPlugin, sandbox: SandboxProcess, status: int, kind: type[ApiError], in_doubt: bool
    ) -> None:
        """Retry, search first, or dead letter: the class and the doubt decide, the text is for people."""
        asked = a_ticket()
        sandbox.fault(status=status, method="POST")
        with pytest.raises(kind) as caught:
            await plugin.create_ticket(asked)
        assert (caught.value.status, caught.value.in_doubt) == (status, in_doubt)
        assert asked.subject not in str(caught.value)
        assert not [row for row in sandbox.ledger() if row["external_id"] == asked.external_id]

    async def test_retry_after_is_handed_on(self, plugin: TicketingToolPlugin, sandbox: SandboxProcess) -> None:
        """The stream waits as long as the tool asks, and no longer."""
        sandbox.fault(status=429, retry_after=7)
        with pytest.raises(RateLimited) as caught:
            await plugin.create_ticket(a_ticket())
        assert caught.value.retry_after == 7.0

    async def test_a_read_is_repeated_within_the_call(self, plugin: TicketingToolPlugin, sandbox: SandboxProcess) -> None:
        """Reading twice harms nobody, so a hiccup is not worth a retry topic."""
        ref = await plugin.create_ticket(a_ticket())
        sandbox.fault(status=503, times=1, method="GET")
        assert (await plugin.get_ticket(ref.ticket_id)).ticket_id == ref.ticket_id

    async def test_a_missing_ticket_is_not_found(self, plugin: TicketingToolPlugin) -> None:
        """Each tool has its own way to say so."""
        change = TicketChanges(event_id=new_event_id(), subject="x")
        for call in (
            plugin.get_ticket(self.missing_id),
            plugin.update_ticket(self.missing_id, change),
            plugin.add_note(self.missing_id, NewNote(text="x", marker=note_marker(new_event_id(), 1))),
            plugin.has_update(self.missing_id, change.event_id),
            plugin.has_note(self.missing_id, note_marker(new_event_id(), 1)),
        ):
            with pytest.raises(NotFound) as caught:
                await call
            assert not caught.value.in_doubt

    async def test_a_refused_value_is_named_by_its_field(self, plugin: TicketingToolPlugin) -> None:
        """Who reads the dead letter must see which setting to mend."""
        with pytest.raises(ValidationRefused, match=self.strange_field):
            await plugin.create_ticket(a_ticket(custom_fields={self.strange_field: "x"}))

    async def test_an_id_leads_to_no_other_path(self, plugin: TicketingToolPlugin) -> None:
        """Ids come from webhooks, and so from outside."""
        for hostile in ("../../myself", "1/../2", "1?x=y", "%2e%2e", "1#", " "):
            with pytest.raises(NotFound):
                await plugin.get_ticket(hostile)

    # health -------------------------------------------------------------------------------------------------------------
    async def test_health_tells_good_credentials_from_bad(self, plugin: TicketingToolPlugin, sandbox: SandboxProcess) -> None:
        """A check that passes with a wrong token would be worse than none."""
        good = await plugin.health_check()
        assert good.ok and good.actor == sandbox.credentials["actor"]
        client = ApiClient()
        auth = dict.fromkeys(sandbox.credentials["auth"], "wrong")
        bad = self.bound(sandbox, client, auth=auth)
        health = await bad.health_check()
        assert not health.ok and health.detail
        with pytest.raises(CredentialsRefused):
            await bad.create_ticket(a_ticket())
        with pytest.raises(CredentialsRefused):
            await bad.find_by_external_id("aia-nothing")
        nowhere = self.bound(sandbox, client, base_url="http://127.0.0.1:9")
        assert not (await nowhere.health_check()).ok
        await client.aclose()

    # webhooks -----------------------------------------------------------------------------------------------------------
    async def test_peoples_work_comes_back_signed_and_readable(
        self, plugin: TicketingToolPlugin, sandbox: SandboxProcess, receiver: Receiver
    ) -> None:
        """From the sandbox's signature to canonical words: the whole way in."""
        ticket_id = sandbox.person_creates(
            subject="Crane 4 stands still", description="No *power*", priority="urgent", type="incident", tags=["crane"]
        )
        created = await self.read(plugin, receiver)
        assert (created.ticket_id, created.change, created.subject) == (ticket_id, TicketChange.CREATED, "Crane 4 stands still")
        assert (created.type, created.priority) == (TicketType.INCIDENT, Priority.URGENT)
        assert "power" in created.description
        sandbox.person_updates(ticket_id, priority="low")
        updated = await self.read(plugin, receiver)
        assert (updated.change, updated.priority) == (TicketChange.UPDATED, Priority.LOW)
        sandbox.person_updates(ticket_id, comment="On my way", public=True)
        commented = await self.read(plugin, receiver)
        assert (commented.ticket_id, commented.change) == (ticket_id, TicketChange.COMMENTED)
        assert "On my way" in commented.extra["comment"] and commented.extra["comment_public"] is True
        for metadata in (created, updated, commented):
            assert metadata.tenant_id == "acme" and metadata.actor and not plugin.is_own_actor(metadata)

    async def test_our_own_writes_come_back_and_are_known(
        self, plugin: TicketingToolPlugin, sandbox: SandboxProcess, receiver: Receiver
    ) -> None:
        """Without this, two tools would answer each other for ever."""
        ref = await plugin.create_ticket(a_ticket())
        created = await self.read(plugin, receiver)
        await plugin.update_ticket(ref.ticket_id, TicketChanges(event_id=new_event_id(), priority=Priority.LOW))
        updated = await self.read(plugin, receiver)
        event_id = new_event_id()
        await plugin.add_note(ref.ticket_id, NewNote(text="seen", marker=note_marker(event_id, 2)))
        noted = await self.read(plugin, receiver)
        for metadata in (created, updated, noted):
            assert metadata.ticket_id == ref.ticket_id and plugin.is_own_actor(metadata)
        assert find_marker(noted.extra["comment"]) == (event_id, 2)
        assert noted.extra["comment_public"] is False

    async def test_a_delivery_not_taken_comes_again_unchanged(
        self, plugin: TicketingToolPlugin, sandbox: SandboxProcess, receiver: Receiver
    ) -> None:
        """A tool that repeats keeps body and id, so that deduplication can know it; one that does not is never told twice."""
        receiver.answers = [503]
        sandbox.person_creates(subject="told twice")
        first = await receiver.next("target")
        if not self.retries_webhooks:
            sandbox.person_creates(subject="the next")
            assert json.loads((await receiver.next("target")).body) != json.loads(first.body)
            return
        second = await receiver.next("target")
        assert second.body == first.body
        assert plugin.identify(second) == plugin.identify(first) is not None
        plugin.validate_webhook(second)

    async def test_another_secret_is_refused(self, plugin: TicketingToolPlugin, sandbox: SandboxProcess, receiver: Receiver) -> None:
        """The sandbox signs, and the signature counts."""
        sandbox.person_creates(subject="forged?")
        delivery = await receiver.next("target")
        client = ApiClient()
        other = self.bound(sandbox, client, webhook={**sandbox.webhook, "secret": "another"})
        with pytest.raises(SignatureMismatch):
            other.validate_webhook(delivery)

    async def read(self, plugin: TicketingToolPlugin, receiver: Receiver) -> Any:
        delivery = await receiver.next("target")
        assert plugin.validate_webhook(delivery)
        metadata = plugin.extract_metadata(delivery)
        assert plugin.ticket_key(delivery) == metadata.ticket_id
        return metadata

    # the sandbox --------------------------------------------------------------------------------------------------------
    async def test_a_killed_sandbox_goes_on_where_it_was(self, tmp_path: Path) -> None:
        """Chaos kills tools too; what they did must stay done, and their credentials stay valid."""
        state, asked, client = tmp_path / "state.jsonl", a_ticket(), ApiClient()
        sandbox = SandboxProcess(self.tool_type, state=state).start()
        try:
            ref = await self.bound(sandbox, client).create_ticket(asked)
            credentials = sandbox.credentials
        finally:
            sandbox.kill()
        with SandboxProcess(self.tool_type, state=state) as again:
            assert again.credentials == credentials
            plugin = self.bound(again, client)
            found = await plugin.find_by_external_id(asked.external_id)
            assert found is not None and found.ticket_id == ref.ticket_id
            assert (await plugin.create_ticket(a_ticket())).ticket_id != ref.ticket_id
            assert [row["kind"] for row in again.ledger()] == ["create", "create"]
        await client.aclose()
