"""The real plugin on real sockets: any business object, journals, One-Steps, lifecycles, tokens, and failures under status 200."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from plugins.api import (
    ApiError,
    Conflict,
    CredentialsRefused,
    FatalApiError,
    NewNote,
    NotFound,
    PluginConfigError,
    PluginContext,
    Priority,
    ServerError,
    TicketChanges,
    TicketStatus,
    TicketType,
    TornAnswer,
    ValidationRefused,
)
from plugins.cherwell.api_client import CherwellErrors
from plugins.cherwell.plugin import CherwellPlugin
from plugins.cherwell.sandbox import CherwellSandbox
from plugins.cherwell.sandbox_objects import by_name, hex_id
from plugins.conformance.builders import a_ticket, chunks
from plugins.http.client import ApiClient
from plugins.http.errors import Answer
from plugins.marker import note_marker
from plugins.sandbox.http import Request, Response, json_response
from schemas.ids import new_event_id


@pytest.fixture
async def desk() -> AsyncIterator[CherwellSandbox]:
    """A Cherwell in this process."""
    sandbox = CherwellSandbox()
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


@pytest.fixture
async def http() -> AsyncIterator[ApiClient]:
    client = ApiClient()
    yield client
    await client.aclose()


def bound(sandbox: CherwellSandbox, http: ApiClient, **more: Any) -> CherwellPlugin:
    told = {name: value for name, value in sandbox.credentials.items() if name != "person"}
    return CherwellPlugin(
        PluginContext(
            tenant="acme",
            tool="desk",
            settings={"base_url": sandbox.base_url, **told, "webhook": sandbox.webhook, **more},
            secrets=lambda reference: [reference.encode()],
            http=lambda: http,
        )
    )


def seen(sandbox: CherwellSandbox, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths asked for from now on, short and in lower case."""
    asked: list[str] = []
    handle = sandbox._handle

    def recorded(request: Request) -> Response:
        asked.append(request.path.lower().removeprefix("/cherwellapi/").removeprefix("api/v1/").partition("/")[0])
        return handle(request)

    monkeypatch.setattr(sandbox, "_handle", recorded)
    return asked


def changes(**fields: Any) -> TicketChanges:
    return TicketChanges(event_id=new_event_id(), **fields)


# --- tickets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "prefix"), [(TicketType.PROBLEM, "Problem:"), (TicketType.CHANGE, "ChangeRequest:"), (TicketType.REQUEST, "")]
)
async def test_each_type_is_kept_in_its_own_object(desk: CherwellSandbox, http: ApiClient, type_: TicketType, prefix: str) -> None:
    """Made, found, read, changed and noted under an id that says which object it is in."""
    plugin, asked = bound(desk, http), a_ticket(type=type_)
    ref = await plugin.create_ticket(asked)
    assert ref.ticket_id.startswith(prefix) and ref.ticket_id.removeprefix(prefix).isdecimal()
    found = await bound(desk, http).find_by_external_id(asked.external_id)
    assert found is not None and (found.ticket_id, found.url) == (ref.ticket_id, ref.url)
    await plugin.update_ticket(ref.ticket_id, update := changes(priority=Priority.LOW, status=TicketStatus.PENDING))
    ticket = await plugin.get_ticket(ref.ticket_id)
    assert (ticket.ticket_id, ticket.type, ticket.priority, ticket.status) == (ref.ticket_id, type_, Priority.LOW, TicketStatus.PENDING)
    assert await plugin.has_update(ref.ticket_id, update.event_id)
    marker = note_marker(new_event_id(), 1)
    assert await plugin.add_note(ref.ticket_id, NewNote(text="seen", marker=marker, public=True))
    assert await plugin.has_note(ref.ticket_id, marker)
    by_record = await plugin.get_ticket(prefix + str(ticket.extra["record_id"]))
    assert by_record.subject == asked.subject
    batch = {r.ticket_id: r async for r in plugin.get_ticket_batch([ref.ticket_id, f"{prefix}99999", "Loaner:1"])}
    assert batch[ref.ticket_id].ticket is not None
    assert isinstance(batch[f"{prefix}99999"].error, NotFound) and isinstance(batch["Loaner:1"].error, NotFound)


