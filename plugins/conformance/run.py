"""Runs the checks against a plugin and keeps what came of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from plugins.api import PluginConfigError
from plugins.conformance.check import Check, CheckFailed, NotApplicable, all_checks
from plugins.conformance.stand import Stand, require_settings, sandbox_of
from plugins.conformance.subject import Subject
from plugins.sandbox.process import SandboxFailed, SandboxProcess

CHECK_SECONDS = 30.0

Result = Literal["passed", "failed", "not applicable"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one check. `detail` says what was seen, or why the promise is not asked of this plugin."""

    check: str
    result: Result
    detail: str = ""
    seconds: float = 0.0
    why: str = ""
    docs: str = ""

    @property
    def family(self) -> str:
        return self.check.partition(".")[0]


async def outcome_of(check: Check, subject: Subject, sandbox: SandboxProcess) -> Outcome:
    """One check on a stand of its own; raises nothing."""
    result: Result = "passed"
    began, detail = time.perf_counter(), ""
    try:
        async with asyncio.timeout(CHECK_SECONDS), Stand(subject, sandbox) as stand:
            await check.run(stand)
    except NotApplicable as exc:
        result, detail = "not applicable", str(exc)
    except CheckFailed as exc:
        result, detail = "failed", str(exc)
    except TimeoutError:
        result, detail = "failed", f"not done within {CHECK_SECONDS:g} s, or a webhook that was due did not come"
    except Exception as exc:  # noqa: BLE001 - whatever a plugin raises where nothing may be raised is what was to be found out
        result, detail = "failed", f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}"
    return Outcome(
        check=check.name,
        result=result,
        detail=detail,
        seconds=round(time.perf_counter() - began, 3),
        why=check.why,
        docs=check.docs,
    )


def chosen(only: Iterable[str] = ()) -> tuple[Check, ...]:
    """The checks of these families, or of these names; all when none is given. Raises PluginConfigError for a word that is neither."""
    wanted = list(only)
    if not wanted:
        return all_checks()
    for word in wanted:
        if not any(word in (check.name, check.family) for check in all_checks()):
            raise PluginConfigError(f"{word!r} is no family of checks and no check")
    return tuple(check for check in all_checks() if check.name in wanted or check.family in wanted)


def run(
    subject: Subject,
    checks: Iterable[Check] | None = None,
    *,
    sandbox: SandboxProcess | None = None,
    told: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Runs checks one after the other, each told as it is done. `sandbox` is one that runs already.

    Raises PluginConfigError where there is nothing to run against: no sandbox, one that does not start, or a required setting nobody tells.
    """

    async def each(sandbox: SandboxProcess) -> list[Outcome]:
        require_settings(subject, sandbox)
        outcomes = []
        for check in checks if checks is not None else all_checks():
            outcomes.append(await outcome_of(check, subject, sandbox))
            told(outcomes[-1])
        return outcomes

    if sandbox is not None:
        return asyncio.run(each(sandbox))
    own = sandbox_of(subject)
    try:
        with own:
            return asyncio.run(each(own))
    except SandboxFailed as exc:
        raise PluginConfigError(str(exc)) from exc
