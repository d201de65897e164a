"""From NAME=VALUE words to the arguments of a plugin's method, and from its answer to plain values: what `plugin call` prints.

A method's own annotations say what each argument is. A dataclass may be given whole (`ticket:={"subject": ...}`) or by its fields
beside the other arguments (`subject=Printer priority=high`). The ids that make an effect findable are made up where not given.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin, get_type_hints
from uuid import uuid4

import msgspec

from cli.output import USAGE, CommandError
from plugins.api import ApiError, TicketMetadata
from plugins.marker import note_marker

CHUNK = 64 << 10


def parse_words(words: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` is text, `NAME:=JSON` any value, `NAME=@FILE` a file's content as it is read; raises CommandError."""
    given: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        as_json = name.endswith(":")
        name = name.removesuffix(":").replace("-", "_")
        if not equals or not name.isidentifier():
            raise CommandError(f"an argument is NAME=VALUE or NAME:=JSON, not {word[:60]!r}", USAGE)
        if name in given:
            raise CommandError(f"{name} is given twice", USAGE)
        if as_json:
            try:
                given[name] = msgspec.json.decode(value.encode())
            except msgspec.DecodeError as exc:
                raise CommandError(f"{name}:= wants JSON: {exc}", USAGE) from exc
        else:
            given[name] = value
    return given


def arguments(method: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments to call the method with; raises CommandError that names what is missing, unknown or of another kind."""
    parameters = inspect.signature(method).parameters
    hints = _hints(method)
    bound = {name: value for name, value in given.items() if name in parameters}
    rest = {name: value for name, value in given.items() if name not in parameters}
    for name, hint in hints.items():
        if name in parameters and name not in bound and dataclasses.is_dataclass(hint):
            fields = {field.name for field in dataclasses.fields(hint)}
            bound[name] = {key: rest.pop(key) for key in list(rest) if key in fields} | {k: bound[k] for k in fields & set(bound)}
    if rest:
        raise CommandError(f"there is no argument {', '.join(sorted(rest))}; it takes: {usage(method)}", USAGE)
    missing = [n for n, p in parameters.items() if n not in bound and p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if missing:
        raise CommandError(f"{', '.join(missing)} must be given; it takes: {usage(method)}", USAGE)
    return {name: _value(name, hints.get(name, Any), value) for name, value in bound.items()}


def whole_ticket(method: Callable[..., Any], given: Mapping[str, Any]) -> str | None:
    """The argument that is a whole ticket, where nothing but the ticket's id is given for it; None otherwise."""
    if set(given) != {"ticket_id"} or "ticket_id" in inspect.signature(method).parameters:
        return None
    return next((name for name, hint in _hints(method).items() if hint is TicketMetadata and name != "return"), None)


def usage(method: Callable[..., Any]) -> str:
    """What the method takes, a dataclass by its fields: `ticket_id subject [description] ...`."""
    names = []
    hints = _hints(method)
    for name, parameter in inspect.signature(method).parameters.items():
        hint = hints.get(name)
        if dataclasses.is_dataclass(hint):
            names += [f.name if _required(f) and f.name not in _made_up() else f"[{f.name}]" for f in dataclasses.fields(hint)]
        else:
            names.append(name if parameter.default is parameter.empty else f"[{name}]")
    return " ".join(names) or "nothing"


def plain(value: Any) -> Any:
    """An answer as builtins: dataclasses as objects, an error as its kind and text."""
    return msgspec.to_builtins(value, enc_hook=_plain_one)


def _plain_one(value: Any) -> Any:
    if isinstance(value, ApiError):
        return {"error": type(value).__name__, "message": str(value), "status": value.status, "in_doubt": value.in_doubt}
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _hints(method: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(method)
    except (NameError, TypeError):  # an annotation that only a type checker can see: the words go as they are
        return {}


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _made_up() -> dict[str, str]:
    event_id = str(uuid4())
    return {"event_id": event_id, "external_id": f"cli-{event_id}", "marker": note_marker(event_id, 1)}


def _value(name: str, hint: Any, value: Any) -> Any:
    if get_origin(hint) is not None and issubclass(_class_of(hint), AsyncIterator):
        if not isinstance(value, str) or not value.startswith("@"):
            raise CommandError(f"{name} is a file's content: {name}=@FILE", USAGE)
        return _chunks(_file(name, value[1:]))
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        wanted = {field.name for field in dataclasses.fields(hint) if _required(field)}
        value = {**{k: v for k, v in _made_up().items() if k in wanted}, **value}
    if hint is Any or (isinstance(hint, type) and isinstance(value, hint)):
        return value
    try:
        return msgspec.convert(value, hint, strict=False)
    except (msgspec.ValidationError, TypeError) as exc:
        raise CommandError(f"{name}: {exc}", USAGE) from exc


def _class_of(hint: Any) -> type:
    origin = get_origin(hint)
    return origin if isinstance(origin, type) else object


def _file(name: str, path: str) -> Path:
    if not Path(path).is_file():
        raise CommandError(f"{name}: there is no file {path}", USAGE)
    return Path(path)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
