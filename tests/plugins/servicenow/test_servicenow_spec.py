"""The sandbox's answers against descriptions and recorded answers kept outside this project.

No official description exists; the third-party ones are wrong in a few types, which the vendor's own recorded answers show: exactly
those deviations are allowed, and the recorded answers must show them too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from jsonschema import Draft202012Validator

from plugins.sandbox.http import Request, Response
from plugins.sandbox.server import Actor
from plugins.servicenow.sandbox import ServiceNowSandbox
from plugins.servicenow.sandbox_accounts import OURS
from plugins.servicenow.sandbox_schema import a_sys_id

pytestmark = pytest.mark.skipif("AI_AGENTS_REFERENCE" not in os.environ, reason="AI_AGENTS_REFERENCE names no folder of API descriptions")

WRONG_TYPES = {
    "sys_mod_count": "integer",
    "size_bytes": "integer",
    "size_compressed": "integer",
    "image_height": "integer",
    "image_width": "integer",
}
"""Columns the descriptions call numbers; the Table and Attachment APIs write every scalar as text."""
MISSING = "0" * 32


def reference() -> Path:
    return Path(os.environ["AI_AGENTS_REFERENCE"])


@pytest.fixture(scope="module")
def sandbox() -> ServiceNowSandbox:
    return ServiceNowSandbox()


@pytest.fixture(scope="module")
def record(sandbox: ServiceNowSandbox) -> dict[str, Any]:
    body = {"short_description": "Lift", "caller_id": a_sys_id("sys_user", "cora.caller"), "cmdb_ci": a_sys_id("cmdb_ci", "web")}
    made: dict[str, Any] = json.loads(ask(sandbox, "POST", "/api/now/table/incident", json.dumps(body).encode()).body)["result"]
    return made


@pytest.fixture(scope="module")
def file_id(sandbox: ServiceNowSandbox, record: dict[str, Any]) -> str:
    where = {"table_name": "incident", "table_sys_id": record["sys_id"], "file_name": "a.txt"}
    made = ask(sandbox, "POST", "/api/now/attachment/file", b"hello", content_type="text/plain", **where)
    return str(json.loads(made.body)["result"]["sys_id"])


def ask(
    sandbox: ServiceNowSandbox,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    content_type: str = "application/json",
    known: bool = True,
    **query: str,
) -> Response:
    request = Request(method, path, urlencode(query), {"content-type": content_type}, body, actor=Actor(OURS, False) if known else None)
    return sandbox._handle(request)


def errors(description: Mapping[str, Any], path: str, method: str, status: int, body: Any) -> set[tuple[str, str]]:
    """(column, type the description wants) of each contradiction."""
    answer = description["paths"][path][method]["responses"][str(status)]
    schema = {**answer["content"]["application/json"]["schema"], "components": description.get("components", {})}
    found = set()
    for error in Draft202012Validator(schema).iter_errors(body):
        names = [step for step in error.absolute_path if isinstance(step, str)]
        found.add((names[-1] if names else "", str(error.validator_value)))
    return found


CALLS = [
    ("table-records", "/table/{tableName}", "get", "/api/now/table/incident", b"", 200),
    ("table-records", "/table/{tableName}", "post", "/api/now/table/incident", b'{"short_description": "x"}', 201),
    ("table-records", "/table/{tableName}/{sys_id}", "get", "/api/now/table/incident/{record}", b"", 200),
    ("table-records", "/table/{tableName}/{sys_id}", "put", "/api/now/table/incident/{record}", b'{"description": "x"}', 200),
    ("table-records", "/table/{tableName}/{sys_id}", "patch", "/api/now/table/incident/{record}", b'{"description": "y"}', 200),
    ("table-records", "/table/{tableName}/{sys_id}", "get", f"/api/now/table/incident/{MISSING}", b"", 404),
    ("table-records", "/table/{tableName}/{sys_id}", "patch", f"/api/now/table/incident/{MISSING}", b"{}", 404),
    ("attachments", "/attachment", "get", "/api/now/attachment", b"", 200),
    ("attachments", "/attachment/{sys_id}", "get", "/api/now/attachment/{file}", b"", 200),
    ("attachments", "/attachment/{sys_id}", "get", f"/api/now/attachment/{MISSING}", b"", 404),
    ("cmdb-instances", "/instance/{className}", "get", "/api/now/cmdb/instance/cmdb_ci_server", b"", 200),
    ("cmdb-instances", "/instance/{className}/{sys_id}", "get", "/api/now/cmdb/instance/cmdb_ci_server/{item}", b"", 200),
    ("cmdb-instances", "/instance/{className}/{sys_id}", "get", f"/api/now/cmdb/instance/cmdb_ci_server/{MISSING}", b"", 404),
]


@pytest.mark.parametrize(("name", "path", "method", "url", "body", "status"), CALLS)
def test_an_answer_is_as_it_is_described(
    sandbox: ServiceNowSandbox, record: dict[str, Any], file_id: str, name: str, path: str, method: str, url: str, body: bytes, status: int
) -> None:
    """But for the columns whose type the description has wrong."""
    description = yaml.safe_load((reference() / "specs" / "servicenow" / f"servicenow-{name}-api-openapi.yml").read_text(encoding="utf-8"))
    url = url.format(record=record["sys_id"], file=file_id, item=a_sys_id("cmdb_ci", "web"))
    answer = ask(sandbox, method.upper(), url, body)
    assert answer.status == status
    assert errors(description, path, method, status, json.loads(answer.body)) <= set(WRONG_TYPES.items())
    if "401" in description["paths"][path][method]["responses"]:
        stranger = ask(sandbox, method.upper(), url, body, known=False)
        assert stranger.status == 401
        assert errors(description, path, method, 401, json.loads(stranger.body)) == set()


def test_what_the_descriptions_have_wrong_the_vendors_own_answers_show() -> None:
    """So that the list of deviations cannot grow out of convenience."""
    specs, samples = reference() / "specs" / "servicenow", reference() / "payloads" / "servicenow" / "api_responses"
    tables = yaml.safe_load((specs / "servicenow-table-records-api-openapi.yml").read_text(encoding="utf-8"))
    files = yaml.safe_load((specs / "servicenow-attachments-api-openapi.yml").read_text(encoding="utf-8"))
    found = errors(tables, "/table/{tableName}/{sys_id}", "get", 200, json.loads((samples / "docs_table_3.json").read_bytes()))
    found |= errors(tables, "/table/{tableName}/{sys_id}", "get", 200, json.loads((samples / "docs_table_7.json").read_bytes()))
    found |= errors(files, "/attachment/{sys_id}", "get", 200, json.loads((samples / "docs_attachment_9.json").read_bytes()))
    assert set(WRONG_TYPES.items()) <= found


def shape(value: Any) -> str:
    """The form of one column."""
    if isinstance(value, dict):
        return "+".join(sorted(value)).replace("+display_value_internal", "")
    return type(value).__name__


@pytest.mark.parametrize(
    ("sample", "url", "query"),
    [
        ("docs_table_7.json", "/api/now/table/incident/{record}", {}),
        ("docs_attachment_9.json", "/api/now/attachment/{file}", {}),
        ("docs_change_28.json", "/api/sn_chg_rest/change/{change}", {}),
    ],
)
def test_each_column_has_the_form_it_has_in_a_recorded_answer(
    sandbox: ServiceNowSandbox, record: dict[str, Any], file_id: str, sample: str, url: str, query: dict[str, str]
) -> None:
    """A client that reads the real answer reads ours: text where there is text, a reference where there is one, "" where it is empty."""
    recorded = json.loads((reference() / "payloads" / "servicenow" / "api_responses" / sample).read_bytes())["result"]
    recorded = recorded[0] if isinstance(recorded, list) else recorded
    change = json.loads(ask(sandbox, "POST", "/api/sn_chg_rest/change/normal", b'{"short_description": "x"}').body)["result"]
    url = url.format(record=record["sys_id"], file=file_id, change=change["sys_id"]["value"])
    ours = json.loads(ask(sandbox, "GET", url, **query).body)["result"]
    empty = {"str", "display_value+value", "display_value+link+value", "link+value"}
    shared = [name for name in ours if name in recorded]
    assert len(shared) > 10
    wrong = {
        name: (shape(ours[name]), shape(recorded[name]))
        for name in shared
        if shape(ours[name]) != shape(recorded[name]) and not {shape(ours[name]), shape(recorded[name])} <= empty
    }
    assert wrong == {}


def test_every_endpoint_of_the_older_description_is_there(sandbox: ServiceNowSandbox, record: dict[str, Any]) -> None:
    """Table API, both spellings of its path; its answers are objects."""
    description = yaml.safe_load((reference() / "specs" / "servicenow.yaml").read_text(encoding="utf-8"))
    for path in ("/api/now/table/{tableName}", "/api/now/table/{tableName}/{sys_id}"):
        for method in description["paths"][path]:
            if method == "delete":
                continue
            url = path.replace("{tableName}", "incident").replace("{sys_id}", record["sys_id"])
            for address in (url, url.replace("/now/", "/now/v2/")):
                answer = ask(sandbox, method.upper(), address, b'{"short_description": "x"}')
                assert answer.status in (200, 201), (method, address)
                assert isinstance(json.loads(answer.body), dict)
