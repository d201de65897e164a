"""How a SysAid delivery is authenticated. The vendor documents no signature: an admin types a secret into the call. Pure.

A workflow's web service call can carry a header or basic credentials; a subscription of the newer API has only its address, so the
secret can stand in its query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugins.api import PluginConfigError
from plugins.webhook import BasicAuth, HmacHeader, SharedSecretHeader, SharedSecretQuery, WebhookValidator

SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105 - a header's name
SIGNATURE_HEADER = "X-SysAid-Signature"


def validator_of(webhook: Mapping[str, Any]) -> WebhookValidator:
    """The validator of a tenant's `webhook` setting: shared_secret (default), basic, token, or hmac where something signs."""
    header = webhook.get("header")
    match webhook.get("scheme", "shared_secret"):
        case "shared_secret":
            return SharedSecretHeader(header=str(header or SECRET_HEADER), prefix=str(webhook.get("prefix", "")))
        case "basic":
            return BasicAuth(user=str(webhook.get("user", "")))
        case "token":
            return SharedSecretQuery(parameter=str(webhook.get("parameter") or "token"))
        case "hmac":
            return HmacHeader(header=str(header or SIGNATURE_HEADER), prefix="sha256=", prefix_optional=True)
        case other:
            raise PluginConfigError(f"webhook.scheme {str(other)[:40]!r} is not one of shared_secret, basic, token, hmac")
