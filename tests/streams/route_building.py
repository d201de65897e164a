"""What the tests of routing build with: received records, a plugin that reads the simplest body, and a seen topic in memory."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

from plugins.api import Delivery, NotADelivery, PluginContext, TicketingToolPlugin, TicketMetadata
from schemas.codec import Codec
from schemas.events import BatchSeen, LinkSet, ProcessingFailed, SeenRecord, TicketRouted, WebhookReceived
from schemas.ids import body_dedup_key, delivery_dedup_key, ticket_key
from schemas.ticket import Priority, TicketChange, TicketType
from streams.producer import Outgoing
from streams.route_step import RouteContext
from streams.routing.rules import RuleSet
from streams.seen import SeenCache
from streams.topics import DEAD_LETTER, ROUTED, SEEN

NOON = 1_790_000_000_000_000
MINUTE = 60_000_000
HOUR = 60 * MINUTE
CODEC = Codec()

T = TypeVar("T")


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never has to wait."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


@dataclass(frozen=True)
class ARecord:
    """A fetched record."""

    offset: int
    value: bytes | None
    key: bytes | None = b"acme/desk/1"
    timestamp: int = NOON // 1000


def a_received(
    *,
    number: int = 1,
    delivery_id: str | None = None,
    ticket_id: str = "1",
    body: Any = None,
    raw: bytes | None = None,
    received_at: int = NOON,
    tool: str = "desk",
    injection_id: str | None = None,
    scope: str | None = None,
) -> WebhookReceived:
    """An event as the door makes it; scope body without a delivery_id."""
    content = raw if raw is not None else json.dumps(body if body is not None else {"id": ticket_id}).encode()
    if scope is None:
        scope = "delivery" if delivery_id is not None else "body"
    key = (
        delivery_dedup_key("acme", tool, delivery_id or "")
        if scope == "delivery"
        else body_dedup_key(ticket_key("acme", tool, ticket_id), content)
    )
    return WebhookReceived(
        event_id=str(uuid.UUID(int=(NOON // 1000) << 80 | 7 << 76 | 2 << 62 | number)),
        dedup_key=key,
        dedup_scope=scope,
        delivery_id=delivery_id,
        tenant="acme",
        tool=tool,
        tool_type="simple",
        ticket_id=ticket_id,
        content_type="application/json",
        headers={"x-tool-delivery": delivery_id or "none"},
        received_at=received_at,
        verified_by="hmac:abcd",
        validation_us=41,
        injection_id=injection_id,
        body=content,
    )


def records_of(events: Iterable[WebhookReceived | bytes | None], first: int = 0) -> list[ARecord]:
    """Events, or raw bytes, as they lie on the received topic."""
    return [ARecord(first + i, e if e is None or isinstance(e, bytes) else CODEC.encode(e)) for i, e in enumerate(events)]


class SimplePlugin(TicketingToolPlugin):
    """Reads {"id", "type", "priority", "change", "subject", "actor", "comment", "changed", "updated_at", "fault"}."""

    tool_type = "simple"
    version = "1.0.0"

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        try:
            body = json.loads(delivery.body)
        except ValueError:
            raise NotADelivery("the body is not JSON") from None
        if not isinstance(body, dict) or "id" not in body:
            raise NotADelivery("the body names no ticket")
        if body.get("fault"):
            raise ZeroDivisionError(body["fault"])
        return TicketMetadata(
            tenant_id=delivery.tenant,
            ticket_id=str(body["id"]),
            type=TicketType(body.get("type", "unknown")),
            priority=Priority(body.get("priority", "unknown")),
            change=TicketChange(body.get("change", "updated")),
            subject=body.get("subject", ""),
            description=body.get("description", ""),
            actor=body.get("actor"),
            updated_at=body.get("updated_at"),
            extra={name: tuple(v) if isinstance(v := body[name], list) else v for name in ("comment", "changed") if name in body},
        )

    def validate_webhook(self, delivery: Delivery) -> Any:
        raise NotImplementedError

    def ticket_key(self, delivery: Delivery) -> str | None:
        raise NotImplementedError

    async def get_ticket(self, ticket_id: str) -> Any:
        raise NotImplementedError

    create_ticket = update_ticket = add_note = find_by_external_id = has_update = has_note = health_check = get_ticket


@dataclass
class OneTenant:
    """Tenant acme with tool desk, for the registry, the manager and the links at once."""

    routes: Sequence[Any] = ()
    default: Any = field(default_factory=lambda: a_route(to="jira", do=["mirror"]))
    settings: Mapping[str, Any] = field(default_factory=dict)
    links: dict[str, LinkSet] = field(default_factory=dict)
    fault: Exception | None = None

    def __post_init__(self) -> None:
        self.rules = RuleSet.compile(self.routes, self.default, 7)
        self.plugin = SimplePlugin(
            PluginContext(tenant="acme", tool="desk", settings=self.settings, secrets=lambda name: [], http=lambda: None)
        )

    def at(self, tenant: str, received_at: int) -> OneTenant | None:
        return self if tenant == "acme" else None

    def peek(self, tenant: str, tool: str, at: int) -> TicketingToolPlugin | None:
        if self.fault is not None:
            raise self.fault
        return self.plugin if (tenant, tool) == ("acme", "desk") else None

    def by_target(self, tenant: str, tool: str, ticket_id: str) -> LinkSet | None:
        return self.links.get(ticket_id)


def a_route(
    name: str = "", match: Mapping[str, Any] | None = None, to: str | None = None, do: Sequence[str] = ("mirror",), **more: Any
) -> SimpleNamespace:
    """A route as configured."""
    return SimpleNamespace(**{"name": name, "match": match or {}, "to": to, "do": list(do), "failover": [], **more})


def a_context(tenant: OneTenant | None = None, seen: SeenCache | None = None, *, topic: SeenTopic | None = None) -> RouteContext:
    """A context whose partition 0 is caught up."""
    tenant = tenant or OneTenant()
    seen = seen or SeenCache(None, CODEC)
    at_once(seen.catch_up(0, topic or SeenTopic()))
    return RouteContext(
        codec=CODEC,
        seen=seen,
        tenants=tenant,
        plugins=tenant,
        links=tenant,
        clock=SimpleNamespace(now=lambda: NOON + HOUR, sleep=None),
        nanoseconds=lambda: 0,
    )


class SeenTopic:
    """One partition of tickets.seen.v1, in memory: a SeenSource."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes | None]] = []
        """(append time, value); the offset is the place in the list."""
        self.begin = 0

    def append(self, value: bytes | None, time_us: int = NOON) -> int:
        self.records.append((time_us, value))
        return len(self.records) - 1

    async def bounds(self) -> tuple[int, int]:
        return self.begin, len(self.records)

    async def offset_at(self, time_us: int) -> int | None:
        return next((i for i, (at, _) in enumerate(self.records) if at >= time_us and i >= self.begin), None)

    async def read(self, start: int, end: int) -> AsyncIterator[Sequence[tuple[int, bytes | None]]]:
        for at in range(start, end, 3):
            yield [(i, self.records[i][1]) for i in range(at, min(at + 3, end))]

    def decisions(self) -> dict[int, SeenRecord]:
        """By received offset, the first decision on the topic."""
        found: dict[int, SeenRecord] = {}
        for _, value in self.records:
            for record in CODEC.decode_as(BatchSeen, value).records:
                found.setdefault(record.offset, record)
        return found


def routed_of(outgoing: Iterable[Outgoing]) -> list[TicketRouted]:
    """The routed events among what is sent."""
    return [CODEC.decode_as(TicketRouted, o.value) for o in outgoing if o.topic == ROUTED.name]


def letters_of(outgoing: Iterable[Outgoing]) -> list[ProcessingFailed]:
    """The dead letters among what is sent."""
    return [CODEC.decode_as(ProcessingFailed, o.value) for o in outgoing if o.topic == DEAD_LETTER.name]


def seen_of(outgoing: Iterable[Outgoing]) -> list[BatchSeen]:
    """The BatchSeen records among what is sent."""
    return [CODEC.decode_as(BatchSeen, o.value) for o in outgoing if o.topic == SEEN.name]
