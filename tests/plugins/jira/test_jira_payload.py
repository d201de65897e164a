"""What a Jira body says, in canonical words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.api import (
    Delivery,
    NotADelivery,
    PluginConfigError,
    PluginContext,
    Priority,
    TicketChange,
    TicketMetadata,
    TicketStatus,
    TicketType,
)
from plugins.jira.payload import JiraWords, metadata_of_body, metadata_of_issue
from plugins.jira.plugin import JiraPlugin
from plugins.mapping import json_object
from plugins.marker import find_marker

FIXTURES = Path(__file__).parents[3] / "plugins" / "jira" / "fixtures"
WORDS = JiraWords({})
SITE = "https://harbour.atlassian.example"

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no fault of the parser."""


def no_http() -> Any:
    raise AssertionError("a pure method asked for the network")


PLUGIN = JiraPlugin(PluginContext(tenant="acme", tool="jira", settings={}, secrets=lambda reference: [], http=no_http))


def a_delivery(body: bytes) -> Delivery:
    return Delivery(tenant="acme", tool="jira", body=body, headers={})


def read(body: bytes, words: JiraWords | None = None) -> TicketMetadata:
    return PLUGIN.extract_metadata(a_delivery(body)) if words is None else metadata_of_body("acme", json_object(body), words)


def ticket_id_of(body: bytes) -> str | None:
    return PLUGIN.ticket_key(a_delivery(body))


def fixture(name: str) -> bytes:
    return (FIXTURES / f"{name}.json").read_bytes()


def changed(name: str, **fields: Any) -> bytes:
    body = json.loads(fixture(name))
    body["issue"]["fields"].update(fields)
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("name", "ticket_id", "change", "status", "priority", "fields"),
    [
        ("issue_created", "31744", "created", "open", "high", ("subject", "status")),
        ("issue_updated_priority", "31744", "updated", "open", "urgent", ("priority", "assignee")),
        ("issue_updated_resolved", "31744", "resolved", "resolved", "high", ("resolution", "status")),
        ("issue_updated_empty_changelog", "31744", "updated", "open", "high", None),
        ("issue_deleted", "31744", "deleted", "open", "high", None),
        ("comment_created", "31744", "commented", "open", "high", None),
        ("comment_deleted", "31744", "updated", "open", "high", None),
        ("comment_created_data_center", "20817", "commented", "unknown", "unknown", None),
        ("issue_updated_commented_data_center", "20817", "commented", "open", "unknown", None),
        ("issue_updated_data_center", "20817", "updated", "open", "unknown", ("berth number", "tags")),
        ("automation_issue", "31744", "unknown", "open", "high", None),
    ],
)
def test_each_kind_of_event_is_told_apart(
    name: str, ticket_id: str, change: str, status: str, priority: str, fields: tuple[str, ...] | None
) -> None:
    """Jira has one update event for edits, transitions and comments: rules rely on us to tell which it was."""
    metadata = read(fixture(name))
    assert (metadata.ticket_id, metadata.change, metadata.status, metadata.priority) == (ticket_id, change, status, priority)
    assert metadata.extra.get("changed") == fields
    assert ticket_id_of(fixture(name)) == ticket_id


def test_an_issue_is_read_whole() -> None:
    """Every canonical field a rule may ask for is filled where Jira tells it."""
    metadata = read(fixture("issue_created"))
    assert metadata == TicketMetadata(
        tenant_id="acme",
        ticket_id="31744",
        type=TicketType.INCIDENT,
        priority=Priority.HIGH,
        status=TicketStatus.OPEN,
        change=TicketChange.CREATED,
        subject="Crane 4 terminal shows no berth plan",
        description="The terminal shows *no plan*.\n\nSince 06:10.",
        requester="qm:77c1-customer",
        actor="qm:77c1-customer",
        tags=("crane", "berth-4"),
        custom_fields={"customfield_10050": {"id": "10021", "value": "Terminal B"}, "customfield_10052": 3.5},
        created_at=1772450049120000,
        updated_at=1772450049120000,
        url=f"{SITE}/browse/OPS-218",
        extra={"changed": ("subject", "status"), "key": "OPS-218", "project": "OPS"},
    )


def test_a_comment_brings_its_text_its_marker_and_its_author() -> None:
    """An echo of our own note is told by these alone."""
    metadata = read(fixture("comment_created"))
    assert metadata.actor == "712020:4f1e-agent"
    assert metadata.extra["comment_public"] is False
    assert find_marker(metadata.extra["comment"]) == ("0195f00d-7a11-7c3e-9d6f-1f2e3d4c5b6a", 1)


