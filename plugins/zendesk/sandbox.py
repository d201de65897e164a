"""A small Zendesk: tickets, comments, audits, jobs, files, clocks, search and exports of API v2, and the webhooks of each write.

Speaks API v2 as far as the plugin, a person at its API and the usual client libraries need it. `POST /_webhook` takes `"kind":
"trigger"` for a trigger's body in place of event subscriptions; `POST /api/v2/webhooks` sets a webhook up as an admin does.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from plugins.sandbox.http import Request, Response, route
from plugins.sandbox.server import Actor, iso, now
from plugins.sandbox.webhooks import RetryPolicy
from plugins.zendesk.sandbox_account import AccountCalls
from plugins.zendesk.sandbox_desk import ACCOUNT_ID, AGENT_USER, API_USER, CUSTOMER_USER
from plugins.zendesk.sandbox_events import in_zendesk_words


class ZendeskSandbox(AccountCalls):
    """Zendesk Support with three accounts: ours, an agent's, and a customer behind them."""

    tool_type = "zendesk"
    retry_policy = RetryPolicy(on_status=frozenset({409}), needs_retry_after=frozenset({429, 503}))

    @property
    def credentials(self) -> Mapping[str, Any]:
        person = base64.b64encode(f"ada@desk.example/token:{self.secret('person_token')}".encode()).decode()
        return {
            "auth": {"email": "integration@desk.example", "api_token": self.secret("api_token")},
            "actor": str(API_USER),
            "oauth": {name: self.secret(name) for name in ("client_secret", "refresh_token")},
            "person": {"headers": {"Authorization": f"Basic {person}"}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"secret": self.secret("webhook_secret")}

    def actor_of(self, request: Request) -> Actor | None:
        if request.path.startswith("/attachments/token/") or request.path == "/oauth/tokens":
            return Actor("", False, "whoever has the address")
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(value.encode(), self.secret("access_token").encode()):
            return Actor(str(API_USER), False, "Integration")
        try:
            given = base64.b64decode(value).decode() if kind.lower() == "basic" else ""
        except ValueError:
            given = ""
        if given == f"integration@desk.example/token:{self.secret('api_token')}":
            return Actor(str(API_USER), False, "Integration")
        if given == f"ada@desk.example/token:{self.secret('person_token')}":
            return Actor(str(AGENT_USER), True, "Ada Agent")
        if self.path_of(request) == "/api/v2/users/me":
            return Actor("", False, "Anonymous user")  # the one call a wrong token may make
        return None

    def sign(self, body: bytes) -> Mapping[str, str]:
        timestamp = iso(now())
        digest = hmac.digest(self.secret("webhook_secret").encode(), timestamp.encode() + body, "sha256")
        return {
            "X-Zendesk-Webhook-Signature": base64.b64encode(digest).decode(),
            "X-Zendesk-Webhook-Signature-Timestamp": timestamp,
            "X-Zendesk-Webhook-Id": "01J0SANDBOX0000000000000000",
            "X-Zendesk-Webhook-Invocation-Id": f"01J{uuid4().hex[:23].upper()}",
            "X-Zendesk-Account-Id": str(ACCOUNT_ID),
            "User-Agent": "Zendesk Webhook",
            **_authentication(self.keys.get("webhook_authentication")),
        }

    @route("POST", "/oauth/tokens")
    def tokens(self, request: Request) -> Response:
        """The refresh grant, for the client `ai-agents` with the secrets `client_secret` and `refresh_token` of this sandbox."""
        body = request.json()
        given = body if isinstance(body, dict) else request.form
        expected = {"grant_type": "refresh_token", "client_id": "ai-agents", "client_secret": self.secret("client_secret")}
        if any(given.get(name) != value for name, value in {**expected, "refresh_token": self.secret("refresh_token")}.items()):
            return self.answer({"error": "invalid_grant", "error_description": "The provided authorization grant is invalid"}, 401)
        token = {"access_token": self.secret("access_token"), "refresh_token": self.secret("refresh_token"), "token_type": "bearer"}
        return self.answer({**token, "scope": "read write", "expires_in": 1800})

    # people --------------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = Actor(str(CUSTOMER_USER), True, "Cora Customer")
        given = {**in_zendesk_words(fields), "requester_id": CUSTOMER_USER}
        ticket, _ = self.make(given, {"body": fields.get("description") or fields.get("subject") or "", "public": True}, request)
        return str(ticket["id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor = Actor(str(AGENT_USER), True, "Ada Agent")
        ticket = self.tickets.get(ticket_id)
        if ticket is None:
            return False
        given = in_zendesk_words(fields)
        if fields.get("comment"):
            given["comment"] = {"body": fields["comment"], "public": fields.get("public", True)}
        self.change(ticket, given, request)
        return True


def _authentication(given: Any) -> Mapping[str, str]:
    """The header of a webhook's own authentication: a bearer token, Basic credentials, or a key of its own name."""
    if not isinstance(given, dict) or not isinstance(data := given.get("data"), dict):
        return {}
    match given.get("type"):
        case "bearer_token":
            return {"Authorization": f"Bearer {data.get('token', '')}"}
        case "basic_auth":
            pair = f"{data.get('username', '')}:{data.get('password', '')}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        case "api_key":
            return {str(data.get("name") or "X-Api-Key"): str(data.get("value") or "")}
    return {}
