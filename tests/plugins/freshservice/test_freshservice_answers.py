"""What Freshservice may answer besides the usual: its errors named, half answers doubted, its false positives seen through."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from plugins.api import (
    ApiError,
    CredentialsRefused,
    NewNote,
    NewTicket,
    NotFound,
    PluginConfigError,
    PluginContext,
    RateLimited,
    ServerError,
    TicketChanges,
    TicketType,
    TornAnswer,
    ValidationRefused,
)
from plugins.freshservice.api_client import freshservice_error
from plugins.freshservice.plugin import FreshservicePlugin
from plugins.http.client import ApiClient
from plugins.http.errors import Answer
from tests.plugins.http.answering import wireless

TICKET = NewTicket(subject="s", external_id="aia-1", event_id="e-1")
Answering = Callable[[httpx.Request], httpx.Response]


def a_plugin(answer: Answering, **settings: Any) -> FreshservicePlugin:
    """The plugin over a tool that answers as told: only the wire is not real."""
    client = ApiClient(pool=wireless(answer))
    given = {"base_url": "https://x.freshservice.example", "auth": {"api_key": "k"}, "requester": "r@x.example", **settings}
    return FreshservicePlugin(
        PluginContext(tenant="acme", tool="desk", settings=given, secrets=lambda reference: [reference.encode()], http=lambda: client)
    )


def always(status: int = 200, body: Any = None, **headers: str) -> Answering:
    def answer(request: httpx.Request) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "text/html" if content.startswith(b"<") else "application/json"
        return httpx.Response(status, content=content, headers={"content-type": kind, **headers})

    return answer


REFUSED = {
    "description": "Validation failed",
    "errors": [{"field": "status", "message": "'secret words' is wrong", "code": "invalid_value"}],
}


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (400, REFUSED, ValidationRefused, "status: invalid_value"),
        (400, {"code": "invalid_json"}, ValidationRefused, "invalid_json"),
        (401, {"code": "invalid_credentials"}, CredentialsRefused, "invalid_credentials"),
        (403, {"code": "access_denied"}, CredentialsRefused, "access_denied"),
        (404, b"", NotFound, "gone"),
        (404, b"<html>", NotFound, "gone"),
        (429, {"message": "slow"}, RateLimited, "rate limit"),
        (502, b"<html>", ServerError, "502"),
    ],
)
def test_errors_are_named_by_fields_and_codes_never_by_texts(status: int, body: Any, kind: type[ApiError], text: str) -> None:
    """A message may quote the ticket; a missing record has no body at all."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = freshservice_error(Answer(method="PUT", path="/api/v2/tickets/1", status=status, headers={}, body=raw))
    assert type(error) is kind
    assert text in str(error)
    assert "secret words" not in str(error)


def test_a_success_is_no_error() -> None:
    """201 and 204 too."""
    assert freshservice_error(Answer(method="POST", path="/", status=201, headers={}, body=b"{}")) is None


@pytest.mark.parametrize("body", [{}, [], {"ticket": None}, {"ticket": {}}, {"ticket": {"id": None}}, b"<html>login</html>"])
async def test_a_success_that_does_not_say_what_was_made_leaves_doubt(body: Any) -> None:
    """It has to be searched for, not made again."""
    with pytest.raises(TornAnswer) as caught:
        await a_plugin(always(201, body)).create_ticket(TICKET)
    assert caught.value.in_doubt


async def test_a_note_and_a_file_without_an_id_leave_doubt() -> None:
    """Listing the notes tells."""
    plugin = a_plugin(always(201, {"conversation": {"body": "x"}}))
    with pytest.raises(TornAnswer):
        await plugin.add_note("1", NewNote(text="x", marker="[aia:e:1]"))

    async def content() -> Any:
        yield b"x"

    with pytest.raises(TornAnswer):
        await plugin.add_attachment("1", "a.txt", "text/plain", content())


@pytest.mark.parametrize("body", [{"tickets": None}, {"tickets": {}}, b"null"])
async def test_a_list_that_is_none_is_not_taken_for_an_empty_one(body: Any) -> None:
    """ "Nothing found" would make a second ticket."""
    with pytest.raises(TornAnswer):
        await a_plugin(always(200, body)).find_by_external_id("aia-1")


