"""The sandbox's answers against a published description of the API. It is a third party's: where real answers differ, they win."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from plugins.freshdesk.sandbox_webhooks import Occasion, rendered
from plugins.sandbox.process import SandboxProcess

pytestmark = pytest.mark.skipif("AI_AGENTS_REFERENCE" not in os.environ, reason="AI_AGENTS_REFERENCE does not name the reference folder")


def specification(name: str) -> Any:
    return yaml.safe_load((Path(os.environ["AI_AGENTS_REFERENCE"]) / "specs" / name).read_text())


def nullable(schema: Any) -> Any:
    """OpenAPI's `nullable` in JSON Schema's words."""
    if isinstance(schema, list):
        return [nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: nullable(value) for name, value in schema.items() if name != "nullable"}
    if schema.get("nullable") is True and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    return found


@pytest.fixture(scope="module")
def description() -> Any:
    found = nullable(specification("freshdesk.yaml"))
    properties = found["components"]["schemas"]
    properties["Ticket"]["properties"]["status"].pop("enum")  # accounts have statuses of their own: recorded answers hold 8
    properties["Ticket"]["properties"]["source"].pop("enum")
    for name in ("email", "unique_external_id"):  # contacts known by phone have neither
        properties["Contact"]["properties"].setdefault(name, {})["type"] = ["string", "null"]
    properties["Field"]["properties"]["choices"].pop("type")  # recorded answers hold objects too
    return found


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("freshdesk") as process:
        yield process


@pytest.fixture(scope="module")
def client(sandbox: SandboxProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{sandbox.base_url}/api/v2", headers=sandbox.credentials["person"]["headers"]) as client:
        yield client


def check(description: Any, path: str, answer: httpx.Response) -> Any:
    """The answer's status is described, and its body is as its schema says."""
    operation = description["paths"][path][answer.request.method.lower()]
    told = operation["responses"][str(answer.status_code)]
    if "$ref" in told:
        told = description["components"]["responses"][told["$ref"].rpartition("/")[2]]
    for media in (told.get("content") or {}).values():
        if answer.content:
            schema = {**media["schema"], "components": description["components"]}
            jsonschema.Draft202012Validator(schema).validate(answer.json())
    return answer.json() if answer.content else None


def test_answers_are_as_described(description: Any, client: httpx.Client) -> None:
    """Whoever generates a client from the description can use it here."""
    ticket = {"subject": "x", "description": "<p>y</p>", "email": "cora@customer.example", "status": 2, "priority": 2, "tags": ["a"]}
    made = check(description, "/tickets", client.post("/tickets", json=ticket))
    check(description, "/tickets", client.get("/tickets?include=description"))
    one = "/tickets/{ticket_id}"
    check(description, one, client.get(f"/tickets/{made['id']}"))
    check(description, one, client.put(f"/tickets/{made['id']}", json={"priority": 4, "product_id": 8001}))
    check(description, one, client.get("/tickets/99999999"))
    check(description, f"{one}/notes", client.post(f"/tickets/{made['id']}/notes", json={"body": "n"}))
    check(description, f"{one}/reply", client.post(f"/tickets/{made['id']}/reply", json={"body": "n"}))
    check(description, f"{one}/conversations", client.get(f"/tickets/{made['id']}/conversations"))
    check(description, "/search/tickets", client.get('/search/tickets?query="priority:4"'))
    bulk = {"bulk_action": {"ids": [made["id"]], "properties": {"status": 3}}}
    check(description, "/tickets/bulk_update", client.post("/tickets/bulk_update", json=bulk))
    check(description, "/tickets", client.post("/tickets", json={}))
    company = check(description, "/companies", client.post("/companies", json={"name": "Glass Inc."}))
    check(description, "/companies/{company_id}", client.put(f"/companies/{company['id']}", json={"note": "x"}))
    contact = check(
        description, "/contacts", client.post("/contacts", json={"name": "G", "email": "g@glass.example", "company_id": company["id"]})
    )
    check(description, "/contacts/{contact_id}", client.get(f"/contacts/{contact['id']}"))
    check(description, "/contacts", client.get("/contacts"))
    check(description, "/search/contacts", client.get("/search/contacts?query=\"email:'g@glass.example'\""))
    for path in ("/agents", "/groups", "/products", "/email_configs", "/ticket_fields"):
        assert check(description, path, client.get(path))
    check(description, "/agents/{agent_id}", client.get("/agents/5002"))
    check(description, "/contacts/{contact_id}", client.delete(f"/contacts/{contact['id']}"))
    check(description, "/companies/{company_id}", client.delete(f"/companies/{company['id']}"))
    check(description, one, client.delete(f"/tickets/{made['id']}"))
    check(description, "/tickets", client.get("/tickets", headers={"Authorization": "Basic eDp5"}))


