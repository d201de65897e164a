"""Jira Cloud, Jira Service Management included: signed webhooks in, REST v3 out. Bodies of Data Center are read too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from plugins.api import (
    ApiError,
    BatchResult,
    CredentialsRefused,
    Delivery,
    DeliveryIdentity,
    Health,
    NewNote,
    NewTicket,
    NotADelivery,
    NotFound,
    PluginConfigError,
    PluginContext,
    Priority,
    TicketChanges,
    TicketingToolPlugin,
    TicketMetadata,
    TicketRef,
    TicketStatus,
    TicketType,
    TornAnswer,
    ValidationRefused,
    Verified,
)
from plugins.jira.payload import JiraWords, metadata_of_delivery, metadata_of_issue, rich_text, ticket_id_of
from plugins.jira.webhook_validator import validator_of
from plugins.mapping import to_id, to_micros
from plugins.marker import same_marker
from plugins.richtext import from_markdown, to_adf, with_marker

if TYPE_CHECKING:
    from plugins.jira.api_client import JiraClient

Json = dict[str, Any]

PROPERTY: Final = "ai-agents"
"""The issue property that names the event whose write was applied last."""
IDENTIFIER: Final = "x-atlassian-webhook-identifier"

PRIORITY_NAMES: Final[Mapping[str, str]] = {"urgent": "Highest", "high": "High", "medium": "Medium", "low": "Low"}
ISSUE_TYPES: Final[Mapping[str, str]] = {
    "incident": "Incident",
    "request": "Service request",
    "problem": "Problem",
    "change": "Change",
    "unknown": "Task",
}
"""What is written where a tenant's `priority_names` and `issue_types` say nothing else."""

MAX_SUMMARY: Final = 255
MAX_LABEL: Final = 255
MAX_ATTACHMENT: Final = 32 << 20
CONCURRENT_UPDATES: Final = 8


