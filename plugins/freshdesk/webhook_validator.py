"""How a Freshdesk webhook is authenticated: the tool signs nothing, so by what an admin types into the rule. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugins.api import PluginConfigError
from plugins.webhook import BasicAuth, SharedSecretHeader, SharedSecretQuery, WebhookValidator

SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105 - a header's name


def validator_of(webhook: Mapping[str, Any]) -> WebhookValidator:
    """The validator of a tenant's `webhook` setting; none of them covers a byte of the body.

    `shared_secret` (default): a custom header of the rule is the secret. `basic`: the rule's own authentication, user `user`.
    `query`: the secret ends the address, `?key=…`, for rules whose form offers neither.
    """
    match webhook.get("scheme", "shared_secret"):
        case "shared_secret":
            return SharedSecretHeader(header=str(webhook.get("header") or SECRET_HEADER), prefix=str(webhook.get("prefix") or ""))
        case "basic":
            return BasicAuth(user=str(webhook.get("user") or ""))
        case "query":
            return SharedSecretQuery(parameter=str(webhook.get("parameter") or "key"))
        case other:
            raise PluginConfigError(f"webhook.scheme {str(other)[:40]!r} is not one of shared_secret, basic, query")
