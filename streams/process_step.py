"""What process does to one routed event: its actions through the target's plugin, then the record that it is finished.

Callable without Kafka: the producer, the clock and the plugins are passed in. The order of what is stored is the promise: the
links as they become known, then the dead letter if there is one, then TicketProcessed; only that makes the event finished.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from plugins.api import Delivery, NotADelivery, PluginConfigError, TicketingToolPlugin, TicketMetadata
from plugins.manager import UnknownTool
from plugins.metering import Price, free
from schemas.codec import Codec, Undecodable
from schemas.events import (
    Call,
    CallOutcome,
    FailureReason,
    LinkSet,
    ProcessingFailed,
    ProcessOutcome,
    Stage,
    TicketProcessed,
    TicketRouted,
    WebhookReceived,
)
from schemas.hotpath import decode_received
from streams.attempts import RetryDecision
from streams.clock import Clock
from streams.doubt import PartitionDoubts
from streams.effects import Effects, Links, NotStored, StepFailed, Turn, Work
from streams.finished import FinishedEvents
from streams.producer import Outgoing, RecordRefused
from streams.topics import DEAD_LETTER, LINKS, PROCESSED, ROUTED


class Sender(Protocol):
    """Stores records; answers their offsets once the broker has them all."""

    async def send(self, records: Sequence[Outgoing]) -> list[int]: ...


class Plugins(Protocol):
    """The plugin manager, as far as process needs it."""

    def peek(self, tenant: str, tool: str, at: int) -> TicketingToolPlugin | None: ...

    def lease(self, tenant: str, tool: str, at: int) -> AbstractAsyncContextManager[TicketingToolPlugin]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessContext:
    """What every event's work needs; one a process."""

    codec: Codec
    plugins: Plugins
    links: Links
    producer: Sender
    clock: Clock
    price: Price = free
    jitter: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    """What is known about one assigned partition."""

    partition: int
    doubts: PartitionDoubts
    finished: FinishedEvents = field(default_factory=FinishedEvents)


@dataclass(frozen=True, slots=True)
class Finished:
    """How an event ended; `outcome` is None for a repeat of a finished one, for which nothing was done."""

    event_id: str
    outcome: ProcessOutcome | None
    reason: FailureReason | None = None
    detail: str = ""


async def process_one(
    routed: TicketRouted, routed_offset: int, key: bytes | None, state: PartitionState, ctx: ProcessContext, turn: Turn
) -> Finished:
    """Does one event's work and records it; returns once the record is durable. A repeat of a finished event does nothing.

    Raises Withdrawn when the partition is given up, UnknownFingerprint when the received record inside cannot be read yet.
    """
    if state.finished.has(routed.event_id, routed.injection_id):
        return Finished(routed.event_id, None)
    story = _Story(ticket_id=routed.ticket_id)
    failed: StepFailed | None = None
    try:
        await _act(routed, routed_offset, state, ctx, turn, story)
    except StepFailed as exc:
        failed = exc
        await _set_aside(exc, routed, routed_offset, key, state.partition, ctx)
    outcome = ProcessOutcome.PROCESSED if failed is None else ProcessOutcome.FAILED
    processed = TicketProcessed(
        event_id=routed.event_id,
        injection_id=routed.injection_id,
        tenant=routed.tenant,
        tool=routed.tool,
        tool_type=routed.tool_type,
        ticket_id=story.ticket_id,
        outcome=outcome,
        target=routed.decision.target,
        target_ticket_id=story.target_ticket_id,
        rule=routed.decision.rule,
        rule_set_version=routed.decision.rule_set_version,
        ticket_type=routed.ticket_type,
        priority=routed.priority,
        received_at=routed.received_at,
        processed_at=ctx.clock.now(),
        received_offset=routed.received_offset,
        routed_offset=routed_offset,
        calls=story.calls,
    )
    await ctx.producer.send([Outgoing(PROCESSED.name, state.partition, key, ctx.codec.encode(processed))])
    state.finished.add(routed.event_id, routed.injection_id)
    if failed is None:
        return Finished(routed.event_id, outcome)
    return Finished(routed.event_id, outcome, failed.reason, failed.detail)


async def set_aside_undecodable(value: bytes | None, offset: int, key: bytes | None, partition: int, why: str, ctx: ProcessContext) -> None:
    """Stores the dead letter of a routed record that is no TicketRouted; returns once it is durable."""
    await _send_dead_letter(
        ProcessingFailed(
            stage=Stage.PROCESS,
            reason=FailureReason.UNDECODABLE,
            detail=why,
            failed_at=ctx.clock.now(),
            origin_topic=ROUTED.name,
            origin_partition=partition,
            origin_offset=offset,
            origin_key=key,
            original_size=len(value or b""),
            original=value,
        ),
        ctx,
    )


