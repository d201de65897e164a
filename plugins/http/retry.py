"""When to repeat within one call: only reads, a few times, soon. Longer waits belong to the stream's own retries. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from plugins.api import RetriableApiError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySchedule:
    """Up to `attempts` tries, `first_delay` doubling up to `longest` seconds between them, spread by half against herds."""

    attempts: int = 3
    first_delay: float = 0.1
    longest: float = 2.0

    def delay(self, attempt: int, error: RetriableApiError, spread: float) -> float | None:
        """Seconds before the next try after this one (1, 2, …) failed; None to give up. `spread` is random in [0, 1).

        A tool that asks for a longer wait than `longest` is not asked again within the call.
        """
        if attempt >= self.attempts:
            return None
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest else None
        return min(self.first_delay * 2.0 ** (attempt - 1), self.longest) * (0.5 + spread / 2)


NEVER = RetrySchedule(attempts=1)
