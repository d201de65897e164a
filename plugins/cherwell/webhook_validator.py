"""How a Cherwell delivery is authenticated: a One-Step's web service call sends an account's credentials, or a header or parameter of
the web service's definition. Nothing is signed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugins.api import PluginConfigError
from plugins.webhook import BasicAuth, SharedSecretHeader, SharedSecretQuery, WebhookValidator

SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105 - a header's name


def validator_of(webhook: Mapping[str, Any]) -> WebhookValidator:
    """The validator of a tenant's `webhook` setting.

    `shared_secret` (default): a header of the web service. `basic`: the web service's account, user `user`. `query`: a parameter in the
    address, which ends up in logs on the way: the last resort.
    """
    match webhook.get("scheme", "shared_secret"):
        case "shared_secret":
            return SharedSecretHeader(header=str(webhook.get("header") or SECRET_HEADER))
        case "basic":
            return BasicAuth(user=str(webhook.get("user") or ""))
        case "query":
            return SharedSecretQuery(parameter=str(webhook.get("parameter") or "key"))
        case other:
            raise PluginConfigError(f"webhook.scheme {str(other)[:40]!r} is not one of shared_secret, basic, query")
