"""Ctrl-C at the command line: quiet, and always the same exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

INTERRUPTED = """
import sys, click
from cli.output import run

@click.command()
def command():
    exec("raise KeyboardInterrupt")

sys.exit(run(command))
"""


def test_an_interrupt_inside_generated_code_ends_as_any_other(tmp_path: Path) -> None:
    """Dataclasses are made from text: `python -m` ended by the signal, after its last word, when Ctrl-C met an import there."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    command = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted")
