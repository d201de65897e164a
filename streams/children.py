"""The supervisor's child table: which process is in which state, how often it was restarted, and when it may start again; pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from streams.runtime import ProcessInfo

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 15.0
STEADY_S = 30.0
"""A child that ran this long starts anew with the first delay: its end was not the start's fault."""
NEVER_READY_LIMIT = 5
"""So many ends in a row without having been ready once: it will not, and the person at the terminal should know."""
FINAL_CODES = {2: "usage", 5: "incompatible", 6: "in use"}
"""Exit codes of ours that say that another try is of no use."""


@dataclass(slots=True)
class ChildRow:
    """One child. Times are seconds of a monotonic clock, passed in."""

    name: str
    state: str = "starting"
    pid: int | None = None
    restarts: int = 0
    was_ready: bool = False
    failures: int = 0
    started_at: float = 0.0

    def started(self, pid: int | None, now: float) -> None:
        """The process was started."""
        self.state, self.pid, self.started_at = "starting", pid, now

    def ready(self) -> None:
        """It does its work."""
        self.state, self.was_ready = "running", True

    def ended(self, now: float) -> float:
        """It ended without being asked to; answers after how many seconds it may start again."""
        self.failures = 1 if now - self.started_at >= STEADY_S else self.failures + 1
        self.restarts += 1
        self.state, self.pid = "backoff", None
        return delay_after(self.failures)

    def is_hopeless(self, code: int | None) -> bool:
        """Whether starting it again is of no use. A child that worked once is always worth another try."""
        return not self.was_ready and (code is None or code in FINAL_CODES or self.failures >= NEVER_READY_LIMIT)

    def stopped(self) -> None:
        """It ended because it was asked to, or was given up."""
        self.state, self.pid = "stopped", None

    def info(self) -> ProcessInfo:
        """The row as runtime.json shows it."""
        return ProcessInfo(self.name, self.pid, self.state, self.restarts)


def delay_after(failures: int) -> float:
    """Seconds to wait after so many ends in a row: at once-ish, then twice as long each time, up to a bound."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(failures - 1, 16)))


def ending(code: int | None) -> str:
    """How a process ended, in words; a negative code is the signal that killed it."""
    if code is None:
        return "could not be started"
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
