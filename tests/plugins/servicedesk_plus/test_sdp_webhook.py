"""Which deliveries are ServiceDesk Plus', by each of the ways an admin can choose."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import pytest

from plugins.api import Delivery, DeliveryTooOld, PluginConfigError, PluginContext, SignatureMismatch, SignatureMissing
from plugins.servicedesk_plus.plugin import ServiceDeskPlusPlugin

NOW = 1_772_437_329
BODY = b'{"id": "2217"}'


def plugin(**webhook: Any) -> ServiceDeskPlusPlugin:
    def no_http() -> Any:
        raise AssertionError("a pure method asked for the network")

    context = PluginContext(
        tenant="acme", tool="desk", settings={"webhook": webhook}, secrets=lambda reference: [b"newer", reference.encode()], http=no_http
    )
    return ServiceDeskPlusPlugin(context)


def delivery(headers: Mapping[str, str], body: bytes = BODY) -> Delivery:
    return Delivery(tenant="acme", tool="desk", body=body, headers=headers, received_at=NOW * 1_000_000)


def test_a_secret_in_the_admins_header_is_accepted() -> None:
    """All that the plain webhook form can do; header and prefix are whatever was typed there."""
    assert plugin(secret="s3").validate_webhook(delivery({"x-webhook-secret": "s3"})).scheme == "shared-secret"
    assert plugin(secret="s3").validate_webhook(delivery({"x-webhook-secret": "newer"}))
    named = plugin(scheme="shared_secret", header="Authorization", prefix="Bearer ", secret="s3")
    assert named.validate_webhook(delivery({"authorization": "Bearer s3"}))
    with pytest.raises(SignatureMismatch):
        named.validate_webhook(delivery({"authorization": "s3"}))


@pytest.mark.parametrize("presented", ["s", "s33", "S3", "é", " "])
def test_another_secret_is_refused(presented: str) -> None:
    """Nearly right is wrong."""
    with pytest.raises(SignatureMismatch):
        plugin(secret="s3").validate_webhook(delivery({"x-webhook-secret": presented}))


def test_a_delivery_without_the_header_is_refused() -> None:
    """The commonest scan of an open address."""
    for webhook in ({}, {"scheme": "hmac"}, {"scheme": "hmac_body"}, {"scheme": "basic", "user": "sdp"}):
        with pytest.raises(SignatureMissing):
            plugin(secret="s3", **webhook).validate_webhook(delivery({}))


def test_no_secret_accepts_nothing() -> None:
    """A forgotten setting must not open the door."""
    with pytest.raises(PluginConfigError):
        plugin().validate_webhook(delivery({"x-webhook-secret": ""} | {"x-webhook-secret": "x"}))


def signed(timestamp: str, body: bytes = BODY, prefix: str = "sha256=") -> dict[str, str]:
    digest = hmac.new(b"s3", timestamp.encode() + b"." + body, "sha256").hexdigest()
    return {"x-servicedesk-timestamp": timestamp, "x-servicedesk-signature": prefix + digest}


def test_a_script_may_sign_time_and_body() -> None:
    """The one scheme here that covers the body and ends a replay."""
    signing = plugin(scheme="hmac", secret="s3")
    assert signing.validate_webhook(delivery(signed(str(NOW)))).scheme == "hmac-timestamp"
    with pytest.raises(SignatureMismatch):
        signing.validate_webhook(delivery(signed(str(NOW)), b'{"id": "2218"}'))
    with pytest.raises(SignatureMismatch):
        signing.validate_webhook(delivery(signed(str(NOW)) | {"x-servicedesk-timestamp": str(NOW + 1)}))
    with pytest.raises(DeliveryTooOld):
        signing.validate_webhook(delivery(signed(str(NOW - 301))))
    assert plugin(scheme="hmac", secret="s3", tolerance=900).validate_webhook(delivery(signed(str(NOW - 301))))


def test_a_script_may_sign_the_body_alone() -> None:
    """Hex or, from a Deluge function, base64; with a prefix or without."""
    digest = hmac.new(b"s3", BODY, "sha256").digest()
    for presented in (digest.hex(), "sha256=" + digest.hex(), digest.hex().upper()):
        assert plugin(scheme="hmac_body", secret="s3").validate_webhook(delivery({"x-servicedesk-signature": presented}))
    in_base64 = plugin(scheme="hmac_body", encoding="base64", header="X-Sig", secret="s3")
    assert in_base64.validate_webhook(delivery({"x-sig": b64encode(digest).decode()}))
    with pytest.raises(SignatureMismatch):
        in_base64.validate_webhook(delivery({"x-sig": digest.hex()}))


def test_basic_authentication_of_the_webhook_is_accepted() -> None:
    """Another thing the form offers."""
    basic = plugin(scheme="basic", user="sdp", secret="s3")
    assert basic.validate_webhook(delivery({"authorization": "Basic " + b64encode(b"sdp:s3").decode()}))
    with pytest.raises(SignatureMismatch):
        basic.validate_webhook(delivery({"authorization": "Basic " + b64encode(b"spd:s3").decode()}))


def test_the_secret_may_stand_in_the_address() -> None:
    """Where a build's form takes no header; a proxy may log it, so a header is better."""
    in_address = plugin(scheme="query", secret="s3")
    for query, fine in (("event=updated&key=s3", True), ("key=s4", False), ("event=updated", False)):
        sent = Delivery(tenant="acme", tool="desk", body=b"{}", headers={}, query=query)
        if fine:
            assert in_address.validate_webhook(sent).scheme == "query-secret"
        else:
            with pytest.raises((SignatureMismatch, SignatureMissing)):
                in_address.validate_webhook(sent)


@pytest.mark.parametrize(
    "webhook", [{"scheme": "none"}, {"scheme": "hmac_body", "encoding": "rot13"}, {"scheme": "hmac", "tolerance": "long"}]
)
def test_an_unknown_scheme_is_a_config_error(webhook: dict[str, str]) -> None:
    """Told when the tool is configured, not with the first delivery."""
    with pytest.raises(PluginConfigError):
        plugin(secret="s3", **webhook)


@pytest.mark.parametrize("setting", ["priority_names", "urgency_names", "impact_names", "status_names", "type_names"])
def test_a_name_for_a_word_that_is_none_is_a_config_error(setting: str) -> None:
    """`P1: Urgent` would be ignored in silence; the canonical word is `urgent`."""
    with pytest.raises(PluginConfigError, match=setting):
        ServiceDeskPlusPlugin(
            PluginContext(tenant="acme", tool="desk", settings={setting: {"P1": "x"}}, secrets=lambda _: [], http=lambda: pytest.fail())
        )


def test_no_delivery_has_an_id() -> None:
    """The tool sends none: equal bodies within a short time are all that tells a repeat."""
    assert plugin(secret="s3").identify(delivery({"x-webhook-secret": "s3"})) is None
