"""ServiceDesk Plus' calls, against its sandbox over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from plugins.api import (
    ApiError,
    CredentialsRefused,
    NewNote,
    NotFound,
    Priority,
    RateLimited,
    ServerError,
    TicketChanges,
    TicketingToolPlugin,
    TicketStatus,
    TornAnswer,
    ValidationRefused,
)
from plugins.conformance.builders import a_ticket
from plugins.conformance.pytest_plugin import ConformanceSuite
from plugins.http.client import ApiClient
from plugins.http.errors import Answer
from plugins.marker import note_marker
from plugins.registry import PluginRegistry
from plugins.sandbox.server import SandboxProcess
from plugins.servicedesk_plus.api_client import RequestRefused, sdp_error_for
from plugins.servicedesk_plus.plugin import ServiceDeskPlusPlugin
from schemas.ids import new_event_id


class TestServiceDeskPlus(ConformanceSuite):
    tool_type = "servicedesk_plus"

    @pytest.fixture
    async def person(self, sandbox: SandboxProcess) -> AsyncIterator[httpx.AsyncClient]:
        """Somebody who looks into the tool with an account of their own."""
        async with httpx.AsyncClient(base_url=sandbox.base_url, headers=sandbox.credentials["person"]["headers"]) as client:
            yield client

    async def test_a_priority_the_tool_lacks_becomes_high(self, sandbox: SandboxProcess) -> None:
        """A default installation ends at High; a ticket refused for a word would be lost to the people it is for."""
        client = ApiClient()
        plugin = self.bound(sandbox, client, priority_names={"urgent": "Apocalyptic"})
        for _ in range(2):
            seen = len(sandbox.ledger())
            ref = await plugin.create_ticket(a_ticket(priority=Priority.URGENT))
            assert (await plugin.get_ticket(ref.ticket_id)).priority is Priority.HIGH
            assert len(sandbox.ledger(seen)) == 1
        await client.aclose()

    async def test_closing_writes_the_resolution_the_rules_demand(self, plugin: TicketingToolPlugin, person: httpx.AsyncClient) -> None:
        """Many sites refuse to close a request without one."""
        ref = await plugin.create_ticket(a_ticket())
        await plugin.update_ticket(ref.ticket_id, TicketChanges(event_id=new_event_id(), status=TicketStatus.CLOSED))
        answer = (await person.get(f"/api/v3/requests/{ref.ticket_id}")).json()["request"]
        assert (answer["status"]["name"], answer["resolution"]["content"]) == ("Closed", "<p>Resolved in the linked ticket.</p>")

    async def test_other_fields_of_the_request_are_left_alone(self, plugin: TicketingToolPlugin, person: httpx.AsyncClient) -> None:
        """An update names what it changes; our ids beside a site's own custom fields stay apart."""
        ref = await plugin.create_ticket(asked := a_ticket(custom_fields={"udf_pick_5": "Gate 2"}))
        event_id = new_event_id()
        await plugin.update_ticket(ref.ticket_id, TicketChanges(event_id=event_id, priority=Priority.LOW))
        answer = (await person.get(f"/api/v3/requests/{ref.ticket_id}")).json()["request"]
        assert answer["udf_fields"] == {"udf_sline_1": asked.external_id, "udf_sline_2": event_id, "udf_pick_5": "Gate 2"}
        assert answer["subject"] == asked.subject

    async def test_a_tenants_own_custom_fields_are_used(self, sandbox: SandboxProcess, person: httpx.AsyncClient) -> None:
        """Custom fields are numbered differently on each installation."""
        client = ApiClient()
        plugin = self.bound(sandbox, client, external_id_field="udf_sline_51", event_field="udf_sline_52")
        ref = await plugin.create_ticket(asked := a_ticket())
        found = await plugin.find_by_external_id(asked.external_id)
        assert found is not None and found.ticket_id == ref.ticket_id
        assert await plugin.has_update(ref.ticket_id, asked.event_id)
        answer = (await person.get(f"/api/v3/requests/{ref.ticket_id}")).json()["request"]
        assert answer["udf_fields"]["udf_sline_51"] == asked.external_id
        await client.aclose()

    async def test_notes_are_internal_unless_public(self, plugin: TicketingToolPlugin, person: httpx.AsyncClient) -> None:
        """A note shown to the requester cannot be taken back."""
        ref = await plugin.create_ticket(a_ticket())
        for public in (False, True):
            await plugin.add_note(ref.ticket_id, NewNote(text="<b>x</b>", marker=note_marker(new_event_id(), 1), public=public))
        notes = (await person.get(f"/api/v3/requests/{ref.ticket_id}/notes")).json()["notes"]
        assert [note["show_to_requester"] for note in notes] == [False, True]
        text = (await person.get(f"/api/v3/requests/{ref.ticket_id}/notes/{notes[0]['id']}")).json()["note"]["description"]
        assert "<b>" not in text and "&lt;b&gt;" in text

    async def test_cloud_calls_a_note_by_another_name(self, sandbox: SandboxProcess) -> None:
        """`request_note` in and out; on premises `note`."""
        client = ApiClient()
        plugin = self.bound(sandbox, client, edition="cloud")
        ref = await plugin.create_ticket(a_ticket())
        assert await plugin.add_note(ref.ticket_id, NewNote(text="x", marker=note_marker(new_event_id(), 1)))
        await client.aclose()

    async def test_the_address_may_name_the_api_already(self, sandbox: SandboxProcess) -> None:
        """Both forms are found in the vendor's documents."""
        client = ApiClient()
        plugin = self.bound(sandbox, client, base_url=f"{sandbox.base_url}/api/v3/")
        assert (await plugin.health_check()).ok
        await client.aclose()

    async def test_lists_count_from_one_and_say_when_more_is_to_come(self, plugin: TicketingToolPlugin, person: httpx.AsyncClient) -> None:
        """An index from 0 would read the first row twice, or never the last."""
        for _ in range(3):
            await plugin.create_ticket(a_ticket())
        ids: list[str] = []
        start, more = 1, True
        while more:
            info = {"list_info": {"row_count": 2, "start_index": start, "sort_field": "id", "sort_order": "asc"}}
            answer = (await person.get("/api/v3/requests", params={"input_data": json.dumps(info)})).json()
            assert isinstance(answer["response_status"], list)
            ids += [row["id"] for row in answer["requests"]]
            start, more = start + answer["list_info"]["row_count"], answer["list_info"]["has_more_rows"]
        assert len(ids) == len(set(ids)) >= 3
        bad = await person.get("/api/v3/requests", params={"input_data": json.dumps({"list_info": {"sort_field": "colour"}})})
        assert bad.json()["response_status"]["messages"][0]["field"] == "sort_field"

    async def test_a_raw_json_body_is_not_understood(self, person: httpx.AsyncClient) -> None:
        """The sandbox is as strict as the tool: parameters travel in input_data."""
        answer = await person.post("/api/v3/requests", json={"request": {"subject": "x"}})
        assert (answer.status_code, answer.json()["response_status"]["status"]) == (400, "failed")

    async def test_an_error_under_status_200_is_an_error(self, plugin: TicketingToolPlugin, person: httpx.AsyncClient) -> None:
        """Taken for a success, it would be a ticket that nobody ever sees."""
        answer = await person.post("/api/v3/requests", data={"input_data": json.dumps({"request": {"description": "no subject"}})})
        assert (answer.status_code, answer.json()["response_status"]["status"]) == (200, "failed")


