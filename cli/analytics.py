"""`ai-agents analytics`: what the plugins did, how fast, at what price; and any other question in SQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from analytics.store import StoreError
from cli.output import NOT_FOUND, USAGE, CommandError, output_option, rows, say
from cli.times import When, iso
from streams.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

SECONDS_FOR_SQL = 30.0
ROWS_OF_SQL = 1000


@click.group()
def analytics() -> None:
    """Calls, latencies, errors, costs.

    Example: ai-agents analytics methods --since 7d
    """


def scope_options(function: F) -> F:
    """Adds --since, --until, --tenant and --tool; the command receives them by these names."""
    for option in (
        click.option("--tool", help="Only this tool of a tenant."),
        click.option("--tenant", help="Only this tenant."),
        click.option("--until", type=When(), help="Up to this time, an ISO 8601 time or an age  [default: now and later]."),
        click.option("--since", type=When(), default="30d", show_default=True, help="From this time on: an ISO 8601 time, or an age."),
    ):
        function = option(function)
    return output_option(function)


@contextmanager
def reading(settings: Settings) -> Iterator[Any]:
    """A reader of the store; a store that is not there, locked or broken is one line."""
    from analytics.open import open_reader

    try:
        with open_reader(settings.store_url) as reader:
            yield reader
    except StoreError as exc:
        raise CommandError(str(exc)) from exc


def _scope(since: int, until: int | None, tenant: str | None, tool: str | None) -> Any:
    from analytics.materializer import MAX_TIME
    from analytics.views import Scope

    if until is not None and until <= since:
        raise CommandError("--until must be later than --since", USAGE)
    return Scope(since=max(0, since), until=MAX_TIME if until is None else until, tenant=tenant, tool=tool)


def _print(found: list[dict[str, Any]], output: str, columns: list[str]) -> None:
    if not found:
        say("no rows: nothing was materialized for this range, tenant and tool")
    rows(({name: _shown(name, value) for name, value in row.items()} for row in found), output, columns)


def _shown(name: str, value: Any) -> Any:
    return iso(value) if name.endswith("_at") or name == "window_start" else value


@analytics.command()
@scope_options
@click.pass_obj
def methods(settings: Settings, since: int, until: int | None, tenant: str | None, tool: str | None, output: str) -> None:
    """Each plugin method: calls, errors, latencies (average, p50, p95, p99, maximum, in microseconds) and cost (millionths).

    The range is widened to whole UTC days of the calls' start.

    Example: ai-agents analytics methods --since 7d --tenant acme
    """
    columns = ["tenant", "tool", "plugin", "method", "calls", "errors", "avg_us", "p50_us", "p95_us", "p99_us", "max_us"]
    with reading(settings) as reader:
        _print(reader.methods(_scope(since, until, tenant, tool)), output, [*columns, "api_calls", "cost_micros"])


@analytics.command()
@scope_options
@click.pass_obj
def errors(settings: Settings, since: int, until: int | None, tenant: str | None, tool: str | None, output: str) -> None:
    """Failed calls by method and class of error, beside all calls of that method.

    Example: ai-agents analytics errors --since 2026-11-01
    """
    with reading(settings) as reader:
        found = reader.errors(_scope(since, until, tenant, tool))
        _print(found, output, ["tenant", "tool", "plugin", "method", "error_class", "errors", "calls"])


@analytics.command()
@scope_options
@click.option("--by", type=click.Choice(["month", "day"]), default="month", show_default=True, help="One row a month, or a day.")
@click.pass_obj
def costs(settings: Settings, since: int, until: int | None, tenant: str | None, tool: str | None, by: str, output: str) -> None:
    """What calls cost, in millionths of the price plans' currency, each at the price of its own time.

    Example: ai-agents analytics costs --since 90d --by day
    """
    with reading(settings) as reader:
        found = reader.costs(_scope(since, until, tenant, tool), by)
        _print(found, output, [by, "tenant", "tool", "calls", "api_calls", "cost_micros"])


@analytics.command()
@scope_options
@click.option("--limit", type=click.IntRange(1, 100_000), default=60, show_default=True, help="At most this many rows.")
@click.pass_obj
def throughput(settings: Settings, since: int, until: int | None, tenant: str | None, tool: str | None, limit: int, output: str) -> None:
    """Calls, errors and finished events by minute and tool, the latest first.

    Example: ai-agents analytics throughput --since 1h
    """
    with reading(settings) as reader:
        found = reader.throughput(_scope(since, until, tenant, tool), limit)
        _print(found, output, ["minute", "tenant", "tool", "calls", "errors", "events"])


@analytics.command()
@output_option
@click.pass_obj
def freshness(settings: Settings, output: str) -> None:
    """How far each partition is in the tables, and what of it added nothing.

    Example: ai-agents analytics freshness -o json
    """
    with reading(settings) as reader:
        columns = ["topic", "part", "next_offset", "last_received_at", "records", "duplicates", "late", "refused"]
        _print(reader.freshness(), output, columns)


@analytics.command()
@scope_options
@click.pass_obj
def routing(settings: Settings, since: int, until: int | None, tenant: str | None, tool: str | None, output: str) -> None:
    """Finished events by the rule that chose, the target, and the kind of ticket.

    Example: ai-agents analytics routing --tenant acme
    """
    with reading(settings) as reader:
        columns = ["tenant", "tool", "rule", "target", "ticket_type", "priority", "outcome", "events"]
        _print(reader.routing(_scope(since, until, tenant, tool)), output, columns)


@analytics.command()
@scope_options
@click.pass_obj
def failovers(settings: Settings, since: int, until: int | None, tenant: str | None, tool: str | None, output: str) -> None:
    """Finished events that another tool took than the one tried first.

    Example: ai-agents analytics failovers --since 7d
    """
    with reading(settings) as reader:
        columns = ["day", "tenant", "tool", "rule", "failed_over_from", "target", "events"]
        _print(reader.failovers(_scope(since, until, tenant, tool)), output, columns)


@analytics.command("dead-letters")
@scope_options
@click.option("--summary", is_flag=True, help="Count them by stage and reason.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most this many rows.")
@click.pass_obj
def dead_letters(
    settings: Settings,
    since: int,
    until: int | None,
    tenant: str | None,
    tool: str | None,
    summary: bool,
    limit: int,
    output: str,
) -> None:
    """Events set aside, the latest first, with their reason and where the original lies.

    Example: ai-agents analytics dead-letters --since 1d --summary
    """
    scope = _scope(since, until, tenant, tool)
    with reading(settings) as reader:
        if summary:
            _print(reader.dead_letter_reasons(scope), output, ["tenant", "tool", "stage", "reason", "letters", "last_failed_at"])
        else:
            columns = ["failed_at", "tenant", "tool", "ticket_id", "stage", "reason", "detail", "attempts"]
            origin = ["origin_topic", "origin_partition", "origin_offset", "original_size", "event_id", "injection_id"]
            _print(reader.dead_letters(scope, limit), output, columns if output == "table" else [*columns, *origin])


@analytics.command()
@scope_options
@click.pass_obj
def ingestion(settings: Settings, since: int, until: int | None, tenant: str | None, tool: str | None, output: str) -> None:
    """Requests at the doors: accepted, spooled, and refused by reason.

    Example: ai-agents analytics ingestion --since 1h
    """
    with reading(settings) as reader:
        _print(reader.ingestion(_scope(since, until, tenant, tool)), output, ["tenant", "tool", "outcome", "reason", "requests"])


@analytics.command()
@click.argument("event_id")
@output_option
@click.pass_obj
def event(settings: Settings, event_id: str, output: str) -> None:
    """What became of one event: its rule and target, then each call made for it.

    Example: ai-agents analytics event 01935bd1-4c70-7e2a-9c1b-0d6f0f3a2b11 -o json
    """
    from analytics.materializer import MAX_TIME, Unstorable, id_bytes

    try:
        wanted = id_bytes(event_id)
    except Unstorable as exc:
        raise CommandError(f"{event_id!r} is not an event id", USAGE) from exc
    around = (0, MAX_TIME)
    if wanted[6] >> 4 == 7:  # a UUIDv7 tells the millisecond it was given at the door; allow for a minute of work there
        at = int.from_bytes(wanted[:6], "big") * 1000
        around = (at - 60_000_000, at + 60_000_000)
    with reading(settings) as reader:
        events, calls = reader.event(wanted, around)
    if not events:
        raise CommandError(f"{event_id} is not in the tables: not finished yet, dropped, a dead letter, or past retention", NOT_FOUND)
    if output in ("json", "yaml"):
        rows([{name: _shown(name, v) for name, v in found.items()} | {"calls": _of(found, calls)} for found in events], output)
        return
    _print(events, output, ["received_at", "tenant", "tool", "ticket_id", "rule", "target", "target_ticket_id", "outcome", "processed_at"])
    _print(calls, output, ["started_at", "tool", "method", "outcome", "error_class", "latency_us", "attempt", "api_calls", "cost_micros"])


def _of(found: dict[str, Any], calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    mine = (call for call in calls if call["injection_id"] == found["injection_id"])
    return [{name: _shown(name, value) for name, value in call.items()} for call in mine]


@analytics.command()
@click.argument("statement")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=ROWS_OF_SQL, show_default=True, help="At most this many rows.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 3600), default=SECONDS_FOR_SQL, show_default=True, help="Seconds before it is stopped."
)
@output_option
@click.pass_obj
def sql(settings: Settings, statement: str, limit: int, timeout: float, output: str) -> None:
    """Run one SELECT over the tables and views. Nothing can be changed by it.

    The views: method_usage, method_latency, plugin_errors, api_costs, throughput, freshness, routing, failovers, dead_letters,
    ingestion, outcomes, events, calls. Give - to read the statement from standard input.

    Example: ai-agents analytics sql "SELECT tool, SUM(calls) FROM method_usage GROUP BY tool"
    """
    from analytics.adhoc import QueryRefused, query

    text = click.get_text_stream("stdin").read() if statement == "-" else statement
    began = time.monotonic()
    try:
        answer = query(settings.store_url, text, limit=limit, timeout=timeout)
    except QueryRefused as exc:
        raise CommandError(str(exc), USAGE) from exc
    except StoreError as exc:
        raise CommandError(str(exc)) from exc
    rows(answer.rows, output, answer.columns)
    if answer.cut:
        say(f"cut after {limit} rows; raise --limit for more")
    if output == "table":
        say(f"{len(answer.rows)} rows in {time.monotonic() - began:.2f} s")
