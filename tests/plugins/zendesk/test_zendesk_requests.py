"""What the plugin asks of Zendesk, request by request, and what it makes of each answer: the vendor's edge played by a list."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from plugins.api import (
    ApiError,
    Attachment,
    BatchResult,
    CallTimedOut,
    ConnectionLost,
    CredentialsRefused,
    FatalApiError,
    Health,
    NewNote,
    NewTicket,
    NotFound,
    PluginConfigError,
    PluginContext,
    Priority,
    RateLimited,
    RetriableApiError,
    ServerError,
    TicketChanges,
    TicketRef,
    TicketStatus,
    TicketType,
    TornAnswer,
    ValidationRefused,
)
from plugins.http.client import ApiClient, Limits
from plugins.http.retry import NEVER
from plugins.zendesk import api_client as module
from plugins.zendesk.plugin import ZendeskPlugin
from tests.plugins.http.answering import wireless

BASE = "https://desk.example"
CHANGED, CHANGED_AT = "2026-03-02T09:40:05Z", 1_772_444_405_000_000
TICKET = {"id": 12, "updated_at": CHANGED}
REF = TicketRef(ticket_id="12", url=f"{BASE}/agent/tickets/12", updated_at=CHANGED_AT)
FIELDS = [
    {
        "id": 61,
        "title": "Berth",
        "type": "tagger",
        "custom_field_options": [{"name": "North 3", "value": "n3"}, {"name": "South", "value": "S1"}, {"value": 5}, "odd"],
    },
    {"id": 62, "title": "Parts", "type": "multiselect", "custom_field_options": [{"name": "Rope", "value": "rope"}]},
    {"id": 63, "title": "Depth", "type": "integer"},
    {"id": 64, "title": "Twin", "type": "text"},
    {"id": 65, "title": " twin ", "type": "text"},
    {"id": 66, "title": "Gone", "type": "text", "active": False},
    {"id": "67", "title": "Text id"},
    {"id": 68, "title": None},
]


class Desk:
    """Answers requests in turn, and keeps each as (method, path, query, body)."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.headers: list[httpx.Headers] = []
        self.urls: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = request.content
        is_json = "json" in request.headers.get("content-type", "")
        content = json.loads(body) if body and is_json else body.decode() or None
        self.asked.append((request.method, request.url.path, dict(request.url.params), content))
        self.headers.append(request.headers)
        self.urls.append(str(request.url))
        answer = self._answers.pop(0)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def plugin(self, **settings: Any) -> ZendeskPlugin:
        limits = Limits()
        client = ApiClient(BASE, limits=limits, retries=NEVER, pool=wireless(self, limits))
        known = {"base_url": f"{BASE}/", "auth": {"email": "a@desk.example", "api_token": "t"}, **settings}
        context = PluginContext(tenant="acme", tool="desk", settings=known, secrets=lambda reference: [b"t0k"], http=lambda: client)
        return ZendeskPlugin(context)


def a_ticket(**fields: Any) -> NewTicket:
    return NewTicket(**{"subject": "Crane 4", "external_id": "x-1", "event_id": "e-1", **fields})


def a_page(name: str, *items: Any, after: str | None = None) -> dict[str, Any]:
    return {name: list(items), "meta": {"has_more": after is not None, "after_cursor": after}}


async def test_one_ticket_and_many_are_read_with_their_clocks() -> None:
    """A ticket's due time comes from `slas`, which must be asked for."""
    desk = Desk(
        {"ticket": TICKET}, {"tickets": [{"id": 13}, {"id": 12}]}, {"tickets": []}, httpx.Response(404, json={"error": "RecordNotFound"})
    )
    plugin = desk.plugin()
    assert (await plugin.get_ticket("12")).updated_at == CHANGED_AT
    rows = [row async for row in plugin.get_ticket_batch(["12", "13", "12", *(str(n) for n in range(100, 199))])]
    assert [(row.ticket_id, type(row.error)) for row in rows[:3]] == [("12", type(None)), ("13", type(None)), ("100", NotFound)]
    assert [row.ticket.ticket_id for row in rows[:2] if row.ticket] == ["12", "13"]
    assert len(rows) == 101 and rows[-1].error is not None and rows[-1].error.status == 404
    with pytest.raises(NotFound):
        await plugin.get_ticket("12/../13")
    assert desk.asked[0] == ("GET", "/api/v2/tickets/12.json", {"include": "slas"}, None)
    assert desk.asked[1][:2] == ("GET", "/api/v2/tickets/show_many.json")
    assert desk.asked[1][2]["include"] == "slas"
    assert desk.asked[1][2]["ids"].split(",")[:3] == ["12", "13", "100"] and len(desk.asked[1][2]["ids"].split(",")) == 100
    assert desk.asked[2][2]["ids"] == "198"
    assert len(desk.asked) == 4


