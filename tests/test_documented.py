"""The documentation against the code: what is said exists, and what exists is said.

`python -m tests.test_documented > docs/cli.md` writes the page of commands anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.main import COMMANDS, cli
from plugins.registry import PluginRegistry
from schemas.events import FailureReason
from streams.tenants.config import parse
from streams.topics import ALL, DAY_MS

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("README.md"), *(ROOT / "docs").rglob("*.md")]
}


def commands(command: click.Command, path: tuple[str, ...] = ("ai-agents",)) -> Iterator[tuple[str, click.Command]]:
    """Every command and group below one, with the words that call it."""
    context = click.Context(command, info_name=path[-1])
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, f"{' '.join(path)} lists {name} and has no such command"
            yield " ".join((*path, name)), child
            yield from commands(child, (*path, name))


@pytest.fixture(scope="module")
def every_command() -> list[tuple[str, click.Command]]:
    return list(commands(cli))


def summary(command: click.Command) -> str:
    return (command.help or "").strip().split("\n\n")[0].replace("\n", " ")


def example(command: click.Command) -> str | None:
    found = re.search(r"^\s*Example: (.+)$", command.help or "", re.MULTILINE)
    return found[1].strip() if found else None


def test_each_command_has_help_and_an_example_that_calls_it(every_command: list[tuple[str, click.Command]]) -> None:
    """The first thing a person tries is what the help shows."""
    wrong = []
    for path, command in every_command:
        shown = example(command)
        if not summary(command):
            wrong.append(f"{path}: no help")
        elif shown is None:
            wrong.append(f"{path}: no Example")
        elif not set(path.split()[1:]) <= set(shown.split()):
            wrong.append(f"{path}: the Example calls something else: {shown}")
    assert wrong == []


def test_each_option_has_help(every_command: list[tuple[str, click.Command]]) -> None:
    wrong = [
        f"{path} {parameter.opts[0]}"
        for path, command in every_command
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden and not parameter.help
    ]
    assert wrong == []


def test_each_command_is_named_in_the_documentation(every_command: list[tuple[str, click.Command]]) -> None:
    text = "\n".join(PAGES.values())
    assert [path for path, _ in every_command if not re.search(rf"{re.escape(path)}\b", text)] == []


def test_the_documentation_names_no_command_that_does_not_exist(every_command: list[tuple[str, click.Command]]) -> None:
    """A command that was renamed lives on in the pages until somebody tries it."""
    groups = {path for path, command in every_command if isinstance(command, click.Group)}
    known = {path for path, _ in every_command} | {"ai-agents"}
    wrong = []
    for page, text in PAGES.items():
        for words in re.findall(r"(?:`|^\s*\$? ?)(ai-agents(?: [a-z][a-z0-9-]*)+)", text, re.MULTILINE):
            parts = words.split()
            path = " ".join(parts[:2])
            if path not in known or (path in groups and len(parts) > 2 and " ".join(parts[:3]) not in known):
                wrong.append(f"{page}: {words}")
    assert wrong == []


def test_the_short_list_of_commands_says_of_each_what_its_help_says_at_length() -> None:
    """`ai-agents --help` is written beside the groups, so that it imports none of them."""
    assert list(COMMANDS) == cli.list_commands(click.Context(cli))
    assert all(text.endswith(".") for _, text in COMMANDS.values())


def table(page: str) -> dict[str, list[str]]:
    """A page's table rows by their first cell, in order."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGES[page].splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_each_reason_of_a_dead_letter_has_its_remedy() -> None:
    """Somebody reads the reason at three in the morning."""
    rows = table("docs/dead-letters.md")
    assert list(rows) == [reason.value for reason in FailureReason]
    assert all(what and remedy for _, what, remedy in rows.values())


def test_each_topic_is_described_as_it_is() -> None:
    expected = {
        topic.name: [
            f"`{topic.record.__name__}`" if topic.record else "–",
            str(topic.partitions or "as created"),
            "the newest of each key" if topic.compacted else f"{topic.retention_ms // DAY_MS} days",
            topic.doc,
        ]
        for topic in ALL
    }
    assert table("docs/topics.md") == expected


def test_each_tenant_file_that_is_shown_can_be_applied() -> None:
    """People copy the example before they read the page."""
    plugins = {manifest.tool_type: manifest for manifest in PluginRegistry.discover().manifests()}
    shown = [(page, block) for page, text in PAGES.items() for block in re.findall(r"```yaml\n(tenant:.*?)```", text, re.DOTALL)]
    assert shown
    for page, block in shown:
        parse(block, page, plugins)


def test_links_between_pages_lead_somewhere() -> None:
    wrong = []
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
            if not (ROOT / page).parent.joinpath(target).exists():
                wrong.append(f"{page}: {target}")
    assert wrong == []


def cli_page() -> str:
    """docs/cli.md, made from the commands' own help."""
    lines = [
        "# Commands",
        "",
        "Rows go to stdout (`-o table|json|yaml|csv`), words to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 3 not found,",
    ]
    lines += ["4 verification, 5 incompatible, 6 in use. `--data-dir`, `--brokers` and `--store` stand before the command.", ""]
    for path, command in commands(cli):
        shown = example(command)
        if isinstance(command, click.Group):
            lines += [f"## {path}", "", summary(command), ""]
        elif path.count(" ") == 1:
            lines += [f"## {path}", "", summary(command), "", f"    {shown}", ""]
        else:
            lines += [f"`{path}`: {summary(command)}", "", f"    {shown}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(cli_page(), end="")
