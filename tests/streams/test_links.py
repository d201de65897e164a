"""The table of links: what is known about a mirror, whichever way its records arrive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import LinkSet
from streams.links import LinkTable


def a_link(offset: int, source: str = "acme/desk/7", target: str = "OPS-1", tool: str = "jira", partition: int = 3) -> LinkSet:
    return LinkSet(
        tenant="acme",
        source_key=source,
        target_tool=tool,
        target_ticket_id=target,
        external_id="aia-x",
        event_id=f"e{offset}",
        applied_partition=partition,
        applied_offset=offset,
        set_at=offset,
    )


def test_a_link_is_found_from_both_ends() -> None:
    table = LinkTable()
    table.apply(a_link(1))
    table.apply(a_link(2, source="acme/desk/8", target="OPS-2"))
    assert table.by_source("acme/desk/7", "jira") == a_link(1)
    assert table.by_target("acme", "jira", "OPS-2") == a_link(2, source="acme/desk/8", target="OPS-2")
    assert table.by_source("acme/desk/7", "snow") is None
    assert table.by_target("globex", "jira", "OPS-1") is None
    assert len(table) == 2


@given(st.lists(st.integers(0, 20), min_size=1))
def test_a_late_record_never_takes_a_link_back(offsets: list[int]) -> None:
    """`mirror` compares with the last applied offset; going back would apply an old event over a new one."""
    table = LinkTable()
    for offset in offsets:
        table.apply(a_link(offset))
    link = table.by_source("acme/desk/7", "jira")
    assert link is not None
    assert link.applied_offset == max(offsets)


def test_a_link_that_moved_is_no_longer_found_at_its_old_target() -> None:
    """A mirror somebody deleted is made anew; the old ticket's deliveries are not echoes of ours."""
    table = LinkTable()
    table.apply(a_link(1, target="OPS-1"))
    table.apply(a_link(2, target="OPS-9"))
    assert table.by_target("acme", "jira", "OPS-1") is None
    assert table.by_target("acme", "jira", "OPS-9") == a_link(2, target="OPS-9")
