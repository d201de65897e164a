"""The sandbox is true where clients lean on it: its query language, its checks, what it sends out, what it keeps."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from plugins.api import Delivery, NewNote, TicketChange, TicketChanges, TicketingToolPlugin, TicketStatus
from plugins.freshdesk.sandbox import FreshdeskSandbox
from plugins.freshdesk.sandbox_search import BadQuery, compiled
from plugins.marker import find_marker, note_marker
from plugins.sandbox.http import HttpServer, Request, Response
from tests.plugins.freshdesk.connected import a_ticket, connected

RECORD = {"priority": 3, "type": "Question", "tags": ["vip", "a b"], "due_by": "2026-03-02T09:40:05Z", "responder_id": None} | {
    "custom_fields": {"cf_serial_number": "SC-4", "cf_floor": 3}
}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("priority:3", True),
        ("priority:2", False),
        ("priority:>3", True),
        ("priority:<2", False),
        ("type:'question'", True),
        ("tag:'a b' AND priority:3", True),
        ("tag:'none' OR priority:3", True),
        ("(tag:'none' OR priority:1) AND type:'Question'", False),
        ("tag:'none' AND priority:1 OR type:'Question'", True),
        ("agent_id:null", True),
        ("type:null", False),
        ("tag:null", False),
        ("due_by:>'2026-03-01'", True),
        ("due_by:<'2026-03-01'", False),
        ("cf_serial_number:'SC-4' and cf_floor:3", True),
        ("cf_none:'x'", False),
    ],
)
def test_a_query_means_what_the_manual_says(query: str, found: bool) -> None:
    """Our own search stands on it, and so do clients'."""
    assert compiled(f'"{query}"')(RECORD) is found


@pytest.mark.parametrize(
    "query",
    ["priority:3", '"', '""', '"priority"', '"(priority:3"', '"priority:3 AND"', "\"subject:'x'\"", '"priority:3 tag:x"', '"a:\'b"'],
)
def test_what_is_no_query_is_refused(query: str) -> None:
    """Above all one without its double quotes."""
    with pytest.raises(BadQuery):
        compiled(query)


class Mailbox:
    """Takes webhooks, in the order they come."""

    def __init__(self) -> None:
        self.got: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.got.append(request)
        return Response(202)


class Stand:
    """A sandbox in this process, an agent's client of it, and where its webhooks go."""

    def __init__(self, sandbox: FreshdeskSandbox, mailbox: Mailbox, target: str) -> None:
        self.sandbox, self.mailbox, self.target = sandbox, mailbox, target
        self.client = httpx.AsyncClient(base_url=f"{sandbox.base_url}/api/v2", headers=dict(sandbox.credentials["person"]["headers"]))

    async def call(self, method: str, path: str, status: int, **options: Any) -> Any:
        answer = await self.client.request(method, path, **options)
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer.json() if answer.content and "json" in answer.headers["content-type"] else answer.content

    async def control(self, path: str, body: Any) -> Any:
        answer = await self.client.post(f"{self.sandbox.base_url}{path}", json=body)
        return answer.json()

    async def told(self, count: int) -> list[Delivery]:
        """The next webhooks, as deliveries."""
        async with asyncio.timeout(5):
            while len(self.mailbox.got) < count:
                await asyncio.sleep(0.005)
        got, self.mailbox.got = self.mailbox.got[:count], self.mailbox.got[count:]
        kinds = [request.headers.get("content-type", "") for request in got]
        return [
            Delivery(tenant="acme", tool="desk", body=request.body, headers=request.headers, content_type=kind)
            for request, kind in zip(got, kinds, strict=True)
        ]


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    sandbox, mailbox = FreshdeskSandbox(state=tmp_path / "state.jsonl"), Mailbox()
    await sandbox.start()
    server = HttpServer(mailbox)
    made = Stand(sandbox, mailbox, f"http://127.0.0.1:{await server.start()}/hook")
    yield made
    await made.client.aclose()
    await sandbox.stop()
    await server.stop()


