"""What the tool may answer besides the usual: errors and how they are named, pages, archives, a key that works and should not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from plugins.api import (
    ApiError,
    Conflict,
    ConnectionLost,
    CredentialsRefused,
    FatalApiError,
    NewNote,
    NotFound,
    PluginConfigError,
    PluginContext,
    Priority,
    RateLimited,
    ServerError,
    TicketChanges,
    TornAnswer,
    ValidationRefused,
)
from plugins.freshdesk.api_client import freshdesk_error
from plugins.freshdesk.plugin import FreshdeskPlugin
from plugins.http.client import ApiClient
from plugins.http.errors import Answer
from plugins.sandbox.http import HttpServer, Request, Response, json_response
from tests.plugins.freshdesk.connected import a_ticket

JSON = {"content-type": "application/json; charset=utf-8"}
ME = {"id": 5001, "type": "support_agent", "ticket_scope": 1, "contact": {"email": "integration@desk.example", "active": True}}
FIELDS = [{"id": 1, "name": name, "label": name, "default": False} for name in ("cf_external_id", "cf_external_event")]
TICKET = {"id": 7, "subject": "x", "status": 2, "priority": 1, "updated_at": "2026-03-02T09:40:05Z", "custom_fields": {}}


@asynccontextmanager
async def answered(answer: Callable[[Request], Response]) -> AsyncIterator[FreshdeskPlugin]:
    """A plugin whose tool answers what `answer` says."""

    async def give(request: Request) -> Response:
        return answer(request)

    server, client = HttpServer(give), ApiClient()
    settings = {"base_url": f"http://127.0.0.1:{await server.start()}/api/v2/", "auth": {"api_key": "key"}, "requester": "a@b.example"}
    yield FreshdeskPlugin(
        PluginContext(tenant="acme", tool="desk", settings=settings, secrets=lambda reference: [reference.encode()], http=lambda: client)
    )
    await client.aclose()
    await server.stop()


def routed(routes: dict[str, Any]) -> Callable[[Request], Response]:
    """Answers by path; what is not listed is 404 without a body."""

    def answer(request: Request) -> Response:
        found = routes.get(f"{request.method} {request.path}", routes.get(request.path))
        if found is None:
            return Response(404)
        return found if isinstance(found, Response) else json_response(found)

    return answer


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (
            400,
            {"description": "Validation failed", "errors": [{"field": "cf_x", "code": "invalid_field"}]},
            ValidationRefused,
            "cf_x: invalid_field",
        ),
        (400, {"code": "cannot_create_tracker", "message": "…"}, ValidationRefused, "cannot_create_tracker"),
        (400, {"errors": ["odd"]}, ValidationRefused, "answered 400"),
        (401, {"code": "invalid_credentials", "message": "…"}, CredentialsRefused, "invalid_credentials"),
        (403, {"code": "access_denied", "message": "…"}, CredentialsRefused, "access_denied"),
        (403, {"code": "account_suspended", "message": "…"}, CredentialsRefused, "account_suspended"),
        (403, {"code": "require_feature", "message": "…"}, FatalApiError, "plan"),
        (404, b"", NotFound, "gone"),
        (404, b"<html>nobody lives here</html>", NotFound, "base_url"),
        (405, {"message": "PATCH method is not allowed"}, FatalApiError, "405"),
        (409, {"code": "inconsistent_state"}, Conflict, "inconsistent_state"),
        (415, {"message": "…"}, ValidationRefused, "415"),
        (429, {"message": "You have exceeded the limit of requests per hour"}, RateLimited, "rate limit"),
        (500, b"<html>", ServerError, "500"),
        (503, b"", ServerError, "503"),
    ],
)
def test_each_answer_is_named_by_what_to_do(status: int, body: Any, kind: type[ApiError], told: str) -> None:
    """The text helps who reads the dead letter, and quotes nothing of the ticket."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = Answer(method="POST", path="/api/v2/tickets", status=status, headers={**JSON, "retry-after": "9"}, body=raw)
    error = freshdesk_error(answer)
    assert type(error) is kind and told in str(error)
    assert error.retry_after == (9.0 if status >= 429 else None)