async def test_a_batch_that_cannot_be_read_says_so_of_each_ticket_and_goes_on() -> None:
    """The next hundred may still be answered."""
    desk = Desk(httpx.Response(500), {"tickets": [{"id": 100}]})
    rows = [row async for row in desk.plugin().get_ticket_batch([str(n) for n in range(101)])]
    assert [type(row.error) for row in rows] == [ServerError] * 100 + [type(None)]


async def test_a_new_ticket_is_written_whole() -> None:
    """Subject, text as HTML, our id, the event that made it, and the settings every ticket gets."""
    lists = [
        a_page("brands", {"id": 31, "name": "Lumen"}, {"id": "32", "name": "Text id"}),
        a_page("ticket_forms", {"id": 41, "name": "Faults"}),
        a_page("groups", {"id": 51, "name": "Quay"}),
    ]
    desk = Desk(a_page("ticket_fields", *FIELDS), *lists, {"ticket": TICKET}, {"ticket": TICKET})
    plugin = desk.plugin(brand="lumen", form="Faults", group="Quay", requester="bot@desk.example")
    fields = {"Berth": "north 3", "62": "as given"}
    words: dict[str, Any] = {"priority": Priority.URGENT, "status": TicketStatus.PENDING, "type": TicketType.CHANGE}
    assert await plugin.create_ticket(a_ticket(description="It **stands**.", tags=("crane",), custom_fields=fields, **words)) == REF
    await plugin.create_ticket(a_ticket(external_id="x" * 300))
    assert [request[:3] for request in desk.asked[:4]] == [
        ("GET", f"/api/v2/{name}.json", {"page[size]": "100"}) for name in ("ticket_fields", "brands", "ticket_forms", "groups")
    ]
    own = {"brand_id": 31, "ticket_form_id": 41, "group_id": 51, "requester": {"email": "bot@desk.example", "name": "bot@desk.example"}}
    assert desk.asked[4][:2] == ("POST", "/api/v2/tickets.json")
    assert desk.asked[4][3] == {
        "ticket": {
            "subject": "Crane 4",
            "comment": {"html_body": "<p>It <strong>stands</strong>.</p>", "public": True},
            "external_id": "x-1",
            "metadata": {"ai_agents_event": "e-1"},
            "priority": "urgent",
            "status": "pending",
            "type": "task",
            "tags": ["crane"],
            "custom_fields": [{"id": 61, "value": "n3"}, {"id": 62, "value": "as given"}],
            **own,
        }
    }
    bare = {"subject": "Crane 4", "comment": {"html_body": "<p>Crane 4</p>", "public": True}, "external_id": "x" * 300}
    assert desk.asked[5][3] == {"ticket": {**bare, "metadata": {"ai_agents_event": "e-1"}, **own}}
    assert [headers.get("idempotency-key") for headers in desk.headers[4:]] == ["x-1/e-1", "x" * 255]


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({}, {}),
        ({"subject": ""}, {"subject": ""}),
        ({"priority": Priority.LOW, "type": TicketType.INCIDENT}, {"priority": "low", "type": "incident"}),
        ({"priority": Priority.MEDIUM, "type": TicketType.PROBLEM}, {"priority": "normal", "type": "problem"}),
        ({"priority": Priority.HIGH, "type": TicketType.REQUEST}, {"priority": "high", "type": "question"}),
        ({"priority": Priority.UNKNOWN, "status": TicketStatus.UNKNOWN, "type": TicketType.UNKNOWN}, {}),
        ({"status": TicketStatus.NEW}, {"status": "new"}),
        ({"status": TicketStatus.OPEN}, {"status": "open"}),
        ({"status": TicketStatus.RESOLVED}, {"status": "solved"}),
        ({"status": TicketStatus.CLOSED}, {"status": "solved"}),
        ({"custom_fields": {"61": ["a"]}}, {"custom_fields": [{"id": 61, "value": ["a"]}]}),
    ],
)
async def test_an_update_says_what_is_to_change_and_no_more(changes: dict[str, Any], body: dict[str, Any]) -> None:
    """None and unknown leave a field as it is; `closed` could never be changed again and is not written."""
    desk = Desk({"ticket": TICKET})
    assert await desk.plugin().update_ticket("12", TicketChanges(event_id="e-1", **changes)) == REF
    assert desk.asked == [("PUT", "/api/v2/tickets/12.json", {}, {"ticket": {"metadata": {"ai_agents_event": "e-1"}, **body}})]


