"""One tenant's TOPdesk as the plugin uses it: the calls, in the tenant's words, with what a single call does not do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from plugins.api import ApiError, CredentialsRefused, NewTicket, NotFound, TicketChanges, ValidationRefused
from plugins.http.gather import each_bounded
from plugins.mapping import to_micros
from plugins.topdesk.api_client import TopdeskClient, UnknownValue, is_unid_prefix, quoted, topdesk_error
from plugins.topdesk.changes import ChangeNotes, change_change, new_change
from plugins.topdesk.incidents import changed_incident, new_incident
from plugins.topdesk.lists import TenantLists, language_of
from plugins.topdesk.payload import TopdeskReader, to_unid

if TYPE_CHECKING:
    import httpx

    from plugins.http.client import ApiClient

Json = dict[str, Any]
T = TypeVar("T")

CONCURRENCY: Final = 8
CHANGES_LOOKED_INTO: Final = 100


class Desk:
    """The calls of `api`, and what takes several of them."""

    def __init__(self, http: ApiClient, auth: httpx.Auth, settings: Mapping[str, Any], reader: TopdeskReader) -> None:
        base = str(settings.get("base_url") or "").rstrip("/").removesuffix("/tas/api").removesuffix("/tas")
        headers = {"Accept": "application/json", "Accept-Language": language_of(settings)}
        self.api = TopdeskClient(http.bound(base_url=base, auth=auth, headers=headers, error_for=topdesk_error))
        self.notes_on_changes = ChangeNotes(shown_is_meant=settings.get("change_notes") == "visible")
        self._settings = settings
        self._lists = TenantLists(settings, reader)

    # writes ----------------------------------------------------------------------------------------------------------
    async def create_incident(self, ticket: NewTicket) -> Json:
        return await self._worded(lambda: self.api.create_incident(new_incident(self._settings, self._lists, ticket)))

    async def create_change(self, ticket: NewTicket) -> Json:
        return await self._worded(lambda: new_change(self.api, self._settings, self._lists, ticket))

    async def update_incident(self, ticket_id: str, changes: TicketChanges) -> Json:
        return await self._worded(lambda: self.patch(ticket_id, changed_incident(self._settings, self._lists, changes)))

    async def update_change(self, ticket_id: str, changes: TicketChanges) -> None:
        await self._worded(lambda: change_change(self.api, self._lists, ticket_id, changes))

    async def patch(self, ticket_id: str, body: Json) -> Json:
        """404 means a missing incident, or a value of the body that does not exist: only a look can tell."""
        try:
            return await self.api.update_incident(ticket_id, body)
        except NotFound as exc:
            await self.api.incident(ticket_id)
            raise UnknownValue(f"the incident is there, a value named for it is not: {exc}", status=404) from None

    async def _worded(self, write: Callable[[], Awaitable[T]]) -> T:
        """Writes with TOPdesk's usual words; once more with the tenant's own where it does not know one of these."""
        readings = self._lists.readings
        try:
            return await write()
        except UnknownValue:
            await self._lists.read(self.api)
            if self._lists.readings == readings:
                raise
        return await write()

    # searches --------------------------------------------------------------------------------------------------------
    async def incident_of(self, external_id: str) -> Json | None:
        """The oldest incident with this external number."""
        query, fields = f"externalNumber=={quoted(external_id)}", "id,number,externalNumber,creationDate,modificationDate"
        found = [row async for row in self.api.incidents(query, fields) if row.get("externalNumber") == external_id]
        return min(found, key=lambda row: to_micros(row.get("creationDate")) or 0, default=None)

    async def change_of(self, external_id: str) -> Json | None:
        """The change with this external number, among the newest hundred open ones: lists neither show nor search the field."""
        try:
            listed = [row async for row in self.api.changes(open="true")]
        except (CredentialsRefused, NotFound):
            return None  # no change module, or it is closed to us: then no change of ours is in it
        newest = sorted(listed, key=lambda row: to_micros(row.get("creationDate")) or 0)[-CHANGES_LOOKED_INTO:]
        found = None
        async for _, card in each_bounded([str(row.get("id")) for row in newest], self.api.change, CONCURRENCY):
            if isinstance(card, ApiError):
                if not isinstance(card, NotFound):
                    raise card
            elif card.get("externalNumber") == external_id:
                found = card
        return found

    async def activities_of(self, change: str) -> list[Json]:
        """The change's activities; none where our account may not see them, which is a permission of its own."""
        try:
            return [row async for row in self.api.activities(change)]
        except (CredentialsRefused, NotFound):
            return []

    async def incidents_by_id(self, ticket_ids: Sequence[str]) -> dict[str, Json]:
        """Those that are there, by the id they were asked for, UUID or number."""
        unids = {unid: ticket_id for ticket_id in ticket_ids if (unid := to_unid(ticket_id))}
        numbers = {ticket_id: ticket_id for ticket_id in ticket_ids if to_unid(ticket_id) is None}
        found = {}
        for name, asked in (("id", unids), ("number", numbers)):
            if asked:
                async for row in self.api.incidents(f"{name}=in=({','.join(map(quoted, asked))})"):
                    if (value := str(row.get(name))) in asked:
                        found[asked[value]] = row
        return found

    async def completed(self, ticket_id: str) -> str | None:
        """The whole UUID of the one incident whose UUID begins so; None for none, several, or a TOPdesk that cannot search so."""
        if not is_unid_prefix(ticket_id):
            return None
        try:
            found = [row async for row in self.api.incidents(f"id=sw={quoted(ticket_id.lower())}", "id", page_size=2)]
        except ValidationRefused:
            return None
        return to_unid(found[0].get("id")) if len(found) == 1 else None