def link_key(link: LinkSet) -> bytes:
    """The key of a link's records: the later one replaces the earlier."""
    return f"{link.source_key}/{link.target_tool}".encode()


def needs_calls(work: Work) -> bool:
    """False when none of the actions calls the tool: nothing to do, or only a mirror onto the source itself."""
    return any(action != "mirror" or not work.on_own_tool for action in work.decision.actions)


@dataclass(slots=True)
class _Story:
    """What is known of an event's work so far, for its record, however the work ends."""

    ticket_id: str | None
    target_ticket_id: str | None = None
    calls: list[Call] = field(default_factory=list)


async def _act(routed: TicketRouted, routed_offset: int, state: PartitionState, ctx: ProcessContext, turn: Turn, story: _Story) -> None:
    """Carries out the event's decisions in order; one that fails keeps none of the others. Raises StepFailed when any failed."""
    try:
        metadata = _read(routed, ctx, story.calls)
    except _Refusal as exc:
        raise _refused(exc, routed, routed_offset, state) from exc
    story.ticket_id = story.ticket_id or metadata.ticket_id
    failures: list[tuple[str, StepFailed]] = []
    for decision in (routed.decision, *routed.also):
        work = Work(routed=routed, decision=decision, routed_offset=routed_offset, partition=state.partition, metadata=metadata)
        if not needs_calls(work):
            continue
        try:
            await _decided(work, state, ctx, turn, story)
        except StepFailed as exc:
            failures.append((decision.target, exc))
            if exc.in_doubt_since is not None:
                state.doubts.raise_link(work.source_key, work.target, exc.in_doubt_since)
    if failures:
        raise _together(failures, len(routed.also) + 1)


async def _decided(work: Work, state: PartitionState, ctx: ProcessContext, turn: Turn, story: _Story) -> None:
    """One decision's actions, in order. Raises StepFailed when one is given up."""
    async with AsyncExitStack() as leases:
        try:
            effects = await _effects(leases, work, state, ctx, turn, story)
        except _Refusal as exc:
            raise _refused(exc, work.routed, work.routed_offset, state) from exc
        try:
            for action in work.decision.actions:
                await effects.run(action)
        finally:
            if work.decision is work.routed.decision:
                story.target_ticket_id = effects.target_ticket_id


def _refused(exc: _Refusal, routed: TicketRouted, routed_offset: int, state: PartitionState) -> StepFailed:
    """Before any call of ours; a worker before us may have come further."""
    return StepFailed(RetryDecision(None, exc.reason, exc.detail), 1, state.doubts.of_event(routed_offset, routed.possible_repeat))


def _together(failures: Sequence[tuple[str, StepFailed]], decisions: int) -> StepFailed:
    """What failed, as one: the first one's reason, each one's words. Where an event has one decision, its failure as it is."""
    first = failures[0][1]
    if decisions == 1:
        return first
    doubts = [failed.in_doubt_since for _, failed in failures if failed.in_doubt_since is not None]
    detail = "; ".join(f"{target}: {failed.detail}" for target, failed in failures)
    said = f"{len(failures)} of {decisions} targets failed: {detail}"
    together = StepFailed(
        RetryDecision(None, first.reason, said), max(failed.attempts for _, failed in failures), min(doubts, default=None)
    )
    together.detail = said  # each one's words tell of its own doubt
    return together


