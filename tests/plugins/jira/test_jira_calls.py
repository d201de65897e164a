"""Jira's calls, against its sandbox over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from plugins.api import (
    CredentialsRefused,
    NewNote,
    Priority,
    RateLimited,
    RetriableApiError,
    TicketChanges,
    TicketingToolPlugin,
    TicketStatus,
    TornAnswer,
    ValidationRefused,
)
from plugins.conformance.builders import a_ticket
from plugins.conformance.pytest_plugin import ConformanceSuite
from plugins.http.client import ApiClient
from plugins.http.errors import Answer
from plugins.jira.api_client import jira_error_for
from plugins.jira.plugin import JiraPlugin
from plugins.marker import note_marker
from plugins.registry import PluginRegistry
from plugins.sandbox.server import SandboxProcess
from schemas.ids import new_event_id


class TestJira(ConformanceSuite):
    tool_type = "jira"

    @pytest.fixture
    async def person(self, sandbox: SandboxProcess) -> AsyncIterator[httpx.AsyncClient]:
        """Somebody who looks into the tool with an account of their own."""
        async with httpx.AsyncClient(base_url=sandbox.base_url, headers=sandbox.credentials["person"]["headers"]) as client:
            yield client

    async def test_a_status_without_a_way_is_reported_before_anything_is_written(
        self, plugin: TicketingToolPlugin, sandbox: SandboxProcess
    ) -> None:
        """A workflow may forbid the move; trying again and again would not help, and half an update would mislead."""
        ref = await plugin.create_ticket(a_ticket())
        await plugin.update_ticket(ref.ticket_id, TicketChanges(event_id=new_event_id(), status=TicketStatus.CLOSED))
        seen = len(sandbox.ledger())
        with pytest.raises(ValidationRefused, match=r"no transition leads .* to pending.*Open"):
            await plugin.update_ticket(
                ref.ticket_id, TicketChanges(event_id=new_event_id(), status=TicketStatus.PENDING, subject="half done")
            )
        assert sandbox.ledger(seen) == []

    @pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"reset": True, "when": "before"}])
    async def test_an_edit_cut_off_from_its_transition_is_completed_and_not_repeated(
        self, plugin: TicketingToolPlugin, sandbox: SandboxProcess, fault: dict[str, Any]
    ) -> None:
        """Fields and status are two calls in Jira: half an update must not count as one, nor be told to people twice."""
        ref = await plugin.create_ticket(a_ticket())
        seen = len(sandbox.ledger())
        changes = TicketChanges(event_id=new_event_id(), subject="solved", status=TicketStatus.RESOLVED)
        sandbox.fault(**fault, method="POST", path=f"/rest/api/3/issue/{ref.ticket_id}/transitions")
        with pytest.raises(RetriableApiError):
            await plugin.update_ticket(ref.ticket_id, changes)
        assert not await plugin.has_update(ref.ticket_id, changes.event_id)
        await plugin.update_ticket(ref.ticket_id, changes)
        assert await plugin.has_update(ref.ticket_id, changes.event_id)
        metadata = await plugin.get_ticket(ref.ticket_id)
        assert (metadata.subject, metadata.status) == ("solved", TicketStatus.RESOLVED)
        assert [row["marker"] for row in sandbox.ledger(seen)] == [f"{changes.event_id}/fields", changes.event_id]

    async def test_a_tenants_status_name_is_the_one_gone_to(self, sandbox: SandboxProcess) -> None:
        """Where two statuses mean the same, the tenant says which."""
        client = ApiClient()
        plugin = self.bound(sandbox, client, status_names={"resolved": "Closed"})
        ref = await plugin.create_ticket(a_ticket())
        await plugin.update_ticket(ref.ticket_id, TicketChanges(event_id=new_event_id(), status=TicketStatus.RESOLVED))
        assert (await plugin.get_ticket(ref.ticket_id)).status is TicketStatus.CLOSED
        await client.aclose()

    async def test_notes_are_internal_unless_public(self, plugin: TicketingToolPlugin, person: httpx.AsyncClient) -> None:
        """A service desk shows comments to the customer unless told otherwise."""
        ref = await plugin.create_ticket(a_ticket())
        for public in (False, True):
            await plugin.add_note(ref.ticket_id, NewNote(text="x", marker=note_marker(new_event_id(), 1), public=public))
        answer = await person.get(f"/rest/api/3/issue/{ref.ticket_id}/comment")
        assert [comment["jsdPublic"] for comment in answer.json()["comments"]] == [False, True]

    async def test_an_odd_subject_still_makes_an_issue(self, plugin: TicketingToolPlugin) -> None:
        """Jira refuses summaries that are empty, long or of two lines; other tools do not."""
        for subject, summary in (("", "(no subject)"), ("a\r\n b", "a b"), ("x" * 400, "x" * 255)):
            ref = await plugin.create_ticket(a_ticket(subject=subject, description="", tags=("two words", "", "two words")))
            metadata = await plugin.get_ticket(ref.ticket_id)
            assert metadata.subject == summary
            assert metadata.tags[1:] == ("two_words",)

    async def test_a_search_as_nobody_is_not_an_answer(self, sandbox: SandboxProcess) -> None:
        """Cloud lets a wrong token search as nobody: 200 and nothing found, which would make a second issue."""
        assert httpx.get(f"{sandbox.base_url}/rest/api/3/search/jql", params={"jql": 'labels = "x"'}).json()["issues"] == []
        client = ApiClient()
        plugin = self.bound(sandbox, client, auth={"email": "bridge@harbour.example", "api_token": "old"})
        with pytest.raises(CredentialsRefused):
            await plugin.find_by_external_id("x")
        await client.aclose()

    async def test_a_search_goes_on_over_pages(self, plugin: TicketingToolPlugin, person: httpx.AsyncClient) -> None:
        """There is no total, and the token alone says that more is to come."""
        for _ in range(3):
            await plugin.create_ticket(a_ticket(tags=("paged",)))
        found, token, pages = [], "", 0
        while True:
            params: dict[str, Any] = {"jql": 'labels = "paged" ORDER BY created', "maxResults": 2}
            answer = (await person.get("/rest/api/3/search/jql", params=params | ({"nextPageToken": token} if token else {}))).json()
            found += [issue["id"] for issue in answer["issues"]]
            pages += 1
            if answer["isLast"]:
                break
            token = answer["nextPageToken"]
        assert (len(set(found)), pages) == (3, 2)
        assert (await person.get("/rest/api/3/search/jql", params={"jql": "order by created"})).status_code == 400

    async def test_an_unset_project_is_told(self, sandbox: SandboxProcess) -> None:
        """A tool used only as a source needs none; one that is written to does."""
        client = ApiClient()
        with pytest.raises(ValidationRefused, match="project"):
            await self.bound(sandbox, client, project=None).create_ticket(a_ticket())
        await client.aclose()

    async def test_an_issue_is_read_by_its_key_too(self, plugin: TicketingToolPlugin) -> None:
        """People write keys; ids are what stays."""
        ref = await plugin.create_ticket(a_ticket(priority=Priority.UNKNOWN))
        assert ref.url is not None
        key = ref.url.rpartition("/")[2]
        results = [result async for result in plugin.get_ticket_batch([key.lower()])]
        assert results[0].ticket is not None and results[0].ticket.ticket_id == ref.ticket_id


def an_answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(method="POST", path="/rest/api/3/issue", status=status, headers={"content-type": "application/json", **named}, body=body)


def test_the_limit_that_was_hit_is_named_and_waited_for() -> None:
    """Cloud has three limits, told apart by a header; without Retry-After the reset time says how long."""
    error = jira_error_for(an_answer(429, ratelimit_reason="jira-burst-based", x_ratelimit_reset="2999-01-01T00:00Z"))
    assert isinstance(error, RateLimited)
    assert "jira-burst-based" in str(error)
    assert error.retry_after == 3600.0
    assert isinstance(past := jira_error_for(an_answer(429, x_ratelimit_reset="2001-01-01T00:00Z")), RateLimited)
    assert past.retry_after == 0.0


def test_refused_fields_are_named_and_their_texts_are_not() -> None:
    """Jira's messages may quote the ticket; a log must not."""
    error = jira_error_for(an_answer(400, b'{"errorMessages": [], "errors": {"priority": "Mrs. Secret wants it", "summary": "x"}}'))
    assert isinstance(error, ValidationRefused)
    assert "fields: priority, summary" in str(error)
    assert "Secret" not in str(error)


def test_a_login_page_under_status_200_is_no_answer() -> None:
    """A proxy in front of the site answers everything, kindly and in HTML."""
    page = Answer(method="POST", path="/x", status=200, headers={"content-type": "text/html"}, body=b"<html>Log in</html>")
    error = jira_error_for(page)
    assert isinstance(error, TornAnswer)
    assert error.in_doubt


def test_the_manifest_tells_what_the_plugin_is() -> None:
    """Listings are read from the manifest alone; it must not drift from the code."""
    manifest = PluginRegistry.discover().manifest("jira")
    assert (manifest.version, manifest.settings["search_lag"].default) == (JiraPlugin.version, JiraPlugin.search_lag)
    assert all(callable(getattr(JiraPlugin, method)) for method in manifest.methods)


def test_the_readme_names_every_setting() -> None:
    """Who connects the tool reads that page, not the manifest."""
    page = (Path(str(files("plugins.jira"))) / "README.md").read_text(encoding="utf-8")
    assert [name for name in PluginRegistry.discover().manifest("jira").settings if f"`{name}`" not in page] == []
