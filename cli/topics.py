"""`ai-agents topics`: make the topics, look at their records, and at how far each group is behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from cli.broker import command_error
from cli.output import NOT_FOUND, CommandError, output_option, rows, say
from streams.broker.errors import BrokerError
from streams.settings import Settings
from streams.topics import BY_NAME, DAY_MS, DEFAULT_PARTITIONS

if TYPE_CHECKING:
    from streams.topic_tail import TailedRecord

T = TypeVar("T")


@click.group()
def topics() -> None:
    """Look at the topics.

    Example: ai-agents topics lag
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what goes wrong here is said once, by the command


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except BrokerError as exc:
        raise command_error(exc) from exc


@topics.command("create")
@click.option("--partitions", type=click.IntRange(1, 1000), default=DEFAULT_PARTITIONS, show_default=True, help="Fixed once they exist.")
@click.option("--dry-run", is_flag=True, help="Say which are missing, and make none.")
@output_option
@click.pass_obj
def create_topics(settings: Settings, partitions: int, dry_run: bool, output: str) -> None:
    """Make the topics that are missing, on brokers of your own; `up` does it by itself.

    Three replicas where there are three brokers. Refused when a topic has another number of partitions.

    Example: ai-agents --brokers 127.0.0.1:9092 topics create --partitions 12
    """
    from streams.broker.admin import describe, ensure_topics

    if dry_run:
        found = {t.name for t in _run(describe(settings.brokers, settings.security))}
        made = [name for name in BY_NAME if name not in found]
        say("dry run: these would be made" if made else "dry run: none is missing")
    else:
        made = _run(ensure_topics(settings.brokers, partitions, settings.security))
        say(f"{len(made)} topics made" if made else "all topics were there")
    rows([{"topic": name, "partitions": BY_NAME[name].partitions or partitions} for name in made], output, ["topic", "partitions"])


@topics.command("list")
@output_option
@click.pass_obj
def list_topics(settings: Settings, output: str) -> None:
    """List this program's topics, and others the brokers have.

    Example: ai-agents topics list
    """
    from streams.broker.admin import describe

    found = {t.name: t for t in _run(describe(settings.brokers, settings.security))}
    shown = []
    for name in dict.fromkeys([*BY_NAME, *found]):
        ours, theirs = BY_NAME.get(name), found.get(name)
        kept = "" if ours is None else "latest per key" if ours.compacted else f"{ours.retention_ms // DAY_MS} d"
        record = ours.record.__name__ if ours is not None and ours.record is not None else None
        shown.append(
            {
                "topic": name,
                "partitions": theirs.partitions if theirs else None,
                "kept": kept,
                "record": record,
                "about": ours.doc if ours else "not this program's",
            }
        )
    rows(shown, output)


@topics.command("describe")
@click.argument("topic")
@output_option
@click.pass_obj
def describe_topic(settings: Settings, topic: str, output: str) -> None:
    """Show each partition of a topic: its first and next offset and how many records it holds.

    Example: ai-agents topics describe tickets.received.v1
    """
    from streams.broker.admin import offsets

    starts, ends = _run(offsets(settings.brokers, [topic], settings.security))
    if not ends:
        raise CommandError(f"there is no topic {topic}; see: ai-agents topics list", NOT_FOUND)
    rows(
        [
            {"topic": topic, "partition": p, "start": starts[t, p], "end": end, "records": end - starts[t, p]}
            for (t, p), end in sorted(ends.items())
        ],
        output,
    )


@topics.command("lag")
@click.option("--group", "groups", multiple=True, help="Only this consumer group; may be given again.")
@click.option("--all", "everything", is_flag=True, help="Also the partitions without lag.")
@output_option
@click.pass_obj
def show_lag(settings: Settings, groups: tuple[str, ...], everything: bool, output: str) -> None:
    """Show how many records each group has still to read, per partition.

    Example: ai-agents topics lag --all -o csv
    """
    from streams.broker.admin import lag

    found = _run(lag(settings.brokers, groups, settings.security))
    shown = [
        {
            "group": row.group,
            "topic": row.topic,
            "partition": row.partition,
            "committed": row.committed,
            "end": row.end,
            "lag": row.lag,
        }
        for row in found
        if everything or row.lag
    ]
    rows(shown, output, ["group", "topic", "partition", "committed", "end", "lag"])


@topics.command("tail")
@click.argument("topic")
@click.option("-n", "--records", type=click.IntRange(1, 100_000), default=10, show_default=True, help="How many records.")
@click.option("--partition", type=click.IntRange(min=0), help="Only this partition.")
@click.option("--from", "start", type=click.IntRange(min=0), metavar="OFFSET", help="From this offset on, instead of the last ones.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new records, a JSON object a line, until Ctrl-C.")
@output_option
@click.pass_obj
def tail_topic(settings: Settings, topic: str, records: int, partition: int | None, start: int | None, follow: bool, output: str) -> None:
    """Show a topic's last records, decoded; json and yaml carry every field.

    Example: ai-agents topics tail tickets.dead-letter.v1 -n 3 -o json
    """
    from streams.topic_tail import tail

    async def read() -> list[TailedRecord]:
        found = []
        async for record in tail(
            settings.brokers,
            topic,
            records=records,
            partition=partition,
            start=start,
            follow=follow,
            security=settings.security,
        ):
            if follow:
                click.echo(msgspec.json.encode(_whole(record)).decode())
            else:
                found.append(record)
        return found

    found = _run(read())
    if not follow:
        whole = output in ("json", "yaml")
        rows([_whole(r) if whole else _line(r) for r in found], output, None if found else ["partition", "offset", "at", "event"])


def _at(record: TailedRecord) -> str:
    return datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _whole(record: TailedRecord) -> dict[str, Any]:
    from streams.topic_tail import readable

    head = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "at": _at(record), "key": record.key}
    if record.event is None:
        return {**head, "event": None, "problem": record.problem}
    return {**head, "event": type(record.event).__name__, "fields": readable(record.event)}


def _line(record: TailedRecord) -> dict[str, Any]:
    event = record.event
    return {
        "partition": record.partition,
        "offset": record.offset,
        "at": _at(record),
        "event": type(event).__name__ if event is not None else f"not readable: {record.problem}",
        "key": record.key,
        "event_id": getattr(event, "event_id", None),
        "outcome": _outcome(event),
    }


def _outcome(event: Any) -> str | None:
    """The one word that says most about an event: its outcome, its reason, or where it goes."""
    decision = getattr(event, "decision", None)
    return getattr(event, "outcome", None) or getattr(event, "reason", None) or getattr(decision, "target", None)