class _Refusal(Exception):
    """The event cannot be worked on at all."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def _read(routed: TicketRouted, ctx: ProcessContext, calls: list[Call]) -> TicketMetadata:
    """The metadata of the received record inside, extracted again (it is pure); `calls` get the two calls made for it so far."""
    try:
        received = decode_received(routed.received, ctx.codec).event
    except Undecodable as exc:
        raise _Refusal(FailureReason.UNDECODABLE, f"the received record inside: {exc}") from exc
    try:
        plugin = ctx.plugins.peek(received.tenant, received.tool, received.received_at)
        if plugin is None:
            detail = f"{received.tenant}/{received.tool} was not configured when the event was received"
            raise _Refusal(FailureReason.UNKNOWN_TOOL, detail)
        calls.extend(_calls_before(received, routed, plugin))
        metadata = plugin.extract_metadata(
            Delivery(
                tenant=received.tenant,
                tool=received.tool,
                body=received.body,
                headers=received.headers,
                content_type=received.content_type,
                query=received.query,
                received_at=received.received_at,
            )
        )
        if not isinstance(metadata.ticket_id, str):
            raise _Refusal(FailureReason.PLUGIN_FAULT, f"{received.tool_type} gave a ticket id that is no text")
        return metadata
    except _Refusal:
        raise
    except NotADelivery as exc:
        raise _Refusal(FailureReason.UNREADABLE, str(exc)) from exc
    except Exception as exc:  # a plugin is someone else's code, and this body may be one it never met
        raise _Refusal(FailureReason.PLUGIN_FAULT, f"{received.tool_type} raised {type(exc).__name__} reading the delivery") from exc


def _calls_before(received: WebhookReceived, routed: TicketRouted, plugin: TicketingToolPlugin) -> list[Call]:
    """The pure plugin calls made at the door and by route, as measured there."""
    return [
        Call(
            step=step,
            method=method,
            tool=received.tool,
            plugin=plugin.tool_type,
            plugin_version=plugin.version,
            outcome=CallOutcome.OK,
            latency_us=latency_us,
            started_at=received.received_at,
        )
        for step, method, latency_us in (
            ("ingest", "validate_webhook", received.validation_us),
            ("route", "extract_metadata", routed.extraction_us),
        )
    ]


async def _effects(leases: AsyncExitStack, work: Work, state: PartitionState, ctx: ProcessContext, turn: Turn, story: _Story) -> Effects:
    """The event's effects on the target's plugin, by the configuration of now: what was mended serves what waited for it."""

    async def record(link: LinkSet) -> None:
        outgoing = Outgoing(LINKS.name, state.partition, link_key(link), ctx.codec.encode(link))
        try:
            await ctx.producer.send([outgoing])
        except Exception as exc:  # whatever the producer met: nothing may go on as if the link were stored
            raise NotStored(f"a link to {link.target_tool} could not be stored") from exc

    try:
        plugin = await leases.enter_async_context(ctx.plugins.lease(work.routed.tenant, work.target, ctx.clock.now()))
        return Effects(
            work,
            plugin,
            source=await _source(leases, work, ctx),
            links=ctx.links,
            record=record,
            doubts=state.doubts,
            clock=ctx.clock,
            turn=turn,
            calls=story.calls,
            price=ctx.price,
            jitter=ctx.jitter,
        )
    except UnknownTool as exc:
        raise _Refusal(FailureReason.UNKNOWN_TOOL, str(exc)) from exc
    except PluginConfigError as exc:
        raise _Refusal(FailureReason.PLUGIN_FAULT, str(exc)) from exc
    except Exception as exc:  # a plugin is someone else's code, its constructor too
        raise _Refusal(FailureReason.PLUGIN_FAULT, f"the plugin of {work.target} raised {type(exc).__name__} when built") from exc


async def _source(leases: AsyncExitStack, work: Work, ctx: ProcessContext) -> TicketingToolPlugin | None:
    """The source tool's plugin where an action asks it; None when it cannot be used any more, which fails nothing."""
    if "enrich" not in work.decision.actions or work.on_own_tool:
        return None
    try:
        return await leases.enter_async_context(ctx.plugins.lease(work.routed.tenant, work.routed.tool, ctx.clock.now()))
    except PluginConfigError:
        return None


async def _set_aside(
    failed: StepFailed, routed: TicketRouted, routed_offset: int, key: bytes | None, partition: int, ctx: ProcessContext
) -> None:
    original = ctx.codec.encode(routed)
    await _send_dead_letter(
        ProcessingFailed(
            event_id=routed.event_id,
            injection_id=routed.injection_id,
            tenant=routed.tenant,
            tool=routed.tool,
            ticket_id=routed.ticket_id,
            stage=Stage.PROCESS,
            reason=failed.reason,
            detail=failed.detail,
            attempts=max(failed.attempts, 1),
            failed_at=ctx.clock.now(),
            received_at=routed.received_at,
            origin_topic=ROUTED.name,
            origin_partition=partition,
            origin_offset=routed_offset,
            origin_key=key,
            original_size=len(original),
            original=original,
        ),
        ctx,
    )


async def _send_dead_letter(letter: ProcessingFailed, ctx: ProcessContext) -> None:
    try:
        await ctx.producer.send([_outgoing(letter, ctx)])
    except RecordRefused:  # its origin points at it
        await ctx.producer.send([_outgoing(msgspec.structs.replace(letter, original=None), ctx)])


def _outgoing(letter: ProcessingFailed, ctx: ProcessContext) -> Outgoing:
    return Outgoing(DEAD_LETTER.name, letter.origin_partition, letter.origin_key, ctx.codec.encode(letter))
