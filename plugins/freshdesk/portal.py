"""Capability `portal`: the contacts and companies behind the customer portal, found, kept in step and read when they changed.

Capability `directory` comes with it: a contact is a person. Records are Freshdesk's own JSON.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

from plugins.api import Conflict, FatalApiError, Person, ValidationRefused
from plugins.freshdesk.api_client import API, Json
from plugins.freshdesk.connection import FreshdeskConnection
from plugins.http.limits import segment
from plugins.mapping import to_id, to_micros, to_text

CONTACTS: Final = f"{API}/contacts"
COMPANIES: Final = f"{API}/companies"
MAX_PEOPLE: Final = 50


class PortalCalls(FreshdeskConnection):
    """The calls on contacts and companies. `since` is RFC 3339 or epoch; records come in the tool's order, each once."""

    # contacts ----------------------------------------------------------------------------------------------------------
    async def get_contact(self, contact_id: str) -> Json:
        return await self._api.record("GET", f"{CONTACTS}/{segment(contact_id)}")

    async def find_contact(self, email: str | None = None, external_id: str | None = None) -> Json | None:
        """By our id first, then by e-mail address; from the list itself, which does not lag. Deleted contacts are not found."""
        for name, value in (("unique_external_id", external_id), ("email", email)):
            if not value:
                continue
            for contact in await self._api.rows(CONTACTS, {name: value}, limit=100):
                known = [contact.get(name), *(contact.get("other_emails") or ())] if name == "email" else [contact.get(name)]
                if value.casefold() in (to_text(text).casefold() for text in known):
                    return contact
        return None

    async def upsert_contact(self, fields: Mapping[str, Any]) -> Json:
        """Updates the contact with this `unique_external_id` or `email`, or makes one; answers it.

        Two that make the same contact at once meet in Freshdesk's uniqueness: the later one updates.
        """
        email, external_id = to_text(fields.get("email")) or None, to_text(fields.get("unique_external_id")) or None
        if email is None and external_id is None:
            raise ValidationRefused("a contact needs email or unique_external_id to be known by")
        found = await self.find_contact(email, external_id)
        if found is None:
            try:
                return await self._api.record("POST", CONTACTS, {"name": email or external_id, **fields})
            except (Conflict, ValidationRefused) as refused:
                found = await self.find_contact(email, external_id)
                if found is None:  # refused for another reason, or a deleted contact holds the address: it must be restored
                    raise refused from None
        return await self._api.record("PUT", f"{CONTACTS}/{segment(to_text(found.get('id')))}", fields)

    async def sync_contacts(self, since: str | None = None) -> AsyncGenerator[Json, None]:
        """Every contact, or those changed since then, over all pages. Deleted ones are in `deleted_contacts` only."""
        async with contextlib.aclosing(self._changed(CONTACTS, since, "_updated_since")) as contacts:
            async for contact in contacts:
                yield contact

    async def contacts_changed_since(self, since: str, limit: int = 1000) -> list[Json]:
        return await _first(self.sync_contacts(since), limit)

    async def deleted_contacts(self, limit: int = 1000) -> list[Json]:
        return await self._api.rows(CONTACTS, {"state": "deleted"}, limit=limit)

    # companies ---------------------------------------------------------------------------------------------------------
    async def get_company(self, company_id: str) -> Json:
        return await self._api.record("GET", f"{COMPANIES}/{segment(company_id)}")

    async def find_company(self, name: str | None = None, domain: str | None = None) -> Json | None:
        """By name or domain, without case, from the list itself: the search lags minutes behind."""
        wanted_name, wanted_domain = (name or "").casefold(), (domain or "").casefold()
        async with contextlib.aclosing(self._api.pages(COMPANIES)) as companies:
            async for company in companies:
                domains = (to_text(text).casefold() for text in company.get("domains") or ())
                if (wanted_name and to_text(company.get("name")).casefold() == wanted_name) or (wanted_domain and wanted_domain in domains):
                    return company
        return None

    async def upsert_company(self, fields: Mapping[str, Any]) -> Json:
        """Updates the company of this `name`, or of one of these `domains`, or makes one; answers it."""
        name, domains = to_text(fields.get("name")) or None, fields.get("domains") or ()
        found = await self.find_company(name, to_text(domains[0]) if domains else None)
        if found is None:
            if name is None:
                raise ValidationRefused("a company needs a name")
            try:
                return await self._api.record("POST", COMPANIES, fields)
            except (Conflict, ValidationRefused) as refused:
                found = await self.find_company(name)
                if found is None:
                    raise refused from None
        return await self._api.record("PUT", f"{COMPANIES}/{segment(to_text(found.get('id')))}", fields)

    async def sync_companies(self, since: str | None = None) -> AsyncGenerator[Json, None]:
        """Every company, or those changed since then. Freshdesk has no filter for it: all pages are read."""
        async with contextlib.aclosing(self._changed(COMPANIES, since, None)) as companies:
            async for company in companies:
                yield company

    async def companies_changed_since(self, since: str, limit: int = 1000) -> list[Json]:
        return await _first(self.sync_companies(since), limit)

    # people ------------------------------------------------------------------------------------------------------------
    async def find_people(self, text: str) -> Sequence[Person]:
        """Contacts by e-mail address, or by the beginning of their name, which is told without the address."""
        if "@" in text:
            found = await self._api.rows(CONTACTS, {"email": text}, limit=MAX_PEOPLE)
        else:
            answer = await self._api.http.request("GET", f"{CONTACTS}/autocomplete", params={"term": text})
            found = [row for row in answer if isinstance(row, dict)] if isinstance(answer, list) else []
        return [_person(contact) for contact in found[:MAX_PEOPLE] if to_id(contact.get("id"))]

    # parts -------------------------------------------------------------------------------------------------------------
    async def _changed(self, path: str, since: str | None, filter_name: str | None) -> AsyncGenerator[Json, None]:
        """Judged here too: versions of the tool differ in the filter's name, and ignore a wrong one without a word."""
        start = to_micros(since) if since else None
        if since and start is None:
            raise FatalApiError("since is not a time; write it as 2026-03-02T09:40:05Z")
        seen: set[str] = set()
        params: dict[str, str | int] = {filter_name: since} if since and filter_name else {}
        async with contextlib.aclosing(self._api.pages(path, params)) as records:
            async for record in records:
                record_id = to_id(record.get("id"))
                changed_at = to_micros(record.get("updated_at"))
                if record_id is None or record_id in seen:  # a page shifts when a record before it goes
                    continue
                seen.add(record_id)
                if start is None or changed_at is None or changed_at >= start:
                    yield record


async def _first(records: AsyncGenerator[Json, None], limit: int) -> list[Json]:
    found: list[Json] = []
    async with contextlib.aclosing(records):
        async for record in records:
            found.append(record)
            if len(found) >= limit:
                break
    return found


def _person(contact: Json) -> Person:
    told = {name: to_text(contact.get(name)) for name in ("company_id", "phone", "mobile", "job_title", "unique_external_id", "language")}
    return Person(
        person_id=to_text(contact.get("id")),
        name=to_text(contact.get("name")),
        email=to_text(contact.get("email")) or None,
        attributes={name: text for name, text in told.items() if text},
    )
