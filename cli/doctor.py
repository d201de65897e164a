"""`ai-agents doctor`: check this installation and say what to mend."""

from __future__ import annotations

import asyncio
import logging
import sys

import click

from cli.output import FAILED, USAGE, CommandError, output_option, rows
from streams.checkup import FAIL, Finding, check_up
from streams.settings import Settings


@click.command()
@click.option("--tenant", metavar="NAME", help="Also call this tenant's tools with their own credentials.")
@click.option("--tool", metavar="NAME", help="Only this one of the tenant's tools.")
@output_option
@click.pass_obj
def doctor(settings: Settings, tenant: str | None, tool: str | None, output: str) -> None:
    """Check this installation: each line ok, warn or fail, with the next step. Exit code 1 when anything fails.

    Changes nothing. Tools are called only with --tenant.

    Example: ai-agents doctor --tenant acme --tool jira
    """
    if tool is not None and tenant is None:
        raise CommandError("--tool needs --tenant", USAGE)
    for name in ("aiokafka", "streams.control"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # that no broker answers is a finding here, said once
    findings = asyncio.run(_all(settings, tenant, tool))
    shown = [{"check": f.check, "state": f.state, "detail": f.detail, "next": f.next_step} for f in findings]
    rows(shown, output, ["check", "state", "detail", "next"])
    if any(finding.state == FAIL for finding in findings):
        sys.exit(FAILED)


async def _all(settings: Settings, tenant: str | None, tool: str | None) -> list[Finding]:
    return [finding async for finding in check_up(settings, tenant, tool)]
