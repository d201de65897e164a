"""How a site is reached: its address and its account, by the tenant's settings. Loaded with the first call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from plugins.api import PluginConfigError, PluginContext
from plugins.http.auth import BasicAuth, HeaderAuth, RefreshToken
from plugins.http.client import ApiClient
from plugins.jira.api_client import jira_error_for

TOKEN_URL: Final = "https://auth.atlassian.com/oauth/token"  # noqa: S105 - an address


def site_client(context: PluginContext) -> ApiClient:
    """The client of a tenant's site; raises PluginConfigError when the address or the account is missing."""
    base_url = context.settings.get("base_url")
    if not base_url:
        raise PluginConfigError("jira needs base_url to be called")
    return context.http().bound(base_url=str(base_url), auth=_auth(context), error_for=jira_error_for)


def _auth(context: PluginContext) -> httpx.Auth:
    """By what is there: a personal access token, an OAuth refresh or access token, an account with its API token or password."""
    auth: Mapping[str, Any] = context.settings.get("auth") or {}
    if auth.get("personal_token"):
        return HeaderAuth("Authorization", _newest(context, auth, "personal_token"), prefix="Bearer ")
    if auth.get("refresh_token"):
        url, client = str(auth.get("oauth_url") or TOKEN_URL), str(auth.get("client_id") or "")
        return RefreshToken(url, client, _newest(context, auth, "client_secret"), _newest(context, auth, "refresh_token"))
    if auth.get("access_token"):
        return HeaderAuth("Authorization", _newest(context, auth, "access_token"), prefix="Bearer ")
    for user, secret in (("email", "api_token"), ("user", "password")):
        if auth.get(user) and auth.get(secret):
            return BasicAuth(str(auth[user]), _newest(context, auth, secret))
    raise PluginConfigError("jira needs auth.email and auth.api_token (Cloud), or auth.personal_token (Data Center), to be called")


def _newest(context: PluginContext, auth: Mapping[str, Any], name: str) -> Callable[[], str]:
    def ask() -> str:
        live = context.secrets(str(auth.get(name) or ""))
        if not live:
            raise PluginConfigError(f"auth.{name} names a secret that is not set; set it with: ai-agents secret set")
        try:
            return live[0].decode()
        except UnicodeDecodeError:
            raise PluginConfigError(f"auth.{name} is not text; set it again") from None

    return ask
