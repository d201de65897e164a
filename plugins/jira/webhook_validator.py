"""Jira's signature: `X-Hub-Signature: {method}={hex}`, the HMAC of the exact body. Pure.

The method is read from the header, as the vendor reserves the right to change it from sha256
(https://developer.atlassian.com/cloud/jira/platform/webhooks/); weaker ones are never accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from plugins.api import Delivery, PluginConfigError, SignatureMismatch, SignatureMissing, Verified
from plugins.webhook import BasicAuth, HmacHeader, SharedSecretHeader, WebhookValidator

HEADER: Final = "x-hub-signature"
METHODS: Final = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True)
class HubSignature:
    """Accepts a delivery signed as WebSub signs. It covers no time and no header: repeats are told by the delivery's id."""

    def validate(self, delivery: Delivery, secrets: Sequence[bytes]) -> Verified:
        presented = delivery.headers.get(HEADER)
        if not presented:
            raise SignatureMissing("header X-Hub-Signature is missing; give the webhook in Jira the secret this tool is configured with")
        signed_by = _BY_METHOD.get(presented.partition("=")[0].strip().lower())
        if signed_by is None:
            raise SignatureMismatch(f"header X-Hub-Signature is not by one of {', '.join(METHODS)}")
        return signed_by.validate(delivery, secrets)


_BY_METHOD: Final = {
    method: HmacHeader(header=HEADER, algorithm=method, prefix=f"{method}=", scheme=f"x-hub-signature-{method}") for method in METHODS
}


def validator_of(webhook: Mapping[str, Any]) -> WebhookValidator:
    """The validator of a tenant's `webhook` setting: `hub_signature` (default), `basic` or `shared_secret`.

    The other two are for Data Center 9 and older, which cannot sign: basic authentication in the URL, or a proxy's header.
    """
    match webhook.get("scheme", "hub_signature"):
        case "hub_signature":
            return HubSignature()
        case "basic":
            return BasicAuth(user=str(webhook.get("user", "")))
        case "shared_secret":
            return SharedSecretHeader(header=str(webhook.get("header", "X-Webhook-Secret")))
        case other:
            raise PluginConfigError(f"webhook.scheme {str(other)[:40]!r} is not one of hub_signature, basic, shared_secret")
