"""When a failed call is tried again, and when the event is set aside instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.api import (
    CallTimedOut,
    Conflict,
    ConnectFailed,
    CredentialsRefused,
    NotFound,
    PluginConfigError,
    RateLimited,
    ServerError,
    ValidationRefused,
)
from schemas.events import FailureReason
from streams.attempts import ATTEMPT_WINDOW, MAX_ATTEMPTS, SECOND, after_failure

T0 = 1_800_000_000 * SECOND


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValidationRefused("422 for this ticket", status=422), FailureReason.TOOL_REFUSED),
        (NotFound("no such ticket", status=404), FailureReason.TOOL_REFUSED),
        (Conflict("locked", status=409), FailureReason.TOOL_REFUSED),
        (CredentialsRefused("401", status=401), FailureReason.CREDENTIALS),
        (PluginConfigError("project is missing"), FailureReason.PLUGIN_FAULT),
        (KeyError("issue"), FailureReason.PLUGIN_FAULT),
        (TimeoutError(), FailureReason.PLUGIN_FAULT),
    ],
)
def test_what_repeating_cannot_help_is_set_aside_at_once(error: Exception, reason: FailureReason) -> None:
    """A refusal is an answer; repeating it costs calls and holds the ticket."""
    decision = after_failure(error, attempt=1, first_at=T0, now=T0)
    assert decision.again_at is None
    assert decision.reason is reason


def test_a_plugin_fault_tells_its_class_and_never_its_text() -> None:
    """An unexpected exception's text may quote a body or a header."""
    decision = after_failure(KeyError("Authorization: Basic dXNlcjpwYXNz"), attempt=1, first_at=T0, now=T0)
    assert decision.detail == "the plugin raised KeyError"


def test_a_retriable_failure_is_tried_three_times() -> None:
    """The first two failures are followed by an attempt, the third by a dead letter."""
    assert after_failure(ConnectFailed("refused"), attempt=1, first_at=T0, now=T0).again_at is not None
    assert after_failure(ConnectFailed("refused"), attempt=2, first_at=T0, now=T0).again_at is not None
    last = after_failure(ConnectFailed("refused"), attempt=MAX_ATTEMPTS, first_at=T0, now=T0)
    assert (last.again_at, last.reason) == (None, FailureReason.RETRIES_EXHAUSTED)


def test_retry_after_is_kept_to() -> None:
    """The tool said when it will listen again."""
    decision = after_failure(RateLimited("429", status=429, retry_after=7.0), attempt=1, first_at=T0, now=T0 + SECOND)
    assert decision.again_at == T0 + 8 * SECOND


def test_a_retry_after_beyond_the_window_is_not_waited_for() -> None:
    """A ticket is not held for a minute because its tool asks for it."""
    decision = after_failure(RateLimited("429", status=429, retry_after=60.0), attempt=1, first_at=T0, now=T0)
    assert (decision.again_at, decision.reason) == (None, FailureReason.RETRIES_EXHAUSTED)


def test_an_attempt_in_doubt_waits_until_a_search_can_be_believed() -> None:
    """Sooner, the search would say "not there" of what is only not indexed."""
    decision = after_failure(ServerError("500", in_doubt=True), attempt=1, first_at=T0, now=T0, not_before=T0 + 6 * SECOND)
    assert decision.again_at == T0 + 6 * SECOND
    late = after_failure(CallTimedOut("15 s", in_doubt=True), attempt=1, first_at=T0, now=T0, not_before=T0 + 60 * SECOND)
    assert (late.again_at, late.reason) == (None, FailureReason.RETRIES_EXHAUSTED)


@given(
    attempt=st.integers(1, 5),
    waited=st.floats(0, 30),
    retry_after=st.none() | st.floats(0, 100),
    jitter=st.floats(0, 1),
    doubt=st.none() | st.floats(-30, 100),
)
def test_no_attempt_starts_outside_the_window_or_before_its_time(
    attempt: int, waited: float, retry_after: float | None, jitter: float, doubt: float | None
) -> None:
    """Whatever the tool says and however the dice fall."""
    now = T0 + round(waited * SECOND)
    not_before = None if doubt is None else now + round(doubt * SECOND)
    error = RateLimited("429", retry_after=retry_after)
    again_at = after_failure(error, attempt=attempt, first_at=T0, now=now, not_before=not_before, jitter=jitter).again_at
    if again_at is not None:
        assert attempt < MAX_ATTEMPTS
        assert now < again_at <= T0 + ATTEMPT_WINDOW * SECOND
        assert again_at >= now + round((retry_after or 0) * SECOND)
        assert not_before is None or again_at >= not_before
