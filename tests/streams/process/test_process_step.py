"""What process stores for one event, and in which order, when its bytes, its tools or its tenant are not as they should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from plugins.api import Delivery, NewTicket, NotADelivery, PluginConfigError, TicketingToolPlugin, TicketMetadata, TicketRef
from plugins.manager import UnknownTool
from schemas.codec import MAGIC, Codec, UnknownFingerprint
from schemas.events import Decision, Event, FailureReason, ProcessingFailed, ProcessOutcome, Stage, TicketProcessed, TicketRouted
from schemas.ids import external_id, ticket_key
from streams.doubt import PartitionDoubts
from streams.effects import NotStored
from streams.links import LinkTable
from streams.process_step import Finished, PartitionState, ProcessContext, process_one, set_aside_undecodable
from streams.producer import Outgoing, RecordRefused
from streams.topics import DEAD_LETTER, LINKS, PROCESSED, ROUTED
from tests.streams.process.model import PARTITION, SOURCE, TARGET, TENANT, ModelPlugin, ModelPlugins, ToolModel, a_routed
from tests.streams.process.virtual_time import LoopClock, VirtualLoop

KEY = ticket_key(TENANT, SOURCE, "A").encode()


class Kept:
    """A producer that keeps what it is given; `refuses` is a size it does not take."""

    def __init__(self, refuses: int = 1 << 30) -> None:
        self.records: list[Outgoing] = []
        self.refuses = refuses

    async def send(self, records: Sequence[Outgoing]) -> list[int]:
        for record in records:
            if len(record.value) >= self.refuses:
                raise RecordRefused(record, "too large")
        self.records.extend(records)
        return [0] * len(records)

    def events(self, topic: str | None = None) -> list[Event]:
        return [Codec().decode(r.value) for r in self.records if topic in (None, r.topic)]


class Free:
    """A turn nobody takes away."""

    def check(self) -> None:
        return

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Bench:
    """One event's work on the model, in virtual time."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.producer = Kept()
        self.plugins = ModelPlugins(ToolModel(self.loop))
        self.links = LinkTable()
        doubts = PartitionDoubts(assigned_at=LoopClock(self.loop).now(), committed=0, end=0)
        self.state = PartitionState(partition=PARTITION, doubts=doubts)

    def process(self, routed: TicketRouted, offset: int = 7) -> Finished:
        clock = LoopClock(self.loop)
        ctx = ProcessContext(codec=Codec(), plugins=self.plugins, links=self.links, producer=self.producer, clock=clock)
        return self.loop.run_until_complete(process_one(routed, offset, KEY, self.state, ctx, Free()))

    def only_letter(self) -> ProcessingFailed:
        (letter,) = self.producer.events(DEAD_LETTER.name)
        assert isinstance(letter, ProcessingFailed)
        return letter

    def only_record(self) -> TicketProcessed:
        (record,) = self.producer.events(PROCESSED.name)
        assert isinstance(record, TicketProcessed)
        return record


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_link_is_stored_before_the_event_counts_as_finished(bench: Bench) -> None:
    """A record without its link would let the next event create a second ticket."""
    assert bench.process(a_routed(1, "A", ["mirror"], 3)).outcome is ProcessOutcome.PROCESSED
    assert [(r.topic, r.partition, r.key) for r in bench.producer.records] == [
        (LINKS.name, PARTITION, KEY + b"/" + TARGET.encode()),
        (PROCESSED.name, PARTITION, KEY),
    ]
    assert bench.links.by_source(KEY.decode(), TARGET) is not None


def test_the_record_tells_every_call_the_pure_ones_too(bench: Bench) -> None:
    """Latency of verification and extraction is counted like any other call's, at the source tool."""
    routed = msgspec.structs.replace(a_routed(1, "A", ["mirror"], 3), extraction_us=25)
    bench.process(routed)
    record = bench.only_record()
    assert [(c.step, c.method, c.tool, c.latency_us) for c in record.calls[:2]] == [
        ("ingest", "validate_webhook", SOURCE, 0),
        ("route", "extract_metadata", SOURCE, 25),
    ]
    assert (record.calls[2].step, record.calls[2].method, record.calls[2].tool) == ("mirror", "create_ticket", TARGET)
    assert (record.received_offset, record.routed_offset, record.target, record.target_ticket_id) == (3, 7, TARGET, f"{TARGET}-1")


