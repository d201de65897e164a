"""Updates a batch one after the other and stops at the first that fails: one missing ticket, and the others stay as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plugins.api import BatchResult, TicketChanges
from plugins.conformance.template.plugin import ExampleDeskPlugin

FAILS = {"batch.one_bad_item"}


class Broken(ExampleDeskPlugin):
    async def batch_update_tickets(self, changes: Mapping[str, TicketChanges]) -> Sequence[BatchResult]:
        results = await super().batch_update_tickets(changes)
        for result in results:
            if result.error is not None:
                raise result.error
        return results
