"""Yesterday, asked again: past events with the rules of then, of now, or of a file nobody has applied yet. It only reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plugins.api import Delivery, NotADelivery, PluginContext, TicketingToolPlugin, TicketMetadata
from plugins.manager import PluginManager
from plugins.registry import PluginRegistry
from schemas.codec import Codec, CodecError
from schemas.events import Decision, SeenOutcome, TicketRouted, WebhookReceived
from schemas.hotpath import decode_received
from schemas.hotpath_seen import decode_batch_seen
from streams import topics
from streams.broker.admin import offsets
from streams.routing.decision import Decisions, Dropped
from streams.routing.rules import Explanation, RuleSet
from streams.tenants.config import TenantConfig
from streams.tenants.registry import TenantRegistry
from streams.topic_scan import each_record, learn_schemas, offsets_at, scanning

EARLY_US = 60_000_000
"""How much before an event's own time its record is looked for: clocks of two machines differ."""
NOT_ASKED = frozenset({SeenOutcome.DUPLICATE, SeenOutcome.REPEAT, SeenOutcome.ECHO})
"""What the rules are never asked about."""
MAX_EXAMPLES = 3

UNREADABLE = "cannot be read: a dead letter"
UNROUTABLE = "unroutable: a dead letter"


@dataclass(frozen=True, slots=True)
class PastEvent:
    """A received event where it stands on its topic."""

    partition: int
    offset: int
    key: bytes
    event: WebhookReceived


@dataclass(frozen=True, slots=True)
class Told:
    """An answer of the rules in words: what becomes of the ticket, and by which rules (`default` where none matched)."""

    what: str
    rules: tuple[str, ...] = ()


def told(answer: Decisions | Dropped | None) -> Told:
    """An answer in words, equal for answers that do the same by the same rules."""
    if answer is None:
        return Told(UNROUTABLE)
    if isinstance(answer, Dropped):
        return Told("dropped", (answer.rule or "default",))
    return Told("; ".join(_does(decision) for decision in answer), tuple(decision.rule or "default" for decision in answer))


def _does(decision: Decision) -> str:
    failover = f", else {', '.join(decision.failover)}" if decision.failover else ""
    return f"{decision.target}: {', '.join(decision.actions)}{failover}"


class Reader:
    """Reads tickets as route reads them: by the plugin and the tool's settings in force when the event was received."""

    def __init__(self, registry: TenantRegistry) -> None:
        self.registry = registry
        self._plugins = PluginManager(PluginRegistry.discover(), registry.binding, lambda tenant: lambda reference: ())
        self._tried: dict[str, TicketingToolPlugin] = {}

    def metadata(self, event: WebhookReceived, trial: TenantConfig | None = None) -> TicketMetadata | None:
        """The ticket, None where the delivery cannot be read. With `trial`, by the settings that configuration gives the tool."""
        plugin = self._plugin(event, trial)
        if plugin is None:
            return None
        try:
            return plugin.extract_metadata(delivery_of(event))
        except NotADelivery:
            return None
        except Exception:  # noqa: BLE001 - a plugin's fault makes a dead letter in route as well
            return None

    def _plugin(self, event: WebhookReceived, trial: TenantConfig | None) -> TicketingToolPlugin | None:
        tool = trial.tools.get(event.tool) if trial is not None else None
        binding = self.registry.binding(event.tenant, event.tool, event.received_at)
        if tool is None or (binding is not None and (tool.type, tool.settings()) == (binding.tool_type, binding.settings)):
            return self._plugins.peek(event.tenant, event.tool, event.received_at)
        if event.tool not in self._tried:
            kind = PluginRegistry.discover().get(tool.type)
            self._tried[event.tool] = kind(
                PluginContext(tenant=event.tenant, tool=event.tool, settings=tool.settings(), secrets=lambda reference: (), http=_no_calls)
            )
        return self._tried[event.tool]


def _no_calls() -> Any:
    raise AssertionError("reading a delivery makes no calls")


