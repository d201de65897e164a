"""The demo's account: what the audit counts, what the tables say and what the tools had done to them, side by side."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from analytics.open import open_reader
from analytics.store import StoreError
from analytics.views import Scope
from cli.demo.scene import Scene
from cli.demo.traffic import Sent
from cli.output import say
from streams.runtime import read_runtime
from streams.settings import Settings

CLASSES = ("duplicates", "echoes", "dropped", "processed", "dead_lettered")


@dataclass(slots=True)
class Balance:
    """One reading. `audit` has a row for each tenant's tool; `effects` counts the tools' ledgers; double ones are named."""

    audit: list[dict[str, Any]]
    unbalanced: list[str]
    refused: dict[str, int] = field(default_factory=dict)
    by_target: dict[str, int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    methods: list[dict[str, Any]] = field(default_factory=list)
    cost_micros: int = 0
    door_restarts: int = 0
    forged_refused: int = 0
    effects: dict[str, int] = field(default_factory=dict)
    double_effects: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def of(self, name: str) -> dict[str, Any]:
        """The audit's row of a tenant's tool, by `tenant/tool`."""
        return next((row for row in self.audit if f"{row['tenant']}/{row['tool']}" == name), {})

    @property
    def written(self) -> list[str]:
        """The tools we had effects in."""
        return sorted({what.partition(" ")[0] for what in self.effects})

    def total(self, name: str) -> int:
        """Sum over all tools."""
        return sum(int(row[name]) for row in self.audit)

    @property
    def accepted(self) -> int:
        return self.total("accepted")

    @property
    def settled(self) -> bool:
        """Whether nothing is under way, and the tables have it all."""
        under_way = self.total("in_flight") + self.total("retrying")
        stored = self.stored_processed >= self.total("processed") and sum(self.dead_letters.values()) >= self.total("dead_lettered")
        return self.accepted > 0 and under_way == 0 and stored

    @property
    def stored_processed(self) -> int:
        """Events that the tables count as processed."""
        return sum(self.by_target.values())

    @property
    def knows_refused(self) -> bool:
        """Whether the tables have the door's counts of the forged deliveries; they come every 10 s."""
        counted = sum(n for reason, n in self.refused.items() if "signature" in reason)
        return counted >= max(self.forged_refused, 1)

    def as_dict(self) -> dict[str, Any]:
        return {"balanced": not problems_of(self), "problems": problems_of(self), **asdict(self)}


def measure(settings: Settings, scene: Scene, sent: Sent) -> Balance:
    """Reads topics, tables and ledgers. Raises BrokerError while the broker is away."""
    from streams.audit import run_audit

    report = asyncio.run(run_audit(settings.brokers))
    balance = Balance(
        audit=[msgspec.to_builtins(row) for row in report.tools],
        unbalanced=[f"{p.tenant}/{p.tool} {p.event_id}: {p.why}" for p in report.problems],
        door_restarts=_restarts(settings, "ingestion"),
        forged_refused=sent.forged_refused,
        sources=[f"{c.tenant}/{c.tool}" for c in scene.sources],
    )
    _read_tables(settings, balance)
    _read_ledgers(scene, balance)
    return balance


def _restarts(settings: Settings, name: str) -> int:
    runtime = read_runtime(settings.data_dir)
    return next((p.restarts for p in runtime.processes if p.name == name), 0) if runtime is not None else 0


def _read_tables(settings: Settings, balance: Balance) -> None:
    try:
        with open_reader(settings.store_url) as reader:
            scope = Scope()
            balance.refused = _sums(reader.ingestion(scope), "reason", "requests", outcome="refused")
            balance.dead_letters = _sums(reader.dead_letter_reasons(scope), "reason", "letters")
            routing = reader.routing(scope)
            processed = [r for r in routing if r["outcome"] == "processed"]
            balance.by_target = _sums([r | {"place": f"{r['tenant']}/{r['target']}"} for r in processed], "place", "events")
            balance.methods = reader.methods(scope)
            balance.cost_micros = sum(int(row["cost_micros"]) for row in reader.costs(scope))
    except StoreError:
        return  # the materializer has not made the tables yet; measured again in a moment


def dead_letters(settings: Settings) -> Mapping[str, int]:
    """Dead letters in the tables so far, by reason."""
    try:
        with open_reader(settings.store_url) as reader:
            return _sums(reader.dead_letter_reasons(Scope()), "reason", "letters")
    except StoreError:
        return {}


