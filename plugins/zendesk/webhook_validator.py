"""How a Zendesk delivery is verified: the HMAC over its timestamp and body, the authentication an admin put on the webhook, or both.

Zendesk mints no token of its own: scheme `jwt` verifies a token we issued (`issue_webhook_token`), which its admin stored as the
webhook's bearer token. Like every authentication but the signature it covers no byte of the body.

https://developer.zendesk.com/documentation/webhooks/verifying/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugins.api import Delivery, PluginConfigError, Verified
from plugins.webhook import BasicAuth, SharedSecretHeader, TimestampedHmac, WebhookValidator

if TYPE_CHECKING:
    from plugins.webhook_jwt import JwtHeader

TEST_SECRET = b"dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="
"""The published secret of the "test webhook" button: whoever reads the vendor's manual can sign with it."""

ISSUER = "ai-agents"
"""Who issues the tokens of scheme `jwt`, unless webhook.issuer names another."""

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
    """The validator a tool's `webhook` settings describe: scheme `hmac` (the default), `jwt`, `basic`, `bearer` or `api_key`.

    Beside another scheme, `signing_secret` demands the signature too, which alone covers the body.
    """

    def __init__(self, webhook: Mapping[str, Any], secrets: Callable[[str], Sequence[bytes]], connection: str = "") -> None:
        self._secrets = secrets
        self._reference = str(webhook.get("secret") or "")
        self._signing_reference = str(webhook.get("signing_secret") or "")
        self._tests_allowed = webhook.get("test_button") is True
        self._signature = hmac_of(_tolerance(webhook))
        self._validator = _validator(webhook, connection)

    def validate(self, delivery: Delivery) -> Verified:
        """Verified, or raises WebhookRejected; PluginConfigError when no usable secret is set."""
        verified = self._validator.validate(delivery, self._live(self._reference))
        if self._signing_reference and self._validator != self._signature:
            signed = self._signature.validate(delivery, self._live(self._signing_reference))
            return Verified(f"{verified.scheme}+{signed.scheme}", signed.key_id)
        return verified

    def _live(self, reference: str) -> Sequence[bytes]:
        live = self._secrets(reference) if reference else ()
        if TEST_SECRET in live and not self._tests_allowed:
            raise PluginConfigError("webhook.secret is Zendesk's public test secret; set the webhook's own, or test_button: true")
        return live


def _tolerance(webhook: Mapping[str, Any]) -> float:
    tolerance = webhook.get("tolerance", TOLERANCE)
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or tolerance <= 0:
        raise PluginConfigError("webhook.tolerance must be a positive number of seconds")
    return float(tolerance)


def _validator(webhook: Mapping[str, Any], connection: str) -> WebhookValidator:
    scheme = webhook.get("scheme", "hmac")
    if scheme == "hmac":
        return hmac_of(_tolerance(webhook))
    if scheme == "jwt":
        return token_of(webhook, connection)
    if scheme == "basic":
        return BasicAuth(user=str(webhook.get("user") or ""))
    if scheme == "bearer":
        return SharedSecretHeader(header="authorization", prefix="Bearer ", scheme="bearer")
    if scheme == "api_key":
        return SharedSecretHeader(header=str(webhook.get("header") or "x-api-key").lower(), scheme="api-key")
    raise PluginConfigError("webhook.scheme must be hmac, jwt, basic, bearer or api_key")


def token_of(webhook: Mapping[str, Any], connection: str) -> JwtHeader:
    """What a token must be: by default from us, for this very connection (`tenant/tool`), HS256, with an end."""
    from plugins.webhook_jwt import JwtHeader

    algorithms = webhook.get("algorithms") or ["HS256"]
    leeway = webhook.get("leeway", 60)
    if not isinstance(algorithms, list) or isinstance(leeway, bool) or not isinstance(leeway, int | float) or not 0 <= leeway <= 600:
        raise PluginConfigError("webhook.algorithms must be a list, and webhook.leeway seconds up to 600")
    return JwtHeader(
        algorithms=tuple(str(name) for name in algorithms),
        issuer=str(webhook.get("issuer") or ISSUER),
        audience=str(webhook.get("audience") or connection),
        leeway=float(leeway),
    )
