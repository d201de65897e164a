"""The effects of one event, case by case, on the model of the world in virtual time (see test_effects_once for all the rest)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from plugins.api import (
    ConfigurationItem,
    DeviceContext,
    NotFound,
    PluginConfigError,
    Relation,
    TicketChange,
    TicketMetadata,
    TicketStatus,
)
from plugins.marker import note_marker
from schemas.events import FailureReason, LinkSet, ProcessOutcome, TicketProcessed
from schemas.ids import external_id, ticket_key
from streams.written import MAX_CONTEXT_CHARS, changes_of, context_text, note_text
from tests.streams.process.model import (
    SEARCH_LAG,
    SOURCE,
    TARGET,
    TENANT,
    WINDOW,
    Effect,
    Fate,
    Log,
    ModelPlugin,
    ModelPlugins,
    ToolModel,
    Worker,
    a_routed,
)
from tests.streams.process.virtual_time import EPOCH, VirtualLoop


class Scene:
    """A log, a tool, and a worker at a time."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.log = Log()
        self.tool = ToolModel(self.loop)
        self.number = 0
        self.worker = self.new_worker()

    def new_worker(self) -> Worker:
        self.worker = Worker(self.log, self.tool, self.loop, lambda _: None)
        return self.worker

    def route(self, ticket: str = "A", actions: Sequence[str] = ("mirror",), change: str = "updated", **fields: Any) -> str:
        self.number += 1
        routed = a_routed(self.number, ticket, actions, received_offset=self.number, change=change)
        known = {name: getattr(routed, name) for name in routed.__struct_fields__}
        self.log.routed.append(type(routed)(**{**known, **fields}))
        return routed.event_id

    def passes(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def kill(self) -> None:
        self.loop.run_until_complete(self.worker.kill())

    def end_of(self, event_id: str) -> TicketProcessed:
        return next(p for p in self.log.processed if p.event_id == event_id)

    def calls_of(self, event_id: str) -> list[str]:
        return [call.method for call in self.end_of(event_id).calls[2:]]

    @property
    def effects(self) -> list[tuple[str, str]]:
        return [(e.kind, e.event_id) for e in self.tool.effects]

    @property
    def now(self) -> float:
        return self.loop.time() - EPOCH


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.kill()
    scene.loop.close()


def test_the_first_event_creates_and_the_next_update_without_any_search(scene: Scene) -> None:
    """Where nothing is in doubt, an event costs one call."""
    first, second = scene.route(), scene.route()
    scene.passes(1)
    assert scene.calls_of(first) == ["create_ticket"]
    assert scene.calls_of(second) == ["update_ticket"]
    assert [link.applied_offset for link in scene.log.links] == [1, 2]
    assert scene.log.links[0].external_id == external_id(ticket_key(TENANT, SOURCE, "A"), TARGET)


def test_what_an_event_changed_is_recorded_before_the_event_counts_as_finished(scene: Scene) -> None:
    """Finished and without its link, the ticket's next event would make a second mirror."""
    points: list[str] = []
    scene.kill()
    scene.worker = Worker(scene.log, scene.tool, scene.loop, points.append)
    scene.route(actions=["mirror", "note"])
    scene.passes(SEARCH_LAG + 1)
    assert points == ["link stored", "link acknowledged", "processed stored", "processed acknowledged"]


def test_a_mirror_onto_the_source_itself_is_nothing_to_do(scene: Scene) -> None:
    """A rule may send a tool's tickets to the tool they came from."""
    routed = a_routed(1, "A", ["mirror"], received_offset=1)
    decision = type(routed.decision)(target=SOURCE, actions=["mirror"])
    event = scene.route(decision=decision)
    scene.passes(1)
    assert scene.end_of(event).outcome == ProcessOutcome.PROCESSED
    assert scene.effects == []


def test_a_note_on_the_source_itself_goes_to_the_ticket_it_came_from(scene: Scene) -> None:
    """The default rule of many tenants: a note where the ticket lives."""
    decision = type(a_routed(1, "A", [], 1).decision)(target=SOURCE, actions=["note"])
    event = scene.route(decision=decision)
    scene.passes(1)
    assert [(e.kind, e.ticket_id, e.event_id) for e in scene.tool.effects] == [("note", "A", note_marker(event, 1))]


def test_a_note_without_a_linked_ticket_is_set_aside(scene: Scene) -> None:
    """There is no ticket to write it on; silence would look like success."""
    event = scene.route(actions=["note"])
    scene.passes(1)
    assert [(d.event_id, d.reason) for d in scene.log.dead] == [(event, FailureReason.UNROUTABLE)]
    assert scene.end_of(event).outcome == ProcessOutcome.FAILED


def test_a_mirror_of_a_mirror_writes_to_the_original(scene: Scene) -> None:
    """An edit of the mirrored ticket that is routed back must reach the ticket it mirrors, not make a third one."""
    original = LinkSet(
        tenant=TENANT,
        source_key=ticket_key(TENANT, TARGET, "jira-7"),
        target_tool=SOURCE,
        target_ticket_id="A",
        external_id="aia-1",
        event_id="event-0000",
        applied_partition=1,
        applied_offset=0,
        set_at=0,
    )
    scene.worker.ctx.links.apply(original)
    scene.tool.effects.append(Effect("create", "jira-7", "a person", None, 0.0))
    event = scene.route()
    scene.passes(1)
    assert scene.calls_of(event) == ["update_ticket"]
    assert scene.end_of(event).target_ticket_id == "jira-7"


def test_an_event_older_than_the_link_is_done_without_a_call(scene: Scene) -> None:
    """A requeued event must not take the mirror back to what it was."""
    newer = scene.route(received_offset=10)
    scene.passes(1)
    older = scene.route(received_offset=5)
    scene.passes(1)
    assert scene.calls_of(older) == []
    assert scene.effects == [("create", newer)]


def test_a_deleted_ticket_closes_its_mirror_and_makes_none(scene: Scene) -> None:
    """There is nothing to open a ticket about, but an open mirror would be worked on for nothing."""
    gone = scene.route("B", change="deleted")
    scene.route("A")
    closing = scene.route("A", change="deleted")
    scene.passes(1)
    assert scene.calls_of(gone) == []
    assert scene.calls_of(closing) == ["update_ticket"]
    assert scene.log.links[-1].fields["status"] == TicketStatus.CLOSED


def test_events_that_may_have_begun_share_one_wait_for_the_search(scene: Scene) -> None:
    """After a takeover each ticket's events wait for the same moment, not one after the other."""
    scene.kill()
    events = [scene.route(ticket) for ticket in "ABC"]
    took_over = scene.now
    scene.new_worker()
    scene.passes(SEARCH_LAG + 1)
    assert len(scene.log.processed) == 3
    assert scene.calls_of(events[0]) == ["find_by_external_id", "create_ticket"]
    assert all(p.processed_at / 1e6 - EPOCH - took_over >= SEARCH_LAG for p in scene.log.processed)


def test_what_came_after_the_takeover_is_not_in_doubt(scene: Scene) -> None:
    """Nobody before us can have begun it, so it waits for nothing."""
    scene.kill()
    scene.new_worker()
    event = scene.route()
    scene.passes(1)
    assert scene.calls_of(event) == ["create_ticket"]


def test_the_window_of_the_worker_before_is_in_doubt_and_no_more(scene: Scene) -> None:
    """It began nothing further than that past what it had committed."""
    scene.kill()
    for n in range(WINDOW + 1):
        scene.route(f"ticket {n}")
    doubts = scene.new_worker().state.doubts
    assert doubts.of_event(WINDOW - 1, False) == doubts.assigned_at
    assert doubts.of_event(WINDOW, False) is None
    assert doubts.of_event(WINDOW, possible_repeat=True) == doubts.assigned_at


def test_a_creation_that_lands_late_is_adopted_by_the_ticket_s_next_event(scene: Scene) -> None:
    """The first event is given up while its creation is still under way; the second must wait for it, not make another ticket."""
    scene.tool.fates.append(Fate.HUNG_LANDS_LATE)
    lost = scene.route()
    scene.passes(15.5)
    assert scene.end_of(lost).outcome == ProcessOutcome.FAILED
    assert "in doubt" in scene.log.dead[0].detail
    following = scene.route()
    scene.passes(SEARCH_LAG + 2)
    assert scene.calls_of(following) == ["find_by_external_id", "has_update", "update_ticket"]
    assert scene.effects == [("create", lost), ("update", following)]


def test_the_doubt_about_a_link_outlives_the_worker(scene: Scene) -> None:
    """Another worker takes over between the lost creation and the next event, with only the topics to know it from."""
    scene.tool.fates.append(Fate.HUNG_LANDS_LATE)
    lost = scene.route()
    scene.passes(15.2)
    scene.worker.commit()
    scene.kill()
    scene.new_worker()
    following = scene.route()
    scene.passes(SEARCH_LAG + 2)
    assert scene.effects == [("create", lost), ("update", following)]


def test_a_failed_call_holds_its_ticket_and_no_other(scene: Scene) -> None:
    """Followers of the same ticket wait for its retry; other tickets flow."""
    scene.tool.fates.extend([Fate.LIMITED])
    held, other, behind = scene.route("A"), scene.route("B"), scene.route("A")
    scene.passes(0.5)
    assert [p.event_id for p in scene.log.processed] == [other]
    scene.passes(2)
    assert [p.event_id for p in scene.log.processed] == [other, held, behind]
    assert [(c.outcome, c.error_class, c.attempt) for c in scene.end_of(held).calls[2:]] == [("error", "RateLimited", 1), ("ok", None, 2)]


def test_a_refused_event_is_set_aside_first_and_its_followers_go_on(scene: Scene) -> None:
    """The dead letter is stored before the event counts as finished; one refused event does not stop its ticket."""
    scene.tool.fates.append(Fate.REFUSED)
    refused, behind = scene.route(), scene.route()
    scene.passes(1)
    assert [(d.event_id, d.reason, d.origin_offset) for d in scene.log.dead] == [(refused, FailureReason.TOOL_REFUSED, 0)]
    assert scene.end_of(refused).outcome == ProcessOutcome.FAILED
    assert scene.log.dead[0].failed_at < scene.end_of(refused).processed_at
    assert scene.effects == [("create", behind)]


def test_a_failed_search_leaves_the_doubt(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that cannot be searched says nothing about what it holds; nothing is written on its silence."""

    async def no_search(self: ModelPlugin, external_id: str) -> None:
        raise ValueError("no search today")

    scene.kill()
    event = scene.route()
    scene.new_worker()
    monkeypatch.setattr(ModelPlugin, "find_by_external_id", no_search)
    scene.passes(SEARCH_LAG + 2)
    assert scene.end_of(event).outcome == ProcessOutcome.FAILED
    assert scene.worker.state.doubts.of_link(ticket_key(TENANT, SOURCE, "A"), TARGET) is not None
    assert scene.effects == []


def test_a_repeat_of_a_finished_event_does_nothing(scene: Scene) -> None:
    """Neither a call nor a second record: its offset is simply done."""
    event = scene.route()
    scene.log.routed.append(scene.log.routed[0])
    scene.passes(1)
    scene.worker.commit()
    assert scene.log.committed == 2
    assert [p.event_id for p in scene.log.processed] == [event]


SERVER = ConfigurationItem(
    item_id="ci1",
    name="web01",
    kind="Linux Server",
    status="operational",
    url="https://cmdb.example/ci1",
    attributes={"serial_number": "S-1", "location": ""},
    relations=(Relation(kind="runs on", name="rack 7"), Relation(kind="runs on", name="rack 8")),
)


def with_devices(scene: Scene, monkeypatch: pytest.MonkeyPatch, *tools: str) -> list[tuple[str, str]]:
    """Gives these tools a CMDB; answers what it is asked: (tool, ticket)."""
    asked: list[tuple[str, str]] = []

    class Telling(ModelPlugin):
        async def device_context(self, ticket: TicketMetadata) -> DeviceContext | None:
            asked.append((self.context.tool, ticket.ticket_id))
            return DeviceContext(items=(SERVER,), services=("Mail",))

    plugins = scene.worker.ctx.plugins
    assert isinstance(plugins, ModelPlugins)
    for tool in tools:
        monkeypatch.setitem(plugins.made, tool, Telling(scene.tool, tool))
    return asked


def test_an_enriched_ticket_gets_one_note_with_what_the_tools_know_of_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever works on the mirror sees what the source and its CMDB know, without an account there."""
    asked = with_devices(scene, monkeypatch, SOURCE, TARGET)
    event = scene.route(actions=["mirror", "enrich"])
    scene.passes(1)
    assert asked == [(SOURCE, "A")]  # the source's own CMDB comes first
    calls = [(call.step, call.tool, call.method) for call in scene.end_of(event).calls[3:]]
    assert calls == [("enrich", SOURCE, "get_ticket"), ("enrich", SOURCE, "device_context"), ("enrich", TARGET, "add_note")]
    assert scene.effects[-1] == ("note", note_marker(f"{event}.enrich", 1))
    assert "as it is now" in scene.tool.texts[-1]
    assert "web01" in scene.tool.texts[-1]


def test_a_source_without_a_cmdb_leaves_the_word_to_the_target_s(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Help desk in one tool, CMDB in another: the mirror's own ticket is what the CMDB is asked about."""
    asked = with_devices(scene, monkeypatch, TARGET)
    scene.route(actions=["mirror", "enrich"])
    scene.passes(1)
    assert asked == [(TARGET, scene.tool.effects[0].ticket_id)]


def test_a_note_and_a_context_of_one_event_are_told_apart_in_doubt(scene: Scene) -> None:
    """Both are notes on one ticket; a search that took the first for the second would lose the second."""
    first = scene.route()
    scene.passes(1)
    scene.worker.commit()
    scene.tool.fates.extend([Fate.DONE, Fate.HUNG_LOST])
    event = scene.route(actions=["note", "enrich"])
    scene.passes(0.3)
    scene.kill()
    scene.new_worker()
    scene.passes(3 * SEARCH_LAG)
    assert scene.effects == [("create", first), ("note", note_marker(event, 1)), ("note", note_marker(f"{event}.enrich", 1))]


@pytest.mark.parametrize("error", [NotFound("gone"), PluginConfigError("base_url is not set")])
def test_a_source_that_cannot_be_asked_leaves_the_delivery_s_own_facts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A tool may only send webhooks, and a ticket may be deleted by the time we ask."""

    async def get_ticket(self: ModelPlugin, ticket_id: str) -> TicketMetadata:
        raise error

    monkeypatch.setattr(ModelPlugin, "get_ticket", get_ticket)
    scene.route(actions=["mirror", "enrich"])
    scene.passes(1)
    assert "Context of desk ticket A: change 1" in scene.tool.texts[-1]


def test_a_source_that_is_no_longer_configured_does_not_fail_the_event(scene: Scene) -> None:
    """Its tickets are still on the way when a tenant takes a tool out."""
    plugins = scene.worker.ctx.plugins
    assert isinstance(plugins, ModelPlugins)
    event = scene.route(actions=["mirror", "enrich"])
    plugins.gone.add(SOURCE)
    scene.passes(1)
    assert scene.end_of(event).outcome == ProcessOutcome.PROCESSED
    assert scene.effects[-1] == ("note", note_marker(f"{event}.enrich", 1))


def test_a_context_holds_what_is_known_and_is_bounded() -> None:
    """A note of a thousand lines is read by nobody, and some tools refuse it."""
    ticket = a_metadata(
        requester="ann@acme.example", tags=("vip",), device={"name": "web01"}, sla_due_at=1_772_444_400_000_000, url="https://x.example/A"
    )
    assert context_text("desk", ticket, DeviceContext(items=(SERVER,), services=("Mail", "Web"))).splitlines() == [
        "Context of desk ticket A: Printer",
        "",
        "- requester: ann@acme.example",
        "- status: open",
        "- SLA due: 2026-03-02 09:40 UTC",
        "- tags: vip",
        "- device: name web01",
        "- link: https://x.example/A",
        "",
        "**web01** (Linux Server, operational)",
        "",
        "- serial_number: S-1",
        "- runs on: rack 7, rack 8",
        "- link: https://cmdb.example/ci1",
        "",
        "Services touched: Mail, Web",
    ]
    many = DeviceContext(items=(replace(SERVER, name="x\n# " * 1000, attributes={str(n): "y" * 500 for n in range(50)}),) * 500)
    text = context_text("desk", ticket, many)
    assert MAX_CONTEXT_CHARS - 1000 < len(text) <= MAX_CONTEXT_CHARS
    assert text.endswith("…")
    assert "\n#" not in text


def a_metadata(**fields: Any) -> TicketMetadata:
    return TicketMetadata(**{"tenant_id": TENANT, "ticket_id": "A", "subject": "Printer", "status": TicketStatus.OPEN, **fields})


def test_only_what_the_delivery_changed_is_written_where_the_tool_tells() -> None:
    """People work on the mirror too; a comment on the source must not undo their change of status."""
    assert changes_of(a_metadata(), "e")[1] == {"subject": "Printer", "status": "open"}
    changes, fields = changes_of(a_metadata(extra={"changed": ("status", "assignee")}), "e")
    assert fields == {"status": "open"}
    assert (changes.subject, changes.status) == (None, TicketStatus.OPEN)
    assert changes_of(a_metadata(extra={"changed": ()}), "e")[1] == {}


def test_a_note_says_who_did_what_and_quotes_the_comment() -> None:
    """It is read by people in another tool, without the original at hand."""
    metadata = a_metadata(
        change=TicketChange.COMMENTED, actor="mia@acme.example", extra={"comment": "Toner is empty."}, url="https://x.example/A"
    )
    text = note_text("desk", metadata)
    assert text == "desk ticket A was commented by mia@acme.example: Printer\n\nToner is empty.\n\nhttps://x.example/A"
    plain = note_text("desk", a_metadata())
    assert plain == "desk ticket A was changed: Printer\n\nstatus open"
