"""`python -m tests.chaos --seed N --seconds S`: the loss test for anyone; exit 1 when anything is wrong."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.check import Verdict, check
from tests.chaos.evidence import gather_evidence, settle
from tests.chaos.faults import LONG_S, Faults
from tests.chaos.tenant import DRAWN, TOOL_TYPES, drawn
from tests.chaos.world import World

SETTLE_S = 240.0
RATE = 12.0
PHASES = ("start", "faults", "settle", "compare")


async def run(folder: Path, seed: int, seconds: float, rate: float = RATE, tools: int = DRAWN) -> tuple[Verdict, Faults]:
    """One run: load and faults together for so long, then peace, then the comparison."""
    world = World(folder, seed, tools)
    moments = [time.monotonic()]
    try:
        await world.start()
        moments.append(time.monotonic())
        faults = Faults(world, seed)
        await asyncio.gather(world.load(seconds, rate), faults.run(seconds))
        for sandbox in world.sandboxes.values():
            sandbox.clear_faults()
        moments.append(time.monotonic())
        await settle(world, SETTLE_S)
        moments.append(time.monotonic())
        verdict = check(await gather_evidence(world))
        moments.append(time.monotonic())
        took = ", ".join(f"{what} {b - a:.0f} s" for what, a, b in zip(PHASES, moments, moments[1:], strict=False))
        faults.log.append(f"took: {took}")
        for name, lives in faults.killed.items():
            if (restarts := world.restarts()[name]) < lives:
                verdict.wrong.append(f"supervisor: {name} was killed {lives} times and started again {restarts} times")
        faults.log.append("started again: " + ", ".join(f"{name} {n}" for name, n in world.restarts().items()))
        return verdict, faults
    finally:
        await world.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill, pause and break everything under load; then count.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=RATE, help="acts of people a second")
    parser.add_argument("--tools", type=int, help=f"how many of the nine; {DRAWN} in a short run, else all")
    parser.add_argument("--folder", type=Path, help="keeps logs and data there")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    tools = options.tools or (len(TOOL_TYPES) if options.seconds >= LONG_S else DRAWN)
    what = f"{', '.join(drawn(options.seed, tools))}: {options.seconds:.0f} s of faults at {options.rate:.0f} acts/s"
    print(f"seed {options.seed}, {what}; logs in {folder}", flush=True)
    logging.getLogger("aiokafka").setLevel("CRITICAL")  # the broker is killed on purpose; its clients need not say so
    verdict, faults = asyncio.run(run(folder, options.seed, options.seconds, options.rate, tools))
    print("\n".join(faults.log))
    print(verdict.as_json())
    print("wrong" if verdict.wrong else "0 lost, 0 double effects, 0 double counts, order kept")
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
