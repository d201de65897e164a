"""The real plugin on real sockets: incidents in both languages, operator changes and who changed them, files, assets, odd answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from plugins.api import (
    ApiError,
    CredentialsRefused,
    FatalApiError,
    NewNote,
    NotFound,
    PluginConfigError,
    PluginContext,
    Priority,
    TicketChange,
    TicketChanges,
    TicketStatus,
    TicketType,
    TornAnswer,
    ValidationRefused,
)
from plugins.conformance.builders import a_ticket
from plugins.conformance.receiver import Receiver
from plugins.http.client import ApiClient
from plugins.http.errors import Answer
from plugins.marker import note_marker
from plugins.topdesk.api_client import topdesk_error
from plugins.topdesk.plugin import TopdeskPlugin
from plugins.topdesk.sandbox import DutchTopdeskSandbox, TopdeskSandbox
from plugins.topdesk.sandbox_cards import CALLER, OPERATOR, unid_of
from schemas.ids import new_event_id

MISSING = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def desk() -> AsyncIterator[TopdeskSandbox]:
    """An English TOPdesk in this process."""
    sandbox = TopdeskSandbox()
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


@pytest.fixture
async def dutch() -> AsyncIterator[TopdeskSandbox]:
    """The same with a Dutch tenant's words."""
    sandbox = DutchTopdeskSandbox()
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


@pytest.fixture
async def http() -> AsyncIterator[ApiClient]:
    client = ApiClient()
    yield client
    await client.aclose()


def bound(sandbox: TopdeskSandbox, http: ApiClient, **more: Any) -> TopdeskPlugin:
    told = {name: value for name, value in sandbox.credentials.items() if name != "person"}
    settings = {"base_url": sandbox.base_url, **told, "webhook": sandbox.webhook, "requester": CALLER["email"], **more}
    return TopdeskPlugin(
        PluginContext(tenant="acme", tool="desk", settings=settings, secrets=lambda reference: [reference.encode()], http=lambda: http)
    )


def kinds(sandbox: TopdeskSandbox, ticket_id: str) -> list[tuple[str, str | None]]:
    return [(row["kind"], row["marker"]) for row in sandbox.ledger.rows() if row["ticket_id"] == ticket_id]


def fault(sandbox: TopdeskSandbox, **fault: Any) -> None:
    sandbox.faults.arm(json.dumps(fault).encode())


def changes(**fields: Any) -> TicketChanges:
    return TicketChanges(event_id=new_event_id(), **fields)


# --- incidents -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "nl"])
async def test_a_dutch_tenant_is_written_in_its_own_words(dutch: TopdeskSandbox, http: ApiClient, language: str) -> None:
    """With the language set, at once; without, after one refusal its lists are read: either way a person sees Dutch words."""
    plugin = bound(dutch, http, language=language)
    ref = await plugin.create_ticket(a_ticket(type=TicketType.REQUEST, priority=Priority.URGENT, status=TicketStatus.OPEN))
    card = dutch.incidents.get(ref.ticket_id)
    assert (card["callType"]["name"], card["priority"]["name"], card["processingStatus"]["name"]) == ("Aanvraag", "P1", "In behandeling")
    for status in (TicketStatus.PENDING, TicketStatus.RESOLVED, TicketStatus.CLOSED, TicketStatus.OPEN):
        await plugin.update_ticket(ref.ticket_id, changes(status=status))
        assert (await plugin.get_ticket(ref.ticket_id)).status is status
    assert [kind for kind, _ in kinds(dutch, ref.ticket_id)] == ["create", *["update"] * 4]


async def test_many_who_are_refused_at_once_learn_the_words_together(dutch: TopdeskSandbox, http: ApiClient) -> None:
    """The lists are read once, and nobody who waited for them is told that a word is unknown."""
    plugin = bound(dutch, http, language="en")
    refs = await asyncio.gather(*(plugin.create_ticket(a_ticket(type=TicketType.REQUEST)) for _ in range(12)))
    results = await plugin.batch_update_tickets({ref.ticket_id: changes(status=TicketStatus.PENDING) for ref in refs})
    assert all(result.error is None for result in results)
    assert {dutch.incidents.get(ref.ticket_id)["processingStatus"]["name"] for ref in refs} == {"Wacht op aanmelder"}
    with pytest.raises(ValidationRefused, match=r"category\.name: value not found"):
        await plugin.update_ticket(refs[0].ticket_id, changes(custom_fields={"category": "Tuinen"}))


