"""Calls a loop a batch: a hundred tickets take a hundred round trips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plugins.api import BatchResult, TicketChanges, TicketingToolPlugin
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"batch.quicker_than_one_by_one"}


class Broken(ExampleDeskPlugin):
    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        return await TicketingToolPlugin.batch_update_tickets(self, changes)
