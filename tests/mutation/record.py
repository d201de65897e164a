"""What became of each mutant, kept from run to run in .mutation.jsonl, so that a run ended early is taken up again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutation.subject import ROOT, TESTS

FILE = ROOT / ".mutation.jsonl"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`end`: killed, survived, overtime (killed too: it never ended) or untested (no test runs its line)."""

    file: str
    name: str
    line: int
    within: str
    tests: str
    end: str

    @property
    def lives(self) -> bool:
        return self.end in ("survived", "untested")


def state_of_tests() -> str:
    """Stands for all tests together: an outcome counts for them, and for the function it was found in, as they were."""
    return hashlib.sha256(b"".join((ROOT / test).read_bytes() for test in TESTS)).hexdigest()[:12]


def known(file: Path = FILE) -> dict[tuple[str, str], Outcome]:
    """The newest outcome of each mutant, by file and name."""
    if not file.exists():
        return {}
    outcomes = [Outcome(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    return {(outcome.file, outcome.name): outcome for outcome in outcomes}


def keep(outcome: Outcome, file: Path = FILE) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(outcome)) + "\n")
