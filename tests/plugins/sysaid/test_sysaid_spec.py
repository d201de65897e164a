"""The newer API against its operation index. It names operations and their statuses; paths and bodies it does not have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from plugins.sandbox.server import SandboxProcess
from tests.plugins.sandbox_thread import SandboxThread

pytestmark = pytest.mark.skipif("AI_AGENTS_REFERENCE" not in os.environ, reason="AI_AGENTS_REFERENCE does not name the reference folder")
RECORDS = "/v1/service-records"


@pytest.fixture(scope="module")
def operations() -> dict[str, tuple[str, int]]:
    """Method and status of success by operation."""
    spec = yaml.safe_load((Path(os.environ["AI_AGENTS_REFERENCE"]) / "specs" / "sysaid.yaml").read_text())
    return {
        call["operationId"]: (method.upper(), int(next(iter(call["responses"]))))
        for path in spec["paths"].values()
        for method, call in path.items()
    }


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxThread("sysaid") as running:
        yield running


def test_each_call_answers_with_the_status_its_operation_has(operations: dict[str, tuple[str, int]], sandbox: SandboxProcess) -> None:
    """A client of the newer API goes by these; our sandbox must not teach another habit."""
    auth = sandbox.credentials["developers_auth"]
    with httpx.Client(base_url=sandbox.base_url, headers={"x-sysaid-accountid": auth["account_id"]}) as client:

        def call(operation: str, path: str, body: Any = None) -> Any:
            method, status = operations[operation]
            answer = client.request(method, path, json=body)
            assert answer.status_code == status, (operation, answer.status_code)
            return answer.json()

        token = call("generateAccessToken", "/v1/access-tokens", {"clientId": auth["client_id"], "clientSecret": auth["client_secret"]})
        assert set(token) == {"token", "tokenType", "expiresIn"}
        client.headers["authorization"] = f"Bearer {token['token']}"
        made = call("createServiceRecord", f"{RECORDS}?fields=sr_version,title", {"info": [{"key": "title", "value": "Door"}]})
        assert call("getServiceRecordById", f"{RECORDS}/{made['id']}")["id"] == made["id"]
        change = {"id": made["id"], "sr_version": 1, "info": [{"key": "title", "value": "Gate"}]}
        call("updateServiceRecord", f"{RECORDS}/{made['id']}", change)
        call("getAssets", "/v1/assets")
        call("getAssetById", "/v1/assets/0A-3E-E9-13-2B-E4")
        call("updateAsset", "/v1/assets/0A-3E-E9-13-2B-E4", {"info": [{"key": "model", "value": "t3.small"}]})
        assert client.put(f"{RECORDS}/{made['id']}", json=change).status_code == 409
        for status, path in ((404, f"{RECORDS}/99999999"), (401, RECORDS)):
            if status == 401:
                client.headers["authorization"] = "Bearer over"
            answer = client.get(path)
            assert answer.status_code == status and set(answer.json()) == {"statusCode", "message"}