def _sums(rows: list[dict[str, Any]], key: str, value: str, **where: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for row in rows:
        if all(row[k] == v for k, v in where.items()):
            sums[str(row[key])] = sums.get(str(row[key]), 0) + int(row[value])
    return sums


def _read_ledgers(scene: Scene, balance: Balance) -> None:
    effects: Counter[str] = Counter()
    for c in scene.connections:
        seen: Counter[tuple[str, ...]] = Counter()
        for row in c.sandbox.ledger():
            if row["actor"] != "api":
                continue
            effects[f"{c.tenant}/{c.tool} {row['kind']}"] += 1
            if row["marker"] is None:
                continue  # a step on the way to an effect: a state a ticket must pass through
            what = ("create", row["external_id"]) if row["kind"] == "create" else (row["kind"], row["ticket_id"], row["marker"])
            seen[tuple(map(str, what))] += 1
        balance.double_effects += [f"{c.tenant}/{c.tool}: {' '.join(what)} happened {n} times" for what, n in seen.items() if n > 1]
    balance.effects = dict(sorted(effects.items()))


def problems_of(balance: Balance) -> list[str]:
    """Why the balance is not exact, or which class of event did not occur; empty when all is well."""
    problems = [*balance.unbalanced, *balance.double_effects]
    if not balance.settled:
        problems.append(f"not settled: {balance.total('in_flight')} in flight, {balance.total('retrying')} retrying")
    problems += [f"no event was among {name}" for name in CLASSES if balance.total(name) == 0]
    problems += [f"{name}: nothing came from it" for name in balance.sources if not balance.of(name).get("accepted")]
    problems += [f"{name}: we wrote there and no echo came" for name in balance.written if not balance.of(name).get("echoes")]
    problems += [f"no dead letter for {reason}" for reason in ("not_json", "retries_exhausted") if not balance.dead_letters.get(reason)]
    if balance.settled and balance.stored_processed != balance.total("processed"):
        problems.append(f"the tables count {balance.stored_processed} processed, the topics {balance.total('processed')}")
    if balance.settled and sum(balance.dead_letters.values()) != balance.total("dead_lettered"):
        problems.append(f"the tables count {sum(balance.dead_letters.values())} dead letters, the topics {balance.total('dead_lettered')}")
    if not balance.knows_refused and not (balance.door_restarts and balance.forged_refused):
        problems.append(f"{balance.forged_refused} forged deliveries were answered 401, and the tables do not have them all")
    return problems


def show(balance: Balance, settings: Settings) -> None:
    """The summary for a person: to stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 140)
    names = ("accepted", "duplicates", "echoes", "dropped", "processed", "in_flight", "retrying", "dead_lettered")
    table = Table(
        "tenant/tool", *(n.replace("_", " ") for n in names), title="every accepted event, counted once", title_justify="left", box=None
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row in balance.audit:
        table.add_row(f"{row['tenant']}/{row['tool']}", *(str(row[n]) for n in names))
    table.add_row("all", *(str(balance.total(n)) for n in names), style="bold")
    console.print(table)
    refused = ", ".join(f"{n} {reason}" for reason, n in sorted(balance.refused.items())) or "none"
    if balance.door_restarts:
        refused += f" (the door was killed {balance.door_restarts} times; of these, each time up to its last 10 s are not counted)"
    console.print(f"\nrefused at the door:  {refused}")
    console.print("processed by target:  " + ", ".join(f"{n} {target}" for target, n in sorted(balance.by_target.items())))
    console.print("dead letters:         " + ", ".join(f"{n} {reason}" for reason, n in sorted(balance.dead_letters.items())))
    console.print("effects in the tools: " + ", ".join(f"{n} {what}" for what, n in balance.effects.items()))
    console.print(f"double effects:       {len(balance.double_effects)}")
    console.print(f"cost of API calls:    {balance.cost_micros / 1e6:.4f}\n")
    table = Table("tool", "method", "calls", "errors", "p50 ms", "p95 ms", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for m in balance.methods:
        p50, p95 = (f"{(m[k] or 0) / 1000:.2f}" for k in ("p50_us", "p95_us"))
        table.add_row(f"{m['tenant']}/{m['tool']}", m["method"], str(m["calls"]), str(m["errors"]), p50, p95)
    console.print(table)
    say("")
    say("look further:")
    say(f"  export AI_AGENTS_DATA_DIR={settings.data_dir}")
    say("  ai-agents analytics methods                 ai-agents analytics errors")
    say("  ai-agents analytics sql 'SELECT rule, target, SUM(events) AS events FROM routing GROUP BY rule, target'")
    say("  ai-agents analytics sql 'SELECT reason, detail FROM dead_letters LIMIT 5'")
