"""How Zendesk deliveries are verified and recognised when they come again."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import plugins.zendesk
from plugins.api import Delivery, DeliveryIdentity, DeliveryTooOld, PluginConfigError, PluginContext, SignatureMismatch, SignatureMissing
from plugins.registry import PluginRegistry
from plugins.webhook_jwt import issue
from plugins.zendesk.plugin import ZendeskPlugin
from plugins.zendesk.webhook_validator import TEST_SECRET

FIXTURES = Path(plugins.zendesk.__file__).parent / "fixtures"
SIGNED_AT = "2026-03-02T09:40:05Z"
NOW = int(datetime(2026, 3, 2, 9, 40, 5, tzinfo=UTC).timestamp() * 1_000_000)
HOUR = 3_600_000_000


def no_http() -> Any:
    raise AssertionError("verification makes no calls")


def a_plugin(secrets: list[bytes] | None = None, **webhook: Any) -> ZendeskPlugin:
    settings = {"webhook": {"secret": "${secret:hook}", **webhook}, "actor": 9000000001}
    return ZendeskPlugin(
        PluginContext(
            tenant="acme",
            tool="desk",
            settings=settings,
            secrets=lambda r: (secrets or [b"s3cret"]) if r == "${secret:hook}" else [],
            http=no_http,
        )
    )


def a_delivery(body: bytes, secret: bytes = b"s3cret", received_at: int = NOW, **headers: str) -> Delivery:
    digest = hmac.new(secret, SIGNED_AT.encode() + body, hashlib.sha256).digest()
    signature = {
        "x-zendesk-webhook-signature": base64.b64encode(digest).decode(),
        "x-zendesk-webhook-signature-timestamp": SIGNED_AT,
        "x-zendesk-webhook-invocation-id": "01JINVOCATION",
    }
    return Delivery(tenant="acme", tool="desk", body=body, headers={**signature, **headers}, received_at=received_at)


def test_both_kinds_of_webhook_are_verified_alike() -> None:
    """The signature does not depend on who wrote the body."""
    for name in ("event_created.json", "trigger_recommended.json", "trigger_with_bare_quotes.txt"):
        assert a_plugin().validate_webhook(a_delivery((FIXTURES / name).read_bytes())).scheme == "hmac-timestamp"


def test_a_redelivery_hours_later_passes_and_one_after_deduplication_forgot_does_not() -> None:
    """Five minutes would lose what Zendesk repeats; without a bound a captured delivery would count again once its id is forgotten."""
    body = (FIXTURES / "event_created.json").read_bytes()
    assert a_plugin().validate_webhook(a_delivery(body, received_at=NOW + 20 * HOUR))
    with pytest.raises(DeliveryTooOld):
        a_plugin().validate_webhook(a_delivery(body, received_at=NOW + 25 * HOUR))
    with pytest.raises(DeliveryTooOld):
        a_plugin(tolerance=300).validate_webhook(a_delivery(body, received_at=NOW + HOUR))


def test_tampering_with_body_timestamp_or_key_is_refused() -> None:
    """Each is covered by the signature."""
    delivery = a_delivery(b'{"ticket_id": "1"}')
    for bad in (
        a_delivery(b'{"ticket_id": "1"}', secret=b"other"),
        Delivery(tenant="acme", tool="desk", body=b'{"ticket_id": "2"}', headers=delivery.headers, received_at=NOW),
        a_delivery(b'{"ticket_id": "1"}', **{"x-zendesk-webhook-signature-timestamp": "2026-03-02T09:40:06Z"}),
        a_delivery(b'{"ticket_id": "1"}', **{"x-zendesk-webhook-signature": "ÄÖÜ"}),
    ):
        with pytest.raises(SignatureMismatch):
            a_plugin().validate_webhook(bad)
    with pytest.raises(SignatureMissing):
        a_plugin().validate_webhook(Delivery(tenant="acme", tool="desk", body=b"{}", headers={}, received_at=NOW))


def test_a_rotation_accepts_both_secrets() -> None:
    """Zendesk changes its side at once, we change ours when told."""
    plugin = a_plugin([b"new", b"old"])
    assert plugin.validate_webhook(a_delivery(b"{}", b"old")).key_id != plugin.validate_webhook(a_delivery(b"{}", b"new")).key_id


def test_the_published_test_secret_is_refused_unless_allowed() -> None:
    """Everybody who reads the manual can sign with it."""
    with pytest.raises(PluginConfigError, match="public test secret"):
        a_plugin([TEST_SECRET]).validate_webhook(a_delivery(b"{}", TEST_SECRET))
    assert a_plugin([TEST_SECRET], test_button=True).validate_webhook(a_delivery(b"{}", TEST_SECRET))


@pytest.mark.parametrize(
    ("webhook", "header", "value"),
    [
        ({"scheme": "basic", "user": "ann"}, "authorization", "Basic " + base64.b64encode(b"ann:s3cret").decode()),
        ({"scheme": "basic"}, "authorization", "Basic " + base64.b64encode(b":s3cret").decode()),
        ({"scheme": "bearer"}, "authorization", "Bearer s3cret"),
        ({"scheme": "api_key"}, "x-api-key", "s3cret"),
        ({"scheme": "api_key", "header": "X-Our-Key"}, "x-our-key", "s3cret"),
    ],
)
def test_a_webhooks_own_authentication_may_stand_in_for_the_signature(webhook: dict[str, str], header: str, value: str) -> None:
    """Some admins cannot read the signing secret."""
    plugin = a_plugin(**webhook)
    verified = plugin.validate_webhook(Delivery(tenant="acme", tool="desk", body=b"{}", headers={header: value}, received_at=NOW))
    assert verified.scheme == webhook["scheme"].replace("_", "-")
    with pytest.raises(SignatureMismatch):
        plugin.validate_webhook(Delivery(tenant="acme", tool="desk", body=b"{}", headers={header: value + "x"}, received_at=NOW))


@pytest.mark.parametrize("webhook", [{"scheme": "magic"}, {"tolerance": 0}, {"tolerance": "long"}, {"tolerance": True}])
def test_settings_that_cannot_work_are_said_when_the_plugin_is_built(webhook: dict[str, Any]) -> None:
    """Not on the first delivery."""
    with pytest.raises(PluginConfigError):
        a_plugin(**webhook)


def test_an_events_own_id_is_signed_and_an_invocations_is_not() -> None:
    """Deduplication trusts the one, and ties the other to the body."""
    event, trigger = (FIXTURES / "event_created.json").read_bytes(), (FIXTURES / "trigger_recommended.json").read_bytes()
    identity = a_plugin().identify(a_delivery(event))
    assert identity is not None
    assert identity.signed
    assert identity == a_plugin().identify(a_delivery(event, **{"x-zendesk-webhook-invocation-id": "another"}))
    assert a_plugin().identify(a_delivery(trigger)) == DeliveryIdentity("01JINVOCATION", signed=False)
    assert a_plugin().identify(Delivery(tenant="acme", tool="desk", body=trigger, headers={})) is None


def test_what_the_door_keeps_and_what_the_plugin_can_do() -> None:
    """The ids of a delivery are headers and are lost when they are not kept; capabilities are what the manifest promises."""
    assert {"x-zendesk-webhook-invocation-id", "x-zendesk-webhook-id", "x-zendesk-account-id"} == set(ZendeskPlugin.kept_headers)
    manifest = PluginRegistry.discover().manifest("zendesk")
    assert ZendeskPlugin.tool_type == manifest.tool_type == "zendesk"
    assert (ZendeskPlugin.version, ZendeskPlugin.capabilities) == (manifest.version, frozenset(manifest.capabilities))
    assert a_plugin().ticket_key(a_delivery(b'{"ticket_id": "7"}')) == "7"


@pytest.mark.parametrize("secrets", [[], [b""]])
def test_without_a_secret_nothing_is_verified(secrets: list[bytes]) -> None:
    """A tool whose secret is not set yet must not be open to everybody."""
    for settings in ({"secret": "${secret:hook}"}, {}):
        context = PluginContext(tenant="acme", tool="desk", settings={"webhook": settings}, secrets=lambda r: secrets, http=no_http)
        with pytest.raises(PluginConfigError):
            ZendeskPlugin(context).validate_webhook(a_delivery(b"{}", b""))


async def test_a_secret_nobody_named_is_never_used() -> None:
    """The store may hold secrets of other tools."""
    context = PluginContext(tenant="acme", tool="desk", settings={"webhook": {}}, secrets=lambda r: [b"s3cret"], http=no_http)
    with pytest.raises(PluginConfigError):
        ZendeskPlugin(context).validate_webhook(a_delivery(b"{}"))
    jwt = dataclasses.replace(context, settings={"webhook": {"scheme": "jwt"}})
    with pytest.raises(PluginConfigError, match="shared key"):
        await ZendeskPlugin(jwt).issue_webhook_token()
    both = dataclasses.replace(context, settings={"webhook": {"scheme": "bearer", "secret": "${secret:hook}"}})
    bearer = Delivery(tenant="acme", tool="desk", body=b"{}", headers={"authorization": "Bearer s3cret"}, received_at=NOW)
    assert ZendeskPlugin(both).validate_webhook(bearer).scheme == "bearer"


def test_the_published_secret_is_the_one_in_the_manual_and_a_tolerance_may_be_short() -> None:
    """Another text here would let the published one through."""
    assert TEST_SECRET == b"dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="
    assert a_plugin(tolerance=0.5).validate_webhook(a_delivery(b"{}"))
    with pytest.raises(DeliveryTooOld):
        a_plugin().validate_webhook(a_delivery(b"{}", received_at=NOW + 86_401_000_000))
    assert a_plugin().validate_webhook(a_delivery(b"{}", received_at=NOW + 86_400_000_000))


@pytest.mark.parametrize(("leeway", "late"), [(0, 0), (None, 60), (600, 600)])
async def test_a_token_is_good_a_little_longer_than_it_says(leeway: int | None, late: int) -> None:
    """Clocks differ: by a minute unless the tenant says otherwise, by ten at most."""
    webhook = {"scheme": "jwt"} if leeway is None else {"scheme": "jwt", "leeway": leeway}
    token = issue(SHARED_KEY, issuer="ai-agents", audience="acme/desk", issued_at=NOW // 1_000_000 - 3600, seconds=3600)
    delivery = Delivery(tenant="acme", tool="desk", body=b"{}", headers={"authorization": f"Bearer {token}"}, received_at=NOW)
    plugin = a_plugin([SHARED_KEY], **webhook)
    assert plugin.validate_webhook(msgspec.structs.replace(delivery, received_at=NOW + (late - 1) * 1_000_000))
    with pytest.raises(DeliveryTooOld):
        plugin.validate_webhook(msgspec.structs.replace(delivery, received_at=NOW + late * 1_000_000))


@pytest.mark.parametrize(("days", "told"), [(30, {"days": 30}), (365, {})])
async def test_a_token_lasts_as_many_days_as_asked_for_a_year_otherwise(days: int, told: dict[str, int]) -> None:
    """Its end is when the webhook dies."""
    token = await a_plugin([SHARED_KEY * 2], scheme="jwt", algorithms=["RS256", "HS512"]).issue_webhook_token(**told)
    head, claims, _ = (json.loads(base64.urlsafe_b64decode(part + "==")) if n < 2 else {} for n, part in enumerate(token.split(".")))
    assert head["alg"] == "HS512"
    assert claims["exp"] - claims["iat"] == days * 86_400
    assert (claims["iss"], claims["aud"]) == ("ai-agents", "acme/desk")


def test_our_own_account_is_known_as_the_actor() -> None:
    """The setting may be written as a number; webhooks write text."""
    body = (FIXTURES / "event_created.json").read_bytes()
    assert not a_plugin().is_own_actor(a_plugin().extract_metadata(a_delivery(body)))
    ours = body.replace(b'"actor_id": "7300000000021"', b'"actor_id": "9000000001"')
    assert a_plugin().is_own_actor(a_plugin().extract_metadata(a_delivery(ours)))


SHARED_KEY = b"a key of Zendesk's admin and ours, long enough"


async def test_a_token_we_issue_opens_this_connection_and_no_other() -> None:
    """Zendesk stores one token and sends it for years: it must be worth nothing anywhere else."""
    ours = a_plugin([SHARED_KEY], scheme="jwt")
    token = await ours.issue_webhook_token(days=30)
    now = int(time.time() * 1e6)
    delivery = Delivery(tenant="acme", tool="desk", body=b"{}", headers={"authorization": f"Bearer {token}"}, received_at=now)
    assert ours.validate_webhook(delivery).scheme == "jwt"
    assert a_plugin([b"a newer key which is as long as the other one", SHARED_KEY], scheme="jwt").validate_webhook(delivery)
    with pytest.raises(SignatureMismatch, match="aud"):
        a_plugin([SHARED_KEY], scheme="jwt", audience="acme/other").validate_webhook(delivery)
    with pytest.raises(SignatureMismatch, match="iss"):
        a_plugin([SHARED_KEY], scheme="jwt", issuer="somebody").validate_webhook(delivery)
    with pytest.raises(DeliveryTooOld):
        ours.validate_webhook(msgspec.structs.replace(delivery, received_at=now + 31 * 24 * HOUR))
    with pytest.raises(SignatureMissing):
        ours.validate_webhook(msgspec.structs.replace(delivery, headers={}))


async def test_beside_a_token_the_signature_is_demanded_where_its_secret_is_set() -> None:
    """A token alone says nothing of the body."""
    live = {"${secret:key}": [SHARED_KEY], "${secret:hook}": [b"s3cret"]}
    settings = {"webhook": {"scheme": "jwt", "secret": "${secret:key}", "signing_secret": "${secret:hook}"}}
    plugin = ZendeskPlugin(
        PluginContext(tenant="acme", tool="desk", settings=settings, secrets=lambda reference: live[reference], http=no_http)
    )
    token = issue(SHARED_KEY, issuer="ai-agents", audience="acme/desk", issued_at=NOW // 1_000_000, seconds=3600)
    both = a_delivery(b'{"x": 1}', authorization=f"Bearer {token}")
    assert plugin.validate_webhook(both).scheme == "jwt+hmac-timestamp"
    with pytest.raises(SignatureMismatch):
        plugin.validate_webhook(msgspec.structs.replace(both, body=b'{"x": 2}'))
    with pytest.raises(SignatureMissing):
        plugin.validate_webhook(msgspec.structs.replace(both, headers={"authorization": f"Bearer {token}"}))


async def test_settings_of_tokens_that_cannot_work_are_named() -> None:
    """At start, not when the first delivery is lost."""
    for webhook in ({"algorithms": ["none"]}, {"algorithms": "HS256"}, {"leeway": -1}, {"leeway": 601}, {"leeway": True}):
        with pytest.raises(PluginConfigError, match=r"webhook\.(algorithms|leeway)"):
            a_plugin([SHARED_KEY], scheme="jwt", **webhook)
    for plugin in (a_plugin(), a_plugin([SHARED_KEY], scheme="jwt", algorithms=["RS256"])):
        with pytest.raises(PluginConfigError, match="shared key"):
            await plugin.issue_webhook_token()
