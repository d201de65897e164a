"""The `ai-agents` command. Groups are imported when they are used, so `--help` and a single command stay quick."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from streams.settings import Settings, default_data_dir

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("cli.up:up", "Run everything in one terminal, supervised."),
    "demo": ("cli.demo.command:demo", "The main job on varied traffic, with sandboxes for the tools."),
    "status": ("cli.status:status", "What runs, where, and how it is."),
    "serve": ("cli.serve:serve", "Run the webhook door."),
    "worker": ("cli.worker:worker", "Run the stages route and process."),
    "materialize": ("cli.materialize:materialize", "Run the stage that fills the analytics tables."),
    "broker": ("cli.broker:broker", "A real Kafka without Docker."),
    "sandbox": ("cli.sandbox:sandbox", "Stand-ins for the tools, speaking their protocols."),
    "topics": ("cli.topics:topics", "Look at the topics."),
    "tenant": ("cli.tenant:tenant", "Tenants' tools and rules."),
    "route": ("cli.route:route", "A tenant's rules: check, explain, try on yesterday."),
    "secret": ("cli.secret:secret", "Secrets the tenants' settings refer to."),
    "analytics": ("cli.analytics:analytics", "Calls, latencies, errors, costs."),
    "audit": ("cli.audit:audit", "Count every accepted event once, and name what does not add up."),
    "plugin": ("cli.plugin:plugin", "The plugins, and what they read from a delivery."),
    "bench": ("cli.bench.command:bench", "Measure the hot paths, beside their targets."),
    "doctor": ("cli.doctor:doctor", "Check this installation and say what to mend."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="AI_AGENTS_DATA_DIR",
    help="Where data lives [default: the user's XDG data folder].",
)
@click.option("--brokers", envvar="AI_AGENTS_BROKERS", help="Kafka bootstrap servers [default: what runs in the data directory].")
@click.option("--store", envvar="AI_AGENTS_STORE", help="Analytics store URL [default: analytics.db in the data directory].")
@click.version_option(package_name="ai-agents-tickets", prog_name="ai-agents")
@click.pass_context
def cli(ctx: click.Context, data_dir: Path | None, brokers: str | None, store: str | None) -> None:
    """Webhooks from ticket tools become Kafka events, tool calls by each tenant's rules, and analytics tables.

    Example: ai-agents demo --once
    """
    ctx.obj = settings_from(data_dir, brokers, store)


def settings_from(data_dir: Path | None, brokers: str | None, store: str | None) -> Settings:
    """Settings of this invocation; brokers default to those of the set that runs in the data directory."""
    from streams.runtime import read_runtime

    folder = (data_dir or default_data_dir()).expanduser().absolute()
    known: dict[str, Any] = {}
    running = read_runtime(folder)
    if brokers or (running is not None and running.brokers):
        known["brokers"] = brokers or (running.brokers if running else "")
    if store:
        known["store"] = store
    return Settings(data_dir=folder, **known)


def main() -> None:
    """Entry point: known errors are one line and their exit code, never a traceback."""
    from cli.output import run

    sys.exit(run(cli))


if __name__ == "__main__":
    main()
