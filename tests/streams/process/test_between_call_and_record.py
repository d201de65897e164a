"""A worker that dies between a call and its record, with each of the nine plugins against its own sandbox: every effect once.

What the loss test meets by chance, one place after the other. Needs no broker: what a worker left behind is the links it recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cli.sandboxed import start_all
from plugins.api import PluginContext, Priority, TicketChange, TicketingToolPlugin, TicketMetadata, TicketStatus, TicketType
from plugins.conformance.stand import as_written, settings_of
from plugins.conformance.subject import Subject
from plugins.http.client import ApiClient
from plugins.marker import find_marker
from plugins.sandbox.process import SandboxProcess
from schemas.events import Decision, LinkSet, TicketRouted
from schemas.ids import external_id, new_event_id
from streams.clock import SystemClock
from streams.doubt import PartitionDoubts
from streams.effects import Effects, Work
from streams.links import LinkTable
from tests.chaos.tenant import TOOL_TYPES

INDEX_LAG_S, SEARCH_LAG_S = 0.15, 0.3
ACTIONS = ("mirror", "note", "enrich")


class Died(BaseException):
    """SIGKILL, as far as one coroutine can have it."""


class Turn:
    """An event that has its partition to itself."""

    def check(self) -> None: ...

    async def wait(self, seconds: float) -> None:
        await SystemClock().sleep(seconds)


class Worker:
    """One life of process on one event. `left` are the links that lives before it recorded, and this one adds to."""

    def __init__(self, plugin: TicketingToolPlugin, left: list[LinkSet], *, takes_over: bool, dies_at_record: bool = False) -> None:
        self.plugin, self.left, self.dies = plugin, left, dies_at_record
        self.doubts = PartitionDoubts(assigned_at=SystemClock().now(), committed=0, end=100 if takes_over else 0)
        self.links = LinkTable()
        for link in left:
            self.links.apply(link)

    async def record(self, link: LinkSet) -> None:
        if self.dies:
            raise Died
        self.left.append(link)

    async def work(self, work: Work) -> None:
        effects = Effects(
            work, self.plugin, links=self.links, record=self.record, doubts=self.doubts, clock=SystemClock(), turn=Turn(), calls=[]
        )
        for action in work.decision.actions:
            await effects.run(action)


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[dict[str, SandboxProcess]]:
    with ExitStack() as stack:
        yield dict(zip(TOOL_TYPES, start_all(stack, TOOL_TYPES, lambda tool_type: {"index_lag": INDEX_LAG_S}), strict=True))


def an_event(offset: int, **told: object) -> Work:
    """The offset-th event of one source ticket; what it tells is what changed."""
    metadata = TicketMetadata(tenant_id="acme", ticket_id="7", **told)  # type: ignore[arg-type] - words of TicketMetadata
    decision = Decision(target="target", actions=list(ACTIONS))
    routed = TicketRouted(
        event_id=new_event_id(), tenant="acme", tool="source", tool_type="model", ticket_id="7", decision=decision, received_at=1,
        received_offset=offset, received=b"",
    )  # fmt: skip
    return Work(routed=routed, decision=decision, routed_offset=offset, partition=0, metadata=metadata)


@pytest.mark.parametrize("tool_type", TOOL_TYPES)
async def test_every_effect_of_a_tool_happens_once(tool_type: str, sandboxes: dict[str, SandboxProcess]) -> None:
    """A ticket made, changed, noted and enriched by workers of which each dies before it can say so; the next one must find it."""
    sandbox, subject, left = sandboxes[tool_type], Subject.find(tool_type), list[LinkSet]()
    settings = {"base_url": sandbox.base_url, **settings_of(subject, sandbox), "search_lag": SEARCH_LAG_S}
    client = ApiClient(sandbox.base_url)
    plugin = subject.kind(PluginContext(tenant="acme", tool="target", settings=settings, secrets=as_written, http=lambda: client))
    opened = an_event(
        1, subject="VPN drops", type=TicketType.INCIDENT, priority=Priority.HIGH, status=TicketStatus.OPEN, change=TicketChange.CREATED
    )
    changed = an_event(
        2, subject="VPN is back", type=TicketType.INCIDENT, priority=Priority.LOW, status=TicketStatus.OPEN, change=TicketChange.UPDATED
    )
    before = len(sandbox.ledger())
    try:
        for work in (opened, changed):
            with pytest.raises(Died):
                await Worker(plugin, left, takes_over=work is changed, dies_at_record=True).work(work)
            for _ in range(2):  # the first does what is left of it, and dies before the event's own record
                await Worker(plugin, left, takes_over=True).work(work)
    finally:
        await plugin.aclose()
        await client.aclose()
    rows = [row for row in sandbox.ledger(before) if row["kind"] != "update" or row["marker"] is not None]
    done = Counter((row["kind"], str(row["marker"]).removesuffix("/fields")) for row in rows if row["kind"] != "note")
    noted = Counter(found[0] for row in rows if row["kind"] == "note" and (found := find_marker(str(row["marker"]))))
    one, two = opened.routed.event_id, changed.routed.event_id
    assert done == {("create", one): 1, ("update", two): done["update", two]}
    assert done["update", two] in (1, 2 if tool_type == "jira" else 1), "Jira changes fields and status in two calls"
    assert noted == {mark: 1 for event_id in (one, two) for mark in (event_id, f"{event_id}.enrich")}
    assert {row["external_id"] for row in rows if row["kind"] == "create"} == {external_id("acme/source/7", "target")}
