"""The mutants of a module: its syntax tree with one small fault in it, each under a name that outlives moved lines."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_SHOWN = 110


@dataclass(frozen=True, slots=True)
class _Spot:
    """A node, the way to it from its parent, and the statement and function it stands in."""

    node: ast.AST
    parent: ast.AST
    field: str
    index: int | None
    statement: ast.stmt
    within: ast.stmt
    where: str
    in_raise: bool


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: `name` is the same while the code around it moves, `lines` are those whose tests can notice it.

    `within` stands for the text of the function, or of the statement outside one, that it is planted in. `at_import`: the line runs
    when the module is imported, which may happen in any test.
    """

    file: str
    name: str
    within: str
    at_import: bool
    line: int
    lines: frozenset[int]
    _whole: ast.Module
    _spot: _Spot
    _instead: ast.AST | None

    def tree(self) -> ast.Module:
        """The module with the fault, for good: the other mutants of the module are built upon it too, so one process plants one."""
        _planted(self._spot, self._instead).__enter__()
        return ast.fix_missing_locations(self._whole)


def mutants(file: str, source: str) -> Iterator[Mutant]:
    """Every mutant of the module, in the order of its text; of two faults that read the same, the first."""
    named: Counter[str] = Counter()
    texts: dict[ast.stmt, str] = {}
    whole = ast.parse(source)
    seen: set[tuple[int, str]] = set()
    for spot in list(_spots(whole)):
        seen.add((id(spot.statement), ast.unparse(spot.statement)))
        for kind, instead in _faults(spot):
            if spot.node is spot.statement:
                text = (id(spot.statement), ast.unparse(instead) if instead is not None else "")
            else:
                with _planted(spot, instead):
                    text = (id(spot.statement), ast.unparse(spot.statement))
            if text in seen:
                continue
            seen.add(text)
            name = f"{spot.where}: {kind}: {_shown(spot.node)} => {'(removed)' if instead is None else _shown(instead)}"
            named[name] += 1
            if named[name] > 1:
                name += f" #{named[name]}"
            first, last = spot.node.lineno, _last_line(spot.node)  # type: ignore[attr-defined]  # every spot has its place in the text
            if spot.within not in texts:
                texts[spot.within] = hashlib.sha256(ast.unparse(spot.within).encode()).hexdigest()[:12]
            in_function = isinstance(spot.within, ast.FunctionDef | ast.AsyncFunctionDef) and spot.statement is not spot.within
            lines = frozenset([spot.statement.lineno, *range(first, last + 1)])
            yield Mutant(file, name, texts[spot.within], not in_function, first, lines, whole, spot, instead)


def _last_line(node: ast.AST) -> int:
    """Of a statement with a block, its header's."""
    ends: ast.AST = node.test if isinstance(node, ast.If | ast.While) else node
    last: int = ends.end_lineno  # type: ignore[attr-defined]  # as above
    return last


class _planted:
    """Puts a node in another's place, and back."""

    def __init__(self, spot: _Spot, instead: ast.AST | None) -> None:
        self._spot = spot
        self._instead = instead
        self._held = getattr(spot.parent, spot.field)

    def __enter__(self) -> None:
        spot, held = self._spot, self._held
        if spot.index is None:
            setattr(spot.parent, spot.field, self._instead)
        elif self._instead is None and not isinstance(spot.node, ast.stmt):
            setattr(spot.parent, spot.field, [*held[: spot.index], *held[spot.index + 1 :]])
        else:
            held[spot.index] = self._instead or ast.copy_location(ast.Pass(), spot.node)

    def __exit__(self, *_: object) -> None:
        spot = self._spot
        setattr(spot.parent, spot.field, self._held)
        if spot.index is not None:
            self._held[spot.index] = spot.node


