"""Where ServiceDesk Plus is and who we are there: a technician's key on premises, Zoho's OAuth tokens in the cloud.

A Zoho account lives in one data centre, which has an accounts host of its own: a refresh token of one is worth nothing at another.
Loaded with the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx

from plugins.api import PluginConfigError, PluginContext
from plugins.http.auth import HeaderAuth, RefreshToken
from plugins.http.errors import Answer

ACCOUNTS: Final[Mapping[str, str]] = {
    "us": "https://accounts.zoho.com",
    "eu": "https://accounts.zoho.eu",
    "in": "https://accounts.zoho.in",
    "au": "https://accounts.zoho.com.au",
    "cn": "https://accounts.zoho.com.cn",
    "jp": "https://accounts.zoho.jp",
    "ca": "https://accounts.zoho.ca",
    "uk": "https://accounts.zoho.uk",
    "sa": "https://accounts.zoho.sa",
}
"""By data centre; where the vendor moves one, `auth.accounts_url` says so."""

EARLY: Final = 300.0
"""A token of an hour is renewed five minutes before its end, as connectors in use do."""


TOO_MANY: Final = "Access Denied"
TOO_MANY_SECONDS: Final = 600.0
"""What Zoho says, under 400, to a refresh token that asked for some ten tokens within ten minutes."""


class ZohoToken(RefreshToken):
    """Zoho's access tokens; asking too often is a matter of time, not of credentials."""

    def _take(self, answer: Answer) -> bool:
        told = answer.json()
        if isinstance(told, dict) and told.get("error") == TOO_MANY:
            answer = replace(answer, status=429, headers={**answer.headers, "retry-after": f"{TOO_MANY_SECONDS:g}"})
        return super()._take(answer)


@dataclass(frozen=True, slots=True)
class Access:
    """The address before /api/v3, the credentials, and whether it is the cloud edition."""

    base_url: str
    auth: httpx.Auth
    cloud: bool


def access_of(context: PluginContext) -> Access:
    """By a tenant's settings: OAuth where a refresh token is set, else the key. Raises PluginConfigError for what is missing."""
    settings = context.settings
    auth: Mapping[str, Any] = settings.get("auth") or {}
    base = str(settings.get("base_url") or "").rstrip("/").removesuffix("/api/v3")
    if not base:
        raise PluginConfigError("servicedesk_plus needs base_url to be called")
    if auth.get("refresh_token"):
        missing = [name for name in ("client_id", "client_secret") if not auth.get(name)]
        if missing:
            raise PluginConfigError(f"auth.refresh_token needs auth.{missing[0]} beside it")
        token = ZohoToken(
            f"{accounts_url(auth)}/oauth/v2/token",
            _newest(context, auth, "client_id"),
            _newest(context, auth, "client_secret"),
            _newest(context, auth, "refresh_token"),
            header_prefix="Zoho-oauthtoken ",
            early=EARLY,
        )
        return Access(base, token, settings.get("edition", "cloud") == "cloud")
    if auth.get("technician_key"):
        return Access(base, HeaderAuth("authtoken", _newest(context, auth, "technician_key")), settings.get("edition") == "cloud")
    raise PluginConfigError("servicedesk_plus needs auth.technician_key, or auth.refresh_token with its client, to be called")


def accounts_url(auth: Mapping[str, Any]) -> str:
    """The host that gives tokens: `auth.accounts_url`, else the data centre's."""
    if auth.get("accounts_url"):
        return str(auth["accounts_url"]).rstrip("/")
    centre = str(auth.get("data_center") or "us").lower()
    if centre not in ACCOUNTS:
        raise PluginConfigError(f"auth.data_center {centre[:20]!r} is not one of {', '.join(ACCOUNTS)}; or set auth.accounts_url")
    return ACCOUNTS[centre]


def _newest(context: PluginContext, auth: Mapping[str, Any], name: str) -> Callable[[], str]:
    reference = str(auth[name])

    def newest() -> str:
        live = context.secrets(reference)
        if not live:
            raise PluginConfigError(f"auth.{name} names a secret that is not set; set it with: ai-agents secret set")
        try:
            return live[0].decode()
        except UnicodeDecodeError:
            raise PluginConfigError(f"auth.{name} is not text; set it again") from None

    return newest
