"""The sandbox's answers against Atlassian's own API descriptions, where a copy of them is at hand.

The copy of the platform's lacks the newest calls (bulkfetch, search/jql): those are held by the client library's tests alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator

from plugins.sandbox.server import SandboxProcess

pytestmark = pytest.mark.skipif("AI_AGENTS_REFERENCE" not in os.environ, reason="AI_AGENTS_REFERENCE names no folder of API descriptions")
MAX_DEPTH = 9


@pytest.fixture(scope="module")
def specs() -> dict[str, dict[str, Any]]:
    """By the first part of the paths they describe."""
    folder = Path(os.environ["AI_AGENTS_REFERENCE"]) / "specs"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    platform = yaml.load((folder / "jira.yaml").read_text(encoding="utf-8"), Loader=loader)
    return {"/rest/api/3": platform, "/rest/servicedeskapi": json.loads((folder / "jira_servicedesk.json").read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def tool() -> Iterator[httpx.Client]:
    with (
        SandboxProcess("jira") as sandbox,
        httpx.Client(base_url=sandbox.base_url, headers=sandbox.credentials["person"]["headers"]) as client,
    ):
        yield client


def plain(schema: Any, known: dict[str, Any], depth: int = 0) -> Any:
    """An OpenAPI schema as JSON Schema: references in place to a depth, `nullable` spelt out, formats and examples left out."""
    if isinstance(schema, list):
        return [plain(part, known, depth) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(reference := schema.get("$ref"), str):
        return plain(known.get(reference.rpartition("/")[2], {}), known, depth + 1) if depth < MAX_DEPTH else {}
    found = {
        key: plain(value, known, depth) for key, value in schema.items() if key not in ("example", "examples", "nullable", "format", "xml")
    }
    if schema.get("nullable") is True and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found


def check(specs: dict[str, dict[str, Any]], method: str, path: str, answer: httpx.Response) -> None:
    spec = next(spec for prefix, spec in specs.items() if path.startswith(prefix))
    responses = spec["paths"][path][method]["responses"]
    assert str(answer.status_code) in responses, f"{method} {path} answered {answer.status_code}: {answer.text[:300]}"
    content = responses[str(answer.status_code)].get("content") or {}
    described = next((part["schema"] for kind, part in content.items() if "json" in kind and "schema" in part), None)
    if described is None or answer.status_code == 204:
        return
    schema = plain(described, spec["components"]["schemas"])
    faults = list(Draft202012Validator(schema).iter_errors(answer.json()))
    assert not faults, f"{method} {path}: " + "; ".join(f"{'/'.join(map(str, f.absolute_path))}: {f.message[:200]}" for f in faults[:5])


ADF = {"type": "doc", "version": 1, "content": [{"type": "paragraph", "content": [{"type": "text", "text": "smoke"}]}]}


def test_the_platform_answers_as_described(specs: dict[str, dict[str, Any]], tool: httpx.Client) -> None:
    """Issues, their comments, transitions, properties and files, and what a site says of itself."""
    fields = {"project": {"key": "OPS"}, "issuetype": {"name": "Incident"}, "summary": "Crane 4", "description": ADF}
    made = tool.post("/rest/api/3/issue", json={"fields": fields, "properties": [{"key": "p", "value": {"x": 1}}]})
    check(specs, "post", "/rest/api/3/issue", made)
    issue = f"/rest/api/3/issue/{made.json()['id']}"
    described = "/rest/api/3/issue/{issueIdOrKey}"
    check(specs, "get", described, tool.get(issue, params={"expand": "transitions,changelog"}))
    check(specs, "put", described, tool.put(issue, json={"fields": {"summary": "Crane 4 stands still"}}))
    check(specs, "post", f"{described}/comment", tool.post(f"{issue}/comment", json={"body": ADF}))
    check(specs, "get", f"{described}/comment", tool.get(f"{issue}/comment"))
    check(specs, "get", f"{described}/properties/{{propertyKey}}", tool.get(f"{issue}/properties/p"))
    ways = tool.get(f"{issue}/transitions", params={"expand": "transitions.fields"})
    check(specs, "get", f"{described}/transitions", ways)
    moved = tool.post(f"{issue}/transitions", json={"transition": {"id": ways.json()["transitions"][0]["id"]}})
    check(specs, "post", f"{described}/transitions", moved)
    files = {"file": ("a.log", b"x", "text/plain")}
    sent = tool.post(f"{issue}/attachments", files=files, headers={"X-Atlassian-Token": "no-check"})
    check(specs, "post", f"{described}/attachments", sent)
    for path in ("myself", "serverInfo", "field", "issuetype"):
        check(specs, "get", f"/rest/api/3/{path}", tool.get(f"/rest/api/3/{path}"))
    check(specs, "get", "/rest/api/3/project/{projectIdOrKey}", tool.get("/rest/api/3/project/OPS"))
    check(specs, "delete", described, tool.delete(issue))
    check(specs, "get", described, tool.get(issue))


def test_the_service_desk_answers_as_described(specs: dict[str, dict[str, Any]], tool: httpx.Client) -> None:
    """Requests, what customers read of them, their clocks and approvals, and the desk's queues."""
    api = "/rest/servicedeskapi"
    asked = {"serviceDeskId": "1", "requestTypeId": "27", "requestFieldValues": {"summary": "Crane 5", "description": "new cable"}}
    made = tool.post(f"{api}/request", json=asked)
    check(specs, "post", f"{api}/request", made)
    request, described = f"{api}/request/{made.json()['issueId']}", f"{api}/request/{{issueIdOrKey}}"
    check(specs, "get", described, tool.get(request))
    check(specs, "post", f"{described}/comment", tool.post(f"{request}/comment", json={"body": "soon", "public": True}))
    check(specs, "get", f"{described}/comment", tool.get(f"{request}/comment"))
    check(specs, "get", f"{described}/sla", tool.get(f"{request}/sla"))
    approvals = tool.get(f"{request}/approval")
    check(specs, "get", f"{described}/approval", approvals)
    number = approvals.json()["values"][0]["id"]
    answered = tool.post(f"{request}/approval/{number}", json={"decision": "decline"})
    check(specs, "post", f"{described}/approval/{{approvalId}}", answered)
    desk = f"{api}/servicedesk/{{serviceDeskId}}"
    check(specs, "get", f"{api}/info", tool.get(f"{api}/info"))
    check(specs, "get", f"{api}/servicedesk", tool.get(f"{api}/servicedesk"))
    check(specs, "get", desk, tool.get(f"{api}/servicedesk/1"))
    check(specs, "get", f"{desk}/requesttype", tool.get(f"{api}/servicedesk/1/requesttype"))
    check(specs, "get", f"{desk}/queue", tool.get(f"{api}/servicedesk/1/queue", params={"includeCount": "true"}))
    check(specs, "get", f"{desk}/queue/{{queueId}}/issue", tool.get(f"{api}/servicedesk/1/queue/41/issue"))
    check(specs, "get", described, tool.get(f"{api}/request/99999999"))
