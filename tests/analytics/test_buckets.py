"""Buckets: percentiles that merge, within their bound."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from analytics.buckets import bucket_of, lower_edge, middle, percentile

values = st.integers(min_value=0, max_value=1 << 40)


@given(values)
def test_a_bucket_answers_within_its_bound(value: int) -> None:
    """1/64 of the value: what a reader of p99 may rely on."""
    assert abs(middle(bucket_of(value)) - value) * 64 <= value


@given(values, values)
def test_buckets_keep_the_order(one: int, other: int) -> None:
    """A percentile walks the buckets in order, so a larger value may not be in a smaller bucket."""
    assert (bucket_of(one) <= bucket_of(other)) or one > other


@given(values)
def test_a_value_is_in_its_bucket(value: int) -> None:
    """Between its bucket's edge and the next one's."""
    bucket = bucket_of(value)
    assert lower_edge(bucket) <= value < lower_edge(bucket + 1)


@given(st.lists(values, min_size=1, max_size=200), st.sampled_from([50, 95, 99, 100]))
def test_percentiles_are_those_of_the_sorted_values(latencies: list[int], percent: int) -> None:
    """Against the definition by rank, within the bucket's bound."""
    exact = sorted(latencies)[-(-len(latencies) * percent // 100) - 1]
    answer = percentile(Counter(map(bucket_of, latencies)), percent)
    assert answer is not None
    assert abs(answer - exact) * 64 <= exact


def test_nothing_counted_has_no_percentile() -> None:
    """Zero would be a lie."""
    assert percentile({}, 50) is None
    assert percentile({3: 0}, 99) is None


def test_a_negative_latency_counts_as_zero() -> None:
    """A clock that stepped back must not make a bucket of its own below zero."""
    assert bucket_of(-5) == 0
