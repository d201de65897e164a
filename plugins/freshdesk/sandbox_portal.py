"""Contacts and companies of the small Freshdesk."""

from __future__ import annotations

from typing import Any

from plugins.freshdesk.sandbox_desk import Desk, Json, shown
from plugins.freshdesk.sandbox_search import BadQuery, compiled
from plugins.mapping import to_micros
from plugins.sandbox.http import Request, Response, route
from plugins.sandbox.state import Table

CONTACT: Json = {
    **dict.fromkeys(("email", "phone", "mobile", "address", "company_id", "description", "job_title", "twitter_id", "unique_external_id")),
    "active": True,
    "view_all_tickets": False,
    "language": "en",
    "time_zone": "Berlin",
    "tags": [],
    "other_emails": [],
    "other_companies": [],
    "custom_fields": {},
    "deleted": False,
}
COMPANY: Json = {
    **dict.fromkeys(("description", "note", "health_score", "account_tier", "renewal_date", "industry")),
    "domains": [],
    "custom_fields": {},
}
IDENTIFIERS = ("email", "phone", "mobile", "twitter_id", "unique_external_id")


class PortalRoutes(Desk):
    """Two lists with their searches; what is unique in the tool is unique here."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.contacts = self.journal.table("contacts")
        self.companies = self.journal.table("companies")

    def contact_of(self, email: str, name: str = "") -> Json:
        known = self._same(self.contacts, "email", email)
        return known or self._new_contact({"email": email, "name": name or email.partition("@")[0]})

    # contacts ------------------------------------------------------------------------------------------------------------
    @route("GET", "/api/v2/contacts")
    def list_contacts(self, request: Request) -> Response:
        query = request.query
        since = to_micros(query.get("_updated_since") or query.get("updated_since"))
        deleted = query.get("state") == "deleted"
        rows = [
            contact
            for contact in self.contacts.values()
            if contact["deleted"] is deleted
            and all(
                str(contact[name]).casefold() == query[name].casefold()
                for name in (*IDENTIFIERS, "company_id")
                if query.get(name) is not None
            )
            and (since is None or contact["_at"] // 1_000_000 >= since // 1_000_000)
        ]
        return self._page(request, rows, shown)

    @route("GET", "/api/v2/contacts/autocomplete")
    def complete_contacts(self, request: Request) -> Response:
        term = request.query.get("term", "").casefold()
        found = (contact for contact in self.contacts.values() if not contact["deleted"])
        return self._json([{"id": c["id"], "name": c["name"]} for c in found if term and str(c["name"]).casefold().startswith(term)])

    @route("GET", "/api/v2/contacts/{id}")
    def show_contact(self, request: Request) -> Response:
        contact = self.contacts.get(request.params["id"])
        return self._json(shown(contact)) if contact else self.refusal(404, request)

    @route("POST", "/api/v2/contacts")
    def create_contact(self, request: Request) -> Response:
        given = self._given(request)
        if isinstance(given, Response):
            return given
        if not given.get("name"):
            return self._refused([("name", "It should be a/an String", "missing_field")])
        if not any(given.get(name) for name in IDENTIFIERS):
            return self._refused(
                [("email", "Please fill at least 1 of email, mobile, phone, twitter_id, unique_external_id", "missing_field")]
            )
        if (refusal := self._contact_fault(given, None)) is not None:
            return refusal
        return self._json(shown(self._new_contact(given)), 201)

    @route("PUT", "/api/v2/contacts/{id}")
    def update_contact(self, request: Request) -> Response:
        contact, given = self.contacts.get(request.params["id"]), self._given(request)
        if contact is None:
            return self.refusal(404, request)
        if isinstance(given, Response):
            return given
        if (refusal := self._contact_fault(given, contact)) is not None:
            return refusal
        custom = {**contact["custom_fields"], **(given.get("custom_fields") or {})}
        contact.update({**given, "custom_fields": custom})
        self.contacts.put(request.params["id"], self._stamped(contact))
        return self._json(shown(contact))

    @route("DELETE", "/api/v2/contacts/{id}")
    def delete_contact(self, request: Request) -> Response:
        return self._set_deleted(request, True)

    @route("PUT", "/api/v2/contacts/{id}/restore")
    def restore_contact(self, request: Request) -> Response:
        return self._set_deleted(request, False)

    @route("GET", "/api/v2/search/contacts")
    def search_contacts(self, request: Request) -> Response:
        return self._search(request, self.contacts)

    # companies -----------------------------------------------------------------------------------------------------------
    @route("GET", "/api/v2/companies")
    def list_companies(self, request: Request) -> Response:
        return self._page(request, self.companies.values(), shown)

    @route("GET", "/api/v2/companies/{id}")
    def show_company(self, request: Request) -> Response:
        company = self.companies.get(request.params["id"])
        return self._json(shown(company)) if company else self.refusal(404, request)

    @route("POST", "/api/v2/companies")
    def create_company(self, request: Request) -> Response:
        given = self._given(request)
        if isinstance(given, Response):
            return given
        if not given.get("name"):
            return self._refused([("name", "It should be a/an String", "missing_field")])
        if (refusal := self._company_fault(given, None)) is not None:
            return refusal
        number = self.next_id("company", 3001)
        company = self._stamped({"id": number, **COMPANY, "custom_fields": {}, **given}, new=True)
        self.companies.put(str(number), company)
        return self._json(shown(company), 201)

    @route("PUT", "/api/v2/companies/{id}")
    def update_company(self, request: Request) -> Response:
        company, given = self.companies.get(request.params["id"]), self._given(request)
        if company is None:
            return self.refusal(404, request)
        if isinstance(given, Response):
            return given
        if (refusal := self._company_fault(given, company)) is not None:
            return refusal
        company.update(given)
        self.companies.put(request.params["id"], self._stamped(company))
        return self._json(shown(company))

    @route("DELETE", "/api/v2/companies/{id}")
    def delete_company(self, request: Request) -> Response:
        if request.params["id"] not in self.companies:
            return self.refusal(404, request)
        self.companies.drop(request.params["id"])
        return self._headed(Response(204))

    @route("GET", "/api/v2/search/companies")
    def search_companies(self, request: Request) -> Response:
        return self._search(request, self.companies)

    # parts -------------------------------------------------------------------------------------------------------------
    def _new_contact(self, given: Json) -> Json:
        number = self.next_id("contact", 4001)
        contact = self._stamped({"id": number, **CONTACT, "custom_fields": {}, **given}, new=True)
        self.contacts.put(str(number), contact)
        return contact

    def _set_deleted(self, request: Request, deleted: bool) -> Response:
        contact = self.contacts.get(request.params["id"])
        if contact is None or contact["deleted"] is deleted:
            return self.refusal(404, request)
        contact["deleted"] = deleted
        self.contacts.put(request.params["id"], self._stamped(contact))
        return self._headed(Response(204))

    def _search(self, request: Request, table: Table) -> Response:
        try:
            test = compiled(request.query.get("query", ""))
        except BadQuery as exc:
            return self._refused([("query", str(exc), "invalid_value")])
        rows = [row for row in table.values() if not row.get("deleted") and self.indexed(row["_at"]) and test(row)]
        return self._searched(request, rows, shown)

    def _contact_fault(self, given: Json, own: Json | None) -> Response | None:
        strange = [(name, "Unexpected/invalid field in request", "invalid_field") for name in given if name not in {*CONTACT, "name"}]
        if strange:
            return self._refused(strange)
        if given.get("company_id") is not None and str(given["company_id"]) not in self.companies:
            return self._refused([("company_id", "There is no company matching the given company_id", "invalid_value")])
        return self._taken(self.contacts, IDENTIFIERS, given, own)

    def _company_fault(self, given: Json, own: Json | None) -> Response | None:
        strange = [(name, "Unexpected/invalid field in request", "invalid_field") for name in given if name not in {*COMPANY, "name"}]
        return self._refused(strange) if strange else self._taken(self.companies, ("name",), given, own)

    def _taken(self, table: Table, names: tuple[str, ...], given: Json, own: Json | None) -> Response | None:
        for name in names:
            other = self._same(table, name, given[name]) if given.get(name) else None
            if other is not None and other is not own:
                return self._refused([(name, "It should be a unique value", "duplicate_value")], 409)
        return None

    @staticmethod
    def _same(table: Table, name: str, value: Any) -> Json | None:
        found: Json | None = next((row for row in table.values() if str(row.get(name)).casefold() == str(value).casefold()), None)
        return found
