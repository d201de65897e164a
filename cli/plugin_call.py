"""`ai-agents plugin call`: one method of a tenant's tool, as the stream would call it."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cli.output import NOT_FOUND, USAGE, CommandError, answer, output_option, say

if TYPE_CHECKING:
    from plugins.api import TicketingToolPlugin
    from plugins.manager import ToolBinding
    from plugins.registry import PluginRegistry
    from schemas.events import Call
    from streams.settings import Settings

LOCAL = "local"
"""The tenant of settings that stand alone: their secret NAME is local/NAME, or AI_AGENTS_SECRET_LOCAL__NAME."""
WRITTEN = object()
"""Stands for an answer that is written already."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be called."""

    binding: ToolBinding
    method: str
    words: tuple[str, ...]
    registry: PluginRegistry
    settings: Settings


@click.command("call")
@click.argument("tool", metavar="TOOL")
@click.argument("method", metavar="METHOD")
@click.argument("words", metavar="[NAME=VALUE|NAME:=JSON|NAME=@FILE]...", nargs=-1)
@click.option(
    "--config",
    "--tenant-file",
    "config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A tenant's file, or YAML of one tool's settings with its `type`.",
)
@click.option("--tenant", metavar="NAME", help="A tenant of the running installation, in place of a file.")
@click.option("--to", type=click.File("wb", lazy=True), help="Where a file that the method answers goes [default: stdout].")
@click.option("--dry-run", is_flag=True, help="Say what would be called, and call nothing.")
@output_option
@click.pass_obj
def call_plugin(
    settings: Settings,
    tool: str,
    method: str,
    words: tuple[str, ...],
    config: Path | None,
    tenant: str | None,
    to: BinaryIO | None,
    dry_run: bool,
    output: str,
) -> None:
    """Call one METHOD of a tenant's TOOL and print its answer; the requests it took and their time go to stderr.

    METHOD is one the plugin's manifest lists (ai-agents plugin info TYPE). Secrets come from the secret store or the environment
    (AI_AGENTS_SECRET_TENANT__NAME; the tenant of settings that stand alone is `local`). A ticket to create, changes and notes are
    given by their fields. What it writes is our account's own write: the tool's webhooks about it are echoes, and nothing is
    recorded here.

    Example: ai-agents plugin call desk get_ticket ticket_id=42 --config acme.yaml -o json
    """
    if (config is None) == (tenant is None):
        raise CommandError("say where the tool is configured: --config FILE or --tenant NAME", USAGE)
    registry = _registry()
    binding = _from_file(config, tool, registry) if config is not None else _from_installation(settings, str(tenant), tool)
    job = _Job(binding, method, words, registry, settings)
    _check_method(job)
    answered = asyncio.run(_run(job, dry_run, to))
    if answered is not WRITTEN:
        answer(answered, output)


def _registry() -> PluginRegistry:
    from plugins.api import PluginConfigError
    from plugins.registry import PluginRegistry

    try:
        return PluginRegistry.discover()
    except PluginConfigError as exc:
        raise CommandError(str(exc)) from exc


def _from_file(path: Path, tool: str, registry: PluginRegistry) -> ToolBinding:
    """The tool in a tenant's file, or the one whose settings the file holds."""
    import yaml

    from plugins.manager import ToolBinding
    from streams.tenants.config import TenantConfigErrors, parse

    try:
        text = path.read_text(encoding="utf-8")
        found = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise CommandError(f"{path.name}: {str(exc).splitlines()[0]}", USAGE) from exc
    if not isinstance(found, dict):
        raise CommandError(f"{path.name}: settings are a mapping", USAGE)
    if "tools" not in found:
        kind = str(found.pop("type", tool))
        return ToolBinding(tenant=LOCAL, tool=tool, tool_type=kind, settings=found)
    try:
        config = parse(text, str(path), {manifest.tool_type: manifest for manifest in registry.manifests()})
    except TenantConfigErrors as exc:
        raise CommandError(str(exc), USAGE) from exc
    if tool not in config.tools:
        raise CommandError(f"{path.name}: no tool {tool}; it has {', '.join(sorted(config.tools)) or 'none'}", NOT_FOUND)
    chosen = config.tools[tool]
    return ToolBinding(tenant=config.tenant, tool=tool, tool_type=chosen.type, settings=chosen.settings())