async def test_names_are_resolved_once_and_kept(desk: CherwellSandbox, http: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids differ in every tenant; asking for them with each save would double the calls."""
    plugin, asked = bound(desk, http), seen(desk, monkeypatch)
    await asyncio.gather(*(plugin.create_ticket(a_ticket()) for _ in range(8)))
    assert sorted(asked) == sorted(["token", "getbusinessobjectsummary", "getbusinessobjectschema", *["savebusinessobject"] * 8])


async def test_fields_are_named_as_people_or_the_api_name_them(desk: CherwellSandbox, http: ApiClient) -> None:
    """By name, by display name, by short id and by full id; an unknown one is refused by its name, before anything is written."""
    incident = by_name("Incident")
    assert incident is not None
    source = incident.field("Source")
    assert source is not None
    plugin = bound(desk, http)
    for name in ("Source", "source", incident.field_id(source), incident.full_id(source)):
        ref = await plugin.create_ticket(a_ticket(custom_fields={name: "Bridge", "Owned By": "Femke Bakker"}))
        ticket = await plugin.get_ticket(ref.ticket_id)
        assert (ticket.custom_fields["Source"], ticket.assignee) == ("Bridge", "Femke Bakker")
    with pytest.raises(ValidationRefused, match="no field called 'Colour'"):
        await plugin.create_ticket(a_ticket(custom_fields={"Colour": "red"}))


async def test_rules_refuse_under_status_200_and_the_field_is_named(desk: CherwellSandbox, http: ApiClient) -> None:
    """A save that did nothing must never pass for one that did; an id of 32 digits would help nobody."""
    plugin = bound(desk, http)
    with pytest.raises(ValidationRefused, match=r"VALIDATIONFAILED: Priority \(INVALIDVALUE\)"):
        await plugin.create_ticket(a_ticket(custom_fields={"Priority": "ASAP"}))
    ref = await plugin.create_ticket(a_ticket())
    results = await plugin.batch_update_tickets(
        {ref.ticket_id: changes(custom_fields={"Priority": "ASAP"}), "99999999": changes(subject="x"), "Nothing:1": changes(subject="x")}
    )
    assert [type(result.error) for result in results] == [ValidationRefused, NotFound, NotFound]
    assert "Priority" in str(results[0].error)


async def test_defaults_and_closing_fields_satisfy_a_tenants_rules(desk: CherwellSandbox, http: ApiClient) -> None:
    """Required-if rules are the tenant's; so are the values that satisfy them."""
    objects = {
        "incident": {"defaults": {"Service": "Radio"}, "on_close": {"CloseDescription": "Solved elsewhere"}, "rich_text": ["Description"]}
    }
    plugin = bound(desk, http, objects=objects, requester="daan.visser@harbour.example")
    ref = await plugin.create_ticket(a_ticket(description="It **blinks**"))
    fields = (await plugin.get_object("Incident", ref.ticket_id))["fields"]
    assert (fields["Service"], fields["CloseDescription"]) == ("Radio", "")
    assert "<strong>blinks</strong>" in fields["Description"]
    customer = (await plugin.search_objects("CustomerInternal", {"Email": "daan.visser@harbour.example"}))[0]
    assert fields["CustomerRecID"] == customer["record_id"]
    await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.RESOLVED))
    assert (await plugin.get_object("Incident", ref.ticket_id))["fields"]["CloseDescription"] == "Solved elsewhere"
    with pytest.raises(PluginConfigError, match="requester"):
        await bound(desk, http, requester="nobody@harbour.example").create_ticket(a_ticket())


async def test_a_note_that_cannot_be_shown_is_not_said_to_be_public(desk: CherwellSandbox, http: ApiClient) -> None:
    """Without the field an internal note is safe, and a public one would be read by nobody."""
    plugin = bound(desk, http, objects={"incident": {"journal": {"public": "Visible"}}})
    ref = await plugin.create_ticket(a_ticket())
    assert await plugin.add_note(ref.ticket_id, NewNote(text="quiet", marker=note_marker(new_event_id(), 1)))
    with pytest.raises(ValidationRefused, match="Visible"):
        await plugin.add_note(ref.ticket_id, NewNote(text="loud", marker=note_marker(new_event_id(), 1), public=True))
    elsewhere = bound(desk, http, objects={"incident": {"journal": {"relationship": "Incident Has Tales"}}})
    with pytest.raises(ValidationRefused, match="no relationship called 'Incident Has Tales'"):
        await elsewhere.add_note(ref.ticket_id, NewNote(text="x", marker=note_marker(new_event_id(), 1)))


