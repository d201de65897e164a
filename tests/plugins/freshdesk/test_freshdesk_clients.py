"""Clients nobody here wrote, against our sandbox: what they read of a real Freshdesk, they must read of it too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.sandbox.process import SandboxProcess

freshdesk = pytest.importorskip("freshdesk.v2.api", reason="python-freshdesk is not installed")
errors = pytest.importorskip("freshdesk.v2.errors")
freshpy = pytest.importorskip("freshpy", reason="freshpy is not installed")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess("freshdesk") as process:
        yield process


def an_api(sandbox: SandboxProcess, key: str | None = None) -> Any:
    """python-freshdesk takes *.freshdesk.com over HTTPS only: its address alone is put in place afterwards."""
    api = freshdesk.API("lumen.freshdesk.com", key or sandbox.credentials["auth"]["api_key"])
    api._api_prefix = f"{sandbox.base_url}/api/v2/"
    return api


@pytest.fixture
def api(sandbox: SandboxProcess) -> Any:
    return an_api(sandbox)


def test_it_logs_in(api: Any, sandbox: SandboxProcess) -> None:
    """Each model wants timestamps, the agent's contact too."""
    me = api.agents.currently_authenticated_agent()
    assert (me.id, str(me)) == (5001, "Integration")
    assert [agent.id for agent in api.agents.list_agents()] == [5001, 5002]
    assert api.agents.get_agent(5002).contact["email"] == "ada@desk.example"
    with pytest.raises(errors.FreshdeskUnauthorized, match="You have to be logged in"):
        an_api(sandbox, "wrong").agents.currently_authenticated_agent()


def test_it_makes_reads_and_changes_a_ticket(api: Any) -> None:
    """Its words are its own: priority and status by number in, by name out."""
    made = api.tickets.create_ticket("No light", email="cora@customer.example", description="dark", tags=["lamp"], product_id=8002)
    assert (made.status, made.priority, made.source) == ("open", "low", "portal")
    ticket = api.tickets.get_ticket(made.id, "stats", "requester")
    assert (str(ticket), ticket.description_text, ticket.tags) == ("No light", "dark", ["lamp"])
    assert ticket.requester["email"] == "cora@customer.example" and ticket.stats["resolved_at"] is None
    assert ticket.created_at.tzinfo is not None
    changed = api.tickets.update_ticket(made.id, status=4, priority=4, custom_fields={"cf_serial_number": "L-1"})
    assert (changed.status, changed.priority, changed.custom_fields["cf_serial_number"]) == ("resolved", "urgent", "L-1")


def test_it_takes_files_along(api: Any, tmp_path: Path) -> None:
    """A ticket with a file is a form, not JSON."""
    file = tmp_path / "lamp.txt"
    file.write_bytes(b"dark\r\n")
    ticket = api.tickets.create_ticket(
        "With a file",
        email="cora@customer.example",
        description="see",
        tags=["a", "b"],
        custom_fields={"cf_floor": 3},
        attachments=[str(file)],
    )
    assert [attachment["name"] for attachment in ticket.attachments] == ["lamp.txt"]
    assert (ticket.tags, ticket.custom_fields["cf_floor"]) == (["a", "b"], 3)


def test_it_talks_on_a_ticket(api: Any) -> None:
    """Notes are private unless told otherwise; a reply is a reply."""
    ticket = api.tickets.create_ticket("Talk", email="cora@customer.example", description="x")
    note = api.comments.create_note(ticket.id, "for us")
    reply = api.comments.create_reply(ticket.id, "<b>for you</b>")
    assert (note.private, note.source, reply.private, reply.source, str(reply)) == (True, "note", False, "reply", "for you")
    assert [comment.id for comment in api.comments.list_comments(ticket.id, per_page=1)] == [note.id, reply.id]


