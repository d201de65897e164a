"""How a TOPdesk action is authenticated. Action Management cannot sign: it sends stored credentials or a header an admin typed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugins.api import PluginConfigError
from plugins.webhook import BasicAuth, SharedSecretHeader, SharedSecretQuery, WebhookValidator

SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105 - a header's name


def validator_of(webhook: Mapping[str, Any]) -> WebhookValidator:
    """The validator of a tenant's `webhook` setting: scheme `shared_secret` (a header, the default), `bearer`, `basic` or `query`.

    None of them covers a byte of the body or a time: use them over TLS only.
    """
    match webhook.get("scheme", "shared_secret"):
        case "shared_secret":
            return SharedSecretHeader(header=str(webhook.get("header") or SECRET_HEADER))
        case "bearer":
            return SharedSecretHeader(header="Authorization", prefix="Bearer ", scheme="bearer")
        case "basic":
            return BasicAuth(user=str(webhook.get("user") or ""))
        case "query":
            return SharedSecretQuery(parameter=str(webhook.get("parameter") or "key"))
        case other:
            raise PluginConfigError(f"webhook.scheme {str(other)[:40]!r} is not one of shared_secret, bearer, basic, query")