def _spots(module: ast.Module) -> Iterator[_Spot]:
    """Every node that runs: no annotations, docstrings, imports, or blocks for type checkers."""

    def walk(node: ast.AST, statement: ast.stmt | None, within: ast.stmt | None, where: str, in_raise: bool) -> Iterator[_Spot]:
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "bases", "type_params", "ctx"):
                continue
            for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
                if not isinstance(child, ast.AST) or _passed_over(child):
                    continue
                inside, holder, place = statement, within, where
                if isinstance(child, ast.stmt):
                    inside = child
                    if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                        place = f"{where}.{child.name}".lstrip(".")
                    if isinstance(node, ast.Module | ast.ClassDef):
                        holder = child
                raising = in_raise or isinstance(child, ast.Raise)
                if inside is not None and holder is not None and hasattr(child, "lineno"):
                    yield _Spot(child, node, field, index, inside, holder, place or "(module)", raising)
                yield from walk(child, inside, holder, place, raising)

    return walk(module, None, None, "", False)


def _passed_over(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(targets=[ast.Name(id="__slots__")]) | ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
            return True
    return False


def _faults(spot: _Spot) -> Iterator[tuple[str, ast.AST | None]]:
    """What can be wrong at this node: a word for the kind, and the node in its place (None: nothing)."""
    match spot.node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            yield "compares", ast.Compare(left, [_COMPARED[type(operator)]()], [right])
        case ast.Compare(left=left, ops=[first, *others], comparators=comparators):
            yield "compares", ast.Compare(left, [_COMPARED[type(first)](), *others], comparators)
            yield "compares", ast.Compare(left, [first, *[_COMPARED[type(o)]() for o in others]], comparators)
        case ast.BoolOp(op=op, values=values):
            yield "and/or", ast.BoolOp(ast.And() if isinstance(op, ast.Or) else ast.Or(), values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _COMPUTED:
            yield "computes", ast.BinOp(left, _COMPUTED[type(op)](), right)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "negation", operand
        case ast.Constant(value=bool() as value):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield "constant", ast.Constant(value + 1)
        case ast.Constant(value=str() as value) if not spot.in_raise:
            yield "constant", ast.Constant(value + "XX")
        case ast.Constant(value=bytes() as value):
            yield "constant", ast.Constant(value + b"XX")
        case ast.If(test=test) as node:
            yield "negated", ast.If(_negated(test), node.body, node.orelse)
        case ast.While(test=test) as node:
            yield "negated", ast.While(_negated(test), node.body, node.orelse)
        case ast.IfExp(test=test) as node:
            yield "negated", ast.IfExp(_negated(test), node.body, node.orelse)
        case ast.Return(value=value) if value is not None and not (isinstance(value, ast.Constant) and value.value is None):
            yield "returns", ast.Return(ast.Constant(None))
        case ast.Assign(targets=[ast.Name() | ast.Attribute()] as targets, value=value) if not isinstance(value, ast.Constant):
            yield "assigns", ast.Assign(targets, ast.Constant(None), lineno=spot.node.lineno)
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break():
            yield "removed", None
        case ast.Call(func=ast.Name(id="isinstance")):
            pass  # swapped, it only raises TypeError
        case ast.Call(func=func, args=[first, second, *rest], keywords=keywords) if (
            not isinstance(first, ast.Starred) and not spot.in_raise
        ):
            yield "swapped", ast.Call(func, [second, first, *rest], keywords)
        case ast.keyword(arg=str()) if not spot.in_raise:
            yield "left out", None
    if spot.field == "ifs":
        yield "unfiltered", None


def _negated(test: ast.expr) -> ast.expr:
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case ast.Compare(left=left, ops=[operator], comparators=comparators) if type(operator) in (ast.Eq, ast.NotEq, ast.Is, ast.IsNot):
            return ast.Compare(left, [_COMPARED[type(operator)]()], comparators)
    return ast.UnaryOp(ast.Not(), test)


def _shown(node: ast.AST) -> str:
    """The node's first line, without what hangs below a header."""
    match node:
        case ast.If(test=test):
            text = f"if {ast.unparse(test)}"
        case ast.While(test=test):
            text = f"while {ast.unparse(test)}"
        case ast.keyword(arg=name, value=value):
            text = f"{name}={ast.unparse(value)}"
        case _:
            text = ast.unparse(node)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