def test_it_lists_over_pages_filters_and_deletes(api: Any) -> None:
    """It reads pages until one is short."""
    for number in range(7):
        api.tickets.create_ticket(f"Page {number}", email="pages@customer.example", description="x", priority=3, tags=["paged"])
    everything = api.tickets.list_tickets(filter_name=None, per_page=3, email="pages@customer.example")
    assert len(everything) == 7
    assert len(api.tickets.list_tickets(filter_name=None, page=3, per_page=3, email="pages@customer.example")) == 1
    assert len(api.tickets.filter_tickets("tag:'paged' AND priority:3")) == 7
    assert api.tickets.filter_tickets("tag:'paged' AND (priority:1 OR status:5)") == []
    with pytest.raises(errors.FreshdeskBadRequest, match="Validation failed"):
        api.tickets.filter_tickets("tag:'paged' AND AND")
    gone = everything[0].id
    api.tickets.delete_ticket(gone)
    assert gone in [ticket.id for ticket in api.tickets.list_deleted_tickets()]
    assert gone not in [ticket.id for ticket in api.tickets.list_new_and_my_open_tickets()]


def test_it_meets_its_own_errors(api: Any, sandbox: SandboxProcess) -> None:
    """404 without a body, 400 with fields, 403, 429 with its wait, and a server's fault."""
    with pytest.raises(errors.FreshdeskNotFound):
        api.tickets.get_ticket(99999999)
    with pytest.raises(errors.FreshdeskBadRequest, match="missing_field"):
        api.tickets.create_ticket("No requester", description="x")
    with pytest.raises(errors.FreshdeskBadRequest, match="There is no product matching"):
        api.tickets.create_ticket("No such brand", email="cora@customer.example", description="x", product_id=1)
    for status, kind in ((403, errors.FreshdeskAccessDenied), (429, errors.FreshdeskRateLimited), (503, errors.FreshdeskServerError)):
        sandbox.fault(status=status)
        with pytest.raises(kind):
            api.tickets.get_ticket(1)


def test_it_keeps_contacts_and_companies(api: Any) -> None:
    """Made, read, changed, filtered, deleted and restored."""
    company = api.companies.create_company(name="Glass Inc.", domains=["glass.example"])
    contact = api.contacts.create_contact(name="Gerd", email="gerd@glass.example", company_id=company.id)
    assert api.contacts.get_contact(contact.id).company_id == company.id
    assert api.contacts.update_contact(contact.id, job_title="Cutter").job_title == "Cutter"
    assert [c.id for c in api.contacts.list_contacts(email="gerd@glass.example")] == [contact.id]
    assert [c.id for c in api.contacts.filter_contacts("email:'gerd@glass.example'")] == [contact.id]
    api.contacts.soft_delete_contact(contact.id)
    assert api.contacts.list_contacts(email="gerd@glass.example") == []
    api.contacts.restore_contact(contact.id)
    assert str(api.companies.get_company(company.id)) == "Glass Inc."
    assert api.companies.update_company(company.id, note="fragile").note == "fragile"
    assert [c.name for c in api.companies.filter_companies("domains:'glass.example'")] == ["Glass Inc."]
    with pytest.raises(errors.FreshdeskError):
        api.companies.create_company(name="glass inc.")
    api.companies.delete_company(company.id)
    with pytest.raises(errors.FreshdeskNotFound):
        api.companies.get_company(company.id)


def test_it_reads_the_account(api: Any) -> None:
    """Fields and groups, with their timestamps."""
    assert "cf_external_id" in [str(field) for field in api.ticket_fields.list_ticket_fields()]
    (status,) = api.ticket_fields.list_ticket_fields(type="default_status")
    assert status.choices["2"][0] == "Open"
    assert str(api.groups.get_group(6001)) == "First line" and len(api.groups.list_groups()) == 1


def test_another_client_reads_it_too(sandbox: SandboxProcess) -> None:
    """freshpy was written for the sister product; what both have alike, it reads."""
    client = freshpy.FreshPy(sandbox.base_url, sandbox.credentials["auth"]["api_key"])
    number = sandbox.person_creates(subject="Seen by freshpy", priority="high")
    assert client.tickets.get_ticket(number)["subject"] == "Seen by freshpy"
    assert any(str(ticket["id"]) == number for ticket in client.tickets.get_tickets(per_page=100, page=1))
    assert client.tickets.get_ticket("99999999")["status_code"] == 404
    assert client.agents.get_user_info(5002)["contact"]["name"] == "Ada Agent"
    assert freshpy.FreshPy(sandbox.base_url, "wrong").tickets.get_ticket(number)["code"] == "invalid_credentials"
