"""`ai-agents route`: a tenant's rules, checked, explained, tried on yesterday and drawn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.output import FAILED, NOT_FOUND, USAGE, CommandError, document, output_option, rows, say
from cli.tenant import read_registry
from cli.times import When, iso
from streams.settings import Settings

if TYPE_CHECKING:
    from plugins.manifest import PluginManifest
    from streams.route_history import RulesDiff
    from streams.routing.rules import Explanation, RuleSet
    from streams.tenants.config import TenantConfig
    from streams.tenants.registry import TenantVersion
    from streams.tenants.yaml_source import YamlSource

T = TypeVar("T")
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def route() -> None:
    """A tenant's rules: check, explain, try on yesterday, draw.

    Example: ai-agents route explain 019ab2c4-0000-7000-8000-000000000001
    """


@route.command("lint")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=FILE)
@click.option("--strict", is_flag=True, help="End with 1 for warnings too.")
@output_option
def lint_files(files: tuple[Path, ...], strict: bool, output: str) -> None:
    """Say what is wrong with configuration files, and what is probably not meant. Needs no broker.

    Errors: `tenant apply` would refuse the file. Warnings: a route is never reached, a tool never used, a failover leads in a
    circle, there is no default. Remarks: routes that share tickets, so that their order decides. Ends with 1 when there is an error.

    Example: ai-agents route lint tenants/*.yaml -o json
    """
    from streams.tenants.config import TenantConfigErrors
    from streams.tenants.lint import lint, remarks

    shown: list[dict[str, Any]] = []
    for file in files:
        try:
            config, source = _parse(file)
        except TenantConfigErrors as exc:
            found = [("error", problem) for problem in exc.problems]
        else:
            found = [("warning", problem) for problem in lint(config, source, manifests())] + [
                ("remark", p) for p in remarks(config, source)
            ]
        shown += [
            {"file": str(file), "line": p.line, "column": p.column, "level": level, "path": p.path, "message": p.message}
            for level, p in found
        ]
    rows(shown, output, ["file", "line", "column", "level", "path", "message"] if output != "json" else None)
    levels = {row["level"] for row in shown}
    say(f"{len(files)} files: " + (", ".join(f"{sum(r['level'] == x for r in shown)} {x}s" for x in sorted(levels)) or "nothing to say"))
    if "error" in levels or (strict and "warning" in levels):
        raise SystemExit(FAILED)


@route.command("explain")
@click.argument("what", metavar="EVENT|FILE")
@click.option("--rules", "rules_file", type=FILE, help="Ask the routes of this file [default: those in force when it was received].")
@click.option("--now", "of_now", is_flag=True, help="Ask the newest version in force instead of that of then.")
@click.option("--tenant", help="For a FILE: whose rules [default: the tenant of --rules].")
@click.option("--tool", help="For a FILE: the tenant's tool the delivery came from.")
@output_option
@click.pass_obj
def explain_event(
    settings: Settings, what: str, rules_file: Path | None, of_now: bool, tenant: str | None, tool: str | None, output: str
) -> None:
    """Say where an event goes, by which rule, and why each earlier rule did not match.

    EVENT is an event_id as the door answered it; FILE a delivery's body, which needs --tool, and --tenant or --rules. For an event
    the decision that was stored is compared: it ends with 1 when the rules of then say something else now.

    Example: ai-agents route explain 019ab2c4-0000-7000-8000-000000000001
    """
    if Path(what).is_file():
        _explain_file(settings, Path(what), rules_file, tenant, tool, output)
        return
    from streams.route_history import Reader, explain, find_event, told

    if len(what.replace("-", "")) != 32 or set(what) - set("0123456789abcdef-"):
        raise CommandError(f"{what} is neither a file nor an event_id", USAGE)
    found = _run(settings, find_event(settings.brokers, what, settings.security))
    if found.past is None:
        raise CommandError(f"no event {what} on tickets.received.v1; its retention may be over", NOT_FOUND)
    registry = read_registry(settings)
    event = found.past.event
    config = _parse_or_fail(rules_file)[0] if rules_file is not None else None
    version = registry.at(event.tenant, time.time_ns() // 1000 if of_now else event.received_at)
    rules = config.rules(0) if config is not None else _version(version, event.tenant).rules
    explanation = explain(found.past, Reader(registry), rules)
    say(f"event {event.event_id} of {event.tenant}/{event.tool}, received {iso(event.received_at)}, ticket {event.ticket_id}")
    if explanation is None:
        raise CommandError(f"{event.tool_type} cannot read this delivery; it is a dead letter", FAILED)
    stored = told(found.decisions).what if found.decisions is not None else found.outcome
    _show(explanation, rules, output, {"event_id": event.event_id, "stored": str(stored) if stored is not None else None})
    if config is None and not of_now and found.decisions is not None and found.decisions != explanation.answer:
        raise CommandError(f"route stored another decision: {stored}")


def _explain_file(settings: Settings, file: Path, rules_file: Path | None, tenant: str | None, tool: str | None, output: str) -> None:
    from plugins.api import NotADelivery, PluginConfigError, PluginContext
    from plugins.registry import PluginRegistry
    from schemas.events import WebhookReceived
    from schemas.ids import body_dedup_key, new_event_id, ticket_key
    from streams.route_history import delivery_of

    config = _parse_or_fail(rules_file)[0] if rules_file is not None else _in_force(settings, tenant).config
    if tool not in config.tools:
        raise CommandError(f"--tool names one of {', '.join(config.tools)}", USAGE)
    assert tool is not None
    rules, connected = config.rules(0), config.tools[tool]
    body, now = file.read_bytes(), time.time_ns() // 1000
    key = ticket_key(config.tenant, tool, "")
    event = WebhookReceived(
        event_id=new_event_id(),
        dedup_key=body_dedup_key(key, body),
        dedup_scope="body",
        tenant=config.tenant,
        tool=tool,
        tool_type=connected.type,
        received_at=now,
        verified_by="none",
        body=body,
    )
    context = PluginContext(
        tenant=config.tenant, tool=tool, settings=connected.settings(), secrets=lambda reference: (), http=lambda: _no_network()
    )
    try:
        metadata = PluginRegistry.discover().get(connected.type)(context).extract_metadata(delivery_of(event))
    except (NotADelivery, PluginConfigError) as exc:
        raise CommandError(str(exc)) from exc
    explanation = rules.explain(metadata, tool, ticket_key(config.tenant, tool, metadata.ticket_id).encode(), now)
    _show(explanation, rules, output, {"event_id": None, "stored": None})


def _no_network() -> Any:
    raise CommandError("explaining makes no calls")


def _show(explanation: Explanation, rules: RuleSet, output: str, more: dict[str, Any]) -> None:
    from streams.route_history import told

    answer = told(explanation.answer)
    if output in ("json", "yaml"):
        traces = [{"rule": t.rule, "outcome": t.outcome, "reasons": list(t.reasons)} for t in explanation.rules]
        document({**more, "version": rules.version, "answer": answer.what, "rules": list(answer.rules), "trace": traces}, output)
        return
    columns = ["rule", "outcome", "why"]
    rows([{"rule": t.rule, "outcome": t.outcome, "why": "; ".join(t.reasons)} for t in explanation.rules], output, columns)
    say(f"→ {answer.what}" + (f" (by {', '.join(answer.rules)}, version {rules.version or 'of the file'})" if answer.rules else ""))


@route.command("diff")
@click.option("--rules", "rules_file", type=FILE, required=True, help="The configuration file to try.")
@click.option("--since", type=When(), default="24h", show_default=True, help="From when on: a time, or an age such as 2h or 7d.")
@click.option("--until", type=When(), default="0s", help="Up to when [default: now].")
@click.option("--against", type=click.Choice(["now", "then"]), default="now", show_default=True, help="The rules to compare with.")
@output_option
@click.pass_obj
def diff_rules(settings: Settings, rules_file: Path, since: int, until: int, against: str, output: str) -> None:
    """Say which past events would go another way with the routes of a file. Nothing is sent or changed.

    Each event of the tenant in the time asked is read again, duplicates and echoes left out, and put to both: one row for each
    way events would change, with the ids of the first few. `--against then` compares with the version in force at each event's time.

    Example: ai-agents route diff --rules tenants/acme.yaml --since 24h
    """
    from streams.route_history import try_rules

    config, _ = _parse_or_fail(rules_file)
    registry = read_registry(settings)
    if since >= until:
        raise CommandError("--since must be before --until", USAGE)
    with _progress() as progress:
        work = try_rules(
            settings.brokers,
            registry,
            config,
            since=since,
            until=until,
            of_then=against == "then",
            security=settings.security,
            progress=progress,
        )
        diff = _run(settings, work)
    _show_diff(diff, config, output)


def _show_diff(diff: RulesDiff, config: TenantConfig, output: str) -> None:
    shown: list[dict[str, Any]] = [
        {
            "events": change.events,
            "before": before.what,
            "by": ", ".join(before.rules),
            "after": after.what,
            "then_by": ", ".join(after.rules),
            "examples": change.examples,
        }
        for (before, after), change in sorted(diff.changes.items(), key=lambda item: -item[1].events)
    ]
    if output in ("json", "yaml"):
        by_rule = {name: diff.by_rule.get(name, 0) for name in (*(r.name for r in config.routes), "default")}
        head = {"tenant": config.tenant, "asked": diff.asked, "changed": diff.changed, "duplicates_and_echoes": diff.not_asked}
        document({**head, "by_rule": by_rule, "changes": shown}, output)
        return
    rows([{**row, "examples": row["examples"][0]} for row in shown], output, ["events", "before", "by", "after", "then_by", "examples"])
    say(f"{diff.asked} events asked, {diff.changed} would change; {diff.not_asked} duplicates and echoes were left out")


@route.command("test")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=FILE)
@output_option
def test_examples(files: tuple[Path, ...], output: str) -> None:
    """Run the tables of examples that stand in configuration files, under `examples`. Needs no broker.

    An example is a ticket and what is expected of it: `{name: VIP at night, ticket: {type: incident, requester: a@b.example},
    tool: desk, at: "2026-11-24T22:00Z", route: VIPs}`; or `to: jira`, `to: [jira, snow]`, `dropped: true`. Ends with 1 on a miss.

    Example: ai-agents route test tenants/acme.yaml
    """
    from streams.routing.examples import ExampleError, run_example

    shown, wrong = [], 0
    for file in files:
        config, _ = _parse_or_fail(file)
        rules, now = config.rules(0), time.time_ns() // 1000
        for example in config.examples:
            try:
                result = run_example(example, rules, config.tenant, now)
            except ExampleError as exc:
                raise CommandError(f"{file}: example {example.name!r}: {exc}", USAGE) from exc
            wrong += bool(result.wrong)
            shown.append(
                {
                    "tenant": config.tenant,
                    "example": result.name,
                    "result": "wrong" if result.wrong else "ok",
                    "went": ", ".join(result.targets) or ("dropped" if result.dropped else "nowhere"),
                    "by": ", ".join(result.routes),
                    "why": result.wrong,
                }
            )
    rows(shown, output, ["tenant", "example", "result", "went", "by", "why"])
    say(f"{len(shown)} examples, {wrong} wrong" if shown else "no examples; write some under `examples:` in the file")
    if wrong:
        raise SystemExit(FAILED)


# --- shared ------------------------------------------------------------------------------------------------------------------


def _parse(file: Path) -> tuple[TenantConfig, YamlSource]:
    from streams.tenants.config import parse_source

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandError(f"{file}: {exc.strerror if isinstance(exc, OSError) else 'not UTF-8'}") from exc
    return parse_source(text, str(file), manifests())


def manifests() -> dict[str, PluginManifest]:
    """The installed plugins' manifests by tool type."""
    from plugins.registry import PluginRegistry

    return {manifest.tool_type: manifest for manifest in PluginRegistry.discover().manifests()}


def _parse_or_fail(file: Path) -> tuple[TenantConfig, YamlSource]:
    from streams.tenants.config import TenantConfigErrors

    try:
        return _parse(file)
    except TenantConfigErrors as exc:
        raise CommandError(str(exc)) from exc


def _in_force(settings: Settings, tenant: str | None) -> TenantVersion:
    if tenant is None:
        raise CommandError("say whose rules: --tenant NAME, or --rules FILE", USAGE)
    return _version(read_registry(settings).at(tenant, time.time_ns() // 1000), tenant)


def _version(version: TenantVersion | None, tenant: str) -> TenantVersion:
    if version is None:
        raise CommandError(f"no configuration of tenant {tenant} was in force; see: ai-agents tenant list", NOT_FOUND)
    return version


def _run(settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    from streams.broker.errors import BrokerError

    try:
        return asyncio.run(work)
    except BrokerError as exc:
        raise CommandError(str(exc)) from exc
    except TimeoutError as exc:
        raise CommandError(f"Kafka at {settings.brokers} stopped answering; try again") from exc


class _progress:
    """A progress bar on stderr where that is a terminal; called with how many of how many."""

    def __enter__(self) -> _progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns: Sequence[Any] = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("reading", total=None)
        self._bar.start()
        return self

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()