async def test_a_tenant_may_close_for_good_and_choose_its_own_statuses() -> None:
    """Both are the tenant's decision: closed tickets refuse every later update."""
    labels = {
        "custom_statuses": [
            {"id": 71, "agent_label": "At the yard"},
            {"id": 72, "agent_label": "Off", "active": False},
            {"agent_label": "x"},
        ]
    }
    desk = Desk({"ticket": TICKET}, labels, {"ticket": TICKET}, {"ticket": TICKET})
    changes = TicketChanges(event_id="e", status=TicketStatus.CLOSED)
    await desk.plugin(final_close=True).update_ticket("12", changes)
    chosen = desk.plugin(custom_statuses={"closed": "at the yard", "open": "75"}, final_close=True)
    await chosen.update_ticket("12", changes)
    await chosen.update_ticket("12", TicketChanges(event_id="e", status=TicketStatus.OPEN))
    assert [request[3]["ticket"] for request in desk.asked if request[3]] == [
        {"metadata": {"ai_agents_event": "e"}, "status": "closed"},
        {"metadata": {"ai_agents_event": "e"}, "custom_status_id": 71},
        {"metadata": {"ai_agents_event": "e"}, "custom_status_id": 75},
    ]
    assert desk.asked[1][:2] == ("GET", "/api/v2/custom_statuses.json")
    with pytest.raises(ValidationRefused):
        await Desk(labels).plugin(custom_statuses={"closed": "Off"}).update_ticket("12", changes)
    for odd in ({"shut": "Off"}, ["closed"]):
        with pytest.raises(PluginConfigError, match="custom_statuses"):
            await Desk().plugin(custom_statuses=odd).update_ticket("12", changes)


@pytest.mark.parametrize(
    ("name", "given", "written"),
    [
        ("berth", " NORTH 3 ", {"id": 61, "value": "n3"}),
        ("Berth", "N3", {"id": 61, "value": "n3"}),
        ("Berth", "", {"id": 61, "value": ""}),
        ("Berth", None, {"id": 61, "value": None}),
        ("Parts", ["Rope", "rope"], {"id": 62, "value": ["rope", "rope"]}),
        ("Parts", "Rope", {"id": 62, "value": ["rope"]}),
        ("Depth", 7, {"id": 63, "value": 7}),
        ("63", "7", {"id": 63, "value": "7"}),
        ("Berth", "s1", {"id": 61, "value": "S1"}),
        ("Berth", "West", ValidationRefused),
        ("Parts", ["Chain"], ValidationRefused),
        ("Twin", "x", ValidationRefused),
        ("Gone", "x", ValidationRefused),
        ("Text id", "x", ValidationRefused),
        ("Nowhere", "x", ValidationRefused),
    ],
)
async def test_a_field_by_name_is_written_as_its_kind_takes_it(name: str, given: Any, written: Any) -> None:
    """Zendesk drops an option it does not have without a word, and two fields may share a title: both are refused before they are sent."""
    desk = Desk(a_page("ticket_fields", *FIELDS), {"ticket": TICKET})
    if name == "63":
        desk = Desk({"ticket": TICKET})
    changes = TicketChanges(event_id="e", custom_fields={name: given})
    if written is ValidationRefused:
        with pytest.raises(ValidationRefused):
            await desk.plugin().update_ticket("12", changes)
    else:
        await desk.plugin().update_ticket("12", changes)
        assert desk.asked[-1][3]["ticket"]["custom_fields"] == [written]


async def test_a_note_is_internal_carries_its_marker_and_answers_its_comments_id() -> None:
    """Zendesk's own default is public; the marker is how the note is known when it comes back."""
    events = [{"type": "Change", "id": 1}, "odd", {"type": "Comment", "id": None}, {"type": "Comment", "id": 81}]
    desk = Desk(*[{"ticket": TICKET, "audit": {"events": events}}] * 4)
    plugin = desk.plugin()
    assert await plugin.add_note("12", NewNote(text="Done.", marker="[aia:e:1]")) == "81"
    await plugin.add_note("12", NewNote(text="Done.", marker="[aia:e:1]", public=True))
    await plugin.add_note("12", NewNote(text="Done. [aia:e:1]", marker="[aia:e:1]"))
    await plugin.add_note("12", NewNote(text="Done. [aia:e:1] and [aia:f:2]", marker="[aia:e:1]"))
    internal, public, marked, quoting = [request[3]["ticket"]["comment"] for request in desk.asked]
    assert internal == {"html_body": "<p>Done.</p><p>[aia:e:1]</p>", "public": False}
    assert public == {**internal, "public": True}
    assert marked["html_body"].count("aia:e:1") == quoting["html_body"].count("aia:e:1") == 1
    for audit in (None, {}, {"events": None}, {"events": [{"type": "Change", "id": 1}]}):
        with pytest.raises(TornAnswer) as torn:
            await Desk({"ticket": TICKET, "audit": audit}).plugin().add_note("12", NewNote(text="x", marker="m"))
        assert torn.value.in_doubt


