"""How Freshservice's deliveries are verified, recognised when they come again, and known as our own."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from plugins.api import Delivery, PluginConfigError, PluginContext, SignatureMismatch, SignatureMissing
from plugins.freshservice.plugin import FreshservicePlugin


def a_plugin(secrets: list[bytes] | None = None, **settings: Any) -> FreshservicePlugin:
    def no_http() -> Any:
        raise AssertionError("verification makes no calls")

    given = {"webhook": {"secret": "${secret:hook}"}, **settings}
    return FreshservicePlugin(
        PluginContext(
            tenant="acme", tool="desk", settings=given, secrets=lambda r: [b"s3cret"] if secrets is None else secrets, http=no_http
        )
    )


def a_delivery(body: bytes = b'{"ticket_id": "1"}', query: str = "", **headers: str) -> Delivery:
    """Headers by name, with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Delivery(tenant="acme", tool="desk", body=body, headers=named, query=query, received_at=1_772_444_405_000_000)


@pytest.mark.parametrize(
    ("webhook", "headers", "query"),
    [
        ({}, {"x_webhook_secret": "s3cret"}, ""),
        ({"header": "X-Our-Key", "prefix": "Token "}, {"x_our_key": "Token s3cret"}, ""),
        ({"scheme": "basic", "user": "fs"}, {"authorization": "Basic " + base64.b64encode(b"fs:s3cret").decode()}, ""),
        ({"scheme": "api_key"}, {"authorization": "s3cret"}, ""),
        ({"scheme": "query"}, {}, "from=fs&key=s3cret"),
        ({"scheme": "query", "parameter": "hook_token"}, {}, "hook_token=s3cret"),
    ],
)
def test_each_way_an_admin_can_authenticate_a_rule_is_checked(webhook: dict[str, str], headers: dict[str, str], query: str) -> None:
    """The automator offers these and no signature."""
    plugin = a_plugin(webhook={"secret": "${secret:hook}", **webhook})
    assert plugin.validate_webhook(a_delivery(b"{}", query, **headers))
    wrong = {name: value + "x" for name, value in headers.items()}
    with pytest.raises(SignatureMismatch):
        plugin.validate_webhook(a_delivery(b"{}", query and query + "x", **wrong))
    with pytest.raises(SignatureMissing):
        plugin.validate_webhook(a_delivery())


def test_a_rotation_accepts_both_secrets_and_an_unset_one_opens_nothing() -> None:
    """The rule is changed by hand, later than our side."""
    plugin = a_plugin([b"new", b"old"])
    assert (
        plugin.validate_webhook(a_delivery(x_webhook_secret="old")).key_id
        != plugin.validate_webhook(a_delivery(x_webhook_secret="new")).key_id
    )
    for nothing in (a_plugin([]), a_plugin([b""]), a_plugin(webhook={})):
        with pytest.raises(PluginConfigError):
            nothing.validate_webhook(a_delivery(x_webhook_secret="anything"))


@pytest.mark.parametrize(
    "settings",
    [
        {"webhook": {"scheme": "hmac"}},
        {"webhook": {"fields": {"no_such": "$.a"}}},
        {"webhook": {"fields": {"ticket_id": "$["}}},
        {"workspace_id": "two"},
        {"workspace_id": True},
        {"status_codes": {"waiting": 7}},
        {"status_codes": {"pending": "seven"}},
        {"priority_codes": 3},
        {"type_names": {"bug": "Incident"}},
        {"default_priority": "middling"},
        {"words": {"status": {"Wartet": "waiting"}}},
    ],
)
def test_settings_that_cannot_work_are_said_when_the_plugin_is_built(settings: dict[str, Any]) -> None:
    """Not on the first delivery, and not on the first call."""
    with pytest.raises(PluginConfigError):
        a_plugin(**settings)


TIMED = b'{"ticket_id": "7", "updated_at": "2026-03-02T09:40:05Z"}'


def test_a_repeat_is_known_by_its_bytes_where_they_hold_the_time_of_the_change() -> None:
    """The tool gives no id, and repeats up to an hour later: deduplication without an id would have forgotten."""
    plugin = a_plugin()
    first = plugin.identify(a_delivery(TIMED))
    assert first is not None
    assert not first.signed
    assert first == plugin.identify(a_delivery(TIMED))
    assert first != plugin.identify(a_delivery(TIMED.replace(b":05Z", b":06Z")))


@pytest.mark.parametrize(
    "body",
    [
        b'{"ticket_id": "7"}',
        b'{"ticket_id": "7", "updated_at": "2026-03-02"}',
        b'{"ticket_id": "7", "updated_at": "yesterday 10:00"}',
        b'{"ticket_id": "7", "updated_at": null}',
        b"\x00",
    ],
)
def test_bodies_that_two_changes_could_share_are_no_identity(body: bytes) -> None:
    """Two quick changes back and forth must not count as one."""
    assert a_plugin().identify(a_delivery(body)) is None


@pytest.mark.parametrize(
    ("actor", "body", "ours"),
    [
        ("bot@desk.example", b'{"ticket_id": 1, "actor_email": "Bot@Desk.Example"}', True),
        ("21001", b'{"ticket_id": 1, "actor_id": 21001}', True),
        ("21001", b'{"ticket_id": 1, "actor_email": "bot@desk.example", "actor_id": 21001}', True),
        ("bot@desk.example", b'{"ticket_id": 1, "actor": {"id": 5, "email": "bot@desk.example"}}', True),
        ("bot@desk.example", b'{"ticket_id": 1, "actor_email": "ada@desk.example"}', False),
        ("None", b'{"ticket_id": 1}', False),
        ("", b'{"ticket_id": 1, "actor_email": ""}', False),
    ],
)
def test_our_own_agent_is_known_however_the_template_names_it(actor: str, body: bytes, ours: bool) -> None:
    """Otherwise two tools answer each other."""
    plugin = a_plugin(actor=actor)
    assert plugin.is_own_actor(plugin.extract_metadata(a_delivery(body))) is ours