def bound(stand: Stand) -> Any:
    """The plugin on this sandbox."""
    return connected(stand.sandbox)  # type: ignore[arg-type]  # base_url, credentials and webhook are all it takes


@pytest.mark.parametrize("kind", ["advanced", "simple", "form", "xml", "app"])
async def test_what_people_do_comes_back_in_every_form_a_rule_can_send(stand: Stand, kind: str) -> None:
    """One rule may send JSON, the next a form: all say the same."""
    await stand.control("/_webhook", {"url": stand.target, "kind": kind})
    ticket_id = (await stand.control("/_people/tickets", {"subject": "Crane & <hook>", "priority": "urgent", "type": "incident"}))[
        "ticket_id"
    ]
    await stand.call("PUT", f"/tickets/{ticket_id}", 200, json={"status": 4})
    await stand.call("POST", f"/tickets/{ticket_id}/reply", 201, json={"body": "<p>done</p>"})
    async with bound(stand) as plugin:
        deliveries = await stand.told(3)
        for delivery in deliveries:
            assert plugin.validate_webhook(delivery).scheme == "shared-secret"
        tickets = {t.change: t for t in map(plugin.extract_metadata, deliveries)}  # the outbox has several workers: no order
        created, resolved = tickets[TicketChange.CREATED], tickets[TicketChange.RESOLVED]
        assert (created.ticket_id, created.subject, created.priority) == (ticket_id, "Crane & <hook>", "urgent")
        assert resolved.status is TicketStatus.RESOLVED and resolved.extra["changed"] == ("status",)
        said = tickets[TicketChange.COMMENTED]
        assert (said.extra["comment"], said.extra["comment_public"]) == ("done", True)
        assert created.requester == "cora@customer.example"
        if kind in ("advanced", "app"):
            assert (said.actor, created.actor) == ("ada@desk.example", "cora@customer.example")


@pytest.mark.parametrize("kind", ["advanced", "app"])
async def test_our_own_writes_are_known_as_ours(stand: Stand, kind: str) -> None:
    """Also those of a bulk job; without this two tools would answer each other for ever."""
    await stand.control("/_webhook", {"url": stand.target, "kind": kind})
    async with bound(stand) as plugin:
        ref = await plugin.create_ticket(a_ticket())
        other = await plugin.create_ticket(a_ticket())
        await plugin.batch_update_tickets({i: TicketChanges(event_id="e", priority=None) for i in (ref.ticket_id, other.ticket_id)})
        marker = note_marker("0195", 2)
        await plugin.add_note(ref.ticket_id, NewNote(text="seen", marker=marker))
        tickets = [plugin.extract_metadata(delivery) for delivery in await stand.told(5)]
        assert all(plugin.is_own_actor(ticket) for ticket in tickets)
        (noted,) = [ticket for ticket in tickets if ticket.change is TicketChange.COMMENTED]
        assert find_marker(noted.extra["comment"]) == ("0195", 2) and noted.extra["comment_public"] is False


