"""A route's `when`: one CEL expression over the ticket, for what `match` cannot say. Pure.

The one variable is `ticket`, with the fields of TicketMetadata. Texts and enumerated words are strings, "" where absent; times are
timestamps, null where absent; `tags` is a list of strings; `custom_fields`, `device` and `extra` are maps as the tool gave them, so
a key that may be missing is asked for first: `has(ticket.custom_fields.region) && ticket.custom_fields.region == "EMEA"`.

An expression that fails on a ticket (a missing key, text compared with a number) does not match it: the fault is counted and
remembered, and the rules go on. CEL evaluates under the interpreter's lock and has no budget of its own, so what may be asked is
bounded when it is compiled: its size, its depth, one loop; lists, maps and texts are cut before they are looked at.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from schemas.ticket import TicketMetadata
from streams.routing.conditions import ENUMS, MAPS, TEXTS, TIMES, ConditionError

MAX_SOURCE_BYTES = 2048
MAX_DEPTH = 64
MAX_LOOPS = 1
MAX_ITEMS = 256
"""Elements of a list, or keys of a map, that an expression sees."""
MAX_TEXT = 32 << 10
"""Characters of a text that an expression sees."""
MAX_NESTING = 4

FIELDS = frozenset(field.name for field in fields(TicketMetadata)) - {"tenant_id"}
FUNCTIONS = frozenset(
    """size contains startsWith endsWith matches int uint double string timestamp duration type dyn
    getFullYear getMonth getDayOfMonth getDayOfWeek getDayOfYear getHours getMinutes getSeconds""".split()  # noqa: SIM905 - reads better
)
"""What the library has of CEL's functions; `has`, `all`, `exists`, `exists_one`, `map` and `filter` are macros and not among them."""

_LITERAL = re.compile(r"""[rR]?("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
_LOOP = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(")
_FIELD = re.compile(r"\bticket\s*\.\s*([A-Za-z_]\w*)")
_WHOLE = re.compile(r"\bticket\b(?!\s*\.\s*[A-Za-z_])")
_PLAIN = re.compile(r"[A-Za-z_]\w*")


class When:
    """A compiled expression, used as a condition: True only where it evaluates to true. Holds no ticket.

    `faults` counts the tickets it failed on, `last_fault` says why the last time.
    """

    def __init__(self, source: str) -> None:
        bare = _guarded(source)
        self.source = source
        self.faults = 0
        self.last_fault = ""
        program = _compiled(source)
        loop_variables = set(re.findall(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)", bare))
        if strangers := sorted(set(program.variables()) - {"ticket"} - loop_variables):
            raise ConditionError(f"{strangers[0]!r} is not known; an expression sees `ticket` alone, as in: ticket.subject.contains('VPN')")
        named = {name for name in program.functions() if _PLAIN.fullmatch(name)}
        if strange := sorted(named - FUNCTIONS):
            raise ConditionError(f"there is no function {strange[0]}; there are {', '.join(sorted(FUNCTIONS))}")
        asked = set(_FIELD.findall(bare))
        if unknown := sorted(asked - FIELDS):
            raise ConditionError(f"a ticket has no field {unknown[0]!r}; it has {', '.join(sorted(FIELDS))}")
        self.fields = FIELDS if _WHOLE.search(bare) else frozenset(asked)
        self._program = program
        self._refuse_other_than_true_or_false()

    def __call__(self, ticket: TicketMetadata) -> bool:
        return self.ask(ticket) is None

    def ask(self, ticket: TicketMetadata) -> str | None:
        """Why the expression does not hold for this ticket; None where it does."""
        found, fault = self._evaluate(ticket)
        if fault:
            self.faults += 1
            self.last_fault = fault
            return f"failed: {fault}"
        if found is True:
            return None
        return "is false" if found is False else f"gave {type(found).__name__}, not true or false"

    def _evaluate(self, ticket: TicketMetadata) -> tuple[Any, str]:
        import cel

        try:
            context = cel.Context(variables={"ticket": {name: _shown(name, getattr(ticket, name)) for name in self.fields}})
            return self._program.execute(context), ""
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - the library's panics are BaseExceptions; one rule must not stop a stream
            return None, _fault(exc)

    def _refuse_other_than_true_or_false(self) -> None:
        found, fault = self._evaluate(_SAMPLE)
        if not fault and not isinstance(found, bool):
            raise ConditionError(f"gives {type(found).__name__}; it must give true or false, as in: ticket.subject.contains('VPN')")


_SAMPLE = TicketMetadata(tenant_id="", ticket_id="1", created_at=1, updated_at=1, sla_due_at=1)


def _guarded(source: str) -> str:
    """The source without its literals, once it is found to be within bounds."""
    if not source.strip():
        raise ConditionError("is empty")
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise ConditionError(f"is longer than {MAX_SOURCE_BYTES} bytes; use match, or several routes")
    bare = _LITERAL.sub("''", source)
    depth = deepest = 0
    for char in bare:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH or bare.count("!") + bare.count("-") > MAX_DEPTH * 2:
        raise ConditionError(f"is nested deeper than {MAX_DEPTH} brackets")
    if len(_LOOP.findall(bare)) > MAX_LOOPS:
        raise ConditionError("has more than one of all, exists, exists_one, map and filter; one is allowed, for it holds up the stream")
    return bare


def _compiled(source: str) -> Any:
    # The library's package imports its own command line, which costs half a second; nothing here uses that.
    sys.modules.setdefault("cel.cli", types.ModuleType("cel.cli"))
    import cel

    try:
        return cel.compile(source)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:  # noqa: BLE001 - as above
        raise ConditionError(f"is not CEL: {_syntax(str(exc))}") from None


def _syntax(text: str) -> str:
    """The parser's own words, with the column; they come with the source drawn below them."""
    found = re.search(r"ERROR: <input>:\d+:(\d+): (.*)", text)
    return f"column {found[1]}: {found[2][:200]}" if found else text.splitlines()[0][:200]


def _fault(exc: BaseException) -> str:
    if isinstance(exc, KeyError):
        return f"there is no {exc.args[0]}; ask has(…) first" if exc.args else "a key is missing; ask has(…) first"
    first_sentence = str(exc).splitlines()[0].split(". ")[0] if str(exc) else type(exc).__name__
    return first_sentence[:200]


def _shown(name: str, value: Any) -> Any:
    if name in TEXTS or name in ENUMS:
        return str(value)[:MAX_TEXT] if value is not None else ""
    if name in TIMES:
        return datetime.fromtimestamp(value / 1e6, UTC) if value is not None else None
    if name in MAPS:
        return _bounded(value or {}, MAX_NESTING)
    return _bounded(value, MAX_NESTING)


def _bounded(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else float(value)
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if depth and isinstance(value, Mapping):
        return {str(key): _bounded(item, depth - 1) for key, item in list(value.items())[:MAX_ITEMS]}
    if depth and isinstance(value, (list, tuple)):
        return [_bounded(item, depth - 1) for item in value[:MAX_ITEMS]]
    return str(value)[:MAX_TEXT]
