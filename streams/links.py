"""The links between source tickets and their mirrors, in memory, as links.v1 tells them: which ticket, and what we wrote there last."""

from __future__ import annotations

from schemas.events import LinkSet


class LinkTable:
    """Links by source and by target. `apply` is idempotent, and of two records for one link keeps the one that applied the later
    received record, so a re-read or a late record never takes a link back. Holds one LinkSet for each link ever made.
    """

    def __init__(self) -> None:
        self._by_source: dict[tuple[str, str], LinkSet] = {}
        self._by_target: dict[tuple[str, str, str], LinkSet] = {}

    def __len__(self) -> int:
        return len(self._by_source)

    def apply(self, link: LinkSet) -> None:
        """Takes a record of links.v1 in."""
        source = (link.source_key, link.target_tool)
        known = self._by_source.get(source)
        if known is not None:
            if (link.applied_partition, link.applied_offset) < (known.applied_partition, known.applied_offset):
                return
            if known.target_ticket_id != link.target_ticket_id:
                self._by_target.pop((known.tenant, known.target_tool, known.target_ticket_id), None)
        self._by_source[source] = link
        self._by_target[link.tenant, link.target_tool, link.target_ticket_id] = link

    def by_source(self, source_key: str, target_tool: str) -> LinkSet | None:
        """The mirror of a source ticket (`tenant/tool/ticket_id`) in a tool."""
        return self._by_source.get((source_key, target_tool))

    def by_target(self, tenant: str, tool: str, ticket_id: str) -> LinkSet | None:
        """The link whose mirror is this ticket."""
        return self._by_target.get((tenant, tool, ticket_id))
