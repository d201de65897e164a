"""`ai-agents worker`: the stages route and process; `--stage` runs one of them in this process."""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from cli.output import CommandError, refuse_shared_packages, say
from streams.settings import Settings


@click.command()
@click.option("--stage", type=click.Choice(["route", "process"]), help="Run only this stage, in this process.")
@click.option("--instance", default="0", show_default=True, help="Names this worker among its kind; partitions return to the same name.")
@click.option(
    "--log-level",
    default="INFO",
    show_default=True,
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    help="The least level that is logged, to stderr.",
)
@click.pass_obj
def worker(settings: Settings, stage: str | None, instance: str, log_level: str) -> None:
    """Run the stages that decide where events go (route) and call the tools (process).

    Without --stage both run as supervised children. Ctrl-C or SIGTERM stops cleanly: calls in flight get 7 s.

    Example: ai-agents --brokers 127.0.0.1:9092 worker --stage route --instance 1
    """
    refuse_shared_packages()
    settings = replace(settings, instance=instance)
    if stage is None:
        from streams.supervisor import run_workers

        sys.exit(run_workers(settings, log_level=log_level))
    from streams.batching import run_stage
    from streams.stage import Stage

    chosen: Stage
    if stage == "route":
        from streams.agents.route import RouteStage

        chosen = RouteStage(settings)
    else:
        from streams.agents.process import ProcessStage

        chosen = ProcessStage(settings)
    code = run_stage(chosen, settings, log_level=log_level)
    if code:
        say(f"stage {stage} ended with a fault; its last words are in its log and in {settings.data_dir / 'health'}")
        raise CommandError(f"stage {stage} ended; what was unfinished is read again at the next start")
