"""How commands speak: rows to stdout in the chosen format, words to stderr, known errors as one line with an exit code."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click
import msgspec

OK, FAILED, USAGE, NOT_FOUND, VERIFICATION, INCOMPATIBLE, IN_USE = 0, 1, 2, 3, 4, 5, 6

F = TypeVar("F", bound=Callable[..., Any])


class CommandError(click.ClickException):
    """A known error: one line that says what happened and what to do next, and its exit code."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        say(f"error: {self.format_message()}")


def output_option(function: F) -> F:
    """Adds -o/--output; the command receives `output`, to be given to `rows` or `document`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml", "csv"]),
        default="table",
        show_default=True,
        help="Format of the rows on stdout.",
    )(function)


def say(text: str) -> None:
    """Words for the person at the terminal: to stderr."""
    click.echo(text, err=True)


def refuse_shared_packages() -> None:
    """Ends the command with one line when another distribution shares one of our five top-level packages (streams/collision.py)."""
    from streams.collision import PackageCollision, check_packages

    try:
        check_packages()
    except PackageCollision as exc:
        raise CommandError(str(exc)) from exc


def rows(items: Iterable[Mapping[str, Any]], output: str, columns: Sequence[str] | None = None) -> None:
    """Prints rows: a table for people, a JSON array, a YAML list, or CSV with a header."""
    data = [dict(item) for item in items]
    names = list(columns or (data[0] if data else []))
    if output == "json":
        click.echo(_json(data))
    elif output == "yaml":
        click.echo(_yaml(data), nl=False)
    elif output == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _cell(v) for k, v in row.items()} for row in data)
        click.echo(text.getvalue(), nl=False)
    else:
        _table(data, names)


def document(value: Mapping[str, Any], output: str) -> None:
    """Prints one object: as a two-column table for people, or whole in the chosen format."""
    if output == "json":
        click.echo(_json(value))
    elif output == "yaml":
        click.echo(_yaml(value), nl=False)
    else:
        rows([{"name": k, "value": v} for k, v in value.items()], output, ["name", "value"])


def answer(value: Any, output: str) -> None:
    """Prints whatever it is: an object, a list of objects as rows, or one plain value."""
    if isinstance(value, Mapping):
        document(value, output)
    elif isinstance(value, (list, tuple)) and all(isinstance(item, Mapping) for item in value):
        rows(value, output)
    elif output == "yaml":
        click.echo(_yaml(value), nl=False)
    else:
        click.echo(_json(value) if output == "json" or not isinstance(value, str) else value)


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode()


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(msgspec.to_builtins(value, enc_hook=str), sort_keys=False, allow_unicode=True)
    return text


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _json(value) if isinstance(value, (dict, list, tuple)) else value


def _table(data: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        numeric = bool(data) and all(isinstance(row.get(name), (int, float)) and not isinstance(row.get(name), bool) for row in data)
        table.add_column(name.upper(), justify="right" if numeric else "left", overflow="fold")
    for row in data:
        table.add_row(*(Text(str(_cell(row.get(name)))) for name in names))  # a ticket's "[/b]" is words, not markup
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def run(command: click.Command) -> int:
    """Runs the command and answers the exit code; a reader that closes the pipe, or Ctrl-C, ends it quietly."""
    try:
        code = command.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        # CPython ends by the signal itself once a Ctrl-C met it inside code given as text (a dataclass being made, on import),
        # caught or not; the next such code makes it forget
        exec("")  # noqa: S102
        say("interrupted")
        return 130
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return int(code) if isinstance(code, int) else OK
