"""How benches treat the processes they measure; their figures are nobody's promise."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from cli.bench.child import gated, running
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
