"""`ai-agents tenant`: apply tenants' configurations, look at their versions, go back to one."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import logging
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.output import NOT_FOUND, CommandError, document, output_option, rows, say
from cli.times import iso
from streams.settings import Settings

if TYPE_CHECKING:
    from schemas.events import TenantConfigured
    from streams.tenants.registry import TenantRegistry

T = TypeVar("T")


@click.group()
def tenant() -> None:
    """Tenants' tools and rules.

    Example: ai-agents tenant apply tenants/acme.yaml --dry-run
    """


@tenant.command("apply")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Check the files and say what would change; publish nothing.")
@output_option
@click.pass_obj
def apply_files(settings: Settings, files: tuple[Path, ...], dry_run: bool, output: str) -> None:
    """Check configuration files and put them in force one second later.

    Nothing is published when any file has an error; a file that changes nothing publishes nothing. Warnings stop nothing.

    Example: ai-agents tenant apply tenants/*.yaml
    """
    from streams.tenants.apply import ApplyConflict, apply

    configs = _read(settings, files)
    try:
        done = _run(settings, apply(settings.brokers, configs, dry_run=dry_run, security=settings.security))
    except ApplyConflict as exc:
        raise CommandError(str(exc)) from exc
    if dry_run:
        say("dry run: nothing was published")
    shown = [{"tenant": d.tenant, "version": d.version, "action": d.action, "effective_at": iso(d.effective_at)} for d in done]
    rows(shown, output, ["tenant", "version", "action", "effective_at"])


@tenant.command("list")
@output_option
@click.pass_obj
def list_tenants(settings: Settings, output: str) -> None:
    """List the tenants with the version that is newest.

    Example: ai-agents tenant list -o json
    """
    from streams.tenants.apply import read_tenants
    from streams.tenants.config import from_json

    registry = _run(settings, read_tenants(settings.brokers, settings.security))
    shown = []
    for name in registry.tenants():
        last = registry.records(name)[-1]
        unreadable = (name, last.version) in registry.unreadable
        config = None if unreadable else from_json(last.config)
        shown.append(
            {
                "tenant": name,
                "version": last.version,
                "state": "removed" if last.removed else "unreadable" if unreadable else "active",
                "effective_at": iso(last.effective_at),
                "tools": len(config.tools) if config else None,
                "routes": len(config.routes) if config else None,
            }
        )
    rows(shown, output, ["tenant", "version", "state", "effective_at", "tools", "routes"])


@tenant.command("show")
@click.argument("name", metavar="TENANT")
@click.option("--version", type=click.IntRange(min=1), help="A version other than the newest.")
@output_option
@click.pass_obj
def show_tenant(settings: Settings, name: str, version: int | None, output: str) -> None:
    """Show one version of a tenant's configuration; secrets are references there.

    Example: ai-agents tenant show acme -o yaml
    """
    import json

    from streams.tenants.apply import read_tenants

    records = _run(settings, read_tenants(settings.brokers, settings.security)).records(name)
    if not records:
        raise CommandError(f"no tenant {name}; see: ai-agents tenant list", NOT_FOUND)
    found = [record for record in records if version in (None, record.version)]
    if not found:
        raise CommandError(f"tenant {name} has no version {version}; the newest is {records[-1].version}", NOT_FOUND)
    record = found[-1]
    head = {"version": record.version, "effective_at": iso(record.effective_at), "removed": record.removed}
    document({**head, **json.loads(record.config)}, output)


@tenant.command("history")
@click.argument("name", metavar="TENANT")
@output_option
@click.pass_obj
def tenant_history(settings: Settings, name: str, output: str) -> None:
    """List a tenant's versions, oldest first, and what each one changed.

    Example: ai-agents tenant history acme
    """
    from streams.tenants.changes import differences, summary

    shown, before = [], ""
    for record in _records(settings, name):
        after = "" if record.removed else record.config
        what = "removed" if record.removed else "created" if not before else summary(differences(before, after)) or "nothing"
        shown.append(
            {"version": record.version, "effective_at": iso(record.effective_at), "applied_at": iso(record.applied_at), "changed": what}
        )
        before = after
    rows(shown, output, ["version", "effective_at", "applied_at", "changed"])


@tenant.command("diff")
@click.argument("name", metavar="TENANT|FILE")
@click.option("--from", "older", type=click.IntRange(min=1), help="The older version [default: the one before].")
@click.option("--to", "newer", type=click.IntRange(min=1), help="The newer version [default: the newest].")
@output_option
@click.pass_obj
def tenant_diff(settings: Settings, name: str, older: int | None, newer: int | None, output: str) -> None:
    """Show what differs between two versions of a tenant, or between the newest version and a file.

    As a table: a unified diff. As json or yaml: one row for each place, routes by their names.

    Example: ai-agents tenant diff acme --from 3
    """
    from streams.tenants.changes import as_yaml, differences

    if Path(name).is_file():
        (config,) = _read(settings, (Path(name),))
        known = read_registry(settings).records(config.tenant)
        chosen = [record for record in known if record.version == older] if older else known[-1:]
        if older and not chosen:
            raise CommandError(f"tenant {config.tenant} has no version {older}", NOT_FOUND)
        before = chosen[0].config if chosen and not chosen[0].removed else ""
        after, names = config.canonical(), (f"{config.tenant} version {chosen[0].version if chosen else 0}", name)
    else:
        records = {record.version: record for record in _records(settings, name)}
        last = newer or max(records)
        first = older or max((version for version in records if version < last), default=0)
        for version in (first, last):
            if version and version not in records:
                raise CommandError(f"tenant {name} has no version {version}; the newest is {max(records)}", NOT_FOUND)
        before, after = (records[v].config if v and not records[v].removed else "" for v in (first, last))
        names = (f"{name} version {first}", f"{name} version {last}")
    if output != "table":
        rows([dataclasses.asdict(difference) for difference in differences(before, after)], output, ["path", "change", "before", "after"])
        return
    lines = list(difflib.unified_diff(as_yaml(before), as_yaml(after), *names, lineterm=""))
    for line in lines:
        click.secho(line, fg={"+": "green", "-": "red", "@": "cyan"}.get(line[:1]))
    if not lines:
        say("no difference")


@tenant.command("rollback")
@click.argument("name", metavar="TENANT")
@click.option("--to", "version", type=click.IntRange(min=1), help="The version to go back to [default: the last that differs].")
@click.option("--dry-run", is_flag=True, help="Say what would change; publish nothing.")
@output_option
@click.pass_obj
def rollback_tenant(settings: Settings, name: str, version: int | None, dry_run: bool, output: str) -> None:
    """Put an earlier version's configuration in force again, as a new version, one second later. No version is lost.

    Example: ai-agents tenant rollback acme --to 3 --dry-run
    """
    from streams.tenants.apply import plan_rollback

    _publish(settings, name, lambda registry, now: plan_rollback(registry, name, version, now), dry_run, output)


@tenant.command("remove")
@click.argument("name", metavar="TENANT")
@click.option("--dry-run", is_flag=True, help="Say what would happen; publish nothing.")
@output_option
@click.pass_obj
def remove_tenant(settings: Settings, name: str, dry_run: bool, output: str) -> None:
    """Take a tenant out of force one second later: its webhooks are answered 404. Its versions stay; `rollback` brings it back.

    Example: ai-agents tenant remove acme --dry-run
    """
    from streams.tenants.apply import plan_removal

    _publish(settings, name, lambda registry, now: plan_removal(registry, name, now), dry_run, output)


def _publish(
    settings: Settings, name: str, plan: Callable[[TenantRegistry, int], TenantConfigured | None], dry_run: bool, output: str
) -> None:
    from streams.tenants.apply import ApplyConflict, NoSuchVersion, put_in_force
    from streams.tenants.changes import differences, summary

    registry = read_registry(settings)
    try:
        event = plan(registry, time.time_ns() // 1000)
    except NoSuchVersion as exc:
        raise CommandError(f"{exc}; see: ai-agents tenant history {name}", NOT_FOUND) from exc
    last = registry.records(name)[-1]
    if event is None:
        say("nothing to change: it is so already")
        event, what = last, "nothing"
    else:
        found = differences("" if last.removed else last.config, "" if event.removed else event.config)
        what = "removed" if event.removed else summary(found)
        if dry_run:
            say("dry run: nothing was published")
        else:
            try:
                _run(settings, put_in_force(settings.brokers, event, settings.security))
            except ApplyConflict as exc:
                raise CommandError(str(exc)) from exc
    row = {"tenant": name, "version": event.version, "effective_at": iso(event.effective_at), "changed": what}
    rows([row], output, ["tenant", "version", "effective_at", "changed"])


def _records(settings: Settings, name: str) -> list[TenantConfigured]:
    records = read_registry(settings).records(name)
    if not records:
        raise CommandError(f"no tenant {name}; see: ai-agents tenant list", NOT_FOUND)
    return records


def read_registry(settings: Settings) -> TenantRegistry:
    """Every tenant's versions, read from the broker; a CommandError when none answers."""
    from streams.tenants.apply import read_tenants

    return _run(settings, read_tenants(settings.brokers, settings.security))


def _read(settings: Settings, files: tuple[Path, ...]) -> list[Any]:
    """The files' configurations; every problem of every file is said before the first error ends the command."""
    from plugins.registry import PluginRegistry
    from streams.secrets.store import SecretStoreError, open_store
    from streams.tenants.config import TenantConfigErrors, parse_source
    from streams.tenants.lint import lint

    plugins = {manifest.tool_type: manifest for manifest in PluginRegistry.discover().manifests()}
    store = open_store(settings)
    configs: list[Any] = []
    seen: dict[str, Path] = {}
    failed = 0
    for file in files:
        try:
            config, source = parse_source(file.read_text(encoding="utf-8"), str(file), plugins)
        except TenantConfigErrors as exc:
            say(str(exc))
            failed += len(exc.problems)
            continue
        except (OSError, UnicodeDecodeError) as exc:
            raise CommandError(f"{file}: {exc.strerror if isinstance(exc, OSError) else 'not UTF-8'}") from exc
        for problem in lint(config, source, plugins):
            say(f"{file}:{problem.line}:{problem.column}: warning: {problem.path}: {problem.message}")
        try:
            missing = sorted(name for name in config.secret_names() if not store.has(f"{config.tenant}/{name}"))
        except SecretStoreError as exc:
            say(f"warning: {exc}")
        else:
            if missing:
                names = ", ".join(f"{config.tenant}/{name}" for name in missing)
                say(f"{file}: warning: not set yet: {names}; use: ai-agents secret set TENANT/NAME")
        if config.tenant in seen:
            raise CommandError(f"{file} and {seen[config.tenant]} configure the same tenant, {config.tenant}")
        seen[config.tenant] = file
        configs.append(config)
    if failed:
        raise CommandError(f"{failed} {'problem' if failed == 1 else 'problems'}; nothing was published")
    return configs


def _run(settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    from aiokafka.errors import KafkaError

    for name in ("aiokafka", "streams.control"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # that no broker answers is said once, below
    try:
        return asyncio.run(work)
    except (TimeoutError, KafkaError, OSError) as exc:
        raise CommandError(f"no answer from Kafka at {settings.brokers} ({type(exc).__name__}); start it with: ai-agents up") from exc
