"""What every part of the Freshdesk plugin calls with: the client, bound to the account and its key, and what is known of the account."""

from __future__ import annotations

from functools import cached_property

from plugins.api import PluginConfigError, TicketingToolPlugin
from plugins.freshdesk.account import Account
from plugins.freshdesk.api_client import API, FreshdeskClient, freshdesk_error


class FreshdeskConnection(TicketingToolPlugin):
    """The parts (tickets, forum, portal) are mixed into one plugin; this is what they share."""

    @cached_property
    def _api(self) -> FreshdeskClient:
        from plugins.http.auth import BasicAuth  # with the first call, not with the plugin: the door only reads

        reference = str((self.context.settings.get("auth") or {}).get("api_key") or "")
        if not reference:
            raise PluginConfigError("auth of a freshdesk tool needs api_key, the key of an agent")
        auth = BasicAuth(lambda: self.context.secret(reference), "X")
        base_url = str(self.context.settings.get("base_url") or "").rstrip("/").removesuffix(API)
        return FreshdeskClient(self.context.http().bound(base_url=base_url, auth=auth, error_for=freshdesk_error))

    @cached_property
    def _account(self) -> Account:
        return Account(self._api, self.context.settings)