async def test_files_of_several_parts_come_down_as_they_were(desk: CherwellSandbox, http: ApiClient) -> None:
    """Cherwell takes a file in parts by offset; one part too many or twice would break it."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket())
    content = bytes(range(256)) * 9000
    file_id = await plugin.add_attachment(ref.ticket_id, "Trace É.bin", "application/octet-stream", chunks(content, 70_001))
    (listed,) = await plugin.list_attachments(ref.ticket_id)
    assert (listed.attachment_id, listed.filename) == (file_id, "Trace É.bin")
    assert b"".join([chunk async for chunk in plugin.download_attachment(ref.ticket_id, file_id)]) == content
    empty = await plugin.add_attachment(ref.ticket_id, "empty.txt", "text/plain", chunks(b""))
    assert empty and empty != file_id


# --- objects of any kind -------------------------------------------------------------------------------------------------


async def test_an_object_of_the_tenants_own_is_made_changed_found_and_deleted(desk: CherwellSandbox, http: ApiClient) -> None:
    """Nothing in the code knows a loaner device."""
    plugin = bound(desk, http)
    made = await plugin.save_object("Loaner", {"Asset Tag": "LN-7", "Model": "T14", "Returned": False})
    for record in (made["public_id"], made["record_id"]):
        assert (await plugin.get_object("loaner device", record))["fields"]["AssetTag"] == "LN-7"
    loaner = by_name("Loaner")
    assert loaner is not None
    assert (await plugin.get_object(loaner.id.upper(), made["public_id"]))["record_id"] == made["record_id"]
    await plugin.save_object("Loaner", {"Returned": True}, made["public_id"])
    for number in range(130):
        await plugin.save_object("Loaner", {"AssetTag": f"LN-{number}", "Model": "X1" if number % 2 else "X2"})
    assert [row["fields"]["Returned"] for row in await plugin.search_objects("Loaner", {"AssetTag": "LN-7", "Model": "T14"})] == ["True"]
    assert len(await plugin.search_objects("Loaner", {"Model": ["X1", "X2"]}, limit=500)) == 130
    assert len(await plugin.search_objects("Loaner", {"Model": "X1"}, limit=3)) == 3
    await plugin.delete_object("Loaner", made["public_id"])
    with pytest.raises(NotFound):
        await plugin.get_object("Loaner", made["public_id"])
    with pytest.raises(ValidationRefused, match=r"AssetTag \(REQUIRED\)"):
        await plugin.save_object("Loaner", {"Model": "T14"})


async def test_related_records_are_reached_by_the_relationships_name(desk: CherwellSandbox, http: ApiClient) -> None:
    """Journals are one relationship of many; the id of one is a name too."""
    plugin, incident = bound(desk, http), by_name("Incident")
    assert incident is not None
    ref = await plugin.create_ticket(a_ticket())
    await plugin.add_note(ref.ticket_id, NewNote(text="one", marker=note_marker(new_event_id(), 1)))
    for name in ("Incident Owns Journals", incident.relationship_id("Incident Owns Journals")):
        (note,) = await plugin.related_objects("Incident", ref.ticket_id, name)
        assert note["fields"]["Details"].startswith("one")
    assert await plugin.related_objects("Incident", ref.ticket_id, "Incident links Loaners") == []
    assert (await plugin.get_object("Journal - Note", note["record_id"]))["fields"]["ShowInSelfService"] == "False"


async def test_an_object_nobody_has_is_not_found_and_not_asked_for_again(
    desk: CherwellSandbox, http: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong name in a rule must not become a load on the server."""
    plugin = bound(desk, http)
    asked = seen(desk, monkeypatch)
    for _ in range(3):
        with pytest.raises(NotFound, match="Spaceship"):
            await plugin.get_object("Spaceship", "1")
    assert asked.count("getbusinessobjectsummary") == 1


# --- workflow ------------------------------------------------------------------------------------------------------------