async def test_flags_are_written_where_a_status_determines_nothing(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Some tenants refuse a status and a flag together, some ignore the status: the tenant says which it is."""
    plugin = bound(desk, http, status_by="flags")
    ref = await plugin.create_ticket(a_ticket())
    for status in (TicketStatus.PENDING, TicketStatus.RESOLVED, TicketStatus.CLOSED, TicketStatus.OPEN):
        await plugin.update_ticket(ref.ticket_id, changes(status=status))
        assert (await plugin.get_ticket(ref.ticket_id)).status is status


async def test_an_incident_is_found_by_uuid_number_and_the_beginning_of_its_uuid(desk: TopdeskSandbox, http: ApiClient) -> None:
    """People paste what they see; an ambiguous beginning is nobody's."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket(subject="Which one"))
    number = desk.incidents.get(ref.ticket_id)["number"]
    for name in (ref.ticket_id, ref.ticket_id.upper(), ref.ticket_id.replace("-", ""), number, ref.ticket_id[:13]):
        ticket = await plugin.get_ticket(name)
        assert (ticket.ticket_id, ticket.subject) == (ref.ticket_id, "Which one")
    for nobody in (ref.ticket_id[:7], "ffffffff-ffff", MISSING):
        with pytest.raises(NotFound):
            await plugin.get_ticket(nobody)
    results = {r.ticket_id: r async for r in plugin.get_ticket_batch([number, ref.ticket_id, MISSING])}
    assert results[number].ticket is not None and results[ref.ticket_id].ticket is not None
    assert isinstance(results[MISSING].error, NotFound)


async def test_a_tenant_that_goes_by_numbers_is_answered_in_numbers(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Links and echoes are told by the ticket's id: it must be the one its deliveries carry."""
    plugin = bound(desk, http, ticket_ids="number")
    asked = a_ticket()
    ref = await plugin.create_ticket(asked)
    assert ref.ticket_id.startswith("I ")
    assert (await plugin.get_ticket(ref.ticket_id)).ticket_id == ref.ticket_id
    found = await plugin.find_by_external_id(asked.external_id)
    assert found is not None and found.ticket_id == ref.ticket_id
    assert (await plugin.update_ticket(ref.ticket_id, changes(subject="x"))).ticket_id == ref.ticket_id


async def test_a_missing_value_is_told_from_a_missing_incident(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Both are 404: one is mended in the tenant's file, the other is gone."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket())
    fault(desk, status=404, method="PATCH", times=2)
    with pytest.raises(ValidationRefused, match="value named for it is not"):
        await plugin.update_ticket(ref.ticket_id, changes(subject="x"))
    with pytest.raises(NotFound):
        await plugin.update_ticket(MISSING, changes(subject="x"))


async def test_free_fields_and_lookups_are_written_by_name_and_by_path(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Rules name fields as people do; the API wants two tabs of numbered ones, and lookups by id or name."""
    plugin = bound(desk, http, fields={"Building": "optionalFields1.text1"})
    custom = {"Building": "Town hall", "optionalFields2.number1": 4, "category": "Hardware", "impact": unid_of("Person")}
    ref = await plugin.create_ticket(a_ticket(custom_fields=custom))
    card = desk.incidents.get(ref.ticket_id)
    assert (card["category"]["name"], card["impact"]["name"]) == ("Hardware", "Person")
    read = (await plugin.get_ticket(ref.ticket_id)).custom_fields
    assert read == {"optionalFields1.text1": "Town hall", "Building": "Town hall", "optionalFields2.number1": 4}
    with pytest.raises(ValidationRefused, match=r"category\.name: value not found"):
        await plugin.update_ticket(ref.ticket_id, changes(custom_fields={"category": "Gardening"}))


async def test_an_archived_incident_refuses_by_that_name(desk: TopdeskSandbox, http: ApiClient) -> None:
    """403 here is no matter of credentials, in either language."""
    plugin = bound(desk, http, language="nl")
    ref = await plugin.create_ticket(a_ticket())
    desk.incidents.get(ref.ticket_id)["status"] = "firstLineArchived"
    assert (await plugin.get_ticket(ref.ticket_id)).status is TicketStatus.CLOSED
    with pytest.raises(ValidationRefused, match="archived"):
        await plugin.add_note(ref.ticket_id, NewNote(text="late", marker=note_marker(new_event_id(), 1)))


async def test_an_incident_moves_between_the_lines(desk: TopdeskSandbox, http: ApiClient) -> None:
    """First to second and back; a move that is none is refused."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket())
    await plugin.escalate(ref.ticket_id, "More knowledge needed")
    assert (await plugin.get_ticket(ref.ticket_id)).extra["line"] == "secondLine"
    with pytest.raises(ValidationRefused):
        await plugin.escalate(ref.ticket_id)
    await plugin.deescalate(ref.ticket_id)
    assert (await plugin.get_ticket(ref.ticket_id)).extra["line"] == "firstLine"


async def test_a_registered_caller_is_named_and_an_unknown_one_is_refused(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Without a requester the caller is a name; with one it is that person, or an error that says so."""
    ref = await bound(desk, http).create_ticket(a_ticket())
    assert (await bound(desk, http).get_ticket(ref.ticket_id)).requester == CALLER["email"]
    unregistered = await bound(desk, http, requester="", caller_name="The bridge", branch=unid_of("b")).create_ticket(a_ticket())
    assert (await bound(desk, http).get_ticket(unregistered.ticket_id)).requester == "The bridge"
    assert await bound(desk, http, requester=CALLER["id"]).create_ticket(a_ticket())
    with pytest.raises(ValidationRefused, match="callerLookup: value not found"):
        await bound(desk, http, requester="nobody@gemeente.example").create_ticket(a_ticket())


# --- operator changes ----------------------------------------------------------------------------------------------------


async def test_a_change_is_made_led_and_its_trail_tells_who_and_what(desk: TopdeskSandbox, http: ApiClient) -> None:
    """The whole life of a mirrored change, and the question an auditor asks about it."""
    plugin = bound(desk, http)
    asked = a_ticket(type=TicketType.CHANGE, priority=Priority.MEDIUM, subject="New controller")
    ref = await plugin.create_ticket(asked)
    read = await plugin.get_ticket(ref.ticket_id)
    assert (read.type, read.priority, read.status, read.subject) == (
        TicketType.CHANGE,
        Priority.MEDIUM,
        TicketStatus.OPEN,
        "New controller",
    )
    assert "blinks" in read.description and read.requester == CALLER["dynamicName"]
    assert read.url is not None and "newchange" in read.url
    update = changes(priority=Priority.URGENT, subject="New controller, soon", status=TicketStatus.RESOLVED)
    await plugin.update_ticket(ref.ticket_id, update)
    before = time.time_ns() // 1000
    await asyncio.to_thread(desk.person_updates, ref.ticket_id, {"priority": "low"}, _request())
    marker = note_marker(new_event_id(), 1)
    await plugin.add_note(ref.ticket_id, NewNote(text="*done*", marker=marker))
    read = await plugin.get_ticket(ref.ticket_id)
    assert (read.priority, read.status, read.subject) == (Priority.LOW, TicketStatus.RESOLVED, "New controller, soon")
    assert [await plugin.has_update(ref.ticket_id, e) for e in (asked.event_id, update.event_id, "another")] == [True, True, False]
    assert await plugin.has_note(ref.ticket_id, marker)
    trail = [
        (row["field"], row["from"], row["to"], row["who"]) for row in await plugin.change_trail(ref.ticket_id) if row["what"] == "changed"
    ]
    ours = "Koppeling Integratie"
    assert trail == [
        ("subject", "New controller", "New controller, soon", ours),
        ("priority", "P3", "P1", ours),
        ("status", "simple_notStarted", "resolved", ours),
        ("priority", "P1", "P4", OPERATOR.name),
    ]
    later = await plugin.changes_since(ref.ticket_id, before - 1000)
    assert {row["what"] for row in later} >= {"changed", "noted"} and "created" not in {row["what"] for row in later}
    with pytest.raises(ValidationRefused, match="since"):
        await plugin.changes_since(ref.ticket_id, "yesterday")


async def test_a_trail_names_who_authorised_and_who_did_the_work(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Activities hold the assignments of a change; an account that may not see them still gets the rest."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
    given = {"changeId": ref.ticket_id, "briefDescription": "May the bridge stand open?", "activityType": "authorization"}
    made = await _person(desk, http, "POST", "operatorChangeActivities", given)
    await _person(desk, http, "PATCH", f"operatorChangeActivities/{made['number']}", [_step("processingStatus", "authorized")])
    work = await _person(desk, http, "POST", "operatorChangeActivities", {"changeId": ref.ticket_id, "briefDescription": "Swap"})
    await _person(desk, http, "PATCH", f"operatorChangeActivities/{work['id']}", [_step("processingStatus", "in_progress")])
    rows = [row for row in await plugin.change_trail(ref.ticket_id) if row["what"] == "activity"]
    assert [(row["field"], row["to"], row["who"], row["text"]) for row in rows] == [
        (f"activity {made['number']}", "authorized", OPERATOR.name, "May the bridge stand open?"),
        (f"activity {work['number']}", "in_progress", OPERATOR.name, "Swap"),
    ]
    fault(desk, status=403, path="/tas/api/operatorChangeActivities")
    assert {row["what"] for row in await plugin.change_trail(ref.ticket_id)} >= {"created", "requested"}


async def test_an_incidents_trail_holds_its_requests_actions_and_files(desk: TopdeskSandbox, http: ApiClient) -> None:
    """The same question of an incident."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket())
    await plugin.add_note(ref.ticket_id, NewNote(text="seen", marker=note_marker(new_event_id(), 1), public=True))
    await plugin.add_attachment(ref.ticket_id, "photo.png", "image/png", _chunks(b"png"))
    trail = await plugin.change_trail(ref.ticket_id)
    assert [row["what"] for row in trail if row["what"] != "last touched"] == ["created", "requested", "noted", "noted", "attached"]
    assert [row["internal"] for row in trail if row["what"] == "noted"] == [True, False]


async def test_changes_come_in_as_events_with_old_and_new_values(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Operator change tracking, as deliveries tell it."""
    plugin, receiver = bound(desk, http), Receiver()
    await receiver.start()
    desk.keys.put("webhook_url", receiver.url)
    ticket_id = desk.person_creates({"type": "change", "subject": "Swap", "priority": "medium"}, _request())
    created = plugin.extract_metadata(await receiver.next())
    assert (created.type, created.change, created.ticket_id) == (TicketType.CHANGE, TicketChange.CREATED, ticket_id)
    desk.person_updates(ticket_id, {"priority": "urgent"}, _request())
    changed = plugin.extract_metadata(await receiver.next())
    assert changed.extra["changes"] == [{"field": "priority", "from": "P3", "to": "P1"}]
    assert (changed.extra["actor_name"], plugin.is_own_actor(changed)) == (OPERATOR.name, False)
    desk.person_updates(ticket_id, {"status": "resolved"}, _request())
    assert plugin.extract_metadata(await receiver.next()).change is TicketChange.RESOLVED
    await plugin.update_ticket(ticket_id, changes(subject="Swap it"))
    ours = plugin.extract_metadata(await receiver.next())
    assert plugin.is_own_actor(ours) and ours.extra["changed"] == ("subject",)
    desk.keys.put("webhook_kind", "number")
    desk.person_updates(ticket_id, {"subject": "Swapped"}, _request())
    assert plugin.extract_metadata(await receiver.next()).ticket_id.startswith("C")
    await receiver.stop()


async def test_a_change_is_found_by_our_id_though_it_cannot_be_searched(desk: TopdeskSandbox, http: ApiClient) -> None:
    """A second change for one event would be worse than a slow search."""
    plugin = bound(desk, http)
    asked = a_ticket(type=TicketType.CHANGE)
    ref = await plugin.create_ticket(asked)
    found = await bound(desk, http).find_by_external_id(asked.external_id)
    assert found is not None and found.ticket_id == ref.ticket_id
    assert await bound(desk, http, changes=False).find_by_external_id(asked.external_id) is None


@pytest.mark.parametrize("cut", ["/processingStatusTransitions", ""])
async def test_an_update_cut_off_between_its_calls_is_completed(desk: TopdeskSandbox, http: ApiClient, cut: str) -> None:
    """Fields and phases are several calls: half an update must not count as one."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
    update = changes(subject="soon", status=TicketStatus.RESOLVED)
    if cut:
        fault(desk, status=500, method="POST", path=f"/tas/api/operatorChanges/{ref.ticket_id}{cut}")
    else:
        desk.changes.get(ref.ticket_id)["processingStatus"] = "simple_inProgress"
        fault(desk, reset=True, when="before", method="PATCH")
    with pytest.raises(ApiError):
        await plugin.update_ticket(ref.ticket_id, update)
    assert not await plugin.has_update(ref.ticket_id, update.event_id)
    await plugin.update_ticket(ref.ticket_id, update)
    ticket = await plugin.get_ticket(ref.ticket_id)
    assert (ticket.subject, ticket.status) == ("soon", TicketStatus.RESOLVED)
    assert await plugin.has_update(ref.ticket_id, update.event_id)


async def test_a_note_that_is_written_is_never_written_again(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Looking for its id comes after the effect: what goes wrong there is doubt, and the search finds it."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket())
    note = NewNote(text="once", marker=note_marker(new_event_id(), 1))
    fault(desk, status=500, method="GET", path=f"/tas/api/incidents/id/{ref.ticket_id}/actions", times=9)
    with pytest.raises(TornAnswer) as caught:
        await plugin.add_note(ref.ticket_id, note)
    desk.faults.armed.clear()
    assert caught.value.in_doubt and await plugin.has_note(ref.ticket_id, note.marker)
    change = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
    fault(desk, status=403, method="GET", path=f"/tas/api/operatorChanges/{change.ticket_id}/progresstrail")
    assert await plugin.add_note(change.ticket_id, note)


async def test_one_strange_id_sinks_no_batch(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Ids come from outside; one that breaks the query is asked for by itself."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket())
    fault(desk, status=400, method="GET", path="/tas/api/incidents")
    results = {r.ticket_id: r async for r in plugin.get_ticket_batch([ref.ticket_id, "I' or 1=1"])}
    assert results[ref.ticket_id].ticket is not None and isinstance(results["I' or 1=1"].error, NotFound)


async def test_people_approve_changes_and_we_do_not(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Another tool's word must not get a change past its approver; nothing of a refused update is written."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
    card = desk.changes.get(ref.ticket_id)
    card["processingStatus"] = "rfc"
    with pytest.raises(ValidationRefused, match="approved by people"):
        await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.CLOSED, subject="half"))
    await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.OPEN))
    assert (card["processingStatus"], card["briefDescription"] == "half") == ("rfc", False)
    card["processingStatus"] = "simple_done"
    with pytest.raises(ValidationRefused, match="does not go back"):
        await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.OPEN))
    with pytest.raises(ValidationRefused, match="cannot be pending"):
        await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.PENDING))
    card["processingStatus"] = "extensive_inProgress"
    with pytest.raises(ValidationRefused, match="activities"):
        await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.RESOLVED))


