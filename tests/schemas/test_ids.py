"""Event ids: UUIDv7 in order, and never the same twice."""

from __future__ import annotations

import os
import uuid

from schemas.ids import new_event_id


def test_ids_grow_and_are_version_7() -> None:
    """Their order is the order of arrival within a door."""
    ids = [new_event_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert {uuid.UUID(one).version for one in ids} == {7}


def test_a_forked_process_draws_other_ids_than_its_parent() -> None:
    """Random bytes are asked for in bulk; what is left of them must not be drawn on both sides of a fork."""
    new_event_id()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, new_event_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 36).decode()
    os.close(reader)
    os.close(writer)
    assert theirs[-16:] != new_event_id()[-16:]