def recorded(name: str) -> Any:
    """An answer of a real account, as a client's tests keep it."""
    return json.loads((Path(os.environ["AI_AGENTS_REFERENCE"]) / "payloads" / "freshdesk" / name).read_bytes())


def test_answers_have_what_recorded_ones_have(client: httpx.Client) -> None:
    """A client may lean on any of it. Left out: what only trackers and old accounts show."""
    ticket = {"subject": "x", "description": "y", "email": "cora@customer.example", "status": 2, "priority": 3}
    made = client.post("/tickets", json=ticket).json()
    rare = {"associated_tickets_count", "associated_tickets_list", "structured_description", "sentiment_score", "initial_sentiment_score"}
    assert set(recorded("r7_create_ticket_few_parameters.json")) - rare <= set(made)
    assert set(recorded("r7_get_tickets_no_parameters.json")[0]) - rare <= set(client.get("/tickets").json()[0])
    note = client.post(f"/tickets/{made['id']}/notes", json={"body": "n"}).json()
    assert set(recorded("pyfd_note_1.json")) <= set(note)
    reply = client.post(f"/tickets/{made['id']}/reply", json={"body": "n"}).json()
    assert set(recorded("pyfd_reply_1.json")) <= set(reply)
    me = client.get("/agents/me").json()
    assert set(recorded("pyfd_agent_1.json")) <= set(me) and set(recorded("pyfd_agent_1.json")["contact"]) <= set(me["contact"])
    contact = client.post("/contacts", json={"name": "R", "email": "r@glass.example"}).json()
    assert set(recorded("hull_api__create_contact.json")) - {"avatar"} <= set(contact)
    company = client.post("/companies", json={"name": "Recorded Inc."}).json()
    assert set(recorded("hull_api__create_company.json")) <= set(company)
    field = next(f for f in recorded("r7_get_ticket_fields.json") if f["name"] == "status")
    ours = next(f for f in client.get("/ticket_fields").json() if f["name"] == "status")
    assert {name: type(value) for name, value in field.items() if name in ours} == {
        name: type(ours[name]) for name in field if name in ours
    }
    refused = client.get("/tickets?order_by=nothing").json()
    assert set(recorded("r7_get_tickets_invalid_company_id.json")) == set(refused)
    assert set(recorded("r7_filter_tickets.json")) == set(client.get('/search/tickets?query="priority:3"').json())


def test_webhooks_are_as_described(sandbox: SandboxProcess) -> None:
    """Simple content; ids come as text in every recorded delivery, which the description calls numbers."""
    schema = nullable(specification("freshdesk-webhook-asyncapi.yaml")["components"]["schemas"]["WebhookPayload"])
    schema["properties"]["freshdesk_webhook"]["properties"]["ticket_id"] = {"type": "string"}
    number = sandbox.person_creates(subject="Door", type="incident")
    headers = sandbox.credentials["person"]["headers"]
    ticket = httpx.get(f"{sandbox.base_url}/api/v2/tickets/{number}", headers=headers).json()
    person = {"id": 1, "name": "Cora", "email": "cora@customer.example"}
    occasion = Occasion(
        triggered_event="{ticket_action:created}",
        app_event="onTicketCreate",
        ticket=ticket,
        actor=person,
        requester=person,
        product=None,
        latest_public="",
        latest_private="",
    )
    body, _ = rendered("simple", occasion, sandbox.base_url)
    jsonschema.Draft202012Validator(schema).validate(json.loads(body))
