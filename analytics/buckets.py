"""Integer log-linear buckets for latencies: percentiles that merge by adding counts, in any database, without floats.

Values below 64 have a bucket of their own; above, each octave is cut into 32, so an answer given as a bucket's middle is off by
at most 1/64 (1.56 %).
"""

from __future__ import annotations

from collections.abc import Mapping

LINEAR = 64
"""Values below this are exact."""


def bucket_of(value: int) -> int:
    """The bucket of a value in any unit; negative values count as 0. Grows with the value."""
    if value < LINEAR:
        return value if value > 0 else 0
    shift = value.bit_length() - 6
    return (shift << 5) + (value >> shift)


def lower_edge(bucket: int) -> int:
    """The smallest value that falls into the bucket."""
    return bucket if bucket < LINEAR else ((bucket & 31) + 32) << ((bucket >> 5) - 1)


def middle(bucket: int) -> int:
    """The value a bucket answers with."""
    return bucket if bucket < LINEAR else lower_edge(bucket) + (1 << ((bucket >> 5) - 1)) // 2


def percentile(counts: Mapping[int, int], percent: int) -> int | None:
    """The nearest-rank percentile (1 to 100) of bucket counts; None when nothing was counted."""
    rank = -(-sum(counts.values()) * percent // 100)
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if counts[bucket] and seen >= rank:
            return middle(bucket)
    return None
