"""Who may deliver: TOPdesk cannot sign, so each scheme is a secret that only the tenant's action knows."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from plugins.api import Delivery, PluginConfigError, SignatureMismatch, SignatureMissing
from plugins.topdesk.webhook_validator import validator_of

LIVE = [b"new-secret", b"old-secret"]


def a_delivery(headers: dict[str, str], query: str = "") -> Delivery:
    return Delivery(tenant="acme", tool="desk", body=b"{}", headers=headers, query=query)


@pytest.mark.parametrize("secret", ["new-secret", "old-secret"])
@pytest.mark.parametrize(
    ("settings", "headers", "query", "scheme"),
    [
        ({}, {"x-webhook-secret": "{}"}, "", "shared-secret"),
        ({"header": "X-Desk-Key"}, {"x-desk-key": "{}"}, "", "shared-secret"),
        ({"scheme": "bearer"}, {"authorization": "Bearer {}"}, "", "bearer"),
        ({"scheme": "query"}, {}, "key={}", "query-secret"),
        ({"scheme": "query", "parameter": "token"}, {}, "a=b&token={}", "query-secret"),
    ],
)
def test_each_scheme_takes_both_live_secrets(settings: Any, headers: dict[str, str], query: str, scheme: str, secret: str) -> None:
    """During a rotation the action still holds the old one."""
    delivery = a_delivery({name: value.format(secret) for name, value in headers.items()}, query.format(secret))
    assert validator_of(settings).validate(delivery, LIVE).scheme == scheme


def test_a_stored_credential_set_is_http_basic() -> None:
    """What TOPdesk itself offers beside free headers."""
    validator = validator_of({"scheme": "basic", "user": "hook"})
    good = {"authorization": "Basic " + b64encode(b"hook:new-secret").decode()}
    assert validator.validate(a_delivery(good), LIVE).scheme == "basic"
    for wrong in (b"hook:other", b"other:new-secret"):
        with pytest.raises(SignatureMismatch):
            validator.validate(a_delivery({"authorization": "Basic " + b64encode(wrong).decode()}), LIVE)


def test_a_missing_or_wrong_secret_is_refused() -> None:
    """And the text says which header, not which secret."""
    with pytest.raises(SignatureMissing, match="X-Webhook-Secret"):
        validator_of({}).validate(a_delivery({}), LIVE)
    with pytest.raises(SignatureMismatch) as caught:
        validator_of({}).validate(a_delivery({"x-webhook-secret": "guess"}), LIVE)
    assert "new-secret" not in str(caught.value) and "guess" not in str(caught.value)


def test_an_unknown_scheme_and_an_unset_secret_open_no_door() -> None:
    """A typing error in the tenant's file must not let everybody in."""
    with pytest.raises(PluginConfigError, match="scheme"):
        validator_of({"scheme": "none"})
    with pytest.raises(PluginConfigError):
        validator_of({}).validate(a_delivery({"x-webhook-secret": "x"}), [b""])
