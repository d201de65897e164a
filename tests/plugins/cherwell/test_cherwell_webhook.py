"""Who may deliver: a One-Step cannot sign, so each scheme is a secret that only the tenant's web service knows."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from plugins.api import Delivery, PluginConfigError, SignatureMismatch, SignatureMissing
from plugins.cherwell.webhook_validator import validator_of

LIVE = [b"new-secret", b"old-secret"]


def a_delivery(headers: dict[str, str], query: str = "") -> Delivery:
    return Delivery(tenant="acme", tool="desk", body=b"{}", headers=headers, query=query)


@pytest.mark.parametrize("secret", ["new-secret", "old-secret"])
@pytest.mark.parametrize(
    ("settings", "headers", "query", "scheme"),
    [
        ({}, {"x-webhook-secret": "{}"}, "", "shared-secret"),
        ({"header": "X-Csm-Key"}, {"x-csm-key": "{}"}, "", "shared-secret"),
        ({"scheme": "query", "parameter": "token"}, {}, "token={}", "query-secret"),
    ],
)
def test_each_scheme_takes_both_live_secrets(settings: Any, headers: dict[str, str], query: str, scheme: str, secret: str) -> None:
    """During a rotation the web service still holds the old one."""
    delivery = a_delivery({name: value.format(secret) for name, value in headers.items()}, query.format(secret))
    assert validator_of(settings).validate(delivery, LIVE).scheme == scheme


def test_a_web_services_account_is_http_basic() -> None:
    """What the Web Service Manager calls basic security; both halves count."""
    validator = validator_of({"scheme": "basic", "user": "hook"})
    good = {"authorization": "Basic " + b64encode(b"hook:old-secret").decode()}
    assert validator.validate(a_delivery(good), LIVE).scheme == "basic"
    for wrong in (b"hook:other", b"other:new-secret"):
        with pytest.raises(SignatureMismatch):
            validator.validate(a_delivery({"authorization": "Basic " + b64encode(wrong).decode()}), LIVE)


def test_a_missing_or_wrong_secret_opens_no_door() -> None:
    """And no text tells the right one."""
    with pytest.raises(SignatureMissing, match="X-Webhook-Secret"):
        validator_of({}).validate(a_delivery({}), LIVE)
    with pytest.raises(SignatureMismatch) as caught:
        validator_of({}).validate(a_delivery({"x-webhook-secret": "guess"}), LIVE)
    assert "secret" not in str(caught.value).replace("X-Webhook-Secret", "").replace("configured secret", "")
    with pytest.raises(PluginConfigError, match="scheme"):
        validator_of({"scheme": "none"})