async def test_a_delivery_not_taken_comes_again_unchanged(stand: Stand) -> None:
    """Three times, at growing distances; the body's hash tells that it is the same."""
    answers = [500, 202]
    got: list[bytes] = []

    async def refuse_once(request: Request) -> Response:
        got.append(request.body)
        return Response(answers.pop(0))

    server = HttpServer(refuse_once)
    await stand.control("/_webhook", {"url": f"http://127.0.0.1:{await server.start()}/"})
    await stand.control("/_people/tickets", {"subject": "told twice"})
    async with asyncio.timeout(5):
        while len(got) < 2:
            await asyncio.sleep(0.01)
    await server.stop()
    assert got[0] == got[1]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("POST", "/tickets", {"subject": "x", "description": "y"}, 400, "requester_id"),
        ("POST", "/tickets", {"subject": "x" * 256, "description": "y", "email": "a@b.example"}, 400, "too_long"),
        ("POST", "/tickets", {"subject": "x", "description": "y", "email": "a@b.example", "priority": "high"}, 400, "datatype_mismatch"),
        ("POST", "/tickets", {"subject": "x", "description": "y", "email": "a@b.example", "status": 99}, 400, "one of these values"),
        ("POST", "/tickets", {"subject": "x", "description": "y", "email": "a@b.example", "type": "Epic"}, 400, "Refund"),
        ("POST", "/tickets", {"subject": "x", "description": "y", "email": "a@b.example", "group_id": 1}, 400, "no group matching"),
        (
            "POST",
            "/tickets",
            {"subject": "x", "description": "y", "email": "a@b.example", "custom_fields": {"cf_external_id": "x" * 256}},
            400,
            "255",
        ),
        ("GET", "/tickets?per_page=101", None, 400, "per_page"),
        ("GET", "/tickets?page=0", None, 400, "page"),
        ("GET", "/tickets?page=x", None, 400, "datatype_mismatch"),
        ("GET", "/tickets?order_by=subject", None, 400, "order_by"),
        ("GET", '/search/tickets?query="priority:1"&page=11', None, 400, "less than or equal to 10"),
        ("GET", "/search/contacts?query=x", None, 400, "double quotes"),
        ("POST", "/tickets/bulk_update", {"ids": [1], "properties": {}}, 400, "bulk_action"),
        ("POST", "/tickets/bulk_update", {"bulk_action": {"ids": [1], "properties": {"cf_x": 1}}}, 400, "invalid_field"),
        ("POST", "/contacts", {"name": "x"}, 400, "missing_field"),
        ("POST", "/contacts", {"email": "x@y.example"}, 400, "name"),
        ("POST", "/contacts", {"name": "x", "email": "x@y.example", "company_id": 9}, 400, "no company matching"),
        ("POST", "/contacts", {"name": "x", "email": "cora@customer.example"}, 409, "duplicate_value"),
        ("POST", "/companies", {}, 400, "missing_field"),
        ("POST", "/discussions/categories", {}, 400, "missing_field"),
        ("GET", "/jobs/none", None, 404, ""),
        ("DELETE", "/tickets/9", None, 404, ""),
        ("DELETE", "/companies/9", None, 404, ""),
        ("PUT", "/contacts/9", {"name": "x"}, 404, ""),
        ("PUT", "/companies/9", {"name": "x"}, 404, ""),
        ("PUT", "/conversations/9", {"body": "x"}, 404, ""),
        ("GET", "/products/9", None, 404, ""),
        ("GET", "/nowhere", None, 404, ""),
        ("PATCH", "/tickets", {}, 405, "not allowed"),
    ],
)
async def test_what_the_tool_refuses_the_sandbox_refuses_in_its_words(
    stand: Stand, method: str, path: str, body: Any, status: int, told: str
) -> None:
    """A client tried here must not meet its first refusal in production."""
    answer = await stand.call(method, path, status, json=body)
    assert told in (answer.decode() if isinstance(answer, bytes) else json.dumps(answer))


async def test_a_body_of_another_kind_is_refused(stand: Stand) -> None:
    """415 without the JSON header, 400 for JSON that is none."""
    await stand.call("POST", "/tickets", 415, content=b"{}")
    await stand.call("POST", "/tickets", 400, content=b"{", headers={"content-type": "application/json"})
    await stand.call("POST", "/contacts", 415, content=b"{}")
    await stand.call("PUT", "/contacts/4001", 415, content=b"{}")