def an_answer(status: int, body: Any, method: str = "POST") -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(method=method, path="/requests", status=status, headers={"content-type": "application/json"}, body=raw)


def failed(code: int, field: str | None = None, message: str = "Invalid Input") -> dict[str, Any]:
    told = {"status_code": code, "type": "failed", "message": message} | ({"field": field} if field else {})
    return {"response_status": {"status_code": 4000, "messages": [told], "status": "failed"}}


@pytest.mark.parametrize("http_status", [200, 400, 404])
@pytest.mark.parametrize(("code", "kind"), [(4001, ValidationRefused), (4007, NotFound), (4002, CredentialsRefused), (4015, RateLimited)])
def test_the_envelope_counts_where_the_status_says_little(http_status: int, code: int, kind: type[ApiError]) -> None:
    """Builds differ in the HTTP status they answer with; the inner code is the same everywhere."""
    error = sdp_error_for(an_answer(http_status, failed(code)))
    assert isinstance(error, kind)
    assert not error.in_doubt


def test_a_server_error_stays_in_doubt_whatever_its_envelope_says() -> None:
    """A failing server's own account of what it did is not to be trusted."""
    error = sdp_error_for(an_answer(500, failed(4001)))
    assert isinstance(error, ServerError)
    assert error.in_doubt


def test_successes_are_told_in_two_forms() -> None:
    """An object for one request, a list of one for many."""
    success = {"status_code": 2000, "status": "success"}
    assert sdp_error_for(an_answer(200, {"response_status": success})) is None
    assert sdp_error_for(an_answer(200, {"response_status": [success]})) is None
    assert sdp_error_for(an_answer(201, {"response_status": success})) is None


def test_a_refusal_names_its_field_and_keeps_its_text_to_itself() -> None:
    """The fallback decides by the field; the message may quote the ticket."""
    error = sdp_error_for(an_answer(400, failed(4001, "priority", "Mrs. Secret wants it")))
    assert isinstance(error, RequestRefused)
    assert (error.code, error.field) == (4001, "priority")
    assert "field priority" in str(error) and "Secret" not in str(error)


@pytest.mark.parametrize(
    "body", [b"<html>Log in</html>", b"[]", b"", b'{"request": {}}', b'{"response_status": []}', b'{"response_status": 7}']
)
def test_what_has_no_envelope_is_no_success(body: bytes) -> None:
    """A login page, a proxy, another server on the same port: nothing was confirmed, so the write is in doubt."""
    error = sdp_error_for(an_answer(200, body))
    assert isinstance(error, TornAnswer)
    assert error.in_doubt


def test_the_manifest_tells_what_the_plugin_is() -> None:
    """Listings are read from the manifest alone; it must not drift from the code."""
    manifest = PluginRegistry.discover().manifest("servicedesk_plus")
    assert (manifest.version, manifest.settings["search_lag"].default) == (ServiceDeskPlusPlugin.version, ServiceDeskPlusPlugin.search_lag)
    assert all(callable(getattr(ServiceDeskPlusPlugin, method)) for method in manifest.methods)


def test_the_readme_names_every_setting() -> None:
    """Who connects the tool reads that page, not the manifest."""
    page = (Path(str(files("plugins.servicedesk_plus"))) / "README.md").read_text(encoding="utf-8")
    assert [name for name in PluginRegistry.discover().manifest("servicedesk_plus").settings if f"`{name}`" not in page] == []
