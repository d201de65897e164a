"""A model of everything around process: a tool that answers late or not at all, the topics, and workers that die anywhere.

The worker runs the project's own scheduler, step and effects; only what is outside of the process is modelled.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from plugins.api import (
    Delivery,
    Health,
    NewNote,
    NewTicket,
    NotFound,
    PluginContext,
    Priority,
    RateLimited,
    ServerError,
    TicketChange,
    TicketChanges,
    TicketingToolPlugin,
    TicketMetadata,
    TicketRef,
    ValidationRefused,
    Verified,
)
from plugins.manager import UnknownTool
from schemas.codec import Codec
from schemas.events import Decision, LinkSet, ProcessingFailed, TicketProcessed, TicketRouted, WebhookReceived
from schemas.ids import ticket_key
from streams.doubt import PartitionDoubts
from streams.effects import Turn
from streams.finished import FinishedEvents, take_in
from streams.keyed import KeyedRunner, KeyedSchedule
from streams.links import LinkTable
from streams.process_step import PartitionState, ProcessContext, process_one
from streams.producer import Outgoing
from streams.topics import DEAD_LETTER, LINKS, PROCESSED
from streams.tracker import PrefixTracker, Unit
from tests.streams.process.virtual_time import LoopClock, VirtualLoop

TENANT, SOURCE, TARGET = "acme", "desk", "jira"
PARTITION = 3
WINDOW = 4
SEARCH_LAG = 20.0
LATEST_LANDING = 8.0
INDEX_LAG = 11.0
LATENCY = 0.05
T = TypeVar("T")


class Fate(StrEnum):
    """What becomes of one write."""

    DONE = "done"
    HUNG_LANDS_LATE = "hung, lands late"
    HUNG_LOST = "hung, lost"
    ERROR_LANDS_LATE = "500, lands late"
    ERROR_LANDED = "500 after it landed"
    ERROR_LOST = "500, lost"
    LIMITED = "429"
    REFUSED = "422"


@dataclass
class Effect:
    """A row of the tool's ledger."""

    kind: str
    ticket_id: str
    event_id: str
    external_id: str | None
    visible_at: float


@dataclass
class ToolModel:
    """What the tool holds, whoever asks; it outlives every worker."""

    loop: VirtualLoop
    effects: list[Effect] = field(default_factory=list)
    fates: deque[Fate] = field(default_factory=deque)
    index_lag: float = INDEX_LAG
    late: float = LATEST_LANDING
    on_landing: Callable[[], None] = lambda: None
    texts: list[str] = field(default_factory=list)
    """Of every note that was asked for."""

    async def write(self, kind: str, ticket_id: str | None, event_id: str, external_id: str | None = None) -> str:
        fate = self.fates.popleft() if self.fates else Fate.DONE
        landed: asyncio.Future[str] = self.loop.create_future()

        def land() -> None:
            where = ticket_id or f"{TARGET}-{len(self.effects) + 1}"
            self.effects.append(Effect(kind, where, event_id, external_id, self.loop.time() + self.index_lag))
            if not landed.done():
                landed.set_result(where)
            self.on_landing()

        match fate:
            case Fate.DONE:
                self.loop.call_later(LATENCY, land)
                answer = await asyncio.shield(landed)
                await asyncio.sleep(LATENCY)
                return answer
            case Fate.HUNG_LANDS_LATE:
                try:
                    await asyncio.sleep(1e6)
                finally:  # whether the caller gave up or died
                    self.loop.call_later(self.late, land)
            case Fate.HUNG_LOST:
                await asyncio.sleep(1e6)
            case Fate.ERROR_LANDS_LATE:
                self.loop.call_later(self.late, land)
            case Fate.ERROR_LANDED:
                self.loop.call_later(LATENCY, land)
                await asyncio.sleep(2 * LATENCY)
        await asyncio.sleep(LATENCY)
        if fate is Fate.LIMITED:
            raise RateLimited("429", status=429, retry_after=1.0)
        if fate is Fate.REFUSED:
            raise ValidationRefused("422", status=422)
        raise ServerError("500", status=500, in_doubt=True)

    def visible(self, **wanted: str | None) -> Effect | None:
        now = self.loop.time()
        return next((e for e in self.effects if e.visible_at <= now and all(getattr(e, k) == v for k, v in wanted.items())), None)