def test_a_success_is_no_error() -> None:
    """Freshdesk reports no failure under 2xx."""
    assert freshdesk_error(Answer(method="GET", path="/", status=202, headers={}, body=b"")) is None


@pytest.mark.parametrize(
    ("me", "fields", "ok", "told"),
    [
        (ME, FIELDS, True, ""),
        ({**ME, "ticket_scope": 3}, FIELDS, True, "only tickets"),
        ({**ME, "contact": {**ME["contact"], "active": False}}, FIELDS, False, "deactivated"),
        ({**ME, "deactivated": True}, FIELDS, False, "deactivated"),
        ({"agent": {"id": 5, "email": "x@y.example"}}, FIELDS, False, "Freshservice"),
        (Response(200, b"<html>log in</html>", {"content-type": "text/html"}), FIELDS, False, "base_url"),
        ([], FIELDS, False, "base_url"),
        (ME, FIELDS[:1], False, "no custom ticket field cf_external_event"),
        (ME, [{**FIELDS[0], "default": True}], False, "cf_external_id and no cf_external_event"),
        (ME, Response(403, b'{"code":"access_denied"}', JSON), False, "access_denied"),
    ],
)
async def test_health_sees_through_an_answer_that_looks_well(me: Any, fields: Any, ok: bool, told: str) -> None:
    """A login page, a sister product and a deactivated agent all answer 200."""
    async with answered(routed({"/api/v2/agents/me": me, "/api/v2/ticket_fields": fields})) as plugin:
        health = await plugin.health_check()
        assert health.ok is ok and told in health.detail


async def test_an_archived_ticket_is_read_where_it_went() -> None:
    """Old closed tickets move: a plain read does not find them any more."""
    async with answered(routed({"/api/v2/tickets/archived/7": {**TICKET, "status": 5}})) as plugin:
        assert (await plugin.get_ticket("7")).status == "closed"
        with pytest.raises(NotFound, match="tickets/8 "):
            await plugin.get_ticket("8")
    async with answered(routed({"/api/v2/tickets/archived/7": Response(403, b"", JSON)})) as plugin:
        with pytest.raises(NotFound):
            await plugin.get_ticket("7")


async def test_success_without_what_was_asked_is_torn() -> None:
    """Under 200 comes a proxy's page: reads are repeated, writes are in doubt."""
    page = Response(200, b"<html>", {"content-type": "text/html"})
    async with answered(lambda request: page) as plugin:
        for read in (plugin.get_ticket("7"), plugin.search_tickets("priority:1"), plugin.tickets_changed_since("2026-01-01T00:00:00Z")):
            with pytest.raises(TornAnswer) as caught:
                await read
            assert not caught.value.in_doubt
        for write in (plugin.create_ticket(a_ticket()), plugin.add_note("7", NewNote(text="x", marker="[aia:e:1]"))):
            with pytest.raises(TornAnswer) as caught:
                await write
            assert caught.value.in_doubt
    async with answered(lambda request: json_response({})) as plugin:
        for call in (plugin.create_ticket(a_ticket()), plugin.get_ticket("7"), plugin.add_note("7", NewNote(text="x", marker="[aia:e:1]"))):
            with pytest.raises(TornAnswer):
                await call


@pytest.mark.parametrize("link", [True, False])
async def test_pages_are_followed_with_and_without_a_link(link: bool) -> None:
    """The header is what the manual names; a proxy may drop it, and a full page then says that there is more."""
    asked = []

    def answer(request: Request) -> Response:
        page = int(request.query["page"])
        asked.append(page)
        rows = [{"id": page * 1000 + n} for n in range(100 if page < 3 else 5)]
        more = {"link": f'<http://a.example?page={page + 1}>; rel="next"'} if link and page < 3 else {"link": ""} if link else {}
        return json_response(rows, 200, more)

    async with answered(answer) as plugin:
        assert len(await plugin.tickets_changed_since("2026-01-01T00:00:00Z")) == 205
        assert asked == [1, 2, 3]