def a_job(status: str, *rows: Any, **more: Any) -> dict[str, Any]:
    return {"job_status": {"id": "j/1", "status": status, "results": list(rows), **more}}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    return waits


async def test_a_job_of_updates_is_followed_to_its_end_and_judged_row_by_row(hurried: list[float]) -> None:
    """A job that completed may hold rows that failed, and a row it does not mention may have been done."""
    rows = [
        {"id": 1, "success": True},
        {"id": 2, "status": "Updated"},
        {"id": 3, "status": "Updated", "error": "TicketUpdateFailed"},
        {"id": 4, "error": "TicketNotFound"},
        {"id": 5, "error": "InvalidValue"},
        {"id": 6, "error": "TicketCreateFailed"},
        {"id": 7, "error": "Strange"},
        {"id": 8},
        "odd",
    ]
    desk = Desk(a_job("queued"), a_job("working"), a_job("completed", *rows), a_job("completed", {"id": 199, "success": True}))
    changes = {str(n): TicketChanges(event_id=f"e-{n}", subject="s") for n in range(1, 101)}
    odd = {"abc": TicketChanges(event_id="e"), "²": TicketChanges(event_id="e")}
    found = await desk.plugin().batch_update_tickets({**odd, **changes})
    by_id = {row.ticket_id: row for row in found}
    assert len(found) == 102 and [by_id[name].error.status for name in odd if by_id[name].error] == [404, 404]
    assert by_id["1"] == BatchResult("1", ticket=TicketRef(ticket_id="1"))
    assert [str(by_id[name].error) for name in ("3", "8")] == ["ticket 3: TicketUpdateFailed", "ticket 8: failed"]
    assert str(by_id["9"].error) == "the job says nothing of ticket 9"
    kinds = [ValidationRefused, NotFound, ValidationRefused, ValidationRefused, FatalApiError, FatalApiError]
    assert by_id["2"].error is None and [type(by_id[str(n)].error) for n in range(3, 9)] == kinds
    lost = by_id["9"].error
    assert isinstance(lost, ConnectionLost) and lost.in_doubt
    assert desk.asked[0][:2] == ("PUT", "/api/v2/tickets/update_many.json")
    assert desk.asked[0][3]["tickets"][0] == {"id": 1, "metadata": {"ai_agents_event": "e-1"}, "subject": "s"}
    assert len(desk.asked[0][3]["tickets"]) == 98 and len(desk.asked[3][3]["tickets"]) == 2
    assert hurried == [0.03, 0.06]


async def test_new_tickets_are_made_in_jobs_and_known_by_their_place(hurried: list[float]) -> None:
    """A job's rows say which of the tickets asked for they are about, and nothing else does."""
    rows = [
        {"index": 1, "id": 22},
        {"index": 0, "id": 21},
        {"index": 2, "id": 23, "error": "TicketCreateFailed"},
        {"index": 3, "success": True},
    ]
    desk = Desk(a_page("ticket_fields", *FIELDS), a_job("completed", *rows))
    tickets = [a_ticket(external_id=f"x-{n}", event_id=f"e-{n}") for n in range(5)]
    bad = a_ticket(external_id="x-bad", custom_fields={"Nowhere": 1})
    refused, *made = await desk.plugin().batch_create_tickets([bad, *tickets])
    assert refused.ticket_id == "x-bad" and isinstance(refused.error, ValidationRefused)
    assert made[:2] == [
        BatchResult(f"x-{n}", ticket=TicketRef(ticket_id=f"2{n + 1}", url=f"{BASE}/agent/tickets/2{n + 1}")) for n in (0, 1)
    ]
    assert [type(row.error) for row in made[2:]] == [ValidationRefused, type(None), ConnectionLost]
    assert desk.asked[1][:2] == ("POST", "/api/v2/tickets/create_many.json")
    assert [ticket["external_id"] for ticket in desk.asked[1][3]["tickets"]] == [f"x-{n}" for n in range(5)]
    assert await Desk().plugin().batch_create_tickets([]) == []
    many = Desk(a_job("completed"), a_job("completed"))
    assert len(await many.plugin().batch_create_tickets([a_ticket(external_id=f"x-{n}") for n in range(101)])) == 101
    assert [len(request[3]["tickets"]) for request in many.asked] == [100, 1]


