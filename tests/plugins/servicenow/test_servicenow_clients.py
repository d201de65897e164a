"""A client nobody here wrote, pysnc, works against the sandbox: it is the nearest thing to an instance that can be had here."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
import requests
from pysnc import ServiceNowClient
from pysnc.exceptions import AuthenticationException, RoleException, UpdateException
from requests.adapters import HTTPAdapter

from plugins.sandbox.server import SandboxProcess

INSTANCE = "https://sandbox.service-now.example"


class ToSandbox(HTTPAdapter):
    """The client insists on https: its requests to the instance's name go to the sandbox's plain address instead."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self._base_url = base_url

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        assert request.url is not None
        request.url = self._base_url + request.url.removeprefix(INSTANCE)
        return super().send(request, *args, **options)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("servicenow") as process:
        yield process


def logged_in(sandbox: SandboxProcess, password: str | None = None) -> ServiceNowClient:
    """As a person, by Basic."""
    header = sandbox.credentials["person"]["headers"]["Authorization"]
    user, _, own = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    session = requests.Session()
    session.auth = (user, password or own)
    session.mount(INSTANCE, ToSandbox(sandbox.base_url))
    return ServiceNowClient(INSTANCE, session, auto_retry=False)


@pytest.fixture(scope="module")
def client(sandbox: SandboxProcess) -> ServiceNowClient:
    return logged_in(sandbox)


def an_incident(client: ServiceNowClient, **fields: str) -> Any:
    record = client.GlideRecord("incident")
    record.initialize()
    for name, value in {"short_description": "Lift 2", **fields}.items():
        record.set_value(name, value)
    assert record.insert()
    return record


def test_a_record_is_made_read_and_changed(client: ServiceNowClient) -> None:
    """Values and labels, references and their dots, as the client's own documentation shows."""
    made = an_incident(client, impact="1", urgency="2")
    record = client.GlideRecord("incident")
    assert record.get(str(made.sys_id))
    assert (record.get_value("priority"), record.get_display_value("priority")) == ("2", "2 - High")
    assert record.get_display_value("caller_id") == "Ada Agent"
    record.set_value("short_description", "Lift 3")
    record.set_value("work_notes", "looked at it")
    assert record.update()
    again = client.GlideRecord("incident")
    assert again.get("number", str(made.number))
    assert again.get_value("short_description") == "Lift 3"


def test_a_list_comes_over_pages(client: ServiceNowClient) -> None:
    """By offset against the total, in the order asked for."""
    for n in range(25):
        an_incident(client, short_description=f"page {n:02d}", category="network")
    listing = client.GlideRecord("incident", batch_size=10)
    listing.fields = ["short_description", "category"]
    listing.add_query("category", "network")
    listing.order_by("short_description")
    listing.query()
    assert len(listing) == 25
    assert [str(row.short_description) for row in listing] == [f"page {n:02d}" for n in range(25)]


def test_queries_select(client: ServiceNowClient) -> None:
    """Operators, alternatives and limits."""
    for name in ("one", "two", "three"):
        an_incident(client, short_description=f"pick {name}", subcategory="picked")
    picked = client.GlideRecord("incident")
    condition = picked.add_query("short_description", "ENDSWITH", "one")
    condition.add_or_condition("short_description", "ENDSWITH", "two")
    picked.add_query("subcategory", "picked")
    picked.query()
    assert {str(row.short_description) for row in picked} == {"pick one", "pick two"}
    first = client.GlideRecord("incident")
    first.add_query("subcategory", "picked")
    first.limit = 1
    first.query()
    assert len(list(first)) == 1


def test_many_are_changed_and_deleted_through_the_batch_api(client: ServiceNowClient) -> None:
    """The client sends its own batches and reads their answers."""
    for _ in range(5):
        an_incident(client, subcategory="swept")
    many = client.GlideRecord("incident")
    many.add_query("subcategory", "swept")
    many.query()
    for row in many:
        row.set_value("description", "by batch")
    many.rewind()
    assert many.update_multiple()
    changed = client.GlideRecord("incident")
    changed.add_query("description", "by batch")
    changed.query()
    assert len(changed) == 5
    assert changed.delete_multiple()
    gone = client.GlideRecord("incident")
    gone.add_query("subcategory", "swept")
    gone.query()
    assert len(gone) == 0


def test_a_file_is_attached_and_read(client: ServiceNowClient) -> None:
    """The upload answers a Location, the listing a total."""
    record = an_incident(client)
    where = client.Attachment("incident").add_attachment(str(record.sys_id), "trace.txt", BytesIO(b"beeps"), "text/plain")
    assert where.startswith("http") and len(where.rpartition("/")[2]) == 32
    files = client.Attachment("incident")
    files.add_query("table_sys_id", str(record.sys_id))
    files.query()
    assert files.next()
    assert (files.file_name, files.read()) == ("trace.txt", b"beeps")


def test_what_is_not_there_is_not_found(client: ServiceNowClient) -> None:
    """The client's own way to say so."""
    record = client.GlideRecord("incident")
    assert record.get("0" * 32) is False
    assert record.get("number", "INC9999999") is False


def test_a_deleted_record_is_gone(client: ServiceNowClient) -> None:
    """204, and then not found."""
    record = an_incident(client)
    assert record.delete()
    assert client.GlideRecord("incident").get(str(record.sys_id)) is False


def test_wrong_credentials_are_its_authentication_error(sandbox: SandboxProcess) -> None:
    """401 in the envelope it reads."""
    stranger = logged_in(sandbox, "wrong")
    with pytest.raises(AuthenticationException, match="User Not Authenticated"):
        stranger.GlideRecord("incident").get("0" * 32)


def test_a_refused_write_is_its_role_error(sandbox: SandboxProcess) -> None:
    """A move the state model does not know, made with a token of ours: 403."""
    token = requests.post(
        f"{sandbox.base_url}/oauth_token.do", data={"grant_type": "client_credentials", **sandbox.credentials["auth"]}, timeout=5
    ).json()["access_token"]
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {token}"
    session.mount(INSTANCE, ToSandbox(sandbox.base_url))
    ours = ServiceNowClient(INSTANCE, session, auto_retry=False)
    record = an_incident(ours)
    record.set_value("state", "7")
    with pytest.raises((RoleException, UpdateException)):
        record.update()
