"""The sandbox by itself: what it refuses, what it remembers, and what it tells when somebody asks it wrongly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from plugins.sandbox.http import Request
from plugins.zendesk.sandbox import ZendeskSandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[ZendeskSandbox]:
    sandbox = ZendeskSandbox()
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


@pytest.fixture
async def api(sandbox: ZendeskSandbox) -> AsyncIterator[httpx.AsyncClient]:
    auth = sandbox.credentials["auth"]
    async with httpx.AsyncClient(base_url=sandbox.base_url, auth=(f"{auth['email']}/token", auth["api_token"])) as client:
        yield client


async def a_ticket(api: httpx.AsyncClient, **fields: Any) -> int:
    answer = await api.post("/api/v2/tickets.json", json={"ticket": {"subject": "s", "comment": {"body": "b"}, **fields}})
    return int(answer.json()["ticket"]["id"])


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/v2/tickets/1", None, 404, "RecordNotFound"),
        ("GET", "/api/v2/nothing", None, 404, "RecordNotFound"),
        ("PATCH", "/api/v2/tickets", None, 405, "MethodNotAllowed"),
        ("POST", "/api/v2/tickets", {"ticket": {"subject": "no comment"}}, 422, "RecordInvalid"),
        ("POST", "/api/v2/tickets", {"ticket": {"comment": {"body": "b"}, "priority": "huge"}}, 422, "RecordInvalid"),
        ("POST", "/api/v2/tickets", {"ticket": {"comment": {"body": "b"}, "custom_status_id": 1}}, 422, "RecordInvalid"),
        ("POST", "/api/v2/tickets/create_many", {"tickets": [{}] * 101}, 422, "TooManyValues"),
        ("PUT", "/api/v2/tickets/update_many", {}, 422, "TooManyValues"),
        ("DELETE", "/api/v2/tickets/1", None, 404, "RecordNotFound"),
        ("GET", "/api/v2/tickets/1/comments", None, 404, "RecordNotFound"),
        ("GET", "/api/v2/job_statuses/none", None, 404, "RecordNotFound"),
        ("GET", "/api/v2/users/1", None, 404, "RecordNotFound"),
        ("GET", "/api/v2/slas/policies/1", None, 404, "RecordNotFound"),
        ("GET", "/api/v2/attachments/1", None, 404, "RecordNotFound"),
        ("GET", "/attachments/token/none", None, 404, "RecordNotFound"),
        ("POST", "/api/v2/uploads", None, 400, "InvalidValue"),
        ("GET", "/api/v2/incremental/tickets/cursor", None, 400, "StartTimeMissing"),
        ("GET", "/api/v2/webhooks/none/signing_secret", None, 404, "RecordNotFound"),
        ("POST", "/oauth/tokens", {"grant_type": "password"}, 401, "invalid_grant"),
        ("GET", "/api/v2/search?query=x&page=11", None, 422, "invalid"),
    ],
)
async def test_each_refusal_has_zendesks_form(api: httpx.AsyncClient, method: str, path: str, body: Any, status: int, code: str) -> None:
    """Clients find their error by these words."""
    answer = await api.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error"]) == (status, code)


async def test_pages_that_are_none_are_refused(api: httpx.AsyncClient) -> None:
    """The family of cursor errors has another form than the rest."""
    for query in ("page=0", "page=102&per_page=100", "page[size]=x"):
        answer = await api.get(f"/api/v2/tickets?{query}")
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "InvalidPaginationParameter")
    assert (await api.post("/api/v2/webhooks", json={"webhook": {}})).json()["errors"][0]["code"] == "InvalidParameter"


async def test_a_key_of_a_creation_counts_for_the_same_body_only(api: httpx.AsyncClient) -> None:
    """A second request under a used key is a mistake of the caller's, not a second ticket."""
    asked = {"ticket": {"subject": "once", "comment": {"body": "b"}}}
    answers = [await api.post("/api/v2/tickets", json=asked, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.headers["x-idempotency-lookup"] for answer in answers] == ["miss", "hit"]
    assert len({answer.json()["ticket"]["id"] for answer in answers}) == 1
    other = await api.post("/api/v2/tickets", json={"ticket": {"comment": {"body": "c"}}}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 400


async def test_a_safe_update_sees_that_somebody_was_quicker(api: httpx.AsyncClient) -> None:
    """Lost updates are told by the stamp the caller read."""
    number = await a_ticket(api)
    stale = {"ticket": {"safe_update": True, "updated_stamp": "2020-01-01T00:00:00Z", "subject": "x"}}
    assert (await api.put(f"/api/v2/tickets/{number}", json=stale)).json()["error"] == "UpdateConflict"


async def test_jobs_answer_for_each_row(api: httpx.AsyncClient) -> None:
    """One value for many, many values, and rows that fail inside a job that completes."""
    first, second = await a_ticket(api), await a_ticket(api)
    await api.put(f"/api/v2/tickets/{second}", json={"ticket": {"status": "closed"}})
    job = await api.put(f"/api/v2/tickets/update_many?ids={first},{second},999", json={"ticket": {"priority": "low"}})
    job_id = job.json()["job_status"]["id"]
    states = [(await api.get(f"/api/v2/job_statuses/{job_id}")).json()["job_status"] for _ in range(2)]
    assert [state["status"] for state in states] == ["working", "completed"]
    rows = {row["id"]: row.get("error", row.get("status")) for row in states[1]["results"]}
    assert rows == {first: "Updated", second: "TicketUpdateFailed", 999: "TicketNotFound"}
    made = await api.post("/api/v2/tickets/create_many", json={"tickets": [{"description": "d"}, {}]})
    await api.get(f"/api/v2/job_statuses/{made.json()['job_status']['id']}")
    (state,) = (await api.get(f"/api/v2/job_statuses/show_many?ids={made.json()['job_status']['id']},x")).json()["job_statuses"]
    assert state["status"] == "working"


async def test_people_and_settings_are_listed(api: httpx.AsyncClient) -> None:
    """What an integration asks for at its start."""
    users = (await api.get("/api/v2/users")).json()["users"]
    assert (await api.get(f"/api/v2/users/{users[0]['id']}")).json()["user"] == users[0]
    assert (await api.get(f"/api/v2/users/show_many?ids={users[0]['id']},1")).json()["count"] == 1
    assert (await api.get("/api/v2/users/search?query=cora")).json()["count"] == 1
    for name in ("ticket_fields", "custom_statuses", "brands", "ticket_forms", "groups", "slas/policies"):
        assert (await api.get(f"/api/v2/{name}")).json()[name.replace("slas/", "sla_")]
    assert (await api.get("/api/v2/slas/policies/8401")).json()["sla_policy"]["title"] == "Incidents"
    assert (await api.get("/api/v2/tickets/count")).json()["count"]["value"] == 0


async def test_the_life_of_a_ticket_is_told_in_its_threads_and_exports(api: httpx.AsyncClient, sandbox: ZendeskSandbox) -> None:
    """Files, clocks, fields: each write leaves its trace where the real tool has it."""
    upload = (await api.post("/api/v2/uploads.json?filename=a.log", content=b"x", headers={"content-type": "text/plain"})).json()["upload"]
    number = await a_ticket(api, type="incident", priority="high", requester={"name": "New", "email": "new@customer.example"})
    change = {"status": "solved", "tags": ["a"], "custom_fields": [{"id": 360_001, "value": "quay_1"}, {"id": 1, "value": "dropped"}]}
    comment = {"html_body": "<p>done</p>", "public": True, "uploads": [upload["token"]]}
    answer = (await api.put(f"/api/v2/tickets/{number}?include=slas", json={"ticket": {**change, "comment": comment}})).json()
    assert [m["stage"] for m in answer["ticket"]["slas"]["policy_metrics"]] == ["achieved", "achieved"]
    assert {"id": 360_001, "value": "quay_1"} in answer["ticket"]["custom_fields"]
    assert 1 not in [field["id"] for field in answer["ticket"]["custom_fields"]]
    events = (await api.get("/api/v2/incremental/ticket_metric_events?start_time=1")).json()["ticket_metric_events"]
    assert {event["type"] for event in events} == {"activate", "apply_sla", "fulfill"}
    exported = (await api.get("/api/v2/incremental/tickets/cursor?start_time=1")).json()
    assert exported["end_of_stream"] and [ticket["id"] for ticket in exported["tickets"]] == [number]
    assert (await api.get(f"/api/v2/incremental/tickets/cursor?cursor={exported['after_cursor']}")).json()["tickets"] == []
    audits = (await api.get(f"/api/v2/tickets/{number}/audits?page[size]=1")).json()
    assert audits["meta"]["has_more"] and "page%5Bafter%5D=1" in audits["links"]["next"]
    assert (await api.get("/api/v2/search?query=tags:a+status:solved")).json()["count"] == 1
    file = (await api.get(f"/api/v2/attachments/{upload['attachment']['id']}")).json()["attachment"]
    redirect = await api.get(file["content_url"])
    assert redirect.status_code == 302 and "localhost" in redirect.headers["location"]
    assert sandbox.person_updates("1", {}, Request("PUT", "/")) is False


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was written stays, what was deleted stays away, and ids are not given twice."""
    first = ZendeskSandbox(state=tmp_path / "state.jsonl")
    await first.start()
    told = first.credentials
    kept = first.person_creates({"subject": "kept", "status": "pending"}, Request("POST", "/"))
    gone = first.person_creates({"subject": "gone"}, Request("POST", "/"))
    first.tickets.drop(gone)
    await first.stop()
    second = ZendeskSandbox(state=tmp_path / "state.jsonl")
    assert [str(ticket["id"]) for ticket in second.tickets.values()] == [kept]
    await second.start()
    assert second.person_creates({"subject": "next"}, Request("POST", "/")) not in (kept, gone)
    assert second.credentials == told
    await second.stop()


@pytest.mark.parametrize(
    ("authentication", "headers"),
    [
        ({"type": "bearer_token", "data": {"token": "t"}}, {"Authorization": "Bearer t"}),
        ({"type": "basic_auth", "data": {"username": "u", "password": "p"}}, {"Authorization": "Basic dTpw"}),
        ({"type": "api_key", "data": {"name": "X-Key", "value": "v"}}, {"X-Key": "v"}),
        ({"type": "odd", "data": {}}, {}),
        (None, {}),
    ],
)
async def test_a_webhooks_own_authentication_goes_out_with_it(
    sandbox: ZendeskSandbox, authentication: Any, headers: dict[str, str]
) -> None:
    """Beside the signature, as the admin set it."""
    sandbox.keys.put("webhook_authentication", authentication)
    sent = sandbox.sign(b"{}")
    assert "X-Zendesk-Webhook-Signature" in sent
    assert {name: sent[name] for name in ("Authorization", "X-Key") if name in sent} == headers
