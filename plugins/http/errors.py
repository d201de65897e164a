"""From an answer to the error a caller can act on: the table of statuses, as data, and Retry-After. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from plugins.api import (
    ApiError,
    CallTimedOut,
    Conflict,
    CredentialsRefused,
    FatalApiError,
    NotFound,
    RateLimited,
    RetriableApiError,
    ServerError,
    ValidationRefused,
)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Requests without an effect: never in doubt, and repeated freely."""

ERROR_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: ValidationRefused,
    401: CredentialsRefused,
    403: CredentialsRefused,
    404: NotFound,
    408: CallTimedOut,
    409: Conflict,
    410: NotFound,
    412: Conflict,
    413: ValidationRefused,
    415: ValidationRefused,
    422: ValidationRefused,
    423: Conflict,
    425: RetriableApiError,
    429: RateLimited,
}
NOTHING_DONE = frozenset({425, 429, 503})
"""Retriable answers that say the request was turned away before it was worked on."""
REMEDIES: Mapping[type[ApiError], str] = {
    CredentialsRefused: "renew the tool's credentials, and check that its account may do this",
    NotFound: "the ticket is gone, or hidden from our account",
    ValidationRefused: "the tool refuses these values",
    RateLimited: "the tool's rate limit is used up",
}
MAX_RETRY_AFTER = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the tool answered: header names in lower case, the body whole and decompressed."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_json(self) -> bool:
        return "json" in self.headers.get("content-type", "")

    def json(self) -> Any:
        """The decoded body; None when it is empty, or no JSON (a gateway's HTML page)."""
        if not self.body:
            return None
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None


def error_for(answer: Answer, detail: str = "", kind: type[ApiError] | None = None, *, nothing_done: bool = False) -> ApiError | None:
    """Names what went wrong by what the caller should do about it; None for a success.

    `detail` is the tool's own code for the fault (never its whole text, which may quote the ticket); `kind` overrides the table,
    also for a tool that reports failures under status 200;
    `nothing_done` says that this retriable refusal came before any effect.
    """
    if kind is None:
        if 200 <= answer.status < 300:
            return None
        kind = ERROR_BY_STATUS.get(answer.status, ServerError if answer.status >= 500 else FatalApiError)
    doubtful = not nothing_done and issubclass(kind, RetriableApiError) and kind is not RateLimited and answer.status not in NOTHING_DONE
    remedy = f"; {REMEDIES[kind]}" if kind in REMEDIES else ""
    return kind(
        f"{answer.method} {answer.path} answered {answer.status}{f' ({detail[:200]})' if detail else ''}{remedy}",
        status=answer.status,
        in_doubt=doubtful and answer.method not in SAFE_METHODS,
        retry_after=retry_after(answer.headers.get("retry-after")) if issubclass(kind, RetriableApiError) else None,
    )


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds to wait by a Retry-After header: seconds or an HTTP date; between 0 and an hour; None when it says nothing."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if seconds == seconds else None