class JiraPlugin(TicketingToolPlugin):
    """One tenant's Jira site. An issue's `id` is the ticket id: its key changes when it moves to another project."""

    tool_type = "jira"
    version = "1.0.0"
    search_lag = 60.0
    kept_headers = (IDENTIFIER, "x-atlassian-webhook-retry", "x-atlassian-webhook-flow")

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._webhook: Mapping[str, Any] = settings.get("webhook") or {}
        self._validator = validator_of(self._webhook)
        self._words = JiraWords(settings)
        site = settings.get("base_url")
        self._site = str(site).rstrip("/") if site else None
        self._priority_names = _names(settings, "priority_names", Priority, PRIORITY_NAMES)
        self._issue_types = _names(settings, "issue_types", TicketType, ISSUE_TYPES)
        self._status_names = _names(settings, "status_names", TicketStatus, {})

    @cached_property
    def _api(self) -> JiraClient:
        from plugins.jira.api_client import JiraClient  # the doors verify and read only: they never load the HTTP client

        return JiraClient.of(self.context)

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        secret = self._webhook.get("secret")
        return self._validator.validate(delivery, self.context.secrets(str(secret)) if secret else ())

    def identify(self, delivery: Delivery) -> DeliveryIdentity | None:
        """The delivery's identifier, the same in Jira's retries. It is a header, which the signature does not cover."""
        identifier = delivery.headers.get(IDENTIFIER)
        return DeliveryIdentity(identifier) if identifier else None

    def ticket_key(self, delivery: Delivery) -> str | None:
        return ticket_id_of(delivery.body)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        return metadata_of_delivery(delivery, self._words, self._site)

    # reads -----------------------------------------------------------------------------------------------------------
    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        return self._metadata(await self._api.issue(ticket_id))

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        from plugins.jira.api_client import BULKFETCH_MAX

        for start in range(0, len(ticket_ids), BULKFETCH_MAX):
            chunk = list(dict.fromkeys(ticket_ids[start : start + BULKFETCH_MAX]))
            try:
                issues = await self._api.bulk_fetch(chunk)
            except ApiError as exc:
                for ticket_id in chunk:
                    yield BatchResult(ticket_id, error=exc)
                continue
            found = {issue.get("id"): issue for issue in issues} | {str(issue.get("key")).casefold(): issue for issue in issues}
            for ticket_id in chunk:
                issue = found.get(ticket_id) or found.get(ticket_id.casefold())
                if issue is None:
                    yield BatchResult(ticket_id, error=NotFound(f"issue {ticket_id} does not exist, or is hidden from our account"))
                else:
                    yield BatchResult(ticket_id, ticket=self._metadata(issue))

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        """By label. An empty answer is checked once more: with a wrong token Cloud may search as nobody and find nothing."""
        quoted = external_id.replace("\\", "\\\\").replace('"', '\\"')
        async for issue in self._api.search(f'labels = "{quoted}" order by created asc', ("labels", "updated")):
            return self._ref(issue)
        await self._api.myself()
        return None

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        try:
            value = await self._api.issue_property(ticket_id, PROPERTY)
        except NotFound:
            await self._api.issue(ticket_id, fields="updated")  # no property, or no issue? The second is an error
            return False
        return bool(value == _written_by(event_id))

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        async for comment in self._api.comments(ticket_id):
            if same_marker(rich_text(comment.get("body")), marker):
                return True
        return False

    # writes ----------------------------------------------------------------------------------------------------------
    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        """Creates the issue with its label and property in one act. Its status is the workflow's first: Jira takes none here."""
        project = self.context.settings.get("project")
        if not project:
            raise ValidationRefused("jira needs the setting project, the key of the project new issues go to")
        fields: Json = {
            "project": {"key": str(project)},
            "issuetype": {"name": self._issue_types[ticket.type]},
            "summary": _summary(ticket.subject),
            "labels": [ticket.external_id, *dict.fromkeys(_label(tag) for tag in ticket.tags if tag.strip())],
            **ticket.custom_fields,
        }
        if ticket.description.strip():
            fields["description"] = to_adf(from_markdown(ticket.description))
        if ticket.priority is not Priority.UNKNOWN:
            fields["priority"] = {"name": self._priority_names[ticket.priority]}
        created = await self._api.create(fields, PROPERTY, _written_by(ticket.event_id))
        return self._ref(created)

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        """Sets fields by an edit and the status by a transition, each once however often this is tried.

        Both carry the event's id, the edit marked as the first half: it alone does not count as the update, and is not sent again.
        Raises ValidationRefused, before anything is written, when the workflow has no way to the wanted status.
        """
        fields: Json = {**changes.custom_fields}
        if changes.subject is not None:
            fields["summary"] = _summary(changes.subject)
        if changes.priority not in (None, Priority.UNKNOWN):
            fields["priority"] = {"name": self._priority_names[changes.priority]}
        if changes.type not in (None, TicketType.UNKNOWN):
            fields["issuetype"] = {"name": self._issue_types[changes.type]}
        transition, half_done = None, False
        if changes.status not in (None, TicketStatus.UNKNOWN):
            issue = await self._api.issue(ticket_id, fields="status", expand="transitions", properties=PROPERTY)
            transition = self._transition_to(issue, changes.status)
            half_done = _member(issue.get("properties"), PROPERTY) == _first_half_of(changes.event_id)
        if transition is None:
            edited = await self._api.edit(ticket_id, fields, PROPERTY, _written_by(changes.event_id))
            return self._ref(edited) if edited is not None else TicketRef(ticket_id=ticket_id)
        if fields and not half_done:
            await self._api.edit(ticket_id, fields, PROPERTY, _first_half_of(changes.event_id))
        resolution = self.context.settings.get("resolution")
        done = changes.status in (TicketStatus.RESOLVED, TicketStatus.CLOSED)
        screen = {"resolution": {"name": str(resolution)}} if resolution and done else {}
        await self._api.transition(ticket_id, transition, screen, PROPERTY, _written_by(changes.event_id))
        return TicketRef(ticket_id=ticket_id)

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """Single edits, a few at a time: Jira's bulk edit sets one value for all and takes few fields."""
        turn = asyncio.Semaphore(CONCURRENT_UPDATES)

        async def one(ticket_id: str, change: TicketChanges) -> BatchResult:
            async with turn:
                try:
                    return BatchResult(ticket_id, ticket=await self.update_ticket(ticket_id, change))
                except ApiError as exc:
                    return BatchResult(ticket_id, error=exc)

        return await asyncio.gather(*(one(ticket_id, change) for ticket_id, change in changes.items()))

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        """Adds a comment: internal in a service desk project unless public, seen by all its members in other projects."""
        comment = await self._api.comment(ticket_id, to_adf(with_marker(from_markdown(note.text), note.marker)), internal=not note.public)
        return _id_in(comment, "the comment")

    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        held = bytearray()
        async for chunk in content:
            held += chunk
            if len(held) > MAX_ATTACHMENT:
                raise ValidationRefused(f"the attachment is larger than {MAX_ATTACHMENT >> 20} MiB")
        return _id_in(await self._api.attach(ticket_id, filename, content_type, bytes(held)), "the attachment")

    async def health_check(self) -> Health:
        """Asks who we are: unlike searches, that cannot be answered to nobody."""
        try:
            me = await self._api.myself()
        except CredentialsRefused:
            return Health(False, "the site refuses auth.email with auth.api_token; make a new API token for this account")
        except ApiError as exc:
            return Health(False, str(exc))
        actor = to_id(me.get("accountId"))
        if actor is None or me.get("active") is False:
            return Health(False, "the site does not know this account, or it is deactivated")
        own = self.context.settings.get("actor")
        if own is not None and str(own) != actor:
            return Health(False, f"the setting actor is not this account's accountId, {actor}: echoes would not be recognised", actor)
        return Health(True, "" if own is not None else f"set actor to {actor}, so that echoes are recognised by it", actor)

    # parts -----------------------------------------------------------------------------------------------------------
    def _transition_to(self, issue: Json, wanted: TicketStatus) -> str | None:
        """The id of the transition that leads to the status; None when the issue already stands there.

        A name in `status_names` is the status's only one; else names and categories are read as in webhooks. Where the workflow has
        not the wanted status, its nearest will do: a single "Done" takes both resolved and closed.
        """
        current, given = _member(issue.get("fields"), "status"), issue.get("transitions")
        offered = [t for t in given if isinstance(t, dict) and t.get("isAvailable") is not False] if isinstance(given, list) else []
        for near in (wanted, *_NEAR.get(wanted, ())):
            if self._is(current, near):
                return None
            for transition in offered:
                if self._is(transition.get("to"), near):
                    return to_id(transition.get("id"))
        names = ", ".join(sorted({str(_member(t.get("to"), "name")) for t in offered}))[:200]
        raise ValidationRefused(
            f"no transition leads issue {issue.get('id')} to {wanted}; its workflow offers: {names or 'none'}; "
            f"name the status to go to in status_names.{wanted}"
        )

    def _is(self, status: Any, wanted: TicketStatus) -> bool:
        name = self._status_names.get(wanted)
        if name is None:
            return self._words.status(status) is wanted
        found = _member(status, "name")
        return isinstance(found, str) and found.casefold() == name.casefold()

    def _metadata(self, issue: Json) -> TicketMetadata:
        try:
            return metadata_of_issue(self.context.tenant, issue, self._words, self._site)
        except NotADelivery as exc:
            raise TornAnswer(str(exc)) from None

    def _ref(self, issue: Json) -> TicketRef:
        ticket_id = _id_in(issue, "the issue")
        fields = issue.get("fields")
        key = issue.get("key")
        return TicketRef(
            ticket_id=ticket_id,
            url=f"{self._site}/browse/{key}" if self._site and isinstance(key, str) else None,
            updated_at=to_micros(fields.get("updated")) if isinstance(fields, dict) else None,
        )


