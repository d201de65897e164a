"""All that a plugin's author imports: the plugin's base class (API v2), what goes in and out of it, and its errors.

Errors are grouped by what the caller should do:

    WebhookRejected          the delivery is refused, no event: SignatureMissing, SignatureMismatch, DeliveryTooOld, AddressRefused
    NotADelivery             signed, but its body cannot be read: a dead letter
    PluginConfigError        stop and fix the tenant's settings
    ApiError                 a call to the tool failed
      RetriableApiError      wait and repeat: RateLimited, ServerError, ConnectFailed, CallTimedOut, ConnectionLost, TornAnswer
      FatalApiError          do not repeat: NotFound, Conflict, ValidationRefused, CredentialsRefused

`ApiError.in_doubt` is True where the tool may have done what was asked all the same: search before repeating.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from plugins.capabilities import (
    CAPABILITIES,
    ConfigurationItem,
    DeviceContext,
    FindsPeople,
    Person,
    Relation,
    SlaTarget,
    TellsDevices,
    TellsSla,
)
from schemas.ticket import (
    PRIORITY_ALIASES,
    Priority,
    TicketChange,
    TicketMetadata,
    TicketStatus,
    TicketType,
)

if TYPE_CHECKING:
    from plugins.http.client import ApiClient
    from plugins.webhook import AllowedAddresses

API_VERSION = "2"


# --- what comes in -------------------------------------------------------------------------------------------------------


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook request as received. `headers` by lower-case name; `query` undecoded; `received_at` in epoch microseconds.

    `received_at` is the only clock a verification may use, so a re-read decides the same.
    """

    tenant: str
    tool: str
    body: bytes
    headers: Mapping[str, str]
    content_type: str = ""
    query: str = ""
    method: str = "POST"
    received_at: int = 0
    peer: str = ""
    """The address the connection came from, "" where there is none: not the tool's own behind a reverse proxy."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The delivery is authentic; `scheme` and `key_id` say by what. `key_id` is safe to log."""

    scheme: str
    key_id: str = "none"

    def __str__(self) -> str:
        return f"{self.scheme}:{self.key_id}"


@dataclass(frozen=True, slots=True)
class DeliveryIdentity:
    """What makes a redelivery recognisable. `signed` is True when the signature covers the id."""

    delivery_id: str
    signed: bool = False


# --- what goes out -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTicket:
    """A ticket to create. Text is Markdown; `external_id` is ours, stored where the tool can search it; `event_id` as in TicketChanges."""

    subject: str
    description: str = ""
    type: TicketType = TicketType.UNKNOWN
    priority: Priority = Priority.UNKNOWN
    status: TicketStatus = TicketStatus.UNKNOWN
    external_id: str
    event_id: str
    tags: tuple[str, ...] = ()
    custom_fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketChanges:
    """Fields to set on a ticket; None leaves a field as it is. `event_id` is stored with the change (see `has_update`)."""

    event_id: str
    subject: str | None = None
    priority: Priority | None = None
    status: TicketStatus | None = None
    type: TicketType | None = None
    custom_fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNote:
    """A note; internal unless `public`. Text is Markdown. `marker` is to be found again in the note's stored text by `has_note`."""

    text: str
    marker: str
    public: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketRef:
    """A ticket in the tool. `updated_at` is the tool's own, after the write, in epoch microseconds, where it told."""

    ticket_id: str
    url: str | None = None
    updated_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file on a ticket; `size` in bytes where the tool tells."""

    attachment_id: str
    filename: str
    content_type: str = "application/octet-stream"
    size: int | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one item of a batch: a value or the error that item met."""

    ticket_id: str
    ticket: TicketMetadata | TicketRef | None = None
    error: ApiError | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the tool answers with our credentials. `detail` says what to do when not; `actor` is our account as webhooks name it."""

    ok: bool
    detail: str = ""
    actor: str | None = None


# --- errors --------------------------------------------------------------------------------------------------------------


class PluginError(Exception):
    """Root of what a plugin raises on purpose. Texts hold no secrets and no bodies."""


class PluginConfigError(PluginError):
    """The tenant's settings for this tool cannot work; the text says which and how to mend them."""


class WebhookRejected(PluginError):
    """The delivery is not authentic: answered 401, no event. `reason` is the name it is counted under."""

    reason: ClassVar[str] = "rejected"


class SignatureMissing(WebhookRejected):
    """The header that should authenticate the delivery is absent."""

    reason = "signature_missing"


class SignatureMismatch(WebhookRejected):
    """The signature or the shared secret is not the configured one's."""

    reason = "signature_mismatch"


