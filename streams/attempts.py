"""What follows a failed attempt: again, and when, or a dead letter. Pure; the clock and the dice are passed in."""

from __future__ import annotations

from dataclasses import dataclass

from plugins.api import ApiError, CredentialsRefused, RetriableApiError
from schemas.events import FailureReason

MAX_ATTEMPTS = 3
ATTEMPT_WINDOW = 10.0
"""Seconds after the first attempt within which the last one has to start: a ticket is not held for longer."""
FIRST_BACKOFF = 0.5
SECOND = 1_000_000


class CallFailed(Exception):
    """Carries what a plugin's method raised, told apart from faults of ours."""

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.error = error


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """`again_at` in epoch microseconds, or None: the event is set aside for `reason`. Leaving for a delay topic would be a third answer."""

    again_at: int | None
    reason: FailureReason = FailureReason.UNKNOWN
    detail: str = ""


def after_failure(
    error: Exception, *, attempt: int, first_at: int, now: int, not_before: int | None = None, jitter: float = 1.0
) -> RetryDecision:
    """What to do after attempt number `attempt` (from 1) met `error`.

    `first_at` is when the first attempt started. `not_before` is when a search can be believed, if the attempt ended in doubt.
    `jitter` in [0, 1] stretches the backoff to between half and the whole of its step. Retry-After is kept to, never shortened.
    """
    said = f"{type(error).__name__}: {error}"
    if not isinstance(error, ApiError):  # a fault of the plugin; its text may hold anything, so only its class is told
        return RetryDecision(None, FailureReason.PLUGIN_FAULT, f"the plugin raised {type(error).__name__}")
    if isinstance(error, CredentialsRefused):
        return RetryDecision(None, FailureReason.CREDENTIALS, said)
    if not isinstance(error, RetriableApiError):
        return RetryDecision(None, FailureReason.TOOL_REFUSED, said)
    if attempt >= MAX_ATTEMPTS:
        return RetryDecision(None, FailureReason.RETRIES_EXHAUSTED, f"{attempt} attempts, the last: {said}")
    backoff = FIRST_BACKOFF * 2 ** (attempt - 1) * (0.5 + jitter / 2)
    again_at = now + round(max(backoff, error.retry_after or 0.0) * SECOND)
    again_at = max(again_at, not_before or 0)
    if again_at > first_at + ATTEMPT_WINDOW * SECOND:
        later = f"the next attempt would start more than {ATTEMPT_WINDOW:.0f} s after the first"
        return RetryDecision(None, FailureReason.RETRIES_EXHAUSTED, f"{later}: {said}")
    return RetryDecision(again_at)
