"""Nothing is lost, doubled or out of order, whatever dies: five fixed seeds; `make chaos SEED=n` runs any other, for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import run

SEEDS = (1, 2, 3, 4, 5)


@pytest.mark.chaos
@pytest.mark.broker
@pytest.mark.timeout(420)
@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_lost_doubled_or_out_of_order(tmp_path: Path, seed: int) -> None:
    """SIGKILL of every process, a paused and a killed broker, a hung tool, workers that come and go, redeliveries all the while."""
    print(f"seed {seed}")
    verdict, done = await run(tmp_path, seed, seconds=30)
    assert not verdict.wrong, "\n".join([f"seed {seed}", *done, *verdict.wrong[:40]])
    assert verdict.accepted > 200
    assert verdict.processed > 200
