"""The sandbox in process: its query language, its control calls, and what a restart remembers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.freshservice.sandbox import FreshserviceSandbox
from plugins.freshservice.sandbox_forms import FIELDS, blank, faults_in
from plugins.freshservice.sandbox_pages import page
from plugins.freshservice.sandbox_search import BadQuery, compiled
from plugins.sandbox.http import Request, Response

NEW = {"subject": "s", "description": "<p>d</p>", "email": "cora@customer.example", "priority": 2, "status": 2}
TICKET = {"status": 2, "priority": 3, "tags": ["vip", "dock 3"], "responder_id": None, "created_at": "2026-03-02T09:00:00Z"}


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("status:2", True),
        ("status: 2 AND priority:>3", True),
        ("priority:<2", False),
        ("tag:'vip'", True),
        ("tag:'dock 3' AND tag:'no'", False),
        ("tag:'no' OR (priority:3 AND agent_id:null)", True),
        ("status:3 OR status:4", False),
        ("created_at:>'2026-03-01'", True),
        ("created_at:<'2026-03-01'", False),
        ("tag:null", False),
    ],
)
def test_a_query_means_what_the_manual_says(query: str, matches: bool) -> None:
    """Text and dates in single quotes, numbers bare, > and < include the value."""
    assert compiled(f'"{query}"')(TICKET) is matches


@pytest.mark.parametrize(
    "query",
    [
        "",
        "status:2",
        '"status:2',
        '""',
        '"status"',
        '"nothing:2"',
        '"status:2 AND"',
        '"(status:2"',
        '"status:2)"',
        f"\"tag:'{'x' * 600}'\"",
    ],
)
def test_what_is_no_query_is_refused(query: str) -> None:
    """The whole query stands in double quotes, and in 512 characters."""
    with pytest.raises(BadQuery):
        compiled(query)


@given(st.text("\"'():<> ANDORstatu2priy", max_size=40))
def test_no_query_fails_in_another_way(text: str) -> None:
    """Clients send anything."""
    try:
        compiled(f'"{text}"')(TICKET)
    except BadQuery as exc:
        assert str(exc)


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_a_blank_record_fills_its_own_form(kind: str) -> None:
    """What is shown can be written back."""
    given_back = {name: value for name, value in blank(kind).items() if name in FIELDS[kind] and value is not None}
    assert faults_in(kind, given_back, creates=False) == []


def test_pages_end() -> None:
    """The last one names no next; what is no page is named by its field."""
    assert page([1, 2, 3], {"per_page": "2"}, "u") == ([1, 2], '<u?page=2&per_page=2>; rel="next"', None)
    assert page([1, 2, 3], {"per_page": "2", "page": "2"}, "u") == ([3], "", None)
    for query in ({"page": "0"}, {"page": "x"}, {"per_page": "101"}):
        assert page([], query, "u")[2] is not None


class Caller:
    """Calls a sandbox without a socket."""

    def __init__(self, sandbox: FreshserviceSandbox, *, person: bool = False) -> None:
        key = sandbox.secret("person_key" if person else "api_key")
        self._sandbox = sandbox
        self._headers = {"authorization": "Basic " + base64.b64encode(f"{key}:X".encode()).decode()}

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        address, _, query = path.partition("?")
        raw = b"" if body is None else json.dumps(body).encode()
        return await self._sandbox._answer(Request(method, address, query, {**self._headers, **headers}, raw))


def told(response: Response) -> Any:
    return json.loads(response.body)


async def test_records_are_kept_over_a_restart(tmp_path: Path) -> None:
    """Chaos kills tools; what they answered stays done."""
    sandbox = FreshserviceSandbox(state=tmp_path / "state.jsonl")
    call = Caller(sandbox)
    assert told(await call("POST", "/api/v2/tickets", {**NEW, "assets": [{"display_id": 2}]}))["ticket"]["id"] == 1
    await call("PUT", "/api/v2/tickets/1", {"priority": 4, "assets": [{"display_id": 1}], "description": "<p>new</p>"})
    await call("POST", "/api/v2/tickets/1/notes", {"body": "n", "private": False})
    await sandbox.stop()
    again = Caller(FreshserviceSandbox(state=tmp_path / "state.jsonl"))
    ticket = told(await again("GET", "/api/v2/tickets/1?include=conversations,assets,stats"))["ticket"]
    assert (ticket["priority"], ticket["assets"][0]["name"], ticket["description_text"]) == (4, "LT-0417", "new")
    assert [note["private"] for note in ticket["conversations"]] == [False]
    assert told(await again("POST", "/api/v2/tickets", NEW))["ticket"]["id"] == 2


async def test_lists_narrow_by_workspace_time_type_and_requester() -> None:
    """Without a word a list is of the primary workspace and the last thirty days."""
    call = Caller(FreshserviceSandbox())
    await call("POST", "/api/v2/tickets", NEW)
    await call("POST", "/api/v2/tickets", {**NEW, "workspace_id": 3, "type": "Service Request", "email": "new@customer.example"})
    asked = {
        "": [1], "?workspace_id=3": [2], "?workspace_id=0": [2, 1], "?workspace_id=0&order_type=asc": [1, 2], "?workspace_id=2,3": [2, 1],
        "?workspace_id=0&type=Incident": [1], "?workspace_id=0&email=new@customer.example": [2],
        "?workspace_id=0&updated_since=2999-01-01T00:00:00Z": [],
    }  # fmt: skip
    for query, ids in asked.items():
        assert [t["id"] for t in told(await call("GET", f"/api/v2/tickets{query}"))["tickets"]] == ids, query
    people = told(await call("GET", "/api/v2/requesters?query=%22name:%27new%27%22"))["requesters"]
    assert [p["email"] for p in people] == ["new@customer.example"]


async def test_people_and_our_own_writes_are_told_apart_in_the_ledger() -> None:
    """Tests of "exactly once" count by it."""
    sandbox = FreshserviceSandbox()
    ours, theirs = Caller(sandbox), Caller(sandbox, person=True)
    await ours("POST", "/api/v2/tickets", {**NEW, "tags": ["aia-1"], "custom_fields": {"external_event": "e-1"}})
    await theirs("PUT", "/api/v2/tickets/1", {"status": 3})
    await ours("POST", "/api/v2/tickets/1/notes", {"body": "seen [aia:e-2:1]"})
    person = told(await ours("POST", "/_people/tickets", {"subject": "Help", "type": "problem", "priority": "urgent"}))
    assert person == {"ticket_id": "PRB-1"}
    assert (await ours("PUT", "/_people/tickets/PRB-1", {"comment": "me too", "status": "pending"})).status == 200
    assert (await ours("PUT", "/_people/tickets/77", {"status": "open"})).status == 404
    rows = [(r["kind"], r["ticket_id"], r["external_id"], r["marker"], r["actor"]) for r in told(await ours("GET", "/_ledger"))]
    assert rows == [
        ("create", "1", "aia-1", "e-1", "api"),
        ("update", "1", "aia-1", None, "person"),
        ("note", "1", "aia-1", "[aia:e-2:1]", "api"),
        ("create", "PRB-1", None, None, "person"),
        ("update", "PRB-1", None, None, "person"),
        ("note", "PRB-1", None, None, "person"),
    ]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 429, 500, 503])
async def test_a_fault_answers_as_the_tool_would(status: int) -> None:
    """An empty 404, a list of faults for 400, HTML from the gateway, Retry-After with 429."""
    sandbox = FreshserviceSandbox()
    call = Caller(sandbox)
    await call("POST", "/_faults", {"status": status})
    answer = await call("GET", "/api/v2/tickets")
    assert answer.status == status
    if status == 404:
        assert answer.body == b""
    elif status >= 500:
        assert answer.headers["content-type"] == "text/html"
    else:
        assert told(answer).keys() & {"code", "errors"}
    assert ("retry-after" in answer.headers) is (status == 429)


@pytest.mark.parametrize("authorization", ["", "Basic", "Basic !!!", "Bearer x", "Basic " + base64.b64encode(b"wrong:X").decode()])
async def test_a_wrong_key_is_told_so(authorization: str) -> None:
    """In the tool's own words."""
    call = Caller(FreshserviceSandbox())
    answer = await call("GET", "/api/v2/tickets", authorization=authorization)
    assert (answer.status, told(answer)["code"]) == (401, "invalid_credentials")
