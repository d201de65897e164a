"""Jira and Jira Service Management, on Cloud and on Data Center: signed webhooks in, REST out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from plugins.api import (
    ApiError,
    Attachment,
    BatchResult,
    CredentialsRefused,
    Delivery,
    DeliveryIdentity,
    FatalApiError,
    Health,
    NewNote,
    NewTicket,
    NotADelivery,
    NotFound,
    PluginConfigError,
    PluginContext,
    SlaTarget,
    TicketChanges,
    TicketingToolPlugin,
    TicketMetadata,
    TicketRef,
    TicketStatus,
    TornAnswer,
    Verified,
)
from plugins.jira.automation import RuleBody
from plugins.jira.names import SiteNames
from plugins.jira.payload import JiraWords, metadata_of_body, metadata_of_issue, quick_ticket_id, rich_text, ticket_id_in
from plugins.jira.webhook_validator import JiraValidator
from plugins.mapping import json_object, to_id, to_micros, to_text
from plugins.marker import same_marker

if TYPE_CHECKING:  # what only calls need comes with the first call: the door verifies and reads
    from plugins.http.client import ApiClient
    from plugins.jira.api_client import JiraClient
    from plugins.jira.desk import ServiceDesk
    from plugins.jira.writes import IssueWriter

Json = dict[str, Any]

PROPERTY: Final = "ai-agents"
"""The issue property that names the event whose write was applied last."""
IDENTIFIER: Final = "x-atlassian-webhook-identifier"

DEPLOYMENTS: Final = ("cloud", "data_center")
MAX_ATTACHMENT: Final = 100 << 20
"""Bytes of a file, up or down; a site may allow less."""
CONCURRENT_UPDATES: Final = 10
MAX_LISTED: Final = 1000
"""Tickets one call answers at most."""


class JiraPlugin(TicketingToolPlugin):
    """One tenant's Jira site. An issue's `id` is the ticket id: its key changes when it moves to another project."""

    tool_type = "jira"
    version = "1.1.0"
    search_lag = 60.0
    capabilities = frozenset({"sla", "approvals"})
    kept_headers = (IDENTIFIER, "x-atlassian-webhook-retry", "x-atlassian-webhook-flow")

    def __init__(self, context: PluginContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._validator = JiraValidator(settings.get("webhook") or {}, context)
        self._words = JiraWords(settings)
        self._names = SiteNames(settings)
        site = settings.get("site_url") or settings.get("base_url")
        self._site = str(site).rstrip("/") if site else None
        own = (settings.get("webhook") or {}).get("fields")
        self._own_bodies = bool(own)
        self._rule = RuleBody(context.tenant, own, self._words, self._site)
        self._deployment = settings.get("deployment") or "cloud"
        if self._deployment not in DEPLOYMENTS:
            raise PluginConfigError(f"deployment must be one of: {', '.join(DEPLOYMENTS)}")

    @cached_property
    def _http(self) -> ApiClient:
        from plugins.jira.connection import site_client

        return site_client(self.context)

    @cached_property
    def _api(self) -> JiraClient:
        from plugins.jira.api_client import JiraClient
        from plugins.jira.data_center import DataCenterClient

        return DataCenterClient(self._http) if self._deployment == "data_center" else JiraClient(self._http)

    @cached_property
    def _desk(self) -> ServiceDesk:
        from plugins.jira.desk import ServiceDesk

        return ServiceDesk(self.context.settings, self._http, self._names)

    @cached_property
    def _writer(self) -> IssueWriter:
        from plugins.jira.writes import IssueWriter

        return IssueWriter(self.context.settings, self._api, self._words, self._names)

    # pure ------------------------------------------------------------------------------------------------------------
    def validate_webhook(self, delivery: Delivery) -> Verified:
        return self._validator.validate(delivery)

    def identify(self, delivery: Delivery) -> DeliveryIdentity | None:
        """The delivery's identifier, the same in Jira's retries. It is a header, which the signature does not cover."""
        identifier = delivery.headers.get(IDENTIFIER)
        return DeliveryIdentity(identifier) if identifier else None

    def ticket_key(self, delivery: Delivery) -> str | None:
        if not self._own_bodies and (found := quick_ticket_id(delivery.body)) is not None:
            return found
        try:
            body = json_object(delivery.body)
        except NotADelivery:
            return None
        return self._rule.ticket_id(body) if self._rule.is_one(body) else ticket_id_in(body)

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        """Jira's own webhooks, posted issues, and what an automation rule sends in a shape of its own."""
        body = json_object(delivery.body)
        if self._rule.is_one(body):
            return self._rule.metadata(body)
        return metadata_of_body(delivery.tenant, body, self._words, self._site)

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
        """By label; requests by their text too, for they get the label after they are raised.

        An empty answer is checked once more: with a wrong token Cloud may search as nobody and find nothing.
        """
        quoted = external_id.replace("\\", "\\\\").replace('"', '\\"')
        clause = f'labels = "{quoted}"'
        if self.context.settings.get("request_type"):
            clause = f'({clause} OR description ~ "{quoted}")'
        async for issue in self._api.search(f"{clause} order by created asc", ("labels", "updated")):
            return self._ref(issue)
        await self._api.myself()
        return None

    async def search_tickets(self, jql: str, limit: int = 100) -> Sequence[TicketMetadata]:
        """Tickets by JQL, which must be bounded ("project = OPS and status = Open"); at most 1000."""
        found: list[TicketMetadata] = []
        async for issue in self._api.search(jql, ("*all", "-comment")):
            found.append(self._metadata(issue))
            if len(found) >= min(limit, MAX_LISTED):
                break
        return found

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
        """Creates the issue with its label and property in one act. Its status is the workflow's first: Jira takes none here.

        With the setting request_type a request is raised instead, and gets label and property in a second act; between the two
        it is found by our id at the end of its description.
        """
        if self.context.settings.get("request_type"):
            return await self._raise_request(ticket)
        return self._ref(await self._api.create(await self._writer.new(ticket), PROPERTY, _written_by(ticket.event_id)))

    async def _raise_request(self, ticket: NewTicket) -> TicketRef:
        from plugins.jira.writes import labels

        raised = await self._desk.raise_request(ticket)
        issue_id = to_id(raised.get("issueId"))
        if issue_id is None:
            raise TornAnswer("jira did not answer the id of the request", in_doubt=True)
        try:
            await self._api.add_labels(issue_id, labels(ticket), PROPERTY, _written_by(ticket.event_id))
        except ApiError as exc:
            raise TornAnswer(f"request {issue_id} is raised, and could not be labelled: {exc}", in_doubt=True) from None
        return self._ref({"id": issue_id, "key": raised.get("issueKey")})

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        """Sets fields by an edit and the status by a transition, each once however often this is tried.

        Both carry the event's id, the edit marked as the first half: it alone does not count as the update, and is not sent again.
        Raises ValidationRefused, before anything is written, when the workflow has no way to the wanted status, or its screen demands
        what nobody gave.
        """
        fields = await self._writer.changed(changes)
        transition, half_done, screen = None, False, {}
        if changes.status not in (None, TicketStatus.UNKNOWN):
            issue = await self._api.issue(ticket_id, fields="status", expand="transitions.fields,transitions", properties=PROPERTY)
            transition = self._writer.transition_to(issue, changes.status)
            half_done = _member(issue.get("properties"), PROPERTY) == _first_half_of(changes.event_id)
            if transition is not None:
                screen = await self._writer.screen_of(transition, changes.status)
        if transition is None:
            edited = await self._api.edit(ticket_id, fields, PROPERTY, _written_by(changes.event_id))
            return self._ref(edited) if edited is not None else TicketRef(ticket_id=ticket_id)
        if fields and not half_done:
            await self._api.edit(ticket_id, fields, PROPERTY, _first_half_of(changes.event_id))
        await self._api.transition(ticket_id, str(to_id(transition.get("id"))), screen, PROPERTY, _written_by(changes.event_id))
        return TicketRef(ticket_id=ticket_id)

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """Single edits, ten at a time: Jira's bulk edit sets one value for all, and no event's id."""
        from plugins.http.gather import each_bounded

        async def one(item: tuple[str, TicketChanges]) -> TicketRef:
            return await self.update_ticket(*item)

        results = []
        async with aclosing(each_bounded(changes.items(), one, CONCURRENT_UPDATES)) as outcomes:
            async for (ticket_id, _), outcome in outcomes:
                if isinstance(outcome, ApiError):
                    results.append(BatchResult(ticket_id, error=outcome))
                else:
                    results.append(BatchResult(ticket_id, ticket=outcome))
        return results

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        """Adds a comment: internal in a service desk project unless public, seen by all its members in other projects."""
        from plugins.richtext import from_markdown, with_marker

        text = with_marker(from_markdown(note.text), note.marker)
        comment = None
        if self.context.settings.get("service_desk"):
            comment = await self._desk.comment(ticket_id, text, public=note.public)
        if comment is None:
            comment = await self._api.comment(ticket_id, text, internal=not note.public)
        return _id_in(comment, "the comment")

    # files -----------------------------------------------------------------------------------------------------------
    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        """Sends the file as it comes, at most 100 MiB; customers of a service desk do not see it."""
        from plugins.http.multipart import Multipart

        form = Multipart({}, "file", filename, content_type, content, MAX_ATTACHMENT)
        return _id_in(await self._api.attach(ticket_id, form), "the attachment")

    async def list_attachments(self, ticket_id: str) -> Sequence[Attachment]:
        given = _member((await self._api.issue(ticket_id, fields="attachment")).get("fields"), "attachment")
        files = [file for file in given if isinstance(file, dict)] if isinstance(given, list) else []
        return [
            Attachment(
                attachment_id=_id_in(file, "an attachment"),
                filename=to_text(file.get("filename")),
                content_type=to_text(file.get("mimeType")) or "application/octet-stream",
                size=size if type(size := file.get("size")) is int else None,
            )
            for file in sorted(files, key=lambda file: to_micros(file.get("created")) or 0)
        ]

    async def download_attachment(self, ticket_id: str, attachment_id: str) -> AsyncGenerator[bytes, None]:
        """The file in chunks, at most 100 MiB. Jira finds it by its own id: the ticket's is not asked."""
        url = (await self._api.attachment(attachment_id)).get("content")
        if not isinstance(url, str) or not url.startswith("http"):
            raise FatalApiError("jira named a file and not its address")
        async with aclosing(self._api.content(url, MAX_ATTACHMENT)) as chunks:
            async for chunk in chunks:
                yield chunk

    # the service desk ------------------------------------------------------------------------------------------------
    async def sla_targets(self, ticket_id: str) -> Sequence[SlaTarget]:
        """Each SLA of a request; none for an issue that is no request."""
        try:
            return await self._desk.targets(ticket_id)
        except NotFound:
            await self._api.issue(ticket_id, fields="updated")  # no request, or no issue? The second is an error
            return ()

    async def approvals(self, ticket_id: str) -> Sequence[Mapping[str, Any]]:
        """A request's approvals: approval_id, name, decision (pending, approved, declined), can_answer, approvers."""
        return await self._desk.approvals(ticket_id)

    async def answer_approval(self, ticket_id: str, approval_id: str, decision: str) -> Mapping[str, Any]:
        """Answers an approval with `approve` or `decline`, in the name of our account, which must be one of its approvers."""
        return await self._desk.answer(ticket_id, approval_id, decision)

    async def queues(self) -> Sequence[Mapping[str, Any]]:
        """The service desk's queues: queue_id, name, tickets (how many)."""
        return await self._desk.queues()

    async def queue_tickets(self, queue_id: str, limit: int = 100) -> Sequence[str]:
        """The ids of a queue's tickets in its own order, at most 1000."""
        return await self._desk.queue_tickets(queue_id, limit)

    async def request_types(self) -> Sequence[Mapping[str, Any]]:
        """What customers of the service desk can ask for: request_type_id, name, issue_type_id."""
        return await self._desk.request_types()

    async def health_check(self) -> Health:
        """Asks who we are: unlike searches, that cannot be answered to nobody."""
        try:
            me = await self._api.myself()
        except CredentialsRefused:
            return Health(False, "the site refuses this account's credentials (auth); make a new token for it")
        except (ApiError, PluginConfigError) as exc:
            return Health(False, str(exc))
        actor = to_id(me.get("accountId")) or to_id(me.get("name"))  # Data Center knows its people by name
        if actor is None or me.get("active") is False:
            return Health(False, "the site does not know this account, or it is deactivated")
        own = self.context.settings.get("actor")
        if own is not None and str(own) != actor:
            return Health(False, f"the setting actor is not this account's, {actor}: echoes would not be recognised", actor)
        return Health(True, "" if own is not None else f"set actor to {actor}, so that echoes are recognised by it", actor)

    # parts -----------------------------------------------------------------------------------------------------------
    def _metadata(self, issue: Json) -> TicketMetadata:
        fields = issue.get("fields")
        if self._deployment == "data_center" and isinstance(fields, dict) and isinstance(fields.get("description"), str):
            from plugins.richtext import from_wiki, to_plain

            issue = {**issue, "fields": {**fields, "description": to_plain(from_wiki(fields["description"]))}}
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


def _written_by(event_id: str) -> Json:
    """The property's value once an event's whole change is applied."""
    return {"event_id": event_id}


def _first_half_of(event_id: str) -> Json:
    """The property's value while the fields are set and the status is not."""
    return {"event_id": event_id, "part": "fields"}


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _id_in(answer: Json, what: str) -> str:
    found = to_id(answer.get("id"))
    if found is None:
        raise TornAnswer(f"jira did not answer the id of {what}", in_doubt=True)
    return found
