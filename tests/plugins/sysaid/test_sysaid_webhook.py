"""How SysAid deliveries are verified and recognised when they come again."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from typing import Any

import pytest

from plugins.api import Delivery, PluginConfigError, PluginContext, SignatureMismatch, SignatureMissing, WebhookRejected
from plugins.sysaid.plugin import SysAidPlugin

BODY = b'{"event": "sr.updated", "accountId": "acme", "sr_version": 7, "data": {"id": "25"}}'


def a_plugin(secrets: list[bytes] | None = None, **webhook: Any) -> SysAidPlugin:
    def no_http() -> Any:
        raise AssertionError("verification makes no calls")

    live = [b"newest", b"older"] if secrets is None else secrets
    settings = {"webhook": {"secret": "${secret:hook}", **webhook}, "actor": "integration"}
    return SysAidPlugin(PluginContext(tenant="acme", tool="desk", settings=settings, secrets=lambda r: live, http=no_http))


def a_delivery(body: bytes = BODY, query: str = "", **headers: str) -> Delivery:
    return Delivery(tenant="acme", tool="desk", body=body, query=query, headers={k.replace("_", "-"): v for k, v in headers.items()})


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def signed(secret: bytes) -> str:
    return hmac.new(secret, BODY, hashlib.sha256).hexdigest()


GOOD: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"x_webhook_secret": "newest"}),
    ({}, {"x_webhook_secret": "older"}),
    ({"header": "Authorization", "prefix": "Bearer "}, {"authorization": "Bearer newest"}),
    ({"scheme": "basic", "user": "sysaid"}, {"authorization": basic("sysaid", "older")}),
    ({"scheme": "token"}, {"query": "from=sysaid&token=newest"}),
    ({"scheme": "token", "parameter": "key"}, {"query": "key=older"}),
    ({"scheme": "hmac"}, {"x_sysaid_signature": signed(b"newest")}),
    ({"scheme": "hmac", "header": "X-Sig"}, {"x_sig": "sha256=" + signed(b"older")}),
]
BAD: list[tuple[dict[str, Any], dict[str, str], type[WebhookRejected]]] = [
    ({}, {}, SignatureMissing),
    ({}, {"x_webhook_secret": "newes"}, SignatureMismatch),
    ({}, {"x_webhook_secret": "ÄÖ\udcff"}, SignatureMismatch),
    ({"scheme": "basic", "user": "sysaid"}, {"authorization": basic("other", "newest")}, SignatureMismatch),
    ({"scheme": "basic", "user": "sysaid"}, {}, SignatureMissing),
    ({"scheme": "token"}, {"query": "token=wrong"}, SignatureMismatch),
    ({"scheme": "token"}, {"query": "tok=newest"}, SignatureMissing),
    ({"scheme": "hmac"}, {"x_sysaid_signature": signed(b"another")}, SignatureMismatch),
]


@pytest.mark.parametrize(("webhook", "parts"), GOOD)
def test_each_way_an_admin_can_authenticate_a_call_is_taken(webhook: dict[str, Any], parts: dict[str, str]) -> None:
    """Two secrets live during a rotation, and neither refuses anybody."""
    verified = a_plugin(**webhook).validate_webhook(a_delivery(**parts))
    assert verified.key_id != "none" and "newest" not in str(verified)


@pytest.mark.parametrize(("webhook", "parts", "refusal"), BAD)
def test_what_is_missing_or_wrong_is_refused(webhook: dict[str, Any], parts: dict[str, str], refusal: type[WebhookRejected]) -> None:
    """The reason is counted, so an operator sees a wrong secret from a missing one."""
    with pytest.raises(refusal) as caught:
        a_plugin(**webhook).validate_webhook(a_delivery(**parts))
    assert "newest" not in str(caught.value)


def test_a_signature_is_over_the_exact_body() -> None:
    """Scheme hmac is the only one that notices a changed body."""
    with pytest.raises(SignatureMismatch):
        a_plugin(scheme="hmac").validate_webhook(a_delivery(BODY + b" ", x_sysaid_signature=signed(b"newest")))


def test_without_a_secret_nothing_is_let_in() -> None:
    """An unset setting must not open the door."""
    for webhook, parts in GOOD:
        with pytest.raises(PluginConfigError):
            a_plugin([b""], **webhook).validate_webhook(a_delivery(**parts))
    with pytest.raises(PluginConfigError):
        a_plugin(scheme="none")


def test_a_delivery_is_known_by_its_records_version() -> None:
    """SysAid sends again what got no 2xx; the version is all that names an event, and only scheme hmac covers it."""
    identity = a_plugin().identify(a_delivery())
    assert identity is not None and identity.delivery_id == "acme/25/7/sr.updated" and not identity.signed
    assert a_plugin(scheme="hmac").identify(a_delivery()).signed  # type: ignore[union-attr]  # it has one, as above
    assert a_plugin().identify(a_delivery(b'{"event": "sr.updated", "data": {"id": "25"}}')) is None
    assert a_plugin().identify(a_delivery(b"no JSON")) is None


def test_the_key_of_the_topic_is_the_tickets_own() -> None:
    """It is read at the door, from whatever shape, and raises nothing."""
    plugin = a_plugin()
    assert plugin.ticket_key(a_delivery()) == "25"
    assert plugin.ticket_key(a_delivery(json.dumps({"sr_id": 12}).encode())) == "12"
    assert plugin.ticket_key(a_delivery(b'{"sr_id": "${ID}"}')) is None
    assert plugin.ticket_key(a_delivery(b"\xff\x00")) is None