async def test_a_search_ends_with_its_pages_and_takes_the_oldest_that_carries_the_tag() -> None:
    """No header names the next page; ten are all there are; a tag is compared again, as the tool's index may be loose."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/filter"):
            asked.append(request.url.params["page"])
            number = int(request.url.params["page"])
            assert request.url.params["query"] == "\"tag:'aia-1'\""
            tickets = [{"id": 1000 - number, "tags": ["aia-1"]}, {"id": 1, "tags": ["aia-11"]}]
            return httpx.Response(200, json={"tickets": tickets, "total": 999})
        return httpx.Response(200, json={request.url.path.rpartition("/")[2]: []})

    found = await a_plugin(answer).find_by_external_id("aia-1")
    assert found is not None
    assert found.ticket_id == "990"
    assert asked == [str(n) for n in range(1, 11)]


async def test_a_plan_without_changes_has_none_of_ours() -> None:
    """A smaller plan answers 403 for them: that is an answer, not a failure."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/filter"):
            return httpx.Response(200, json={"tickets": [], "total": 0})
        return httpx.Response(403, json={"code": "access_denied"})

    assert await a_plugin(answer).find_by_external_id("aia-1") is None
    with pytest.raises(ValidationRefused):
        await a_plugin(answer).find_by_external_id("it's")


@pytest.mark.parametrize(
    ("me", "tickets", "settings", "ok", "text"),
    [
        ((200, {"agent": {"id": 5, "email": "bot@x.example"}}), None, {}, True, ""),
        ((200, {"agent": {"id": 5, "email": "bot@x.example", "active": False}}), None, {}, False, "deactivated"),
        ((200, {"agent": {}}), None, {}, False, "whose key"),
        ((200, b"<html>please log in</html>"), None, {}, False, "account's own address"),
        ((401, {"code": "invalid_credentials"}), (200, {"tickets": []}), {}, False, "invalid_credentials"),
        ((403, {"code": "access_denied"}), (200, {"tickets": []}), {}, True, "set actor by hand"),
        ((404, b""), (403, {"code": "access_denied"}), {}, False, "access_denied"),
        ((200, {"agent": {"id": 5}}), None, {"workspace_id": 4}, False, "workspace 4"),
        ((200, {"agent": {"id": 5}}), None, {"auth": {}}, False, "api_key"),
    ],
)
async def test_health_sees_through_what_only_looks_well(me: Any, tickets: Any, settings: dict[str, Any], ok: bool, text: str) -> None:
    """Login pages, switched-off agents and unreachable workspaces all answer something."""

    def answer(request: httpx.Request) -> httpx.Response:
        if "/workspaces/" in request.url.path:
            return httpx.Response(404)
        return always(*(me if request.url.path.endswith("/me") else tickets))(request)

    health = await a_plugin(answer, **settings).health_check()
    assert health.ok is ok
    assert text in health.detail


