"""Who and what there is in the small Freshdesk besides tickets: agents, groups, brands, mailboxes, ticket fields."""

from __future__ import annotations

from plugins.freshdesk.sandbox_desk import Desk, Json, shown
from plugins.freshdesk.sandbox_seed import AGENT, API_AGENT, EMAIL_CONFIGS, GROUPS, PRODUCTS, TICKET_FIELDS
from plugins.sandbox.http import Request, Response, route

AGENTS = (API_AGENT, AGENT)


class AccountRoutes(Desk):
    """Lists that do not change."""

    @route("GET", "/api/v2/agents/me")
    def me(self, request: Request) -> Response:
        return self._json(self._agent(request.actor.id))

    @route("GET", "/api/v2/agents/{id}")
    def show_agent(self, request: Request) -> Response:
        agent = self._agent(request.params["id"])
        return self._json(agent) if agent else self.refusal(404, request)

    @route("GET", "/api/v2/agents")
    def list_agents(self, request: Request) -> Response:
        email = request.query.get("email")
        return self._page(request, [agent for agent in AGENTS if email in (None, agent["contact"]["email"])], shown)

    @route("GET", "/api/v2/groups")
    def list_groups(self, request: Request) -> Response:
        return self._page(request, GROUPS, shown)

    @route("GET", "/api/v2/groups/{id}")
    def show_group(self, request: Request) -> Response:
        return self._one_of(GROUPS, request)

    @route("GET", "/api/v2/products")
    def list_products(self, request: Request) -> Response:
        return self._page(request, PRODUCTS, shown)

    @route("GET", "/api/v2/products/{id}")
    def show_product(self, request: Request) -> Response:
        return self._one_of(PRODUCTS, request)

    @route("GET", "/api/v2/email_configs")
    def list_email_configs(self, request: Request) -> Response:
        return self._page(request, EMAIL_CONFIGS, shown)

    @route("GET", "/api/v2/email_configs/{id}")
    def show_email_config(self, request: Request) -> Response:
        return self._one_of(EMAIL_CONFIGS, request)

    @route("GET", "/api/v2/ticket_fields")
    def ticket_fields(self, request: Request) -> Response:
        kind = request.query.get("type")
        return self._json([field for field in TICKET_FIELDS if kind in (None, field["type"])])

    # parts -------------------------------------------------------------------------------------------------------------
    @staticmethod
    def _agent(agent_id: str) -> Json | None:
        return next((agent for agent in AGENTS if str(agent["id"]) == agent_id), None)

    def _one_of(self, records: list[Json], request: Request) -> Response:
        found = next((record for record in records if str(record["id"]) == request.params["id"]), None)
        return self._json(found) if found else self.refusal(404, request)
