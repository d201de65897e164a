"""Stand-ins for Jira: Cloud, and Data Center with its own version, accounts and webhooks.

Both speak the platform's REST and the service desk's API, as far as the plugin, people and the usual client libraries need it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any, ClassVar

from plugins.jira.sandbox_desk import DeskCalls
from plugins.jira.sandbox_issue import Json, checked, in_jira_words, in_webhook_form
from plugins.jira.sandbox_site import API, BOT_EMAIL, NOBODY, PERSON_EMAIL, basic
from plugins.richtext import from_markdown, to_adf
from plugins.sandbox.http import Request
from plugins.sandbox.server import Actor
from plugins.sandbox.webhooks import RetryPolicy


class JiraSandbox(DeskCalls):
    """Jira Cloud: REST v3 and v2, accounts by id, signed webhooks that are repeated."""

    tool_type: ClassVar[str] = "jira"
    retry_policy: ClassVar[RetryPolicy] = RetryPolicy(on_status=frozenset({408, 409, 425, 429, *range(500, 600)}))
    retry_header: ClassVar[str | None] = "X-Atlassian-Webhook-Retry"

    @property
    def credentials(self) -> Mapping[str, Any]:
        return {
            "auth": {"email": BOT_EMAIL, "api_token": self.secret("api token")},
            "actor": self.actors[0].id,
            "project": "OPS",
            "person": {"headers": {"Authorization": basic(PERSON_EMAIL, self.secret("person's token"))}},
        }

    @property
    def webhook(self) -> Mapping[str, Any]:
        return {"secret": self.secret("webhook secret")}

    def sign(self, body: bytes) -> Mapping[str, str]:
        return {
            "Content-Type": "application/json; charset=UTF-8",
            "User-Agent": "Atlassian-Webhook-HTTP-Client",
            "X-Hub-Signature": self.signature(body),
            "X-Atlassian-Webhook-Identifier": secrets.token_hex(12),
            "X-Atlassian-Webhook-Flow": "Primary",
        }

    def signature(self, body: bytes) -> str:
        return "sha256=" + hmac.new(self.secret("webhook secret").encode(), body, hashlib.sha256).hexdigest()

    def accounts(self) -> tuple[str, str]:
        """What our account, and a person, send as Authorization."""
        return basic(BOT_EMAIL, self.secret("api token")), basic(PERSON_EMAIL, self.secret("person's token"))

    def actor_of(self, request: Request) -> Actor | None:
        given = request.headers.get("authorization", "")
        for actor, known in zip(self.actors, self.accounts(), strict=True):
            if hmac.compare_digest(given.encode(), known.encode()):
                return actor
        path = self.path_of(request)
        open_to_all = request.method == "GET" and path.startswith((f"{API}/search", f"{API}/issue/", f"{API}/serverInfo", "/storage/"))
        return NOBODY if open_to_all else None

    # people ----------------------------------------------------------------------------------------------------------
    def person_creates(self, fields: Mapping[str, Any], request: Request) -> str:
        request.actor = self.actors[1]
        values = {"project": {"key": "OPS"}, "issuetype": {"name": "Incident"}, "summary": "(no subject)", **in_jira_words(fields)}
        status = values.pop("status", "Open")
        stored = checked(values, creating=True)
        issue = self.make(stored, {}, request, status, self.form_of(stored["issuetype"], "OPS"))
        return str(issue["id"])

    def person_updates(self, ticket_id: str, fields: Mapping[str, Any], request: Request) -> bool:
        request.actor, issue = self.actors[1], self.issue(ticket_id)
        if issue is None:
            return False
        values = in_jira_words(fields)
        status = values.pop("status", None)
        if values:
            self.change(issue, checked(values, creating=False), {}, request)
        if status is not None and status != issue["fields"]["status"]["name"]:
            self.move(issue, status, {}, request)
        if fields.get("comment"):
            self.note(issue, to_adf(from_markdown(str(fields["comment"]))), bool(fields.get("public")), request)
        return True


class DataCenterSandbox(JiraSandbox):
    """Jira Data Center 10: REST v2 alone, accounts by name, personal access tokens; a webhook goes out once and carries no id."""

    deployment: ClassVar[str] = "Server"
    actors: ClassVar[tuple[Actor, Actor]] = (Actor("bridge", False, "Ticket Bridge"), Actor("agent", True, "Agent on duty"))
    retry_policy: ClassVar[RetryPolicy] = RetryPolicy(on_status=frozenset())
    retry_header: ClassVar[str | None] = None

    @property
    def credentials(self) -> Mapping[str, Any]:
        return {
            "auth": {"personal_token": self.secret("api token")},
            "actor": self.actors[0].id,
            "project": "OPS",
            "deployment": "data_center",
            "person": {"headers": {"Authorization": "Bearer " + self.secret("person's token")}},
        }

    def accounts(self) -> tuple[str, str]:
        return f"Bearer {self.secret('api token')}", "Bearer " + self.secret("person's token")

    def path_of(self, request: Request) -> str:
        """There is no v3."""
        return "/none" if request.path.startswith(f"{API}/") else super().path_of(request)

    def sign(self, body: bytes) -> Mapping[str, str]:
        return {"Content-Type": "application/json; charset=UTF-8", "X-Hub-Signature": self.signature(body)}

    def tell_comment(self, issue: Json, comment: Json, request: Request) -> None:
        """Told twice: the comment without its issue, and the issue with the comment."""
        told = self.comment_form(issue, comment, wiki=True)
        self.fire({"timestamp": comment["at"] // 1000, "webhookEvent": "comment_created", "comment": told})
        body = {"timestamp": comment["at"] // 1000, "webhookEvent": "jira:issue_updated", "issue_event_type_name": "issue_commented"}
        shown = {"user": self.user(request.actor), "issue": in_webhook_form(issue, self.base_url)}
        self.fire({**body, **shown, "comment": told})