async def test_notes_can_be_changed_and_replies_cannot(stand: Stand) -> None:
    """What was mailed stays as it was."""
    ticket = await stand.call("POST", "/tickets", 201, json={"subject": "x", "description": "y", "phone": "+49 30 9", "name": "Phil"})
    note = await stand.call("POST", f"/tickets/{ticket['id']}/notes", 201, json={"body": "a"})
    reply = await stand.call("POST", f"/tickets/{ticket['id']}/reply", 201, json={"body": "a", "from_email": "lamps@desk.example"})
    assert (await stand.call("PUT", f"/conversations/{note['id']}", 200, json={"body": "<b>b</b>"}))["body_text"] == "b"
    await stand.call("PUT", f"/conversations/{reply['id']}", 403, json={"body": "b"})
    await stand.call("POST", f"/tickets/{ticket['id']}/reply", 400, json={"body": "a", "from_email": "other@nowhere.example"})
    await stand.call("POST", f"/tickets/{ticket['id']}/notes", 400, json={})
    whole = await stand.call("GET", f"/tickets/{ticket['id']}?include=conversations,stats,requester", 200)
    assert len(whole["conversations"]) == 2 and whole["requester"]["name"] == "Phil" and whole["stats"]["first_responded_at"]


async def test_a_ticket_is_deleted_restored_and_archived(stand: Stand) -> None:
    """A deleted one takes no change; an archived one is read elsewhere."""
    ticket = await stand.call("POST", "/tickets", 201, json={"subject": "x", "description": "y", "requester_id": 4001})
    path = f"/tickets/{ticket['id']}"
    await stand.call("DELETE", path, 204)
    await stand.call("PUT", path, 405, json={"status": 3})
    await stand.call("PUT", f"{path}/restore", 204)
    await stand.call("PUT", path, 200, json={"status": 5, "description": "<i>z</i>"})
    stand.sandbox.archived.put(str(ticket["id"]), stand.sandbox.tickets.get(str(ticket["id"])))
    stand.sandbox.tickets.drop(str(ticket["id"]))
    await stand.call("GET", path, 404)
    async with bound(stand) as plugin:
        assert isinstance(plugin, TicketingToolPlugin)
        assert (await plugin.get_ticket(str(ticket["id"]))).description == "z"


async def test_files_come_from_a_signed_address_only(stand: Stand) -> None:
    """Whoever has it may read, nobody else, with a key or without."""
    ticket = await stand.call(
        "POST",
        "/tickets",
        201,
        data={
            "subject": "x",
            "description": "y",
            "email": "a@b.example",
            "status": "3",
            "tags[]": ["a", "b"],
            "custom_fields[cf_floor]": "4",
        },
        files={"attachments[]": ("a.txt", b"abc", "text/plain")},
    )
    assert (ticket["status"], ticket["tags"], ticket["custom_fields"]["cf_floor"]) == (3, ["a", "b"], 4)
    address = ticket["attachments"][0]["attachment_url"]
    async with httpx.AsyncClient() as anybody:
        assert (await anybody.get(address)).content == b"abc"
        assert (await anybody.get(address.partition("?")[0])).status_code == 403


async def test_a_restart_goes_on_where_it_was(stand: Stand, tmp_path: Path) -> None:
    """Chaos tests kill it."""
    ticket = await stand.call("POST", "/tickets", 201, json={"subject": "kept", "description": "y", "email": "a@b.example"})
    key = stand.sandbox.credentials["auth"]["api_key"]
    await stand.sandbox.stop()
    again = FreshdeskSandbox(state=tmp_path / "state.jsonl")
    await again.start()
    async with httpx.AsyncClient(headers={"Authorization": "Basic " + base64.b64encode(f"{key}:X".encode()).decode()}) as client:
        answer = await client.get(f"{again.base_url}/api/v2/tickets/{ticket['id']}")
        assert answer.json()["subject"] == "kept"
        assert (await client.get(f"{again.base_url}/api/v2/contacts?email=cora@customer.example")).json()[0]["id"] == 4001
        refused = await client.get(f"{again.base_url}/api/v2/agents/me", headers={"Authorization": "Basic ?"})
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_credentials")
    await again.stop()