class ModelPlugin(TicketingToolPlugin):
    """The tool's plugin, as any vendor's would be."""

    tool_type = "model"
    version = "1.0.0"
    search_lag = SEARCH_LAG

    def __init__(self, tool: ToolModel, name: str) -> None:
        def no_http() -> Any:
            raise AssertionError("the model has no HTTP")

        super().__init__(PluginContext(tenant=TENANT, tool=name, settings={}, secrets=lambda _: (), http=no_http))
        self.tool = tool

    def validate_webhook(self, delivery: Delivery) -> Verified:
        return Verified("model")

    def ticket_key(self, delivery: Delivery) -> str | None:
        return str(json.loads(delivery.body)["ticket"])

    def extract_metadata(self, delivery: Delivery) -> TicketMetadata:
        body = json.loads(delivery.body)
        return TicketMetadata(
            tenant_id=TENANT, ticket_id=body["ticket"], subject=body["subject"], change=TicketChange(body["change"]), priority=Priority.HIGH
        )

    async def get_ticket(self, ticket_id: str) -> TicketMetadata:
        await asyncio.sleep(LATENCY)
        return TicketMetadata(tenant_id=TENANT, ticket_id=ticket_id, subject="as it is now", tags=("vip",))

    async def create_ticket(self, ticket: NewTicket) -> TicketRef:
        return TicketRef(ticket_id=await self.tool.write("create", None, ticket.event_id, ticket.external_id))

    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef:
        if not any(e.kind == "create" and e.ticket_id == ticket_id for e in self.tool.effects):
            raise NotFound(ticket_id, status=404)
        return TicketRef(ticket_id=await self.tool.write("update", ticket_id, changes.event_id))

    async def add_note(self, ticket_id: str, note: NewNote) -> str:
        self.tool.texts.append(note.text)
        return await self.tool.write("note", ticket_id, note.marker)

    async def find_by_external_id(self, external_id: str) -> TicketRef | None:
        await asyncio.sleep(LATENCY)
        found = self.tool.visible(kind="create", external_id=external_id)
        return TicketRef(ticket_id=found.ticket_id) if found else None

    async def has_update(self, ticket_id: str, event_id: str) -> bool:
        await asyncio.sleep(LATENCY)
        return any(self.tool.visible(kind=kind, ticket_id=ticket_id, event_id=event_id) for kind in ("create", "update"))

    async def has_note(self, ticket_id: str, marker: str) -> bool:
        await asyncio.sleep(LATENCY)
        return self.tool.visible(kind="note", ticket_id=ticket_id, event_id=marker) is not None

    async def health_check(self) -> Health:
        return Health(True)


class ModelPlugins:
    """The plugin manager's two doors."""

    def __init__(self, tool: ToolModel) -> None:
        self.tool = tool
        self.made: dict[str, TicketingToolPlugin] = {name: ModelPlugin(tool, name) for name in (SOURCE, TARGET)}
        self.gone: set[str] = set()

    def peek(self, tenant: str, tool: str, at: int) -> TicketingToolPlugin | None:
        return self.made.get(tool)

    @asynccontextmanager
    async def lease(self, tenant: str, tool: str, at: int) -> AsyncIterator[TicketingToolPlugin]:
        if tool in self.gone:
            raise UnknownTool(tool)
        yield self.made[tool]


@dataclass
class Log:
    """One partition of each topic, and the group's committed offset."""

    routed: list[TicketRouted] = field(default_factory=list)
    links: list[LinkSet] = field(default_factory=list)
    processed: list[TicketProcessed] = field(default_factory=list)
    dead: list[ProcessingFailed] = field(default_factory=list)
    committed: int = 0


