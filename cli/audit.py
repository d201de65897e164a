"""`ai-agents audit`: what became of every accepted event."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import msgspec

from cli.output import FAILED, CommandError, output_option, rows, say
from streams.broker.errors import BrokerError
from streams.settings import Settings

COLUMNS = (
    "tenant",
    "tool",
    "accepted",
    "duplicates",
    "echoes",
    "dropped",
    "processed",
    "in_flight",
    "retrying",
    "dead_lettered",
    "undecodable",
    "unaccounted",
    "balanced",
)
STATES = ("duplicate", "echo", "dropped", "processed", "in_flight", "retrying", "dead_lettered", "unaccounted")


@click.group()
def audit() -> None:
    """Count every accepted event once, and name what does not add up.

    Example: ai-agents audit run
    """


@audit.command("run")
@output_option
@click.pass_obj
def run_command(settings: Settings, output: str) -> None:
    """Read the topics up to now and say what became of every accepted event, by tenant and tool.

    Each event counts once, by what became of it last. accepted = duplicates + echoes + dropped + processed + in_flight + retrying +
    dead_lettered, or the row is not balanced and `ids` names the events. The row without a tenant holds received records that are
    no events. Events of a requeue or a replay are left out. Ends with 1 when a row is not balanced.

    Example: ai-agents audit run -o json
    """
    from streams.audit import run_audit

    try:
        report = asyncio.run(run_audit(settings.brokers, settings.security))
    except BrokerError as exc:
        raise CommandError(str(exc)) from exc
    shown = [msgspec.to_builtins(row) for row in report.tools]
    rows(shown, output, COLUMNS if output in ("table", "csv") else None)
    for problem in report.problems[:20] if output == "table" else ():
        say(f"{problem.event_id or 'no event'} (partition {problem.partition}, offset {problem.offset}): {problem.why}")
    if report.repeats or report.injected or report.not_in_tables:
        say(
            f"besides: {report.repeats} copies sent again by the doors, {report.injected} records of requeues and replays, "
            f"{report.not_in_tables} records the analytics store refused"
        )
    if not report.balanced:
        say(f"{report.unaccounted} events do not add up")
        raise click.exceptions.Exit(FAILED)


@audit.command("list")
@click.option(
    "--outcome", "outcomes", multiple=True, required=True, type=click.Choice(STATES), help="What became of them; may be repeated."
)
@click.option("--tenant", help="Only this tenant's.")
@click.option("--tool", help="Only those from this tool.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="At most this many rows.")
@output_option
@click.pass_obj
def list_command(settings: Settings, outcomes: tuple[str, ...], tenant: str | None, tool: str | None, limit: int, output: str) -> None:
    """List events by what became of them; a duplicate with the event it repeats.

    Example: ai-agents audit list --outcome duplicate --outcome echo --tenant acme
    """
    from streams.audit import list_events
    from streams.ledger import State

    wanted = [State(outcome) for outcome in outcomes]
    try:
        found = asyncio.run(list_events(settings.brokers, wanted, tenant=tenant, tool=tool, limit=limit + 1, security=settings.security))
    except BrokerError as exc:
        raise CommandError(str(exc)) from exc
    shown: list[dict[str, Any]] = [msgspec.to_builtins(event) for event in found[:limit]]
    rows(shown, output, ["event_id", "tenant", "tool", "state", "partition", "offset", "original"])
    if len(found) > limit:
        say(f"cut after {limit} rows; raise --limit for more")
