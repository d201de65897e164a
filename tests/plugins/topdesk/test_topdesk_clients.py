"""A client nobody here wrote works against the sandbox: the `topdesk` package of PyPI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from plugins.sandbox.process import SandboxProcess

topdesk = pytest.importorskip("topdesk", reason="the test client topdesk is not installed")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("topdesk") as process:
        yield process


@pytest.fixture
def client(sandbox: SandboxProcess) -> Any:
    auth = sandbox.credentials["auth"]
    return topdesk.Topdesk(sandbox.base_url, app_creds=(auth["user"], auth["application_password"]))


def test_it_makes_reads_changes_and_lists_incidents(client: Any, sandbox: SandboxProcess) -> None:
    """The life of an incident, by number and by id, and each page of a list."""
    made = client.create_incident(
        {"callerLookup": {"email": "daan.visser@gemeente.example"}, "briefDescription": "Lift", "request": "<b>stuck</b>"}
    )
    assert client.incident(made["id"]) == client.incident(made["number"]) == made
    assert made["request"].endswith("Koppeling Integratie: \nstuck")
    assert client.update_incident(made["number"], {"priority": {"name": "P1"}})["priority"]["name"] == "P1"
    for number in range(4):
        client.create_incident({"caller": {"dynamicName": "x"}, "briefDescription": f"Lift {number}"})
    pages = [client.incidents({"pageStart": start, "pageSize": 2, "fields": "id,number"}) for start in (0, 2, 4)]
    assert [len(page) for page in pages] == [2, 2, 1] and all(set(row) == {"id", "number"} for page in pages for row in page)
    assert client.incidents({"query": "briefDescription=='none'"}) is None
    assert [row["name"] for row in client.processing_status()][:2] == ["Logged", "In progress"]
    assert [row["name"] for row in client.call_types()] == ["Failure", "Request", "Complaint"]
    assert [row["kind"] for row in sandbox.ledger()][:2] == ["create", "update"]


def test_it_uploads_and_lists_files(client: Any) -> None:
    """In its own form: bare line ends, base64."""
    made = client.create_incident({"caller": {"dynamicName": "x"}, "briefDescription": "with a file"})
    row = client.upload_incident_attachment(made["number"], ("notes.txt", "first\nsecond"))
    assert (row["fileName"], row["size"]) == ("notes.txt", 12)
    assert [found["id"] for found in client.incident_attachments(made["number"])] == [row["id"]]
    assert client.download_incident_attachment(made["id"], row["id"]) == b"first\nsecond"


def test_it_makes_moves_and_comments_on_changes(client: Any, sandbox: SandboxProcess) -> None:
    """Operator changes with their phases and their trail."""
    person = client.get("/persons", params={"query": "email=='daan.visser@gemeente.example'"})[0]
    change = client.create_operator_change({"requester": {"id": person["id"]}, "briefDescription": "Swap", "priority": "P2"})
    assert client.operator_change(change["number"])["priority"]["name"] == "P2"
    moved = client.process_operator_change(change["id"], "simple_notStarted", "start")
    assert (moved["to"], client.operator_change(change["id"])["possibleActions"]) == ("simple_inProgress", ["implement"])
    client.create_action_for_operator_change(change["id"], "begun", "memo")
    assert [row["memoText"] for row in client.operator_change_progress_trail(change["id"])["results"]] == ["begun"]
    assert change["id"] in [row["id"] for row in client.operator_changes({"open": "true"})["results"]]
    assert client.change_statuses()["results"]
    activity = client.create_operator_change_activity({"changeId": change["id"], "briefDescription": "Swap the lamp"})
    assert client.change_activity(activity["number"]) == activity
    client.update_operator_change_activity(activity["id"], [{"op": "replace", "path": "/processingStatus", "value": "finished"}])
    assert [row["processingStatus"] for row in client.operator_change_activities([change["number"]])["results"]] == ["finished"]


def test_it_meets_its_own_errors(client: Any, sandbox: SandboxProcess) -> None:
    """Not found, refused, unauthorized: by the client's own classes."""
    with pytest.raises(topdesk.NotFound):
        client.incident("00000000-0000-4000-8000-000000000000")
    with pytest.raises(topdesk.BadRequest):
        client.create_incident({"briefDescription": "without a caller"})
    with pytest.raises(topdesk.Unauthorized):
        topdesk.Topdesk(sandbox.base_url, app_creds=("koppeling", "wrong")).incidents({})
    sandbox.fault(status=429, times=1)
    with pytest.raises(topdesk.TooManyRequests):
        client.version()


def test_it_logs_in_the_old_way(sandbox: SandboxProcess) -> None:
    """A token in place of the password, as before 2017."""
    auth = sandbox.credentials["auth"]
    client = topdesk.Topdesk(sandbox.base_url)
    client.login_operator(auth["user"], auth["application_password"])
    assert client.version() == {"version": "3.8.5"}
    client.logout()
    with pytest.raises(topdesk.NotLoggedIn):
        client.incidents({})