def _from_installation(settings: Settings, tenant: str, tool: str) -> ToolBinding:
    import logging

    from aiokafka.errors import KafkaError

    from streams.tenants.apply import read_tenants

    for name in ("aiokafka", "streams.control"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # that no broker answers is said once, below
    try:
        known = asyncio.run(read_tenants(settings.brokers, settings.security))
    except (TimeoutError, KafkaError, OSError) as exc:
        raise CommandError(f"no answer from Kafka at {settings.brokers} ({type(exc).__name__}); start it with: ai-agents up") from exc
    binding = known.binding(tenant, tool, time.time_ns() // 1000)
    if binding is None:
        raise CommandError(f"tenant {tenant} has no tool {tool} in force; see: ai-agents tenant show {tenant}", NOT_FOUND)
    return binding


def _check_method(job: _Job) -> None:
    from plugins.api import PluginConfigError

    try:
        manifest = job.registry.manifest(job.binding.tool_type)
    except PluginConfigError as exc:
        raise CommandError(str(exc), NOT_FOUND) from exc
    if job.method not in manifest.methods:
        raise CommandError(f"{manifest.name} has no method {job.method}; it has: {', '.join(manifest.methods)}", NOT_FOUND)


async def _run(job: _Job, dry_run: bool, to: BinaryIO | None) -> Any:
    from plugins.api import ApiError, NotFound, PluginError
    from plugins.manager import PluginManager
    from streams.secrets.store import SecretStoreError, open_store, resolver

    def resolve(tenant: str, tool: str, at: int) -> ToolBinding:
        return job.binding

    calls: list[Call] = []
    manager: PluginManager | None = None
    try:
        store = open_store(job.settings)
        manager = PluginManager(job.registry, resolve, lambda tenant: resolver(store, tenant))
        async with manager.lease(job.binding.tenant, job.binding.tool, 0) as plugin:
            return await _call(job, plugin, calls, dry_run, to)
    except NotFound as exc:
        raise CommandError(f"NotFound: {exc}", NOT_FOUND) from exc
    except ApiError as exc:
        doubt = "; it may have been done all the same, look before you repeat it" if exc.in_doubt else ""
        raise CommandError(f"{type(exc).__name__}: {exc}{doubt}") from exc
    except (PluginError, SecretStoreError) as exc:
        raise CommandError(str(exc)) from exc
    finally:
        if manager is not None:
            await manager.aclose()
        for made in calls:
            requests = f"{made.api_calls} api {'call' if made.api_calls == 1 else 'calls'}"
            say(f"{made.method}: {requests}, {made.latency_us / 1000:.0f} ms{f', {made.error_class}' if made.error_class else ''}")


async def _call(job: _Job, plugin: TicketingToolPlugin, calls: list[Call], dry_run: bool, to: BinaryIO | None) -> Any:
    """The method's answer as plain values; WRITTEN where it was a file."""
    from cli.plugin_arguments import arguments, parse_words, plain
    from plugins.api import PluginError
    from plugins.metering import metered
    from streams.clock import SystemClock

    method = getattr(plugin, job.method, None)
    if not callable(method):
        raise CommandError(f"the plugin lists {job.method} and has no such method; tell its author")
    given = parse_words(job.words)
    if dry_run:
        return {
            "tenant": job.binding.tenant,
            "tool": job.binding.tool,
            "plugin": f"{plugin.tool_type} {plugin.version}",
            "base_url": job.binding.settings.get("base_url"),
            "method": job.method,
            "arguments": plain(arguments(method, given)),
        }
    given = await _with_ticket(plugin, method, given, calls)
    chosen = arguments(method, given)
    with metered(calls, step="call", method=job.method, plugin=plugin, tool=job.binding.tool, clock=SystemClock()):
        try:
            answered = method(**chosen)
            if inspect.isawaitable(answered):
                answered = await answered
            if isinstance(answered, AsyncIterator):
                answered = await _read(answered, to)
        except PluginError:
            raise
        except Exception as exc:  # a plugin is someone else's code, and this call may be one it never met
            raise CommandError(f"the plugin raised {type(exc).__name__}; see its README, or tell its author") from exc
    return answered if answered is WRITTEN else plain(answered)


async def _with_ticket(plugin: TicketingToolPlugin, method: Any, given: dict[str, Any], calls: list[Call]) -> dict[str, Any]:
    """Where the method wants a whole ticket and only its id is given, the ticket is read first."""
    from cli.plugin_arguments import whole_ticket
    from plugins.metering import metered
    from streams.clock import SystemClock

    name = whole_ticket(method, given)
    if name is None:
        return given
    with metered(calls, step="call", method="get_ticket", plugin=plugin, tool=plugin.context.tool, clock=SystemClock()):
        return {name: await plugin.get_ticket(str(given["ticket_id"]))}


async def _read(pieces: AsyncIterator[Any], to: BinaryIO | None) -> Any:
    """Every item of an answer that comes piece by piece; a file's bytes go out as they come, and WRITTEN is left."""
    items: list[Any] = []
    out = to or click.get_binary_stream("stdout")
    raw = to is not None
    async for piece in pieces:
        if isinstance(piece, bytes):
            raw = True
            out.write(piece)
        else:
            items.append(piece)
    if not raw:
        return items
    out.write(b"")
    out.flush()
    return WRITTEN
