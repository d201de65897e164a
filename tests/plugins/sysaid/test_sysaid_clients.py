"""A SysAid client nobody here wrote, against our sandbox: the distribution python-sysaid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from plugins.sandbox.server import SandboxProcess
from tests.plugins.sandbox_thread import SandboxThread

sysaid = pytest.importorskip("sysaid", reason="the client python-sysaid is not installed")
if not hasattr(sysaid, "SysAid"):
    pytest.skip("another distribution's package sysaid is installed", allow_module_level=True)
from sysaid import exceptions  # noqa: E402 - only when it is there


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxThread("sysaid") as running:
        yield running


@pytest.fixture
def client(sandbox: SandboxProcess) -> Iterator[Any]:
    auth = sandbox.credentials["auth"]
    with sysaid.SysAid(sandbox.base_url, auth["user_name"], auth["password"]) as connected:
        yield connected


def test_it_logs_in_and_knows_who_it_is(client: Any, sandbox: SandboxProcess) -> None:
    """It sends the password as it is, and keeps the cookie."""
    result = client.login()
    assert result.logged_in and result.user.caption("display_name") == "Integration" and result.sysaid_version
    wrong = sysaid.SysAid(sandbox.base_url, "integration", "wrong")
    with pytest.raises(exceptions.AuthenticationError):
        wrong.login()


def test_it_creates_reads_updates_and_closes(client: Any) -> None:
    """What a form shows, with the captions it reads."""
    record = client.service_requests.create(title="Printer", description="No paper", priority=3, type="request")
    assert record["title"] == "Printer" and record.caption("priority") == "High" and record.caption("sr_type") == "Request"
    client.service_requests.update(record.id, status=2, cust_text3="Yard 2")
    read = client.service_requests.get(record.id, fields=["status", "cust_text3"])
    assert (read.caption("status"), read["cust_text3"], len(read)) == ("Open", "Yard 2", 2)
    client.service_requests.close(record.id, solution="Paper")
    assert client.service_requests.get(record.id).caption("status") == "Closed"
    with pytest.raises(exceptions.BadRequestError, match="already closed"):
        client.service_requests.close(record.id)


def test_it_lists_over_pages_filters_and_counts(client: Any) -> None:
    """Pages by offset and limit, until one is short."""
    before = client.service_requests.count()
    made = {client.service_requests.create(title=f"Door {n}", type="incident", cust_text3="Hall 9").id for n in range(7)}
    assert {record.id for record in client.service_requests.iter(type="all", page_size=3, cust_text3="Hall 9")} == made
    assert {record.id for record in client.service_requests.list(ids=sorted(made)[:2], type="all")} == set(sorted(made)[:2])
    assert {record.id for record in client.service_requests.search("door 3")} <= made
    assert client.service_requests.count() == before + 7


def test_it_writes_notes_activities_and_files(client: Any) -> None:
    """Each in the form this client found to work."""
    from sysaid.resources.service_requests import make_note

    record = client.service_requests.create(title="Scanner")
    client.service_requests.update(record.id, notes=make_note("api", "hello"))
    (note,) = client.service_requests.get(record.id, fields=["notes"])["notes"]
    assert note["text"] == "hello" and isinstance(note["createDate"], int)
    client.service_requests.add_activity(record.id, 2, 1_772_444_405_000, 1_772_444_465_000, "Drove there")
    client.service_requests.add_attachment(record.id, b"\x00\x01", "log.bin")
    (file,) = client.service_requests.get(record.id, fields=["attachments"])["attachments"]
    assert (file["fileName"], file["fileSize"]) == ("log.bin", 2)


def test_it_sees_users_lists_and_filters(client: Any) -> None:
    """What it builds its forms from."""
    assert [user["display_name"] for user in client.users.search("cora")] == ["Cora Customer"]
    assert len(list(client.users.iter(page_size=2))) == 3 and client.users.get("3")["email_address"] == "ada@desk.example"
    assert client.lists.get("priority")["values"][0] == {"id": "1", "caption": "Highest"}


def test_it_gets_its_own_errors(client: Any, sandbox: SandboxProcess) -> None:
    """An id nobody knows, a JSON number where text is wanted, a path that is not there, a session that is over."""
    with pytest.raises(exceptions.BadRequestError, match="Invalid service record id"):
        client.service_requests.get("99999999")
    with pytest.raises(exceptions.NotFoundError):
        client.request("GET", "/nothing")
    record = client.service_requests.create(title="Numbers")
    with pytest.raises(exceptions.ServerError):
        client.request("PUT", f"/sr/{record.id}", json={"id": record.id, "info": [{"key": "status", "value": 2}]})
    client.session.cookies.clear()
    with pytest.raises(exceptions.UnauthorizedError):
        client.service_requests.get(record.id)
