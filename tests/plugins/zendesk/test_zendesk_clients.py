"""Zenpy, a client nobody here wrote, against the sandbox: what it can do shows that the sandbox speaks Zendesk's protocol."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from zenpy import Zenpy
from zenpy.lib.api_objects import Comment, CustomField, Ticket, User
from zenpy.lib.exception import APIException, RecordNotFoundException, SearchResponseLimitExceeded, TooManyValuesException

from plugins.sandbox.process import SandboxProcess


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("zendesk") as process:
        yield process


@pytest.fixture
def connect(sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Zenpy's own way to another host: two variables of the environment."""
    monkeypatch.setenv("ZENPY_FORCE_NETLOC", urlsplit(sandbox.base_url).netloc)
    monkeypatch.setenv("ZENPY_FORCE_SCHEME", "http")

    def client(**changed: Any) -> Zenpy:
        auth = sandbox.credentials["auth"]
        return Zenpy(**{"subdomain": "harbour", "email": auth["email"], "token": auth["api_token"], "disable_cache": True, **changed})

    return client


def test_it_logs_in_and_knows_who_it_is(connect: Any, sandbox: SandboxProcess) -> None:
    """The token's agent, as webhooks name it."""
    assert str(connect().users.me().id) == sandbox.credentials["actor"]


def test_a_wrong_token_is_its_own_authentication_error(connect: Any) -> None:
    """Zendesk answers 401 with a text that its client shows."""
    with pytest.raises(APIException, match="Couldn't authenticate you") as caught:
        connect(token="wrong").tickets(id=1)
    assert caught.value.response.status_code == 401


def test_a_ticket_is_created_read_changed_commented_and_deleted(connect: Any) -> None:
    """The audit comes with each write, and the client builds its objects from both."""
    client = connect()
    fields = [CustomField(id=360_001, value="quay_1")]
    asked = Ticket(subject="Crane 4", description="No power", priority="high", type="incident", tags=["crane"], custom_fields=fields)
    audit = client.tickets.create(asked)
    ticket = client.tickets(id=audit.ticket.id)
    assert (ticket.subject, ticket.status, ticket.priority, ticket.tags) == ("Crane 4", "new", "high", ["crane"])
    assert {"id": 360_001, "value": "quay_1"} in ticket.to_dict()["custom_fields"]
    assert ticket.requester.name == "Integration"
    ticket.status, ticket.comment = "pending", Comment(html_body="<p>On <b>our</b> way</p>", public=False)
    changed = client.tickets.update(ticket)
    assert changed.ticket.status == "pending"
    comments = list(client.tickets.comments(ticket))
    assert [comment.public for comment in comments] == [True, False]
    assert comments[1].plain_body == "On our way"
    client.tickets.delete(ticket)
    with pytest.raises(RecordNotFoundException):
        client.tickets(id=ticket.id)


def test_it_reads_every_page_by_cursor_and_by_offset(connect: Any, sandbox: SandboxProcess) -> None:
    """The client follows the addresses in the answers, and nothing else."""
    client = connect()
    for number in range(7):
        sandbox.person_creates(subject=f"page {number}")
    by_cursor = [ticket.id for ticket in client.tickets(cursor_pagination=3)]
    by_offset = [ticket.id for ticket in client.tickets(cursor_pagination=False)]
    assert len(by_cursor) == len(set(by_cursor)) >= 7
    assert by_cursor == by_offset
    sliced = client.tickets(cursor_pagination=False)[2:5:2]
    assert [ticket.id for ticket in sliced] == by_offset[2:5]


def test_many_are_shown_and_changed_in_a_job(connect: Any, sandbox: SandboxProcess) -> None:
    """A job is asked for until it is done."""
    client = connect()
    ids = [int(sandbox.person_creates(subject=f"many {number}")) for number in range(3)]
    tickets = list(client.tickets(ids=[*ids, 99_999_999]))
    assert [ticket.id for ticket in tickets] == ids
    for ticket in tickets:
        ticket.priority = "low"
    job = client.tickets.update(tickets)
    ends = time.monotonic() + 5
    while job.status != "completed" and time.monotonic() < ends:
        job = client.job_status(id=job.id)
    assert sorted(row.id for row in job.results) == ids
    assert [client.tickets(id=i).priority for i in ids] == ["low"] * 3
    with pytest.raises(TooManyValuesException):
        client.tickets(ids=range(1, 102))


def test_search_exports_and_limits_are_its_own(connect: Any, sandbox: SandboxProcess) -> None:
    """Offset search ends at a thousand; the export goes on by cursor."""
    client = connect()
    made = int(sandbox.person_creates(subject="findable heron", tags=["heron"]))
    assert [ticket.id for ticket in client.search("heron", type="ticket")] == [made]
    assert made in [ticket.id for ticket in client.tickets.incremental(start_time=int(time.time()) - 3600)]
    with pytest.raises(SearchResponseLimitExceeded):
        client.search._get(f"{sandbox.base_url}/api/v2/search.json?query=heron&page=11")
    assert list(client.tickets(external_id="no such")) == []


def test_files_go_up_with_a_comment_and_come_down(connect: Any, sandbox: SandboxProcess) -> None:
    """The upload's token is taken up by a comment; the download follows a redirect."""
    client = connect()
    ticket = client.tickets(id=int(sandbox.person_creates(subject="with a log")))
    upload = client.attachments.upload(io.BytesIO(b"line 1\nline 2\n"), target_name="crane.log", content_type="text/plain")
    ticket.comment = Comment(body="the log", uploads=[upload.token])
    client.tickets.update(ticket)
    (file,) = list(client.tickets.comments(ticket.id))[-1].attachments
    assert (file.file_name, file.size) == ("crane.log", 14)
    assert client.attachments.download(file.id).getvalue() == b"line 1\nline 2\n"


def test_a_refused_value_names_its_field(connect: Any, sandbox: SandboxProcess) -> None:
    """The details of a 422 are what an agent mends by."""
    client = connect()
    closed = client.tickets(id=int(sandbox.person_creates(subject="old", status="closed")))
    closed.priority = "low"
    with pytest.raises(APIException, match="closed prevents ticket update") as caught:
        client.tickets.update(closed)
    assert caught.value.response.status_code == 422


def test_settings_and_policies_are_listed(connect: Any) -> None:
    """What an integration reads at its start."""
    client = connect()
    assert "Cost centre" in [field.title for field in client.ticket_fields()]
    assert [policy.title for policy in client.sla_policies()] == ["Incidents"]
    assert "Dockside" in [brand.name for brand in client.brands()]
    assert "Awaiting parts" in [status.agent_label for status in client.custom_statuses()]
    assert all(isinstance(user, User) for user in client.users())