def test_a_received_record_that_is_torn_is_set_aside(bench: Bench) -> None:
    """The routed record around it is fine, so the event is known and ends by name."""
    whole = a_routed(1, "A", ["mirror"], 3)
    end = bench.process(msgspec.structs.replace(whole, received=whole.received[:-5]))
    assert end.reason is FailureReason.UNDECODABLE
    letter = bench.only_letter()
    assert (letter.event_id, letter.stage, letter.origin_topic, letter.origin_offset) == (whole.event_id, Stage.PROCESS, ROUTED.name, 7)
    assert bench.only_record().outcome == ProcessOutcome.FAILED


def test_an_unknown_schema_inside_is_raised_and_nothing_is_stored(bench: Bench) -> None:
    """The bytes may be fine: the partition waits for the schema."""
    routed = msgspec.structs.replace(a_routed(1, "A", ["mirror"], 3), received=MAGIC + bytes(8) + b"later")
    with pytest.raises(UnknownFingerprint):
        bench.process(routed)
    assert bench.producer.records == []


def test_a_dead_letter_holds_the_routed_record_as_it_was(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A requeue sends it through again as it was."""

    def unreadable(self: ModelPlugin, delivery: Delivery) -> TicketMetadata:
        raise NotADelivery("no ticket in it")

    monkeypatch.setattr(ModelPlugin, "extract_metadata", unreadable)
    routed = a_routed(1, "A", ["mirror"], 3)
    assert bench.process(routed).reason is FailureReason.UNREADABLE
    assert Codec().decode(bench.only_letter().original) == routed
    assert [r.topic for r in bench.producer.records] == [DEAD_LETTER.name, PROCESSED.name]


def test_a_record_too_large_for_the_dead_letters_is_pointed_at(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit must not stop the stream, nor disappear: its origin is told."""

    def faulty(self: ModelPlugin, delivery: Delivery) -> TicketMetadata:
        raise KeyError("a body with a secret in it")

    monkeypatch.setattr(ModelPlugin, "extract_metadata", faulty)
    routed = a_routed(1, "A", ["mirror"], 3)
    bench.producer.refuses = len(Codec().encode(routed))
    assert bench.process(routed).reason is FailureReason.PLUGIN_FAULT
    letter = bench.only_letter()
    assert (letter.original, letter.original_size, letter.origin_offset) == (None, bench.producer.refuses, 7)
    assert "secret" not in letter.detail


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnknownTool("tenant acme has no tool jira"), FailureReason.UNKNOWN_TOOL),
        (PluginConfigError("jira needs a base_url"), FailureReason.PLUGIN_FAULT),
        (ImportError("of the plugin"), FailureReason.PLUGIN_FAULT),
    ],
)
def test_a_target_that_cannot_be_used_sets_the_event_aside(bench: Bench, error: Exception, reason: FailureReason) -> None:
    """A tenant's wrong setting is that tenant's dead letter, never a stopped stream."""

    class NoTarget(ModelPlugins):
        @asynccontextmanager
        async def lease(self, tenant: str, tool: str, at: int) -> AsyncIterator[TicketingToolPlugin]:
            raise error
            yield

    bench.plugins = NoTarget(ToolModel(bench.loop))
    assert bench.process(a_routed(1, "A", ["mirror"], 3)).reason is reason
    assert bench.only_letter().reason == reason


