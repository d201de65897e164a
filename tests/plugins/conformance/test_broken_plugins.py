"""The kit is itself proven: each of the broken plugins fails the checks that name its fault and no other, and the sound one none."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from plugins.conformance.check import all_checks
from plugins.conformance.run import run
from plugins.conformance.stand import sandbox_of
from plugins.conformance.subject import Subject
from plugins.sandbox.server import SandboxProcess

SOUND = Subject.at(Path(__file__).parents[3] / "plugins" / "conformance" / "template")
FAULTS = sorted(path.stem for path in (Path(__file__).parent / "broken").glob("*.py") if path.stem != "__init__")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    """One for all: what is broken is on our side."""
    with sandbox_of(SOUND) as sandbox:
        yield sandbox


def failed(subject: Subject, sandbox: SandboxProcess, *, without: str = "") -> dict[str, str]:
    checks = [check for check in all_checks() if check.name != without]
    return {outcome.check: outcome.detail for outcome in run(subject, checks, sandbox=sandbox) if outcome.result == "failed"}


def test_the_sound_plugin_passes_everything(sandbox: SandboxProcess) -> None:
    """It is what `ai-agents plugin new` writes."""
    assert failed(SOUND, sandbox) == {}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_each_broken_plugin_fails_the_checks_that_name_its_fault(sandbox: SandboxProcess, fault: str) -> None:
    """A check that never fails proves nothing, and one that fails with every other tells nobody what to mend."""
    module = f"tests.plugins.conformance.broken.{fault}"
    manifest = msgspec.structs.replace(SOUND.manifest, entry=f"{module}:Broken")
    subject = Subject(manifest, SOUND.folder, Path(__file__).parents[3])
    found = failed(subject, sandbox, without="webhooks.sandbox_survives")  # kills the sandbox, which is the sound one's own
    assert found.keys() == importlib.import_module(module).FAILS, found


def test_there_are_enough_of_them() -> None:
    assert len(FAULTS) >= 15
