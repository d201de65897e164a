"""`python -m tests.mutation` tries every mutant not tried yet and says what survived; `--page` prints docs/mutation.md.

Options: `--seconds N` ends after that long, and the next run goes on; `--sample N` with `--seed N` tries some; `--survivors` tries
again what lived in an earlier run, after tests were added; `--fresh` forgets earlier runs; `--workers N` (1).
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from dataclasses import replace

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.page import page
from tests.mutation.record import FILE, Outcome, keep, known, state_of_tests
from tests.mutation.runner import Sound, Unsound, end, ended, load, measured, start
from tests.mutation.subject import MODULES, ROOT

MOST = 0.20
"""The share of mutants that may survive: more is a failure."""


def main(arguments: list[str]) -> int:
    """The exit code: 0, or 1 when too many survived or the tests fail without a mutant."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--survivors", action="store_true")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args(arguments)
    if chosen.page:
        print(page(_current(chosen.survivors)), end="")
        return 0
    if chosen.fresh:
        FILE.unlink(missing_ok=True)
    os.nice(5)
    try:
        sound = measured()
    except Unsound as exc:
        print(exc, file=sys.stderr)
        return 1
    load(sound.libraries)
    everything = _all()
    before = {(outcome.file, outcome.name): outcome for outcome in _current(chosen.survivors)}
    left = [m for m in everything if (found := before.get((m.file, m.name))) is None or (chosen.survivors and found.lives)]
    if chosen.sample is not None:
        left = random.Random(chosen.seed).sample(left, min(chosen.sample, len(left)))
    print(f"{len(everything)} mutants, {len(left)} to try; the tests take {sound.whole:.0f} s without any", file=sys.stderr)
    try:
        not_tried = _try(left, sound, chosen.workers, chosen.seconds)
    except Unsound as exc:
        print(exc, file=sys.stderr)
        return 1
    outcomes = _current(chosen.survivors)
    lives = [outcome for outcome in outcomes if outcome.lives]
    for outcome in lives:
        print(f"{outcome.end}  {outcome.file}:{outcome.line}  {outcome.name}")
    print(f"{len(lives)} of {len(outcomes)} mutants survived ({len(lives) / max(1, len(outcomes)):.1%}); {not_tried} of this run not tried")
    return 1 if len(lives) > MOST * len(outcomes) else 0


def _all() -> list[Mutant]:
    return [mutant for module in MODULES for mutant in mutants(module, (ROOT / module).read_text(encoding="utf-8"))]


def _current(older_tests: bool) -> list[Outcome]:
    """What is known of the code as it is: tried with the tests as they are, or with `older_tests` with any."""
    tests, found = state_of_tests(), known()
    outcomes = [(m, found[m.file, m.name]) for m in _all() if (m.file, m.name) in found]
    return [replace(o, line=m.line) for m, o in outcomes if o.within == m.within and (older_tests or o.tests == tests)]


def _try(left: list[Mutant], sound: Sound, workers: int, seconds: float) -> int:
    """Tries them in turn, several at a time; answers how many the time was too short for."""
    tests = state_of_tests()
    limit, begun, tried = 20.0 + 5 * sound.whole, time.monotonic(), 0
    running: dict[int, tuple[Mutant, float]] = {}
    waiting = left[::-1]
    while running or waiting:
        if time.monotonic() - begun > seconds:
            waiting = []
        while waiting and len(running) < workers:
            mutant = waiting.pop()
            if noticing := sound.tests(mutant):
                running[start(mutant, noticing)] = (mutant, time.monotonic())
            else:
                tried += 1
                keep(Outcome(mutant.file, mutant.name, mutant.line, mutant.within, tests, "untested"))
        time.sleep(0.01)
        for pid, (mutant, since) in list(running.items()):
            if (code := ended(pid)) is None and time.monotonic() - since < limit:
                continue
            if code is None:
                end(pid)
            del running[pid]
            tried += 1
            word = _word(code)
            keep(Outcome(mutant.file, mutant.name, mutant.line, mutant.within, tests, word))
            if word != "killed" or tried % 50 == 0:
                print(f"{tried}/{len(left)}  {word}  {mutant.file}:{mutant.line}  {mutant.name}", file=sys.stderr, flush=True)
    return len(left) - tried


def _word(code: int | None) -> str:
    """What an exit code says; 1: a test failed, 2: a test file could not be imported, below 0: the process was ended by its fault."""
    if code is None:
        return "overtime"
    if code > 2:
        raise Unsound(f"a mutant's tests could not be run: they ended with {code}")
    return "killed" if code else "survived"


sys.exit(main(sys.argv[1:]))