async def test_what_is_sent_is_what_the_forms_want() -> None:
    """Flat bodies, codes for words, our ids where they are looked for, the workspace only where there are some."""
    sent: list[tuple[str, dict[str, Any]]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        name = request.url.path.split("/")[3]
        if name.endswith("_form_fields"):
            fields = [{"id": 77, "name": "cost_centre", "label": "Cost Centre"}]
            return httpx.Response(200, json={name.replace("_form", ""): fields})
        sent.append((f"{request.method} {request.url.raw_path.decode()}", json.loads(request.content)))
        return httpx.Response(200, json={name.rstrip("s"): {"id": 8}})

    plugin = a_plugin(
        answer, workspace_id="3", status_codes={"pending": 7}, type_names={"request": "Request"}, event_field="ev", bypass_mandatory=True
    )
    fields = {"category": "Hardware", "cost_centre": 1, "cost centre": 2, "77": 3, "assets": [{"display_id": 1}]}
    await plugin.create_ticket(NewTicket(subject="s", external_id="aia-1", event_id="e-1", tags=("t",), custom_fields=fields))
    await plugin.update_ticket("SR-8", TicketChanges(event_id="e-2", status="pending", type="request"))  # type: ignore[arg-type]  # as JSON
    await plugin.update_ticket("CHN-8", TicketChanges(event_id="e-3", status="pending", type="incident"))  # type: ignore[arg-type]  # as JSON
    (created, new), (updated, changed), (_, change) = sent
    assert (created, updated) == ("POST /api/v2/tickets", "PUT /api/v2/tickets/8?bypass_mandatory=true")
    assert (new["status"], new["priority"], new["type"], new["tags"]) == (2, 1, "Incident", ["t", "aia-1"])
    assert (new["email"], new["workspace_id"], new["category"]) == ("r@x.example", 3, "Hardware")
    assert new["custom_fields"] == {"ev": "e-1", "cost_centre": 3}
    assert changed == {"status": 7, "type": "Request", "custom_fields": {"ev": "e-2"}}
    assert change == {"status": 3, "custom_fields": {"ev": "e-3"}}
    with pytest.raises(ValidationRefused, match="No Such"):
        await plugin.update_ticket("8", TicketChanges(event_id="e", custom_fields={"No Such": 1}))
    with pytest.raises(ValidationRefused, match="API names"):
        await a_plugin(always(404, b"")).update_ticket("8", TicketChanges(event_id="e", custom_fields={"Cost Centre": 1}))


@pytest.mark.parametrize(
    ("requester", "type_", "sent", "asked"),
    [
        ("r@x.example", TicketType.INCIDENT, {"email": "r@x.example"}, []),
        ("", TicketType.INCIDENT, {"requester_id": 5}, ["agents/me"]),
        ("r@x.example", TicketType.CHANGE, {"requester_id": 6}, ["requesters"]),
        ("a@x.example", TicketType.PROBLEM, {"requester_id": 7}, ["requesters", "agents"]),
    ],
)
async def test_a_record_is_opened_for_somebody(requester: str, type_: TicketType, sent: dict[str, Any], asked: list[str]) -> None:
    """Tickets take an address, problems and changes an id, which is looked up once; without a setting it is our own agent."""
    seen: list[str] = []
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        name = request.url.path.removeprefix("/api/v2/")
        if request.method == "POST":
            bodies.append(json.loads(request.content))
            return httpx.Response(201, json={name.rstrip("s"): {"id": 8}})
        seen.append(name)
        people = {"requesters": [{"id": 6}] if request.url.params.get("email") == "r@x.example" else [], "agents": [{"id": 7}]}
        return httpx.Response(200, json={"agent": {"id": 5}} if name == "agents/me" else {name: people[name]})

    plugin = a_plugin(answer, requester=requester)
    for _ in range(2):
        await plugin.create_ticket(NewTicket(subject="s", external_id="aia-1", event_id="e", type=type_))
    assert seen == asked
    for body in bodies:
        assert {name: body[name] for name in ("email", "requester_id") if name in body} == sent
        assert ("[aia-1]" in body["description"]) is (type_ is not TicketType.INCIDENT)
    await plugin.create_release("r", "d", "aia-2", "e")
    assert not {"email", "requester_id"} & bodies[-1].keys()


async def test_a_requester_nobody_knows_is_named() -> None:
    """By the setting to mend."""
    plugin = a_plugin(lambda request: httpx.Response(200, json={request.url.path.rpartition("/")[2]: []}))
    with pytest.raises(PluginConfigError, match="requester"):
        await plugin.create_ticket(NewTicket(subject="s", external_id="aia-1", event_id="e", type=TicketType.CHANGE))


async def test_approvals_are_told_in_words() -> None:
    """As the tool writes them, and as a change shows its own."""
    approvals = [{"id": 1, "approver_name": "Ada", "approval_status": {"id": 1, "name": "approved"}, "level": 1, "latest_remark": None}]
    asked = a_plugin(always(200, {"approvals": approvals}))
    assert await asked.approvals("SR-3") == [{"approval_id": "1", "approver": "Ada", "status": "approved", "level": "1"}]
    change = a_plugin(always(200, {"change": {"id": 3, "approval_status": 1}}))
    assert await change.approvals("CHN-3") == [{"status": "approved"}]
    assert await a_plugin(always(200, {"problem": {"id": 3}})).approvals("PRB-3") == []