async def test_where_the_status_moves_a_change_it_is_the_status_that_is_written(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Tenants choose whether the status or a transition leads; the card says which."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
    card = desk.changes.get(ref.ticket_id)
    card["simple"]["possibleStatusValues"] = {"implementing": [{"id": unid_of("Ready"), "name": "Ready"}]}
    await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.RESOLVED))
    assert card["status"] == unid_of("Ready") and card["processingStatus"] == "simple_notStarted"


async def test_an_internal_note_that_shows_is_the_last_one(desk: TopdeskSandbox, http: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that ignores our wish to hide a memo must not publish a second."""
    remember = desk._memo
    monkeypatch.setattr(desk, "_memo", lambda card, text, actor, hidden=True: remember(card, text, actor, hidden=False))
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket(type=TicketType.CHANGE))
    quiet = [NewNote(text=f"quiet {n}", marker=note_marker(new_event_id(), 1)) for n in range(2)]
    assert await plugin.add_note(ref.ticket_id, quiet[0])
    with pytest.raises(ValidationRefused, match="change_notes"):
        await plugin.add_note(ref.ticket_id, quiet[1])
    assert await plugin.add_note(ref.ticket_id, NewNote(text="loud", marker=note_marker(new_event_id(), 1), public=True))
    assert await bound(desk, http, change_notes="visible").add_note(ref.ticket_id, quiet[1])


async def test_a_change_needs_a_person_to_ask_for_it(desk: TopdeskSandbox, http: ApiClient) -> None:
    """The error names the setting; a wrong address names how many have it."""
    change = a_ticket(type=TicketType.CHANGE)
    with pytest.raises(PluginConfigError, match="needs a requester"):
        await bound(desk, http, requester="").create_ticket(change)
    with pytest.raises(PluginConfigError, match="0 have it"):
        await bound(desk, http, requester="nobody@gemeente.example").create_ticket(change)
    with_template = bound(desk, http, requester=CALLER["id"], change_template="Ws 006")
    assert await with_template.create_ticket(change)


async def test_a_closed_change_module_leaves_incidents_alone(desk: TopdeskSandbox, http: ApiClient) -> None:
    """An operator without that permission still mirrors incidents."""
    plugin = bound(desk, http)
    fault(desk, status=403, path="/tas/api/operatorChanges", times=99)
    with pytest.raises(NotFound):
        await plugin.get_ticket(MISSING)
    assert await plugin.find_by_external_id("aia-nothing") is None
    assert await plugin.create_ticket(a_ticket())


# --- files, assets, clocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TicketType.INCIDENT, TicketType.CHANGE])
async def test_files_go_up_and_come_down_as_they_were(desk: TopdeskSandbox, http: ApiClient, kind: TicketType) -> None:
    """Line ends and boundaries inside a file are its own; a file that is not there is not found."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket(type=kind))
    content = bytes(range(256)) * 40 + b"\r\n--x\r\n"
    file_id = await plugin.add_attachment(ref.ticket_id, "trace é.bin", "application/octet-stream", _chunks(content[:99], content[99:]))
    (listed,) = await plugin.list_attachments(ref.ticket_id)
    assert (listed.attachment_id, listed.filename, listed.size) == (file_id, "trace é.bin", len(content))
    assert b"".join([chunk async for chunk in plugin.download_attachment(ref.ticket_id, file_id)]) == content
    with pytest.raises(NotFound):
        await anext(aiter(plugin.download_attachment(ref.ticket_id, MISSING)))


async def test_a_card_tells_the_assets_it_is_about(desk: TopdeskSandbox, http: ApiClient) -> None:
    """Who reads the mirrored ticket sees the device, and the service it carries."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket())
    assert await plugin.device_context(await plugin.get_ticket(ref.ticket_id)) is None
    desk.incidents.get(ref.ticket_id)["asset"] = {"id": unid_of("LPT-0042")}
    context = await plugin.device_context(await plugin.get_ticket(ref.ticket_id))
    assert context is not None
    (item,) = context.items
    assert (item.name, item.kind, item.status, item.attributes["serial-number"]) == ("LPT-0042", "Laptop", "OPERATIONAL", "SN-77-0042")
    assert (item.relations[0].name, context.services) == ("Zaaksysteem", ("Zaaksysteem",))
    fault(desk, status=403, path="/tas/api/assetmgmt")
    assert await plugin.device_context(await plugin.get_ticket(ref.ticket_id)) == context  # its own asset is known without the search


async def test_the_target_date_is_a_clock(desk: TopdeskSandbox, http: ApiClient) -> None:
    """It pauses on hold, and is breached once it is over and the card is not."""
    plugin = bound(desk, http)
    ref = await plugin.create_ticket(a_ticket(status=TicketStatus.PENDING))
    (clock,) = await plugin.sla_targets(ref.ticket_id)
    assert clock.due_at is not None and clock.paused and not clock.breached
    desk.incidents.get(ref.ticket_id)["targetDate"] = "2020-01-01T00:00:00.000+0000"
    assert (await plugin.sla_targets(ref.ticket_id))[0].breached
    await plugin.update_ticket(ref.ticket_id, changes(status=TicketStatus.RESOLVED))
    (done,) = await plugin.sla_targets(ref.ticket_id)
    assert done.completed_at is not None and done.breached and not done.paused
    desk.incidents.get(ref.ticket_id)["targetDate"] = None
    assert await plugin.sla_targets(ref.ticket_id) == []


# --- answers ---------------------------------------------------------------------------------------------------------------


async def test_a_batch_is_five_times_as_quick_as_one_by_one(desk: TopdeskSandbox, http: ApiClient) -> None:
    """TOPdesk has no bulk call; waiting for one answer at a time would cost minutes at a real distance."""
    plugin = bound(desk, http)
    refs = [await plugin.create_ticket(a_ticket()) for _ in range(24)]
    fault(desk, delay=0.25, method="PATCH", times=24)
    began = time.monotonic()
    results = await plugin.batch_update_tickets({ref.ticket_id: changes(subject="swept") for ref in refs})
    assert all(result.error is None for result in results) and len(results) == 24
    assert time.monotonic() - began < 24 * 0.25 / 5


@pytest.mark.parametrize(
    ("status", "body", "content_type", "kind", "said"),
    [
        (200, b"<html>sign in</html>", "text/html", TornAnswer, "web page"),
        (400, b'[{"message":"The field \'gebouw\' does not exist."}]', "application/json", ValidationRefused, "gebouw"),
        (400, b'{"errors":[{"errorCode":"value_overflow","appliesTo":["body"]}]}', "application/json", ValidationRefused, "value_overflow"),
        (403, b"", "", CredentialsRefused, "403"),
        (403, b'[{"message":"De melding is gearchiveerd."}]', "application/json", ValidationRefused, "archived"),
        (404, b"<html>", "text/html", NotFound, "404"),
        (418, b"[1]", "application/json", FatalApiError, "418"),
    ],
)  # fmt: skip
def test_each_shape_of_refusal_is_named(status: int, body: bytes, content_type: str, kind: type[ApiError], said: str) -> None:
    """Lists, objects, pages and nothing at all: the class decides what happens next, the text says where to look."""
    error = topdesk_error(Answer(method="GET", path="/tas/api/x", status=status, headers={"content-type": content_type}, body=body))
    assert type(error) is kind or isinstance(error, kind)
    assert said in str(error)


async def test_health_sees_through_what_looks_well(desk: TopdeskSandbox, http: ApiClient) -> None:
    """A person's account reads the version too, and a wrong path answers with a page."""
    assert (await bound(desk, http).health_check()).actor == desk.credentials["actor"]
    fault(desk, status=403, path="/tas/api/operators/current")
    health = await bound(desk, http).health_check()
    assert not health.ok and "no operator's" in health.detail
    wrong = await bound(desk, http, auth={"user": "koppeling", "application_password": "x"}).health_check()
    assert not wrong.ok and "401" in wrong.detail
    unset = await bound(desk, http, auth={}).health_check()
    assert not unset.ok and "application_password" in unset.detail
    with pytest.raises(PluginConfigError, match="language"):
        await bound(desk, http, language="fr").get_ticket("I 1")


async def _person(desk: TopdeskSandbox, http: ApiClient, method: str, path: str, body: Any) -> Any:
    """A call of the colleague's own."""
    headers = desk.credentials["person"]["headers"]
    return await http.bound(base_url=f"{desk.base_url}/tas/api").request(method, f"/{path}", json=body, headers=headers)


def _step(path: str, value: str) -> dict[str, str]:
    return {"op": "replace", "path": f"/{path}", "value": value}


def _request() -> Any:
    from plugins.sandbox.http import Request

    return Request("POST", "/_people/tickets")


async def _chunks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
