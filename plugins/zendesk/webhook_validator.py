"""How a Zendesk delivery is verified: the HMAC over its timestamp and body, or the authentication an admin put on the webhook.

https://developer.zendesk.com/documentation/webhooks/verifying/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plugins.api import Delivery, PluginConfigError, Verified
from plugins.webhook import BasicAuth, SharedSecretHeader, TimestampedHmac, WebhookValidator

TEST_SECRET = b"dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="
"""The published secret of the "test webhook" button: whoever reads the vendor's manual can sign with it."""

TOLERANCE = 86_400.0
"""How old a signature may be, by default: a day, as long as deduplication remembers.

Zendesk repeats a delivery after minutes, and does not say whether it signs again; the usual five minutes would lose it. What is
replayed within the day is recognised by its id, what is older is refused here, so the two together leave no gap.
"""


def hmac_of(tolerance: float | None = TOLERANCE) -> TimestampedHmac:
    """base64(HMAC-SHA256(secret, timestamp + body)); the secret is used as text, not decoded."""
    return TimestampedHmac(
        header="x-zendesk-webhook-signature",
        timestamp_header="x-zendesk-webhook-signature-timestamp",
        encoding="base64",
        tolerance=tolerance,
    )


class ZendeskValidator:
    """The validator a tool's `webhook` settings describe: scheme `hmac` (the default), `basic`, `bearer` or `api_key`."""

    def __init__(self, webhook: Mapping[str, Any], secrets: Callable[[str], Sequence[bytes]]) -> None:
        self._secrets = secrets
        self._reference = str(webhook.get("secret") or "")
        self._tests_allowed = webhook.get("allow_test_secret") is True
        self._validator = _validator(webhook)

    def validate(self, delivery: Delivery) -> Verified:
        """Verified, or raises WebhookRejected; PluginConfigError when no usable secret is set."""
        live = self._secrets(self._reference) if self._reference else ()
        if TEST_SECRET in live and not self._tests_allowed:
            raise PluginConfigError("webhook.secret is Zendesk's public test secret; set the webhook's own, or allow_test_secret: true")
        return self._validator.validate(delivery, live)


def _validator(webhook: Mapping[str, Any]) -> WebhookValidator:
    scheme = webhook.get("scheme", "hmac")
    if scheme == "hmac":
        tolerance = webhook.get("tolerance", TOLERANCE)
        if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or tolerance <= 0:
            raise PluginConfigError("webhook.tolerance must be a positive number of seconds")
        return hmac_of(float(tolerance))
    if scheme == "basic":
        return BasicAuth(user=str(webhook.get("user") or ""))
    if scheme == "bearer":
        return SharedSecretHeader(header="authorization", prefix="Bearer ", scheme="bearer")
    if scheme == "api_key":
        return SharedSecretHeader(header=str(webhook.get("header") or "x-api-key").lower(), scheme="api-key")
    raise PluginConfigError("webhook.scheme must be hmac, basic, bearer or api_key")