def test_an_answer_of_a_kind_not_promised_is_that_event_s_dead_letter(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that answers a number for an id must not stop the partition; the ticket it made is searched for by the next event."""

    async def numbered(self: ModelPlugin, ticket: NewTicket) -> TicketRef:
        return TicketRef(ticket_id=7)  # type: ignore[arg-type]  # what the plugin should not do

    monkeypatch.setattr(ModelPlugin, "create_ticket", numbered)
    assert bench.process(a_routed(1, "A", ["mirror"], 3)).reason is FailureReason.PLUGIN_FAULT
    assert bench.state.doubts.of_link(KEY.decode(), TARGET) is not None


def test_a_link_that_cannot_be_stored_ends_the_work_without_a_record(bench: Bench) -> None:
    """The event is done again, searched for, and never counts as finished without its link."""
    bench.producer.refuses = 0
    with pytest.raises(NotStored):
        bench.process(a_routed(1, "A", ["mirror"], 3))
    assert bench.producer.records == []


def test_a_search_lag_that_is_no_number_is_told_to_the_operator(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One tenant's typing error is that tenant's dead letter."""
    monkeypatch.setattr(ModelPlugin, "search_lag", "soon")
    assert bench.process(a_routed(1, "A", ["mirror"], 3)).reason is FailureReason.PLUGIN_FAULT
    assert "search_lag of jira" in bench.only_letter().detail


def test_an_unknown_action_sets_the_event_aside_after_what_was_known(bench: Bench) -> None:
    """A rule written for a later version must not be half obeyed in silence."""
    assert bench.process(a_routed(1, "A", ["mirror", "teleport"], 3)).reason is FailureReason.UNROUTABLE
    assert [r.topic for r in bench.producer.records] == [LINKS.name, DEAD_LETTER.name, PROCESSED.name]
    assert bench.only_record().target_ticket_id == f"{TARGET}-1"


def test_an_injected_event_is_not_taken_for_its_first_life(bench: Bench) -> None:
    """A requeue carries the same event_id; what tells it apart is its injection_id."""
    routed = a_routed(1, "A", ["mirror"], 3)
    bench.process(routed)
    assert bench.process(routed).outcome is None
    again = msgspec.structs.replace(routed, injection_id="requeue-1", received_offset=9)
    assert bench.process(again).outcome is ProcessOutcome.PROCESSED


def test_bytes_that_are_no_event_become_a_dead_letter_with_their_origin(bench: Bench) -> None:
    """Also when there are no bytes at all."""
    ctx: Any = ProcessContext(codec=Codec(), plugins=bench.plugins, links=bench.links, producer=bench.producer, clock=LoopClock(bench.loop))
    bench.loop.run_until_complete(set_aside_undecodable(b"no event", 5, b"k", 2, "not in Avro", ctx))
    letter = bench.only_letter()
    assert (letter.reason, letter.original, letter.origin_partition, letter.origin_offset) == ("undecodable", b"no event", 2, 5)


# --- several targets -----------------------------------------------------------------------------------------------------

ELSEWHERE = "elsewhere"


def a_fan_out(number: int, offset: int) -> TicketRouted:
    """Mirrored to two tools, and noted on its own ticket."""
    also = [Decision(target=ELSEWHERE, actions=["mirror"]), Decision(target=SOURCE, actions=["note"])]
    return msgspec.structs.replace(a_routed(number, "A", ["mirror"], offset), also=also)


def test_every_target_of_a_fan_out_is_served(bench: Bench) -> None:
    """One record tells all of it; each link has its own tool."""
    bench.plugins.made[ELSEWHERE] = ModelPlugin(bench.plugins.tool, ELSEWHERE)
    assert bench.process(a_fan_out(1, 3)).outcome is ProcessOutcome.PROCESSED
    steps = [(call.step, call.method, call.tool) for call in bench.only_record().calls[2:]]
    assert steps == [("mirror", "create_ticket", TARGET), ("mirror", "create_ticket", ELSEWHERE), ("note", "add_note", SOURCE)]
    assert bench.only_record().target == TARGET
    for tool in (TARGET, ELSEWHERE):
        assert bench.links.by_source(KEY.decode(), tool) is not None


def test_a_target_that_is_gone_keeps_none_of_the_others(bench: Bench) -> None:
    """One tool's fault must not withhold a ticket from another; the dead letter says which is missing."""
    bench.plugins.gone.add(ELSEWHERE)
    assert bench.process(a_fan_out(1, 3)).reason is FailureReason.UNKNOWN_TOOL
    assert bench.only_letter().detail.startswith(f"1 of 3 targets failed: {ELSEWHERE}: ")
    assert [(call.step, call.tool) for call in bench.only_record().calls[2:]] == [("mirror", TARGET), ("note", SOURCE)]


def test_a_fan_out_that_is_put_back_does_what_is_missing_and_nothing_twice(bench: Bench) -> None:
    """The way back of a dead letter: what was done is found, what was not is done."""
    bench.plugins.gone.add(ELSEWHERE)
    routed = a_fan_out(1, 3)
    bench.process(routed)
    bench.plugins.gone.clear()
    bench.plugins.made[ELSEWHERE] = ModelPlugin(bench.plugins.tool, ELSEWHERE)
    again = msgspec.structs.replace(routed, injection_id="again", possible_repeat=True)
    assert bench.process(again, 8).outcome is ProcessOutcome.PROCESSED
    bench.loop.run_until_complete(asyncio.sleep(60))
    effects = bench.plugins.tool.effects
    assert sorted(effect.kind for effect in effects) == ["create", "create", "note"]
    created = {effect.external_id for effect in effects if effect.kind == "create"}
    assert created == {external_id(KEY.decode(), TARGET), external_id(KEY.decode(), ELSEWHERE)}
