"""docs/planted-bugs.md, made from the bugs themselves."""

from __future__ import annotations

from tests.planted.bugs import BUGS

_HEAD = """# Planted bugs

Would the tests notice? Each row is a bug of a few words. `python -m tests.planted` plants it in a copy of the source tree and runs
the one test named beside it, which must fail there and pass without it; a bug that no longer fits the code is a failure too.
`python -m tests.planted NAME` tries one. This page is written by `python -m tests.planted --page`.

| bug | what is wrong | what it would cost | the test that fails |
|---|---|---|---|
"""


def page() -> str:
    """The page's text."""
    return _HEAD + "".join(f"| `{bug.name}` | {bug.what} | {bug.cost} | `{bug.test}` |\n" for bug in BUGS)
