"""`ai-agents plugin new`: a working plugin to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from cli.output import IN_USE, CommandError, say


@click.command("new")
@click.argument("name")
@click.option(
    "--path",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder in which the project's folder is made [default: the current one].",
)
def new_plugin(name: str, path: Path) -> None:
    """Write a new plugin's project: a small tool, whole, with sandbox, fixtures and tests, which passes every check as it stands.

    NAME is the tool type: the name of the package, and what tenants write. docs/howto/add-a-tool.md goes on from there.

    Example: ai-agents plugin new acme_desk
    """
    from plugins.api import PluginConfigError
    from plugins.conformance.scaffold import written

    try:
        files = written(name, path)
    except PluginConfigError as exc:
        raise CommandError(str(exc), IN_USE) from exc
    except OSError as exc:
        raise CommandError(f"{exc.filename}: {exc.strerror}") from exc
    for file in files:
        click.echo(file)
    say(f"now: ai-agents plugin test {path / name}")
