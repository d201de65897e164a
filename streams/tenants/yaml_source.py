"""YAML text -> plain data that remembers where each value stood. Pure.

Stricter than YAML on purpose: one document of strings, numbers, true/false, null, lists and maps. Duplicate keys, aliases and tags
are refused, since each of them lets a file say something its reader does not see; `no`, `on` and dates stay text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 256 << 10
MAX_NODES = 20_000
MAX_DEPTH = 16

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong at one place of a file; line and column count from 1."""

    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.path + ': ' if self.path else ''}{self.message}"


@dataclass(slots=True)
class YamlSource:
    """A file's data, its problems so far, and the position of every key and value."""

    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> Problem:
        """The problem at a path, or at its nearest ancestor that is in the file."""
        known = path
        while known and known not in self.values and known not in self.keys:
            known = known[:-1]
        places = self.keys if at_key and known in self.keys else self.values
        line, column = places.get(known) or self.values.get(known, (1, 1))
        return Problem(line, column, path_text(path), message)


def path_text(path: Path) -> str:
    """`routes[1].match.priority` for ("routes", 1, "match", "priority")."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader that takes only JSON's words for what they look like."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - yaml's own protocol: a class attribute


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]{0,17})$", "-+0123456789"),
    ("float", r"^[-+]?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]{1,2})?$", "-+0123456789"),
    ("null", r"^(?:~|null|)$", ["~", "n", ""]),
):
    _PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))

_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")}


def read_yaml(text: str) -> YamlSource:
    """Reads one document; whatever is wrong with it is in `problems`, and `data` is then as much as could be read."""
    source = YamlSource()
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        source.problems.append(Problem(1, 1, "", f"the file is larger than {MAX_BYTES >> 10} KiB"))
        return source
    try:
        if (refusal := _refusal(text)) is not None:
            source.problems.append(refusal)
            return source
        node = yaml.compose(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        source.problems.append(Problem(line, column, "", f"not YAML: {exc.problem or exc.context}"))
        return source
    except yaml.YAMLError as exc:
        source.problems.append(Problem(1, 1, "", f"not YAML: {str(exc).splitlines()[0]}"))
        return source
    if node is not None:
        source.data = _plain(node, (), source)
    return source


def _refusal(text: str) -> Problem | None:
    """What must not even be composed: aliases, a second document, too deep or too many nodes."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=_PlainLoader):
        mark = event.start_mark
        place = (mark.line + 1, mark.column + 1, "") if mark else (1, 1, "")
        if isinstance(event, yaml.AliasEvent):
            return Problem(*place, "aliases are not taken; write the value out")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                return Problem(*place, "one file holds one tenant; move the second document to a file of its own")
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth, nodes = depth + 1, nodes + 1
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
        if depth > MAX_DEPTH:
            return Problem(*place, f"nested deeper than {MAX_DEPTH}")
        if nodes > MAX_NODES:
            return Problem(*place, f"more than {MAX_NODES} values")
    return None


def _plain(node: yaml.Node, path: Path, source: YamlSource) -> Any:
    source.values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if node.tag not in _PLAIN:
        source.problems.append(source.problem(path, f"the tag {node.tag} is not taken"))
        return None
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, source)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, index), source) for index, item in enumerate(node.value)]
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (ValueError, yaml.YAMLError):
        source.problems.append(source.problem(path, f"not a {node.tag.rpartition(':')[2]}"))
        return None


def _mapping(node: yaml.MappingNode, path: Path, source: YamlSource) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        here = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            source.problems.append(Problem(*here, path_text(path), "a key must be a word"))
            continue
        key = str(key_node.value)
        if key in result:
            first = source.keys[(*path, key)][0]
            source.problems.append(Problem(*here, path_text((*path, key)), f"given twice; first in line {first}"))
            continue
        source.keys[(*path, key)] = here
        result[key] = _plain(value_node, (*path, key), source)
    return result
