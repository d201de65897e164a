"""When a tool takes calls again, learnt from its own answers. Pure state: the times are passed in."""

from __future__ import annotations

from collections.abc import Mapping

from plugins.http.errors import Answer, retry_after
from plugins.mapping import to_micros

REMAINING = ("ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining", "rate-limit-remaining")
RESET = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset", "rate-limit-reset")
LONGEST = 300.0
"""A tool that names a later time is asked again after this: headers are sometimes wrong, and a stop must end."""


class RateLimitState:
    """Shared by all calls of one connection to a tool: one refusal spares the others theirs."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = 0.0

    def learn(self, answer: Answer, now: float, wall: float) -> None:
        """Takes in an answer's headers. `now` is monotonic, `wall` epoch seconds."""
        headers = answer.headers
        if answer.status == 429:
            wait = retry_after(headers.get("retry-after"), wall)
            if wait is None:  # some tools tell the end of their window instead
                wait = _reset_in(headers, wall)
        elif any(headers.get(name, "").strip() == "0" for name in REMAINING):
            wait = _reset_in(headers, wall)
        else:
            return
        if wait:
            self._until = max(self._until, now + min(wait, LONGEST))

    def wait(self, now: float) -> float:
        """Seconds until the next call may go out; 0 when it may now."""
        return max(0.0, self._until - now)


def _reset_in(headers: Mapping[str, str], wall: float) -> float | None:
    return next((seconds for name in RESET if (seconds := _seconds_until(headers.get(name), wall)) is not None), None)


def _seconds_until(value: str | None, wall: float) -> float | None:
    """A reset header: seconds from now, an epoch time or a date."""
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        moment = to_micros(value)
        return None if moment is None else max(0.0, moment / 1e6 - wall)
    if number != number or number < 0:
        return None
    return number if number < 1e8 else max(0.0, (number if number < 1e11 else number / 1e3) - wall)