class DeliveryTooOld(WebhookRejected):
    """The signed timestamp is outside the window around received_at."""

    reason = "too_old"


class AddressRefused(WebhookRejected):
    """The delivery came from an address that the tenant's `webhook.addresses` does not name."""

    reason = "address_refused"


class NotADelivery(PluginError):
    """The body is not what the tool sends: not JSON, or without the ticket's id. The event becomes a dead letter."""


class ApiError(PluginError):
    """A call to the tool failed. `in_doubt`: the effect may have happened. `status` is the HTTP status, None without an answer."""

    def __init__(self, message: str, *, status: int | None = None, in_doubt: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.in_doubt = in_doubt
        self.retry_after = retry_after


class RetriableApiError(ApiError):
    """Wait and repeat."""


class RateLimited(RetriableApiError):
    """429, or the tool's own way to say so; `retry_after` in seconds where it told. Nothing was done."""


class ServerError(RetriableApiError):
    """5xx. In doubt, but for 503."""


class ConnectFailed(RetriableApiError):
    """No connection: DNS, refused, TLS. Nothing was sent."""


class CallTimedOut(RetriableApiError):
    """No answer in time; in doubt once the request was sent."""


class ConnectionLost(RetriableApiError):
    """The connection broke before the answer was whole; in doubt."""


class TornAnswer(RetriableApiError):
    """A success whose body cannot be read; in doubt."""


class FatalApiError(ApiError):
    """Repeating will not help."""


class NotFound(FatalApiError):
    """The ticket does not exist, or is hidden from our account."""


class Conflict(FatalApiError):
    """409: the ticket changed since it was read, or is locked."""


class ValidationRefused(FatalApiError):
    """400 or 422: the tool refuses these values."""


class CredentialsRefused(FatalApiError):
    """401 or 403: renew the tool's credentials."""


# --- the plugin ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PluginContext:
    """What the host gives a plugin, bound to one tenant's tool.

    `settings` is the tool's configuration with secret references left in place; `secrets(reference)` answers every live value of
    a reference such as "${secret:jira_hook}", newest first (two during a rotation), and a literal value as itself; `http()` gives
    the metered client, built on first use. Nothing here does I/O when the plugin is built.
    """

    tenant: str
    tool: str
    settings: Mapping[str, Any]
    secrets: Callable[[str], Sequence[bytes]]
    http: Callable[[], ApiClient]

    def secret(self, reference: str) -> str:
        """The newest value of a secret, as text: what a call authenticates with. Raises PluginConfigError without one."""
        live = self.secrets(reference)
        if not live:
            raise PluginConfigError(f"{reference} has no value; set it with: ai-agents secret set")
        try:
            return live[0].decode()
        except UnicodeDecodeError:
            raise PluginConfigError(f"{reference} is not text; set it again") from None


class TicketingToolPlugin(ABC):
    """A tool, bound to one tenant's connection of it. One instance serves many calls at once.

    `validate_webhook`, `handshake`, `identify`, `ticket_key` and `extract_metadata` are pure: no I/O, no clock but `delivery.received_at`.
    Every other method calls the tool and raises ApiError's kinds only.
    """

    tool_type: ClassVar[str]
    version: ClassVar[str]
    search_lag: ClassVar[float] = 60.0
    """Seconds after which a write, also one we gave up waiting for, is surely found by find_by_external_id, has_update and
    has_note. A tenant may set `search_lag` on its tool."""
    kept_headers: ClassVar[tuple[str, ...]] = ()
    """Request headers, lower case, kept in the event for extract_metadata; never credentials."""
    capabilities: ClassVar[frozenset[str]] = frozenset()
    """What this tool can do beyond tickets; plugins/capabilities.py says what each name promises."""
    allowed_from: AllowedAddresses | None = None
    """Where deliveries may come from, by the tenant's `webhook.addresses`: set by the host and checked by the door, for every tool."""

    def __init__(self, context: PluginContext) -> None:
        self.context = context

    # pure ------------------------------------------------------------------------------------------------------------
    @abstractmethod
    def validate_webhook(self, delivery: Delivery) -> Verified:
        """Says the delivery is authentic, and by what; raises WebhookRejected otherwise. Runs on raw bytes, before any parsing."""

    def identify(self, delivery: Delivery) -> DeliveryIdentity | None:
        """The tool's own id of this delivery, the same when it is redelivered; None where the tool gives none."""
        return None

    @abstractmethod
    def ticket_key(self, delivery: Delivery) -> str | None:
        """The ticket's id, cheaply; None when the body does not tell. Raises nothing."""

    @abstractmethod
    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        """The delivery in canonical words. Unknown words become UNKNOWN; raises NotADelivery when there is no ticket in it."""

    def handshake(self, delivery: Delivery) -> bytes | None:
        """The answer to a request by which the tool tries the webhook's address, as plain text; None for what is none.

        Asked for a GET, which nobody has verified: it must not tell a secret; and for a verified POST, which then is no event.
        Overridden only where a tool does so: a GET of the others is refused unasked.
        """
        return None

    def is_own_actor(self, metadata: TicketMetadata) -> bool:
        """Whether the delivery's actor is our own API account: the tool's `actor` setting, compared with metadata.actor."""
        own = self.context.settings.get("actor")
        return own is not None and metadata.actor is not None and metadata.actor == str(own)

    # calls -----------------------------------------------------------------------------------------------------------
    @abstractmethod
    async def get_ticket(self, ticket_id: str) -> TicketMetadata: ...

    @abstractmethod
    async def create_ticket(self, ticket: NewTicket) -> TicketRef: ...

    @abstractmethod
    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef: ...

    @abstractmethod
    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        """Adds the note and answers its id in the tool."""

    @abstractmethod
    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        """The ticket created with this external_id; None is to be believed only `search_lag` after the last doubtful write."""

    @abstractmethod
    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        """Whether an update (or the creation) carrying this event_id was applied to the ticket."""

    @abstractmethod
    async def has_note(self, ticket_id: str, marker: str) -> bool:
        """Whether a note with this marker is on the ticket; reads every page of its notes."""

    async def get_ticket_batch(self, ticket_ids: Sequence[str]) -> AsyncIterator[BatchResult]:
        """Each asked ticket once, in any order; a missing one with NotFound. Overridden where the tool reads many at once."""
        for ticket_id in ticket_ids:
            try:
                yield BatchResult(ticket_id, ticket=await self.get_ticket(ticket_id))
            except ApiError as exc:
                yield BatchResult(ticket_id, error=exc)

    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        """Applies each change; one failure does not stop the others. Overridden where the tool has a bulk endpoint."""
        results = []
        for ticket_id, change in changes.items():
            try:
                results.append(BatchResult(ticket_id, ticket=await self.update_ticket(ticket_id, change)))
            except ApiError as exc:
                results.append(BatchResult(ticket_id, error=exc))
        return results

    async def add_attachment(self, ticket_id: str, filename: str, content_type: str, content: AsyncIterator[bytes]) -> str:
        """Uploads a file to the ticket and answers its id there. Tools that cannot raise PluginConfigError."""
        raise PluginConfigError(f"{self.tool_type} cannot take attachments through this plugin")

    async def list_attachments(self, ticket_id: str) -> Sequence[Attachment]:
        """The files on the ticket, those of its notes too, oldest first. Tools that cannot raise PluginConfigError."""
        raise PluginConfigError(f"{self.tool_type} cannot list attachments through this plugin")

    def download_attachment(self, ticket_id: str, attachment_id: str) -> AsyncIterator[bytes]:
        """The file in chunks, as they come; ends with FatalApiError beyond the plugin's size limit, NotFound when it is not there."""
        raise PluginConfigError(f"{self.tool_type} cannot give attachments through this plugin")

    @abstractmethod
    async def health_check(self) -> Health:
        """Whether the tool answers with our credentials; sees through a tool's false positives."""

    async def aclose(self) -> None:  # noqa: B027 - a plugin without resources has nothing to close
        """Called once, when no lease is left."""


__all__ = [
    "API_VERSION",
    "CAPABILITIES",
    "PRIORITY_ALIASES",
    "AddressRefused",
    "ApiError",
    "Attachment",
    "BatchResult",
    "CallTimedOut",
    "ConfigurationItem",
    "Conflict",
    "ConnectFailed",
    "ConnectionLost",
    "CredentialsRefused",
    "Delivery",
    "DeliveryIdentity",
    "DeliveryTooOld",
    "DeviceContext",
    "FatalApiError",
    "FindsPeople",
    "Health",
    "NewNote",
    "NewTicket",
    "NotADelivery",
    "NotFound",
    "Person",
    "PluginConfigError",
    "PluginContext",
    "PluginError",
    "Priority",
    "RateLimited",
    "Relation",
    "RetriableApiError",
    "ServerError",
    "SignatureMismatch",
    "SignatureMissing",
    "SlaTarget",
    "TellsDevices",
    "TellsSla",
    "TicketChange",
    "TicketChanges",
    "TicketMetadata",
    "TicketRef",
    "TicketStatus",
    "TicketType",
    "TicketingToolPlugin",
    "TornAnswer",
    "ValidationRefused",
    "Verified",
    "WebhookRejected",
]
