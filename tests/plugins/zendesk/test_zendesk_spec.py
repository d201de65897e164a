"""The sandbox's answers against Zendesk's own API description, where a copy of it is at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from plugins.sandbox.process import SandboxProcess

pytestmark = pytest.mark.skipif("AI_AGENTS_REFERENCE" not in os.environ, reason="AI_AGENTS_REFERENCE names no folder of API descriptions")
RESOURCES = ("tickets", "uploads", "job-statuses", "slas", "incremental", "users", "ticket-fields", "brands", "ticket-forms", "groups",
             "custom-statuses", "attachments", "ticket-audits")  # fmt: skip


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    """Every resource's paths and schemas in one document; a schema no file brings says nothing."""
    folder = Path(os.environ["AI_AGENTS_REFERENCE"]) / "specs" / "zendesk"
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for name in RESOURCES:
        document = yaml.load((folder / f"{name}-openapi-original.yml").read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        paths |= document["paths"]
        schemas |= document.get("components", {}).get("schemas", {})
    support = yaml.safe_load((folder / "zendesk-support-openapi.yml").read_text())
    whole = {"TicketObject": "Ticket", "UserObject": "User", "TicketCommentObject": "Comment"}
    for ours, theirs in whole.items():
        if ours not in schemas and theirs in support["components"]["schemas"]:
            schemas[ours] = support["components"]["schemas"][theirs]
    return {"paths": paths, "components": {"schemas": {**support["components"]["schemas"], **schemas}}}


@pytest.fixture(scope="module")
def tool() -> Iterator[httpx.Client]:
    with SandboxProcess("zendesk") as sandbox:
        headers = sandbox.credentials["person"]["headers"]
        with httpx.Client(base_url=sandbox.base_url, headers=headers, follow_redirects=True) as client:
            yield client


def plain(schema: Any, known: dict[str, Any], depth: int = 0) -> Any:
    """An OpenAPI schema as JSON Schema: references in place, `nullable` spelt out; deep or missing parts say nothing."""
    if isinstance(schema, list):
        return [plain(part, known, depth) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return plain(known.get(schema["$ref"].rpartition("/")[2], {}), known, depth + 1) if depth < 12 else {}
    found = {key: plain(value, known, depth) for key, value in schema.items() if key not in ("example", "examples", "nullable", "format")}
    if schema.get("nullable") is True and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    return found


def check(spec: dict[str, Any], method: str, path: str, answer: httpx.Response) -> None:
    responses = spec["paths"][path][method]["responses"]
    assert str(answer.status_code) in responses, f"{method} {path} answered {answer.status_code}: {answer.text[:300]}"
    content = responses[str(answer.status_code)].get("content") or {}
    if "application/json" in content:
        schema = plain(content["application/json"]["schema"], spec["components"]["schemas"])
        faults = [fault for fault in Draft202012Validator(schema).iter_errors(answer.json()) if not is_empty_field(fault)]
        assert not faults, "; ".join(f"{'/'.join(map(str, f.absolute_path))}: {f.message[:150]}" for f in faults[:5])


def is_empty_field(fault: ValidationError) -> bool:
    """A custom field nobody filled is null in every recorded answer; the description forgets to allow it."""
    path = list(fault.absolute_path)
    return fault.instance is None and path[-3:-2] in (["custom_fields"], ["fields"]) and path[-1] == "value"


def test_writes_answer_as_described(spec: dict[str, Any], tool: httpx.Client) -> None:
    """Created, changed, and in jobs."""
    made = tool.post(
        "/api/v2/tickets.json", json={"ticket": {"subject": "s", "comment": {"body": "b"}, "priority": "low", "type": "incident"}}
    )
    check(spec, "post", "/api/v2/tickets", made)
    number = made.json()["ticket"]["id"]
    check(spec, "put", "/api/v2/tickets/{ticket_id}", tool.put(f"/api/v2/tickets/{number}", json={"ticket": {"status": "open"}}))
    job = tool.put("/api/v2/tickets/update_many", json={"tickets": [{"id": number, "priority": "high"}]})
    check(spec, "put", "/api/v2/tickets/update_many", job)
    job_id = job.json()["job_status"]["id"]
    for _ in range(3):
        check(spec, "get", "/api/v2/job_statuses/{job_status_id}", tool.get(f"/api/v2/job_statuses/{job_id}"))
    check(spec, "post", "/api/v2/tickets/create_many", tool.post("/api/v2/tickets/create_many", json={"tickets": [{"description": "d"}]}))
    upload = tool.post("/api/v2/uploads?filename=a.txt", content=b"x", headers={"content-type": "text/plain"})
    check(spec, "post", "/api/v2/uploads", upload)
    file = upload.json()["upload"]["attachment"]["id"]
    check(spec, "get", "/api/v2/attachments/{attachment_id}", tool.get(f"/api/v2/attachments/{file}"))
    check(spec, "delete", "/api/v2/tickets/{ticket_id}", tool.delete(f"/api/v2/tickets/{number}"))


def test_reads_answer_as_described(spec: dict[str, Any], tool: httpx.Client) -> None:
    """One, many, threads, settings and exports."""
    number = tool.post("/api/v2/tickets.json", json={"ticket": {"comment": {"body": "b"}}}).json()["ticket"]["id"]
    for path, asked in {
        "/api/v2/tickets": "/api/v2/tickets?page[size]=2",
        "/api/v2/tickets/{ticket_id}": f"/api/v2/tickets/{number}?include=slas",
        "/api/v2/tickets/show_many": f"/api/v2/tickets/show_many?ids={number}",
        "/api/v2/tickets/{ticket_id}/comments": f"/api/v2/tickets/{number}/comments",
        "/api/v2/tickets/{ticket_id}/audits": f"/api/v2/tickets/{number}/audits",
        "/api/v2/tickets/count": "/api/v2/tickets/count",
        "/api/v2/incremental/tickets/cursor": "/api/v2/incremental/tickets/cursor?start_time=1",
        "/api/v2/incremental/ticket_metric_events": "/api/v2/incremental/ticket_metric_events?start_time=1",
        "/api/v2/users/me": "/api/v2/users/me",
        "/api/v2/users": "/api/v2/users",
        "/api/v2/slas/policies": "/api/v2/slas/policies",
        "/api/v2/ticket_fields": "/api/v2/ticket_fields",
        "/api/v2/ticket_forms": "/api/v2/ticket_forms",
        "/api/v2/brands": "/api/v2/brands",
        "/api/v2/groups": "/api/v2/groups",
        "/api/v2/custom_statuses": "/api/v2/custom_statuses",
    }.items():
        check(spec, "get", path, tool.get(asked))
