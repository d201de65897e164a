"""`ai-agents materialize`: run the stage that fills the analytics tables."""

from __future__ import annotations

import dataclasses

import click

from cli.output import CommandError, refuse_shared_packages, say
from streams.settings import Settings


@click.command()
@click.option("--instance", default="0", show_default=True, help="Names this process among its kind; each needs its own.")
@click.option("--keep-days", type=click.IntRange(15, 36_500), default=90, show_default=True, help="How long facts are kept.")
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    default="INFO",
    show_default=True,
    help="The least level that is logged, to stderr.",
)
@click.pass_obj
def materialize(settings: Settings, instance: str, keep_days: int, log_level: str) -> None:
    """Fill the analytics tables from the topics until stopped; several may run, each with its share of the partitions.

    Facts (one row a call) are kept for --keep-days, by the time their event was received; the rollups stay.

    Example: ai-agents materialize --instance 1
    """
    refuse_shared_packages()
    from analytics.open import open_store
    from analytics.store import StoreBusy, StoreError, StoreFull
    from streams.agents.materialize import MaterializeStage
    from streams.batching import run_stage

    try:
        open_store(settings.store_url).close()
    except (StoreBusy, StoreFull) as exc:
        say(f"{exc}; the stage waits for it")
    except StoreError as exc:
        raise CommandError(str(exc)) from exc
    chosen = dataclasses.replace(settings, instance=instance)
    code = run_stage(MaterializeStage(chosen, keep_days=keep_days), chosen, log_level=log_level)
    if code:
        raise CommandError("the stage ended; what was unfinished is read again at the next start")