def test_rich_text_is_read_from_both_of_jiras_forms() -> None:
    """Webhooks carry wiki text today, REST v3 ADF, and a site may change over."""
    assert read(fixture("issue_created_adf")).description.split() == ["The", "terminal", "shows", "no", "plan", "-", "since", "06:10"]


def test_times_with_offsets_without_a_colon_become_utc() -> None:
    """Jira writes -0500; a reader of plain ISO 8601 would lose the offset or fail."""
    assert read(changed("issue_created", created="2026-03-02T06:14:09.120-0500")).created_at == 1772450049120000
    assert read(changed("issue_created", created="2026-03-02T19:14:09.120+0800")).created_at == 1772450049120000


def test_a_body_without_an_update_time_takes_the_events() -> None:
    """Comment events show a short issue; links compare updated_at all the same."""
    assert read(fixture("comment_created")).updated_at == 1772451612080000


@pytest.mark.parametrize(
    ("name", "category", "status"),
    [
        ("Waiting for customer", "indeterminate", "pending"),
        ("In Progress", "indeterminate", "open"),
        ("Im Hafenlager", "indeterminate", "open"),
        ("Waiting for the tide", "indeterminate", "pending"),
        ("To Do", "new", "new"),
        ("Open", "new", "open"),
        ("Erledigt", "done", "resolved"),
        ("Closed by harbour master", "done", "closed"),
        ("Declined", "done", "closed"),
        ("Irgendwas", "undefined", "open"),
        ("Irgendwas", "DONE", "resolved"),
        ("Irgendwas", "?", "unknown"),
    ],
)
def test_a_status_is_read_by_name_then_by_category(name: str, category: str, status: str) -> None:
    """Names are translated and edited by admins; the category is the truth that stays."""
    assert WORDS.status({"name": name, "statusCategory": {"key": category}}) == status


def test_words_nobody_knows_are_unknown_and_shown() -> None:
    """A new word must neither stop the stream nor vanish: it is kept to be counted."""
    metadata = read(changed("issue_created", priority={"name": "Sturmwarnung"}, issuetype={"name": "Epic"}, status={"name": "?"}))
    assert (metadata.priority, metadata.type, metadata.status) == ("unknown", "unknown", "unknown")
    assert metadata.extra["unknown"] == {"priority": "Sturmwarnung", "type": "Epic", "status": "?"}


def test_a_tenants_words_come_first() -> None:
    """A site that renamed its priorities is served without code."""
    words = JiraWords({"words": {"priority": {"Sturmwarnung": "urgent", "High": "low"}}, "default_priority": "medium"})
    assert read(changed("issue_created", priority={"name": "sturmwarnung"}), words).priority is Priority.URGENT
    assert read(changed("issue_created", priority={"name": "High"}), words).priority is Priority.LOW
    assert read(changed("issue_created", priority=None), words).priority is Priority.MEDIUM


def test_a_wrong_word_map_is_a_config_error() -> None:
    """A typing error in the settings is told at once, not found in the tables later."""
    with pytest.raises(PluginConfigError, match="priority"):
        JiraWords({"words": {"priority": {"High": "higher"}}})
    with pytest.raises(PluginConfigError, match="default_priority"):
        JiraWords({"default_priority": "higher"})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 5000, b'{"issue": {"id": ""}}', b'{"issue": 7}'])
def test_what_holds_no_issue_is_no_delivery(body: bytes) -> None:
    """Such a body becomes a dead letter with its reason; nothing else may come out of the parser."""
    assert ticket_id_of(body) is None
    with pytest.raises(NotADelivery):
        read(body)


