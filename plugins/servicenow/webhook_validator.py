"""How a ServiceNow delivery is verified. The instance signs nothing by itself: a script does, or a header carries a secret.

https://www.servicenow.com/docs, GlideCertificateEncryption: `generateMac` answers base64, script libraries answer hex; both are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from plugins.api import Delivery, PluginConfigError, Verified
from plugins.webhook import BasicAuth, HmacHeader, SharedSecretHeader, SharedSecretQuery, TimestampedHmac, WebhookValidator

SIGNATURE, TIMESTAMP = "x-servicenow-signature", "x-servicenow-timestamp"
PREFIX = "sha256="
SCHEMES = ("hmac", "hmac_body", "shared_secret", "query", "basic", "bearer")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_HEX_LENGTH = 64


class EitherEncoding:
    """Takes a SHA-256 HMAC in hex or in base64, told apart by its length: scripts on an instance can make either."""

    def __init__(self, hmac: HmacHeader | TimestampedHmac) -> None:
        self._hex, self._base64 = hmac, replace(hmac, encoding="base64")

    def validate(self, delivery: Delivery, secrets: Sequence[bytes]) -> Verified:
        presented = (delivery.headers.get(self._hex.header) or "").strip()
        if presented[: len(PREFIX)].lower() == PREFIX:
            presented = presented[len(PREFIX) :]
        in_hex = len(presented) == _HEX_LENGTH and _HEX_DIGITS.issuperset(presented)
        return (self._hex if in_hex else self._base64).validate(delivery, secrets)


class ServiceNowValidator:
    """The validator a tool's `webhook` settings describe: scheme `hmac` (the default), `hmac_body`, `shared_secret`, `query`, `basic`
    or `bearer`."""

    def __init__(self, webhook: Mapping[str, Any], secrets: Callable[[str], Sequence[bytes]]) -> None:
        self._secrets = secrets
        self._reference = str(webhook.get("secret") or "")
        self._validator = _validator(webhook)

    def validate(self, delivery: Delivery) -> Verified:
        """Verified, or raises WebhookRejected; PluginConfigError when no secret is set."""
        return self._validator.validate(delivery, self._secrets(self._reference) if self._reference else ())


def _validator(webhook: Mapping[str, Any]) -> WebhookValidator:
    scheme = webhook.get("scheme", "hmac")
    header = str(webhook.get("header") or "").lower()
    if scheme == "hmac":
        tolerance = webhook.get("tolerance", 300)
        if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or tolerance <= 0:
            raise PluginConfigError("webhook.tolerance must be a positive number of seconds")
        return EitherEncoding(
            TimestampedHmac(
                header=header or SIGNATURE,
                timestamp_header=str(webhook.get("timestamp_header") or TIMESTAMP).lower(),
                separator=b".",
                prefix=PREFIX,
                prefix_optional=True,
                tolerance=float(tolerance),
            )
        )
    if scheme == "hmac_body":
        return EitherEncoding(HmacHeader(header=header or SIGNATURE, prefix=PREFIX, prefix_optional=True))
    if scheme == "shared_secret":
        return SharedSecretHeader(header=header or "x-webhook-secret")
    if scheme == "query":
        return SharedSecretQuery(parameter=str(webhook.get("parameter") or "secret"))
    if scheme == "basic":
        return BasicAuth(user=str(webhook.get("user") or ""))
    if scheme == "bearer":
        return SharedSecretHeader(header="authorization", prefix="Bearer ", scheme="bearer")
    raise PluginConfigError(f"webhook.scheme must be one of: {', '.join(SCHEMES)}")