def delivery_of(event: WebhookReceived) -> Delivery:
    """The delivery as the door received it."""
    return Delivery(
        tenant=event.tenant,
        tool=event.tool,
        body=event.body,
        headers=event.headers,
        content_type=event.content_type,
        query=event.query,
        received_at=event.received_at,
    )


def explain(past: PastEvent, reader: Reader, rules: RuleSet) -> Explanation | None:
    """What each rule says of a past event; None where its delivery cannot be read."""
    metadata = reader.metadata(past.event)
    return None if metadata is None else rules.explain(metadata, past.event.tool, past.key, past.event.received_at)


# --- what would change -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Change:
    """Events that would go another way: how many, and the ids of the first few."""

    events: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RulesDiff:
    """How a new configuration answers past events, against the rules of now or of then."""

    asked: int = 0
    changed: int = 0
    not_asked: int = 0
    changes: dict[tuple[Told, Told], Change] = field(default_factory=dict)
    by_rule: dict[str, int] = field(default_factory=dict)
    """Events each rule of the new configuration would decide, those that stay as they are too."""

    def add(self, before: Told, after: Told, event_id: str) -> None:
        self.asked += 1
        for rule in after.rules:
            self.by_rule[rule] = self.by_rule.get(rule, 0) + 1
        if before == after:
            return
        self.changed += 1
        change = self.changes.setdefault((before, after), Change())
        change.events += 1
        if len(change.examples) < MAX_EXAMPLES:
            change.examples.append(event_id)


class Trial:
    """Asks the old and the new rules about one event after the other. `of_then` takes the old ones in force at each event's time."""

    def __init__(self, registry: TenantRegistry, config: TenantConfig, now: int, *, of_then: bool = False) -> None:
        self.diff = RulesDiff()
        self._reader = Reader(registry)
        self._registry = registry
        self._config = config
        self._new = config.rules(0)
        self._now, self._of_then = now, of_then

    def ask(self, past: PastEvent) -> None:
        event = past.event
        version = self._registry.at(event.tenant, event.received_at if self._of_then else self._now)
        before = Told(UNREADABLE)
        metadata = self._reader.metadata(event)
        if metadata is not None:
            rules = version.rules if version is not None else None
            before = told(rules.decide(metadata, event.tool, past.key, event.received_at) if rules is not None else None)
        trial = self._reader.metadata(event, self._config)
        after = Told(UNREADABLE)
        if trial is not None:
            after = told(self._new.decide(trial, event.tool, past.key, event.received_at))
        self.diff.add(before, after, event.event_id)


