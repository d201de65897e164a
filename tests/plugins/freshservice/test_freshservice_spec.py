"""The sandbox's answers against the API description in the folder named by AI_AGENTS_REFERENCE.

It is a third party's, and stricter than the tool in one thing: it knows no null, where recorded answers of the tool are full of them.
So null is allowed wherever a type is named; and a 404 has no body, as the tool's has none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from plugins.sandbox.server import SandboxProcess

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is in the test extra")
REFERENCE = os.environ.get("AI_AGENTS_REFERENCE")
pytestmark = pytest.mark.skipif(REFERENCE is None, reason="AI_AGENTS_REFERENCE names no folder with API descriptions")

NEW = {"description": "<p>Details</p>", "subject": "s", "email": "cora@customer.example", "priority": 1, "status": 2}
RECORD = {**{name: value for name, value in NEW.items() if name != "email"}}
PLANNED = {**RECORD, "planned_start_date": "2026-04-01T00:00:00Z", "planned_end_date": "2026-04-02T00:00:00Z"}
BODIES: dict[str, dict[str, Any]] = {
    "/tickets": {**NEW, "tags": ["t"], "custom_fields": {"cost_centre": "x"}},
    "/problems": {**RECORD, "requester_id": 21_001_397_503, "impact": 1, "due_by": "2026-04-01T00:00:00Z"},
    "/changes": {**PLANNED, "requester_id": 21_001_397_503, "impact": 1, "risk": 1, "change_type": 1},
    "/releases": {**PLANNED, "release_type": 1},
    "/assets": {"name": "a", "asset_type_id": 1},
    "/tickets/{ticket_id}/notes": {"body": "n"},
    "/tickets/{ticket_id}/reply": {"body": "r"},
}
CHANGED = {"/assets/{asset_id}": {"impact": "high"}, "/tickets/{ticket_id}/restore": None}
CALLS = [
    ("post", "/tickets", 201), ("get", "/tickets", 200), ("get", "/tickets/{ticket_id}", 200), ("put", "/tickets/{ticket_id}", 200),
    ("post", "/tickets/{ticket_id}/notes", 201), ("post", "/tickets/{ticket_id}/reply", 201),
    ("get", "/tickets/{ticket_id}/conversations", 200),
    ("post", "/problems", 201), ("get", "/problems", 200), ("get", "/problems/{problem_id}", 200), ("put", "/problems/{problem_id}", 200),
    ("post", "/changes", 201), ("get", "/changes", 200), ("get", "/changes/{change_id}", 200), ("put", "/changes/{change_id}", 200),
    ("post", "/releases", 201), ("get", "/releases", 200), ("get", "/releases/{release_id}", 200),
    ("post", "/assets", 201), ("get", "/assets", 200), ("get", "/assets/{asset_id}", 200), ("put", "/assets/{asset_id}", 200),
    ("get", "/agents", 200), ("get", "/requesters", 200),
    ("delete", "/tickets/{ticket_id}", 204), ("put", "/tickets/{ticket_id}/restore", 204),
]  # fmt: skip


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("freshservice") as process:
        yield process


@pytest.fixture(scope="module")
def description() -> Any:
    return yaml.safe_load((Path(str(REFERENCE)) / "specs" / "freshservice.yaml").read_text(encoding="utf-8"))


def with_nulls(schema: Any) -> Any:
    """The same schema where any typed value may also be null; a change's type is a code, as recorded answers show it."""
    if isinstance(schema, list):
        return [with_nulls(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: with_nulls(part) for name, part in schema.items() if name not in ("format", "example")}
    if isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    if "change_type" in found and isinstance(found["change_type"], dict):
        found["change_type"] = {"type": ["integer", "string", "null"]}
    return found


def check(answer: requests.Response, operation: Any, status: int, root: Any) -> None:
    response = operation["responses"][str(status)]
    if "$ref" in response:
        response = root["components"]["responses"][response["$ref"].rpartition("/")[2]]
    content = response.get("content")
    if content is None:
        assert answer.content == b""
        return
    schema = {**with_nulls(content["application/json"]["schema"]), "components": with_nulls(root["components"])}
    jsonschema.Draft202012Validator(schema).validate(answer.json())


def test_each_described_answer_has_its_described_shape(sandbox: SandboxProcess, description: Any) -> None:
    """What the description and the sandbox both know, they know alike."""
    session = requests.Session()
    session.auth = (sandbox.credentials["auth"]["api_key"], "X")
    for method, path, status in CALLS:
        operation = description["paths"][path][method]
        address = sandbox.base_url + "/api/v2" + "/".join("1" if part.startswith("{") else part for part in path.split("/"))
        body = BODIES.get(path) if method == "post" else CHANGED.get(path, {"priority": 2}) if method == "put" else None
        answer = session.request(method, address, json=body)
        assert answer.status_code == status, (method, path, answer.text)
        check(answer, operation, status, description)


def test_refusals_have_the_described_shape(sandbox: SandboxProcess, description: Any) -> None:
    """A 400 lists its faults, a 401 is an object."""
    operation = description["paths"]["/tickets"]["post"]
    url = f"{sandbox.base_url}/api/v2/tickets"
    key = (sandbox.credentials["auth"]["api_key"], "X")
    check(requests.post(url, json={}, auth=key), operation, 400, description)
    check(requests.post(url, json={}, auth=("wrong", "X")), operation, 401, description)