def test_another_objects_event_says_which_events_to_subscribe_to() -> None:
    """The commonest mistake in the webhook's form is to tick too many boxes."""
    with pytest.raises(NotADelivery, match=r"sprint_started.*issue and comment events"):
        read(fixture("sprint_started"))


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
names = st.sampled_from(
    [
        "issue", "id", "key", "self", "fields", "comment", "author", "body", "user", "accountId", "name", "changelog", "items", "field",
        "fieldId", "webhookEvent", "issue_event_type_name", "priority", "status", "statusCategory", "issuetype", "labels", "created",
        "updated", "timestamp", "reporter", "description", "type", "content", "text", "worklog", "issueId", "resolution", "jsdPublic",
    ]
) | st.text(max_size=4)  # fmt: skip
values = st.recursive(
    scalars | st.sampled_from(["jira:issue_updated", "comment_created", "doc", "paragraph", "done", "31744", "/issue/9/comment/8"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
    max_leaves=24,
)


near_misses = st.fixed_dictionaries(
    {
        "issue": st.fixed_dictionaries({"id": st.just("7"), "fields": values}),
        "webhookEvent": st.sampled_from(["jira:issue_updated", "jira:issue_created", "comment_created"]) | scalars,
        "changelog": st.fixed_dictionaries({"items": values}),
        "comment": values,
        "user": values,
    }
)


@unhurried
@given(values | near_misses)
def test_any_json_is_metadata_or_no_delivery(value: Any) -> None:
    """Nothing raises out of the parser but NotADelivery, and the topic key is the ticket's id whenever there is one."""
    body = msgspec.json.encode(value)
    try:
        metadata = read(body)
    except NotADelivery:
        assert ticket_id_of(body) is None
    else:
        assert ticket_id_of(body) == metadata.ticket_id
        hash((metadata.change, metadata.priority, metadata.status, metadata.actor, metadata.tags, metadata.extra.get("changed")))


@unhurried
@given(st.binary(max_size=64))
def test_any_bytes_are_metadata_or_no_delivery(body: bytes) -> None:
    """A signed body of noise is a dead letter, not a crash."""
    ticket_id_of(body)
    with pytest.raises(NotADelivery):
        read(body)


def test_a_rest_answer_is_read_like_a_webhook() -> None:
    """get_ticket and a webhook of the same issue must agree."""
    issue = json.loads(fixture("automation_issue"))
    metadata = metadata_of_issue("acme", issue, WORDS, SITE)
    assert (metadata.ticket_id, metadata.subject, metadata.url) == ("31744", issue["fields"]["summary"], f"{SITE}/browse/OPS-218")
    with pytest.raises(NotADelivery):
        metadata_of_issue("acme", {"fields": {}}, WORDS)


def test_a_rules_own_body_is_read_by_usual_names_or_the_tenants_paths() -> None:
    """Automation rules send what their author typed; a posted issue and Jira's own webhooks are not touched by the paths."""
    usual = read(fixture("automation_custom"))
    assert (usual.ticket_id, usual.change, usual.status, usual.tags) == (
        "31744",
        TicketChange.COMMENTED,
        TicketStatus.OPEN,
        ("crane", "berth-4"),
    )
    assert (usual.actor, usual.extra["comment_public"], usual.extra["key"]) == ("712020:4f1e-agent", False, "OPS-218")
    settings = {"webhook": {"fields": {"ticket_id": "$.what.number", "subject": "$.what.title"}}}
    own = JiraPlugin(PluginContext(tenant="acme", tool="jira", settings=settings, secrets=lambda reference: [], http=no_http))
    for name, ticket_id in (("automation_own_shape", "31750"), ("issue_created", "31744"), ("automation_issue", "31744")):
        assert own.extract_metadata(a_delivery(fixture(name))).ticket_id == own.ticket_key(a_delivery(fixture(name))) == ticket_id
    with pytest.raises(NotADelivery, match=r"webhook\.fields\.ticket_id"):
        own.extract_metadata(a_delivery(b'{"summary": "x"}'))
    strange = read(b'{"issue_key": "OPS-9", "status": "Parked", "priority": "Sev9"}')
    assert (strange.ticket_id, strange.extra["unknown"]) == ("OPS-9", {"priority": "Sev9", "status": "Parked"})


REFERENCE = os.environ.get("AI_AGENTS_REFERENCE")


@pytest.mark.skipif(REFERENCE is None, reason="AI_AGENTS_REFERENCE names no folder of recorded payloads")
def test_recorded_webhooks_are_read() -> None:
    """Bodies recorded from real Cloud and Server sites: each names its issue, and none has a change we do not know."""
    bodies = sorted((Path(str(REFERENCE)) / "payloads" / "jira").glob("*webhook*.json"))
    assert len(bodies) > 30
    seen = set()
    for path in bodies:
        metadata = read(path.read_bytes())
        assert metadata.ticket_id.isdigit(), path.name
        assert metadata.subject, path.name
        assert metadata.change is not TicketChange.UNKNOWN, path.name
        assert metadata.status is not TicketStatus.UNKNOWN, path.name
        assert metadata.actor, path.name
        assert metadata.updated_at, path.name
        assert ticket_id_of(path.read_bytes()) == metadata.ticket_id
        seen.add(metadata.change)
    assert seen == {TicketChange.CREATED, TicketChange.UPDATED, TicketChange.COMMENTED, TicketChange.RESOLVED, TicketChange.DELETED}