async def test_a_one_step_runs_by_name_or_key_and_only_once(
    desk: CherwellSandbox, http: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has effects nobody can see from here: after a lost answer it is in doubt, and never repeated by itself."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket(priority=Priority.LOW))
    names = {row["name"]: row for row in await plugin.one_steps()}
    assert names["Escalate Incident"]["folder"] == "/Global"
    assert (await plugin.run_one_step("escalate incident", ref.ticket_id))["completed"] is True
    ticket = await plugin.get_ticket(ref.ticket_id)
    assert (ticket.priority, ticket.extra["team"]) == (Priority.URGENT, "Major Incidents")
    await plugin.run_one_step(names["Assign To Me"]["key"], ref.ticket_id, {"Source": "phone"})
    assert (await plugin.get_ticket(ref.ticket_id)).custom_fields["Source"] == "phone"
    loaner = await plugin.save_object("Loaner", {"AssetTag": "LN-1"})
    await plugin.run_one_step("Mark Returned", f"Loaner:{loaner['public_id']}")
    assert (await plugin.get_object("Loaner", loaner["public_id"]))["fields"]["Returned"] == "True"
    with pytest.raises(NotFound, match="Launch"):
        await plugin.run_one_step("Launch", ref.ticket_id)
    asked = seen(desk, monkeypatch)
    desk.faults.arm(json.dumps({"reset": True, "path": "/CherwellAPI/api/V1/runonestepaction"}).encode())
    with pytest.raises(ApiError) as caught:
        await plugin.run_one_step(names["Escalate Incident"]["key"], ref.ticket_id)
    assert caught.value.in_doubt and asked.count("runonestepaction") == 1


async def test_a_one_step_that_waits_for_somebody_is_no_success(
    desk: CherwellSandbox, http: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dialogue on a server has no screen."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket())
    key = (await plugin.one_steps())[0]["key"]
    handle = desk._handle
    monkeypatch.setattr(
        desk, "_handle", lambda r: json_response({"completed": False, "hasError": False}) if "runonestep" in r.path else handle(r)
    )
    with pytest.raises(FatalApiError, match="screen"):
        await plugin.run_one_step(key, ref.ticket_id)


async def test_a_lifecycle_is_led_by_its_transitions(desk: CherwellSandbox, http: ApiClient) -> None:
    """Where there is one, writing Status is wrong; a way that is closed refuses before anything is written."""
    plugin = bound(desk, http, objects={"incident": {"lifecycle": True}})
    ref = await plugin.create_ticket(a_ticket())
    assert [row["name"] for row in await plugin.transitions(ref.ticket_id)] == ["To In Progress", "To Pending", "To Resolved"]
    await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.RESOLVED, subject="done"))
    ticket = await plugin.get_ticket(ref.ticket_id)
    assert (ticket.status, ticket.subject) == (TicketStatus.RESOLVED, "done")
    await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.RESOLVED))
    with pytest.raises(ValidationRefused, match="To In Progress, To Closed"):
        await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.PENDING, subject="half"))
    assert (await plugin.get_ticket(ref.ticket_id)).subject == "done"
    (result,) = await plugin.batch_update_tickets({ref.ticket_id: changes(status=TicketStatus.CLOSED)})
    assert result.error is None and (await plugin.get_ticket(ref.ticket_id)).status is TicketStatus.CLOSED
    await plugin.transition(ref.ticket_id, "Closed")
    with pytest.raises(ValidationRefused, match="none"):
        await plugin.transition(ref.ticket_id, "New")


# --- tokens, failures, health ----------------------------------------------------------------------------------------------


