"""What is done to a target tool for one event: `mirror`, `note` and `enrich`, each exactly once.

An effect that cannot have happened yet is simply done. One that may have happened (streams/doubt.py) is searched for first, when
the tool's index can be believed, and done only when it is not there. A link is recorded as soon as a ticket is known, before
anything else, so that one source ticket has one mirror in a tool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from plugins.api import (
    ApiError,
    CallTimedOut,
    NewNote,
    NewTicket,
    PluginConfigError,
    TicketChange,
    TicketingToolPlugin,
    TicketMetadata,
    TicketRef,
)
from plugins.marker import note_marker
from plugins.metering import Price, free, metered
from schemas.events import Call, Decision, FailureReason, LinkSet, TicketRouted
from schemas.ids import external_id, ticket_key
from streams.attempts import SECOND, CallFailed, RetryDecision, after_failure
from streams.clock import Clock
from streams.doubt import PartitionDoubts
from streams.enrichment import enriching_text
from streams.written import changes_of, fields_of, note_text

CALL_TIMEOUT = 15.0
MAX_SEARCH_LAG = 3600.0
T = TypeVar("T")


class Links(Protocol):
    """The table of links, following links.v1."""

    def by_source(self, source_key: str, target_tool: str) -> LinkSet | None:
        """The link from a source ticket to its mirror in a tool."""
        ...

    def by_target(self, tenant: str, tool: str, ticket_id: str) -> LinkSet | None:
        """The link whose mirror is this ticket."""
        ...

    def apply(self, link: LinkSet) -> None:
        """Takes a link in; the later one of a key counts."""
        ...


class Withdrawn(Exception):
    """The partition is being given up: no further call begins, and whoever gets the partition does this event again."""


class NotStored(Exception):
    """The producer could not store a record: a fault of ours, which ends the process."""


class Turn(Protocol):
    """An event's turn among those in flight: it may call, and it gives its place to others while it waits."""

    def check(self) -> None:
        """Raises Withdrawn when no further call may begin."""
        ...

    async def wait(self, seconds: float) -> None:
        """Waits without holding a place; raises Withdrawn when the partition is given up meanwhile."""
        ...


class StepFailed(Exception):
    """An action is given up: the event becomes a dead letter. `in_doubt_since`: its effect may have happened, or still happen."""

    def __init__(self, decision: RetryDecision, attempts: int, in_doubt_since: int | None) -> None:
        super().__init__(decision.detail)
        self.reason = decision.reason
        self.detail = decision.detail + (" (in doubt: the effect may have happened)" if in_doubt_since is not None else "")
        self.attempts = attempts
        self.in_doubt_since = in_doubt_since


@dataclass(slots=True)
class _Attempt:
    """One try of one action. `doubt`: since when the event's own effect may have happened; None when it surely has not."""

    step: str
    number: int
    doubt: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one decision about a routed event asks for, with what the event's delivery says."""

    routed: TicketRouted
    decision: Decision
    routed_offset: int
    partition: int
    metadata: TicketMetadata

    @property
    def target(self) -> str:
        return self.decision.target

    @property
    def source_key(self) -> str:
        return ticket_key(self.routed.tenant, self.routed.tool, self.metadata.ticket_id)

    @property
    def on_own_tool(self) -> bool:
        return self.target == self.routed.tool

    def is_newer_than(self, link: LinkSet) -> bool:
        """Whether the event came after the one the link has applied last."""
        return (self.partition, self.routed.received_offset) > (link.applied_partition, link.applied_offset)


