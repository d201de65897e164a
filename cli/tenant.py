"""`ai-agents tenant`: apply, list and show tenants' configurations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.output import NOT_FOUND, CommandError, document, output_option, rows, say
from cli.times import iso
from streams.settings import Settings

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
