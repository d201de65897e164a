"""How ServiceNow deliveries are verified and recognised when they come again."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest

from plugins.api import (
    Delivery,
    DeliveryIdentity,
    DeliveryTooOld,
    PluginConfigError,
    PluginContext,
    SignatureMismatch,
    SignatureMissing,
    TicketMetadata,
)
from plugins.servicenow.plugin import ServiceNowPlugin

NOW = 1_772_442_941_000_000
BODY = '{"sys_id": "9d385017c611228701d22104cc95c371", "short_description": "Tür"}'.encode()
KEYS = {"old": b"0ld-s3cret", "new": b"n3w-s3cret"}


def a_plugin(**webhook: Any) -> ServiceNowPlugin:
    settings = {"webhook": {"secret": "${secret:hook}", **webhook}, "actor": "integration"}
    context = PluginContext(
        tenant="acme",
        tool="snow",
        settings=settings,
        secrets=lambda reference: [KEYS["new"], KEYS["old"]],
        http=lambda: None,  # type: ignore[arg-type,return-value]  # nothing is called
    )
    return ServiceNowPlugin(context)


def a_delivery(headers: dict[str, str], body: bytes = BODY, query: str = "", at: int = NOW) -> Delivery:
    return Delivery(tenant="acme", tool="snow", body=body, headers=headers, query=query, received_at=at)


def a_digest(message: bytes, secret: bytes = KEYS["new"], *, encoding: str = "hex", prefix: str = "sha256=") -> str:
    digest = hmac.digest(secret, message, "sha256")
    return prefix + (digest.hex() if encoding == "hex" else base64.b64encode(digest).decode())


def signed(at: int = NOW // 1_000_000, **how: Any) -> dict[str, str]:
    return {"x-servicenow-timestamp": str(at), "x-servicenow-signature": a_digest(str(at).encode() + b"." + BODY, **how)}


@pytest.mark.parametrize("secret", ["old", "new"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["sha256=", "SHA256=", ""])
def test_a_script_may_write_its_digest_either_way(secret: str, encoding: str, prefix: str) -> None:
    """generateMac answers base64, script libraries answer hex; both secrets of a rotation count."""
    verified = a_plugin().validate_webhook(a_delivery(signed(secret=KEYS[secret], encoding=encoding, prefix=prefix)))
    assert verified.scheme == "hmac-timestamp"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, SignatureMissing),
        ({"x-servicenow-signature": a_digest(BODY)}, SignatureMissing),
        (signed(secret=b"another"), SignatureMismatch),
        ({**signed(), "x-servicenow-timestamp": str(NOW // 1_000_000 + 1)}, SignatureMismatch),
        ({**signed(), "x-servicenow-signature": "sha256=" + "0" * 64}, SignatureMismatch),
        ({**signed(), "x-servicenow-signature": "sha1=abc"}, SignatureMismatch),
        ({**signed(), "x-servicenow-signature": "é" * 64}, SignatureMismatch),
        (signed(NOW // 1_000_000 - 301), DeliveryTooOld),
        (signed(NOW // 1_000_000 + 301), DeliveryTooOld),
    ],
)
def test_what_is_not_signed_by_us_now_is_refused(headers: dict[str, str], error: type[Exception]) -> None:
    """Whoever reads one delivery must not be able to send another, or the same again tomorrow."""
    with pytest.raises(error):
        a_plugin().validate_webhook(a_delivery(headers))


def test_a_changed_body_is_refused() -> None:
    """The exact bytes count, before anybody parses them."""
    with pytest.raises(SignatureMismatch):
        a_plugin().validate_webhook(a_delivery(signed(), body=BODY + b" "))


@pytest.mark.parametrize(
    ("webhook", "headers", "query"),
    [
        ({"scheme": "hmac_body"}, {"x-servicenow-signature": a_digest(BODY)}, ""),
        ({"scheme": "hmac_body", "header": "X-SN-Signature"}, {"x-sn-signature": a_digest(BODY, encoding="base64", prefix="")}, ""),
        ({"scheme": "shared_secret"}, {"x-webhook-secret": "n3w-s3cret"}, ""),
        ({"scheme": "shared_secret", "header": "X-Token"}, {"x-token": "0ld-s3cret"}, ""),
        ({"scheme": "query"}, {}, "a=1&secret=n3w-s3cret"),
        ({"scheme": "query", "parameter": "key"}, {}, "key=0ld-s3cret"),
        ({"scheme": "bearer"}, {"authorization": "Bearer n3w-s3cret"}, ""),
        ({"scheme": "basic", "user": "snow"}, {"authorization": "Basic " + base64.b64encode(b"snow:0ld-s3cret").decode()}, ""),
    ],
)
def test_the_other_schemes_take_their_secret_and_nothing_else(webhook: dict[str, Any], headers: dict[str, str], query: str) -> None:
    """For instances where nobody can write the signing script."""
    plugin = a_plugin(**webhook)
    assert plugin.validate_webhook(a_delivery(headers, query=query)).key_id != "none"
    with pytest.raises((SignatureMissing, SignatureMismatch)):
        plugin.validate_webhook(a_delivery({}))
    with pytest.raises((SignatureMissing, SignatureMismatch)):
        plugin.validate_webhook(a_delivery({name: value[:-1] + "_" for name, value in headers.items()}, query=query and query + "x"))


@pytest.mark.parametrize("webhook", [{"scheme": "magic"}, {"tolerance": 0}, {"tolerance": "long"}, {"tolerance": True}])
def test_a_webhook_that_cannot_work_is_named_when_it_is_set_up(webhook: dict[str, Any]) -> None:
    """Not with the first delivery, at night."""
    with pytest.raises(PluginConfigError, match="webhook"):
        a_plugin(**webhook)


def test_without_a_secret_the_door_stays_shut() -> None:
    """An unset setting is no open door."""
    with pytest.raises(PluginConfigError):
        a_plugin(secret="").validate_webhook(a_delivery(signed()))


def test_a_delivery_is_known_again_by_the_scripts_id() -> None:
    """In the body the signature covers it; in the header anybody on the way could change it."""
    plugin = a_plugin()
    in_body = a_delivery({"x-servicenow-delivery": "h1"}, body=b'{"delivery_id": "b1", "sys_id": "x"}')
    assert plugin.identify(in_body) == DeliveryIdentity("b1", signed=True)
    assert plugin.identify(a_delivery({"x-servicenow-delivery": "h1"})) == DeliveryIdentity("h1", signed=False)
    assert plugin.identify(a_delivery({})) is None


def test_our_own_account_is_known_by_its_name() -> None:
    """Without this two tools would answer each other for ever."""
    plugin = a_plugin()
    assert plugin.is_own_actor(TicketMetadata(tenant_id="acme", ticket_id="x", actor="integration"))
    assert not plugin.is_own_actor(TicketMetadata(tenant_id="acme", ticket_id="x", actor="ada.agent"))
