"""Event ids: UUIDv7, in order, never the same twice."""

from __future__ import annotations

import uuid

from schemas.ids import new_event_id


def test_ids_grow_and_are_version_7() -> None:
    """Their order is the order of arrival within a door."""
    ids = [new_event_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert {uuid.UUID(one).version for one in ids} == {7}