async def try_rules(
    brokers: str,
    registry: TenantRegistry,
    config: TenantConfig,
    *,
    since: int,
    until: int,
    of_then: bool = False,
    security: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RulesDiff:
    """Asks the new configuration about every event of its tenant written in [since, until), duplicates and echoes left out.

    `progress` is told how many records of how many were read. Raises BrokerError, and TimeoutError when the broker stops answering.
    """
    trial = Trial(registry, config, until, of_then=of_then)
    async with scanning(brokers, security or {}) as consumer:
        begins, known = await offsets(brokers, [topics.RECEIVED.name, topics.SEEN.name, topics.SCHEMAS.name], security)
        codec = Codec()
        await learn_schemas(consumer, codec, {p: end for p, end in known.items() if p[0] == topics.SCHEMAS.name}, begins)
        received = sorted(position for position in known if position[0] == topics.RECEIVED.name)
        first, end = await offsets_at(consumer, received, since), await offsets_at(consumer, received, until)
        seen_positions = [(topics.SEEN.name, partition) for _, partition in received]
        seen_first = await offsets_at(consumer, seen_positions, since)
        total, done = sum(end[position] - first[position] for position in received), 0
        for position in received:
            start, upto = first[position], end[position]
            seen = (topics.SEEN.name, position[1])
            outcomes: dict[int, str] = {}
            await each_record(consumer, seen, seen_first[seen], known[seen], _outcomes_into(outcomes, codec))

            def ask(record: Any, outcomes: Mapping[int, str] = outcomes) -> None:
                nonlocal done
                done += 1
                if progress is not None and done % 1000 == 0:
                    progress(done, total)
                past = _past(record, codec)
                if past is None or past.event.tenant != config.tenant:
                    return
                if past.event.injection_id is not None or outcomes.get(record.offset) in NOT_ASKED:
                    trial.diff.not_asked += 1
                    return
                trial.ask(past)

            await each_record(consumer, position, start, upto, ask)
        if progress is not None:
            progress(total, total)
    return trial.diff


def _outcomes_into(outcomes: dict[int, str], codec: Codec) -> Callable[[Any], None]:
    def tell(record: Any) -> None:
        try:
            _, _, parts = decode_batch_seen(record.value or b"", codec)
        except CodecError:
            return  # a batch nobody can read says nothing; its events are asked like the others
        for part in parts:
            outcomes.setdefault(part.offset, part.outcome)

    return tell


def _past(record: Any, codec: Codec) -> PastEvent | None:
    try:
        received = decode_received(record.value, codec)
    except CodecError:
        return None
    return PastEvent(record.partition, record.offset, record.key or b"", received.event)


# --- one event ---------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """An event by its id: as received, and the decision route stored for it, where there is one."""

    past: PastEvent | None = None
    decisions: Decisions | None = None
    outcome: str | None = None


async def find_event(brokers: str, event_id: str, security: Mapping[str, Any] | None = None) -> Found:
    """Looks an event up from its own time on: the id tells when it was given. Raises BrokerError."""
    found = Found()
    moment = int(event_id.replace("-", "")[:12], 16) * 1000 - EARLY_US
    async with scanning(brokers, security or {}) as consumer:
        begins, known = await offsets(brokers, [topics.RECEIVED.name, topics.ROUTED.name, topics.SEEN.name, topics.SCHEMAS.name], security)
        codec = Codec()
        await learn_schemas(consumer, codec, {p: end for p, end in known.items() if p[0] == topics.SCHEMAS.name}, begins)
        needle = event_id.encode()

        def look(record: Any) -> None:
            if found.past is None and needle in (record.value or b""):
                past = _past(record, codec)
                if past is not None and past.event.event_id == event_id:
                    found.past = past

        def look_routed(record: Any) -> None:
            if needle in (record.value or b""):
                routed = _routed(record, codec)
                if routed is not None and routed.event_id == event_id:
                    found.decisions = (routed.decision, *routed.also)

        await _through(consumer, topics.RECEIVED.name, known, moment, look, lambda: found.past is not None)
        if found.past is None:
            return found
        partition, offset = found.past.partition, found.past.offset
        outcomes: dict[int, str] = {}
        here = {position: end for position, end in known.items() if position[1] == partition}
        await _through(consumer, topics.SEEN.name, here, moment, _outcomes_into(outcomes, codec), lambda: offset in outcomes)
        found.outcome = outcomes.get(offset)
        await _through(consumer, topics.ROUTED.name, here, moment, look_routed, lambda: found.decisions is not None)
    return found


CHUNK = 20_000


async def _through(
    consumer: Any,
    topic: str,
    known: Mapping[tuple[str, int], int],
    moment: int,
    tell: Callable[[Any], None],
    done: Callable[[], bool],
) -> None:
    """Reads a topic's partitions from a moment on, in pieces, until what is looked for has been found."""
    positions: Sequence[tuple[str, int]] = sorted(position for position in known if position[0] == topic)
    first = await offsets_at(consumer, positions, moment)
    for position in positions:
        for start in range(first[position], known[position], CHUNK):
            await each_record(consumer, position, start, min(start + CHUNK, known[position]), tell)
            if done():
                return


def _routed(record: Any, codec: Codec) -> TicketRouted | None:
    try:
        return codec.decode_as(TicketRouted, record.value)
    except CodecError:
        return None
