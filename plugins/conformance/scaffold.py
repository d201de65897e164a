"""A new plugin's project, made from the template beside this file: a whole small plugin that passes every check as it stands."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from plugins.api import PluginConfigError
from plugins.registry import PluginRegistry

TEMPLATE = Path(__file__).parent / "template"
KIND = frozenset({".py", ".toml", ".json", ".yaml", ".md"})

PYPROJECT = """[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "ai-agents-plugin-{dashed}"
version = "0.1.0"
description = "{title} for ai-agents: signed webhooks in, REST out."
readme = "{name}/README.md"
requires-python = ">=3.11"
dependencies = ["ai-agents-tickets"]

[project.optional-dependencies]
test = ["ai-agents-tickets[test]"]

[project.entry-points."ai_agents.plugins"]
{name} = "{name}.plugin:{camel}Plugin"

[tool.hatch.build.targets.wheel]
packages = ["{name}"]

[tool.pytest.ini_options]
asyncio_mode = "auto"
pythonpath = ["."]
testpaths = ["tests"]

[tool.mypy]
strict = true
packages = ["{name}"]

[tool.ruff]
line-length = 140

[tool.ruff.lint]
select = ["E", "F", "W", "I", "B", "UP", "SIM"]

[tool.ruff.lint.isort]
known-first-party = ["{name}"]
"""

TESTS = '''"""{title} against its sandbox: every promise of the conformance kit, and what is this tool's own."""

from __future__ import annotations

from pathlib import Path

from plugins.api import Priority, TicketingToolPlugin
from plugins.conformance.builders import a_ticket
from plugins.conformance.pytest_plugin import ConformanceSuite


class Test{camel}(ConformanceSuite):
    path = Path(__file__).parents[1] / "{name}"

    async def test_a_high_priority_reads_back_as_it_was_written(self, plugin: TicketingToolPlugin) -> None:
        """Yours to replace: what no promise of the kit covers is tried here, on the same sandbox."""
        ref = await plugin.create_ticket(a_ticket(priority=Priority.HIGH))
        assert (await plugin.get_ticket(ref.ticket_id)).priority is Priority.HIGH
'''


def written(name: str, folder: Path) -> list[Path]:
    """Writes the project into folder/name and answers its files; raises PluginConfigError when the name or the place is taken."""
    check_name(name)
    project = folder / name
    if project.exists() and any(project.iterdir()):
        raise PluginConfigError(f"{project} is not empty")
    files = [(project / path, text) for path, text in files_of(name)]
    for path, text in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [path for path, _ in files]


def check_name(name: str) -> None:
    """Raises PluginConfigError for a name that can be no package, or is one already."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,39}", name) or keyword.iskeyword(name):
        raise PluginConfigError(f"{name!r} can be no tool type: 2 to 40 of a-z, 0-9 and _, a letter first")
    if name in {manifest.tool_type for manifest in PluginRegistry.discover().manifests()}:
        raise PluginConfigError(f"there is a plugin for {name} already")
    if find_spec(name) is not None:
        raise PluginConfigError(f"{name} is an installed Python package; the plugin's package would hide it, choose another name")


def files_of(name: str) -> Iterator[tuple[Path, str]]:
    """Each file of the project: its path in it, and its text."""
    words = {
        "name": name,
        "camel": "".join(part.capitalize() for part in name.split("_")),
        "title": " ".join(part.capitalize() for part in name.split("_") if part),
        "dashed": name.strip("_").replace("_", "-"),
    }
    yield Path("pyproject.toml"), PYPROJECT.format(**words)
    yield Path("tests") / f"test_{name}.py", TESTS.format(**words)
    yield Path(name) / "py.typed", ""
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_file() and source.suffix in KIND:
            text = renamed(source.read_text(encoding="utf-8"), **words)
            yield Path(name) / source.relative_to(TEMPLATE), first_party_last(text, name) if source.suffix == ".py" else text


def renamed(text: str, *, name: str, camel: str, title: str, dashed: str) -> str:
    """The template's text with its tool's name in all its spellings replaced."""
    header = "-".join(part.capitalize() for part in dashed.split("-"))
    for old, new in (
        ("plugins.conformance.template", name),
        ("ExampleDesk", camel),
        ("Example Desk", title),
        ("Example-Desk", header),
        ("example-desk", dashed),
        ("example_desk", name),
    ):
        text = text.replace(old, new)
    return text


def first_party_last(text: str, name: str) -> str:
    """The package's own imports as a block after the others, as import sorters want them once they are another distribution's."""
    lines = text.splitlines(keepends=True)
    own = [line for line in lines if line.startswith(f"from {name}.")]
    rest = [line for line in lines if line not in own]
    if own:
        last = max(at for at, line in enumerate(rest) if line.startswith(("from plugins.", "import ")))
        rest[last + 1 : last + 1] = ["\n", *own]
    inner = f"    from {name}."  # beneath `if TYPE_CHECKING:`
    return "".join(rest).replace(f"\n{inner}", f"\n\n{inner}").replace(f":\n\n{inner}", f":\n{inner}")
