"""How a Jira delivery is verified: an admin webhook by its signature, one that an app registered by the app's token. Pure.

`X-Hub-Signature: {method}={hex}` is the HMAC of the exact body. The method is read from the header, as the vendor reserves the right
to change it from sha256 (https://developer.atlassian.com/cloud/jira/platform/webhooks/); weaker ones are never accepted.

Webhooks of apps are not signed. Those of an OAuth 2.0 app carry a token under the app's client secret (`oauth_jwt`), those of a
Connect app one under the tenant's shared secret, bound to method and address by its claim `qsh` (`connect_jwt`). Neither covers the
body.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote

from plugins.api import Delivery, PluginConfigError, PluginContext, SignatureMismatch, SignatureMissing, Verified
from plugins.webhook import BasicAuth, HmacHeader, SharedSecretHeader, SharedSecretQuery, WebhookValidator

if TYPE_CHECKING:
    from plugins.webhook_jwt import JwtHeader

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


@dataclass(frozen=True, slots=True)
class ConnectToken:
    """Accepts the token of a Connect app: issued by this tenant's client key, for this very address.

    https://developer.atlassian.com/cloud/jira/platform/understanding-jwt-for-connect-apps/
    """

    token: JwtHeader
    path: str

    def validate(self, delivery: Delivery, secrets: Sequence[bytes]) -> Verified:
        verified, claims = self.token.read(delivery, secrets)
        expected = query_hash(delivery.method, self.path, delivery.query)
        if not hmac.compare_digest(str(claims.get("qsh")).encode(), expected.encode()):
            raise SignatureMismatch("the token is for another address (qsh); see webhook.path")
        return verified


def query_hash(method: str, path: str, query: str) -> str:
    """Atlassian's `qsh`: method, path below the app's base address and sorted query, without the token itself."""
    pairs: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "jwt":
            pairs.setdefault(quote(name, safe="~"), []).append(quote(value, safe="~"))
    canonical = "&".join(f"{name}={','.join(sorted(pairs[name]))}" for name in sorted(pairs))
    path = (path.rstrip("/") or "/").replace("&", "%26")
    return hashlib.sha256(f"{method.upper()}&{path}&{canonical}".encode()).hexdigest()


class JiraValidator:
    """The validator of a tenant's `webhook` setting.

    `hub_signature` (the default); `oauth_jwt` and `connect_jwt` for apps; `basic`, `shared_secret` (a header) and `query` (the
    address) for Data Center 9 and older, which cannot sign.
    """

    def __init__(self, webhook: Mapping[str, Any], context: PluginContext) -> None:
        self._secrets, self._reference = context.secrets, str(webhook.get("secret") or "")
        self._validator = _validator(webhook, f"/webhooks/{context.tenant}/{context.tool}")

    def validate(self, delivery: Delivery) -> Verified:
        """Verified, or raises WebhookRejected; PluginConfigError when no usable secret is set."""
        return self._validator.validate(delivery, self._secrets(self._reference) if self._reference else ())


def _validator(webhook: Mapping[str, Any], path: str) -> WebhookValidator:
    match webhook.get("scheme", "hub_signature"):
        case "hub_signature":
            return HubSignature()
        case "oauth_jwt":
            return _token("Bearer ", "oauth-jwt", None)
        case "connect_jwt":
            client = webhook.get("client")
            if not client:
                raise PluginConfigError("webhook.scheme connect_jwt needs webhook.client, by which the installed app names this site")
            return ConnectToken(_token("JWT ", "connect-jwt", str(client)), str(webhook.get("path") or path))
        case "basic":
            return BasicAuth(user=str(webhook.get("user", "")))
        case "shared_secret":
            return SharedSecretHeader(header=str(webhook.get("header", "X-Webhook-Secret")))
        case "query":
            return SharedSecretQuery(parameter=str(webhook.get("parameter", "key")))
        case other:
            schemes = "hub_signature, oauth_jwt, connect_jwt, basic, shared_secret, query"
            raise PluginConfigError(f"webhook.scheme {str(other)[:40]!r} is not one of {schemes}")


def _token(prefix: str, scheme: str, issuer: str | None) -> JwtHeader:
    """HS256 alone, whatever the token says; Atlassian makes the key, so its length is not ours to choose."""
    from plugins.webhook_jwt import JwtHeader

    return JwtHeader(prefix=prefix, algorithms=("HS256",), issuer=issuer, scheme=scheme, min_shared_key=16)
