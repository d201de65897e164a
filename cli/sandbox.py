"""`ai-agents sandbox`: stand-ins for the tools, to try things without an account."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from cli.output import IN_USE, NOT_FOUND, CommandError, output_option, rows, say
from cli.sandboxed import start_all, tool_of
from streams.settings import Settings


@click.group()
def sandbox() -> None:
    """Stand-ins for the tools: their protocols, their faults, signed webhooks out, and a ledger of every effect.

    Example: ai-agents sandbox run zendesk --webhook-url http://127.0.0.1:8080/webhooks/acme/desk
    """


@sandbox.command("run")
@click.argument("tool_type")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1 [default: a free one].")
@click.option("--state", type=click.Path(path_type=Path), help="File that keeps tickets and credentials over restarts.")
@click.option("--webhook-url", help="Where its webhooks go; later by POST /_webhook.")
@click.option("--index-lag", type=click.FloatRange(0), default=0.0, help="Seconds until searches and listings see a write.")
@click.option("--tenant", default="sandbox", show_default=True, help="For all: whose tools they are in the printed file.")
@click.pass_obj
def run_sandbox(
    settings: Settings, tool_type: str, port: int, state: Path | None, webhook_url: str | None, index_lag: float, tenant: str
) -> None:
    """Run one until Ctrl-C; its address, credentials and webhook settings are printed as JSON once it listens.

    TOOL_TYPE `all` runs one of each. A tenant's file that uses them is printed instead, and its secrets are put into the secret
    store; --webhook-url is the door's address then (http://127.0.0.1:8080), --port the first of consecutive ones, --state a folder.

    GET /_ledger tells every effect. POST /_faults with {"status": 429, "retry_after": 1, "times": 1} (or delay, reset, half_body,
    index_lag) arms the next API calls. POST /_people/tickets opens a ticket as a customer would.

    Example: ai-agents sandbox run all --port 9100 --webhook-url http://127.0.0.1:8080 > tenants/sandbox.yaml
    """
    if tool_type == "all":
        _run_all(settings, tenant, port, state, webhook_url, index_lag)
        return
    from plugins.api import PluginConfigError
    from plugins.sandbox.__main__ import run
    from plugins.sandbox.server import load

    try:
        kind = load(tool_type)
    except PluginConfigError as exc:
        raise CommandError(str(exc), NOT_FOUND) from exc
    try:
        run(kind(state=state, index_lag=index_lag, webhook_url=webhook_url), port)
    except OSError as exc:
        what = f"cannot listen on 127.0.0.1:{port}" if exc.filename is None else f"cannot use {exc.filename}"
        raise CommandError(f"{what}: {exc.strerror or exc}", IN_USE) from exc
    say(f"the {tool_type} sandbox has ended")


def _run_all(settings: Settings, tenant: str, port: int, folder: Path | None, door: str | None, index_lag: float) -> None:
    import signal

    import yaml

    from plugins.registry import PluginRegistry
    from plugins.sandbox.process import SandboxFailed
    from streams.secrets.store import open_store

    registry = PluginRegistry.discover()
    types = [manifest.tool_type for manifest in registry.manifests() if manifest.sandbox is not None]
    ports = {tool_type: port + number if port else None for number, tool_type in enumerate(types)}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    store = open_store(settings)
    tools = {}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the sandboxes are ended first
    with ExitStack() as stack:
        try:
            sandboxes = start_all(
                stack,
                types,
                lambda tool_type: {
                    "index_lag": index_lag,
                    "port": ports[tool_type],
                    "state": folder / f"{tool_type}.jsonl" if folder is not None else None,
                    "webhook_url": f"{door.rstrip('/')}/webhooks/{tenant}/{tool_type}" if door else None,
                },
            )
        except SandboxFailed as exc:
            raise CommandError(str(exc), IN_USE) from exc
        for running in sandboxes:

            def keep(key: str, value: str, tool_type: str = running.tool_type) -> str:
                name = f"{tool_type}_{key}"
                store.put(f"{tenant}/{name}", value.encode(), keep_old=False)
                return "${secret:" + name + "}"

            tools[running.tool_type] = tool_of(running, registry.manifest(running.tool_type), keep)
        file = {
            "tenant": tenant,
            "tools": tools,
            "routes": [{"name": "urgent tickets go to Jira", "match": {"priority": ["P1", "P2"]}, "to": "jira", "do": ["mirror", "note"]}],
            "default": {"to": "zendesk", "do": ["mirror"]},
        }
        click.echo(yaml.safe_dump(file, sort_keys=False, allow_unicode=True), nl=False)
        sys.stdout.flush()
        sys.stdout.close()  # whoever waits for the file has it whole
        say(f"{len(sandboxes)} sandboxes run until Ctrl-C; their secrets are in the store. Put what was printed into a file, then:")
        say("  ai-agents tenant apply FILE")
        try:
            signal.pause()
        except KeyboardInterrupt:
            say("stopping")


@sandbox.command("list")
@output_option
def list_sandboxes(output: str) -> None:
    """List the tools there is a sandbox for.

    Example: ai-agents sandbox list -o json
    """
    from plugins.registry import PluginRegistry

    found = [m for m in PluginRegistry.discover().manifests() if m.sandbox]
    rows(({"tool_type": m.tool_type, "name": m.name, "signature": m.signature} for m in found), output, ["tool_type", "name", "signature"])
