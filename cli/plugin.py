"""`ai-agents plugin`: which plugins there are, what they want to know, and what they read from a delivery."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cli.output import NOT_FOUND, USAGE, CommandError, document, output_option, rows, say
from cli.plugin_call import call_plugin
from cli.plugin_new import new_plugin
from cli.plugin_test import test_plugin

if TYPE_CHECKING:
    from plugins.api import PluginContext
    from plugins.manifest import PluginManifest
    from plugins.registry import PluginRegistry

MAX_BODY = 64 << 20


@click.group()
def plugin() -> None:
    """The plugins, and what they read from a delivery.

    Example: ai-agents plugin info zendesk
    """


@plugin.command("list")
@output_option
def list_plugins(output: str) -> None:
    """List the installed plugins; none of their code is run.

    Example: ai-agents plugin list -o json
    """
    registry = _registry()
    columns = ["tool_type", "name", "version", "api", "signature", "sandbox"]
    rows(({name: _cell(m, name) for name in columns} for m in registry.manifests()), output, columns)
    for fault in registry.faults:
        say(f"warning: {fault}")


def _cell(manifest: PluginManifest, name: str) -> Any:
    return manifest.sandbox is not None if name == "sandbox" else getattr(manifest, name)


@plugin.command("info")
@click.argument("tool_type")
@output_option
def plugin_info(tool_type: str, output: str) -> None:
    """Show one plugin: what it can do, and the settings a tenant may write.

    Example: ai-agents plugin info zendesk
    """
    import msgspec

    manifest = _manifest(_registry(), tool_type)
    if output in ("json", "yaml"):
        document(msgspec.to_builtins(manifest), output)
        return
    say(f"{manifest.name} {manifest.version} (plugin API {manifest.api}): {manifest.summary}")
    say(f"webhooks: {manifest.signature}")
    say(f"calls: {', '.join(manifest.methods)}")
    columns = ["setting", "required", "secret", "default", "doc"]
    rows(({"setting": name, **msgspec.to_builtins(setting)} for name, setting in manifest.settings.items()), output, columns)


@plugin.command("parse")
@click.argument("tool_type")
@click.option("--body", type=click.File("rb"), required=True, help="File with the delivery's body; - reads standard input.")
@click.option("--header", "headers", multiple=True, metavar="K:V", help="A header of the delivery; may be given again.")
@click.option("--query", default="", help="The delivery's query string, where the tool tells the event there.")
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML of the tool's settings, or a tenant's file."
)
@click.option("--tool", help="Which tool of a tenant's file [default: the only one of this type].")
@output_option
def parse(tool_type: str, body: BinaryIO, headers: tuple[str, ...], query: str, config: Path | None, tool: str | None, output: str) -> None:
    """Show the ticket a delivery's body yields, in canonical words. Nothing is verified and no network is used.

    Example: ai-agents plugin parse zendesk --body delivery.json -o json
    """
    from plugins.api import Delivery, NotADelivery, PluginConfigError

    registry = _registry()
    _manifest(registry, tool_type)
    content = body.read(MAX_BODY + 1)
    if len(content) > MAX_BODY:
        raise CommandError(f"the body is larger than {MAX_BODY >> 20} MiB", USAGE)
    given = dict(_header(text) for text in headers)
    delivery = Delivery(
        tenant="parse",
        tool=tool or tool_type,
        body=content,
        headers=given,
        content_type=given.get("content-type", "application/json"),
        query=query,
        received_at=time.time_ns() // 1000,
    )
    try:
        parser = registry.get(tool_type)(_context(tool or tool_type, _settings(config, tool_type, tool)))
        ticket = parser.extract_metadata(delivery)
    except (NotADelivery, PluginConfigError) as exc:
        raise CommandError(str(exc)) from exc
    values = {field.name: getattr(ticket, field.name) for field in dataclasses.fields(ticket)}
    document({name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}, output)


def _registry() -> PluginRegistry:
    from plugins.api import PluginConfigError
    from plugins.registry import PluginRegistry

    try:
        return PluginRegistry.discover()
    except PluginConfigError as exc:
        raise CommandError(str(exc)) from exc


def _manifest(registry: PluginRegistry, tool_type: str) -> PluginManifest:
    from plugins.api import PluginConfigError

    try:
        return registry.manifest(tool_type)
    except PluginConfigError as exc:
        raise CommandError(str(exc), NOT_FOUND) from exc


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise CommandError(f"--header wants NAME:VALUE, not {text!r}", USAGE)
    return name.strip().lower(), value.strip()


def _settings(config: Path | None, tool_type: str, tool: str | None) -> Mapping[str, Any]:
    """A tool's settings from a file that holds them alone, or a whole tenant."""
    import yaml

    if config is None:
        return {}
    try:
        found = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise CommandError(f"{config.name}: {str(exc).splitlines()[0]}", USAGE) from exc
    if not isinstance(found, dict):
        raise CommandError(f"{config.name}: settings are a mapping", USAGE)
    tools = found.get("tools")
    if not isinstance(tools, dict):
        return found
    fitting = {name: value for name, value in tools.items() if isinstance(value, dict) and value.get("type") == tool_type}
    if tool is not None:
        fitting = {name: value for name, value in fitting.items() if name == tool}
    if len(fitting) != 1:
        names = ", ".join(sorted(map(str, fitting))) or "none"
        raise CommandError(f"{config.name}: tools of type {tool_type}: {names}; choose one with --tool", NOT_FOUND)
    return dict(next(iter(fitting.values())))


def _context(tool: str, settings: Mapping[str, Any]) -> PluginContext:
    """A plugin that can read, and neither call nor know a secret."""
    from plugins.api import PluginConfigError, PluginContext

    def no_network() -> Any:
        raise PluginConfigError("parsing makes no calls")

    return PluginContext(tenant="parse", tool=tool, settings=settings, secrets=lambda reference: (), http=no_network)


plugin.add_command(call_plugin)
plugin.add_command(test_plugin)
plugin.add_command(new_plugin)