class Effects:
    """Carries out one event's actions. `record` stores a LinkSet and returns once the broker has it; raises NotStored.

    `source` is the plugin of the tool the delivery came from, where `enrich` may ask it. Raises PluginConfigError when made for a
    tool whose `search_lag` is no number of seconds.
    """

    def __init__(
        self,
        work: Work,
        plugin: TicketingToolPlugin,
        *,
        source: TicketingToolPlugin | None = None,
        links: Links,
        record: Callable[[LinkSet], Awaitable[None]],
        doubts: PartitionDoubts,
        clock: Clock,
        turn: Turn,
        calls: list[Call],
        price: Price = free,
        jitter: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self.work = work
        self.plugin = plugin
        self.source = plugin if work.on_own_tool else source
        self.links = links
        self.doubts = doubts
        self.clock = clock
        self.turn = turn
        self.calls = calls
        self.target_ticket_id: str | None = None
        self._record = record
        self._price = price
        self._jitter = jitter
        self._lag = round(search_lag_of(plugin) * SECOND)

    async def run(self, action: str) -> None:
        """Does one action of the decision. Raises StepFailed when it is given up, Withdrawn when the partition is, and NotStored."""
        match action:
            case "mirror":
                await self._until_done("mirror", self._mirror)
                self.doubts.settle_link(self.work.source_key, self.work.target)
            case "note":
                await self._until_done("note", self._note)
            case "enrich":
                await self._until_done("enrich", self._enrich)
            case _:
                raise StepFailed(RetryDecision(None, FailureReason.UNROUTABLE, f"the action {action!r} is not known here"), 0, None)

    async def _until_done(self, step: str, act: Callable[[_Attempt], Awaitable[None]]) -> None:
        """Attempts an action until it is done or given up; waits for the searches to be believable where there is doubt."""
        work, clock = self.work, self.clock
        attempt = _Attempt(step, 1, self.doubts.of_event(work.routed_offset, work.routed.possible_repeat))
        if (since := max(attempt.doubt or 0, self.doubts.of_link(work.source_key, work.target) or 0)) and self._would_call(step):
            await self._wait_until(since + self._lag)
        first_at = clock.now()
        while True:
            try:
                return await act(attempt)
            except CallFailed as failed:
                not_before = None if attempt.doubt is None else attempt.doubt + self._lag
                decision = after_failure(
                    failed.error, attempt=attempt.number, first_at=first_at, now=clock.now(), not_before=not_before, jitter=self._jitter()
                )
                if decision.again_at is None:
                    since = max(attempt.doubt or 0, self.doubts.of_link(work.source_key, work.target) or 0)
                    raise StepFailed(decision, attempt.number, since or None) from failed.error
                await self._wait_until(decision.again_at)
                attempt = _Attempt(step, attempt.number + 1, attempt.doubt)
            except (StepFailed, Withdrawn, NotStored):
                raise
            except Exception as exc:  # values a plugin made, of kinds it does not promise, reach all of this code
                decision = RetryDecision(None, FailureReason.PLUGIN_FAULT, f"what the plugin answered led to {type(exc).__name__}")
                raise StepFailed(decision, attempt.number, clock.now()) from exc

    def _would_call(self, step: str) -> bool:
        """False where the action needs no call, so that nothing is waited for in vain."""
        if step != "mirror":
            return True
        link = self.links.by_source(self.work.source_key, self.work.target)
        return not self.work.on_own_tool and (link is None or self.work.is_newer_than(link))

    async def _wait_until(self, moment: int) -> None:
        while (left := moment - self.clock.now()) > 0:
            await self.turn.wait(left / SECOND)

    # --- mirror ----------------------------------------------------------------------------------------------------------

    async def _mirror(self, attempt: _Attempt) -> None:
        work = self.work
        if work.on_own_tool:
            return
        link = self.links.by_source(work.source_key, work.target)
        if link is None:
            link = await self._known_elsewhere(attempt)
        if link is None:
            if work.metadata.change is not TicketChange.DELETED:
                await self._create(attempt)
            return
        self.target_ticket_id = link.target_ticket_id
        if not work.is_newer_than(link):
            return
        changes, fields = changes_of(work.metadata, work.routed.event_id)
        if not fields:
            return
        if attempt.doubt is not None and await self._has_update(attempt, link.target_ticket_id):
            await self._set_link(TicketRef(ticket_id=link.target_ticket_id), fields, applied=True)
            return
        ref = await self._write(attempt, "update_ticket", lambda: self.plugin.update_ticket(link.target_ticket_id, changes))
        await self._set_link(ref, fields, applied=True)

    async def _known_elsewhere(self, attempt: _Attempt) -> LinkSet | None:
        """The link, where there is a mirror although the table has none: made by a lost call, or linked the other way round."""
        work = self.work
        original = self._original()
        if original is not None:
            return await self._set_link(TicketRef(ticket_id=original), {}, applied=False)
        if attempt.doubt is None and self.doubts.of_link(work.source_key, work.target) is None:
            return None
        name = external_id(work.source_key, work.target)
        ref = await self._read(attempt, "find_by_external_id", lambda: self.plugin.find_by_external_id(name))
        if ref is None:
            attempt.doubt = None
            self.doubts.settle_link(work.source_key, work.target)
            return None
        if await self._has_update(attempt, ref.ticket_id):
            return await self._set_link(ref, fields_of(work.metadata), applied=True)
        return await self._set_link(ref, {}, applied=False)

    def _original(self) -> str | None:
        """The target's ticket of which the source ticket is itself the mirror, if it is one: it must not get a second one."""
        work = self.work
        link = self.links.by_target(work.routed.tenant, work.routed.tool, work.metadata.ticket_id)
        if link is None:
            return None
        tenant, tool, ticket_id = link.source_key.split("/", 2)
        return ticket_id if (tenant, tool) == (work.routed.tenant, work.target) else None

    async def _create(self, attempt: _Attempt) -> None:
        work, metadata = self.work, self.work.metadata
        ticket = NewTicket(
            subject=metadata.subject or f"{work.routed.tool} ticket {metadata.ticket_id}",
            description=metadata.description,
            type=metadata.type,
            priority=metadata.priority,
            status=metadata.status,
            external_id=external_id(work.source_key, work.target),
            event_id=work.routed.event_id,
        )
        ref = await self._write(attempt, "create_ticket", lambda: self.plugin.create_ticket(ticket))
        await self._set_link(ref, fields_of(metadata), applied=True)

    async def _set_link(self, ref: TicketRef, fields: dict[str, str], *, applied: bool) -> LinkSet:
        """Records where the mirror is, and with `applied` that this event is on it; returns once that is durable."""
        work = self.work
        before = self.links.by_source(work.source_key, work.target)
        link = LinkSet(
            tenant=work.routed.tenant,
            source_key=work.source_key,
            target_tool=work.target,
            target_ticket_id=ref.ticket_id,
            external_id=external_id(work.source_key, work.target),
            event_id=work.routed.event_id,
            applied_partition=work.partition,
            applied_offset=work.routed.received_offset if applied else -1,
            fields={**(before.fields if before is not None else {}), **fields},
            target_updated_at=ref.updated_at,
            set_at=self.clock.now(),
        )
        await self._record(link)
        self.links.apply(link)
        self.target_ticket_id = ref.ticket_id
        return link

    # --- note ------------------------------------------------------------------------------------------------------------

    async def _note(self, attempt: _Attempt) -> None:
        async def text(ticket_id: str) -> str:
            return note_text(self.work.routed.tool, self.work.metadata)

        await self._note_once(attempt, self.work.routed.event_id, text)

    async def _enrich(self, attempt: _Attempt) -> None:
        async def read(plugin: TicketingToolPlugin, method: str, *arguments: Any) -> Any:
            return await self._read(attempt, method, lambda: getattr(plugin, method)(*arguments), plugin)

        async def text(ticket_id: str) -> str:
            return await enriching_text(self.work.routed.tool, self.work.metadata, self.source, self.plugin, ticket_id, read)

        # another mark than the note's of the same event, on the same ticket: a search must not take one for the other
        await self._note_once(attempt, f"{self.work.routed.event_id}.enrich", text)

    async def _note_once(self, attempt: _Attempt, mark: str, text: Callable[[str], Awaitable[str]]) -> None:
        """Writes a note to the ticket this event leads to, unless one with this mark may be there and is."""
        work = self.work
        ticket_id = work.metadata.ticket_id if work.on_own_tool else self._linked_ticket()
        if ticket_id is None:
            detail = f"{attempt.step}: {work.source_key} has no linked ticket in {work.target}; mirror it there first"
            raise StepFailed(RetryDecision(None, FailureReason.UNROUTABLE, detail), attempt.number, None)
        self.target_ticket_id = ticket_id
        marker = note_marker(mark, work.routed.hop + 1)
        if attempt.doubt is not None:
            if await self._read(attempt, "has_note", lambda: self.plugin.has_note(ticket_id, marker)):
                return
            attempt.doubt = None
        note = NewNote(text=await text(ticket_id), marker=marker)
        await self._write(attempt, "add_note", lambda: self.plugin.add_note(ticket_id, note))

    def _linked_ticket(self) -> str | None:
        link = self.links.by_source(self.work.source_key, self.work.target)
        return link.target_ticket_id if link is not None else self._original()

    # --- calls -----------------------------------------------------------------------------------------------------------

    async def _has_update(self, attempt: _Attempt, ticket_id: str) -> bool:
        event_id = self.work.routed.event_id
        found = await self._read(attempt, "has_update", lambda: self.plugin.has_update(ticket_id, event_id))
        if not found:
            attempt.doubt = None
        return found

    async def _write(self, attempt: _Attempt, method: str, call: Callable[[], Awaitable[T]]) -> T:
        """A call with an effect: when it ends without saying whether that happened, the attempt is in doubt from then on."""
        try:
            return await self._read(attempt, method, call)
        except CallFailed as failed:
            if not isinstance(failed.error, ApiError) or failed.error.in_doubt:
                attempt.doubt = self.clock.now()
            raise

    async def _read(self, attempt: _Attempt, method: str, call: Callable[[], Awaitable[T]], plugin: TicketingToolPlugin | None = None) -> T:
        """A metered call, of the target's plugin where no other is named."""
        self.turn.check()
        plugin = plugin or self.plugin
        try:
            with metered(
                self.calls,
                step=attempt.step,
                method=method,
                plugin=plugin,
                tool=plugin.context.tool,
                clock=self.clock,
                attempt=attempt.number,
                price=self._price,
            ):
                return await _within(CALL_TIMEOUT, call)
        except Exception as exc:  # a plugin is someone else's code: whatever it raises is an outcome of the call
            raise CallFailed(exc) from exc


def search_lag_of(plugin: TicketingToolPlugin) -> float:
    """Seconds after which a search of this tool is believed: the tenant's setting, else the plugin's own."""
    told = plugin.context.settings.get("search_lag", plugin.search_lag)
    try:
        seconds = float(told)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds <= MAX_SEARCH_LAG:
        raise PluginConfigError(f"search_lag of {plugin.context.tool} must be a number of seconds from 0 to {MAX_SEARCH_LAG:.0f}")
    return seconds


async def _within(seconds: float, call: Callable[[], Awaitable[T]]) -> T:
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await call()
    except TimeoutError:
        if not deadline.expired():
            raise
        raise CallTimedOut(f"no answer within {seconds:.0f} s", in_doubt=True) from None
