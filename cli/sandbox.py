"""`ai-agents sandbox`: stand-ins for the tools, to try things without an account."""

from __future__ import annotations

from pathlib import Path

import click

from cli.output import IN_USE, NOT_FOUND, CommandError, output_option, rows, say


@click.group()
def sandbox() -> None:
    """Stand-ins for the tools: their protocols, their faults, signed webhooks out, and a ledger of every effect.

    Example: ai-agents sandbox run zendesk --webhook-url http://127.0.0.1:8080/webhooks/acme/desk
    """


@sandbox.command("run")
@click.argument("tool_type")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1 [default: a free one].")
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path), help="File that keeps tickets and credentials over restarts.")
@click.option("--webhook-url", help="Where its webhooks go; later by POST /_webhook.")
@click.option("--index-lag", type=click.FloatRange(0), default=0.0, help="Seconds until searches and listings see a write.")
def run_sandbox(tool_type: str, port: int, state: Path | None, webhook_url: str | None, index_lag: float) -> None:
    """Run one until Ctrl-C; its address, credentials and webhook settings are printed as JSON once it listens.

    GET /_ledger tells every effect. POST /_faults with {"status": 429, "retry_after": 1, "times": 1} (or delay, reset, half_body,
    index_lag) arms the next API calls. POST /_people/tickets opens a ticket as a customer would.

    Example: ai-agents sandbox run zendesk --port 9001 --state zendesk.jsonl
    """
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


@sandbox.command("list")
@output_option
def list_sandboxes(output: str) -> None:
    """List the tools there is a sandbox for.

    Example: ai-agents sandbox list -o json
    """
    from plugins.registry import PluginRegistry

    found = [m for m in PluginRegistry.discover().manifests() if m.sandbox]
    rows(({"tool_type": m.tool_type, "name": m.name, "signature": m.signature} for m in found), output, ["tool_type", "name", "signature"])
