"""docs/mutation.md, made from what is known of each mutant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.mutation.accepted import ACCEPTED
from tests.mutation.record import Outcome
from tests.mutation.subject import EXAMPLES, MODULES, TESTS

_HEAD = f"""# Mutation run

Would the tests notice a fault? `make mutation` plants some two thousand, one at a time, in the shared mapping and in Zendesk's plugin
without its sandbox, and runs the tests that execute the line. A mutant is *killed* when a test fails, or when its run never ends;
it *survived* when all pass, and counts as survived, too, when no test runs its line. More than 20 % are a failure.

What is planted: another comparison (`<` for `<=`, `is` for `is not`, `in` for `not in`), `and` for `or`, another operator, a negated
condition, another constant (a number and one, the other truth, a text with `XX` behind it), `return None`, `None` in place of what is
assigned, a statement, a keyword argument or a comprehension's filter left out, the first two arguments swapped. Not planted: types,
docstrings, imports, and the words of an exception, which are for people.

How it is quick: the libraries are loaded once, each mutant is a fork of that process with the one module compiled from its altered
tree, and the cheapest tests come first. Nothing is written into the tree. Sandboxes are processes of their own and stay as they are.
Hypothesis draws the same {EXAMPLES} examples each time; tests that measure time are left out. A run that ends early (`SECONDS`) is
taken up by the next one; `SAMPLE` and `SEED` try some. This page is written by `python -m tests.mutation --page`.

"""


def page(outcomes: Sequence[Outcome]) -> str:
    """The page's text; `outcomes` in the order of the code."""
    lives = [outcome for outcome in outcomes if outcome.lives]
    tests = ", ".join(f"`{test.rpartition('/')[2]}`" for test in TESTS)
    lines = [f"{_share(len(lives), len(outcomes))} survived, judged by {tests}.", ""]
    lines += ["| module | mutants | killed | survived | no test | share |", "|---|---|---|---|---|---|"]
    for module in MODULES:
        ends = Counter(outcome.end for outcome in outcomes if outcome.file == module)
        killed, all_ = ends["killed"] + ends["overtime"], sum(ends.values())
        share = (ends["survived"] + ends["untested"]) / max(1, all_)
        lines.append(f"| `{module}` | {all_} | {killed} | {ends['survived']} | {ends['untested']} | {share:.1%} |")
    lines += ["", "## What survived, and why that is accepted", "", "| where | what | why |", "|---|---|---|"]
    for outcome in lives:
        where, _, what = outcome.name.partition(": ")
        place = f"{outcome.file.rpartition('/')[2]}:{outcome.line} `{where}`"
        lines.append(f"| {place} | {_code(what)} | {ACCEPTED.get((outcome.file, outcome.name), 'open')} |")
    return _HEAD + "\n".join(lines) + "\n"


def _share(lives: int, all_: int) -> str:
    return f"**{lives} of {all_} mutants ({lives / max(1, all_):.1%})**"


def _code(what: str) -> str:
    """A fault as a table's cell: `kind`: before, after."""
    kind, _, fault = what.partition(": ")
    return f"{kind}: `` {fault.replace('|', chr(92) + '|')} ``"