async def test_a_token_is_refreshed_without_the_password_and_by_one_caller(
    desk: CherwellSandbox, http: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each token is a licensed session: many callers that meet its end fetch one, with the refresh token first."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket())
    grants: list[str] = []
    token = CherwellSandbox.token

    def counted(self: CherwellSandbox, request: Request) -> Response:
        grants.append(request.form["grant_type"])
        answer: Response = token(self, request)
        return answer

    monkeypatch.setattr(CherwellSandbox, "token", counted)
    for key in desk.tokens:
        if desk.tokens.get(key)["user"] == "bridge":
            desk.tokens.get(key)["until"] = 0
    await asyncio.gather(*(plugin.get_ticket(ref.ticket_id) for _ in range(10)))
    assert grants == ["refresh_token"]
    for key in desk.tokens:
        if desk.tokens.get(key)["user"] == "bridge":
            desk.tokens.get(key).update(until=0, refresh="")
    await plugin.get_ticket(ref.ticket_id)
    assert grants == ["refresh_token", "refresh_token", "password"]


async def test_the_session_is_given_back_at_the_end(desk: CherwellSandbox, http: ApiClient) -> None:
    """Sessions that nobody ends use licences up; closing an unused plugin asks for none."""
    idle = bound(desk, http)
    await idle.aclose()
    plugin = bound(desk, http)
    await plugin.create_ticket(a_ticket())
    live = [key for key in desk.tokens if desk.tokens.get(key)["user"] == "bridge" and desk.tokens.get(key)["until"] > time.time()]
    await plugin.aclose()
    assert len(live) == 1 and desk.tokens.get(live[0])["until"] == 0


@pytest.mark.parametrize(
    ("status", "document", "kind", "said"),
    [
        (200, {"hasError": True, "errorCode": "RECORDNOTFOUND"}, NotFound, "RECORDNOTFOUND"),
        (200, {"hasError": True, "errorCode": "RECORD_LOCKED"}, Conflict, "RECORD_LOCKED"),
        (200, {"hasError": True, "errorCode": "GENERICAPIERROR", "httpStatusCode": "InternalServerError"}, ServerError, "GENERICAPIERROR"),
        (200, {"hasError": True, "errorMessage": "Mrs Smit's file"}, ValidationRefused, "refuses"),
        (400, {"hasError": True, "errorCode": "BUSOBNOTFOUND"}, NotFound, "BUSOBNOTFOUND"),
        (400, {"error": "invalid_request"}, ValidationRefused, "invalid_request"),
        (401, {"Message": "Authorization has been denied for this request."}, CredentialsRefused, "401"),
        (500, {"hasError": True, "errorCode": "NORIGHTSTOVIEW"}, CredentialsRefused, "NORIGHTS"),
        (500, None, ServerError, "500"),
        (200, b"<html>gateway</html>", TornAnswer, "web page"),
    ],
)
def test_each_way_to_fail_is_named(status: int, document: Any, kind: type[ApiError], said: str) -> None:
    """The same envelope comes under any status; its message may quote the record and stays out."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    content_type = "text/html" if isinstance(document, bytes) else "application/json"
    error = CherwellErrors()(Answer(method="GET", path="/x", status=status, headers={"content-type": content_type}, body=body))
    assert isinstance(error, kind) and said in str(error) and "Smit" not in str(error)


def test_an_item_that_failed_does_not_fail_its_batch() -> None:
    """`hasError` inside a list is that item's own."""
    body = json.dumps({"responses": [{"hasError": True, "errorCode": "RECORDNOTFOUND"}], "hasError": False}).encode()
    assert CherwellErrors()(Answer(method="POST", path="/x", status=200, headers={}, body=body)) is None


async def test_health_sees_through_a_token_that_works(desk: CherwellSandbox, http: ApiClient) -> None:
    """A login proves neither rights nor fields: what we will write must be there."""
    good = await bound(desk, http).health_check()
    assert good.ok and good.actor == "Integration Bridge"
    for settings, said in (
        ({"event_field": "LastSync"}, "LastSync"),
        ({"external_id_field": "ForeignKey"}, "ForeignKey"),
        ({"objects": {"incident": {"fields": {"subject": "Title"}}}}, "Title"),
        ({"objects": {"change": {"name": "Mutation"}}}, "Mutation"),
        ({"auth": {"client_id": "x", "username": "bridge", "password": "x"}}, "invalid_client_id"),
        ({"auth": {"username": "bridge"}}, "client_id, password"),
        ({"auth": {**desk.credentials["auth"], "mode": "Magic"}}, "auth.mode"),
        ({"base_url": ""}, "base_url"),
    ):
        health = await bound(desk, http, **settings).health_check()
        assert not health.ok and said in health.detail, said
    other = {**desk.credentials["auth"], "username": "HARBOUR\\bridge"}
    assert "invalid_grant" in (await bound(desk, http, auth=other).health_check()).detail


def test_ids_of_the_sandbox_are_its_own() -> None:
    """No id of default content is written down anywhere: a client that knows one would fail here."""
    incident = by_name("Incident")
    assert incident is not None and incident.id == hex_id("busob/Incident") and len(incident.id) == 32
