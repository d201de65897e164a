"""Many updates through the Batch API: planned from one look at the records, sent in a few requests, each judged by its own answer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, islice
from typing import Protocol

from plugins.api import ApiError, BatchResult, CallTimedOut, TicketChanges, TicketRef
from plugins.http.errors import Answer
from plugins.mapping import to_micros
from plugins.servicenow.api_client import ServiceNowClient, result_of, servicenow_error
from plugins.servicenow.columns import Columns
from plugins.servicenow.locating import Locator, missing
from plugins.servicenow.payload import text_of
from plugins.servicenow.writing import Located, ServiceNowWriter, Writes, check_kept, columns_sent

REQUESTS = 40
"""In one batch: the instance has 30 s for all of them, and leaves out what does not fit."""
ROUNDS = 4
AT_A_TIME = 8
"""Updates at once where the instance has no Batch API for us."""


class UpdatesOne(Protocol):
    async def update_ticket(self, ticket_id: str, changes: TicketChanges) -> TicketRef: ...


class BatchUpdate:
    """One run of batch_update_tickets."""

    def __init__(self, plugin: UpdatesOne, locator: Locator, api: ServiceNowClient, writer: ServiceNowWriter, columns: Columns) -> None:
        self.plugin, self.locator, self.api, self.writer, self.columns = plugin, locator, api, writer, columns
        self.results: dict[str, BatchResult] = {}

    async def run(self, changes: Mapping[str, TicketChanges]) -> list[BatchResult]:
        """Each change once, with its own result.

        What a batch leaves unserviced may have been written before the cut: those records are looked at again, and only what their
        event column does not name is sent again.
        """
        waiting = dict(changes)
        for round_ in range(ROUNDS):
            if not waiting:
                break
            try:
                located = await self.locator.every(list(waiting))
            except ApiError as exc:
                self._failed(waiting, exc)
                break
            plans = await self._plans(waiting, located, again=round_ > 0)
            tickets = iter(plans)
            while chunk := list(islice(tickets, REQUESTS)):
                await self._send({ticket_id: (located[ticket_id], plans[ticket_id]) for ticket_id in chunk}, changes)
            waiting = {ticket_id: change for ticket_id, change in waiting.items() if ticket_id not in self.results}
        else:
            late = f"left out of {ROUNDS} batches: the instance has no time"
            self._failed(waiting, CallTimedOut(late, in_doubt=True))
        return [self.results[ticket_id] for ticket_id in changes]

    async def _plans(self, waiting: Mapping[str, TicketChanges], located: Mapping[str, Located], *, again: bool) -> dict[str, Writes]:
        """The writes of each ticket; a ticket that is missing, done, or cannot take its change has its result instead."""
        plans: dict[str, Writes] = {}
        for ticket_id, change in waiting.items():
            at = located.get(ticket_id)
            if at is None:
                self.results[ticket_id] = BatchResult(ticket_id, error=missing(ticket_id))
            elif again and change.event_id in at.events.split():
                self.results[ticket_id] = BatchResult(ticket_id, ticket=TicketRef(ticket_id=at.sys_id))
            else:
                try:
                    plans[ticket_id] = self.writer.update(at, change, await self.columns.resolve(at.table, change.custom_fields))
                except ApiError as exc:
                    self.results[ticket_id] = BatchResult(ticket_id, error=exc)
        return plans

    async def _send(self, plans: Mapping[str, tuple[Located, Writes]], changes: Mapping[str, TicketChanges]) -> None:
        """A chunk's first writes in one batch, then the second ones of those that need them: a move after a refused one is not sent."""
        going = dict(plans)
        for step in count():
            if not going:
                return
            requests = {
                ticket_id: self.api.update_of(at.table, at.sys_id, writes[step], columns_sent([writes[step]]))
                for ticket_id, (at, writes) in going.items()
            }
            try:
                answers = await self.api.batch(requests)
            except ApiError as exc:
                if exc.status in (403, 404):  # no Batch API for our account
                    await self._one_by_one({ticket_id: changes[ticket_id] for ticket_id in going})
                else:
                    self._failed(going, exc)
                return
            for ticket_id, (at, writes) in list(going.items()):
                answer = answers.get(ticket_id)
                result = None if answer is None else self._judged(ticket_id, at, writes[step], answer)
                if result is not None and (result.error is not None or step + 1 == len(writes)):
                    self.results[ticket_id] = result
                if result is None or ticket_id in self.results:
                    del going[ticket_id]

    def _judged(self, ticket_id: str, at: Located, values: Mapping[str, str], answer: Answer) -> BatchResult:
        try:
            if (error := servicenow_error(answer)) is not None:
                raise error
            row = result_of(answer.json(), writes=True)
            check_kept(at.number, values, row, self.writer.event_field)
        except ApiError as exc:
            return BatchResult(ticket_id, error=exc)
        return BatchResult(ticket_id, ticket=TicketRef(ticket_id=at.sys_id, updated_at=to_micros(text_of(row.get("sys_updated_on")))))

    async def _one_by_one(self, changes: Mapping[str, TicketChanges]) -> None:
        from plugins.http.gather import each_bounded

        async for (ticket_id, _), outcome in each_bounded(changes.items(), lambda item: self.plugin.update_ticket(*item), AT_A_TIME):
            if isinstance(outcome, ApiError):
                self.results[ticket_id] = BatchResult(ticket_id, error=outcome)
            else:
                self.results[ticket_id] = BatchResult(ticket_id, ticket=outcome)

    def _failed(self, waiting: Mapping[str, object], error: ApiError) -> None:
        self.results.update({ticket_id: BatchResult(ticket_id, error=error) for ticket_id in waiting})
