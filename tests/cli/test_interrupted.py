"""Ctrl-C at the command line: quiet, and always the same exit code."""

from __future__ import annotations

import subprocess
import sys

INTERRUPTED = """
import sys, click
from cli.output import run

@click.command()
def command():
    exec("raise KeyboardInterrupt")

sys.exit(run(command))
"""


def test_an_interrupt_inside_generated_code_ends_as_any_other() -> None:
    """Dataclasses are made from text: an import that Ctrl-C meets there would end the process by the signal, after its last word."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted")
