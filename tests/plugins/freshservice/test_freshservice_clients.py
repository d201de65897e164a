"""Clients nobody here wrote: freshpy, and the manual's curl examples as plain requests. They must work against the sandbox as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from plugins.sandbox.server import SandboxProcess

freshpy = pytest.importorskip("freshpy", reason="freshpy is in the test extra")

NEW: dict[str, Any] = {"description": "Details", "subject": "Support needed", "email": "cora@customer.example", "priority": 1, "status": 2}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("freshservice") as process:
        yield process


@pytest.fixture
def curl(sandbox: SandboxProcess) -> requests.Session:
    """`curl -u API_KEY:X`, as the manual prints it."""
    session = requests.Session()
    session.auth = (sandbox.credentials["auth"]["api_key"], "X")
    return session


@pytest.fixture
def client(sandbox: SandboxProcess) -> Any:
    return freshpy.FreshPy(domain=sandbox.base_url, api_key=sandbox.credentials["auth"]["api_key"])


def test_freshpy_reads_tickets_by_number_page_and_filter(sandbox: SandboxProcess, client: Any, curl: requests.Session) -> None:
    """It wraps nothing away: answers are what the tool sends."""
    made = [
        curl.post(f"{sandbox.base_url}/api/v2/tickets", json={**NEW, "subject": f"no {n}", "tags": ["vip"]}).json()["ticket"]
        for n in range(35)
    ]
    shown = client.tickets.get_ticket(made[0]["id"], include=["requester", "stats", "tags", "conversations"])
    assert shown["ticket"]["subject"] == "no 0"
    assert shown["ticket"]["tags"] == ["vip"]
    assert shown["ticket"]["requester"]["email"] == "cora@customer.example"
    assert "tags" not in client.tickets.get_ticket(made[0]["id"])["ticket"]
    first = client.tickets.get_tickets(ascending=True, per_page=20, page=1)["tickets"]
    second = client.tickets.get_tickets(ascending=True, per_page=20, page=2)["tickets"]
    assert [t["id"] for t in first + second][:35] == [t["id"] for t in made]
    found = client.tickets.get_tickets(filters={"tag": "'vip'", "priority": 1})
    assert (len(found["tickets"]), found["total"]) == (30, 35)
    assert client.tickets.get_tickets(filters="status:5")["tickets"] == []


def test_freshpy_finds_agents_and_its_own_errors(sandbox: SandboxProcess, client: Any) -> None:
    """Not found has no body, and a wrong key says so."""
    assert client.agents.get_user_info("ada@desk.example")["first_name"] == "Ada"
    agent_id = client.agents.get_agent_id("ada@desk.example")
    assert client.agents.get_user_info(agent_id)["email"] == "ada@desk.example"
    assert {a["email"] for a in client.agents.get_all_agents(only_active=True)["agents"]} == {
        "integration@desk.example",
        "ada@desk.example",
    }
    assert client.tickets.get_ticket(99999999) == {"status": "error", "status_code": 404, "error_message": "Data not found"}
    with pytest.raises(Exception, match="not found"):
        client.agents.get_agent_id("nobody@desk.example")
    wrong = freshpy.FreshPy(domain=sandbox.base_url, api_key="wrong")
    assert wrong.tickets.get_ticket(1)["code"] == "invalid_credentials"


def test_the_manuals_life_of_a_ticket(sandbox: SandboxProcess, curl: requests.Session) -> None:
    """Create, look, change, note, reply, bin, restore; each with its own status."""
    api = f"{sandbox.base_url}/api/v2"
    created = curl.post(f"{api}/tickets", json={**NEW, "cc_emails": ["a@b.example"]})
    ticket = created.json()["ticket"]
    url = f"{api}/tickets/{ticket['id']}"
    assert (created.status_code, ticket["type"], ticket["source"]) == (201, "Incident", 2)
    assert created.headers["Location"] == url
    assert int(created.headers["X-RateLimit-Remaining"]) < int(created.headers["X-RateLimit-Total"])
    assert curl.put(url, json={"priority": 4, "custom_fields": {"cost_centre": "7"}}).json()["ticket"]["priority"] == 4
    note = curl.post(f"{url}/notes", json={"body": "Hi tom, <b>Still</b> Angry"})
    assert (note.status_code, note.json()["conversation"]["private"], note.json()["conversation"]["body_text"]) == (
        201,
        True,
        "Hi tom, Still Angry",
    )
    assert curl.post(f"{url}/reply", json={"body": "We are working on it"}).json()["conversation"]["private"] is False
    assert len(curl.get(f"{url}/conversations").json()["conversations"]) == 2
    files = [("attachments[]", ("a.txt", b"A")), ("attachments[]", ("b.txt", b"B"))]
    made = curl.post(f"{api}/tickets", data={**NEW, "cc_emails[]": "a@b.example", "custom_fields[cost_centre]": "K"}, files=files).json()[
        "ticket"
    ]
    assert [a["name"] for a in made["attachments"]] == ["a.txt", "b.txt"]
    assert (made["cc_emails"], made["custom_fields"], made["priority"]) == (["a@b.example"], {"cost_centre": "K"}, 1)
    assert curl.get(made["attachments"][1]["attachment_url"]).content == b"B"
    assert requests.get(made["attachments"][1]["attachment_url"].partition("?")[0]).status_code == 403
    assert curl.delete(url).status_code == 204
    assert [t["id"] for t in curl.get(f"{api}/tickets", params={"filter": "deleted"}).json()["tickets"]] == [ticket["id"]]
    assert curl.put(f"{url}/restore").status_code == 204


def test_lists_name_their_next_page_and_searches_do_not(sandbox: SandboxProcess, curl: requests.Session) -> None:
    """requests reads the Link header as the manual says to."""
    api = f"{sandbox.base_url}/api/v2"
    for _ in range(5):
        problem = {**NEW, "impact": 1, "due_by": "2026-04-01T00:00:00Z", "requester_id": 21_001_397_503}
        del problem["email"]
        assert curl.post(f"{api}/problems", json=problem).status_code == 201
    seen, url = [], f"{api}/problems?per_page=2"
    while url:
        answer = curl.get(url)
        seen += [p["id"] for p in answer.json()["problems"]]
        url = answer.links.get("next", {}).get("url", "")
    assert sorted(seen) == [1, 2, 3, 4, 5]
    assert "next" not in curl.get(f'{api}/tickets/filter?query="priority:1"').links


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "fault"),
    [
        ("POST", "tickets", {"subject": "x"}, 400, ("description", "missing_field")),
        ("POST", "tickets", {**NEW, "status": 99}, 400, ("status", "invalid_value")),
        ("POST", "tickets", {**NEW, "priority": "1"}, 400, ("priority", "datatype_mismatch")),
        ("POST", "tickets", {**NEW, "colour": "red"}, 400, ("colour", "invalid_field")),
        ("POST", "tickets", {**NEW, "custom_fields": {"colour": "red"}}, 400, ("colour", "invalid_field")),
        ("POST", "tickets", {**NEW, "type": "Riddle"}, 400, ("type", "invalid_value")),
        ("POST", "tickets", {**NEW, "workspace_id": 9}, 400, ("workspace_id", "invalid_value")),
        ("POST", "changes", NEW, 400, ("impact", "missing_field")),
        ("PUT", "tickets/1", {"workspace_id": 3}, 400, ("workspace_id", "invalid_value")),
        ("POST", "tickets/1/notes", {}, 400, ("body", "missing_field")),
        ("GET", "tickets?per_page=101", None, 400, ("per_page", "invalid_value")),
        ("GET", "tickets?page=0", None, 400, ("page", "invalid_value")),
        ("GET", "tickets/1?include=secrets", None, 400, ("include", "invalid_value")),
        ("GET", "tickets/filter?query=priority:1", None, 400, ("query", "invalid_field")),
        ("GET", "tickets/filter?query=\"external_ref:'x'\"", None, 400, ("external_ref", "invalid_field")),
        ("GET", 'tickets/filter?query="priority:1"&page=11', None, 400, ("page", "invalid_value")),
    ],
)
def test_what_the_tool_refuses_it_refuses_by_field_and_code(
    sandbox: SandboxProcess,
    curl: requests.Session,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: int,
    fault: tuple[str, str],
) -> None:
    """Clients show these to people."""
    curl.post(f"{sandbox.base_url}/api/v2/tickets", json=NEW)
    answer = curl.request(method, f"{sandbox.base_url}/api/v2/{path}", json=body)
    assert answer.status_code == status
    assert fault in [(f["field"], f["code"]) for f in answer.json()["errors"]]


@pytest.mark.parametrize(
    "path", ["tickets/424242", "assets/99", "agents/1", "workspaces/9", "nothing", "nothing/1", "changes/1/notes", "tickets/1/x"]
)
def test_what_is_not_there_has_no_body(sandbox: SandboxProcess, curl: requests.Session, path: str) -> None:
    """A client that reads JSON from it fails."""
    answer = curl.get(f"{sandbox.base_url}/api/v2/{path}")
    assert (answer.status_code, answer.content) == (404, b"")


def test_assets_people_and_workspaces_are_listed(sandbox: SandboxProcess, curl: requests.Session) -> None:
    """The rest of what a client looks at first."""
    api = f"{sandbox.base_url}/api/v2"
    assert [a["name"] for a in curl.get(f"{api}/assets").json()["assets"]] == ["LT-0417", "PR-0003"]
    asset = curl.get(f"{api}/assets/1", params={"include": "type_fields"})
    assert asset.headers["X-RateLimit-Used-CurrentRequest"] == "3"
    assert asset.json()["asset"]["type_fields"]["serial_number_21002421001"] == "SN-7F3A-0417"
    assert "type_fields" not in curl.get(f"{api}/assets/1").json()["asset"]
    assert [w["name"] for w in curl.get(f"{api}/workspaces").json()["workspaces"]] == ["IT", "Facilities"]
    assert (
        curl.get(f"{api}/requesters", params={"email": "cora@customer.example"}).json()["requesters"][0]["primary_email"]
        == "cora@customer.example"
    )
    assert {f["name"] for f in curl.get(f"{api}/ticket_form_fields").json()["ticket_fields"]} >= {"subject", "external_event"}
    assert curl.patch(f"{api}/assets/1").status_code == 405
    made = curl.post(f"{api}/assets", json={"name": "PR-0004", "asset_type_id": 21_002_421_002}).json()["asset"]
    assert curl.put(f"{api}/assets/{made['display_id']}", json={"impact": "high"}).json()["asset"]["impact"] == "high"
    found = {
        q: [a["name"] for a in curl.get(f"{api}/assets?{q}").json()["assets"]] for q in ("search=\"name:'pr'\"", "filter=\"impact:'HIGH'\"")
    }
    assert list(found.values()) == [["PR-0003", "PR-0004"], ["PR-0004"]]
    assert curl.get(f"{api}/assets?filter=impact:'high'").json()["errors"][0]["field"] == "filter"
    assert [curl.delete(f"{api}/assets/{made['display_id']}").status_code for _ in range(2)] == [204, 404]
    assert curl.post(f"{api}/assets", json={}).status_code == 400
    assert json.loads(requests.get(f"{api}/tickets", auth=("no", "X")).content)["code"] == "invalid_credentials"
