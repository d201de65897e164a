"""A process to be killed: fills a store from a seeded log in uneven batches, and writes a line after each commit."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from analytics.materializer import prepare
from analytics.sqlite import SqliteStore
from tests.analytics.building import a_log


def main(path: str, seed: str, length: str) -> None:
    store = SqliteStore(Path(path))
    rng = random.Random()
    pending = {
        source: [r for r in records if r[0] >= store.assign(*source).next_offset]
        for source, records in a_log(int(seed), int(length)).items()
    }
    while sources := [source for source, records in pending.items() if records]:
        source = rng.choice(sources)
        size = rng.randrange(1, 12)
        batch, pending[source] = pending[source][:size], pending[source][size:]
        store.apply(prepare(*source, batch, batch[-1][0] + 1))
        print(source[0], batch[-1][0], flush=True)
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
