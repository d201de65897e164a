"""The `jira` library, a client nobody here wrote, against the sandboxes: Cloud with an API token, Data Center with a personal one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from jira import JIRA, Issue
from jira.exceptions import JIRAError

from plugins.sandbox.server import SandboxProcess


@pytest.fixture(scope="module", params=["jira", "plugins.jira.sandbox:DataCenterSandbox"], ids=["cloud", "data_center"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[SandboxProcess]:
    with SandboxProcess(request.param) as sandbox:
        yield sandbox


def connect(sandbox: SandboxProcess, **changed: Any) -> JIRA:
    auth = sandbox.credentials["auth"]
    if "personal_token" in auth:
        login: dict[str, Any] = {"token_auth": auth["personal_token"]}
    else:
        login = {"basic_auth": (auth["email"], auth["api_token"])}
    return JIRA(sandbox.base_url, **{**login, "max_retries": 0, **changed})


@pytest.fixture(scope="module")
def client(sandbox: SandboxProcess) -> JIRA:
    return connect(sandbox)


def found(client: JIRA, jql: str, **options: Any) -> list[Issue]:
    """Cloud's search is by token, Data Center's by start; the library asks the site which it is."""
    search = client.enhanced_search_issues if client._is_cloud else client.search_issues
    return list(search(jql, **options))


FIELDS = {"project": {"key": "OPS"}, "issuetype": {"name": "Incident"}, "summary": "Crane 4", "description": "No *power*"}


def test_it_logs_in_and_knows_the_site(client: JIRA, sandbox: SandboxProcess) -> None:
    """Who we are, as webhooks name it, and what the site is."""
    me = client.myself()
    assert me.get("accountId", me.get("name")) == sandbox.credentials["actor"]
    cloud = "deployment" not in sandbox.credentials
    assert (client.server_info()["deploymentType"], client._is_cloud) == (("Cloud", True) if cloud else ("Server", False))
    assert "Cost centre" in [field["name"] for field in client.fields()]
    assert {project.key for project in client.projects()} == {"OPS", "ITSM"}
    assert client.project("OPS").id


def test_wrong_credentials_are_its_own_401(sandbox: SandboxProcess) -> None:
    """The library's error carries the status and Jira's own text."""
    wrong = {"basic_auth": ("bridge@harbour.example", "wrong")} if "deployment" not in sandbox.credentials else {"token_auth": "wrong"}
    with pytest.raises(JIRAError) as caught:
        connect(sandbox, **wrong, get_server_info=False).myself()
    assert caught.value.status_code == 401
    assert "authenticated" in caught.value.text


def test_an_issue_is_created_read_changed_and_deleted(client: JIRA) -> None:
    """With labels, an option and a comment; wiki text comes back as it went."""
    issue = client.create_issue(fields={**FIELDS, "labels": ["crane"], "customfield_10050": {"value": "Quay 1"}})
    assert (issue.fields.summary, issue.fields.status.name, issue.fields.priority.name) == ("Crane 4", "Open", "Medium")
    assert issue.fields.description == "No *power*"
    assert issue.fields.customfield_10050.value == "Quay 1"
    issue.update(summary="Crane 4 stands still", priority={"name": "High"})
    assert client.issue(issue.key).fields.priority.name == "High"
    issue.add_field_value("labels", "quay")
    assert client.issue(issue.id).fields.labels == ["crane", "quay"]
    comment = client.add_comment(issue, "On _our_ way")
    assert client.comment(issue, comment.id).body == "On _our_ way"
    assert [c.body for c in client.comments(issue)] == ["On _our_ way"]
    issue.delete()
    with pytest.raises(JIRAError) as caught:
        client.issue(issue.key)
    assert caught.value.status_code == 404
    assert "does not exist" in caught.value.text


def test_a_transition_is_found_by_its_name(client: JIRA) -> None:
    """Ids differ by workflow: names are what a person knows; the history tells who moved it."""
    issue = client.create_issue(fields=FIELDS)
    assert {way["to"]["name"] for way in client.transitions(issue)} == {"In progress", "Pending", "Resolved", "Closed"}
    client.transition_issue(issue, "To Resolved")
    moved = client.issue(issue.id, expand="changelog")
    assert (moved.fields.status.name, moved.fields.resolution.name) == ("Resolved", "Done")
    assert moved.changelog.histories[-1].items[-1].toString == "Resolved"
    with pytest.raises(JIRAError, match="Invalid transition"):
        client.transition_issue(issue, "To Nowhere")


def test_a_search_goes_over_every_page(client: JIRA) -> None:
    """More than one page, each issue once, by whichever way the site has."""
    made = {client.create_issue(fields={**FIELDS, "labels": ["paged"]}, prefetch=False).key for _ in range(7)}
    assert {issue.key for issue in found(client, "labels = paged", maxResults=0)} == made
    if client._is_cloud:
        page = client.enhanced_search_issues("labels = paged", maxResults=3)
        assert (len(page), bool(page.nextPageToken)) == (3, True)
    else:
        page = client.search_issues("labels = paged", startAt=5, maxResults=3)
        assert (len(page), page.total) == (2, 7)
    with pytest.raises(JIRAError) as caught:
        found(client, "nonsense here")
    assert caught.value.status_code == 400


def test_files_go_up_and_come_down(client: JIRA) -> None:
    """The upload needs Atlassian's own header; Cloud's download is redirected."""
    issue = client.create_issue(fields=FIELDS)
    made = client.add_attachment(issue, io.BytesIO(b"line 1\nline 2\n"), filename="crane.log")
    assert (made.filename, made.size) == ("crane.log", 14)
    (file,) = client.issue(issue.id).fields.attachment
    assert file.get() == b"line 1\nline 2\n"


def test_refused_fields_are_named(client: JIRA) -> None:
    """A 400 tells which field, for people to mend."""
    with pytest.raises(JIRAError) as caught:
        client.create_issue(fields={**FIELDS, "customfield_1": "x"})
    assert caught.value.status_code == 400
    assert "customfield_1" in caught.value.text


def test_the_service_desk_takes_a_request(client: JIRA) -> None:
    """Desks, request types and a request, by the library's own calls."""
    desk = next(desk for desk in client.service_desks() if desk.projectKey == "OPS")
    kind = next(kind for kind in client.request_types(desk) if kind.name == "Report an incident")
    asked = {"serviceDeskId": desk.id, "requestTypeId": kind.name, "requestFieldValues": {"summary": "Crane 5", "description": "smoke"}}
    assert client.create_customer_request(fields=asked).fields.summary == "Crane 5"
