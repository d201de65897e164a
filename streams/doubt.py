"""What may have been done although nothing says so: the doubts a process worker has about one partition. Pure.

An effect is in doubt when a call for it may have reached the tool and its answer, or our record of it, was lost. A search by our
id settles it, once the tool's `search_lag` has passed since the last moment at which the doubtful call could have been under way.
"""

from __future__ import annotations

from collections import OrderedDict

WINDOW = 1000
"""How far past its partition's committed offset a worker may begin an event: whoever takes over doubts that many."""
MAX_LINK_DOUBTS = 50_000


class PartitionDoubts:
    """The doubts about one partition since its assignment. All times in epoch microseconds.

    `committed` is the routed offset the assignment starts from, `end` the routed log's end then: the worker before us can have
    begun only what lies below both `committed + window` and `end`.
    """

    def __init__(self, *, assigned_at: int, committed: int, end: int, window: int = WINDOW) -> None:
        self.assigned_at = assigned_at
        self.doubtful_below = min(committed + window, end)
        self._links: OrderedDict[tuple[str, str], int] = OrderedDict()

    def of_event(self, routed_offset: int, possible_repeat: bool) -> int | None:
        """Since when the event itself may have been begun by a worker before us; None when it cannot have been."""
        return self.assigned_at if possible_repeat or routed_offset < self.doubtful_below else None

    def of_link(self, source_key: str, target: str) -> int | None:
        """When an earlier event's call for this link ended in doubt, unless that was settled since; None otherwise."""
        return self._links.get((source_key, target))

    def raise_link(self, source_key: str, target: str, since: int) -> None:
        """An event was given up while in doubt: its write may still land, or have landed unseen."""
        link = (source_key, target)
        self._links[link] = max(since, self._links.get(link, since))
        self._links.move_to_end(link)
        if len(self._links) > MAX_LINK_DOUBTS:
            self._links.popitem(last=False)

    def settle_link(self, source_key: str, target: str) -> None:
        """The link's state is known again."""
        self._links.pop((source_key, target), None)