class ModelProducer:
    """Stores in the log a little after it is asked and answers a little later; a dead worker's sends go nowhere."""

    def __init__(self, log: Log, loop: VirtualLoop, at_point: Callable[[str], None]) -> None:
        self._log = log
        self._loop = loop
        self._codec = Codec()
        self._at_point = at_point
        self.alive = True

    async def send(self, records: Sequence[Outgoing]) -> list[int]:
        await asyncio.sleep(0.01)
        if not self.alive:
            await self._loop.create_future()
        kind = {LINKS.name: "link", PROCESSED.name: "processed", DEAD_LETTER.name: "dead"}
        offsets = []
        for record in records:
            assert record.partition == PARTITION
            topic: list[Any] = getattr(self._log, {"link": "links"}.get(kind[record.topic], kind[record.topic]))
            topic.append(self._codec.decode(record.value))
            offsets.append(len(topic) - 1)
            self._at_point(f"{kind[record.topic]} stored")
        await asyncio.sleep(0.01)
        self._at_point(f"{kind[records[-1].topic]} acknowledged")
        return offsets


class Worker:
    """A process worker with one partition: its memory is what it reads from the log when it gets the partition."""

    def __init__(self, log: Log, tool: ToolModel, loop: VirtualLoop, at_point: Callable[[str], None]) -> None:
        self.log = log
        clock = LoopClock(loop)
        self.producer = ModelProducer(log, loop, at_point)
        links = LinkTable()
        for link in log.links:
            links.apply(link)
        doubts = PartitionDoubts(assigned_at=clock.now(), committed=log.committed, end=len(log.routed), window=WINDOW)
        finished = FinishedEvents()
        for event in log.processed:
            take_in(event, finished, doubts)
        self.state = PartitionState(partition=PARTITION, doubts=doubts, finished=finished)
        self.ctx = ProcessContext(
            codec=Codec(), plugins=ModelPlugins(tool), links=links, producer=self.producer, clock=clock, jitter=lambda: 0.5
        )
        self.crashed: BaseException | None = None
        self.runner: KeyedRunner[tuple[int, Unit]] = KeyedRunner(
            self._work, clock=clock, crash=self._on_crash, schedule=KeyedSchedule(in_flight=3, per_lane=2)
        )
        self.runner.opened(PARTITION)
        self.tracker = PrefixTracker(log.committed)
        self._feeder = loop.create_task(self._feed())

    def _on_crash(self, exc: BaseException) -> None:
        self.crashed = exc

    async def _feed(self) -> None:
        """What the agent does: begins nothing further than WINDOW past what is committed."""
        while True:
            offset = self.tracker.expected
            if offset < len(self.log.routed) and offset < self.log.committed + WINDOW:
                routed = self.log.routed[offset]
                unit = self.tracker.add(offset + 1, 1)
                key = ticket_key(routed.tenant, routed.tool, routed.ticket_id or "")
                self.runner.submit(PARTITION, key.encode(), routed.decision.target, (offset, unit))
            else:
                await asyncio.sleep(0.1)

    async def _work(self, item: tuple[int, Unit], turn: Turn) -> None:
        offset, unit = item
        await process_one(self.log.routed[offset], offset, None, self.state, self.ctx, turn)
        unit.done = True

    def commit(self) -> None:
        self.log.committed = max(self.log.committed, self.tracker.committable())

    async def kill(self) -> None:
        """SIGKILL: nothing more is stored; what the tool was already asked to do goes on there."""
        self.producer.alive = False
        self._feeder.cancel()
        await self.runner.drain(0.0)

    async def give_up(self, seconds: float) -> None:
        """A revoke or a SIGTERM: what was begun may end, then the last commit."""
        self._feeder.cancel()
        await self.runner.drain(seconds)
        self.commit()


def a_routed(number: int, ticket: str, actions: Sequence[str], received_offset: int, change: str = "updated") -> TicketRouted:
    """A TicketRouted as route would have made it."""
    received_at = 1_700_000_000_000_000 + number
    event_id = f"00000000-0000-7000-8000-{number:012d}"
    received = WebhookReceived(
        event_id=event_id,
        dedup_key=number.to_bytes(16, "big"),
        dedup_scope="delivery",
        tenant=TENANT,
        tool=SOURCE,
        tool_type="model",
        ticket_id=ticket,
        received_at=received_at,
        verified_by="model:none",
        body=json.dumps({"ticket": ticket, "subject": f"change {number}", "change": change}).encode(),
    )
    return TicketRouted(
        event_id=event_id,
        tenant=TENANT,
        tool=SOURCE,
        tool_type="model",
        ticket_id=ticket,
        decision=Decision(target=TARGET, actions=list(actions)),
        received_at=received_at,
        received_offset=received_offset,
        received=Codec().encode(received),
    )