_NEAR: Final[Mapping[TicketStatus, tuple[TicketStatus, ...]]] = {
    TicketStatus.NEW: (TicketStatus.OPEN,),
    TicketStatus.OPEN: (TicketStatus.NEW,),
    TicketStatus.RESOLVED: (TicketStatus.CLOSED,),
    TicketStatus.CLOSED: (TicketStatus.RESOLVED,),
}
"""The statuses that will do where a workflow has not the wanted one."""


def _names(settings: Mapping[str, Any], setting: str, kind: type[StrEnum], default: Mapping[str, str]) -> Mapping[str, str]:
    """The tool's names for canonical words, the tenant's over the default; raises PluginConfigError for a word that is none."""
    given = settings.get(setting) or {}
    strange = sorted(set(given) - set(kind))
    if strange:
        raise PluginConfigError(f"{setting}: {strange[0]!r} is not one of {', '.join(kind)}")
    return {**default, **given}


def _written_by(event_id: str) -> Json:
    """The property's value once an event's whole change is applied."""
    return {"event_id": event_id}


def _first_half_of(event_id: str) -> Json:
    """The property's value while the fields are set and the status is not."""
    return {"event_id": event_id, "part": "fields"}


def _summary(subject: str) -> str:
    """A summary Jira takes: one line, not empty, not too long."""
    return " ".join(subject.split())[:MAX_SUMMARY] or "(no subject)"


def _label(tag: str) -> str:
    """A tag as a label, which holds no space."""
    return "_".join(tag.split())[:MAX_LABEL]


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _id_in(answer: Json, what: str) -> str:
    found = to_id(answer.get("id"))
    if found is None:
        raise TornAnswer(f"jira did not answer the id of {what}", in_doubt=True)
    return found