@pytest.mark.parametrize(
    ("job", "held", "error", "in_doubt"),
    [
        ({"status": "COMPLETED", "data": [{"id": 7, "success": True}, {"id": "8", "success": True}]}, "", None, None),
        ({"status": "completed", "data": []}, "e-7 e-8", None, None),
        ({"status": "completed"}, "", ConnectionLost, True),
        ({"status": "failed", "data": [{"id": 7, "success": False}, {"id": 8, "success": False}]}, "", ValidationRefused, False),
        ({"status": "completed", "data": [{"id": 7, "success": False}, {"id": 8}]}, "e-7 e-8", None, None),
        (Response(500, b""), "", ApiError, True),
    ],
)
async def test_a_job_s_body_is_read_leniently_and_its_silence_is_looked_into(
    job: Any, held: str, error: type[ApiError] | None, in_doubt: bool | None
) -> None:
    """Its form is in no public manual: what it does not say is read from the ticket, and else stays in doubt."""
    ticket = {**TICKET, "custom_fields": {"cf_external_event": held}}
    routes = {
        "POST /api/v2/tickets/bulk_update": json_response({"job_id": "j1"}, 202),
        "/api/v2/jobs/j1": job,
        "/api/v2/tickets/7": ticket,
        "/api/v2/tickets/8": {**ticket, "id": 8},
    }
    async with answered(routed(routes)) as plugin:
        results = await plugin.batch_update_tickets({i: TicketChanges(event_id=f"e-{i}", priority=Priority.LOW) for i in ("7", "8")})
        assert [result.ticket_id for result in results] == ["7", "8"]
        for result in results:
            if error is None:
                assert result.error is None
            else:
                assert isinstance(result.error, error) and result.error.in_doubt is in_doubt


async def test_a_job_nobody_names_is_in_doubt() -> None:
    """Taken is not done."""
    async with answered(routed({"POST /api/v2/tickets/bulk_update": json_response({}, 202)})) as plugin:
        results = await plugin.batch_update_tickets({i: TicketChanges(event_id=i, priority=Priority.LOW) for i in ("7", "8")})
        assert all(isinstance(result.error, TornAnswer) and result.error.in_doubt for result in results)


async def test_a_file_is_fetched_from_safe_addresses_only() -> None:
    """The address comes from the tool; a file of somebody's network is no attachment."""
    files = [
        {"id": 1, "name": "a", "attachment_url": "file:///etc/hostname"},
        {"id": 2, "name": "b", "attachment_url": "http://10.0.0.1/x"},
    ]
    async with answered(routed({"/api/v2/tickets/7": {**TICKET, "attachments": files}, "/api/v2/tickets/7/conversations": []})) as plugin:
        assert len(await plugin.list_attachments("7")) == 2
        for number in ("1", "2", "3"):
            with pytest.raises(NotFound):
                _ = [chunk async for chunk in plugin.download_attachment("7", number)]


async def test_an_agent_that_may_not_read_mailboxes_still_writes_for_a_brand() -> None:
    """They are an admin's to read; Freshdesk picks the brand's first by itself."""
    written = []

    def answer(request: Request) -> Response:
        if request.path.endswith("/email_configs"):
            return json_response({"code": "access_denied"}, 403)
        written.append(request.json())
        return json_response({**TICKET, "product_id": 8001}, 201)

    async with answered(answer) as plugin:
        await plugin.create_ticket(a_ticket(custom_fields={"product": 8001}))
        await plugin.add_note("7", NewNote(text="x", marker="[aia:e:1]", public=True))
        created, _, reply = written
        assert created["product_id"] == 8001 and "email_config_id" not in created
        assert "from_email" not in reply


async def test_an_agent_without_an_address_needs_a_requester() -> None:
    """Freshdesk opens no ticket for nobody."""
    async with answered(routed({"/api/v2/agents/me": {"id": 5}})) as plugin:
        settings = {name: value for name, value in plugin.context.settings.items() if name != "requester"}
        bare = FreshdeskPlugin(
            PluginContext(tenant="a", tool="t", settings=settings, secrets=plugin.context.secrets, http=plugin.context.http)
        )
        with pytest.raises(PluginConfigError, match="set requester"):
            await bare.create_ticket(a_ticket())
