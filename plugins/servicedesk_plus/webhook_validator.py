"""How a ServiceDesk Plus webhook is authenticated. No edition signs: the admin types a header, or a script computes one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugins.api import PluginConfigError
from plugins.webhook import BasicAuth, HmacHeader, SharedSecretHeader, SharedSecretQuery, TimestampedHmac, WebhookValidator

SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105 - a header's name
SIGNATURE_HEADER = "X-ServiceDesk-Signature"
TIMESTAMP_HEADER = "X-ServiceDesk-Timestamp"


def validator_of(webhook: Mapping[str, Any]) -> WebhookValidator:
    """The validator of a tenant's `webhook` setting.

    `shared_secret` (default): the header is the secret; all that the webhook form can do, and it covers no byte of the body.
    `hmac`: a script signs `timestamp + "." + body` in hex; old deliveries are refused.
    `hmac_body`: the body alone, hex (or `encoding: base64`, as a Deluge function makes it), with or without `sha256=`.
    `basic`: the webhook's own authentication, user `user`.
    `query`: the secret in the address, `?key=…`, where the form takes no header.
    """
    header = webhook.get("header")
    match webhook.get("scheme", "shared_secret"):
        case "shared_secret":
            return SharedSecretHeader(header=str(header or SECRET_HEADER), prefix=str(webhook.get("prefix", "")))
        case "hmac":
            try:
                tolerance = float(webhook.get("tolerance", 300.0))
            except (TypeError, ValueError):
                raise PluginConfigError("webhook.tolerance must be a number of seconds") from None
            return TimestampedHmac(
                header=str(header or SIGNATURE_HEADER),
                timestamp_header=str(webhook.get("timestamp_header") or TIMESTAMP_HEADER),
                separator=b".",
                prefix="sha256=",
                tolerance=tolerance,
            )
        case "hmac_body":
            encoding = webhook.get("encoding", "hex")
            if encoding not in ("hex", "base64"):
                raise PluginConfigError(f"webhook.encoding {str(encoding)[:40]!r} is not one of hex, base64")
            return HmacHeader(header=str(header or SIGNATURE_HEADER), encoding=encoding, prefix="sha256=", prefix_optional=True)
        case "basic":
            return BasicAuth(user=str(webhook.get("user", "")))
        case "query":
            return SharedSecretQuery(parameter=str(webhook.get("parameter") or "key"))
        case other:
            raise PluginConfigError(f"webhook.scheme {str(other)[:40]!r} is not one of shared_secret, hmac, hmac_body, basic, query")
