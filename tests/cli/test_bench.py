"""How benches treat the processes they measure; their figures are nobody's promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cli.bench.child import gated, running
from cli.bench.plugins import Figure
from cli.output import CommandError


def test_a_process_that_does_not_reach_its_gate_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    """A bench that only says that it failed cannot be mended."""
    with pytest.raises(CommandError, match=r"(?s)did not start.*can't open 'a'"), gated("json.tool", "a", "b", tmp_path / "work"):
        pass


def test_what_a_bench_started_is_gone_after_it(tmp_path: Path) -> None:
    """Also when it is interrupted: a forgotten process would be in the next bench's figures."""
    with pytest.raises(KeyboardInterrupt), running("http.server", "0") as process:
        raise KeyboardInterrupt
    assert not psutil.pid_exists(process.pid)


def test_a_figure_knows_on_which_side_of_its_target_is_good() -> None:
    """A batch that is six times quicker meets a target of five; a load that takes six times as long does not."""
    assert Figure(plugin="p", what="load, warm", value=19.9, unit="ms", target=20).met
    assert not Figure(plugin="p", what="load, warm", value=20, unit="ms", target=20).met
    assert Figure(plugin="p", what="batch", value=5, unit="times", target=5, better="above").met
    assert not Figure(plugin="p", what="batch", value=4.9, unit="times", target=5, better="above").met


@pytest.mark.slow
def test_the_plugins_bench_measures_what_the_roadmap_asks_for() -> None:
    """Each figure stands beside our target and the one given."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "bench", "plugins", "--tool", "servicedesk_plus", "-o", "json"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    found = {row["what"]: row for row in json.loads(done.stdout)}
    assert set(found) == {
        "validate_webhook p99",
        "extract_metadata p99",
        "get_ticket p99",
        "update_ticket p99",
        "batch of 100 updates, beside one by one",
        "load, warm",
        "load, cold",
    }
    assert found["get_ticket p99"]["value"] >= 200, "the tool takes 200 ms to answer"
    assert found["validate_webhook p99"]["given"] == 50
