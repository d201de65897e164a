"""The sandboxes by themselves: what they refuse and in which form, what they remember, and how the two deployments differ."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from plugins.jira.sandbox import DataCenterSandbox, JiraSandbox
from plugins.jira.sandbox_issue import Refused
from plugins.jira.sandbox_jql import fits, query_of
from plugins.richtext import from_plain, to_adf
from plugins.sandbox.http import Request

ADF = to_adf(from_plain("smoke"))
FIELDS: dict[str, Any] = {"project": {"key": "OPS"}, "issuetype": {"name": "Incident"}, "summary": "Crane 4"}


@pytest.fixture(params=[JiraSandbox, DataCenterSandbox], ids=["cloud", "data_center"])
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[JiraSandbox]:
    sandbox: JiraSandbox = request.param()
    await sandbox.start()
    yield sandbox
    await sandbox.stop()


@pytest.fixture
async def api(sandbox: JiraSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sandbox.base_url, headers={"Authorization": sandbox.accounts()[0]}) as client:
        yield client


async def an_issue(api: httpx.AsyncClient, **fields: Any) -> str:
    answer = await api.post("/rest/api/2/issue", json={"fields": {**FIELDS, **fields}})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("GET", "issue/OPS-99", None, 404, "does not exist"),
        ("POST", "issue", [], 400, "no JSON object"),
        ("POST", "issue", {"fields": {"summary": "x"}}, 400, "project"),
        ("POST", "issue", {"fields": {**FIELDS, "summary": "a\nb"}}, 400, "newline"),
        ("POST", "issue", {"fields": {**FIELDS, "summary": "x" * 256}}, 400, "255"),
        ("POST", "issue", {"fields": {**FIELDS, "summary": ""}}, 400, "summary"),
        ("POST", "issue", {"fields": {**FIELDS, "labels": ["a b"]}}, 400, "spaces"),
        ("POST", "issue", {"fields": {**FIELDS, "labels": "a"}}, 400, "labels"),
        ("POST", "issue", {"fields": {**FIELDS, "priority": {"name": "Huge"}}}, 400, "priority"),
        ("POST", "issue", {"fields": {**FIELDS, "description": 7}}, 400, "string"),
        ("POST", "issue", {"fields": {**FIELDS, "customfield_1": "x"}}, 400, "unknown"),
        ("POST", "issue", {"fields": {**FIELDS, "customfield_10050": {"value": "Quay 9"}}}, 400, "not valid"),
        ("POST", "issue", {"fields": {**FIELDS, "customfield_10051": {"value": "North gate"}}}, 400, "array"),
        ("POST", "issue", {"fields": {**FIELDS, "customfield_10052": "12"}}, 400, "number"),
        ("POST", "issue", {"fields": FIELDS, "properties": [{}]}, 400, "properties"),
        ("PUT", "issue/1", {"fields": {}}, 404, "does not exist"),
        ("DELETE", "issue/1", None, 404, "does not exist"),
        ("POST", "issue/1/transitions", {}, 404, "does not exist"),
        ("GET", "issue/1/transitions", None, 404, "does not exist"),
        ("POST", "issue/1/comment", {}, 404, "does not exist"),
        ("GET", "issue/1/comment", None, 404, "does not exist"),
        ("GET", "issue/1/comment/1", None, 404, "does not exist"),
        ("GET", "issue/1/properties/x", None, 404, "does not exist"),
        ("POST", "issue/1/attachments", None, 404, "does not exist"),
        ("GET", "attachment/1", None, 404, "does not exist"),
        ("GET", "attachment/content/1", None, 404, "does not exist"),
        ("GET", "project/NONE", None, 404, "does not exist"),
        ("GET", "nothing", None, 404, "does not exist"),
        ("PATCH", "issue/1", None, 405, "405"),
    ],
)
async def test_each_refusal_has_jiras_form(api: httpx.AsyncClient, method: str, path: str, body: Any, status: int, told: str) -> None:
    """Messages for the whole, or for a field: clients show both."""
    answer = await api.request(method, f"/rest/api/2/{path}", json=body)
    assert answer.status_code == status
    assert told in str(answer.json()["errorMessages"]) + str(answer.json()["errors"])


async def test_what_an_existing_issue_refuses(api: httpx.AsyncClient) -> None:
    """A way that is none, a field no screen has, a comment that is none, an upload a browser could have forged."""
    issue = f"/rest/api/2/issue/{await an_issue(api)}"
    assert (await api.post(f"{issue}/transitions", json={"transition": {"id": "999"}})).status_code == 400
    way = (await api.get(f"{issue}/transitions")).json()["transitions"][0]["id"]
    strange = await api.post(f"{issue}/transitions", json={"transition": {"id": way}, "fields": {"summary": "x"}})
    assert "summary" in strange.json()["errors"]
    assert (await api.post(f"{issue}/comment", json={"body": 3})).status_code == 400
    assert "CONTENT_LIMIT" in (await api.post(f"{issue}/comment", json={"body": "x" * 40_000})).text
    assert (await api.post(f"{issue}/attachments", files={"file": ("a", b"x")})).status_code == 403
    assert (await api.get(f"{issue}/properties/none")).status_code == 404
    assert (await api.put(issue, json=[])).status_code == 400


async def test_the_way_to_done_may_demand_a_resolution(api: httpx.AsyncClient) -> None:
    """In project ITSM it does, and says so before it refuses."""
    issue = f"/rest/api/2/issue/{await an_issue(api, project={'key': 'ITSM'})}"
    ways = (await api.get(f"{issue}/transitions", params={"expand": "transitions.fields"})).json()["transitions"]
    done = next(way for way in ways if way["to"]["name"] == "Resolved")
    assert done["fields"]["resolution"]["required"]
    assert "resolution" in (await api.post(f"{issue}/transitions", json={"transition": {"id": done["id"]}})).json()["errors"]
    fields = {"resolution": {"id": "10001"}}
    assert (await api.post(f"{issue}/transitions", json={"transition": {"id": done["id"]}, "fields": fields})).status_code == 204
    shown = (await api.get(issue, params={"expand": "changelog,transitions", "properties": "x"})).json()
    assert shown["fields"]["resolution"]["name"] == "Won't do"
    assert len(shown["changelog"]["histories"]) == 1 and shown["properties"] == {}
    await api.post(f"{issue}/transitions", json={"transition": {"id": shown["transitions"][0]["id"]}})
    assert (await api.get(issue)).json()["fields"]["resolution"] is None


async def test_each_deployment_has_its_own_calls(api: httpx.AsyncClient, sandbox: JiraSandbox) -> None:
    """v3, tokens and bulk reads on Cloud; searches by start, and v2 alone, on Data Center."""
    cloud = sandbox.deployment == "Cloud"
    ids = [await an_issue(api, labels=["paged"]) for _ in range(3)]
    asked = {"jql": "labels = paged", "maxResults": 2, "fields": ["summary"]}
    for method in ("GET", "POST"):
        options: dict[str, Any] = {"params": {**asked, "fields": "summary"}} if method == "GET" else {"json": asked}
        by_token = await api.request(method, "/rest/api/2/search/jql", **options)
        by_start = await api.request(method, "/rest/api/2/search", **options)
        assert (by_token.status_code, by_start.status_code) == ((200, 410) if cloud else (404, 200))
        answer = (by_token if cloud else by_start).json()
        assert [list(issue["fields"]) for issue in answer["issues"]] == [["summary"]] * 2
        assert (answer["nextPageToken"], answer["isLast"]) == ("2", False) if cloud else (answer["total"], answer["startAt"]) == (3, 0)
    bulk = await api.post("/rest/api/2/issue/bulkfetch", json={"issueIdsOrKeys": [*ids, "99"]})
    assert bulk.status_code == (200 if cloud else 405)
    v3 = await api.post("/rest/api/3/issue", json={"fields": {**FIELDS, "description": ADF}})
    assert v3.status_code == (201 if cloud else 404)
    if cloud:
        assert (await api.get(f"/rest/api/3/issue/{v3.json()['id']}")).json()["fields"]["description"] == ADF
        assert (await api.get(f"/rest/api/2/issue/{v3.json()['id']}")).json()["fields"]["description"] == "smoke"
        for body in ({"fields": {**FIELDS, "description": "text"}}, {"fields": {**FIELDS, "description": {"type": "doc"}}}):
            assert (await api.post("/rest/api/3/issue", json=body)).status_code == 400
        assert (await api.post("/rest/api/3/issue/bulkfetch", json={"issueIdsOrKeys": []})).status_code == 400
        assert (await api.get("/rest/api/3/search/jql", params={"jql": "labels = x", "nextPageToken": "?"})).status_code == 400
    else:
        unknown = {"jql": f'issue in ("{ids[0]}", "NONE-1")', "maxResults": 10}
        assert (await api.post("/rest/api/2/search", json=unknown)).status_code == 400
        assert (await api.post("/rest/api/2/search", json={**unknown, "validateQuery": "warn"})).json()["total"] == 1
        assert (await api.post("/rest/api/2/search", json={"jql": "labels = x", "startAt": "?"})).status_code == 400


async def test_nobody_finds_nothing_on_cloud_and_is_refused_elsewhere(sandbox: JiraSandbox) -> None:
    """The trap a health check must see through."""
    issue = sandbox.person_creates({"subject": "hidden"}, Request("POST", "/"))
    async with httpx.AsyncClient(base_url=sandbox.base_url) as nobody:
        assert (await nobody.get(f"/rest/api/2/issue/{issue}")).status_code == 404
        assert (await nobody.get("/rest/api/2/serverInfo")).status_code == 200
        assert (await nobody.get("/rest/api/2/myself")).status_code == 401
        assert (await nobody.get("/rest/servicedeskapi/request/1")).json()["errorMessage"]


async def test_files_lead_where_each_deployment_keeps_them(api: httpx.AsyncClient, sandbox: JiraSandbox) -> None:
    """Cloud by a redirect to a host that takes no credentials, Data Center under its own address."""
    issue = await an_issue(api)
    files = [("file", ("a.log", b"x", "text/plain")), ("other", ("b.log", b"y", "text/plain"))]
    (row,) = (await api.post(f"/rest/api/2/issue/{issue}/attachments", files=files, headers={"X-Atlassian-Token": "no-check"})).json()
    assert (await api.get(f"/rest/api/2/attachment/{row['id']}")).json()["filename"] == "a.log"
    answer = await api.get(row["content"])
    if sandbox.deployment == "Cloud":
        assert answer.status_code == 303
        assert (await api.get(answer.headers["location"])).status_code == 403
        async with httpx.AsyncClient() as stranger:
            assert (await stranger.get(answer.headers["location"])).content == b"x"
        answer = await api.get(row["content"], params={"redirect": "false"})
    assert answer.content == b"x"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("request", {"serviceDeskId": "1", "requestTypeId": "99", "requestFieldValues": {}}, 400),
        (
            "request",
            {"serviceDeskId": "1", "requestTypeId": "25", "requestFieldValues": {"summary": "x", "priority": {"name": "High"}}},
            400,
        ),
        ("request", {"serviceDeskId": "1", "requestTypeId": "25", "requestFieldValues": {"description": "x"}}, 400),
        ("request/1/comment", {"body": "x"}, 404),
        ("request/1/approval/1", {"decision": "approve"}, 404),
        ("request/1", None, 404),
        ("request/1/sla", None, 404),
        ("request/1/approval", None, 404),
        ("request/1/comment", None, 404),
        ("servicedesk/9", None, 404),
        ("servicedesk/9/requesttype", None, 404),
        ("servicedesk/9/queue", None, 404),
        ("servicedesk/1/queue/9/issue", None, 404),
    ],
)
async def test_the_service_desk_refuses_in_a_form_of_its_own(api: httpx.AsyncClient, path: str, body: Any, status: int) -> None:
    """One message, not a list: the two APIs of one tool do not agree."""
    answer = await api.request("GET" if body is None else "POST", f"/rest/servicedeskapi/{path}", json=body)
    assert (answer.status_code, bool(answer.json()["errorMessage"])) == (status, True)


async def test_a_request_is_led_through_its_desk(api: httpx.AsyncClient, sandbox: JiraSandbox) -> None:
    """Comments, clocks, approvals, queues, in pages of the desk's own kind."""
    desk = "/rest/servicedeskapi"
    values = {"summary": "New crane", "description": "by *May*"}
    made = (await api.post(f"{desk}/request", json={"serviceDeskId": "1", "requestTypeId": "27", "requestFieldValues": values})).json()
    request = f"{desk}/request/{made['issueKey']}"
    assert (await api.get(request)).json()["requestFieldValues"][1]["value"] == "by *May*"
    assert (await api.post(f"{request}/comment", json={"body": " "})).status_code == 400
    await api.post(f"{request}/comment", json={"body": "soon", "public": False})
    assert [clock["ongoingCycle"]["breached"] for clock in (await api.get(f"{request}/sla")).json()["values"]] == [False, False]
    await api.post(f"{request}/comment", json={"body": "soon"})
    first, second = (await api.get(f"{request}/sla")).json()["values"]
    assert len(first["completedCycles"]) == 1 and "ongoingCycle" not in first and "ongoingCycle" in second
    (approval,) = (await api.get(f"{request}/approval")).json()["values"]
    answer = f"{request}/approval/{approval['id']}"
    assert (await api.post(answer, json={"decision": "perhaps"})).status_code == 400
    assert (await api.post(answer, json={"decision": "decline"})).json()["finalDecision"] == "declined"
    page = (await api.get(f"{desk}/servicedesk/1/requesttype", params={"limit": 2})).json()
    assert (page["size"], page["isLastPage"]) == (2, False) and "start=2" in page["_links"]["next"]
    assert (await api.get(f"{desk}/servicedesk/1")).json()["projectKey"] == "OPS"
    assert (await api.get(f"{desk}/info")).json()["version"]
    assert len((await api.get(f"{desk}/servicedesk")).json()["values"]) == 2
    queues = (await api.get(f"{desk}/servicedesk/1/queue")).json()["values"]
    assert [queue["issueCount"] for queue in queues] == [1, 0]
    assert len((await api.get(f"{desk}/servicedesk/1/queue/41/issue")).json()["values"]) == 1
    assert len((await api.get(f"{request}/comment")).json()["values"]) == 2


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was written stays, what was deleted stays away, and keys are not given twice."""
    first = JiraSandbox(state=tmp_path / "state.jsonl")
    await first.start()
    told = first.credentials
    kept = first.person_creates({"subject": "kept", "tags": ["a b"], "status": "pending"}, Request("POST", "/"))
    gone = first.person_creates({"subject": "gone"}, Request("POST", "/"))
    assert first.person_updates(kept, {"status": "resolved", "comment": "done", "public": True}, Request("PUT", "/"))
    assert not first.person_updates("1", {}, Request("PUT", "/"))
    first.delete(first.issue(gone), Request("DELETE", "/", actor=first.actors[1]))
    await first.stop()
    second = JiraSandbox(state=tmp_path / "state.jsonl")
    assert [issue["id"] for issue in second.issues.values()] == [kept]
    assert second.issue("OPS-1")["fields"]["status"]["name"] == "Resolved"
    await second.start()
    assert second.issue(second.person_creates({"subject": "next"}, Request("POST", "/")))["key"] == "OPS-3"
    assert second.credentials == told
    await second.stop()


def test_queries_are_read_as_jira_reads_them() -> None:
    """Alternatives in brackets, lists, words of a text; what is not known here is refused, not guessed."""
    fields = {"labels": ["a"], "project": {"key": "OPS"}, "status": {"name": "Open"}, "summary": "Crane 4", "description": ADF}
    issue = {"id": "10001", "key": "OPS-1", "fields": fields}
    for jql, holds in {
        'labels = "a" order by created': True,
        "project = OPS AND labels = b": False,
        '(labels = "b" OR description ~ "smoke") and status = Open': True,
        'key in (OPS-1, "OPS-2")': True,
        "id = 10001": True,
        'summary ~ "crane"': True,
        'text ~ "fire"': False,
    }.items():
        assert fits(issue, query_of(jql)) is holds, jql
    for jql in ("", "order by created", "owner = me", "labels = a or", "labels = a labels = b", "(labels = a"):
        with pytest.raises(Refused):
            query_of(jql)
