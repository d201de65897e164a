"""How Freshdesk deliveries are authenticated, and how they are known when they come again."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

import plugins.freshdesk
from plugins.api import Delivery, PluginConfigError, PluginContext, SignatureMismatch, SignatureMissing, TicketMetadata
from plugins.freshdesk.plugin import FreshdeskPlugin

FIXTURES = Path(plugins.freshdesk.__file__).parent / "fixtures"
BODY = (FIXTURES / "simple_created.json").read_bytes()


def a_plugin(secrets: list[bytes] | None = None, actor: Any = "integration@desk.example", **webhook: Any) -> FreshdeskPlugin:
    def no_http() -> Any:
        raise AssertionError("verification makes no calls")

    settings = {"webhook": {"secret": "${secret:hook}", **webhook}, "actor": actor}
    live = [b"s3cret"] if secrets is None else secrets
    return FreshdeskPlugin(PluginContext(tenant="acme", tool="desk", settings=settings, secrets=lambda r: live, http=no_http))


def a_delivery(body: bytes = BODY, query: str = "", **headers: str) -> Delivery:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Delivery(tenant="acme", tool="desk", body=body, headers=given, query=query)


def test_a_header_of_the_rule_is_the_secret() -> None:
    """Freshdesk signs nothing: the header an admin types is all there is by default."""
    verified = a_plugin().validate_webhook(a_delivery(x_webhook_secret="s3cret"))
    assert verified.scheme == "shared-secret" and "s3cret" not in str(verified)
    with pytest.raises(SignatureMismatch):
        a_plugin().validate_webhook(a_delivery(x_webhook_secret="s3cre"))
    with pytest.raises(SignatureMissing):
        a_plugin().validate_webhook(a_delivery())


def test_two_secrets_live_during_a_rotation() -> None:
    """The rule and the tenant's file cannot change in the same moment."""
    plugin = a_plugin([b"new", b"old"])
    names = {plugin.validate_webhook(a_delivery(x_webhook_secret=secret)).key_id for secret in ("new", "old")}
    assert len(names) == 2


def test_the_header_and_what_stands_before_the_secret_can_be_chosen() -> None:
    """Where a gateway before us wants a bearer token."""
    plugin = a_plugin(header="Authorization", prefix="Bearer ")
    assert plugin.validate_webhook(a_delivery(authorization="Bearer s3cret"))


def test_the_rules_own_authentication_is_basic() -> None:
    """The form's "requires authentication"."""
    plugin = a_plugin(scheme="basic", user="hook")
    good, bad = (base64.b64encode(pair).decode() for pair in (b"hook:s3cret", b"other:s3cret"))
    assert plugin.validate_webhook(a_delivery(authorization=f"Basic {good}")).scheme == "basic"
    for header in (f"Basic {bad}", good, "Basic ???"):
        with pytest.raises(SignatureMismatch):
            plugin.validate_webhook(a_delivery(authorization=header))


def test_the_secret_may_end_the_address() -> None:
    """For rules whose plan offers neither header nor authentication."""
    assert a_plugin(scheme="query").validate_webhook(a_delivery(query="key=s3cret")).scheme == "query-secret"
    assert a_plugin(scheme="query", parameter="token").validate_webhook(a_delivery(query="a=1&token=s3cret"))
    with pytest.raises(SignatureMissing):
        a_plugin(scheme="query").validate_webhook(a_delivery(x_webhook_secret="s3cret"))


def test_an_unknown_scheme_or_no_secret_stops_with_what_to_mend() -> None:
    """An unset secret must never open the door."""
    with pytest.raises(PluginConfigError, match="scheme 'hmac'"):
        a_plugin(scheme="hmac")
    for secrets in ([], [b""]):
        with pytest.raises(PluginConfigError, match="no webhook secret"):
            a_plugin(secrets).validate_webhook(a_delivery(x_webhook_secret=" "))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("simple_created.json", True),
        ("app_ticket_updated.json", True),
        ("simple_reply.json", False),
        ("simple_priority.json", False),
        ("flat_without_event.json", False),
        ("advanced_torn.txt", False),
    ],
)
def test_a_delivery_is_known_again_where_its_body_can_come_once_only(name: str, known: bool) -> None:
    """Repeats come up to 95 minutes later; but two people may well write "+1" within a day."""
    body = (FIXTURES / name).read_bytes()
    identity = a_plugin().identify(a_delivery(body))
    assert (identity is not None) is known
    assert identity == a_plugin().identify(a_delivery(body))
    if identity is not None:
        assert not identity.signed
        assert identity != a_plugin().identify(a_delivery(body + b" "))


def test_a_body_with_its_ticket_s_moment_is_known_again() -> None:
    """An admin who adds the time of the change gets the longer memory for every event."""
    body = json.dumps({"ticket_id": 3, "triggered_event": "{reply_sent:sent}", "updated_at": "2026-03-02T09:40:05Z"}).encode()
    assert a_plugin().identify(a_delivery(body)) is not None


@pytest.mark.parametrize(
    ("own", "actor", "actor_id", "ours"),
    [
        ("integration@desk.example", "Integration@Desk.example", None, True),
        ("integration@desk.example", "ada@desk.example", None, False),
        (5001, "integration@desk.example", "5001", True),
        ("5001", None, "5002", False),
        (None, None, None, False),
        ("", "", None, False),
    ],
)
def test_our_own_agent_is_known_by_address_or_id(own: Any, actor: str | None, actor_id: str | None, ours: bool) -> None:
    """Rules name people by what their template says, apps by both."""
    metadata = TicketMetadata(tenant_id="acme", ticket_id="1", actor=actor, extra={"actor_id": actor_id})
    assert a_plugin(actor=own).is_own_actor(metadata) is ours