async def test_a_job_that_fails_or_never_ends_leaves_every_row_in_doubt(hurried: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Something may have been done: search before it is done again."""
    changes = {"1": TicketChanges(event_id="e"), "2": TicketChanges(event_id="e")}
    failed = await Desk(a_job("failed")).plugin().batch_update_tickets(changes)
    assert [(row.ticket_id, type(row.error), row.error.in_doubt) for row in failed if row.error] == [
        ("1", RetriableApiError, True),
        ("2", RetriableApiError, True),
    ]
    torn = await Desk({}).plugin().batch_update_tickets(changes)
    assert [(type(row.error), row.error.in_doubt) for row in torn if row.error] == [(TornAnswer, True)] * 2
    made = await Desk(httpx.Response(503)).plugin().batch_create_tickets([a_ticket()])
    assert [(row.ticket_id, type(row.error)) for row in made] == [("x-1", ServerError)]
    clock = iter(range(0, 10_000, 50))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    desk = Desk(*[a_job("working")] * 4)
    (late, _) = await desk.plugin().batch_update_tickets(changes)
    assert isinstance(late.error, CallTimedOut) and late.error.in_doubt
    assert {request[:2] for request in desk.asked[1:]} == {("GET", "/api/v2/job_statuses/j/1.json")}
    assert 1 < len(desk.asked) <= 4


async def test_polls_of_a_job_come_ever_slower_up_to_two_seconds(hurried: list[float]) -> None:
    """A long job is not hammered."""
    await Desk(*[a_job("working")] * 9, a_job("completed")).plugin().batch_update_tickets({"1": TicketChanges(event_id="e")})
    assert hurried == pytest.approx([0.03, 0.06, 0.12, 0.24, 0.48, 0.96, 1.92, 2.0, 2.0])


async def test_lists_are_read_to_their_last_page_and_never_in_a_circle() -> None:
    """By cursor; a server that repeats its cursor must not hold us for ever."""
    desk = Desk(
        a_page("sla_policies", {"id": 1}, "odd", after="c1"),
        a_page("sla_policies", {"id": 2}, after="c2"),
        a_page("sla_policies", {"id": 3}),
    )
    assert await desk.plugin().sla_policies() == [{"id": 1}, {"id": 2}, {"id": 3}]
    path = "/api/v2/slas/policies.json"
    size = {"page[size]": "100"}
    assert [request[1:3] for request in desk.asked] == [
        (path, size),
        (path, {**size, "page[after]": "c1"}),
        (path, {**size, "page[after]": "c2"}),
    ]
    circle = Desk(a_page("sla_policies", {"id": 1}, after="c1"), a_page("sla_policies", {"id": 2}, after="c1"))
    assert len(await circle.plugin().sla_policies()) == 2
    ended = Desk({"sla_policies": [], "meta": {"has_more": False, "after_cursor": "c1"}})
    assert await ended.plugin().sla_policies() == [] and len(ended.asked) == 1


async def test_a_list_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded, as everything is."""
    monkeypatch.setattr(module, "MAX_PAGES", 3)
    with pytest.raises(FatalApiError, match="more than 3 pages"):
        await Desk(*[a_page("sla_policies", after=f"c{n}") for n in range(5)]).plugin().sla_policies()


async def test_clocks_are_read_with_the_events_of_the_tickets_life() -> None:
    """Only the events say when a target was met; an account may not tell them."""
    metric = {"metric": "first_reply_time", "stage": "achieved", "breach_at": CHANGED}
    ticket = {**TICKET, "slas": {"policy_metrics": [metric]}}
    events = [{"metric": "reply_time", "type": "fulfill", "time": CHANGED}]
    desk = Desk({"ticket": ticket, "metric_events": events}, {"ticket": ticket})
    plugin = desk.plugin()
    assert (await plugin.sla_targets("12"))[0].completed_at == CHANGED_AT
    assert (await plugin.sla_targets("12"))[0].completed_at is None
    assert desk.asked[0] == ("GET", "/api/v2/tickets/12.json", {"include": "slas,metric_events"}, None)


async def test_searches_go_on_by_page_up_to_what_was_asked_for() -> None:
    """Zendesk gives a thousand results at most, by offset."""
    page = {"results": [{"id": n} for n in range(1, 101)], "next_page": "more"}
    desk = Desk(page, page, {"results": [{"id": 1}], "next_page": None})
    plugin = desk.plugin()
    assert len(await plugin.search_tickets("tags:gate", limit=150)) == 150
    assert [t.ticket_id for t in await plugin.search_tickets("tags:gate")] == ["1"]
    query = {"query": "type:ticket tags:gate", "per_page": "100"}
    path = "/api/v2/search.json"
    assert [request[:3] for request in desk.asked] == [("GET", path, {**query, "page": n}) for n in ("1", "2", "1")]
    everything = Desk(*[page] * 12)
    assert len(await everything.plugin().search_tickets("x", limit=5000)) == 1000
    assert len(everything.asked) == 10
    exact = Desk(page, page)
    assert len(await exact.plugin().search_tickets("x", limit=100)) == len(await exact.plugin().search_tickets("x")) == 100
    with pytest.raises(TornAnswer):
        await Desk({"results": [{"subject": "no id"}]}).plugin().search_tickets("x")


async def test_changes_since_a_moment_are_exported_by_cursor() -> None:
    """How what a paused webhook did not tell is caught up with."""
    desk = Desk(
        {"tickets": [{"id": 1}], "after_cursor": "c1", "end_of_stream": False},
        {"tickets": [{"id": 2}, {"id": 3}], "after_cursor": "c2", "end_of_stream": True},
    )
    assert [t.ticket_id for t in await desk.plugin().changed_tickets(77)] == ["1", "2", "3"]
    path = "/api/v2/incremental/tickets/cursor.json"
    assert [request[:3] for request in desk.asked] == [
        ("GET", path, {"start_time": "77", "include": "slas"}),
        ("GET", path, {"cursor": "c1", "include": "slas"}),
    ]
    stuck = {"tickets": [{"id": 1}], "after_cursor": "c1"}
    assert len(await Desk(stuck, stuck).plugin().changed_tickets(77)) == 2
    assert len(await Desk(stuck).plugin().changed_tickets(77, limit=1)) == 1
    assert len(await Desk({"tickets": [{"id": 1}], "after_cursor": None}).plugin().changed_tickets(77)) == 1
    assert len(await Desk({"tickets": [{"id": 1}, {"id": 2}], "after_cursor": "c"}).plugin().changed_tickets(77, limit=1)) == 1
    hundred = [{"tickets": [{"id": n} for n in range(1, 101)], "after_cursor": f"c{page}"} for page in range(20)]
    assert len(await Desk(*hundred).plugin().changed_tickets(77, limit=5000)) == 1000


async def test_our_ticket_is_found_by_our_id_and_the_oldest_counts() -> None:
    """Zendesk compares loosely: what it answers is compared again."""
    tickets = [
        {"id": 9, "external_id": "x-1"},
        {"id": 12, "external_id": "x-1", "updated_at": CHANGED},
        {"id": 3, "external_id": "X-1"},
        {"external_id": "x-1"},
    ]
    desk = Desk({"tickets": tickets[1:] + tickets[:1]}, {"tickets": tickets[2:]})
    plugin = desk.plugin()
    assert await plugin.find_by_external_id("x-1") == TicketRef(ticket_id="9", url=f"{BASE}/agent/tickets/9")
    assert await plugin.find_by_external_id("x-1") is None
    assert desk.asked[0] == ("GET", "/api/v2/tickets.json", {"external_id": "x-1"}, None)


async def test_an_update_and_a_note_of_ours_are_found_again() -> None:
    """How an effect in doubt is known to have happened."""
    audits = a_page(
        "audits",
        {"metadata": None},
        {"metadata": {"custom": {"ai_agents_event": "e-0"}}},
        {"metadata": {"custom": {"ai_agents_event": "e-1"}}},
    )
    comments = a_page("comments", {"plain_body": None, "body": None}, {"plain_body": "Done.\n[aia:e:1]"}, {"body": "[aia:e:2]"})
    desk = Desk(audits, audits, comments, comments, comments)
    plugin = desk.plugin()
    assert await plugin.has_update("12", "e-1") is True
    assert await plugin.has_update("12", "e-2") is False
    assert [await plugin.has_note("12", f"[aia:e:{hop}]") for hop in (1, 2, 3)] == [True, True, False]
    assert {request[1] for request in desk.asked} == {"/api/v2/tickets/12/audits.json", "/api/v2/tickets/12/comments.json"}


async def test_comments_are_shown_as_markdown() -> None:
    """As people read them, oldest first."""
    given = {"id": 81, "public": True, "author_id": 21, "created_at": CHANGED, "html_body": "<p>It <b>stands</b>.</p>", "body": "x"}
    desk = Desk(a_page("comments", given, {"id": 82, "public": "yes", "body": "Plain"}, {"id": 83}))
    shown = {"comment_id": "81", "public": True, "author": "21", "created_at": CHANGED_AT, "text": "It **stands**."}
    other = {"comment_id": "82", "public": False, "author": None, "created_at": None, "text": "Plain"}
    assert await desk.plugin().comments("12") == [shown, other, {**other, "comment_id": "83", "text": ""}]


async def test_a_file_is_uploaded_tied_listed_and_read() -> None:
    """An upload belongs to no ticket until a comment takes it up: an internal one."""
    file = {"id": 91, "file_name": "map.png", "content_type": "image/png", "size": 3}
    comments = a_page("comments", {"attachments": [file, {"id": None}, "odd", {"id": 92, "size": "3"}]}, {"attachments": None})
    content = {"attachment": {"id": 91, "content_url": f"{BASE}/files/91"}}
    desk = Desk(
        {"upload": {"token": "t-1", "attachment": {"id": 91}}}, {"ticket": TICKET}, comments, content, httpx.Response(200, content=b"png")
    )
    plugin = desk.plugin()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"pn"
        yield b"g"

    assert await plugin.add_attachment("12", "map.png", "image/png", chunks()) == "91"
    assert await plugin.list_attachments("12") == [
        Attachment(attachment_id="91", filename="map.png", content_type="image/png", size=3),
        Attachment(attachment_id="92", filename=""),
    ]
    assert b"".join([chunk async for chunk in plugin.download_attachment("12", "91")]) == b"png"
    assert desk.asked[0] == ("POST", "/api/v2/uploads.json", {"filename": "map.png"}, "png")
    assert desk.headers[0]["content-type"] == "image/png"
    assert desk.asked[1][3] == {"ticket": {"comment": {"body": "Attached file", "public": False, "uploads": ["t-1"]}}}
    assert [request[:2] for request in desk.asked[3:]] == [("GET", "/api/v2/attachments/91.json"), ("GET", "/files/91")]


async def test_without_an_address_a_ticket_has_no_other_hosts_link() -> None:
    """The host's client may know an address that the tool's settings do not name."""
    assert (
        await Desk({"ticket": TICKET}).plugin(base_url=None).update_ticket("12", TicketChanges(event_id="e"))
    ).url == "/agent/tickets/12"


@pytest.mark.parametrize("upload", [None, {"attachment": {"id": 91}}, {"token": "t-1"}, {"token": "t-1", "attachment": {"id": None}}])
async def test_an_upload_that_is_not_told_whole_is_in_doubt(upload: dict[str, Any] | None) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        yield b"x"

    with pytest.raises(TornAnswer) as torn:
        await Desk({"upload": upload}).plugin().add_attachment("12", "a", "text/plain", nothing())
    assert torn.value.in_doubt


async def test_a_file_larger_than_zendesk_takes_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before 50 MB have gone over the wire twice."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(51):
            yield bytes(1 << 20)

    with pytest.raises(FatalApiError, match="52428800"):
        await (
            Desk({"upload": {"token": "t", "attachment": {"id": 1}}}, {"ticket": TICKET})
            .plugin()
            .add_attachment("12", "a", "b/c", endless())
        )
    with pytest.raises(TornAnswer):
        _ = [chunk async for chunk in Desk({"attachment": {"id": 91}}).plugin().download_attachment("12", "91")]


@pytest.mark.parametrize(
    ("user", "ok", "actor"),
    [
        ({"id": 21, "role": "agent"}, True, "21"),
        ({"id": 21, "role": "admin", "suspended": False}, True, "21"),
        ({"id": None, "role": "end-user"}, False, None),
        ({"id": 21, "role": "end-user"}, False, "21"),
        ({"id": 21, "role": "agent", "suspended": True}, False, "21"),
    ],
)
async def test_health_is_whether_we_are_an_agent(user: dict[str, Any], ok: bool, actor: str | None) -> None:
    """A wrong token is answered 200, with the anonymous user."""
    desk = Desk({"user": user})
    health = await desk.plugin().health_check()
    assert (health.ok, health.actor, health.detail == "") == (ok, actor, ok)
    assert desk.asked == [("GET", "/api/v2/users/me.json", {}, None)]
    assert desk.headers[0]["authorization"] == "Basic " + base64.b64encode(b"a@desk.example/token:t0k").decode()


async def test_health_tells_what_refused_us() -> None:
    refused = await Desk(httpx.Response(401, json={"error": "Couldn't authenticate you"})).plugin().health_check()
    assert not refused.ok and refused.detail
    unset = await Desk().plugin(auth={}).health_check()
    assert not unset.ok and "api_token" in unset.detail
    assert isinstance(unset, Health)


async def test_an_access_token_is_sent_as_a_bearers() -> None:
    desk = Desk({"ticket": TICKET})
    await desk.plugin(auth={"access_token": "${secret:a}"}).get_ticket("12")
    assert desk.headers[0]["authorization"] == "Bearer t0k"


async def test_a_refresh_token_is_exchanged_at_the_accounts_own_address() -> None:
    """What a person once allowed, for as long as the account lives."""
    desk = Desk({"access_token": "acc", "expires_in": 3600}, {"ticket": TICKET})
    auth = {"client_id": "c-1", "client_secret": "${secret:c}", "refresh_token": "${secret:r}"}
    plugin = desk.plugin(auth=auth)
    plugin.context = dataclasses.replace(plugin.context, secrets=lambda reference: [reference[9:10].encode()])
    await plugin.get_ticket("12")
    method, path, _, form = desk.asked[0]
    asked = dict(parse_qsl(form))
    assert (method, path, desk.urls[0]) == ("POST", "/oauth/tokens", f"{BASE}/oauth/tokens")
    assert {"grant_type": "refresh_token", "client_id": "c-1", "client_secret": "c", "refresh_token": "r"}.items() <= asked.items()
    assert desk.headers[1]["authorization"] == "Bearer acc"


@pytest.mark.parametrize(("secrets", "told"), [([], "has no value"), ([b"\xff"], "is not text")])
async def test_a_secret_that_cannot_be_used_is_named(secrets: list[bytes], told: str) -> None:
    """By its reference, never by its value."""
    plugin = Desk({"ticket": TICKET}).plugin(auth={"access_token": "${secret:a}"})
    plugin.context = dataclasses.replace(plugin.context, secrets=lambda reference: secrets)
    with pytest.raises(PluginConfigError, match=told) as refused:
        await plugin.get_ticket("12")
    assert "${secret:a}" in str(refused.value)


@pytest.mark.parametrize("auth", [{}, {"email": "a@desk.example"}, {"api_token": "t"}])
async def test_credentials_that_are_not_whole_are_a_settings_error(auth: dict[str, Any]) -> None:
    """Said as such, not as a refusal of Zendesk's."""
    with pytest.raises(PluginConfigError, match="email and api_token"):
        await Desk().plugin(auth=auth).get_ticket("12")


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (
            422,
            {"error": "RecordInvalid", "details": {"subject": [], "brand_id": []}},
            ValidationRefused,
            "RecordInvalid: brand_id, subject",
        ),
        (422, {"error": {"title": "Invalid attribute", "message": "…"}}, ValidationRefused, "Invalid attribute"),
        (404, {"error": "RecordNotFound"}, NotFound, "RecordNotFound"),
        (404, {"error": {"title": "No help desk at desk.example"}}, FatalApiError, "check base_url"),
        (404, "<html>", NotFound, "check base_url"),
        (409, {"error": "Conflict"}, RetriableApiError, "Conflict"),
        (429, {"error": "TooManyJobs"}, RateLimited, "TooManyJobs"),
        (503, {"error": "TooManyJobs"}, RateLimited, "TooManyJobs"),
        (401, {"error": "Couldn't authenticate you"}, CredentialsRefused, "authenticate"),
        (500, "<html>", ServerError, ""),
        (422, {}, ValidationRefused, ""),
        (422, {"error": {"message": "no title"}}, ValidationRefused, ""),
        (300, {}, FatalApiError, ""),
    ],
)
async def test_each_error_of_zendesks_is_one_of_ours(status: int, body: Any, kind: type[ApiError], told: str) -> None:
    """What to do follows from the kind: wait, give up, or fix the settings."""
    answer = httpx.Response(status, text=body) if isinstance(body, str) else httpx.Response(status, json=body)
    with pytest.raises(kind) as refused:
        await Desk(answer).plugin().update_ticket("12", TicketChanges(event_id="e"))
    assert type(refused.value) is kind
    assert told in str(refused.value)
    assert (f"{status} (" in str(refused.value)) is bool(told)
    if status == 409:
        assert not refused.value.in_doubt


CALLS: dict[str, tuple[Callable[[ZendeskPlugin], Any], bool]] = {
    "get_ticket": (lambda p: p.get_ticket("1"), False),
    "create_ticket": (lambda p: p.create_ticket(a_ticket()), True),
    "update_ticket": (lambda p: p.update_ticket("1", TicketChanges(event_id="e")), True),
    "find_by_external_id": (lambda p: p.find_by_external_id("x"), False),
    "custom_statuses": (lambda p: p.custom_statuses(), False),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("body", [{}, {"ticket": None, "tickets": None}, [1], {"ticket": {"subject": "no id"}, "tickets": {}}])
async def test_a_success_without_what_was_asked_for_is_torn(call: str, body: Any) -> None:
    """After a write it is in doubt: the ticket may be there."""
    ask, writes = CALLS[call]
    with pytest.raises(TornAnswer) as torn:
        await ask(Desk(body).plugin())
    assert torn.value.in_doubt is writes
