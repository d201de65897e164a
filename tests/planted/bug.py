"""What a planted bug is: a change of a few words, what it would cost, and the test that must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """`changes` are (text as it is, text instead) in `file`; each text must stand there exactly once.

    `test` is a pytest node id that must fail with the bug and pass without it. `cost`: what a user would lose, in one sentence.
    """

    name: str
    what: str
    cost: str
    file: str
    changes: tuple[tuple[str, str], ...]
    test: str


class Unplantable(Exception):
    """The code has moved on: the bug's old text is not there exactly once."""


def planted(bug: Bug, text: str) -> str:
    """The file's text with the bug in it. Raises Unplantable."""
    for old, new in bug.changes:
        if (found := text.count(old)) != 1:
            raise Unplantable(f"{bug.name}: its old text stands {found} times in {bug.file}: {old.strip().splitlines()[0]}")
        text = text.replace(old, new)
    return text
