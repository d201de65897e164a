"""The sandbox's answers against TOPdesk's own description of its Incident and Change API."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from plugins.topdesk.sandbox import TopdeskSandbox
from plugins.topdesk.sandbox_cards import CALLER

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema validates the answers")
REFERENCE = os.environ.get("AI_AGENTS_REFERENCE")
pytestmark = pytest.mark.skipif(REFERENCE is None, reason="AI_AGENTS_REFERENCE names no folder of API descriptions")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    sandbox = TopdeskSandbox()
    await sandbox.start()
    headers = sandbox.credentials["person"]["headers"]
    async with httpx.AsyncClient(base_url=f"{sandbox.base_url}/tas/api", headers=headers) as client:
        yield client
    await sandbox.stop()


def checked(answer: httpx.Response, description: str, method: str, path: str) -> Any:
    """The answer, valid by the description's schema for this call and status. Nulls are left out: TOPdesk sends them for every empty
    field and its description allows none."""
    document = json.loads((Path(str(REFERENCE)) / "specs" / description).read_text())
    told = document["paths"][path][method]["responses"]
    assert str(answer.status_code) in told, f"{method} {path} answers {answer.status_code}, the description knows {sorted(told)}"
    content = told[str(answer.status_code)].get("content") or {}
    if not answer.content:
        return None
    body = answer.json()
    for kind in content.values():
        schema = {**kind["schema"], "components": document["components"]}
        jsonschema.Draft7Validator(schema).validate(without_nulls(body))
    return body


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    return [without_nulls(member) for member in value] if isinstance(value, list) else value


async def test_incidents_are_as_described(client: httpx.AsyncClient) -> None:
    """Made, read both ways, changed, listed over pages, noted, filed, moved."""
    description = "topdesk.json"
    given = {"callerLookup": {"email": CALLER["email"]}, "briefDescription": "Lift", "request": "stuck", "priority": {"name": "P1"}}
    made = checked(await client.post("/incidents", json=given), description, "post", "/incidents")
    one, number = f"/incidents/id/{made['id']}", f"/incidents/number/{made['number']}"
    checked(await client.get(one), description, "get", "/incidents/id/{id}")
    checked(await client.get(number), description, "get", "/incidents/number/{number}")
    checked(await client.patch(one, json={"action": "seen", "actionInvisibleForCaller": True}), description, "patch", "/incidents/id/{id}")
    checked(await client.put(one, json={"briefDescription": "Lift 2"}), description, "put", "/incidents/id/{id}")
    checked(await client.get("/incidents", params={"pageSize": 1}), description, "get", "/incidents")
    await client.post("/incidents", json=given)
    assert (await client.get("/incidents", params={"pageSize": 1})).status_code == 206
    checked(await client.get("/incidents", params={"pageSize": 1}), description, "get", "/incidents")
    checked(await client.get("/incidents", params={"query": "number=='none'"}), description, "get", "/incidents")
    checked(await client.get("/incidents", params={"nonsense": "1"}), description, "get", "/incidents")
    upload = await client.post(f"{one}/attachments", files={"file": ("a.txt", b"a")}, data={"invisibleForCaller": "true"})
    checked(upload, description, "post", "/incidents/id/{incidentId}/attachments")
    checked(await client.get(f"{one}/attachments"), description, "get", "/incidents/id/{incidentId}/attachments")
    for trail in ("actions", "requests", "progresstrail"):
        checked(await client.get(f"{one}/{trail}"), description, "get", f"/incidents/id/{{id}}/{trail}")
    for move in ("escalate", "deescalate", "archive", "unarchive"):
        checked(await client.put(f"{one}/{move}", json={}), description, "put", f"/incidents/id/{{id}}/{move}")
    for name in ("statuses", "priorities", "call_types", "impacts", "urgencies", "categories", "entry_types", "durations", "closure_codes"):
        checked(await client.get(f"/incidents/{name}"), description, "get", f"/incidents/{name}")


async def test_changes_are_as_described(client: httpx.AsyncClient) -> None:
    """Made, read, listed, patched, moved, noted, filed."""
    description = "topdesk-change.json"
    given = {"requester": {"id": CALLER["id"]}, "briefDescription": "Swap", "request": "please", "priority": "P2"}
    made = checked(await client.post("/operatorChanges", json=given), description, "post", "/operatorChanges")
    one = f"/operatorChanges/{made['id']}"
    checked(await client.get(one), description, "get", "/operatorChanges/{identifier}")
    checked(await client.get("/operatorChanges", params={"id": made["id"]}), description, "get", "/operatorChanges")
    steps = [{"op": "test", "path": "/priority", "value": "P2"}, {"op": "replace", "path": "/priority", "value": "P1"}]
    checked(await client.patch(one, json=steps), description, "patch", "/operatorChanges/{identifier}")
    checked(
        await client.patch(one, json=[{"op": "add", "path": "/nonsense", "value": 1}]),
        description,
        "patch",
        "/operatorChanges/{identifier}",
    )
    move = await client.post(f"{one}/processingStatusTransitions", json={"from": "simple_notStarted", "action": "start"})
    checked(move, description, "post", "/operatorChanges/{identifier}/processingStatusTransitions")
    memo = await client.post(f"{one}/progresstrail", json={"memoText": "begun", "type": "memo"})
    checked(memo, description, "post", "/operatorChanges/{id}/progresstrail")
    upload = await client.post(f"{one}/attachments", files={"file": ("a.txt", b"a")})
    checked(upload, description, "post", "/operatorChanges/{id}/attachments")
    checked(await client.get(f"{one}/progresstrail"), description, "get", "/operatorChanges/{id}/progresstrail")
    checked(await client.get(f"{one}/requests"), description, "get", "/operatorChanges/{id}/requests")
    checked(await client.get("/changes/changeStatuses"), description, "get", "/changes/changeStatuses")
    given = {"changeId": made["id"], "briefDescription": "Swap the lamp", "activityType": "normal"}
    activity = checked(await client.post("/operatorChangeActivities", json=given), description, "post", "/operatorChangeActivities")
    path = f"/operatorChangeActivities/{activity['id']}"
    checked(await client.get(path), description, "get", "/operatorChangeActivities/{identifier}")
    steps = [{"op": "replace", "path": "/processingStatus", "value": "finished"}]
    checked(await client.patch(path, json=steps), description, "patch", "/operatorChangeActivities/{identifier}")
    checked(await client.get("/operatorChangeActivities", params={"change": made["id"]}), description, "get", "/operatorChangeActivities")
    assert (await client.patch(one, json=[{"op": "test", "path": "/priority", "value": "P9"}])).status_code == 409
