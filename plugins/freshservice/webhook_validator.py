"""How a Freshservice webhook is authenticated: by a static secret an admin types into the automator's rule. Nothing is signed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugins.api import PluginConfigError
from plugins.webhook import BasicAuth, SharedSecretHeader, SharedSecretQuery, WebhookValidator

SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105 - a header's name


def validator_of(webhook: Mapping[str, Any]) -> WebhookValidator:
    """The validator of a tenant's `webhook` setting.

    `shared_secret` (default): a custom header line holds the secret. `basic`: the rule's "Requires authentication" with user
    `user`. `api_key`: its API key form, the secret as the whole Authorization header. `query`: the secret in the address, which
    ends up in logs on the way: the last resort.
    """
    match webhook.get("scheme", "shared_secret"):
        case "shared_secret":
            return SharedSecretHeader(header=str(webhook.get("header") or SECRET_HEADER).lower(), prefix=str(webhook.get("prefix") or ""))
        case "basic":
            return BasicAuth(user=str(webhook.get("user") or ""))
        case "api_key":
            return SharedSecretHeader(header="authorization", prefix=str(webhook.get("prefix") or ""), scheme="api-key")
        case "query":
            return SharedSecretQuery(parameter=str(webhook.get("parameter") or "key"))
        case other:
            raise PluginConfigError(f"webhook.scheme {str(other)[:40]!r} is not one of shared_secret, basic, api_key, query")
