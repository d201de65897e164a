"""`ai-agents plugin test`: the conformance kit against one plugin, or all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.output import FAILED, NOT_FOUND, USAGE, CommandError, document, rows, say

if TYPE_CHECKING:
    from plugins.conformance.report import ReportCard
    from plugins.conformance.run import Outcome
    from plugins.manifest import PluginManifest


@click.command("test")
@click.argument("name", metavar="NAME|PATH", required=False)
@click.option("--all", "every", is_flag=True, help="Test every installed plugin.")
@click.option("--only", multiple=True, metavar="FAMILY|CHECK", help="Run these checks alone; may be given again.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "csv", "junit"]),
    default="table",
    show_default=True,
    help="Format of the report on stdout.",
)
@click.pass_context
def test_plugin(ctx: click.Context, name: str | None, every: bool, only: tuple[str, ...], output: str) -> None:
    """Test what a plugin promises against its sandbox, and print its report card.

    NAME is an installed plugin's tool type, PATH a plugin's folder or the project around it. The checks are described in
    docs/conformance.md. Nothing outside this machine is asked. Exit code 1 when a check fails.

    Example: ai-agents plugin test zendesk
    """
    import msgspec

    from plugins.api import PluginConfigError
    from plugins.conformance.report import junit
    from plugins.conformance.run import chosen

    if (name is None) is not every:
        raise CommandError("give one plugin's NAME or PATH, or --all", USAGE)
    try:
        chosen(only)
    except PluginConfigError as exc:
        raise CommandError(str(exc), USAGE) from exc
    cards = [_tested(name, only)] if name is not None else [_tested_or_failed(manifest, only) for manifest in _every_manifest()]
    if output == "junit":
        click.echo(junit(cards))
    elif output in ("json", "yaml"):
        whole = [msgspec.to_builtins(card) for card in cards]
        if every:
            rows(whole, output)
        else:
            document(whole[0], output)
    elif output == "csv":
        columns = ["tool_type", "check", "result", "seconds", "detail"]
        rows(({"tool_type": c.tool_type, **msgspec.to_builtins(o)} for c in cards for o in c.outcomes), output, columns)
    else:
        for card in cards:
            _show(card)
    if any(card.failed for card in cards):
        ctx.exit(FAILED)


def _every_manifest() -> list[PluginManifest]:
    from plugins.registry import PluginRegistry

    return PluginRegistry.discover().manifests()


def _tested_or_failed(manifest: PluginManifest, only: tuple[str, ...]) -> ReportCard:
    """One of many: a plugin that cannot be tested at all has failed, and the others are tested all the same."""
    from plugins.conformance.report import card
    from plugins.conformance.run import Outcome

    try:
        return _tested(manifest.tool_type, only)
    except CommandError as exc:
        say(f"  FAIL {manifest.tool_type}: {exc.format_message()}")
        return card(manifest, [Outcome(check="lifecycle.manifest", result="failed", detail=exc.format_message())])


def _tested(name: str, only: tuple[str, ...]) -> ReportCard:
    """One plugin's card; its checks are told on stderr as they are done."""
    from plugins.api import PluginConfigError
    from plugins.conformance.figures import measured
    from plugins.conformance.report import card
    from plugins.conformance.run import chosen, run
    from plugins.conformance.subject import Subject

    try:
        subject = Subject.find(name)
        checks = chosen(only)
        say(f"{subject.manifest.tool_type}: {len(checks)} checks")
        outcomes = run(subject, checks, told=_tell)
        return card(subject.manifest, outcomes, {} if only else measured(subject))
    except PluginConfigError as exc:
        raise CommandError(str(exc), NOT_FOUND) from exc


def _tell(outcome: Outcome) -> None:
    marks = {"passed": "ok  ", "failed": "FAIL", "not applicable": "-   "}
    say(f"  {marks[outcome.result]} {outcome.seconds:6.2f} s  {outcome.check}" + (f": {outcome.detail}" if outcome.detail else ""))


def _show(card: ReportCard) -> None:
    """The card for people: families counted, the figures, and each failure with its reason and its page."""
    rows(
        ({"family": f.family, "passed": f.passed, "failed": f.failed, "not applicable": f.not_applicable} for f in card.families),
        "table",
    )
    figures = "".join(
        f" · {name.rpartition('_')[0].replace('_', ' ')} {value:g} {name.rpartition('_')[2]}" for name, value in card.figures.items()
    )
    click.echo(
        f"{card.name} {card.version}: {card.level} · {card.passed} passed, {card.failed} failed, "
        f"{card.not_applicable} not applicable · {card.seconds:g} s{figures}"
    )
    for outcome in card.outcomes:
        if outcome.result == "failed":
            click.echo(f"\nFAILED {outcome.check}: {outcome.detail}\n  why: {outcome.why}\n  see: {outcome.docs}")
