"""Python's cyclic garbage collector, told what a stage's memory is like."""

from __future__ import annotations

import gc

THRESHOLDS = (50_000, 20, 20)


def spare_the_collector() -> None:
    """Looks for cycles seldom, and never among what was there at the start.

    A batch is thousands of small objects that die by themselves; looking for cycles after every 700 cost route 4 us an event and
    materialize 1 us a fact.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
